//! Admission against a slow model of its rules, and the rules one by one.

mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Admission, Grant, Id, Leave, Order, Reason, Transfers, Wish, downloads_max};
use crate::decision::{Background, Decision, Slots, State};
use crate::limits::{AGE_STEP, DEFER_MAX, DOWNLOADS_ALL_MAX, DOWNLOADS_MAX};
use crate::placement::{Lane, Work};

fn decision(state: State, slots: [usize; 3], heavy: bool) -> Decision {
    let [performance, efficient, low_power] = slots;
    let background = Background::Efficient;
    Decision { state, slots: Slots { performance, efficient, low_power }, heavy, background }
}

fn order(requester: &str, priority: u8) -> Order {
    Order { requester: Arc::from(requester), priority, waited: Duration::ZERO }
}

fn pieces(work: Work, most: usize) -> Wish {
    Wish::Pieces { work, most }
}

const START: Duration = Duration::ZERO;

/// Everything that can begin now.
fn all(admission: &mut Admission, now: Duration) -> Vec<Grant> {
    let grants = std::iter::from_fn(|| admission.next(now)).collect();
    admission.note_deferrals(now);
    grants
}

fn lanes(grants: &[Grant]) -> Vec<Leave> {
    grants.iter().map(|grant| grant.leave).collect()
}

#[test]
fn bulk_fills_the_efficient_cores_first_and_all_when_it_is_cool() {
    let mut admission = Admission::new(decision(State::Optimal, [2, 2, 1], true));
    admission.ask(&order("a", 5), pieces(Work::Unpack, 9), START).unwrap();
    let run = |lane| Leave::Run(lane);
    let (p, e, l) = (Lane::Performance, Lane::Efficient, Lane::LowPower);
    assert_eq!(lanes(&all(&mut admission, START)), [run(e), run(e), run(p), run(p), run(l)]);
}

#[test]
fn the_last_performance_slot_is_kept_where_it_is_warm_or_somebody_resolves() {
    let warm = decision(State::Normal, [2, 1, 0], true);
    let mut admission = Admission::new(warm);
    admission.ask(&order("a", 5), pieces(Work::Unpack, 9), START).unwrap();
    assert_eq!(all(&mut admission, START).len(), 2);
    let mut admission = Admission::new(decision(State::Optimal, [2, 1, 0], true));
    admission.ask(&order("a", 5), pieces(Work::Resolve, 1), START).unwrap();
    admission.ask(&order("a", 5), pieces(Work::Unpack, 9), START).unwrap();
    let grants = all(&mut admission, START);
    assert_eq!(grants.len(), 2, "the resolution on its own, and one on the efficient core");
}

#[test]
fn a_resolution_never_waits_for_bulk() {
    for slots in [[1, 0, 0], [2, 0, 0], [3, 4, 1]] {
        let mut admission = Admission::new(decision(State::Off, slots, true));
        admission.ask(&order("a", 10), pieces(Work::Unpack, 16), START).unwrap();
        let bulk = all(&mut admission, START);
        assert_eq!(bulk.len(), slots.iter().sum::<usize>(), "a burst has everything");
        admission.ask(&order("b", 1), pieces(Work::Resolve, 1), START).unwrap();
        let next = all(&mut admission, START);
        assert_eq!(lanes(&next), [Leave::Run(Lane::Performance)]);
        assert!(admission.is_contended(), "and bulk is to give way");
    }
}

#[test]
fn a_machine_that_is_down_to_one_slot_still_unpacks() {
    let mut admission = Admission::new(decision(State::Throttle, [1, 0, 0], false));
    admission.ask(&order("a", 5), pieces(Work::Unpack, 4), START).unwrap();
    assert_eq!(all(&mut admission, START).len(), 1);
}

#[test]
fn a_decision_without_slots_leaves_one() {
    let mut admission = Admission::new(decision(State::Blind, [0, 0, 0], false));
    admission.ask(&order("a", 5), pieces(Work::Scan, 4), START).unwrap();
    assert_eq!(all(&mut admission, START).len(), 1);
}

#[test]
fn without_performance_cores_no_more_runs_than_was_decided() {
    for slots in [[0, 4, 0], [0, 0, 3], [0, 1, 2]] {
        let mut admission = Admission::new(decision(State::Optimal, slots, true));
        admission.ask(&order("a", 5), pieces(Work::Unpack, 16), START).unwrap();
        admission.ask(&order("b", 5), pieces(Work::Resolve, 4), START).unwrap();
        let grants = all(&mut admission, START);
        assert_eq!(grants.len(), slots.iter().sum::<usize>(), "{slots:?}");
        let resolves = |grant: &&Grant| grant.leave == Leave::Run(Lane::Performance);
        assert_eq!(grants.iter().filter(resolves).count(), 1, "{slots:?}");
    }
}

#[test]
fn heavy_work_waits_for_a_cool_machine_and_each_for_ten_minutes_at_most() {
    let hot = decision(State::Caution, [1, 4, 0], false);
    let mut admission = Admission::new(hot);
    // One of them comes a minute later, and those that begin never end.
    let later = Duration::from_secs(60);
    let ask = |admission: &mut Admission, requester: &str, now| {
        admission.ask(&order(requester, 5), Wish::Heavy, now).unwrap()
    };
    let first = ["a", "b", "b"].map(|requester| ask(&mut admission, requester, START));
    assert_eq!(all(&mut admission, START), []);
    let waiting = admission.deferred()[Reason::Heat as usize];
    assert_eq!((waiting.waiting, waiting.count), (3, 3));
    let last = ask(&mut admission, "a", later);
    let moment = Duration::from_millis(1);
    assert_eq!(all(&mut admission, DEFER_MAX - moment), []);
    let begun: Vec<Id> = all(&mut admission, DEFER_MAX).iter().map(|grant| grant.id).collect();
    assert!(begun.len() == 3 && first.iter().all(|id| begun.contains(id)), "each: {begun:?}");
    assert_eq!(admission.deferred()[Reason::Heat as usize].time, 3 * DEFER_MAX);
    assert_eq!(all(&mut admission, later + DEFER_MAX - moment), []);
    let begun = all(&mut admission, later + DEFER_MAX);
    assert_eq!(begun.iter().map(|grant| grant.id).collect::<Vec<_>>(), [last]);
    assert_eq!(admission.running(), [0; 4], "what it heats with are pieces, which have slots");
}

#[test]
fn heavy_work_begins_at_once_where_it_may() {
    let mut admission = Admission::new(decision(State::Normal, [1, 4, 0], true));
    for requester in ["a", "b"] {
        admission.ask(&order(requester, 5), Wish::Heavy, START).unwrap();
    }
    assert_eq!(all(&mut admission, START).len(), 2);
}

#[test]
fn what_is_asked_for_again_has_waited_since_it_was_first_asked_for() {
    let moment = Duration::from_secs(1);
    let now = DEFER_MAX + moment;
    let mut admission = Admission::new(decision(State::Caution, [1, 4, 0], false));
    let again = Order { waited: DEFER_MAX - moment, ..order("a", 5) };
    admission.ask(&again, Wish::Heavy, now).unwrap();
    admission.ask(&order("b", 5), Wish::Heavy, now).unwrap();
    assert_eq!(all(&mut admission, now), []);
    assert_eq!(admission.next_look(now), Some(now + moment));
    assert_eq!(all(&mut admission, now + moment).len(), 1);
    assert_eq!(all(&mut admission, now + DEFER_MAX).len(), 1);
}

#[test]
fn paused_background_work_waits_and_does_not_starve() {
    let background = Background::Paused;
    let paused = Decision { background, ..decision(State::Throttle, [1, 0, 0], false) };
    let mut admission = Admission::new(paused);
    admission.ask(&order("a", 5), pieces(Work::Background, 1), START).unwrap();
    assert_eq!(all(&mut admission, START), []);
    assert_eq!(admission.deferred()[Reason::Paused as usize].waiting, 1);
    assert_eq!(lanes(&all(&mut admission, DEFER_MAX)), [Leave::Run(Lane::Background)]);
}

#[test]
fn fewer_transfers_run_where_it_is_hot_or_not_known() {
    for (state, most) in [
        (State::Off, DOWNLOADS_MAX),
        (State::Optimal, DOWNLOADS_MAX),
        (State::Normal, DOWNLOADS_MAX),
        (State::Caution, DOWNLOADS_MAX / 2),
        (State::Blind, DOWNLOADS_MAX / 2),
        (State::Throttle, DOWNLOADS_MAX / 4),
    ] {
        let mut admission = Admission::new(decision(state, [1, 0, 0], false));
        for _ in 0..2 * DOWNLOADS_MAX {
            admission.ask(&order("a", 5), Wish::Download, START).unwrap();
        }
        let mut held = all(&mut admission, START);
        assert_eq!(held.len(), most, "{state:?}");
        assert_eq!(admission.running(), [0; 4], "they have no slots");
        admission.give_back(held.remove(0));
        assert_eq!(all(&mut admission, START).len(), 1);
    }
}

#[test]
fn who_waits_can_be_told_why() {
    let mut admission = Admission::new(decision(State::Caution, [1, 0, 0], false));
    let id = admission.ask(&order("a", 5), Wish::Heavy, START).unwrap();
    assert_eq!(all(&mut admission, START), []);
    assert_eq!(admission.why(id), Some(Reason::Heat));
    admission.set_decision(decision(State::Optimal, [1, 0, 0], true));
    assert_eq!(all(&mut admission, START).len(), 1);
    assert_eq!(admission.why(id), None);
}

#[test]
fn the_lowest_passes_a_stream_of_the_most_urgent() {
    let mut admission = Admission::new(decision(State::Normal, [1, 1, 0], true));
    let low = admission.ask(&order("low", 1), pieces(Work::Unpack, 1), START).unwrap();
    let mut now = START;
    // One piece a second, and always two of the most urgent in front of it.
    for second in 0..60 {
        now = Duration::from_secs(second);
        for name in ["x", "y"] {
            let urgent_too = admission.ask(&order(name, 10), pieces(Work::Unpack, 1), now).unwrap();
            assert!(urgent_too > low);
        }
        let mut grants = all(&mut admission, now);
        assert_eq!(grants.len(), 1);
        let grant = grants.remove(0);
        let id = grant.id;
        admission.give_back(grant);
        admission.withdraw(id, now);
        if id == low {
            assert!(now <= 12 * AGE_STEP, "{now:?}");
            return;
        }
    }
    panic!("starved until {now:?}");
}

#[test]
fn equals_take_turns_whatever_each_has_queued() {
    let mut admission = Admission::new(decision(State::Normal, [1, 1, 0], true));
    let mut owners: BTreeMap<Id, &str> = BTreeMap::new();
    for (requester, count) in [("greedy", 90), ("modest", 10)] {
        for _ in 0..count {
            let id = admission.ask(&order(requester, 5), pieces(Work::Unpack, 1), START).unwrap();
            owners.insert(id, requester);
        }
    }
    let mut served = BTreeMap::from([("greedy", 0u32), ("modest", 0u32)]);
    for _ in 0..20 {
        let grant = all(&mut admission, START).remove(0);
        let id = grant.id;
        *served.get_mut(owners[&id]).unwrap() += 1;
        assert!(served["greedy"].abs_diff(served["modest"]) <= 1, "{served:?}");
        admission.give_back(grant);
        admission.withdraw(id, START);
    }
    assert_eq!(served["modest"], 10);
}

#[test]
fn a_requester_that_comes_again_and_again_does_not_pass_who_waits() {
    let mut admission = Admission::new(decision(State::Normal, [1, 1, 0], true));
    for _ in 0..20 {
        admission.ask(&order("patient", 5), pieces(Work::Unpack, 1), START).unwrap();
    }
    let mut served = [0u32; 2];
    for _ in 0..20 {
        let again = admission.ask(&order("again", 5), pieces(Work::Unpack, 1), START).unwrap();
        let grant = all(&mut admission, START).remove(0);
        served[usize::from(grant.id == again)] += 1;
        let id = grant.id;
        admission.give_back(grant);
        admission.withdraw(id, START);
        admission.withdraw(again, START);
    }
    assert!(served[0] >= 10, "{served:?}");
}

/// The rules as one would say them, every answer worked out from the whole history.
#[derive(Default)]
struct Oracle {
    requests: Vec<Asked>,
    serial: u64,
}

struct Asked {
    id: Id,
    order: Order,
    wish: Wish,
    since: Duration,
    held: Vec<Leave>,
    had: bool,
    gone: bool,
    /// When its requester was last served, or last came back to the bus after having nothing.
    turn: u64,
}

impl Oracle {
    fn ask(&mut self, id: Id, order: &Order, wish: Wish, now: Duration) {
        let same = self.requests.iter().find(|one| {
            one.order.requester == order.requester && !(one.gone && one.held.is_empty())
        });
        let turn = same.map(|one| one.turn).unwrap_or_else(|| {
            self.serial += 1;
            self.serial
        });
        let (order, held) = (order.clone(), Vec::new());
        self.requests.push(Asked {
            id,
            order,
            wish,
            since: now,
            held,
            had: false,
            gone: false,
            turn,
        });
    }

    fn rank(one: &Asked, now: Duration) -> u8 {
        let mut rank = one.order.priority.clamp(1, 10);
        let mut waited = now - one.since;
        while waited >= AGE_STEP && rank < 11 {
            waited -= AGE_STEP;
            rank += 1;
        }
        rank
    }

    fn held(&self, leave: Leave) -> usize {
        self.requests.iter().flat_map(|one| &one.held).filter(|held| **held == leave).count()
    }

    fn has_transfer(&self, requester: &str) -> bool {
        let own = self.requests.iter().filter(|one| &*one.order.requester == requester);
        own.into_iter().any(|one| one.held.contains(&Leave::Download))
    }

    fn could(&self, one: &Asked, decision: Decision, now: Duration) -> Option<Leave> {
        let Slots { performance: p, efficient: e, low_power: l } = decision.slots;
        let on = |lane| self.held(Leave::Run(lane));
        let all = on(Lane::Performance) + on(Lane::Efficient) + on(Lane::LowPower);
        let resolves = |one: &&Asked| matches!(one.wish, Wish::Pieces { work: Work::Resolve, .. });
        let resolving: usize =
            self.requests.iter().filter(resolves).map(|one| one.held.len()).sum();
        let resolution = self.requests.iter().filter(resolves).any(|one| !one.gone);
        let late = now - one.since >= DEFER_MAX;
        match one.wish {
            Wish::Heavy => (decision.heavy || late).then_some(Leave::Heavy),
            Wish::Download => {
                let all = self.held(Leave::Download);
                let is_first = !self.has_transfer(&one.order.requester);
                let may =
                    all < downloads_max(decision.state) || (is_first && all < DOWNLOADS_ALL_MAX);
                may.then_some(Leave::Download)
            }
            Wish::Pieces { work: Work::Background, .. } => {
                let may = decision.background != Background::Paused || late;
                (may && on(Lane::Background) == 0).then_some(Leave::Run(Lane::Background))
            }
            Wish::Pieces { work: Work::Resolve, .. } => {
                let fits = on(Lane::Performance) < p && all < p + e + l;
                (fits || resolving == 0).then_some(Leave::Run(Lane::Performance))
            }
            Wish::Pieces { work, .. } => {
                if all >= p + e + l {
                    return None;
                }
                let cool = [State::Optimal, State::Off].contains(&decision.state);
                let burst = work == Work::Unpack && cool && !resolution;
                let bulk_p = if burst || (p == 1 && e + l == 0) { p } else { p - 1 };
                if on(Lane::Efficient) < e {
                    Some(Leave::Run(Lane::Efficient))
                } else if on(Lane::Performance) < bulk_p {
                    Some(Leave::Run(Lane::Performance))
                } else if on(Lane::LowPower) < l {
                    Some(Leave::Run(Lane::LowPower))
                } else {
                    None
                }
            }
        }
    }

    fn next(&mut self, decision: Decision, now: Duration) -> Option<(Id, Leave)> {
        let mut best: Option<(usize, Leave)> = None;
        for (index, one) in self.requests.iter().enumerate() {
            let most = match one.wish {
                _ if one.gone => 0,
                Wish::Pieces { most, .. } => most.clamp(1, 16),
                _ => usize::from(!one.had),
            };
            if one.held.len() >= most {
                continue;
            }
            let Some(leave) = self.could(one, decision, now) else { continue };
            let better = best.is_none_or(|(best, _)| {
                let other = &self.requests[best];
                let (rank, other_rank) = (Self::rank(one, now), Self::rank(other, now));
                rank > other_rank || (rank == other_rank && one.turn < other.turn)
            });
            if better {
                best = Some((index, leave));
            }
        }
        let (index, leave) = best?;
        self.serial += 1;
        let served = self.requests[index].order.requester.clone();
        for one in self.requests.iter_mut().filter(|one| one.order.requester == served) {
            one.turn = self.serial;
        }
        let one = &mut self.requests[index];
        one.held.push(leave);
        one.had = true;
        one.since = now;
        Some((one.id, leave))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { requester: u8, priority: u8, wish: Wish },
    GiveBack(usize),
    Withdraw(usize),
    Decide(Decision),
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wish = prop_oneof![
        (0..4usize, 1..6usize).prop_map(|(work, most)| pieces(Work::ALL[work], most)),
        Just(Wish::Heavy),
        Just(Wish::Download),
    ];
    let ask = (0..4u8, 0..12u8, wish).prop_map(|(requester, priority, wish)| Step::Ask {
        requester,
        priority,
        wish,
    });
    let background = prop_oneof![
        Just(Background::Efficient),
        Just(Background::LowPower),
        Just(Background::Paused)
    ];
    let decide = (0..6usize, 1..4usize, 0..4usize, 0..3usize, any::<bool>(), background).prop_map(
        |(state, p, e, l, heavy, background)| {
            let decision = decision(State::ALL[state], [p, e, l], heavy);
            Step::Decide(Decision { background, ..decision })
        },
    );
    let step = prop_oneof![
        4 => ask,
        4 => any::<usize>().prop_map(Step::GiveBack),
        2 => any::<usize>().prop_map(Step::Withdraw),
        1 => decide,
        2 => (0..700_000u32).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

fn bounds_hold(before: [usize; 4], admission: &Admission, leave: Leave, is_resolution: bool) {
    let slots = admission.decision().slots;
    let computing: usize = before[..3].iter().sum();
    if let Leave::Run(lane) = leave
        && lane != Lane::Background
        && !is_resolution
    {
        let most = [slots.performance, slots.efficient, slots.low_power][lane as usize];
        assert!(computing < slots.sum() && before[lane as usize] < most, "{leave:?} {before:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_its_rules_say(steps in steps()) {
        let mut now = START;
        let first = decision(State::Off, [2, 1, 0], true);
        let mut admission = Admission::new(first);
        let mut oracle = Oracle::default();
        let mut held: Vec<Grant> = Vec::new();
        for step in steps {
            match step {
                Step::Ask { requester, priority, wish } => {
                    let order = order(&requester.to_string(), priority);
                    let id = admission.ask(&order, wish, now).unwrap();
                    oracle.ask(id, &order, wish, now);
                }
                Step::GiveBack(which) if !held.is_empty() => {
                    let grant = held.swap_remove(which % held.len());
                    let one = oracle.requests.iter_mut().find(|one| one.id == grant.id).unwrap();
                    let index = one.held.iter().position(|leave| *leave == grant.leave).unwrap();
                    one.held.remove(index);
                    admission.give_back(grant);
                }
                Step::Withdraw(which) if !oracle.requests.is_empty() => {
                    let index = which % oracle.requests.len();
                    oracle.requests[index].gone = true;
                    admission.withdraw(oracle.requests[index].id, now);
                }
                Step::GiveBack(_) | Step::Withdraw(_) => {}
                Step::Decide(decision) => admission.set_decision(decision),
                Step::Wait(milliseconds) => now += Duration::from_millis(milliseconds.into()),
            }
            loop {
                let before = admission.running();
                let grant = admission.next(now);
                let expected = oracle.next(admission.decision(), now);
                prop_assert_eq!(grant.as_ref().map(|grant| (grant.id, grant.leave)), expected);
                let Some(grant) = grant else { break };
                let one = oracle.requests.iter().find(|one| one.id == grant.id).unwrap();
                let resolves = matches!(one.wish, Wish::Pieces { work: Work::Resolve, .. });
                bounds_hold(before, &admission, grant.leave, resolves);
                held.push(grant);
            }
            admission.note_deferrals(now);
            let waits = |one: &&Asked| !one.gone && !one.had;
            let waiting = || oracle.requests.iter().filter(waits);
            let transfers = waiting().filter(|one| one.wish == Wish::Download).count();
            let deferred: usize = admission.deferred().iter().map(|one| one.waiting).sum();
            prop_assert_eq!(deferred, waiting().count() - transfers);
            prop_assert_eq!(admission.has_waiting(), waiting().next().is_some());
            let seen = admission.transfers();
            prop_assert_eq!(seen.under_way, oracle.held(Leave::Download));
            prop_assert_eq!((seen.waiting, seen.why.is_some()), (transfers, transfers > 0));
            for one in &oracle.requests {
                prop_assert_eq!(admission.why(one.id).is_some(), waits(&one));
                // Nobody who waits for a transfer has none, while there are not as many as may be.
                let is_full = seen.under_way >= DOWNLOADS_ALL_MAX;
                let is_short = waits(&one) && one.wish == Wish::Download && !is_full;
                prop_assert!(!is_short || oracle.has_transfer(&one.order.requester));
            }
            prop_assert_eq!(admission.is_idle(), oracle.requests.iter().all(|one| one.gone && one.held.is_empty()));
        }
    }
}
