//! Answers that somebody may have already and that are not written down yet. They are told before they are written, so that nobody waits for
//! a disk; a process that ends waits for them, so that the next one knows without a network what an answer rested on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    state: Mutex<State>,
    none: Condvar,
}

#[derive(Debug, Default)]
struct State {
    count: usize,
    is_ending: bool,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct One(Arc<Unwritten>);

impl Unwritten {
    /// To be called before anybody can have the answer. Nothing where nobody will have it, because this process ends.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<One> {
        let mut state = self.lock();
        if state.is_ending {
            return None;
        }
        state.count += 1;
        Some(One(Arc::clone(self)))
    }

    /// Whether nobody is told anything any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.lock().is_ending
    }

    /// Waits until there is none, but not longer than this, and has no others begin. Whether there is none.
    pub(crate) fn end(&self, most: Duration) -> bool {
        let mut state = self.lock();
        state.is_ending = true;
        let waited = self.none.wait_timeout_while(state, most, |state| state.count > 0);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.count == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.count -= 1;
        if state.count == 0 {
            self.0.none.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_waits_for_all_that_is_unwritten_and_not_for_ever() {
        let unwritten = Arc::<Unwritten>::default();
        let (one, other) = (unwritten.begin(), unwritten.begin());
        assert!(!unwritten.is_ending());
        assert!(!unwritten.end(Duration::from_millis(1)));
        drop(one);
        assert!(!unwritten.end(Duration::ZERO));
        let writer = std::thread::spawn(move || drop(other));
        assert!(unwritten.end(Duration::from_secs(60)));
        writer.join().expect("an end");
    }

    #[test]
    fn nobody_waits_for_what_comes_when_the_process_ends() {
        let unwritten = Arc::<Unwritten>::default();
        let one = unwritten.begin();
        assert!(!unwritten.end(Duration::ZERO));
        assert!(unwritten.begin().is_none() && unwritten.is_ending());
        drop(one);
        assert!(unwritten.end(Duration::ZERO));
    }
}
