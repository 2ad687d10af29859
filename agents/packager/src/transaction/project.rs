//! A project: the directory that a transaction changes, its lock, and its `.bolide`.
//!
//! `.bolide` lies in the project only because an exchange of names needs one file system. Its content is
//! untrusted: a cloned repository may bring one along. It has to be a real directory of ours, no link in it is
//! followed, and what is in it counts only if the journal or the database says so.
//!
//! The lock is not in the project. It is a lock on a file of the state directory, named after the project's
//! device and inode, so it holds when the project is renamed; and one on the project's directory itself, so it
//! also holds between users with different state directories.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agents_contract::Cancellation;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::beside::Reads;
use super::directory::{Directory, Identity, ObjectKind, RelativePath};
use super::disk::Disk;
use super::tree;
use crate::error::{Error, Kind, Result};
use crate::limits::{LOCK_RETRY_MS, LOCK_RETRY_MS_MIN, PROJECT_FILE_BYTES_MAX};

/// The name of our directory in a project.
pub(super) const DOT_BOLIDE: &str = ".bolide";
/// The error of a lock that somebody else has.
pub(super) const LOCKED: &str = "locked";
/// New content, before it is exchanged in.
pub(super) const STAGING: &str = "staging";
/// Old content, for rollback.
pub(super) const GENERATIONS: &str = "generations";
/// What is about to be deleted.
pub(super) const TRASH: &str = "trash";
const IGNORE_FILE: &str = ".gitignore";
/// Makes version control ignore the directory, this file included.
const IGNORE_TEXT: &[u8] = b"*\n";

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Content {
    /// Describes some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: crate::hex::hex(&tree::digest_of(bytes)), bytes: bytes.len() as u64 }
    }
}

/// An open project directory.
#[derive(Debug)]
pub struct Project {
    root: Directory,
    identity: Identity,
    path: String,
    /// Where it is recorded what is read of it, if somebody wants to know.
    reads: Option<Arc<Reads>>,
}

impl Project {
    /// Opens a project by its path.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| Error::io("open", path, &error);
        let canonical = path.canonicalize().map_err(failed)?;
        Self::from_directory(Directory::open(&canonical).map_err(failed)?)
    }

    /// Opens a project by a directory descriptor, as a request over the bus carries it.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let link = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let path = std::fs::read_link(&link).map_err(|error| Error::io("read", &link, &error))?;
        // Opened anew: the sender's may not be for reading, and it shares its position with the sender.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::openat(&fd, ".", flags, Mode::empty())
            .map_err(|errno| Error::io("open", &path, &errno.into()))?;
        let status =
            rustix::fs::fstat(&own).map_err(|errno| Error::io("look at", &path, &errno.into()))?;
        if status.st_nlink == 0 {
            let message = format!("the directory `{}` was deleted", without_mark(&path).display());
            return Err(Error::new(Kind::Usage, "directory-deleted", message).hint(
                "go to a directory that is there, or make it once more, and run the command again",
            ));
        }
        Self::from_directory(Directory::from_fd(own, path))
    }

    fn from_directory(root: Directory) -> Result<Self> {
        let identity =
            root.own_identity().map_err(|error| Error::io("look at", root.path(), &error))?;
        if identity.kind != ObjectKind::Directory {
            let message = format!("`{}` is not a directory", root.path().display());
            return Err(Error::new(Kind::Usage, "not-a-directory", message));
        }
        let Some(path) = root.path().to_str().map(str::to_owned) else {
            let shown = root.path().display();
            let message =
                format!("the path `{shown}` is not UTF-8, which the ecosystems' tools need");
            return Err(
                Error::new(Kind::Usage, "path-not-utf8", message).hint("rename the directory")
            );
        };
        Ok(Self { root, identity, path, reads: None })
    }

    /// The same, and the record of what is read of it from now on as a manifest.
    pub(crate) fn recorded(mut self) -> (Self, Arc<Reads>) {
        let reads = self.reads.get_or_insert_default().clone();
        (self, reads)
    }

    /// A manifest that is named by its path; where it cannot be read, it is recorded, too.
    pub(crate) fn read_manifest(&self, path: &RelativePath) -> Result<Option<Vec<u8>>> {
        let read = self.read_file(path);
        if let Some(reads) = &self.reads {
            reads.file(path.as_str(), read.as_ref().ok().map(Option::as_deref));
        }
        read
    }

    /// Members are looked for in the directories of `directory`, relative to it; empty is the project itself.
    pub(crate) fn note_listed(&self, directory: &str) {
        if let Some(reads) = &self.reads {
            reads.listed(self, directory);
        }
    }

    /// The same directory, opened once more.
    pub(crate) fn again(&self) -> Result<Self> {
        let root = self.root.again();
        let root = root.map_err(|error| Error::io("open", self.path(), &error))?;
        let (path, reads) = (self.path.clone(), self.reads.clone());
        Ok(Self { root, identity: self.identity, path, reads })
    }

    /// Its canonical path when it was opened.
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// Which directory it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The content of a file in it, `None` where there is no such file. No link is followed.
    pub fn read_file(&self, path: &RelativePath) -> Result<Option<Vec<u8>>> {
        let failed = |error: io::Error| {
            let full = self.path().join(path.as_str());
            if is_link(&error) { linked(&full) } else { Error::io("read", &full, &error) }
        };
        let read = |parent: &Directory| parent.read_file(path.name(), PROJECT_FILE_BYTES_MAX);
        let Some(parent) = path.parent() else { return read(&self.root).map_err(failed) };
        match self.root.descend(Some(&parent)) {
            Ok(parent) => read(&parent).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// What a file in it holds, `None` where there is no such file.
    pub fn content(&self, path: &RelativePath) -> Result<Option<Content>> {
        Ok(self.read_file(path)?.map(|bytes| Content::of(&bytes)))
    }

    /// Refuses root a project of somebody else: what root makes in it would be root's, and its owner could neither
    /// change nor remove it. Everybody else is told by the kernel what they may do there.
    pub(super) fn require_owner(&self) -> Result<()> {
        let owner = rustix::fs::fstat(&self.root)
            .map_err(|errno| Error::io("look at", self.path(), &errno.into()))?
            .st_uid;
        if owner == 0 || !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let message = format!(
            "`{}` belongs to uid {owner}, and its owner could not undo what root does",
            self.path
        );
        Err(Error::new(Kind::Refused, "other-owner", message)
            .hint("run the command as the owner of the directory"))
    }

    /// The name of the project in the database. Survives renames, and a new directory that got the inode of a
    /// deleted one is another project.
    pub(super) fn key(&self) -> String {
        key_of(&self.identity, &self.path)
    }

    pub(super) fn root(&self) -> &Directory {
        &self.root
    }
}

impl AsFd for Project {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// See [`Project::key`].
pub(super) fn key_of(identity: &Identity, path: &str) -> String {
    match identity.born_ns {
        Some(born) => format!("{:x}-{born:x}", identity.inode),
        // Device numbers of overlays change with every mount; the path has to do.
        None => {
            let path = tree::digest_of(path.as_bytes());
            format!("{:x}-at-{}", identity.inode, crate::hex::hex(&path[..8]))
        }
    }
}

/// Whether opening failed because a link, or something else that is no directory, is in the way.
pub(super) fn is_link(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::LOOP | Errno::NOTDIR))
}

/// The refusal of a link where a file or directory of the project was expected.
pub(super) fn linked(path: &Path) -> Error {
    let message = format!("`{}` is or lies behind a symbolic link", path.display());
    Error::new(Kind::Refused, "symbolic-link", message)
        .hint("Bolide neither follows nor replaces links in a project; put the real file there")
}

/// The project's own `.bolide`.
#[derive(Debug)]
pub(super) struct Workshop {
    root: Directory,
}

impl Workshop {
    /// Opens it, `None` where there is none.
    pub(super) fn existing(project: &Project) -> Result<Option<Self>> {
        let path = project.path().join(DOT_BOLIDE);
        match open_own(project.root(), OsStr::new(DOT_BOLIDE)) {
            Ok(root) => Ok(Some(Self { root })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(distrust(&path, &error)),
        }
    }

    /// Opens or makes it.
    pub(super) fn ensure(disk: &Disk, project: &Project) -> Result<Self> {
        let path = project.path().join(DOT_BOLIDE);
        ensure_directory(disk, project.root(), OsStr::new(DOT_BOLIDE))
            .map_err(|error| Error::io("create", &path, &error))?;
        let workshop = Self::existing(project)?
            .ok_or_else(|| Error::io("create", &path, &io::Error::from(io::ErrorKind::NotFound)))?;
        let name = OsStr::new(IGNORE_FILE);
        let failed = |error: io::Error| Error::io("write", &path.join(IGNORE_FILE), &error);
        if workshop.root.status(name).map_err(failed)?.is_none() {
            let file = disk.perform("create", || workshop.root.create_file(name, 0o644));
            let file = file.map_err(failed)?;
            disk.append(&file, IGNORE_TEXT).map_err(failed)?;
        }
        Ok(workshop)
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Directory {
        &self.root
    }

    /// Opens or makes one of its three parts.
    pub(super) fn ensure_area(&self, disk: &Disk, name: &str) -> Result<Directory> {
        self.ensure_in(disk, &self.root, name)
    }

    /// Opens or makes a directory of ours in `parent`.
    pub(super) fn ensure_in(
        &self,
        disk: &Disk,
        parent: &Directory,
        name: &str,
    ) -> Result<Directory> {
        let path = parent.path().join(name);
        let name = OsStr::new(name);
        ensure_directory(disk, parent, name).map_err(|error| Error::io("create", &path, &error))?;
        open_own(parent, name).map_err(|error| distrust(&path, &error))
    }

    /// Opens a directory of ours beneath it, `None` where it does not exist.
    pub(super) fn find(&self, parts: &[&str]) -> Result<Option<Directory>> {
        let mut directory =
            self.root.again().map_err(|error| Error::io("open", self.root.path(), &error))?;
        for part in parts {
            let path = directory.path().join(part);
            directory = match open_own(&directory, OsStr::new(part)) {
                Ok(next) => next,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(distrust(&path, &error)),
            };
        }
        Ok(Some(directory))
    }

    /// Removes staging and trash where nothing is in them.
    pub(super) fn remove_empty_areas(&self, disk: &Disk) -> Result<()> {
        for area in [STAGING, TRASH] {
            remove_empty(disk, &self.root, area)
                .map_err(|error| Error::io("remove", &self.root.path().join(area), &error))?;
        }
        Ok(())
    }

    /// Removes what is empty of it, and it as a whole if nothing else is in it. Foreign files keep it.
    pub(super) fn dismantle(self, disk: &Disk, project: &Project) -> Result<()> {
        let failed = |name: &str, error: io::Error| {
            Error::io("remove", &self.root.path().join(name), &error)
        };
        for area in [STAGING, GENERATIONS, TRASH] {
            remove_empty(disk, &self.root, area).map_err(|error| failed(area, error))?;
        }
        let names = self.root.names().map_err(|error| failed("", error))?;
        let ours = names.iter().all(|name| name == IGNORE_FILE);
        let ignore = self.root.read_file(OsStr::new(IGNORE_FILE), 16);
        // A crash may have left a part of our file; anything else in it is a person's.
        let own = matches!(&ignore, Ok(Some(bytes)) if IGNORE_TEXT.starts_with(bytes));
        if ours && own {
            let removed = disk.unlink(&self.root, OsStr::new(IGNORE_FILE));
            removed.map_err(|error| failed(IGNORE_FILE, error))?;
        }
        remove_empty(disk, project.root(), DOT_BOLIDE).map_err(|error| failed("", error))?;
        disk.sync(project).map_err(|error| failed("", error))
    }
}

/// Removes a directory if it is empty.
pub(super) fn remove_empty(disk: &Disk, parent: &Directory, name: &str) -> io::Result<()> {
    match disk.remove_directory(parent, OsStr::new(name)) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

fn ensure_directory(disk: &Disk, parent: &Directory, name: &OsStr) -> io::Result<()> {
    if parent.status(name)?.is_some() {
        return Ok(());
    }
    match disk.make_directory(parent, name, 0o700) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Opens a directory that has to be ours.
fn open_own(parent: &Directory, name: &OsStr) -> io::Result<Directory> {
    let directory = parent.child(name)?;
    let owner = rustix::fs::fstat(&directory)?.st_uid;
    let own = rustix::process::geteuid().as_raw();
    if owner != own {
        let why = format!("it belongs to uid {owner}, not to {own}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(directory)
}

fn distrust(path: &Path, error: &io::Error) -> Error {
    if matches!(error.kind(), io::ErrorKind::PermissionDenied) {
        return Error::io("open", path, error);
    }
    let message = format!("`{}` is not a directory that Bolide made: {error}", path.display());
    Error::new(Kind::Refused, "untrusted-workshop", message)
        .hint("look at what it is; Bolide makes a new one when it is moved away")
}

/// The right to change a project. Dropping it gives it up; so does the death of the process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
    _directory: OwnedFd,
}

impl Lock {
    fn path(locks: &Directory, project: &Project) -> PathBuf {
        let identity = project.identity;
        locks.path().join(format!("{:x}-{:x}.lock", identity.device, identity.inode))
    }

    /// Whether somebody has it who came through this state directory.
    pub(super) fn is_held(locks: &Directory, project: &Project) -> Result<bool> {
        let path = Self::path(locks, project);
        let failed = |error: io::Error| Error::io("lock", &path, &error);
        let file = match File::open(&path) {
            Ok(file) => file,
            // Nobody ever had it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        // Shared, so that those who only ask are in nobody's way but for a moment.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(true),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Waits until the project is free, at most `wait` and not longer than it is wanted.
    pub(super) fn acquire(
        locks: &Directory,
        project: &Project,
        wait: Duration,
        cancellation: &Cancellation,
    ) -> Result<Self> {
        let path = Self::path(locks, project);
        let failed = |error: io::Error| Error::io("lock", &path, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        let directory = project.root.child(OsStr::new(".")).map_err(failed)?;
        let directory = directory.as_fd().try_clone_to_owned().map_err(failed)?;
        let deadline = Instant::now() + wait;
        let mut pause_ms = LOCK_RETRY_MS_MIN;
        loop {
            if try_flock(&file).map_err(failed)? {
                // Network file systems may refuse to lock a directory; then the first lock has to do.
                if try_flock(&directory).unwrap_or(true) {
                    break;
                }
                rustix::fs::flock(&file, FlockOperation::Unlock)
                    .map_err(|errno| failed(errno.into()))?;
            }
            if Instant::now() >= deadline {
                return Err(locked(project, &mut file, wait));
            }
            Error::if_cancelled(cancellation)?;
            std::thread::sleep(Duration::from_millis(pause_ms));
            pause_ms = (2 * pause_ms).min(LOCK_RETRY_MS);
        }
        // Only for the message of those who wait; a failure to write it is no failure to lock.
        let _ = sign(&mut file);
        Ok(Self { _file: file, _directory: directory })
    }
}

/// Writes down who has it. Mostly it was this process the last time, too, and what stands there is not written again: that
/// would wait for the file system's journal.
fn sign(file: &mut File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    let mut there = [0; 32];
    let count = file.read_at(&mut there, 0)?;
    if there[..count] == *text.as_bytes() {
        return Ok(());
    }
    // A file that is cut, even an empty one, is written out at once when it is closed.
    if count > 0 {
        file.set_len(0)?;
    }
    file.write_all_at(text.as_bytes(), 0)
}

fn try_flock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The path that a deleted directory had, without what the kernel puts behind it.
fn without_mark(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn locked(project: &Project, file: &mut File, wait: Duration) -> Error {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    let holder = match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    };
    let message = format!(
        "`{}` is locked by {holder}, which changes it; waited {} ms",
        project.path().display(),
        wait.as_millis()
    );
    Error::new(Kind::Failed, LOCKED, message).hint("wait until it is done, or end it").retryable()
}
