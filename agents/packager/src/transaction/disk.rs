//! The effects of the commit protocol: every system call that changes something goes through here.
//!
//! It is not an abstraction over file systems. It exists so that tests can stop the world at each single change
//! (a process killed before or after it, a write torn in the middle, an error of the device), and enumerate
//! them. Outside tests there is no hook to set.

use std::fs::File;
use std::io::{self, Write};

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;

use super::directory::Directory;
use super::order::Order;

/// What a test wants to happen at one point.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The call is made.
    Proceed,
    /// The call is not made and fails like this.
    Fail(Errno),
    /// The process ends before the call.
    CrashBefore,
    /// The process ends after the call; a write ends in its middle.
    CrashAfter,
}

/// Decides at each point.
#[cfg(test)]
pub(super) trait Hook: Send + Sync {
    /// Called before the change `name` is made.
    fn reach(&self, name: &'static str) -> Verdict;

    /// The file system of the directory with this inode is waited for, through it.
    fn waits_for(&self, _inode: u64) {}

    /// What the file systems are said to keep, whatever they do.
    fn order(&self) -> Option<Order> {
        None
    }
}

/// The hand that makes changes.
#[derive(Clone, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) hook: Option<std::sync::Arc<dyn Hook>>,
}

impl Disk {
    /// What the file systems of a project and of a directory of journals keep in order.
    pub(super) fn order(&self, project: &Directory, journals: &Directory) -> Order {
        #[cfg(test)]
        if let Some(order) = self.hook.as_ref().and_then(|hook| hook.order()) {
            return order;
        }
        Order::of(project, journals)
    }

    /// Makes one change, named for tests.
    pub(super) fn perform<T>(
        &self,
        name: &'static str,
        operation: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        #[cfg(test)]
        if let Some(hook) = &self.hook {
            match hook.reach(name) {
                Verdict::Proceed => {}
                Verdict::Fail(errno) => return Err(errno.into()),
                Verdict::CrashBefore => die(),
                Verdict::CrashAfter => {
                    let _ = operation();
                    die()
                }
            }
        }
        let _ = name;
        operation()
    }

    /// Makes a directory.
    pub(super) fn make_directory(&self, at: impl AsFd, name: &OsStr, mode: u32) -> io::Result<()> {
        self.perform("mkdir", || Ok(rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode))?))
    }

    /// Exchanges two names. Fails where the file system cannot.
    pub(super) fn exchange(
        &self,
        (left, left_name): (impl AsFd, &OsStr),
        (right, right_name): (impl AsFd, &OsStr),
    ) -> io::Result<()> {
        self.perform("exchange", || {
            let flags = RenameFlags::EXCHANGE;
            Ok(rustix::fs::renameat_with(left, left_name, right, right_name, flags)?)
        })
    }

    /// Renames to a name that must be free.
    pub(super) fn rename_to_free(
        &self,
        (from, from_name): (impl AsFd, &OsStr),
        (to, to_name): (impl AsFd, &OsStr),
    ) -> io::Result<()> {
        self.perform("rename", || {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&from, from_name, &to, to_name, flags) {
                Err(Errno::INVAL | Errno::NOSYS) => {}
                done => return Ok(done?),
            }
            // The file system does not know the flag; the project's lock keeps ours away, so only a stranger
            // could take the name between these two calls.
            match rustix::fs::statat(&to, to_name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(rustix::fs::renameat(from, from_name, to, to_name)?),
                Ok(_) => Err(Errno::EXIST.into()),
                Err(errno) => Err(errno.into()),
            }
        })
    }

    /// Removes a name that is not a directory.
    pub(super) fn unlink(&self, at: impl AsFd, name: &OsStr) -> io::Result<()> {
        self.perform("unlink", || Ok(rustix::fs::unlinkat(at, name, AtFlags::empty())?))
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(&self, at: impl AsFd, name: &OsStr) -> io::Result<()> {
        self.perform("rmdir", || Ok(rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)?))
    }

    /// Writes all of `bytes` to the end of `file`.
    pub(super) fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(hook) = &self.hook {
            match hook.reach("append") {
                Verdict::Proceed => {}
                Verdict::Fail(errno) => {
                    // A full disk takes a part first.
                    let _ = file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default());
                    return Err(errno.into());
                }
                Verdict::CrashBefore => die(),
                Verdict::CrashAfter => {
                    let _ = file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default());
                    die()
                }
            }
        }
        file.write_all(bytes)
    }

    /// Waits until a file's or a directory's content is on the device.
    pub(super) fn sync(&self, file: impl AsFd) -> io::Result<()> {
        self.perform("fsync", || Ok(rustix::fs::fsync(file)?))
    }

    /// Waits until everything of the file system that `file` is on is on the device.
    ///
    /// One call for a tree of ten thousand files instead of ten thousand calls.
    pub(super) fn sync_file_system(&self, file: impl AsFd) -> io::Result<()> {
        #[cfg(test)]
        if let Some(hook) = &self.hook {
            hook.waits_for(rustix::fs::fstat(&file)?.st_ino);
        }
        self.perform("syncfs", || Ok(rustix::fs::syncfs(file)?))
    }
}

/// Ends the process as `kill -9` does: no destructor runs, nothing is flushed.
#[cfg(test)]
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}
