//! Which cores a kind of work belongs on: pure functions of the CPU classes.
//!
//! Work is held to whole classes, never to single cores: every instance of a program would choose the same ones. Not here: how much
//! of it may run ([`crate::admission`]), and the threads ([`crate::pool`]).

use hw::cpu::Classes;
use hw::cpu_set::CpuSet;

/// The kinds of work that are placed and admitted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Solving: latency matters, and somebody waits.
    Resolve,
    /// Hashing, inflating, writing files: many short pieces.
    Unpack,
    /// Looking through everything that is installed: long.
    Scan,
    /// Nobody waits for it.
    Background,
}

impl Work {
    /// All kinds.
    pub const ALL: [Work; 4] = [Work::Resolve, Work::Unpack, Work::Scan, Work::Background];

    /// The lane that it belongs on. Where that has no slot left, unpacking and scanning go to others, too.
    pub fn lane(self) -> Lane {
        match self {
            Work::Resolve => Lane::Performance,
            Work::Unpack | Work::Scan => Lane::Efficient,
            Work::Background => Lane::Background,
        }
    }
}

/// Where a piece of work runs: a pool of workers with the slots that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Performance cores; all cores where they are alike.
    Performance,
    /// Efficient cores.
    Efficient,
    /// Low-power cores.
    LowPower,
    /// Whatever is left over, in the idle classes of the kernel.
    Background,
}

impl Lane {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Lane; 4] =
        [Lane::Performance, Lane::Efficient, Lane::LowPower, Lane::Background];

    /// The name in metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Performance => "performance",
            Lane::Efficient => "efficient",
            Lane::LowPower => "low_power",
            Lane::Background => "background",
        }
    }
}

/// How workers are held to the CPUs of their class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// To their class, and to everything that is allowed while the processors are contended.
    #[default]
    Auto,
    /// Not at all.
    Off,
    /// To their class, whatever happens.
    Strict,
}

impl Pinning {
    /// All of them.
    pub const ALL: [Pinning; 3] = [Pinning::Auto, Pinning::Off, Pinning::Strict];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Pinning::Auto => "auto",
            Pinning::Off => "off",
            Pinning::Strict => "strict",
        }
    }

    /// What a name means.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// The CPUs that the workers of `lane` belong on. `only_low_power` keeps background work off the efficient cores. A class that this
/// machine does not have, or that is not allowed, stands for everything that is allowed.
pub fn cpus_of(lane: Lane, classes: &Classes, allowed: &CpuSet, only_low_power: bool) -> CpuSet {
    let (efficient, low_power) = (&classes.efficient, &classes.low_power);
    let preferred = match lane {
        Lane::Performance => classes.performance.clone(),
        Lane::Efficient => efficient.clone(),
        Lane::LowPower => low_power.clone(),
        Lane::Background if only_low_power && !low_power.is_empty() => low_power.clone(),
        Lane::Background => efficient.iter().chain(low_power.iter()).collect(),
    };
    let permitted = preferred.intersection(allowed);
    if permitted.is_empty() { allowed.clone() } else { permitted }
}

#[cfg(test)]
mod tests {
    use hw::cpu::Classes;
    use hw::cpu_set::CpuSet;

    use super::{Lane, cpus_of};

    fn check(classes: [&str; 3], allowed: &str, expected: [&str; 4]) {
        let set = |text: &str| CpuSet::parse(text).unwrap();
        let [performance, efficient, low_power] = classes.map(set);
        let classes = Classes { performance, efficient, low_power, source: "test" };
        let shown = Lane::ALL.map(|lane| cpus_of(lane, &classes, &set(allowed), false).to_string());
        assert_eq!(shown, expected);
    }

    #[test]
    fn each_lane_has_its_class() {
        check(["0-11", "12-19", "20-21"], "0-21", ["0-11", "12-19", "20-21", "12-21"]);
    }

    #[test]
    fn what_is_not_allowed_is_left_out_and_nothing_is_everything() {
        check(["0-11", "12-19", "20-21"], "10-15", ["10-11", "12-15", "10-15", "12-15"]);
        check(["0-1", "", ""], "1", ["1", "1", "1", "1"]);
        check(["0", "1", ""], "1", ["1", "1", "1", "1"]);
    }

    #[test]
    fn background_can_be_kept_off_the_efficient_cores() {
        let set = |text: &str| CpuSet::parse(text).unwrap();
        let (performance, efficient, low_power) = (set("0-1"), set("2-3"), set("4"));
        let laptop = Classes { performance, efficient, low_power, source: "test" };
        assert_eq!(cpus_of(Lane::Background, &laptop, &set("0-4"), true).to_string(), "4");
        let desktop = Classes { low_power: CpuSet::default(), ..laptop };
        assert_eq!(cpus_of(Lane::Background, &desktop, &set("0-3"), true).to_string(), "2-3");
    }
}
