//! How much the last resolution of this process needed, so that the tables of the next one need not grow: mostly it is about the
//! same project. Nothing but room follows from it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::NPM_ROOM_MAX;

/// Entries of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) names: usize,
    pub(super) wants: usize,
    pub(super) nodes: usize,
    pub(super) edges: usize,
}

/// Of one process.
pub(super) struct Last([AtomicUsize; 4]);

/// See the module.
pub(super) static LAST: Last = Last([const { AtomicUsize::new(0) }; 4]);

impl Last {
    /// Room for as much as there was the last time, within a bound. Several resolutions may have written at once: each of the numbers is
    /// that of one of them.
    pub(super) fn room(&self) -> Room {
        let [names, wants, nodes, edges] =
            [0, 1, 2, 3].map(|at: usize| self.0[at].load(Ordering::Relaxed).min(NPM_ROOM_MAX));
        Room { names, wants, nodes, edges }
    }

    /// What was needed.
    pub(super) fn set(&self, room: Room) {
        let Room { names, wants, nodes, edges } = room;
        for (place, count) in self.0.iter().zip([names, wants, nodes, edges]) {
            place.store(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_was_needed_and_bounded() {
        let last = Last([const { AtomicUsize::new(0) }; 4]);
        assert_eq!(last.room(), Room { names: 0, wants: 0, nodes: 0, edges: 0 });
        last.set(Room { names: 1, wants: 2, nodes: 3, edges: usize::MAX });
        assert_eq!(last.room(), Room { names: 1, wants: 2, nodes: 3, edges: NPM_ROOM_MAX });
    }
}
