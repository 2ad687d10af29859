//! What a prepared directory was like when it was made, so that whoever is given it sees whether it still is, and whoever describes
//! it need not look again.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Stat};

use super::recipe::Recipe;
use crate::store::Content;

/// One file or directory, with all that a change of a file, or of the names in a directory, changes. Nobody sets the time of the last
/// change back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its path; of the directory itself `.`.
    pub path: Box<str>,
    /// SHA-256 of a file's content; nothing for a directory.
    pub digest: Option<[u8; 32]>,
    /// Its inode.
    pub inode: u64,
    /// Its kind and permissions.
    pub mode: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Seconds and nanoseconds of its last modification.
    pub modified: (i64, i64),
    /// The same of its last change.
    pub changed: (i64, i64),
}

/// A directory and everything in it, in the order of a walk.
#[derive(Debug)]
pub(super) struct Marks {
    root: Mark,
    inner: Vec<Mark>,
}

/// A directory that was given, and all that it holds.
#[derive(Debug)]
pub struct Given {
    /// Its device and inode.
    pub directory: (u64, u64),
    /// Its last modification, which a name that it gets changes, and a name of its own does not.
    pub modified: (i64, i64),
    /// What is in it, in the order of a walk: parents first, names in the order of their bytes.
    pub inner: Vec<Mark>,
}

impl Marks {
    /// Looks at a directory that was filled by a recipe; `None` where something of it is not there.
    pub(super) fn read(directory: BorrowedFd<'_>, recipe: &Recipe) -> Option<Self> {
        let mut known = HashSet::from([""]);
        let mut inner = Vec::with_capacity(recipe.files.len());
        for file in &recipe.files {
            let Content::Object(object) = &file.content else { return None };
            inner.push(Mark::read(directory, &file.path, Some(object.digest))?);
            let mut folder = above(&file.path);
            while known.insert(folder) {
                inner.push(Mark::read(directory, folder, None)?);
                folder = above(folder);
            }
        }
        inner.sort_unstable_by(|left, right| left.path.split('/').cmp(right.path.split('/')));
        Some(Self { root: Mark::read(directory, ".", None)?, inner })
    }

    /// Whether nothing was changed, added or taken away since.
    pub(super) fn hold(&self, directory: BorrowedFd<'_>) -> bool {
        self.root.holds(directory) && self.inner.iter().all(|mark| mark.holds(directory))
    }

    /// The same for whoever is given the directory.
    pub(super) fn given(self, device: u64) -> Given {
        let Mark { inode, modified, .. } = self.root;
        Given { directory: (device, inode), modified, inner: self.inner }
    }
}

impl Mark {
    fn read(directory: BorrowedFd<'_>, path: &str, digest: Option<[u8; 32]>) -> Option<Self> {
        let status = status(directory, path)?;
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        (is_directory == digest.is_none()).then(|| Self::of(path, &status, digest))
    }

    /// What has this status.
    pub(crate) fn of(path: &str, status: &Stat, digest: Option<[u8; 32]>) -> Self {
        Self {
            path: path.into(),
            digest,
            inode: status.st_ino,
            mode: status.st_mode,
            size: status.st_size as u64,
            modified: (status.st_mtime, status.st_mtime_nsec as i64),
            changed: (status.st_ctime, status.st_ctime_nsec as i64),
        }
    }

    fn holds(&self, directory: BorrowedFd<'_>) -> bool {
        status(directory, &self.path).is_some_and(|status| self.is(&status))
    }

    /// Whether this is the status of it, unchanged.
    pub(crate) fn is(&self, status: &Stat) -> bool {
        self.inode == status.st_ino
            && self.mode == status.st_mode
            && self.size == status.st_size as u64
            && self.modified == (status.st_mtime, status.st_mtime_nsec as i64)
            && self.changed == (status.st_ctime, status.st_ctime_nsec as i64)
    }
}

/// The directory of a path; empty for the root.
fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn status(directory: BorrowedFd<'_>, path: &str) -> Option<Stat> {
    rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW).ok()
}
