//! The system calls of sleeping and waking on words of shared memory.
//!
//! Not here: when to do either (`wait`). The words may be in memory that is mapped for reading only; the kernel only
//! compares. A u64 is waited for by its low half, which is where it changes.
#![allow(unsafe_code, reason = "a futex word is half of a u64 in shared memory")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::{ClockId, Timespec};

use crate::limits::PARK_SLICE_MS;
use crate::sync::{AtomicU32, AtomicU64};

/// Sleeps until `word`'s low half is no longer `seen`, `other` is no longer `other_seen`, the deadline has come, somebody
/// wakes, or for no reason. The caller looks again in any case.
pub(crate) fn sleep(
    word: &AtomicU64,
    seen: u32,
    other: Option<(&AtomicU32, u32)>,
    deadline: Option<Instant>,
) {
    let left = match deadline.map(|deadline| deadline.checked_duration_since(Instant::now())) {
        None => None,
        Some(Some(left)) => Some(left),
        Some(None) => return,
    };
    let Some((other, other_seen)) = other else {
        return sleep_on_one(low_half(word), seen, left);
    };
    if has_waitv() && sleep_on_two(low_half(word), seen, other, other_seen, left) {
        return;
    }
    let slice = Duration::from_millis(PARK_SLICE_MS);
    sleep_on_one(low_half(word), seen, Some(left.map_or(slice, |left| left.min(slice))));
}

/// The monotonic clock, the same for all processes of a time namespace, in nanoseconds.
#[inline]
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Wakes everybody who sleeps on this word.
pub(crate) fn wake(word: &AtomicU64) {
    wake_half(low_half(word));
}

/// Wakes everybody who sleeps on this word.
pub(crate) fn wake_half(word: &AtomicU32) {
    // It can only fail for an address that is not mapped, and a reference is.
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}

fn sleep_on_one(word: &AtomicU32, seen: u32, left: Option<Duration>) {
    let timeout = left.map(timespec);
    // Changed, timed out, interrupted: the caller looks again.
    let _ = futex::wait(word, Flags::empty(), seen, timeout.as_ref());
}

/// Whether the kernel could do it.
fn sleep_on_two(
    word: &AtomicU32,
    seen: u32,
    other: &AtomicU32,
    other_seen: u32,
    left: Option<Duration>,
) -> bool {
    let entry = |word: &AtomicU32, seen: u32| {
        let mut wait = Wait::new();
        wait.val = seen.into();
        wait.uaddr = WaitPtr::new(word.as_ptr().cast());
        wait.flags = WaitFlags::SIZE_U32;
        wait
    };
    let waits = [entry(word, seen), entry(other, other_seen)];
    let until = left.map(|left| {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
        timespec(now.saturating_add(left))
    });
    let result = futex::waitv(&waits, WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic);
    !matches!(result, Err(Errno::NOSYS | Errno::INVAL | Errno::PERM))
}

/// Whether this kernel has `futex_waitv` (Linux 5.16), asked once; a sandbox may forbid it too.
fn has_waitv() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let word = AtomicU32::new(1);
        // The value differs, so this returns at once wherever the call exists.
        sleep_on_two(&word, 0, &word, 0, Some(Duration::ZERO))
    })
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn low_half(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: the low half of a little-endian u64 starts at its address, is aligned, and lives as long; it is only handed
    // to system calls, never accessed from here, so no accesses of different sizes are mixed in this process.
    unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn sleeper_returns_when_either_word_differs_or_time_is_up() {
        let word = AtomicU64::new(5);
        let state = AtomicU32::new(1);
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        sleep(&word, 4, Some((&state, 1)), None);
        sleep(&word, 5, Some((&state, 0)), None);
        sleep(&word, 4, None, None);
        sleep(&word, 5, Some((&state, 1)), soon());
        sleep(&word, 5, None, soon());
        sleep(&word, 5, None, Some(Instant::now()));
    }

    #[test]
    fn sleeper_is_woken_through_either_word() {
        for through_state in [false, true] {
            let word = AtomicU64::new(0);
            let state = AtomicU32::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while word.load(Ordering::Acquire) == 0 && state.load(Ordering::Acquire) == 0 {
                        sleep(&word, 0, Some((&state, 0)), None);
                    }
                });
                if through_state {
                    state.store(1, Ordering::Release);
                    wake_half(&state);
                } else {
                    word.store(1, Ordering::Release);
                    wake(&word);
                }
            });
        }
    }
}
