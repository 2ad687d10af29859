//! What building a tree will probably need next, told where packuments arrive. See `resolve::pypi::ahead`, which says why; a
//! wrong guess (engines and overrides are not looked at) costs a request, never an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::catalogue::Role;
use super::want::{Want, Wanted};
use crate::limits::{AHEAD_PACKAGES_MAX, AHEAD_WANTS_MAX};
use crate::metadata::npm::{Ahead, Listed, Packument, Version};
use crate::resolve::ahead::Budget;

/// Walks ahead of one resolution.
#[derive(Default)]
pub(super) struct Scout {
    budget: Budget,
    known: Mutex<HashMap<String, Known>>,
}

/// What is followed of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Its peers and theirs: it is looked at only to see whether it would agree with others. Databases and bundlers are optional peers by the
    /// dozen, and what they need in turn is half of what a registry would be asked for in vain.
    Peers,
    /// All that it needs: it is going to be installed.
    All,
}

impl Reach {
    /// How far what stands in a table is followed, of a package that is going to be installed.
    pub(super) fn of(role: Role) -> Self {
        if role == Role::OptionalPeer { Self::Peers } else { Self::All }
    }
}

/// A name and what is wanted of it.
type Wish = (String, String, Reach);

/// What is known of one package.
#[derive(Default)]
struct Known {
    wants: HashMap<String, (Arc<Wanted>, Reach)>,
    /// As long as somebody else keeps it: a registry must not fill the memory with what nobody asked for.
    arrived: Weak<Packument>,
    /// Versions that were followed, and how far.
    followed: HashMap<String, Reach>,
}

impl Scout {
    /// Adds a dependency, and says which packages to announce for it.
    pub(super) fn want(&self, name: &str, text: &str, reach: Reach) -> Vec<String> {
        let mut next = Vec::new();
        let wanted = VecDeque::from([(name.to_owned(), text.to_owned(), reach)]);
        follow(&mut self.lock(), wanted, &self.budget, &mut next);
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn follow(
    known: &mut HashMap<String, Known>,
    mut wanted: VecDeque<Wish>,
    budget: &Budget,
    next: &mut Vec<String>,
) {
    while let Some((name, text, reach)) = wanted.pop_front() {
        if !budget.look(0) {
            return;
        }
        let wanting = Wanted::shared(&text);
        let want = &wanting.want;
        if matches!(want, Want::Archive(_) | Want::Unsupported(_)) {
            continue;
        }
        let package = want.package(&name).to_owned();
        let is_new = !known.contains_key(&package);
        if is_new && known.len() >= AHEAD_PACKAGES_MAX {
            continue;
        }
        let entry = known.entry(package.clone()).or_default();
        match entry.wants.get(&text) {
            Some((_, before)) if *before >= reach => continue,
            None if entry.wants.len() >= AHEAD_WANTS_MAX => continue,
            _ => {}
        }
        if is_new {
            next.push(package);
        }
        if let Some(packument) = entry.arrived.upgrade() {
            wanted.extend(pick(&packument, (want, reach), budget, &mut entry.followed));
        }
        entry.wants.insert(text, (wanting, reach));
    }
}

/// What the version needs that would be chosen for a want; nothing where that was followed as far already.
fn pick(
    packument: &Packument,
    (want, reach): (&Want, Reach),
    budget: &Budget,
    followed: &mut HashMap<String, Reach>,
) -> Vec<Wish> {
    if !budget.look(packument.versions.len()) {
        return Vec::new();
    }
    let Some(entry) = chosen(packument, want) else { return Vec::new() };
    if followed.get(&entry.version).is_some_and(|before| *before >= reach) {
        return Vec::new();
    }
    followed.insert(entry.version.clone(), reach);
    let wish =
        |reach: Reach| move |(name, text): (&String, &String)| (name.clone(), text.clone(), reach);
    let is_optional = |name: &String| entry.optional_peers.contains(name);
    let comes_inside = |(name, _, _): &Wish| entry.bundled.contains(name);
    let peers = entry.peer_dependencies.iter();
    let peers = peers.map(|one| wish(if is_optional(one.0) { Reach::Peers } else { reach })(one));
    let tables = [&entry.dependencies, &entry.optional_dependencies];
    let needed = tables.into_iter().filter(|_| reach == Reach::All).flatten().map(wish(reach));
    needed.chain(peers).filter(|one| !comes_inside(one)).collect()
}

/// The version that would be chosen for a want.
fn chosen(packument: &Packument, want: &Want) -> Option<Arc<Version>> {
    match want.target() {
        Want::Tag(tag) => packument.versions.get(packument.dist_tags.get(tag)?),
        Want::Exact { text, .. } => packument.versions.get(text),
        Want::Range { range, any } => {
            let fits = |one: &Listed<'_>| one.is_in(range);
            let latest = packument.dist_tags.get("latest");
            let latest = latest.and_then(|text| packument.versions.listed(text));
            let latest = latest.filter(|one| !one.is_deprecated() && (*any || fits(one)));
            // Sound ones first, then the highest.
            let mut inside = packument.versions.ranked().filter(fits);
            let best = || {
                let highest = inside.next()?;
                let mut sound = std::iter::once(highest).chain(inside);
                Some(sound.find(|one| !one.is_deprecated()).unwrap_or(highest))
            };
            latest.or_else(best).map(Listed::version)
        }
        Want::Alias { .. } | Want::Local(_) | Want::Archive(_) | Want::Unsupported(_) => None,
    }
}

impl Ahead for Scout {
    fn after(&self, packument: &Arc<Packument>) -> Vec<String> {
        let mut known = self.lock();
        if known.len() >= AHEAD_PACKAGES_MAX {
            return Vec::new();
        }
        let entry = known.entry(packument.name.clone()).or_default();
        entry.arrived = Arc::downgrade(packument);
        let wants = entry.wants.values();
        let mut wanted = VecDeque::new();
        for (want, reach) in wants {
            let want = (&want.want, *reach);
            wanted.extend(pick(packument, want, &self.budget, &mut entry.followed));
        }
        let mut next = Vec::new();
        follow(&mut known, wanted, &self.budget, &mut next);
        next
    }
}
