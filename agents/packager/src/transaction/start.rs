//! Which start of the machine this is. What nobody waited for is in memory until the next one, whatever becomes of processes; whoever
//! finds it in another start has to look what of it is on the device.

use std::path::Path;

/// Where Linux says it, below the root of the system.
const PLACE: &str = "proc/sys/kernel/random/boot_id";

/// A name that no other start has; in an intent also that of the file system's memory ([`super::order::mounted`]).
pub(super) type Start = String;

/// This one; `None` where the machine does not say. Then nothing is left for later, and what was left counts as another start's.
/// Where another root than the system's says another name, a start of the machine is another one all the same.
pub(super) fn of(root: &Path) -> Option<Start> {
    let (own, told) = (told_in(Path::new("/"))?, told_in(root)?);
    Some(if told == own { own } else { format!("{own}+{told}") })
}

fn told_in(root: &Path) -> Option<Start> {
    let text = std::fs::read_to_string(root.join(PLACE)).ok()?;
    let name = text.trim();
    let is_name = name.len() == 36 && name.bytes().all(|it| it == b'-' || it.is_ascii_hexdigit());
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_as_linux_gives_it_is_one() {
        let root = tempfile::tempdir().expect("a directory");
        assert_eq!(of(root.path()), None);
        let place = root.path().join(PLACE);
        std::fs::create_dir_all(place.parent().expect("a parent")).expect("a directory");
        let name = "6f1c2a5e-0d9b-4a3e-8f57-1f0f5f1f9a10";
        for (text, expected) in [("", None), ("x\n", None), (&*format!("{name}\n"), Some(name))] {
            std::fs::write(&place, text).expect("a file");
            assert_eq!(told_in(root.path()).as_deref(), expected, "{text:?}");
            let own = of(Path::new("/"));
            let both = own.zip(expected).map(|(own, other)| format!("{own}+{other}"));
            assert_eq!(of(root.path()), both);
        }
    }
}
