//! `package-lock.json` of npm 7 and later (versions 2 and 3): places, versions, digests.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::Locked;
use crate::ecosystem::Ecosystem;
use crate::install::npm::is_place;
use crate::io::npm::packument::integrity;
use crate::manifest::package_json::named::{MORE_BEHIND, Named, named};
use crate::metadata::Hashes;
use crate::spec::check_name;

pub(super) const FILE: &str = "package-lock.json";

#[derive(Deserialize)]
struct File {
    #[serde(rename = "lockfileVersion", default)]
    version: u32,
    #[serde(default)]
    packages: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: Option<String>,
    version: Option<String>,
    resolved: Option<String>,
    integrity: Option<String>,
    #[serde(default)]
    link: bool,
    dependencies: Option<Value>,
    #[serde(rename = "devDependencies")]
    dev_dependencies: Option<Value>,
    #[serde(rename = "optionalDependencies")]
    optional_dependencies: Option<Value>,
    #[serde(rename = "peerDependencies")]
    peer_dependencies: Option<Value>,
}

impl Entry {
    /// The right sides of what it asks for.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let tables = [
            &self.dependencies,
            &self.dev_dependencies,
            &self.optional_dependencies,
            &self.peer_dependencies,
        ];
        let tables = tables.into_iter().flatten().filter_map(Value::as_object);
        tables.flat_map(|table| table.values()).filter_map(Value::as_str)
    }
}

pub(super) fn read(text: &str) -> Result<Vec<Locked>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !matches!(file.version, 2 | 3) {
        return Err(format!("it is of version {}; known are 2 and 3", file.version));
    }
    let texts = file.packages.values().flat_map(Entry::texts);
    let is_address =
        |text: &str| matches!(named(text), Some(Named::Address | Named::Refused(MORE_BEHIND)));
    let texts = texts.filter(|text| is_address(text));
    let addresses: HashSet<String> = texts.map(str::to_owned).collect();
    let packages = file.packages.into_iter();
    Ok(packages.filter_map(|(place, entry)| locked(place, entry, &addresses)).collect())
}

/// A package of a registry, or one that is asked for by its archive: at one of these addresses, or in a file. Links, workspaces, and what
/// comes from elsewhere are not.
fn locked(place: String, entry: Entry, addresses: &HashSet<String>) -> Option<Locked> {
    let folder = place.rsplit_once("node_modules/")?.1;
    let name = entry.name.unwrap_or_else(|| folder.to_owned());
    let resolved = entry.resolved.as_deref().map(|resolved| (resolved, named(resolved)));
    let source = match resolved {
        None => None,
        Some((resolved, Some(Named::Address))) => {
            Some(resolved.to_owned()).filter(|_| addresses.contains(resolved))
        }
        // A registry may have such ones for its files; who asks for an archive by one is refused.
        Some((resolved, Some(Named::Refused(MORE_BEHIND)))) if !addresses.contains(resolved) => {
            None
        }
        // npm writes it from the project, as we do.
        Some((resolved, Some(Named::Path { is_archive: true, .. }))) => Some(resolved.to_owned()),
        Some(_) => return None,
    };
    if entry.link || !is_place(&place) {
        return None;
    }
    check_name(Ecosystem::Npm, &name).ok()?;
    Some(Locked {
        name,
        version: entry.version?,
        place,
        source,
        files: files(entry.integrity.as_deref().unwrap_or_default()),
        ..Locked::default()
    })
}

/// The only file of a version of an npm package, where there is a strong digest.
pub(super) fn files(text: &str) -> Vec<(String, Hashes)> {
    let hashes = integrity(text);
    if hashes.is_empty() { Vec::new() } else { vec![(String::new(), hashes)] }
}
