//! `package-lock.json` of npm 7 and later (versions 2 and 3): places, versions, digests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Locked;
use crate::ecosystem::Ecosystem;
use crate::install::npm::is_place;
use crate::io::npm::packument::integrity;
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
}

pub(super) fn read(text: &str) -> Result<Vec<Locked>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !matches!(file.version, 2 | 3) {
        return Err(format!("it is of version {}; known are 2 and 3", file.version));
    }
    Ok(file.packages.into_iter().filter_map(|(place, entry)| locked(place, entry)).collect())
}

/// A package of a registry; links, workspaces, and what comes from elsewhere are not.
fn locked(place: String, entry: Entry) -> Option<Locked> {
    let folder = place.rsplit_once("node_modules/")?.1;
    let name = entry.name.unwrap_or_else(|| folder.to_owned());
    let is_from_registry = entry
        .resolved
        .as_deref()
        .is_none_or(|resolved| resolved.starts_with("https://") || resolved.starts_with("http://"));
    if entry.link || !is_from_registry || !is_place(&place) {
        return None;
    }
    check_name(Ecosystem::Npm, &name).ok()?;
    Some(Locked {
        name,
        version: entry.version?,
        place,
        files: files(entry.integrity.as_deref().unwrap_or_default()),
        ..Locked::default()
    })
}

/// The only file of a version of an npm package, where there is a strong digest.
pub(super) fn files(text: &str) -> Vec<(String, Hashes)> {
    let hashes = integrity(text);
    if hashes.is_empty() { Vec::new() } else { vec![(String::new(), hashes)] }
}
