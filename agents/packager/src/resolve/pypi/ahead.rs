//! What a Python resolution will probably need next, told where answers arrive.
//!
//! The solver looks at one package after the other and waits for each answer; a cold cache then costs one round trip per
//! step. The [`Scout`] takes the newest version that all wants known so far allow, and follows what it needs. A wrong guess
//! costs a request, never an answer: nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{ExtraName, MarkerEnvironment, PackageName, Requirement};
use pubgrub::VersionSet;

use super::Request;
use super::candidates::{Allowance, Candidates, Judge};
use super::policy::Rules;
use crate::limits::{AHEAD_PACKAGES_MAX, AHEAD_WANTS_MAX};
use crate::metadata::pypi::{Ahead, CoreMetadata, Next, Project};
use crate::resolve::ahead::Budget;
use crate::resolve::indexed::Set;

/// Walks ahead of one resolution.
pub(super) struct Scout {
    markers: MarkerEnvironment,
    rules: Arc<Rules>,
    judge: Arc<Judge>,
    allowances: HashMap<PackageName, Allowance>,
    preferred: BTreeMap<PackageName, Version>,
    budget: Budget,
    known: Mutex<HashMap<PackageName, Known>>,
}

/// What is known of one project.
#[derive(Default)]
struct Known {
    wants: Vec<VersionSpecifiers>,
    extras: BTreeSet<ExtraName>,
    candidates: Option<Arc<Candidates>>,
    /// What the first so many wants allow together.
    allowed: Option<(usize, Set)>,
    /// Versions whose metadata was named.
    named: HashSet<usize>,
    /// Metadata that arrived.
    cores: Vec<Arc<CoreMetadata>>,
}

impl Scout {
    pub(super) fn new(
        request: &Request<'_>,
        (rules, judge): (Arc<Rules>, Arc<Judge>),
        allowances: HashMap<PackageName, Allowance>,
    ) -> Self {
        Self {
            markers: request.target.markers.clone(),
            rules,
            judge,
            allowances,
            preferred: request.preferred.clone(),
            budget: Budget::default(),
            known: Mutex::default(),
        }
    }

    /// Adds a requirement that applies, and says what to announce for it.
    pub(super) fn want(&self, requirement: &Requirement) -> Vec<Next> {
        let mut next = Vec::new();
        match self.try_lock() {
            Some(mut known) => {
                self.follow(&mut known, VecDeque::from([requirement.clone()]), &mut next);
            }
            // What the files lead to is then told without it.
            None => next.push(Next::Project(requirement.name.clone())),
        }
        next
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, HashMap<PackageName, Known>>> {
        match self.known.try_lock() {
            Ok(known) => Some(known),
            Err(TryLockError::Poisoned(known)) => Some(known.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PackageName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(
        &self,
        known: &mut HashMap<PackageName, Known>,
        mut wanted: VecDeque<Requirement>,
        next: &mut Vec<Next>,
    ) {
        while let Some(said) = wanted.pop_front() {
            for requirement in self.rules.in_place_of(&said) {
                let more = self.follow_one(known, requirement, next);
                wanted.extend(more);
            }
        }
    }

    /// Adds one requirement; gives those of what it is about that came before it did.
    fn follow_one(
        &self,
        known: &mut HashMap<PackageName, Known>,
        requirement: &Requirement,
        next: &mut Vec<Next>,
    ) -> Vec<Requirement> {
        let name = &requirement.name;
        if self.rules.named.contains(name) {
            return Vec::new();
        }
        let is_new = !known.contains_key(name);
        if !self.budget.look(0) || (is_new && known.len() >= AHEAD_PACKAGES_MAX) {
            return Vec::new();
        }
        let entry = known.entry(name.clone()).or_default();
        let specifiers = self.rules.joint(requirement).into_owned();
        let says_more = !entry.wants.contains(&specifiers) && entry.wants.len() < AHEAD_WANTS_MAX;
        if says_more {
            entry.wants.push(specifiers);
        }
        let extras: Vec<_> = requirement
            .extras
            .iter()
            .filter(|extra| entry.extras.insert((*extra).clone()))
            .cloned()
            .collect();
        if is_new {
            next.push(Next::Project(name.clone()));
        }
        if says_more {
            next.extend(self.pick(name, entry));
        }
        match extras.is_empty() {
            true => Vec::new(),
            false => entry.cores.iter().flat_map(|core| self.needs(core, &extras)).collect(),
        }
    }

    /// The metadata to ask for: of the version that a solver would try first, if it was not named yet.
    fn pick(&self, name: &PackageName, entry: &mut Known) -> Option<Next> {
        let candidates = entry.candidates.as_ref()?;
        let none = Allowance::default();
        let allowance = self.allowances.get(name).unwrap_or(&none);
        let (count, mut all) = match entry.allowed.take() {
            Some((count, all)) => (count, Some(all)),
            None => (0, None),
        };
        for want in &entry.wants[count..] {
            if !self.budget.look(candidates.len()) {
                return None;
            }
            let set = candidates.matching(want, allowance, self.rules.prerelease);
            all = Some(all.map_or_else(|| set.clone(), |all| all.intersection(&set)));
        }
        // Wants that nothing satisfies together are the solver's to sort out.
        let all = all?;
        entry.allowed = Some((entry.wants.len(), all.clone()));
        let preferred = self.preferred.get(name).and_then(|version| {
            candidates.find(version).filter(|position| all.contains(&(*position as u32)))
        });
        let position =
            preferred.or_else(|| candidates.best(&all, self.rules.wants_oldest(name)))?;
        let file = candidates.file(position).as_ref().ok()?;
        let project = candidates.project.as_ref()?;
        entry
            .named
            .insert(position)
            .then(|| Next::CoreMetadata(Arc::clone(project), Arc::clone(file)))
    }

    /// What a distribution needs on the target: by itself where `extras` is empty, else for these extras alone.
    fn needs(&self, core: &CoreMetadata, extras: &[ExtraName]) -> Vec<Requirement> {
        if !self.budget.look(core.requires_dist.len() * extras.len()) {
            return Vec::new();
        }
        let markers = &self.markers;
        let applies = |requirement: &&Requirement| {
            extras
                .iter()
                .any(|extra| requirement.evaluate_markers(markers, std::slice::from_ref(extra)))
        };
        core.requires_dist.iter().filter(applies).cloned().collect()
    }
}

impl Ahead for Scout {
    fn after_project(&self, project: &Arc<Project>) -> Vec<Next> {
        if !self.budget.keep(project.bytes()) || !self.budget.look(project.releases().len()) {
            return Vec::new();
        }
        let candidates = Arc::new(Candidates::new(Arc::clone(project), &self.judge));
        let mut known = self.lock();
        if known.len() >= AHEAD_PACKAGES_MAX {
            return Vec::new();
        }
        let entry = known.entry(project.name.clone()).or_default();
        entry.candidates.get_or_insert(candidates);
        self.pick(&project.name, entry).into_iter().collect()
    }

    fn after_core_metadata(&self, core: &Arc<CoreMetadata>) -> Vec<Next> {
        if !self.budget.keep(core.bytes()) {
            return Vec::new();
        }
        let mut known = self.lock();
        if known.len() >= AHEAD_PACKAGES_MAX {
            return Vec::new();
        }
        let entry = known.entry(core.name.clone()).or_default();
        if entry.cores.iter().any(|other| other.version == core.version)
            || entry.cores.len() >= AHEAD_WANTS_MAX
        {
            return Vec::new();
        }
        entry.cores.push(Arc::clone(core));
        let extras: Vec<_> = entry.extras.iter().cloned().collect();
        let markers = &self.markers;
        let own = core.requires_dist.iter();
        let mut wanted: VecDeque<_> =
            own.filter(|requirement| requirement.evaluate_markers(markers, &[])).cloned().collect();
        wanted.extend(self.needs(core, &extras));
        let mut next = Vec::new();
        self.follow(&mut known, wanted, &mut next);
        next
    }
}
