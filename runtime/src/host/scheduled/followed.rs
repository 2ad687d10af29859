//! The daemon's decision as the pools of one process follow it, from every thread that has work for them, and from the keeper.
//!
//! Rules:
//! 1. What the pools have changes only under the lock of `held`, and so does `followed_ns`.
//! 2. What is put in force is read under that lock. The directory has one writer, and each read begins with an Acquire load of the
//!    entry's version; the lock orders the reads, so who has it reads nothing older than who had it before. A thread that is held up
//!    between a look and the lock can therefore bring nothing back that was overtaken meanwhile.
//! 3. Before, each thread looks without the lock whether there is anything new; it is held up by nobody where there is not. That look
//!    decides nothing else: if it was too early, the next one is due with the next piece of work, or within the keeper's interval.
//!
//! A daemon that says nothing for [`DECISION_AGE_MAX`] decides nothing any more. Not here: where decisions come from (`keeper`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipc::directory::MachineEntry;
use scheduler::decision::{Decision, State};
use scheduler::pool::Pools;
use tracing::warn;

use crate::limits::DECISION_AGE_MAX;
use crate::machine::{Sparing, decision_of, monotonic_ns};

/// Stands for the time of a decision while there is none.
const SILENT_NS: u64 = u64::MAX;

/// What is followed.
#[derive(Debug)]
pub(super) struct Followed {
    /// When the decision that the pools have was made; 0 for none. A hint for those without the lock, so nothing is ordered by it.
    followed_ns: AtomicU64,
    held: Mutex<Held>,
}

/// Without a word from the daemon nobody knows the temperature, so nothing may be added: what it allowed last, cut to what is safe.
#[derive(Debug)]
struct Held {
    /// What is safe on this machine.
    careful: Decision,
    /// What was followed last.
    last: Option<Decision>,
    /// Lines about a silent daemon.
    lines: Sparing,
    started: Instant,
}

impl Held {
    fn without_daemon(&self) -> Decision {
        let Decision { slots, background, .. } = self.last.unwrap_or(self.careful);
        let slots = slots.least(self.careful.slots);
        Decision { state: State::Blind, slots, background, heavy: false }
    }
}

impl Followed {
    /// Nothing yet; `careful` is what is safe where nothing is known.
    pub(super) fn new(careful: Decision) -> Self {
        let (lines, started) = (Sparing::default(), Instant::now());
        let held = Mutex::new(Held { careful, last: None, lines, started });
        Self { followed_ns: AtomicU64::new(0), held }
    }

    /// Brings the pools up to date with what `read` says, where that costs nothing: before each piece of work.
    pub(super) fn follow(&self, read: impl Fn() -> Option<MachineEntry>, pools: &Pools) {
        let (_, decided_ns) = recent(read());
        if self.followed_ns.load(Ordering::Relaxed) == decided_ns {
            return;
        }
        let mut held = self.lock();
        let (entry, decided_ns) = recent(read());
        if self.followed_ns.swap(decided_ns, Ordering::Relaxed) == decided_ns {
            return;
        }
        match entry {
            Some(entry) => {
                let decision = decision_of(&entry);
                held.last = Some(decision);
                pools.set_decision(decision);
            }
            None => {
                let now = held.started.elapsed();
                if let Some(left_out) = held.lines.say(now) {
                    warn!(left_out, "the daemon does not say what may run: little does until then");
                }
                pools.set_decision(held.without_daemon());
            }
        }
    }

    /// The machine has changed; where the daemon is silent, what holds without it does, too.
    pub(super) fn set_careful(&self, careful: Decision, pools: &Pools) {
        let mut held = self.lock();
        held.careful = careful;
        if self.followed_ns.load(Ordering::Relaxed) == SILENT_NS {
            pools.set_decision(held.without_daemon());
        }
    }

    /// Plain values, whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry, where it is not too old, and the time by which it is known.
fn recent(entry: Option<MachineEntry>) -> (Option<MachineEntry>, u64) {
    let entry = entry.filter(|entry| {
        let age = monotonic_ns().saturating_sub(entry.decided_ns);
        u128::from(age) <= DECISION_AGE_MAX.as_nanos()
    });
    let decided_ns = entry.as_ref().map_or(SILENT_NS, |entry| entry.decided_ns);
    (entry, decided_ns)
}
