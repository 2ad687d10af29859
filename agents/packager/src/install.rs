//! How stored packages become environments, one file per ecosystem. Everything is built in a
//! staging place that nobody uses yet; making it visible is the business of the transaction, not of
//! this module.

pub mod cargo;
pub mod npm;
pub mod pypi;

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::sync::Arc;

use agents_contract::{Cancellation, Crew, Threads};

use crate::error::{Error, Kind, Result};
use crate::resolution::Package;
use crate::store::{
    self, Durability, Entry, Existing, File, FillOptions, Filled, Form, Fresh, Prepared, Shelf,
    Store, Written, sync_tree,
};

/// How to write an environment.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Who copies files.
    pub crew: &'a dyn Crew,
    /// Whether every stored file's digest is compared again.
    pub verify: bool,
    /// Whether the call returns only after everything is on the disk. A transaction of several
    /// environments says `Later` and calls [`sync_tree`] once.
    pub durability: Durability,
    /// Ends it between two files; whoever asked removes the staging directory.
    pub cancellation: &'a Cancellation,
    /// Where the digests of what is written are kept, for whoever describes it afterwards.
    pub written: Option<&'a Written>,
    /// Entries of packages that were read before.
    pub shelf: Option<&'a Shelf>,
    /// Packages that stand ready.
    pub prepared: Option<&'a Prepared>,
    /// Packages that were unpacked for this very installation.
    pub fresh: Option<&'a Fresh>,
}

impl Options<'_> {
    /// The entry of a package, read where it was not before.
    fn entry(&self, store: &Store, package: &Package) -> Result<Arc<Entry>> {
        match self.shelf.and_then(|shelf| shelf.get(package)) {
            Some(entry) => Ok(entry),
            None => store.require_shared(package),
        }
    }
}

impl Default for Options<'_> {
    fn default() -> Self {
        let (durability, cancellation) = (Durability::Later, Cancellation::NEVER);
        Self {
            crew: &Threads(1),
            verify: false,
            durability,
            cancellation,
            written: None,
            shelf: None,
            prepared: None,
            fresh: None,
        }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files, bytes, and how many of the files are clones.
    pub filled: Filled,
    /// Commands that can be run now.
    pub commands: Vec<String>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// Fills a staging directory. If the store turns out to be damaged, the packages that are concerned
/// are forgotten, so that the caller's next attempt fetches them.
fn fill(
    store: &Store,
    root: &Path,
    files: Vec<File>,
    packages: &[&Package],
    options: Options<'_>,
    existing: Existing,
) -> Result<Filled> {
    let Options { crew, verify, cancellation, written, .. } = options;
    let how = FillOptions { crew, verify, existing, cancellation, written };
    let filled = store.fill(root, files, how);
    if filled.as_ref().is_err_and(|error| error.code == store::DAMAGED) {
        for package in packages {
            if let Some(form) = Form::of(package.ecosystem) {
                store.check(&package.artifact.hashes, form, options.verify);
            }
        }
    }
    let filled = filled?;
    if options.durability == Durability::Now {
        sync_tree(root)?;
    }
    Ok(filled)
}

fn identity_mismatch(package: &Package, found: &str) -> Error {
    let message = format!(
        "`{}` should be {} {}, but says that it is {found}",
        package.artifact.file_name, package.name, package.version
    );
    Error::new(Kind::Verification, "identity-mismatch", message)
        .hint("the registry and the package disagree about what it is; choose another version")
}
