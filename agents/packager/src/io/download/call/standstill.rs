//! Whether a call stands still because the host lets none of its files begin, and for what they wait.
//!
//! The thread that starts files says what the next one waits for, until it begins ([`Turn`]); the caller's thread, which knows how many
//! have ended, looks at it between two results ([`Standstill`]).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agents_contract::Wait;

/// A standstill that is shorter is the moment between two files.
const TELL_AFTER: Duration = Duration::from_millis(100);

/// How far the starting of files is.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<Next>);

/// The next file that begins.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    index: usize,
    /// Why it does not yet, where the host has said so.
    waits: Option<Wait>,
}

/// The caller's view of it.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    /// Which file everything waits for, since when.
    since: Option<(usize, Instant)>,
    /// For which file the caller was told so.
    told: Option<usize>,
}

impl Turn {
    /// The next file has to wait.
    pub(super) fn waits(&self, wait: Wait) {
        self.lock().waits = Some(wait);
    }

    /// It does not any more.
    pub(super) fn begins(&self) {
        let mut next = self.lock();
        *next = Next { index: next.index + 1, waits: None };
    }

    /// Two plain values, whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Next> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standstill {
    /// For what the whole call waits, once for each file that it waits to begin with; `ended` files are over.
    pub(super) fn look(&mut self, turn: &Turn, ended: usize, now: Instant) -> Option<Wait> {
        let Next { index, waits } = *turn.lock();
        let Some(wait) = waits.filter(|_| index == ended) else {
            self.since = None;
            return None;
        };
        let (_, since) = *self.since.insert(match self.since {
            Some((before, since)) if before == index => (index, since),
            _ => (index, now),
        });
        let is_new = self.told != Some(index) && now.duration_since(since) >= TELL_AFTER;
        is_new.then(|| {
            self.told = Some(index);
            wait
        })
    }
}

#[cfg(test)]
mod tests {
    use agents_contract::Obstacle;

    use super::*;

    #[test]
    fn only_a_call_that_has_nothing_under_way_stands_still_and_says_so_once() {
        let (turn, mut standstill, start) =
            (Turn::default(), Standstill::default(), Instant::now());
        let mut look = |ended, milliseconds| {
            standstill.look(&turn, ended, start + Duration::from_millis(milliseconds))
        };
        let wait = Wait { obstacle: Obstacle::Busy, at_most: None };
        assert_eq!(look(0, 0), None, "nobody has said anything");
        turn.waits(wait);
        let told = [10, 109, 110, 500].map(|milliseconds| look(0, milliseconds));
        assert_eq!(told, [None, None, Some(wait), None], "after a moment, and once");
        turn.begins();
        turn.waits(wait);
        assert_eq!([600, 900].map(|milliseconds| look(0, milliseconds)), [None; 2], "one runs");
        // It ends, and the next begins in the same moment.
        assert_eq!(look(1, 1000), None);
        turn.begins();
        assert_eq!([1001, 2000].map(|milliseconds| look(1, milliseconds)), [None; 2]);
        turn.waits(wait);
        let told = [2001, 2100, 2101].map(|milliseconds| look(2, milliseconds));
        assert_eq!(told, [None, None, Some(wait)], "each standstill is told of");
    }
}
