//! The versions of one crate as the solver sees them: grouped by compatibility, with an order of preference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use semver::{Version, VersionReq};

use crate::metadata::cargo::{self as metadata, Crate};
use crate::options::Mode;
use crate::resolve::indexed::{Set, describe};

/// A range of compatible versions, of which one package graph has at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Bucket {
    /// What a requirement that matches nothing leads to.
    Nothing,
    /// `0.0.N`
    Patch(u64),
    /// `0.N`
    Minor(u64),
    /// `N`
    Major(u64),
}

impl Bucket {
    pub(super) fn of(version: &Version) -> Self {
        match (version.major, version.minor, version.patch) {
            (0, 0, patch) => Bucket::Patch(patch),
            (0, minor, _) => Bucket::Minor(minor),
            (major, ..) => Bucket::Major(major),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bucket::Nothing => formatter.write_str("(no version)"),
            Bucket::Patch(patch) => write!(formatter, "0.0.{patch}"),
            Bucket::Minor(minor) => write!(formatter, "0.{minor}"),
            Bucket::Major(major) => write!(formatter, "{major}"),
        }
    }
}

/// What is preferred among the versions that fit, beside what is locked.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The `rust-version`s of the members, or the compiler's where none has one; empty to ignore compilers.
    pub rust_versions: Vec<Version>,
    /// The newest or the oldest.
    pub mode: Mode,
    /// Crates that members themselves depend on, for [`Mode::LowestDirect`].
    pub direct: BTreeSet<String>,
}

impl Policy {
    fn is_lowest(&self, name: &str) -> bool {
        match self.mode {
            Mode::Highest => false,
            Mode::Lowest => true,
            Mode::LowestDirect => self.direct.contains(name),
        }
    }
}

/// One version.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) version: Arc<metadata::Version>,
    /// Whether it may be chosen: not yanked, or locked already; and with a digest.
    pub(super) is_usable: bool,
    /// Locked ones first, then how many compilers can build it, then the version.
    rank: (bool, usize),
    /// Whether older versions are preferred.
    is_lowest: bool,
}

impl Candidate {
    /// What is preferred is greater.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let versions = self.version.version.cmp(&other.version.version);
        let versions = if self.is_lowest { versions.reverse() } else { versions };
        self.rank.cmp(&other.rank).then(versions)
    }
}

/// The versions of one crate.
#[derive(Debug)]
pub(super) struct Crates {
    pub(super) krate: Option<Arc<Crate>>,
    /// In each bucket the unusable versions first, each group ascending: what is usable is one run of positions.
    pub(super) buckets: BTreeMap<Bucket, Vec<Candidate>>,
}

/// Where a requirement can be met, in ascending order of preference.
pub(super) type Matching = Rc<Vec<(Bucket, Set)>>;

impl Crates {
    pub(super) fn new(
        krate: Arc<Crate>,
        locked: Option<&BTreeSet<Version>>,
        policy: &Policy,
    ) -> Self {
        let is_lowest = policy.is_lowest(&krate.name);
        let mut buckets: BTreeMap<Bucket, Vec<Candidate>> = BTreeMap::new();
        for version in &krate.versions {
            let is_locked = locked.is_some_and(|locked| locked.contains(&version.version));
            let candidate = Candidate {
                is_usable: (is_locked || !version.yanked) && !version.hashes.is_empty(),
                rank: (is_locked, compilers(version, &policy.rust_versions)),
                is_lowest,
                version: Arc::clone(version),
            };
            buckets.entry(Bucket::of(&version.version)).or_default().push(candidate);
        }
        for bucket in buckets.values_mut() {
            bucket.sort_by(|one, other| {
                (one.is_usable, &one.version.version)
                    .cmp(&(other.is_usable, &other.version.version))
            });
            bucket.dedup_by(|one, other| one.version.version == other.version.version);
        }
        Self { krate: Some(krate), buckets }
    }

    /// A crate that the registry does not have.
    pub(super) fn none() -> Self {
        Self { krate: None, buckets: BTreeMap::new() }
    }

    pub(super) fn list(&self, bucket: Bucket) -> &[Candidate] {
        self.buckets.get(&bucket).map_or(&[], Vec::as_slice)
    }

    /// The usable versions that a requirement matches.
    pub(super) fn matching(&self, requirement: &VersionReq) -> Matching {
        let mut found: Vec<(Bucket, Set)> = self
            .buckets
            .iter()
            .map(|(bucket, list)| {
                let set = Set::of(list.len(), |position| {
                    let candidate = &list[position];
                    candidate.is_usable && requirement.matches(&candidate.version.version)
                });
                (*bucket, set)
            })
            .filter(|(_, set)| !set.is_empty())
            .collect();
        let best = |(bucket, set): &(Bucket, Set)| {
            let list = self.list(*bucket);
            self.best(*bucket, set).map(|position| &list[position])
        };
        found.sort_by(|one, other| match (best(one), best(other)) {
            (Some(one), Some(other)) => one.compare(other),
            (one, other) => one.is_some().cmp(&other.is_some()),
        });
        Rc::new(found)
    }

    /// The preferred version in a set.
    pub(super) fn best(&self, bucket: Bucket, set: &Set) -> Option<usize> {
        let list = self.list(bucket);
        set.members(list.len())
            .filter(|&position| list[position].is_usable)
            .max_by(|&one, &other| list[one].compare(&list[other]))
    }

    /// Which versions of a bucket a set means, for people. Never `None`: there may be other buckets.
    pub(super) fn describe(&self, bucket: Bucket, set: &Set) -> String {
        let list = self.list(bucket);
        let is_meant = |position: usize| pubgrub::VersionSet::contains(set, &(position as u32));
        let mut shown: Vec<_> = (0..list.len())
            .filter(|&position| list[position].is_usable || is_meant(position))
            .collect();
        shown.sort_by_key(|&position| &list[position].version.version);
        let texts: Vec<_> = shown
            .into_iter()
            .map(|position| (list[position].version.version.to_string(), is_meant(position)))
            .collect();
        describe(&texts).unwrap_or_else(|| format!("^{bucket}"))
    }

    /// Why nothing that a requirement matches can be used.
    pub(super) fn why_nothing(&self, requirement: &VersionReq) -> Option<String> {
        let Some(krate) = &self.krate else {
            return Some("the registry does not have it".to_owned());
        };
        let mut matching: Vec<_> =
            krate.versions.iter().filter(|it| requirement.matches(&it.version)).collect();
        matching.sort_by(|one, other| one.version.cmp(&other.version));
        let name = &krate.name;
        match matching.last() {
            Some(newest) if newest.yanked => match matching.len() {
                1 => Some(format!("`{name}` {} was yanked", newest.version)),
                count => Some(format!("all {count} versions of `{name}` that match were yanked")),
            },
            Some(newest) => Some(format!(
                "`{name}` {} is published without a hash to verify it by",
                newest.version
            )),
            None => {
                let usable = krate.versions.iter().filter(|version| !version.yanked);
                let newest = usable.map(|version| &version.version).max()?;
                Some(format!("the newest version of `{name}` is {newest}"))
            }
        }
    }
}

/// How many of the compilers can build a version.
fn compilers(version: &metadata::Version, rust_versions: &[Version]) -> usize {
    let Some(wanted) = version.rust_version.as_deref() else { return rust_versions.len() };
    // A bare version is a caret requirement, which is what cargo makes of it.
    let Ok(wanted) = VersionReq::parse(wanted) else { return rust_versions.len() };
    rust_versions
        .iter()
        .filter(|rust| wanted.matches(&Version::new(rust.major, rust.minor, rust.patch)))
        .count()
}
