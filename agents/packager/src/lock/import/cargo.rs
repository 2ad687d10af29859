//! The digests of `Cargo.lock`. Its versions are read by the resolver's own reader of that file.

use serde::Deserialize;

use super::{Imported, Locked};
use crate::error::{Error, Kind, Result};
use crate::limits::LOCK_PACKAGES_MAX;
use crate::metadata::Hashes;
use crate::metadata::cargo::scope::is_same;

const FILE: &str = "Cargo.lock";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    package: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

pub(super) fn read(text: &str, default: &str) -> Result<Imported> {
    let file: File = toml::from_str(text).map_err(|error| {
        let message = format!("the existing `{FILE}` does not parse: {}", error.message());
        Error::new(Kind::Failed, "bad-lock", message)
            .hint("repair it, or remove it to have it made anew")
    })?;
    let is_registry =
        |source: &str| ["registry+", "sparse+"].iter().any(|it| source.starts_with(it));
    let here = |entry: &Entry| entry.source.as_deref().is_some_and(is_registry);
    let entries = file.package.into_iter().filter(here).take(LOCK_PACKAGES_MAX);
    let packages = entries.map(|entry| {
        let source = entry.source.filter(|source| !is_same(Some(source), Some(default)));
        let hashes = Hashes { sha256: entry.checksum, sha512: None };
        let files = vec![(String::new(), hashes)];
        Locked { name: entry.name, version: entry.version, files, source, ..Locked::default() }
    });
    Ok(Imported { file: FILE.to_owned(), packages: packages.collect(), problem: None })
}
