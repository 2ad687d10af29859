//! The places of answers that go on after they have waited for a cooler machine: few at once, and who asked first goes first.
//!
//! When it cools, all of them may begin in the same moment. They have places of their own, so that neither the work of many comes at
//! once nor a change that waited for nothing waits for them. The order is that of their longest waits for heat, so nobody stands behind one
//! whom heat may hold up for longer; and nobody keeps a place while it does (`answer`).

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use agents_contract::{Cancellation, Wake};

use crate::limits::{WATCH_LOOK_INTERVAL, WATCH_RESUMED_AT_ONCE_MAX};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    last: u64,
    /// Those that wait, the next one first.
    waiting: BTreeSet<Rank>,
}

/// When it was first asked for, and which came first of those that asked in one moment.
type Rank = (Instant, u64);

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

/// A rank among those that wait.
struct Queued<'a> {
    turns: &'a Turns,
    rank: Rank,
}

impl Turns {
    /// Takes a place for what was first asked for at `asked_at`; nothing where it is not wanted any more. Where it has to wait, `waits` is
    /// called first.
    pub(super) fn take(
        self: &Arc<Self>,
        (wanted, asked_at): (&Cancellation, Instant),
        waits: impl FnOnce(),
    ) -> Option<Turn> {
        let mut state = self.lock();
        state.last += 1;
        let queued = Queued { turns: self, rank: (asked_at, state.last) };
        state.waiting.insert(queued.rank);
        let at_once = self.try_take(&mut state, &queued);
        // What is queued leaves with the lock free.
        drop(state);
        if at_once.is_some() {
            return at_once;
        }
        let turns = Arc::clone(self);
        let wake: Wake = Arc::new(move || {
            // Who has looked and not seen it sleeps once the lock is free.
            drop(turns.lock());
            turns.changed.notify_all();
        });
        let _listening = wanted.listen(&wake);
        waits();
        let mut state = self.lock();
        loop {
            if wanted.is_cancelled() {
                drop(state);
                return None;
            }
            if let Some(turn) = self.try_take(&mut state, &queued) {
                drop(state);
                return Some(turn);
            }
            let pause = wanted.left().unwrap_or(WATCH_LOOK_INTERVAL).min(WATCH_LOOK_INTERVAL);
            let waited = self.changed.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn try_take(self: &Arc<Self>, state: &mut State, queued: &Queued<'_>) -> Option<Turn> {
        let is_next = state.waiting.first() == Some(&queued.rank);
        if !is_next || state.held >= WATCH_RESUMED_AT_ONCE_MAX {
            return None;
        }
        state.waiting.remove(&queued.rank);
        state.held += 1;
        Some(Turn(Arc::clone(self)))
    }

    /// Numbers, whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.turns.lock().waiting.remove(&self.rank);
        // The next one may be first now, and there may be a place.
        self.turns.changed.notify_all();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn few_go_on_at_once_in_the_order_in_which_they_asked_first() {
        let (turns, wanted) = (Arc::new(Turns::default()), Cancellation::NEVER);
        let now = Instant::now();
        let at_once = || turns.take((wanted, now), || panic!("there is a place"));
        let mut held: Vec<_> = (0..WATCH_RESUMED_AT_ONCE_MAX).map(|_| at_once()).collect();
        let (waits, waiting) = channel();
        let (began, order) = channel();
        std::thread::scope(|scope| {
            let mut waiters = Vec::new();
            // By the seconds since it was first asked for; those of one moment by when they came.
            let asked = [3, 9, 0, 5, 5, 1, 7, 5];
            for (number, seconds) in asked.into_iter().enumerate() {
                let (waits, began, turns) = (waits.clone(), began.clone(), &turns);
                let asked_at = now - Duration::from_secs(seconds);
                let waiter = scope.spawn(move || {
                    let turn = turns.take((wanted, asked_at), || waits.send(()).unwrap());
                    began.send(number).unwrap();
                    turn
                });
                waiters.push(Some(waiter));
                // The next one comes after it.
                waiting.recv().unwrap();
            }
            assert!(order.try_recv().is_err(), "nobody has a place yet");
            for number in [1, 6, 3, 4, 7, 0, 5, 2] {
                // One place becomes free, and one of them takes it.
                drop(held.remove(0));
                assert_eq!(order.recv().unwrap(), number);
                assert!(order.try_recv().is_err());
                held.push(waiters[number].take().unwrap().join().unwrap());
            }
        });
    }

    #[test]
    fn who_is_not_wanted_any_more_waits_no_longer_and_holds_up_nobody() {
        let turns = Arc::new(Turns::default());
        let now = Instant::now();
        let take = |wanted: &Cancellation, waits: &dyn Fn()| turns.take((wanted, now), waits);
        let mut held: Vec<_> = (0..WATCH_RESUMED_AT_ONCE_MAX)
            .map(|_| take(Cancellation::NEVER, &|| ()).unwrap())
            .collect();
        let given_up = Cancellation::until(None);
        assert!(take(&given_up, &|| given_up.cancel()).is_none());
        // One in front of others, that is told while it waits.
        let (first, waits) = (Cancellation::until(None), channel());
        std::thread::scope(|scope| {
            let tell = |sender: std::sync::mpsc::Sender<()>| move || sender.send(()).unwrap();
            let (turns, first) = (&turns, &first);
            let told = tell(waits.0.clone());
            let cancelled = scope.spawn(move || turns.take((first, now), told).is_none());
            waits.1.recv().unwrap();
            let told = tell(waits.0.clone());
            let next = (Cancellation::NEVER, now);
            let next = scope.spawn(move || turns.take(next, told).is_some());
            waits.1.recv().unwrap();
            first.cancel();
            assert!(cancelled.join().unwrap());
            held.pop();
            assert!(next.join().unwrap());
        });
        drop(held);
        let state = turns.lock();
        assert_eq!((state.held, state.waiting.len()), (0, 0));
    }

    #[test]
    fn a_panic_while_it_waits_leaves_nothing_behind() {
        let turns = Arc::new(Turns::default());
        let now = Instant::now();
        let take = |waits: &dyn Fn()| turns.take((Cancellation::NEVER, now), waits);
        let held: Vec<_> = (0..WATCH_RESUMED_AT_ONCE_MAX).map(|_| take(&|| ())).collect();
        let broken = std::panic::AssertUnwindSafe(|| take(&|| panic!("the note's")).is_some());
        assert!(std::panic::catch_unwind(broken).is_err());
        drop(held);
        assert!(take(&|| panic!("there is a place")).is_some());
    }
}
