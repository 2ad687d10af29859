//! What building a tree will probably need next, told where packuments arrive. See `resolve::pypi::ahead`, which says why; a
//! wrong guess (engines and overrides are not looked at) costs a request, never an answer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::want::{Want, Wanted};
use crate::limits::{AHEAD_PACKAGES_MAX, AHEAD_WANTS_MAX};
use crate::metadata::npm::{Ahead, Listed, Packument};
use crate::resolve::ahead::Budget;

/// Walks ahead of one resolution.
#[derive(Default)]
pub(super) struct Scout {
    budget: Budget,
    known: Mutex<HashMap<String, Known>>,
}

/// What is known of one package.
#[derive(Default)]
struct Known {
    wants: HashMap<String, Arc<Wanted>>,
    /// As long as somebody else keeps it: a registry must not fill the memory with what nobody asked for.
    arrived: Weak<Packument>,
    /// Versions that were followed.
    followed: HashSet<String>,
}

impl Scout {
    /// Adds a dependency, and says which packages to announce for it.
    pub(super) fn want(&self, name: &str, text: &str) -> Vec<String> {
        let mut next = Vec::new();
        let wanted = VecDeque::from([(name.to_owned(), text.to_owned())]);
        follow(&mut self.lock(), wanted, &self.budget, &mut next);
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn follow(
    known: &mut HashMap<String, Known>,
    mut wanted: VecDeque<(String, String)>,
    budget: &Budget,
    next: &mut Vec<String>,
) {
    while let Some((name, text)) = wanted.pop_front() {
        if !budget.look(0) {
            return;
        }
        let wanting = Wanted::shared(&text);
        let want = &wanting.want;
        if matches!(want, Want::Unsupported(_)) {
            continue;
        }
        let package = want.package(&name).to_owned();
        let is_new = !known.contains_key(&package);
        if is_new && known.len() >= AHEAD_PACKAGES_MAX {
            continue;
        }
        let entry = known.entry(package.clone()).or_default();
        if entry.wants.contains_key(&text) || entry.wants.len() >= AHEAD_WANTS_MAX {
            continue;
        }
        if is_new {
            next.push(package);
        }
        if let Some(packument) = entry.arrived.upgrade() {
            wanted.extend(pick(&packument, want, budget, &mut entry.followed));
        }
        entry.wants.insert(text, wanting);
    }
}

/// What the version needs that would be chosen for a want; nothing where that was followed already.
fn pick(
    packument: &Packument,
    want: &Want,
    budget: &Budget,
    followed: &mut HashSet<String>,
) -> Vec<(String, String)> {
    if !budget.look(packument.versions.len()) {
        return Vec::new();
    }
    let of_tag = |tag: &str| packument.versions.get(packument.dist_tags.get(tag)?);
    let entry = match want.target() {
        Want::Tag(tag) => of_tag(tag),
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
        Want::Alias { .. } | Want::Local(_) | Want::Unsupported(_) => None,
    };
    let Some(entry) = entry else { return Vec::new() };
    if !followed.insert(entry.version.clone()) {
        return Vec::new();
    }
    let tables = [&entry.dependencies, &entry.optional_dependencies, &entry.peer_dependencies];
    let comes_inside = |name: &String| entry.bundled.contains(name);
    let may_stay_away = |name: &String| entry.optional_peers.contains(name);
    let needed = tables.into_iter().flatten();
    needed
        .filter(|(name, _)| !comes_inside(name) && !may_stay_away(name))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect()
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
        for want in wants {
            wanted.extend(pick(packument, &want.want, &self.budget, &mut entry.followed));
        }
        let mut next = Vec::new();
        follow(&mut known, wanted, &self.budget, &mut next);
        next
    }
}
