//! The ring of stamped slots: one writer, any number of readers, memory given as a parameter.
//!
//! A slot is one cache line: stamp, first word, six words of payload. The reader spins on the stamp of the one slot that
//! it waits for, so one line moves between cores per message. Not here: mapping (`segment`), sleeping (`wait`), lent
//! payloads and lanes (`lane`).
//!
//! # Protocol
//! 1. Positions count lines from 0 and never wrap (2^63 of them). The slot of position `p` is `p & mask`; its stamp,
//!    when the line is there, is `p + 1`. Fresh memory is zero, which is no stamp.
//! 2. Only the writer writes slots; only a reader writes its cursor: the position that it will read next.
//! 3. *Gated*: the writer touches the slot of `p` only while `p - c < capacity` for the cursor `c` of every gating reader.
//!    It keeps the smallest as a limit and loads the cursors (Acquire, partner: the Release store of 6) only when the
//!    limit is reached.
//! 4. The writer stores the seven words (Relaxed), then the stamp `p + 1` (Release, partner: the Acquire load of 5).
//! 5. A reader at `p` loads the stamp (Acquire, partner: 4). `p + 1`: the line is there, it copies the words (Relaxed) once
//!    and checks the copy. The stamp of the lap before, or less: empty. Anything else: rules 8 and 9.
//! 6. A reader that has copied up to `c` stores its cursor `c` (Release, partner: 3); it may store late, but before it
//!    sleeps or reports that the ring is empty.
//! 7. A message of two lines takes `p` and `p + 1`. The second line is written and stamped first, its first word has
//!    `SECOND_LINE`; so whoever sees the first line finds the second one there.
//! 8. *Ungated* (topics): before 4 the writer stores the stamp `WRITING | (p + 1)` (Relaxed), then a Release fence. A reader
//!    that has copied the words makes an Acquire fence (partner: that Release fence, through a word that was overwritten)
//!    and loads the stamp again; if it changed, the copy is thrown away and the reader was lapped.
//! 9. A lapped reader knows from the stamp where the writer is, goes on a quarter of the ring after the oldest line, and
//!    counts the positions in between. In a ring that is gated from the start (links) a lap is a violation.
//! 10. Everything that is read here may be a lie. Positions, mask and limits are private; a lie gives a [`Violation`].

use thiserror::Error;

use crate::limits::INLINE_BYTES_MAX;
use crate::sync::{AtomicU64, Ordering, fence};

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

/// One slot, one cache line.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    stamp: AtomicU64,
    words: [AtomicU64; 7],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == crate::limits::SLOT_BYTES);

/// How many words of a slot are moved: all, or two where a model would take hours with more.
const WORDS: usize = if cfg!(loom) { 2 } else { 7 };

/// In a stamp: the line of this position is being written.
const WRITING: u64 = 1 << 63;

/// The payload continues in a region; the slot's payload says where.
pub const FLAG_REGION: u8 = 1;
/// A second line follows with time, deadline and trace.
pub const FLAG_TWO_LINES: u8 = 1 << 1;
/// More chunks of the same message follow.
pub const FLAG_CHUNK: u8 = 1 << 2;
/// This is an intermediate answer; more answers follow.
pub const FLAG_MORE: u8 = 1 << 3;
/// The payload is an error.
pub const FLAG_ERROR: u8 = 1 << 4;
/// The writer gave up the message whose chunks came before.
pub const FLAG_ABORT: u8 = 1 << 5;
/// Nobody waits for the answer with this correlation any more; no payload.
pub const FLAG_CANCEL: u8 = 1 << 6;
/// This is the second line of a message.
pub const FLAG_SECOND_LINE: u8 = 1 << 7;
// All eight bits have a meaning, so there are no unknown flags to refuse.

/// What stands in the first word of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Bytes of payload in the slot, at most 48.
    pub length: u16,
    /// 1 to 10, or 0 where nobody asks.
    pub priority: u8,
    /// `FLAG_*`.
    pub flags: u8,
    /// Joins an answer to its question; 0 for none.
    pub correlation: u32,
}

/// What the second line of a message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// When it was sent, nanoseconds since the Unix epoch, by the sender's clock.
    pub time_ns: u64,
    /// After which nobody wants it, nanoseconds since the Unix epoch; 0 for none.
    pub deadline_ns: u64,
    /// Joins everything that follows from one cause.
    pub trace: u128,
}

/// One line as a private copy: first word and payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The first word.
    pub meta: Meta,
    /// Six words of payload, little-endian.
    pub payload: [u64; 6],
}

/// How foreign memory broke the protocol. The lane is given up when one is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A stamp that no writer that keeps the rules would write.
    #[error("impossible stamp at position {position}: {got:#x}")]
    Stamp {
        /// Where the reader was.
        position: u64,
        /// The stamp.
        got: u64,
    },
    /// More payload than a slot holds.
    #[error("impossible length at position {position}: {got}, at most 48")]
    Length {
        /// Where the reader was.
        position: u64,
        /// The length.
        got: u16,
    },
    /// Flags that cannot stand together or here.
    #[error("impossible flags at position {position}: {got:#04x}")]
    Flags {
        /// Where the reader was.
        position: u64,
        /// The flags.
        got: u8,
    },
    /// A cursor beyond the writer, behind the ring, or moving back.
    #[error("impossible cursor: {got}, while the writer is at {position}")]
    Cursor {
        /// Where the writer was.
        position: u64,
        /// The cursor.
        got: u64,
    },
    /// A lent payload outside its region or of an impossible length.
    #[error("impossible lent payload: {length} bytes at {offset}")]
    Region {
        /// Where it was said to start.
        offset: u64,
        /// How long it was said to be.
        length: u64,
    },
    /// A message that is longer than the bus carries.
    #[error("message is too long: {got} bytes")]
    TooLong {
        /// How long it was said to be, or had become.
        got: u64,
    },
    /// Chunks that do not belong together.
    #[error("chunks of different messages are mixed at position {position}")]
    Chunks {
        /// Where the reader was.
        position: u64,
    },
    /// The message's header is none.
    #[error("message with a broken header: {0}")]
    Header(crate::header::HeaderError),
}

impl Slot {
    /// A slot that was never written: for rings on the heap; a fresh segment is all zero and so is this.
    pub fn new() -> Self {
        Self { stamp: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// The word that changes when the line of a position arrives; what a sleeper waits on.
    pub(crate) fn stamp(&self) -> &AtomicU64 {
        &self.stamp
    }

    /// Overwrites one of the eight words, as a hostile writer would.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn scribble(&self, index: usize, value: u64) {
        let word = if index == 0 { &self.stamp } else { &self.words[index - 1] };
        word.store(value, Ordering::Relaxed);
    }

    #[inline]
    fn store(&self, words: [u64; 7]) {
        for (word, value) in self.words.iter().zip(words).take(WORDS) {
            word.store(value, Ordering::Relaxed);
        }
    }

    #[inline]
    fn copy(&self) -> [u64; 7] {
        let word = |index: usize| self.words[index].load(Ordering::Relaxed);
        std::array::from_fn(|index| if index < WORDS { word(index) } else { 0 })
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl Meta {
    #[inline]
    fn to_word(self) -> u64 {
        u64::from(self.length)
            | u64::from(self.priority) << 16
            | u64::from(self.flags) << 24
            | u64::from(self.correlation) << 32
    }

    #[inline]
    fn from_word(word: u64) -> Self {
        Self {
            length: word as u16,
            priority: (word >> 16) as u8,
            flags: (word >> 24) as u8,
            correlation: (word >> 32) as u32,
        }
    }

    /// Whether all of these flags are set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

impl Line {
    /// A line with this payload, or nothing when it is longer than 48 bytes.
    #[inline]
    pub fn new(mut meta: Meta, payload: &[u8]) -> Option<Self> {
        let mut bytes = [0u8; INLINE_BYTES_MAX];
        bytes.get_mut(..payload.len())?.copy_from_slice(payload);
        meta.length = payload.len() as u16;
        let (words, _) = bytes.as_chunks::<8>();
        let payload = std::array::from_fn(|index| u64::from_le_bytes(words[index]));
        Some(Self { meta, payload })
    }

    /// The payload's bytes; only the first `meta.length` mean anything.
    #[inline]
    pub fn bytes(&self) -> [u8; INLINE_BYTES_MAX] {
        let mut bytes = [0u8; INLINE_BYTES_MAX];
        let (chunks, _) = bytes.as_chunks_mut::<8>();
        for (chunk, word) in chunks.iter_mut().zip(self.payload) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }

    #[inline]
    fn to_words(self) -> [u64; 7] {
        let [a, b, c, d, e, f] = self.payload;
        [self.meta.to_word(), a, b, c, d, e, f]
    }

    #[inline]
    fn from_words(words: [u64; 7]) -> Self {
        let [meta, payload @ ..] = words;
        Self { meta: Meta::from_word(meta), payload }
    }
}

/// The writing side's private state.
#[derive(Debug)]
pub struct Producer {
    position: u64,
    /// Positions below this may be written without looking at any cursor.
    limit: u64,
    capacity: u64,
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
        Self { position: 0, limit: capacity, capacity, ungated }
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

    /// Writes one line. The caller has made sure that there is room for it.
    #[inline]
    pub fn write(&mut self, slots: &[Slot], line: Line) {
        debug_assert!(self.has_room(1) && line.meta.flags & FLAG_TWO_LINES == 0);
        self.write_at(slots, self.position, line);
        self.position += 1;
    }

    /// Writes a message of two lines. The caller has made sure that there is room for both.
    #[inline]
    pub fn write_two(&mut self, slots: &[Slot], mut line: Line, timing: Timing) {
        debug_assert!(self.has_room(2));
        line.meta.flags |= FLAG_TWO_LINES;
        let mut second = Line::default();
        second.meta.flags = FLAG_SECOND_LINE;
        second.payload[0] = timing.time_ns;
        second.payload[1] = timing.deadline_ns;
        second.payload[2] = timing.trace as u64;
        second.payload[3] = (timing.trace >> 64) as u64;
        self.write_at(slots, self.position + 1, second);
        self.write_at(slots, self.position, line);
        self.position += 2;
    }

    #[inline]
    fn write_at(&self, slots: &[Slot], position: u64, line: Line) {
        let slot = slot_of(slots, position);
        let stamp = position + 1;
        if self.ungated {
            slot.stamp.store(WRITING | stamp, Ordering::Relaxed);
            // Partner: the Acquire fence in `Consumer::still_there`.
            fence(Ordering::Release);
        }
        slot.store(line.to_words());
        // Partner: the Acquire load in `Consumer::look`.
        slot.stamp.store(stamp, Ordering::Release);
    }
}

/// Whether a stamp says that its line is just being written.
pub(crate) fn is_writing(stamp: &AtomicU64) -> bool {
    stamp.load(Ordering::Acquire) & WRITING != 0
}

/// The slot of a position that came from anywhere: the mask makes it one of ours.
pub(crate) fn slot_at(slots: &[Slot], position: u64) -> &Slot {
    slot_of(slots, position)
}

/// What a reader finds at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing yet.
    Empty,
    /// A message.
    Message {
        /// Its line.
        line: Line,
        /// What the second line said, where there was one.
        timing: Option<Timing>,
    },
    /// So many positions were overwritten before they were read; the next look finds what is left.
    Lapped(u64),
}

/// What one look at one slot gives.
enum Look {
    Empty,
    There,
    Lapped { writer: u64 },
}

/// The reading side's private state.
#[derive(Debug)]
pub struct Consumer {
    position: u64,
    capacity: u64,
    ungated: bool,
}

impl Consumer {
    /// A reader that is there from the start, gated (links).
    ///
    /// # Panics
    /// When the number of slots is no power of two or less than 4.
    pub fn new(slots: &[Slot]) -> Self {
        Self { position: 0, capacity: capacity_of(slots), ungated: false }
    }

    /// A reader that joins where the writer is now and may be lapped (topics). One pass over all stamps.
    pub fn join(slots: &[Slot]) -> Self {
        let newest = slots.iter().map(|slot| slot.stamp.load(Ordering::Acquire));
        let position = newest.filter(|stamp| stamp & WRITING == 0).max().unwrap_or(0);
        Self { position, capacity: capacity_of(slots), ungated: true }
    }

    /// The position that is read next: what the cursor says, when it is stored.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The slot whose stamp changes when the next message arrives.
    pub(crate) fn next_slot<'a>(&self, slots: &'a [Slot]) -> &'a Slot {
        slot_of(slots, self.position)
    }

    /// Whether there is nothing new: what a reader asks again before it sleeps. Broken memory counts as news.
    pub(crate) fn is_empty(&self, slots: &[Slot]) -> bool {
        matches!(self.look(slots, self.position), Ok(Look::Empty))
    }

    /// Takes what is there. Everything in the returned value is a private copy, and its length and flags were checked.
    #[inline]
    pub fn take(&mut self, slots: &[Slot]) -> Result<Found, Violation> {
        let position = self.position;
        match self.look(slots, position)? {
            Look::Empty => return Ok(Found::Empty),
            Look::Lapped { writer } => return Ok(self.skip(writer)),
            Look::There => {}
        }
        let line = Line::from_words(slot_of(slots, position).copy());
        if self.ungated && !still_there(slots, position) {
            return self.lapped(slots, position);
        }
        let meta = line.meta;
        if usize::from(meta.length) > INLINE_BYTES_MAX {
            return Err(Violation::Length { position, got: meta.length });
        }
        if meta.flags & (FLAG_TWO_LINES | FLAG_SECOND_LINE) == 0 {
            self.position = position + 1;
            return Ok(Found::Message { line, timing: None });
        }
        self.take_second(slots, line)
    }

    /// The rare rest of [`Consumer::take`]: messages of two lines, and broken ones.
    fn take_second(&mut self, slots: &[Slot], line: Line) -> Result<Found, Violation> {
        let (position, flags) = (self.position, line.meta.flags);
        if flags & FLAG_SECOND_LINE != 0 {
            // After a lap a reader may land in the middle of a message; that message is lost too.
            if !self.ungated || flags != FLAG_SECOND_LINE {
                return Err(Violation::Flags { position, got: flags });
            }
            self.position = position + 1;
            return Ok(Found::Lapped(1));
        }
        match self.look(slots, position + 1)? {
            Look::There => {}
            Look::Lapped { writer } => return Ok(self.skip(writer)),
            Look::Empty => {
                let got = slot_of(slots, position + 1).stamp.load(Ordering::Relaxed);
                return Err(Violation::Stamp { position: position + 1, got });
            }
        }
        let second = Line::from_words(slot_of(slots, position + 1).copy());
        if self.ungated && !still_there(slots, position + 1) {
            return self.lapped(slots, position + 1);
        }
        if second.meta.flags != FLAG_SECOND_LINE {
            return Err(Violation::Flags { position: position + 1, got: second.meta.flags });
        }
        self.position = position + 2;
        let [time_ns, deadline_ns, low, high, ..] = second.payload;
        let trace = u128::from(low) | u128::from(high) << 64;
        Ok(Found::Message { line, timing: Some(Timing { time_ns, deadline_ns, trace }) })
    }

    /// Rules 5 and 9 for the slot of one position.
    #[inline]
    fn look(&self, slots: &[Slot], position: u64) -> Result<Look, Violation> {
        // Partner: the Release store of the stamp in `Producer::write_at`.
        let stamp = slot_of(slots, position).stamp.load(Ordering::Acquire);
        if stamp == position + 1 {
            return Ok(Look::There);
        }
        self.classify(stamp, position)
    }

    fn classify(&self, stamp: u64, position: u64) -> Result<Look, Violation> {
        let before = (position + 1).saturating_sub(self.capacity);
        if stamp == before {
            return Ok(Look::Empty);
        }
        if !self.ungated {
            return Err(Violation::Stamp { position, got: stamp });
        }
        let written = stamp & !WRITING;
        let ours = (position + 1) & (self.capacity - 1);
        if written & (self.capacity - 1) != ours && written != 0 {
            return Err(Violation::Stamp { position, got: stamp });
        }
        if written <= position + 1 {
            // An older lap, or this very line on its way.
            return Ok(Look::Empty);
        }
        Ok(Look::Lapped { writer: written - 1 })
    }

    /// After a copy turned out to be torn: the slot says where the writer is by now.
    fn lapped(&mut self, slots: &[Slot], position: u64) -> Result<Found, Violation> {
        match self.look(slots, position)? {
            Look::Lapped { writer } => Ok(self.skip(writer)),
            Look::Empty | Look::There => {
                let got = slot_of(slots, position).stamp.load(Ordering::Relaxed);
                Err(Violation::Stamp { position, got })
            }
        }
    }

    /// Rule 9: the writer is at `writer` in the slot that was to be read, so all that is at least one lap older is gone.
    fn skip(&mut self, writer: u64) -> Found {
        let target = writer + 1 - self.capacity + self.capacity / 4;
        let target = target.max(self.position + 1);
        let lost = target - self.position;
        self.position = target;
        Found::Lapped(lost)
    }
}

/// Rule 8: whether the line of a position was whole when it was copied.
#[inline]
fn still_there(slots: &[Slot], position: u64) -> bool {
    // Partner: the Release fence in `Producer::write_at`, seen through any word that was already overwritten.
    fence(Ordering::Acquire);
    slot_of(slots, position).stamp.load(Ordering::Relaxed) == position + 1
}

#[inline]
fn slot_of(slots: &[Slot], position: u64) -> &Slot {
    // The count is a power of two, so the mask is one less; it comes from the slice, not from shared memory.
    &slots[position as usize & (slots.len() - 1)]
}

fn capacity_of(slots: &[Slot]) -> u64 {
    assert!(
        slots.len().is_power_of_two() && slots.len() >= 4,
        "slots are a power of two, at least 4"
    );
    slots.len() as u64
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
