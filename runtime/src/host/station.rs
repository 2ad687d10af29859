//! What an agent does without being asked, as the serving thread sees it: events to publish, and work that must end before the
//! process does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agents_contract::{Busy, Cancellation, Station};

use super::calls::{Notice, Shared};

/// How much of it is under way, and whether more may begin.
#[derive(Debug)]
pub(super) struct Presence {
    /// Pieces under way, and [`STOPPED`] once nothing more may begin: one word, so that none begins after a look that found nothing.
    state: AtomicUsize,
    stop: Cancellation,
    /// Calls that were answered or are at work, until all that follows the answer is done.
    following: AtomicUsize,
}

/// Above any number of pieces.
const STOPPED: usize = 1 << (usize::BITS - 1);

impl Default for Presence {
    fn default() -> Self {
        let stop = Cancellation::until(None);
        Self { state: AtomicUsize::new(0), stop, following: AtomicUsize::new(0) }
    }
}

impl Presence {
    /// Nothing more begins, and what can still be abandoned should be.
    pub(super) fn stop(&self) {
        // In one order with the end of what follows a call: that is seen, or it sees this.
        self.state.fetch_or(STOPPED, Ordering::SeqCst);
        self.stop.cancel();
    }

    /// Whether what follows an answer is under way, or a call that it will follow.
    pub(super) fn is_followed(&self) -> bool {
        self.following.load(Ordering::SeqCst) > 0
    }

    fn has_stopped(&self) -> bool {
        self.state.load(Ordering::SeqCst) & STOPPED != 0
    }

    /// Whether anything is under way. Acquire: what a piece did before it ended (`leave`) is seen.
    pub(super) fn is_busy(&self) -> bool {
        self.state.load(Ordering::Acquire) & !STOPPED != 0
    }

    /// Cancelled by [`Presence::stop`].
    pub(super) fn stopping(&self) -> &Cancellation {
        &self.stop
    }

    fn enter(&self) -> bool {
        let entered = |state: usize| (state & STOPPED == 0).then_some(state + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, entered).is_ok()
    }

    /// Release: pairs with `is_busy`.
    fn leave(&self) {
        self.state.fetch_sub(1, Ordering::Release);
    }
}

/// What a call does on its thread, with all that follows its answer: the process does not end before.
pub(super) struct Following<'a>(&'a Shared);

impl<'a> Following<'a> {
    pub(super) fn begin(shared: &'a Shared) -> Self {
        shared.presence.following.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.presence.following.fetch_sub(1, Ordering::SeqCst);
        // Only who is about to stop waits for it.
        if self.0.presence.has_stopped() {
            self.0.bell.ring();
        }
    }
}

/// The agent's station.
pub(super) struct Post {
    pub(super) shared: Arc<Shared>,
}

/// One piece of work.
struct Piece {
    shared: Arc<Shared>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.shared.presence.leave();
        // The serving thread may be waiting for this to end.
        self.shared.tell(Notice::Changed);
    }
}

impl Station for Post {
    fn publish(&self, subject: &str, payload: &[u8]) {
        let (subject, payload) = (subject.to_owned(), payload.to_vec());
        self.shared.tell(Notice::Publish { subject, payload });
    }

    fn begin(&self) -> Option<Busy> {
        if !self.shared.presence.enter() {
            return None;
        }
        let piece = Busy::new(Piece { shared: Arc::clone(&self.shared) });
        // The serving thread may sleep without end; from now on it has to look what this computes.
        self.shared.tell(Notice::Changed);
        Some(piece)
    }

    fn cancellation(&self) -> &Cancellation {
        self.shared.presence.stopping()
    }

    fn changed(&self) {
        self.shared.tell(Notice::Changed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use ipc::doorbell::{Bell, Doorbell};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::config::{Config, Flags};
    use crate::echo::Echo;
    use crate::host::counters::Counters;
    use crate::host::scheduled::ScheduledHost;

    fn shared(doorbell: &Doorbell) -> (Arc<Shared>, Receiver<Notice>) {
        let bell = Bell::from_peer(doorbell.ringer().try_clone_to_owned().unwrap());
        let (tell, told) = sync_channel(4);
        let home = |name: &str| (name == "HOME").then(|| "/nonexistent".into());
        let config = Config::load(&Flags::default(), &home).unwrap();
        let host = Arc::new(ScheduledHost::new(&config.settings));
        let shared = Arc::new(Shared {
            agent: Arc::new(Echo::new(host)),
            counters: Counters::default(),
            notices: tell,
            bell: bell.unwrap(),
            presence: Presence::default(),
            threads: Arc::default(),
        });
        (shared, told)
    }

    #[test]
    fn the_serving_thread_hears_when_a_piece_of_work_begins_and_when_it_ends() {
        let doorbell = Doorbell::new().unwrap();
        let (shared, told) = shared(&doorbell);
        let post = Post { shared: Arc::clone(&shared) };
        let heard = || matches!(told.try_recv(), Ok(Notice::Changed));
        assert!(!heard());
        let busy = post.begin();
        assert!(heard() && !heard() && shared.presence.is_busy());
        drop(busy);
        assert!(heard() && !heard() && !shared.presence.is_busy());
        shared.presence.stop();
        assert!(post.begin().is_none() && !heard(), "nothing has begun");
    }

    #[test]
    fn what_follows_an_answer_is_waited_for_and_wakes_only_who_stops() {
        let doorbell = Doorbell::new().unwrap();
        let shared = shared(&doorbell).0;
        let is_rung = || {
            let mut fds = [PollFd::new(&doorbell, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
        };
        let following = Following::begin(&shared);
        assert!(shared.presence.is_followed() && !shared.presence.is_busy());
        drop(following);
        assert!(!shared.presence.is_followed() && !is_rung());
        let following = Following::begin(&shared);
        shared.presence.stop();
        assert!(shared.presence.is_followed() && !is_rung());
        drop(following);
        assert!(!shared.presence.is_followed() && is_rung());
    }

    #[test]
    fn nothing_begins_once_it_is_stopping_and_what_began_is_waited_for() {
        let presence = Presence::default();
        assert!(presence.enter() && presence.is_busy());
        presence.stop();
        assert!(presence.stop.is_cancelled());
        assert!(!presence.enter() && presence.is_busy());
        presence.leave();
        assert!(!presence.is_busy());
    }
}
