//! The word by which a loan comes back: rules 9 and 10 of `batch`.
//!
//! Not here: which word is which loan's (`account`), and who is woken (`borrower`). Modelled as it is (`models`).

use crate::sync::{AtomicU64, Ordering};

/// Gives a loan back. Never less than what stands there, because a lender that breaks rule 6 can have two loans in one place.
pub(super) fn give_back(word: &AtomicU64, number: u64) {
    let greater = |there| (there < number).then_some(number);
    // Release, partner: the Acquire load in `is_back`; what was read is read before it is written again. Not the instruction
    // for a maximum, which race detectors do not know.
    let _ = word.fetch_update(Ordering::Release, Ordering::Relaxed, greater);
}

/// Whether a loan has come back.
pub(super) fn is_back(word: &AtomicU64, number: u64) -> bool {
    // Partner: the Release store in `give_back`, and that in `Loan::drop`: what is written next comes after what was read.
    word.load(Ordering::Acquire) == number
}

/// Says that there may be news; the lender sleeps on this word. Several threads may give loans back.
pub(super) fn count_return(returned: &AtomicU64) {
    // Partner: the Acquire load in `returns_seen`.
    returned.fetch_add(1, Ordering::Release);
}

/// What the lender sleeps on. Loaded before its second look, so that whatever comes after it differs.
pub(super) fn returns_seen(returned: &AtomicU64) -> u64 {
    // Partner: the Release addition in `count_return`.
    returned.load(Ordering::Acquire)
}
