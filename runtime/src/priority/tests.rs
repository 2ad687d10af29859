//! The order of levels, and the bound that no level waits beyond.

use proptest::prelude::*;

use super::*;

fn level(number: u8) -> Priority {
    Priority::new(number).unwrap()
}

/// All levels always have something; returns how often each was served in so many takes.
fn saturate(takes: usize) -> [usize; LEVELS] {
    let mut turns = Turns::default();
    Priority::all().for_each(|priority| turns.wait(priority));
    let mut served = [0; LEVELS];
    for _ in 0..takes {
        let next = turns.next().unwrap();
        served[next.index()] += 1;
        turns.take(next);
    }
    served
}

#[test]
fn numbers_outside_one_to_ten_are_no_priorities() {
    assert_eq!(Priority::new(0), None);
    assert_eq!(Priority::new(11), None);
    assert_eq!(
        Priority::all().map(Priority::number).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
}

#[test]
fn the_bound_is_what_the_header_says() {
    assert_eq!(overtaken_max(level(10)), 13);
    assert_eq!(overtaken_max(level(1)), 2057);
}

#[test]
fn the_most_urgent_goes_first() {
    let mut fair = Fair::new(8);
    for number in [1, 10, 5, 10] {
        fair.try_push(level(number), number).unwrap();
    }
    let order: Vec<_> = std::iter::from_fn(|| fair.pop()).map(|(_, item)| item).collect();
    assert_eq!(order, [10, 10, 5, 1]);
    assert!(fair.is_empty());
}

#[test]
fn a_full_one_hands_the_item_back() {
    let mut fair = Fair::new(1);
    fair.try_push(level(1), 'a').unwrap();
    assert_eq!(fair.try_push(level(10), 'b'), Err('b'));
    assert_eq!(fair.len(), 1);
}

#[test]
fn what_may_not_go_is_passed_over_and_keeps_its_place() {
    let mut fair = Fair::new(8);
    for (number, item) in [(10, 'x'), (10, 'a'), (5, 'x'), (5, 'b'), (1, 'x')] {
        fair.try_push(level(number), item).unwrap();
    }
    let mut next = || fair.pop_where(|item| *item != 'x').map(|(_, item)| item);
    assert_eq!([next(), next(), next()], [Some('a'), Some('b'), None]);
    assert_eq!(fair.iter().count(), 3);
    assert_eq!(fair.pop(), Some((level(10), 'x')));
    fair.retain(|_| false);
    assert!(fair.is_empty() && fair.pop().is_none());
    fair.try_push(level(1), 'y').unwrap();
    assert_eq!(fair.pop(), Some((level(1), 'y')));
}

#[test]
fn a_level_that_could_not_go_is_first_when_it_can() {
    let mut fair = Fair::new(usize::MAX);
    fair.try_push(level(9), 'x').unwrap();
    for _ in 0..patience(level(9)) {
        fair.try_push(level(10), 'a').unwrap();
        assert_eq!(fair.pop_where(|item| *item != 'x'), Some((level(10), 'a')));
    }
    fair.try_push(level(10), 'a').unwrap();
    assert_eq!(fair.pop(), Some((level(9), 'x')));
}

#[test]
fn numbers_outside_count_as_the_nearest() {
    assert_eq!([0, 1, 10, 255].map(|number| Priority::nearest(number).number()), [1, 1, 10, 10]);
}

#[test]
fn under_full_load_the_most_urgent_level_keeps_three_quarters_and_all_are_served() {
    let served = saturate(1 << 16);
    assert!(served[9] * 4 >= (1 << 16) * 3, "{served:?}");
    assert!(served.iter().all(|&count| count > 0), "{served:?}");
    assert!(served.is_sorted(), "{served:?}");
}

#[test]
fn a_lonely_low_item_goes_after_its_patience_and_not_before() {
    let mut fair = Fair::new(usize::MAX);
    fair.try_push(level(9), 0).unwrap();
    let mut passed = 0;
    while passed <= overtaken_max(level(9)) {
        fair.try_push(level(10), 0).unwrap();
        if fair.pop().unwrap().0 == level(9) {
            break;
        }
        passed += 1;
    }
    assert_eq!(passed, patience(level(9)));
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Pop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Bursts at few levels as well as mixtures; more pushes than pops keeps levels waiting.
    let any = prop_oneof![(1u8..=10).prop_map(Step::Push), Just(Step::Pop)];
    let top = prop_oneof![(6u8..=10).prop_map(Step::Push), Just(Step::Pop)];
    prop_oneof![prop::collection::vec(any, 0..600), prop::collection::vec(top, 0..3000)]
}

/// What was put, and how many items of its own level were before it.
struct Waits {
    before: u64,
    /// Items of other levels that were taken since.
    overtaken: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_item_waits_longer_than_the_guarantee(steps in steps()) {
        let mut fair = Fair::new(usize::MAX);
        let mut waiting: Vec<Vec<Waits>> = (0..LEVELS).map(|_| Vec::new()).collect();
        let pops = std::iter::repeat_n(Step::Pop, 3000);
        for step in steps.into_iter().chain(pops) {
            match step {
                Step::Push(number) => {
                    let own = &mut waiting[level(number).index()];
                    own.push(Waits { before: own.len() as u64, overtaken: 0 });
                    fair.try_push(level(number), ()).unwrap();
                }
                Step::Pop => {
                    let Some((priority, ())) = fair.pop() else { continue };
                    let item = waiting[priority.index()].remove(0);
                    let most = (item.before + 1) * overtaken_max(priority);
                    prop_assert!(item.overtaken <= most, "{priority:?}: {}", item.overtaken);
                    for other in Priority::all().filter(|&other| other != priority) {
                        for item in &mut waiting[other.index()] {
                            item.overtaken += 1;
                        }
                    }
                }
            }
        }
        prop_assert!(fair.is_empty() && waiting.iter().all(Vec::is_empty));
    }

    /// Levels begin and cease to wait at the worst moments; every gap stays within the bound, which is
    /// checked where it is largest too.
    #[test]
    fn no_level_waits_longer_than_the_guarantee(
        changes in prop::collection::vec((0u16..1024, 1usize..700), 1..40),
    ) {
        let mut turns = Turns::default();
        let mut passed = [0u64; LEVELS];
        let mut waiting = 0u16;
        for (mask, takes) in changes {
            for priority in Priority::all() {
                let bit = 1 << priority.index();
                match (waiting & bit != 0, mask & bit != 0) {
                    (false, true) => {
                        passed[priority.index()] = 0;
                        turns.wait(priority);
                    }
                    (true, false) => turns.leave(priority),
                    _ => {}
                }
            }
            waiting = mask;
            for _ in 0..takes {
                let Some(next) = turns.next() else {
                    prop_assert_eq!(waiting, 0);
                    break;
                };
                prop_assert!(waiting & (1 << next.index()) != 0);
                turns.take(next);
                for priority in Priority::all() {
                    let count = &mut passed[priority.index()];
                    *count = if priority == next { 0 } else { *count + 1 };
                    let waits = waiting & (1 << priority.index()) != 0;
                    prop_assert!(!waits || *count <= overtaken_max(priority), "{priority:?}");
                }
            }
        }
    }
}
