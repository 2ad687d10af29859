//! What goes into a queue and what comes out: names, requests, answers, effects, errors.

use std::sync::Arc;

use ipc::header::AgentId;
use thiserror::Error;

use super::record::{DeadReason, DropReason, Record};
use crate::exchange::priority::Priority;

/// A time nobody lives to see; stands for "no deadline".
pub(crate) const NEVER: u64 = u64::MAX;

/// The bytes of an item; shared with whoever sends or stores them.
pub(crate) type Payload = Arc<[u8]>;

/// One queue of this registry; not reused when the queue is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct QueueId {
    /// Its place.
    pub(crate) index: u32,
    /// How many queues had this place before.
    pub(crate) generation: u32,
}

/// One item; unique in its queue for as long as it is there, dead letters included. Whoever gives an id
/// again later lets a late ack of the former item pass for one of the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ItemId(pub(crate) u64);

/// What a sender calls an item so that a repeated put is known as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DedupId(pub(crate) u128);

/// The number that the caller gives to an agent's name; the same after every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameId(pub(crate) u64);

/// One life of an agent. Later lives under the same name have greater ids; 0 is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Agent {
    /// What stays.
    pub(crate) name: NameId,
    /// What a restart changes.
    pub(crate) id: AgentId,
}

/// A request to store an item.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    /// The sender's number for this request; comes back with the answer.
    pub(crate) request: u64,
    /// Who asks.
    pub(crate) sender: Agent,
    /// What the item is called from now on.
    pub(crate) item: ItemId,
    /// How urgent it is.
    pub(crate) priority: Priority,
    /// The same id from the same name within the window is stored once.
    pub(crate) dedup: Option<DedupId>,
    /// From then on it is not delivered any more, or [`NEVER`].
    pub(crate) deadline_ns: u64,
    /// How long the put may wait for room; 0 not to wait.
    pub(crate) wait_until_ns: u64,
    /// The item itself.
    pub(crate) payload: Payload,
}

/// The one answer to a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutAnswer {
    /// It is in the queue.
    Stored,
    /// It was in the queue before, as this item.
    Duplicate {
        /// The item that was stored.
        first: ItemId,
    },
    /// It is not in the queue.
    Rejected(Rejection),
}

/// Why an item was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rejection {
    /// No room, and the put does not wait.
    Full,
    /// No room came before the put's time was over.
    WaitedInVain,
    /// As many puts wait as may.
    TooManyWait,
    /// It would not even fit into the empty queue.
    TooLarge,
    /// Its deadline has passed.
    Expired,
    /// Another item has this id.
    ItemIdInUse,
    /// Its sender ended while it waited.
    SenderGone,
    /// Its sender took it back while it waited.
    Withdrawn,
}

impl Rejection {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = Self::Withdrawn as usize + 1;
}

/// A request for items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    /// The worker's number for this request; comes back with each delivery.
    pub(crate) request: u64,
    /// Who asks.
    pub(crate) worker: Agent,
    /// How many items at most.
    pub(crate) count_max: u32,
    /// How long it may wait for them; 0 not to wait.
    pub(crate) until_ns: u64,
}

/// Why a take ended with fewer items than it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeEnd {
    /// Its time is over.
    Timeout,
    /// As many takes wait as may.
    TooManyWait,
    /// The worker wants nothing more.
    Cancelled,
}

/// One item in the hands of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Who has it.
    pub(crate) worker: Agent,
    /// Which item.
    pub(crate) item: ItemId,
    /// 1 for the first delivery; names the lease together with item and worker.
    pub(crate) delivery: u32,
    /// Until when it is this worker's.
    pub(crate) lease_until_ns: u64,
    /// How urgent it is.
    pub(crate) priority: Priority,
    /// Whose it was.
    pub(crate) sender: NameId,
    /// The item itself.
    pub(crate) payload: Payload,
}

/// What the caller is to tell somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// To a sender: the one answer to its put.
    PutAnswered {
        /// Who asked.
        sender: Agent,
        /// Its number.
        request: u64,
        /// The item it was about.
        item: ItemId,
        /// What became of it.
        answer: PutAnswer,
    },
    /// To a worker: an item for its take.
    Delivered {
        /// The number of the take.
        request: u64,
        /// What it gets.
        delivery: Delivery,
    },
    /// To a worker: an item that another worker had.
    HandedOver {
        /// Who had it.
        from: Agent,
        /// What it gets.
        delivery: Delivery,
    },
    /// To a worker: its take gets nothing more.
    TakeEnded {
        /// Who asked.
        worker: Agent,
        /// Its number.
        request: u64,
        /// Items that it asked for and did not get.
        missing_count: u32,
        /// Why.
        end: TakeEnd,
    },
    /// To whoever watches: an item is not delivered any more, but kept for people.
    Died {
        /// Which.
        item: ItemId,
        /// Whose it was.
        sender: NameId,
        /// How often it was delivered.
        deliveries_count: u32,
        /// Why.
        reason: DeadReason,
    },
    /// To its sender and whoever watches: an item is gone.
    Dropped {
        /// Which.
        item: ItemId,
        /// Whose it was.
        sender: NameId,
        /// Why.
        reason: DropReason,
    },
}

/// What operations produce, in order. The caller keeps one, and empties it after each call.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// What to tell.
    pub(crate) effects: Vec<(QueueId, Effect)>,
    /// What changed in durable queues; a journal of these restores the state.
    pub(crate) records: Vec<(QueueId, Record)>,
}

#[cfg(test)]
impl Output {
    /// Empties both and keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.effects.clear();
        self.records.clear();
    }
}

/// The lease that an answer names is over: the item may be elsewhere, dead or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("delivery {delivery} of item {} is not leased to this worker", item.0)]
pub(crate) struct Stale {
    /// The item that was named.
    pub(crate) item: ItemId,
    /// The delivery that was named.
    pub(crate) delivery: u32,
}

/// Why a take was refused altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TakeError {
    /// None, or more than one take may ask for.
    #[error("a take asks for 1 to {max} items, got: {got}")]
    Count {
        /// What was asked.
        got: u32,
        /// What may be.
        max: u32,
    },
    /// A later life of this agent has been seen.
    #[error("the worker has been replaced")]
    Replaced,
}

/// Why an item was not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NackError {
    /// The lease is over.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The delay is longer than may be.
    #[error("a delay of {got} ns is longer than {max} ns")]
    Delay {
        /// What was asked.
        got: u64,
        /// What may be.
        max: u64,
    },
}

/// Why an item was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum HandoffError {
    /// The lease is over.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// A later life of the receiver has been seen.
    #[error("the receiving worker has been replaced")]
    Replaced,
}

/// Why a dead letter was not put back or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum DeadLetterError {
    /// There is none of this id.
    #[error("no dead letter has the id: {}", .0.0)]
    Unknown(ItemId),
    /// The queue has no room for it.
    #[error("the queue has no room")]
    Full,
}
