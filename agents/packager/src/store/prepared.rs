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
//! 4. It is given only where what is made there would be the same ([`Prepared::fits`]), and it is prepared only where times tell of
//!    every write ([`Store::are_seals_believed`]). Whoever gets none makes the files as ever.
//! 5. What was given, and what was missing, is prepared again, within bounds of bytes and files; the oldest makes room, but
//!    never for what was wanted at the same time. It is not counted to the store's size; what takes artefacts out of the store takes
//!    it all away.

mod fresh;
mod marks;
mod place;
mod recipe;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use agents_contract::{Cancellation, Threads};
use rustix::fs::{AtFlags, Mode, RenameFlags};
use serde::{Deserialize, Serialize};

pub use self::fresh::Fresh;
pub(super) use self::fresh::Writing;
use self::marks::Marks;
pub use self::marks::{Given, Mark};
use self::place::Inherited;
pub use self::recipe::Piece;
use self::recipe::{Key, Recipe};
use super::{FillOptions, Store, open_beneath, open_directory};
use crate::error::{Error, Result};
use crate::limits::{
    PREPARED_ALIKE_MAX, PREPARED_FILES_MAX, PREPARED_TREE_PERCENT, PREPARED_WANTED_MAX,
};

/// What stands ready.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    directory: OwnedFd,
    device: u64,
    /// What is made there has of it; `None` where that is not to be known.
    inherited: Option<Inherited>,
    room: Room,
    held: Mutex<Held>,
}

/// How much of the disk may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of all files, each in whole blocks.
    pub bytes_max: u64,
    /// Bytes that stay free.
    pub free_min: u64,
}

#[derive(Debug, Default)]
struct Held {
    /// Where one package stands in two places of a tree there are two of the same.
    trees: HashMap<Key, Vec<Tree>>,
    wanted: VecDeque<Wanted>,
    /// How many of each are still to be made.
    waiting: HashMap<Key, usize>,
    /// Files of what is wanted.
    wanted_files: usize,
    /// How often everything was taken away.
    cleared: u64,
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

/// What is claimed together, by number.
#[derive(Clone, Copy, Debug)]
pub struct Round(u64);

/// One directory, in the hands of whoever claimed it.
#[derive(Debug)]
pub struct Tree {
    number: u64,
    recipe: Recipe,
    marks: Marks,
    round: u64,
    cleared: u64,
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
    /// Prepares in `path`, an empty directory that nobody else uses and that was made for this.
    pub fn new(path: &Path, room: Room) -> Result<Self> {
        let directory = open_directory(path)?;
        let failed = |error: rustix::io::Errno| Error::io("examine", path, &error.into());
        let device = rustix::fs::fstat(&directory).map_err(failed)?.st_dev;
        let inherited = Inherited::read(directory.as_fd());
        let held = Mutex::default();
        Ok(Self { path: path.to_owned(), directory, device, inherited, room, held })
    }

    /// Whether what is prepared is as if it had been made in `staging`, which was made for this, too, and can be brought there.
    pub fn fits(&self, staging: BorrowedFd<'_>) -> bool {
        let same_place =
            rustix::fs::fstat(staging).is_ok_and(|status| status.st_dev == self.device);
        let is_same = || {
            let there = Inherited::read(staging);
            there.is_some() && there == self.inherited
        };
        same_place && is_same() && self.reaches(staging)
    }

    /// Whether a directory can be moved there: not to another mount of the same file system, nor where it would be encrypted or
    /// counted in another way.
    fn reaches(&self, staging: BorrowedFd<'_>) -> bool {
        let name = {
            let mut held = self.held();
            held.next += 1;
            held.next.to_string()
        };
        let make = rustix::fs::mkdirat(&self.directory, &*name, Mode::from_raw_mode(0o700));
        let target = format!(".bolide-probe-{}-{name}", std::process::id());
        let flags = RenameFlags::NOREPLACE;
        let moved = make.is_ok_and(|()| {
            rustix::fs::renameat_with(&self.directory, &*name, staging, &*target, flags).is_ok()
        });
        let gone = match moved {
            true => rustix::fs::unlinkat(staging, &*target, AtFlags::REMOVEDIR),
            false => rustix::fs::unlinkat(&self.directory, &*name, AtFlags::REMOVEDIR),
        };
        moved && gone.is_ok()
    }

    /// Begins what is claimed together: nothing of it makes room for anything else of it.
    pub fn begin(&self) -> Round {
        let mut held = self.held();
        held.round += 1;
        Round(held.round)
    }

    /// Takes a directory for this content out of what others are given, where there is one. Otherwise it is wanted from now on. Many may ask
    /// at once.
    pub fn claim(&self, round: Round, pieces: &[Piece<'_>]) -> Option<Tree> {
        if pieces.is_empty() {
            return None;
        }
        let key = recipe::key(pieces);
        let mut held = self.held();
        let found = held.take(&key);
        if found.is_none() {
            self.want(&mut held, round, key, || Recipe::of(key, pieces));
        }
        found
    }

    /// Whether a directory is as it was made.
    pub fn is_whole(&self, tree: &Tree) -> bool {
        let opened = open_beneath(self.directory.as_fd(), &tree.name());
        opened.is_ok_and(|opened| tree.marks.hold(opened.as_fd()))
    }

    /// Gives a directory that [`Self::is_whole`] the name `name` in `to`, which must be free, and wants another one. Where that cannot be
    /// done, nothing is given and it stands ready as before.
    pub fn give(&self, tree: Tree, (to, name): (BorrowedFd<'_>, &str)) -> Option<Given> {
        let flags = RenameFlags::NOREPLACE;
        if rustix::fs::renameat_with(&self.directory, tree.name(), to, name, flags).is_err() {
            self.put_back(tree);
            return None;
        }
        let mut held = self.held();
        held.given += 1;
        let round = Round(held.round);
        self.want(&mut held, round, tree.recipe.key, || tree.recipe);
        Some(tree.marks.given(self.device))
    }

    /// Takes back what was claimed and is not used.
    pub fn put_back(&self, tree: Tree) {
        let mut held = self.held();
        if tree.cleared == held.cleared {
            held.put(tree);
        } else {
            held.discarded.push(tree.number);
        }
    }

    /// Throws away what is not as it was made. It is wanted again.
    pub fn discard(&self, tree: Tree) {
        let mut held = self.held();
        held.discarded.push(tree.number);
        let round = Round(held.round);
        self.want(&mut held, round, tree.recipe.key, || tree.recipe);
    }

    fn want(&self, held: &mut Held, round: Round, key: Key, recipe: impl FnOnce() -> Recipe) {
        let standing = held.trees.get(&key).map_or(0, Vec::len);
        if standing + held.waiting.get(&key).copied().unwrap_or_default() >= PREPARED_ALIKE_MAX {
            return;
        }
        let recipe = recipe();
        let files = recipe.files.len();
        let is_large = recipe.bytes > self.room.bytes_max / 100 * PREPARED_TREE_PERCENT
            || files > PREPARED_FILES_MAX / 100 * PREPARED_TREE_PERCENT as usize;
        let has_room = held.wanted.len() < PREPARED_WANTED_MAX
            && held.wanted_files + files <= PREPARED_FILES_MAX;
        if is_large || !has_room {
            return;
        }
        *held.waiting.entry(key).or_default() += 1;
        held.wanted_files += files;
        held.wanted.push_back(Wanted { recipe, round: round.0 });
    }

    /// Makes the next one that is wanted; false where none is, or none can be made.
    pub fn make_next(&self, store: &Store, cancellation: &Cancellation) -> bool {
        let (number, cleared, Wanted { recipe, round }) = {
            let mut held = self.held();
            let Some(wanted) = held.wanted.pop_front() else { return false };
            held.wanted_files -= wanted.recipe.files.len();
            if !held.make_room(&wanted, self.room.bytes_max) {
                held.waits_no_more(&wanted.recipe.key);
                return true;
            }
            held.next += 1;
            (held.next, held.cleared, wanted)
        };
        if !self.has_space(recipe.bytes) {
            let mut held = self.held();
            held.waits_no_more(&recipe.key);
            held.forget_wanted();
            return false;
        }
        let made = self.make(number, &recipe, store, cancellation);
        let mut held = self.held();
        held.waits_no_more(&recipe.key);
        match made {
            Ok(Some(marks)) if held.cleared == cleared => {
                held.made += 1;
                held.put(Tree { number, recipe, marks, round, cleared });
                true
            }
            Ok(_) => {
                held.discarded.push(number);
                true
            }
            Err(error) => {
                held.discarded.push(number);
                tracing::debug!(%error, "a package cannot be prepared");
                // A disk that is full, or a store that is collected: the next request tries the others.
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
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            free >= self.room.free_min.saturating_add(bytes)
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
        held.cleared += 1;
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
        self.take_one(key, |_| true)
    }

    fn take_one(&mut self, key: &Key, is_it: impl Fn(&Tree) -> bool) -> Option<Tree> {
        let alike = self.trees.get_mut(key)?;
        let tree = alike.swap_remove(alike.iter().position(is_it)?);
        if alike.is_empty() {
            self.trees.remove(key);
        }
        self.bytes -= tree.recipe.bytes;
        self.files -= tree.recipe.files.len();
        Some(tree)
    }

    fn put(&mut self, tree: Tree) {
        self.bytes += tree.recipe.bytes;
        self.files += tree.recipe.files.len();
        self.trees.entry(tree.recipe.key).or_default().push(tree);
    }

    /// Throws away what was wanted before this, the oldest first, as far as needed; nothing where that is not enough.
    fn make_room(&mut self, wanted: &Wanted, bytes_max: u64) -> bool {
        let (bytes, files) = (wanted.recipe.bytes, wanted.recipe.files.len());
        let fits = |held_bytes: u64, held_files: usize| {
            held_bytes.saturating_add(bytes) <= bytes_max
                && held_files + files <= PREPARED_FILES_MAX
        };
        if fits(self.bytes, self.files) {
            return true;
        }
        let mut older: Vec<(u64, u64, Key)> = self
            .trees
            .values()
            .flatten()
            .filter(|tree| tree.round < wanted.round)
            .map(|tree| (tree.round, tree.number, tree.recipe.key))
            .collect();
        older.sort_unstable();
        let sizes = self.trees.values().flatten().filter(|tree| tree.round < wanted.round);
        let (free_bytes, free_files) = sizes.fold((0, 0), |(bytes, files), tree| {
            (bytes + tree.recipe.bytes, files + tree.recipe.files.len())
        });
        if !fits(self.bytes - free_bytes, self.files - free_files) {
            return false;
        }
        for (_, number, key) in older {
            if fits(self.bytes, self.files) {
                break;
            }
            let tree = self.take_one(&key, |tree| tree.number == number);
            self.discarded.extend(tree.map(|tree| tree.number));
        }
        true
    }

    fn forget_wanted(&mut self) {
        self.wanted_files = 0;
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
