//! Making packages ready for the next installation while nobody waits, in a process that stays ([`crate::store::Prepared`]).
//!
//! It begins when a request was answered and stops before the next package when another one comes. A process that ends with its
//! work prepares nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use agents_contract::{Cancellation, Figure};

use super::Shop;
use super::aside::Aside;
use super::incoming::{self, Incoming};
use crate::leftovers::Leftovers;
use crate::limits::PREPARED_BYTES_FREE_MIN;
use crate::store::{Prepared, Room, Standing, Store};

/// What stands ready, and who is at work. Nothing stands ready before [`Preparing::begin`].
#[derive(Default)]
pub(crate) struct Preparing {
    /// Requests. It guards nothing: who prepares asks it whether to go on.
    at_work: Arc<AtomicUsize>,
    /// Whether a piece waits that will look at everything that is wanted by now. It guards nothing, either.
    is_queued: Arc<AtomicBool>,
    /// Who prepares; its thread ends before the place is removed.
    aside: Aside,
    ready: OnceLock<Ready>,
}

struct Ready {
    prepared: Arc<Prepared>,
    _place: Incoming,
}

/// A request at work.
pub(super) struct AtWork<'a>(&'a Shop);

impl Preparing {
    /// Prepares from now on, in a directory of its own below `parent`, at most so many bytes. What earlier processes left there is
    /// deleted when there is time.
    pub(crate) fn begin(&self, parent: &Path, bytes_max: u64, shop: &Shop) {
        let Shop { host, leftovers, store, .. } = shop;
        let (abandoned, left) = (parent.to_owned(), Arc::clone(leftovers));
        let sweep = move |_: &Cancellation| incoming::remove_abandoned(&abandoned, &left);
        self.aside.later(&**host, Box::new(sweep));
        if bytes_max == 0 {
            return;
        }
        if !store.are_seals_believed() {
            tracing::debug!(
                "no package is prepared: times do not tell here whether a file was written"
            );
            return;
        }
        let begun = Incoming::new(parent, host, leftovers).and_then(|place| {
            let room = Room { bytes_max, free_min: PREPARED_BYTES_FREE_MIN };
            let prepared = Arc::new(Prepared::new(place.path(), room)?);
            Ok(Ready { prepared, _place: place })
        });
        match begun {
            Ok(ready) => drop(self.ready.set(ready)),
            Err(error) => tracing::warn!(%error, "no package is prepared"),
        }
    }

    /// What stands ready, where anything is prepared.
    pub(crate) fn prepared(&self) -> Option<&Prepared> {
        self.ready.get().map(|ready| &*ready.prepared)
    }

    /// The same for whoever outlives a request.
    pub(super) fn shared(&self) -> Option<Arc<Prepared>> {
        self.ready.get().map(|ready| Arc::clone(&ready.prepared))
    }

    /// How many packages were made ready, and given.
    pub(crate) fn figures(&self) -> [Figure; 2] {
        let Standing { made, given, .. } =
            self.prepared().map(Prepared::standing).unwrap_or_default();
        [("given", given), ("made", made)].map(|(label, value)| Figure {
            name: "prepared",
            label,
            value,
        })
    }
}

impl Shop {
    pub(super) fn at_work(&self) -> AtWork<'_> {
        self.preparing.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(self)
    }

    /// Prepares what is wanted when there is time; for whoever has just answered.
    pub(crate) fn prepare_later(&self) {
        let Preparing { at_work, is_queued, aside, ready } = &self.preparing;
        let Some(Ready { prepared, .. }) = ready.get() else { return };
        let is_idle = prepared.has_work() && at_work.load(Ordering::Relaxed) == 0;
        if !is_idle || is_queued.swap(true, Ordering::Relaxed) {
            return;
        }
        let (prepared, at_work) = (Arc::clone(prepared), Arc::clone(at_work));
        let (store, leftovers) = (Arc::clone(&self.store), Arc::clone(&self.leftovers));
        let is_queued = Unqueue(Arc::clone(is_queued));
        let parent = self.prepared.clone();
        let piece = move |stop: &Cancellation| {
            drop(is_queued);
            let is_wanted = || !stop.is_cancelled() && at_work.load(Ordering::Relaxed) == 0;
            prepare(&prepared, (&store, &leftovers), &is_wanted, stop);
            // A process that was just ending when this one began has gone by now.
            if is_wanted() {
                incoming::remove_abandoned(&parent, &leftovers);
            }
        };
        aside.later(&*self.host, Box::new(piece));
    }

    /// Takes away everything that stands ready, and deletes it.
    pub(super) fn unprepare(&self) {
        if let Some(prepared) = self.preparing.shared() {
            unprepare(&prepared, &self.leftovers);
        }
    }
}

/// The same for whoever has no shop any more.
pub(super) fn unprepare(prepared: &Prepared, leftovers: &Leftovers) {
    prepared.clear();
    delete(prepared, leftovers);
}

fn delete(prepared: &Prepared, leftovers: &Leftovers) {
    for path in prepared.take_discarded() {
        leftovers.delete(&path, incoming::remove_tree);
    }
}

fn prepare(
    prepared: &Prepared,
    (store, leftovers): (&Store, &Leftovers),
    is_wanted: &dyn Fn() -> bool,
    stop: &Cancellation,
) {
    let mut has_made = false;
    while is_wanted() {
        delete(prepared, leftovers);
        if !prepared.make_next(store, stop) {
            break;
        }
        has_made = true;
    }
    if is_wanted() {
        delete(prepared, leftovers);
    }
    if has_made && !stop.is_cancelled() {
        prepared.sync();
    }
}

/// Whatever becomes of a piece, another one may follow it.
struct Unqueue(Arc<AtomicBool>);

impl Drop for Unqueue {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.preparing.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}
