//! What a piece of work says to its host before it blocks for somebody else: a registry, not a lock.
//!
//! A piece holds the leave of its host to compute. While it only waits, others can have that leave; whoever made the piece knows how to
//! give it back and to get another one ([`Waiter`]), and whoever waits deep inside of it knows nothing of hosts. The thread carries the
//! one to the other.

use std::cell::Cell;

use crate::Cancellation;

/// Calls the closure once, on the same thread, after it has given the leave back; returns once there is leave again, or where the work
/// is not wanted any more.
pub type Waiter = fn(&Cancellation, &mut dyn FnMut());

thread_local! {
    static WAITER: Cell<Option<Waiter>> = const { Cell::new(None) };
}

/// Runs `wait`, which blocks for an answer from elsewhere, without holding up others who could compute meanwhile. Afterwards this may
/// block again for leave to go on. Outside of a host's piece, and within another wait, it only calls `wait`.
///
/// Where the work was cancelled meanwhile there may be no leave: the caller looks, and ends.
pub fn waiting<T>(cancellation: &Cancellation, wait: impl FnOnce() -> T) -> T {
    let Some(waiter) = WAITER.get() else { return wait() };
    let _plain = Restored::after(None);
    let (mut wait, mut got) = (Some(wait), None);
    waiter(cancellation, &mut || {
        if let Some(wait) = wait.take() {
            got = Some(wait());
        }
    });
    got.expect("a waiter calls what it was given")
}

/// For hosts: runs `piece` so that what waits inside of it does so by `waiter`.
pub fn with_waiter(waiter: Waiter, piece: impl FnOnce()) {
    let _restored = Restored::after(Some(waiter));
    piece();
}

/// Puts the earlier waiter back, whether what runs meanwhile returns or panics.
struct Restored(Option<Waiter>);

impl Restored {
    fn after(waiter: Option<Waiter>) -> Self {
        Self(WAITER.replace(waiter))
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        WAITER.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_wait_goes_through_the_waiter_of_its_thread_once_and_plainly_without_one() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        fn waiter(_: &Cancellation, wait: &mut dyn FnMut()) {
            CALLS.fetch_add(1, Ordering::Relaxed);
            wait();
        }
        let ask = || waiting(Cancellation::NEVER, || waiting(Cancellation::NEVER, || 7));
        assert_eq!((ask(), CALLS.load(Ordering::Relaxed)), (7, 0));
        with_waiter(waiter, || assert_eq!(ask(), 7));
        assert_eq!(CALLS.load(Ordering::Relaxed), 1, "a wait within a wait is plain");
        let broken = || waiting(Cancellation::NEVER, || panic!("the wait's"));
        let ran = catch_unwind(AssertUnwindSafe(|| with_waiter(waiter, broken)));
        assert!(ran.is_err());
        assert_eq!((ask(), CALLS.load(Ordering::Relaxed)), (7, 2), "nothing is left behind");
    }
}
