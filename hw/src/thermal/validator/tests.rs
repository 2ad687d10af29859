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
            let judged = validator.judge(Ok(&text), None, at(second as f64));
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
        let judged = validator.judge(Err(Unusable::Unreadable(error)), None, at(1.0));
        assert_eq!(judged, Err(Unusable::Unreadable(error)));
    }
    let names: std::collections::BTreeSet<_> = Unusable::all().map(Unusable::name).collect();
    assert_eq!(names.len(), Unusable::all().count(), "each cause has a name of its own");
}

#[test]
fn a_jump_waits_for_others_to_agree() {
    use Unusable::Jump;
    assert_eq!(judge(&[80, 40, 80]), [Ok(80), Ok(40), Ok(80)], "40 degrees are no jump");
    assert_eq!(judge(&[80, 39, 80, 39, 80]), [Ok(80), Err(Jump), Ok(80), Err(Jump), Ok(80)]);
    assert_eq!(judge(&[90, 30, 31, 33, 34]), [Ok(90), Err(Jump), Err(Jump), Ok(33), Ok(34)]);
    assert_eq!(
        judge(&[90, 20, 45, 46, 47]),
        [Ok(90), Err(Jump), Err(Jump), Err(Jump), Ok(47)],
        "those that do not agree begin anew"
    );
    assert_eq!(judge(&[40, 90, 90, 90]), [Ok(40), Err(Jump), Err(Jump), Ok(90)], "upwards too");
}

#[test]
fn bad_readings_do_not_make_a_jump_believable() {
    let mut validator = Validator::default();
    let mut judge = |text: &str, second: f64| validator.judge(Ok(text), None, at(second));
    assert_eq!(judge("90000", 0.0), Ok(90.0));
    for second in 1..8 {
        assert_eq!(judge("0", second as f64), Err(Unusable::OutOfRange));
    }
    assert_eq!(judge("27800", 8.0), Err(Unusable::Jump));
    assert_eq!(judge("0", 9.0), Err(Unusable::OutOfRange));
    assert_eq!(judge("88000", 10.0), Ok(88.0));
    // A time without any reading contradicts nothing.
    assert_eq!(judge("30000", 13.5), Ok(30.0));
}

#[test]
fn waking_from_suspend_takes_three_readings_where_the_clock_stood_still() {
    let mut validator = Validator::default();
    let mut judge = |degrees: i64, second: f64| {
        validator.judge(Ok(&(degrees * 1000).to_string()), None, at(second)).is_ok()
    };
    assert!(judge(85, 100.0));
    assert_eq!([101.0, 102.0, 103.0].map(|second| judge(30, second)), [false, false, true]);
}

#[test]
fn what_was_said_too_long_ago_says_nothing() {
    let mut validator = Validator::default();
    assert_eq!(validator.latest(at(0.0)), Err(Unusable::Stale));
    validator.judge(Ok("50000"), None, at(10.0)).unwrap();
    assert_eq!(validator.latest(at(13.0)), Ok(50.0));
    let _ = validator.judge(Ok("garbage"), None, at(13.0));
    assert_eq!(validator.latest(at(13.1)), Err(Unusable::Stale));
    assert_eq!(validator.latest(at(9.0)), Ok(50.0), "a clock that runs back is no age");
}

#[test]
fn a_sensor_that_stands_still_while_the_load_moves_is_not_believed() {
    let mut validator = Validator::default();
    let mut judge = |text: &str, load, second: f64| validator.judge(Ok(text), load, at(second));
    for second in 0..60 {
        assert_eq!(judge("45000", Some(0.5), second.into()), Ok(45.0), "idle, and cool");
    }
    for second in 60..65 {
        assert_eq!(judge("45000", Some(8.0), second.into()), Ok(45.0));
    }
    assert_eq!(judge("45000", Some(8.0), 65.0), Err(Unusable::Constant));
    assert_eq!(judge("45000", Some(0.0), 66.0), Err(Unusable::Constant));
    assert_eq!(judge("46000", Some(8.0), 67.0), Ok(46.0), "it moves again");
    assert_eq!(judge("46000", Some(8.0), 90.0), Ok(46.0));
}

#[test]
fn a_hot_sensor_may_stand_still() {
    let mut validator = Validator::default();
    for second in 0..60 {
        let load = Some(f64::from(second % 16));
        assert_eq!(validator.judge(Ok("100000"), load, at(second.into())), Ok(100.0));
    }
}

proptest! {
    /// Whatever a sensor says, in whatever order and times: what is believed is a temperature that it said, and
    /// nothing bad that is rare and scattered is among it.
    #[test]
    fn what_is_believed_was_said_and_is_plausible(
        readings: Vec<(i64, bool, u8, u16)>,
    ) {
        let mut validator = Validator::default();
        let mut now = at(0.0);
        for (value, is_error, load, step) in readings {
            now += Duration::from_millis(step.into());
            let text = (value % 200_000).to_string();
            let raw = if is_error { Err(Unusable::Moved) } else { Ok(text.as_str()) };
            if let Ok(celsius) = validator.judge(raw, Some(load.into()), now) {
                assert!(!is_error && (CELSIUS_MIN..=CELSIUS_MAX).contains(&celsius));
                assert_eq!(celsius, (value % 200_000) as f64 / 1000.0);
                assert_eq!(validator.latest(now), Ok(celsius));
            }
        }
    }
}
