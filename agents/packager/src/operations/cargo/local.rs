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
    CARGO_INDEX_ENTRY_BYTES_MAX, CRATE_BYTES_EXAMINED_MAX, MANIFEST_BYTES_MAX, VENDORED_BYTES_MAX,
    VENDORED_CHECKSUMS_BYTES_MAX, VENDORED_CRATES_MAX,
};
use crate::manifest::cargo_toml::{self, Manifest};
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
    /// Opens a source; of a directory all manifests are read, as cargo reads them, while `keep_on` lets it.
    pub(super) fn open(source: LocalCrates, keep_on: &dyn Fn() -> Result<()>) -> Result<Self> {
        let vendored = match &source {
            LocalCrates::Directory(place) => read_all(place, VENDORED_BYTES_MAX, keep_on)?,
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

/// A walk through a directory of crates: bounded in their number and in what is read of them, and no longer than it is wanted.
struct Walk<'k> {
    place: PathBuf,
    bytes_left: u64,
    keep_on: &'k dyn Fn() -> Result<()>,
}

impl Walk<'_> {
    /// Looks at each directory. As cargo has it: hidden ones are somebody else's.
    fn each(&mut self, mut look: impl FnMut(&mut Self, &Path) -> Result<()>) -> Result<()> {
        let place = self.place.clone();
        let failed = |error: std::io::Error| Error::io("list", &place, &error);
        for (count, entry) in std::fs::read_dir(&place).map_err(failed)?.enumerate() {
            (self.keep_on)()?;
            if count >= VENDORED_CRATES_MAX {
                return Err(self.too_many(&format!("more than {VENDORED_CRATES_MAX} crates")));
            }
            let entry = entry.map_err(failed)?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                look(self, &entry.path())?;
            }
        }
        Ok(())
    }

    fn too_many(&self, what: &str) -> Error {
        let message = format!("`{}` has {what}", self.place.display());
        Error::new(Kind::Failed, "too-many-crates", message)
            .hint("take out what the project does not need: `cargo vendor` makes it anew")
    }

    /// Reads one of many files.
    fn small(&mut self, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = small(path, bytes_max)? else { return Ok(None) };
        match self.bytes_left.checked_sub(bytes.len() as u64) {
            Some(left) => self.bytes_left = left,
            None => return Err(self.too_many("too many bytes in its manifests and checksums")),
        }
        Ok(Some(bytes))
    }

    fn checksums(&mut self, directory: &Path) -> Result<Option<Checksums>> {
        let path = directory.join(CHECKSUMS);
        let bytes = self.small(&path, VENDORED_CHECKSUMS_BYTES_MAX)?;
        bytes.map(|bytes| parsed(&path, &bytes)).transpose()
    }

    /// One crate; `None` for what is none, or not one of a registry.
    fn krate(&mut self, directory: &Path) -> Result<Option<(String, metadata::Version)>> {
        let Some(checksums) = self.checksums(directory)? else { return Ok(None) };
        let Some(sha256) = checksums.package else { return Ok(None) };
        let path = directory.join(MANIFEST);
        let bytes = self.small(&path, MANIFEST_BYTES_MAX as u64)?;
        let Some(manifest) = bytes.map(|bytes| published(&path, bytes)).transpose()? else {
            return Ok(None);
        };
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
}

/// Every crate in a directory.
fn read_all(
    place: &Path,
    bytes_max: u64,
    keep_on: &dyn Fn() -> Result<()>,
) -> Result<HashMap<String, Arc<Crate>>> {
    let mut versions: HashMap<String, BTreeMap<semver::Version, metadata::Version>> =
        HashMap::new();
    let mut walk = Walk { place: place.to_owned(), bytes_left: bytes_max, keep_on };
    walk.each(|walk, directory| {
        let Some((name, version)) = walk.krate(directory)? else { return Ok(()) };
        let number = version.version.clone();
        match versions.entry(name.clone()).or_default().insert(number.clone(), version) {
            // Which of them cargo takes is chance.
            Some(_) => Err(bad(place, &format!("`{name}` {number} is there twice"))),
            None => Ok(()),
        }
    })?;
    let packed = versions.into_iter().map(|(name, versions)| {
        let versions: Vec<metadata::Version> = versions.into_values().collect();
        let krate = Crate::new(&name, &versions)
            .map_err(|error| bad(place, &format!("`{name}` is too large: {error}")))?;
        Ok((name, Arc::new(krate)))
    });
    packed.collect()
}

fn published(path: &Path, bytes: Vec<u8>) -> Result<Manifest> {
    let text = String::from_utf8(bytes).map_err(|_| bad(path, "it is not UTF-8"))?;
    cargo_toml::read_published(&path.to_string_lossy(), &text)
}

fn checksums(directory: &Path) -> Result<Option<Checksums>> {
    let path = directory.join(CHECKSUMS);
    let bytes = small(&path, VENDORED_CHECKSUMS_BYTES_MAX)?;
    bytes.map(|bytes| parsed(&path, &bytes)).transpose()
}

fn parsed(path: &Path, bytes: &[u8]) -> Result<Checksums> {
    let read: Checksums =
        serde_json::from_slice(bytes).map_err(|error| bad(path, &error.to_string()))?;
    let is_digest =
        |text: &String| text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit());
    match read.package.iter().chain(read.files.values()).all(is_digest) {
        true => Ok(read),
        false => Err(bad(path, "a checksum is no SHA-256")),
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
        LocalCrates::Directory(place) => directories(place, keep_on)?,
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

/// The directories of a vendored tree by the digests of their crates: each that claims to be one, since cargo may take any of them.
fn directories(
    place: &Path,
    keep_on: &dyn Fn() -> Result<()>,
) -> Result<HashMap<String, Vec<PathBuf>>> {
    let mut directories: HashMap<String, Vec<PathBuf>> = HashMap::new();
    let bytes_left = VENDORED_BYTES_MAX;
    Walk { place: place.to_owned(), bytes_left, keep_on }.each(|walk, directory| {
        if let Some(package) = walk.checksums(directory)?.and_then(|checksums| checksums.package) {
            let of_digest = directories.entry(package.to_ascii_lowercase()).or_default();
            of_digest.push(directory.to_owned());
        }
        Ok(())
    })?;
    Ok(directories)
}

/// Every file of a vendored crate, compared with the list of its digests.
fn vendored(
    place: &Path,
    directories: &HashMap<String, Vec<PathBuf>>,
    package: &Package,
) -> Result<(u64, Vec<(PathBuf, Difference)>)> {
    let expected = package.artifact.hashes.sha256.as_deref().unwrap_or_default();
    let Some(directories) = directories.get(&expected.to_ascii_lowercase()) else {
        return Ok((1, vec![(place.join(&package.name), Difference::Missing)]));
    };
    let (mut count, mut findings) = (0, Vec::new());
    for directory in directories {
        count += one_vendored(directory, package, &mut findings)?;
    }
    Ok((count, findings))
}

/// One directory that claims to be a crate; how many files it has.
fn one_vendored(
    directory: &Path,
    package: &Package,
    findings: &mut Vec<(PathBuf, Difference)>,
) -> Result<u64> {
    let Some(checksums) = checksums(directory)? else {
        findings.push((directory.join(CHECKSUMS), Difference::Missing));
        return Ok(1);
    };
    for (name, expected) in &checksums.files {
        crate::unpack::names::check(name).map_err(|refusal| refusal.of(name))?;
        let file = directory.join(name);
        if let Some(found) = difference(&file, CRATE_BYTES_EXAMINED_MAX, expected)? {
            findings.push((file, found));
        }
    }
    let path = directory.join(MANIFEST);
    let is_found = findings.iter().any(|(file, _)| *file == path);
    let manifest = match small(&path, MANIFEST_BYTES_MAX as u64)? {
        Some(bytes) if !is_found => published(&path, bytes)?.package,
        _ => None,
    };
    let is_it = manifest.is_some_and(|it| it.name == package.name && it.version == package.version);
    if !is_it && !is_found {
        // Another crate's digest in its list.
        findings.push((path, Difference::Content));
    }
    Ok(checksums.files.len() as u64)
}

#[cfg(test)]
mod tests;
