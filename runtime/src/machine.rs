//! The machine over time, and what may run on it: reads the sensors and the allowed set, steps the governor, says what it decided.
//! One is in the daemon, for all agents that it hosts; a command that works alone has one of its own for as long as it lives.
//!
//! Owns no thread. It is to be used on one that is not pinned: what may be used is that thread's affinity.

mod numbers;
mod sparing;

use std::time::Duration;

use hw::cores::Cores;
use hw::root::Root;
use hw::thermal::{Counts, Thermometer};
use hw::throttle::Throttles;
use hw::watcher::Watcher;
use scheduler::decision::{Decision, Slots};
use scheduler::governor::{
    Capacity, Changes, Governor, Reading, Sensor, ThresholdValues, Thresholds,
};
use scheduler::placement::Lane;

use self::numbers::boot_time;
pub(crate) use self::numbers::{
    as_of_now, decision_of, entry_of, monotonic_ns, pinning_number, pinning_of,
};
pub(crate) use self::sparing::{Sparing, StateLines};
use crate::limits::{MACHINE_INTERVAL, MACHINE_INTERVAL_HOT};

/// Reads and governs.
#[derive(Debug)]
pub(crate) struct Regulator {
    root: Root,
    watcher: Watcher,
    thermometer: Thermometer,
    throttles: Throttles,
    thresholds: Thresholds,
    capacity: Capacity,
    governor: Governor,
    /// By the clock that goes on in suspend, so that the governor sees the gap.
    started: Duration,
    celsius: Option<f64>,
    decision: Decision,
}

/// What runs now, for the governor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Computing work by class.
    pub(crate) in_flight: Slots,
    /// Whether somebody has nothing yet to whom one more slot would give something: not who waits for heat or for files.
    pub(crate) is_waiting: bool,
}

impl Load {
    /// Of what runs on each lane.
    pub(crate) fn of(running: [usize; Lane::ALL.len()], is_waiting: bool) -> Self {
        let of = |lane: Lane| running[lane as usize];
        let in_flight = Slots {
            performance: of(Lane::Performance),
            efficient: of(Lane::Efficient),
            low_power: of(Lane::LowPower),
        };
        Self { in_flight, is_waiting }
    }
}

impl Regulator {
    /// The first look.
    pub(crate) fn new(root: Root, thresholds: Thresholds) -> Self {
        let watcher = Watcher::new(root.clone());
        let mut thermometer = Thermometer::new(&root, Duration::ZERO);
        let celsius = thermometer.read(&root, Duration::ZERO).ok();
        let capacity = capacity(&root, &watcher, &thermometer);
        let sensor = match (thermometer.is_absent(), thermometer.has_answered()) {
            (true, _) => Sensor::Absent,
            (false, false) => Sensor::Awaited,
            (false, true) => Sensor::Known,
        };
        let mut governor = Governor::new(capacity, thresholds, sensor);
        let reading = Reading { celsius, ..Reading::default() };
        let decision = governor.step(reading, Duration::ZERO);
        Self {
            root,
            watcher,
            thermometer,
            throttles: Throttles::default(),
            thresholds,
            capacity,
            governor,
            started: boot_time(),
            celsius,
            decision,
        }
    }

    /// Looks at everything and decides.
    pub(crate) fn step(&mut self, load: Load) -> Decision {
        self.step_at(load, boot_time().saturating_sub(self.started))
    }

    fn step_at(&mut self, load: Load, now: Duration) -> Decision {
        let was_silent = !self.thermometer.has_answered();
        let changed = !self.watcher.tick().is_empty();
        // A machine without a sensor is looked over now and then: drivers may be loaded later.
        self.celsius = self.thermometer.read(&self.root, now).ok();
        let has_come = was_silent && self.thermometer.has_answered();
        if changed || has_come {
            self.capacity = capacity(&self.root, &self.watcher, &self.thermometer);
            self.governor.set_capacity(self.capacity);
        }
        let cpus = &self.watcher.allowed().cpus;
        let throttled = self.throttles.tick(&self.root, cpus).heard();
        let doubts = self.governor.doubts_sensor(now);
        let cores = doubts.then(|| self.thermometer.read_cores(&self.root));
        let Load { in_flight, is_waiting } = load;
        // One slot may be kept for resolution while all others are in use.
        let is_limited = is_waiting || in_flight.sum() + 1 >= self.decision.slots.sum().max(2);
        let reading = Reading {
            celsius: self.celsius,
            age: Duration::ZERO,
            throttled,
            in_flight,
            is_limited,
            cores,
        };
        self.decision = self.governor.step(reading, now);
        self.decision
    }

    /// Other temperatures from the next look on.
    pub(crate) fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
        self.governor.set_thresholds(thresholds);
    }

    /// The temperatures that hold: those that were set, cut to the critical one of this machine.
    pub(crate) fn thresholds(&self) -> ThresholdValues {
        self.governor.thresholds()
    }

    /// When to look again.
    pub(crate) fn interval(&self) -> Duration {
        let is_hot = self.celsius.is_some_and(|celsius| self.governor.is_hot(celsius));
        // Other sensors are cached by the kernel for a second.
        let is_fresh = self.source().is_some_and(|source| source.contains("x86_pkg_temp"));
        if is_hot && is_fresh { MACHINE_INTERVAL_HOT } else { MACHINE_INTERVAL }
    }

    /// What the last look decided.
    pub(crate) fn decision(&self) -> Decision {
        self.decision
    }

    /// The package's temperature at the last look.
    pub(crate) fn celsius(&self) -> Option<f64> {
        self.celsius
    }

    /// Where it is from.
    pub(crate) fn source(&self) -> Option<&'static str> {
        self.thermometer.source()
    }

    /// How often it was read.
    pub(crate) fn reads(&self) -> &Counts {
        self.thermometer.counts()
    }

    /// Why there are as many slots as there are.
    pub(crate) fn why(&self) -> &'static str {
        self.governor.why().name()
    }

    /// How the slots changed.
    pub(crate) fn changes(&self) -> &Changes {
        self.governor.changes()
    }

    /// The CPUs that may be used, and their classes.
    pub(crate) fn watcher(&self) -> &Watcher {
        &self.watcher
    }
}

/// Physical cores by class, and what else bounds them.
pub(crate) fn capacity(root: &Root, watcher: &Watcher, thermometer: &Thermometer) -> Capacity {
    let critical_celsius = thermometer.critical_celsius();
    Capacity { critical_celsius, ..cool_capacity(root, watcher) }
}

/// The same, of a machine whose sensor is not looked at.
pub(crate) fn cool_capacity(root: &Root, watcher: &Watcher) -> Capacity {
    let (allowed, classes) = (watcher.allowed(), watcher.classes());
    let cores = Cores::without_caches(root, &allowed.cpus);
    let cores = Slots {
        performance: cores.count(&classes.performance),
        efficient: cores.count(&classes.efficient),
        low_power: cores.count(&classes.low_power),
    };
    let quota_cpus = allowed.quota.as_ref().map(hw::cgroup::Quota::cpus);
    Capacity { cores, quota_cpus, critical_celsius: None }
}

#[cfg(test)]
mod tests;
