//! The simulated sensor: rounded, cached, noisy, and wrong as often as a scenario says.

use std::time::Duration;

use hw::root::ReadError;
use hw::thermal::{Unusable, Validator};

use super::random::Random;

/// What a read may answer besides the temperature; all of it has been seen on real machines.
const BAD: [Option<f64>; 5] = [None, None, Some(0.0), Some(-274.0), Some(27.8)];

/// How a sensor is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Seconds for which a value is kept, as coretemp keeps it; 0 for none.
    pub cache_seconds: f64,
    /// The deviation of the noise, in kelvins.
    pub noise: f64,
    /// The share of reads that fail or lie.
    pub bad_share: f64,
}

/// What a sensor does from some moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It works.
    None,
    /// It answers for ever what it answered last.
    Frozen,
    /// It answers nothing, 0, -274 or 27.8.
    AllBad,
}

/// A sensor.
#[derive(Clone, Debug)]
pub(super) struct Sensor {
    quality: Quality,
    /// The last true value, and when it was taken.
    cached: Option<(f64, f64)>,
    random: Random,
    validator: Validator,
}

impl Sensor {
    pub(super) fn new(quality: Quality, random: Random) -> Self {
        Self { quality, cached: None, random, validator: Validator::default() }
    }

    /// One read at `now`, in seconds, judged by what judges the sensors of a real machine.
    pub(super) fn read(&mut self, celsius: f64, now: f64, fault: Fault) -> Option<f64> {
        let said = self.say(celsius, now, fault);
        let text = said.map(|celsius| ((celsius * 1000.0) as i64).to_string());
        let text = text.as_deref().ok_or(Unusable::Unreadable(ReadError::NoData));
        self.validator.judge(text, Duration::from_secs_f64(now)).ok()
    }

    fn say(&mut self, celsius: f64, now: f64, fault: Fault) -> Option<f64> {
        if fault == Fault::AllBad || self.random.uniform() < self.quality.bad_share {
            return self.random.pick(&BAD);
        }
        match self.cached {
            Some((value, _)) if fault == Fault::Frozen => Some(value),
            Some((value, taken)) if now - taken <= self.quality.cache_seconds => Some(value),
            _ => {
                let value = (celsius + self.quality.noise * self.random.normal()).round();
                self.cached = Some((value, now));
                Some(value)
            }
        }
    }
}
