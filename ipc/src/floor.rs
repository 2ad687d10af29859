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

/// One page; the line is its first 64 bytes, unless all are used in turn.
const PAGE_BYTES: usize = 4_096;
/// Words in a line, and lines in the page.
const WORDS_PER_LINE: usize = 8;
const LINES: u64 = (PAGE_BYTES / 64) as u64;

/// A cache line in shared memory. One per direction.
#[derive(Debug)]
pub struct FloorLine {
    start: NonNull<AtomicU64>,
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
        Ok(Self { start, descriptor })
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

    /// Writes the next line of the page: what a way costs depends on where in the caches its line lives, and a ring's messages meet
    /// all of them.
    #[inline]
    pub fn store_in_turn(&self, value: u64) {
        self.word_in_turn(value).store(value, Ordering::Release);
    }

    /// Spins until the next line of the page has this value.
    #[inline]
    pub fn wait_for_in_turn(&self, value: u64) {
        while self.word_in_turn(value).load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    }

    #[inline]
    fn word_in_turn(&self, value: u64) -> &AtomicU64 {
        let index = (value % LINES) as usize * WORDS_PER_LINE;
        // SAFETY: the first word of one of the lines, all of which are within the page.
        let word = unsafe { self.start.add(index) };
        // SAFETY: the page is aligned, was allocated, and is mapped for as long as `self` lives; any bytes are a value.
        unsafe { word.as_ref() }
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: a page is aligned, was allocated, and is mapped for as long as `self` lives; any bytes are a value.
        unsafe { self.start.as_ref() }
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

/// Asks for a line ahead of reading, as the reader of messages of two lines does.
#[inline]
pub fn fetch<T>(place: &T) {
    crate::prefetch::for_reading(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_page_are_used_in_turn() {
        let line = FloorLine::create().unwrap();
        for value in 1..=3 * LINES {
            line.store_in_turn(value);
            line.wait_for_in_turn(value);
            assert_eq!(line.load(), value / LINES * LINES, "the first line is one of them");
        }
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
