//! Pieces that wait for answers from elsewhere, without leave meanwhile.

use super::super::waiting;
use super::*;
use crate::limits::AWAY_MAX;

#[test]
fn a_piece_that_waits_lets_another_compute_and_goes_on_afterwards() {
    let pools = &Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let (asked, answered) = (&Barrier::new(2), &Barrier::new(2));
    let went_on = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let piece = |_: usize| {
                waiting(&ALWAYS, || {
                    asked.wait();
                    answered.wait();
                });
                assert_eq!(pools.report().running, [1, 0, 0, 0]);
                went_on.store(true, Ordering::SeqCst);
            };
            pools.run((&order("waiter"), Work::Resolve), 1, ALWAYS, &piece);
        });
        asked.wait();
        assert_eq!(pools.report().running, [0; 4], "what waits does not heat");
        assert!(!pools.is_idle(), "somebody has to look at the machine until it is done");
        // Ends only because the one slot is free.
        pools.run((&order("other"), Work::Unpack), 1, ALWAYS, &|_| {
            assert_eq!(pools.report().running, [1, 0, 0, 0]);
            assert!(!went_on.load(Ordering::SeqCst));
        });
        answered.wait();
    });
    assert!(went_on.into_inner() && pools.is_idle());
}

#[test]
fn who_comes_back_waits_until_there_is_room() {
    let pools = &Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let (asked, answered, computing) = (&Barrier::new(2), &Barrier::new(2), &Barrier::new(2));
    let went_on = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let piece = |_: usize| {
                waiting(&ALWAYS, || {
                    asked.wait();
                    answered.wait();
                });
                went_on.store(true, Ordering::SeqCst);
            };
            pools.run((&order("waiter"), Work::Resolve), 1, ALWAYS, &piece);
        });
        asked.wait();
        scope.spawn(|| {
            // A resolution, since one of these may always exceed the slots.
            let piece = |_: usize| {
                computing.wait();
                while !pools.has_waiting() {
                    std::thread::yield_now();
                }
                assert!(!went_on.load(Ordering::SeqCst), "two at once");
            };
            pools.run((&order("other"), Work::Resolve), 1, ALWAYS, &piece);
        });
        computing.wait();
        answered.wait();
    });
    assert!(went_on.load(Ordering::SeqCst));
    assert_eq!(pools.report().deferred[Reason::Slots as usize].count, 1);
}

#[test]
fn however_many_wait_never_more_compute_than_may_and_all_come_back() {
    let pools = &Pools::new(decision(State::Off, [2, 0, 0]), alike());
    let (computing, peak, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let piece = |_: usize| {
        let enter = || {
            let now = computing.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(now, Ordering::SeqCst);
            std::thread::yield_now();
        };
        enter();
        for _ in 0..20 {
            computing.fetch_sub(1, Ordering::SeqCst);
            // A wait within a wait is plain, and so is work.
            waiting(&ALWAYS, || {
                waiting(&ALWAYS, std::thread::yield_now);
                pools.run((&order("inner"), Work::Resolve), 1, ALWAYS, &|_| {});
            });
            enter();
        }
        computing.fetch_sub(1, Ordering::SeqCst);
        done.fetch_add(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        // More than a lane has threads for slots.
        for number in 0..30 {
            let piece = &piece;
            let order = order(&(number % 7).to_string());
            scope.spawn(move || pools.run((&order, Work::Resolve), 3, ALWAYS, piece));
        }
    });
    assert_eq!((done.into_inner(), computing.into_inner()), (90, 0));
    assert!((1..=2).contains(&peak.into_inner()));
    while !pools.is_idle() {
        std::thread::yield_now();
    }
    assert_eq!(pools.report().running, [0; 4]);
}

#[test]
fn as_many_as_may_be_away_can_wait_at_once_and_one_more_keeps_its_leave() {
    let pools = &Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let (away, answered) = (&Barrier::new(AWAY_MAX + 1), &Barrier::new(AWAY_MAX + 1));
    let answer = || {
        away.wait();
        answered.wait();
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let piece = |_: usize| waiting(&ALWAYS, answer);
            pools.run((&order("many"), Work::Background), AWAY_MAX, ALWAYS, &piece);
        });
        away.wait();
        assert_eq!(pools.report().running, [0; 4]);
        let look = |_: usize| {
            waiting(&ALWAYS, || assert_eq!(pools.report().running, [0, 0, 0, 1]));
        };
        pools.run((&order("one more"), Work::Background), 1, ALWAYS, &look);
        answered.wait();
    });
}

#[test]
fn who_is_cancelled_while_coming_back_ends_without_leave() {
    let pools = &Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let (asked, answered, holding) = (&Barrier::new(2), &Barrier::new(2), &Barrier::new(2));
    let (wanted, ended) = (&AtomicBool::new(true), &AtomicUsize::new(0));
    let is_wanted = &|| wanted.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let piece = |_: usize| {
                waiting(is_wanted, || {
                    asked.wait();
                    answered.wait();
                });
                // Plain now: there is nothing to give back.
                waiting(is_wanted, || assert_eq!(pools.report().running, [1, 0, 0, 0]));
                ended.fetch_add(1, Ordering::SeqCst);
            };
            pools.run((&order("waiter"), Work::Resolve), 1, is_wanted, &piece);
        });
        asked.wait();
        let holder = scope.spawn(|| {
            let piece = |_: usize| {
                holding.wait();
                while ended.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
            };
            pools.run((&order("holder"), Work::Resolve), 1, ALWAYS, &piece);
        });
        holding.wait();
        answered.wait();
        while !pools.has_waiting() {
            std::thread::yield_now();
        }
        wanted.store(false, Ordering::SeqCst);
        waiter.join().unwrap();
        holder.join().unwrap();
    });
    while !pools.is_idle() {
        std::thread::yield_now();
    }
    assert_eq!(pools.report().running, [0; 4]);
    pools.run((&order("later"), Work::Resolve), 3, ALWAYS, &|_| {});
}

#[test]
fn a_panic_while_away_leaves_nothing_behind() {
    let pools = Pools::new(decision(State::Off, [1, 0, 0]), alike());
    let broken = |_: usize| waiting(&ALWAYS, || panic!("the wait's"));
    let ran = catch_unwind(AssertUnwindSafe(|| {
        pools.run((&order("a"), Work::Resolve), 2, ALWAYS, &broken);
    }));
    assert!(ran.is_err());
    while !pools.is_idle() {
        std::thread::yield_now();
    }
    assert_eq!(pools.report().running, [0; 4]);
    assert_eq!(waiting(&ALWAYS, || 7), 7, "a thread that runs no piece only waits");
}
