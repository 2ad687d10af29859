//! Where artefacts are fetched from, for packages of a lock: it names digests and no addresses.
//!
//! Registries of npm have a version's archive in the same place below their own address, nearly all of them, and pnpm and bun rely on
//! that, too. So it is looked for there first; whether it is the right one its digest tells. Where that does not lead to it, the
//! registry is asked where it has its file of that name and version, which for npm means an answer about every version there is.

use std::str::FromStr;

use pep508_rs::PackageName;

use super::Task;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::Hashes;
use crate::metadata::cargo::Metadata as _;
use crate::resolution::Package;

/// How an address is found that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Where such a file is by custom; the registry is asked where there is none.
    Custom,
    /// The registry is asked.
    Asked,
}

impl Task<'_> {
    /// The address of each package, in their order.
    pub(super) fn addresses(&self, packages: &[&Package], by: Finding) -> Result<Vec<String>> {
        let custom = |package: &Package| match by {
            Finding::Custom => self.by_custom(package),
            Finding::Asked => None,
        };
        let found: Vec<Option<String>> = packages.iter().map(|package| custom(package)).collect();
        let unknown = packages.iter().zip(&found).filter(|(_, found)| found.is_none());
        for (package, _) in unknown.filter(|(package, _)| package.artifact.url.is_empty()) {
            match package.ecosystem {
                Ecosystem::Npm => {
                    self.registries.npm().prefetch(&package.name);
                }
                Ecosystem::Pypi => {
                    if let Ok(name) = PackageName::from_str(&package.name) {
                        self.registries.pypi().prefetch_project(&name);
                    }
                }
                Ecosystem::Cargo => {
                    let source = package.artifact.source.as_deref();
                    if let Ok(registry) = self.registries.cargo_source(source) {
                        registry.prefetch(&package.name);
                    }
                }
                Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {}
            }
        }
        let known = packages.iter().zip(found);
        known.map(|(package, found)| found.map_or_else(|| self.address(package), Ok)).collect()
    }

    /// Where a registry has it by custom, without asking; nothing where its address is known, or where there is no such custom.
    pub(super) fn by_custom(&self, package: &Package) -> Option<String> {
        let is_open = package.artifact.url.is_empty() && package.artifact.source.is_none();
        match package.ecosystem {
            Ecosystem::Npm if is_open => {
                self.registries.npm_tarball(&package.name, &package.version)
            }
            _ => None,
        }
    }

    fn address(&self, package: &Package) -> Result<String> {
        self.check_wanted()?;
        let artifact = &package.artifact;
        if !artifact.url.is_empty() {
            return Ok(artifact.url.clone());
        }
        match package.ecosystem {
            Ecosystem::Npm => {
                let packument = self.registries.npm().packument(&package.name)?;
                let version = packument.versions.get(&package.version);
                let version = version.ok_or_else(|| gone(package))?;
                check(package, &version.hashes)?;
                Ok(version.tarball.clone())
            }
            Ecosystem::Pypi => {
                let name = PackageName::from_str(&package.name).map_err(|_| gone(package))?;
                let project = self.registries.pypi().project(&name)?;
                let file = project.files().find(|file| file.name == artifact.file_name);
                let file = file.ok_or_else(|| gone(package))?;
                check(package, &file.hashes)?;
                Ok(file.url.clone())
            }
            Ecosystem::Cargo => {
                let version = package.version.parse().map_err(|_| gone(package))?;
                let registry = self.registries.cargo_source(artifact.source.as_deref())?;
                registry.artifact_url(&package.name, &version)
            }
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => Err(gone(package)),
        }
    }
}

fn gone(package: &Package) -> Error {
    let file = &package.artifact.file_name;
    let message =
        format!("`{file}` of `{}` is locked, and the registry does not have it", package.purl());
    Error::new(Kind::Failed, "locked-version-gone", message)
        .hint("run `bolide update` with its name to choose another version")
}

/// Ends it before the download where the registry itself says that it has other bytes.
fn check(package: &Package, offered: &Hashes) -> Result<()> {
    let locked = &package.artifact.hashes;
    let differ = |one: &Option<String>, other: &Option<String>| {
        one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one != other)
    };
    if !differ(&locked.sha512, &offered.sha512) && !differ(&locked.sha256, &offered.sha256) {
        return Ok(());
    }
    let message =
        format!("the registry offers other bytes for `{}` than `bolide.lock` says", package.purl());
    Err(Error::new(Kind::Verification, "hash-mismatch", message)
        .hint("find out which of the two is right; nothing was changed"))
}
