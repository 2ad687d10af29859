//! The CPUs that this process may use, what cut them, and how much of their time it may have.

use crate::affinity;
use crate::cgroup::{Groups, Quota};
use crate::cpu;
use crate::cpu_set::CpuSet;
use crate::root::Root;

/// The allowed set and each thing that it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowed {
    /// The CPUs that may be used: those in each of the sets below. Never empty.
    pub cpus: CpuSet,
    /// The affinity of the calling thread; `None` for a tree, where it says nothing.
    pub affinity: Option<CpuSet>,
    /// The CPUs that are online.
    pub online: Option<CpuSet>,
    /// What the control groups leave, and the file that says so.
    pub cpuset: Option<(CpuSet, String)>,
    /// The narrowest quota of CPU time.
    pub quota: Option<Quota>,
    /// Whether the sets have nothing in common, which is a moment between two changes: then the last of affinity,
    /// online and CPU 0 that says something stands alone.
    pub is_contradictory: bool,
}

impl Allowed {
    /// Reads everything anew. To be called on a thread that is not pinned: of one that is, the kernel tells the
    /// pinned set.
    pub fn read(root: &Root) -> Self {
        let groups = Groups::read(root);
        let affinity = if root.is_machine() { affinity::current() } else { None };
        let online = Some(cpu::online(root)).filter(|set| !set.is_empty());
        let cpuset = groups.cpus(root);
        let sets = [affinity.as_ref(), online.as_ref(), cpuset.as_ref().map(|(set, _)| set)];
        let common = sets.into_iter().flatten().cloned().reduce(|a, b| a.intersection(&b));
        let is_contradictory = common.as_ref().is_some_and(CpuSet::is_empty);
        let cpus = common
            .filter(|set| !set.is_empty())
            .or_else(|| affinity.clone())
            .or_else(|| online.clone())
            .unwrap_or_else(|| CpuSet::from_iter([0]));
        Self { cpus, affinity, online, cpuset, quota: groups.quota(root), is_contradictory }
    }

    /// How many CPUs can be busy at once: those of the set, cut by the quota.
    pub fn parallelism(&self) -> usize {
        let quota = self.quota.as_ref().map_or(usize::MAX, Quota::whole_cpus);
        self.cpus.len().min(quota).max(1)
    }
}
