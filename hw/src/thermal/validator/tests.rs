//! Readings in the order of their times, each with what is made of it.

use std::time::Duration;

use proptest::prelude::proptest;

use super::{Unusable, Validator, celsius_of};
use crate::limits::{CELSIUS_MAX, CELSIUS_MIN};
use crate::root::ReadError;

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// One reading per second, in whole degrees.
fn judge(readings: &[i64]) -> Vec<Result<i64, Unusable>> {
    let mut validator = Validator::default();
    let readings = readings.iter().enumerate();
    readings
        .map(|(second, degrees)| {
            let text = (degrees * 1000).to_string();
            let judged = validator.judge(Ok(&text), at(second as f64));
            judged.map(|celsius| celsius as i64)
        })
        .collect()
}

#[test]
fn only_what_a_running_processor_can_have_is_a_temperature() {
    let good = [("5000", 5.0), ("61000", 61.0), ("127000", 127.0), ("99999", 99.999)];
    for (text, celsius) in good {
        assert_eq!(celsius_of(text), Ok(celsius));
    }
    for text in [
        "0",
        "4999",
        "127001",
        "-274000",
        "-273100",
        "65261800",
        "-32768000",
        "99999999999999999999",
    ] {
        assert_eq!(celsius_of(text), Err(Unusable::OutOfRange), "{text}");
    }
    for text in ["", "-", "garbage", "61.0", "+61000", "6 1", "0x10", "NaN", "61000 C", "--1"] {
        assert_eq!(celsius_of(text), Err(Unusable::Garbage), "{text}");
    }
}

#[test]
fn errors_keep_their_cause() {
    let mut validator = Validator::default();
    for error in ReadError::ALL {
        let judged = validator.judge(Err(Unusable::Unreadable(error)), at(1.0));
        assert_eq!(judged, Err(Unusable::Unreadable(error)));
    }
    let names: std::collections::BTreeSet<_> = Unusable::all().map(Unusable::name).collect();
    assert_eq!(names.len(), Unusable::all().count(), "each cause has a name of its own");
}

#[test]
fn what_stands_still_or_leaps_is_for_others_to_judge() {
    assert_eq!(judge(&[80, 30, 100, 30]), [Ok(80), Ok(30), Ok(100), Ok(30)]);
    assert!(judge(&[45; 600]).into_iter().all(|judged| judged == Ok(45)));
}

#[test]
fn what_was_said_too_long_ago_says_nothing() {
    let mut validator = Validator::default();
    assert_eq!(validator.latest(at(0.0)), Err(Unusable::Stale));
    validator.judge(Ok("50000"), at(10.0)).unwrap();
    assert_eq!(validator.latest(at(13.0)), Ok(50.0));
    let _ = validator.judge(Ok("garbage"), at(13.0));
    assert_eq!(validator.latest(at(13.1)), Err(Unusable::Stale));
    assert_eq!(validator.latest(at(9.0)), Ok(50.0), "a clock that runs back is no age");
}

proptest! {
    /// Whatever a sensor says, in whatever order and times: what is believed is a temperature that it said.
    #[test]
    fn what_is_believed_was_said_and_is_plausible(
        readings: Vec<(i64, bool, u16)>,
    ) {
        let mut validator = Validator::default();
        let mut now = at(0.0);
        for (value, is_error, step) in readings {
            now += Duration::from_millis(step.into());
            let text = (value % 200_000).to_string();
            let raw = if is_error { Err(Unusable::Moved) } else { Ok(text.as_str()) };
            if let Ok(celsius) = validator.judge(raw, now) {
                assert!(!is_error && (CELSIUS_MIN..=CELSIUS_MAX).contains(&celsius));
                assert_eq!(celsius, (value % 200_000) as f64 / 1000.0);
                assert_eq!(validator.latest(now), Ok(celsius));
            }
        }
    }
}
