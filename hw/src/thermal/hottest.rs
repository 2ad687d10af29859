//! The hottest core, as a witness against a package sensor that stands still: a package is as hot as its hottest core.
//!
//! Each of these sensors wakes its core when it is read, so nobody reads them but who doubts the package's, under load.

use super::choice::{self, Sensor};
use super::validator::Unusable;
use crate::root::Root;

/// The sensors of single cores; looked for when they are first asked.
#[derive(Clone, Debug, Default)]
pub struct HottestCore {
    sensors: Option<Vec<Sensor>>,
}

impl HottestCore {
    /// What the hottest one says now; nothing where none answers.
    pub fn celsius(&mut self, root: &Root) -> Option<f64> {
        let sensors = self.sensors.get_or_insert_with(|| choice::of_cores(root));
        let read: Vec<_> = sensors.iter().map(|sensor| sensor.celsius(root)).collect();
        if read.is_empty() || read.contains(&Err(Unusable::Moved)) {
            // Another number, or a driver that is loaded later.
            self.sensors = None;
        }
        read.into_iter().filter_map(Result::ok).reduce(f64::max)
    }
}
