//! The names of what is in the store, for people who look for something.

use std::fs::File;
use std::io::Read;

use super::{Form, Store, entry};
use crate::limits::{STORE_NAME_BYTES_MAX, STORE_NAMES_MAX};

impl Store {
    /// Form, name and version of the artefacts in the store, in no order, at most [`STORE_NAMES_MAX`]. Only the beginnings of the
    /// entries are read, so one that is damaged further on is named, too.
    pub fn names(&self) -> Vec<(Form, String, String)> {
        let index = self.root.join("index");
        let folders = std::fs::read_dir(index).into_iter().flatten().flatten();
        let files = folders
            .flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
        let named = files.filter_map(|file| {
            let mut bytes = Vec::new();
            let file = File::open(file.path()).ok()?;
            file.take(STORE_NAME_BYTES_MAX).read_to_end(&mut bytes).ok()?;
            entry::name(&bytes)
        });
        named.take(STORE_NAMES_MAX).collect()
    }
}
