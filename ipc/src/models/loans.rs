//! Loans: what is lent is not written before it was read, and its lender wakes when it comes back.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{model, returns};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::wait::loom_tests::Futex;
use crate::wait::{ON_FUTEX, Sleeper, must_wake};

const NUMBER: u64 = 1_024;

struct Shared {
    /// A byte of the pool.
    lent: UnsafeCell<u64>,
    /// In life a line of a ring.
    line: AtomicU64,
    word: AtomicU64,
    returned: AtomicU64,
    sleeping: AtomicU32,
    futex: Futex,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        lent: UnsafeCell::new(0),
        line: AtomicU64::new(0),
        word: AtomicU64::new(0),
        returned: AtomicU64::new(0),
        sleeping: AtomicU32::new(0),
        futex: Futex::new(),
    })
}

/// As `Lent::drop`.
fn give_back(shared: &Shared, number: u64) {
    returns::give_back(&shared.word, number);
    returns::count_return(&shared.returned);
    if must_wake(&shared.sleeping).is_some() {
        shared.futex.wake();
    }
}

#[test]
fn loom_lent_byte_is_written_again_only_after_it_was_read() {
    model(|| {
        let shared = shared();
        let borrower = thread::spawn({
            let shared = shared.clone();
            move || {
                while shared.line.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                // SAFETY: the model fails where this is not ordered.
                let read = shared.lent.with(|byte| unsafe { *byte });
                assert_eq!(read, 1);
                give_back(&shared, NUMBER);
            }
        });
        // SAFETY: as above.
        shared.lent.with_mut(|byte| unsafe { *byte = 1 });
        shared.line.store(1, Ordering::Release);
        // As `Pool::sleep` and the loop around it.
        let mut sleeper = Sleeper::default();
        while !returns::is_back(&shared.word, NUMBER) {
            sleeper.arm(&shared.sleeping, ON_FUTEX);
            let seen = returns::returns_seen(&shared.returned);
            if !returns::is_back(&shared.word, NUMBER) {
                shared.futex.sleep(&shared.returned, seen as u32);
            }
            sleeper.disarm(&shared.sleeping);
        }
        // SAFETY: as above.
        shared.lent.with_mut(|byte| unsafe { *byte = 2 });
        borrower.join().unwrap();
    });
}

/// Two loans of one place, which only a lender that lies can make: the later one stays.
#[test]
fn loom_later_return_of_a_place_is_not_undone() {
    model(|| {
        let shared = shared();
        let other = thread::spawn({
            let shared = shared.clone();
            move || give_back(&shared, NUMBER)
        });
        give_back(&shared, 2 * NUMBER);
        other.join().unwrap();
        assert!(returns::is_back(&shared.word, 2 * NUMBER));
        assert_eq!(returns::returns_seen(&shared.returned), 2);
    });
}
