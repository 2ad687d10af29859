//! The entries of artefacts that an operation has read, so that it reads each of them once.
//!
//! What is on it was whole when it was read. The files of an entry are looked at when they are used, whoever read the entry, and an
//! operation that finds one damaged makes another shelf.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use agents_contract::Crew;

use super::{Entry, Form, Store, entry};
use crate::resolution::Package;

/// Entries by the names of their artefacts.
#[derive(Debug, Default)]
pub struct Shelf(HashMap<String, Arc<Entry>>);

impl Store {
    /// Reads the entries of these packages that are here. Where the crew leaves out what nobody wants any more they are missing.
    pub fn shelf(&self, packages: &[&Package], crew: &dyn Crew) -> Shelf {
        let read: Vec<OnceLock<Option<Arc<Entry>>>> =
            packages.iter().map(|_| OnceLock::new()).collect();
        crew.run(packages.len(), &|index| {
            // Each piece is run once.
            let package = packages[index];
            let form = Form::of(package.ecosystem);
            let entry = |form| self.shared_entry(&package.artifact.hashes, form);
            let _ = read[index].set(form.and_then(entry));
        });
        let found = packages
            .iter()
            .zip(read)
            .filter_map(|(package, read)| Some((name(package)?, read.into_inner().flatten()?)));
        Shelf(found.collect())
    }
}

impl Shelf {
    /// The entry of a package, where it is on the shelf.
    pub fn get(&self, package: &Package) -> Option<Arc<Entry>> {
        self.0.get(&name(package)?).map(Arc::clone)
    }
}

/// Any of an artefact's names will do, and the first one is always the same.
fn name(package: &Package) -> Option<String> {
    entry::names(&package.artifact.hashes, Form::of(package.ecosystem)?).into_iter().next()
}
