//! Packages that stand inside of another one's archive because it bundles them. npm gives their commands links as well, in the
//! `.bin` beside them; nothing of them is in the resolution.
//!
//! What they say of themselves is their own: a description that cannot be read, or a command that would leave its package, is
//! left out, as npm leaves it out.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::error::Result;
use crate::limits;
use crate::resolution::Package;
use crate::store::{Entry, Store, StoredFile};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bundled {
    /// Its place, from the project's directory.
    pub(super) place: String,
    /// The place of the package that brings it, and its own path in there.
    pub(super) owner: String,
    pub(super) inside: String,
    /// Its commands and their files, as it writes them.
    pub(super) bin: BTreeMap<String, String>,
}

/// Those of one package that are installed: a planned package takes the place of a bundled one.
pub(super) fn of(
    store: &Store,
    package: &Package,
    entry: &Entry,
    places: &HashSet<&str>,
) -> Result<Vec<Bundled>> {
    let mut descriptions = entry.files.iter().filter(|file| is_description(&file.path)).peekable();
    if descriptions.peek().is_none() || !bundles(store, entry)? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for file in descriptions {
        let Some((inside, _)) = file.path.rsplit_once('/') else { continue };
        let place = format!("{}/{inside}", package.place);
        if super::is_inside_of_another(&format!("{place}/x"), &package.place, places) {
            continue;
        }
        let Some(description) = read(store, file)? else { continue };
        let bin = commands(&description, inside);
        if !bin.is_empty() {
            let (owner, inside) = (package.place.clone(), inside.to_owned());
            found.push(Bundled { place, owner, inside, bin });
        }
    }
    Ok(found)
}

/// Whether a path is that of a package's description below `node_modules`.
fn is_description(path: &str) -> bool {
    let Some(directory) = path.strip_suffix("/package.json") else { return false };
    directory.starts_with("node_modules/") && super::is_place(directory)
}

/// Whether a package says that it brings others along.
fn bundles(store: &Store, entry: &Entry) -> Result<bool> {
    let Some(file) = entry.file("package.json") else { return Ok(false) };
    let Some(description) = read(store, file)? else { return Ok(false) };
    let said = ["bundleDependencies", "bundledDependencies"].map(|key| &description[key]);
    Ok(said.into_iter().any(|said| match said {
        Value::Array(names) => !names.is_empty(),
        Value::Bool(all) => *all,
        _ => false,
    }))
}

fn read(store: &Store, file: &StoredFile) -> Result<Option<Value>> {
    if file.object.size > limits::PACKAGE_DESCRIPTION_BYTES_MAX {
        return Ok(None);
    }
    let bytes = store.read_object(&file.object, limits::PACKAGE_DESCRIPTION_BYTES_MAX)?;
    Ok(serde_json::from_slice(&bytes).ok())
}

/// Commands by name: a text alone is the command of the package's own name.
fn commands(description: &Value, inside: &str) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match &description["bin"] {
        Value::String(path) => {
            let name = description["name"].as_str().or_else(|| inside.rsplit('/').next());
            name.map(|name| (name.to_owned(), path.clone())).into_iter().collect()
        }
        Value::Object(bin) => {
            bin.iter().filter_map(|(name, path)| Some((name.clone(), text(path)?))).collect()
        }
        _ => BTreeMap::new(),
    }
}
