//! What holds whatever is read, whatever the clock does and whatever becomes of the machine.

use proptest::prelude::*;

use super::*;

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
        let mut governor = Governor::new(first, Thresholds::default(), sensor_that(has_sensor));
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
                // Nor do slots move to hotter cores, whatever becomes of the others.
                let is_blind = decision.state == State::Blind;
                let most = before.slots.performance.max(1) + usize::from(!is_blind);
                let is_off = is_off || before.state == State::Off;
                prop_assert!(decision.slots.performance <= most || is_off, "{before:?} {decision:?}");
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
