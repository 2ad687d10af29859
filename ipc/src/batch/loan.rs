//! Bytes of the own pool that are being written.
//!
//! Not here: which ranges are free (`account`) and who gets them (`pool`).
#![allow(
    unsafe_code,
    reason = "a loan is a reference to bytes that the account gave to nobody else"
)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use super::pool::Shared;
use crate::sync::Ordering;

/// A range of the pool that only this value may touch, until it is lent. What stood there before is still there: write all of
/// it. Dropped without being lent, it is free again.
#[derive(Debug)]
pub struct Loan {
    shared: Arc<Shared>,
    start: NonNull<u8>,
    number: u64,
    offset: usize,
    length: usize,
    is_lent: bool,
}

// SAFETY: the range belongs to this value and to no thread; the memory it points to is kept by `shared`.
unsafe impl Send for Loan {}
// SAFETY: through a shared reference it can only be read.
unsafe impl Sync for Loan {}

impl Loan {
    /// The caller (`pool`) has the range from its account, which gives every byte to one loan at a time.
    pub(super) fn new(shared: Arc<Shared>, number: u64, offset: usize, length: usize) -> Self {
        let start = shared.memory.range(offset, length);
        Self { shared, start, number, offset, length, is_lent: false }
    }

    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Its readers have it now; nothing is written any more.
    pub(super) fn set_lent(mut self) {
        self.is_lent = true;
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: inside the mapping, which `shared` keeps; any bytes are `u8`. No other process can write a pool (it was
        // sealed before it was handed on), and in this one no other loan has these bytes: the account does not give them away
        // before this value is lent or dropped, nor after it was lent before all readers have returned it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the mapping is writable, and `&mut self` makes this the only reference. Readers that look
        // before they were given the loan are other mappings, which read through atomics and believe nothing.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.is_lent {
            // Partner: the Acquire load in `returns::is_back`, so that the next loan's writing comes after ours.
            self.shared.dropped(self.number).store(self.number, Ordering::Release);
        }
    }
}
