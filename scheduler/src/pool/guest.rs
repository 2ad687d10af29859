//! Threads of others that do work of the pools' kinds: placed with the workers of its lane, and good for tickets of that lane.

use std::cell::Cell;
use std::sync::Arc;

use hw::pin::Thread;

use super::{Pools, Shared};
use crate::placement::{Lane, Work};

thread_local! {
    /// Of which pools this thread is a guest, by their address, and where.
    static SETTLED: Cell<Option<(usize, Lane)>> = const { Cell::new(None) };
}

/// That a thread is placed with the workers of a lane; dropping it ends that, and leaves the thread where it is.
#[derive(Debug)]
pub struct Guest {
    shared: Arc<Shared>,
    thread: Thread,
    lane: Lane,
}

impl Pools {
    /// Places the calling thread with the workers of such work, until that is dropped.
    pub fn settle(&self, work: Work) -> Guest {
        let (lane, thread) = (work.lane(), Thread::current());
        self.shared.places.enter_guest(lane, thread);
        SETTLED.set(Some((self.shared.address(), lane)));
        Guest { shared: Arc::clone(&self.shared), thread, lane }
    }
}

impl Shared {
    /// Whether the calling thread is as well placed for that lane as its workers are.
    pub(super) fn may_run_itself(self: &Arc<Self>, lane: Lane) -> bool {
        let is_free = self.places.is_free(lane);
        match SETTLED.get() {
            Some((address, own)) if address == self.address() => {
                // Background work runs in the idle class, which a guest is not in.
                let is_own = own == lane && lane != Lane::Background;
                is_own || (is_free && self.places.is_free(own))
            }
            _ => is_free,
        }
    }

    /// Which pools these are, among those of this process that are there now.
    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.places.leave_guest(self.lane, self.thread);
        // Elsewhere than on the thread itself there is nothing to take back.
        if Thread::current() == self.thread {
            SETTLED.set(None);
        }
    }
}
