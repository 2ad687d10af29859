//! Who waits for leave sleeps until there is something to see.

use std::any::Any;
use std::time::{Duration, Instant};

use super::super::{Wake, Wanted};
use super::*;
use crate::limits::WANTED_INTERVAL;

/// Something that is wanted until it is called off, which whoever listens hears.
#[derive(Default)]
struct Told {
    is_called_off: AtomicBool,
    looks: AtomicUsize,
    wakes: Mutex<Vec<Wake>>,
}

impl Wanted for Told {
    fn is_wanted(&self) -> bool {
        self.looks.fetch_add(1, Ordering::SeqCst);
        !self.is_called_off.load(Ordering::SeqCst)
    }

    fn listen(&self, wake: Wake) -> Option<Box<dyn Any>> {
        self.wakes.lock().unwrap().push(wake);
        Some(Box::new(()))
    }
}

impl Told {
    fn call_off(&self) {
        self.is_called_off.store(true, Ordering::SeqCst);
        self.wakes.lock().unwrap().iter().for_each(|wake| wake());
    }
}

fn hot() -> Decision {
    Decision { heavy: false, ..decision(State::Caution, [1, 0, 0]) }
}

#[test]
fn many_who_wait_long_and_are_told_do_not_look_again_and_again() {
    const WAITING: usize = 16;
    let (pools, wanted) = (&Pools::new(hot(), alike()), &Told::default());
    let all_wait = &Barrier::new(WAITING + 1);
    let waits = |_| {
        all_wait.wait();
    };
    let begin = || pools.begin(&order("a"), Undertaking::Heavy, wanted, &waits).is_some();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..WAITING).map(|_| scope.spawn(begin)).collect();
        all_wait.wait();
        let before = wanted.looks.load(Ordering::SeqCst);
        // What does not concern them: pieces of others, for a while. The time is what is looked for here.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(500) {
            pools.run((&order("b"), Work::Resolve), 1, ALWAYS, &|_| std::thread::yield_now());
        }
        let each = 1 + began.elapsed().as_secs() as usize / WANTED_INTERVAL.as_secs() as usize;
        // One look of each after it was told, and those of the long interval.
        let looks = wanted.looks.load(Ordering::SeqCst) - before;
        wanted.call_off();
        assert!(waiters.into_iter().all(|waiter| !waiter.join().unwrap()));
        assert!(looks <= WAITING * each, "{looks} looks in {:?}", began.elapsed());
    });
    assert!(pools.is_idle());
}

#[test]
fn who_is_told_that_nothing_is_wanted_any_more_leaves_and_who_is_not_goes_on() {
    let (pools, one, other) = (&Pools::new(hot(), alike()), &Told::default(), &Told::default());
    let both_wait = &Barrier::new(3);
    let waits = |_| {
        both_wait.wait();
    };
    let begin = |told: &Told| pools.begin(&order("a"), Undertaking::Heavy, told, &waits);
    std::thread::scope(|scope| {
        let (left, stays) = (scope.spawn(|| begin(one)), scope.spawn(|| begin(other)));
        both_wait.wait();
        one.call_off();
        assert!(left.join().unwrap().is_none());
        let waiting = pools.report().deferred[Reason::Heat as usize].waiting;
        pools.set_decision(decision(State::Normal, [1, 0, 0]));
        assert!(stays.join().unwrap().is_some());
        assert_eq!(waiting, 1);
    });
    assert!(pools.is_idle());
}

#[test]
fn a_wake_of_pools_that_are_gone_does_nothing() {
    let told = Told::default();
    let pools = Pools::new(hot(), alike());
    let waits = |_| told.call_off();
    assert!(pools.begin(&order("a"), Undertaking::Heavy, &told, &waits).is_none());
    drop(pools);
    told.call_off();
}
