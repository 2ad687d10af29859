//! The machine over time: which CPUs may be used and what they are, compared anew on every tick.

use crate::allowed::Allowed;
use crate::cgroup::Quota;
use crate::cpu::{Classes, Classification, Evidence};
use crate::cpu_set::CpuSet;
use crate::root::Root;

/// Looks at the machine when told to, and says what changed. Owns no thread and no clock.
#[derive(Debug)]
pub struct Watcher {
    root: Root,
    evidence: Evidence,
    allowed: Allowed,
    classification: Classification,
}

/// What is different from the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// CPUs that may be used since.
    pub gained: CpuSet,
    /// CPUs that may not be used any more.
    pub lost: CpuSet,
    /// The classes, where a CPU was gained, lost or is now known to be of another kind.
    pub classes: Option<Classes>,
    /// The quota, where it changed: the new one, or none any more.
    pub quota: Option<Option<Quota>>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Watcher {
    /// The first look. This and each tick belong on a thread that is not pinned: of one that is, the kernel tells the
    /// pinned set. (The affinity of that thread is followed, so `taskset -a` works on a running program.)
    pub fn new(root: Root) -> Self {
        let allowed = Allowed::read(&root);
        let mut evidence = Evidence::default();
        evidence.look(&root, &allowed.cpus);
        let classification = Classification::from_evidence(&evidence, &root, &allowed.cpus);
        Self { root, evidence, allowed, classification }
    }

    /// What may be used.
    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// The classes of what may be used.
    pub fn classes(&self) -> &Classes {
        &self.classification.classes
    }

    /// The classes and how they came about.
    pub fn classification(&self) -> &Classification {
        &self.classification
    }

    /// Looks again. A few files and one system call where nothing changed; everything about the kinds of cores is
    /// read only when a CPU came, went or may be used again.
    pub fn tick(&mut self) -> Changes {
        let now = Allowed::read(&self.root);
        let mut changes = Changes {
            gained: now.cpus.difference(&self.allowed.cpus),
            lost: self.allowed.cpus.difference(&now.cpus),
            ..Changes::default()
        };
        if now.quota != self.allowed.quota {
            changes.quota = Some(now.quota.clone());
        }
        if now.cpus != self.allowed.cpus || now.online != self.allowed.online {
            self.evidence.look(&self.root, &now.cpus);
            let next = Classification::from_evidence(&self.evidence, &self.root, &now.cpus);
            if next.classes != self.classification.classes {
                changes.classes = Some(next.classes.clone());
            }
            self.classification = next;
        }
        self.allowed = now;
        changes
    }
}

#[cfg(test)]
mod tests;
