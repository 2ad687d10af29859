//! Asking for leave and waiting for it.
//!
//! Who waits sleeps until a grant is there for it, until it is told that it may not be wanted any more, or until time alone changes
//! something; it hands out grants only then. Whatever else lets somebody begin is handed out by the one who brought it about.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::{Shared, State, Wake, Wanted};
use crate::admission::{Grant, Id, Order, Reason, Wish};
use crate::limits::{CANCELLATION_INTERVAL, TOLD_AFTER, WANTED_INTERVAL};

impl Shared {
    /// Asks, and waits until it is granted; nothing where it is not wanted any more. Under the same lock still. `waits` is called
    /// without it, for each reason that there comes to be.
    pub(super) fn wait_for_leave<'a>(
        self: &'a Arc<Self>,
        (order, wish): (&Order, Wish),
        wanted: &dyn Wanted,
        waits: &dyn Fn(Reason),
    ) -> (MutexGuard<'a, State>, Option<Grant>) {
        let mut state = self.lock();
        let was_idle = state.is_idle();
        let id = loop {
            match state.admission.ask(order, wish, self.now()) {
                Ok(id) => break id,
                Err(_too_many) if !wanted.is_wanted() => return (state, None),
                Err(_too_many) => state = self.wait(state, CANCELLATION_INTERVAL),
            }
        };
        if was_idle && state.sleepers > 0 {
            self.begun.notify_all();
        }
        self.dispatch(&mut state, None);
        let tell_at = self.now() + TOLD_AFTER;
        let (mut listening, mut told_of) = (None, None);
        loop {
            if let Some(grant) = state.begun.remove(&id) {
                return (state, Some(grant));
            }
            if !wanted.is_wanted() {
                state.admission.withdraw(id, self.now());
                self.dispatch(&mut state, None);
                return (state, None);
            }
            let Some(listening) = &listening else {
                let mut listen = || listening = Some(wanted.listen(self.waker()));
                state = self.apart(state, id, &mut listen);
                continue;
            };
            let now = self.now();
            if let Some(reason) = state.admission.why(id)
                && told_of != Some(reason)
                && now >= tell_at
            {
                told_of = Some(reason);
                state = self.apart(state, id, &mut || waits(reason));
                continue;
            }
            let is_told_of = listening.is_some();
            let longest = if is_told_of { WANTED_INTERVAL } else { CANCELLATION_INTERVAL };
            let times = [wanted.left(), state.look_at.map(|at| at.saturating_sub(now))];
            let told = tell_at.checked_sub(now).filter(|left| told_of.is_none() && !left.is_zero());
            let pause = times.into_iter().chain([told]).flatten().fold(longest, Duration::min);
            state = self.wait(state, pause);
            self.look_again(&mut state);
        }
    }

    /// Runs somebody else's code without the lock, for the request `id`, which is withdrawn where that panics.
    fn apart<'a>(
        self: &'a Arc<Self>,
        state: MutexGuard<'a, State>,
        id: Id,
        code: &mut dyn FnMut(),
    ) -> MutexGuard<'a, State> {
        drop(state);
        let asked = Asked { shared: self, id };
        code();
        std::mem::forget(asked);
        self.lock()
    }

    /// Lets everybody who waits look whether it is still wanted. Who has looked under the lock and not seen it yet sleeps by then.
    fn waker(self: &Arc<Self>) -> Wake {
        let shared = Arc::downgrade(self);
        Arc::new(move || {
            let Some(shared) = shared.upgrade() else { return };
            drop(shared.lock());
            shared.changed.notify_all();
        })
    }
}

/// A request whose owner's code runs; dropped only where that panics.
struct Asked<'a> {
    shared: &'a Arc<Shared>,
    id: Id,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.admission.withdraw(self.id, self.shared.now());
        if let Some(grant) = state.begun.remove(&self.id) {
            state.admission.give_back(grant);
        }
        self.shared.dispatch(&mut state, None);
    }
}
