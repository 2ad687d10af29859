//! The writing side of a ring: its position, and what it knows of its readers' cursors.
//!
//! Not here: the rules (in `ring`), and what happens when there is no room (`lane`).

use super::{
    FLAG_SECOND_LINE, FLAG_TWO_LINES, Meta, Slot, Timing, Violation, WRITING, capacity_of, slot_of,
};
use crate::fault;
use crate::limits::{CLAIM_AHEAD_LINES, CLAIM_AHEAD_LINES_TOPIC};
use crate::prefetch;
use crate::sync::{AtomicU64, Ordering, fence};

/// What a second line holds: time, deadline, trace.
const TIMING_BYTES: usize = 32;

/// The writing side's private state.
#[derive(Debug)]
pub struct Producer {
    position: u64,
    /// Positions below this may be written without looking at any cursor.
    limit: u64,
    capacity: u64,
    /// How far ahead lines are asked for, so that the store of a line does not wait for the readers' copies to go.
    ahead: u64,
    /// Rule 8.
    ungated: bool,
}

impl Producer {
    /// The state at the start of fresh slots. `ungated` when a reader may be lapped or may join later (topics).
    ///
    /// # Panics
    /// When the number of slots is no power of two or less than 4.
    pub fn new(slots: &[Slot], ungated: bool) -> Self {
        let capacity = capacity_of(slots);
        let ahead = if ungated { CLAIM_AHEAD_LINES_TOPIC } else { CLAIM_AHEAD_LINES };
        // In a small ring half a lap: what was written last is not asked for again.
        let ahead = ahead.min(capacity / 2);
        Self { position: 0, limit: capacity, capacity, ahead, ungated }
    }

    /// The next position to be written.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many slots there are.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether so many lines can be written without looking at any cursor.
    #[inline]
    pub fn has_room(&self, lines: u64) -> bool {
        self.position + lines <= self.limit
    }

    /// Sets how far the writer may go: the smallest cursor of gating readers plus the capacity, or any lesser bound.
    pub fn set_limit(&mut self, limit: u64) {
        debug_assert!(limit <= self.position + self.capacity, "rule 3");
        self.limit = limit;
    }

    /// Writes one line with at most 48 bytes of payload. The caller has made sure that there is room for it.
    #[inline]
    pub fn write(&mut self, slots: &[Slot], meta: Meta, payload: &[u8]) {
        debug_assert!(self.has_room(1) && meta.flags & FLAG_TWO_LINES == 0);
        self.write_at(slots, self.position, meta, payload);
        self.ask_ahead(slots, self.position);
        self.position += 1;
    }

    /// Writes a message of two lines. The caller has made sure that there is room for both.
    #[inline]
    pub fn write_two(&mut self, slots: &[Slot], mut meta: Meta, payload: &[u8], timing: Timing) {
        debug_assert!(self.has_room(2));
        let mut second = [0; TIMING_BYTES];
        second[0..8].copy_from_slice(&timing.time_ns.to_le_bytes());
        second[8..16].copy_from_slice(&timing.deadline_ns.to_le_bytes());
        second[16..32].copy_from_slice(&timing.trace.to_le_bytes());
        let second_meta = Meta { flags: FLAG_SECOND_LINE, ..Meta::default() };
        self.write_at(slots, self.position + 1, second_meta, &second);
        fault::point("lane.second-line-first");
        meta.flags |= FLAG_TWO_LINES;
        self.write_at(slots, self.position, meta, payload);
        self.position += 2;
    }

    #[inline]
    fn write_at(&self, slots: &[Slot], position: u64, mut meta: Meta, payload: &[u8]) {
        meta.length = payload.len() as u16;
        let slot = slot_of(slots, position);
        let stamp = position + 1;
        if self.ungated {
            slot.stamp.store(WRITING | stamp, Ordering::Relaxed);
            // Partner: the Acquire fence in `Consumer::still_there`.
            fence(Ordering::Release);
        }
        slot.store(meta, payload);
        fault::point("lane.payload-written");
        // Partner: the Acquire load in `Consumer::look`.
        slot.stamp.store(stamp, Ordering::Release);
    }

    /// Asks for the second line of a message that is written next: what is done until then, as looking at a clock, takes no time
    /// then. The first line is left to the reader, who looks at it all the time and would only take it back.
    #[inline]
    pub(crate) fn ask_for_second(&self, slots: &[Slot]) {
        prefetch::for_writing(slot_of(slots, self.position + 1));
    }

    /// Asks for a line that will be written soon, after the message is out. Not for messages of two lines: there it was seen to
    /// cost latency, and who sends a time with each message wants that more than rate.
    #[inline]
    fn ask_ahead(&self, slots: &[Slot], position: u64) {
        prefetch::for_writing(slot_of(slots, position + self.ahead));
    }
}

/// The writer's copy of one gating reader's cursor, and its check (rules 3 and 10).
#[derive(Debug)]
pub struct Gate {
    cursor: u64,
    settled: bool,
}

impl Gate {
    /// A reader from the start of the ring (links): it must always be within the ring.
    pub fn from_start() -> Self {
        Self { cursor: 0, settled: true }
    }

    /// A reader that joins while the writer goes on (topics): it holds the writer back from the first time that its cursor
    /// is found within the ring.
    pub fn joining() -> Self {
        Self { cursor: 0, settled: false }
    }

    /// The last cursor that was seen, when it holds the writer back.
    pub fn cursor(&self) -> Option<u64> {
        self.settled.then_some(self.cursor)
    }

    /// Whether the reader holds the writer back by now.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Takes in what the reader's cursor says.
    pub fn update(&mut self, cursor: &AtomicU64, producer: &Producer) -> Result<(), Violation> {
        // Partner: the reader's Release store of its cursor; its copies of the lines are done.
        let got = cursor.load(Ordering::Acquire);
        let position = producer.position;
        let within = got <= position && position - got <= producer.capacity;
        if within && (!self.settled || got >= self.cursor) {
            self.cursor = got;
            self.settled = true;
            return Ok(());
        }
        if !self.settled && got <= position {
            return Ok(());
        }
        Err(Violation::Cursor { position, got })
    }
}
