//! Files that leave the store as hard links, so that an edit in an environment is an edit of the store's own file. Four rules make
//! that harmless:
//!
//! 1. A file has at most two names: the store's, and one in one environment. So what is edited in one environment is never seen in
//!    another one, nor in a generation that an undo brings back: both have files of their own.
//! 2. Before it gets its second name it is moved from `files` to `lent`, and stays there for good. What lies in `lent` may have
//!    been edited, also after the environment went, and its digest is compared before every use: before it is linked again, or in
//!    the very bytes that are copied. Times prove nothing: tools set them back.
//! 3. Who links holds an exclusive lock on the file itself, without waiting; who does not get it copies. The lock dies with its
//!    process.
//! 4. A file with a wrong digest loses its name in the store. The environment keeps it; whoever needs the content fetches it again.
//!
//! In its environment the file looks like a copy: its own permissions, and the time at which it came.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, Timespec, Timestamps};
use rustix::io::Errno;

use super::object::{Opened, digest_of_file_is};
use super::{Object, Store, damaged};
use crate::error::{Error, Result};

/// What came of trying to link a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lending {
    /// It is there.
    Done,
    /// Something else has the name.
    Taken,
    /// The file has its second name already, or somebody is about to give it one.
    InUse,
    /// Links do not work there.
    Impossible,
}

impl Store {
    /// Gives a stored file the name `name` in `directory`, with these permissions.
    pub(super) fn lend(
        &self,
        object: &Object,
        (directory, name): (BorrowedFd<'_>, &str),
        permissions: u32,
        verify: bool,
    ) -> Result<Lending> {
        let Opened { file, is_lent } = self.open_object(object)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Lending::InUse);
        }
        let stored = object.name();
        let io = |error: Errno| Error::io("link", &self.object_path(object), &error.into());
        let status = rustix::fs::fstat(&file).map_err(io)?;
        if status.st_nlink != 1 {
            return Ok(Lending::InUse);
        }
        if status.st_size as u64 != object.size {
            self.discard(object, is_lent);
            return Err(damaged(object, "has the wrong size"));
        }
        if (is_lent || verify) && !digest_of_file_is(file.as_fd(), object) {
            self.discard(object, is_lent);
            return Err(damaged(object, "was changed"));
        }
        if !is_lent && !self.move_to_lent(&stored, status.st_ino).map_err(io)? {
            // Somebody else has lent it in the meantime.
            return Ok(Lending::InUse);
        }
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        rustix::fs::fchmod(&file, Mode::from_raw_mode(permissions))
            .and_then(|()| {
                let times = Timestamps { last_access: now, last_modification: now };
                rustix::fs::futimens(&file, &times)
            })
            .map_err(io)?;
        match rustix::fs::linkat(&self.lent, stored.as_str(), directory, name, AtFlags::empty()) {
            Ok(()) => Ok(Lending::Done),
            Err(Errno::EXIST) => Ok(Lending::Taken),
            // Another mount of the same file system, or a rule of the kernel about who may link.
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => Ok(Lending::Impossible),
            // This one has too many, or was found to be damaged by somebody else: whoever copies sees which.
            Err(Errno::MLINK | Errno::NOENT) => Ok(Lending::InUse),
            Err(error) => Err(io(error)),
        }
    }

    /// Whether the file with this inode was moved to `lent` by this call.
    fn move_to_lent(&self, name: &str, inode: u64) -> rustix::io::Result<bool> {
        let found = rustix::fs::statat(&self.files, name, AtFlags::SYMLINK_NOFOLLOW);
        if !found.is_ok_and(|status| status.st_ino == inode) {
            return Ok(false);
        }
        let rename = || rustix::fs::renameat(&self.files, name, &self.lent, name);
        match rename() {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&self.lent, &name[..2], Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                match rename() {
                    Ok(()) => Ok(true),
                    Err(Errno::NOENT) => Ok(false),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}
