//! The items that could be delivered now: by level, inside a level in the order they were put, whatever
//! happened to them in between; and whose turn it is.

use super::heap::{Heap, Places};
use crate::exchange::priority::{LEVELS, Priority, Turns};

/// Ready items.
#[derive(Debug, Default)]
pub(super) struct Ready {
    levels: [Heap<u64>; LEVELS],
    places: Places,
    bytes: [u64; LEVELS],
    turns: Turns,
}

impl Ready {
    pub(super) fn insert(&mut self, priority: Priority, sequence: u64, slot: u32, bytes: u64) {
        self.levels[priority.index()].insert(&mut self.places, slot, sequence);
        self.bytes[priority.index()] += bytes;
        self.turns.wait(priority);
    }

    pub(super) fn remove(&mut self, priority: Priority, slot: u32, bytes: u64) {
        let level = &mut self.levels[priority.index()];
        level.remove(&mut self.places, slot);
        self.bytes[priority.index()] -= bytes;
        if level.is_empty() {
            self.turns.leave(priority);
        }
    }

    /// Counts a take from this level as its turn.
    pub(super) fn count_turn(&mut self, priority: Priority) {
        self.turns.take(priority);
    }

    /// The slot whose turn it is.
    pub(super) fn next(&self) -> Option<u32> {
        let priority = self.turns.next()?;
        self.levels[priority.index()].first().map(|(_, slot)| slot)
    }

    /// The oldest slot of the least urgent level that has one, if it is no more urgent than this.
    pub(super) fn oldest_up_to(&self, priority: Priority) -> Option<u32> {
        let levels = &self.levels[..=priority.index()];
        levels.iter().find_map(Heap::first).map(|(_, slot)| slot)
    }

    /// Items and bytes at the levels up to this one.
    pub(super) fn extent_up_to(&self, priority: Priority) -> (u64, u64) {
        let levels = &self.levels[..=priority.index()];
        let items_count = levels.iter().map(|level| level.len() as u64).sum();
        (items_count, self.bytes[..=priority.index()].iter().sum())
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Goes on with the dates of another one that had the same items.
    pub(super) fn set_turns(&mut self, turns: &Turns) {
        self.turns.go_on_from(turns);
    }
}
