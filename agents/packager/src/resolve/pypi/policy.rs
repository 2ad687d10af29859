//! What a caller wants of a Python resolution beside its requirements: constraints, overrides, which of the versions that
//! fit, which pre-releases, which files. Only looked at here; where it comes from is not this file's matter.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use pep440_rs::{VersionSpecifier, VersionSpecifiers};
use pep508_rs::{MarkerEnvironment, PackageName, Requirement};

use super::provider::specifiers;
use crate::metadata::pypi::File;
use crate::options::{Mode, Moment, Prerelease};

/// How old a version has to be.
#[derive(Clone, Debug)]
pub struct Age {
    /// Only what was published before this moment counts.
    pub before: Moment,
    /// Whether what nobody says the time of is left out as well.
    pub is_strict: bool,
    /// Packages that may be as new as they like.
    pub except: BTreeSet<PackageName>,
}

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
    /// How old versions have to be.
    pub age: Option<Age>,
    /// SHA-256 digests; where a package has some, a file with one of them is taken before others.
    pub digests: BTreeMap<PackageName, BTreeSet<String>>,
    /// Whether versions without a wheel that fits may be source archives. What these need is read from what they say of
    /// themselves; they are never built, so what is chosen cannot be installed by itself.
    pub has_sources: bool,
}

/// A policy by package, for one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    constraints: BTreeMap<PackageName, VersionSpecifiers>,
    overrides: BTreeMap<PackageName, Vec<Requirement>>,
    pub(super) prerelease: Option<Prerelease>,
    mode: Mode,
    pub(super) age: Option<Age>,
    direct: BTreeSet<PackageName>,
    digests: BTreeMap<PackageName, BTreeSet<String>>,
    pub(super) has_sources: bool,
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
            age: policy.age.clone(),
            direct: direct.collect(),
            digests: policy.digests.clone(),
            has_sources: policy.has_sources,
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

    /// Why a file may not be used for its age; follows the name of a version.
    pub(super) fn too_new(&self, name: &PackageName, file: &File) -> Option<&'static str> {
        let age = self.age.as_ref().filter(|age| !age.except.contains(name))?;
        match file.published.as_deref().and_then(Moment::parse) {
            Some(published) if published < age.before => None,
            Some(_) => Some("is newer than is wanted"),
            None => age.is_strict.then_some("does not say when it was published"),
        }
    }
}
