//! The word that packages are being resolved, and a registry that gives it when something has to be waited for. What is at hand is
//! there before anybody could read that it is looked for, and each word wakes the caller up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use crate::error::Error;
use crate::io::limits::RESOLVING_UNTOLD_MAX;
use crate::metadata::npm::{Ahead, AtHand, Edition, Metadata, Packument};

/// Whether the word was given in a request, however often it decides.
pub(crate) struct Word {
    /// When the request began.
    began: Instant,
    /// Nothing else follows from it, so nothing is ordered by it.
    is_given: AtomicBool,
}

impl Word {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, is_given: AtomicBool::new(false) }
    }

    fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Relaxed)
    }

    /// Gives it, unless it was given.
    pub(super) fn give(&self, tell: &dyn Fn()) {
        if !self.is_given.swap(true, Ordering::Relaxed) {
            tell();
        }
    }

    /// Gives it where the request has taken long, whatever it is at.
    pub(in crate::operations) fn give_when_due(&self, now: Instant, tell: &dyn Fn()) {
        if !self.is_given() && now.saturating_duration_since(self.began) >= RESOLVING_UNTOLD_MAX {
            self.give(tell);
        }
    }
}

/// See the module.
pub(super) struct Telling<'a> {
    registry: &'a dyn Metadata,
    word: &'a Word,
    tell: &'a (dyn Fn() + Sync),
}

impl<'a> Telling<'a> {
    pub(super) fn new(
        registry: &'a dyn Metadata,
        word: &'a Word,
        tell: &'a (dyn Fn() + Sync),
    ) -> Self {
        Self { registry, word, tell }
    }

    fn waits(&self) {
        self.word.give(self.tell);
    }
}

impl Metadata for Telling<'_> {
    fn packument(&self, name: &str) -> Result<Arc<Packument>, Error> {
        if !self.word.is_given() && self.registry.at_hand(name).is_none() {
            self.waits();
        }
        self.registry.packument(name)
    }

    fn at_hand(&self, name: &str) -> Option<AtHand> {
        self.registry.at_hand(name)
    }

    fn edition(&self) -> Option<(Edition, SystemTime)> {
        self.registry.edition()
    }

    fn prefetch(&self, name: &str) -> bool {
        let is_at_hand = self.registry.prefetch(name);
        if !is_at_hand {
            self.waits();
        }
        is_at_hand
    }

    fn follow(&self, ahead: &Arc<dyn Ahead>) {
        self.registry.follow(ahead);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::error::Kind;

    /// Has one package at hand.
    struct Registry;

    impl Metadata for Registry {
        fn packument(&self, _: &str) -> Result<Arc<Packument>, Error> {
            Err(Error::new(Kind::Network, "gone", "it does not answer"))
        }

        fn at_hand(&self, name: &str) -> Option<AtHand> {
            let until = SystemTime::UNIX_EPOCH;
            (name == "here").then(|| AtHand { packument: Arc::default(), until })
        }

        fn prefetch(&self, name: &str) -> bool {
            name == "here"
        }
    }

    #[test]
    fn a_wait_is_told_of_once_and_nothing_else() {
        let said = AtomicUsize::new(0);
        let tell = || {
            said.fetch_add(1, Ordering::Relaxed);
        };
        let word = Word::new(Instant::now());
        let telling = Telling::new(&Registry, &word, &tell);
        assert!(telling.prefetch("here") && telling.at_hand("here").is_some());
        let _ = telling.packument("here");
        assert_eq!(said.load(Ordering::Relaxed), 0);
        let _ = telling.packument("there");
        assert!(!telling.prefetch("elsewhere"));
        assert_eq!(said.load(Ordering::Relaxed), 1);
        // Another attempt of the same request.
        let _ = Telling::new(&Registry, &word, &tell).packument("there");
        word.give(&tell);
        assert_eq!(said.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_takes_long_is_told_of_once_though_nothing_is_waited_for() {
        let said = Cell::new(0);
        let tell = || said.set(said.get() + 1);
        let began = Instant::now();
        let word = Word::new(began);
        word.give_when_due(began, &tell);
        word.give_when_due(began + RESOLVING_UNTOLD_MAX / 2, &tell);
        assert_eq!(said.get(), 0);
        word.give_when_due(began + RESOLVING_UNTOLD_MAX, &tell);
        word.give_when_due(began + 2 * RESOLVING_UNTOLD_MAX, &tell);
        assert_eq!(said.get(), 1);
    }
}
