//! Bounds that only operations know. What others know, too, is in [`crate::limits`].

/// Projects in which something was answered and could not be confirmed on the disk, that a process tries again by itself.
pub(super) const UNCONFIRMED_PROJECTS_MAX: usize = 64;
/// Transactions of a project among which the one is that was just answered.
pub(super) const CONFIRMED_LOOK_BACK: u32 = 16;
