//! A large message on its way into chunks: header and parts as one row of bytes.
//!
//! Not here: room for them (`lender`) and the lines that name them (`sender`).

use super::lender::{Place, copy_in};
use crate::segment::Region;

/// A message's bytes on their way into chunks.
pub(crate) struct Parts<'a> {
    header: &'a [u8],
    rest: &'a [&'a [u8]],
    /// How much of the first of `rest` is gone.
    offset: usize,
}

/// Parts of one large message: what a prefix, a body and a few attachments need.
pub const PARTS_MAX: usize = 7;
/// The same with the header.
pub(crate) const PARTS_AT_ONCE: usize = PARTS_MAX + 1;

impl<'a> Parts<'a> {
    pub(crate) fn new(header: &'a [u8], parts: &'a [&'a [u8]]) -> Self {
        Self { header, rest: parts, offset: 0 }
    }

    /// Leaves out the next `length` bytes, which are on their way already.
    pub(crate) fn skip(&mut self, mut length: usize) {
        while length > 0 {
            let next = self.next(length).len();
            assert!(next > 0, "no more than there is was sent");
            length -= next;
        }
    }

    /// Copies the next `length` bytes to a place.
    pub(super) fn copy_chunk(&mut self, region: &Region, place: Place, length: usize) {
        let offset = place.start as usize & (region.bytes() - 1);
        let (slices, count) = self.take(length);
        copy_in(region.words(), offset, &slices[..count]);
    }

    /// The next `length` bytes as slices, and how many slices they are.
    pub(crate) fn take(&mut self, length: usize) -> ([&'a [u8]; PARTS_AT_ONCE], usize) {
        let mut slices: [&'a [u8]; PARTS_AT_ONCE] = [&[]; PARTS_AT_ONCE];
        let mut left = length;
        let mut count = 0;
        while left > 0 && count < PARTS_AT_ONCE {
            let next = self.next(left);
            left -= next.len();
            slices[count] = next;
            count += 1;
        }
        debug_assert_eq!(left, 0, "senders give few parts");
        (slices, count)
    }

    fn next(&mut self, max: usize) -> &'a [u8] {
        if !self.header.is_empty() {
            let (now, later) = self.header.split_at(self.header.len().min(max));
            self.header = later;
            return now;
        }
        while let [first, rest @ ..] = self.rest {
            let left = &first[self.offset..];
            if left.is_empty() {
                (self.rest, self.offset) = (rest, 0);
                continue;
            }
            let now = &left[..left.len().min(max)];
            self.offset += now.len();
            return now;
        }
        &[]
    }
}
