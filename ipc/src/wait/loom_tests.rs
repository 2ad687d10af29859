//! Every interleaving of a sleeper and a mover: no wake-up is lost.
//!
//! The kernel's futex is modelled as what it is: a comparison and a queue under one lock.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::*;
use crate::sync::AtomicU64;

pub(crate) struct Futex {
    queue: Mutex<u32>,
    changed: Condvar,
}

impl Futex {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::new(0), changed: Condvar::new() }
    }

    /// Sleeps unless the word has changed; a wake-up after the comparison is never missed, one before it is no use.
    pub(crate) fn sleep(&self, word: &AtomicU64, seen: u32) {
        let mut wakes = self.queue.lock().unwrap();
        let before = *wakes;
        if word.load(Ordering::Relaxed) as u32 != seen {
            return;
        }
        while *wakes == before {
            wakes = self.changed.wait(wakes).unwrap();
        }
    }

    pub(crate) fn wake(&self) {
        *self.queue.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

struct Shared {
    moving: AtomicU64,
    sleeping: AtomicU32,
    futex: Futex,
    bell: AtomicU32,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        moving: AtomicU64::new(0),
        sleeping: AtomicU32::new(0),
        futex: Futex::new(),
        bell: AtomicU32::new(0),
    })
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn sleep_until(shared: &Shared, target: u64) {
    let mut sleeper = Sleeper::default();
    while shared.moving.load(Ordering::Acquire) < target {
        sleeper.arm(&shared.sleeping, ON_FUTEX);
        let seen = shared.moving.load(Ordering::Acquire) as u32;
        if u64::from(seen) < target {
            shared.futex.sleep(&shared.moving, seen);
        }
        sleeper.disarm(&shared.sleeping);
    }
}

/// A lost wake-up is a deadlock, and loom reports one.
#[test]
fn loom_sleeper_on_a_futex_always_wakes() {
    model(|| {
        let shared = shared();
        let mover = thread::spawn({
            let shared = shared.clone();
            move || {
                for value in 1..=2 {
                    shared.moving.store(value, Ordering::Release);
                    if must_wake(&shared.sleeping).is_some() {
                        shared.futex.wake();
                    }
                }
            }
        });
        sleep_until(&shared, 2);
        mover.join().unwrap();
    });
}

/// A writer that goes on while readers copy marks a line before it writes it, and the mark is not in the half that the
/// kernel compares: whether to sleep and on what is one load's decision.
#[test]
fn loom_sleeper_on_a_marked_line_always_wakes() {
    const WRITING: u64 = 1 << 63;
    model(|| {
        let shared = shared();
        let writer = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.moving.store(WRITING | 1, Ordering::Relaxed);
                fence(Ordering::Release);
                shared.moving.store(1, Ordering::Release);
                if must_wake(&shared.sleeping).is_some() {
                    shared.futex.wake();
                }
            }
        });
        let mut sleeper = Sleeper::default();
        while shared.moving.load(Ordering::Acquire) != 1 {
            sleeper.arm(&shared.sleeping, ON_FUTEX);
            let first = shared.moving.load(Ordering::Acquire);
            if shared.moving.load(Ordering::Acquire) != 1 {
                if first & WRITING != 0 {
                    // In the lane a sleep that ends by itself.
                    thread::yield_now();
                } else {
                    shared.futex.sleep(&shared.moving, first as u32);
                }
            }
            sleeper.disarm(&shared.sleeping);
        }
        writer.join().unwrap();
    });
}

/// One wake-up for one sleep is enough, where it is made only when the awaited line is there.
#[test]
fn loom_sleeper_that_is_woken_once_always_wakes() {
    model(|| {
        let shared = shared();
        // In place of a bell: the reader's cursor.
        let mover = thread::spawn({
            let shared = shared.clone();
            move || {
                let mut woken = 0;
                for position in 1..=2u32 {
                    shared.moving.store(position.into(), Ordering::Release);
                    if let Some(seen) = must_wake(&shared.sleeping)
                        && seen != woken
                        && shared.bell.load(Ordering::Relaxed) != position
                    {
                        shared.futex.wake();
                        woken = seen;
                    }
                }
            }
        });
        let (mut sleeper, mut cursor) = (Sleeper::default(), 0);
        while cursor < 2 {
            let there = shared.moving.load(Ordering::Acquire) as u32;
            if there > cursor {
                cursor = there;
                continue;
            }
            shared.bell.store(cursor, Ordering::Release);
            sleeper.arm(&shared.sleeping, ON_FUTEX);
            if shared.moving.load(Ordering::Acquire) as u32 == cursor {
                shared.futex.sleep(&shared.moving, cursor);
            }
            sleeper.disarm(&shared.sleeping);
        }
        mover.join().unwrap();
    });
}

/// The bell rings once per generation; a ring stays until it is cleared.
#[test]
fn loom_armed_reader_finds_its_bell_rung() {
    model(|| {
        let shared = shared();
        let mover = thread::spawn({
            let shared = shared.clone();
            move || {
                let mut rung = 0;
                for value in 1..=2 {
                    shared.moving.store(value, Ordering::Release);
                    if let Some(seen) = must_wake(&shared.sleeping)
                        && wants_bell(seen)
                        && seen != rung
                    {
                        rung = seen;
                        shared.bell.store(1, Ordering::Release);
                        shared.futex.wake();
                    }
                }
            }
        });
        let mut sleeper = Sleeper::default();
        while shared.moving.load(Ordering::Acquire) < 2 {
            shared.bell.store(0, Ordering::Relaxed);
            let seen = shared.moving.load(Ordering::Acquire);
            sleeper.arm(&shared.sleeping, ON_BELL);
            if shared.moving.load(Ordering::Acquire) == seen && seen < 2 {
                let wakes = shared.futex.queue.lock().unwrap();
                let mut wakes = wakes;
                while shared.bell.load(Ordering::Acquire) == 0 {
                    wakes = shared.futex.changed.wait(wakes).unwrap();
                }
            }
            sleeper.disarm(&shared.sleeping);
        }
        mover.join().unwrap();
    });
}

/// A writer that does not look at each sleep word after each line: a reader that sleeps was seen, or knows when it may.
///
/// The clock is a number that everybody moves on; whoever reads a later time has seen what was there before an earlier one,
/// as with the clock of a machine after a fence.
#[test]
fn loom_reader_of_a_quiet_writer_always_wakes() {
    quiet_writer(0);
}

/// The same where the writer first looks at a counter of its own, which is over no later than the time that it announced: `Span` in
/// `clock`. With one that runs longer this fails.
#[test]
fn loom_reader_of_a_quiet_writer_with_a_counter_always_wakes() {
    quiet_writer(QUIET_NS);
}

/// `span`: for how long after the beginning of a quiet time the writer's counter alone says that it is not over.
fn quiet_writer(span: u64) {
    model(move || {
        let shared = shared();
        let quiet_word = Arc::new((AtomicU64::new(0), AtomicU64::new(1)));
        let writer = thread::spawn({
            let (shared, quiet_word) = (shared.clone(), quiet_word.clone());
            move || {
                let (mut quiet, mut watched) = (Quiet::default(), false);
                let mut certainly_until = 0;
                for value in 1..=2 {
                    shared.moving.store(value, Ordering::Release);
                    fence(Ordering::SeqCst);
                    let now = quiet_word.1.fetch_add(1, Ordering::AcqRel);
                    let begins = now >= certainly_until && quiet.is_over(&quiet_word.0, now);
                    if begins {
                        certainly_until = now + span;
                    }
                    if begins || watched {
                        watched = asleep(&shared.sleeping).is_some();
                        if watched {
                            shared.futex.wake();
                        }
                    }
                }
            }
        });
        let mut sleeper = Sleeper::default();
        while shared.moving.load(Ordering::Acquire) < 2 {
            sleeper.arm(&shared.sleeping, ON_FUTEX);
            let now = quiet_word.1.fetch_add(1, Ordering::AcqRel);
            if let Some(until) = quiet_until(&quiet_word.0, now) {
                // Time passes.
                quiet_word.1.fetch_add(until - now, Ordering::AcqRel);
            }
            fence(Ordering::SeqCst);
            let seen = shared.moving.load(Ordering::Acquire) as u32;
            if seen < 2 {
                shared.futex.sleep(&shared.moving, seen);
            }
            sleeper.disarm(&shared.sleeping);
        }
        writer.join().unwrap();
    });
}
