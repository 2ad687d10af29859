//! Segments: sealed memfds, mapped once; the only place where foreign memory gets an address.
//!
//! Whoever writes a segment creates it: memfd, all blocks allocated, mapped for writing, then sealed against shrinking,
//! growing, future writing and more seals, then handed on. Whoever receives one believes nothing: seals, file system, size
//! and blocks are checked before it is mapped, for reading only. What then stands in the memory may still be any bytes at
//! any time, so everything is read through atomics, and readers check what they copied.
//!
//! Not here: what the words mean (`ring`, `wait`, `lane`), and the segments of large payloads (`bulk`, beneath this one).
#![allow(unsafe_code, reason = "the one module that maps memory and gives typed views of it")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use thiserror::Error;

use crate::layout::{
    CONTROL_MAGIC, CURSOR_MAGIC, ControlHeader, CursorHeader, FLAG_UNGATED, Identity, JOIN_SINCE,
    READER_POLLS, ROOM_BELL_SINCE, SEGMENT_VERSION, SLOTS_MAGIC, SlotsHeader, WHOLE_SINCE,
};
use crate::limits::{
    REGION_BYTES_MAX, REGION_BYTES_MIN, SEGMENT_HEADER_BYTES, SLOT_BYTES, SLOTS_MAX, SLOTS_MIN,
};
use crate::ring::Slot;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

pub(crate) mod bulk;
mod mapping;
#[cfg(tsan)]
mod one_address;
mod table;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use table::Table;
pub use watch::{CursorWatch, LaneCounters, ReaderCounters, SlotsWatch};

use mapping::{Placed, Segment, check};

/// Why a segment cannot be made, or a received one is refused.
#[derive(Debug, Error)]
pub enum SegmentError {
    /// A size that no segment of this role has.
    #[error("impossible size of the {role} segment: {got} bytes")]
    Size {
        /// Which of the segments.
        role: &'static str,
        /// Its size.
        got: u64,
    },
    /// The peer could still shrink, grow or newly write it.
    #[error("the {role} segment is not sealed: expected at least {expected:#x}, got {got:#x}")]
    Seals {
        /// Which of the segments.
        role: &'static str,
        /// The seals that it must have.
        expected: u32,
        /// Its seals.
        got: u32,
    },
    /// Not a memfd of small pages.
    #[error("the {role} segment is no plain memory file")]
    NotMemory {
        /// Which of the segments.
        role: &'static str,
    },
    /// Its memory is not there yet, and might not be when it is touched.
    #[error("the {role} segment is not allocated: {allocated} of {size} bytes")]
    NotAllocated {
        /// Which of the segments.
        role: &'static str,
        /// What is there.
        allocated: u64,
        /// Its size.
        size: u64,
    },
    /// Another structure, or another version of it.
    #[error("the {role} segment has another identity: magic {magic:#010x}, version {major}")]
    Identity {
        /// Which of the segments.
        role: &'static str,
        /// Its magic.
        magic: u32,
        /// Its major version.
        major: u16,
    },
    /// A link's slots where a topic's were expected, or the other way round.
    #[error("the slots are of another kind: whether a reader may be lapped is {got}")]
    Kind {
        /// What they say.
        got: bool,
    },
    /// Returns of another pool than the one that they were offered for.
    #[error("the returns are of pool {got}, expected {expected}")]
    OtherPool {
        /// The pool.
        expected: u32,
        /// The one that the returns name.
        got: u32,
    },
    /// The system refused.
    #[error("cannot {action} the {role} segment")]
    System {
        /// What was tried.
        action: &'static str,
        /// Which of the segments.
        role: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn identify(identity: &Identity, magic: u32, number: u32, flags: u32) {
    let (major, minor) = SEGMENT_VERSION;
    identity.number.store(number, Ordering::Relaxed);
    identity.flags.store(flags, Ordering::Relaxed);
    identity.version.store(u32::from(major) | u32::from(minor) << 16, Ordering::Relaxed);
    // Handing the descriptor on through the kernel orders this before anything that the receiver reads.
    identity.magic.store(magic, Ordering::Relaxed);
}

/// Gives the minor version.
fn check_identity(
    role: &'static str,
    identity: &Identity,
    magic: u32,
) -> Result<u16, SegmentError> {
    let got = identity.magic.load(Ordering::Relaxed);
    let version = identity.version.load(Ordering::Relaxed);
    let (major, minor) = (version as u16, (version >> 16) as u16);
    if got != magic || major != SEGMENT_VERSION.0 {
        return Err(SegmentError::Identity { role, magic: got, major });
    }
    Ok(minor)
}

/// A slots segment: the header and the ring. Its writer made it; everybody else reads it.
#[derive(Debug)]
pub struct Slots {
    segment: Segment,
    /// Within the segment, which lives as long.
    header: Placed<SlotsHeader>,
    ring: Placed<Slot>,
    ungated: bool,
    minor: u16,
}

impl Slots {
    const ROLE: &str = "slots";

    /// A fresh ring of `count` slots, a power of two within the limits. `ungated` for topics.
    pub fn create(count: usize, ungated: bool) -> Result<Self, SegmentError> {
        let length = SEGMENT_HEADER_BYTES + count.min(SLOTS_MAX + 1) * SLOT_BYTES;
        if slot_count(length as u64) != Some(count) {
            return Err(SegmentError::Size { role: Self::ROLE, got: length as u64 });
        }
        let segment = Segment::create(Self::ROLE, length)?;
        let slots = Self::new(segment, count, ungated, SEGMENT_VERSION.1);
        let flags = if ungated { FLAG_UNGATED } else { 0 };
        identify(&slots.header().identity, SLOTS_MAGIC, count as u32, flags);
        slots.segment.seal(Self::ROLE)?;
        Ok(slots)
    }

    /// Of a segment that has so many slots behind its header.
    fn new(segment: Segment, count: usize, ungated: bool, minor: u16) -> Self {
        // SAFETY: atomics and padding only; `lane::Receiver` only loads.
        let header = unsafe { segment.mapping.place(0, 1) };
        // SAFETY: atomics only; readers only load.
        let ring = unsafe { segment.mapping.place(SEGMENT_HEADER_BYTES, count) };
        Self { segment, header, ring, ungated, minor }
    }

    /// Checks and maps the slots of a peer.
    pub fn open(descriptor: OwnedFd) -> Result<Self, SegmentError> {
        let accepts = |size| slot_count(size).is_some();
        let segment = Segment::open(Self::ROLE, descriptor, accepts)?;
        let length = segment.mapping.length;
        let refused = SegmentError::Size { role: Self::ROLE, got: length as u64 };
        let Some(count) = slot_count(length as u64) else { return Err(refused) };
        let mut slots = Self::new(segment, count, false, 0);
        let identity = &slots.header().identity;
        let minor = check_identity(Self::ROLE, identity, SLOTS_MAGIC)?;
        if identity.number.load(Ordering::Relaxed) as usize != count {
            return Err(refused);
        }
        slots.ungated = identity.flags.load(Ordering::Relaxed) & FLAG_UNGATED != 0;
        slots.minor = minor;
        Ok(slots)
    }

    /// The same, which must be a topic's or a link's.
    pub(crate) fn open_kind(descriptor: OwnedFd, ungated: bool) -> Result<Self, SegmentError> {
        let slots = Self::open(descriptor)?;
        match slots.ungated == ungated {
            true => Ok(slots),
            false => Err(SegmentError::Kind { got: slots.ungated }),
        }
    }

    /// Whether the writer says where to join and when it is quiet.
    pub(crate) fn tells_where_to_join(&self) -> bool {
        self.ungated && self.minor >= JOIN_SINCE
    }

    /// Whether the writer of a topic says which of the kept messages are whole in the ring.
    pub(crate) fn tells_what_is_whole(&self) -> bool {
        self.ungated && self.minor >= WHOLE_SINCE
    }

    /// Whether readers may be lapped.
    pub fn ungated(&self) -> bool {
        self.ungated
    }

    /// What the writer has counted.
    pub fn counters(&self) -> LaneCounters {
        LaneCounters::read(&self.header().counters)
    }

    #[inline]
    pub(crate) fn header(&self) -> &SlotsHeader {
        // SAFETY: of this segment's mapping, which lives as long as `self`.
        let header = unsafe { self.header.view() };
        &header[0]
    }

    #[inline]
    pub(crate) fn slots(&self) -> &[Slot] {
        // SAFETY: as above.
        unsafe { self.ring.view() }
    }
}

/// The power of two of slots in a segment of this size, within the limits.
fn slot_count(size: u64) -> Option<usize> {
    let bytes = usize::try_from(size).ok()?.checked_sub(SEGMENT_HEADER_BYTES)?;
    let count = bytes / SLOT_BYTES;
    let fits = bytes.is_multiple_of(SLOT_BYTES)
        && count.is_power_of_two()
        && (SLOTS_MIN..=SLOTS_MAX).contains(&count);
    fits.then_some(count)
}

/// A cursor segment. Its reader made it; the writer reads it.
#[derive(Debug)]
pub struct Cursor {
    segment: Segment,
    polls: bool,
    minor: u16,
}

impl Cursor {
    const ROLE: &str = "cursor";

    /// A fresh cursor at `position`. `polls` when the reader will never sleep.
    pub fn create(position: u64, polls: bool) -> Result<Self, SegmentError> {
        let segment = Segment::create(Self::ROLE, SEGMENT_HEADER_BYTES)?;
        let cursor = Self { segment, polls, minor: SEGMENT_VERSION.1 };
        let number = if polls { READER_POLLS } else { 0 };
        cursor.header().position.0.store(position, Ordering::Relaxed);
        identify(&cursor.header().identity, CURSOR_MAGIC, number, 0);
        cursor.segment.seal(Self::ROLE)?;
        Ok(cursor)
    }

    /// Checks and maps the cursor of a peer.
    pub fn open(descriptor: OwnedFd) -> Result<Self, SegmentError> {
        let accepts = |size| size == SEGMENT_HEADER_BYTES as u64;
        let segment = Segment::open(Self::ROLE, descriptor, accepts)?;
        let mut cursor = Self { segment, polls: false, minor: 0 };
        let identity = &cursor.header().identity;
        let minor = check_identity(Self::ROLE, identity, CURSOR_MAGIC)?;
        cursor.polls = identity.number.load(Ordering::Relaxed) == READER_POLLS;
        cursor.minor = minor;
        Ok(cursor)
    }

    /// Whether the reader heeds quiet times (rule 7 of `wait`).
    pub(crate) fn heeds_quiet(&self) -> bool {
        self.minor >= JOIN_SINCE
    }

    /// Whether the reader rings the bell of a writer that waits for room.
    pub(crate) fn rings_for_room(&self) -> bool {
        self.minor >= ROOM_BELL_SINCE
    }

    /// Whether the reader said that it never sleeps.
    pub fn polls(&self) -> bool {
        self.polls
    }

    /// What the reader has counted.
    pub fn counters(&self) -> ReaderCounters {
        ReaderCounters::read(self.header())
    }

    /// Whether its reader says that it sleeps or is about to.
    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        crate::wait::asleep(&self.header().sleeping.0).is_some()
    }

    pub(crate) fn header(&self) -> &CursorHeader {
        // SAFETY: atomics and padding only; `lane::Sender` only loads.
        unsafe { self.segment.header() }
    }
}

/// The ring of bytes from which a writer lends payloads; nothing but bytes.
#[derive(Debug)]
pub struct Region {
    segment: Segment,
}

impl Region {
    const ROLE: &str = "region";

    /// A fresh region of `bytes`, a power of two within the limits.
    pub fn create(bytes: usize) -> Result<Self, SegmentError> {
        if !region_size(bytes as u64) {
            return Err(SegmentError::Size { role: Self::ROLE, got: bytes as u64 });
        }
        let segment = Segment::create(Self::ROLE, bytes)?;
        segment.seal(Self::ROLE)?;
        Ok(Self { segment })
    }

    /// Checks and maps the region of a peer.
    pub fn open(descriptor: OwnedFd) -> Result<Self, SegmentError> {
        Ok(Self { segment: Segment::open(Self::ROLE, descriptor, region_size)? })
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.segment.mapping.length
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: atomics only; readers only load.
        unsafe { self.segment.mapping.view(0, self.bytes() / 8) }
    }
}

fn region_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && (REGION_BYTES_MIN as u64..=REGION_BYTES_MAX as u64).contains(&bytes)
}

/// What the router says about a link or topic lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LaneState {
    /// Both sides live.
    Open = 1,
    /// No new requests; what is under way is finished.
    Draining = 2,
    /// The peer is dead.
    PeerGone = 3,
    /// The router took the permission back.
    Revoked = 4,
    /// The peer closed it.
    Closed = 5,
    /// One side closed it because the other one broke the protocol.
    Quarantined = 6,
}

impl LaneState {
    /// Whether messages still pass.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::Draining)
    }

    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Open,
            2 => Self::Draining,
            3 => Self::PeerGone,
            5 => Self::Closed,
            6 => Self::Quarantined,
            // The router is trusted; a number of a later version means that something was taken away.
            _ => Self::Revoked,
        }
    }
}

/// A control page. The router made it; both sides of the lane read it.
#[derive(Debug)]
pub struct Control {
    segment: Segment,
}

impl Control {
    const ROLE: &str = "control";

    fn create() -> Result<Self, SegmentError> {
        let segment = Segment::create(Self::ROLE, SEGMENT_HEADER_BYTES)?;
        let control = Self { segment };
        control.header().state.0.store(LaneState::Open as u32, Ordering::Relaxed);
        identify(&control.header().identity, CONTROL_MAGIC, 0, 0);
        control.segment.seal(Self::ROLE)?;
        Ok(control)
    }

    /// Checks and maps the page of the router.
    pub fn open(descriptor: OwnedFd) -> Result<Self, SegmentError> {
        let accepts = |size| size == SEGMENT_HEADER_BYTES as u64;
        let segment = Segment::open(Self::ROLE, descriptor, accepts)?;
        let control = Self { segment };
        check_identity(Self::ROLE, &control.header().identity, CONTROL_MAGIC)?;
        Ok(control)
    }

    /// The state at the moment.
    pub fn state(&self) -> LaneState {
        // Partner: the Release store in `ControlWriter::set`.
        LaneState::from_number(self.header().state.0.load(Ordering::Acquire))
    }

    /// Which life of the link this is, or how often the writer of this topic has started before: what comes later is greater.
    pub fn epoch(&self) -> u32 {
        // Partner: the Release store in `ControlWriter::set_epoch`.
        self.header().epoch.0.load(Ordering::Acquire)
    }

    pub(crate) fn state_word(&self) -> &AtomicU32 {
        &self.header().state.0
    }

    fn header(&self) -> &ControlHeader {
        // SAFETY: atomics and padding only; only `ControlWriter` stores.
        unsafe { self.segment.header() }
    }
}

/// The router's own side of a control page: the right to change it.
#[derive(Debug)]
pub struct ControlWriter {
    page: Control,
}

impl ControlWriter {
    /// A fresh page, open.
    pub fn create() -> Result<Self, SegmentError> {
        Control::create().map(|page| Self { page })
    }

    /// Changes the state and wakes everybody who sleeps on the lane.
    pub fn set(&self, state: LaneState) {
        // Partner: the Acquire load in `Control::state`.
        self.page.header().state.0.store(state as u32, Ordering::Release);
        crate::futex::wake_half(self.page.state_word());
    }

    /// Says which life of the link this is, or of the topic's writer; once, before the page is handed out.
    pub fn set_epoch(&self, epoch: u32) {
        // Partner: the Acquire load in `Control::epoch`.
        self.page.header().epoch.0.store(epoch, Ordering::Release);
    }

    /// The state at the moment.
    pub fn state(&self) -> LaneState {
        self.page.state()
    }
}

impl AsFd for ControlWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.page.as_fd()
    }
}

macro_rules! give_descriptor {
    ($($name:ty),*) => {$(
        impl AsFd for $name {
            /// What is handed to the peer; it can only be mapped for reading.
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.segment.descriptor.as_fd()
            }
        }
    )*};
}
give_descriptor!(Slots, Cursor, Region, Control);

/// Checks descriptors that are passed on without being mapped (the router's duty): a region's.
pub fn check_region(descriptor: BorrowedFd<'_>) -> Result<(), SegmentError> {
    check(Region::ROLE, descriptor, region_size).map(drop)
}

/// Checks descriptors that are passed on without being mapped (the router's duty): a cursor's.
pub fn check_cursor(descriptor: BorrowedFd<'_>) -> Result<(), SegmentError> {
    check(Cursor::ROLE, descriptor, |size| size == SEGMENT_HEADER_BYTES as u64).map(drop)
}

/// Checks descriptors that are passed on without being mapped (the router's duty): slots'.
pub fn check_slots(descriptor: BorrowedFd<'_>) -> Result<(), SegmentError> {
    check(Slots::ROLE, descriptor, |size| slot_count(size).is_some()).map(drop)
}
