//! What is believed of the sensor: which reads are good, the temperature behind their noise, and when it is lost.
//!
//! Cuts follow a quick mean with a look ahead, growth a slow one that a single wrong read does not move; a lie may therefore cost
//! work, not heat. A value that is always the same is a stuck sensor or an idle machine: what tells them apart is whether
//! our own load changed by more than any package hides, and that is forgotten with the load. Nobody else judges this.

use std::time::Duration;

use hw::thermal::CoreReading;

use super::{Reason, Sensor};
use crate::decision::Slots;
use crate::limits::{
    CELSIUS_MAX, CELSIUS_MIN, FALL_CELSIUS_MAX, READING_AGE_MAX, READINGS_BAD_MAX,
    READINGS_GOOD_MIN, SENSOR_AWAITED_MAX,
};

/// Time constants of the two means, in seconds: two and six reads.
const QUICK_SECONDS: f64 = 2.0;
const SLOW_SECONDS: f64 = 6.0;

/// The most that a look ahead adds, in kelvins.
const AHEAD_CELSIUS_MAX: f64 = 4.0;

/// How far apart reads of a new level may lie, in kelvins.
const SUSPECT_SPREAD: f64 = 10.0;

/// Growth steps that one change of the reading supports.
const GROWTH_PER_CHANGE: u32 = 2;

/// Changes of the reading that a P slot takes, since the last one and since the last fall: a lie falls once and stays.
const CHANGES_PER_PERFORMANCE: u32 = 2;

/// A fall in kelvins that noise does not make: after it the reading has to move anew.
const FALL_SHOWN: f64 = 3.0;

/// The heat of a busy core in that of an E core: P, LP-E.
const WEIGHT_PERFORMANCE: f64 = 3.0;
const WEIGHT_LOW_POWER: f64 = 0.3;

/// A change of load that every package shows, in E cores: 45 W (3.2 W each). The simulated die of 0.6 K/W is 27 K warmer by it
/// within a second (its time constant is 0.33 s); a server's, cooled ten times as well, 2.7 K.
pub(super) const WEIGHT_SHOWN: f64 = 14.0;

/// The same on a machine that is smaller: all of four P cores, 38 W and 2.3 K on that server. Fewer show nothing.
pub(super) const WEIGHT_SHOWN_MIN: f64 = 12.0;

/// Under this, one P core, nothing contradicts a value that stands still.
const WEIGHT_LIGHT: f64 = 3.0;

/// How long a value may stay the same after such a change.
const STUCK_AFTER_CHANGE: Duration = Duration::from_secs(3);

/// How long it may stay the same under at least that load.
const STUCK_UNDER_LOAD: Duration = Duration::from_secs(30);

/// How long a value stands still, while more than one P core is busy, before the cores are asked.
const DOUBT_AFTER: Duration = Duration::from_secs(3);

/// How often they are asked while they contradict nothing: each one is woken by it. With the second look that confirms it, a sensor that
/// cores contradict is known within five seconds.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(4);

/// So many light samples in a row end the doubt: work comes in bursts, and one sample may fall between two.
const LIGHT_RUN_MIN: u32 = 3;

/// How many kelvins a core is above a package sensor that does not follow it. A package is as hot as its hottest core, and two readings
/// of the same heat differ by rounding and noise.
pub(crate) const CORE_ABOVE: f64 = 6.0;

/// How often in a row they must say so, or nothing.
const CONTRADICTIONS: u32 = 2;

/// The temperature, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heat {
    /// The last value.
    pub(super) raw: f64,
    /// The quick mean.
    pub(super) quick: f64,
    /// The slow one, or the median of the last three if that is higher.
    pub(super) slow: f64,
    /// Kelvins per second.
    pub(super) slope: f64,
    /// Whether the value is of this step.
    pub(super) is_fresh: bool,
    /// Whether the value has changed often enough to support growth.
    pub(super) supports_growth: bool,
    /// Whether it has for a P slot, too.
    pub(super) supports_performance: bool,
}

impl Heat {
    /// The quick mean and where it is going.
    pub(super) fn ahead(&self) -> f64 {
        self.quick + (2.0 * self.slope).clamp(0.0, AHEAD_CELSIUS_MAX)
    }
}

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Seen {
    /// The temperature.
    Heat(Heat),
    /// A sensor that has not answered yet, or not for a moment.
    Nothing,
    /// There was a sensor.
    Lost(Reason),
    /// There never was one.
    Never,
}

#[derive(Clone, Debug)]
pub(super) struct Sense {
    sensor: Sensor,
    lost: Option<Reason>,
    bad_run: u32,
    good_run: u32,
    /// Whether the good reads in a row are not all the same: what fails often fails with the same number.
    has_moved: bool,
    /// Values that may be a new level.
    suspect: Option<Suspect>,
    /// When the last good value was taken; at first when the sensor was first asked.
    good_at: Option<Duration>,
    filter: Option<Filter>,
    growth: u32,
    /// Changes since the last P slot and the last fall.
    changes: u32,
    same: Same,
    witness: Witness,
}

/// What the cores said of a value that stands still.
#[derive(Clone, Copy, Debug, Default)]
struct Witness {
    asked: u32,
    asked_at: Duration,
    /// In a row.
    contradicted: u32,
}

/// Values that a package does not fall to, unless it stays there and goes on moving.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    value: f64,
    run: u32,
    has_moved: bool,
}

/// The means.
#[derive(Clone, Copy, Debug)]
struct Filter {
    quick: f64,
    slow: f64,
    last: [f64; 3],
    at: Duration,
}

/// For how long the value has been the same, and under what load.
#[derive(Clone, Copy, Debug, Default)]
struct Same {
    value: f64,
    weight_low: f64,
    /// Since when the load differs so much from what it was that the value should have changed.
    changed_at: Option<Duration>,
    /// Since when the load is so high that the value should change.
    loaded_at: Option<Duration>,
    /// Since when there is more load than may be waiting.
    worked_at: Option<Duration>,
    /// How often in a row there was less.
    light_run: u32,
}

impl Sense {
    pub(super) fn new(sensor: Sensor) -> Self {
        Self {
            sensor,
            lost: None,
            bad_run: 0,
            good_run: 0,
            has_moved: false,
            suspect: None,
            good_at: None,
            filter: None,
            growth: 0,
            changes: 0,
            same: Same { value: f64::NAN, ..Same::default() },
            witness: Witness::default(),
        }
    }

    /// Time has jumped: what was seen before says nothing about now. A lost sensor stays lost.
    pub(super) fn forget(&mut self) {
        *self = Self { lost: self.lost, ..Self::new(self.sensor) };
    }

    /// One slot was added on the word of this sensor.
    pub(super) fn spend_growth(&mut self, is_performance: bool) {
        self.growth = self.growth.saturating_sub(1);
        if is_performance {
            self.changes = 0;
        }
    }

    /// Whether the value has stood still for so long that the cores should be asked.
    pub(super) fn is_doubted(&self, now: Duration) -> bool {
        let Witness { asked, asked_at, contradicted } = self.witness;
        let is_new = asked < CONTRADICTIONS || contradicted > 0;
        self.same.is_doubtful(now) && (is_new || now.saturating_sub(asked_at) >= ASK_AGAIN_AFTER)
    }

    /// What the cores say beside the last good read. Where they could be heard before, silence clears nobody: it counts as a contradiction.
    fn hear(&mut self, cores: Option<CoreReading>, now: Duration) {
        if !self.same.is_doubtful(now) {
            self.witness = Witness::default();
        } else if let Some(said) = cores {
            let contradicts = match said {
                CoreReading::Hottest(core) => core >= self.same.value + CORE_ABOVE,
                CoreReading::Silent => true,
                CoreReading::Absent => false,
            };
            let contradicted = if contradicts { self.witness.contradicted + 1 } else { 0 };
            let asked = self.witness.asked.saturating_add(1);
            self.witness = Witness { asked, asked_at: now, contradicted };
        }
    }

    /// Takes in one read; `full` is the whole machine.
    pub(super) fn take(
        &mut self,
        celsius: Option<f64>,
        age: Duration,
        load: (Slots, Slots),
        cores: Option<CoreReading>,
        now: Duration,
    ) -> Seen {
        let good_at = *self.good_at.get_or_insert(now);
        let plausible = celsius
            .filter(|value| (CELSIUS_MIN..=CELSIUS_MAX).contains(value) && age <= READING_AGE_MAX);
        if plausible.is_none() {
            self.suspect = None;
        }
        let is_light = weight(load.0) <= WEIGHT_LIGHT;
        let is_confirmed = plausible.is_some_and(|value| self.is_possible(value, is_light));
        let is_old = self.bad_run > 0 && now.saturating_sub(good_at) > READING_AGE_MAX;
        let is_news = is_confirmed && self.suspect.is_some();
        if is_old && !is_news && self.sensor != Sensor::Awaited {
            // Whatever this read says, it is not measured by what was known so long ago; unless those before it said the same.
            self.lose();
        }
        let good = plausible.filter(|_| is_confirmed || self.filter.is_none());
        if let Some(value) = good {
            self.suspect = None;
            self.bad_run = 0;
            self.good_run = self.good_run.saturating_add(1);
            self.good_at = Some(now.saturating_sub(age));
            self.update(value, weight(load.0), weight(load.1), now);
            self.hear(cores, now);
        } else {
            self.bad_run = self.bad_run.saturating_add(1);
            self.good_run = 0;
            self.has_moved = false;
        }
        self.judge(good.is_some(), is_light, now)
    }

    /// A package does not cool down so far so quickly, unless it stays there; and under load it does not stand still there.
    fn is_possible(&mut self, value: f64, is_light: bool) -> bool {
        let Some(filter) = self.filter else { return true };
        if value >= filter.last[0] - FALL_CELSIUS_MAX {
            self.suspect = None;
            return true;
        }
        let suspect = match self.suspect {
            Some(before) if (before.value - value).abs() <= SUSPECT_SPREAD => Suspect {
                value,
                run: before.run + 1,
                has_moved: before.has_moved || before.value != value,
            },
            _ => Suspect { value, run: 1, has_moved: false },
        };
        self.suspect = Some(suspect);
        suspect.run >= READINGS_GOOD_MIN && (suspect.has_moved || is_light)
    }

    fn update(&mut self, value: f64, weight: f64, weight_full: f64, now: Duration) {
        if self.same.value.is_finite() && self.same.value != value {
            self.growth = GROWTH_PER_CHANGE;
            let has_fallen = value < self.same.value - FALL_SHOWN;
            self.changes = if has_fallen { 0 } else { self.changes.saturating_add(1) };
            // Two good reads in a row differ; what was before a bad one is not compared.
            self.has_moved |= self.good_run > 1;
        }
        self.same.update(value, weight, weight_full, now);
        let filter = match self.filter {
            Some(before) => {
                let seconds = now.saturating_sub(before.at).as_secs_f64();
                let mix = |mean: f64, time_constant: f64| {
                    mean + (value - mean) * (1.0 - (-seconds / time_constant).exp())
                };
                Filter {
                    quick: mix(before.quick, QUICK_SECONDS),
                    slow: mix(before.slow, SLOW_SECONDS),
                    last: [value, before.last[0], before.last[1]],
                    at: now,
                }
            }
            None => Filter { quick: value, slow: value, last: [value; 3], at: now },
        };
        self.filter = Some(filter);
    }

    /// What it said before the loss is no part of what it says after.
    fn lose(&mut self) {
        self.filter = None;
        self.suspect = None;
        self.lost = Some(Reason::SensorLost);
    }

    fn judge(&mut self, is_fresh: bool, is_light: bool, now: Duration) -> Seen {
        let is_back = self.good_run >= READINGS_GOOD_MIN && (self.has_moved || is_light);
        if is_back || (is_fresh && self.sensor == Sensor::Awaited) {
            self.sensor = Sensor::Known;
        }
        let waited = self.good_at.map_or(Duration::ZERO, |asked| now.saturating_sub(asked));
        match self.sensor {
            Sensor::Known => {}
            Sensor::Awaited if waited <= SENSOR_AWAITED_MAX => return Seen::Nothing,
            Sensor::Awaited | Sensor::Absent => {
                self.sensor = Sensor::Absent;
                return Seen::Never;
            }
        }
        let is_old = self.good_at.is_some_and(|at| now.saturating_sub(at) > READING_AGE_MAX);
        if self.bad_run >= READINGS_BAD_MAX || is_old {
            self.lose();
        } else if self.same.is_stuck(now) || self.witness.contradicted >= CONTRADICTIONS {
            self.good_run = 0;
            self.has_moved = false;
            self.lost = Some(Reason::SensorStuck);
        } else if is_back {
            self.lost = None;
        }
        if let Some(reason) = self.lost {
            (self.growth, self.changes) = (0, 0);
            return Seen::Lost(reason);
        }
        match self.filter {
            Some(filter) => {
                // What stands still under load supports no P slot, however often it moved before.
                let changes = if self.same.is_doubtful(now) { 0 } else { self.changes };
                Seen::Heat(filter.heat(is_fresh, self.growth > 0, changes))
            }
            None => Seen::Nothing,
        }
    }
}

impl Filter {
    fn heat(&self, is_fresh: bool, supports_growth: bool, changes: u32) -> Heat {
        let [first, second, third] = self.last;
        let median = first.max(second).min(first.min(second).max(third));
        Heat {
            raw: first,
            quick: self.quick,
            slow: self.slow.max(median),
            // A mean lags behind a ramp by its time constant.
            slope: (self.quick - self.slow) / (SLOW_SECONDS - QUICK_SECONDS),
            is_fresh,
            supports_growth: is_fresh && supports_growth,
            supports_performance: changes >= CHANGES_PER_PERFORMANCE,
        }
    }
}

impl Same {
    fn update(&mut self, value: f64, weight: f64, weight_full: f64, now: Duration) {
        if self.value != value {
            *self = Self { value, weight_low: weight, ..Self::default() };
        }
        self.weight_low = self.weight_low.min(weight);
        let shown = weight_full.clamp(WEIGHT_SHOWN_MIN, WEIGHT_SHOWN);
        // Above a quarter of the machine a power limit may hide any change; below it does not.
        let is_shown = self.weight_low <= weight_full / 4.0 && weight - self.weight_low >= shown;
        self.changed_at = is_shown.then(|| self.changed_at.unwrap_or(now));
        let is_loaded = weight >= shown;
        self.loaded_at = is_loaded.then(|| self.loaded_at.unwrap_or(now));
        self.light_run = if weight > WEIGHT_LIGHT { 0 } else { self.light_run.saturating_add(1) };
        if self.light_run == 0 {
            self.worked_at.get_or_insert(now);
        } else if self.light_run >= LIGHT_RUN_MIN {
            self.worked_at = None;
        }
    }

    fn is_stuck(&self, now: Duration) -> bool {
        lasts(self.changed_at, STUCK_AFTER_CHANGE, now)
            || lasts(self.loaded_at, STUCK_UNDER_LOAD, now)
    }

    fn is_doubtful(&self, now: Duration) -> bool {
        lasts(self.worked_at, DOUBT_AFTER, now)
    }
}

fn lasts(since: Option<Duration>, longest: Duration, now: Duration) -> bool {
    since.is_some_and(|since| now.saturating_sub(since) >= longest)
}

/// The heat of busy cores in that of an E core.
fn weight(busy: Slots) -> f64 {
    busy.performance as f64 * WEIGHT_PERFORMANCE
        + busy.efficient as f64
        + busy.low_power as f64 * WEIGHT_LOW_POWER
}
