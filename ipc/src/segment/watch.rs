//! What somebody who is no party to a lane keeps of it: headers mapped for reading, no descriptor, no ring.
//!
//! A router counts and shows with these. Everything is read once, any value is accepted, and nothing follows from one but
//! what is shown.

use std::os::fd::BorrowedFd;

use rustix::mm::ProtFlags;

use super::mapping::{Mapping, check};
use super::{Cursor, SegmentError, Slots, check_identity, slot_count};
use crate::histogram::Histogram;
use crate::layout::{CURSOR_MAGIC, CursorHeader, SLOTS_MAGIC, SlotsHeader, WriterCounters};
use crate::limits::SEGMENT_HEADER_BYTES;
use crate::sync::Ordering;

/// What a router keeps of a peer's slots: the header.
#[derive(Debug)]
pub struct SlotsWatch {
    mapping: Mapping,
    count: usize,
}

/// What a router keeps of a peer's cursor.
#[derive(Debug)]
pub struct CursorWatch {
    mapping: Mapping,
}

/// What a lane has carried, by the writer's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Messages, chunks counted once.
    pub messages: u64,
    /// Bytes that went through the region.
    pub bytes_lent: u64,
    /// How often the writer had to wait for room.
    pub waits: u64,
    /// How many messages were refused because the lane was full.
    pub rejected: u64,
    /// The position that is written next, as of the last whole message.
    pub position: u64,
    /// How many readers broke the protocol.
    pub quarantined: u32,
}

/// What one reader of a lane has taken, by its own count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReaderCounters {
    /// The position that it reads next; at most a quarter of the ring behind the truth.
    pub position: u64,
    /// Messages, as of when it last stored its position.
    pub messages: u64,
    /// Positions that it lost (topics).
    pub lost: u64,
    /// Whether the writer broke the protocol.
    pub quarantined: bool,
    /// How long messages that carry their send time were on their way.
    pub latency: Histogram,
}

impl SlotsWatch {
    /// Checks the slots of a peer as [`Slots::open`] does, and maps their header.
    pub fn open(descriptor: BorrowedFd<'_>) -> Result<Self, SegmentError> {
        let role = Slots::ROLE;
        let length = check(role, descriptor, |size| slot_count(size).is_some())?;
        let mapping = map(role, descriptor)?;
        let count = slot_count(length as u64);
        let count = count.ok_or(SegmentError::Size { role, got: length as u64 })?;
        let watch = Self { mapping, count };
        let identity = &watch.header().identity;
        check_identity(role, identity, SLOTS_MAGIC)?;
        if identity.number.load(Ordering::Relaxed) as usize != count {
            return Err(SegmentError::Size { role, got: length as u64 });
        }
        Ok(watch)
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.count
    }

    /// What the writer has counted.
    pub fn counters(&self) -> LaneCounters {
        LaneCounters::read(&self.header().counters)
    }

    fn header(&self) -> &SlotsHeader {
        // SAFETY: atomics and padding only, and this type only loads.
        let view = unsafe { self.mapping.view::<SlotsHeader>(0, 1) };
        &view[0]
    }
}

impl CursorWatch {
    /// Checks the cursor of a peer as [`Cursor::open`] does, and maps it.
    pub fn open(descriptor: BorrowedFd<'_>) -> Result<Self, SegmentError> {
        let role = Cursor::ROLE;
        check(role, descriptor, |size| size == SEGMENT_HEADER_BYTES as u64)?;
        let watch = Self { mapping: map(role, descriptor)? };
        check_identity(role, &watch.header().identity, CURSOR_MAGIC)?;
        Ok(watch)
    }

    /// What the reader has counted.
    pub fn counters(&self) -> ReaderCounters {
        ReaderCounters::read(self.header())
    }

    fn header(&self) -> &CursorHeader {
        // SAFETY: atomics and padding only, and this type only loads.
        let view = unsafe { self.mapping.view::<CursorHeader>(0, 1) };
        &view[0]
    }
}

impl LaneCounters {
    pub(super) fn read(counters: &WriterCounters) -> Self {
        Self {
            messages: counters.messages.load(Ordering::Relaxed),
            bytes_lent: counters.bytes_lent.load(Ordering::Relaxed),
            waits: counters.waits.load(Ordering::Relaxed),
            rejected: counters.rejected.load(Ordering::Relaxed),
            position: counters.position.load(Ordering::Relaxed),
            quarantined: counters.quarantined.load(Ordering::Relaxed),
        }
    }
}

impl ReaderCounters {
    pub(super) fn read(header: &CursorHeader) -> Self {
        Self {
            position: header.position.0.load(Ordering::Relaxed),
            messages: header.counters.messages.load(Ordering::Relaxed),
            lost: header.counters.lost.load(Ordering::Relaxed),
            quarantined: header.counters.quarantined.load(Ordering::Relaxed) != 0,
            latency: header.latency.read(),
        }
    }
}

fn map(role: &'static str, descriptor: BorrowedFd<'_>) -> Result<Mapping, SegmentError> {
    Mapping::new(descriptor, SEGMENT_HEADER_BYTES, ProtFlags::READ)
        .map_err(|source| SegmentError::System { action: "map", role, source })
}
