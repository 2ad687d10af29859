//! Which CPUs are performance, efficient and low-power cores.
//!
//! The order of evidence (and why each rule is there) follows Intel's own low-power daemon: the kernel's per-type PMU
//! lists first, an efficient core without a level-3 cache is a low-power one unless none has such a cache, then
//! capacities that differ by 1.3 or more, else all are alike. Numbers, brand strings and `cpu ^ 1` prove nothing:
//! the same processor is numbered in at least four ways by different firmware.

use crate::cpu_set::CpuSet;
use crate::root::Root;

/// The CPUs by class, restricted to those that may be used, and how that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// Performance cores; all CPUs where the machine is homogeneous.
    pub performance: CpuSet,
    /// Efficient cores.
    pub efficient: CpuSet,
    /// Efficient cores outside the level-3 cache.
    pub low_power: CpuSet,
    /// The evidence that decided, for people.
    pub source: &'static str,
}

/// Ratio between the strongest and the weakest CPU from which a machine counts as heterogeneous: below it, the
/// spread is that of favoured cores of one kind.
const HETEROGENEOUS_RATIO_MIN: f64 = 1.3;

impl Classes {
    /// Classifies the CPUs of `allowed` from what is under `root`.
    pub fn read(root: &Root, allowed: &CpuSet) -> Self {
        Self::from_pmu(root, allowed)
            .or_else(|| Self::from_capacity(root, allowed))
            .unwrap_or_else(|| Self::homogeneous(allowed))
    }

    fn from_pmu(root: &Root, allowed: &CpuSet) -> Option<Self> {
        let list = |name: &str| CpuSet::parse(&root.read(&format!("sys/devices/{name}/cpus"))?);
        let core = list("cpu_core").unwrap_or_default();
        let atom = list("cpu_atom").unwrap_or_default();
        let named_low_power = list("cpu_lowpower").unwrap_or_default();
        if atom.is_empty() && named_low_power.is_empty() {
            return None;
        }
        let without_l3: CpuSet = atom.iter().filter(|cpu| !has_level_3_cache(root, *cpu)).collect();
        let all_lack_it = without_l3.len() == atom.len();
        let low_power = if all_lack_it { CpuSet::default() } else { without_l3 };
        let low_power: CpuSet = low_power.iter().chain(named_low_power.iter()).collect();
        Some(Self {
            performance: core.intersection(allowed),
            efficient: atom.difference(&low_power).intersection(allowed),
            low_power: low_power.intersection(allowed),
            source: "kernel PMU lists and level-3 caches",
        })
    }

    fn from_capacity(root: &Root, allowed: &CpuSet) -> Option<Self> {
        let sources = [
            ("acpi_cppc/highest_perf", "CPPC highest performance"),
            ("cpu_capacity", "scheduler capacity"),
            ("cpufreq/cpuinfo_max_freq", "maximum frequency"),
        ];
        sources.into_iter().find_map(|(file, source)| {
            let values: Vec<(usize, f64)> = allowed
                .iter()
                .map(|cpu| {
                    let text = root.read(&format!("sys/devices/system/cpu/cpu{cpu}/{file}"))?;
                    let value = text.parse::<f64>().ok().filter(|value| *value > 0.0)?;
                    Some((cpu, value))
                })
                .collect::<Option<_>>()?;
            let strongest = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
            let weakest = values.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
            if strongest < weakest * HETEROGENEOUS_RATIO_MIN {
                return None;
            }
            let is_strong = |value: f64| value * HETEROGENEOUS_RATIO_MIN > strongest;
            let pick = |strong: bool| {
                values
                    .iter()
                    .filter(|(_, v)| is_strong(*v) == strong)
                    .map(|(cpu, _)| *cpu)
                    .collect()
            };
            let low_power = CpuSet::default();
            Some(Self { performance: pick(true), efficient: pick(false), low_power, source })
        })
    }

    fn homogeneous(allowed: &CpuSet) -> Self {
        Self {
            performance: allowed.clone(),
            efficient: CpuSet::default(),
            low_power: CpuSet::default(),
            source: "homogeneous: no evidence of different cores",
        }
    }
}

fn has_level_3_cache(root: &Root, cpu: usize) -> bool {
    let directory = format!("sys/devices/system/cpu/cpu{cpu}/cache");
    root.list(&directory)
        .iter()
        .filter(|name| name.starts_with("index"))
        .any(|name| root.read(&format!("{directory}/{name}/level")).as_deref() == Some("3"))
}

/// The CPUs that are online under `root`; empty where the tree does not say.
pub fn online(root: &Root) -> CpuSet {
    root.read("sys/devices/system/cpu/online")
        .and_then(|text| CpuSet::parse(&text))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
