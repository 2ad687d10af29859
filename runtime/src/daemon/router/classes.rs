//! Which class a link has: what is wanted, what the configuration allows, what both sides can do.
//!
//! Whoever is asked takes the class as it is or goes one down and says why; nobody goes up. Not here: what a class is (`ipc`).

use ipc::class::{Class, ClassSet};
use ipc::control::{CLASSES_SINCE, Terms};
use ipc::header::{AgentId, LaneId};

use super::{Fallen, Half, Lane, Refusal, Router};

/// A request for a link, as far as it does not say to whom.
#[derive(Debug)]
pub(super) struct Asked<D> {
    /// To be returned in the answer.
    pub(super) request: u32,
    /// What is wanted.
    pub(super) terms: Terms,
    /// The opener's own side.
    pub(super) segments: D,
}

impl<D: Clone> Router<D> {
    /// The same, where links are of these classes only.
    pub(crate) fn with_classes(mut self, classes: ClassSet) -> Self {
        self.classes = classes;
        self
    }

    /// The classes that links may have.
    pub(crate) fn classes(&self) -> ClassSet {
        self.classes
    }

    /// Links that have another class than was wanted, since the start: wanted, got, how many, and why the last of them.
    pub(crate) fn fallbacks(&self) -> impl Iterator<Item = (Class, Class, u64, &str)> {
        self.fallbacks.iter().map(|((wanted, got), Fallen { count, reason })| {
            (*wanted, *got, *count, reason.as_str())
        })
    }

    /// How an open lane's messages travel.
    pub(crate) fn class_of(&self, lane: LaneId) -> Class {
        match self.lanes.get(&lane) {
            Some(Lane::Link(link)) => link.class,
            Some(Lane::Offer(_) | Lane::Topic(_)) | None => Class::Critical,
        }
    }

    /// The best class that the two can have of what is asked for.
    pub(super) fn settled(
        &self,
        (opener, target): (AgentId, AgentId),
        mut terms: Terms,
    ) -> Result<Terms, Refusal> {
        let has_ring = terms.ring.is_some();
        let objection = |class| self.objection([opener, target], class, has_ring);
        match terms.settle(objection) {
            Ok(()) => Ok(terms),
            Err(_) => Err(no_class(&terms)),
        }
    }

    /// The class on which an acceptor settled, which must be that of the offer or one further down.
    pub(super) fn accepted(
        &self,
        acceptor: AgentId,
        offered: &Terms,
        answer: Terms,
    ) -> Result<Terms, Refusal> {
        let Terms { class, ring, reason, .. } = answer;
        let objection = match class < offered.class {
            true => Some("it is better than the offered one".to_owned()),
            false => self.objection([acceptor, acceptor], class, ring.is_some()),
        };
        let reason = if class == offered.class { offered.reason.clone() } else { reason };
        let terms = Terms { class, wanted: offered.wanted, ring, reason };
        match objection {
            None => Ok(terms),
            Some(why) => {
                let text = format!("the other side accepted a link of class {class}: {why}");
                Err(("no-class", text))
            }
        }
    }

    /// Counts a link that is ready.
    pub(super) fn count_class(&mut self, terms: &Terms) {
        if terms.has_fallen() {
            let fallen = self.fallbacks.entry((terms.wanted, terms.class)).or_default();
            fallen.count += 1;
            fallen.reason.clone_from(&terms.reason);
        }
    }

    /// What the acceptor of a lane is told of: who the opener sees at the other end.
    pub(super) fn seen_peer(&self, half: Option<&Half>, acceptor: AgentId) -> AgentId {
        match half {
            Some(Half::First { target, .. }) if self.agents.contains_key(target) => *target,
            _ => acceptor,
        }
    }

    /// Why a class is not to be had between these agents.
    fn objection(&self, sides: [AgentId; 2], class: Class, has_ring: bool) -> Option<String> {
        if !ClassSet::LINKS.has(class) {
            return Some("it carries no links".to_owned());
        }
        if !self.classes.has(class) {
            return Some("the router does not allow it".to_owned());
        }
        if class == Class::High && !has_ring {
            return Some("the opener has no ring".to_owned());
        }
        let agents = sides.into_iter().filter_map(|side| self.agents.get(&side));
        let old = agents.into_iter().find(|agent| agent.version < CLASSES_SINCE);
        let old = old.filter(|_| class != Class::Critical)?;
        let (name, (major, minor)) = (&old.info.manifest.name, old.version);
        Some(format!("`{name}` speaks {major}.{minor}, whose links are critical"))
    }
}

fn no_class(terms: &Terms) -> Refusal {
    ("no-class", format!("no link of class {}: {}", terms.wanted, terms.reason))
}
