//! Under ThreadSanitizer every memory file has one address in this process.
//!
//! The detector goes by addresses: a store through the writer's mapping and a load through the reader's look unrelated to it,
//! and so does everything that they order. With one mapping for both sides it sees what passes between them. Not here: anything
//! that is built without `--cfg tsan`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A mapped range; unmapped when the last side drops it.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) start: NonNull<u8>,
    length: usize,
}

// SAFETY: as `Mapping`, which has the only ways to the memory.
unsafe impl Send for Range {}
// SAFETY: as above.
unsafe impl Sync for Range {}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `Mapping::new`, and all mappings that share it are gone.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// By device and inode, which last as long as the mapping.
static KNOWN: Mutex<BTreeMap<(u64, u64), Weak<Range>>> = Mutex::new(BTreeMap::new());

/// The range that a file has already, if it is long enough.
pub(super) fn of_file(fd: BorrowedFd<'_>, length: usize) -> Option<Arc<Range>> {
    let file = identity(fd).ok()?;
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.get(&file)?.upgrade().filter(|range| range.length >= length)
}

/// Remembers where a file was mapped.
pub(super) fn keep(
    fd: BorrowedFd<'_>,
    start: NonNull<u8>,
    length: usize,
) -> io::Result<Arc<Range>> {
    let range = Arc::new(Range { start, length });
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, range| range.strong_count() > 0);
    known.insert(identity(fd)?, Arc::downgrade(&range));
    Ok(range)
}

fn identity(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let status = rustix::fs::fstat(fd)?;
    Ok((status.st_dev, status.st_ino))
}
