//! What a caller wants of a Python resolution beside its requirements: constraints, overrides, which of the versions that
//! fit, which pre-releases, which files. Only looked at here; where it comes from is not this file's matter.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pep440_rs::{Version, VersionSpecifier, VersionSpecifiers};
use pep508_rs::{MarkerEnvironment, PackageName, Requirement};

use super::provider::specifiers;
use crate::metadata::Hashes;
use crate::metadata::pypi::CoreMetadata;
use crate::options::{Formats, Mode, Names, Prerelease};

/// What is wanted. The default is what pip does by itself.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Hold for packages that are needed anyway; those whose markers do not hold for the target are skipped.
    pub constraints: Vec<Requirement>,
    /// Stand for every requirement on the same package, whoever has it.
    pub overrides: Vec<Requirement>,
    /// Which of the versions that fit.
    pub mode: Mode,
    /// Which pre-releases; `None` is those that a requirement names, and those of packages that have nothing else that fits.
    pub prerelease: Option<Prerelease>,
    /// SHA-256 digests; where a package has some, a file with one of them is taken before others.
    pub digests: BTreeMap<PackageName, BTreeSet<String>>,
    /// The packages of which versions without a wheel that fits may be source archives. What is chosen then cannot be installed by
    /// itself: whoever asks has it built.
    pub sources: Names,
    /// Which kinds of files count.
    pub formats: Formats,
    /// What was found out about files that requirements name, by their address as it stands there.
    pub addresses: BTreeMap<String, Known>,
}

/// A file that a requirement names by its address.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where it is fetched from.
    pub url: String,
    /// What it hashes to.
    pub hashes: Hashes,
    /// Its size, where it was looked at.
    pub size: Option<u64>,
    /// What it says of itself, where it was looked at.
    pub core: Option<Arc<CoreMetadata>>,
    /// What it is, where it is no wheel.
    pub source: Option<KnownSource>,
}

/// Source that a requirement names by its address.
#[derive(Clone, Debug)]
pub struct KnownSource {
    /// What it goes by.
    pub file_name: String,
    /// The version that it says, or that was built of it.
    pub version: Version,
}

/// A policy by package, for one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    constraints: BTreeMap<PackageName, VersionSpecifiers>,
    overrides: BTreeMap<PackageName, Vec<Requirement>>,
    pub(super) prerelease: Option<Prerelease>,
    mode: Mode,
    direct: BTreeSet<PackageName>,
    digests: BTreeMap<PackageName, BTreeSet<String>>,
    pub(super) sources: Names,
    pub(super) formats: Formats,
    /// Packages that are taken from an address, not from an index.
    pub(super) named: BTreeSet<PackageName>,
}

impl Rules {
    pub(super) fn new(
        policy: &Policy,
        requirements: &[Requirement],
        markers: &MarkerEnvironment,
    ) -> Self {
        let applies = |requirement: &&Requirement| requirement.evaluate_markers(markers, &[]);
        let mut constraints: BTreeMap<PackageName, Vec<VersionSpecifier>> = BTreeMap::new();
        let says = |it: &&Requirement| !specifiers(it).is_empty();
        for constraint in policy.constraints.iter().filter(applies).filter(says) {
            let held = constraints.entry(constraint.name.clone()).or_default();
            held.extend(specifiers(constraint).iter().cloned());
        }
        let mut overrides: BTreeMap<PackageName, Vec<Requirement>> = BTreeMap::new();
        for wanted in &policy.overrides {
            let held = overrides.entry(wanted.name.clone()).or_default();
            // An override whose marker does not hold still takes the place of what packages say.
            held.extend(applies(&wanted).then(|| wanted.clone()));
        }
        let constraints =
            constraints.into_iter().map(|(name, held)| (name, held.into_iter().collect()));
        let direct = requirements.iter().filter(applies).map(|it| it.name.clone());
        Self {
            constraints: constraints.collect(),
            overrides,
            prerelease: policy.prerelease,
            mode: policy.mode,
            direct: direct.collect(),
            digests: policy.digests.clone(),
            sources: policy.sources.clone(),
            formats: policy.formats.clone(),
            named: BTreeSet::new(),
        }
    }

    /// What holds for a package wherever it is needed.
    pub(super) fn constraint(&self, name: &PackageName) -> Option<&VersionSpecifiers> {
        self.constraints.get(name)
    }

    /// A requirement's specifiers with what constrains its package.
    pub(super) fn joint<'r>(&self, requirement: &'r Requirement) -> Cow<'r, VersionSpecifiers> {
        let own = specifiers(requirement);
        match self.constraint(&requirement.name) {
            Some(held) => Cow::Owned(own.iter().chain(held.iter()).cloned().collect()),
            None => Cow::Borrowed(own),
        }
    }

    /// What stands for a requirement: itself, or the overrides of its package.
    pub(super) fn in_place_of<'r>(&'r self, requirement: &'r Requirement) -> &'r [Requirement] {
        match self.overrides.get(&requirement.name) {
            Some(overrides) => overrides,
            None => std::slice::from_ref(requirement),
        }
    }

    /// Everything that a person said about versions beside the requirements themselves.
    pub(super) fn said(&self) -> impl Iterator<Item = (&PackageName, &VersionSpecifiers)> {
        let overrides = self.overrides.values().flatten().map(|it| (&it.name, specifiers(it)));
        self.constraints.iter().chain(overrides)
    }

    /// Whether the oldest version of a package is wanted.
    pub(super) fn wants_oldest(&self, name: &PackageName) -> bool {
        match self.mode {
            Mode::Highest => false,
            Mode::Lowest => true,
            Mode::LowestDirect => self.direct.contains(name),
        }
    }

    /// The digests of which one is wanted; nothing where any will do.
    pub(super) fn digests(&self, name: &PackageName) -> Option<&BTreeSet<String>> {
        self.digests.get(name)
    }
}
