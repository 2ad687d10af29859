//! `pkg.outdated`: for what the project asks for, the version it has, the newest that its manifest allows, and the newest.
//!
//! What a registry offers is compared as the ecosystem's own client compares it: npm's `latest` tag, final releases before
//! pre-releases, and nothing that was withdrawn. Whether other packages allow it is the resolver's question.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;

use pep508_rs::{PackageName, VersionOrUrl};

use super::read::npm_version;
use super::{Task, cargo, npm, pypi};
use crate::api::{OutdatedAnswer, OutdatedPackage};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata;
use crate::metadata::cargo::Metadata as _;
use crate::metadata::cargo::scope::is_same;
use crate::resolution::{Package, Resolution};
use crate::spec::Spec;
use crate::transaction::Project;

/// The newest versions of a package.
pub(super) struct Newest {
    pub(super) allowed: Option<String>,
    pub(super) newest: String,
}

impl Task<'_> {
    /// What is installed; for an ecosystem of which nothing is, what is locked.
    pub(super) fn current(&self, project: &Project) -> Result<BTreeMap<Ecosystem, Resolution>> {
        let locked = super::locked::Locked::read(project, &self.shop.locks)?.lock;
        let locked = Arc::unwrap_or_clone(locked).parts;
        let mut current: BTreeMap<Ecosystem, Resolution> =
            locked.into_iter().map(|(ecosystem, part)| (ecosystem, part.resolution)).collect();
        current.extend(self.installed(project)?);
        Ok(current)
    }

    /// What could be newer.
    pub(crate) fn outdated(&self, directory: OwnedFd, all: bool) -> Result<OutdatedAnswer> {
        let project = self.open(directory)?;
        let current = self.current(&project)?;
        let holds = self.holds(&project, false)?;
        let (mut declared, mut warnings) = (Vec::new(), Vec::new());
        for ecosystem in super::locked::used(&project)? {
            let plain = |specs: Vec<Spec>| specs.into_iter().map(|spec| (spec, None)).collect();
            let of_ecosystem: Vec<(Spec, Option<String>)> = match ecosystem {
                Ecosystem::Npm => plain(npm::declared(&project)?),
                Ecosystem::Pypi => plain(pypi::declared(&project)?),
                Ecosystem::Cargo => cargo::declared(self, &project)?,
                Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => Vec::new(),
            };
            declared.extend(of_ecosystem);
        }
        declared.sort();
        declared.dedup();
        for (spec, source) in &declared {
            self.announce(spec, source.as_deref());
        }
        let mut packages = Vec::new();
        for (spec, source) in &declared {
            self.check_wanted()?;
            let newest = match self.newest(spec, source.as_deref()) {
                Ok(newest) => newest,
                Err(error) if error.kind == Kind::Network => return Err(error),
                Err(error) => {
                    warnings.push(error.message);
                    continue;
                }
            };
            let current = current.get(&spec.ecosystem);
            let mut package = described((spec, source.as_deref()), newest, current);
            package.held = holds.get(&spec.ecosystem).is_some_and(|held| held.contains(&spec.name));
            let is_newest = package.current.as_ref() == Some(&package.newest);
            if all || !is_newest {
                packages.push(package);
            }
        }
        Ok(OutdatedAnswer {
            schema: "bolide.outdated/1".to_owned(),
            project: project.path().to_string_lossy().into_owned(),
            packages,
            warnings,
        })
    }

    fn announce(&self, spec: &Spec, source: Option<&str>) {
        match spec.ecosystem {
            Ecosystem::Npm => {
                self.registries.npm().prefetch(&spec.name);
            }
            Ecosystem::Pypi => {
                if let Ok(name) = PackageName::from_str(&spec.name) {
                    self.registries.pypi().prefetch_project(&name);
                }
            }
            Ecosystem::Cargo => {
                if let Ok(registry) = self.registries.cargo_source(source) {
                    registry.prefetch(&spec.name);
                }
            }
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {}
        }
    }

    /// The newest versions of a package as its registry has them; `source` is that of a crate, where it is not the default one.
    pub(super) fn newest(&self, spec: &Spec, source: Option<&str>) -> Result<Newest> {
        match spec.ecosystem {
            Ecosystem::Npm => {
                let packument = self.registries.npm().packument(&spec.name)?;
                let newest = packument.dist_tags.get("latest").cloned().unwrap_or_default();
                let allowed = npm_version(&packument, &spec.requirement, &newest);
                Ok(Newest { allowed, newest })
            }
            Ecosystem::Pypi => {
                let wanted = python(spec)?;
                let project = self.registries.pypi().project(&wanted.name)?;
                let (best, newest) = best_file(&project, &wanted);
                let text = |file: &Arc<metadata::pypi::File>| file.version.to_string();
                let newest = newest.map(text).ok_or_else(|| super::read::none(spec))?;
                Ok(Newest { allowed: best.map(text), newest })
            }
            Ecosystem::Cargo => {
                let wanted = rust(spec)?;
                let krate = self.registries.cargo_source(source)?.krate(&spec.name)?;
                let (best, newest) = best_version(&krate, &wanted);
                let text = |version: metadata::cargo::Listed<'_>| version.number().to_string();
                let newest = newest.map(text).ok_or_else(|| super::read::none(spec))?;
                Ok(Newest { allowed: best.map(text), newest })
            }
            Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => Err(super::read::none(spec)),
        }
    }
}

fn described(
    (spec, source): (&Spec, Option<&str>),
    newest: Newest,
    current: Option<&Resolution>,
) -> OutdatedPackage {
    let packages = current.into_iter().flat_map(|resolution| &resolution.packages);
    let is_meant = |package: &&Package| {
        package.name == spec.name && is_same(package.artifact.source.as_deref(), source)
    };
    let mut direct = packages.filter(|package| package.direct).filter(is_meant);
    // Of several versions side by side the one that is meant.
    let mut matching = direct.clone().filter(|package| contains(spec, &package.version));
    let current = matching.next().or_else(|| direct.next());
    let purl = crate::spec::purl(spec.ecosystem, &spec.name, "");
    OutdatedPackage {
        purl: purl.trim_end_matches('@').to_owned(),
        requirement: spec.requirement.clone(),
        current: current.map(|package| package.version.clone()),
        allowed: newest.allowed,
        newest: newest.newest,
        held: false,
    }
}

/// Whether a version is in the range of a spec.
pub(super) fn contains(spec: &Spec, version: &str) -> bool {
    match spec.ecosystem {
        Ecosystem::Npm => agents_versions::npm::Range::parse(&spec.requirement)
            .ok()
            .zip(agents_versions::npm::Version::parse(version).ok())
            .is_some_and(|(range, version)| range.satisfies(&version)),
        Ecosystem::Pypi => pep440_rs::VersionSpecifiers::from_str(&spec.requirement)
            .ok()
            .zip(version.parse().ok())
            .is_some_and(|(specifiers, version)| specifiers.contains(&version)),
        Ecosystem::Cargo => rust(spec)
            .ok()
            .zip(version.parse().ok())
            .is_some_and(|(wanted, version)| wanted.matches(&version)),
        Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => false,
    }
}

/// A Python spec as a requirement.
pub(super) fn python(spec: &Spec) -> Result<pep508_rs::Requirement> {
    let wanted = format!("{}{}", spec.name, spec.requirement);
    crate::io::pypi::core_metadata::requirement(&wanted)
        .map_err(|problem| Error::new(Kind::Usage, "bad-requirement", problem))
}

/// A crate's spec as a requirement.
pub(super) fn rust(spec: &Spec) -> Result<semver::VersionReq> {
    match spec.requirement.as_str() {
        "" => Ok(semver::VersionReq::STAR),
        text => semver::VersionReq::parse(text)
            .map_err(|error| Error::new(Kind::Usage, "bad-requirement", error.to_string())),
    }
}

/// The best file that fits, and the best of all. Final releases before pre-releases, then the newest; wheels before source,
/// because they tell more.
pub(super) fn best_file<'p>(
    project: &'p metadata::pypi::Project,
    wanted: &pep508_rs::Requirement,
) -> (Option<&'p Arc<metadata::pypi::File>>, Option<&'p Arc<metadata::pypi::File>>) {
    let fits = |version: &pep440_rs::Version| match &wanted.version_or_url {
        Some(VersionOrUrl::VersionSpecifier(specifiers)) => specifiers.contains(version),
        _ => true,
    };
    let releases = || project.releases().iter().enumerate();
    // A version that was withdrawn in part has a file that was not.
    let rank = |(_, release): &(usize, &metadata::pypi::Release)| {
        let is_yanked = release.class == metadata::pypi::Class::Yanked;
        (!is_yanked, !release.version.any_prerelease(), release.version.clone())
    };
    let best = |(position, _)| {
        let files = project.files_at(position).iter();
        files.max_by_key(|file| {
            (file.yanked.is_none(), file.kind != metadata::pypi::FileKind::Source)
        })
    };
    let fitting = releases().filter(|(_, release)| fits(&release.version)).max_by_key(rank);
    (fitting.and_then(best), releases().max_by_key(rank).and_then(best))
}

/// The same for the versions of a crate.
pub(super) fn best_version<'c>(
    krate: &'c metadata::cargo::Crate,
    wanted: &semver::VersionReq,
) -> (Option<metadata::cargo::Listed<'c>>, Option<metadata::cargo::Listed<'c>>) {
    let rank = |version: &metadata::cargo::Listed<'c>| {
        (!version.is_yanked(), version.number().pre.is_empty(), version.number())
    };
    let fitting = krate.versions().filter(|version| wanted.matches(version.number()));
    (fitting.max_by_key(rank), krate.versions().max_by_key(rank))
}
