//! Making packages ready for the next installation while nobody waits, in a process that stays ([`crate::store::Prepared`]).
//!
//! It begins when a request was answered and stops before the next package when another one comes. A process that ends with its
//! work prepares nothing.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use agents_contract::{Cancellation, Figure, Host};

use super::Shop;
use super::aside::Aside;
use super::incoming::{self, Incoming};
use crate::leftovers::Leftovers;
use crate::store::{Prepared, Standing, Store};

/// What stands ready, and who is at work. Nothing stands ready before [`Preparing::begin`].
#[derive(Default)]
pub(crate) struct Preparing {
    /// Requests. It guards nothing: who prepares asks it whether to go on.
    at_work: Arc<AtomicUsize>,
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
    /// Prepares from now on, in a directory of its own below `parent`.
    pub(crate) fn begin(
        &self,
        parent: &Path,
        bytes_max: u64,
        host: &Arc<dyn Host>,
        leftovers: &Arc<Leftovers>,
    ) {
        if bytes_max == 0 {
            return;
        }
        let begun = Incoming::new(parent, host, leftovers).and_then(|place| {
            let prepared = Arc::new(Prepared::new(place.path(), bytes_max)?);
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
        let Preparing { at_work, aside, ready } = &self.preparing;
        let Some(Ready { prepared, .. }) = ready.get() else { return };
        if !prepared.has_work() || at_work.load(Ordering::Relaxed) > 0 {
            return;
        }
        let (prepared, at_work) = (Arc::clone(prepared), Arc::clone(at_work));
        let (store, leftovers) = (Arc::clone(&self.store), Arc::clone(&self.leftovers));
        let piece = move |stop: &Cancellation| {
            let is_wanted = || !stop.is_cancelled() && at_work.load(Ordering::Relaxed) == 0;
            prepare(&prepared, (&store, &leftovers), &is_wanted, stop);
        };
        aside.later(&*self.host, Box::new(piece));
    }
}

fn prepare(
    prepared: &Prepared,
    (store, leftovers): (&Store, &Leftovers),
    is_wanted: &dyn Fn() -> bool,
    stop: &Cancellation,
) {
    let mut has_made = false;
    while is_wanted() && prepared.make_next(store, stop) {
        has_made = true;
    }
    for path in prepared.take_discarded() {
        leftovers.delete(&path, incoming::remove_tree);
    }
    if has_made {
        prepared.sync();
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.preparing.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}
