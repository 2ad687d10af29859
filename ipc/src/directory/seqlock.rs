//! The orderings of the directory: entries with a version, refreshes with a generation (rules 2 and 3).
//!
//! Not here: what the words mean (`format`), and where they are (`writer`, `reader`). Modelled as it is (`models`).

use crate::sync::{AtomicU64, Ordering, fence};

/// Writes one entry.
pub(super) fn store(version: &AtomicU64, cells: &[AtomicU64], fresh: &[u64]) {
    let before = version.load(Ordering::Relaxed);
    version.store(before.wrapping_add(1), Ordering::Relaxed);
    // Partner: the Acquire fence in `load`: who saw a word that is stored below sees the odd version, or a later one.
    fence(Ordering::Release);
    for (cell, word) in cells.iter().zip(fresh) {
        cell.store(*word, Ordering::Relaxed);
    }
    // Partner: the Acquire load in `load`.
    version.store(before.wrapping_add(2), Ordering::Release);
}

/// Copies one entry; false where it was being written.
pub(super) fn load(version: &AtomicU64, cells: &[AtomicU64], copied: &mut [u64]) -> bool {
    // Partner: the Release store at the end of `store`.
    let before = version.load(Ordering::Acquire);
    for (copied, cell) in copied.iter_mut().zip(cells) {
        *copied = cell.load(Ordering::Relaxed);
    }
    // Partner: the Release fence in `store`.
    fence(Ordering::Acquire);
    before.is_multiple_of(2) && version.load(Ordering::Relaxed) == before
}

/// Begins the refresh after the one that ended with `last`.
pub(super) fn begin_refresh(generation: &AtomicU64, last: u64) {
    generation.store(last.wrapping_add(1), Ordering::Relaxed);
    // Partner: the Acquire fence in `is_of_one_refresh`: who saw a word of this refresh sees that it is under way.
    fence(Ordering::Release);
}

/// Ends it; gives its generation.
pub(super) fn end_refresh(generation: &AtomicU64, last: u64) -> u64 {
    let now = last.wrapping_add(2);
    // Partner: the Acquire load in `begin_picture`.
    generation.store(now, Ordering::Release);
    now
}

/// The generation before a picture is taken.
pub(super) fn begin_picture(generation: &AtomicU64) -> u64 {
    // Partner: the Release store in `end_refresh`.
    generation.load(Ordering::Acquire)
}

/// Whether all that was read since `before` is of that refresh.
pub(super) fn is_of_one_refresh(generation: &AtomicU64, before: u64) -> bool {
    // Partner: the Release fence in `begin_refresh`.
    fence(Ordering::Acquire);
    before.is_multiple_of(2) && generation.load(Ordering::Relaxed) == before
}
