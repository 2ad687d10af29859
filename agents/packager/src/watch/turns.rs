//! The places of answers that go on after they have waited for a cooler machine: few at once, first come first served.
//!
//! When it cools, all of them may begin in the same moment. They have places of their own, so that neither the work of many comes at
//! once nor a change that waited for nothing waits for them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
    /// The numbers of those that wait.
    waiting: VecDeque<u64>,
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

/// A number among those that wait.
struct Queued<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Turns {
    /// Takes a place; nothing where it is not wanted any more. Where it has to wait, `waits` is called first.
    pub(super) fn take(
        self: &Arc<Self>,
        wanted: &Cancellation,
        waits: impl FnOnce(),
    ) -> Option<Turn> {
        let mut state = self.lock();
        state.last += 1;
        let queued = Queued { turns: self, number: state.last };
        state.waiting.push_back(queued.number);
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
        let is_next = state.waiting.front() == Some(&queued.number);
        if !is_next || state.held >= WATCH_RESUMED_AT_ONCE_MAX {
            return None;
        }
        state.waiting.pop_front();
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
        self.turns.lock().waiting.retain(|number| *number != self.number);
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

    use super::*;

    #[test]
    fn few_go_on_at_once_in_the_order_in_which_they_came() {
        let (turns, wanted) = (Arc::new(Turns::default()), Cancellation::NEVER);
        let at_once = || turns.take(wanted, || panic!("there is a place"));
        let mut held: Vec<_> = (0..WATCH_RESUMED_AT_ONCE_MAX).map(|_| at_once()).collect();
        let (waits, waiting) = channel();
        let (began, order) = channel();
        std::thread::scope(|scope| {
            let mut waiters = Vec::new();
            for number in 0..8 {
                let (waits, began, turns) = (waits.clone(), began.clone(), &turns);
                waiters.push(scope.spawn(move || {
                    let turn = turns.take(wanted, || waits.send(()).unwrap());
                    began.send(number).unwrap();
                    turn
                }));
                // The next one comes after it.
                waiting.recv().unwrap();
            }
            assert!(order.try_recv().is_err(), "nobody has a place yet");
            for (number, waiter) in waiters.into_iter().enumerate() {
                // One place becomes free, and one of them takes it.
                drop(held.remove(0));
                assert_eq!(order.recv().unwrap(), number);
                assert!(order.try_recv().is_err());
                held.push(waiter.join().unwrap());
            }
        });
    }

    #[test]
    fn who_is_not_wanted_any_more_waits_no_longer_and_holds_up_nobody() {
        let turns = Arc::new(Turns::default());
        let take = |wanted: &Cancellation, waits: &dyn Fn()| turns.take(wanted, waits);
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
            let cancelled = scope.spawn(move || turns.take(first, told).is_none());
            waits.1.recv().unwrap();
            let told = tell(waits.0.clone());
            let next = scope.spawn(move || turns.take(Cancellation::NEVER, told).is_some());
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
        let take = |waits: &dyn Fn()| turns.take(Cancellation::NEVER, waits);
        let held: Vec<_> = (0..WATCH_RESUMED_AT_ONCE_MAX).map(|_| take(&|| ())).collect();
        let broken = std::panic::AssertUnwindSafe(|| take(&|| panic!("the note's")).is_some());
        assert!(std::panic::catch_unwind(broken).is_err());
        drop(held);
        assert!(take(&|| panic!("there is a place")).is_some());
    }
}
