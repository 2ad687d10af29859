//! The whole state of a queue as a list of small values: what a journal begins with, so that it need not be kept from
//! the first day.
//!
//! A [`Frozen`] is taken at one moment and can be written down later, while the queue goes on: it shares the payloads
//! and copies the rest, so a queue of some thousand items stands still for less than a millisecond. Not here: how
//! values are written down, and when (`journal`).

use std::vec;

use super::Queue;
use super::inspect::Counters;
use super::model::{DedupId, ItemId, NameId};
use super::options::Options;
use super::record::ApplyError;
use super::store::Item;
use crate::exchange::priority::Turns;

/// What is not an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// What the queue was declared with.
    pub(crate) options: Options,
    /// What happened to its items.
    pub(crate) counters: Counters,
    /// Whose turn it is.
    pub(crate) turns: Turns,
    /// The place of the next item among all.
    pub(crate) sequence_next: u64,
}

/// One deduplication id of one sender, and the item that was stored under it.
pub(crate) type Known = (NameId, DedupId, ItemId);

/// A queue at one moment.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// What is not an item.
    pub(crate) head: Head,
    /// Oldest first.
    pub(crate) known: Vec<Known>,
    /// In the order in which they must be restored.
    pub(crate) items: vec::IntoIter<Item>,
}

/// How much is in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) known: u64,
}

impl Queue {
    /// The state at this moment.
    pub(crate) fn freeze(&self) -> Frozen {
        let known = self.store.dedup.iter().map(|((sender, id), item)| (sender, id, item));
        let items: Vec<Item> = self.store.in_order().into_iter().cloned().collect();
        Frozen {
            head: Head {
                options: *self.options(),
                counters: self.store.counters,
                turns: self.store.ready.turns().clone(),
                sequence_next: self.store.sequence_next(),
            },
            known: known.collect(),
            items: items.into_iter(),
        }
    }

    /// What is in it, without looking at each: items and dead letters, their payload bytes, and deduplication ids.
    pub(crate) fn extent(&self) -> Extent {
        let usage = self.store.usage;
        Extent {
            items: usage.stored_count() + usage.dead_count,
            bytes: usage.bytes + usage.dead_bytes,
            known: self.store.dedup.len() as u64,
        }
    }

    /// An item as it was. Only for a queue that is being restored.
    pub(crate) fn restore_item(&mut self, item: Item) -> Result<(), ApplyError> {
        self.store.place(item)
    }

    /// A deduplication id as it was.
    pub(crate) fn restore_known(&mut self, (sender, id, item): Known) {
        self.store.dedup.remember(sender, id, item);
    }

    /// What is no item; after all items.
    pub(crate) fn restore_head(&mut self, head: &Head) {
        self.store.counters = head.counters;
        self.store.ready.set_turns(&head.turns);
        self.store.set_sequence_next(head.sequence_next);
    }
}
