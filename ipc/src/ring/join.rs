//! What the writer of a topic says of where to begin: three words, told and asked without a lock.
//!
//! Not here: which messages are kept (`lane`), and where the words lie (`layout`).
//!
//! The writer stores where its last messages begin, then where its next message goes, then the first once more. A reader
//! loads in the opposite order. Both numbers only grow, and the first one with every message once there are as many as are
//! kept; so equal values before and after mean that the one in between belongs to them.

use crate::sync::{AtomicU64, Ordering};

/// The three words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoinWords<'a> {
    /// Where the last messages begin, stored first.
    pub(crate) from: &'a AtomicU64,
    /// Where the next message goes.
    pub(crate) position: &'a AtomicU64,
    /// Where the last messages begin, stored last.
    pub(crate) again: &'a AtomicU64,
}

/// Where a reader can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// With the last messages.
    pub(crate) from: u64,
    /// After them.
    pub(crate) position: u64,
}

impl JoinWords<'_> {
    /// Tells it, after the lines before `position` were stamped.
    #[inline]
    pub(crate) fn tell(self, place: Place) {
        // Partners: the Acquire loads in `ask`, in the opposite order.
        self.from.store(place.from, Ordering::Release);
        self.position.store(place.position, Ordering::Release);
        self.again.store(place.from, Ordering::Release);
    }

    /// One try; nothing where the writer moved on meanwhile.
    pub(crate) fn ask(self) -> Result<Place, Place> {
        // Partners: the Release stores in `tell`.
        let again = self.again.load(Ordering::Acquire);
        let position = self.position.load(Ordering::Acquire);
        let from = self.from.load(Ordering::Acquire);
        let place = Place { from, position };
        if again == from { Ok(place) } else { Err(place) }
    }
}
