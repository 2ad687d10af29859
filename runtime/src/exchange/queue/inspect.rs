//! What people and metrics see of a queue.

use super::model::{ItemId, NameId};
use super::record::{DeadReason, DropReason};
use crate::exchange::priority::Priority;

/// What happened to the items of a queue, restored by its journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Items stored.
    pub(crate) put: u64,
    /// Deliveries, the first and all later ones.
    pub(crate) delivered: u64,
    /// Of these, the later ones.
    pub(crate) redelivered: u64,
    /// Items done.
    pub(crate) acked: u64,
    /// Leases that ended without an ack while the item stayed alive.
    pub(crate) returned: u64,
    /// Leases that moved to another worker.
    pub(crate) handed_over: u64,
    /// Items that died because their deadline passed.
    pub(crate) expired: u64,
    /// Items that died because they were delivered as often as may be.
    pub(crate) exhausted: u64,
    /// Dead letters that were stored anew.
    pub(crate) requeued: u64,
    /// Items gone, by `DropReason`.
    pub(crate) dropped: [u64; DropReason::COUNT],
}

/// What was refused since the daemon started; no journal keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals {
    /// Puts, by `Rejection`.
    pub(crate) rejected: [u64; super::model::Rejection::COUNT],
    /// Puts of an item that was stored before.
    pub(crate) duplicates: u64,
    /// Acks, returns, extensions and handoffs of a lease that is over.
    pub(crate) stale: u64,
    /// Takes that ended with fewer items than asked for.
    pub(crate) takes_cut: u64,
}

/// A queue at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueView {
    /// Items that could be delivered now.
    pub(crate) ready_count: u64,
    /// Items that wait for their delay.
    pub(crate) delayed_count: u64,
    /// Items that workers have.
    pub(crate) leased_count: u64,
    /// Payload bytes of these three.
    pub(crate) bytes: u64,
    /// Dead letters.
    pub(crate) dead_count: u64,
    /// Their payload bytes.
    pub(crate) dead_bytes: u64,
    /// Takes that wait.
    pub(crate) takers_count: u64,
    /// Puts that wait.
    pub(crate) putters_count: u64,
    /// What happened.
    pub(crate) counters: Counters,
    /// What was refused.
    pub(crate) refusals: Refusals,
}

/// One dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    /// Which item.
    pub(crate) item: ItemId,
    /// Whose.
    pub(crate) sender: NameId,
    /// How urgent it was.
    pub(crate) priority: Priority,
    /// How often it was delivered.
    pub(crate) deliveries_count: u32,
    /// Its payload bytes.
    pub(crate) bytes: u64,
    /// Why it died.
    pub(crate) reason: DeadReason,
    /// When it died.
    pub(crate) at_ns: u64,
}
