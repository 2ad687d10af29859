//! The atomics of the data plane: those of the machine, or loom's when a model is checked.
//!
//! Rings and the wait protocol use these and nothing else, so that the code that is modelled is the code that runs.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
