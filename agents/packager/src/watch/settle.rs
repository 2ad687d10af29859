//! When a project that was touched has come to rest: a function of events and time, without files or clocks of its own.
//!
//! An editor writes a file in several steps and a checkout writes hundreds; what counts is the state after them. So a project is due
//! once nothing happened for a while, or when that takes too long, and not again and again without end.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::limits::{WATCH_ANSWERS_MAX, WATCH_ANSWERS_WINDOW, WATCH_QUIET, WATCH_SETTLE_MAX};

/// The projects that were touched, and how often each was answered of late.
#[derive(Debug)]
pub(super) struct Settling<Key> {
    touched: BTreeMap<Key, Touched>,
    answered: BTreeMap<Key, VecDeque<Instant>>,
}

#[derive(Clone, Copy, Debug)]
struct Touched {
    first: Instant,
    last: Instant,
    /// A later try of something that failed for a while.
    not_before: Option<Instant>,
}

impl<Key> Default for Settling<Key> {
    fn default() -> Self {
        Self { touched: BTreeMap::new(), answered: BTreeMap::new() }
    }
}

impl<Key: Ord + Clone> Settling<Key> {
    /// Something happened in a project. A change ends waiting for a later try.
    pub(super) fn touch(&mut self, key: &Key, now: Instant) {
        let fresh = Touched { first: now, last: now, not_before: None };
        let touched = self.touched.entry(key.clone()).or_insert(fresh);
        if touched.not_before.take().is_some() {
            *touched = fresh;
        }
        touched.last = now;
    }

    /// A project is to be looked at again after `pause`, unless it is touched before.
    pub(super) fn retry(&mut self, key: &Key, now: Instant, pause: Duration) {
        let later = Touched { first: now, last: now, not_before: Some(now + pause) };
        self.touched.entry(key.clone()).or_insert(later);
    }

    /// Forgets what nobody watches any more.
    pub(super) fn retain(&mut self, is_watched: impl Fn(&Key) -> bool) {
        self.touched.retain(|key, _| is_watched(key));
        self.answered.retain(|key, _| is_watched(key));
    }

    /// Those that were touched and are to be answered as soon as may be, without what is only tried again later.
    pub(super) fn touched(&self) -> impl Iterator<Item = &Key> {
        let touched = self.touched.iter().filter(|(_, touched)| touched.not_before.is_none());
        touched.map(|(key, _)| key)
    }

    /// The project that is due first and for which `may` holds, which counts as answered now.
    pub(super) fn take(&mut self, now: Instant, may: impl Fn(&Key) -> bool) -> Option<Key> {
        let due = self.touched.iter().filter(|(key, _)| may(key));
        let due = due.map(|(key, touched)| (self.due_at(key, touched), key));
        let key = due.filter(|(at, _)| *at <= now).min().map(|(_, key)| key.clone())?;
        self.touched.remove(&key);
        let answered = self.answered.entry(key.clone()).or_default();
        answered.push_back(now);
        if answered.len() > WATCH_ANSWERS_MAX {
            answered.pop_front();
        }
        Some(key)
    }

    /// When the next project for which `may` holds is due; nothing where none is touched.
    pub(super) fn next(&self, may: impl Fn(&Key) -> bool) -> Option<Instant> {
        let due = self.touched.iter().filter(|(key, _)| may(key));
        due.map(|(key, touched)| self.due_at(key, touched)).min()
    }

    fn due_at(&self, key: &Key, touched: &Touched) -> Instant {
        let settled = (touched.last + WATCH_QUIET).min(touched.first + WATCH_SETTLE_MAX);
        let due = touched.not_before.unwrap_or(settled);
        match self.answered.get(key) {
            Some(answered) if answered.len() >= WATCH_ANSWERS_MAX => {
                answered.front().map_or(due, |oldest| due.max(*oldest + WATCH_ANSWERS_WINDOW))
            }
            _ => due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: fn(&&str) -> bool = |_| true;

    #[test]
    fn a_project_is_due_when_nothing_happened_for_a_while() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        assert_eq!(settling.next(ALL), None);
        settling.touch(&"a", start);
        settling.touch(&"a", start + WATCH_QUIET / 2);
        assert_eq!(settling.take(start + WATCH_QUIET, ALL), None);
        let due = start + WATCH_QUIET / 2 + WATCH_QUIET;
        assert_eq!(settling.next(ALL), Some(due));
        assert_eq!(settling.take(due, ALL), Some("a"));
        assert_eq!((settling.take(due, ALL), settling.next(ALL)), (None, None));
    }

    #[test]
    fn one_that_never_rests_is_due_all_the_same() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        let mut now = start;
        while now < start + WATCH_SETTLE_MAX {
            settling.touch(&"a", now);
            assert_eq!(settling.take(now, ALL), None);
            now += WATCH_QUIET / 2;
        }
        assert_eq!(settling.take(start + WATCH_SETTLE_MAX, ALL), Some("a"));
    }

    #[test]
    fn many_at_once_come_in_the_order_of_their_rest_and_a_busy_one_is_passed_over() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        settling.touch(&"late", start + Duration::from_millis(2));
        settling.touch(&"early", start);
        settling.touch(&"busy", start - Duration::from_millis(1));
        let (now, may) = (start + WATCH_SETTLE_MAX, |key: &&str| *key != "busy");
        assert_eq!(settling.take(now, may), Some("early"));
        assert_eq!(settling.take(now, may), Some("late"));
        assert_eq!((settling.take(now, may), settling.next(may)), (None, None));
        assert_eq!(settling.take(now, ALL), Some("busy"));
    }

    #[test]
    fn a_later_try_waits_unless_there_is_a_change() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        let pause = Duration::from_secs(60);
        settling.retry(&"a", start, pause);
        assert_eq!(settling.next(ALL), Some(start + pause));
        assert_eq!(settling.touched().next(), None);
        settling.touch(&"a", start + Duration::from_secs(1));
        assert_eq!(settling.touched().collect::<Vec<_>>(), [&"a"]);
        assert_eq!(settling.next(ALL), Some(start + Duration::from_secs(1) + WATCH_QUIET));
        settling.retry(&"a", start + Duration::from_secs(1), pause);
        assert_eq!(settling.next(ALL), Some(start + Duration::from_secs(1) + WATCH_QUIET));
    }

    #[test]
    fn what_changes_for_ever_is_answered_so_often_and_no_more() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        let mut now = start;
        for _ in 0..WATCH_ANSWERS_MAX {
            settling.touch(&"a", now);
            now += WATCH_QUIET;
            assert_eq!(settling.take(now, ALL), Some("a"));
        }
        settling.touch(&"a", now);
        now += WATCH_QUIET;
        assert_eq!(settling.take(now, ALL), None);
        let due = settling.next(ALL).unwrap();
        assert_eq!(due, start + WATCH_QUIET + WATCH_ANSWERS_WINDOW);
        assert_eq!(settling.take(due, ALL), Some("a"));
        settling.retain(|_| false);
        assert_eq!(settling.next(ALL), None);
    }
}
