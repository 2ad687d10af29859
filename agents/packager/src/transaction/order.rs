//! Which file systems keep the order of their changes: after a loss of power they are what they were at one moment, as far as names
//! are concerned, so whoever finds a later change finds all earlier ones, and an exchange of names as a whole or not at all.
//!
//! Not about what files hold, which no file system here keeps in order. What is not known to keep it is taken for one that
//! does not: there a transaction waits for its names step by step.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fd::AsFd;

use super::directory::Directory;

const EXT_SUPER_MAGIC: u64 = 0xef53;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const XFS_SUPER_MAGIC: u64 = 0x5846_5342;

/// What need not be waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// Whether the names of the project and those of the state directory are kept in one order: whoever finds a record in a journal
    /// finds the names that were changed before it. Never between two file systems.
    pub(super) keeps_journal: bool,
}

impl Order {
    /// That of a project and of the directory that journals are in.
    pub(super) fn of(project: &Directory, journals: &Directory) -> Self {
        let is_one = device(project).is_some_and(|it| device(journals) == Some(it));
        Self { keeps_journal: is_one && keeps_order(project) }
    }
}

fn device(directory: &Directory) -> Option<u64> {
    rustix::fs::fstat(directory).ok().map(|status| status.st_dev)
}

/// Whether a file system has one log of all its changes of names, which is read from its beginning after a crash. Of btrfs, which
/// brings what was waited for before what was not, and of an overlay, below which anything may be, that is not known.
fn keeps_order(at: &Directory) -> bool {
    let Ok(about) = rustix::fs::fstatfs(at.as_fd()) else { return false };
    match about.f_type as u64 {
        // Nothing of it survives, and there is nothing to wait for.
        TMPFS_MAGIC => true,
        XFS_SUPER_MAGIC => true,
        EXT_SUPER_MAGIC => device(at).is_some_and(|device| has_journal(Path::new("/sys"), device)),
        _ => false,
    }
}

/// Whether an ext4 has a journal: the kernel numbers the task that writes it (0 where a container does not see it), or says `<none>`.
fn has_journal(system: &Path, device: u64) -> bool {
    let Some(name) = name_of(system, device) else { return false };
    let task = std::fs::read_to_string(system.join("fs/ext4").join(name).join("journal_task"));
    task.is_ok_and(|task| task.trim().parse::<u32>().is_ok())
}

/// What the kernel calls a device.
fn name_of(system: &Path, device: u64) -> Option<OsString> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = system.join(format!("dev/block/{major}:{minor}")).read_link().ok()?;
    block.file_name().map(OsStr::to_owned)
}

/// A name for what a file system has in memory: another one after each time that it was mounted. Without the machine's being started
/// anew, a disk that was pulled out has lost what was not on it, too. The kernel makes a directory for each file system that is
/// mounted, and no two of those in one start have the same number. `None` where it does not show it.
pub(super) fn mounted(at: &Directory) -> Option<String> {
    let kind = match rustix::fs::fstatfs(at.as_fd()).ok()?.f_type as u64 {
        TMPFS_MAGIC => return Some("memory".to_owned()),
        XFS_SUPER_MAGIC => "xfs",
        EXT_SUPER_MAGIC => "ext4",
        _ => return None,
    };
    let system = Path::new("/sys");
    let place = system.join("fs").join(kind).join(name_of(system, device(at)?)?);
    Some(format!("{kind}-{:x}", place.metadata().ok()?.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ext4_of_which_the_kernel_says_so_has_a_journal() {
        let system = tempfile::tempdir().expect("a directory");
        let at = |path: &str| system.path().join(path);
        std::fs::create_dir_all(at("dev/block")).expect("a directory");
        let device = rustix::fs::makedev(254, 3);
        let has = || has_journal(system.path(), device);
        assert!(!has(), "the kernel does not show its devices");
        std::os::unix::fs::symlink("../../devices/x/vda3", at("dev/block/254:3")).expect("a link");
        assert!(!has(), "the kernel does not show its file systems");
        std::fs::create_dir_all(at("fs/ext4/vda3")).expect("a directory");
        for (task, expected) in [("<none>\n", false), ("", false), ("0\n", true), ("317\n", true)] {
            std::fs::write(at("fs/ext4/vda3/journal_task"), task).expect("a file");
            assert_eq!(has(), expected, "{task:?}");
        }
    }
}
