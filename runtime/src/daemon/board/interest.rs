//! When the directory is refreshed: soon after a change, regularly while somebody looks, and else
//! never. Pure.

use std::time::Duration;

use crate::limits::{
    DIRECTORY_ASKED_INTERVAL, DIRECTORY_LOOKED_AT_FOR, DIRECTORY_REFRESH_INTERVAL,
};

/// Who looks, and how old what they see is.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Readers leave no trace, so whoever asked is taken to look for a while.
    looked_at_until: Option<Duration>,
    refreshed_at: Option<Duration>,
    changed: bool,
}

impl Interest {
    /// Somebody asked. True where what there is is too old to be handed over.
    pub(super) fn asked(&mut self, now: Duration) -> bool {
        self.looked_at_until = Some(now + DIRECTORY_LOOKED_AT_FOR);
        self.age(now).is_none_or(|age| age >= DIRECTORY_ASKED_INTERVAL)
    }

    /// Something came or went.
    pub(super) fn changed(&mut self) {
        self.changed = true;
    }

    pub(super) fn refreshed(&mut self, now: Duration) {
        self.refreshed_at = Some(now);
        self.changed = false;
    }

    pub(super) fn is_old(&self, now: Duration) -> bool {
        self.age(now).is_none_or(|age| age >= DIRECTORY_REFRESH_INTERVAL)
    }

    /// When the next refresh is due, if ever.
    pub(super) fn next_refresh(&self) -> Option<Duration> {
        let due = self.refreshed_at.map_or(Duration::ZERO, |at| at + DIRECTORY_REFRESH_INTERVAL);
        let looked_at = self.looked_at_until.is_some_and(|until| due <= until);
        (self.changed || looked_at).then_some(due)
    }

    fn age(&self, now: Duration) -> Option<Duration> {
        self.refreshed_at.map(|at| now.saturating_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    /// Refreshes whenever it is due, up to `until`; gives how often that was.
    fn refreshes(interest: &mut Interest, mut now: Duration, until: Duration) -> u32 {
        let mut count = 0;
        while let Some(due) = interest.next_refresh().filter(|due| *due <= until) {
            now = now.max(due);
            interest.refreshed(now);
            count += 1;
        }
        count
    }

    #[test]
    fn nobody_who_looks_and_nothing_that_changes_means_no_work() {
        let mut interest = Interest::default();
        assert_eq!(interest.next_refresh(), None);
        interest.changed();
        assert_eq!(refreshes(&mut interest, START, START * 100), 1, "once for the change");
        assert_eq!(interest.next_refresh(), None);
    }

    #[test]
    fn many_changes_are_shown_together() {
        let mut interest = Interest::default();
        interest.refreshed(START);
        for _ in 0..1_000 {
            interest.changed();
        }
        assert_eq!(interest.next_refresh(), Some(START + DIRECTORY_REFRESH_INTERVAL));
        assert_eq!(refreshes(&mut interest, START, START * 100), 1);
    }

    #[test]
    fn who_asked_is_served_for_a_while_and_not_for_ever() {
        let mut interest = Interest::default();
        assert!(interest.asked(START));
        interest.refreshed(START);
        let expected = DIRECTORY_LOOKED_AT_FOR.div_duration_f64(DIRECTORY_REFRESH_INTERVAL) as u32;
        assert_eq!(refreshes(&mut interest, START, START * 100), expected);
        assert_eq!(interest.next_refresh(), None);
    }

    #[test]
    fn asking_again_and_again_refreshes_no_more_often_than_allowed() {
        let mut interest = Interest::default();
        let mut count = 0;
        for millisecond in 0..1_000 {
            let now = START + Duration::from_millis(millisecond);
            if interest.asked(now) {
                interest.refreshed(now);
                count += 1;
            }
        }
        assert_eq!(count, 1_000 / DIRECTORY_ASKED_INTERVAL.as_millis());
    }
}
