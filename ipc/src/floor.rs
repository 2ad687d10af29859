//! The least that two cores can do: one cache line that one writes and the other sees, and nothing else.
//!
//! Not a way to send messages; what the lanes are measured against. The line lies in a memory file that both processes map,
//! as the slots of a lane do, so that the mappings are alike.
#![allow(
    unsafe_code,
    reason = "the bare loop has a mapping of its own, without any of the lanes' checks"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::mm::{MapFlags, ProtFlags};

mod ring;

pub use ring::{FLOOR_SLOTS, FloorIndex, FloorRing, FloorSlot, FloorSlots};

const PAGE_BYTES: usize = 4_096;
/// Words in a line.
const WORDS_PER_LINE: usize = 8;
/// In how many places a line can be: the lines of one page.
pub const FLOOR_PLACES: usize = PAGE_BYTES / 64;

/// A cache line in shared memory. One per direction.
///
/// What a way costs depends on where its line lives, near or far in the caches; so a line can be moved to another place.
#[derive(Debug)]
pub struct FloorLine {
    start: NonNull<AtomicU64>,
    /// The first word of the line that is used, less than the words of a page.
    word: usize,
    descriptor: OwnedFd,
}

// SAFETY: plain memory that does not belong to a thread, accessed as an atomic only.
unsafe impl Send for FloorLine {}
// SAFETY: as above.
unsafe impl Sync for FloorLine {}

impl FloorLine {
    /// A new line, zero.
    pub fn create() -> io::Result<Self> {
        let descriptor = rustix::fs::memfd_create("floor", MemfdFlags::CLOEXEC)?;
        rustix::fs::fallocate(&descriptor, FallocateFlags::empty(), 0, PAGE_BYTES as u64)?;
        Self::open(descriptor)
    }

    /// A second mapping of a line, in this process or another. The file is trusted: both sides are one benchmark.
    pub fn open(descriptor: OwnedFd) -> io::Result<Self> {
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: the kernel chooses the address, so no existing mapping is touched.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), PAGE_BYTES, protection, flags, &descriptor, 0)
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, word: 0, descriptor })
    }

    /// Writes the line.
    #[inline]
    pub fn store(&self, value: u64) {
        self.word().store(value, Ordering::Release);
    }

    /// What the line has now.
    #[inline]
    pub fn load(&self) -> u64 {
        self.word().load(Ordering::Acquire)
    }

    /// Spins until the line has this value.
    #[inline]
    pub fn wait_for(&self, value: u64) {
        while self.word().load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    }

    /// Uses another line of the page from now on, zero as long as nobody wrote it. Places are counted round.
    pub fn set_place(&mut self, place: usize) {
        self.word = place % FLOOR_PLACES * WORDS_PER_LINE;
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: the first word of one of the lines, all of which are within the page.
        let word = unsafe { self.start.add(self.word) };
        // SAFETY: the page is aligned, was allocated, and is mapped for as long as `self` lives; any bytes are a value.
        unsafe { word.as_ref() }
    }
}

impl AsFd for FloorLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for FloorLine {
    fn drop(&mut self) {
        // SAFETY: mapped by `open`; every reference to it borrowed from this value.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), PAGE_BYTES) };
    }
}

/// Asks for a line ahead of writing, as the writer of a lane does.
#[inline]
pub fn claim<T>(place: &T) {
    crate::prefetch::for_writing(place);
}

/// Asks for a line ahead of reading, as the reader of a lane does that has a backlog or expects messages of two lines.
#[inline]
pub fn fetch<T>(place: &T) {
    crate::prefetch::for_reading(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_as_many_places_as_a_page_has_lines() {
        let mut line = FloorLine::create().unwrap();
        for place in 0..FLOOR_PLACES {
            line.set_place(place);
            assert_eq!(line.load(), 0, "place {place} was written before");
            line.store(place as u64 + 1);
        }
        line.set_place(FLOOR_PLACES);
        line.wait_for(1);
    }

    #[test]
    fn line_goes_there_and_back_through_two_mappings() {
        let (there, back) = (FloorLine::create().unwrap(), FloorLine::create().unwrap());
        let copy = |line: &FloorLine| line.as_fd().try_clone_to_owned().unwrap();
        let (seen, answered) = (copy(&there), copy(&back));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let there = FloorLine::open(seen).unwrap();
                let back = FloorLine::open(answered).unwrap();
                for round in 1..=100 {
                    there.wait_for(round);
                    back.store(round);
                }
            });
            for round in 1..=100 {
                there.store(round);
                back.wait_for(round);
            }
        });
    }
}
