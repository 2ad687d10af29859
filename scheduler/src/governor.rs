//! How much may run at this temperature: a function of a state, a reading and the time.
//!
//! No clock, no file, no thread: whoever owns a [`Governor`] reads the sensor about once a second, calls
//! [`Governor::step`] and carries the [`Decision`] out. Bad readings never raise concurrency. Reading order: [`Capacity`]
//! (the machine), [`Thresholds`], `sense` (what is believed), `ladder` (how many slots), `gate` (heavy work).

use std::time::Duration;

use hw::thermal::CoreReading;

use crate::decision::{Background, Decision, Slots, State};
use crate::limits::{DWELL_MIN, FIRMWARE_QUIET_MIN, STEP_GAP_MAX};

mod capacity;
mod gate;
mod ladder;
mod reason;
mod sense;
#[cfg(test)]
mod tests;
mod thresholds;

pub use self::capacity::Capacity;
pub use self::reason::{Changes, Direction, Reason};
pub use self::thresholds::{Band, ThresholdError, ThresholdValues, Thresholds};

use self::gate::Gate;
use self::ladder::{Ladder, Step};
pub(crate) use self::sense::CORE_ABOVE;
use self::sense::{Heat, Seen, Sense};

/// What was measured since the last step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The temperature of the package in degrees Celsius; `None` where the sensor fails.
    pub celsius: Option<f64>,
    /// How old that value is; zero where the sensor was read just now.
    pub age: Duration,
    /// How often the firmware throttled since the last step.
    pub throttled: u64,
    /// Computing work that runs now, by class. What only waits for a network does not count.
    pub in_flight: Slots,
    /// Whether work waits for a slot.
    pub is_limited: bool,
    /// What the cores say, where [`Governor::doubts_sensor`] asked for it.
    pub cores: Option<CoreReading>,
}

/// What is known of the package's sensor when a governor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensor {
    /// There is none.
    Absent,
    /// It was found and has not answered yet: for a while nothing grows, and its first answer counts. What never was cannot be lost, so one
    /// that goes on saying nothing is none.
    Awaited,
    /// It answered.
    Known,
}

/// The state between two steps.
#[derive(Clone, Debug)]
pub struct Governor {
    configured: Thresholds,
    /// The thresholds, cut to the machine.
    thresholds: ThresholdValues,
    capacity: Capacity,
    sense: Sense,
    state: State,
    state_since: Duration,
    ladder: Ladder,
    gate: Gate,
    /// When the firmware throttled last.
    throttled_at: Option<Duration>,
    stepped_at: Option<Duration>,
    changes: Changes,
    why: Reason,
}

impl Governor {
    /// One for this machine.
    pub fn new(capacity: Capacity, thresholds: Thresholds, sensor: Sensor) -> Self {
        let has_sensor = sensor != Sensor::Absent;
        let level = if has_sensor { capacity.slots_optimal() } else { capacity.slots_max() };
        Self {
            configured: thresholds,
            thresholds: thresholds.cut_to(capacity.critical_celsius),
            capacity,
            sense: Sense::new(sensor),
            state: if has_sensor { State::Optimal } else { State::Off },
            state_since: Duration::ZERO,
            ladder: Ladder::new(level),
            gate: Gate::default(),
            throttled_at: None,
            stepped_at: None,
            changes: Changes::default(),
            why: if has_sensor { Reason::Start } else { Reason::NoSensor },
        }
    }

    /// The machine has changed: fewer slots at once if it shrank, more as the temperature allows if it grew. As many slots on other
    /// cores are not as much heat: those of E cores that went do not come back as P slots but by growing.
    pub fn set_capacity(&mut self, capacity: Capacity) {
        let performance_max = self.capacity.slots_at(self.ladder.level()).performance.max(1);
        self.capacity = capacity;
        self.thresholds = self.configured.cut_to(capacity.critical_celsius);
        let fits = |level: &usize| capacity.slots_at(*level).performance <= performance_max;
        let level = (1..=self.ladder.level()).rev().find(fits).unwrap_or(1);
        self.shrink_to(level, Reason::Machine);
    }

    /// Other thresholds from now on.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.configured = thresholds;
        self.thresholds = thresholds.cut_to(self.capacity.critical_celsius);
    }

    /// The thresholds that hold: the configured ones, cut to the machine.
    pub fn thresholds(&self) -> ThresholdValues {
        self.thresholds
    }

    /// What may run until the next step. `now` is of any clock that does not go backwards; if it does, or leaps, what was
    /// seen before is forgotten and all waits begin again.
    pub fn step(&mut self, reading: Reading, now: Duration) -> Decision {
        let is_continuous = self.stepped_at.replace(now).is_none_or(|before| {
            now.checked_sub(before).is_some_and(|passed| passed <= STEP_GAP_MAX)
        });
        if !is_continuous {
            self.sense.forget();
            self.ladder.forget(now);
            self.gate.forget(now);
            self.state_since = now;
            self.throttled_at = None;
        }
        let load = (reading.in_flight, self.capacity.slots_at(usize::MAX));
        if reading.throttled > 0 {
            self.throttled_at = Some(now);
        }
        let seen = self.sense.take(reading.celsius, reading.age, load, reading.cores, now);
        self.shrink_to(self.capacity.slots_max(), Reason::Machine);
        match self.without_sensor(seen, now) {
            Seen::Heat(heat) => self.governed(heat, &reading, now),
            Seen::Nothing => self.unread(reading.throttled, now),
            Seen::Lost(reason) => self.blind(reason, reading.throttled, now),
            Seen::Never => self.off(),
        }
        self.decision()
    }

    /// Whether it is so hot that heavy work waits; from there on the sensor is worth a look more often, too.
    pub fn is_hot(&self, celsius: f64) -> bool {
        celsius >= self.thresholds.heavy.enter
    }

    /// Whether the next reading should say what the cores say, too: the package's sensor stands still while work runs.
    pub fn doubts_sensor(&self, now: Duration) -> bool {
        self.sense.is_doubted(now)
    }

    /// Why there are as many slots as there are, and not more.
    pub fn why(&self) -> Reason {
        self.why
    }

    /// How often slots were added and taken away so far, and why.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The slots of [`Governor::step`]'s last decision, in the order in which they are given.
    pub fn level(&self) -> usize {
        self.ladder.level()
    }

    /// A machine that was never measured, but whose firmware throttles, is like one that lost its sensor.
    fn without_sensor(&self, seen: Seen, now: Duration) -> Seen {
        match seen {
            Seen::Never if self.throttled_within(FIRMWARE_QUIET_MIN, now) => {
                Seen::Lost(Reason::Firmware)
            }
            seen => seen,
        }
    }

    fn throttled_within(&self, time: Duration, now: Duration) -> bool {
        self.throttled_at.is_some_and(|at| now.saturating_sub(at) < time)
    }

    fn governed(&mut self, heat: Heat, reading: &Reading, now: Duration) {
        let throttled = reading.throttled > 0;
        let next = self.next_state(&heat, throttled, now);
        self.enter(next, now);
        let step = Step {
            heat,
            state: self.state,
            throttled,
            in_flight: reading.in_flight.sum(),
            is_limited: reading.is_limited,
            thresholds: &self.thresholds,
            capacity: &self.capacity,
            now,
        };
        let (direction, reason) = self.ladder.step(&step);
        self.why = reason;
        if let Some(direction) = direction {
            self.changes.count(direction, reason);
            if direction == Direction::Up {
                self.sense.spend_growth(self.capacity.is_performance(self.ladder.level()));
            }
        }
        self.gate.step(&heat, self.state, &self.thresholds.heavy, now);
    }

    /// The sensor has not answered yet: as before, but the firmware is heard.
    fn unread(&mut self, throttled: u64, now: Duration) {
        if throttled > 0 {
            self.enter(State::Throttle, now);
            self.shrink_to(self.ladder.level() / 2, Reason::Firmware);
            self.gate.close();
        } else {
            self.why = Reason::Start;
        }
    }

    /// Nobody knows how hot it is. That the firmware throttles is known all the same, and told for as long as where a sensor is.
    fn blind(&mut self, reason: Reason, throttled: u64, now: Duration) {
        let throttles = self.throttled_within(DWELL_MIN, now);
        self.enter(if throttles { State::Throttle } else { State::Blind }, now);
        self.shrink_to(self.capacity.slots_blind(), reason);
        if throttled > 0 {
            self.shrink_to(self.ladder.level() / 2, Reason::Firmware);
        }
        self.why = if throttles { Reason::Firmware } else { reason };
        self.gate.close();
    }

    fn off(&mut self) {
        self.state = State::Off;
        self.ladder.set(self.capacity.slots_max());
        self.why = Reason::NoSensor;
        self.gate.open();
    }

    fn shrink_to(&mut self, level: usize, reason: Reason) {
        if level.max(1) < self.ladder.level() {
            self.ladder.set(level);
            self.changes.count(Direction::Down, reason);
            self.why = reason;
        }
    }

    fn enter(&mut self, state: State, now: Duration) {
        if state != self.state {
            self.state = state;
            self.state_since = now;
        }
    }

    /// A hotter state at once, a cooler one step by step, each after a time.
    fn next_state(&self, heat: &Heat, throttled: bool, now: Duration) -> State {
        let ThresholdValues { normal, caution, throttle, .. } = self.thresholds;
        let least = if throttled {
            State::Throttle
        } else {
            self.thresholds.state_of(heat.raw, heat.quick)
        };
        let (leave, cooler) = match self.state {
            State::Throttle => (throttle.leave, State::Caution),
            State::Caution => (caution.leave, State::Normal),
            State::Normal => (normal.leave, State::Optimal),
            State::Optimal | State::Blind | State::Off => return least,
        };
        let dwelt = now.saturating_sub(self.state_since) >= DWELL_MIN;
        if rank(least) >= rank(self.state) {
            least
        } else if dwelt && heat.slow < leave {
            if rank(cooler) > rank(least) { cooler } else { least }
        } else {
            self.state
        }
    }

    fn decision(&self) -> Decision {
        let background = match self.state {
            State::Throttle => Background::Paused,
            State::Caution if self.capacity.cores.low_power > 0 => Background::LowPower,
            _ => Background::Efficient,
        };
        Decision {
            state: self.state,
            slots: self.capacity.slots_at(self.ladder.level()),
            heavy: self.gate.is_open(),
            background,
        }
    }
}

/// States in the order of heat.
fn rank(state: State) -> usize {
    match state {
        State::Optimal | State::Blind | State::Off => 0,
        State::Normal => 1,
        State::Caution => 2,
        State::Throttle => 3,
    }
}
