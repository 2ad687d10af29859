//! Files that leave the store as hard links, so that an edit in an environment is an edit of the store's own file. Five rules make
//! that harmless:
//!
//! 1. A file has at most two names: the store's, and one in one environment. So what is edited in one environment is never seen in
//!    another one, nor in a generation that an undo brings back: both have files of their own.
//! 2. Before it gets its second name it is sealed ([`super::seal`], for as long as the machine runs) and lies in `lent`, where it stays for good: it is born so
//!    ([`super::birth`]), or its digest is compared, and it is sealed and moved there from `files`. What
//!    lies in `lent` may have been edited, also after the environment went: before every use its seal is looked at, and where that
//!    is broken, or nothing is believed of times there, its digest is compared: before it is linked again, or in the very bytes
//!    that are copied. With `store.verify` the digest is compared every time.
//! 3. Who links a file that is not sealed yet, or not any more, holds an exclusive lock on the file itself, without waiting; who
//!    does not get it copies. The lock dies with its process. Who links a sealed one changes nothing about it, and needs no lock:
//!    each looks at it once more when it is linked, and takes its own link back where there are more than two names.
//! 4. A file that somebody else owns is not lent and its seal is not believed: who owns it may write it, and set its time.
//! 5. A file with a wrong digest loses its name in the store. The environment keeps it; whoever needs the content fetches it again.
//!
//! In its environment the file has the permissions of a copy, and the time at which it was lent first.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, Stat};
use rustix::io::Errno;

use super::object::{Opened, digest_of_file_is};
use super::written::Written;
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

/// How a file is lent.
pub(super) struct Lend<'a> {
    /// Whether the digest is compared although its seal is whole.
    pub(super) verify: bool,
    /// Where its digest is kept, for whoever describes it afterwards.
    pub(super) written: Option<&'a Written>,
    /// Memory to read it with.
    pub(super) buffer: &'a mut Vec<u8>,
}

impl Store {
    /// Gives a stored file the name `name` in `directory`, with these permissions.
    pub(super) fn lend(
        &self,
        object: &Object,
        (directory, name): (BorrowedFd<'_>, &str),
        permissions: u32,
        how: Lend<'_>,
    ) -> Result<Lending> {
        if !how.verify
            && let Some(lending) = self.lend_sealed(object, (directory, name), permissions, &how)?
        {
            return Ok(lending);
        }
        let Lend { verify, written, buffer } = how;
        let Opened { file, is_lent } = self.open_object(object)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Lending::InUse);
        }
        let stored = object.name();
        let io = |error: Errno| Error::io("link", &self.object_path(object), &error.into());
        let status = rustix::fs::fstat(&file).map_err(io)?;
        if !self.is_own(&status) {
            return Ok(Lending::InUse);
        }
        // Who links sealed files holds no lock: what is sealed is left as it is here.
        let is_other = status.st_mode & 0o7777 != permissions;
        let is_shared = is_lent && self.is_sealed(object, &status) && (is_other || !verify);
        if status.st_nlink != 1 || is_shared {
            return Ok(Lending::InUse);
        }
        if status.st_size as u64 != object.size {
            self.discard(object, is_lent);
            return Err(damaged(object, "has the wrong size"));
        }
        // Before it is sealed: from then on others link it without a lock.
        let status = if is_other {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(permissions)).map_err(io)?;
            rustix::fs::fstat(&file).map_err(io)?
        } else {
            status
        };
        // Also one that never left the store: it may have been there over a loss of power, and the seal says that it is right.
        if !digest_of_file_is(file.as_fd(), object, buffer) {
            self.discard(object, is_lent);
            return Err(damaged(object, "was changed"));
        }
        if is_lent {
            self.seal_again(&file, object, &status);
        } else {
            self.seal(&file, object).map_err(io)?;
        }
        if !is_lent && !self.move_to_lent(&stored, status.st_ino).map_err(io)? {
            // Somebody else has lent it in the meantime.
            return Ok(Lending::InUse);
        }
        match rustix::fs::linkat(&self.lent, stored.as_str(), directory, name, AtFlags::empty()) {
            Ok(()) => {
                let status = rustix::fs::fstat(&file).map_err(io)?;
                self.settle_link(object, (directory, name), &status, written)
            }
            Err(Errno::EXIST) => Ok(Lending::Taken),
            // Another mount of the same file system, or a rule of the kernel about who may link.
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => Ok(Lending::Impossible),
            // This one has too many, or was found to be damaged by somebody else: whoever copies sees which.
            Err(Errno::MLINK | Errno::NOENT) => Ok(Lending::InUse),
            Err(error) => Err(io(error)),
        }
    }

    /// The same by three looks at names, for a file that lies in `lent` and is sealed. Nothing is said of any other.
    fn lend_sealed(
        &self,
        object: &Object,
        (directory, name): (BorrowedFd<'_>, &str),
        permissions: u32,
        how: &Lend<'_>,
    ) -> Result<Option<Lending>> {
        let stored = object.name();
        let is_right = |status: &Stat, names| {
            self.is_sealed(object, status)
                && status.st_nlink == names
                && status.st_mode & 0o7777 == permissions
        };
        let look = |directory: BorrowedFd<'_>, name: &str| {
            rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()
        };
        match look(self.lent.as_fd(), &stored) {
            Some(status) if is_right(&status, 1) => {}
            // In use, or with other permissions: left as it is. A link that is taken back would change a time of it.
            Some(status) if self.is_sealed(object, &status) => return Ok(Some(Lending::InUse)),
            _ => return Ok(None),
        }
        match rustix::fs::linkat(&self.lent, stored.as_str(), directory, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(Some(Lending::Taken)),
            // As below.
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => {
                return Ok(Some(Lending::Impossible));
            }
            Err(_) => return Ok(None),
        }
        // What was done to it between the two is seen now.
        match look(directory, name) {
            Some(status) if is_right(&status, 2) => {
                self.settle_link(object, (directory, name), &status, how.written).map(Some)
            }
            _ => {
                self.take_back(object, directory, name)?;
                Ok(None)
            }
        }
    }

    /// A link is made, and its file has this status: notes it, or takes it back where somebody else has linked the file, too.
    fn settle_link(
        &self,
        object: &Object,
        (directory, name): (BorrowedFd<'_>, &str),
        status: &Stat,
        written: Option<&Written>,
    ) -> Result<Lending> {
        if status.st_nlink != 2 {
            self.take_back(object, directory, name)?;
            return Ok(Lending::InUse);
        }
        match written {
            Some(written) if self.is_sealed(object, status) => written.note_linked(status, object),
            Some(written) => written.note(status, object),
            None => {}
        }
        Ok(Lending::Done)
    }

    fn take_back(&self, object: &Object, directory: BorrowedFd<'_>, name: &str) -> Result<()> {
        rustix::fs::unlinkat(directory, name, AtFlags::empty())
            .map_err(|error| Error::io("unlink", &self.object_path(object), &error.into()))
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
