//! What a sensor said, judged: a pure function of one reading, and how long ago the last good one was.
//!
//! A reading is good if it is a whole number, within what a running processor can have. Sensors fail by saying 0, -274, or
//! nothing; none of these may look like a cool processor. What is odd only beside other readings (27.8 for ever, a leap, a
//! value that stands still) is not judged here but by whoever knows the load: there are no two opinions on it.

use std::time::Duration;

use crate::limits::{CELSIUS_MAX, CELSIUS_MIN, READING_AGE_MAX};
use crate::root::ReadError;

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
    /// The last good one is too old.
    #[error("too old")]
    Stale,
    /// The cores, which were asked because the package's stood still, said nothing.
    #[error("no core answers")]
    CoresSilent,
}

impl Unusable {
    /// Every cause.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = [
            Unusable::NoSensor,
            Unusable::Moved,
            Unusable::Garbage,
            Unusable::OutOfRange,
            Unusable::Stale,
            Unusable::CoresSilent,
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
            Unusable::Stale => "stale",
            Unusable::CoresSilent => "cores-silent",
        }
    }
}

/// Judges the readings of one sensor in the order of their times.
#[derive(Clone, Debug, Default)]
pub struct Validator {
    /// The last good reading and its time.
    good: Option<(f64, Duration)>,
}

impl Validator {
    /// Judges one reading (the text of the file, in thousandths of a degree) taken at `now`.
    pub fn judge(&mut self, raw: Result<&str, Unusable>, now: Duration) -> Result<f64, Unusable> {
        let judged = raw.and_then(celsius_of);
        if let Ok(celsius) = judged {
            self.good = Some((celsius, now));
        }
        judged
    }

    /// The last good reading, if it is recent at `now`.
    pub fn latest(&self, now: Duration) -> Result<f64, Unusable> {
        let recent = |at: Duration| now.saturating_sub(at) <= READING_AGE_MAX;
        self.good.filter(|(_, at)| recent(*at)).map(|(celsius, _)| celsius).ok_or(Unusable::Stale)
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
