//! The latest plans as they are in memory: who carries one out, and who asks what is installed, mostly wants one of them, and reading
//! a plan takes as long as making it. And what the others are about, so that those that tell nothing new are not read.
//!
//! A digest names its plan for good, so what is kept here is never out of date. That a plan may be carried out says the database.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Task, rest};
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::limits::{
    HISTORY_ENTRIES_MAX, PLANS_KEPT_BYTES_MAX, PLANS_KEPT_MAX, PLANS_KEPT_PACKAGES_MAX,
    PLANS_KNOWN_MAX,
};
use crate::plan::Plan;
use crate::resolution::Resolution;
use crate::transaction::{Project, State};

/// All that is kept.
#[derive(Default)]
pub(crate) struct Plans(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The latest first.
    latest: VecDeque<(String, Arc<Plan>)>,
    /// The ecosystems with packages of their own that a plan has a resolution for, by its digest.
    about: HashMap<String, BTreeSet<Ecosystem>>,
}

impl Plans {
    /// The plan with this digest, where it is one of the latest.
    fn get(&self, digest: &str) -> Option<Arc<Plan>> {
        let kept = self.kept();
        kept.latest.iter().find(|(known, _)| known == digest).map(|(_, plan)| Arc::clone(plan))
    }

    /// Keeps a plan, unless it is large.
    pub(super) fn put(&self, digest: &str, plan: &Arc<Plan>) {
        let mut kept = self.kept();
        if kept.about.len() >= PLANS_KNOWN_MAX {
            kept.about.clear();
        }
        kept.about.insert(digest.to_owned(), about(plan).collect());
        if size(plan).is_none() || kept.latest.iter().any(|(known, _)| known == digest) {
            return;
        }
        kept.latest.push_front((digest.to_owned(), Arc::clone(plan)));
        while kept.latest.len() > PLANS_KEPT_MAX || !kept.fits() {
            rest::leave(kept.latest.pop_back());
        }
    }

    /// What a plan is about, where it was seen before.
    fn about(&self, digest: &str) -> Option<BTreeSet<Ecosystem>> {
        self.kept().about.get(digest).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A list and a map, whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn fits(&self) -> bool {
        let sizes = self.latest.iter().filter_map(|(_, plan)| size(plan));
        let (packages, bytes) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        packages <= PLANS_KEPT_PACKAGES_MAX && bytes <= PLANS_KEPT_BYTES_MAX
    }
}

/// Packages of a plan and bytes of its edits; nothing for one that is too large to be kept.
fn size(plan: &Plan) -> Option<(usize, usize)> {
    let packages = plan.resolutions.iter().map(|resolution| resolution.packages.len()).sum();
    let bytes = plan.edits.iter().filter_map(|edit| edit.after.as_ref()).map(Vec::len).sum();
    (packages <= PLANS_KEPT_PACKAGES_MAX && bytes <= PLANS_KEPT_BYTES_MAX)
        .then_some((packages, bytes))
}

fn about(plan: &Plan) -> impl Iterator<Item = Ecosystem> {
    plan.resolutions.iter().map(|of| of.ecosystem).filter(|it| !it.is_of_system())
}

impl Task<'_> {
    /// The plan with this digest.
    pub(super) fn plan_of(&self, digest: &str) -> Result<Arc<Plan>> {
        if let Some(plan) = self.shop.plans.get(digest) {
            return Ok(plan);
        }
        let plan = Arc::new(self.shop.transactions.plan(digest)?);
        self.shop.plans.put(digest, &plan);
        Ok(plan)
    }

    /// What the standing transactions of a project installed, by ecosystem: the newest word on each.
    pub(crate) fn installed(&self, project: &Project) -> Result<BTreeMap<Ecosystem, Resolution>> {
        let mut found: BTreeMap<Ecosystem, Resolution> = BTreeMap::new();
        let mut seen = HashSet::new();
        for entry in self.shop.transactions.history(Some(project), HISTORY_ENTRIES_MAX)? {
            let Some(digest) = entry.digest.filter(|_| entry.state == State::Committed) else {
                continue;
            };
            let about = self.shop.plans.about(&digest);
            let is_old = about
                .is_some_and(|about| about.iter().all(|ecosystem| found.contains_key(ecosystem)));
            if is_old || !seen.insert(digest.clone()) {
                continue;
            }
            let plan = match self.plan_of(&digest) {
                Ok(plan) => plan,
                // An older plan must not stand in for one that is gone.
                Err(error) if error.code == "unknown-plan" => break,
                Err(error) => return Err(error),
            };
            for resolution in plan.resolutions.iter().filter(|it| !it.ecosystem.is_of_system()) {
                found.entry(resolution.ecosystem).or_insert_with(|| resolution.clone());
            }
            // Of the system, its changes themselves are the record.
            if found.len() == Ecosystem::WITH_REGISTRY.len() {
                break;
            }
        }
        if let Some(resolution) = self.installed_in_system(project)? {
            found.insert(resolution.ecosystem, resolution);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::tests as install;

    #[test]
    fn the_latest_are_kept_and_of_the_others_what_they_are_about() {
        let (_place, store) = install::store();
        let package = install::package(
            &store,
            Ecosystem::Npm,
            "a",
            "1.0.0",
            &install::npm_artifact("a", "1.0.0", &[]),
        );
        let plans = Plans::default();
        let plan = |packages: usize| {
            let mut plan = crate::plan::tests::example(package.clone());
            plan.resolutions[0].packages = vec![package.clone(); packages];
            Arc::new(plan)
        };
        for number in 0..=PLANS_KEPT_MAX {
            plans.put(&number.to_string(), &plan(1));
        }
        assert!(plans.get("0").is_none() && plans.get("1").is_some());
        assert_eq!(plans.about("0"), plans.about("1"));
        assert!(plans.about("0").is_some_and(|about| !about.is_empty()));
        plans.put("large", &plan(PLANS_KEPT_PACKAGES_MAX + 1));
        assert!(plans.get("large").is_none() && plans.get("1").is_some());
        plans.put("full", &plan(PLANS_KEPT_PACKAGES_MAX));
        assert!(plans.get("full").is_some() && plans.get("1").is_none(), "no more has room");
    }
}
