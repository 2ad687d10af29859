//! Timers by when they are due. Time is a parameter; nothing here looks at a clock.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::limits::TIMERS_MAX;

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(u64);

/// A set holds a bounded number.
#[derive(Debug, Error)]
#[error("a wait set holds at most {TIMERS_MAX} timers; cancel some, or use a second set")]
pub struct TooManyTimers;

#[derive(Debug, Default)]
pub(super) struct Timers {
    next_id: u64,
    due_at: HashMap<TimerId, Instant>,
    /// With the interval of those that repeat.
    queue: BTreeMap<(Instant, TimerId), Option<Duration>>,
}

impl Timers {
    pub(super) fn add(
        &mut self,
        when: Instant,
        interval: Option<Duration>,
    ) -> Result<TimerId, TooManyTimers> {
        if self.queue.len() >= TIMERS_MAX {
            return Err(TooManyTimers);
        }
        let id = TimerId(self.next_id);
        self.next_id += 1;
        self.insert(id, when, interval);
        Ok(id)
    }

    pub(super) fn cancel(&mut self, id: TimerId) {
        if let Some(when) = self.due_at.remove(&id) {
            self.queue.remove(&(when, id));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.keys().next().map(|(when, _)| *when)
    }

    /// Puts those that are due into `due`, in their order, instead of what was there.
    pub(super) fn take_due(&mut self, now: Instant, due: &mut Vec<TimerId>) {
        due.clear();
        let mut again = Vec::new();
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((when, id), interval) = entry.remove_entry();
            self.due_at.remove(&id);
            due.push(id);
            if let Some(interval) = interval {
                again.push((id, following(when, interval, now), interval));
            }
        }
        for (id, when, interval) in again {
            self.insert(id, when, Some(interval));
        }
    }

    fn insert(&mut self, id: TimerId, when: Instant, interval: Option<Duration>) {
        self.due_at.insert(id, when);
        self.queue.insert((when, id), interval);
    }
}

/// The first of the times after `when`, an interval apart, that is later than now; so a timer keeps its beat.
fn following(when: Instant, interval: Duration, now: Instant) -> Instant {
    let next = after(when, interval);
    if next > now {
        return next;
    }
    let interval_ns = interval.as_nanos().max(1);
    let missed = now.duration_since(when).as_nanos() / interval_ns;
    let skipped = u64::try_from((missed + 1) * interval_ns).unwrap_or(u64::MAX);
    after(when, Duration::from_nanos(skipped))
}

/// As long as nobody will wait, for intervals that no clock can count.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(super) fn after(when: Instant, interval: Duration) -> Instant {
    when.checked_add(interval).unwrap_or(when + FOREVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn due(timers: &mut Timers, now: Instant) -> Vec<TimerId> {
        let mut due = Vec::new();
        timers.take_due(now, &mut due);
        due
    }

    #[test]
    fn timers_are_due_in_their_order_and_once() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let later = timers.add(start + 2 * SECOND, None).unwrap();
        let sooner = timers.add(start + SECOND, None).unwrap();
        let same = timers.add(start + SECOND, None).unwrap();
        assert_eq!(timers.next(), Some(start + SECOND));
        assert_eq!(due(&mut timers, start), []);
        assert_eq!(due(&mut timers, start + 2 * SECOND), [sooner, same, later]);
        assert_eq!(due(&mut timers, start + 9 * SECOND), []);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn one_that_repeats_keeps_its_beat_and_skips_what_was_missed() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let beat = timers.add(start + SECOND, Some(SECOND)).unwrap();
        assert_eq!(due(&mut timers, start + SECOND), [beat]);
        assert_eq!(timers.next(), Some(start + 2 * SECOND));
        assert_eq!(due(&mut timers, start + 5 * SECOND + SECOND / 2), [beat]);
        assert_eq!(timers.next(), Some(start + 6 * SECOND));
    }

    #[test]
    fn an_interval_of_nothing_does_not_hang() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let eager = timers.add(start, Some(Duration::ZERO)).unwrap();
        assert_eq!(due(&mut timers, start + SECOND), [eager]);
        assert!(timers.next() > Some(start + SECOND));
    }

    #[test]
    fn an_interval_without_end_is_never_due() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        timers.add(after(start, Duration::MAX), Some(Duration::MAX)).unwrap();
        assert_eq!(due(&mut timers, start + Duration::from_secs(1 << 30)), []);
    }

    #[test]
    fn a_cancelled_timer_is_never_due_and_makes_room() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let ids: Vec<TimerId> =
            (0..TIMERS_MAX).map(|_| timers.add(start, Some(SECOND)).unwrap()).collect();
        assert!(timers.add(start, None).is_err());
        assert_eq!(due(&mut timers, start).len(), TIMERS_MAX);
        for id in ids {
            timers.cancel(id);
            timers.cancel(id);
        }
        assert_eq!(due(&mut timers, start + SECOND), []);
        timers.add(start, None).unwrap();
    }
}
