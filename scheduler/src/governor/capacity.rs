//! What the machine allows: its cores by class, the quota, where its firmware clamps; and the order in which slots are given.

use crate::decision::Slots;
use crate::limits::{JOBS_MAX, JOBS_OPTIMAL};

/// The machine as the governor sees it. It may change while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// Physical cores of each class among those that may be used.
    pub cores: Slots,
    /// The quota of the control group in processors, where there is one.
    pub quota_cpus: Option<f64>,
    /// The temperature at which the firmware clamps, where it is known.
    pub critical_celsius: Option<f64>,
}

/// A class of cores, in the order in which they are given: most work per watt first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    LowPower,
    Efficient,
    Performance,
}

impl Capacity {
    /// The most slots at once: the physical cores, cut to the quota and to what is useful at all; at least 1.
    pub fn slots_max(&self) -> usize {
        let quota = match self.quota_cpus {
            // A part of a processor more would be a slot that the kernel stops again and again.
            Some(cpus) if cpus.is_finite() && cpus > 0.0 => cpus as usize,
            _ => JOBS_MAX,
        };
        JOBS_MAX.min(self.cores().sum()).min(quota.max(1))
    }

    /// The slots with which the governor starts: what the machine does with most work per watt.
    pub fn slots_optimal(&self) -> usize {
        let cores = self.cores();
        let efficient = cores.performance + cores.efficient / 4;
        JOBS_OPTIMAL.min(efficient.max(1)).min(self.slots_max())
    }

    /// The slots that are safe without a sensor: no P core beyond the reserved one where there are others, else half.
    pub(super) fn slots_blind(&self) -> usize {
        let cores = self.cores();
        let optimal = self.slots_optimal();
        let others = cores.efficient + cores.low_power;
        let blind =
            if others > 0 && cores.performance > 0 { optimal.min(1 + others) } else { optimal / 2 };
        blind.max(1)
    }

    /// So many slots, distributed: one on a P core for resolution, then LP-E, E, and the other P cores.
    ///
    /// LP-E before E, because they do most work per watt. What is shed first is given last.
    pub fn slots_at(&self, level: usize) -> Slots {
        let cores = self.cores();
        let level = level.clamp(1, self.slots_max());
        let reserved = level.min(cores.performance).min(1);
        let low_power = (level - reserved).min(cores.low_power);
        let efficient = (level - reserved - low_power).min(cores.efficient);
        let others = level - reserved - low_power - efficient;
        Slots { performance: reserved + others, efficient, low_power }
    }

    /// Whether the last slot of this level is one of a P core.
    pub(super) fn is_performance(&self, level: usize) -> bool {
        self.class_at(level) == Class::Performance
    }

    /// The class of the last slot of this level.
    pub(super) fn class_at(&self, level: usize) -> Class {
        let (with, without) = (self.slots_at(level), self.slots_at(level - 1));
        if level <= 1 || with.performance > without.performance {
            Class::Performance
        } else if with.efficient > without.efficient {
            Class::Efficient
        } else {
            Class::LowPower
        }
    }

    /// The cores; a machine of which nothing is known has one.
    fn cores(&self) -> Slots {
        let cap = |count: usize| count.min(JOBS_MAX);
        let Slots { performance, efficient, low_power } = self.cores;
        if performance == 0 && efficient == 0 && low_power == 0 {
            return Slots { performance: 1, ..Slots::default() };
        }
        Slots {
            performance: cap(performance),
            efficient: cap(efficient),
            low_power: cap(low_power),
        }
    }
}
