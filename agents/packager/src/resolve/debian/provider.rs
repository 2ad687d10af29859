//! dpkg's rules as `pubgrub` asks for them.
//!
//! "Not installed" is a version of every package, at position 0: so `Conflicts` and removals are ordinary requirements, and
//! everything that is decided was decided for a reason. Alternatives are packages of their own, whose versions are the ways to
//! meet them; what is recommended has one more, to do without.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use pubgrub::{Dependencies, DependencyProvider, PackageResolutionStatistics, VersionSet};

use super::stock::{AWAY, Stock};
use super::{Request, unknown};
use crate::error::{Error, Kind};
use crate::limits::CONFLICTS_UNTIL_EARLY;
use crate::metadata::debian::{Bound, Group, Metadata, Package, Relation};
use crate::resolve::indexed::{Id, Interner, Reason, Set};

/// What an [`Id`] stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The machine.
    Root,
    /// A package of an architecture.
    Package(Rc<str>, Rc<str>),
    /// Ways to meet a group of alternatives, with what it says; whether it can be left unmet.
    Choice(Rc<[(Id, Set)]>, Rc<str>, bool),
}

/// One resolution under way.
pub(super) struct Provider<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) metadata: &'a dyn Metadata,
    ids: RefCell<Interner<Key>>,
    stocks: RefCell<HashMap<Id, Rc<Stock>>>,
    /// Bounds of wishes by package.
    asked: HashMap<String, Vec<Bound>>,
    /// Installed packages by the names that they mention: who has to be looked at again when something changes.
    mentions: HashMap<String, Vec<usize>>,
    /// What was last chosen for a package: alternatives that are there anyway are preferred.
    chosen: RefCell<HashMap<Id, usize>>,
    /// What the machine is asked to have, before anything else.
    wanted: Vec<(Id, Set)>,
    calls: Cell<u32>,
}

type Found = Vec<(Id, Set)>;

impl<'a> Provider<'a> {
    pub(super) fn new(request: &'a Request<'a>, metadata: &'a dyn Metadata) -> Result<Self, Error> {
        let mut provider = Self {
            request,
            metadata,
            ids: RefCell::new(Interner::new(Key::Root)),
            stocks: RefCell::default(),
            asked: HashMap::new(),
            mentions: HashMap::new(),
            chosen: RefCell::default(),
            wanted: Vec::new(),
            calls: Cell::new(0),
        };
        for wish in request.wishes {
            let bounds = provider.asked.entry(wish.name.clone()).or_default();
            bounds.extend(wish.bound.clone());
        }
        for (position, package) in metadata.installed().iter().enumerate() {
            let groups = package.depends.iter().flat_map(|group| &group.0);
            let conflicts = package.conflicts.iter().map(|conflict| &conflict.relation);
            let names: BTreeSet<&str> = groups.chain(conflicts).map(|it| &*it.name).collect();
            // What is installed side by side for several architectures has one version.
            for name in names.into_iter().chain([package.name.as_str()]) {
                provider.mentions.entry(name.to_owned()).or_default().push(position);
            }
        }
        provider.wanted = provider.wishes()?;
        Ok(provider)
    }

    pub(super) fn key(&self, id: Id) -> Key {
        self.ids.borrow().key(id).clone()
    }

    fn id(&self, key: Key) -> Id {
        self.ids.borrow_mut().id(key)
    }

    pub(super) fn package_id(&self, name: &str, architecture: &str) -> Id {
        self.id(Key::Package(name.into(), architecture.into()))
    }

    /// The versions of a package.
    pub(super) fn stock(&self, id: Id) -> Result<Rc<Stock>, Error> {
        if let Some(stock) = self.stocks.borrow().get(&id) {
            return Ok(Rc::clone(stock));
        }
        let Key::Package(name, architecture) = self.key(id) else {
            return Err(Error::new(Kind::Failed, "inconsistent", "a choice has no versions"));
        };
        let qualified = format!("{name}:{architecture}");
        let is_native = *architecture == *self.metadata.native();
        let plain = is_native.then(|| self.asked.get(&*name)).flatten();
        let asked = plain.or_else(|| self.asked.get(&qualified)).map_or(&[][..], Vec::as_slice);
        let stock = Stock::new(self.metadata, &name, &architecture, asked)?;
        self.stocks.borrow_mut().insert(id, Rc::clone(&stock));
        Ok(stock)
    }

    /// What is asked for, as requirements of the machine.
    fn wishes(&self) -> Result<Found, Error> {
        let mut found = Vec::new();
        for wish in self.request.wishes {
            let (name, architecture) =
                wish.name.split_once(':').unwrap_or((&wish.name, self.metadata.native()));
            let id = self.package_id(name, architecture);
            let stock = self.stock(id)?;
            if stock.versions.is_empty() && !wish.is_removal {
                found.push(self.only_provider(name, architecture)?);
                continue;
            }
            let set = match (&wish.bound, wish.is_removal) {
                (_, true) => {
                    if stock.installed.is_none() {
                        let message = format!("`{}` is not installed", wish.name);
                        return Err(Error::new(Kind::Usage, "not-installed", message));
                    }
                    Set::singleton(AWAY as u32)
                }
                (Some(bound), false) => stock.having(|it| bound.holds(&it.key)),
                // As apt does: what is asked for is brought to its newest version, unless that is excluded.
                (None, false) => stock.having(|_| true),
            };
            found.push((id, set));
        }
        Ok(found)
    }

    /// The one package that provides a name which is none itself.
    fn only_provider(&self, name: &str, architecture: &str) -> Result<(Id, Set), Error> {
        let relation = Relation { name: name.into(), qualifier: None, bound: None };
        let found = self.ways(&Group(vec![relation]), architecture)?;
        match found.as_slice() {
            [] => Err(unknown(name)),
            [only] => Ok(only.clone()),
            several => {
                let names: Vec<_> =
                    several.iter().take(10).filter_map(|(id, _)| self.name_of(*id)).collect();
                let message = format!("`{name}` is no package but something that packages provide");
                Err(Error::new(Kind::Usage, "virtual-package", message)
                    .hint(format!("ask for one of them: {}", names.join(", "))))
            }
        }
    }

    pub(super) fn name_of(&self, id: Id) -> Option<String> {
        match self.key(id) {
            Key::Package(name, architecture) if *architecture == *self.metadata.native() => {
                Some(name.to_string())
            }
            Key::Package(name, architecture) => Some(format!("{name}:{architecture}")),
            _ => None,
        }
    }

    /// The ways to meet a group that a package of an architecture has, in order of preference: the alternatives as written;
    /// of each the package itself, then what provides it, the important ones first.
    pub(super) fn ways(&self, group: &Group, from: &str) -> Result<Found, Error> {
        let mut found: Found = Vec::new();
        let mut add = |package: &Package, meets: &dyn Fn(&Package) -> bool| -> Result<(), Error> {
            let id = self.package_id(&package.name, &package.architecture);
            let set = self.stock(id)?.having(meets);
            if set.is_empty() {
                return Ok(());
            }
            match found.iter_mut().find(|(known, _)| *known == id) {
                // The same package twice: by itself and as what it provides, or in two versions.
                Some((_, known)) => *known = known.union(&set),
                None => found.push((id, set)),
            }
            Ok(())
        };
        for relation in &group.0 {
            for package in self.metadata.named(&relation.name)?.iter() {
                add(package, &|it| it.meets(relation, from) || it.provides(relation, from))?;
            }
            let providers = self.metadata.providers(&relation.name)?;
            let mut providers: Vec<&Arc<Package>> = providers.iter().collect();
            providers.sort_by_key(|it| (it.architecture != from, it.importance));
            for package in providers {
                add(package, &|it| it.provides(relation, from))?;
            }
        }
        Ok(found)
    }

    /// Whether the machine as it is has one of several ways.
    fn is_met(&self, ways: &[(Id, Set)]) -> Result<bool, Error> {
        for (id, set) in ways {
            let installed = self.stock(*id)?.installed;
            if installed.is_some_and(|position| set.contains(&(position as u32))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds a group: its one way, or a choice between several.
    fn require(&self, group: &Group, ways: Found, is_soft: bool, found: &mut Found) {
        match ways.as_slice() {
            [only] if !is_soft => found.push(only.clone()),
            _ => {
                let count = ways.len() + usize::from(is_soft);
                let text: Rc<str> = group.to_string().into();
                let id = self.id(Key::Choice(ways.into(), text, is_soft));
                found.push((id, Set::of(count, |_| true)));
            }
        }
    }

    /// What a version needs, forbids, and makes worth another look.
    fn dependencies(&self, stock: &Stock, position: usize) -> Result<Found, Error> {
        let mut found = Vec::new();
        let is_change = stock.installed != Some(position);
        let before = stock.installed.and_then(|installed| stock.at(installed));
        if is_change {
            self.look_again(stock, position, &mut found)?;
        }
        let Some(package) = stock.at(position) else { return Ok(found) };
        for group in &package.depends {
            let ways = self.ways(group, &package.architecture)?;
            // What is broken already is not for this change to mend.
            if !is_change && !self.is_met(&ways)? {
                continue;
            }
            self.require(group, ways, false, &mut found);
        }
        if is_change && self.metadata.follows_recommends() {
            for group in &package.recommends {
                // An upgrade brings along what is newly recommended, not what was done without.
                if before.is_some_and(|before| before.recommends.contains(group)) {
                    continue;
                }
                let ways = self.ways(group, &package.architecture)?;
                if !ways.is_empty() {
                    self.require(group, ways, true, &mut found);
                }
            }
        }
        self.forbid(package, is_change, &mut found)?;
        Ok(found)
    }

    /// `Conflicts` and `Breaks`, and the versions of other architectures that cannot stand beside it.
    fn forbid(
        &self,
        package: &Arc<Package>,
        is_change: bool,
        found: &mut Found,
    ) -> Result<(), Error> {
        use crate::metadata::debian::MultiArch;
        let mut others: BTreeSet<(String, String)> = BTreeSet::new();
        for conflict in &package.conflicts {
            let name = &conflict.relation.name;
            let known = [self.metadata.named(name)?, self.metadata.providers(name)?];
            let meant = known.iter().flat_map(|it| it.iter());
            let meant = meant.filter(|it| package.forbids(conflict, it));
            others.extend(meant.map(|it| (it.name.clone(), it.architecture.clone())));
        }
        for other in self.metadata.named(&package.name)?.iter() {
            if other.architecture != package.architecture {
                others.insert((other.name.clone(), other.architecture.clone()));
            }
        }
        for (name, architecture) in others {
            let id = self.package_id(&name, &architecture);
            let stock = self.stock(id)?;
            let excludes = |other: &Package| match other.name == package.name {
                false => package.conflicts.iter().any(|it| package.forbids(it, other)),
                true => {
                    let is_same = |it: &Package| it.multi_arch == MultiArch::Same;
                    !is_same(package) || !is_same(other) || other.version != package.version
                }
            };
            let mut set = stock.lacking(excludes);
            // As with dependencies: what is side by side already may stay so.
            if let Some(installed) = stock.installed.filter(|_| !is_change) {
                set = set.union(&Set::singleton(installed as u32));
            }
            if set != stock.all() {
                found.push((id, set));
            }
        }
        Ok(())
    }

    /// Brings in what is installed and mentions something that comes, goes or changes: its own rules then apply.
    fn look_again(&self, stock: &Stock, position: usize, found: &mut Found) -> Result<(), Error> {
        let before = stock.installed.and_then(|installed| stock.at(installed));
        let both = before.into_iter().chain(stock.at(position));
        let provided = both.flat_map(|it| &it.provides).map(|it| it.name.as_str());
        let names: BTreeSet<&str> = provided.chain([stock.name.as_str()]).collect();
        let positions = names.iter().filter_map(|name| self.mentions.get(*name)).flatten();
        let positions: BTreeSet<usize> = positions.copied().collect();
        for position in positions {
            let package = &self.metadata.installed()[position];
            if package.name == stock.name && package.architecture == stock.architecture {
                continue;
            }
            let id = self.package_id(&package.name, &package.architecture);
            found.push((id, self.stock(id)?.all()));
        }
        Ok(())
    }

    /// Positions of a package in order of preference.
    fn preference(&self, id: Id, stock: &Stock) -> Vec<usize> {
        let wanted = self.wanted.iter().any(|(known, _)| *known == id);
        let newest = (1..stock.count()).rev();
        let first = match (wanted, stock.installed) {
            (true, _) => [stock.candidate, stock.installed],
            (false, Some(_)) => [stock.installed, stock.candidate],
            // Not needed: it stays away. Where it is needed, being away is excluded.
            (false, None) => [Some(AWAY), stock.candidate],
        };
        first.into_iter().flatten().chain(newest).chain([AWAY]).collect()
    }

    /// The first way that is there anyway, else the first one.
    fn choose_way(&self, ways: &[(Id, Set)], is_soft: bool, set: &Set) -> Option<usize> {
        let count = ways.len() + usize::from(is_soft);
        let chosen = self.chosen.borrow();
        let is_there = |position: &usize| {
            let Some((package, versions)) = ways.get(*position) else { return false };
            let installed = self.stock(*package).ok().and_then(|stock| stock.installed);
            let now = chosen.get(package).copied().or(installed);
            now.is_some_and(|position| versions.contains(&(position as u32)))
        };
        set.members(count).find(is_there).or_else(|| set.members(count).next())
    }
}

/// What is certain to be there is decided first; then what has to be chosen, what is only recommended, and last what may
/// stay as it is. Culprits of many conflicts come early.
type Priority = (u8, Reverse<u32>);

impl DependencyProvider for Provider<'_> {
    type P = Id;
    type V = u32;
    type VS = Set;
    type Priority = Priority;
    type M = Reason;
    type Err = Error;

    fn prioritize(&self, id: &Id, set: &Set, statistics: &PackageResolutionStatistics) -> Priority {
        let is_culprit = statistics.conflict_count() >= CONFLICTS_UNTIL_EARLY;
        let class = match self.key(*id) {
            Key::Root => 5,
            Key::Package(..) if !set.contains(&(AWAY as u32)) => 4,
            Key::Choice(.., false) if is_culprit => 4,
            Key::Choice(.., false) => 3,
            Key::Choice(.., true) => 1,
            // What is installed and may go: stays, unless it was found in the way often.
            Key::Package(..) if is_culprit => 2,
            Key::Package(..) => 0,
        };
        (class, Reverse(id.0))
    }

    fn choose_version(&self, id: &Id, set: &Set) -> Result<Option<u32>, Error> {
        let found = match self.key(*id) {
            Key::Root => Some(0),
            Key::Package(..) => {
                let stock = self.stock(*id)?;
                let allowed = stock.allowed();
                let order = self.preference(*id, &stock);
                let fits =
                    |at: &usize| set.contains(&(*at as u32)) && allowed.contains(&(*at as u32));
                let found = order.into_iter().find(fits);
                if let Some(position) = found {
                    self.chosen.borrow_mut().insert(*id, position);
                }
                found
            }
            Key::Choice(ways, _, is_soft) => self.choose_way(&ways, is_soft, set),
        };
        Ok(found.map(|position| position as u32))
    }

    fn get_dependencies(
        &self,
        id: &Id,
        position: &u32,
    ) -> Result<Dependencies<Id, Set, Reason>, Error> {
        let found = match self.key(*id) {
            Key::Root => self.wanted.clone(),
            Key::Package(..) => self.dependencies(&*self.stock(*id)?, *position as usize)?,
            // Past the last way nothing is needed.
            Key::Choice(ways, ..) => ways.get(*position as usize).cloned().into_iter().collect(),
        };
        let mut kept: Vec<(Id, Set)> = Vec::with_capacity(found.len());
        for (to, set) in found {
            if to == *id {
                if !set.contains(position) {
                    return Ok(Dependencies::Unavailable("it excludes itself".into()));
                }
            } else if !kept.contains(&(to, set.clone())) {
                kept.push((to, set));
            }
        }
        Ok(Dependencies::Available(kept.into_iter().collect()))
    }

    fn should_cancel(&self) -> Result<(), Error> {
        let calls = self.calls.get().wrapping_add(1);
        self.calls.set(calls);
        if calls % 16 == 1 { (self.request.keep_on)() } else { Ok(()) }
    }
}
