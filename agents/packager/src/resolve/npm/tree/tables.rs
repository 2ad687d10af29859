//! The tables of a tree. They are larger than what a process gets back from its system at once, and a list for each name is a
//! thousand small pieces of memory: so the room that one resolution needed is handed to the next one of this process, and what stood
//! in it is dropped when nobody waits for an answer. Nothing but room follows from it.
//!
//! One is kept at a time, within bounds; a second resolution at the same time begins with nothing.

use std::sync::{Mutex, PoisonError};

use super::{Edge, EdgeId, Node, NodeId};
use crate::limits::{NPM_ROOM_EDGES_MAX, NPM_ROOM_MAX};
use crate::resolve::npm::room::Room;

/// See the module.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    /// Edges of placed nodes by the name that they look for.
    pub(super) seekers: Vec<Vec<EdgeId>>,
    /// Placed nodes by name, in the order of placing.
    pub(super) bearers: Vec<Vec<NodeId>>,
}

/// What the last tree left, as it was or empty.
static LEFT: Mutex<Option<Tables>> = Mutex::new(None);

fn left(then: Option<Tables>) -> Option<Tables> {
    std::mem::replace(&mut LEFT.lock().unwrap_or_else(PoisonError::into_inner), then)
}

impl Tables {
    /// Empty ones: those that the last tree left, if nobody has them now.
    pub(super) fn take(room: Room) -> Self {
        let mut tables = left(None).unwrap_or_default();
        if !tables.nodes.is_empty() {
            // Nobody had the time.
            tables.empty();
        }
        tables.nodes.reserve(room.nodes);
        tables.edges.reserve(room.edges);
        tables.seekers.reserve(room.names.saturating_sub(tables.seekers.len()));
        tables.bearers.reserve(room.names.saturating_sub(tables.bearers.len()));
        tables
    }

    /// Leaves them for the next one as they are.
    pub(super) fn leave(self) {
        let other = left(Some(self));
        // Dropped when nobody waits for the lock.
        drop(other);
    }

    fn empty(&mut self) {
        self.nodes.clear();
        self.edges.clear();
        self.seekers.iter_mut().for_each(Vec::clear);
        self.bearers.iter_mut().for_each(Vec::clear);
    }

    fn is_within_bounds(&self) -> bool {
        let seekers: usize = self.seekers.iter().map(Vec::capacity).sum();
        let bearers: usize = self.bearers.iter().map(Vec::capacity).sum();
        let tables = [self.nodes.capacity(), self.seekers.capacity(), self.bearers.capacity()];
        tables.into_iter().all(|room| room <= NPM_ROOM_MAX)
            && [self.edges.capacity(), seekers, bearers]
                .into_iter()
                .all(|room| room <= NPM_ROOM_EDGES_MAX)
    }
}

/// Drops what stands in the tables that were left, if nobody has them now.
pub(in super::super) fn tidy() {
    // Whoever comes meanwhile finds none, and what is left meanwhile comes before what was.
    if let Some(mut tables) = left(None).filter(Tables::is_within_bounds) {
        tables.empty();
        let mut place = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_none() {
            *place = Some(tables);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_within_bounds() {
        let with = |edges| Tables { edges: Vec::with_capacity(edges), ..Tables::default() };
        let most = NPM_ROOM_EDGES_MAX;
        assert!(with(most).is_within_bounds());
        assert!(!with(most + 1).is_within_bounds());
        let seekers = (0..3).map(|_| Vec::with_capacity(most / 2)).collect();
        assert!(!Tables { seekers, ..Tables::default() }.is_within_bounds());
    }

    #[test]
    fn lists_are_emptied_and_keep_their_room() {
        let mut tables = Tables { bearers: vec![vec![NodeId(7)], Vec::new()], ..Tables::default() };
        tables.empty();
        assert!(tables.bearers.iter().all(Vec::is_empty));
        assert_eq!((tables.bearers.len(), tables.bearers[0].capacity()), (2, 1));
    }
}
