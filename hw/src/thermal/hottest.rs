//! The hottest core, as a witness against a package sensor that stands still: a package is as hot as its hottest core.
//!
//! Each of these sensors wakes its core when it is read, so nobody reads them but who doubts the package's, under load.

use super::choice::{self, Sensor};
use super::validator::Unusable;
use crate::root::Root;

/// What the sensors of the cores say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CoreReading {
    /// There are none, or none that ever answered: they are no witness.
    Absent,
    /// They are there and have answered before, and none does now.
    Silent,
    /// What the hottest says, in degrees Celsius.
    Hottest(f64),
}

/// The sensors of single cores; looked for when they are first asked, and when none of them answers.
#[derive(Clone, Debug, Default)]
pub(super) struct HottestCore {
    sensors: Option<Vec<Sensor>>,
    has_answered: bool,
}

impl HottestCore {
    /// What they say now.
    pub(super) fn read(&mut self, root: &Root) -> CoreReading {
        let mut read = self.ask(root);
        if read.contains(&Err(Unusable::Moved)) || !read.iter().any(Result::is_ok) {
            // Other numbers, or a driver that came or went: what is there now is asked.
            self.sensors = None;
            read = self.ask(root);
        }
        let are_there = !read.is_empty();
        let hottest = read.into_iter().filter_map(Result::ok).reduce(f64::max);
        self.has_answered = are_there && (self.has_answered || hottest.is_some());
        match hottest {
            Some(celsius) => CoreReading::Hottest(celsius),
            None if self.has_answered => CoreReading::Silent,
            None => CoreReading::Absent,
        }
    }

    fn ask(&mut self, root: &Root) -> Vec<Result<f64, Unusable>> {
        let sensors = self.sensors.get_or_insert_with(|| choice::of_cores(root));
        sensors.iter().map(|sensor| sensor.celsius(root)).collect()
    }
}
