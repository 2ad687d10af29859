//! For which surroundings npm's configuration was found at once the last time: then it is so this time, and whoever needs it looks
//! himself. Otherwise a program may have to be asked, which takes as long as a resolution (or does not answer, each time), and it is
//! better looked for aside.
//!
//! Surroundings hold what is nobody's business, so a digest of them is kept, under a key of this process. Two of one digest cost
//! time at most.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::io::environment::Environment;
use crate::io::limits::RESOLVING_UNTOLD_MAX;

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

    /// They are, where finding it took no longer than nobody notices; else there are none.
    pub(crate) fn note(&self, environment: &Environment, took: Duration) {
        let last = match took < RESOLVING_UNTOLD_MAX {
            true => self.digest(environment),
            false => 0,
        };
        self.last.store(last, Ordering::Relaxed);
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
        found.note(&environment, Duration::ZERO);
        assert!(found.is_last(&environment.clone()));
        found.note(&environment, RESOLVING_UNTOLD_MAX);
        assert!(!found.is_last(&environment), "a program was asked, and may be the next time");
        found.note(&environment, RESOLVING_UNTOLD_MAX / 2);
        assert!(found.is_last(&environment));
        environment.variables.insert("PATH".to_owned(), "/shims".to_owned());
        assert!(!found.is_last(&environment));
    }
}
