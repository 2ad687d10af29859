//! For which surroundings npm's configuration was found the last time: then it is found at once this time, and whoever needs it looks
//! himself. Otherwise a program may have to be asked, which takes as long as a resolution, and it is better looked for aside.
//!
//! Surroundings hold what is nobody's business, so a digest of them is kept, under a key of this process. Two of one digest cost
//! time at most.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::environment::Environment;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Found {
    keys: RandomState,
    /// Nothing else follows from it, so nothing is ordered by it.
    last: AtomicU64,
}

impl Found {
    /// Whether they were the last.
    pub(crate) fn is_last(&self, environment: &Environment) -> bool {
        self.last.load(Ordering::Relaxed) == self.digest(environment)
    }

    /// They are.
    pub(crate) fn note(&self, environment: &Environment) {
        self.last.store(self.digest(environment), Ordering::Relaxed);
    }

    /// Never 0, which is none.
    fn digest(&self, environment: &Environment) -> u64 {
        self.keys.hash_one(environment).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_surroundings_are_not_those_of_the_last_time() {
        let (found, mut environment) = (Found::default(), Environment::default());
        assert!(!found.is_last(&environment), "nothing was found yet");
        found.note(&environment);
        assert!(found.is_last(&environment.clone()));
        environment.variables.insert("PATH".to_owned(), "/shims".to_owned());
        assert!(!found.is_last(&environment));
    }
}
