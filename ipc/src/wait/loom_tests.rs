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
