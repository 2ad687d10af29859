//! Waiting: spin for as long as a wake-up costs, then sleep; whoever moves things on pays for a wake-up only when somebody
//! sleeps.
//!
//! Not here: the system calls (`futex`), the bell for event loops (`doorbell`), and what is waited for (`lane`).
//!
//! # Protocol
//! A *sleeper* (reader of an empty ring, writer of a full one) has a sleep word in memory that only it writes; the *mover*
//! (the other side) has the word that changes: the stamp of the awaited slot, or the reader's cursor.
//! 1. The sleep word is `generation << 2 | mode`: 0 awake, 1 sleeps on a futex, 2 is to be woken by its doorbell. The
//!    generation grows each time the sleeper gets ready to sleep.
//! 2. The sleeper stores its sleep word (Release), makes a SeqCst fence, and looks again. Only if there is still nothing
//!    does it sleep.
//! 3. The mover stores the moving word (Release), makes a SeqCst fence, and loads the sleep word (Acquire). In the single
//!    order of the two fences one comes first: if the sleeper's, the mover sees the sleep word and wakes; if the mover's,
//!    the sleeper sees the moved word when it looks again. So no wake-up is lost.
//! 4. A sleeper on a futex waits for the low half of the moving word to differ from what it saw (the kernel compares under
//!    its lock), so a mover that wakes between 2 and the system call is noticed as well.
//! 5. A bell rings at most once per generation: it stays rung until its reader clears it. A futex is woken at most once per
//!    generation too, but only after the awaited line is there: who has not begun to sleep by then will find by rule 4 that
//!    the word has changed.
//! 6. Beside the moving word a sleeper waits for the control page's state, so death and revocation wake it.
//! 7. *Quiet times*, so that a writer of a topic need not look at two hundred sleep words for each message: the writer
//!    stores in its own segment until when, by the monotonic clock, it will look only at those that it saw asleep; then it makes
//!    a SeqCst fence and looks at all. It decides by the clock as read after the fence of rule 3, that is after its line could be
//!    seen. A reader, after the fence of rule 2, loads that time, lets it pass (it is short), makes a SeqCst fence, and looks
//!    again before it sleeps. If the reader's fence was before the writer's last look at all, the writer saw it; if not,
//!    the reader knows the time, and any line that the writer left unannounced was there before that time was over. A reader whose
//!    clock runs ahead would miss one, so it waits a margin longer. Clocks of other time namespaces are not ours.

#[cfg(not(loom))]
use std::time::Duration;
use std::time::Instant;

use crate::limits::{QUIET_MARGIN_NS, QUIET_NS};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(test)]
#[cfg(loom)]
pub(crate) mod loom_tests;

/// Awake: nobody needs to be woken.
pub(crate) const AWAKE: u32 = 0;
/// Sleeps on the futex of the moving word.
pub(crate) const ON_FUTEX: u32 = 1;
/// Sleeps in an event loop; its bell is to be rung.
pub(crate) const ON_BELL: u32 = 2;
const MODE_BITS: u32 = 2;
const MODE_MASK: u32 = (1 << MODE_BITS) - 1;

/// The sleeper's private state beside its sleep word.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    generation: u32,
}

impl Sleeper {
    /// Rule 2, first half. The caller looks again afterwards.
    pub(crate) fn arm(&mut self, word: &AtomicU32, mode: u32) {
        self.generation = self.generation.wrapping_add(1);
        // Release, partner: the Acquire load in `asleep`; whoever sees the word sees the cursor that was stored before.
        word.store(self.generation << MODE_BITS | mode, Ordering::Release);
        // Partner: the fence in `must_wake`.
        fence(Ordering::SeqCst);
    }

    /// Awake again. Nobody is misled by a late store: a wake-up too many does no harm.
    pub(crate) fn disarm(&mut self, word: &AtomicU32) {
        word.store(self.generation << MODE_BITS | AWAKE, Ordering::Relaxed);
    }
}

/// Rule 3 after the moving word was stored: what the sleep word says, when somebody is to be woken.
#[inline]
pub(crate) fn must_wake(word: &AtomicU32) -> Option<u32> {
    // Partner: the fence in `Sleeper::arm`.
    fence(Ordering::SeqCst);
    asleep(word)
}

/// The second half of [`must_wake`], for several sleepers after one fence.
#[inline]
pub(crate) fn asleep(word: &AtomicU32) -> Option<u32> {
    // Partner: the Release store in `Sleeper::arm`.
    let seen = word.load(Ordering::Acquire);
    (seen & MODE_MASK != AWAKE).then_some(seen)
}

/// Whether a sleep word asks for the bell.
pub(crate) fn wants_bell(seen: u32) -> bool {
    seen & MODE_MASK == ON_BELL
}

/// The writer's side of rule 7.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    until_ns: u64,
}

impl Quiet {
    /// After a line was stored, the fence of rule 3 was made and then the clock was read: whether all sleep words are to be
    /// looked at now. If so, a new quiet time has begun.
    #[inline]
    pub(crate) fn is_over(&mut self, shared: &AtomicU64, now_ns: u64) -> bool {
        if now_ns < self.until_ns {
            return false;
        }
        self.until_ns = now_ns.saturating_add(QUIET_NS);
        shared.store(self.until_ns, Ordering::Relaxed);
        // Partner: the fence in `Sleeper::arm`.
        fence(Ordering::SeqCst);
        true
    }

    /// Somebody came or left: all are looked at next time. What was promised to readers still holds.
    pub(crate) fn end(&mut self) {
        self.until_ns = 0;
    }
}

/// The reader's side of rule 7, after it armed: until when it does not sleep, or nothing where it may at once. What a writer
/// claims beyond the longest quiet time is not believed; a writer that lies loses its readers' attention only.
pub(crate) fn quiet_until(shared: &AtomicU64, now_ns: u64) -> Option<u64> {
    // The fence in `Sleeper::arm` came before.
    let until = shared.load(Ordering::Relaxed).saturating_add(QUIET_MARGIN_NS);
    let longest = QUIET_NS + QUIET_MARGIN_NS;
    (until > now_ns && until - now_ns <= longest).then_some(until)
}

/// How long to spin before sleeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// Sleep at once: for a thread that shares its processor.
    None,
    /// For as long as a wake-up costs; not at all in a program that was started on one processor ([`adaptive_spin`]).
    Adaptive,
    /// Never sleep. For a thread that owns its processor.
    Forever,
}

/// Counts polls; tells when to look at clock and control page, and when to sleep.
#[derive(Debug)]
pub(crate) struct Spinner {
    polls: u32,
    until: Option<Instant>,
    spin: Spin,
}

/// What a waiting thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Poll,
    Look,
    Sleep,
}

/// Polls between two looks while spinning for a bounded time: about a microsecond, so the bound is kept.
#[cfg(not(loom))]
const POLLS_BOUNDED: u32 = 32;

#[cfg(not(loom))]
impl Spinner {
    pub(crate) fn new(spin: Spin) -> Self {
        let is_alone = spin == Spin::Adaptive && adaptive_spin().is_zero();
        let spin = if is_alone { Spin::None } else { spin };
        Self { polls: 0, until: None, spin }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Next {
        if self.spin == Spin::None {
            return Next::Sleep;
        }
        std::hint::spin_loop();
        self.polls = self.polls.wrapping_add(1);
        let between = match self.spin {
            Spin::Forever => crate::limits::POLLS_PER_LOOK,
            _ => POLLS_BOUNDED,
        };
        if !self.polls.is_multiple_of(between) {
            return Next::Poll;
        }
        if self.spin == Spin::Forever {
            return Next::Look;
        }
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + adaptive_spin());
        if now >= until { Next::Sleep } else { Next::Poll }
    }
}

/// For how long [`Spin::Adaptive`] spins: as long as a wake-up costs, or not at all where nobody else could run meanwhile.
///
/// What counts is where this process may run, by its first thread and as of the first call. Who was put on one processor, by
/// `taskset` or a container, is there together with whatever it talks to as a rule, and spinning would use up the very time
/// that its peer needs. A thread that pins itself does so to wait for one that is pinned elsewhere, so that does not count; and
/// who owns the one processor says [`Spin::Forever`].
#[cfg(not(loom))]
pub fn adaptive_spin() -> Duration {
    use std::sync::OnceLock;
    static KNOWN: OnceLock<Duration> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let allowed = rustix::thread::sched_getaffinity(Some(rustix::process::getpid()));
        // A machine of more processors than the set has room for has several.
        let is_alone = allowed.is_ok_and(|allowed| allowed.count() == 1);
        if is_alone { Duration::ZERO } else { Duration::from_nanos(crate::limits::SPIN_NS) }
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::*;

    /// Says to the process that it was started on one processor.
    const ALONE: &str = "BOLIDE_TEST_ON_ONE_PROCESSOR";

    #[test]
    fn who_was_started_on_one_processor_does_not_spin() {
        if std::env::var_os(ALONE).is_some() {
            assert!(adaptive_spin().is_zero());
            assert_eq!(Spinner::new(Spin::Adaptive).next(), Next::Sleep);
            assert_eq!(Spinner::new(Spin::Forever).next(), Next::Poll);
            return;
        }
        let allowed = sched_getaffinity(None).unwrap();
        let pinned = std::thread::spawn(move || {
            let first = (0..CpuSet::MAX_CPU).find(|index| allowed.is_set(*index)).unwrap();
            let mut one = CpuSet::new();
            one.set(first);
            sched_setaffinity(None, &one).unwrap();
            let name = "wait::tests::who_was_started_on_one_processor_does_not_spin";
            let program = std::env::current_exe().unwrap();
            let mut program = std::process::Command::new(program);
            let output = program.args(["--exact", name]).env(ALONE, "1").output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
            adaptive_spin().is_zero()
        });
        assert_eq!(pinned.join().unwrap(), allowed.count() == 1);
    }
}
