//! The temperature of the processor packages: one reading of the best sensor, judged, or the reason why there is none.
//!
//! Several packages are as hot as the hottest. One that has answered must go on answering: while it does not, its heat
//! is unknown and so is the machine's. One that never answered does not count, or a single dead sensor would blind
//! everybody for good. A package whose sensor a later search does not find at all is switched off, not silent.

mod choice;
mod hottest;
mod validator;

use std::collections::BTreeMap;
use std::time::Duration;

pub use choice::{Critical, Rejected, Sensor, Survey, survey};
pub use hottest::CoreReading;
pub use validator::{Unusable, Validator, celsius_of};

use self::hottest::HottestCore;
use crate::limits::{BAD_READS_MAX, SENSOR_SEARCH_EVERY};
use crate::root::Root;

/// Reads the package temperature over time: chooses the sensors, judges what they say, and looks for them again when
/// they went or became somebody else's. Owns no clock: times are those of any steady one.
#[derive(Debug)]
pub struct Thermometer {
    packages: Vec<Package>,
    source: Option<&'static str>,
    has_answered: bool,
    critical: Option<Critical>,
    searched: Duration,
    bad_reads: usize,
    counts: Counts,
    hottest_core: HottestCore,
}

#[derive(Debug)]
struct Package {
    sensor: Sensor,
    validator: Validator,
    has_answered: bool,
}

/// Readings and failures since the start, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Readings asked for.
    pub reads: u64,
    /// Those that gave no temperature, by cause, and questions to the cores that none answered; each cause is there from the start.
    pub failures: BTreeMap<&'static str, u64>,
    /// Searches for the sensor after the first.
    pub searches: u64,
}

impl Thermometer {
    /// Looks for sensors. Reads each candidate once.
    pub fn new(root: &Root, now: Duration) -> Self {
        let failures = Unusable::all().map(|cause| (cause.name(), 0)).collect();
        let counts = Counts { reads: 0, failures, searches: 0 };
        let mut thermometer = Self {
            packages: Vec::new(),
            source: None,
            has_answered: false,
            critical: None,
            searched: now,
            bad_reads: 0,
            counts,
            hottest_core: HottestCore::default(),
        };
        thermometer.adopt(survey(root));
        thermometer
    }

    /// Whether no sensor was ever found. This is not the same as one that was lost.
    pub fn is_absent(&self) -> bool {
        self.source.is_none()
    }

    /// Whether a sensor ever gave a temperature: before that there is nothing that could be lost.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// What kind of sensor it is, for people; the last one where it is lost.
    pub fn source(&self) -> Option<&'static str> {
        self.source
    }

    /// The temperature at which the processor protects itself, as its driver has it.
    pub fn critical_celsius(&self) -> Option<f64> {
        self.critical.as_ref().map(|critical| critical.celsius)
    }

    /// Readings and failures.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The temperature of the hottest package in degrees Celsius; `now` is the time of the reading.
    pub fn read(&mut self, root: &Root, now: Duration) -> Result<f64, Unusable> {
        self.counts.reads += 1;
        let mut result = self.hottest(root, now);
        if self.is_search_due(&result, now) {
            self.searched = now;
            self.counts.searches += 1;
            self.adopt(survey(root));
            // What is found can be another sensor; where it is the same, this reading has been judged already.
            if matches!(result, Err(Unusable::NoSensor | Unusable::Moved | Unusable::Unreadable(_)))
            {
                result = self.hottest(root, now);
            }
        }
        match result {
            Ok(_) => (self.bad_reads, self.has_answered) = (0, true),
            Err(cause) => {
                self.bad_reads += 1;
                *self.counts.failures.entry(cause.name()).or_default() += 1;
            }
        }
        result
    }

    /// What the cores say. Wakes each of them, so only who doubts what the package says asks.
    pub fn read_cores(&mut self, root: &Root) -> CoreReading {
        let said = self.hottest_core.read(root);
        if said == CoreReading::Silent {
            *self.counts.failures.entry(Unusable::CoresSilent.name()).or_default() += 1;
        }
        said
    }

    /// The last temperature that was believed, while it is recent enough to say something about now.
    pub fn latest(&self, now: Duration) -> Result<f64, Unusable> {
        let answering = self.packages.iter().filter(|package| package.has_answered);
        let all: Result<Vec<f64>, _> = answering.map(|it| it.validator.latest(now)).collect();
        all?.into_iter().reduce(f64::max).ok_or(Unusable::NoSensor)
    }

    fn hottest(&mut self, root: &Root, now: Duration) -> Result<f64, Unusable> {
        let mut hottest = Err(Unusable::NoSensor);
        let mut failed = None;
        let mut never_answered = None;
        for package in &mut self.packages {
            let said = package.sensor.read(root);
            let said = said.as_deref().map_err(|cause| *cause);
            let judged = package.validator.judge(said, now);
            match judged {
                Ok(celsius) => {
                    package.has_answered = true;
                    hottest = hottest.map(|so_far: f64| so_far.max(celsius)).or(Ok(celsius));
                }
                Err(cause) if package.has_answered => failed = Some(cause),
                Err(cause) => never_answered = Some(cause),
            }
        }
        match (failed, hottest) {
            (Some(cause), _) => Err(cause),
            (None, Ok(celsius)) => Ok(celsius),
            (None, Err(cause)) => Err(never_answered.unwrap_or(cause)),
        }
    }

    fn is_search_due(&self, result: &Result<f64, Unusable>, now: Duration) -> bool {
        let waited = now.saturating_sub(self.searched) >= SENSOR_SEARCH_EVERY;
        match result {
            Ok(_) => false,
            // The numbers of the devices changed: what is read there now belongs to somebody else.
            Err(Unusable::Moved) => self.bad_reads == 0 || waited,
            Err(Unusable::NoSensor) => waited,
            Err(_) => waited && self.bad_reads >= BAD_READS_MAX,
        }
    }

    /// Takes over what a search found; what is known of a package stays with it. Nothing found changes nothing: the
    /// packages that were there are lost, not absent.
    fn adopt(&mut self, survey: Survey) {
        let Some(source) = survey.chosen.first().map(|sensor| sensor.source) else { return };
        let mut before = std::mem::take(&mut self.packages);
        self.packages = survey
            .chosen
            .into_iter()
            .map(|sensor| {
                let same = |old: &Package| {
                    (&old.sensor.package, old.sensor.source) == (&sensor.package, sensor.source)
                };
                match before.iter().position(same) {
                    Some(index) => Package { sensor, ..before.swap_remove(index) },
                    None => {
                        Package { sensor, validator: Validator::default(), has_answered: false }
                    }
                }
            })
            .collect();
        self.source = Some(source);
        self.critical = survey.critical.or_else(|| self.critical.take());
    }
}

#[cfg(test)]
mod tests;
