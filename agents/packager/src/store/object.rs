//! One stored file: its name, and how it is read with its size or digest checked. How it is written, `birth` says.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use ring::digest;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Store, damaged};
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::{leftovers, limits};

/// The name and size of one stored content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
}

impl Object {
    /// What these bytes are called.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: finish(digest_of(bytes)), size: bytes.len() as u64 }
    }

    /// The digest in lower-case hexadecimal.
    pub fn hex(&self) -> String {
        hex(&self.digest)
    }

    /// The path below `files` or `lent`.
    pub(super) fn name(&self) -> String {
        let mut name = hex(&self.digest);
        name.insert(2, '/');
        name
    }
}

fn digest_of(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

pub(super) fn finish(digest: digest::Digest) -> [u8; 32] {
    digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

/// A file that is being written into `tmp`; removed again unless it was moved to its name.
pub(super) struct Temporary<'s> {
    store: &'s Store,
    name: String,
    file: File,
    kept: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let (name, flags) = (self.name.as_str(), AtFlags::empty());
            if let Err(error) = rustix::fs::unlinkat(&self.store.temporary, name, flags) {
                self.store.leftovers.add(&self.path(), leftovers::file, &error.into());
            }
        }
    }
}

/// A stored file that was opened for reading.
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    /// Whether it has been linked into an environment, so that only its digest tells what is in it.
    pub(super) is_lent: bool,
}

impl AsFd for Temporary<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Temporary<'_> {
    pub(super) fn path(&self) -> PathBuf {
        self.store.root.join("tmp").join(&self.name)
    }

    /// Its name in `tmp`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::io("write", &self.path(), &error))
    }

    /// Moves it to `name` below `directory`, whose folder of two digits is made on demand.
    pub(super) fn keep(mut self, directory: &OwnedFd, folder: &str, name: &str) -> Result<()> {
        let rename = |temporary: &Self| {
            rustix::fs::renameat(
                &temporary.store.temporary,
                temporary.name.as_str(),
                directory,
                name,
            )
        };
        let moved = match rename(&self) {
            Err(rustix::io::Errno::NOENT) => {
                match rustix::fs::mkdirat(directory, &name[..2], Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => rename(&self),
                    Err(error) => Err(error),
                }
            }
            other => other,
        };
        let path = self.store.root.join(folder).join(name);
        moved.map_err(|error| Error::io("create", &path, &error.into()))?;
        self.kept = true;
        Ok(())
    }
}

impl Store {
    pub(super) fn temporary(&self, mode: u32) -> Result<Temporary<'_>> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        // The address of the store tells two stores of one process apart.
        let name =
            format!("{}-{:x}-{number}", std::process::id(), std::ptr::from_ref(self) as usize);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let open =
            || rustix::fs::openat(&self.temporary, name.as_str(), flags, Mode::from_raw_mode(mode));
        let opened = match open() {
            // Left behind by a process that had the same number and died.
            Err(rustix::io::Errno::EXIST) => {
                rustix::fs::unlinkat(&self.temporary, name.as_str(), AtFlags::empty())
                    .and_then(|()| open())
            }
            other => other,
        };
        let file = opened.map_err(|error| {
            Error::io("create", &self.root.join("tmp").join(&name), &error.into())
        })?;
        Ok(Temporary { store: self, name, file: file.into(), kept: false })
    }

    /// Writes an index entry under its name.
    pub(super) fn put_index(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut temporary = self.temporary(0o600)?;
        temporary.write(bytes)?;
        temporary.keep(&self.index, "index", name)
    }

    /// Whether a stored file has its size, and its digest if `verify`. One that has not loses its name, so that it is stored anew.
    pub(super) fn object_is_good(&self, object: &Object, verify: bool) -> bool {
        // A second look finds the one that was lent where the first one was damaged.
        (0..2).any(|_| {
            let Ok(Opened { file, is_lent }) = self.open_object(object) else { return false };
            let has_size =
                rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_size as u64 == object.size);
            let good =
                has_size && (!verify || digest_of_file_is(file.as_fd(), object, &mut Vec::new()));
            if !good {
                self.discard(object, is_lent);
            }
            good
        })
    }

    /// Takes the name from a file that is not what it should be.
    pub(super) fn discard(&self, object: &Object, is_lent: bool) {
        let directory = if is_lent { &self.lent } else { &self.files };
        // If it cannot be removed, the next use finds the same damage and says so again.
        let _ = rustix::fs::unlinkat(directory, object.name().as_str(), AtFlags::empty());
    }

    /// Opens a stored file for reading. Neither size nor digest are checked yet.
    pub(super) fn open_object(&self, object: &Object) -> Result<Opened> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let name = object.name();
        let open = |directory| rustix::fs::openat(directory, name.as_str(), flags, Mode::empty());
        let opened = match open(&self.files) {
            Ok(file) => Ok(Opened { file, is_lent: false }),
            Err(Errno::NOENT) => open(&self.lent).map(|file| Opened { file, is_lent: true }),
            Err(error) => Err(error),
        };
        opened.map_err(|error| match error {
            Errno::NOENT => damaged(object, "is missing"),
            error => Error::io("open", &self.object_path(object), &error.into()),
        })
    }

    /// The same for one that may have been edited, where there is such a one.
    pub(super) fn open_lent(&self, object: &Object) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.lent, object.name().as_str(), flags, Mode::empty()).ok()
    }

    /// The path of a stored file, for messages and for tools that read it.
    pub fn object_path(&self, object: &Object) -> PathBuf {
        let pristine = self.root.join("files").join(object.name());
        let lent = self.root.join("lent").join(object.name());
        if !pristine.exists() && lent.exists() { lent } else { pristine }
    }

    /// Whether a stored file begins with some bytes.
    pub(crate) fn object_begins_with(&self, object: &Object, mark: &[u8]) -> Result<bool> {
        let mut head = Vec::with_capacity(mark.len());
        let file = File::from(self.open_object(object)?.file);
        file.take(mark.len() as u64)
            .read_to_end(&mut head)
            .map_err(|error| Error::io("read", &self.object_path(object), &error))?;
        Ok(head == mark)
    }

    /// The whole content of a stored file of at most `bytes_max`, with its digest verified.
    pub fn read_object(&self, object: &Object, bytes_max: u64) -> Result<Vec<u8>> {
        if object.size > bytes_max {
            let message =
                format!("the stored file `{}` has more than {bytes_max} bytes", object.name());
            return Err(Error::new(crate::error::Kind::Verification, "unsafe-archive", message));
        }
        let mut bytes = Vec::with_capacity(object.size as usize + 1);
        let Opened { file, is_lent } = self.open_object(object)?;
        File::from(file)
            .take(object.size + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read", &self.object_path(object), &error))?;
        match Object::of(&bytes) == *object {
            true => Ok(bytes),
            false => {
                self.discard(object, is_lent);
                Err(damaged(object, "is damaged"))
            }
        }
    }
}

/// Whether an open file has the digest of `object`; read from its beginning, wherever it was read before.
pub(super) fn digest_of_file_is(
    file: BorrowedFd<'_>,
    object: &Object,
    buffer: &mut Vec<u8>,
) -> bool {
    let mut hash = digest::Context::new(&digest::SHA256);
    let size = usize::try_from(object.size).unwrap_or(usize::MAX).saturating_add(1);
    let wanted = size.min(limits::COPY_WHOLE_BYTES_MAX as usize);
    // It keeps what it has: its bytes are overwritten before they are looked at.
    buffer.resize(wanted.max(buffer.len()), 0);
    let mut offset = 0;
    loop {
        match rustix::io::pread(file, &mut buffer[..wanted], offset) {
            Ok(0) => return hash.finish().as_ref() == object.digest,
            Ok(count) => {
                hash.update(&buffer[..count]);
                offset += count as u64;
                if offset > object.size {
                    return false;
                }
                // One byte more was asked for than there should be: a file that is as long as it should be needs no second call.
                if offset == object.size && count < wanted {
                    return hash.finish().as_ref() == object.digest;
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// A digest of bytes as they pass.
pub(super) struct Passing(digest::Context);

impl Passing {
    pub(super) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn is(self, object: &Object) -> bool {
        self.0.finish().as_ref() == object.digest
    }
}
