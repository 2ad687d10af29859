//! How fast a client may send control packets: a token bucket, pure over the time it is told.

use std::time::Duration;

use crate::limits::{PACKETS_BURST_MAX, PACKETS_PER_SECOND_MAX};

/// The packets that one client may still send, in billionths, so that no rounding is lost.
#[derive(Debug)]
pub(crate) struct PacketBudget {
    billionths: u64,
    filled_at: Duration,
}

const ONE: u64 = 1_000_000_000;
const FULL: u64 = PACKETS_BURST_MAX as u64 * ONE;

impl PacketBudget {
    /// A full budget at `now` (any clock that never runs backwards).
    pub(crate) fn new(now: Duration) -> Self {
        Self { billionths: FULL, filled_at: now }
    }

    /// Takes one packet out. Where none is left, says how long to wait before asking again.
    pub(crate) fn try_take(&mut self, now: Duration) -> Result<(), Duration> {
        let nanoseconds = now.saturating_sub(self.filled_at).as_nanos();
        let earned = nanoseconds.saturating_mul(u128::from(PACKETS_PER_SECOND_MAX));
        let earned = u64::try_from(earned).unwrap_or(FULL);
        self.billionths = self.billionths.saturating_add(earned).min(FULL);
        self.filled_at = self.filled_at.max(now);
        if self.billionths >= ONE {
            self.billionths -= ONE;
            return Ok(());
        }
        let missing = ONE - self.billionths;
        Err(Duration::from_nanos(missing.div_ceil(u64::from(PACKETS_PER_SECOND_MAX))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut budget = PacketBudget::new(Duration::ZERO);
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
        let mut budget = PacketBudget::new(Duration::ZERO);
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
    fn a_clock_that_stands_still_or_jumps_far_does_no_harm() {
        let mut budget = PacketBudget::new(Duration::from_secs(5));
        budget.try_take(Duration::ZERO).unwrap();
        budget.try_take(Duration::MAX).unwrap();
    }
}
