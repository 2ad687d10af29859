//! Bounds of what a process keeps of locks. What a lock itself may hold is said in the packager's own limits.

/// Locks that are kept as they were read: of the projects that somebody works on at a time.
pub(super) const LOCKS_RECENT_MAX: usize = 4;
/// Bytes of the text of one that is kept: some 500 packages. What was read of it takes a few times as much memory; of a larger one,
/// reading is not what takes the time of an installation.
pub(super) const LOCK_RECENT_BYTES_MAX: usize = 256 << 10;
