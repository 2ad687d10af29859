//! Memory files: making, sealing, checking, mapping. All foreign memory gets its address here.
//!
//! Not here: what the segments hold (`segment`, `bulk`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, FileType, MemfdFlags, SealFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::SegmentError;
use crate::limits::ALLOCATION_STEP_BYTES;

/// What every segment of the bus is sealed with.
pub(super) const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);
/// What a frozen payload is sealed with: against every writer, the one who made it too.
pub(super) const SEALS_FROZEN: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);
/// The file system of memfds without huge pages.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A mapped range; unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    pub(super) length: usize,
    /// Several mappings of a file are one under a race detector, which goes by addresses.
    #[cfg(tsan)]
    range: std::sync::Arc<super::one_address::Range>,
}

// SAFETY: a mapping is plain memory that does not belong to a thread; accesses go through atomics, or
// through references that the borrow checker or the account of a pool keeps apart.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

#[cfg(not(tsan))]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `Mapping::new` and every view of it borrows from this value.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl Mapping {
    pub(super) fn new(
        fd: BorrowedFd<'_>,
        length: usize,
        protection: ProtFlags,
    ) -> io::Result<Self> {
        #[cfg(tsan)]
        if let Some(range) = super::one_address::of_file(fd, length) {
            return Ok(Self { start: range.start, length, range });
        }
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel chooses the address, so no existing mapping is touched.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        #[cfg(not(tsan))]
        let mapping = Self { start, length };
        #[cfg(tsan)]
        let mapping = Self { start, length, range: super::one_address::keep(fd, start, length)? };
        // SAFETY: the range is ours. A child after fork does not get it: two writers would break the ring.
        unsafe { rustix::mm::madvise(start.as_ptr().cast(), length, Advice::LinuxDontFork) }?;
        Ok(mapping)
    }

    /// A view of `count` values at `offset`.
    ///
    /// # Safety
    /// `T` consists of atomics only and has no invalid values. Where the mapping is for reading only, the caller never
    /// stores through the view.
    pub(super) unsafe fn view<T>(&self, offset: usize, count: usize) -> &[T] {
        let end = size_of::<T>().checked_mul(count).and_then(|bytes| bytes.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.length), "view outside of the mapping");
        assert!(offset.is_multiple_of(align_of::<T>()), "view is not aligned");
        // SAFETY: the offset is within the mapping, as was just checked.
        let start = unsafe { self.start.as_ptr().add(offset) };
        debug_assert!(start.cast::<T>().is_aligned(), "mappings start at a page");
        // SAFETY: inside the mapping and aligned; mapped for as long as `self` lives; any bytes are a value of `T`, and
        // atomics allow that others write at the same time.
        unsafe { std::slice::from_raw_parts(start.cast(), count) }
    }

    /// The place of [`Mapping::view`], to be kept beside the mapping.
    ///
    /// # Safety
    /// As for the view.
    pub(super) unsafe fn place<T>(&self, offset: usize, count: usize) -> Placed<T> {
        // SAFETY: the caller's duty.
        let view = unsafe { self.view::<T>(offset, count) };
        Placed { start: NonNull::from(view).cast(), count }
    }

    /// Where `length` bytes at `offset` lie, for whoever alone may touch them.
    pub(super) fn range(&self, offset: usize, length: usize) -> NonNull<u8> {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.length), "range outside of the mapping");
        // SAFETY: the offset is within the mapping, as was just checked.
        unsafe { self.start.add(offset) }
    }
}

/// Where a view lies that is asked for with each message: its bounds were checked once.
#[derive(Debug)]
pub(super) struct Placed<T> {
    start: NonNull<T>,
    count: usize,
}

// SAFETY: an address within a mapping, which belongs to no thread; `T` consists of atomics.
unsafe impl<T: Sync> Send for Placed<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Placed<T> {}

impl<T> Placed<T> {
    /// The view at this place.
    ///
    /// # Safety
    /// The mapping that gave the place lives, and lives on for as long as what this borrows from.
    #[inline]
    pub(super) unsafe fn view(&self) -> &[T] {
        // SAFETY: made from a view by `Mapping::place`; the mapping is still there, says the caller.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

/// A memory file with its mapping.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) mapping: Mapping,
    pub(super) descriptor: OwnedFd,
}

impl Segment {
    /// Creates, allocates and maps for writing. Not sealed yet.
    pub(super) fn create(role: &'static str, length: usize) -> Result<Self, SegmentError> {
        let failed = |action: &'static str| {
            move |errno: Errno| SegmentError::System { action, role, source: errno.into() }
        };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = match rustix::fs::memfd_create(role, flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => rustix::fs::memfd_create(role, flags),
            result => result,
        }
        .map_err(failed("create"))?;
        for start in (0..length).step_by(ALLOCATION_STEP_BYTES) {
            let step = ALLOCATION_STEP_BYTES.min(length - start);
            let keep = FallocateFlags::empty();
            rustix::io::retry_on_intr(|| {
                rustix::fs::fallocate(&descriptor, keep, start as u64, step as u64)
            })
            .map_err(failed("allocate"))?;
        }
        let mapping = Mapping::new(descriptor.as_fd(), length, ProtFlags::READ | ProtFlags::WRITE)
            .map_err(|source| SegmentError::System { action: "map", role, source })?;
        Ok(Self { mapping, descriptor })
    }

    pub(super) fn seal(&self, role: &'static str) -> Result<(), SegmentError> {
        add_seals(role, self.descriptor.as_fd(), SEALS)
    }

    /// Gives up the writable mapping, then seals against every writer.
    pub(super) fn freeze(self, role: &'static str) -> Result<OwnedFd, SegmentError> {
        let Self { mapping, descriptor } = self;
        // The kernel refuses this seal for as long as anybody could write through a mapping.
        drop(mapping);
        add_seals(role, descriptor.as_fd(), SEALS_FROZEN)?;
        Ok(descriptor)
    }

    /// Checks a received descriptor and maps it for reading; `accepts` judges the size.
    pub(super) fn open(
        role: &'static str,
        descriptor: OwnedFd,
        accepts: impl FnOnce(u64) -> bool,
    ) -> Result<Self, SegmentError> {
        Self::open_sealed(role, descriptor, SEALS, accepts)
    }

    /// The same, with other seals than those of every segment.
    pub(super) fn open_sealed(
        role: &'static str,
        descriptor: OwnedFd,
        seals: SealFlags,
        accepts: impl FnOnce(u64) -> bool,
    ) -> Result<Self, SegmentError> {
        let length = check_sealed(role, descriptor.as_fd(), seals, accepts)?;
        let mapping = Mapping::new(descriptor.as_fd(), length, ProtFlags::READ)
            .map_err(|source| SegmentError::System { action: "map", role, source })?;
        Ok(Self { mapping, descriptor })
    }

    /// # Safety
    /// As [`Mapping::view`].
    pub(super) unsafe fn header<T>(&self) -> &T {
        // SAFETY: the caller's duty.
        let view = unsafe { self.mapping.view::<T>(0, 1) };
        &view[0]
    }
}

/// Everything that can be checked without mapping; gives the size.
pub(super) fn check(
    role: &'static str,
    descriptor: BorrowedFd<'_>,
    accepts: impl FnOnce(u64) -> bool,
) -> Result<usize, SegmentError> {
    check_sealed(role, descriptor, SEALS, accepts)
}

fn check_sealed(
    role: &'static str,
    descriptor: BorrowedFd<'_>,
    expected: SealFlags,
    accepts: impl FnOnce(u64) -> bool,
) -> Result<usize, SegmentError> {
    let failed =
        |errno: Errno| SegmentError::System { action: "inspect", role, source: errno.into() };
    // First, because only the kernel answers it: a file system in somebody's program could keep the other questions waiting.
    let seals = match rustix::fs::fcntl_get_seals(descriptor) {
        Err(Errno::INVAL) => return Err(SegmentError::NotMemory { role }),
        seals => seals.map_err(failed)?,
    };
    let status = rustix::fs::fstat(descriptor).map_err(failed)?;
    let filesystem = rustix::fs::fstatfs(descriptor).map_err(failed)?;
    // Huge pages come from another file system; only memfds have seals other than the one against seals.
    let plain = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
        && filesystem.f_type as u64 == TMPFS_MAGIC;
    if !plain {
        return Err(SegmentError::NotMemory { role });
    }
    if !seals.contains(expected) {
        return Err(SegmentError::Seals { role, expected: expected.bits(), got: seals.bits() });
    }
    // The seals hold, so from here on the size and the blocks stay as they are.
    let status = rustix::fs::fstat(descriptor).map_err(failed)?;
    let size = u64::try_from(status.st_size).unwrap_or(u64::MAX);
    let length = usize::try_from(size).ok().filter(|_| accepts(size));
    let length = length.ok_or(SegmentError::Size { role, got: size })?;
    let allocated = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512);
    if allocated < size {
        return Err(SegmentError::NotAllocated { role, allocated, size });
    }
    check_whole(role, descriptor, size)?;
    Ok(length)
}

/// Blocks can lie beyond the end of the file, so their number does not say that none is missing before it; the first hole
/// does. A sealed file gets no new ones. This walks over the pages, which is why it happens once, when a descriptor comes.
fn check_whole(
    role: &'static str,
    descriptor: BorrowedFd<'_>,
    size: u64,
) -> Result<(), SegmentError> {
    let hole = rustix::fs::seek(descriptor, SeekFrom::Hole(0))
        .map_err(|errno| SegmentError::System { action: "inspect", role, source: errno.into() })?;
    if hole < size {
        return Err(SegmentError::NotAllocated { role, allocated: hole, size });
    }
    Ok(())
}

fn add_seals(
    role: &'static str,
    descriptor: BorrowedFd<'_>,
    seals: SealFlags,
) -> Result<(), SegmentError> {
    rustix::fs::fcntl_add_seals(descriptor, seals).map_err(|errno| SegmentError::System {
        action: "seal",
        role,
        source: errno.into(),
    })
}
