//! The changes of a queue, each a small value: what a journal keeps. Every change of stored items goes
//! through `Store::apply` of one of these, live and on replay, so both give the same state.
//!
//! Not here: waiting takes and puts. They belong to connections, which do not outlive the exchange; a put
//! that waits has not been answered. How a record is written down (`journal`).
//!
//! Times are those of the caller's clock, which must mean the same to whoever reads the journal.

use super::model::{Agent, DedupId, ItemId, NameId, Payload};
use crate::exchange::priority::Priority;
use thiserror::Error;

/// One change of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An item was stored.
    Put {
        /// Which.
        item: ItemId,
        /// Whose.
        sender: NameId,
        /// How urgent.
        priority: Priority,
        /// Its deduplication id.
        dedup: Option<DedupId>,
        /// When it expires.
        deadline_ns: u64,
        /// Its bytes.
        payload: Payload,
    },
    /// A ready item was leased.
    Delivered {
        /// Which.
        item: ItemId,
        /// To whom.
        worker: Agent,
        /// The how-manieth time.
        delivery: u32,
        /// When.
        at_ns: u64,
        /// Until when.
        until_ns: u64,
    },
    /// A lease lasts longer.
    Extended {
        /// Of which item.
        item: ItemId,
        /// Until when now.
        until_ns: u64,
    },
    /// A lease moved.
    HandedOver {
        /// Of which item.
        item: ItemId,
        /// To whom.
        to: Agent,
        /// Until when now.
        until_ns: u64,
    },
    /// A leased item is done.
    Acked {
        /// Which.
        item: ItemId,
    },
    /// A leased item is ready again, or will be.
    Returned {
        /// Which.
        item: ItemId,
        /// Why.
        reason: ReturnReason,
        /// When it is ready; 0 for at once.
        ready_at_ns: u64,
    },
    /// The delay of a returned item is over.
    Readied {
        /// Which.
        item: ItemId,
    },
    /// An item became a dead letter.
    Died {
        /// Which.
        item: ItemId,
        /// Why.
        reason: DeadReason,
        /// When.
        at_ns: u64,
    },
    /// A ready item or a dead letter is gone.
    Dropped {
        /// Which.
        item: ItemId,
        /// Why.
        reason: DropReason,
    },
    /// A dead letter was stored anew, behind all others and for as many deliveries as a new one.
    Requeued {
        /// Which.
        item: ItemId,
        /// When it expires now.
        deadline_ns: u64,
    },
}

/// Why a lease ended without an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReturnReason {
    /// Its time was over.
    LeaseExpired,
    /// The worker gave it back.
    Nacked,
    /// The worker ended.
    WorkerGone,
    /// The exchange ended.
    Restarted,
    /// Nobody could be told of the delivery: it does not count as one of those that may be.
    Untold,
}

/// Why an item is not delivered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeadReason {
    /// Its deadline passed.
    Expired,
    /// It was delivered as often as may be; this is how its last lease ended.
    DeliveriesExhausted(ReturnReason),
}

/// Why an item is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum DropReason {
    /// A newer item took its room.
    Displaced,
    /// The dead letters have no room for it.
    DeadLettersFull,
    /// Somebody asked for it.
    Asked,
}

impl DropReason {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = Self::Asked as usize + 1;
}

/// Why a record does not follow from the state: the journal is damaged, or of another queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ApplyError {
    /// No item has this id.
    #[error("no item has the id: {}", .0.0)]
    Unknown(ItemId),
    /// The item is there but not in the state that the record changes.
    #[error("the record does not fit the state of the item: {}", .0.0)]
    State(ItemId),
    /// The queue cannot hold one more item.
    #[error("the queue has no room for the item: {}", .0.0)]
    Full(ItemId),
}
