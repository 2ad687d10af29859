//! The space of a region: a ring of bytes from which the writer lends, and the copying in and out.
//!
//! Not here: who waits when it is full (`sender`). Positions count bytes from 0 and never wrap; a payload lies whole, so the
//! end of the region is skipped where it would not fit. Space is free again when the cursor of every gating reader has
//! passed the line that named it.

use std::collections::VecDeque;

use crate::limits::REGION_ALIGNMENT;
use crate::sync::{AtomicU64, Ordering, fence};

/// The writer's private account of its region.
#[derive(Debug)]
pub(super) struct Lender {
    size: u64,
    /// Where the next payload may start.
    head: u64,
    /// Everything before it is free.
    tail: u64,
    /// Line position and end of each lent payload, oldest first; one line names at most one, so it never grows.
    lent: VecDeque<(u64, u64)>,
}

/// A place that was found but not yet taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its position; the offset is this modulo the size.
    pub(super) start: u64,
    /// The head afterwards.
    pub(super) end: u64,
}

impl Lender {
    pub(super) fn new(size: usize, lines: usize) -> Self {
        Self { size: size as u64, head: 0, tail: 0, lent: VecDeque::with_capacity(lines) }
    }

    /// The longest payload that always fits into an empty region: half, because the other half may have to be skipped.
    pub(super) fn chunk_bytes_max(&self) -> usize {
        (self.size / 2) as usize
    }

    /// Where so many bytes would lie. Says nothing about whether the place is free.
    pub(super) fn place(&self, bytes: usize) -> Place {
        debug_assert!(bytes <= self.chunk_bytes_max());
        let length = bytes.next_multiple_of(REGION_ALIGNMENT) as u64;
        let offset = self.head & (self.size - 1);
        let start =
            if offset + length > self.size { self.head - offset + self.size } else { self.head };
        Place { start, end: start + length }
    }

    pub(super) fn is_free(&self, place: Place) -> bool {
        place.end - self.tail <= self.size
    }

    /// Takes a place for the line at `line`. In a ring of bytes that readers may be lapped in, `forget` the oldest.
    pub(super) fn take(&mut self, place: Place, line: u64, forget: bool) {
        self.head = place.end;
        if forget {
            self.tail = self.tail.max(place.end.saturating_sub(self.size));
        } else {
            debug_assert!(self.is_free(place) && self.lent.len() < self.lent.capacity());
            self.lent.push_back((line, place.end));
        }
    }

    /// Frees what was named by lines before `cursor`.
    pub(super) fn release(&mut self, cursor: u64) {
        while let Some((line, end)) = self.lent.front().copied()
            && line < cursor
        {
            self.tail = end;
            self.lent.pop_front();
        }
    }
}

/// Rule 13 of the protocol, before lent bytes are written where readers may be lapped: they check this word after copying.
pub(super) fn reserve(reserved_until: &AtomicU64, place: Place) {
    reserved_until.store(place.end, Ordering::Relaxed);
    // Partner: the Acquire fence in `is_still_there`, seen through any byte that was already overwritten.
    fence(Ordering::Release);
}

/// Whether bytes from `start` on were still there when they were copied.
pub(super) fn is_still_there(reserved_until: &AtomicU64, start: u64, size: u64) -> bool {
    // Partner: the Release fence in `reserve`.
    fence(Ordering::Acquire);
    reserved_until.load(Ordering::Relaxed) <= start.saturating_add(size)
}

/// Copies parts one after the other to a byte offset that is a multiple of 8. The caller has made sure that they fit.
pub(super) fn copy_in(words: &[AtomicU64], offset: usize, parts: &[&[u8]]) {
    let mut next = offset / 8;
    let (mut pending, mut bits) = (0u64, 0u32);
    for part in parts {
        let (chunks, rest) = part.as_chunks::<8>();
        for chunk in chunks {
            let word = u64::from_le_bytes(*chunk);
            words[next].store(pending | word << bits, Ordering::Relaxed);
            pending = if bits == 0 { 0 } else { word >> (64 - bits) };
            next += 1;
        }
        for byte in rest {
            pending |= u64::from(*byte) << bits;
            bits += 8;
            if bits == 64 {
                words[next].store(pending, Ordering::Relaxed);
                (pending, bits) = (0, 0);
                next += 1;
            }
        }
        crate::fault::point("lane.region-half");
    }
    if bits > 0 {
        words[next].store(pending, Ordering::Relaxed);
    }
}

/// Appends bytes from an offset that is a multiple of 8 to `out`. The caller has made sure that they are inside.
pub(super) fn copy_out(words: &[AtomicU64], offset: usize, length: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + length, 0);
    let first = offset / 8;
    let (chunks, rest) = out[start..].as_chunks_mut::<8>();
    let source = &words[first..first + length.div_ceil(8)];
    for (chunk, word) in chunks.iter_mut().zip(source) {
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    if !rest.is_empty() {
        let word = source[length / 8].load(Ordering::Relaxed).to_le_bytes();
        rest.copy_from_slice(&word[..rest.len()]);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heap(bytes: usize) -> Vec<AtomicU64> {
        (0..bytes / 8).map(|_| AtomicU64::new(u64::MAX)).collect()
    }

    proptest! {
        #[test]
        fn what_is_copied_in_comes_out(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            line in 0usize..4,
        ) {
            let words = heap(4096);
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            copy_in(&words, line * 64, &slices);
            let whole = parts.concat();
            let mut out = b"before".to_vec();
            copy_out(&words, line * 64, whole.len(), &mut out);
            prop_assert_eq!(&out[..6], b"before");
            prop_assert_eq!(&out[6..], &whole[..]);
        }

        #[test]
        fn lent_places_never_overlap(
            steps in prop::collection::vec((1usize..2048, any::<bool>()), 1..200),
        ) {
            let mut lender = Lender::new(4096, 256);
            let mut live: VecDeque<(u64, u64)> = VecDeque::new();
            let (mut line, mut cursor) = (0, 0);
            for (bytes, free_one) in steps {
                if free_one && cursor < line {
                    cursor += 1;
                    lender.release(cursor);
                    live.pop_front();
                }
                let place = lender.place(bytes);
                if lender.is_free(place) {
                    let offset = place.start % 4096;
                    prop_assert!(offset + bytes as u64 <= 4096, "whole");
                    for (start, end) in &live {
                        let apart = place.start >= *end && place.end <= start + 4096;
                        prop_assert!(apart, "{:?} over {:?}", place, (start, end));
                    }
                    lender.take(place, line, false);
                    live.push_back((place.start, place.end));
                    line += 1;
                }
            }
        }
    }

    #[test]
    fn half_of_the_region_always_fits_when_it_is_empty() {
        for skew in 0..64 {
            let mut lender = Lender::new(4096, 8);
            let first = lender.place(skew * 32 + 1);
            lender.take(first, 0, false);
            lender.release(1);
            assert!(lender.is_free(lender.place(lender.chunk_bytes_max())));
        }
    }
}
