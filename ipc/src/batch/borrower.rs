//! The borrower's side of a pool: what it was lent, reading it, and giving it back.
//!
//! Not here: the lender (`pool`). The bytes stay foreign for as long as they are lent: they are copied, and the copy is
//! checked. The pool outlives a lender that dies, and so does everything that was taken from it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::account::place_of;
use super::line::LoanLine;
use super::returns::{count_return, give_back};
use super::{OutOfRange, TakeError};
use crate::futex;
use crate::limits::LOANS_MAX;
use crate::segment::SegmentError;
use crate::segment::bulk::{PoolView, Returns};
use crate::sync::{AtomicU64, Ordering};
use crate::wait;

/// Takes loans of one pool of a peer.
#[derive(Debug)]
pub struct Borrower {
    shared: Arc<Shared>,
    /// The number that was taken last in each place.
    latest: Box<[u64]>,
}

/// What loans keep alive.
#[derive(Debug)]
struct Shared {
    pool: PoolView,
    returns: Returns,
}

/// A range of a peer's pool, checked to be inside it. The peer may still write it, so nothing here is a `&[u8]` of its memory.
/// Dropping it returns it.
#[derive(Debug)]
pub struct Lent {
    shared: Arc<Shared>,
    number: u64,
    offset: usize,
    length: usize,
}

/// Copies of a loan's bytes, one after the other.
#[derive(Debug)]
pub struct Chunks<'a> {
    lent: &'a Lent,
    buffer: &'a mut [u8],
    next: usize,
}

impl Borrower {
    /// Checks and maps a pool of at most `bytes_max` that a peer granted. Looks at every page of it, once.
    pub fn open(pool: OwnedFd, bytes_max: usize) -> Result<Self, SegmentError> {
        let pool = PoolView::open(pool, bytes_max)?;
        let returns = Returns::create(pool.number())?;
        let latest = vec![0; LOANS_MAX].into_boxed_slice();
        Ok(Self { shared: Arc::new(Shared { pool, returns }), latest })
    }

    /// The returns, to be granted to the lender.
    pub fn returns_fd(&self) -> BorrowedFd<'_> {
        self.shared.returns.descriptor()
    }

    /// The memory that a hostile borrower would scribble in.
    #[cfg(test)]
    pub(super) fn memory(&self) -> &Returns {
        &self.shared.returns
    }

    /// The pool's number, by which lines name it.
    pub fn number(&self) -> u32 {
        self.shared.pool.number()
    }

    /// Takes the loan that a received line names. Costs the same whatever its length.
    pub fn take(&mut self, line: &[u8]) -> Result<Lent, TakeError> {
        let LoanLine { number, offset, length, pool } = LoanLine::decode(line)?;
        if pool != self.number() {
            return Err(TakeError::OtherPool { expected: self.number(), got: pool });
        }
        let bytes = self.shared.pool.bytes();
        let is_inside = length > 0
            && offset.is_multiple_of(8)
            && offset.checked_add(length).is_some_and(|end| end <= bytes as u64);
        if !is_inside {
            return Err(TakeError::Outside { offset, length, bytes });
        }
        let latest = &mut self.latest[place_of(number)];
        if number <= *latest {
            return Err(TakeError::Stale { number });
        }
        *latest = number;
        let (offset, length) = (offset as usize, length as usize);
        Ok(Lent { shared: Arc::clone(&self.shared), number, offset, length })
    }
}

impl Lent {
    /// How many bytes it has; never 0.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Copies the bytes at `offset` to all of `out`.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfRange> {
        let count = out.len();
        if offset.checked_add(count).is_none_or(|end| end > self.length) {
            return Err(OutOfRange { offset, count, length: self.length });
        }
        copy_out(self.shared.pool.words(), self.offset + offset, out);
        Ok(())
    }

    /// Appends all bytes to `out`.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.length, 0);
        copy_out(self.shared.pool.words(), self.offset, &mut out[start..]);
    }

    /// Copies of all bytes, as many at a time as `buffer` holds.
    ///
    /// # Panics
    /// When the buffer is empty.
    pub fn chunks<'a>(&'a self, buffer: &'a mut [u8]) -> Chunks<'a> {
        assert!(!buffer.is_empty(), "a chunk has bytes");
        Chunks { lent: self, buffer, next: 0 }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let returns = &self.shared.returns;
        give_back(&returns.words()[place_of(self.number)], self.number);
        let count = &returns.header().returned.0;
        count_return(count);
        if wait::must_wake(&self.shared.pool.header().lender_sleeping.0).is_some() {
            futex::wake(count);
        }
    }
}

impl Chunks<'_> {
    /// The next copy; `None` after the last. Not an `Iterator`, because every copy lies in the same buffer.
    #[expect(clippy::should_implement_trait, reason = "what it gives borrows from it")]
    pub fn next(&mut self) -> Option<&[u8]> {
        let count = self.buffer.len().min(self.lent.length - self.next);
        if count == 0 {
            return None;
        }
        let out = &mut self.buffer[..count];
        copy_out(self.lent.shared.pool.words(), self.lent.offset + self.next, out);
        self.next += count;
        Some(out)
    }
}

/// Copies bytes from any offset. The caller has made sure that they are inside.
fn copy_out(words: &[AtomicU64], offset: usize, out: &mut [u8]) {
    let bytes_of = |index: usize| words[index].load(Ordering::Relaxed).to_le_bytes();
    let skipped = offset % 8;
    let head = if skipped == 0 { 0 } else { (8 - skipped).min(out.len()) };
    let (first, rest) = out.split_at_mut(head);
    if head > 0 {
        first.copy_from_slice(&bytes_of(offset / 8)[skipped..skipped + head]);
    }
    let start = (offset + head) / 8;
    let (whole, last) = rest.as_chunks_mut::<8>();
    let source = &words[start..start + whole.len()];
    for (chunk, word) in whole.iter_mut().zip(source) {
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    if !last.is_empty() {
        let word = bytes_of(start + whole.len());
        last.copy_from_slice(&word[..last.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_range_is_copied_as_it_is(start in 0usize..200, length in 0usize..200) {
            let bytes: Vec<u8> = (0..512u32).map(|index| (index * 7) as u8).collect();
            let words: Vec<AtomicU64> =
                bytes.as_chunks::<8>().0.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect();
            let mut out = vec![0; length];
            copy_out(&words, start, &mut out);
            prop_assert_eq!(&out[..], &bytes[start..start + length]);
        }
    }
}
