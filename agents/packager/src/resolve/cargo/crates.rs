//! The versions of one crate as the solver sees them: grouped by compatibility, with an order of preference.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use semver::{Version, VersionReq};

use crate::metadata::cargo::{Crate, Listed};
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its position in the crate.
    pub(super) position: u32,
    /// Whether it may be chosen: not yanked, or locked already; and with a digest, unless it is the project's own.
    pub(super) is_usable: bool,
    /// The project's own first, then locked ones, then how many compilers can build it.
    rank: (bool, bool, u32),
}

/// The versions of one crate.
#[derive(Debug)]
pub(super) struct Crates {
    pub(super) krate: Option<Arc<Crate>>,
    /// Whether older versions are preferred.
    is_lowest: bool,
    /// By bucket; in each the unusable versions first, each group ascending: what is usable is one run of positions.
    candidates: Vec<Candidate>,
    /// Where the candidates of each bucket end, ascending.
    buckets: Vec<(Bucket, usize)>,
}

/// Where a requirement can be met, in ascending order of preference.
pub(super) type Matching = Rc<Vec<(Bucket, Set)>>;

impl Crates {
    pub(super) fn new(
        krate: Arc<Crate>,
        locked: Option<&BTreeSet<Version>>,
        policy: &Policy,
    ) -> Self {
        let is_lowest = policy.is_lowest(&krate.key());
        let versions = krate.versions();
        let mut candidates: Vec<Candidate> = Vec::with_capacity(versions.len());
        let mut buckets: Vec<(Bucket, usize)> = Vec::new();
        // Neighbours mostly want the same compiler.
        let (mut wanted, mut count) = (None, compilers(None, &policy.rust_versions));
        for version in versions {
            let is_locked = locked.is_some_and(|locked| locked.contains(version.number()));
            if wanted != version.rust_version() {
                wanted = version.rust_version();
                count = compilers(wanted, &policy.rust_versions);
            }
            // They come in ascending order, and so do buckets.
            let bucket = Bucket::of(version.number());
            if buckets.last().is_none_or(|(last, _)| *last != bucket) {
                buckets.push((bucket, 0));
            }
            candidates.push(Candidate {
                position: version.position() as u32,
                is_usable: version.is_local()
                    || (is_locked || !version.is_yanked()) && version.has_digest(),
                rank: (version.is_local(), is_locked, count),
            });
            if let Some((_, end)) = buckets.last_mut() {
                *end = candidates.len();
            }
        }
        let mut start = 0;
        for (_, end) in &buckets {
            // Stable: each group stays in the order of the versions.
            candidates[start..*end].sort_by_key(|candidate| candidate.is_usable);
            start = *end;
        }
        Self { krate: Some(krate), is_lowest, candidates, buckets }
    }

    /// A crate that the registry does not have.
    pub(super) fn none() -> Self {
        Self { krate: None, is_lowest: false, candidates: Vec::new(), buckets: Vec::new() }
    }

    pub(super) fn list(&self, bucket: Bucket) -> &[Candidate] {
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(found) => &self.candidates[self.range(found)],
            Err(_) => &[],
        }
    }

    fn range(&self, bucket: usize) -> std::ops::Range<usize> {
        let start = bucket.checked_sub(1).map_or(0, |before| self.buckets[before].1);
        start..self.buckets[bucket].1
    }

    /// The version of a candidate.
    pub(super) fn listed(&self, candidate: Candidate) -> Option<Listed<'_>> {
        self.krate.as_ref().map(|krate| krate.listed(candidate.position as usize))
    }

    fn number(&self, candidate: Candidate) -> Option<&Version> {
        self.listed(candidate).map(Listed::number)
    }

    /// What is preferred is greater.
    fn compare(&self, one: Candidate, other: Candidate) -> Ordering {
        let versions = self.number(one).cmp(&self.number(other));
        let versions = if self.is_lowest { versions.reverse() } else { versions };
        one.rank.cmp(&other.rank).then(versions)
    }

    /// The usable versions that a requirement matches.
    pub(super) fn matching(&self, requirement: &VersionReq) -> Matching {
        let matches = |candidate: Candidate| {
            candidate.is_usable && self.number(candidate).is_some_and(|it| requirement.matches(it))
        };
        let buckets = self.buckets.iter().enumerate();
        let mut found: Vec<(Bucket, Set)> = buckets
            .map(|(at, (bucket, _))| {
                let list = &self.candidates[self.range(at)];
                (*bucket, Set::of(list.len(), |position| matches(list[position])))
            })
            .filter(|(_, set)| !set.is_empty())
            .collect();
        let best = |(bucket, set): &(Bucket, Set)| {
            let list = self.list(*bucket);
            self.best(*bucket, set).map(|position| list[position])
        };
        found.sort_by(|one, other| match (best(one), best(other)) {
            (Some(one), Some(other)) => self.compare(one, other),
            (one, other) => one.is_some().cmp(&other.is_some()),
        });
        Rc::new(found)
    }

    /// The preferred version in a set.
    pub(super) fn best(&self, bucket: Bucket, set: &Set) -> Option<usize> {
        let list = self.list(bucket);
        set.members(list.len())
            .filter(|&position| list[position].is_usable)
            .max_by(|&one, &other| self.compare(list[one], list[other]))
    }

    /// Which versions of a bucket a set means, for people. Never `None`: there may be other buckets.
    pub(super) fn describe(&self, bucket: Bucket, set: &Set) -> String {
        let list = self.list(bucket);
        let is_meant = |position: usize| pubgrub::VersionSet::contains(set, &(position as u32));
        let mut shown: Vec<_> = (0..list.len())
            .filter(|&position| list[position].is_usable || is_meant(position))
            .collect();
        shown.sort_by_key(|&position| self.number(list[position]));
        let text = |position: usize| self.number(list[position]).map(Version::to_string);
        let texts: Vec<_> = shown
            .into_iter()
            .map(|position| (text(position).unwrap_or_default(), is_meant(position)))
            .collect();
        describe(&texts).unwrap_or_else(|| format!("^{bucket}"))
    }

    /// Why nothing that a requirement matches can be used.
    pub(super) fn why_nothing(&self, requirement: &VersionReq) -> Option<String> {
        let Some(krate) = &self.krate else {
            return Some("the registry does not have it".to_owned());
        };
        let matching = krate.versions().filter(|it| requirement.matches(it.number()));
        let matching: Vec<Listed<'_>> = matching.collect();
        let name = krate.name();
        match matching.last() {
            Some(newest) if newest.is_yanked() => match matching.len() {
                1 => Some(format!("`{name}` {} was yanked", newest.number())),
                count => Some(format!("all {count} versions of `{name}` that match were yanked")),
            },
            Some(newest) => Some(format!(
                "`{name}` {} is published without a hash to verify it by",
                newest.number()
            )),
            None => {
                let newest = krate.versions().rev().find(|version| !version.is_yanked())?;
                Some(format!("the newest version of `{name}` is {}", newest.number()))
            }
        }
    }
}

/// How many of the compilers can build what wants this one.
fn compilers(wanted: Option<&str>, rust_versions: &[Version]) -> u32 {
    let all = rust_versions.len() as u32;
    // A bare version is a caret requirement, which is what cargo makes of it.
    let Some(Ok(wanted)) = wanted.map(VersionReq::parse) else { return all };
    let can = |rust: &&Version| wanted.matches(&Version::new(rust.major, rust.minor, rust.patch));
    rust_versions.iter().filter(can).count() as u32
}
