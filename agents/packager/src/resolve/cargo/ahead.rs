//! What a resolution of crates will probably need next, told where answers arrive. See `resolve::pypi::ahead`, which says
//! why; a wrong guess costs a request, never an answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use semver::{Version, VersionReq};

use super::Request;
use super::activation::{Manifest, features_of};
use super::crates::{Crates, Policy};
use crate::limits::{AHEAD_PACKAGES_MAX, AHEAD_WANTS_MAX};
use crate::metadata::cargo::{Ahead, Crate, Need};
use crate::resolve::ahead::Budget;

/// Walks ahead of one resolution.
pub(super) struct Scout {
    preferred: BTreeMap<String, BTreeSet<Version>>,
    policy: Policy,
    budget: Budget,
    known: Mutex<HashMap<String, Known>>,
}

/// What is known of one crate.
#[derive(Default)]
struct Known {
    wants: Vec<Want>,
    crates: Option<Arc<Crates>>,
    /// Versions that were followed, with the features under which.
    followed: HashSet<(u32, BTreeSet<String>)>,
}

/// A dependency on a crate as far as versions are concerned.
#[derive(Clone, PartialEq, Eq)]
struct Want {
    requirement: String,
    features: BTreeSet<String>,
}

impl Want {
    fn new<'f>(need: Need<'_>, features: impl IntoIterator<Item = &'f str>) -> Self {
        let features = features.into_iter().map(str::to_owned).collect();
        Self { requirement: need.requirement().to_owned(), features }
    }
}

impl Scout {
    pub(super) fn new(request: &Request<'_>) -> Self {
        Self {
            preferred: request.preferred.clone(),
            policy: request.policy.clone(),
            budget: Budget::default(),
            known: Mutex::default(),
        }
    }

    /// The versions of a crate that arrived. Nothing where others are at it: the solver never waits for a hint.
    pub(super) fn crates(&self, name: &str) -> Option<Arc<Crates>> {
        self.try_lock()?.get(name)?.crates.clone()
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, HashMap<String, Known>>> {
        match self.known.try_lock() {
            Ok(known) => Some(known),
            Err(TryLockError::Poisoned(known)) => Some(known.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Adds a dependency that applies, and says which crates to announce for it.
    pub(super) fn want(&self, need: Need<'_>) -> Vec<String> {
        let mut next = Vec::new();
        let want = Want::new(need, features_of(need));
        let wanted = VecDeque::from([(need.key().into_owned(), want)]);
        match self.try_lock() {
            Some(mut known) => self.follow(&mut known, wanted, &mut next),
            // What the crate leads to is then told without it.
            None => next.push(need.key().into_owned()),
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(
        &self,
        known: &mut HashMap<String, Known>,
        mut wanted: VecDeque<(String, Want)>,
        next: &mut Vec<String>,
    ) {
        while let Some((name, want)) = wanted.pop_front() {
            let is_new = !known.contains_key(&name);
            if !self.budget.look(0) {
                return;
            }
            if is_new && known.len() >= AHEAD_PACKAGES_MAX {
                continue;
            }
            let entry = known.entry(name.clone()).or_default();
            if entry.wants.contains(&want) || entry.wants.len() >= AHEAD_WANTS_MAX {
                continue;
            }
            entry.wants.push(want.clone());
            if is_new {
                next.push(name);
            }
            wanted.extend(pick(entry, &want, &self.budget));
        }
    }
}

/// What the version needs that would be chosen for a want; nothing where that was followed already.
fn pick(entry: &mut Known, want: &Want, budget: &Budget) -> Vec<(String, Want)> {
    let Some(crates) = entry.crates.clone() else { return Vec::new() };
    let versions = crates.krate.as_ref().map_or(0, |krate| krate.versions().len());
    if !budget.look(versions) {
        return Vec::new();
    }
    let Ok(requirement) = VersionReq::parse(&want.requirement) else { return Vec::new() };
    let matching = crates.matching(&requirement);
    let Some((bucket, set)) = matching.last() else { return Vec::new() };
    let Some(position) = crates.best(*bucket, set) else { return Vec::new() };
    let candidate = crates.list(*bucket)[position];
    let Some(version) = crates.listed(candidate) else { return Vec::new() };
    if !entry.followed.insert((candidate.position, want.features.clone())) {
        return Vec::new();
    }
    needs(Manifest(version), &want.features)
}

fn needs(manifest: Manifest<'_>, features: &BTreeSet<String>) -> Vec<(String, Want)> {
    let existing = features.iter().map(String::as_str);
    let existing = existing.filter(|feature| manifest.has_feature(feature));
    // Features that list what does not exist are the solver's to report.
    let activation = manifest.activate(existing).unwrap_or_default();
    let active = manifest.active(&activation).into_iter();
    active
        .filter_map(|(need, features)| {
            Some((need.known_key()?.into_owned(), Want::new(need, features)))
        })
        .collect()
}

impl Ahead for Scout {
    fn after(&self, krate: &Arc<Crate>) -> Vec<String> {
        if !self.budget.keep(krate.bytes()) || !self.budget.look(krate.versions().len()) {
            return Vec::new();
        }
        let locked = self.preferred.get(&*krate.key());
        let crates = Arc::new(Crates::new(Arc::clone(krate), locked, &self.policy));
        let mut known = self.lock();
        if known.len() >= AHEAD_PACKAGES_MAX {
            return Vec::new();
        }
        let entry = known.entry(krate.key().into_owned()).or_default();
        entry.crates.get_or_insert(crates);
        let wants = entry.wants.clone();
        let wanted = wants.iter().flat_map(|want| pick(entry, want, &self.budget)).collect();
        let mut next = Vec::new();
        self.follow(&mut known, wanted, &mut next);
        next
    }
}
