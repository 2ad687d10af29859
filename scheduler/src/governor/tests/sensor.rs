//! Sensors that stand still, fall and lie, beside what runs meanwhile.

use super::*;
use crate::governor::sense::{WEIGHT_SHOWN, WEIGHT_SHOWN_MIN};
use crate::simulation::plant::{BASE, Build, Plant, STEP_SECONDS};

fn busy(performance: usize, efficient: usize, low_power: usize) -> Slots {
    Slots { performance, efficient, low_power }
}

impl Bench {
    /// So many seconds of one value under one load.
    fn stand(&mut self, celsius: f64, in_flight: Slots, seconds: u32) -> Decision {
        for _ in 0..seconds {
            let celsius = Some(celsius);
            self.step(Reading { celsius, in_flight, is_limited: true, ..Reading::default() });
        }
        self.last
    }
}

#[test]
fn work_that_may_be_waiting_contradicts_nothing() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.stand(45.0, Slots::default(), 60);
    for in_flight in [busy(3, 0, 0), busy(4, 0, 1), busy(0, 1, 2)] {
        assert_eq!(bench.stand(45.0, in_flight, 120).state, State::Optimal, "{in_flight:?}");
        assert_eq!(bench.stand(45.0, Slots::default(), 60).state, State::Optimal);
    }
    // What ran for a moment only is forgotten with it.
    bench.stand(45.0, full(), 2);
    assert_eq!(bench.stand(45.0, Slots::default(), 600).state, State::Optimal);
}

#[test]
fn what_a_load_contradicted_is_forgotten_with_the_load() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.stand(45.0, Slots::default(), 60);
    assert_eq!(bench.stand(45.0, full(), 5).state, State::Blind);
    let blind = bench.last.slots;
    assert_eq!(bench.stand(45.0, blind, 60).state, State::Blind, "it is still there");
    assert_eq!(bench.stand(45.0, Slots::default(), 3).state, State::Optimal);
    assert_eq!(bench.stand(45.0, Slots::default(), 600).slots, blind, "and nothing is added");
}

#[test]
fn a_fall_that_several_reads_confirm_is_believed_where_little_runs() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(88.0, 60);
    let before = bench.last.slots.sum();
    for _ in 0..600 {
        // Steps come a little later than each second.
        bench.seconds += 0.002;
        let decision = bench.stand(45.0, busy(1, 0, 0), 1);
        assert_ne!(decision.state, State::Blind, "after {} s", bench.seconds);
        assert!(decision.slots.sum() <= before + 2);
    }
    assert_eq!(bench.last.state, State::Optimal);
}

#[test]
fn a_fall_to_what_never_moves_is_a_lie_under_load_and_no_longer() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(88.0, 60);
    let load = busy(1, 8, 2);
    assert_eq!(bench.stand(45.0, load, 5).state, State::Blind);
    assert_eq!(bench.stand(45.0, load, 60).state, State::Blind);
    assert_ne!(bench.stand(45.0, Slots::default(), 4).state, State::Blind);
}

#[test]
fn a_lie_that_falls_once_and_stays_gives_no_performance_slot() {
    for lie in [84.0, 75.0, 60.0, 52.0] {
        let mut bench = Bench::new(LAPTOP, true);
        bench.hold(50.0, 20);
        bench.hold(97.0, 20);
        bench.hold(90.0, 60);
        let performance = bench.last.slots.performance;
        for _ in 0..60 {
            let now = bench.read(Some(lie)).slots.performance;
            assert!(now <= performance, "{lie}: {now} of {performance}");
        }
        assert!(bench.hold(60.0, 60).slots.performance > performance, "what moves is believed");
    }
}

#[test]
fn a_core_that_is_hotter_than_a_package_that_stands_still_shows_that_it_is_stuck() {
    let load = busy(1, 2, 0);
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(70.0, 20);
    let mut stand = |celsius: f64| {
        let now = Duration::from_secs_f64(bench.seconds + 1.0);
        let asks = bench.governor.doubts_sensor(now);
        let cores = asks.then_some(CoreReading::Hottest(celsius));
        let celsius = Some(70.0);
        let reading = Reading { celsius, in_flight: load, cores, ..Reading::default() };
        (asks, bench.step(reading).state)
    };
    let (doubted, states): (Vec<_>, Vec<_>) = (0..6).map(|_| stand(76.0)).unzip();
    assert_eq!(doubted, [false, false, false, true, true, true]);
    assert_eq!(states[..4], [State::Optimal; 4], "one look proves nothing");
    assert_eq!(states[4..], [State::Blind; 2], "within five seconds");
    for _ in 0..60 {
        assert_eq!(stand(76.0).1, State::Blind, "for as long as they say so");
    }
    assert_eq!(bench.governor.why(), Reason::SensorStuck);
}

#[test]
fn cores_that_fall_silent_clear_no_package_that_stands_still_and_absent_ones_are_no_witness() {
    for (said, state) in
        [(CoreReading::Silent, State::Blind), (CoreReading::Absent, State::Optimal)]
    {
        let mut bench = Bench::new(LAPTOP, true);
        bench.hold(70.0, 20);
        let mut asked = 0;
        for second in 0..20 {
            let asks = bench.governor.doubts_sensor(Duration::from_secs_f64(bench.seconds + 1.0));
            asked += u32::from(asks);
            let (celsius, cores) = (Some(70.0), asks.then_some(said));
            let in_flight = busy(1, 2, 0);
            bench.step(Reading { celsius, in_flight, cores, ..Reading::default() });
            let expected = if second < 4 { State::Optimal } else { state };
            assert_eq!(bench.last.state, expected, "{said:?} after {second}");
        }
        assert!(state == State::Blind || asked < 10, "where none answers none is asked often");
        assert_ne!(bench.hold(70.0, 4).state, State::Blind, "what moves is believed");
    }
}

#[test]
fn cores_that_agree_are_asked_seldom_and_contradict_nothing() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(70.0, 20);
    let mut asked = 0;
    for second in 0..100 {
        let now = Duration::from_secs_f64(bench.seconds + 1.0);
        let asks = bench.governor.doubts_sensor(now);
        asked += u32::from(asks);
        // As far above as noise and rounding make it, and further for a single look.
        let core = if second == 40 { 90.0 } else { 73.0 };
        let reading = Reading {
            celsius: Some(70.0),
            in_flight: busy(2, 2, 0),
            cores: asks.then_some(CoreReading::Hottest(core)),
            ..Reading::default()
        };
        assert_ne!(bench.step(reading).state, State::Blind);
    }
    assert!((15..30).contains(&asked), "{asked}");
    let mut idle = Bench::new(LAPTOP, true);
    idle.stand(45.0, busy(1, 0, 0), 100);
    assert!(!idle.governor.doubts_sensor(Duration::from_secs(200)), "nothing runs that heats");
    let mut lively = Bench::new(LAPTOP, true);
    lively.hold(70.0, 100);
    assert!(!lively.governor.doubts_sensor(Duration::from_secs_f64(lively.seconds + 1.0)));
}

#[test]
fn work_that_comes_in_bursts_is_doubted_as_work_that_goes_on() {
    let mut bench = Bench::new(LAPTOP, true);
    bench.hold(70.0, 20);
    let mut blind_after = None;
    for second in 0..12 {
        // Between two bursts a sample finds nothing.
        let in_flight = if second % 3 == 2 { Slots::default() } else { busy(1, 4, 0) };
        let asks = bench.governor.doubts_sensor(Duration::from_secs_f64(bench.seconds + 1.0));
        let cores = asks.then_some(CoreReading::Hottest(90.0));
        let reading = Reading { celsius: Some(70.0), in_flight, cores, ..Reading::default() };
        if bench.step(reading).state == State::Blind {
            blind_after.get_or_insert(second);
        }
    }
    assert_eq!(blind_after, Some(4), "as early as without the gaps");
    let mut over = Bench::new(LAPTOP, true);
    over.hold(70.0, 20);
    over.stand(70.0, busy(1, 4, 0), 10);
    over.stand(70.0, Slots::default(), 3);
    assert!(!over.governor.doubts_sensor(Duration::from_secs(100)), "it is over");
}

/// The rule's own figures: what it takes for a contradiction is seen on a laptop, and on a server that is cooled ten times as well.
#[test]
fn the_load_that_contradicts_a_still_value_shows_on_any_package() {
    let server = Build { die_resistance: 0.06, sink_resistance: 0.075, ..BASE };
    for build in [BASE, server] {
        for in_flight in [busy(0, WEIGHT_SHOWN as usize, 0), busy(4, 0, 0)] {
            let mut plant = Plant::new(build);
            let settle = |plant: &mut Plant, load, seconds: f64| {
                for _ in 0..(seconds / STEP_SECONDS) as usize {
                    plant.step(load);
                }
                plant.celsius()
            };
            let idle = settle(&mut plant, Slots::default(), 600.0);
            let loaded = settle(&mut plant, in_flight, 2.0);
            assert!(loaded - idle >= 2.0, "{in_flight:?} {build:?}: {idle} {loaded}");
        }
    }
    assert_eq!(WEIGHT_SHOWN_MIN, 4.0 * 3.0);
}
