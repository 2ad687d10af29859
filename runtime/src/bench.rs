//! The figures of the README, measured on this machine beside a peer or the machine's own limit in the same run; those of the
//! thermal governor are simulated.

pub(crate) mod bus;
mod figures;
pub(crate) mod governor;
pub(crate) mod install;
pub(crate) mod resolve;
mod scratch;
mod step;
pub(crate) mod undo;
pub(crate) mod unpack;
pub(crate) mod workers;

use std::time::{Duration, Instant};

/// When something that takes microseconds counts as hung.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// The middle of some values; `None` of none.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
