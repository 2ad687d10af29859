//! What the kernel shows of each CPU's kind, gathered over time: a core shows nothing while it is offline.

use crate::cores::cache_levels_of;
use crate::cpu::online;
use crate::cpu_set::CpuSet;
use crate::root::Root;

/// What is known of the kinds of cores. A core does not change its kind, so what was seen once stays true until the
/// kernel says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// In the kernel's list of performance cores.
    pub(super) core: CpuSet,
    /// In the kernel's list of efficient cores.
    pub(super) atom: CpuSet,
    /// In the kernel's list of low-power cores (a kind of its own on some processors).
    pub(super) low_power: CpuSet,
    /// Lists that are there and are not lists.
    pub(super) malformed: Vec<String>,
    /// Inside a level-3 cache.
    pub(super) with_l3: CpuSet,
    /// With caches, none of level 3.
    pub(super) without_l3: CpuSet,
    /// Online when last looked at.
    pub(super) online: CpuSet,
    /// Present, not online when last looked at, and never seen otherwise.
    pub(super) offline: CpuSet,
}

impl Evidence {
    /// Looks at everything that is online or allowed.
    pub fn look(&mut self, root: &Root, allowed: &CpuSet) {
        self.malformed.clear();
        let mut list = |name: &str| {
            let path = format!("sys/devices/{name}/cpus");
            let text = root.read(&path)?;
            let set = CpuSet::parse(&text);
            if set.is_none() {
                self.malformed.push(path);
            }
            set
        };
        let lists = [list("cpu_core"), list("cpu_atom"), list("cpu_lowpower")];
        let [core, atom, low_power] = lists.map(Option::unwrap_or_default);
        // A CPU that goes offline leaves its list; one that is in a list now is of that kind, whatever was seen.
        let known = core.union(&atom).union(&low_power);
        for (kept, seen) in
            [(&mut self.core, core), (&mut self.atom, atom), (&mut self.low_power, low_power)]
        {
            *kept = kept.difference(&known).union(&seen);
        }
        self.online = online(root).union(allowed);
        self.look_at_caches(root);
        let present = root.read("sys/devices/system/cpu/present");
        let present = present.and_then(|text| CpuSet::parse(&text)).unwrap_or_default();
        let seen = self.with_l3.union(&self.without_l3);
        self.offline = present.difference(&self.online).difference(&seen);
    }

    /// What was seen is not looked at again: caches do not come and go.
    fn look_at_caches(&mut self, root: &Root) {
        let seen = self.with_l3.union(&self.without_l3);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for cpu in self.online.difference(&seen).iter() {
            let levels: Vec<u8> = cache_levels_of(root, cpu).collect();
            if levels.contains(&3) {
                with.push(cpu);
            } else if !levels.is_empty() {
                without.push(cpu);
            }
        }
        self.with_l3 = self.with_l3.union(&CpuSet::from_iter(with));
        self.without_l3 = self.without_l3.union(&CpuSet::from_iter(without));
    }
}
