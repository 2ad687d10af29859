//! What the governor does, reading by reading, and what it does whatever is read.

mod sensor;

use std::time::Duration;

use hw::thermal::CoreReading;
use proptest::prelude::*;

use super::{
    Band, Capacity, Direction, Governor, Reading, Reason, ThresholdError, ThresholdValues,
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
        let mut governor = Governor::new(capacity, Thresholds::default(), has_sensor);
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
        let governor = Governor::new(capacity, thresholds.try_into().unwrap(), true);
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

fn any_slots() -> impl Strategy<Value = Slots> {
    (0_usize..40, 0_usize..40, 0_usize..40).prop_map(|(performance, efficient, low_power)| Slots {
        performance,
        efficient,
        low_power,
    })
}

fn any_capacity() -> impl Strategy<Value = Capacity> {
    let quota = prop::option::of(prop_oneof![0.0..40.0_f64, any::<f64>()]);
    let critical = prop::option::of(prop_oneof![60.0..130.0_f64, any::<f64>()]);
    (any_slots(), quota, critical).prop_map(|(cores, quota_cpus, critical_celsius)| Capacity {
        cores,
        quota_cpus,
        critical_celsius,
    })
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let celsius = prop_oneof![
        1 => Just(None),
        1 => any::<f64>().prop_map(Some),
        1 => prop::sample::select(vec![Some(0.0), Some(-274.0), Some(27.8)]),
        7 => (20.0..112.0_f64).prop_map(|value| Some(value.round())),
    ];
    let age = prop_oneof![9 => Just(0_u64), 1 => 0..u64::MAX];
    let throttled = prop_oneof![19 => Just(0_u64), 1 => any::<u64>()];
    let said = prop_oneof![
        1 => Just(CoreReading::Absent),
        1 => Just(CoreReading::Silent),
        3 => any::<f64>().prop_map(CoreReading::Hottest),
    ];
    let cores = prop::option::weighted(0.2, said);
    (celsius, age, throttled, any_slots(), any::<bool>(), cores).prop_map(
        |(celsius, age, throttled, in_flight, is_limited, cores)| Reading {
            celsius,
            age: Duration::from_millis(age),
            throttled,
            in_flight,
            is_limited,
            cores,
        },
    )
}

/// How a sensor is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// Nothing, or what no processor has.
    Bad(Option<f64>),
    /// A value that gets older and older.
    Old,
    /// The same value, whatever runs.
    Stuck,
}

impl Loss {
    fn reading(self, second: u32) -> Reading {
        let in_flight = full();
        let read =
            Reading { celsius: Some(45.0), in_flight, is_limited: true, ..Reading::default() };
        match self {
            Self::Bad(celsius) => Reading { celsius, ..read },
            Self::Old => Reading { age: Duration::from_secs(4 + u64::from(second)), ..read },
            Self::Stuck => read,
        }
    }
}

fn any_loss() -> impl Strategy<Value = Loss> {
    let bad = [None, Some(0.0), Some(-274.0), Some(128.0), Some(f64::NAN)];
    let bad = prop::sample::select(bad.to_vec()).prop_map(Loss::Bad);
    prop_oneof![2 => bad, 1 => Just(Loss::Old), 1 => Just(Loss::Stuck)]
}

/// Milliseconds to the next step: mostly a second, sometimes anything.
fn any_pause() -> impl Strategy<Value = u64> {
    prop_oneof![17 => Just(1_000_u64), 2 => 0_u64..10_000, 1 => any::<u64>()]
}

fn any_band() -> impl Strategy<Value = Band> {
    (30.0..130.0_f64, 0.0..12.0_f64).prop_map(|(enter, width)| Band { enter, leave: enter - width })
}

/// Whether slots are within the machine, and one of its best cores among them.
fn fits(slots: Slots, capacity: &Capacity) -> bool {
    let cores = capacity.cores;
    let is_known = cores.sum() > 0;
    slots.sum() >= 1
        && slots.sum() <= capacity.slots_max()
        && (!is_known || slots.performance <= cores.performance)
        && (!is_known || slots.performance >= cores.performance.min(1))
        && slots.efficient <= cores.efficient
        && slots.low_power <= cores.low_power
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is read, whatever the clock does and whatever becomes of the machine: there are slots, and they fit; nothing
    /// grows while BLIND or on a bad read, and not by more than one at a time.
    #[test]
    fn any_readings_keep_the_bounds(
        first in any_capacity(),
        has_sensor: bool,
        steps in prop::collection::vec(
            (any_reading(), any_pause(), prop::option::weighted(0.05, any_capacity())),
            1..200,
        ),
    ) {
        let mut governor = Governor::new(first, Thresholds::default(), has_sensor);
        let (mut capacity, mut now) = (first, 0_u64);
        let mut last: Option<Decision> = None;
        for (reading, pause, change) in steps {
            // Once in a while the clock leaps back to the beginning.
            now = now.checked_add(pause).unwrap_or(0);
            if let Some(change) = change {
                capacity = change;
                governor.set_capacity(change);
            }
            let decision = governor.step(reading, Duration::from_millis(now));
            prop_assert!(fits(decision.slots, &capacity), "{decision:?} {capacity:?}");
            if let Some(before) = last.replace(decision) {
                let grown = decision.slots.sum() as isize - before.slots.sum() as isize;
                let is_off = decision.state == State::Off;
                prop_assert!(grown <= 1 || is_off, "{before:?} {decision:?}");
                prop_assert!(decision.state != State::Blind || grown <= 0);
                let is_bad = !reading.celsius.is_some_and(|it| (5.0..=127.0).contains(&it));
                prop_assert!(!is_bad || grown <= 0 || is_off, "{before:?} {decision:?}");
                let is_hot = reading.celsius.is_some_and(|it| (100.0..=127.0).contains(&it));
                let is_seen = is_hot && reading.age.is_zero() && before.state == State::Optimal;
                prop_assert!(!is_seen || grown <= 0, "{before:?} {decision:?}");
            }
        }
    }

    /// After any history, a machine that has cooled down has all slots within two minutes, idle or not.
    #[test]
    fn a_machine_that_has_cooled_down_recovers(
        history in prop::collection::vec(any_reading(), 0..200),
        is_limited: bool,
    ) {
        let mut bench = Bench::new(LAPTOP, true);
        for reading in history {
            bench.step(reading);
        }
        for second in 0..120_u32 {
            let celsius = Some(60.0 + f64::from(second % 2));
            bench.step(Reading { celsius, is_limited, ..Reading::default() });
        }
        prop_assert_eq!(bench.last.slots, full());
        prop_assert_eq!(bench.last.state, State::Optimal);
        prop_assert!(bench.last.heavy);
    }

    /// However a sensor was lost, after any history and for however long: once it works and the machine is cool, all slots are back
    /// within two minutes, idle or busy.
    #[test]
    fn a_machine_whose_lost_sensor_comes_back_recovers(
        history in prop::collection::vec(any_reading(), 0..100),
        loss in any_loss(),
        lost_seconds in 15..300_u32,
        is_busy: bool,
    ) {
        let mut bench = Bench::new(LAPTOP, true);
        for reading in history {
            bench.step(reading);
        }
        for _ in 0..20 {
            // An idle machine of one temperature, which a value that stands still does not contradict.
            bench.step(Reading { celsius: Some(45.0), ..Reading::default() });
        }
        for second in 0..lost_seconds {
            bench.step(loss.reading(second));
        }
        prop_assert_eq!(bench.last.state, State::Blind, "{:?}", loss);
        let blind = bench.last.slots;
        prop_assert!(blind.sum() >= 1 && blind.performance == 1 && blind.sum() < full().sum());
        for second in 0..120_u32 {
            let celsius = Some(60.0 + f64::from(second % 2));
            let in_flight = if is_busy { bench.last.slots } else { Slots::default() };
            bench.step(Reading { celsius, in_flight, is_limited: is_busy, ..Reading::default() });
        }
        prop_assert_eq!(bench.last.slots, full());
        prop_assert_eq!(bench.last.state, State::Optimal);
        prop_assert!(bench.last.heavy);
    }

    /// A hotter state only after a read at its beginning, a cooler one only after a read below the end of the one left.
    #[test]
    fn thresholds_are_crossed_the_right_way(
        readings in prop::collection::vec(40.0..108.0_f64, 1..300),
    ) {
        let mut bench = Bench::new(LAPTOP, true);
        let bands = ThresholdValues::default();
        let band = |state| match state {
            State::Normal => bands.normal,
            State::Caution => bands.caution,
            _ => bands.throttle,
        };
        let rank = |state| State::ALL.iter().position(|it| *it == state).unwrap();
        let mut seen = Vec::new();
        for celsius in readings {
            // Neighbours are near each other, so that states last.
            let celsius = seen.last().map_or(celsius, |last| last + (celsius - last) / 8.0);
            seen.push(celsius);
            let before = bench.last.state;
            let after = bench.read(Some(celsius)).state;
            prop_assert!(after != State::Blind && after != State::Off);
            if rank(after) > rank(before) {
                let enter = band(after).enter;
                prop_assert!(seen.iter().rev().take(30).any(|it| *it >= enter));
            } else if rank(after) < rank(before) {
                let leave = band(before).leave;
                prop_assert!(seen.iter().rev().take(30).any(|it| *it < leave));
                prop_assert!(celsius < band(before).enter);
            }
        }
    }

    /// Hotter all the time is never more slots in the end.
    #[test]
    fn more_heat_is_never_more_slots(low in 40.0..110.0_f64, above in 0.0..40.0_f64) {
        let slots = |celsius: f64| {
            let mut bench = Bench::new(LAPTOP, true);
            bench.hold(celsius.min(115.0), 200).slots.sum()
        };
        prop_assert!(slots(low + above) <= slots(low));
    }

    /// Whatever passes for thresholds keeps its order on any machine.
    #[test]
    fn thresholds_keep_their_order_on_any_machine(
        normal in any_band(),
        caution in any_band(),
        throttle in any_band(),
        heavy in any_band(),
        critical in prop::option::of(any::<f64>()),
        near in prop::option::of(60.0..130.0_f64),
    ) {
        let values = ThresholdValues { normal, caution, throttle, heavy };
        let Ok(thresholds) = Thresholds::try_from(values) else { return Ok(()) };
        let cut = thresholds.cut_to(near.or(critical));
        for band in [cut.normal, cut.caution, cut.throttle, cut.heavy] {
            prop_assert!(band.enter - band.leave >= HYSTERESIS_CELSIUS_MIN - 1e-9);
        }
        prop_assert!(cut.normal.enter < cut.caution.enter);
        prop_assert!(cut.caution.enter < cut.throttle.enter);
        prop_assert!(cut.normal.leave <= cut.caution.leave);
        prop_assert!(cut.caution.leave <= cut.throttle.leave);
    }
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
                let mut governor = Governor::new(capacity, thresholds, true);
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
