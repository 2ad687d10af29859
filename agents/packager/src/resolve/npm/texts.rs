//! Numbers of texts. A text's digest is taken once for the process, and whoever has met the text finds its number by that: the text
//! itself is neither hashed nor, where the object is the same, looked at again.
//!
//! The digest is keyed with what nobody outside knows. Two texts of one digest are possible all the same, so the text decides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use rustc_hash::{FxBuildHasher, FxHashMap};

static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The digest of a text in this process.
pub(super) fn digest(text: &str) -> u64 {
    KEYS.hash_one(text)
}

/// The numbers of one resolution.
pub(super) struct Numbers<N> {
    by_digest: FxHashMap<u64, N>,
    /// Those whose digest another text had first: none.
    others: HashMap<Arc<str>, N>,
}

impl<N: Copy> Numbers<N> {
    pub(super) fn with_room_for(count: usize) -> Self {
        let by_digest = HashMap::with_capacity_and_hasher(count, FxBuildHasher);
        Self { by_digest, others: HashMap::new() }
    }

    /// The number of a text; `is_it` says whether a number is that text's.
    pub(super) fn get(&self, digest: u64, text: &str, is_it: impl FnOnce(N) -> bool) -> Option<N> {
        let number = *self.by_digest.get(&digest)?;
        if is_it(number) { Some(number) } else { self.others.get(text).copied() }
    }

    /// Remembers the number of a text that has none.
    pub(super) fn insert(&mut self, digest: u64, text: &Arc<str>, number: N) {
        match self.by_digest.entry(digest) {
            Entry::Vacant(place) => {
                place.insert(number);
            }
            Entry::Occupied(_) => {
                self.others.insert(Arc::clone(text), number);
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_digest.len() + self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_digest_have_numbers_of_their_own() {
        let texts: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        let mut numbers = Numbers::with_room_for(0);
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(numbers.get(7, text, |other: usize| texts[other] == *text), None);
            numbers.insert(7, text, number);
        }
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(numbers.get(7, text, |other| texts[other] == *text), Some(number));
        }
        assert_eq!((numbers.len(), numbers.get(8, "a", |_| true)), (3, None));
    }
}
