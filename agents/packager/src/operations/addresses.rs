//! Where artefacts are fetched from, for packages of a lock: it names digests, and the configured registry says where its file of
//! that name and version lies.

use std::str::FromStr;

use pep508_rs::PackageName;

use super::Task;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::Hashes;
use crate::metadata::cargo::Metadata as _;
use crate::resolution::Package;

impl Task<'_> {
    /// The address of each package, in their order.
    pub(super) fn addresses(&self, packages: &[&Package]) -> Result<Vec<String>> {
        for package in packages.iter().filter(|package| package.artifact.url.is_empty()) {
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
        packages.iter().map(|package| self.address(package)).collect()
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
