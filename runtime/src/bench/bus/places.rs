//! Several places of the memory for whatever is measured, and the turn of each.
//!
//! What a line costs depends on where its memory lies: some of it is far from both processors, and a way there takes a third
//! more. Where a run gets its memory is chance, so everything is there several times, apart from each other, and each has its
//! turn.

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

/// How often everything is there.
pub(super) const PLACES: usize = 8;
/// Memory between two of them: more than a page of the host's, as far as there are any.
const APART_BYTES: u64 = 4 << 20;

/// Makes one for each place.
pub(super) fn apart<T>(mut make: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
    let mut between = Vec::new();
    let mut places = Vec::new();
    for _ in 0..PLACES {
        places.push(make()?);
        let file = memfd_create("apart", MemfdFlags::CLOEXEC)?;
        fallocate(&file, FallocateFlags::empty(), 0, APART_BYTES)?;
        between.push(file);
    }
    Ok(places)
}

/// Which of `places` has message `number` of so many: where there are enough of them, all have their turn and as many messages as each other.
#[inline]
pub(super) fn turn(number: u64, messages: u64, places: usize) -> usize {
    (number * places as u64 / messages) as usize
}
