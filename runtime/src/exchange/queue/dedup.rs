//! The last deduplication ids that were stored, by the name of their sender, so that a sender that was
//! restarted is known too. Bounded by their number: the oldest id is forgotten first, whoever's it is.

use std::collections::{HashMap, VecDeque};

use super::model::{DedupId, ItemId, NameId};

type Key = (NameId, DedupId);

/// The window.
#[derive(Debug)]
pub(super) struct Dedup {
    known: HashMap<Key, ItemId>,
    order: VecDeque<Key>,
    count_max: usize,
}

impl Dedup {
    pub(super) fn new(count_max: u32) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), count_max: count_max as usize }
    }

    /// The item that was stored under this id.
    pub(super) fn find(&self, sender: NameId, id: DedupId) -> Option<ItemId> {
        self.known.get(&(sender, id)).copied()
    }

    /// Remembers an id that is not in the window.
    pub(super) fn remember(&mut self, sender: NameId, id: DedupId, item: ItemId) {
        if self.count_max == 0 || self.known.contains_key(&(sender, id)) {
            return;
        }
        if self.order.len() == self.count_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert((sender, id), item);
        self.order.push_back((sender, id));
    }

    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Every id, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, ItemId)> {
        self.order.iter().map(|key| (*key, self.known[key]))
    }
}
