//! A machine as a tree, second by second, with what runs on it.

use hw::root::ReadError;
use hw::trees::{Machine, Tree};
use scheduler::decision::State;
use scheduler::governor::{Band, ThresholdValues};

use super::*;

const ZONE: &str = "sys/class/thermal/thermal_zone0/temp";

/// A laptop whose package sensor says this.
fn laptop(said: &str) -> (tempfile::TempDir, Tree) {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    Machine::meteor_lake_a().write(&tree);
    tree.zone(0, "x86_pkg_temp", said);
    (directory, tree)
}

fn load(performance: usize, efficient: usize, low_power: usize) -> Load {
    Load { in_flight: Slots { performance, efficient, low_power }, is_waiting: false }
}

fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

#[test]
fn an_idle_machine_at_one_temperature_keeps_its_sensor_whatever_ran_once() {
    let (_directory, tree) = laptop("45000");
    let mut regulator = Regulator::new(tree.root(), Thresholds::default());
    for second in 1..100 {
        let load = if second == 20 { load(0, 1, 2) } else { Load::default() };
        assert_eq!(regulator.step_at(load, at(second)).state, State::Optimal, "{second}");
    }
}

#[test]
fn a_sensor_that_has_never_answered_is_none_until_it_does() {
    let (_directory, tree) = laptop("45000");
    tree.refuse(ZONE, ReadError::NoData);
    let mut regulator = Regulator::new(tree.root(), Thresholds::default());
    for second in 1..=30 {
        let decision = regulator.step_at(load(1, 0, 0), at(second));
        assert_eq!((decision.state, decision.heavy), (State::Optimal, false), "{second}");
        assert!(decision.slots.sum() <= 8, "{second}");
    }
    for second in 31..40 {
        assert_eq!(regulator.step_at(load(1, 0, 0), at(second)).state, State::Off, "{second}");
    }
    // The list of what is refused goes with the file.
    tree.remove(ZONE).zone(0, "x86_pkg_temp", "91000");
    let states = (40..55).map(|second| regulator.step_at(load(1, 0, 0), at(second)).state);
    assert_eq!(states.last(), Some(State::Normal));
    tree.file(ZONE, "rubbish");
    let states = (55..65).map(|second| regulator.step_at(load(1, 0, 0), at(second)).state);
    assert_eq!(states.last(), Some(State::Blind), "now it is lost");
}

#[test]
fn a_sensor_that_comes_late_does_not_make_throttling_forgotten() {
    let (_directory, tree) = laptop("45000");
    tree.refuse(ZONE, ReadError::NoData);
    let throttled = |count: u64| {
        tree.each("0-21", "thermal_throttle/package_throttle_count", &count.to_string());
    };
    throttled(0);
    let mut regulator = Regulator::new(tree.root(), Thresholds::default());
    let mut before = regulator.step_at(load(1, 0, 0), at(1));
    for second in 2..10 {
        throttled(second);
        before = regulator.step_at(load(1, 0, 0), at(second));
    }
    assert_eq!(before.state, State::Throttle);
    tree.remove(ZONE).zone(0, "x86_pkg_temp", "84000");
    for second in 10..60 {
        let now = regulator.step_at(load(1, 0, 0), at(second));
        let (slots, most) = (now.slots.sum(), before.slots.sum() + 1);
        assert!(slots <= most, "{second}: {slots} after {before:?}");
        before = now;
    }
    assert_ne!(before.state, State::Throttle, "it is over one day");
}

#[test]
fn a_machine_that_wakes_up_cold_is_believed_at_once() {
    let (_directory, tree) = laptop("91000");
    let mut regulator = Regulator::new(tree.root(), Thresholds::default());
    for second in 1..20 {
        regulator.step_at(load(1, 5, 2), at(second));
    }
    tree.file(ZONE, "35000");
    for second in 3_600..3_630 {
        let decision = regulator.step_at(Load::default(), at(second));
        assert_ne!(decision.state, State::Blind, "{second}");
    }
}

#[test]
fn a_frozen_package_sensor_is_known_by_the_cores_within_five_seconds() {
    let (_directory, tree) = laptop("70000");
    let cores = |celsius: &str| {
        tree.monitor(2, "coretemp", &[("Package id 0", "70000"), ("Core 8", celsius)]);
    };
    cores("70000");
    let mut regulator = Regulator::new(tree.root(), Thresholds::default());
    for second in 1..20 {
        assert_eq!(regulator.step_at(load(1, 4, 2), at(second)).state, State::Optimal, "{second}");
    }
    // It froze at the last change of the reading.
    tree.file(ZONE, "71000");
    regulator.step_at(load(1, 4, 2), at(20));
    cores("79000");
    let states: Vec<_> =
        (21..26).map(|second| regulator.step_at(load(1, 4, 2), at(second)).state).collect();
    assert_eq!(states.last(), Some(&State::Blind), "{states:?}");
    assert_eq!(regulator.why(), "sensor_stuck");
}

#[test]
fn cores_that_fall_silent_beside_a_package_that_stands_still_make_it_unknown_and_are_counted() {
    let (_directory, tree) = laptop("70000");
    tree.monitor(2, "coretemp", &[("Package id 0", "70000"), ("Core 8", "70000")]);
    let mut regulator = Regulator::new(tree.root(), Thresholds::default());
    for second in 1..20 {
        assert_eq!(regulator.step_at(load(1, 4, 2), at(second)).state, State::Optimal, "{second}");
    }
    tree.refuse("sys/class/hwmon/hwmon2/temp2_input", ReadError::Io);
    // They are asked every five seconds while they agree, and again at once where they do not.
    let states: Vec<_> =
        (20..27).map(|second| regulator.step_at(load(1, 4, 2), at(second)).state).collect();
    assert_eq!(states.last(), Some(&State::Blind), "{states:?}");
    assert!(regulator.reads().failures["cores-silent"] >= 2);
}

#[test]
fn it_is_looked_at_more_often_from_where_heavy_work_waits() {
    let (_directory, tree) = laptop("82000");
    let mut regulator = Regulator::new(tree.root(), Thresholds::default());
    assert_eq!(regulator.interval(), MACHINE_INTERVAL);
    let heavy = Band { enter: 80.0, leave: 76.0 };
    let low = ThresholdValues { heavy, ..ThresholdValues::default() };
    regulator.set_thresholds(low.try_into().unwrap());
    assert_eq!(regulator.interval(), MACHINE_INTERVAL_HOT);
    assert!(!regulator.step_at(Load::default(), at(1)).heavy, "the same temperature");
}
