//! The memory of the bare rings whose throughput the lane is compared with: slots, dense payloads, two indices.
//!
//! Not here: the loops, which the benchmark writes, and any check. The count is fixed, so that a masked index needs no
//! test of bounds: nothing stands between the loops and the machine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// Slots of a bare ring: 256 KiB, from which on rings of this shape are no longer held back by their size.
pub const FLOOR_SLOTS: usize = 4_096;

/// An index in lines of its own: the processor fetches them in pairs.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct FloorIndex(pub AtomicU64);

/// A stamped slot, one cache line.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct FloorSlot {
    /// The position after that of the line which is there.
    pub stamp: AtomicU64,
    /// What it carries.
    pub words: [AtomicU64; 7],
}

/// Everything that two processes share.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct FloorSlots {
    /// Where the reader of either ring is.
    pub head: FloorIndex,
    /// Where the writer of the index ring is.
    pub tail: FloorIndex,
    /// The ring of stamped slots.
    pub slots: [FloorSlot; FLOOR_SLOTS],
    /// The index ring: payloads of 32 bytes, nothing between them.
    pub payloads: [[AtomicU64; 4]; FLOOR_SLOTS],
}

/// A mapping of [`FloorSlots`].
#[derive(Debug)]
pub struct FloorRing {
    start: NonNull<FloorSlots>,
    descriptor: OwnedFd,
}

// SAFETY: plain memory that does not belong to a thread, accessed as atomics only.
unsafe impl Send for FloorRing {}
// SAFETY: as above.
unsafe impl Sync for FloorRing {}

impl FloorRing {
    /// New memory, all zero.
    pub fn create() -> io::Result<Self> {
        let descriptor = rustix::fs::memfd_create("floor", MemfdFlags::CLOEXEC)?;
        let bytes = size_of::<FloorSlots>() as u64;
        rustix::fs::fallocate(&descriptor, FallocateFlags::empty(), 0, bytes)?;
        Self::open(descriptor)
    }

    /// A second mapping, in this process or another. The file is trusted: both sides are one benchmark.
    pub fn open(descriptor: OwnedFd) -> io::Result<Self> {
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        let bytes = size_of::<FloorSlots>();
        // SAFETY: the kernel chooses the address, so no existing mapping is touched.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, flags, &descriptor, 0)
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, descriptor })
    }

    /// The memory.
    #[inline]
    pub fn memory(&self) -> &FloorSlots {
        // SAFETY: aligned to its page, allocated in full, and mapped for as long as `self` lives; any bytes are a value.
        unsafe { self.start.as_ref() }
    }
}

impl AsFd for FloorRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for FloorRing {
    fn drop(&mut self) {
        let bytes = size_of::<FloorSlots>();
        // SAFETY: mapped by `open`; every reference to it borrowed from this value.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_mapping_writes_the_other_reads() {
        let first = FloorRing::create().unwrap();
        let second = FloorRing::open(first.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let last = FLOOR_SLOTS - 1;
        first.memory().slots[last].stamp.store(7, Ordering::Release);
        second.memory().payloads[last][3].store(8, Ordering::Release);
        assert_eq!(second.memory().slots[last].stamp.load(Ordering::Acquire), 7);
        assert_eq!(first.memory().payloads[last][3].load(Ordering::Acquire), 8);
    }
}
