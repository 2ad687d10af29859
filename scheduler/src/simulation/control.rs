//! Who decides in a simulation: our governor, and what it is compared with.

use std::time::Duration;

use super::plant::Build;
use crate::decision::{Slots, State};
use crate::governor::{Capacity, Governor, Reading, Sensor, Thresholds};

/// The limit with which everybody starts who has one.
const START_LIMIT: usize = 8;

/// Something that says how much may run.
pub trait Control {
    /// The slots until the next second.
    fn step(&mut self, reading: &Reading, now: Duration) -> Slots;

    /// The cores that may be used have changed.
    fn set_cores(&mut self, cores: Slots);

    /// Whether it wants to know what the hottest core says.
    fn doubts_sensor(&self, _now: Duration) -> bool {
        false
    }

    /// What state it is in, where it has states.
    fn state(&self) -> Option<State> {
        None
    }
}

/// The ways to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Bolide,
    /// Everything, always: the firmware does what is to be done.
    Naive,
    /// 16 below 85 C, 8 below 95, 4 below 100, else 1; a missing read is 0. P cores first.
    LiteralBands,
    /// Times 0.8 at 95 C and above (every 2 s at most), one more below 88 (every 3 s). P cores first.
    Aimd,
    /// The same, with cores in the governor's order: what of the governor's gain is that order.
    AimdEfficientFirst,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] =
        [Kind::Bolide, Kind::Naive, Kind::LiteralBands, Kind::Aimd, Kind::AimdEfficientFirst];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bolide => "bolide",
            Kind::Naive => "naive",
            Kind::LiteralBands => "literal-bands",
            Kind::Aimd => "aimd",
            Kind::AimdEfficientFirst => "aimd-efficient-first",
        }
    }

    /// One for this laptop.
    pub fn start(self, build: &Build) -> Box<dyn Control> {
        let cores = build.cores;
        match self {
            Kind::Bolide => {
                let capacity = Capacity {
                    cores,
                    quota_cpus: None,
                    critical_celsius: Some(build.critical_celsius),
                };
                Box::new(Bolide {
                    governor: Governor::new(capacity, Thresholds::default(), Sensor::Known),
                    capacity,
                    state: State::Optimal,
                })
            }
            Kind::Naive => Box::new(Limited { cores, rule: |_, cores| cores.sum() }),
            Kind::LiteralBands => Box::new(Limited { cores, rule: literal_bands }),
            Kind::Aimd => Box::new(Aimd::new(performance_first, cores)),
            Kind::AimdEfficientFirst => Box::new(Aimd::new(efficient_first, cores)),
        }
    }
}

struct Bolide {
    governor: Governor,
    capacity: Capacity,
    state: State,
}

impl Control for Bolide {
    fn step(&mut self, reading: &Reading, now: Duration) -> Slots {
        let decision = self.governor.step(*reading, now);
        self.state = decision.state;
        decision.slots
    }

    fn set_cores(&mut self, cores: Slots) {
        self.capacity.cores = cores;
        self.governor.set_capacity(self.capacity);
    }

    fn doubts_sensor(&self, now: Duration) -> bool {
        self.governor.doubts_sensor(now)
    }

    fn state(&self) -> Option<State> {
        Some(self.state)
    }
}

/// A limit that is a function of the reading.
struct Limited {
    cores: Slots,
    rule: fn(f64, Slots) -> usize,
}

impl Control for Limited {
    fn step(&mut self, reading: &Reading, _now: Duration) -> Slots {
        performance_first((self.rule)(reading.celsius.unwrap_or(0.0), self.cores), self.cores)
    }

    fn set_cores(&mut self, cores: Slots) {
        self.cores = cores;
    }
}

fn literal_bands(celsius: f64, _cores: Slots) -> usize {
    match celsius {
        celsius if celsius < 85.0 => 16,
        celsius if celsius < 95.0 => 8,
        celsius if celsius < 100.0 => 4,
        _ => 1,
    }
}

struct Aimd {
    fill: fn(usize, Slots) -> Slots,
    cores: Slots,
    limit: usize,
    cut_at: Duration,
    grown_at: Duration,
}

impl Aimd {
    fn new(fill: fn(usize, Slots) -> Slots, cores: Slots) -> Self {
        let (cut_at, grown_at) = (Duration::ZERO, Duration::ZERO);
        Self { fill, cores, limit: START_LIMIT, cut_at, grown_at }
    }
}

impl Control for Aimd {
    fn step(&mut self, reading: &Reading, now: Duration) -> Slots {
        let celsius = reading.celsius.unwrap_or(0.0);
        if celsius >= 95.0 && now.saturating_sub(self.cut_at) >= Duration::from_secs(2) {
            self.limit = (self.limit * 4 / 5).max(1);
            self.cut_at = now;
        } else if celsius < 88.0 && now.saturating_sub(self.grown_at) >= Duration::from_secs(3) {
            self.limit = (self.limit + 1).min(self.cores.sum());
            self.grown_at = now;
        }
        (self.fill)(self.limit, self.cores)
    }

    fn set_cores(&mut self, cores: Slots) {
        self.cores = cores;
        self.limit = self.limit.min(cores.sum());
    }
}

/// A limit on cores, filled as a kernel fills a hybrid machine: P, then E, then LP-E.
fn performance_first(limit: usize, cores: Slots) -> Slots {
    let performance = limit.min(cores.performance);
    let efficient = (limit - performance).min(cores.efficient);
    let low_power = (limit - performance - efficient).min(cores.low_power);
    Slots { performance, efficient, low_power }
}

/// A limit on cores in the governor's own order: one P, LP-E, E, then the other P.
fn efficient_first(limit: usize, cores: Slots) -> Slots {
    Capacity { cores, ..Capacity::default() }.slots_at(limit)
}
