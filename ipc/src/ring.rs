//! The ring of stamped slots: one writer, any number of readers, memory given as a parameter.
//!
//! A slot is one cache line: stamp, first word, six words of payload. The reader spins on the stamp of the one slot that
//! it waits for, so one line moves between cores per message. The writer, and a reader with a backlog, ask for lines some way ahead
//! (`prefetch`): a hint, no part of the protocol. Not here: mapping (`segment`), sleeping (`wait`), lent
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
//! 6. A reader that has copied up to `c` stores its cursor `c` (Release, partner: 3); it may store late, but four times per lap, and before it
//!    sleeps.
//! 7. A message of two lines takes `p` and `p + 1`. The second line is written and stamped first, its first word has
//!    `SECOND_LINE`; so whoever sees the first line finds the second one there.
//! 8. *Ungated* (topics): before 4 the writer stores the stamp `WRITING | (p + 1)` (Relaxed), then a Release fence. A reader
//!    that has copied the words makes an Acquire fence (partner: that Release fence, through a word that was overwritten)
//!    and loads the stamp again; if it changed, the copy is thrown away and the reader was lapped.
//! 9. A lapped reader knows from the stamp where the writer is, goes on a quarter of the ring after the oldest line, and
//!    counts the positions in between. In a ring that is gated from the start (links) a lap is a violation.
//! 10. Everything that is read here may be a lie. Positions, mask and limits are private; a lie gives a [`Violation`].

use thiserror::Error;

mod consumer;
mod join;
#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
mod producer;
mod slot;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

pub use consumer::{Consumer, Found};
pub(crate) use join::{JoinWords, Place};
pub use producer::{Gate, Producer};
pub use slot::{Line, Slot};

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

/// A message with one of these is more than one line that stands for itself.
const FLAGS_JOINED: u8 = FLAG_REGION | FLAG_TWO_LINES | FLAG_CHUNK | FLAG_ABORT | FLAG_SECOND_LINE;

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
    /// A packet of a socket that no writer that keeps the rules would send.
    #[error("impossible packet {position}: {bytes} bytes")]
    Packet {
        /// How many came before it.
        position: u64,
        /// How long it was.
        bytes: u64,
    },
    /// The message's header is none.
    #[error("message with a broken header: {0}")]
    Header(crate::header::HeaderError),
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

    /// Whether a first word is that of a message of one line that stands for itself, with a possible length: what the
    /// quick way through a ring takes, in one test without a jump.
    #[inline]
    fn is_plain_word(word: u64) -> bool {
        let joined = word & u64::from(FLAGS_JOINED) << 24;
        (joined == 0) & (word & 0xFFFF <= crate::limits::INLINE_BYTES_MAX as u64)
    }

    /// Whether all of these flags are set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// Whether a stamp says that its line is just being written.
pub(crate) fn is_writing_value(stamp: u64) -> bool {
    stamp & WRITING != 0
}

/// The slot of a position that came from anywhere: the mask makes it one of ours.
pub(crate) fn slot_at(slots: &[Slot], position: u64) -> &Slot {
    slot_of(slots, position)
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
