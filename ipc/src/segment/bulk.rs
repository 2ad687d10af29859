//! The segments of large payloads: frozen files, pools, and returns.
//!
//! Not here: making, sealing and checking memory files (`mapping`), and who may write what when (`batch`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use super::mapping::{SEALS_FROZEN, Segment};
use super::{SegmentError, check_identity, identify};
use crate::layout::{POOL_MAGIC, PoolHeader, RETURNS_MAGIC, ReturnsHeader};
use crate::limits::{
    FROZEN_BYTES_MAX, LOANS_MAX, POOL_BYTES_MAX, POOL_STEP_BYTES, SEGMENT_HEADER_BYTES,
};
use crate::sync::{AtomicU64, Ordering};

const FROZEN: &str = "frozen";
/// A returns segment, in bytes.
const RETURNS_BYTES: usize = SEGMENT_HEADER_BYTES + LOANS_MAX * 8;

/// A memory file that only this value can reach: its descriptor is not given away before it is frozen.
#[derive(Debug)]
pub(crate) struct DraftMemory {
    segment: Segment,
}

impl DraftMemory {
    pub(crate) fn create(bytes: usize) -> Result<Self, SegmentError> {
        if !frozen_size(bytes as u64) {
            return Err(SegmentError::Size { role: FROZEN, got: bytes as u64 });
        }
        Ok(Self { segment: Segment::create(FROZEN, bytes)? })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let length = self.segment.mapping.length;
        let start = self.segment.mapping.range(0, length);
        // SAFETY: inside the mapping, which lives as long as `self`; any bytes are `u8`. Nobody else has the descriptor, and
        // writing needs `&mut self`.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.segment.mapping.length;
        let start = self.segment.mapping.range(0, length);
        // SAFETY: as in `bytes`; the mapping is writable, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), length) }
    }

    pub(crate) fn freeze(self) -> Result<OwnedFd, SegmentError> {
        self.segment.freeze(FROZEN)
    }
}

/// A memory file that nobody can write any more.
#[derive(Debug)]
pub(crate) struct FrozenMemory {
    segment: Segment,
}

impl FrozenMemory {
    pub(crate) fn open(descriptor: OwnedFd, bytes_max: usize) -> Result<Self, SegmentError> {
        let accepts = |size| frozen_size(size) && size <= bytes_max as u64;
        let segment = Segment::open_sealed(FROZEN, descriptor, SEALS_FROZEN, accepts)?;
        Ok(Self { segment })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let length = self.segment.mapping.length;
        let start = self.segment.mapping.range(0, length);
        // SAFETY: inside the mapping, which lives as long as `self`; any bytes are `u8`. The kernel set the seal against
        // writing only when no mapping, no pinned page and no other way to write was left, and it lets none come; the seal
        // cannot be taken off; the size is sealed and every page is there, so no access can fail.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor.as_fd()
    }
}

fn frozen_size(bytes: u64) -> bool {
    (1..=FROZEN_BYTES_MAX as u64).contains(&bytes)
}

const POOL: &str = "pool";

/// A lender's own pool: a header and the bytes that it lends, mapped for writing.
#[derive(Debug)]
pub(crate) struct PoolMemory {
    segment: Segment,
    number: u32,
}

impl PoolMemory {
    /// A fresh pool of `bytes`, all of it memory from now on.
    pub(crate) fn create(number: u32, bytes: usize) -> Result<Self, SegmentError> {
        let length = bytes.saturating_add(SEGMENT_HEADER_BYTES);
        if !pool_size(length as u64) {
            return Err(SegmentError::Size { role: POOL, got: length as u64 });
        }
        let pool = Self { segment: Segment::create(POOL, length)?, number };
        identify(&pool.header().identity, POOL_MAGIC, number, 0);
        pool.segment.seal(POOL)?;
        Ok(pool)
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Bytes that can be lent.
    pub(crate) fn bytes(&self) -> usize {
        self.segment.mapping.length - SEGMENT_HEADER_BYTES
    }

    pub(crate) fn header(&self) -> &PoolHeader {
        // SAFETY: atomics and padding only, and this mapping is writable.
        unsafe { self.segment.header() }
    }

    /// Where a loan lies, for the one who holds it. There is no other way to what this mapping lends.
    pub(crate) fn range(&self, offset: usize, length: usize) -> NonNull<u8> {
        assert!(offset <= self.bytes(), "loan outside of the pool");
        self.segment.mapping.range(SEGMENT_HEADER_BYTES + offset, length)
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor.as_fd()
    }
}

/// A peer's pool, mapped for reading.
#[derive(Debug)]
pub(crate) struct PoolView {
    segment: Segment,
    number: u32,
}

impl PoolView {
    /// Checks and maps the pool of a peer, of at most `bytes_max`.
    pub(crate) fn open(descriptor: OwnedFd, bytes_max: usize) -> Result<Self, SegmentError> {
        let max = bytes_max.saturating_add(SEGMENT_HEADER_BYTES) as u64;
        let accepts = |size| pool_size(size) && size <= max;
        let segment = Segment::open(POOL, descriptor, accepts)?;
        let mut pool = Self { segment, number: 0 };
        let identity = &pool.header().identity;
        check_identity(POOL, identity, POOL_MAGIC)?;
        pool.number = identity.number.load(Ordering::Relaxed);
        Ok(pool)
    }

    /// As it was when the pool was opened; what stands in the memory later does not count.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn bytes(&self) -> usize {
        self.segment.mapping.length - SEGMENT_HEADER_BYTES
    }

    pub(crate) fn header(&self) -> &PoolHeader {
        // SAFETY: atomics and padding only; `batch::Borrower` only loads.
        unsafe { self.segment.header() }
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: atomics only, and `batch::Lent` only loads.
        unsafe { self.segment.mapping.view(SEGMENT_HEADER_BYTES, self.bytes() / 8) }
    }
}

fn pool_size(size: u64) -> bool {
    let bytes = size.saturating_sub(SEGMENT_HEADER_BYTES as u64);
    bytes.is_multiple_of(POOL_STEP_BYTES as u64)
        && (POOL_STEP_BYTES as u64..=POOL_BYTES_MAX as u64).contains(&bytes)
}

/// A returns segment. The borrower made it; the lender reads it.
#[derive(Debug)]
pub(crate) struct Returns {
    segment: Segment,
}

impl Returns {
    const ROLE: &str = "returns";

    pub(crate) fn create(pool: u32) -> Result<Self, SegmentError> {
        let returns = Self { segment: Segment::create(Self::ROLE, RETURNS_BYTES)? };
        identify(&returns.header().identity, RETURNS_MAGIC, pool, 0);
        returns.segment.seal(Self::ROLE)?;
        Ok(returns)
    }

    /// Checks and maps the returns of a peer; they must be of this pool.
    pub(crate) fn open(descriptor: OwnedFd, pool: u32) -> Result<Self, SegmentError> {
        let accepts = |size| size == RETURNS_BYTES as u64;
        let segment = Segment::open(Self::ROLE, descriptor, accepts)?;
        let returns = Self { segment };
        let identity = &returns.header().identity;
        check_identity(Self::ROLE, identity, RETURNS_MAGIC)?;
        let got = identity.number.load(Ordering::Relaxed);
        if got != pool {
            return Err(SegmentError::OtherPool { expected: pool, got });
        }
        Ok(returns)
    }

    pub(crate) fn header(&self) -> &ReturnsHeader {
        // SAFETY: atomics and padding only; `batch::Pool` only loads.
        unsafe { self.segment.header() }
    }

    /// One word for each place in the table of loans.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: atomics only, and `batch::Pool` only loads.
        unsafe { self.segment.mapping.view(SEGMENT_HEADER_BYTES, LOANS_MAX) }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor.as_fd()
    }
}
