//! The hottest run as a table, one line for each second and governor.

use std::fmt::Write as _;

use super::{Hottest, Track};

/// The table, with a heading.
pub(super) fn table(_hottest: &Hottest, tracks: &[Track]) -> String {
    let mut text =
        "governor,seconds,celsius,read,performance,efficient,low_power,busy,clock,state\n"
            .to_owned();
    for track in tracks {
        for sample in &track.samples {
            let read = sample.read.map_or(String::new(), |read| read.to_string());
            let slots = sample.slots;
            let _ = writeln!(
                text,
                "{},{},{:.2},{read},{},{},{},{},{:.3},{}",
                track.kind.name(),
                sample.seconds,
                sample.celsius,
                slots.performance,
                slots.efficient,
                slots.low_power,
                sample.busy.sum(),
                sample.clock,
                sample.state.map_or("", |state| state.name()),
            );
        }
    }
    text
}
