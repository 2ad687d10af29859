//! The segment of the directory: a fixed number of words.
//!
//! Not here: what stands in them (`directory`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::SegmentError;
use super::mapping::Segment;
use crate::limits::DIRECTORY_BYTES;
use crate::sync::AtomicU64;

/// The directory's memory, the writer's or a reader's.
#[derive(Debug)]
pub(crate) struct Table {
    segment: Segment,
}

impl Table {
    pub(crate) const ROLE: &str = "directory";

    /// Fresh memory, all zero, sealed: only this process can write it, through this value.
    pub(crate) fn create() -> Result<Self, SegmentError> {
        let segment = Segment::create(Self::ROLE, DIRECTORY_BYTES)?;
        segment.seal(Self::ROLE)?;
        Ok(Self { segment })
    }

    /// Checks and maps what a router handed over.
    pub(crate) fn open(descriptor: OwnedFd) -> Result<Self, SegmentError> {
        let accepts = |size| size == DIRECTORY_BYTES as u64;
        Ok(Self { segment: Segment::open(Self::ROLE, descriptor, accepts)? })
    }

    /// All of it. Who opened it only loads.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: atomics only; `directory::Reader`, which has an opened table, only loads.
        unsafe { self.segment.mapping.view(0, DIRECTORY_BYTES / 8) }
    }
}

impl AsFd for Table {
    /// What is handed on; it can only be mapped for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.descriptor.as_fd()
    }
}
