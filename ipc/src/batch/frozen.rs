//! Frozen payloads: rules 1 to 3 of `batch`.
//!
//! Not here: seals and checks (`segment`), and the descriptor's way to the peer (`Client::grant`).

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::segment::SegmentError;
use crate::segment::bulk::{DraftMemory, FrozenMemory};

/// A payload that is being filled. Its descriptor cannot be had, so nobody else sees or writes it.
#[derive(Debug)]
pub struct Draft {
    memory: DraftMemory,
}

impl Draft {
    /// Memory for so many bytes, all zero. Fails beyond `FROZEN_BYTES_MAX`, for nothing, and where there is no memory.
    pub fn create(bytes: usize) -> Result<Self, SegmentError> {
        DraftMemory::create(bytes).map(|memory| Self { memory })
    }

    /// What was filled in so far.
    pub fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// Where the payload is to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }

    /// Gives up the mapping and seals: from here on nobody can change the payload. Fails where the kernel still has a page
    /// in use, as for a direct transfer that somebody started from here.
    pub fn freeze(self) -> Result<Sealed, SegmentError> {
        let length = self.memory.bytes().len();
        self.memory.freeze().map(|descriptor| Sealed { descriptor, length })
    }
}

/// A frozen payload on its way, not mapped.
#[derive(Debug)]
pub struct Sealed {
    descriptor: OwnedFd,
    length: usize,
}

impl Sealed {
    /// How many bytes it has; never 0.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl AsFd for Sealed {
    /// What is granted to the peer.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl From<Sealed> for OwnedFd {
    fn from(sealed: Sealed) -> Self {
        sealed.descriptor
    }
}

/// A frozen payload, checked and mapped for reading. It stays when the sender dies.
#[derive(Debug)]
pub struct Frozen {
    memory: FrozenMemory,
}

impl Frozen {
    /// Checks a received descriptor of at most `bytes_max` bytes, and maps it. Everything that is no memory file sealed
    /// against all writing is refused, and everything that lacks a page.
    pub fn open(descriptor: OwnedFd, bytes_max: usize) -> Result<Self, SegmentError> {
        FrozenMemory::open(descriptor, bytes_max).map(|memory| Self { memory })
    }
}

impl Deref for Frozen {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.bytes()
    }
}

impl AsFd for Frozen {
    /// To be granted to somebody else as it is.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.descriptor()
    }
}
