//! The energy that packages used, where the kernel lets it be read: mostly root only, and never relied on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::PACKAGE_WATTS_MAX;
use crate::root::Root;

const DIRECTORY: &str = "sys/class/powercap";

/// Follows the energy counters of all packages.
#[derive(Clone, Debug, Default)]
pub struct Energy {
    /// Package name, and counter and time as last read.
    last: BTreeMap<String, (u64, Duration)>,
}

/// One package's domain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Domain {
    package: String,
    directory: String,
}

impl Energy {
    /// The mean power of all packages since the last call, in watts, at the time `now` of any steady clock. `None` the
    /// first time, where a package cannot be read, and where the result is not that of a processor.
    pub fn tick(&mut self, root: &Root, now: Duration) -> Option<f64> {
        let mut watts = Some(0.0);
        let domains = domains(root);
        let is_empty = domains.is_empty();
        let mut seen = BTreeMap::new();
        for Domain { package, directory } in domains {
            let Some(energy_uj) = root.read_number(&format!("{directory}/energy_uj")) else {
                watts = None;
                continue;
            };
            let range_uj = root.read_number(&format!("{directory}/max_energy_range_uj"));
            let mean = self.last.get(&package).and_then(|(before_uj, before)| {
                let elapsed = now.checked_sub(*before).filter(|elapsed| !elapsed.is_zero())?;
                Some(used(*before_uj, energy_uj, range_uj)? as f64 / 1e6 / elapsed.as_secs_f64())
            });
            watts = watts.zip(mean).map(|(sum, mean)| sum + mean);
            seen.insert(package, (energy_uj, now));
        }
        self.last = seen;
        watts.filter(|watts| !is_empty && (0.0..=PACKAGE_WATTS_MAX).contains(watts))
    }
}

/// The sustained power limit of each package in watts, those that can be believed.
pub fn limits(root: &Root) -> Vec<(String, f64)> {
    let limit = |Domain { package, directory }| {
        let microwatts = root.read_number(&format!("{directory}/constraint_0_power_limit_uw"))?;
        let watts = microwatts as f64 / 1e6;
        (1.0..=PACKAGE_WATTS_MAX).contains(&watts).then_some((package, watts))
    };
    domains(root).into_iter().filter_map(limit).collect()
}

/// The domains of whole packages, each once: the same package may appear a second time under another driver.
fn domains(root: &Root) -> Vec<Domain> {
    let mut domains: Vec<Domain> = Vec::new();
    for name in root.list(DIRECTORY) {
        let number = name.strip_prefix("intel-rapl:").unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let directory = format!("{DIRECTORY}/{name}");
        let package =
            root.read(&format!("{directory}/name")).filter(|it| it.starts_with("package-"));
        if let Some(package) = package.filter(|it| domains.iter().all(|other| other.package != *it))
        {
            domains.push(Domain { package, directory });
        }
    }
    domains
}

/// The difference of two counter values, of which the later may have started again from 0 once.
fn used(before: u64, now: u64, range: Option<u64>) -> Option<u64> {
    match now.checked_sub(before) {
        Some(used) => Some(used),
        None => range?.checked_sub(before)?.checked_add(now),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Energy, limits};
    use crate::root::ReadError;
    use crate::trees::Tree;

    fn tree() -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path());
        tree.file("sys/class/powercap/intel-rapl:0/name", "package-0\n");
        tree.file("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "100000000\n");
        tree.file("sys/class/powercap/intel-rapl:0:0/name", "core\n");
        tree.file("sys/class/powercap/intel-rapl:0:0/energy_uj", "1\n");
        tree.file("sys/class/powercap/intel-rapl:a/name", "package-0\n");
        tree.file("sys/class/powercap/intel-rapl:a/energy_uj", "77\n");
        (directory, tree)
    }

    #[test]
    fn power_is_energy_over_time_and_survives_the_counter_starting_again() {
        let (_directory, tree) = tree();
        let mut energy = Energy::default();
        let mut at = |energy_uj: &str, seconds| {
            tree.file("sys/class/powercap/intel-rapl:0/energy_uj", energy_uj);
            energy.tick(&tree.root(), Duration::from_secs(seconds))
        };
        assert_eq!(at("10000000\n", 1), None, "the first time");
        assert_eq!(at("40000000\n", 3), Some(15.0));
        assert_eq!(at("10000000\n", 5), Some(35.0), "once around");
        assert_eq!(at("10000000\n", 5), None, "no time has passed");
        assert_eq!(at("\n", 6), None);
        assert_eq!(at("20000000\n", 7), None, "the reading before was none");
        assert_eq!(at("90000000000\n", 8), None, "89,980 W are none");
    }

    #[test]
    fn what_is_for_root_only_is_no_power() {
        let (_directory, tree) = tree();
        let mut energy = Energy::default();
        tree.refuse("sys/class/powercap/intel-rapl:0/energy_uj", ReadError::Denied);
        for second in 1..4 {
            assert_eq!(energy.tick(&tree.root(), Duration::from_secs(second)), None);
        }
        let none = tempfile::tempdir().unwrap();
        assert_eq!(energy.tick(&Tree::at(none.path()).root(), Duration::from_secs(5)), None);
    }

    #[test]
    fn bogus_limits_are_left_out() {
        let (_directory, tree) = tree();
        let file = "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw";
        for (text, expected) in
            [("45000000\n", Some(45.0)), ("4090000000\n", None), ("0\n", None), ("\n", None)]
        {
            tree.file(file, text);
            let seen = limits(&tree.root()).first().map(|(_, watts)| *watts);
            assert_eq!(seen, expected, "{text}");
        }
    }
}
