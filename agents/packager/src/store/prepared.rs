//! Directories that are made before anybody asks for them, so that installing a package is a rename and a look at its files.
//!
//! A process that stays knows which packages it has installed. When nobody waits it makes each of them once more, whole, beside the
//! store. Who installs one later is given that directory: a rename where there were a call and two looks for every file. Rules:
//!
//! 1. What is prepared belongs to one process, in a directory of its own, and what it is like is known in its memory only. What a
//!    process leaves behind is never believed, only deleted.
//! 2. It is made by [`Store::fill`], so its files are links or copies by the rules of `lend`: a link that is prepared is the one
//!    that a file of the store may have.
//! 3. A directory is claimed by one ([`Prepared::claim`]), looked at ([`Prepared::is_whole`]: inode, permissions, size and both times
//!    of every file and directory are those that it was made with, so nothing in it was written, added or taken away), and given
//!    ([`Prepared::give`]) or thrown away. Nobody else knows its name meanwhile. Renaming it changes nothing about its files.
//! 4. It is given only where what is made there would get the same permissions, on the same file system. Whoever gets none makes the
//!    files as ever.
//! 5. What was given, and what was missing, is prepared again, within bounds of bytes and files; the oldest makes room, but
//!    never for what was wanted at the same time. It is not counted to the store's size and goes first when that is made smaller.

mod marks;
mod recipe;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use agents_contract::{Cancellation, Threads};
use rustix::fs::{Mode, RenameFlags};
use serde::{Deserialize, Serialize};

use self::marks::Marks;
pub use self::marks::{Given, Mark};
pub use self::recipe::Piece;
use self::recipe::{Key, Recipe};
use super::{FillOptions, Store, mode, open_beneath, open_directory};
use crate::error::{Error, Result};
use crate::limits::{
    PREPARED_ALIKE_MAX, PREPARED_BYTES_FREE_MIN, PREPARED_FILES_MAX, PREPARED_TREE_PERCENT,
    PREPARED_WANTED_MAX,
};

/// What stands ready.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    directory: OwnedFd,
    device: u64,
    /// Which of the permissions 0777 what is made there has; nothing is given where it would have others.
    left: u32,
    bytes_max: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Where one package stands in two places of a tree there are two of the same.
    trees: HashMap<Key, Vec<Tree>>,
    wanted: VecDeque<Wanted>,
    /// How many of each are still to be made.
    waiting: HashMap<Key, usize>,
    discarded: Vec<u64>,
    bytes: u64,
    files: usize,
    next: u64,
    round: u64,
    made: u64,
    given: u64,
}

#[derive(Debug)]
struct Wanted {
    recipe: Recipe,
    round: u64,
}

/// One directory, in the hands of whoever claimed it.
#[derive(Debug)]
pub struct Tree {
    number: u64,
    recipe: Recipe,
    marks: Marks,
    round: u64,
}

/// How much stands ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// Directories that are there, one for each package.
    pub packages: u64,
    /// Bytes of their files, whoever else has these.
    pub bytes: u64,
    /// Those that are still to be made.
    pub waiting: u64,
    /// Those that were made so far.
    pub made: u64,
    /// Those that an installation was given so far.
    pub given: u64,
}

impl Prepared {
    /// Prepares in `path`, an empty directory that nobody else uses, at most so many bytes.
    pub fn new(path: &Path, bytes_max: u64) -> Result<Self> {
        let directory = open_directory(path)?;
        let failed = |error: rustix::io::Errno| Error::io("examine", path, &error.into());
        let device = rustix::fs::fstat(&directory).map_err(failed)?.st_dev;
        let left = mode::permissions_left(directory.as_fd())?.unwrap_or_default();
        let held = Mutex::default();
        Ok(Self { path: path.to_owned(), directory, device, left, bytes_max, held })
    }

    /// Whether what is prepared is as if it had been made in `staging`.
    pub fn fits(&self, staging: BorrowedFd<'_>) -> bool {
        const SET_GROUP: u32 = 0o2000;
        let same_place = rustix::fs::fstat(staging)
            .is_ok_and(|status| status.st_dev == self.device && status.st_mode & SET_GROUP == 0);
        same_place && mode::permissions_left(staging).is_ok_and(|left| left == Some(self.left))
    }

    /// Takes the directories for these contents out of what others are given, as many as are there. What is not there is wanted from
    /// now on.
    pub fn claim(&self, contents: &[Vec<Piece<'_>>]) -> Vec<Option<Tree>> {
        let keys: Vec<Key> = contents.iter().map(|pieces| recipe::key(pieces)).collect();
        let mut held = self.held();
        held.round += 1;
        let claimed: Vec<Option<Tree>> = keys.iter().map(|key| held.take(key)).collect();
        for ((key, pieces), found) in keys.iter().zip(contents).zip(&claimed) {
            if found.is_none() && !pieces.is_empty() {
                self.want(&mut held, *key, || Recipe::of(*key, pieces));
            }
        }
        claimed
    }

    /// Whether a directory is as it was made.
    pub fn is_whole(&self, tree: &Tree) -> bool {
        let opened = open_beneath(self.directory.as_fd(), &tree.name());
        opened.is_ok_and(|opened| tree.marks.hold(opened.as_fd()))
    }

    /// Gives a directory that [`Self::is_whole`] the name `name` in `to`, which must be free; nothing where that cannot be done. It is
    /// wanted again.
    pub fn give(&self, tree: Tree, (to, name): (BorrowedFd<'_>, &str)) -> Option<Given> {
        let flags = RenameFlags::NOREPLACE;
        let moved =
            rustix::fs::renameat_with(&self.directory, tree.name(), to, name, flags).is_ok();
        let mut held = self.held();
        if moved {
            held.given += 1;
        } else {
            held.discarded.push(tree.number);
        }
        self.want(&mut held, tree.recipe.key, || tree.recipe);
        moved.then(|| tree.marks.given(self.device))
    }

    /// Throws away what is not as it was made. It is wanted again.
    pub fn discard(&self, tree: Tree) {
        let mut held = self.held();
        held.discarded.push(tree.number);
        self.want(&mut held, tree.recipe.key, || tree.recipe);
    }

    fn want(&self, held: &mut Held, key: Key, recipe: impl FnOnce() -> Recipe) {
        let standing = held.trees.get(&key).map_or(0, Vec::len);
        if standing + held.waiting.get(&key).copied().unwrap_or_default() >= PREPARED_ALIKE_MAX {
            return;
        }
        let recipe = recipe();
        let is_large = recipe.bytes > self.bytes_max / 100 * PREPARED_TREE_PERCENT
            || recipe.files.len() > PREPARED_FILES_MAX / 100 * PREPARED_TREE_PERCENT as usize;
        if is_large || held.wanted.len() >= PREPARED_WANTED_MAX {
            return;
        }
        *held.waiting.entry(key).or_default() += 1;
        let round = held.round;
        held.wanted.push_back(Wanted { recipe, round });
    }

    /// Makes the next one that is wanted; false where none is, or none can be made.
    pub fn make_next(&self, store: &Store, cancellation: &Cancellation) -> bool {
        let (number, Wanted { recipe, round }) = {
            let mut held = self.held();
            let Some(wanted) = held.wanted.pop_front() else { return false };
            if !held.make_room(&wanted, self.bytes_max) {
                held.waits_no_more(&wanted.recipe.key);
                return true;
            }
            held.next += 1;
            (held.next, wanted)
        };
        let made =
            self.has_space(recipe.bytes).then(|| self.make(number, &recipe, store, cancellation));
        let mut held = self.held();
        held.waits_no_more(&recipe.key);
        match made {
            Some(Ok(Some(marks))) => {
                held.made += 1;
                held.bytes += recipe.bytes;
                held.files += recipe.files.len();
                let tree = Tree { number, recipe, marks, round };
                held.trees.entry(tree.recipe.key).or_default().push(tree);
                true
            }
            Some(Ok(None)) => {
                held.discarded.push(number);
                true
            }
            Some(Err(error)) => {
                held.discarded.push(number);
                tracing::debug!(%error, "a package cannot be prepared");
                // A disk that is full, or a store that is collected: the next request tries the others.
                false
            }
            None => {
                held.forget_wanted();
                false
            }
        }
    }

    fn make(
        &self,
        number: u64,
        recipe: &Recipe,
        store: &Store,
        cancellation: &Cancellation,
    ) -> Result<Option<Marks>> {
        let path = self.path.join(number.to_string());
        let failed = |error: rustix::io::Errno| Error::io("create", &path, &error.into());
        let name = number.to_string();
        rustix::fs::mkdirat(&self.directory, &*name, Mode::from_raw_mode(0o777)).map_err(failed)?;
        let options = FillOptions { crew: &Threads(1), cancellation, ..FillOptions::default() };
        store.fill(&path, recipe.files.clone(), options)?;
        let opened = open_beneath(self.directory.as_fd(), &name).map_err(failed)?;
        Ok(Marks::read(opened.as_fd(), recipe))
    }

    /// Whether the disk has room for more than what others need.
    fn has_space(&self, bytes: u64) -> bool {
        rustix::fs::fstatvfs(&self.directory).is_ok_and(|disk| {
            disk.f_bavail.saturating_mul(disk.f_frsize) >= PREPARED_BYTES_FREE_MIN + bytes
        })
    }

    /// Whether something is to be made or deleted.
    pub fn has_work(&self) -> bool {
        let held = self.held();
        !held.wanted.is_empty() || !held.discarded.is_empty()
    }

    /// What is to be deleted; the caller does it.
    pub fn take_discarded(&self) -> Vec<PathBuf> {
        let numbers = std::mem::take(&mut self.held().discarded);
        numbers.into_iter().map(|number| self.path.join(number.to_string())).collect()
    }

    /// Forgets everything, so that it is deleted.
    pub fn clear(&self) {
        let mut held = self.held();
        held.forget_wanted();
        let numbers: Vec<u64> =
            held.trees.drain().flat_map(|(_, alike)| alike).map(|tree| tree.number).collect();
        held.discarded.extend(numbers);
        (held.bytes, held.files) = (0, 0);
    }

    /// How much there is.
    pub fn standing(&self) -> Standing {
        let held = self.held();
        Standing {
            packages: held.trees.values().map(Vec::len).sum::<usize>() as u64,
            bytes: held.bytes,
            waiting: held.waiting.values().sum::<usize>() as u64,
            made: held.made,
            given: held.given,
        }
    }

    /// Waits until what was made is on the disk, so that whoever is given it need not.
    pub fn sync(&self) {
        // Only a beginning: who commits waits for all of it.
        let _ = rustix::fs::syncfs(&self.directory);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing panics between two statements that belong together.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree {
    fn name(&self) -> String {
        self.number.to_string()
    }
}

impl Held {
    fn take(&mut self, key: &Key) -> Option<Tree> {
        let alike = self.trees.get_mut(key)?;
        let tree = alike.pop()?;
        if alike.is_empty() {
            self.trees.remove(key);
        }
        self.bytes -= tree.recipe.bytes;
        self.files -= tree.recipe.files.len();
        Some(tree)
    }

    /// Throws away what was wanted before this, the oldest first, as far as needed.
    fn make_room(&mut self, wanted: &Wanted, bytes_max: u64) -> bool {
        let recipe = &wanted.recipe;
        loop {
            let has_room = self.bytes.saturating_add(recipe.bytes) <= bytes_max
                && self.files + recipe.files.len() <= PREPARED_FILES_MAX;
            if has_room {
                return true;
            }
            let older = self.trees.values().flatten().filter(|tree| tree.round < wanted.round);
            let oldest = older.min_by_key(|tree| (tree.round, tree.number));
            let Some(key) = oldest.map(|tree| tree.recipe.key) else { return false };
            let tree = self.take(&key);
            self.discarded.extend(tree.map(|tree| tree.number));
        }
    }

    fn forget_wanted(&mut self) {
        for wanted in std::mem::take(&mut self.wanted) {
            self.waits_no_more(&wanted.recipe.key);
        }
    }

    fn waits_no_more(&mut self, key: &Key) {
        if let Some(count) = self.waiting.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(key);
            }
        }
    }
}
