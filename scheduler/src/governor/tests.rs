//! What the governor does, reading by reading, and what it does whatever is read.

mod properties;
mod sensor;

use std::time::Duration;

use hw::thermal::CoreReading;

use super::{
    Band, Capacity, Direction, Governor, Reading, Reason, Sensor, ThresholdError, ThresholdValues,
    Thresholds,
};
use crate::decision::{Background, Decision, Slots, State};
use crate::limits::HYSTERESIS_CELSIUS_MIN;

const LAPTOP: Capacity = Capacity {
    cores: Slots { performance: 6, efficient: 8, low_power: 2 },
    quota_cpus: None,
    critical_celsius: Some(110.0),
};

/// A governor, its clock, and the work that it admits.
struct Bench {
    governor: Governor,
    seconds: f64,
    last: Decision,
    steps: u64,
}

impl Bench {
    fn new(capacity: Capacity, has_sensor: bool) -> Self {
        let mut governor = Governor::new(capacity, Thresholds::default(), sensor_that(has_sensor));
        let last = governor.step(Reading::default(), Duration::ZERO);
        Self { governor, seconds: 0.0, last, steps: 0 }
    }

    /// One second with everything busy.
    fn read(&mut self, celsius: Option<f64>) -> Decision {
        let in_flight = self.last.slots;
        self.step(Reading { celsius, in_flight, is_limited: true, ..Reading::default() })
    }

    fn step(&mut self, reading: Reading) -> Decision {
        self.seconds += 1.0;
        self.steps += 1;
        self.last = self.governor.step(reading, Duration::from_secs_f64(self.seconds));
        self.last
    }

    /// A sensor that moves by one degree, as one does.
    fn hold(&mut self, celsius: f64, seconds: u32) -> Decision {
        for _ in 0..seconds {
            let wiggle = if self.steps.is_multiple_of(2) { 0.0 } else { 1.0 };
            self.read(Some(celsius - wiggle));
        }
        self.last
    }
}

fn sensor_that(answered: bool) -> Sensor {
    if answered { Sensor::Known } else { Sensor::Absent }
}

fn full() -> Slots {
    LAPTOP.cores
}

#[test]
fn a_cool_machine_gets_everything() {
    let mut bench = Bench::new(LAPTOP, true);
    assert_eq!(bench.last.slots, Slots { performance: 1, efficient: 5, low_power: 2 });
    let decision = bench.hold(50.0, 60);
    assert_eq!(decision.slots, full());
    assert_eq!(decision.state, State::Optimal);
    assert!(decision.heavy);
    assert_eq!(bench.governor.why(), Reason::Full);
    let grown: u64 = bench.governor.changes().iter().map(|(_, _, count)| count).sum();
    assert_eq!(grown, 8, "{:?}", bench.governor.changes());
}

#[test]
fn nothing_is_added_while_nobody_waits_on_a_warm_machine() {
    let mut bench = Bench::new(LAPTOP, true);
    for second in 0..60 {
        let celsius = Some(78.0 + f64::from(second % 2));
        bench.step(Reading { celsius, ..Reading::default() });
    }
    assert_eq!(bench.last.slots.sum(), 8);
    assert_eq!(bench.governor.why(), Reason::NotNeeded);
}

#[test]
fn the_p_slots_go_first_and_one_stays() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(50.0, 60);
    let mut efficient_shed_at = None;
    for _ in 0..120 {
        let slots = bench.hold(97.0, 1).slots;
        assert!(slots.performance >= 1);
        if slots.efficient < 8 {
            efficient_shed_at.get_or_insert(slots.performance);
        }
    }
    assert_eq!(efficient_shed_at, Some(1));
    assert_eq!(bench.last.slots, Slots { performance: 1, ..Slots::default() });
}

#[test]
fn states_are_entered_at_once_and_left_late() {
    let mut bench = Bench::new(LAPTOP, true);
    let mut states = vec![bench.hold(50.0, 20).state];
    for celsius in [87.0, 97.0, 102.0, 92.5, 87.0, 75.0] {
        states.push(bench.hold(celsius, 40).state);
    }
    let expected = [
        State::Optimal,
        State::Normal,
        State::Caution,
        State::Throttle,
        State::Caution,
        State::Normal,
        State::Optimal,
    ];
    assert_eq!(states, expected);
    // One read is enough for the hottest, and a cooler state takes its time.
    assert_eq!(bench.read(Some(100.0)).state, State::Throttle);
    for _ in 0..9 {
        assert_eq!(bench.read(Some(60.0)).state, State::Throttle);
    }
}

#[test]
fn throttling_firmware_counts_whatever_the_temperature() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(50.0, 60);
    let reading = Reading {
        celsius: Some(70.0),
        throttled: 3,
        in_flight: full(),
        is_limited: true,
        ..Reading::default()
    };
    let decision = bench.step(reading);
    assert_eq!((decision.state, decision.slots.sum()), (State::Throttle, 8));
    assert_eq!((decision.background, decision.heavy), (Background::Paused, false));
    assert_eq!(bench.governor.why(), Reason::Firmware);
}

#[test]
fn a_machine_without_a_sensor_has_its_own_bounds_until_its_firmware_throttles() {
    let mut bench = Bench::new(LAPTOP, false);
    let decision = bench.read(None);
    assert_eq!((decision.state, decision.slots), (State::Off, full()));
    assert!(decision.heavy);
    let throttled = Reading { throttled: 1, ..Reading::default() };
    let decision = bench.step(throttled);
    assert_eq!((decision.state, decision.slots.sum()), (State::Throttle, 4));
    for second in 1..600 {
        let state = if second < 10 { State::Throttle } else { State::Blind };
        assert_eq!(bench.read(None).state, state, "{second}");
    }
    assert_eq!(bench.read(None).state, State::Off);
}

#[test]
fn a_rise_of_the_throttle_counts_means_throttle_whatever_is_read() {
    let unread = || Bench::new(LAPTOP, true);
    let without = || Bench::new(LAPTOP, false);
    let cool = || {
        let mut bench = unread();
        bench.hold(50.0, 60);
        bench
    };
    let lost = || {
        let mut bench = cool();
        for _ in 0..10 {
            bench.read(None);
        }
        assert_eq!(bench.last.state, State::Blind);
        bench
    };
    for (name, mut bench) in
        [("unread", unread()), ("without", without()), ("cool", cool()), ("lost", lost())]
    {
        for celsius in [None, Some(0.0), Some(50.0), None] {
            let before = bench.last.slots.sum();
            let decision = bench.step(Reading { celsius, throttled: 1, ..Reading::default() });
            let told = (decision.state, decision.heavy, decision.background);
            assert_eq!(told, (State::Throttle, false, Background::Paused), "{name} {celsius:?}");
            assert!(decision.slots.sum() <= (before / 2).max(1), "{name} {celsius:?}");
        }
        let slots = bench.last.slots.sum();
        for _ in 0..9 {
            assert_eq!(bench.read(None).state, State::Throttle, "{name}: ten seconds at least");
        }
        assert_eq!(bench.read(None).state, State::Blind, "{name}");
        assert_eq!(bench.last.slots.sum(), slots, "{name}: nothing is added");
    }
}

#[test]
fn it_is_hot_where_heavy_work_waits_wherever_that_is_set() {
    let configured =
        ThresholdValues { heavy: Band { enter: 78.0, leave: 74.0 }, ..ThresholdValues::default() };
    for (thresholds, critical_celsius, from) in [
        (ThresholdValues::default(), Some(110.0), 90.0),
        (configured, Some(110.0), 78.0),
        // Cut to a machine that protects itself early.
        (ThresholdValues::default(), Some(90.0), 82.0),
    ] {
        let capacity = Capacity { critical_celsius, ..LAPTOP };
        let governor = Governor::new(capacity, thresholds.try_into().unwrap(), Sensor::Known);
        let seen = [from - 0.5, from].map(|celsius| governor.is_hot(celsius));
        assert_eq!(seen, [false, true], "{from}");
    }
}

#[test]
fn a_sensor_that_appears_is_used() {
    let mut bench = Bench::new(LAPTOP, false);
    bench.read(None);
    assert_eq!(bench.hold(91.0, 5).state, State::Normal);
}

#[test]
fn a_sensor_that_has_not_answered_yet_opens_nothing_and_its_first_answer_counts() {
    for bad in [None, Some(0.0), Some(-274.0), Some(f64::NAN)] {
        for silent_seconds in [1, 2, 10, 30] {
            let start = Governor::new(LAPTOP, Thresholds::default(), Sensor::Awaited);
            let mut bench = Bench { governor: start, ..Bench::new(LAPTOP, true) };
            bench.seconds = -1.0;
            for second in 0..silent_seconds {
                let decision = bench.read(bad);
                let slots = decision.slots.sum();
                assert!(slots <= 8 && !decision.heavy, "{second}: {decision:?}");
            }
            let decision = bench.read(Some(98.0));
            assert_eq!(decision.state, State::Caution, "after {silent_seconds} of {bad:?}");
            assert!(decision.slots.sum() < 8 && !decision.heavy);
        }
    }
    let start = Governor::new(LAPTOP, Thresholds::default(), Sensor::Awaited);
    let mut bench = Bench { governor: start, ..Bench::new(LAPTOP, true) };
    let last = (0..40).map(|_| bench.read(None)).last().unwrap();
    assert_eq!((last.state, last.slots), (State::Off, full()), "it is none");
}

#[test]
fn slots_of_cores_that_went_do_not_come_back_on_hotter_ones() {
    let performance = Capacity { cores: Slots { performance: 6, ..Slots::default() }, ..LAPTOP };
    let mut blind = Bench::new(LAPTOP, true);
    blind.hold(70.0, 60);
    let before = (0..10).map(|_| blind.read(None)).last().unwrap();
    assert_eq!((before.state, before.slots.performance), (State::Blind, 1));
    blind.governor.set_capacity(performance);
    for _ in 0..60 {
        assert_eq!(blind.read(None).slots, Slots { performance: 1, ..Slots::default() });
    }
    let mut hot = Bench::new(LAPTOP, true);
    let before = hot.hold(96.0, 60);
    assert_eq!((before.state, before.slots.performance), (State::Caution, 1));
    hot.governor.set_capacity(performance);
    assert_eq!(hot.hold(96.0, 1).slots.sum(), 1);
    // Where it is cool they come by growing.
    assert_eq!(hot.hold(60.0, 90).slots, performance.cores);
}

#[test]
fn bad_reads_make_blind_and_good_ones_end_it() {
    for bad in [None, Some(0.0), Some(-274.0), Some(f64::NAN), Some(65_261.8), Some(27.8)] {
        let mut bench = Bench::new(LAPTOP, true);
        bench.hold(78.0, 120);
        let before = bench.last.slots.sum();
        assert!(before > 8);
        let mut blind_after = 0;
        while bench.last.state != State::Blind {
            let decision = bench.read(bad);
            assert!(decision.slots.sum() <= before, "{bad:?}");
            blind_after += 1;
            assert!(blind_after <= 5, "{bad:?}");
        }
        assert_eq!(bench.last.slots, Slots { performance: 1, efficient: 5, low_power: 2 });
        assert!(!bench.last.heavy);
        for _ in 0..300 {
            assert_eq!(bench.read(bad).state, State::Blind, "{bad:?}");
        }
        assert_ne!(bench.hold(80.0, 4).state, State::Blind, "{bad:?}");
    }
}

#[test]
fn a_stale_value_is_a_bad_one() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(60.0, 20);
    for age in 0..8 {
        let (celsius, age) = (Some(59.5), Duration::from_secs(age));
        bench.step(Reading { celsius, age, in_flight: full(), ..Reading::default() });
    }
    assert_eq!(bench.last.state, State::Blind);
}

#[test]
fn a_sensor_that_never_moves_adds_nothing() {
    let mut bench = Bench::new(LAPTOP, true);
    for _ in 0..600 {
        assert!(bench.read(Some(27.8)).slots.sum() <= 8);
    }
}

#[test]
fn an_idle_machine_may_have_a_constant_temperature() {
    let mut bench = Bench::new(LAPTOP, true);
    for _ in 0..10_000 {
        let one = Slots { efficient: 1, ..Slots::default() };
        let reading = Reading { celsius: Some(45.0), in_flight: one, ..Reading::default() };
        assert_eq!(bench.step(reading).state, State::Optimal);
    }
}

#[test]
fn a_constant_temperature_while_the_load_leaps_is_a_stuck_sensor() {
    let mut bench = Bench::new(LAPTOP, true);
    let load = |in_flight| Reading {
        celsius: Some(45.0),
        in_flight,
        is_limited: true,
        ..Reading::default()
    };
    for _ in 0..100 {
        bench.step(load(Slots::default()));
    }
    for _ in 0..4 {
        bench.step(load(full()));
    }
    assert_eq!(bench.last.state, State::Blind);
    assert_eq!(bench.governor.why(), Reason::SensorStuck);
    assert_ne!(bench.hold(60.0, 4).state, State::Blind);
}

#[test]
fn a_suspend_begins_anew_without_more_slots() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(92.0, 60);
    let before = bench.last;
    bench.seconds += 36_000.0;
    let after = bench.read(Some(35.0));
    assert_eq!(after.slots, before.slots);
    // The first read is believed although it is 57 degrees lower.
    assert_eq!(bench.hold(36.0, 60).slots, full());
}

#[test]
fn a_smaller_machine_is_obeyed_at_once_and_a_larger_one_by_and_by() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(50.0, 60);
    let small = Slots { performance: 2, efficient: 4, low_power: 0 };
    bench.governor.set_capacity(Capacity { cores: small, ..LAPTOP });
    assert_eq!(bench.hold(50.0, 1).slots, small);
    bench.governor.set_capacity(LAPTOP);
    assert!(bench.hold(50.0, 1).slots.sum() <= 7);
    assert_eq!(bench.hold(50.0, 60).slots, full());
    let changes: Vec<_> = bench.governor.changes().iter().collect();
    assert!(changes.contains(&(Direction::Down, Reason::Machine, 1)), "{changes:?}");
}

#[test]
fn heavy_work_waits_above_90_degrees_and_comes_back_after_ten_cool_seconds() {
    let mut bench = Bench::new(LAPTOP, true);
    assert!(bench.hold(84.0, 10).heavy);
    assert!(!bench.hold(93.0, 20).heavy);
    assert!(!bench.hold(89.0, 60).heavy);
    assert!(!bench.hold(84.0, 5).heavy);
    assert!(bench.hold(84.0, 30).heavy);
}

#[test]
fn the_bounds_follow_the_machine() {
    let bounds = |performance, efficient, low_power, quota_cpus| {
        let cores = Slots { performance, efficient, low_power };
        let capacity = Capacity { cores, quota_cpus, critical_celsius: None };
        (capacity.slots_optimal(), capacity.slots_max())
    };
    assert_eq!(bounds(6, 8, 2, None), (8, 16));
    assert_eq!(bounds(2, 8, 2, None), (4, 12));
    assert_eq!(bounds(2, 0, 0, None), (2, 2));
    assert_eq!(bounds(64, 0, 0, None), (8, 16));
    assert_eq!(bounds(6, 8, 2, Some(3.9)), (3, 3));
    assert_eq!(bounds(6, 8, 2, Some(0.5)), (1, 1));
    assert_eq!(bounds(6, 8, 2, Some(f64::NAN)), (8, 16));
    assert_eq!(bounds(0, 0, 0, None), (1, 1));
    assert_eq!(bounds(0, 4, 0, None), (1, 4));
}

#[test]
fn values_that_are_no_thresholds_are_refused() {
    let good = ThresholdValues::default();
    assert_eq!(Thresholds::try_from(good), Ok(Thresholds::default()));
    let narrow = Band { enter: 85.0, leave: 83.0 };
    assert!(matches!(
        Thresholds::try_from(ThresholdValues { normal: narrow, ..good }),
        Err(ThresholdError::NoHysteresis { name: "normal", .. })
    ));
    let absurd = Band { enter: f64::NAN, leave: 80.0 };
    assert!(matches!(
        Thresholds::try_from(ThresholdValues { heavy: absurd, ..good }),
        Err(ThresholdError::OutOfRange { name: "heavy", .. })
    ));
    assert!(matches!(
        Thresholds::try_from(ThresholdValues { caution: good.normal, ..good }),
        Err(ThresholdError::OutOfOrder { cooler: "normal", hotter: "caution" })
    ));
}

#[test]
fn thresholds_stay_below_what_the_sensor_can_show() {
    let cut = Thresholds::default().cut_to(Some(100.0));
    assert_eq!((cut.caution.enter, cut.throttle.enter), (92.0, 97.0));
    // What the firmware of a real machine said.
    for absurd in [-274.0, 20.8, 0.0, f64::NAN] {
        assert_eq!(Thresholds::default().cut_to(Some(absurd)), ThresholdValues::default());
    }
}

#[test]
fn other_thresholds_hold_from_the_next_step() {
    let mut bench = Bench::new(LAPTOP, true);
    assert_eq!(bench.hold(75.0, 30).state, State::Optimal);
    let down = |band: Band| Band { enter: band.enter - 20.0, leave: band.leave - 20.0 };
    let ThresholdValues { normal, caution, throttle, heavy } = ThresholdValues::default();
    let values = ThresholdValues {
        normal: down(normal),
        caution: down(caution),
        throttle: down(throttle),
        heavy: down(heavy),
    };
    bench.governor.set_thresholds(Thresholds::try_from(values).unwrap());
    let slots = bench.last.slots.sum();
    let decision = bench.hold(77.0, 30);
    assert_eq!((decision.state, decision.heavy), (State::Caution, false));
    assert!(decision.slots.sum() < slots);
}

#[test]
fn one_reading_says_what_a_governor_makes_of_it() {
    let low = Band { enter: 60.0, leave: 55.0 };
    let configured = ThresholdValues { normal: low, ..ThresholdValues::default() };
    for thresholds in [Thresholds::default(), configured.try_into().unwrap()] {
        for critical_celsius in [None, Some(20.8), Some(60.0), Some(70.0), Some(90.0), Some(110.0)]
        {
            for celsius in (20..120).map(f64::from) {
                let capacity = Capacity { critical_celsius, ..LAPTOP };
                let mut governor = Governor::new(capacity, thresholds, Sensor::Known);
                let reading = Reading { celsius: Some(celsius), ..Reading::default() };
                let decision = governor.step(reading, Duration::ZERO);
                let state = thresholds.state_at(celsius, critical_celsius);
                assert_eq!(state, decision.state, "{celsius} of {critical_celsius:?}");
            }
        }
    }
    let at = |celsius, critical| Thresholds::default().state_at(celsius, Some(critical));
    assert_eq!(at(80.0, 90.0), State::Normal);
    assert_eq!(at(82.0, 90.0), State::Caution);
    assert_eq!(at(87.0, 90.0), State::Throttle);
    assert_eq!(at(58.0, 60.0), State::Optimal, "no processor protects itself at 60 C");
}
