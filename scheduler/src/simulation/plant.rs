//! The package: two thermal nodes (die, heat sink), the firmware's power limits (RAPL) and its clock clamp (TCC).
//!
//! All numbers are estimates; see the module above.

use crate::decision::Slots;

/// Seconds in one step of the physics: a sixth of the die's own time constant.
pub const STEP_SECONDS: f64 = 0.05;

/// Watts of the package that computes nothing.
const IDLE_WATTS: f64 = 4.5;

/// Watts of a busy core at full clock: P, E, LP-E.
const CORE_WATTS: [f64; 3] = [9.6, 3.2, 0.9];

/// Work per second of a busy core at full clock: P, E, LP-E.
const CORE_WORK: [f64; 3] = [1.0, 0.52, 0.28];

/// Seconds over which the firmware averages power.
const AVERAGE_SECONDS: f64 = 28.0;

/// The firmware's average at the start, in watts.
const AVERAGE_START_WATTS: f64 = 8.0;

/// The lowest relative clock to which the power limit and the clamp go.
const CLOCK_MIN_POWER: f64 = 0.2;
const CLOCK_MIN_CLAMP: f64 = 0.3;

/// The clamp's steps, down while it is too hot and up otherwise.
const CLAMP_DOWN: f64 = 0.03;
const CLAMP_UP: f64 = 0.01;

/// Halvings of the interval in which the clock is sought: 0.8 / 2^12 is a fifth of a thousandth.
const BISECTIONS: usize = 12;

/// What is built into one laptop, and the room it stands in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Build {
    /// Kelvins per watt from die to sink.
    pub die_resistance: f64,
    /// Joules per kelvin of the die.
    pub die_capacity: f64,
    /// Kelvins per watt from sink to room.
    pub sink_resistance: f64,
    /// Joules per kelvin of the sink.
    pub sink_capacity: f64,
    /// The room.
    pub ambient_celsius: f64,
    /// Power that the firmware allows for long.
    pub long_watts: f64,
    /// Power that it allows until the average reaches the other.
    pub short_watts: f64,
    /// Where the clamp begins.
    pub critical_celsius: f64,
    /// Cores.
    pub cores: Slots,
}

/// The base of all scenarios.
pub const BASE: Build = Build {
    die_resistance: 0.60,
    die_capacity: 0.55,
    sink_resistance: 0.75,
    sink_capacity: 60.0,
    ambient_celsius: 30.0,
    long_watts: 45.0,
    short_watts: 64.0,
    critical_celsius: 110.0,
    cores: Slots { performance: 6, efficient: 8, low_power: 2 },
};

/// Above the room at the start, in kelvins.
const START_ABOVE_AMBIENT: f64 = 12.0;

/// The package at one moment.
#[derive(Clone, Debug)]
pub struct Plant {
    build: Build,
    die_celsius: f64,
    sink_celsius: f64,
    average_watts: f64,
    clock: f64,
    clamp: f64,
    throttled: u64,
    is_throttled: bool,
}

impl Plant {
    /// One that has stood idle.
    pub fn new(build: Build) -> Self {
        let start = build.ambient_celsius + START_ABOVE_AMBIENT;
        Self {
            build,
            die_celsius: start,
            sink_celsius: start,
            average_watts: AVERAGE_START_WATTS,
            clock: 1.0,
            clamp: 1.0,
            throttled: 0,
            is_throttled: false,
        }
    }

    /// Lets [`STEP_SECONDS`] pass with so many busy cores; the work done meanwhile.
    pub fn step(&mut self, busy: Slots) -> f64 {
        let watts_full = dot(busy, CORE_WATTS);
        let limit = if self.average_watts < self.build.long_watts {
            self.build.short_watts
        } else {
            self.build.long_watts
        };
        self.clock = clock_within(watts_full, limit, self.clamp);
        let watts = watts(watts_full, self.clock);
        self.average_watts += (watts - self.average_watts) * STEP_SECONDS / AVERAGE_SECONDS;
        let Build { die_resistance, die_capacity, sink_resistance, sink_capacity, .. } = self.build;
        let to_sink = (self.die_celsius - self.sink_celsius) / die_resistance;
        let to_room = (self.sink_celsius - self.build.ambient_celsius) / sink_resistance;
        self.die_celsius += (watts - to_sink) / die_capacity * STEP_SECONDS;
        self.sink_celsius += (to_sink - to_room) / sink_capacity * STEP_SECONDS;
        let is_too_hot = self.die_celsius >= self.build.critical_celsius;
        // The counter counts beginnings, as the kernel's does.
        self.throttled += u64::from(is_too_hot && !self.is_throttled);
        self.is_throttled = is_too_hot;
        self.clamp = if is_too_hot {
            (self.clamp - CLAMP_DOWN).max(CLOCK_MIN_CLAMP)
        } else {
            (self.clamp + CLAMP_UP).min(1.0)
        };
        dot(busy, CORE_WORK) * self.clock * STEP_SECONDS
    }

    /// What the machine is suspended for: it cools, nothing runs.
    pub fn suspend(&mut self, seconds: f64) {
        let time_constant = self.build.sink_capacity * self.build.sink_resistance;
        let above = self.sink_celsius - self.build.ambient_celsius;
        self.sink_celsius = self.build.ambient_celsius + above * (-seconds / time_constant).exp();
        self.die_celsius = self.sink_celsius;
        self.average_watts = 0.0;
        self.clamp = 1.0;
        self.is_throttled = false;
    }

    /// The true temperature.
    pub fn celsius(&self) -> f64 {
        self.die_celsius
    }

    /// The clock relative to the highest.
    pub fn clock(&self) -> f64 {
        self.clock
    }

    /// How often the clamp began so far.
    pub fn throttled(&self) -> u64 {
        self.throttled
    }
}

/// Work per second of these cores at full clock.
pub fn work_per_second(busy: [f64; 3]) -> f64 {
    busy.iter().zip(CORE_WORK).map(|(count, each)| count * each).sum()
}

/// Watts of the package with these cores busy at full clock.
pub fn watts_at_full_clock(busy: [f64; 3]) -> f64 {
    IDLE_WATTS + busy.iter().zip(CORE_WATTS).map(|(count, each)| count * each).sum::<f64>()
}

fn dot(busy: Slots, each: [f64; 3]) -> f64 {
    busy.performance as f64 * each[0]
        + busy.efficient as f64 * each[1]
        + busy.low_power as f64 * each[2]
}

fn watts(watts_full: f64, clock: f64) -> f64 {
    let volts = 0.62 + 0.38 * clock;
    IDLE_WATTS + watts_full * clock * volts * volts
}

/// The highest clock up to `clamp` that stays within the limit.
fn clock_within(watts_full: f64, limit: f64, clamp: f64) -> f64 {
    if watts(watts_full, clamp) <= limit {
        return clamp;
    }
    let (mut low, mut high) = (CLOCK_MIN_POWER, clamp);
    for _ in 0..BISECTIONS {
        let middle = (low + high) / 2.0;
        if watts(watts_full, middle) <= limit {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::{BASE, Plant, STEP_SECONDS};
    use crate::decision::Slots;

    fn after(seconds: f64, busy: Slots) -> Plant {
        let mut plant = Plant::new(BASE);
        for _ in 0..(seconds / STEP_SECONDS) as usize {
            plant.step(busy);
        }
        plant
    }

    #[test]
    fn everything_busy_settles_where_the_long_power_limit_says() {
        let plant = after(900.0, BASE.cores);
        // 30 C and 45 W over 1.35 K/W.
        assert!((plant.celsius() - 90.75).abs() < 0.5, "{}", plant.celsius());
        assert!((plant.clock() - 0.64).abs() < 0.02, "{}", plant.clock());
        assert_eq!(plant.throttled(), 0);
    }

    #[test]
    fn one_core_settles_where_its_power_says() {
        let plant = after(900.0, Slots { performance: 1, ..Slots::default() });
        assert!((plant.celsius() - (30.0 + 14.1 * 1.35)).abs() < 0.1, "{}", plant.celsius());
        assert!((plant.clock() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_clamp_holds_where_no_power_limit_does() {
        let mut plant = Plant::new(super::Build { long_watts: 115.0, short_watts: 115.0, ..BASE });
        for _ in 0..12_000 {
            plant.step(BASE.cores);
        }
        assert!((108.0..=112.0).contains(&plant.celsius()), "{}", plant.celsius());
        assert!(plant.throttled() > 0 && plant.clock() < 0.9);
    }
}
