//! Which CPUs are threads of one core, and which cores share a cache. Who is what kind of core is [`crate::cpu`].

use std::collections::{BTreeMap, BTreeSet};

use crate::cpu_set::CpuSet;
use crate::limits::CACHES_PER_CPU_MAX;
use crate::root::Root;

/// Physical cores and caches of the CPUs that may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// The CPUs of each core, by their smallest number.
    cores: Vec<CpuSet>,
    /// Caches that hold data, by level and smallest CPU.
    caches: Vec<Cache>,
    /// CPUs of which the kernel does not say whose siblings they are; each counts as a core.
    unknown: CpuSet,
}

/// One cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cache {
    /// 1 is nearest to the core.
    pub level: u8,
    /// The CPUs that share it, of those that may be used.
    pub cpus: Vec<usize>,
    /// Its size; `None` where the kernel does not say.
    pub size_bytes: Option<u64>,
}

impl Cores {
    /// The cores and caches of `allowed` under `root`.
    pub fn read(root: &Root, allowed: &CpuSet) -> Self {
        let caches: BTreeSet<Cache> = allowed
            .iter()
            .flat_map(|cpu| caches_of(root, cpu))
            .filter_map(|mut cache| {
                cache.cpus.retain(|cpu| allowed.contains(*cpu));
                (!cache.cpus.is_empty()).then_some(cache)
            })
            .collect();
        Self { caches: caches.into_iter().collect(), ..Self::without_caches(root, allowed) }
    }

    /// The same for who asks for no cache: of a CPU they take a few dozen files.
    pub fn without_caches(root: &Root, allowed: &CpuSet) -> Self {
        let siblings: BTreeMap<usize, CpuSet> = allowed
            .iter()
            .filter_map(|cpu| {
                let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
                let set = CpuSet::parse(&root.read(&path)?)?;
                Some((cpu, set.intersection(allowed))).filter(|(cpu, set)| set.contains(*cpu))
            })
            .collect();
        let unknown = allowed.iter().filter(|cpu| !siblings.contains_key(cpu)).collect();
        Self { cores: group(&siblings, allowed), caches: Vec::new(), unknown }
    }

    /// The cores as sets of CPUs, by their smallest number.
    pub fn all(&self) -> &[CpuSet] {
        &self.cores
    }

    /// How many physical cores have a CPU in `set`.
    pub fn count(&self, set: &CpuSet) -> usize {
        self.cores.iter().filter(|core| !core.intersection(set).is_empty()).count()
    }

    /// The CPUs of `set` with one of each core only, the smallest.
    pub fn one_each(&self, set: &CpuSet) -> CpuSet {
        self.cores.iter().filter_map(|core| core.intersection(set).first()).collect()
    }

    /// The other threads of the core of `cpu`.
    pub fn siblings(&self, cpu: usize) -> CpuSet {
        let own = CpuSet::from_iter([cpu]);
        let core = self.cores.iter().find(|core| core.contains(cpu));
        core.map(|core| core.difference(&own)).unwrap_or_default()
    }

    /// The caches of one level that hold data.
    pub fn caches(&self, level: u8) -> impl Iterator<Item = &Cache> {
        self.caches.iter().filter(move |cache| cache.level == level)
    }

    /// CPUs of which the kernel does not say whose siblings they are.
    pub fn unknown(&self) -> &CpuSet {
        &self.unknown
    }

    /// Fills in, from another's knowledge of `cores`, what the kernel's files did not say.
    pub fn completed_by(mut self, cores: &[CpuSet]) -> Self {
        for core in cores {
            let core = core.intersection(&self.unknown);
            if core.len() > 1 {
                self.cores.retain(|own| own.intersection(&core).is_empty());
                self.unknown = self.unknown.difference(&core);
                self.cores.push(core);
            }
        }
        self.cores.sort_by_key(CpuSet::first);
        self
    }
}

/// CPUs are of one core if each names the other. One that claims a stranger stays alone.
fn group(siblings: &BTreeMap<usize, CpuSet>, allowed: &CpuSet) -> Vec<CpuSet> {
    let mut cores = Vec::new();
    let mut placed = CpuSet::default();
    for cpu in allowed.iter() {
        if placed.contains(cpu) {
            continue;
        }
        let names = |other: usize| siblings.get(&other).is_some_and(|set| set.contains(cpu));
        let claimed = siblings.get(&cpu).cloned().unwrap_or_default().difference(&placed);
        let core: CpuSet =
            claimed.iter().filter(|other| *other != cpu && names(*other)).chain([cpu]).collect();
        placed = placed.union(&core);
        cores.push(core);
    }
    cores
}

/// The caches of one CPU that hold data; none where the kernel shows none, as of a CPU that is offline. A cache that
/// does not say who shares it is taken for the CPU's own.
fn caches_of(root: &Root, cpu: usize) -> Vec<Cache> {
    let cache = |(directory, level)| {
        let shared = root.read(&format!("{directory}/shared_cpu_list"));
        let shared = shared.and_then(|text| CpuSet::parse(&text)).filter(|set| set.contains(cpu));
        let cpus = shared.map_or_else(|| vec![cpu], |set| set.iter().collect());
        let size_bytes = root.read(&format!("{directory}/size")).and_then(|text| bytes(&text));
        Cache { level, cpus, size_bytes }
    };
    directories_of(root, cpu).map(cache).collect()
}

/// The levels of the same caches.
pub(crate) fn cache_levels_of(root: &Root, cpu: usize) -> impl Iterator<Item = u8> {
    directories_of(root, cpu).map(|(_, level)| level)
}

/// Where the same caches are described, and their levels.
fn directories_of(root: &Root, cpu: usize) -> impl Iterator<Item = (String, u8)> {
    (0..CACHES_PER_CPU_MAX).filter_map(move |index| {
        let directory = format!("sys/devices/system/cpu/cpu{cpu}/cache/index{index}");
        let level = u8::try_from(root.read_number(&format!("{directory}/level"))?).ok()?;
        let is_of_data = root.read(&format!("{directory}/type")).as_deref() != Some("Instruction");
        is_of_data.then_some((directory, level))
    })
}

/// `24576K`
fn bytes(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        'K' => 1 << 10,
        'M' => 1 << 20,
        'G' => 1 << 30,
        _ => 1,
    };
    text.trim_end_matches(['K', 'M', 'G']).parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests;
