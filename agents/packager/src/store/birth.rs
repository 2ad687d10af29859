//! How a content comes into the store: under its name at once and whole, without a name until then.
//!
//! 1. A file is made without a name (`O_TMPFILE`) in the folder where it will stay, and gets its name by a link when everything is in
//!    it. Who is killed before leaves nothing. All threads used to make their files in `tmp` and move them: a directory is locked
//!    for that, and a move between two directories locks out every other such move on the file system.
//! 2. Where files leave the store as hard links and times tell of edits ([`super::seal`]), a file is born in `lent`, with the
//!    permissions that it will have outside and its seal, which is given before it has a name. So lending it is a link and two looks. Elsewhere it is
//!    born in `files`, read-only, and nobody gets a link to it before it was moved (`lend`, rule 2).
//! 3. Who finds the name taken by something that does not count, because it lost its seal, writes a file in `tmp` and moves it there. So does everybody where a file cannot be made without a name: some file systems, or no `/proc` for who
//!    may not link a descriptor.

use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ring::digest;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::mode::Mode as How;
use super::object::{Opened, Temporary, digest_of_file_is};
use super::{Object, Store};
use crate::error::{Error, Result};
use crate::limits;

/// What was learnt of where the store is. Hints that guard no memory.
#[derive(Debug, Default)]
pub(super) struct Births {
    /// Files cannot be made without a name here.
    always_named: AtomicBool,
    are_sealed: OnceLock<bool>,
    /// Whether there was anything in `files` when it was asked for first.
    has_files: OnceLock<bool>,
}

impl Store {
    /// Stores bytes under their digest; `executable` is what they are in most environments.
    pub(super) fn put(&self, bytes: &[u8], executable: bool) -> Result<Object> {
        let object = Object::of(bytes);
        if self.has_whole(&object) || self.put_unnamed(&object, bytes, executable) {
            return Ok(object);
        }
        let mut temporary = self.temporary(self.birth_permissions(executable))?;
        temporary.write(bytes)?;
        self.name(temporary, &object)?;
        Ok(object)
    }

    /// Stores what a reader yields, in pieces if it is large. `refuse` turns a failed read into an error.
    pub(super) fn put_reader(
        &self,
        reader: &mut dyn Read,
        (size, executable): (u64, bool),
        buffer: &mut Vec<u8>,
        refuse: impl Fn(io::Error) -> Error,
    ) -> Result<Object> {
        buffer.clear();
        if size <= limits::COPY_WHOLE_BYTES_MAX {
            reader.take(size + 1).read_to_end(buffer).map_err(refuse)?;
            return self.put(buffer, executable);
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut temporary = self.temporary(self.birth_permissions(executable))?;
        let mut written = 0;
        buffer.resize(limits::COPY_WHOLE_BYTES_MAX as usize, 0);
        loop {
            let count = reader.read(buffer).map_err(&refuse)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            temporary.write(&buffer[..count])?;
            written += count as u64;
        }
        let object = Object { digest: super::object::finish(hash.finish()), size: written };
        self.name(temporary, &object)?;
        Ok(object)
    }

    /// Whether files are born with their seal, in `lent`. Asked once; the first answer tries how files leave.
    pub(crate) fn are_births_sealed(&self) -> bool {
        *self.births.are_sealed.get_or_init(|| {
            let links = || {
                let how = self.mode_in(self.temporary.as_fd(), &self.root.join("tmp"));
                how.is_ok_and(|how| how == How::Link)
            };
            self.are_seals_believed() && links()
        })
    }

    /// Whether the content is here and need not be written: in a file whose seal is whole, or in one that never left the store and
    /// has the right size, or the right digest where it would be sealed next.
    pub(super) fn has_whole(&self, object: &Object) -> bool {
        let name = object.name();
        let look = |directory: &OwnedFd| {
            rustix::fs::statat(directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()
        };
        let has_size =
            || look(&self.files).is_some_and(|found| found.st_size as u64 == object.size);
        if !self.are_births_sealed() {
            return has_size();
        }
        // What was lent and is not sealed does not count: it may change at any time, and this one is right.
        if look(&self.lent).is_some_and(|status| self.is_sealed(object, &status)) {
            return true;
        }
        if look(&self.files).is_none() {
            return false;
        }
        // What came when files left in another way will be sealed as right, so it has to be.
        let Ok(Opened { file, is_lent: false }) = self.open_object(object) else { return false };
        let is_right = has_size() && digest_of_file_is(file.as_fd(), object, &mut Vec::new());
        if !is_right {
            self.discard(object, false);
        }
        is_right
    }

    /// Whether `files` has this name. A store in which everything was born sealed has nothing there, and need not be looked at for each.
    /// Who stores there meanwhile has set it up in another way, and has the content once more.
    pub(super) fn is_in_files(&self, name: &str) -> bool {
        let has_any = || {
            std::fs::read_dir(self.root.join("files"))
                .map_or(true, |mut entries| entries.next().is_some())
        };
        *self.births.has_files.get_or_init(has_any)
            && rustix::fs::statat(&self.files, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn birth_permissions(&self, executable: bool) -> u32 {
        match (self.are_births_sealed(), executable) {
            (false, _) => 0o444,
            (true, false) => 0o644,
            (true, true) => 0o755,
        }
    }

    fn birthplace(&self) -> (&OwnedFd, &'static str) {
        if self.are_births_sealed() { (&self.lent, "lent") } else { (&self.files, "files") }
    }

    /// Whether the bytes got their name without having had another one. Whatever was in the way shows, and is told, when the
    /// same is tried with a name.
    fn put_unnamed(&self, object: &Object, bytes: &[u8], executable: bool) -> bool {
        if self.births.always_named.load(Ordering::Relaxed) {
            return false;
        }
        let ((directory, _), name) = (self.birthplace(), object.name());
        let permissions = Mode::from_raw_mode(self.birth_permissions(executable));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(directory, &name[..2], flags, permissions);
        let made = match make() {
            Err(Errno::NOENT) => {
                // Whoever was quicker made the same; what cannot be made is told by who tries it with a name.
                let _ = rustix::fs::mkdirat(directory, &name[..2], Mode::from_raw_mode(0o700));
                make()
            }
            made => made,
        };
        let mut file = match made {
            Ok(file) => std::fs::File::from(file),
            // What kernels say that do not know it, or whose file system does not.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                self.births.always_named.store(true, Ordering::Relaxed);
                return false;
            }
            Err(_) => return false,
        };
        let is_complete = file.write_all(bytes).is_ok()
            && (!self.are_births_sealed() || self.seal(&file, object).is_ok());
        match is_complete.then(|| link_unnamed(&file, directory, &name)) {
            Some(Ok(())) => true,
            // Somebody was quicker, or what is there does not count.
            Some(Err(Errno::EXIST)) => self.has_whole(object),
            None => false,
            Some(Err(_)) => {
                self.births.always_named.store(true, Ordering::Relaxed);
                false
            }
        }
    }

    /// Gives a complete file its name, whatever has it now.
    fn name(&self, temporary: Temporary<'_>, object: &Object) -> Result<()> {
        if self.are_births_sealed() {
            self.seal(&temporary, object)
                .map_err(|error| Error::io("seal", &temporary.path(), &error.into()))?;
        }
        let (directory, part) = self.birthplace();
        temporary.keep(directory, part, &object.name())
    }

    /// The same store where every file has to have a name.
    #[cfg(test)]
    pub(crate) fn always_named(self) -> Self {
        self.births.always_named.store(true, Ordering::Relaxed);
        self
    }
}

/// By the descriptor, which needs a right or Linux 6.10, else by its name in `/proc`.
fn link_unnamed(
    file: &std::fs::File,
    directory: &OwnedFd,
    name: &str,
) -> std::result::Result<(), Errno> {
    match rustix::fs::linkat(file, "", directory, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
            let own = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, own.as_str(), directory, name, AtFlags::SYMLINK_FOLLOW)
        }
        linked => linked,
    }
}
