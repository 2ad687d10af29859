//! Crates that lie on this machine in the place of the public registry: what `cargo vendor` made (a `directory` source), or
//! `cargo local-registry` (a `local-registry` one). Those tools write them and cargo builds from them; here they are read.
//!
//! Everything in them may have been written by whoever wrote the project. Names and numbers are judged as a registry's are, files are
//! bounded, and what a lock gets is the digest that stands there, which cargo compares with its own lock.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use agents_contract::Crew;
use serde::Deserialize;

use super::MANIFEST;
use crate::error::{Error, Kind, Result};
use crate::install::cargo::{Examined, difference};
use crate::io::LocalCrates;
use crate::io::environment::read_small;
use crate::limits::{
    CARGO_INDEX_ENTRY_BYTES_MAX, CRATE_BYTES_EXAMINED_MAX, MANIFEST_BYTES_MAX,
    VENDORED_CHECKSUMS_BYTES_MAX, VENDORED_CRATES_MAX,
};
use crate::manifest::cargo_toml;
use crate::metadata::Hashes;
use crate::metadata::cargo::{self as metadata, Crate, Metadata};
use crate::resolution::Package;
use crate::transaction::Difference;

/// The list of digests in a vendored crate.
const CHECKSUMS: &str = ".cargo-checksum.json";

#[derive(Deserialize)]
struct Checksums {
    files: BTreeMap<String, String>,
    /// Of the `.crate`; a package of a git repository has none.
    package: Option<String>,
}

/// See the module.
pub(super) struct Local {
    source: LocalCrates,
    /// Of a directory, all that are there.
    vendored: HashMap<String, Arc<Crate>>,
    /// Of a local registry, those that were asked for.
    known: Mutex<HashMap<String, Arc<Crate>>>,
}

impl Local {
    /// Opens a source; of a directory all manifests are read, as cargo reads them.
    pub(super) fn open(source: LocalCrates) -> Result<Self> {
        let vendored = match &source {
            LocalCrates::Directory(place) => read_all(place)?,
            LocalCrates::Registry(_) => HashMap::new(),
        };
        Ok(Self { source, vendored, known: Mutex::default() })
    }

    fn index_entry(&self, place: &Path, name: &str) -> Result<Option<Arc<Crate>>> {
        crate::io::cargo::index::check_name(name)?;
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(krate) = known().get(name) {
            return Ok(Some(Arc::clone(krate)));
        }
        let lower = name.to_ascii_lowercase();
        let path = place.join("index").join(crate::io::cargo::index::relative_path(&lower));
        let Some(bytes) = small(&path, CARGO_INDEX_ENTRY_BYTES_MAX)? else { return Ok(None) };
        let krate = crate::io::cargo::index::parse(&bytes, name).map_err(|why| bad(&path, &why))?;
        let krate = Arc::new(krate);
        known().insert(name.to_owned(), Arc::clone(&krate));
        Ok(Some(krate))
    }
}

impl Metadata for Local {
    fn krate(&self, name: &str) -> Result<Arc<Crate>> {
        let (found, tool) = match &self.source {
            LocalCrates::Directory(_) => (self.vendored.get(name).cloned(), "cargo vendor"),
            LocalCrates::Registry(place) => {
                (self.index_entry(place, name)?, "cargo local-registry")
            }
        };
        found.ok_or_else(|| {
            let place = self.source.place().display();
            let message = format!("there is no crate `{name}` in `{place}`");
            Error::new(Kind::Failed, "unknown-package", message).hint(format!(
                "that is what cargo's configuration puts in the place of the registry; `{tool}` fills it"
            ))
        })
    }

    fn prefetch(&self, _name: &str) -> bool {
        true
    }
}

/// Every crate in a directory.
fn read_all(place: &Path) -> Result<HashMap<String, Arc<Crate>>> {
    let failed = |error: std::io::Error| Error::io("list", place, &error);
    let mut versions: HashMap<String, Vec<metadata::Version>> = HashMap::new();
    for (count, entry) in std::fs::read_dir(place).map_err(failed)?.enumerate() {
        if count >= VENDORED_CRATES_MAX {
            let message =
                format!("`{}` has more than {VENDORED_CRATES_MAX} crates", place.display());
            return Err(Error::new(Kind::Failed, "too-many-crates", message));
        }
        let entry = entry.map_err(failed)?;
        // As cargo has it: hidden ones are somebody else's.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if let Some((name, version)) = read_one(&entry.path())? {
            versions.entry(name).or_default().push(version);
        }
    }
    let packed = versions.into_iter().map(|(name, versions)| {
        let krate = Crate::new(&name, &versions)
            .map_err(|error| bad(place, &format!("`{name}` is too large: {error}")))?;
        Ok((name, Arc::new(krate)))
    });
    packed.collect()
}

/// One crate; `None` for what is none, or not one of a registry.
fn read_one(directory: &Path) -> Result<Option<(String, metadata::Version)>> {
    let Some(checksums) = checksums(directory)? else { return Ok(None) };
    let Some(sha256) = checksums.package else { return Ok(None) };
    let path = directory.join(MANIFEST);
    let Some(bytes) = small(&path, MANIFEST_BYTES_MAX as u64)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| bad(&path, "it is not UTF-8"))?;
    let manifest = cargo_toml::read(&path.to_string_lossy(), "", &text, None)?;
    let Some(package) = manifest.package else { return Ok(None) };
    let version = package.version.parse().map_err(|_| bad(&path, "its version is none"))?;
    let version = metadata::Version {
        version,
        dependencies: manifest.dependencies,
        features: manifest.features,
        yanked: false,
        links: package.links,
        rust_version: package.rust_version,
        hashes: Hashes { sha256: Some(sha256), sha512: None },
        published: None,
    };
    Ok(Some((package.name, version)))
}

fn checksums(directory: &Path) -> Result<Option<Checksums>> {
    let path = directory.join(CHECKSUMS);
    let Some(bytes) = small(&path, VENDORED_CHECKSUMS_BYTES_MAX)? else { return Ok(None) };
    let read: Checksums =
        serde_json::from_slice(&bytes).map_err(|error| bad(&path, &error.to_string()))?;
    let is_digest =
        |text: &String| text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit());
    match read.package.iter().chain(read.files.values()).all(is_digest) {
        true => Ok(Some(read)),
        false => Err(bad(&path, "a checksum is no SHA-256")),
    }
}

fn small(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>> {
    match read_small(path, bytes_max) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(Error::io("read", path, &error)),
    }
}

fn bad(path: &Path, why: &str) -> Error {
    let why = agents_versions::shorten(why);
    let message = format!("`{}` cannot be understood: {why}", path.display());
    Error::new(Kind::Verification, "bad-source", message)
        .hint("make the directory anew with the tool that made it")
}

/// Looks whether what a lock names is there as its tool wrote it.
pub(super) fn examine(
    source: &LocalCrates,
    crates: &[&Package],
    crew: &dyn Crew,
    keep_on: &(dyn Fn() -> Result<()> + Sync),
) -> Result<Examined> {
    let directories = match source {
        LocalCrates::Directory(place) => directories(place)?,
        LocalCrates::Registry(_) => HashMap::new(),
    };
    let found: Mutex<(u64, Vec<(PathBuf, Difference)>)> = Mutex::default();
    let failure: Mutex<Option<Error>> = Mutex::default();
    crew.run(crates.len(), &|at| {
        let package = crates[at];
        let looked = keep_on().and_then(|()| match source {
            LocalCrates::Directory(place) => vendored(place, &directories, package),
            LocalCrates::Registry(place) => {
                let name = format!("{}-{}.crate", package.name, package.version);
                crate::unpack::names::check(&name).map_err(|refusal| refusal.of(&name))?;
                let file = place.join(name);
                let expected = package.artifact.hashes.sha256.as_deref().unwrap_or_default();
                let found = difference(&file, CRATE_BYTES_EXAMINED_MAX, expected)?;
                Ok((1, found.map(|found| (file, found)).into_iter().collect()))
            }
        });
        match looked {
            Ok((count, findings)) => {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.0 += count;
                found.1.extend(findings);
            }
            Err(error) => {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    // What a crew does not begin is nothing that was found to be right.
    keep_on()?;
    let (looked_at, mut findings) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(Examined { looked_at, findings })
}

/// The directories of a vendored tree by the digests of their crates.
fn directories(place: &Path) -> Result<HashMap<String, PathBuf>> {
    let failed = |error: std::io::Error| Error::io("list", place, &error);
    let mut directories = HashMap::new();
    for entry in std::fs::read_dir(place).map_err(failed)?.take(VENDORED_CRATES_MAX) {
        let path = entry.map_err(failed)?.path();
        if let Some(package) = checksums(&path)?.and_then(|checksums| checksums.package) {
            directories.insert(package.to_ascii_lowercase(), path);
        }
    }
    Ok(directories)
}

/// Every file of a vendored crate, compared with the list of its digests.
fn vendored(
    place: &Path,
    directories: &HashMap<String, PathBuf>,
    package: &Package,
) -> Result<(u64, Vec<(PathBuf, Difference)>)> {
    let expected = package.artifact.hashes.sha256.as_deref().unwrap_or_default();
    let Some(directory) = directories.get(&expected.to_ascii_lowercase()) else {
        return Ok((1, vec![(place.join(&package.name), Difference::Missing)]));
    };
    let Some(checksums) = checksums(directory)? else {
        return Ok((1, vec![(directory.join(CHECKSUMS), Difference::Missing)]));
    };
    let mut findings = Vec::new();
    for (name, expected) in &checksums.files {
        crate::unpack::names::check(name).map_err(|refusal| refusal.of(name))?;
        let file = directory.join(name);
        if let Some(found) = difference(&file, CRATE_BYTES_EXAMINED_MAX, expected)? {
            findings.push((file, found));
        }
    }
    Ok((checksums.files.len() as u64, findings))
}
