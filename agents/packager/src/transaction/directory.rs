//! Open directories, paths beneath them, and which object a name stands for.
//!
//! Nothing here follows a symbolic link: a project's content is a stranger's, and a link in it may point anywhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::limits::PATH_BYTES_MAX;

/// A path inside a project: no `..`, nothing absolute, nothing in `.bolide`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

impl RelativePath {
    /// Checks a path as callers write it.
    pub fn new(path: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let shown = path.escape_debug();
            Err(Error::new(Kind::Usage, "bad-path", format!("`{shown}` is {why}")))
        };
        if path.is_empty() || path.len() > PATH_BYTES_MAX {
            return refuse("not a path inside a project");
        }
        if path.contains(char::is_control) {
            return refuse("a path with control characters");
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse("not a plain path relative to the project");
        }
        if path.split('/').next() == Some(super::project::DOT_BOLIDE) {
            return refuse("a path that belongs to the transaction itself");
        }
        Ok(Self(path.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory it lies in, `None` for the project itself.
    pub fn parent(&self) -> Option<RelativePath> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Its last part.
    pub fn name(&self) -> &OsStr {
        OsStr::new(self.0.rsplit('/').next().unwrap_or(&self.0))
    }

    /// Whether one is the other or lies in it.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (short, long) =
            if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        long.0.strip_prefix(&short.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl TryFrom<String> for RelativePath {
    type Error = Error;

    fn try_from(path: String) -> Result<Self> {
        Self::new(&path)
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> String {
        path.0
    }
}

impl std::fmt::Display for RelativePath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What kind of object a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Special,
}

impl ObjectKind {
    pub(super) fn of(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Link,
            _ => Self::Special,
        }
    }
}

/// Which object it is, whatever name it has at the moment. Survives renames and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `st_dev`; for people only, because it may change when the machine restarts.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Birth time in nanoseconds since 1970, where the file system keeps one: inode numbers are used again. Not
    /// on an overlay, where an object is born again when it is first written to.
    pub born_ns: Option<i64>,
    /// Its kind.
    pub kind: ObjectKind,
}

impl Identity {
    /// Whether both are the same object of one file system.
    pub fn same_object(&self, other: &Self) -> bool {
        let born = match (self.born_ns, other.born_ns) {
            (Some(left), Some(right)) => left == right,
            _ => true,
        };
        self.inode == other.inode && self.kind == other.kind && born
    }

    fn of(at: impl AsFd, name: &OsStr, flags: AtFlags) -> io::Result<Self> {
        let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::BTIME;
        match rustix::fs::statx(&at, name, flags | AtFlags::SYMLINK_NOFOLLOW, mask) {
            Ok(found) => {
                let keeps = found.stx_mask & StatxFlags::BTIME.bits() != 0;
                let born = (keeps && !is_overlay(&at)?).then(|| {
                    nanoseconds(found.stx_btime.tv_sec, i64::from(found.stx_btime.tv_nsec))
                });
                Ok(Self {
                    device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
                    inode: found.stx_ino,
                    born_ns: born,
                    kind: ObjectKind::of(u32::from(found.stx_mode)),
                })
            }
            // A seccomp filter or an old kernel: no birth time then.
            Err(Errno::NOSYS | Errno::PERM) => {
                let found = rustix::fs::statat(&at, name, flags | AtFlags::SYMLINK_NOFOLLOW)?;
                let kind = ObjectKind::of(found.st_mode);
                Ok(Self { device: found.st_dev, inode: found.st_ino, born_ns: None, kind })
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether a directory is on an overlay of several layers, as in a container.
pub(super) fn is_overlay(at: impl AsFd) -> io::Result<bool> {
    const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
    Ok(rustix::fs::fstatfs(at)?.f_type as u64 == OVERLAYFS_SUPER_MAGIC)
}

/// Seconds and nanoseconds in one number; saturates in the year 2262.
pub(super) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// An open directory and the path to name it by in messages.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// Bytes of names that are asked for at once: some hundred of them.
const LISTING_BYTES: usize = 16 * 1024;

const OPEN: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Directory {
    /// Opens a directory by its path, which the caller trusts.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OPEN.difference(OFlags::NOFOLLOW);
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())?, path: path.to_owned() })
    }

    /// Wraps a descriptor that was opened elsewhere.
    pub(super) fn from_fd(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Opens a directory in this one.
    pub(super) fn child(&self, name: &OsStr) -> io::Result<Self> {
        let fd = rustix::fs::openat(&self.fd, name, OPEN, Mode::empty())?;
        Ok(Self { fd, path: self.path.join(name) })
    }

    /// Another handle for the same directory.
    pub(super) fn again(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, path: self.path.clone() })
    }

    /// Opens a directory beneath this one; `None` for the path is this one.
    pub(super) fn descend(&self, path: Option<&RelativePath>) -> io::Result<Self> {
        let mut directory = self.again()?;
        for part in path.iter().flat_map(|path| path.as_str().split('/')) {
            directory = directory.child(OsStr::new(part))?;
        }
        Ok(directory)
    }

    /// Which object `name` is, `None` where there is none.
    pub(super) fn identity(&self, name: &OsStr) -> io::Result<Option<Identity>> {
        match Identity::of(&self.fd, name, AtFlags::empty()) {
            Ok(identity) => Ok(Some(identity)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which object this directory is.
    pub(super) fn own_identity(&self) -> io::Result<Identity> {
        Identity::of(&self.fd, OsStr::new(""), AtFlags::EMPTY_PATH)
    }

    /// The status of `name`, `None` where there is none.
    pub(super) fn status(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The names in it, sorted by their bytes.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The names in it with their inodes, sorted by their bytes. Only once of a directory that was just opened: it is read through
    /// this very descriptor, which spares another one.
    pub(super) fn listing(&self) -> io::Result<Vec<(OsString, u64)>> {
        let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
        let mut listing = RawDir::new(&self.fd, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((OsStr::from_bytes(name).to_owned(), entry.ino()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a regular file for reading. Does not block on a pipe and does not follow a link.
    pub(super) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        #[cfg(test)]
        if broken::IS_UNREADABLE.with_borrow(|path| path.as_ref() == Some(&self.path.join(name))) {
            return Err(Errno::IO.into());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }

    /// Creates a new file for writing.
    pub(super) fn create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        Ok(File::from(rustix::fs::openat(&self.fd, name, flags, mode)?))
    }

    /// The bytes of a regular file, at most `bytes_max` of them; `None` where there is no such name.
    pub(super) fn read_file(&self, name: &OsStr, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            let why = format!("larger than the limit of {bytes_max} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(Some(bytes))
    }

    /// The path to name it by.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What the device cannot read in a test.
#[cfg(test)]
pub(super) mod broken {
    thread_local! {
        /// The path of a file, for this thread.
        pub(crate) static IS_UNREADABLE: std::cell::RefCell<Option<std::path::PathBuf>> =
            const { std::cell::RefCell::new(None) };
    }
}
