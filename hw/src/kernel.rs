//! Which kernel features this machine has, by trying them or by release, each with what happens without it.
//!
//! What is tried is a matter of the running kernel. A recording keeps what came of it; of a tree that does not say, nothing
//! is known.

use rustix::fs::{MemfdFlags, memfd_create};

use crate::root::Root;

/// The file at the top of a recorded tree that says what came of trying: one line each, the name of the feature, a space,
/// and `yes` or `no`.
pub const TRIED: &str = "bolide-tried";

const MEMFD_SEALS: &str = "memfd_seals";

/// One feature: its name in `doctor --json`, whether it is there, and what happens without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The release that brought it.
    pub since: &'static str,
    /// Whether this kernel has it; `None` where that is not known.
    pub present: Option<bool>,
    /// What Bolide does without it.
    pub without: &'static str,
}

/// The kernel's release, major and minor; `None` where it cannot be read.
pub fn release(root: &Root) -> Option<(u32, u32)> {
    let text = root.read("proc/sys/kernel/osrelease")?;
    let mut numbers = text.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// All features that matter.
pub fn features(root: &Root) -> Vec<Feature> {
    let release = release(root);
    let since = |least: (u32, u32)| release.map(|release| release >= least);
    let uring_disabled = root.read("proc/sys/kernel/io_uring_disabled");
    let is_allowed = uring_disabled.as_deref().is_none_or(|value| value == "0");
    let row = |name, since, present, without| Feature { name, since, present, without };
    vec![
        row(
            MEMFD_SEALS,
            "3.17",
            sealing(root),
            "no shared-memory lanes: the daemon does not start",
        ),
        row(
            "seal_future_write",
            "5.1",
            since((5, 1)),
            "no shared-memory lanes: the daemon does not start",
        ),
        row("pidfd", "5.3", since((5, 3)), "the death of a peer is learnt from its socket alone"),
        row(
            "openat2",
            "5.6",
            since((5, 6)),
            "paths beneath a project are checked component by component",
        ),
        row(
            "futex_waitv",
            "5.16",
            since((5, 16)),
            "a sleeping reader looks at the state of its lane in slices of time",
        ),
        row(
            "so_peerpidfd",
            "6.5",
            since((6, 5)),
            "the process descriptor is opened by number and checked by start time",
        ),
        row(
            "io_uring",
            "5.6",
            since((5, 6)).map(|is_there| is_there && is_allowed),
            "the class HIGH falls to Unix sockets",
        ),
    ]
}

/// Whether memory can be sealed: tried on the running kernel, and what was tried in a tree.
fn sealing(root: &Root) -> Option<bool> {
    if root.is_machine() {
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let present = memfd_create("bolide-probe", flags).is_ok();
        let word = if present { "yes" } else { "no" };
        root.note(TRIED, &format!("{MEMFD_SEALS} {word}\n"));
        return Some(present);
    }
    let tried = root.read(TRIED)?;
    let word = tried.lines().find_map(|line| line.strip_prefix(MEMFD_SEALS)?.strip_prefix(' '))?;
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{TRIED, features};
    use crate::root::Root;
    use crate::trees::Tree;

    fn present(root: &Root, name: &str) -> Option<bool> {
        features(root).into_iter().find(|feature| feature.name == name).unwrap().present
    }

    #[test]
    fn of_a_tree_only_what_it_says_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path());
        assert!(features(&tree.root()).iter().all(|feature| feature.present.is_none()));
        tree.file("proc/sys/kernel/osrelease", "5.10.0-test\n");
        assert_eq!(present(&tree.root(), "pidfd"), Some(true));
        assert_eq!(present(&tree.root(), "futex_waitv"), Some(false));
        assert_eq!(present(&tree.root(), "memfd_seals"), None);
        for (text, expected) in [
            ("memfd_seals yes\n", Some(true)),
            ("other no\nmemfd_seals no\n", Some(false)),
            ("memfd_seals perhaps\n", None),
            ("memfd_sealsyes\n", None),
        ] {
            tree.file(TRIED, text);
            assert_eq!(present(&tree.root(), "memfd_seals"), expected, "{text:?}");
        }
    }

    #[test]
    fn what_was_tried_here_is_recorded() {
        let root = Root::machine().recording();
        let here = present(&root, "memfd_seals").unwrap();
        let recorded = root.recorded();
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path());
        tree.file(TRIED, std::str::from_utf8(&recorded.files[TRIED]).unwrap());
        assert_eq!(present(&tree.root(), "memfd_seals"), Some(here));
    }
}
