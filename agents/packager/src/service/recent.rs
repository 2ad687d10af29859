//! Answers that were given a moment ago, for whoever asks the same again: found without a file, a registry, or a lock that
//! anybody holds while he waits for either.
//!
//! The question is the request's bytes, all of them: package, overrides and the caller's variables. Not here: which questions have
//! the same answer for everybody who may ask them (`service`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::limits::{RECENT_ANSWER_BYTES_MAX, RECENT_ANSWERS_MAX, RECENT_FRESH_FOR};

/// The answers of one process.
#[derive(Debug, Default)]
pub(super) struct Recent {
    answers: Mutex<HashMap<Vec<u8>, Kept>>,
}

#[derive(Debug)]
struct Kept {
    answer: Vec<u8>,
    at: SystemTime,
}

impl Kept {
    /// A clock that was set back ends it too.
    fn is_fresh(&self, now: SystemTime) -> bool {
        now.duration_since(self.at).is_ok_and(|age| age <= RECENT_FRESH_FOR)
    }
}

impl Recent {
    /// The answer, if it is there, fresh, and to be had without waiting.
    pub(super) fn try_get(&self, question: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let answers = self.answers.try_lock().ok()?;
        let kept = answers.get(question).filter(|kept| kept.is_fresh(now))?;
        Some(kept.answer.clone())
    }

    /// Keeps an answer that is not too long.
    pub(super) fn keep(&self, question: Vec<u8>, answer: &[u8], now: SystemTime) {
        if question.len() + answer.len() > RECENT_ANSWER_BYTES_MAX {
            return;
        }
        let kept = Kept { answer: answer.to_vec(), at: now };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= RECENT_ANSWERS_MAX {
            answers.retain(|_, kept| kept.is_fresh(now));
        }
        if answers.len() < RECENT_ANSWERS_MAX {
            answers.insert(question, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn question(number: usize) -> Vec<u8> {
        number.to_le_bytes().to_vec()
    }

    #[test]
    fn the_same_question_has_the_same_answer_for_a_while() {
        let (recent, now) = (Recent::default(), SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        recent.keep(question(1), b"one", now);
        assert_eq!(recent.try_get(&question(1), now + RECENT_FRESH_FOR), Some(b"one".to_vec()));
        assert_eq!(recent.try_get(&question(2), now), None);
        let later = now + RECENT_FRESH_FOR + Duration::from_nanos(1);
        assert_eq!(recent.try_get(&question(1), later), None);
        let set_back = now - Duration::from_nanos(1);
        assert_eq!(recent.try_get(&question(1), set_back), None);
    }

    #[test]
    fn what_is_too_long_or_too_much_is_not_kept() {
        let (recent, now) = (Recent::default(), SystemTime::UNIX_EPOCH);
        recent.keep(question(0), &vec![0; RECENT_ANSWER_BYTES_MAX], now);
        assert_eq!(recent.try_get(&question(0), now), None);
        for number in 0..RECENT_ANSWERS_MAX {
            recent.keep(question(number), b"old", now);
        }
        recent.keep(question(RECENT_ANSWERS_MAX), b"new", now);
        assert_eq!(recent.try_get(&question(RECENT_ANSWERS_MAX), now), None);
        let later = now + RECENT_FRESH_FOR * 2;
        recent.keep(question(RECENT_ANSWERS_MAX), b"new", later);
        assert_eq!(recent.try_get(&question(RECENT_ANSWERS_MAX), later), Some(b"new".to_vec()));
    }

    #[test]
    fn nobody_waits_while_another_one_is_at_it() {
        let (recent, now) = (Recent::default(), SystemTime::UNIX_EPOCH);
        recent.keep(question(1), b"one", now);
        let _held = recent.answers.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(recent.try_get(&question(1), now), None);
    }
}
