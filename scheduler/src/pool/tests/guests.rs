//! Threads of others that do work of the pools' kinds, and what somebody who waits is told.

use super::*;

/// A thread of nobody's pools that settles for such work, and then does what it is told to.
fn settled<R>(pools: &Pools, work: Work, then: impl FnOnce(Thread) -> R + Send) -> R
where
    R: Send,
{
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let _guest = pools.settle(work);
            then(Thread::current())
        });
        guest.join().unwrap()
    })
}

#[test]
fn a_guest_is_where_the_workers_are_and_moves_with_them() {
    let Some([first, last, allowed]) = two_classes() else { return };
    let strict = machine(&first, &last, &allowed);
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), strict.clone());
    settled(&pools, Work::Unpack, |guest| {
        assert_eq!(guest.cpus(), Some(last.clone()));
        pools.set_machine(machine(&last, &first, &allowed));
        assert_eq!(guest.cpus(), Some(first.clone()));
        pools.set_machine(Machine { allowed: last.clone(), ..strict.clone() });
        assert_eq!(guest.cpus(), Some(last.clone()), "what is allowed now");
        pools.set_machine(strict.clone());
        assert_eq!(guest.cpus(), Some(last.clone()));
    });
    assert_eq!(pools.report().workers, [0; 4], "it is no worker");
    settled(&pools, Work::Resolve, |guest| assert_eq!(guest.cpus(), Some(first)));
}

#[test]
fn a_guest_that_left_is_left_alone() {
    let Some([first, last, allowed]) = two_classes() else { return };
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), machine(&first, &last, &allowed));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(pools.settle(Work::Unpack));
            let here = Thread::current();
            here.pin(&allowed).unwrap();
            pools.set_machine(machine(&last, &first, &allowed));
            assert_eq!(here.cpus(), Some(allowed.clone()));
        });
    });
}

#[test]
fn pinning_that_is_switched_off_lets_everybody_go_and_holds_them_again() {
    let Some([first, last, allowed]) = two_classes() else { return };
    let strict = machine(&first, &last, &allowed);
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), strict.clone());
    let (worker, ..) = seen(&pools, Work::Resolve).remove(0);
    settled(&pools, Work::Unpack, |guest| {
        pools.set_machine(Machine { pinning: Pinning::Off, ..strict.clone() });
        assert_eq!([worker.cpus(), guest.cpus()], [Some(allowed.clone()), Some(allowed)]);
        pools.set_machine(strict);
        assert_eq!([worker.cpus(), guest.cpus()], [Some(first), Some(last)]);
    });
}

#[test]
fn a_guest_runs_a_ticket_of_its_lane_itself_and_no_other() {
    let Some([first, last, allowed]) = two_classes() else { return };
    let pools = Pools::new(decision(State::Off, [1, 1, 0]), machine(&first, &last, &allowed));
    settled(&pools, Work::Unpack, |guest| {
        assert_eq!(seen(&pools, Work::Unpack)[0].0, guest);
        assert_eq!(pools.report().workers, [0; 4]);
        assert_ne!(seen(&pools, Work::Resolve)[0].0, guest);
    });
}

#[test]
fn whoever_has_to_wait_is_told_why_once() {
    let hot = Decision { heavy: false, ..decision(State::Caution, [1, 0, 0]) };
    let pools = Pools::new(hot, alike());
    let told = Mutex::new(Vec::new());
    let waits = |reason| {
        told.lock().unwrap().push(reason);
        // Without the lock of the pools: whoever is told may do anything.
        pools.set_decision(Decision { heavy: true, ..hot });
    };
    assert!(pools.begin(&order("a"), Undertaking::Heavy, &ALWAYS, &waits).is_some());
    assert!(pools.begin(&order("a"), Undertaking::Heavy, &ALWAYS, &waits).is_some());
    assert_eq!(told.into_inner().unwrap(), [Reason::Heat], "the second did not wait");
}

#[test]
fn whoever_waits_is_told_when_it_is_for_something_else() {
    let hot = Decision { heavy: false, ..decision(State::Caution, [1, 0, 0]) };
    let pools = Pools::new(hot, alike());
    let told = Mutex::new(Vec::new());
    let waits = |reason| {
        told.lock().unwrap().push(reason);
        // The sensor is lost while it is hot; then all is well.
        let blind = Decision { state: State::Blind, ..hot };
        let now = if reason == Reason::Heat { blind } else { Decision { heavy: true, ..hot } };
        pools.set_decision(now);
    };
    assert!(pools.begin(&order("a"), Undertaking::Heavy, &ALWAYS, &waits).is_some());
    assert_eq!(told.into_inner().unwrap(), [Reason::Heat, Reason::Blind]);
}

#[test]
fn who_is_told_and_panics_waits_no_more() {
    let hot = Decision { heavy: false, ..decision(State::Caution, [1, 0, 0]) };
    let pools = Pools::new(hot, alike());
    for allowed_meanwhile in [false, true] {
        pools.set_decision(hot);
        let waits = |_| {
            pools.set_decision(Decision { heavy: allowed_meanwhile, ..hot });
            panic!("the caller's own");
        };
        let begin = || pools.begin(&order("a"), Undertaking::Heavy, &ALWAYS, &waits).is_some();
        assert!(catch_unwind(AssertUnwindSafe(begin)).is_err());
        assert!(pools.is_idle() && !pools.has_waiting());
    }
}
