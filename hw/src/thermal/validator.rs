//! What a sensor said, judged: a pure function of the readings and their times.
//!
//! A reading is good if it is a whole number, within what a running processor can have, and not further from the last
//! good one than heat can move in that time, unless several readings agree on it. Sensors fail by saying 0, -274,
//! 27.8 for ever, or nothing; none of these may look like a cool processor.

use std::time::Duration;

use crate::limits::{
    CELSIUS_MAX, CELSIUS_MIN, CONSTANT_AFTER, CONSTANT_LOAD_CPUS_MIN, JUMP_AGREEMENT_CELSIUS_MAX,
    JUMP_CELSIUS_MAX, JUMP_READS_MIN, JUMP_WINDOW, READING_AGE_MAX,
};
use crate::root::ReadError;

/// Degrees Celsius from which a reading that does not move is believed: a saturated sensor stands still at its highest
/// value, and taking it for broken would allow more work than heat does.
const CONSTANT_CELSIUS_MAX: f64 = 85.0;

/// Why there is no temperature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unusable {
    /// There is no package sensor.
    #[error("there is no package sensor")]
    NoSensor,
    /// The device with this number is another one now.
    #[error("another device has its place")]
    Moved,
    /// The file gave no text.
    #[error("{0}")]
    Unreadable(ReadError),
    /// Not a whole number.
    #[error("not a number")]
    Garbage,
    /// Not what a running processor can have.
    #[error("out of range")]
    OutOfRange,
    /// Too far from the last good one, and not confirmed yet.
    #[error("too far from the last reading")]
    Jump,
    /// The same for long while the load changed.
    #[error("does not move while the load does")]
    Constant,
    /// The last good one is too old.
    #[error("too old")]
    Stale,
}

impl Unusable {
    /// Every cause.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = [
            Unusable::NoSensor,
            Unusable::Moved,
            Unusable::Garbage,
            Unusable::OutOfRange,
            Unusable::Jump,
            Unusable::Constant,
            Unusable::Stale,
        ];
        own.into_iter().chain(ReadError::ALL.map(Unusable::Unreadable))
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Unusable::NoSensor => "no-sensor",
            Unusable::Moved => "moved",
            Unusable::Unreadable(error) => error.name(),
            Unusable::Garbage => "garbage",
            Unusable::OutOfRange => "out-of-range",
            Unusable::Jump => "jump",
            Unusable::Constant => "constant",
            Unusable::Stale => "stale",
        }
    }
}

/// Judges the readings of one sensor in the order of their times.
#[derive(Clone, Debug, Default)]
pub struct Validator {
    /// The last good reading and its time.
    good: Option<(f64, Duration)>,
    /// Whether a reading after it was bad. A gap without any reading (suspend) is not that.
    has_failed_since: bool,
    /// Readings since that are too far from it and agree with each other.
    jumped: Vec<f64>,
    still: Option<Still>,
}

/// A value that does not change.
#[derive(Clone, Copy, Debug)]
struct Still {
    celsius: f64,
    load_min: f64,
    load_max: f64,
    /// Since when the load has changed by enough for the value to show it.
    contradicted: Option<Duration>,
}

impl Validator {
    /// Judges one reading (the text of the file, in thousandths of a degree) taken at `now`. `busy_cpus` is the load
    /// that the caller knows of, if any.
    pub fn judge(
        &mut self,
        raw: Result<&str, Unusable>,
        busy_cpus: Option<f64>,
        now: Duration,
    ) -> Result<f64, Unusable> {
        let judged = raw
            .and_then(celsius_of)
            .and_then(|celsius| self.without_jump(celsius, now))
            .and_then(|celsius| self.moving(celsius, busy_cpus, now));
        match judged {
            Ok(celsius) => {
                self.good = Some((celsius, now));
                self.has_failed_since = false;
            }
            Err(_) => self.has_failed_since = true,
        }
        judged
    }

    /// The last good reading, if it is recent at `now`.
    pub fn latest(&self, now: Duration) -> Result<f64, Unusable> {
        let recent = |at: Duration| now.saturating_sub(at) <= READING_AGE_MAX;
        self.good.filter(|(_, at)| recent(*at)).map(|(celsius, _)| celsius).ok_or(Unusable::Stale)
    }

    /// A jump is believed once several readings agree on it; and after a time without any reading, because then
    /// nothing contradicts it. Bad readings are no such time.
    fn without_jump(&mut self, celsius: f64, now: Duration) -> Result<f64, Unusable> {
        let is_jump = self.good.is_some_and(|(good, at)| {
            let is_recent = now.saturating_sub(at) <= JUMP_WINDOW;
            (celsius - good).abs() > JUMP_CELSIUS_MAX && (is_recent || self.has_failed_since)
        });
        if !is_jump {
            self.jumped.clear();
            return Ok(celsius);
        }
        let agrees = |other: &f64| (celsius - other).abs() <= JUMP_AGREEMENT_CELSIUS_MAX;
        if !self.jumped.iter().all(agrees) {
            self.jumped.clear();
        }
        self.jumped.push(celsius);
        if self.jumped.len() < JUMP_READS_MIN {
            return Err(Unusable::Jump);
        }
        self.jumped.clear();
        Ok(celsius)
    }

    fn moving(
        &mut self,
        celsius: f64,
        busy_cpus: Option<f64>,
        now: Duration,
    ) -> Result<f64, Unusable> {
        let Some(load) = busy_cpus.filter(|_| celsius < CONSTANT_CELSIUS_MAX) else {
            self.still = None;
            return Ok(celsius);
        };
        let fresh = Still { celsius, load_min: load, load_max: load, contradicted: None };
        let mut still = self.still.filter(|still| still.celsius == celsius).unwrap_or(fresh);
        still.load_min = still.load_min.min(load);
        still.load_max = still.load_max.max(load);
        if still.load_max - still.load_min >= CONSTANT_LOAD_CPUS_MIN {
            still.contradicted = still.contradicted.or(Some(now));
        }
        self.still = Some(still);
        match still.contradicted {
            Some(since) if now.saturating_sub(since) >= CONSTANT_AFTER => Err(Unusable::Constant),
            _ => Ok(celsius),
        }
    }
}

/// Degrees Celsius of a text in thousandths, where they are those of a running processor.
pub fn celsius_of(text: &str) -> Result<f64, Unusable> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(Unusable::Garbage);
    }
    let celsius = text.parse::<i64>().map_err(|_| Unusable::OutOfRange)? as f64 / 1000.0;
    match (CELSIUS_MIN..=CELSIUS_MAX).contains(&celsius) {
        true => Ok(celsius),
        false => Err(Unusable::OutOfRange),
    }
}

#[cfg(test)]
mod tests;
