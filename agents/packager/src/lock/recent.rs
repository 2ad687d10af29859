//! Locks that were read lately, so that a project that is installed again and again does not pay for its lock each time. It is the
//! text that counts: another one, by a single byte, is read as ever, and one that cannot be read is judged each time anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::Lock;
use super::limits::{LOCK_RECENT_BYTES_MAX, LOCKS_RECENT_MAX};
use crate::error::Result;

/// Those of one process, the latest first.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<Known>>);

#[derive(Debug)]
struct Known {
    text: String,
    lock: Arc<Lock>,
}

impl Recent {
    /// What the text says, as [`Lock::read`] has it.
    pub(crate) fn read(&self, text: &str) -> Result<Arc<Lock>> {
        if let Some(lock) = self.find(text) {
            return Ok(lock);
        }
        let lock = Arc::new(Lock::read(text)?);
        if text.len() <= LOCK_RECENT_BYTES_MAX {
            let known = Known { text: text.to_owned(), lock: Arc::clone(&lock) };
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.push_front(known);
            all.truncate(LOCKS_RECENT_MAX);
        }
        Ok(lock)
    }

    fn find(&self, text: &str) -> Option<Arc<Lock>> {
        // Whole between any two statements.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = all.iter().position(|known| known.text == text)?;
        let known = all.remove(index)?;
        let lock = Arc::clone(&known.lock);
        all.push_front(known);
        Some(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        format!("version = 1\n\n[npm]\nwants = [\"{name}\"]\n")
    }

    #[test]
    fn the_same_text_is_read_once_and_any_other_by_itself() {
        let recent = Recent::default();
        let first = recent.read(&text("a@1")).expect("a lock");
        assert!(Arc::ptr_eq(&first, &recent.read(&text("a@1")).expect("the same")));
        let other = recent.read(&text("a@2")).expect("another lock");
        assert_eq!(*other, Lock::read(&text("a@2")).expect("a lock"));
        assert_ne!(first, other);
    }

    #[test]
    fn what_was_not_read_for_long_goes_and_what_is_large_or_damaged_never_stays() {
        let recent = Recent::default();
        let held = || recent.0.lock().expect("no panic").len();
        let first = recent.read(&text("a@0")).expect("a lock");
        for number in 1..=LOCKS_RECENT_MAX {
            recent.read(&text(&format!("a@{number}"))).expect("a lock");
        }
        assert_eq!(held(), LOCKS_RECENT_MAX);
        assert!(!Arc::ptr_eq(&first, &recent.read(&text("a@0")).expect("a lock")));
        let large = format!("{}#{}", text("b@1"), " ".repeat(LOCK_RECENT_BYTES_MAX));
        recent.read(&large).expect("a lock");
        recent.read("version = 3").expect_err("another version");
        let texts: Vec<String> =
            recent.0.lock().expect("no panic").iter().map(|known| known.text.clone()).collect();
        assert!(!texts.iter().any(|text| *text == large || text == "version = 3"));
    }
}
