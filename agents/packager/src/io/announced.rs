//! What is asked for before anybody waits for it: who announced it, when it is given up, and where it stands when there is
//! no room. What happens to an answer is `resource`'s.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;

use super::flight::Outcome;
use super::http::Urgency;
use super::limits::{ABANDONED_INTERVAL, BACKLOG_MAX};
use super::resource::{Resource, Session};
use crate::error::{Error, Kind};

/// Who is asked about what arrives for one client, as long as it lives. Shared with every question of that client, so that
/// those count too that were sent before anybody followed.
pub(crate) struct Follower<A: ?Sized>(Mutex<Option<Weak<A>>>);

impl<A: ?Sized> fmt::Debug for Follower<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Follower")
    }
}

impl<A: ?Sized> Default for Follower<A> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<A: ?Sized> Follower<A> {
    pub(crate) fn set(&self, ahead: &Arc<A>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(ahead));
    }

    pub(crate) fn get(&self) -> Option<Arc<A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }

    /// Whether whoever followed is gone. Before anybody followed nobody is.
    pub(crate) fn is_gone(&self) -> bool {
        let ahead = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.as_ref().is_some_and(|ahead| ahead.strong_count() == 0)
    }
}

/// Ends when nobody waits for a resource and whoever announced it does not want it any more. Looks whenever its task is
/// woken, so that a request whose turn comes too late is not sent, and from time to time.
pub(super) async fn abandoned(resource: &dyn Resource, urgency: &Urgency) {
    let mut interval = tokio::time::interval(ABANDONED_INTERVAL);
    std::future::poll_fn(|context| {
        if !urgency.is_demanded() && !resource.is_wanted() {
            return Poll::Ready(());
        }
        // Until it is pending, and so will wake this task.
        while interval.poll_tick(context).is_ready() {}
        Poll::Pending
    })
    .await;
}

const ABANDONED: &str = "abandoned";

/// Whoever came to wait for it in the last moment asks anew.
pub(super) fn abandonment() -> Error {
    Error::new(Kind::Failed, ABANDONED, "nobody wanted the answer any more")
}

pub(super) fn is_abandoned(outcome: &Outcome) -> bool {
    outcome.as_ref().is_err_and(|error| error.code == ABANDONED)
}

/// Announcements for which there was no room: they start when others have landed. Bounded; what is beyond is dropped, it
/// was only a hint.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Mutex<VecDeque<(Session, Announced)>>);

/// A resource that can stand in a queue.
pub(crate) struct Announced(Arc<dyn Resource>);

impl fmt::Debug for Announced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.title())
    }
}

impl Backlog {
    pub(super) fn push(&self, session: Session, resource: Arc<dyn Resource>) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < BACKLOG_MAX {
            queue.push_back((session, Announced(resource)));
        }
    }

    pub(super) fn pop(&self) -> Option<(Session, Arc<dyn Resource>)> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front().map(|(session, announced)| (session, announced.0))
    }
}
