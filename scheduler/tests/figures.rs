//! What is promised of the governor, held on the simulated laptop over 20 seeds and both kinds of sensor.
//!
//! The constants of that laptop are estimates: what is held here is the governor's behaviour on one physics, beside that of
//! others on the same, and no temperature of anybody's machine.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use scheduler::simulation::control::Kind;
use scheduler::simulation::scenario::{LETTERS, OTHERS, Scenario};
use scheduler::simulation::summary::{Summary, compare};

const SEEDS: u64 = 20;

fn scenario(name: &str) -> &'static Scenario {
    LETTERS.iter().chain(&OTHERS).find(|scenario| scenario.name == name).unwrap()
}

fn ours(name: &str) -> Summary {
    compare(scenario(name), &[Kind::Bolide], SEEDS)[0]
}

/// What holds wherever the sensor works.
fn check_heat_and_calm(name: &str, summary: &Summary) {
    assert!(summary.peak_celsius.worst <= 98.0, "{name}: {summary:#?}");
    assert!(summary.seconds_at_95.worst <= 8.0, "{name}: {summary:#?}");
    assert!(summary.seconds_at_100.worst == 0.0, "{name}: {summary:#?}");
    assert!(summary.reversals_per_min.worst <= 3.0, "{name}: {summary:#?}");
    assert!(summary.reversals_per_min.mean <= 1.0, "{name}: {summary:#?}");
    assert!(summary.state_changes_per_min.worst <= 6.0, "{name}: {summary:#?}");
    assert!(summary.slots_min >= 1, "{name}: {summary:#?}");
    assert_eq!(summary.grown_blind, 0, "{name}: {summary:#?}");
}

fn check_letter(name: &str, work_ratio_min: f64) {
    let kinds = [Kind::Bolide, Kind::LiteralBands, Kind::Aimd];
    let [ours, bands, aimd] = compare(scenario(name), &kinds, SEEDS)[..] else { unreachable!() };
    check_heat_and_calm(name, &ours);
    assert!(ours.work_ratio.worst >= work_ratio_min, "{name}: {ours:#?}");
    for other in [bands, aimd] {
        assert!(ours.peak_celsius.worst <= other.peak_celsius.worst, "{name}: {other:#?}");
        assert!(ours.seconds_at_95.worst <= other.seconds_at_95.worst, "{name}: {other:#?}");
        assert!(ours.seconds_at_100.worst <= other.seconds_at_100.worst, "{name}: {other:#?}");
    }
    assert!(ours.work_ratio.mean > aimd.work_ratio.mean, "{name}: {aimd:#?}");
    // Where a fifth of the reads is bad the bands take 0 for cold, and do more work at 100 C and above.
    if name == "F" {
        assert!(bands.seconds_at_100.mean > 60.0, "{name}: {bands:#?}");
    } else {
        assert!(ours.work_ratio.mean > bands.work_ratio.mean, "{name}: {bands:#?}");
    }
}

#[test]
fn scenario_a_holds() {
    check_letter("A", 0.70);
}

#[test]
fn scenario_b_holds_and_comes_near_the_oracle() {
    check_letter("B", 0.70);
    assert!(ours("B").oracle_ratio.worst >= 0.85);
}

#[test]
fn scenario_c_holds() {
    check_letter("C", 0.55);
}

#[test]
fn scenario_d_holds() {
    check_letter("D", 0.65);
}

#[test]
fn scenario_e_holds() {
    check_letter("E", 0.70);
}

#[test]
fn scenario_f_holds() {
    check_letter("F", 0.70);
}

#[test]
fn scenario_g_holds() {
    check_letter("G", 0.70);
}

#[test]
fn a_cool_machine_loses_nothing() {
    let summary = ours("cool");
    check_heat_and_calm("cool", &summary);
    assert!(summary.peak_celsius.worst < 85.0);
    assert!(summary.work_ratio.worst >= 0.95, "{summary:#?}");
}

#[test]
fn load_that_comes_and_goes_is_held_and_forgotten() {
    for name in ["step-load", "step-load-base"] {
        let summary = ours(name);
        check_heat_and_calm(name, &summary);
        assert!(summary.recovery_seconds.unwrap() <= 120.0, "{name}: {summary:#?}");
    }
}

#[test]
fn a_suspend_and_a_smaller_cpuset_are_survived() {
    for name in ["suspend", "cpuset"] {
        check_heat_and_calm(name, &ours(name));
    }
}

#[test]
fn a_lost_sensor_is_noticed_and_costs_no_heat() {
    // One that freezes on the way up is known once the cores are above it, and they are soon.
    let noticed = [("frozen", 5.0), ("frozen-warming", 20.0), ("all-bad", 5.0)];
    for (name, seconds_max) in noticed {
        let summary = ours(name);
        check_heat_and_calm(name, &summary);
        assert!(summary.blind_after_seconds.unwrap() <= seconds_max, "{name}: {summary:#?}");
    }
    check_heat_and_calm("frozen-busy", &ours("frozen-busy"));
}

#[test]
fn a_sensor_that_works_is_never_called_lost() {
    for name in ["A", "B", "G", "cool", "step-load", "cpuset"] {
        assert_eq!(ours(name).seconds_blind.worst, 0.0, "{name}");
    }
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let again = || compare(scenario("F"), &[Kind::Bolide], 2);
    assert_eq!(again(), again());
}
