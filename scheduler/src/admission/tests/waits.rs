//! Who waits for what: transfers that others hold up, and who is counted as waiting for a slot.

use super::*;

/// A transfer of `requester` begins and ends; whether it could.
fn fetches(admission: &mut Admission, requester: &str) -> bool {
    let id = admission.ask(&order(requester, 5), Wish::Download, START).unwrap();
    let grant = all(admission, START).into_iter().find(|grant| grant.id == id);
    let began = grant.is_some();
    grant.into_iter().for_each(|grant| admission.give_back(grant));
    admission.withdraw(id, START);
    began
}

#[test]
fn a_requester_whose_transfers_never_end_holds_up_only_its_own() {
    for state in State::ALL {
        let mut admission = Admission::new(decision(state, [1, 1, 0], true));
        // A registry that sends a byte now and then.
        for _ in 0..100 {
            admission.ask(&order("trickled", 10), Wish::Download, START).unwrap();
        }
        let _held = all(&mut admission, START);
        assert_eq!(admission.transfers().under_way, downloads_max(state));
        for _ in 0..50 {
            assert!(fetches(&mut admission, "other"), "{state:?}");
        }
        assert!(!fetches(&mut admission, "trickled"), "{state:?}");
    }
}

#[test]
fn what_a_requester_has_beyond_the_others_is_one_and_bounded_in_all() {
    let mut admission = Admission::new(decision(State::Optimal, [1, 1, 0], true));
    for _ in 0..DOWNLOADS_MAX {
        admission.ask(&order("first", 5), Wish::Download, START).unwrap();
    }
    let mut held = all(&mut admission, START);
    let mut owners: BTreeMap<Id, usize> = BTreeMap::new();
    for number in 0..DOWNLOADS_ALL_MAX {
        for _ in 0..2 {
            let order = order(&number.to_string(), 5);
            owners.insert(admission.ask(&order, Wish::Download, START).unwrap(), number);
        }
    }
    let others = all(&mut admission, START);
    let mut served: Vec<usize> = others.iter().map(|grant| owners[&grant.id]).collect();
    served.dedup();
    assert_eq!(served.len(), DOWNLOADS_ALL_MAX - DOWNLOADS_MAX, "one each, and no more than that");
    assert_eq!(served.len(), others.len());
    let waiting = 2 * DOWNLOADS_ALL_MAX - others.len();
    let why = Some(Reason::Slots);
    let under_way = DOWNLOADS_ALL_MAX;
    assert_eq!(admission.transfers(), Transfers { under_way, waiting, why });
    // The next that ends makes room for one that has none, and for nobody who has.
    admission.give_back(held.remove(0));
    let next = all(&mut admission, START);
    assert!(next.len() == 1 && !served.contains(&owners[&next[0].id]));
}

#[test]
fn who_has_some_gets_none_beyond_the_others() {
    let mut admission = Admission::new(decision(State::Optimal, [1, 1, 0], true));
    for requester in ["greedy", "modest"] {
        for _ in 0..100 {
            admission.ask(&order(requester, 5), Wish::Download, START).unwrap();
        }
    }
    let mut held = all(&mut admission, START);
    assert_eq!(held.len(), DOWNLOADS_MAX, "both have some, so none is beyond");
    for _ in 0..100 {
        admission.give_back(held.remove(0));
        held.extend(all(&mut admission, START));
        assert_eq!(held.len(), DOWNLOADS_MAX);
    }
}

#[test]
fn who_waits_for_a_transfer_can_be_told_why() {
    for (state, why) in [
        (State::Optimal, Reason::Slots),
        (State::Caution, Reason::Heat),
        (State::Throttle, Reason::Heat),
        (State::Blind, Reason::Blind),
    ] {
        let mut admission = Admission::new(decision(state, [1, 1, 0], true));
        let asked: Vec<Id> = (0..=DOWNLOADS_MAX)
            .map(|_| admission.ask(&order("a", 5), Wish::Download, START).unwrap())
            .collect();
        let _held = all(&mut admission, START);
        assert_eq!(admission.why(asked[0]), None, "it has begun");
        assert_eq!(admission.why(asked[DOWNLOADS_MAX]), Some(why), "{state:?}");
        assert_eq!(admission.transfers().why, Some(why));
    }
}

#[test]
fn only_who_could_use_a_slot_is_said_to_lack_one() {
    let warm = decision(State::Normal, [1, 1, 0], false);
    let mut admission = Admission::new(warm);
    // None of these would be helped by a slot: files, large work, background work.
    for _ in 0..2 * DOWNLOADS_MAX {
        admission.ask(&order("a", 5), Wish::Download, START).unwrap();
    }
    for wish in [Wish::Heavy, pieces(Work::Background, 1), pieces(Work::Background, 1)] {
        admission.ask(&order("a", 5), wish, START).unwrap();
    }
    let _held = all(&mut admission, START);
    assert!(admission.has_waiting() && !admission.lacks_slots(), "{:?}", admission.deferred());
    for _ in 0..3 {
        admission.ask(&order("a", 5), pieces(Work::Unpack, 1), START).unwrap();
    }
    let _held = all(&mut admission, START);
    assert!(admission.lacks_slots());
}

#[test]
fn a_wait_changes_its_reason_with_the_decision() {
    let mut admission = Admission::new(decision(State::Caution, [1, 0, 0], false));
    let unpack = pieces(Work::Unpack, 1);
    let ids = [0; 2].map(|_| admission.ask(&order("a", 5), unpack, START).unwrap());
    let _held = all(&mut admission, START);
    assert!(!admission.lacks_slots());
    let ten = Duration::from_secs(10);
    admission.set_decision(decision(State::Normal, [1, 0, 0], true));
    assert_eq!(all(&mut admission, ten), []);
    assert!(admission.lacks_slots());
    let [slots, heat] = [Reason::Slots, Reason::Heat].map(|it| admission.deferred()[it as usize]);
    assert_eq!((heat.waiting, heat.count, heat.time), (0, 1, ten));
    assert_eq!((slots.waiting, slots.count, slots.time), (1, 1, Duration::ZERO));
    for state in [State::Caution, State::Normal] {
        admission.set_decision(decision(state, [1, 0, 0], true));
        assert_eq!(all(&mut admission, 2 * ten), []);
    }
    let counts = [Reason::Slots, Reason::Heat].map(|it| admission.deferred()[it as usize].count);
    assert_eq!(counts, [1, 1], "one request that waited for both");
    admission.withdraw(ids[1], 3 * ten);
    assert_eq!(admission.deferred()[Reason::Slots as usize].time, 2 * ten);
    assert!(!admission.has_waiting());
}

#[test]
fn what_is_asked_for_again_is_one_more_only_for_what_it_did_not_wait_for_before() {
    let mut admission = Admission::new(decision(State::Throttle, [1, 0, 0], false));
    let counts = |admission: &Admission| {
        let of = |reason: Reason| admission.deferred()[reason as usize];
        [Reason::Heat, Reason::Blind].map(|reason| (of(reason).waiting, of(reason).count))
    };
    let first = admission.ask(&order("a", 5), Wish::Heavy, START).unwrap();
    assert_eq!(all(&mut admission, START), []);
    assert_eq!(counts(&admission), [(1, 1), (0, 0)]);
    admission.withdraw(first, START);
    let mut noted = [false; Reason::ALL.len()];
    noted[Reason::Heat as usize] = true;
    let again = Order { waited: Duration::from_secs(1), noted, ..order("a", 5) };
    admission.ask(&again, Wish::Heavy, START).unwrap();
    assert_eq!(all(&mut admission, START), []);
    assert_eq!(counts(&admission), [(1, 1), (0, 0)], "it waits, and is no one more");
    admission.set_decision(decision(State::Blind, [1, 0, 0], false));
    assert_eq!(all(&mut admission, START), []);
    assert_eq!(counts(&admission), [(0, 1), (1, 1)]);
}

#[test]
fn time_alone_lets_begin_only_what_was_put_off_long_enough() {
    let hot = decision(State::Throttle, [1, 0, 0], false);
    let mut admission = Admission::new(Decision { background: Background::Paused, ..hot });
    let second = Duration::from_secs(1);
    assert_eq!(admission.next_look(Duration::ZERO), None);
    let file = admission.ask(&order("a", 5), Wish::Download, second).unwrap();
    assert_eq!(admission.next_look(second), None, "files wait for others, never for time");
    admission.ask(&order("a", 5), Wish::Heavy, 3 * second).unwrap();
    let idle = pieces(Work::Background, 2);
    let background = admission.ask(&order("b", 5), idle, 2 * second).unwrap();
    assert_eq!(admission.next_look(3 * second), Some(DEFER_MAX + 2 * second));
    admission.withdraw(file, second);
    let due = DEFER_MAX + 2 * second;
    let grant = admission.next(due).unwrap();
    assert_eq!((grant.id, admission.next(due)), (background, None));
    // It has one of two, and another time to wait; the large change is due before.
    assert_eq!(admission.next_look(due), Some(DEFER_MAX + 3 * second));
    assert!(admission.next(due + second).is_some());
    assert_eq!(admission.next_look(due + second), Some(due + DEFER_MAX));
    admission.give_back(grant);
}
