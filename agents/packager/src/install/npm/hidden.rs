//! npm's hidden lock, `node_modules/.package-lock.json`: what npm believes of a tree instead of reading it, as long as no directory of the
//! tree is newer. Written only where a package is named by its archive: npm calls such a dependency right when it knows where the package
//! came from, and only this file (or npm's own lock) can tell it.
//!
//! It says of each package what its own description says, understood as npm understands it. What cannot be said of all of them is not
//! said at all: a tree without it is read package by package, which is always right but for those archives. Nothing follows from it here,
//! and what is found in it later is nobody's edit: npm writes it anew as it likes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use serde_json::{Map, Value, json};

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Result};
use crate::io::npm::packument;
use crate::limits::{LOCK_BYTES_MAX, PACKAGE_DESCRIPTION_BYTES_MAX};
use crate::metadata::npm::Version;
use crate::resolution::{Package, Resolution};
use crate::store::{Entry, Store};

/// Its name in `node_modules`.
const FILE: &str = ".package-lock.json";
/// The version of its format.
const VERSION: u32 = 3;

/// Whether a tree needs one.
pub(crate) fn is_needed(resolution: &Resolution) -> bool {
    let of_npm = resolution.ecosystem == Ecosystem::Npm;
    of_npm && resolution.packages.iter().any(|package| package.artifact.by_address)
}

/// Writes it into the `node_modules` that is staged, after everything else: it has to be the newest there.
pub(super) fn write(store: &Store, resolution: &Resolution, staging: &Path) -> Result<()> {
    let Some(packages) = packages(store, resolution)? else { return Ok(()) };
    let lock = json!({ "lockfileVersion": VERSION, "requires": true, "packages": packages });
    let text = format!("{lock:#}\n");
    if text.len() > LOCK_BYTES_MAX {
        return Ok(());
    }
    let path = staging.join(FILE);
    std::fs::write(&path, text).map_err(|error| Error::io("write", &path, &error))
}

/// Where it is in a project.
pub(crate) fn place(project: &Path) -> PathBuf {
    project.join(super::ROOT).join(FILE)
}

/// Says that what a project's tree is called is as new as its directories, which have just taken their places. Where that fails npm
/// reads the tree instead.
pub(crate) fn freshen(project: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    if let Err(error) =
        rustix::fs::utimensat(CWD, place(project), &times, AtFlags::SYMLINK_NOFOLLOW)
    {
        tracing::debug!(%error, "npm will read the tree");
    }
}

/// What is said of each place; `None` where it cannot be said of all.
fn packages(store: &Store, resolution: &Resolution) -> Result<Option<BTreeMap<String, Value>>> {
    let places: HashSet<&str> = resolution.packages.iter().map(|it| it.place.as_str()).collect();
    let mut packages = BTreeMap::new();
    for package in &resolution.packages {
        let entry = store.require(package)?;
        let Some(mut said) = said(store, &entry, "")? else { return Ok(None) };
        said.insert("version".to_owned(), json!(package.version));
        let [name, folder] = package.names();
        if folder != name {
            said.insert("name".to_owned(), json!(package.name));
        }
        let origin = origin(package);
        said.extend(origin.map(|(key, value)| (key.to_owned(), Value::from(value))));
        packages.insert(package.place.clone(), Value::Object(said));
        for inside in bundled(&entry) {
            let place = format!("{}/{inside}", package.place);
            if !super::is_inside_of_another(&format!("{place}/x"), &package.place, &places) {
                let said = self::said(store, &entry, &format!("{inside}/"))?.unwrap_or_default();
                packages.insert(place, Value::Object(said));
            }
        }
    }
    for link in &resolution.links {
        packages.insert(link.place.clone(), json!({ "resolved": link.target, "link": true }));
        // npm reads the description of what lies outside of `node_modules` itself.
        packages.entry(link.target.clone()).or_insert_with(|| json!({}));
    }
    Ok(Some(packages))
}

/// Where a package came from, and its digest. What a registry has its files asked for with may be a secret, and is not needed there.
fn origin(package: &Package) -> impl Iterator<Item = (&'static str, String)> {
    let artifact = &package.artifact;
    let of_registry = Some(&artifact.url).filter(|it| !it.is_empty() && !it.contains('?'));
    let resolved = artifact.source.as_ref().or(of_registry);
    let digest = artifact.hashes.sha512.as_deref().and_then(bytes_of);
    let integrity = digest.map(|digest| format!("sha512-{}", STANDARD.encode(digest)));
    let resolved = resolved.map(|resolved| ("resolved", resolved.clone()));
    resolved.into_iter().chain(integrity.map(|text| ("integrity", text)))
}

fn bytes_of(digest: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(digest.get(at..at + 2)?, 16).ok();
    (0..digest.len()).step_by(2).map(pair).collect()
}

/// The directories below an archive's own `node_modules` in which npm looks for packages.
fn bundled(entry: &Entry) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in entry.files.iter().filter(|file| file.path.starts_with("node_modules/")) {
        let mut parts = file.path.split('/').collect::<Vec<_>>();
        // The file itself is no directory.
        parts.pop();
        let mut at = 0;
        while parts.get(at) == Some(&super::ROOT) {
            let is_scope = parts.get(at + 1).is_some_and(|name| name.starts_with('@'));
            at += if is_scope { 3 } else { 2 };
            let Some(place) = parts.get(..at) else { break };
            if place.iter().any(|part| part.starts_with('.')) {
                break;
            }
            found.insert(place.join("/"));
        }
    }
    found
}

/// What a description in an archive says; `None` where it cannot be understood. `folder` ends with a slash, or is empty.
fn said(store: &Store, entry: &Entry, folder: &str) -> Result<Option<Map<String, Value>>> {
    let Some(file) = entry.file(&format!("{folder}package.json")) else { return Ok(None) };
    if file.object.size > PACKAGE_DESCRIPTION_BYTES_MAX {
        return Ok(None);
    }
    let bytes = store.read_object(&file.object, PACKAGE_DESCRIPTION_BYTES_MAX)?;
    let plain = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let Ok(Value::Object(written)) = serde_json::from_slice(plain) else { return Ok(None) };
    let text = |key: &str| written.get(key).and_then(Value::as_str).unwrap_or_default().trim();
    let files = entry.files.iter().filter_map(|file| file.path.strip_prefix(folder));
    let Ok(version) = packument::described(&bytes, (text("name"), text("version")), files) else {
        return Ok(None);
    };
    let mut said = fields(&version);
    said.extend(["engines", "funding"].iter().filter_map(|key| {
        let value = written.get(*key).filter(|value| value.is_object() || value.is_array())?;
        Some(((*key).to_owned(), value.clone()))
    }));
    Ok(Some(said))
}

/// The fields that npm keeps, where they say something.
fn fields(version: &Version) -> Map<String, Value> {
    let optional: Map<String, Value> = version
        .optional_peers
        .iter()
        .map(|name| (name.clone(), json!({"optional": true})))
        .collect();
    let all = [
        ("version", json!(version.version)),
        ("dependencies", json!(version.dependencies)),
        ("optionalDependencies", json!(version.optional_dependencies)),
        ("peerDependencies", json!(version.peer_dependencies)),
        ("peerDependenciesMeta", Value::Object(optional)),
        ("bundleDependencies", json!(version.bundled)),
        ("bin", json!(version.bin)),
        ("os", json!(version.os)),
        ("cpu", json!(version.cpu)),
        ("libc", json!(version.libc)),
        ("license", json!(version.license)),
        ("deprecated", json!(version.deprecated)),
        ("hasInstallScript", json!(!version.install_scripts.is_empty())),
    ];
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(table) => !table.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    };
    let all = all.into_iter().filter(|(_, value)| says(value));
    all.map(|(key, value)| (key.to_owned(), value)).collect()
}
