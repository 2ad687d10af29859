//! PyPI's metadata as `pubgrub` asks for it.
//!
//! An extra is a package of its own that needs its base at the same version: `a[x]` at position 3 needs `a` at
//! position 3 and what the extra adds. Both share one list of candidates.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{ExtraName, PackageName, Requirement, VersionOrUrl};
use pubgrub::{Dependencies, DependencyProvider, PackageResolutionStatistics, VersionSet};

use super::Request;
use super::ahead::Scout;
use super::candidates::{Allowance, Candidates, Judge, needs_python};
use super::named::{self, Named};
use super::policy::Rules;
use super::specifiers::{admits_python, mentions_prerelease, pins};
use crate::error::{Error, Kind};
use crate::limits::{
    ATTEMPTS_MAX, CONFLICTS_UNTIL_EARLY, PREFETCH_VERSIONS_MAX, VERSIONS_UNTIL_EARLY,
};
use crate::metadata::pypi::{Ahead, CoreMetadata, Metadata, Next};
use crate::resolve::indexed::{Id, Interner, Reason, Set};

/// What an [`Id`] stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The project being resolved.
    Root,
    /// A package.
    Base(PackageName),
    /// An extra of a package.
    Extra(PackageName, ExtraName),
}

impl Key {
    pub(super) fn package(&self) -> Option<&PackageName> {
        match self {
            Key::Root => None,
            Key::Base(name) | Key::Extra(name, _) => Some(name),
        }
    }

    /// The extras under which markers are evaluated.
    pub(super) fn extras(&self) -> &[ExtraName] {
        match self {
            Key::Extra(_, extra) => std::slice::from_ref(extra),
            _ => &[],
        }
    }
}

/// The code of an error that says that a file is there but its metadata is not what it should be.
pub(super) const BAD_METADATA: &str = "bad-metadata";
/// The code of an error that says that a source archive does not tell what it needs.
const NEEDS_BUILD: &str = "needs-build";

/// One resolution under way.
pub(super) struct Provider<'a> {
    pub(super) request: &'a Request<'a>,
    metadata: &'a dyn Metadata,
    /// Walks ahead where something has to be waited for.
    scout: Arc<Scout>,
    judge: Arc<Judge>,
    rules: Arc<Rules>,
    /// What the project names by address.
    named: BTreeMap<PackageName, Named>,
    allowances: HashMap<PackageName, Allowance>,
    pub(super) ids: RefCell<Interner<Rc<Key>>>,
    candidates: RefCell<HashMap<PackageName, Arc<Candidates>>>,
    matching: RefCell<HashMap<PackageName, HashMap<VersionSpecifiers, Set>>>,
    core: RefCell<HashMap<(PackageName, u32), Arc<CoreMetadata>>>,
    /// The position last chosen for a package: its extras follow it.
    chosen: RefCell<HashMap<PackageName, u32>>,
    announced: RefCell<HashSet<(PackageName, u32)>>,
    /// The versions that were chosen in this attempt. One that is chosen again, because of others, is not a further one.
    tried: RefCell<HashMap<PackageName, HashSet<usize>>>,
    /// Packages that many versions of were given up; see [`Provider::begin_again`].
    early: RefCell<HashSet<PackageName>>,
    is_hopeless: Cell<bool>,
    /// Versions whose metadata is not what it should be.
    broken: RefCell<BTreeMap<(PackageName, u32), Reason>>,
    no_allowance: Allowance,
    calls: Cell<u32>,
}

/// No specifiers: any version.
static ANY: std::sync::LazyLock<VersionSpecifiers> =
    std::sync::LazyLock::new(VersionSpecifiers::empty);

/// The specifiers of a requirement that was checked not to name a URL.
pub(super) fn specifiers(requirement: &Requirement) -> &VersionSpecifiers {
    match &requirement.version_or_url {
        Some(VersionOrUrl::VersionSpecifier(specifiers)) => specifiers,
        _ => &ANY,
    }
}

impl<'a> Provider<'a> {
    pub(super) fn new(request: &'a Request<'a>, metadata: &'a dyn Metadata) -> Result<Self, Error> {
        let markers = &request.target.markers;
        let named = named::find(request)?;
        let mut rules = Rules::new(request.policy, request.requirements, markers);
        rules.named = named.keys().cloned().collect();
        let rules = Arc::new(rules);
        let allowances = allowances(request, &rules);
        let judge = Arc::new(Judge::new(request.target, Arc::clone(&rules)));
        let (of_scout, shared) = (allowances.clone(), (Arc::clone(&rules), Arc::clone(&judge)));
        let scout = Arc::new(Scout::new(request, shared, of_scout));
        let ahead: Arc<dyn Ahead> = Arc::<Scout>::clone(&scout);
        metadata.follow(&ahead);
        Ok(Self {
            request,
            metadata,
            scout,
            judge,
            rules,
            named,
            allowances,
            ids: RefCell::new(Interner::new(Rc::new(Key::Root))),
            candidates: RefCell::default(),
            matching: RefCell::default(),
            core: RefCell::default(),
            chosen: RefCell::default(),
            announced: RefCell::default(),
            tried: RefCell::default(),
            early: RefCell::default(),
            is_hopeless: Cell::new(false),
            broken: RefCell::default(),
            no_allowance: Allowance::default(),
            calls: Cell::new(0),
        })
    }

    pub(super) fn key(&self, id: Id) -> Rc<Key> {
        Rc::clone(self.ids.borrow().key(id))
    }

    pub(super) fn id(&self, key: Key) -> Id {
        self.ids.borrow_mut().id(Rc::new(key))
    }

    /// The requirements that apply to this target.
    pub(super) fn direct(&self) -> impl Iterator<Item = &Requirement> {
        let markers = &self.request.target.markers;
        self.request
            .requirements
            .iter()
            .filter(move |requirement| requirement.evaluate_markers(markers, &[]))
            .flat_map(|requirement| self.rules.in_place_of(requirement))
    }

    /// The versions of a project; none where the index does not know it.
    pub(super) fn candidates(&self, name: &PackageName) -> Result<Arc<Candidates>, Error> {
        if let Some(candidates) = self.candidates.borrow().get(name) {
            return Ok(Arc::clone(candidates));
        }
        let named = self
            .named
            .get(name)
            .map(|named| Arc::new(Candidates::new(Arc::clone(&named.project), &self.judge)));
        let candidates = match named {
            Some(candidates) => candidates,
            None => Arc::new(match self.metadata.project(name) {
                Ok(project) => Candidates::new(project, &self.judge),
                Err(error) if error.code == "unknown-package" => Candidates::none(&self.judge),
                Err(error) => return Err(error),
            }),
        };
        self.candidates.borrow_mut().insert(name.clone(), Arc::clone(&candidates));
        Ok(candidates)
    }

    /// Announces the files that a requirement is about. Where they are not there yet, what they lead to is followed
    /// without waiting for the solver.
    fn announce_project(&self, requirement: &Requirement) {
        // No index is told what is not taken from it.
        if self.named.contains_key(&requirement.name)
            || self.candidates.borrow().contains_key(&requirement.name)
            || self.metadata.prefetch_project(&requirement.name)
        {
            return;
        }
        for next in self.scout.want(requirement) {
            match next {
                Next::Project(name) => {
                    self.metadata.prefetch_project(&name);
                }
                Next::CoreMetadata(project, file) => {
                    self.metadata.prefetch_core_metadata(&project, &file);
                }
            }
        }
    }

    /// Fails with the index's own words where a direct requirement does not exist.
    pub(super) fn check_direct(&self) -> Result<(), Error> {
        for requirement in self.direct() {
            self.announce_project(requirement);
        }
        for requirement in self.direct() {
            if self.candidates(&requirement.name)?.project.is_none() {
                self.metadata.project(&requirement.name)?;
            }
        }
        Ok(())
    }

    /// The positions that a requirement may use, under what constrains its package.
    pub(super) fn matching(&self, requirement: &Requirement) -> Result<Set, Error> {
        let specifiers = &*self.rules.joint(requirement);
        let mut matching = self.matching.borrow_mut();
        if let Some(set) = matching.get(&requirement.name).and_then(|sets| sets.get(specifiers)) {
            return Ok(set.clone());
        }
        let allowance = self.allowances.get(&requirement.name).unwrap_or(&self.no_allowance);
        let candidates = self.candidates(&requirement.name)?;
        // One look at every version: with many requirements on a project of many versions this is where time goes.
        (self.request.keep_on)()?;
        let set = candidates.matching(specifiers, allowance, self.rules.prerelease);
        let sets = matching.entry(requirement.name.clone()).or_default();
        sets.insert(specifiers.clone(), set.clone());
        Ok(set)
    }

    /// The core metadata of a version that has a file.
    pub(super) fn core(
        &self,
        name: &PackageName,
        position: u32,
    ) -> Result<Arc<CoreMetadata>, Error> {
        let key = (name.clone(), position);
        if let Some(core) = self.core.borrow().get(&key) {
            return Ok(Arc::clone(core));
        }
        if let Some(core) = self.named.get(name).and_then(|named| named.core.as_ref()) {
            return Ok(Arc::clone(core));
        }
        let candidates = self.candidates(name)?;
        let (Some(project), Ok(file)) = (&candidates.project, candidates.file(position as usize))
        else {
            let message = format!("no file of `{name}` can be used");
            return Err(Error::new(Kind::Failed, "no-file", message));
        };
        let core = self.metadata.core_metadata(project, file)?;
        self.core.borrow_mut().insert(key, Arc::clone(&core));
        Ok(core)
    }

    /// Whether a package is taken from an address and not from an index.
    pub(super) fn is_named(&self, name: &PackageName) -> bool {
        self.named.contains_key(name)
    }

    /// The versions of a package that were ruled out by broken metadata, with the reason.
    pub(super) fn broken(&self, name: &PackageName) -> Vec<(Version, Reason)> {
        let Ok(candidates) = self.candidates(name) else { return Vec::new() };
        let broken = self.broken.borrow();
        let of_name = broken.iter().filter(|((of, _), _)| of == name);
        of_name
            .map(|((_, position), reason)| {
                (candidates.version(*position as usize).clone(), Arc::clone(reason))
            })
            .collect()
    }

    /// What a package or an extra of it needs, beyond the package itself.
    pub(super) fn wants<'both>(
        &'both self,
        core: &'both CoreMetadata,
        key: &Key,
    ) -> impl Iterator<Item = &'both Requirement> {
        let markers = &self.request.target.markers;
        let extras = key.extras().to_vec();
        let applies = move |requirement: &&Requirement| {
            requirement.evaluate_markers(markers, &extras)
                && (extras.is_empty() || !requirement.evaluate_markers(markers, &[]))
        };
        let applying = core.requires_dist.iter().filter(applies);
        applying.flat_map(|requirement| self.rules.in_place_of(requirement))
    }

    /// What constrains a package wherever it is needed.
    pub(super) fn constraint(&self, name: &PackageName) -> Option<&VersionSpecifiers> {
        self.rules.constraint(name)
    }

    fn announce(&self, name: &PackageName, candidates: &Candidates, position: usize) {
        let (Some(project), Ok(file)) = (&candidates.project, candidates.file(position)) else {
            return;
        };
        let is_known = self.named.get(name).is_some_and(|named| named.core.is_some());
        if !is_known && self.announced.borrow_mut().insert((name.clone(), position as u32)) {
            self.metadata.prefetch_core_metadata(project, file);
        }
    }

    fn was_tried(&self, name: &PackageName, position: usize) -> bool {
        self.tried.borrow().get(name).is_some_and(|tried| tried.contains(&position))
    }

    /// Ends an attempt in which one version of a package after the other is given up: what was decided before it is to
    /// blame, so it is better decided first. The solver cannot take back a decision of its own accord; it begins again.
    fn give_up_early(&self, name: &PackageName) -> Result<(), Error> {
        let tried = self.tried.borrow().get(name).map_or(0, HashSet::len);
        let mut early = self.early.borrow_mut();
        if tried < VERSIONS_UNTIL_EARLY
            || early.len() >= ATTEMPTS_MAX
            || !early.insert(name.clone())
        {
            return Ok(());
        }
        self.is_hopeless.set(true);
        Err(Error::new(Kind::Failed, "begin-again", format!("`{name}` is decided too late")))
    }

    /// Whether the attempt that ended is to be followed by another one, for which everything that was learnt from the index
    /// is kept.
    pub(super) fn begin_again(&self) -> bool {
        if !self.is_hopeless.take() {
            return false;
        }
        // Ids are given in the order of discovery, which decides among equals.
        *self.ids.borrow_mut() = Interner::new(Rc::new(Key::Root));
        self.chosen.borrow_mut().clear();
        self.tried.borrow_mut().clear();
        true
    }

    /// While a solver walks down the versions of a package, announces a growing number of those to come: each that it has to
    /// wait for costs a round trip.
    fn announce_next(&self, name: &PackageName, candidates: &Candidates, set: &Set, chosen: usize) {
        let tried = self.tried.borrow().get(name).map_or(0, HashSet::len);
        if tried < 2 {
            return;
        }
        let is_oldest = self.rules.wants_oldest(name);
        let count = 1_usize.checked_shl(tried as u32).unwrap_or(usize::MAX);
        for position in candidates.after(set, chosen, is_oldest, count.min(PREFETCH_VERSIONS_MAX)) {
            self.announce(name, candidates, position);
        }
    }

    /// Adds what one requirement asks for: its package, and each extra at the same version.
    fn require(&self, requirement: &Requirement, found: &mut Vec<(Id, Set)>) -> Result<(), Error> {
        let set = self.matching(requirement)?;
        let candidates = self.candidates(&requirement.name)?;
        let is_oldest = self.rules.wants_oldest(&requirement.name);
        if let Some(best) = candidates.best(&set, is_oldest) {
            self.announce(&requirement.name, &candidates, best);
        }
        found.push((self.id(Key::Base(requirement.name.clone())), set.clone()));
        for extra in &requirement.extras {
            let id = self.id(Key::Extra(requirement.name.clone(), extra.clone()));
            found.push((id, set.clone()));
        }
        Ok(())
    }

    /// Everything that a package or extra needs, as the solver wants it.
    fn dependencies(
        &self,
        key: &Key,
        name: &PackageName,
        position: u32,
    ) -> Result<Result<Vec<(Id, Set)>, Reason>, Error> {
        let core = match self.core(name, position) {
            Ok(core) => core,
            // What would have to be built first says nothing to go by.
            Err(error) if error.code == NEEDS_BUILD => {
                let why = "it is source that tells what it needs only when it is built";
                return Ok(Err(why.into()));
            }
            // A file that is broken by itself rules out its version. Anything else ends the resolution: an older
            // version must not be chosen because the newest one could not be looked at today.
            Err(error) if error.code == BAD_METADATA => {
                let reason: Reason = format!("its metadata cannot be read ({error})").into();
                self.broken.borrow_mut().insert((name.clone(), position), Arc::clone(&reason));
                return Ok(Err(reason));
            }
            Err(error) => return Err(error),
        };
        let candidates = self.candidates(name)?;
        if let Some(reason) = self.misfit(&core, name, candidates.version(position as usize)) {
            return Ok(Err(reason));
        }
        let mut found = Vec::new();
        if let Key::Extra(..) = key {
            found.push((self.id(Key::Base(name.clone())), Set::singleton(position)));
        }
        let wants: Vec<_> = self.wants(&core, key).collect();
        for requirement in &wants {
            let named = self.named.get(&requirement.name);
            if let Some(address) = named::address(requirement)
                && !named.is_some_and(|named| named.is_at(&address))
            {
                let reason =
                    format!("it needs `{}` from a URL, not from an index", requirement.name);
                return Ok(Err(reason.into()));
            }
            self.announce_project(requirement);
        }
        let itself = self.id(key.clone());
        for requirement in wants {
            let before = found.len();
            self.require(requirement, &mut found)?;
            if requirement.name != *name {
                continue;
            }
            // A package that wants itself: either it is the same version, which says nothing, or it never fits.
            let fits = found[before..].iter().all(|(_, set)| set.contains(&position));
            if !fits {
                return Ok(Err(
                    format!("it needs another version of itself ({requirement})").into()
                ));
            }
            let own: Vec<_> = found.drain(before..).map(|(id, _)| id).collect();
            for id in own.into_iter().filter(|id| *id != itself) {
                found.push((id, Set::singleton(position)));
            }
        }
        found.dedup();
        Ok(Ok(found))
    }

    /// Why metadata cannot stand for the version that its file's name promises.
    fn misfit(&self, core: &CoreMetadata, name: &PackageName, version: &Version) -> Option<Reason> {
        if core.name != *name || core.version != *version {
            let (name, version) = (&core.name, &core.version);
            return Some(format!("its metadata is that of `{name}` {version}").into());
        }
        let requires = core.requires_python.as_ref()?;
        if admits_python(requires, &self.request.target.python) {
            return None;
        }
        Some(format!("it {}", needs_python(requires, &self.request.target.python)).into())
    }
}

/// What the direct requirements and what is installed already allow.
fn allowances(request: &Request<'_>, rules: &Rules) -> HashMap<PackageName, Allowance> {
    let mut allowances: HashMap<PackageName, Allowance> = HashMap::new();
    let direct = request.requirements.iter().map(|it| (&it.name, specifiers(it)));
    for (name, specifiers) in direct.chain(rules.said()) {
        let allowance = allowances.entry(name.clone()).or_default();
        allowance.prereleases |= mentions_prerelease(specifiers);
        for specifier in specifiers.iter() {
            let version = specifier.version();
            if pins(specifiers, version) {
                allowance.yanked.push(version.clone());
            }
        }
    }
    for (name, version) in request.preferred {
        allowances.entry(name.clone()).or_default().yanked.push(version.clone());
    }
    allowances
}

/// Decide pins first, then what caused many conflicts, then in the order of discovery, which is breadth-first.
type Priority = (u8, Reverse<u32>);

impl DependencyProvider for Provider<'_> {
    type P = Id;
    type V = u32;
    type VS = Set;
    type Priority = Priority;
    type M = Reason;
    type Err = Error;

    fn prioritize(&self, id: &Id, set: &Set, statistics: &PackageResolutionStatistics) -> Priority {
        let order = Reverse(id.0);
        match &*self.key(*id) {
            Key::Root => (u8::MAX, order),
            // An extra follows its base, whatever made the base urgent.
            Key::Extra(..) => (0, order),
            Key::Base(name) => {
                let candidates = self.candidates.borrow();
                let Some(candidates) = candidates.get(name) else { return (2, order) };
                match set.size(candidates.len()) {
                    0 | 1 => (2, order),
                    // Where nothing can be installed, whoever wants it is out: the sooner the better.
                    _ if candidates.best(set, false).is_none() => (2, order),
                    _ if self.early.borrow().contains(name) => (1, order),
                    _ if statistics.conflict_count() >= CONFLICTS_UNTIL_EARLY => (1, order),
                    _ => (0, order),
                }
            }
        }
    }

    fn choose_version(&self, id: &Id, set: &Set) -> Result<Option<u32>, Error> {
        let key = self.key(*id);
        let Some(name) = key.package() else { return Ok(Some(0)) };
        let candidates = self.candidates(name)?;
        if let Key::Extra(..) = *key
            && let Some(position) = self.chosen.borrow().get(name)
            && set.contains(position)
        {
            return Ok(Some(*position));
        }
        let preferred = self.request.preferred.get(name).and_then(|version| {
            let position = candidates.find(version)?;
            let fits = set.contains(&(position as u32)) && candidates.file(position).is_ok();
            fits.then_some(position)
        });
        let best = || candidates.best(set, self.rules.wants_oldest(name));
        let Some(position) = preferred.or_else(best) else { return Ok(None) };
        if let Key::Base(_) = *key {
            let is_further = !self.was_tried(name, position);
            if is_further {
                self.give_up_early(name)?;
                self.tried.borrow_mut().entry(name.clone()).or_default().insert(position);
            }
            self.chosen.borrow_mut().insert(name.clone(), position as u32);
            self.announce(name, &candidates, position);
            if is_further {
                self.announce_next(name, &candidates, set, position);
            }
        }
        Ok(Some(position as u32))
    }

    fn get_dependencies(
        &self,
        id: &Id,
        position: &u32,
    ) -> Result<Dependencies<Id, Set, Reason>, Error> {
        let key = self.key(*id);
        let found = match key.package() {
            Some(name) => self.dependencies(&key, name, *position)?,
            None => {
                let mut found = Vec::new();
                for requirement in self.direct() {
                    self.require(requirement, &mut found)?;
                }
                Ok(found)
            }
        };
        Ok(match found {
            Ok(found) => Dependencies::Available(found.into_iter().collect()),
            Err(reason) => Dependencies::Unavailable(reason),
        })
    }

    fn should_cancel(&self) -> Result<(), Error> {
        // Asking may look at a clock, which costs as much as a step, so it is done at every 16th.
        let calls = self.calls.get().wrapping_add(1);
        self.calls.set(calls);
        if calls % 16 == 1 { (self.request.keep_on)() } else { Ok(()) }
    }
}
