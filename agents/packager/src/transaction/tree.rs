//! Trees of files: walking one in a fixed order, hashing, removing, copying out of one.
//!
//! No call here follows a symbolic link, and none recurses: a hostile tree costs descriptors up to a bound, not
//! stack.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ring::digest;
use rustix::fd::AsRawFd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::directory::{Directory, ObjectKind};
use super::disk::Disk;
use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::limits::{TREE_DEPTH_MAX, TREE_ENTRIES_MAX};

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// One entry of a walk.
pub(super) struct Visit<'a> {
    /// Its path relative to the root of the walk; empty for the root.
    pub(super) path: &'a [u8],
    /// The directory it lies in.
    pub(super) directory: &'a Directory,
    /// Its name there.
    pub(super) name: &'a OsStr,
    /// Its status.
    pub(super) status: &'a Stat,
}

impl Visit<'_> {
    pub(super) fn kind(&self) -> ObjectKind {
        ObjectKind::of(self.status.st_mode)
    }

    /// The digest of a file's bytes or of a link's target; zero for others.
    pub(super) fn content_digest(&self) -> Result<Digest> {
        let failed =
            |error: io::Error| Error::io("read", &self.directory.path().join(self.name), &error);
        match self.kind() {
            ObjectKind::File => file_digest(self.directory, self.name).map_err(failed),
            ObjectKind::Link => {
                let target = rustix::fs::readlinkat(self.directory, self.name, Vec::new())
                    .map_err(|errno| failed(errno.into()))?;
                Ok(digest_of(target.to_bytes()))
            }
            ObjectKind::Directory | ObjectKind::Special => Ok(Digest::default()),
        }
    }
}

struct Frame {
    directory: Directory,
    names: std::vec::IntoIter<(OsString, u64)>,
    prefix: usize,
    device: u64,
}

/// What is known of files before they are looked at: the status of the one with this device and inode.
pub(super) type Known<'a> = &'a dyn Fn(u64, u64) -> Option<Stat>;

/// Everything is looked at.
pub(super) const UNKNOWN: Known<'static> = &|_, _| None;

/// Where a walk goes from an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onward {
    /// Into it, where it is a directory.
    Into,
    /// Past it.
    Past,
}

/// What a walk cannot go into.
#[derive(Clone, Copy)]
pub(super) enum Blocked<'a> {
    /// A directory that cannot be listed.
    Listing(&'a Visit<'a>),
    /// A name that is there, and no more can be said of it.
    Look {
        /// Its path relative to the root of the walk.
        path: &'a [u8],
        /// The directory it lies in.
        directory: &'a Directory,
        /// Its name there.
        name: &'a OsStr,
        /// What the directory says of it.
        inode: u64,
    },
}

impl Blocked<'_> {
    /// Its path relative to the root of the walk.
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Listing(visit) => visit.path,
            Self::Look { path, .. } => path,
        }
    }

    /// Why it is not walked.
    pub(super) fn unreadable(&self, error: io::Error) -> Error {
        match self {
            Self::Listing(visit) => unreadable(visit.directory, visit.name, error),
            Self::Look { directory, name, .. } => unreadable(directory, name, error),
        }
    }
}

/// Visits `name` in `parent` and everything in it, parents first, names in the order of their bytes. What `skip`
/// says yes to is left out with all it contains. Nothing is visited where the root does not exist.
pub(super) fn walk(
    parent: &Directory,
    root: &OsStr,
    skip: &dyn Fn(&[u8]) -> bool,
    visit: &mut dyn FnMut(&Visit<'_>) -> Result<()>,
) -> Result<()> {
    walk_knowing((parent, root), UNKNOWN, skip, visit)
}

/// The same where files whose status is known are not looked at.
pub(super) fn walk_knowing(
    (parent, root): (&Directory, &OsStr),
    known: Known<'_>,
    skip: &dyn Fn(&[u8]) -> bool,
    visit: &mut dyn FnMut(&Visit<'_>) -> Result<()>,
) -> Result<()> {
    let mut blocked = |at: Blocked<'_>, error| Err(at.unreadable(error));
    let mut visit = |seen: &Visit<'_>| visit(seen).map(|()| Onward::Into);
    walk_as_told((parent, root), known, skip, &mut visit, &mut blocked)
}

/// The same where the visitor says which directories are entered; `blocked` is told of those that cannot be listed, and of what cannot be
/// looked at.
pub(super) fn walk_as_told(
    (parent, root): (&Directory, &OsStr),
    known: Known<'_>,
    skip: &dyn Fn(&[u8]) -> bool,
    visit: &mut dyn FnMut(&Visit<'_>) -> Result<Onward>,
    blocked: &mut dyn FnMut(Blocked<'_>, io::Error) -> Result<()>,
) -> Result<()> {
    let Some(status) = parent.status(root).map_err(|error| unreadable(parent, root, error))? else {
        return Ok(());
    };
    let mut stack = Vec::new();
    let seen = Visit { path: b"", directory: parent, name: root, status: &status };
    if visit(&seen)? == Onward::Into && seen.kind() == ObjectKind::Directory {
        match frame((parent, root), &status, 0) {
            Ok(frame) => stack.push(frame),
            Err(error) => blocked(Blocked::Listing(&seen), error)?,
        }
    }
    let mut path: Vec<u8> = Vec::new();
    let mut entries = 1_usize;
    while let Some(top) = stack.last_mut() {
        let Some((name, inode)) = top.names.next() else {
            stack.pop();
            continue;
        };
        path.truncate(top.prefix);
        if top.prefix > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        if skip(&path) {
            continue;
        }
        // A name may vanish between the listing and the look at it; then it is not there.
        let looked =
            known(top.device, inode).map_or_else(|| top.directory.status(&name), |it| Ok(Some(it)));
        let status = match looked {
            Ok(Some(status)) => status,
            Ok(None) => continue,
            Err(error) => {
                let (path, directory) = (path.as_slice(), &top.directory);
                blocked(Blocked::Look { path, directory, name: &name, inode }, error)?;
                continue;
            }
        };
        entries += 1;
        if entries > TREE_ENTRIES_MAX {
            return Err(too_large(parent, root, "more entries", TREE_ENTRIES_MAX));
        }
        let seen = Visit { path: &path, directory: &top.directory, name: &name, status: &status };
        if visit(&seen)? == Onward::Past || seen.kind() != ObjectKind::Directory {
            continue;
        }
        let next = frame((&top.directory, &name), &status, path.len());
        if let Err(error) = next {
            blocked(Blocked::Listing(&seen), error)?;
        } else if stack.len() >= TREE_DEPTH_MAX {
            return Err(too_large(parent, root, "directories nested deeper", TREE_DEPTH_MAX));
        } else {
            stack.extend(next);
        }
    }
    Ok(())
}

pub(super) fn unreadable(directory: &Directory, name: &OsStr, error: io::Error) -> Error {
    Error::io("read", &directory.path().join(name), &error)
}

/// The directory `name`, which has this status.
fn frame((parent, name): (&Directory, &OsStr), status: &Stat, prefix: usize) -> io::Result<Frame> {
    let directory = parent.child(name)?;
    let names = directory.listing()?.into_iter();
    Ok(Frame { directory, names, prefix, device: status.st_dev })
}

/// Refuses a tree that was walked in parts and is too large as a whole.
pub(super) fn check_count(parent: &Directory, root: &OsStr, entries: usize) -> Result<()> {
    match entries > TREE_ENTRIES_MAX {
        true => Err(too_large(parent, root, "more entries", TREE_ENTRIES_MAX)),
        false => Ok(()),
    }
}

fn too_large(parent: &Directory, root: &OsStr, what: &str, bound: usize) -> Error {
    let path = parent.path().join(root);
    let message = format!("`{}` has {what} than the limit of {bound}", path.display());
    Error::new(Kind::Failed, "tree-too-large", message)
}

/// The digest of a regular file's bytes.
pub(super) fn file_digest(directory: &Directory, name: &OsStr) -> io::Result<Digest> {
    let mut file = directory.open_file(name)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(to_digest(context.finish().as_ref())),
            Ok(count) => context.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest of some bytes.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    to_digest(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub(super) fn to_digest(bytes: &[u8]) -> Digest {
    bytes.try_into().expect("SHA-256 has 32 bytes")
}

/// One digest for all that `directory` contains: sorted paths, types, modes, sizes, contents and link targets.
/// Times and owners are not part of it. Answers `sha256:...`.
pub fn tree_hash(directory: &Path) -> Result<String> {
    tree_hash_without(directory, &|_| false)
}

/// The same without what `skip` says yes to, which gets paths relative to `directory`.
pub fn tree_hash_without(directory: &Path, skip: &dyn Fn(&[u8]) -> bool) -> Result<String> {
    let failed = |error: io::Error| Error::io("open", directory, &error);
    let canonical = directory.canonicalize().map_err(failed)?;
    let (parent, name) = match (canonical.parent(), canonical.file_name()) {
        (Some(parent), Some(name)) => (parent.to_owned(), name.to_owned()),
        _ => (canonical.clone(), OsString::from(".")),
    };
    let parent = Directory::open(&parent).map_err(failed)?;
    let mut context = digest::Context::new(&digest::SHA256);
    walk(&parent, &name, skip, &mut |entry| {
        context.update(&(entry.path.len() as u64).to_le_bytes());
        context.update(entry.path);
        context.update(&entry.status.st_mode.to_le_bytes());
        let size = match entry.kind() {
            ObjectKind::File => entry.status.st_size,
            _ => 0,
        };
        context.update(&size.to_le_bytes());
        context.update(&entry.content_digest()?);
        Ok(())
    })?;
    Ok(format!("sha256:{}", hex(context.finish().as_ref())))
}

/// Removes `name` and everything in it. What is already gone is no failure, so it can be repeated.
pub(super) fn remove_tree(disk: &Disk, parent: &Directory, root: &OsStr) -> Result<()> {
    let failed = |directory: &Directory, name: &OsStr, error: io::Error| {
        Error::io("remove", &directory.path().join(name), &error)
    };
    let mut stack: Vec<(Frame, OsString)> = Vec::new();
    let mut pending = Some(root.to_owned());
    loop {
        let top = stack.last().map_or(parent, |(frame, _)| &frame.directory);
        if let Some(name) = pending.take() {
            match unlink(disk, top, &name) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(Errno::ISDIR.raw_os_error()) => {
                    if stack.len() >= TREE_DEPTH_MAX {
                        let what = "directories nested deeper";
                        return Err(too_large(parent, root, what, TREE_DEPTH_MAX));
                    }
                    let inner = open_to_empty(top, &name);
                    let inner = inner.map_err(|error| failed(top, &name, error))?;
                    stack.push((inner, name));
                }
                Err(error) => return Err(failed(top, &name, error)),
            }
        } else if let Some((frame, _)) = stack.last_mut()
            && let Some((name, _)) = frame.names.next()
        {
            pending = Some(name);
        } else if let Some((frame, name)) = stack.pop() {
            drop(frame);
            let top = stack.last().map_or(parent, |(frame, _)| &frame.directory);
            match disk.remove_directory(top, &name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(top, &name, error));
                }
                _ => {}
            }
        } else {
            return Ok(());
        }
    }
}

/// Unlinks; `EISDIR` says that it is a directory.
fn unlink(disk: &Disk, directory: &Directory, name: &OsStr) -> io::Result<()> {
    let Some(status) = directory.status(name)? else { return Ok(()) };
    if ObjectKind::of(status.st_mode) == ObjectKind::Directory {
        return Err(Errno::ISDIR.into());
    }
    match disk.unlink(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Opens a directory whose content goes. Packages ship directories that forbid writing; ours they are all the
/// same. The mode is changed through a descriptor, so that nobody can put a link in the directory's place.
fn open_to_empty(parent: &Directory, name: &OsStr) -> io::Result<Frame> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&fd)?;
    let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
    if !mode.contains(Mode::RWXU) {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::chmod(path, mode | Mode::RWXU)?;
    }
    frame((parent, name), &status, 0)
}

/// Copies one entry (a file, a link, or an empty directory) to `target`, whose parents are made.
pub(super) fn copy_entry(entry: &Visit<'_>, target: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::io("keep a copy as", target, &error);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match entry.kind() {
        ObjectKind::File => {
            let mut source = entry.directory.open_file(entry.name).map_err(failed)?;
            let part = with_suffix(target, ".part");
            let mut copy = std::fs::File::create(&part).map_err(failed)?;
            io::copy(&mut source, &mut copy).map_err(failed)?;
            let mode = entry.status.st_mode & 0o777;
            rustix::fs::fchmod(&copy, Mode::from_raw_mode(mode | 0o600))
                .map_err(|errno| failed(errno.into()))?;
            copy.sync_all().map_err(failed)?;
            std::fs::rename(&part, target).map_err(failed)
        }
        ObjectKind::Link => {
            let link = rustix::fs::readlinkat(entry.directory, entry.name, Vec::new())
                .map_err(|errno| failed(errno.into()))?;
            match std::os::unix::fs::symlink(OsStr::from_bytes(link.to_bytes()), target) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
                _ => Ok(()),
            }
        }
        ObjectKind::Directory => std::fs::create_dir_all(target).map_err(failed),
        // A pipe, a socket or a device has no content to lose.
        ObjectKind::Special => Ok(()),
    }
}

/// Copies one entry of a walk to its place below `root`, with mode, times and, as far as we may, owner.
pub(super) fn copy_exactly(entry: &Visit<'_>, root: &Path) -> Result<()> {
    let target = below(root, entry.path);
    let failed = |error: io::Error| Error::io("copy to", &target, &error);
    let failed_errno = |errno: Errno| failed(errno.into());
    let mode = Mode::from_raw_mode(entry.status.st_mode & 0o7777);
    match entry.kind() {
        ObjectKind::File => {
            let mut source = entry.directory.open_file(entry.name).map_err(failed)?;
            let mut copy = std::fs::File::create_new(&target).map_err(failed)?;
            io::copy(&mut source, &mut copy).map_err(failed)?;
            own(&target, entry.status);
            rustix::fs::fchmod(&copy, mode).map_err(failed_errno)?;
            rustix::fs::futimens(&copy, &times(entry.status)).map_err(failed_errno)
        }
        ObjectKind::Directory => {
            std::fs::create_dir(&target).map_err(failed)?;
            own(&target, entry.status);
            // Children come after it; a mode that forbids them is set with the times.
            rustix::fs::chmod(&target, mode | Mode::RWXU).map_err(failed_errno)
        }
        ObjectKind::Link => {
            let link = rustix::fs::readlinkat(entry.directory, entry.name, Vec::new())
                .map_err(failed_errno)?;
            std::os::unix::fs::symlink(OsStr::from_bytes(link.to_bytes()), &target)
                .map_err(failed)?;
            own(&target, entry.status);
            set_times(&target, entry.status).map_err(failed_errno)
        }
        ObjectKind::Special => {
            Err(failed(io::Error::new(io::ErrorKind::Unsupported, "not a file")))
        }
    }
}

/// Gives the directories of a copy the modes and times of the originals, which writing into them has changed.
pub(super) fn restore_directory_times(parent: &Directory, name: &OsStr, root: &Path) -> Result<()> {
    let mut directories = Vec::new();
    walk(parent, name, &|_| false, &mut |entry| {
        if entry.kind() == ObjectKind::Directory {
            directories.push((below(root, entry.path), *entry.status));
        }
        Ok(())
    })?;
    for (target, status) in directories.iter().rev() {
        let failed = |errno: Errno| Error::io("copy to", target, &errno.into());
        rustix::fs::chmod(target, Mode::from_raw_mode(status.st_mode & 0o7777)).map_err(failed)?;
        set_times(target, status).map_err(failed)?;
    }
    Ok(())
}

fn below(root: &Path, path: &[u8]) -> PathBuf {
    match path {
        b"" => root.to_owned(),
        path => root.join(OsStr::from_bytes(path)),
    }
}

/// Only root may give files away; for everybody else the owner is right already.
fn own(target: &Path, status: &Stat) {
    let _ = std::os::unix::fs::lchown(target, Some(status.st_uid), Some(status.st_gid));
}

fn set_times(target: &Path, status: &Stat) -> rustix::io::Result<()> {
    rustix::fs::utimensat(rustix::fs::CWD, target, &times(status), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(status: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(status.st_atime, status.st_atime_nsec as i64),
        last_modification: time(status.st_mtime, status.st_mtime_nsec as i64),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
