//! Whether an answer is still wanted, as a value that goes along into everything that may block for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Whether an answer is still wanted. Clones share one state; asking costs a load, and a look at the clock where
/// there is a deadline.
#[derive(Clone, Debug, Default)]
pub struct Cancellation {
    // Never cancelled where there is none.
    abandoned: Option<Arc<AtomicBool>>,
    deadline: Option<SystemTime>,
}

impl Cancellation {
    /// For work that is always wanted.
    pub const NEVER: &'static Self = &NEVER;

    /// Wanted until somebody calls [`Cancellation::cancel`], or until the deadline.
    pub fn until(deadline: Option<SystemTime>) -> Self {
        Self { abandoned: Some(Arc::default()), deadline }
    }

    /// Says to all clones that nobody waits any more. Does nothing to [`Cancellation::NEVER`].
    pub fn cancel(&self) {
        if let Some(abandoned) = &self.abandoned {
            // A hint to look at; it publishes nothing else.
            abandoned.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody called [`Cancellation::cancel`].
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.as_ref().is_some_and(|abandoned| abandoned.load(Ordering::Relaxed))
    }

    /// Whether the work may stop: abandoned, or later than its deadline.
    pub fn is_cancelled(&self) -> bool {
        self.is_abandoned() || self.deadline.is_some_and(|deadline| SystemTime::now() >= deadline)
    }
}

static NEVER: Cancellation = Cancellation { abandoned: None, deadline: None };

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn clones_share_one_state_and_a_deadline_counts_by_itself() {
        let one = Cancellation::until(None);
        let other = one.clone();
        assert!(!other.is_cancelled());
        one.cancel();
        assert!(other.is_cancelled() && other.is_abandoned());
        let late = Cancellation::until(Some(SystemTime::now() - Duration::from_secs(1)));
        assert!(late.is_cancelled() && !late.is_abandoned());
        Cancellation::NEVER.cancel();
        assert!(!Cancellation::NEVER.is_cancelled());
    }
}
