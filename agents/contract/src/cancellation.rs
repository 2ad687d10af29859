//! Whether an answer is still wanted, as a value that goes along into everything that may block for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Whether an answer is still wanted. Clones share one state; asking costs a load, and a look at the clock where
/// there is a deadline.
#[derive(Clone, Debug, Default)]
pub struct Cancellation {
    // Never cancelled where there is none.
    state: Option<Arc<State>>,
    deadline: Option<SystemTime>,
}

#[derive(Debug, Default)]
struct State {
    is_abandoned: AtomicBool,
    /// Each of them ends this one, too.
    others: Vec<Cancellation>,
}

impl Cancellation {
    /// For work that is always wanted.
    pub const NEVER: &'static Self = &NEVER;

    /// Wanted until somebody calls [`Cancellation::cancel`], or until the deadline.
    pub fn until(deadline: Option<SystemTime>) -> Self {
        Self { state: Some(Arc::default()), deadline }
    }

    /// Wanted as long as all of these are, and until somebody cancels it, which is nothing to them.
    pub fn any(others: impl IntoIterator<Item = Self>) -> Self {
        let others = others.into_iter().filter(|other| !other.is_never()).collect();
        let state = State { is_abandoned: AtomicBool::new(false), others };
        Self { state: Some(Arc::new(state)), deadline: None }
    }

    /// Says to all clones that nobody waits any more. Does nothing to [`Cancellation::NEVER`].
    pub fn cancel(&self) {
        if let Some(state) = &self.state {
            // A hint to look at; it publishes nothing else.
            state.is_abandoned.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody called [`Cancellation::cancel`], of this or of one that it depends on.
    pub fn is_abandoned(&self) -> bool {
        self.is_marked() || self.others().iter().any(Self::is_abandoned)
    }

    /// Whether the work may stop: abandoned, or later than its deadline.
    pub fn is_cancelled(&self) -> bool {
        let is_late = || self.deadline.is_some_and(|deadline| SystemTime::now() >= deadline);
        self.is_marked() || is_late() || self.others().iter().any(Self::is_cancelled)
    }

    fn is_marked(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_abandoned.load(Ordering::Relaxed))
    }

    fn others(&self) -> &[Self] {
        self.state.as_ref().map_or(&[], |state| &state.others)
    }

    fn is_never(&self) -> bool {
        self.state.is_none() && self.deadline.is_none()
    }
}

static NEVER: Cancellation = Cancellation { state: None, deadline: None };

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

    #[test]
    fn one_that_depends_on_others_ends_with_each_of_them_and_ends_none() {
        let [first, second] = [(); 2].map(|()| Cancellation::until(None));
        let of_both = || {
            let others = [first.clone(), Cancellation::NEVER.clone(), second.clone()];
            Cancellation::any(others)
        };
        let (one, other) = (of_both(), of_both());
        one.cancel();
        assert!(one.is_cancelled() && one.is_abandoned() && one.clone().is_cancelled());
        assert!(!first.is_cancelled() && !second.is_cancelled() && !other.is_cancelled());
        second.cancel();
        assert!(other.is_cancelled() && other.is_abandoned() && !first.is_cancelled());
        let late = Cancellation::until(Some(SystemTime::now() - Duration::from_secs(1)));
        let after = Cancellation::any([late]);
        assert!(after.is_cancelled() && !after.is_abandoned());
        assert!(!Cancellation::any([]).is_cancelled());
    }
}
