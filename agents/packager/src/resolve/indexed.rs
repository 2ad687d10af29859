//! What the solvers give to `pubgrub`: packages and versions as small numbers.
//!
//! A package is an interned number, a version its position in the package's list. A set of versions is then a
//! set of positions: whatever an ecosystem's ranges mean (local versions, pre-releases, yanked files, build
//! metadata) was decided exactly, version by version, when the set was made, and the solver's own work is integer
//! comparisons. This file does not know any ecosystem.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use pubgrub::VersionSet;
use version_ranges::Ranges;

/// A package of the solver, real or virtual: an index into an [`Interner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) u32);

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "package {}", self.0)
    }
}

/// Why one version of a package cannot be used, to follow "cannot be used: ".
pub(crate) type Reason = Arc<str>;

/// The solver's proof that there is no solution.
pub(crate) type Tree = pubgrub::DerivationTree<Id, Set, Reason>;

/// A set of positions in a package's list of versions.
///
/// Every segment is half-open, so that equal sets are equal values: `Ranges<u32>` by itself would hold `[3, 3]`
/// and `[3, 4)` for different, because it assumes a dense order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Set(Ranges<u32>);

impl Set {
    /// The positions for which `is_member` holds among `count`.
    pub(crate) fn of(count: usize, mut is_member: impl FnMut(usize) -> bool) -> Self {
        let mut runs = Vec::new();
        let mut start = None;
        for position in 0..count {
            match (is_member(position), start) {
                (true, None) => start = Some(position),
                (false, Some(first)) => {
                    runs.push((first, position));
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(first) = start {
            runs.push((first, count));
        }
        Self::of_runs(runs)
    }

    /// The union of half-open runs, ascending and apart from each other.
    pub(crate) fn of_runs(runs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        Self(
            runs.into_iter()
                .filter(|(first, end)| first < end)
                .map(|(first, end)| segment(first as u32, end as u32))
                .collect(),
        )
    }

    /// Whether no position is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members below `count`, ascending.
    pub(crate) fn members(&self, count: usize) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.0
            .iter()
            .map(move |(low, high)| (lower(low), upper(high, count)))
            .collect::<Vec<_>>()
            .into_iter()
            .flat_map(|(first, end)| first..end.max(first))
    }

    /// The members within a range, ascending.
    pub(crate) fn members_within(
        &self,
        range: std::ops::Range<usize>,
    ) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let (start, end) = (range.start, range.end);
        self.0
            .iter()
            .map(move |(low, high)| (lower(low).max(start), upper(high, end)))
            .collect::<Vec<_>>()
            .into_iter()
            .flat_map(|(first, end)| first..end.max(first))
    }

    /// How many members are below `count`.
    pub(crate) fn size(&self, count: usize) -> usize {
        self.0.iter().map(|(low, high)| upper(high, count).saturating_sub(lower(low))).sum()
    }
}

fn segment(first: u32, end: u32) -> (std::ops::Bound<u32>, std::ops::Bound<u32>) {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    (if first == 0 { Unbounded } else { Included(first) }, Excluded(end))
}

fn lower(bound: &std::ops::Bound<u32>) -> usize {
    match bound {
        std::ops::Bound::Included(first) => *first as usize,
        std::ops::Bound::Excluded(before) => *before as usize + 1,
        std::ops::Bound::Unbounded => 0,
    }
}

fn upper(bound: &std::ops::Bound<u32>, count: usize) -> usize {
    let end = match bound {
        std::ops::Bound::Included(last) => *last as usize + 1,
        std::ops::Bound::Excluded(end) => *end as usize,
        std::ops::Bound::Unbounded => count,
    };
    end.min(count)
}

impl VersionSet for Set {
    type V = u32;

    fn empty() -> Self {
        Self(Ranges::empty())
    }

    fn singleton(position: u32) -> Self {
        Self([segment(position, position + 1)].into_iter().collect())
    }

    fn complement(&self) -> Self {
        Self(self.0.complement())
    }

    fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0))
    }

    fn contains(&self, position: &u32) -> bool {
        self.0.contains(position)
    }

    fn full() -> Self {
        Self(Ranges::full())
    }

    fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0))
    }

    fn is_disjoint(&self, other: &Self) -> bool {
        self.0.is_disjoint(&other.0)
    }

    fn subset_of(&self, other: &Self) -> bool {
        self.0.subset_of(&other.0)
    }
}

impl fmt::Display for Set {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Numbers for keys, in the order of their first appearance.
#[derive(Debug)]
pub(crate) struct Interner<K> {
    ids: HashMap<K, Id>,
    keys: Vec<K>,
}

impl<K: Clone + Eq + Hash> Interner<K> {
    /// An interner whose number 0 is `root`.
    pub(crate) fn new(root: K) -> Self {
        let mut interner = Self { ids: HashMap::new(), keys: Vec::new() };
        interner.id(root);
        interner
    }

    /// The number of `key`.
    pub(crate) fn id(&mut self, key: K) -> Id {
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = Id(self.keys.len() as u32);
        self.keys.push(key.clone());
        self.ids.insert(key, id);
        id
    }

    /// The key behind a number that this interner gave out.
    pub(crate) fn key(&self, id: Id) -> &K {
        &self.keys[id.0 as usize]
    }
}

/// The root of every resolution.
pub(crate) const ROOT: Id = Id(0);

/// Says which of a package's versions are meant, as a person would: `>=1.2`, `1.0 or 1.2`, `<=0.9`.
///
/// `versions` are texts in ascending order with whether each is meant. `None` where all are.
pub(crate) fn describe(versions: &[(String, bool)]) -> Option<String> {
    const RUNS_MAX: usize = 3;
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (position, (_, is_meant)) in versions.iter().enumerate() {
        if !is_meant {
            continue;
        }
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == position => *last = position,
            _ => runs.push((position, position)),
        }
    }
    let last_position = versions.len().saturating_sub(1);
    let text = |&(first, last): &(usize, usize)| {
        let (low, high) = (&versions[first].0, &versions[last].0);
        match (first == 0, last == last_position) {
            _ if first == last => low.clone(),
            (false, true) => format!(">={low}"),
            (true, false) => format!("<={high}"),
            _ => format!(">={low},<={high}"),
        }
    };
    match runs.as_slice() {
        [] => Some("(no version)".to_owned()),
        [(0, last)] if *last == last_position && versions.len() > 1 => None,
        runs if runs.len() <= RUNS_MAX => {
            Some(runs.iter().map(text).collect::<Vec<_>>().join(" or "))
        }
        runs => {
            let shown: Vec<_> = runs.iter().rev().take(RUNS_MAX - 1).rev().map(text).collect();
            let hidden = runs.len() - shown.len();
            Some(format!("{} or older ones ({hidden} more ranges)", shown.join(" or ")))
        }
    }
}
