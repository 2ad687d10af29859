//! Which cores a kind of work belongs on, and how much of it may run at once: pure functions of the CPU classes.

use hw::cpu::Classes;
use hw::cpu_set::CpuSet;

use crate::limits::{BACKGROUND_MAX, JOBS_MAX, JOBS_OPTIMAL, RESOLVE_MAX};

/// The kinds of work that are placed and admitted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Solving: one thread, somebody waits.
    Resolve,
    /// Waiting for a network, little computing.
    Download,
    /// Hashing, inflating and writing files.
    Unpack,
    /// Nobody waits for it.
    Background,
}

impl Work {
    /// All kinds.
    pub const ALL: [Work; 4] = [Work::Resolve, Work::Download, Work::Unpack, Work::Background];
}

/// The CPUs where `work` belongs: resolution on P cores, downloads and unpacking on E cores, background on LP-E or
/// E cores; every CPU where the machine has no such class.
pub fn place(work: Work, classes: &Classes) -> CpuSet {
    let preferred = match work {
        Work::Resolve => [&classes.performance, &classes.efficient, &classes.low_power],
        Work::Download | Work::Unpack => {
            [&classes.efficient, &classes.performance, &classes.low_power]
        }
        Work::Background => [&classes.low_power, &classes.efficient, &classes.performance],
    };
    preferred.into_iter().find(|set| !set.is_empty()).cloned().unwrap_or_default()
}

/// How many pieces of `work` may run at once on this machine; at least 1.
///
/// Downloads wait more than they compute, so they may exceed the CPUs; whatever computes may not.
pub fn slots(work: Work, classes: &Classes) -> usize {
    let cpus = classes.performance.len() + classes.efficient.len() + classes.low_power.len();
    let slots = match work {
        Work::Resolve => RESOLVE_MAX.min(place(work, classes).len()),
        Work::Download => JOBS_MAX,
        Work::Unpack => JOBS_OPTIMAL.min(cpus),
        Work::Background => BACKGROUND_MAX,
    };
    slots.max(1)
}

#[cfg(test)]
mod tests {
    use hw::cpu::Classes;
    use hw::cpu_set::CpuSet;

    use super::{Work, place, slots};

    fn classes(performance: &str, efficient: &str, low_power: &str) -> Classes {
        let set = |text| CpuSet::parse(text).unwrap();
        Classes {
            performance: set(performance),
            efficient: set(efficient),
            low_power: set(low_power),
            source: "test",
        }
    }

    #[test]
    fn each_kind_goes_to_its_class() {
        let laptop = classes("0-11", "12-19", "20-21");
        let places = Work::ALL.map(|work| place(work, &laptop).to_string());
        assert_eq!(places, ["0-11", "12-19", "12-19", "20-21"]);
    }

    #[test]
    fn a_machine_with_one_class_uses_it_for_everything() {
        for work in Work::ALL {
            assert_eq!(place(work, &classes("0-1", "", "")).to_string(), "0-1");
        }
    }

    #[test]
    fn slots_shrink_with_the_machine_and_never_reach_zero() {
        assert_eq!(
            Work::ALL.map(|work| slots(work, &classes("0-11", "12-19", "20-21"))),
            [2, 16, 8, 1]
        );
        assert_eq!(Work::ALL.map(|work| slots(work, &classes("0-1", "", ""))), [2, 16, 2, 1]);
        assert_eq!(Work::ALL.map(|work| slots(work, &classes("", "", ""))), [1, 16, 1, 1]);
    }
}
