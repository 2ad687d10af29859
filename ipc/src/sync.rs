//! The atomics of the data plane: those of the machine, or loom's when a model is checked.
//!
//! Rings and the wait protocol use these and nothing else, so that the code that is modelled is the code that runs. Under
//! `--cfg tsan` the orderings can be taken away, which shows that the race detector would miss each of them.

#[cfg(not(any(loom, tsan)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(tsan)]
pub(crate) use self::weakened::{Ordering, fence};
#[cfg(tsan)]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

/// The orderings by their names; all are `Relaxed` in a build with `BOLIDE_WITHOUT_ORDER` set.
#[cfg(tsan)]
mod weakened {
    use std::sync::atomic::Ordering as Real;

    const TAKEN_AWAY: bool = option_env!("BOLIDE_WITHOUT_ORDER").is_some();

    const fn unless_taken_away(order: Real) -> Real {
        if TAKEN_AWAY { Real::Relaxed } else { order }
    }

    /// A module in place of the enumeration: only its names are used.
    #[allow(non_snake_case, non_upper_case_globals, reason = "the names of the enumeration")]
    pub(crate) mod Ordering {
        use super::{Real, unless_taken_away};

        pub(crate) const Relaxed: Real = Real::Relaxed;
        pub(crate) const Acquire: Real = unless_taken_away(Real::Acquire);
        pub(crate) const Release: Real = unless_taken_away(Real::Release);
        pub(crate) const SeqCst: Real = unless_taken_away(Real::SeqCst);
    }

    /// Fences stay: without them sleepers would hang, and the detector does not know them anyway.
    pub(crate) fn fence(order: Real) {
        std::sync::atomic::fence(if TAKEN_AWAY { Real::SeqCst } else { order });
    }
}
