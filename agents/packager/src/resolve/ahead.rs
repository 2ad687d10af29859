//! What walking ahead of a resolution may cost. It is a hint, so where this is spent nothing is lost but the head start.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::limits::{AHEAD_BYTES_MAX, AHEAD_LOOKS_MAX};

/// The work and the memory of one scout.
#[derive(Debug, Default)]
pub(super) struct Budget {
    looks: AtomicU64,
    bytes: AtomicUsize,
    is_spent: AtomicBool,
}

impl Budget {
    /// Whether there is nothing left: then nothing is followed any more.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    /// So many versions are to be looked at; whether they may be.
    pub(super) fn look(&self, versions: usize) -> bool {
        // One for the want itself.
        let looks = versions as u64 + 1;
        let before = self.looks.fetch_add(looks, Ordering::Relaxed);
        self.check(before.saturating_add(looks) <= AHEAD_LOOKS_MAX)
    }

    /// So much is to be kept; whether it may be.
    pub(super) fn keep(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.check(before.saturating_add(bytes) <= AHEAD_BYTES_MAX)
    }

    fn check(&self, is_within: bool) -> bool {
        if !is_within {
            self.is_spent.store(true, Ordering::Relaxed);
        }
        !self.is_spent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_stays_spent() {
        let budget = Budget::default();
        assert!(budget.look(1_000) && budget.keep(1_000));
        assert!(!budget.keep(AHEAD_BYTES_MAX));
        assert!(budget.is_spent() && !budget.look(1));
    }
}
