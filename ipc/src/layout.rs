//! The fixed structures at the start of each segment, byte for byte (PROTOCOL.md has the same as a table).
//!
//! Not here: mapping (`segment`) and meaning (`ring`, `wait`, `lane`). Words of different writers or different rhythm lie
//! in cache lines of their own. Each structure fills `SEGMENT_HEADER_BYTES`.

use std::mem::offset_of;

use crate::histogram::{BUCKETS, Histogram, bucket_of};
use crate::limits::{LATENCY_SAMPLE_NS_MAX, SEGMENT_HEADER_BYTES};
use crate::ring::JoinWords;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The version of all segments, major and minor.
pub(crate) const SEGMENT_VERSION: (u16, u16) = (1, 3);
/// The minor version from which on a topic's slots say where to join, and readers heed quiet times.
pub(crate) const JOIN_SINCE: u16 = 2;
/// The minor version from which on a link's reader rings the bell of a writer that waits for room in an event loop.
pub(crate) const ROOM_BELL_SINCE: u16 = 3;
/// The minor version from which on a topic's slots say which of the kept messages are whole in the ring.
pub(crate) const WHOLE_SINCE: u16 = 3;

/// The first line of every segment but a region, written before it is handed on and never again.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) magic: AtomicU32,
    /// Major in the low half, minor in the high half.
    pub(crate) version: AtomicU32,
    /// Slots: how many. Cursor: 1 when the reader never sleeps. Pool, returns: the pool's number.
    pub(crate) number: AtomicU32,
    /// Slots: 1 when a reader may be lapped (rule 8 of the ring).
    pub(crate) flags: AtomicU32,
}

/// One word alone in its line.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Alone<T>(pub(crate) T);

/// The header of a slots segment. The writer of the lane writes it.
#[repr(C, align(4096))]
#[derive(Debug)]
pub(crate) struct SlotsHeader {
    pub(crate) identity: Identity,
    /// The sleep word of a writer that waits for room.
    pub(crate) writer_sleeping: Alone<AtomicU32>,
    /// Region bytes before this position (minus the region's size) may be overwritten.
    pub(crate) reserved_until: Alone<AtomicU64>,
    pub(crate) counters: WriterCounters,
    /// Until when the writer looks only at readers that it saw asleep (rule 7 of `wait`).
    pub(crate) quiet_until: Alone<AtomicU64>,
    /// Of a topic that keeps messages: where the first of these begins that is whole in the ring.
    pub(crate) whole_from: Alone<AtomicU64>,
}

/// Counters that the writer keeps for whoever looks.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct WriterCounters {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes_lent: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) rejected: AtomicU64,
    /// The position that is written next, as of the last whole message.
    pub(crate) position: AtomicU64,
    /// Where the messages begin that a reader which joins is given. Stored before `position`.
    pub(crate) history_from: AtomicU64,
    /// The same, stored after `position`: equal values mean that the three belong together.
    pub(crate) history_again: AtomicU64,
    /// How many messages that are at most; written before the segment is handed on.
    pub(crate) history: AtomicU32,
    /// How many readers broke the protocol; never on the way of a message.
    pub(crate) quarantined: AtomicU32,
}

impl WriterCounters {
    /// What they say of where to join.
    #[inline]
    pub(crate) fn join_words(&self) -> JoinWords<'_> {
        let Self { history_from, position, history_again, .. } = self;
        JoinWords { from: history_from, position, again: history_again }
    }
}

/// A cursor segment. The reader of the lane writes it.
#[repr(C, align(4096))]
#[derive(Debug)]
pub(crate) struct CursorHeader {
    pub(crate) identity: Identity,
    /// The position that the reader reads next.
    pub(crate) position: Alone<AtomicU64>,
    /// The reader's sleep word.
    pub(crate) sleeping: Alone<AtomicU32>,
    pub(crate) counters: ReaderCells,
    pub(crate) latency: LatencyCells,
}

/// Counters that the reader keeps for whoever looks.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct ReaderCells {
    pub(crate) messages: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// 1 when the writer broke the protocol and nothing more is read from it.
    pub(crate) quarantined: AtomicU64,
}

/// How long messages that carry their send time were on their way: the cells of a [`Histogram`].
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct LatencyCells {
    pub(crate) sum_ns: AtomicU64,
    pub(crate) counts: [AtomicU64; BUCKETS],
}

impl LatencyCells {
    /// Counts one time. For the reader of the lane alone: two plain stores, no read-modify-write.
    #[inline]
    pub(crate) fn record(&self, time_ns: u64) {
        let add = |cell: &AtomicU64, more: u64| {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        };
        add(&self.counts[bucket_of(time_ns)], 1);
        add(&self.sum_ns, time_ns.min(LATENCY_SAMPLE_NS_MAX));
    }

    /// Reads every cell once.
    pub(crate) fn read(&self) -> Histogram {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed));
        Histogram::from_parts(counts, self.sum_ns.load(Ordering::Relaxed))
    }
}

/// A control page. The router writes it.
#[repr(C, align(4096))]
#[derive(Debug)]
pub(crate) struct ControlHeader {
    pub(crate) identity: Identity,
    /// One of `LaneState`; a futex.
    pub(crate) state: Alone<AtomicU32>,
    /// Grows with every link that the router sets up: a link that was opened again has another one.
    pub(crate) epoch: Alone<AtomicU32>,
}

/// The start of a pool. The lender writes it; the bytes that it lends follow.
#[repr(C, align(4096))]
#[derive(Debug)]
pub(crate) struct PoolHeader {
    pub(crate) identity: Identity,
    /// The sleep word of a lender that waits for room.
    pub(crate) lender_sleeping: Alone<AtomicU32>,
    /// Messages are loans here.
    pub(crate) counters: WriterCounters,
}

/// The start of a returns segment. The borrower writes it; one word for each loan number modulo `LOANS_MAX` follows.
#[repr(C, align(4096))]
#[derive(Debug)]
pub(crate) struct ReturnsHeader {
    pub(crate) identity: Identity,
    /// Grows with each return; a futex. Nothing is concluded from it but that there may be news.
    pub(crate) returned: Alone<AtomicU64>,
}

pub(crate) const SLOTS_MAGIC: u32 = u32::from_le_bytes(*b"BLSL");
pub(crate) const CURSOR_MAGIC: u32 = u32::from_le_bytes(*b"BLCU");
pub(crate) const CONTROL_MAGIC: u32 = u32::from_le_bytes(*b"BLCP");
pub(crate) const POOL_MAGIC: u32 = u32::from_le_bytes(*b"BLPO");
pub(crate) const RETURNS_MAGIC: u32 = u32::from_le_bytes(*b"BLRE");
/// In a cursor's `number`: the reader never sleeps, so nobody needs to look whether it does.
pub(crate) const READER_POLLS: u32 = 1;
/// In the slots' `flags`.
pub(crate) const FLAG_UNGATED: u32 = 1;

const _: () = assert!(size_of::<SlotsHeader>() == SEGMENT_HEADER_BYTES);
const _: () = assert!(size_of::<CursorHeader>() == SEGMENT_HEADER_BYTES);
const _: () = assert!(size_of::<ControlHeader>() == SEGMENT_HEADER_BYTES);
const _: () = assert!(offset_of!(SlotsHeader, writer_sleeping) == 64);
const _: () = assert!(offset_of!(SlotsHeader, reserved_until) == 128);
const _: () = assert!(offset_of!(SlotsHeader, counters) == 192);
const _: () = assert!(offset_of!(CursorHeader, position) == 64);
const _: () = assert!(offset_of!(CursorHeader, sleeping) == 128);
const _: () = assert!(offset_of!(CursorHeader, counters) == 192);
const _: () = assert!(offset_of!(SlotsHeader, counters.position) == 224);
const _: () = assert!(offset_of!(SlotsHeader, counters.history_from) == 232);
const _: () = assert!(offset_of!(SlotsHeader, counters.history_again) == 240);
const _: () = assert!(offset_of!(SlotsHeader, counters.history) == 248);
const _: () = assert!(offset_of!(SlotsHeader, quiet_until) == 256);
const _: () = assert!(offset_of!(SlotsHeader, whole_from) == 320);
const _: () = assert!(offset_of!(SlotsHeader, counters.quarantined) == 252);
const _: () = assert!(offset_of!(CursorHeader, counters.quarantined) == 208);
const _: () = assert!(offset_of!(CursorHeader, latency) == 256);
const _: () = assert!(offset_of!(CursorHeader, latency.counts) == 264);
const _: () = assert!(offset_of!(ControlHeader, state) == 64);
const _: () = assert!(offset_of!(ControlHeader, epoch) == 128);
const _: () = assert!(size_of::<PoolHeader>() == SEGMENT_HEADER_BYTES);
const _: () = assert!(size_of::<ReturnsHeader>() == SEGMENT_HEADER_BYTES);
const _: () = assert!(offset_of!(PoolHeader, lender_sleeping) == 64);
const _: () = assert!(offset_of!(PoolHeader, counters) == 128);
const _: () = assert!(offset_of!(ReturnsHeader, returned) == 64);
