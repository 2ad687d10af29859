//! Small files that are fetched into memory, for callers who read them once and keep nothing of them: most archives of packages are a
//! few KiB, and giving each a name, a lock and a place on the disk takes longer than moving its bytes.
//!
//! A file has room reserved before its first byte is taken, of all that the process has for this; where there is none it goes to the disk.
//! The room is given back with the bytes. Whoever has a process unpack them gives that a copy ([`crate::unpack`]), which is not counted here: one
//! for each archive that is being unpacked.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What the process has for files in memory. It guards nothing.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes) })
    }

    /// Reserves so many bytes, where there are as many.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        let take = |left: u64| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Room { budget: Arc::clone(self), bytes })
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }
}

/// A part of it, given back at its end.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    pub(super) bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// The bytes that came so far.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) bytes: Vec<u8>,
    pub(super) room: Room,
}

/// A file that is whole: every digest that is known of it was right.
pub struct Held(Memory);

impl Held {
    pub(super) fn new(memory: Memory) -> Self {
        Self(memory)
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Held").field(&self.0.bytes.len()).finish()
    }
}

/// Where a small file may be laid down instead of at its destination.
#[derive(Clone, Debug, Default)]
pub struct Slot(Arc<Mutex<Option<Held>>>);

impl Slot {
    /// What is there; nothing where the file is at its destination.
    pub fn take(&self) -> Option<Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, held: Held) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_one_for_all_and_comes_back_with_what_it_was_for() {
        let budget = Budget::new(10);
        let first = budget.take(7).expect("room");
        assert!(budget.take(4).is_none());
        let slot = Slot::default();
        slot.put(Held::new(Memory { bytes: vec![1; 7], room: first }));
        assert!(budget.take(3).is_some_and(|second| second.bytes == 3));
        assert_eq!(slot.take().expect("laid down").bytes().len(), 7);
        assert!(slot.take().is_none());
        assert_eq!(budget.left(), 10);
    }
}
