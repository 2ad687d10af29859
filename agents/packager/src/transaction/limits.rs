//! Bounds that only transactions know. What others know, too, is in [`crate::limits`].

/// Bytes of the note of an intent, an attribute of the journal: ext4 has one block of 4 KiB for all of a file's, and XFS writes one
/// of more than three quarters of a block past its log. Compressed, a dozen items and more; where there are too many the intent is
/// waited for.
pub(super) const NOTE_BYTES_MAX: usize = 3_000;
/// Things that the next answers in their projects have to tell of transactions that were taken back after their answer; history tells
/// of all.
pub(super) const UNTOLD_MAX: i64 = 256;
/// Names under which one thing is moved aside: each of them is taken where an earlier try was stopped.
pub(super) const KEPT_NAMES_MAX: usize = 16;
