//! How fast somebody may send: a token bucket, pure over the time it is told.

use std::time::Duration;

use crate::limits::PACKETS_BURST_MS;

/// The messages that one client may still send, in billionths, so that no rounding is lost.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: u32,
    full: u64,
    billionths: u64,
    filled_at: Duration,
}

const ONE: u64 = 1_000_000_000;

/// What a budget of so many a second holds at most.
fn full(per_second: u32) -> u64 {
    (u64::from(per_second) * PACKETS_BURST_MS / 1_000).max(1) * ONE
}

impl Budget {
    /// A full budget of so many a second, at `now` (any clock that never runs backwards).
    pub(crate) fn new(per_second: u32, now: Duration) -> Self {
        let per_second = per_second.max(1);
        let full = full(per_second);
        Self { per_second, full, billionths: full, filled_at: now }
    }

    /// Another rate from `now` on. What was used up stays used up.
    pub(crate) fn set_rate(&mut self, per_second: u32, now: Duration) {
        self.billionths = self.billionths_at(now);
        self.filled_at = self.filled_at.max(now);
        self.per_second = per_second.max(1);
        self.full = full(self.per_second);
        self.billionths = self.billionths.min(self.full);
    }

    /// How many may be sent at `now`. Takes none.
    pub(crate) fn left(&self, now: Duration) -> usize {
        usize::try_from(self.billionths_at(now) / ONE).unwrap_or(usize::MAX)
    }

    /// Whether nothing of it is used up at `now`.
    pub(crate) fn is_full(&self, now: Duration) -> bool {
        self.billionths_at(now) == self.full
    }

    fn billionths_at(&self, now: Duration) -> u64 {
        let nanoseconds = now.saturating_sub(self.filled_at).as_nanos();
        let earned = nanoseconds.saturating_mul(u128::from(self.per_second));
        let earned = u64::try_from(earned).unwrap_or(self.full);
        self.billionths.saturating_add(earned).min(self.full)
    }

    /// Takes one message out. Where none is left, says how long to wait before asking again.
    pub(crate) fn try_take(&mut self, now: Duration) -> Result<(), Duration> {
        self.billionths = self.billionths_at(now);
        self.filled_at = self.filled_at.max(now);
        if self.billionths >= ONE {
            self.billionths -= ONE;
            return Ok(());
        }
        let missing = ONE - self.billionths;
        Err(Duration::from_nanos(missing.div_ceil(u64::from(self.per_second))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PACKETS_PER_SECOND_MAX;

    const PACKETS_BURST_MAX: u32 = PACKETS_PER_SECOND_MAX / 2;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut budget = Budget::new(PACKETS_PER_SECOND_MAX, Duration::ZERO);
        for _ in 0..PACKETS_BURST_MAX {
            budget.try_take(Duration::ZERO).unwrap();
        }
        let wait = budget.try_take(Duration::ZERO).unwrap_err();
        assert!(budget.try_take(wait - Duration::from_nanos(2)).is_err());
        budget.try_take(wait).unwrap();
        assert!(budget.try_take(wait).is_err());
    }

    #[test]
    fn a_second_never_passes_more_than_burst_and_rate() {
        let mut budget = Budget::new(PACKETS_PER_SECOND_MAX, Duration::ZERO);
        let mut passed = 0;
        for micros in 0..=1_000_000u64 / 10 {
            while budget.try_take(Duration::from_micros(micros * 10)).is_ok() {
                passed += 1;
            }
        }
        assert!(passed <= PACKETS_BURST_MAX + PACKETS_PER_SECOND_MAX, "{passed}");
        assert!(passed >= PACKETS_PER_SECOND_MAX, "{passed}");
    }

    #[test]
    fn the_slowest_rate_is_one_a_second() {
        let mut budget = Budget::new(0, Duration::ZERO);
        budget.try_take(Duration::ZERO).unwrap();
        assert_eq!(budget.try_take(Duration::ZERO), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_clock_that_stands_still_or_jumps_far_does_no_harm() {
        let mut budget = Budget::new(PACKETS_PER_SECOND_MAX, Duration::from_secs(5));
        budget.try_take(Duration::ZERO).unwrap();
        budget.try_take(Duration::MAX).unwrap();
    }
}
