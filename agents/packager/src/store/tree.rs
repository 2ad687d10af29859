//! Copies of whole directory trees, and their way to the disk. For environments that somebody else
//! made: an exact copy is changed in private and then exchanged with the original.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use agents_contract::{Cancellation, Crew};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::copy::{self, Cloning};
use super::{Filled, open_directory};
use crate::error::{Error, Kind, Result};
use crate::limits;

/// Writes everything that changed on the file system of `directory` to the disk: one call at the
/// end of a transaction instead of one for each file.
pub fn sync_tree(directory: &Path) -> Result<()> {
    let opened = open_directory(directory)?;
    rustix::fs::syncfs(&opened)
        .map_err(|error| Error::io("write to the disk", directory, &error.into()))
}

/// Copies `source` to `destination`, which must not exist: files (cloned where possible), symbolic
/// links as they are, modes and times. Hard links become separate files. A device, a pipe or a
/// socket is refused.
pub fn clone_tree(
    source: &Path,
    destination: &Path,
    crew: &dyn Crew,
    cancellation: &Cancellation,
) -> Result<Filled> {
    clone_tree_without(source, destination, &|_| false, crew, cancellation)
}

/// The same without what `skip` says yes to, with all that it contains; it gets paths relative to `source`.
pub fn clone_tree_without(
    source: &Path,
    destination: &Path,
    skip: &dyn Fn(&[u8]) -> bool,
    crew: &dyn Crew,
    cancellation: &Cancellation,
) -> Result<Filled> {
    let from = open_directory(source)?;
    let stat =
        rustix::fs::fstat(&from).map_err(|error| Error::io("examine", source, &error.into()))?;
    rustix::fs::mkdir(destination, Mode::from_raw_mode(0o700))
        .map_err(|error| Error::io("create the directory", destination, &error.into()))?;
    let to = open_directory(destination)?;
    let walk = Walk { source, destination, from: from.as_fd(), to: to.as_fd(), cancellation };
    let tree = walk.list(stat, skip)?;
    let filled = walk.copy_files(&tree.files, crew)?;
    // Deepest first: a directory's time must not change again after it was set, and it may be
    // read-only.
    for (path, stat) in tree.directories.iter().rev() {
        walk.finish_directory(path, stat)?;
    }
    Ok(filled)
}

struct Tree {
    directories: Vec<(CString, Stat)>,
    files: Vec<(CString, Stat)>,
}

struct Walk<'a> {
    source: &'a Path,
    destination: &'a Path,
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    cancellation: &'a Cancellation,
}

impl Walk<'_> {
    /// Lists the source while making the directories and links of the destination.
    fn list(&self, root: Stat, skip: &dyn Fn(&[u8]) -> bool) -> Result<Tree> {
        let mut tree = Tree { directories: vec![(c".".to_owned(), root)], files: Vec::new() };
        let mut waiting = VecDeque::from([(PathBuf::new(), 0)]);
        while let Some((path, depth)) = waiting.pop_front() {
            Error::if_cancelled(self.cancellation)?;
            if depth > limits::TREE_DEPTH_MAX {
                return Err(self.refuse(&path, "is nested too deeply"));
            }
            for name in self.names(&path)? {
                let inner = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
                if skip(inner.as_os_str().as_bytes()) {
                    continue;
                }
                let c_path = c_path(&inner);
                let stat =
                    rustix::fs::statat(self.from, c_path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|error| self.read_error("examine", &inner, error))?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => {
                        rustix::fs::mkdirat(self.to, c_path.as_c_str(), Mode::from_raw_mode(0o700))
                            .map_err(|error| {
                                self.write_error("create the directory", &inner, error)
                            })?;
                        tree.directories.push((c_path, stat));
                        waiting.push_back((inner, depth + 1));
                    }
                    FileType::RegularFile => tree.files.push((c_path, stat)),
                    FileType::Symlink => self.copy_link(&inner, &c_path, &stat)?,
                    _ => {
                        return Err(self.refuse(
                            &inner,
                            "is neither a file nor a directory nor a symbolic link",
                        ));
                    }
                }
            }
        }
        Ok(tree)
    }

    fn names(&self, path: &Path) -> Result<Vec<CString>> {
        let read_error = |error| self.read_error("read the directory", path, error);
        let c_path = if path.as_os_str().is_empty() { c".".to_owned() } else { c_path(path) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory =
            rustix::fs::openat(self.from, c_path, flags, Mode::empty()).map_err(read_error)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(directory).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn copy_link(&self, path: &Path, c_path: &CStr, stat: &Stat) -> Result<()> {
        let target = rustix::fs::readlinkat(self.from, c_path, Vec::new())
            .map_err(|error| self.read_error("read the link", path, error))?;
        rustix::fs::symlinkat(target, self.to, c_path)
            .and_then(|()| {
                rustix::fs::utimensat(self.to, c_path, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
            })
            .map_err(|error| self.write_error("create the link", path, error))
    }

    fn copy_files(&self, files: &[(CString, Stat)], crew: &dyn Crew) -> Result<Filled> {
        let cloning = Cloning::new(None);
        let stop = AtomicBool::new(false);
        let outcome = Mutex::new(Ok(Filled::default()));
        let outcome_of = || outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let batches: Vec<_> = files.chunks(limits::COPY_BATCH_FILES_MAX).collect();
        crew.run(batches.len(), &|index| {
            let (mut buffer, mut mine) = (Vec::new(), Filled::default());
            for (path, stat) in batches[index] {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let copied = Error::if_cancelled(self.cancellation)
                    .and_then(|()| self.copy_file(path, stat, &cloning, &mut buffer, &mut mine));
                if let Err(error) = copied {
                    stop.store(true, Ordering::Relaxed);
                    *outcome_of() = Err(error);
                    return;
                }
            }
            if let Ok(sum) = &mut *outcome_of() {
                sum.files += mine.files;
                sum.bytes += mine.bytes;
                sum.cloned += mine.cloned;
            }
        });
        // A crew leaves out what is not wanted any more.
        Error::if_cancelled(self.cancellation)?;
        outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy_file(
        &self,
        c_path: &CStr,
        stat: &Stat,
        cloning: &Cloning,
        buffer: &mut Vec<u8>,
        sum: &mut Filled,
    ) -> Result<()> {
        let path = Path::new(std::ffi::OsStr::from_bytes(c_path.to_bytes()));
        let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let from = rustix::fs::openat(self.from, c_path, read, Mode::empty())
            .map_err(|error| self.read_error("open", path, error))?;
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let to: OwnedFd = rustix::fs::openat(self.to, c_path, create, Mode::from_raw_mode(0o600))
            .map_err(|error| self.write_error("create", path, error))?;
        if cloning.try_clone(from.as_fd(), to.as_fd()) {
            sum.cloned += 1;
        } else {
            copy::copy(from.as_fd(), to.as_fd(), stat.st_size as u64, buffer)
                .map_err(|error| self.write_error("write", path, error))?;
        }
        rustix::fs::fchmod(&to, permissions(stat))
            .and_then(|()| rustix::fs::futimens(&to, &times(stat)))
            .map_err(|error| self.write_error("set the permissions of", path, error))?;
        sum.files += 1;
        sum.bytes += stat.st_size as u64;
        Ok(())
    }

    fn finish_directory(&self, c_path: &CStr, stat: &Stat) -> Result<()> {
        let path = Path::new(std::ffi::OsStr::from_bytes(c_path.to_bytes()));
        rustix::fs::chmodat(self.to, c_path, permissions(stat), AtFlags::empty())
            .and_then(|()| rustix::fs::utimensat(self.to, c_path, &times(stat), AtFlags::empty()))
            .map_err(|error| self.write_error("set the permissions of", path, error))
    }

    fn read_error(&self, doing: &str, path: &Path, error: Errno) -> Error {
        Error::io(doing, &self.source.join(path), &error.into())
    }

    fn write_error(&self, doing: &str, path: &Path, error: Errno) -> Error {
        Error::io(doing, &self.destination.join(path), &error.into())
    }

    fn refuse(&self, path: &Path, why: &str) -> Error {
        let message = format!("`{}` {why}", self.source.join(path).display());
        Error::new(Kind::Refused, "unusual-environment", message)
            .hint("remove it, or make the environment anew")
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path that the kernel returned has no NUL")
}

/// Set-id bits are not carried over: a copy must never grant more than a person gave to the
/// original.
fn permissions(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    }
}
