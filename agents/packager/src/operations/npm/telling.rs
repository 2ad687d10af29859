//! A registry that says so when something has to be waited for. What is at hand is there before anybody could read that it is looked
//! for, and each word wakes the caller up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::error::Error;
use crate::metadata::npm::{Ahead, AtHand, Edition, Metadata, Packument};

/// See the module.
pub(super) struct Telling<'a> {
    registry: &'a dyn Metadata,
    tell: &'a (dyn Fn() + Sync),
    has_told: AtomicBool,
}

impl<'a> Telling<'a> {
    pub(super) fn new(registry: &'a dyn Metadata, tell: &'a (dyn Fn() + Sync)) -> Self {
        Self { registry, tell, has_told: AtomicBool::new(false) }
    }

    fn waits(&self) {
        // Nothing else follows from it.
        if !self.has_told.swap(true, Ordering::Relaxed) {
            (self.tell)();
        }
    }
}

impl Metadata for Telling<'_> {
    fn packument(&self, name: &str) -> Result<Arc<Packument>, Error> {
        if !self.has_told.load(Ordering::Relaxed) && self.registry.at_hand(name).is_none() {
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
        let telling = Telling::new(&Registry, &tell);
        assert!(telling.prefetch("here") && telling.at_hand("here").is_some());
        let _ = telling.packument("here");
        assert_eq!(said.load(Ordering::Relaxed), 0);
        let _ = telling.packument("there");
        assert!(!telling.prefetch("elsewhere"));
        assert_eq!(said.load(Ordering::Relaxed), 1);
    }
}
