//! Where canonical bytes are written: a plan of a thousand packages takes more than a megabyte, which a system gives page by page. So
//! where the last plan stood is kept for the next one when it has been written to the disk. One, within a bound.

use std::sync::{Mutex, PoisonError};

use crate::limits::PLAN_SPARE_BYTES_MAX;

/// See the module.
pub(super) struct Spare(Mutex<Vec<u8>>);

/// Of this process.
pub(super) static SPARE: Spare = Spare(Mutex::new(Vec::new()));

/// The same for resolutions that are written apart.
pub(super) static SPARE_RESOLUTIONS: Spare = Spare(Mutex::new(Vec::new()));

impl Spare {
    fn replace(&self, bytes: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), bytes)
    }

    /// An empty one with room for so many bytes.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut spare = self.replace(Vec::new());
        spare.clear();
        spare.reserve(bytes);
        spare
    }

    /// Keeps what nobody needs any more.
    pub(super) fn give(&self, bytes: Vec<u8>) {
        if bytes.capacity() <= PLAN_SPARE_BYTES_MAX {
            let other = self.replace(bytes);
            // Dropped when nobody waits for the lock.
            drop(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_again_within_a_bound_and_nothing_that_stood_there() {
        let spare = Spare(Mutex::default());
        spare.give(b"a plan".to_vec());
        let again = spare.take(3);
        assert!(again.is_empty() && again.capacity() >= 6, "the same room, empty");
        assert_eq!(spare.take(0).capacity(), 0, "it is given once");
        spare.give(Vec::with_capacity(PLAN_SPARE_BYTES_MAX + 1));
        assert_eq!(spare.take(0).capacity(), 0, "that is too much to keep");
    }
}
