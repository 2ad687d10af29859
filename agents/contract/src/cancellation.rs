//! Whether an answer is still wanted, as a value that goes along into everything that may block for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

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
    listeners: Mutex<Listeners>,
}

/// Who wants to hear of it, each under a number.
#[derive(Default)]
struct Listeners {
    last: u64,
    all: BTreeMap<u64, Wake>,
}

/// What is called where something is not wanted any more.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// As long as it is kept, its [`Wake`] is called.
#[derive(Debug)]
pub struct Listening(Vec<(Arc<State>, u64)>);

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
        let state = State { others, ..State::default() };
        Self { state: Some(Arc::new(state)), deadline: None }
    }

    /// Says to all clones that nobody waits any more. Does nothing to [`Cancellation::NEVER`].
    pub fn cancel(&self) {
        if let Some(state) = &self.state {
            // A hint to look at; it publishes nothing else. Who listens has the lock after this or is called.
            state.is_abandoned.store(true, Ordering::Relaxed);
            let listeners: Vec<Wake> = state.listeners().all.values().cloned().collect();
            listeners.iter().for_each(|wake| wake());
        }
    }

    /// Has `wake` called whenever somebody cancels this, or one that it depends on, until what this gives is dropped; it may be called
    /// once more just then. Nothing is called for what was cancelled before, nor for a deadline ([`Cancellation::left`]): the caller looks
    /// after this. `wake` runs on the thread that cancels, so it is short and waits for nobody.
    pub fn listen(&self, wake: &Wake) -> Listening {
        let mut listening = Listening(Vec::new());
        self.add_listener(wake, &mut listening);
        listening
    }

    fn add_listener(&self, wake: &Wake, listening: &mut Listening) {
        let Some(state) = &self.state else { return };
        let number = {
            let mut listeners = state.listeners();
            listeners.last += 1;
            let number = listeners.last;
            listeners.all.insert(number, Arc::clone(wake));
            number
        };
        listening.0.push((Arc::clone(state), number));
        state.others.iter().for_each(|other| other.add_listener(wake, listening));
    }

    /// How long it is until the deadline, by the clock of the day; nothing where there is none.
    pub fn left(&self) -> Option<Duration> {
        let own = self
            .deadline
            .map(|deadline| deadline.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO));
        self.others().iter().filter_map(Self::left).chain(own).min()
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

impl State {
    /// Whole between any two statements; nobody else's code runs under it.
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} listeners", self.all.len())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for (state, number) in self.0.drain(..) {
            // What it refers to is dropped without the lock.
            let _wake = state.listeners().all.remove(&number);
        }
    }
}

static NEVER: Cancellation = Cancellation { state: None, deadline: None };

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

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

    #[test]
    fn who_listens_hears_of_each_that_it_depends_on_until_it_listens_no_more() {
        let heard = Arc::new(AtomicUsize::new(0));
        let wake: Wake = Arc::new({
            let heard = Arc::clone(&heard);
            move || {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        });
        let heard = || heard.load(Ordering::Relaxed);
        let [first, second] = [(); 2].map(|()| Cancellation::until(None));
        let of_both = Cancellation::any([first.clone(), second.clone()]);
        let nested = Cancellation::any([of_both.clone()]);
        let listening = nested.listen(&wake);
        first.cancel();
        assert_eq!((heard(), nested.is_cancelled()), (1, true));
        of_both.cancel();
        nested.clone().cancel();
        assert_eq!(heard(), 3);
        drop(listening);
        second.cancel();
        assert_eq!(heard(), 3);
        assert!(first.state.unwrap().listeners().all.is_empty());
        assert!(Cancellation::NEVER.listen(&wake).0.is_empty());
    }

    #[test]
    fn the_nearest_deadline_of_all_is_how_long_it_is_left() {
        let hour = Duration::from_secs(3600);
        let until = |time| Cancellation::until(Some(SystemTime::now() + time));
        assert_eq!(Cancellation::until(None).left(), None);
        let of_both =
            Cancellation::any([until(2 * hour), until(hour), Cancellation::NEVER.clone()]);
        assert!(of_both.left().is_some_and(|left| left <= hour && !left.is_zero()));
        let late = Cancellation::until(Some(SystemTime::UNIX_EPOCH));
        assert_eq!(Cancellation::any([of_both, late]).left(), Some(Duration::ZERO));
    }
}
