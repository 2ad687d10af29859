//! Who is on the bus by which name, as their own tasks see it: whoever comes back under a name at once waits until the hub has
//! heard that the one before is gone.
//!
//! It decides nothing. A name of which the holder is there is for the router to refuse.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;

use super::transport::{Death, Transport};

/// One client's socket and process.
pub(super) struct Peer {
    pub(super) transport: Transport,
    pub(super) death: Death,
}

impl Peer {
    /// Whether its socket hung up or its process ended, which its task may not have seen yet.
    fn has_left(&self) -> bool {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut sides = vec![PollFd::from_borrowed_fd(self.transport.as_fd(), PollFlags::empty())];
        let process = self.death.process();
        sides.extend(process.map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN)));
        poll(&mut sides, Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
    }
}

/// Everybody, by name: at most one for each connection.
#[derive(Default)]
pub(super) struct Presence(Mutex<HashMap<String, Present>>);

/// Who was the first of a name that was let through to the hub.
struct Present {
    peer: Weak<Peer>,
    /// Closed when the hub has been told of the end.
    over: watch::Receiver<()>,
}

impl Present {
    fn is_leaving(&self) -> bool {
        self.peer.upgrade().is_none_or(|peer| peer.has_left())
    }
}

/// Kept by a client's task until it has told the hub of the end.
pub(super) struct Stay<'a> {
    presence: &'a Presence,
    name: &'a str,
    over: watch::Receiver<()>,
    _until: watch::Sender<()>,
}

impl Presence {
    /// Returns when nobody of this name is about to leave.
    pub(super) async fn enter<'a>(&'a self, name: &'a str, peer: &Arc<Peer>) -> Stay<'a> {
        let (until, over) = watch::channel(());
        let stay = Stay { presence: self, name, over, _until: until };
        while let Some(mut leaving) = self.leaving(&stay, peer) {
            // Nothing is ever sent: this is the end.
            let _ = leaving.changed().await;
        }
        stay
    }

    /// The end of the one before, where that has left. Otherwise the name is the newcomer's, or the router says why not.
    fn leaving(&self, stay: &Stay<'_>, peer: &Arc<Peer>) -> Option<watch::Receiver<()>> {
        match self.lock().entry(stay.name.to_owned()) {
            Entry::Occupied(holder) => holder.get().is_leaving().then(|| holder.get().over.clone()),
            Entry::Vacant(free) => {
                free.insert(Present { peer: Arc::downgrade(peer), over: stay.over.clone() });
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Present>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        let mut names = self.presence.lock();
        if names.get(self.name).is_some_and(|holder| holder.over.same_channel(&self.over)) {
            names.remove(self.name);
        }
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Presence").field(&self.lock().len()).finish()
    }
}
