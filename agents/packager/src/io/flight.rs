//! One question at a time: whoever asks what is already being asked waits for that answer.
//!
//! Protocol of a [`Flight`]: it is created by the first asker, completed exactly once by the task that works on
//! it (or by that task's guard, should it panic or be cancelled), and out of the table just before. Waiters block
//! on the condition variable (threads) or on the notification (tasks); both look at the outcome under the lock
//! first, so none misses it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use agents_contract::Cancellation;
use tokio::sync::Notify;

use super::cache::Key;
use super::cache::memory::Value;
use super::http::Urgency;
use super::limits::{ANNOUNCEMENTS_MAX, CANCELLATION_INTERVAL};
use crate::error::{Error, Kind};

/// What a flight brings.
pub(crate) type Outcome = Result<Value, Error>;

/// A question under way. Askers of different modes (offline or not) do not share one.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    outcome: Mutex<Option<Outcome>>,
    landed: Condvar,
    landed_for_tasks: Notify,
    pub(crate) urgency: Urgency,
}

impl Flight {
    /// Blocks this thread until the outcome is there or the asker does not want it any more; the flight goes on
    /// for others. Never called on a thread of the runtime. Meanwhile others may compute in this one's place.
    pub(crate) fn wait(&self, cancellation: &Cancellation) -> Outcome {
        self.urgency.demand();
        if let Some(outcome) = &*lock(&self.outcome) {
            return outcome.clone();
        }
        let outcome = agents_contract::waiting(cancellation, || self.block(cancellation))?;
        // It may have been cancelled while it waited to go on; then it must not compute.
        Error::if_cancelled(cancellation)?;
        Ok(outcome)
    }

    fn block(&self, cancellation: &Cancellation) -> Outcome {
        let mut outcome = lock(&self.outcome);
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            Error::if_cancelled(cancellation)?;
            let waited = self.landed.wait_timeout(outcome, CANCELLATION_INTERVAL);
            outcome = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same for a task.
    pub(crate) async fn wait_in_task(&self) -> Outcome {
        self.urgency.demand();
        loop {
            let landed = self.landed_for_tasks.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if let Some(outcome) = &*lock(&self.outcome) {
                return outcome.clone();
            }
            landed.await;
        }
    }

    fn complete(&self, outcome: Outcome) {
        lock(&self.outcome).get_or_insert(outcome);
        self.landed.notify_all();
        self.landed_for_tasks.notify_waiters();
    }
}

/// Everything under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    table: Mutex<HashMap<(Key, bool), Arc<Flight>>>,
}

/// What an asker is to do.
pub(crate) enum Boarding {
    /// Work on it; the guard completes it.
    First(Pilot),
    /// Somebody works on it.
    Passenger(Arc<Flight>),
    /// It was only an announcement, and there are too many.
    Full,
}

impl Flights {
    /// How many questions are under way.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        lock(&self.table).len()
    }

    /// Joins the question or starts it. Announcements are refused when there are too many questions.
    pub(crate) fn board(self: &Arc<Self>, key: Key, offline: bool, announced: bool) -> Boarding {
        let mut table = lock(&self.table);
        if let Some(flight) = table.get(&(key, offline)) {
            return Boarding::Passenger(Arc::clone(flight));
        }
        if announced && table.len() >= ANNOUNCEMENTS_MAX {
            return Boarding::Full;
        }
        let flight = Arc::new(Flight::default());
        table.insert((key, offline), Arc::clone(&flight));
        Boarding::First(Pilot { flights: Arc::clone(self), key: (key, offline), flight })
    }
}

/// The duty to complete a flight.
pub(crate) struct Pilot {
    flights: Arc<Flights>,
    key: (Key, bool),
    pub(crate) flight: Arc<Flight>,
}

impl Pilot {
    /// Tells everybody. The caller has put the value into the memory cache before, so that nobody asks again.
    pub(crate) fn land(self, outcome: Outcome) {
        self.finish(outcome);
    }

    /// Leaves the table before anybody is told: whoever asks because of what it was told asks anew, and is not given
    /// an answer that is older than its question.
    fn finish(&self, outcome: Outcome) {
        {
            let mut table = lock(&self.flights.table);
            // After `land` somebody else may have started on the same question.
            if table.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
                table.remove(&self.key);
            }
        }
        self.flight.complete(outcome);
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        // Changes nothing after `land`; otherwise the work was cancelled or panicked.
        self.finish(Err(Error::new(
            Kind::Failed,
            "internal",
            "the work on a registry's answer was interrupted",
        )
        .retryable()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
