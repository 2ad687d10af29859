//! One slot in shared memory, and the private copy of one.
//!
//! Not here: who may touch which slot when (the rules in `ring`).

use super::Meta;
use crate::limits::INLINE_BYTES_MAX;
use crate::sync::{AtomicU64, Ordering};

/// One slot, one cache line.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    pub(super) stamp: AtomicU64,
    pub(super) words: [AtomicU64; 7],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == crate::limits::SLOT_BYTES);

/// How many words of a slot are moved: all, or two where a model would take hours with more.
const WORDS: usize = if cfg!(loom) { 2 } else { 7 };

/// One line as a private copy: first word and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The first word.
    pub meta: Meta,
    /// The payload; only the first `meta.length` bytes mean anything.
    pub payload: [u8; INLINE_BYTES_MAX],
}

impl Slot {
    /// A slot that was never written: for rings on the heap; a fresh segment is all zero and so is this.
    pub fn new() -> Self {
        Self { stamp: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// The word that changes when the line of a position arrives; what a sleeper waits on.
    pub(crate) fn stamp(&self) -> &AtomicU64 {
        &self.stamp
    }

    /// Overwrites one of the eight words, as a hostile writer would.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn scribble(&self, index: usize, value: u64) {
        let word = if index == 0 { &self.stamp } else { &self.words[index - 1] };
        word.store(value, Ordering::Relaxed);
    }

    /// Writes the first word and as many words as the payload has, without a copy in between.
    #[inline]
    pub(super) fn store(&self, meta: Meta, payload: &[u8]) {
        debug_assert!(
            payload.len() <= INLINE_BYTES_MAX && payload.len() == usize::from(meta.length)
        );
        let (chunks, rest) = payload.as_chunks::<8>();
        for (word, chunk) in self.words[1..].iter().zip(chunks) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.words[1 + chunks.len()].store(u64::from_le_bytes(last), Ordering::Relaxed);
        }
        self.words[0].store(meta.to_word(), Ordering::Relaxed);
    }

    /// The first word, loaded once.
    #[inline]
    pub(super) fn first_word(&self) -> u64 {
        self.words[0].load(Ordering::Relaxed)
    }

    /// Copies all words once, straight to where they stay: wide copies of what was just written in narrow pieces would cost
    /// more than the whole rest.
    #[inline]
    pub(super) fn copy_to(&self, line: &mut Line) {
        line.meta = Meta::from_word(self.first_word());
        self.copy_payload_to(line);
    }

    /// The first words of the payload, each loaded once.
    #[inline]
    pub(super) fn payload_words<const COUNT: usize>(&self) -> [u64; COUNT] {
        let load = |index: usize| self.words[1 + index].load(Ordering::Relaxed);
        std::array::from_fn(|index| if index < WORDS - 1 { load(index) } else { 0 })
    }

    /// [`Slot::copy_to`] without the first word.
    #[inline]
    pub(super) fn copy_payload_to(&self, line: &mut Line) {
        for index in 0..WORDS - 1 {
            line.set_word(index, self.words[1 + index].load(Ordering::Relaxed));
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// One of the six words of the payload, little-endian.
    #[inline]
    pub fn word(&self, index: usize) -> u64 {
        u64::from_le_bytes(self.payload.as_chunks::<8>().0[index])
    }

    /// Sets one of the six words of the payload.
    #[inline]
    pub fn set_word(&mut self, index: usize, word: u64) {
        self.payload.as_chunks_mut::<8>().0[index] = word.to_le_bytes();
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { meta: Meta::default(), payload: [0; INLINE_BYTES_MAX] }
    }
}
