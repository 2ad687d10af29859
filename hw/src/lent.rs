//! A closure lent to other threads for the length of one call, so that long-lived workers can run what borrows from the caller's stack.
//!
//! It stands here because only `ipc` and this crate may hold unsafe code; who runs what where is the matter of `scheduler`.
//!
//! The rule that makes it sound, and that depends on nobody else: the closure is only touched inside [`Loan::call`], which counts itself
//! in under the lock and refuses once the loan has ended; [`lend`] ends the loan under the same lock and then waits until nobody is
//! counted in. It does so when its own body panics, too.
#![allow(unsafe_code, reason = "a lifetime that the compiler cannot see is held by counting")]

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Body = dyn Fn(usize) + Sync;

/// The right to call a closure of somebody else, for as long as it is lent.
#[derive(Debug)]
pub struct Loan {
    body: Pointer,
    held: Mutex<Held>,
    returned: Condvar,
}

#[derive(Debug)]
struct Held {
    ended: bool,
    callers: usize,
}

#[derive(Debug)]
struct Pointer(*const Body);

// SAFETY: what it points to is `Sync`, and is only used as a shared reference, by the rule above while it lives.
unsafe impl Send for Pointer {}
// SAFETY: as above; the pointer itself never changes.
unsafe impl Sync for Pointer {}

/// Lends `body` while `with` runs, and returns when `with` has and nobody is inside of `body` any more.
pub fn lend<R>(body: &(dyn Fn(usize) + Sync), with: impl FnOnce(&Arc<Loan>) -> R) -> R {
    let body: *const (dyn Fn(usize) + Sync + '_) = body;
    // SAFETY: only the lifetime changes; both are pointers to the same trait object. Nobody follows it after `body` ends: see the rule.
    let body =
        unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Body>(body) };
    let loan = Arc::new(Loan {
        body: Pointer(body),
        held: Mutex::new(Held { ended: false, callers: 0 }),
        returned: Condvar::new(),
    });
    let _ending = Ending(&loan);
    with(&loan)
}

/// Takes the closure back, whether its borrower returns or panics.
struct Ending<'a>(&'a Loan);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut held = self.0.lock();
        held.ended = true;
        while held.callers > 0 {
            held = self.0.returned.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Loan {
    /// Calls the closure with `index`; false where it was taken back already. A panic inside goes on to the caller of this.
    pub fn call(&self, index: usize) -> bool {
        let mut held = self.lock();
        if held.ended {
            return false;
        }
        held.callers += 1;
        drop(held);
        let _inside = Inside(self);
        // SAFETY: this call is counted in, so `lend` has not returned and does not before `_inside` is dropped; the closure lives.
        let body = unsafe { &*self.body.0 };
        body(index);
        true
    }

    /// Two plain values, whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a caller out, whether it returns or panics.
struct Inside<'a>(&'a Loan);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut held = self.0.lock();
        held.callers -= 1;
        if held.callers == 0 && held.ended {
            self.0.returned.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    use super::lend;

    #[test]
    fn the_lender_waits_for_whoever_is_inside() {
        let sum = AtomicUsize::new(0);
        let (inside, go) = (Barrier::new(2), Barrier::new(2));
        let body = |index: usize| {
            inside.wait();
            go.wait();
            sum.fetch_add(index, Ordering::SeqCst);
        };
        let thread = lend(&body, |loan| {
            let loan = Arc::clone(loan);
            let thread = std::thread::spawn(move || loan.call(7));
            inside.wait();
            std::thread::scope(|scope| drop(scope.spawn(|| go.wait())));
            thread
        });
        assert_eq!(sum.load(Ordering::SeqCst), 7);
        assert!(thread.join().unwrap());
    }

    #[test]
    fn a_closure_that_was_taken_back_is_not_called() {
        let called = AtomicUsize::new(0);
        let count = |_: usize| {
            called.fetch_add(1, Ordering::SeqCst);
        };
        let loan = lend(&count, Arc::clone);
        assert!(!loan.call(0));
        assert_eq!(called.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_panic_of_either_side_ends_the_loan() {
        let nothing = |_: usize| {};
        let mut kept = None;
        let lender = catch_unwind(AssertUnwindSafe(|| {
            lend(&nothing, |loan| {
                kept = Some(Arc::clone(loan));
                panic!("the lender's");
            })
        }));
        assert!(lender.is_err() && !kept.unwrap().call(0));
        let broken = |_: usize| panic!("the borrower's");
        lend(&broken, |loan| {
            assert!(catch_unwind(AssertUnwindSafe(|| loan.call(0))).is_err());
        });
    }
}
