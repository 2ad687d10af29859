//! Packages that are unpacked where they are given away from: a cold installation writes each file once, gives it its name in the store,
//! and moves the whole directory into the tree. Without this every file is made in the store and linked a second time.
//!
//! 1. It belongs to one transaction, in a directory of its own that the next start removes; what is in it is known in memory only.
//! 2. A file is complete and sealed, with the permissions that it will have outside, before it gets its name in `lent`
//!    ([`crate::store`]'s `add`), so to the store it is a file that is lent: the store's name and one other. Where the store has that content
//!    already, the file is a copy and nobody else's.
//! 3. A directory is given for the artefact that it was unpacked from, if what was unpacked is what is to be installed, file by file,
//!    and if what is made in the two places would be the same. Else it is removed at once, so that the files of the store can be lent.
//! 4. What is known of a file is its status right after its name in the store was made, as with a file that is linked.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::marks::{Given, Mark};
use super::place::Inherited;
use super::recipe::{self, Key, Piece};
use crate::error::{Error, Result};
use crate::metadata::Hashes;
use crate::store::{Object, Store, open_beneath, open_directory};

/// What was unpacked and is not given yet. Shared by the threads that unpack.
#[derive(Debug)]
pub struct Fresh {
    path: PathBuf,
    directory: OwnedFd,
    device: u64,
    inherited: Option<Inherited>,
    next: AtomicU64,
    trees: Mutex<HashMap<String, Tree>>,
}

/// The directory of one artefact.
#[derive(Debug)]
struct Tree {
    number: u64,
    /// What is in it; nothing where it is of no use.
    key: Option<Key>,
    given: Given,
}

impl Fresh {
    /// In `path`, an empty directory on the file system of the store that nobody else uses and that was made for this. `None` where
    /// files of the store are not born as they leave it, or would be somebody else's, or where none can have a name in both: another
    /// file system, or another mount of the same.
    pub fn new(path: &Path, store: &Store) -> Result<Option<Self>> {
        if !store.are_births_sealed() {
            return Ok(None);
        }
        let directory = open_directory(path)?;
        let failed = |error: Errno| Error::io("examine", path, &error.into());
        let status = rustix::fs::fstat(&directory).map_err(failed)?;
        let inherited = Inherited::read(directory.as_fd());
        if inherited.is_none()
            || !store.is_own(&status)
            || !store.is_linked_into(directory.as_fd())?
        {
            return Ok(None);
        }
        let (next, trees) = (AtomicU64::new(0), Mutex::default());
        let (path, device) = (path.to_owned(), status.st_dev);
        Ok(Some(Self { path, directory, device, inherited, next, trees }))
    }

    /// Whether what was unpacked here is as if it had been made in `staging`.
    pub fn fits(&self, staging: BorrowedFd<'_>) -> bool {
        rustix::fs::fstat(staging).is_ok_and(|status| status.st_dev == self.device)
            && Inherited::read(staging) == self.inherited
    }

    /// Gives the directory of an artefact the name that `to` answers, which must be free, if it holds exactly this. Any other is removed.
    pub fn give<'n>(
        &self,
        hashes: &Hashes,
        pieces: &[Piece<'_>],
        to: impl FnOnce() -> Option<(BorrowedFd<'n>, &'n str)>,
    ) -> Option<Given> {
        let tree = self.trees().remove(&hashes.to_string())?;
        let name = tree.number.to_string();
        let is_it = !pieces.is_empty() && tree.key == Some(recipe::key(pieces));
        let flags = RenameFlags::NOREPLACE;
        if is_it
            && let Some((to, inside)) = to()
            && rustix::fs::renameat_with(&self.directory, &*name, to, inside, flags).is_ok()
        {
            return Some(tree.given);
        }
        // What cannot be removed now goes with the whole; until then its files are copied.
        let _ = std::fs::remove_dir_all(self.path.join(name));
        None
    }

    /// An empty directory for one artefact.
    pub(in crate::store) fn begin(&self) -> Result<Writing<'_>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(number.to_string());
        let failed = |error: Errno| Error::io("create the directory", &path, &error.into());
        let name = number.to_string();
        rustix::fs::mkdirat(&self.directory, &*name, Mode::from_raw_mode(0o777)).map_err(failed)?;
        let root = open_beneath(self.directory.as_fd(), &name).map_err(failed)?;
        let current = (
            String::new(),
            root.try_clone().map_err(|error| Error::io("open the directory", &path, &error))?,
        );
        Ok(Writing {
            fresh: self,
            number,
            path,
            root,
            known: HashSet::new(),
            current,
            marks: Vec::new(),
            is_whole: true,
        })
    }

    fn trees(&self) -> MutexGuard<'_, HashMap<String, Tree>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One artefact that is being unpacked. What becomes of it where this is dropped is the owner's of the whole.
pub(in crate::store) struct Writing<'f> {
    fresh: &'f Fresh,
    number: u64,
    path: PathBuf,
    root: OwnedFd,
    /// Directories that are there.
    known: HashSet<String>,
    /// The directory of the last file.
    current: (String, OwnedFd),
    marks: Vec<Mark>,
    /// Whether everything is in it that came so far.
    is_whole: bool,
}

impl Writing<'_> {
    /// Makes an empty file; nothing where there is something of this name already, which only a file system does that confuses
    /// names.
    pub(in crate::store) fn create(&mut self, path: &str, mode: u32) -> Result<Option<OwnedFd>> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let made = self.enter(folder).and_then(|()| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::openat(&self.current.1, name, flags, Mode::from_raw_mode(mode))
        });
        match made {
            Ok(file) => Ok(Some(file)),
            Err(Errno::EXIST | Errno::NOTDIR) => {
                self.is_whole = false;
                Ok(None)
            }
            Err(error) => Err(Error::io("create", &self.path.join(path), &error.into())),
        }
    }

    /// Links the file of this path, which was created last.
    pub(in crate::store) fn link(
        &self,
        path: &str,
        (to, name): (BorrowedFd<'_>, &str),
    ) -> rustix::io::Result<()> {
        let own = path.rsplit_once('/').map_or(path, |(_, name)| name);
        rustix::fs::linkat(&self.current.1, own, to, name, AtFlags::empty())
    }

    /// The path of a file, for messages.
    pub(in crate::store) fn shown(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// A file is complete, and nothing is done to it any more.
    pub(in crate::store) fn note(&mut self, path: &str, file: &OwnedFd, object: &Object) {
        match rustix::fs::fstat(file) {
            Ok(status) => self.marks.push(Mark::of(path, &status, Some(object.digest))),
            Err(_) => self.is_whole = false,
        }
    }

    /// It will be of no use.
    pub(in crate::store) fn spoil(&mut self) {
        self.is_whole = false;
    }

    /// Everything is there: these pieces.
    pub(in crate::store) fn finish(mut self, hashes: &Hashes, pieces: &[Piece<'_>]) {
        let mut folders: Vec<&String> = self.known.iter().collect();
        folders.sort_unstable();
        for folder in folders {
            let status = rustix::fs::statat(&self.root, folder.as_str(), AtFlags::SYMLINK_NOFOLLOW);
            match status {
                Ok(status) => self.marks.push(Mark::of(folder, &status, None)),
                Err(_) => self.is_whole = false,
            }
        }
        let Ok(status) = rustix::fs::fstat(&self.root) else { return };
        self.marks.sort_unstable_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
        let given = Given {
            directory: (status.st_dev, status.st_ino),
            modified: (status.st_mtime, status.st_mtime_nsec as i64),
            inner: self.marks,
        };
        let key = self.is_whole.then(|| recipe::key(pieces));
        let tree = Tree { number: self.number, key, given };
        let before = self.fresh.trees().insert(hashes.to_string(), tree);
        // The same artefact came twice; one of its directories is enough.
        if let Some(before) = before {
            let _ = std::fs::remove_dir_all(self.fresh.path.join(before.number.to_string()));
        }
    }

    /// Goes to a directory, which is made with those above it where it is not there.
    fn enter(&mut self, folder: &str) -> rustix::io::Result<()> {
        if self.current.0 == folder {
            return Ok(());
        }
        if !folder.is_empty() && !self.known.contains(folder) {
            let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
            for above in ends.map(|end| &folder[..end]) {
                if self.known.contains(above) {
                    continue;
                }
                let (parent, name) = above.rsplit_once('/').unwrap_or(("", above));
                let parent = open_beneath(self.root.as_fd(), parent)?;
                // Only a file system that confuses names has it already.
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777))?;
                self.known.insert(above.to_owned());
            }
        }
        self.current = (folder.to_owned(), open_beneath(self.root.as_fd(), folder)?);
        Ok(())
    }
}
