//! What a host counts, and when it tells the daemon: at once after a pause, otherwise at most every
//! `REPORT_INTERVAL_MIN`. A report is a message on the control socket and not a shared page: tasks
//! last milliseconds, so a few messages a second are enough, and the daemon needs no memory of each
//! agent's to be mapped and checked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use agents_contract::Agent;
use ipc::control::{Figure, Report, WorkReport};
use ipc::limits::REPORT_FIGURES_MAX;
use scheduler::admission::{Reason, Transfers};

use super::scheduled::ScheduledHost;
use crate::limits::{ERROR_KINDS_MAX, REPORT_INTERVAL_MIN, WORK_REPORT_INTERVAL};

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Failed { kind: String },
    Cancelled,
    Panicked,
}

/// Shared by the calls of one host.
#[derive(Default)]
pub(super) struct Counters {
    counted: Mutex<Counted>,
    /// Whose work is reported along, and who measures by itself.
    sources: Option<(Arc<ScheduledHost>, Arc<dyn Agent>)>,
}

#[derive(Debug, Default)]
struct Counted {
    totals: Report,
    /// How long those that ended took together.
    took_ns: u64,
    errors: BTreeMap<String, u64>,
    changed: bool,
    /// As last reported.
    work: WorkReport,
    transfers: Option<Transfers>,
}

/// When to report; the serving thread's own.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    last: Option<Instant>,
    /// When there was nothing new.
    looked: Option<Instant>,
}

impl Counters {
    /// Nothing yet.
    pub(super) fn new(host: Arc<ScheduledHost>, agent: Arc<dyn Agent>) -> Self {
        Self { counted: Mutex::default(), sources: Some((host, agent)) }
    }

    /// What the agent measured may be new.
    pub(super) fn changed(&self) {
        self.lock().changed = true;
    }

    pub(super) fn started(&self) {
        let mut counted = self.lock();
        counted.totals.started += 1;
        counted.changed = true;
    }

    /// One ended that took so many nanoseconds.
    pub(super) fn ended(&self, outcome: &Outcome, took_ns: u64) {
        self.lock().end(outcome, took_ns);
    }

    /// One that began and ended in one go.
    pub(super) fn answered(&self, outcome: &Outcome, took_ns: u64) {
        let mut counted = self.lock();
        counted.totals.started += 1;
        counted.end(outcome, took_ns);
    }

    /// The counts, if they changed since they were last taken.
    fn take(&self) -> Option<Report> {
        let host = self.sources.as_ref().map(|(host, _)| host);
        let work = host.map(|host| host.report()).unwrap_or_default();
        let transfers = host.and_then(|host| host.transfers());
        let mut counted = self.lock();
        let is_other = counted.work != work || counted.transfers != transfers;
        let changed = std::mem::replace(&mut counted.changed, false) || is_other;
        let mut report = changed.then(|| {
            counted.work = work.clone();
            counted.transfers = transfers;
            let errors = counted.errors.clone().into_iter().collect();
            Report { errors, work, ..counted.totals.clone() }
        })?;
        let times = counted.times();
        drop(counted);
        report.figures = self.figures(times, transfers);
        Some(report)
    }

    /// What the host says of tasks and files, and what the agent measured.
    fn figures(
        &self,
        times: [agents_contract::Figure; 2],
        transfers: Option<Transfers>,
    ) -> Vec<Figure> {
        let Some((_, agent)) = &self.sources else { return Vec::new() };
        let of_host = times.into_iter().chain(transfers.into_iter().flat_map(figures_of));
        let figures = of_host.chain(agent.figures()).take(REPORT_FIGURES_MAX);
        let words = |figure: agents_contract::Figure| {
            let agents_contract::Figure { name, label, value } = figure;
            Figure { name: name.to_owned(), label: label.to_owned(), value }
        };
        figures.map(words).collect()
    }

    fn has_changed(&self) -> bool {
        self.lock().changed
    }

    /// Whether the work may change by itself, or has ended since it was reported.
    fn may_change(&self) -> bool {
        let counted = self.lock();
        let Report { started, done, failed, cancelled, panicked, .. } = counted.totals;
        let transfers = counted.transfers.unwrap_or_default();
        let is_busy = counted.work.running != [0; 4]
            || counted.work.waiting != [0; 4]
            || transfers != Transfers::default();
        self.sources.is_some() && (is_busy || started > done + failed + cancelled + panicked)
    }

    /// A panic elsewhere leaves plain numbers behind.
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// How many tasks have ended, and how long they took.
    fn times(&self) -> [agents_contract::Figure; 2] {
        let Report { done, failed, cancelled, panicked, .. } = self.totals;
        [("tasks", done + failed + cancelled + panicked), ("task-ns", self.took_ns)]
            .map(|(name, value)| agents_contract::Figure { name, label: "", value })
    }

    fn end(&mut self, outcome: &Outcome, took_ns: u64) {
        self.changed = true;
        self.took_ns = self.took_ns.saturating_add(took_ns);
        match outcome {
            Outcome::Done => self.totals.done += 1,
            Outcome::Cancelled => self.totals.cancelled += 1,
            Outcome::Panicked => self.totals.panicked += 1,
            Outcome::Failed { kind } => {
                self.totals.failed += 1;
                self.count_error(kind);
            }
        }
    }

    fn count_error(&mut self, kind: &str) {
        let named = |kind: &str| !kind.is_empty() && kind.len() <= ipc::limits::WORD_BYTES_MAX;
        // One place is kept for the rest.
        let room = self.errors.contains_key(kind) || self.errors.len() + 1 < ERROR_KINDS_MAX;
        let kind = if named(kind) && room { kind } else { "other" };
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }
}

/// Files under way, and those that wait, each by the names that the daemon knows.
fn figures_of(transfers: Transfers) -> [agents_contract::Figure; 2] {
    let Transfers { under_way, waiting, why } = transfers;
    let label = match why {
        Some(Reason::Heat) => "heat",
        Some(Reason::Blind) => "blind",
        Some(Reason::Slots | Reason::Paused) | None => "busy",
    };
    [("downloads", "", under_way), ("downloads-waiting", label, waiting)]
        .map(|(name, label, count)| agents_contract::Figure { name, label, value: count as u64 })
}

impl Reporter {
    /// The report that is due at `now`.
    pub(super) fn due(&mut self, counters: &Counters, now: Instant) -> Option<Report> {
        if self.last.is_some_and(|last| now < last + REPORT_INTERVAL_MIN) {
            return None;
        }
        self.looked = Some(now);
        let report = counters.take()?;
        self.last = Some(now);
        Some(report)
    }

    /// What was not reported yet, whenever.
    pub(super) fn last_report(&self, counters: &Counters) -> Option<Report> {
        counters.take()
    }

    /// When to look again; never where nothing has changed, and nothing is under way that changes it without a word. `is_busy` is the
    /// agent that works unasked: that is no call, and what it began last may not show yet.
    pub(super) fn next(&self, counters: &Counters, is_busy: bool) -> Option<Instant> {
        if counters.has_changed()
            && let Some(last) = self.last
        {
            return Some(last + REPORT_INTERVAL_MIN);
        }
        let looked = self.looked.max(self.last)?;
        (is_busy || counters.may_change()).then(|| looked + WORK_REPORT_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_told_at_once_and_the_next_after_a_while() {
        let (counters, mut reporter, now) =
            (Counters::default(), Reporter::default(), Instant::now());
        assert_eq!(reporter.due(&counters, now), None);
        assert_eq!(reporter.next(&counters, false), None);
        counters.started();
        assert_eq!(reporter.due(&counters, now).unwrap().started, 1);
        counters.ended(&Outcome::Done, 5);
        assert_eq!(reporter.due(&counters, now), None);
        assert_eq!(reporter.next(&counters, false), Some(now + REPORT_INTERVAL_MIN));
        let report = reporter.due(&counters, now + REPORT_INTERVAL_MIN).unwrap();
        assert_eq!((report.started, report.done), (1, 1));
        assert_eq!(reporter.last_report(&counters), None);
    }

    #[test]
    fn whoever_works_unasked_is_looked_at_again_although_nothing_shows_yet() {
        let (counters, mut reporter, now) =
            (Counters::default(), Reporter::default(), Instant::now());
        assert_eq!(reporter.due(&counters, now), None);
        let again = now + WORK_REPORT_INTERVAL;
        assert_eq!(reporter.next(&counters, true), Some(again), "it has never reported");
        counters.changed();
        let report = reporter.due(&counters, now).unwrap();
        assert_eq!(report.work, WorkReport::default());
        assert_eq!(reporter.next(&counters, true), Some(again));
        assert_eq!(reporter.due(&counters, again), None);
        assert_eq!(reporter.next(&counters, true), Some(again + WORK_REPORT_INTERVAL));
        assert_eq!(reporter.next(&counters, false), None, "it has ended");
    }

    #[test]
    fn files_are_told_by_what_they_wait_for() {
        let told = |why, waiting| {
            let transfers = Transfers { under_way: 16, waiting, why };
            figures_of(transfers).map(|figure| (figure.name, figure.label, figure.value))
        };
        let busy = [("downloads", "", 16), ("downloads-waiting", "busy", 3)];
        assert_eq!(told(Some(Reason::Slots), 3), busy);
        assert_eq!(told(Some(Reason::Heat), 3)[1], ("downloads-waiting", "heat", 3));
        assert_eq!(told(Some(Reason::Blind), 3)[1], ("downloads-waiting", "blind", 3));
        assert_eq!(told(None, 0)[1], ("downloads-waiting", "busy", 0));
    }

    #[test]
    fn errors_are_counted_by_a_bounded_number_of_kinds() {
        let counters = Counters::default();
        for index in 0..100 {
            counters.ended(&Outcome::Failed { kind: format!("kind-{index}") }, 2);
        }
        counters.answered(&Outcome::Failed { kind: "x".repeat(1000) }, 3);
        let times = counters.lock().times().map(|figure| (figure.name, figure.value));
        assert_eq!(times, [("tasks", 101), ("task-ns", 203)]);
        let report = counters.take().unwrap();
        assert_eq!(report.failed, 101);
        assert_eq!(report.errors.len(), ERROR_KINDS_MAX);
        assert_eq!(report.errors.iter().map(|(_, count)| count).sum::<u64>(), 101);
    }
}
