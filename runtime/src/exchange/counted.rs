//! Limits that were reached here: how often, under which names, and whether the daemon knows.
//!
//! A limit that holds an agent back counts once when it begins to, however long it does. Not here: the rates (`rates`), and who
//! shows the numbers (`daemon::metrics`).

use std::time::{Duration, Instant};

use super::rates::Rate;
use crate::limits::REPORT_INTERVAL_MIN;

/// Each limit, as the metric of all limits names it, and as a kind of error of the exchange.
pub(crate) const LIMITS: [(&str, &str); 3] = [
    ("passed", "limit-passed"),
    ("routed_bytes", "limit-routed-bytes"),
    ("routed_message_patience", "limit-routed-message-patience"),
];

/// Numbers since the start.
#[derive(Debug)]
pub(super) struct Counted {
    /// In the order of [`LIMITS`].
    counts: [u64; LIMITS.len()],
    /// Callers that went on asking and did not take answers any more.
    readers_ended: u64,
    is_news: bool,
    next_report: Instant,
}

impl Counted {
    /// Nothing was reached, and the daemon has heard nothing yet.
    pub(super) fn new() -> Self {
        let counts = [0; LIMITS.len()];
        Self { counts, readers_ended: 0, is_news: true, next_report: Instant::now() }
    }

    /// An agent may not send more at the moment.
    pub(super) fn held_back(&mut self, rate: &Rate, has_message: bool, now: Duration) {
        if has_message && rate.begins_to_hold(now) {
            self.count(0);
        }
    }

    /// Routes together hold too much.
    pub(super) fn reached_bytes(&mut self) {
        self.count(1);
    }

    /// A message was begun and not completed.
    pub(super) fn stalled(&mut self) {
        self.count(2);
    }

    /// A caller that goes on asking does not take answers any more.
    pub(super) fn reader_ended(&mut self) {
        self.readers_ended += 1;
        self.is_news = true;
    }

    fn count(&mut self, index: usize) {
        self.counts[index] += 1;
        self.is_news = true;
    }

    /// When the daemon is to be told, if there is something to tell.
    pub(super) fn next_report(&self) -> Option<Instant> {
        self.is_news.then_some(self.next_report)
    }

    /// What the daemon is to be told now, as kinds of errors; nothing where it knows or was told just now.
    pub(super) fn news(&mut self) -> Option<Vec<(String, u64)>> {
        if !self.is_news {
            return None;
        }
        let now = Instant::now();
        if now < self.next_report {
            return None;
        }
        self.is_news = false;
        self.next_report = now + REPORT_INTERVAL_MIN;
        let counts = LIMITS.iter().map(|(_, kind)| *kind).zip(self.counts);
        let counts = counts.chain([("reader-ended", self.readers_ended)]);
        let counts = counts.filter(|(_, count)| *count > 0);
        Some(counts.map(|(kind, count)| (kind.to_owned(), count)).collect())
    }
}
