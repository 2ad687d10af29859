//! What other tools locked: their versions are preferred as if they were locked here, and their digests have to agree with
//! the registry's. Nothing else is taken from them; above all no address, so that a lock cannot send a download elsewhere.
//!
//! A lock that cannot be read is passed over with a warning, not obeyed in part: it is not ours, and nothing depends on it but the
//! first choice of versions.

mod cargo;
mod npm;
mod pnpm;
mod pypi;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::limits::LOCK_PACKAGES_MAX;
use crate::metadata::Hashes;
use crate::metadata::cargo::scope::is_same;
use crate::resolution::{Package, Resolution};
use crate::transaction::{Project, RelativePath};
use agents_versions::shorten;

/// The lock of another tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Its file.
    pub(crate) file: String,
    /// What it locks.
    pub(crate) packages: Vec<Locked>,
    /// Why it was passed over, where it was.
    pub(crate) problem: Option<String>,
}

/// One package of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locked {
    /// The normalised name.
    pub(crate) name: String,
    /// The version as written.
    pub(crate) version: String,
    /// npm: where it stands; empty for other ecosystems.
    pub(crate) place: String,
    /// Crates: the registry, where it is not the default one. npm: the archive that is asked for by its address or path, without what may be
    /// a secret.
    pub(crate) source: Option<String>,
    /// Digests by file; an empty name is the only file of the version.
    pub(crate) files: Vec<(String, Hashes)>,
    /// SHA-256 digests of which one has to be that of the file, whichever it is; empty allows any.
    pub(crate) digests: Vec<String>,
}

impl Imported {
    /// Takes over the digests that the lock has beside those of the registry.
    ///
    /// # Errors
    /// `hash-mismatch` where the two disagree about the same artefact: one of them was tampered with.
    pub(crate) fn keep_hashes(&self, resolution: &mut Resolution) -> Result<()> {
        if let Some(problem) = &self.problem {
            resolution.warnings.push(format!("`{}` is passed over: {problem}", self.file));
        }
        let mut known: HashMap<(&str, &str), Vec<&Locked>> = HashMap::new();
        for locked in &self.packages {
            known.entry((&locked.name, &locked.version)).or_default().push(locked);
        }
        // An npm archive was compared where it was looked at, unless an update asked for what is there now.
        let is_archive = |it: &Package| it.artifact.by_address && it.artifact.source.is_some();
        for package in resolution.packages.iter_mut().filter(|it| !is_archive(it)) {
            let known = known.get(&(package.name.as_str(), package.version.as_str())).cloned();
            for locked in known.into_iter().flatten() {
                if !is_same(locked.source.as_deref(), package.artifact.source.as_deref()) {
                    continue;
                }
                for (file, hashes) in &locked.files {
                    if file.is_empty() || *file == package.artifact.file_name {
                        self.join(package, hashes)?;
                    }
                }
                let digest = package.artifact.hashes.sha256.as_ref();
                if !locked.digests.is_empty()
                    && !digest.is_some_and(|it| locked.digests.contains(it))
                {
                    return Err(self.mismatch(&package.name, &package.version));
                }
            }
        }
        Ok(())
    }

    fn join(&self, package: &mut Package, other: &Hashes) -> Result<()> {
        let own = &mut Arc::make_mut(&mut package.artifact).hashes;
        for (own, other) in [(&mut own.sha512, &other.sha512), (&mut own.sha256, &other.sha256)] {
            match (own.as_ref(), other) {
                (Some(own), Some(other)) if own != other => {
                    return Err(self.mismatch(&package.name, &package.version));
                }
                (None, Some(other)) => *own = Some(other.clone()),
                _ => {}
            }
        }
        Ok(())
    }

    fn mismatch(&self, name: &str, version: &str) -> Error {
        let message = format!(
            "`{}` and the registry give different hashes for `{name}` {version}",
            self.file
        );
        Error::new(Kind::Verification, "hash-mismatch", message)
            .hint("find out which of the two is right; nothing was changed")
    }
}

/// What npm or pnpm locked.
pub(crate) fn npm(project: &Project) -> Result<Option<Imported>> {
    if let Some(text) = read(project, npm::FILE)? {
        return Ok(Some(usable(npm::FILE, npm::read(&text))));
    }
    let Some(text) = read(project, pnpm::FILE)? else { return Ok(None) };
    Ok(Some(usable(pnpm::FILE, pnpm::read(&text))))
}

/// What uv or pip's tools locked; `manifest` is the file that says what is wanted, and never its own lock.
pub(crate) fn pypi(project: &Project, manifest: &str) -> Result<Option<Imported>> {
    if let Some(text) = read(project, pypi::UV_FILE)? {
        return Ok(Some(usable(pypi::UV_FILE, pypi::read_uv(&text))));
    }
    if manifest == pypi::PINS_FILE {
        return Ok(None);
    }
    let Some(text) = read(project, pypi::PINS_FILE)? else { return Ok(None) };
    Ok(Some(usable(pypi::PINS_FILE, pypi::read_pins(&text))))
}

/// What cargo locked of crates from registries; `default` is the default one's source. Unlike the others it is not passed over: cargo
/// goes by it.
pub(crate) fn cargo(text: &str, default: &str) -> Result<Imported> {
    cargo::read(text, default)
}

fn read(project: &Project, file: &str) -> Result<Option<String>> {
    let bytes = project.read_file(&RelativePath::new(file)?)?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
}

fn usable(file: &str, read: std::result::Result<Vec<Locked>, String>) -> Imported {
    let file = file.to_owned();
    match read {
        Ok(mut packages) => {
            packages.truncate(LOCK_PACKAGES_MAX);
            Imported { file, packages, problem: None }
        }
        Err(problem) => Imported { file, packages: Vec::new(), problem: Some(shorten(&problem)) },
    }
}
