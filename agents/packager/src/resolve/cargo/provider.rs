//! The registry's index as `pubgrub` asks for it.
//!
//! Cargo's rules become packages: a crate in one range of compatible versions; each of its features, which needs
//! the crate at the same version and what the feature lists; for a requirement that spans several ranges, a choice
//! whose versions are the ranges; and for each native library, the right to link it, which one version has.

mod needs;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use pubgrub::{Dependencies, DependencyProvider, PackageResolutionStatistics, VersionSet};
use semver::{Version, VersionReq};

use super::activation::Manifest;
use super::ahead::Scout;
use super::crates::{Bucket, Crates, Matching};
use super::{Request, Root};
use crate::error::{Error, Kind};
use crate::limits::CONFLICTS_UNTIL_EARLY;
use crate::metadata::Hashes;
use crate::metadata::cargo::{self as metadata, Crate, Listed, Metadata, Need, Scope};
use crate::resolve::indexed::{Id, Interner, Reason, Set};

/// What an [`Id`] stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The workspace.
    Root,
    /// A member, by position.
    Member(usize),
    /// A crate in one range of compatible versions.
    Crate(Rc<str>, Bucket),
    /// A feature of one.
    Feature(Rc<str>, Bucket, Rc<str>),
    /// Which range a dependent's requirement is met in. The positions are those of [`Matching`].
    Choice(Id, Rc<str>, Rc<str>),
    /// A feature of whatever the choice (given as package) falls on.
    ChoiceFeature(Id, Rc<str>),
    /// The right to link a native library. The positions are those of the holders.
    Links(Rc<str>),
}

/// One resolution under way.
pub(super) struct Provider<'a> {
    pub(super) request: &'a Request<'a>,
    /// The members, packed as crates are.
    members: Vec<Crate>,
    metadata: &'a dyn Metadata,
    /// Walks ahead where something has to be waited for.
    scout: Arc<Scout>,
    pub(super) ids: RefCell<Interner<Key>>,
    crates: RefCell<HashMap<Rc<str>, Arc<Crates>>>,
    /// Crates of which it is known that nothing has to be waited for.
    at_hand: RefCell<HashSet<Rc<str>>>,
    /// By crate.
    matching: RefCell<HashMap<Rc<str>, ByRequirement>>,
    /// Who links a native library.
    holders: RefCell<HashMap<Rc<str>, Vec<Holder>>>,
    /// The position last chosen for a crate: its features follow it.
    chosen: RefCell<HashMap<(Rc<str>, Bucket), u32>>,
    /// The position last chosen for a choice, likewise.
    fallen: RefCell<HashMap<Id, u32>>,
    calls: Cell<u32>,
}

/// One version of a crate.
#[derive(Clone)]
pub(super) struct Chosen {
    krate: Arc<Crate>,
    position: usize,
}

impl Chosen {
    pub(super) fn listed(&self) -> Listed<'_> {
        self.krate.listed(self.position)
    }
}

/// A member in the form that crates have.
fn packed(root: &Root, scope: Option<&Arc<Scope>>) -> Result<Crate, Error> {
    let version = metadata::Version {
        version: root.version.clone(),
        dependencies: root.dependencies.clone(),
        features: root.features.clone(),
        yanked: false,
        links: None,
        rust_version: None,
        hashes: Hashes::default(),
        published: None,
    };
    let member = Crate::member(&root.name, &version).map_err(|error| {
        let message = format!("the manifest of `{}` cannot be resolved: {error}", root.name);
        Error::new(Kind::Usage, "bad-manifest", message)
    })?;
    Ok(scope.map_or_else(|| member.clone(), |scope| member.within(Arc::clone(scope))))
}

/// Where each requirement on a crate can be met.
type ByRequirement = HashMap<Rc<str>, Matching>;

/// A version that links a native library.
type Holder = (Rc<str>, Version);

/// What one dependency, with the features asked of it, means to the solver.
type Found = Vec<(Id, Set)>;

impl<'a> Provider<'a> {
    pub(super) fn new(request: &'a Request<'a>, metadata: &'a dyn Metadata) -> Result<Self, Error> {
        let members = request.roots.iter();
        let members = members.map(|root| packed(root, request.scope)).collect::<Result<_, _>>()?;
        let scout = Arc::new(Scout::new(request));
        let ahead: Arc<dyn metadata::Ahead> = Arc::<Scout>::clone(&scout);
        metadata.follow(&ahead);
        Ok(Self {
            request,
            members,
            metadata,
            scout,
            ids: RefCell::new(Interner::new(Key::Root)),
            crates: RefCell::default(),
            at_hand: RefCell::default(),
            matching: RefCell::default(),
            holders: RefCell::default(),
            chosen: RefCell::default(),
            fallen: RefCell::default(),
            calls: Cell::new(0),
        })
    }

    pub(super) fn key(&self, id: Id) -> Key {
        self.ids.borrow().key(id).clone()
    }

    pub(super) fn id(&self, key: Key) -> Id {
        self.ids.borrow_mut().id(key)
    }

    /// The crate that a package belongs to.
    pub(super) fn crate_name(&self, id: Id) -> Option<Rc<str>> {
        match self.key(id) {
            Key::Crate(name, _) | Key::Feature(name, ..) | Key::Choice(_, name, _) => Some(name),
            Key::ChoiceFeature(choice, _) => self.crate_name_of_choice(choice),
            Key::Root | Key::Member(_) | Key::Links(_) => None,
        }
    }

    fn crate_name_of_choice(&self, choice: Id) -> Option<Rc<str>> {
        match self.key(choice) {
            Key::Choice(_, name, _) => Some(name),
            _ => None,
        }
    }

    /// Fails with the registry's own words where a direct dependency does not exist, and where members' features
    /// mention what does not exist.
    pub(super) fn check_roots(&self) -> Result<(), Error> {
        let needs = || (0..self.members.len()).flat_map(|position| self.member(position).needs());
        for need in needs() {
            self.announce(need);
        }
        for need in needs() {
            if self.crates(&need.key())?.krate.is_none() {
                self.metadata.krate(&need.key())?;
            }
        }
        for (position, root) in self.request.roots.iter().enumerate() {
            let manifest = self.member(position);
            if let Err(feature) = manifest.activate(manifest.all_features()) {
                let message =
                    format!("a feature of `{}` lists `{feature}`, which does not exist", root.name);
                return Err(Error::new(Kind::Usage, "unknown-feature", message)
                    .hint("name a feature, or an optional dependency as `dep:NAME`"));
            }
        }
        Ok(())
    }

    pub(super) fn member(&self, position: usize) -> Manifest<'_> {
        // Each was packed from one version.
        Manifest(self.members[position].listed(0))
    }

    /// The versions of a crate; none where the registry does not know it.
    pub(super) fn crates(&self, name: &str) -> Result<Arc<Crates>, Error> {
        if let Some(crates) = self.crates.borrow().get(name) {
            return Ok(Arc::clone(crates));
        }
        let crates = match self.metadata.krate(name) {
            Ok(krate) => {
                // The scout may have seen more than counts here: versions that are too young.
                let is_same = |made: &Arc<Crates>| {
                    made.krate.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &krate))
                };
                let locked = self.request.preferred.get(name);
                let made = self.scout.crates(name).filter(is_same);
                made.unwrap_or_else(|| Arc::new(Crates::new(krate, locked, self.request.policy)))
            }
            Err(error) if error.code == "unknown-package" => Arc::new(Crates::none()),
            Err(error) => return Err(error),
        };
        self.crates.borrow_mut().insert(Rc::from(name), Arc::clone(&crates));
        Ok(crates)
    }

    /// Announces what a dependency is about. Where it is not there yet, what it leads to is followed without waiting for
    /// the solver.
    fn announce(&self, need: Need<'_>) {
        let name = &*need.key();
        if self.at_hand.borrow().contains(name) {
            return;
        }
        if self.metadata.prefetch(name) {
            self.at_hand.borrow_mut().insert(name.into());
            return;
        }
        for name in self.scout.want(need) {
            self.metadata.prefetch(&name);
        }
    }

    /// Where a requirement can be met.
    pub(super) fn matching(&self, name: &str, requirement: &str) -> Result<Matching, Error> {
        let mut matching = self.matching.borrow_mut();
        if let Some(found) = matching.get(name).and_then(|found| found.get(requirement)) {
            return Ok(Rc::clone(found));
        }
        let wanted = VersionReq::parse(requirement).map_err(|error| {
            let message = format!("`{requirement}` is no requirement of `{name}`: {error}");
            Error::new(Kind::Failed, "bad-requirement", message)
        })?;
        let found = self.crates(name)?.matching(&wanted);
        let of_name = matching.entry(Rc::from(name)).or_default();
        of_name.insert(Rc::from(requirement), Rc::clone(&found));
        Ok(found)
    }

    /// The version at a position.
    pub(super) fn version(
        &self,
        name: &str,
        bucket: Bucket,
        position: u32,
    ) -> Result<Chosen, Error> {
        let crates = self.crates(name)?;
        let candidate = crates.list(bucket).get(position as usize);
        let chosen = crates.krate.as_ref().zip(candidate).map(|(krate, candidate)| Chosen {
            krate: Arc::clone(krate),
            position: candidate.position as usize,
        });
        chosen.ok_or_else(|| {
            Error::new(Kind::Failed, "no-version", format!("`{name}` has no version in {bucket}"))
        })
    }

    fn count(&self, name: &str, bucket: Bucket, set: &Set) -> usize {
        self.crates.borrow().get(name).map_or(0, |crates| set.size(crates.list(bucket).len()))
    }

    fn count_choice(&self, name: &str, requirement: &str, set: &Set) -> usize {
        let Ok(matching) = self.matching(name, requirement) else { return 0 };
        let positions = set.members(matching.len());
        positions
            .map(|position| self.count(name, matching[position].0, &matching[position].1))
            .sum()
    }

    /// Prunes what the solver cannot take: a package that needs itself.
    fn checked(&self, id: Id, position: u32, found: Found) -> Result<Found, Reason> {
        let mut kept: Found = Vec::with_capacity(found.len());
        let mut seen: HashSet<(Id, Set)> = HashSet::with_capacity(found.len());
        for (to, set) in found {
            if to == id {
                if !set.contains(&position) {
                    return Err("it needs another version of itself".into());
                }
                continue;
            }
            if seen.insert((to, set.clone())) {
                kept.push((to, set));
            }
        }
        Ok(kept)
    }
}

/// What caused many more conflicts than it has versions first; then, as cargo does, what has the fewest candidates; then in the order of
/// discovery. A feature never precedes its crate: its set is no smaller, and it was discovered later.
type Priority = (u8, Reverse<usize>, Reverse<u32>);

impl DependencyProvider for Provider<'_> {
    type P = Id;
    type V = u32;
    type VS = Set;
    type Priority = Priority;
    type M = Reason;
    type Err = Error;

    fn prioritize(&self, id: &Id, set: &Set, statistics: &PackageResolutionStatistics) -> Priority {
        let (class, count) = match self.key(*id) {
            Key::Root | Key::Member(_) => (2, 0),
            Key::Links(_) => (0, 0),
            Key::Crate(name, bucket) => {
                // One conflict for each version is a walk down the list, which something decided before may be the reason of, and
                // cargo goes that way, too.
                let versions = self.count(&name, bucket, &Set::full()) as u32;
                let is_culprit = statistics.conflict_count() >= CONFLICTS_UNTIL_EARLY + versions;
                (u8::from(is_culprit), self.count(&name, bucket, set))
            }
            Key::Feature(name, bucket, _) => (0, self.count(&name, bucket, set)),
            Key::Choice(_, name, requirement) => (0, self.count_choice(&name, &requirement, set)),
            Key::ChoiceFeature(choice, _) => match self.key(choice) {
                Key::Choice(_, name, requirement) => {
                    (0, self.count_choice(&name, &requirement, set))
                }
                _ => (0, 0),
            },
        };
        (class, Reverse(count), Reverse(id.0))
    }

    fn choose_version(&self, id: &Id, set: &Set) -> Result<Option<u32>, Error> {
        let found = match self.key(*id) {
            Key::Root | Key::Member(_) => Some(0),
            Key::Crate(name, bucket) => {
                let best = self.crates(&name)?.best(bucket, set);
                if let Some(position) = best {
                    self.chosen.borrow_mut().insert((name, bucket), position as u32);
                }
                best
            }
            Key::Feature(name, bucket, _) => {
                let chosen = self.chosen.borrow().get(&(Rc::clone(&name), bucket)).copied();
                match chosen {
                    Some(position) if set.contains(&position) => Some(position as usize),
                    _ => self.crates(&name)?.best(bucket, set),
                }
            }
            Key::Choice(_, name, requirement) => {
                let count = self.matching(&name, &requirement)?.len();
                let last = set.members(count).next_back();
                if let Some(position) = last {
                    self.fallen.borrow_mut().insert(*id, position as u32);
                }
                last
            }
            Key::ChoiceFeature(choice, _) => {
                let Key::Choice(_, name, requirement) = self.key(choice) else { return Ok(None) };
                let fallen = self.fallen.borrow().get(&choice).copied();
                match fallen {
                    Some(position) if set.contains(&position) => Some(position as usize),
                    _ => set.members(self.matching(&name, &requirement)?.len()).next_back(),
                }
            }
            Key::Links(name) => {
                let count = self.holders.borrow().get(&name).map_or(0, Vec::len);
                set.members(count).next()
            }
        };
        Ok(found.map(|position| position as u32))
    }

    fn get_dependencies(
        &self,
        id: &Id,
        position: &u32,
    ) -> Result<Dependencies<Id, Set, Reason>, Error> {
        let found = match self.key(*id) {
            Key::Root => {
                let member = |position| (self.id(Key::Member(position)), Set::singleton(0));
                Ok((0..self.request.roots.len()).map(member).collect())
            }
            Key::Member(member) => Ok(self.member_dependencies(*id, member)?),
            Key::Crate(name, bucket) => self.crate_dependencies(*id, &name, bucket, *position)?,
            Key::Feature(name, bucket, feature) => {
                self.feature_dependencies(&name, bucket, &feature, *position)?
            }
            Key::Choice(_, name, requirement) => {
                let (bucket, set) = self.choice(&name, &requirement, *position)?;
                Ok(vec![(self.id(Key::Crate(name, bucket)), set)])
            }
            Key::ChoiceFeature(choice, feature) => match self.key(choice) {
                Key::Choice(_, name, requirement) => {
                    let (bucket, set) = self.choice(&name, &requirement, *position)?;
                    let mut found = vec![(choice, Set::singleton(*position))];
                    if !self.may_skip(&name, bucket, &set, &feature)? {
                        found.push((self.id(Key::Feature(name, bucket, feature)), set));
                    }
                    Ok(found)
                }
                _ => Ok(Vec::new()),
            },
            Key::Links(_) => Ok(Vec::new()),
        };
        Ok(match found.and_then(|found| self.checked(*id, *position, found)) {
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
