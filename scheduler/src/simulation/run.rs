//! One run: a scenario, somebody who decides, a seed; and what is counted of it.

use std::time::Duration;

use hw::thermal::CoreReading;

use super::control::{Control, Kind};
use super::plant::{Plant, STEP_SECONDS};
use super::random::Random;
use super::scenario::{Event, Lost, SECONDS, Scenario, WARM_UP_SECONDS};
use super::sensor::{Fault, Quality, Sensor};
use crate::decision::{Slots, State};
use crate::governor::{CORE_ABOVE, Reading};

/// The noise of the sensor in all scenarios, in kelvins.
const NOISE: f64 = 1.0;

/// Steps of the physics between two decisions.
const STEPS_PER_DECISION: usize = 20;

/// Cooled down, as the recovery is counted, in degrees Celsius.
const COOLED_CELSIUS: f64 = 75.0;

/// What is counted of a run, after the warm-up; where the sensor breaks before, heat and work from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The highest true temperature.
    pub peak_celsius: f64,
    /// Seconds of 10 minutes at 95 C or above.
    pub seconds_at_95: f64,
    /// Seconds of 10 minutes at 100 C or above.
    pub seconds_at_100: f64,
    /// How often the number of slots changed its direction.
    pub reversals_per_min: f64,
    /// How often the state changed.
    pub state_changes_per_min: f64,
    /// Work per second.
    pub work_per_second: f64,
    /// The mean relative clock while anything ran: what a single P core gets.
    pub clock: f64,
    /// The fewest slots at any moment.
    pub slots_min: usize,
    /// The longest time from cooled down without load to all slots; infinite if they did not all come back.
    pub recovery_seconds: Option<f64>,
    /// Seconds from the moment at which the loss of the sensor can be known to BLIND; infinite for never.
    pub blind_after_seconds: Option<f64>,
    /// Seconds in BLIND, of 10 minutes.
    pub seconds_blind: f64,
    /// Slots that were added while BLIND.
    pub grown_blind: usize,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub seconds: f64,
    /// The true temperature.
    pub celsius: f64,
    /// What the sensor said.
    pub read: Option<f64>,
    /// What may run.
    pub slots: Slots,
    /// What runs.
    pub busy: Slots,
    /// The relative clock.
    pub clock: f64,
    /// The state, where there are states.
    pub state: Option<State>,
}

/// Runs a scenario; `cache_seconds` is the sensor's; every second goes to `observe`.
pub fn run(
    scenario: &Scenario,
    kind: Kind,
    seed: u64,
    cache_seconds: f64,
    mut observe: impl FnMut(&Sample),
) -> Outcome {
    let mut run = Run::new(scenario, kind, seed, cache_seconds);
    let steps = (SECONDS / STEP_SECONDS) as usize;
    for index in 0..steps {
        let seconds = index as f64 * STEP_SECONDS;
        run.events(scenario, seconds);
        if index % STEPS_PER_DECISION == 0 {
            let sample = run.decide(seconds);
            run.tally.sample(&sample, run.cores, run.demand);
            run.tally.loss(&sample, scenario.lost, run.fault);
            observe(&sample);
        }
        run.physics(seconds);
    }
    run.tally.outcome()
}

struct Run {
    plant: Plant,
    sensor: Sensor,
    control: Box<dyn Control>,
    random: Random,
    task_ends: f64,
    cores: Slots,
    slots: Slots,
    busy: Slots,
    demand: usize,
    fault: Fault,
    throttled: u64,
    /// Seconds in suspend so far: the governor's clock runs on.
    suspended: f64,
    next_event: usize,
    tally: Tally,
}

impl Run {
    fn new(scenario: &Scenario, kind: Kind, seed: u64, cache_seconds: f64) -> Self {
        let mut random = Random::new(seed);
        let quality = Quality { cache_seconds, noise: NOISE, bad_share: scenario.bad_share };
        let sensor = Sensor::new(quality, random.split());
        Self {
            plant: Plant::new(scenario.build),
            sensor,
            control: kind.start(&scenario.build),
            random,
            task_ends: STEP_SECONDS / scenario.task_seconds,
            cores: scenario.build.cores,
            slots: Slots::default(),
            busy: Slots::default(),
            demand: usize::MAX,
            fault: Fault::None,
            throttled: 0,
            suspended: 0.0,
            next_event: 0,
            tally: Tally::default(),
        }
    }

    fn events(&mut self, scenario: &Scenario, seconds: f64) {
        while let Some((_, event)) =
            scenario.events.get(self.next_event).filter(|(at, _)| *at <= seconds)
        {
            self.next_event += 1;
            match *event {
                Event::Demand(tasks) => self.demand = tasks,
                Event::Sensor(fault) => self.fault = fault,
                Event::Suspend(length) => {
                    self.plant.suspend(length);
                    self.suspended += length;
                }
                Event::Cores(cores) => {
                    self.cores = cores;
                    self.control.set_cores(cores);
                    self.busy = self.busy.least(cores);
                }
            }
        }
    }

    fn decide(&mut self, seconds: f64) -> Sample {
        let read = self.sensor.read(self.plant.celsius(), seconds, self.fault);
        let now = Duration::from_secs_f64(seconds + self.suspended);
        let doubts = self.control.doubts_sensor(now);
        let throttled = self.plant.throttled() - self.throttled;
        self.throttled += throttled;
        let reading = Reading {
            celsius: read,
            age: Duration::ZERO,
            throttled,
            in_flight: self.busy,
            is_limited: self.demand > self.busy.sum(),
            // The sensors of the cores work in all scenarios, rounded as they are.
            cores: doubts.then(|| CoreReading::Hottest(self.plant.celsius().round())),
        };
        self.slots = self.control.step(&reading, now).least(self.cores);
        Sample {
            seconds,
            celsius: self.plant.celsius(),
            read,
            slots: self.slots,
            busy: self.busy,
            clock: self.plant.clock(),
            state: self.control.state(),
        }
    }

    /// Tasks end, one may begin, and the package warms up by it.
    fn physics(&mut self, seconds: f64) {
        let ended = Slots {
            performance: self.ended(self.busy.performance),
            efficient: self.ended(self.busy.efficient),
            low_power: self.ended(self.busy.low_power),
        };
        self.busy.performance -= ended.performance;
        self.busy.efficient -= ended.efficient;
        self.busy.low_power -= ended.low_power;
        if self.busy.sum() < self.demand {
            let (busy, slots) = (&mut self.busy, self.slots);
            if busy.performance < slots.performance {
                busy.performance += 1;
            } else if busy.efficient < slots.efficient {
                busy.efficient += 1;
            } else if busy.low_power < slots.low_power {
                busy.low_power += 1;
            }
        }
        let work = self.plant.step(self.busy);
        // What a broken sensor costs is counted from the first moment.
        if seconds >= WARM_UP_SECONDS || self.fault != Fault::None {
            self.tally.physics(&self.plant, work, self.busy);
        }
    }

    fn ended(&mut self, busy: usize) -> usize {
        (0..busy).filter(|_| self.random.uniform() < self.task_ends).count()
    }
}

/// What is counted while it runs.
#[derive(Default)]
struct Tally {
    outcome: Outcome,
    counted_seconds: f64,
    busy_seconds: f64,
    last: Option<Sample>,
    was_growing: Option<bool>,
    reversals: usize,
    state_changes: usize,
    cooled_at: Option<f64>,
    /// Since when a loss of the sensor could be known.
    known_at: Option<f64>,
}

impl Tally {
    fn physics(&mut self, plant: &Plant, work: f64, busy: Slots) {
        let celsius = plant.celsius();
        self.counted_seconds += STEP_SECONDS;
        let outcome = &mut self.outcome;
        outcome.peak_celsius = outcome.peak_celsius.max(celsius);
        outcome.seconds_at_95 += f64::from(u8::from(celsius >= 95.0)) * STEP_SECONDS;
        outcome.seconds_at_100 += f64::from(u8::from(celsius >= 100.0)) * STEP_SECONDS;
        outcome.work_per_second += work;
        if busy.sum() > 0 {
            self.busy_seconds += STEP_SECONDS;
            outcome.clock += plant.clock() * STEP_SECONDS;
        }
    }

    /// How long it takes to know of a loss that can be known.
    fn loss(&mut self, sample: &Sample, lost: Option<Lost>, fault: Fault) {
        let contradicts = |read| sample.celsius.round() >= read + CORE_ABOVE;
        let is_known = match lost {
            Some(Lost::At(seconds)) => sample.seconds >= seconds,
            Some(Lost::Contradicted) => {
                fault == Fault::Frozen && sample.read.is_some_and(contradicts)
            }
            None => false,
        };
        if is_known {
            self.known_at.get_or_insert(sample.seconds);
        }
        let Some(known_at) = self.known_at else { return };
        let after = self.outcome.blind_after_seconds.get_or_insert(f64::INFINITY);
        if sample.state == Some(State::Blind) && after.is_infinite() {
            *after = sample.seconds - known_at;
        }
    }

    fn sample(&mut self, sample: &Sample, cores: Slots, demand: usize) {
        let slots = sample.slots.sum();
        let is_blind = sample.state == Some(State::Blind);
        self.recovery(sample, slots == cores.sum(), demand);
        self.outcome.slots_min = match self.last {
            None => slots,
            Some(_) => self.outcome.slots_min.min(slots),
        };
        if let Some(last) = self.last.replace(*sample) {
            if is_blind && last.state == Some(State::Blind) {
                self.outcome.grown_blind += slots.saturating_sub(last.slots.sum());
            }
            if sample.seconds >= WARM_UP_SECONDS {
                self.state_changes += usize::from(last.state != sample.state);
                self.outcome.seconds_blind += f64::from(u8::from(is_blind));
                if slots != last.slots.sum() {
                    let grows = slots > last.slots.sum();
                    self.reversals += usize::from(self.was_growing.is_some_and(|was| was != grows));
                    self.was_growing = Some(grows);
                }
            }
        }
    }

    fn recovery(&mut self, sample: &Sample, is_full: bool, demand: usize) {
        if demand > 0 {
            self.cooled_at = None;
        } else if sample.celsius < COOLED_CELSIUS {
            let since = *self.cooled_at.get_or_insert(sample.seconds);
            let took = sample.seconds - since;
            let recovery = self.outcome.recovery_seconds.get_or_insert(0.0);
            if !is_full {
                *recovery = recovery.max(took);
            }
        }
    }

    fn outcome(self) -> Outcome {
        let minutes = self.counted_seconds / 60.0;
        let of_ten_minutes = 10.0 / minutes;
        Outcome {
            seconds_at_95: self.outcome.seconds_at_95 * of_ten_minutes,
            seconds_at_100: self.outcome.seconds_at_100 * of_ten_minutes,
            seconds_blind: self.outcome.seconds_blind * of_ten_minutes,
            reversals_per_min: self.reversals as f64 / minutes,
            state_changes_per_min: self.state_changes as f64 / minutes,
            work_per_second: self.outcome.work_per_second / self.counted_seconds,
            clock: self.outcome.clock / self.busy_seconds.max(STEP_SECONDS),
            ..self.outcome
        }
    }
}
