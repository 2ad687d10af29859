//! The content-addressed store: every file of every verified artefact once, named by its SHA-256.
//!
//! Layout below the store's directory:
//!
//! ```text
//! files/<2 hex>/<62 hex>          one file's content, mode 0444; a `.crate` as it was downloaded is such a file, too
//! lent/<2 hex>/<62 hex>           the same, for files that were or will be given to an environment as a hard link ([`birth`])
//! index/<2 hex>/<hash>.<form>     the list of files of one artefact, named by the artefact's own digest
//! leases/<process>-<random>       what a transaction under way needs, locked by its owner
//! archives/<2 hex>/<hash>         an artefact as it was downloaded, where other hosts are served
//! tmp/<process>-<number>          files that are being written and have a name already
//! looked                          its time says when a collection looked at everything
//! lock                            locked shared by whoever is inside, exclusively by a collection of garbage
//! ```
//!
//! Rules:
//! 1. A file appears under its final name by a link or a `rename` only, complete. Of two processes that store the
//!    same content one is first, or they replace equal bytes by equal bytes.
//! 2. An index entry is written after all of its files, and carries a digest of itself; what cannot
//!    be read or fails the digest counts as absent, and the caller fetches the artefact again. Its time says when it was used last.
//! 3. Whoever reads a file compares its size (always) and its digest (when asked to verify, always before it is sealed, and always where it was lent and has no seal); a file
//!    that fails is an error with the code `store-damaged` and loses its name, and the index entry that led to it is
//!    removed, which makes rule 2 apply.
//! 4. A file leaves the store as a clone or as a copy, or as a hard link by the rules of [`lend`]: at most once at a time, and
//!    never believed again without its seal.
//! 5. Who adds or fills is *inside* ([`gate`]); a collection is alone. So while one looks and removes, no entry comes that
//!    relies on a file which it takes away. Entries go before their files, so a collection that dies leaves garbage and no damage.
//!
//! The store is not a place for unverified things: an artefact is hashed before it is opened.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{Mode as Permissions, OFlags};

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::leftovers::Leftovers;
use crate::metadata::Hashes;
use crate::resolution::Package;
use crate::unpack::Unpacker;

mod add;
mod archive;
mod beneath;
mod birth;
mod collect;
mod copy;
mod entry;
mod fill;
mod gate;
mod lease;
mod lend;
mod mode;
mod names;
mod object;
mod prepared;
mod remembered;
mod seal;
mod shelf;
mod tree;
mod witness;
mod written;

#[cfg(test)]
mod tests;

use birth::Births;
use gate::Gate;
use mode::Modes;
use remembered::Remembered;
use seal::Seals;
use witness::Witnesses;

pub use add::{Direct, Proof};
pub use archive::Algorithm;
pub(crate) use beneath::open_beneath;
pub use collect::{Collected, Freed, Needed, Usage};
pub use entry::{Entry, Form, StoredFile};
pub use fill::{Content, Existing, File, FillOptions, Filled};
pub use lease::Lease;
pub use mode::{Mode, Wanted};
pub use object::Object;
pub use prepared::{Fresh, Given, Mark, Piece, Prepared, Room, Round, Standing, Tree};
pub use shelf::Shelf;
pub use tree::{clone_tree, clone_tree_without, sync_tree};
pub use written::Written;

/// Whether a caller waits until its data would survive a loss of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The kernel writes when it likes. Whoever commits later calls [`sync_tree`] once for
    /// everything.
    #[default]
    Later,
    /// Everything is on the disk when the call returns.
    Now,
}

/// An opened store. Shared by threads; several processes may have the same one open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    files: OwnedFd,
    lent: OwnedFd,
    index: OwnedFd,
    temporary: OwnedFd,
    gate: Gate,
    modes: Modes,
    witnesses: Witnesses,
    seals: Seals,
    births: Births,
    remembered: Remembered,
    next_temporary: AtomicU64,
    /// What could not be deleted.
    leftovers: Arc<Leftovers>,
    #[cfg(test)]
    removals_left: std::sync::atomic::AtomicI64,
    /// Who reads the artefacts that are added.
    unpacker: Arc<Unpacker>,
}

impl Store {
    /// Opens the store in `directory`, which is made if it is missing.
    pub fn open(directory: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let is_new = !directory.join("index").exists();
        for name in ["files", "lent", "index", "archives", "leases", "tmp"] {
            let path = directory.join(name);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|error| Error::io("create the directory", &path, &error))?;
        }
        let open = |name: &str| open_directory(&directory.join(name));
        let lent = open("lent")?;
        let store = Self {
            files: open("files")?,
            witnesses: Witnesses::of(lent.as_fd()),
            seals: Seals::of(directory),
            births: Births::default(),
            remembered: Remembered::default(),
            lent,
            index: open("index")?,
            temporary: open("tmp")?,
            root: directory.to_owned(),
            gate: Gate::open(directory)?,
            modes: Modes::default(),
            next_temporary: AtomicU64::new(0),
            leftovers: Arc::default(),
            #[cfg(test)]
            removals_left: std::sync::atomic::AtomicI64::new(i64::MAX),
            unpacker: Arc::new(Unpacker::here()),
        };
        // There is nothing in it yet that anybody would have to look at.
        if is_new {
            store.note_look();
        }
        Ok(store)
    }

    /// The same store with somebody else to read the artefacts that are added.
    pub fn unpacked_by(self, unpacker: Arc<Unpacker>) -> Self {
        Self { unpacker, ..self }
    }

    /// The same store with somebody else who remembers what could not be deleted.
    pub(crate) fn leaving_to(self, leftovers: Arc<Leftovers>) -> Self {
        Self { leftovers, ..self }
    }

    /// The same store after another start of the machine.
    #[cfg(test)]
    pub(crate) fn in_start(self, start: &str) -> Self {
        let births = Births::default();
        Self { seals: Seals::in_start(&self.root, start), births, ..self }
    }

    /// The same store whose files come out in another way.
    pub fn with_mode(self, wanted: Wanted) -> Self {
        Self { modes: Modes::of(wanted), births: Births::default(), ..self }
    }

    /// The directory that was opened.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the artefact is here. Looks at the index entry only; that its files are there shows
    /// when they are used.
    pub fn has(&self, hashes: &Hashes, form: Form) -> bool {
        self.entry(hashes, form).is_some()
    }

    /// The list of an artefact's files, or `None` if it has to be fetched (again).
    pub fn entry(&self, hashes: &Hashes, form: Form) -> Option<Entry> {
        let names = entry::names(hashes, form);
        names.iter().find_map(|name| entry::read(&self.index, name, form))
    }

    /// The same for a package of a resolution.
    pub fn package(&self, package: &Package) -> Option<Entry> {
        self.entry(&package.artifact.hashes, Form::of(package.ecosystem)?)
    }

    /// The same, as an error where it is missing.
    pub fn require(&self, package: &Package) -> Result<Entry> {
        self.package(package).ok_or_else(|| not_here(package))
    }

    /// Makes everything that was added survive a loss of power.
    pub fn sync(&self) -> Result<()> {
        sync_tree(&self.root)
    }

    /// Removes the index entry of an artefact, so that it is fetched again.
    pub fn forget(&self, hashes: &Hashes, form: Form) {
        for name in entry::names(hashes, form) {
            // If it cannot be removed, the next use finds the same damage and says so again.
            let _ = rustix::fs::unlinkat(&self.index, name.as_str(), rustix::fs::AtFlags::empty());
        }
    }

    /// Forgets an artefact that was just added and that the disk may not have. Its files lose their names, too: for as long as their pages
    /// are in memory they look whole, and who stores the same would let them stand.
    pub fn distrust(&self, hashes: &Hashes, form: Form) {
        for file in self.entry(hashes, form).iter().flat_map(|entry| &entry.files) {
            self.discard(&file.object, true);
            self.discard(&file.object, false);
        }
        self.forget(hashes, form);
        self.forget_archive(hashes);
    }

    /// Checks the files of an artefact: their sizes, and their digests too if `verify`. What is
    /// damaged is forgotten.
    pub fn check(&self, hashes: &Hashes, form: Form, verify: bool) -> Option<Entry> {
        let entry = self.entry(hashes, form)?;
        // All of them are looked at, so that everything that is damaged is stored anew.
        let bad = entry.files.iter().filter(|file| !self.object_is_good(&file.object, verify));
        let good = bad.count() == 0;
        if !good {
            self.forget(hashes, form);
        }
        good.then_some(entry)
    }
}

fn not_here(package: &Package) -> Error {
    let message = format!("`{}` is not in the store", package.artifact.file_name);
    Error::new(Kind::Failed, "not-in-store", message)
        .hint("it has to be fetched first; run the command again")
        .retryable()
}

impl Form {
    /// How the artefacts of an ecosystem are packed; `None` for what another program unpacks.
    pub fn of(ecosystem: Ecosystem) -> Option<Self> {
        match ecosystem {
            Ecosystem::Npm => Some(Form::Npm),
            Ecosystem::Pypi => Some(Form::Wheel),
            Ecosystem::Cargo => Some(Form::Crate),
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => None,
        }
    }
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Permissions::empty(),
    )
    .map_err(|error| Error::io("open the directory", path, &error.into()))
}

/// The code of the error that says that the store lost something; the caller fetches the artefact
/// again.
pub const DAMAGED: &str = "store-damaged";

pub(crate) fn damaged(object: &Object, what: &str) -> Error {
    Error::new(Kind::Failed, DAMAGED, format!("the stored file `{}` {what}", object.name()))
        .hint("run the command again: the package is fetched anew")
        .retryable()
}
