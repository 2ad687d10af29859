//! What a Python resolution will probably need next, told where answers arrive.
//!
//! The solver looks at one package after the other and waits for each answer; a cold cache then costs one round trip per
//! step. The [`Scout`] takes the newest version that all wants known so far allow, and follows what it needs. A wrong guess
//! costs a request, never an answer: nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{ExtraName, PackageName, Requirement};
use pubgrub::VersionSet;

use super::Request;
use super::candidates::{Allowance, Candidates, Judge};
use super::provider::specifiers;
use crate::limits::{AHEAD_PACKAGES_MAX, AHEAD_WANTS_MAX};
use crate::metadata::pypi::{Ahead, CoreMetadata, Next, Project};
use crate::python::PythonTarget;

/// Walks ahead of one resolution.
pub(super) struct Scout {
    target: PythonTarget,
    allowances: HashMap<PackageName, Allowance>,
    preferred: BTreeMap<PackageName, Version>,
    known: Mutex<HashMap<PackageName, Known>>,
}

/// What is known of one project.
#[derive(Default)]
struct Known {
    wants: Vec<VersionSpecifiers>,
    extras: BTreeSet<ExtraName>,
    candidates: Option<Arc<Candidates>>,
    /// Versions whose metadata was named.
    named: HashSet<usize>,
    /// Metadata that arrived.
    cores: Vec<Arc<CoreMetadata>>,
}

impl Scout {
    pub(super) fn new(request: &Request<'_>, allowances: HashMap<PackageName, Allowance>) -> Self {
        Self {
            target: request.target.clone(),
            allowances,
            preferred: request.preferred.clone(),
            known: Mutex::default(),
        }
    }

    /// The versions of a project whose files arrived.
    pub(super) fn candidates(&self, name: &PackageName) -> Option<Arc<Candidates>> {
        self.lock().get(name)?.candidates.clone()
    }

    /// Adds a requirement that applies, and says what to announce for it.
    pub(super) fn want(&self, requirement: &Requirement) -> Vec<Next> {
        let mut next = Vec::new();
        self.follow(&mut self.lock(), VecDeque::from([requirement.clone()]), &mut next);
        next
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
        while let Some(requirement) = wanted.pop_front() {
            let name = &requirement.name;
            let is_new = !known.contains_key(name);
            if is_new && known.len() >= AHEAD_PACKAGES_MAX {
                continue;
            }
            let entry = known.entry(name.clone()).or_default();
            let specifiers = specifiers(&requirement);
            if !entry.wants.contains(specifiers) && entry.wants.len() < AHEAD_WANTS_MAX {
                entry.wants.push(specifiers.clone());
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
            next.extend(self.pick(name, entry));
            for core in &entry.cores {
                wanted.extend(self.needs(core, &extras));
            }
        }
    }

    /// The metadata to ask for: of the version that a solver would try first, if it was not named yet.
    fn pick(&self, name: &PackageName, entry: &mut Known) -> Option<Next> {
        let candidates = entry.candidates.as_ref()?;
        let none = Allowance::default();
        let allowance = self.allowances.get(name).unwrap_or(&none);
        let mut sets = entry.wants.iter().map(|want| candidates.matching(want, allowance));
        let first = sets.next()?;
        // Wants that nothing satisfies together are the solver's to sort out.
        let all = sets.fold(first, |all, set| all.intersection(&set));
        let preferred = self.preferred.get(name).and_then(|version| {
            let mut members = all.members(candidates.list.len());
            members.find(|position| candidates.list[*position].version == *version)
        });
        let position = preferred.or_else(|| candidates.newest(&all))?;
        let file = candidates.list[position].file.as_ref().ok()?;
        let project = candidates.project.as_ref()?;
        entry
            .named
            .insert(position)
            .then(|| Next::CoreMetadata(Arc::clone(project), Arc::clone(file)))
    }

    /// What a distribution needs on the target: by itself where `extras` is empty, else for these extras alone.
    fn needs(&self, core: &CoreMetadata, extras: &[ExtraName]) -> Vec<Requirement> {
        let markers = &self.target.markers;
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
        let judge = Judge::new(&self.target);
        let candidates = Arc::new(Candidates::new(Arc::clone(project), &judge));
        let mut known = self.lock();
        if known.len() >= AHEAD_PACKAGES_MAX {
            return Vec::new();
        }
        let entry = known.entry(project.name.clone()).or_default();
        entry.candidates.get_or_insert(candidates);
        self.pick(&project.name, entry).into_iter().collect()
    }

    fn after_core_metadata(&self, core: &Arc<CoreMetadata>) -> Vec<Next> {
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
        let markers = &self.target.markers;
        let own = core.requires_dist.iter();
        let mut wanted: VecDeque<_> =
            own.filter(|requirement| requirement.evaluate_markers(markers, &[])).cloned().collect();
        wanted.extend(self.needs(core, &extras));
        let mut next = Vec::new();
        self.follow(&mut known, wanted, &mut next);
        next
    }
}
