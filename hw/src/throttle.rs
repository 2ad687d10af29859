//! How often the firmware slowed cores down by itself: the growth of the kernel's counters, whatever the temperature
//! says. Laptops that are set to throttle early never show a high temperature.

use std::collections::BTreeMap;

use crate::cpu_set::CpuSet;
use crate::root::Root;

/// Follows the counters of each CPU.
#[derive(Clone, Debug, Default)]
pub struct Throttles {
    last: BTreeMap<usize, Counts>,
}

/// Counters of one CPU; `None` where it shows none, as while it is offline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    core: Option<u64>,
    package: Option<u64>,
}

/// How much the counters grew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Times that a core was slowed down, over all CPUs.
    pub core: u64,
    /// Times that a package was slowed down, as its busiest CPU counted them: each CPU of a package counts alike.
    pub package: u64,
    /// CPUs that have counters at all.
    pub cpus: usize,
    /// Those that count for their package.
    pub package_cpus: usize,
}

impl Growth {
    /// Times that the machine was slowed down: what its packages say, or its cores where no package counts. A core that is slowed down
    /// alone, beside packages that count, is no heat of the machine.
    pub fn heard(&self) -> u64 {
        if self.package_cpus > 0 { self.package } else { self.core }
    }
}

impl Throttles {
    /// Reads the counters of `cpus`; the growth since the last call, of CPUs that showed counters both times. The
    /// first call only takes note, and so does the first one after a CPU came back, or started again from less.
    pub fn tick(&mut self, root: &Root, cpus: &CpuSet) -> Growth {
        let mut growth = Growth::default();
        let now: BTreeMap<usize, Counts> =
            cpus.iter().map(|cpu| (cpu, Counts::read(root, cpu))).collect();
        for (cpu, counts) in &now {
            growth.cpus += usize::from(counts.core.is_some() || counts.package.is_some());
            growth.package_cpus += usize::from(counts.package.is_some());
            let before = self.last.get(cpu).copied().unwrap_or_default();
            growth.core = growth.core.saturating_add(grown(before.core, counts.core));
            growth.package = growth.package.max(grown(before.package, counts.package));
        }
        self.last = now;
        growth
    }

    /// The counters as last read: of the busiest CPU, for people.
    pub fn totals(&self) -> Option<(u64, u64)> {
        let core = self.last.values().filter_map(|counts| counts.core).max();
        let package = self.last.values().filter_map(|counts| counts.package).max();
        Some((core?, package.unwrap_or(0)))
    }
}

impl Counts {
    fn read(root: &Root, cpu: usize) -> Self {
        let directory = format!("sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
        Self {
            core: root.read_number(&format!("{directory}/core_throttle_count")),
            package: root.read_number(&format!("{directory}/package_throttle_count")),
        }
    }
}

fn grown(before: Option<u64>, now: Option<u64>) -> u64 {
    before.zip(now).and_then(|(before, now)| now.checked_sub(before)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Growth, Throttles};
    use crate::cpu_set::CpuSet;
    use crate::trees::Tree;

    #[test]
    fn only_growth_of_a_cpu_that_was_seen_before_counts() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path());
        let set = |cpus: &str, core: &str, package: &str| {
            tree.each(cpus, "thermal_throttle/core_throttle_count", core);
            tree.each(cpus, "thermal_throttle/package_throttle_count", package);
        };
        let cpus = CpuSet::parse("0-3").unwrap();
        let mut throttles = Throttles::default();
        let mut tick = || {
            let Growth { core, package, cpus: seen, .. } = throttles.tick(&tree.root(), &cpus);
            (core, package, seen)
        };
        assert_eq!(tick(), (0, 0, 0), "a machine without counters");
        set("0-3", "5\n", "100\n");
        assert_eq!(tick(), (0, 0, 4), "the first sight is no growth");
        set("0-1", "7\n", "103\n");
        assert_eq!(tick(), (4, 3, 4), "cores add up, a package is one");
        set("1", "\n", "\n");
        assert_eq!(tick(), (0, 0, 3), "offline: an empty file is not 0");
        set("1", "900\n", "900\n");
        assert_eq!(tick(), (0, 0, 4), "back, and only noted");
        set("1", "901\n", "3\n");
        assert_eq!(tick(), (1, 0, 4), "less than before is no growth");
        set("1", "garbage", "-1");
        assert_eq!(tick(), (0, 0, 3));
    }

    #[test]
    fn cores_are_heard_where_no_package_counts() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path());
        let cpus = CpuSet::parse("0-3").unwrap();
        let mut throttles = Throttles::default();
        let mut heard = |core: &str| {
            tree.each("0-3", "thermal_throttle/core_throttle_count", core);
            throttles.tick(&tree.root(), &cpus).heard()
        };
        assert_eq!([heard("5"), heard("5"), heard("6")], [0, 0, 4]);
        tree.each("0-3", "thermal_throttle/package_throttle_count", "9");
        assert_eq!([heard("7"), heard("8")], [0, 0], "the package says that it was nothing");
    }
}
