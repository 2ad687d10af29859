//! Answers that somebody may have already and that are not written down yet. They are told before they are written, so that nobody waits for
//! a disk; a process that ends waits for them, so that the next one knows without a network what an answer rested on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    count: Mutex<usize>,
    none: Condvar,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct One(Arc<Unwritten>);

impl Unwritten {
    /// To be called before anybody can have the answer.
    pub(crate) fn begin(self: &Arc<Self>) -> One {
        *self.lock() += 1;
        One(Arc::clone(self))
    }

    /// Waits until there is none, but not longer than this. Whether there is none.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let waited = self.none.wait_timeout_while(self.lock(), most, |count| *count > 0);
        let (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *count == 0
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        *count -= 1;
        if *count == 0 {
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
        assert!(unwritten.wait(Duration::ZERO));
        let (one, other) = (unwritten.begin(), unwritten.begin());
        assert!(!unwritten.wait(Duration::from_millis(1)));
        drop(one);
        assert!(!unwritten.wait(Duration::ZERO));
        let writer = std::thread::spawn(move || drop(other));
        assert!(unwritten.wait(Duration::from_secs(60)));
        writer.join().expect("an end");
    }
}
