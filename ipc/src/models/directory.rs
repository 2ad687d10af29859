//! Entries and refreshes of the directory: what counts is of one piece.

use loom::sync::Arc;
use loom::thread;

use super::{model, seqlock};
use crate::sync::AtomicU64;

/// One entry of two words.
struct Entry {
    version: AtomicU64,
    words: [AtomicU64; 2],
}

impl Entry {
    fn new() -> Self {
        Self { version: AtomicU64::new(0), words: [AtomicU64::new(0), AtomicU64::new(0)] }
    }

    fn store(&self, value: u64) {
        seqlock::store(&self.version, &self.words, &[value, value]);
    }

    /// The value, if it could be had.
    fn load(&self) -> Option<u64> {
        let mut copied = [0; 2];
        let is_whole = seqlock::load(&self.version, &self.words, &mut copied);
        assert!(!is_whole || copied[0] == copied[1], "half an entry: {copied:?}");
        is_whole.then_some(copied[0])
    }
}

#[test]
fn loom_entry_is_of_one_refresh_or_given_up() {
    model(|| {
        let entry = Arc::new(Entry::new());
        let router = thread::spawn({
            let entry = entry.clone();
            move || (1..=2).for_each(|value| entry.store(value))
        });
        let mut last = 0;
        for _ in 0..2 {
            if let Some(value) = entry.load() {
                assert!(value >= last, "back in time");
                last = value;
            }
        }
        router.join().unwrap();
        assert_eq!(entry.load(), Some(2));
    });
}

#[test]
fn loom_whole_picture_is_of_one_refresh() {
    model(|| {
        let shared = Arc::new((AtomicU64::new(0), Entry::new(), Entry::new()));
        let router = thread::spawn({
            let shared = shared.clone();
            move || {
                let (generation, first, second) = &*shared;
                seqlock::begin_refresh(generation, 0);
                first.store(1);
                second.store(1);
                assert_eq!(seqlock::end_refresh(generation, 0), 2);
            }
        });
        let (generation, first, second) = &*shared;
        let before = seqlock::begin_picture(generation);
        let found = (first.load(), second.load());
        if seqlock::is_of_one_refresh(generation, before) {
            let expected = Some(before / 2);
            assert_eq!(found, (expected, expected), "generation {before}");
        }
        router.join().unwrap();
    });
}
