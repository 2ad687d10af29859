//! The hosted agents as all parts of the daemon know them: the supervisor writes their processes
//! and ends, the hub their presence and reports, the handshake asks whose process somebody is.
//!
//! One short lock; nobody waits for anything while holding it, except that the supervisor holds it
//! over the start of a process, so that a child cannot ask to come in before its id is known here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipc::control::Report;

use super::figures::Figures;
use super::snapshot::{HostedState, HostedStatus, Tasks, WorkStatus};
use crate::limits::ERROR_KINDS_MAX;

/// All hosted agents.
#[derive(Debug)]
pub(crate) struct HostedTable {
    entries: Mutex<Vec<Entry>>,
    /// In development mode agents are threads of this very process.
    own_process: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    state: HostedState,
    pid: Option<u32>,
    restarts: u64,
    last_end: Option<String>,
    came_up_once: bool,
    /// Everything of ended lives.
    past: Tasks,
    past_errors: BTreeMap<String, u64>,
    past_work: WorkStatus,
    past_figures: Figures,
    /// The last report of this life.
    current: Report,
}

impl HostedTable {
    /// All of `names`, none started. `in_process` says that they will be threads.
    pub(crate) fn new(names: &[String], in_process: bool) -> Self {
        let entry = |name: &String| Entry {
            name: name.clone(),
            state: HostedState::Starting,
            pid: None,
            restarts: 0,
            last_end: None,
            came_up_once: false,
            past: Tasks::default(),
            past_errors: BTreeMap::new(),
            past_work: WorkStatus::default(),
            past_figures: Figures::default(),
            current: Report::default(),
        };
        let entries = Mutex::new(names.iter().map(entry).collect());
        Self { entries, own_process: in_process.then(std::process::id) }
    }

    /// The hosted agent whose process `pid` is. `claimed` decides between the threads of
    /// development mode.
    pub(crate) fn name_of(&self, pid: u32, claimed: &str) -> Option<String> {
        let entries = self.lock();
        let by_process = |entry: &&Entry| match self.own_process {
            Some(own) => own == pid && entry.name == claimed,
            None => entry.pid == Some(pid),
        };
        entries.iter().find(by_process).map(|entry| entry.name.clone())
    }

    /// Starts a process for `name` with `spawn`, which gives its id.
    pub(crate) fn start<C>(
        &self,
        name: &str,
        spawn: impl FnOnce() -> std::io::Result<(Option<u32>, C)>,
    ) -> std::io::Result<C> {
        let mut entries = self.lock();
        let (pid, child) = spawn()?;
        if let Some(entry) = entries.iter_mut().find(|entry| entry.name == name) {
            entry.pid = pid;
            entry.state = HostedState::Starting;
        }
        Ok(child)
    }

    /// A process ended, or could not be started.
    pub(crate) fn ended(&self, name: &str, state: HostedState, how: String) {
        self.change(name, |entry| {
            entry.end_life();
            entry.pid = None;
            entry.state = state;
            entry.last_end = Some(how);
        });
    }

    /// It is started again.
    pub(crate) fn restarted(&self, name: &str) {
        self.change(name, |entry| entry.restarts += 1);
    }

    /// It is on the bus.
    pub(crate) fn arrived(&self, name: &str) {
        self.change(name, |entry| {
            entry.state = HostedState::Up;
            entry.came_up_once = true;
            entry.end_life();
        });
    }

    /// It left the bus; its process may still be ending.
    pub(crate) fn left(&self, name: &str) {
        self.change(name, |entry| {
            entry.end_life();
            if entry.state == HostedState::Up {
                entry.state = HostedState::Starting;
            }
        });
    }

    /// It counted.
    pub(crate) fn reported(&self, name: &str, report: Report) {
        self.change(name, |entry| entry.current = report);
    }

    /// What the pools of all of them do.
    pub(crate) fn work(&self) -> WorkStatus {
        self.lock().iter().map(Entry::work).fold(WorkStatus::default(), WorkStatus::plus)
    }

    /// Whether each was on the bus at least once.
    pub(crate) fn all_came_up(&self) -> bool {
        self.lock().iter().all(|entry| entry.came_up_once)
    }

    /// Those that are not started again, each with how it ended last.
    pub(crate) fn failed(&self) -> BTreeMap<String, String> {
        let entries = self.lock();
        let failed = entries.iter().filter(|entry| entry.state == HostedState::Failed);
        let how = |entry: &Entry| entry.last_end.clone().unwrap_or_default();
        failed.map(|entry| (entry.name.clone(), how(entry))).collect()
    }

    /// Everything, for a snapshot.
    pub(crate) fn statuses(&self) -> Vec<HostedStatus> {
        self.lock().iter().map(Entry::status).collect()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().iter_mut().find(|entry| entry.name == name) {
            change(entry);
        }
    }

    /// A panic elsewhere leaves plain values behind, all of which are valid.
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Moves the current life's counts to the past; what was running has died.
    fn end_life(&mut self) {
        let total = self.tasks();
        self.past = Tasks { running: 0, died: total.died.saturating_add(total.running), ..total };
        self.past_errors = self.errors();
        let WorkStatus { deferred, deferred_ns, .. } = self.work();
        self.past_work = WorkStatus { deferred, deferred_ns, ..WorkStatus::default() };
        self.past_figures = self.figures().after_life();
        self.current = Report::default();
    }

    fn figures(&self) -> Figures {
        self.past_figures.plus(&self.current.figures)
    }

    fn tasks(&self) -> Tasks {
        let (past, current) = (&self.past, &self.current);
        let ended = [current.done, current.failed, current.cancelled, current.panicked];
        let ended = ended.into_iter().fold(0u64, u64::saturating_add);
        Tasks {
            running: current.started.saturating_sub(ended),
            done: past.done.saturating_add(current.done),
            failed: past.failed.saturating_add(current.failed),
            cancelled: past.cancelled.saturating_add(current.cancelled),
            panicked: past.panicked.saturating_add(current.panicked),
            died: past.died,
        }
    }

    fn work(&self) -> WorkStatus {
        let current = WorkStatus::from(&self.current.work).measured(&self.figures());
        self.past_work.plus(current)
    }

    fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = self.past_errors.clone();
        for (kind, count) in &self.current.errors {
            let known = errors.contains_key(kind) || errors.len() < ERROR_KINDS_MAX;
            let kind = if known { kind.as_str() } else { "other" };
            let total = errors.entry(kind.to_owned()).or_default();
            *total = total.saturating_add(*count);
        }
        errors
    }

    fn status(&self) -> HostedStatus {
        HostedStatus {
            name: self.name.clone(),
            state: self.state,
            pid: self.pid,
            restarts: self.restarts,
            last_end: self.last_end.clone(),
            tasks: self.tasks(),
            errors: self.errors(),
            figures: self.figures(),
            facts: self.current.facts.iter().cloned().collect(),
            work: self.work(),
            worker_cpus: self.current.work.cpus.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::snapshot::Files;

    fn report(started: u64, done: u64, error: &str) -> Report {
        let errors = vec![(error.to_owned(), 1)];
        Report { started, done, errors, ..Report::default() }
    }

    #[test]
    fn counts_survive_the_process_and_what_ran_has_died() {
        let table = HostedTable::new(&["echo".to_owned()], false);
        table.start("echo", || Ok((Some(7), ()))).unwrap();
        table.arrived("echo");
        table.reported("echo", report(5, 3, "network"));
        assert_eq!(table.statuses()[0].tasks.running, 2);
        table.left("echo");
        table.ended("echo", HostedState::Waiting, "signal 9".to_owned());
        table.restarted("echo");
        table.start("echo", || Ok((Some(8), ()))).unwrap();
        table.arrived("echo");
        table.reported("echo", report(1, 1, "network"));
        let status = table.statuses().remove(0);
        let expected = Tasks { done: 4, died: 2, ..Tasks::default() };
        assert_eq!(status.tasks, expected);
        assert_eq!(status.errors["network"], 2);
        assert_eq!((status.pid, status.restarts, status.state), (Some(8), 1, HostedState::Up));
    }

    #[test]
    fn what_runs_and_waits_and_is_fetched_ends_with_the_process_and_what_was_deferred_counts_on() {
        let table = HostedTable::new(&["echo".to_owned()], false);
        let reports = || {
            let figure = |name: &str, label: &str, value| {
                let (name, label) = (name.to_owned(), label.to_owned());
                ipc::control::Figure { name, label, value }
            };
            let figures = vec![figure("downloads", "", 16), figure("downloads-waiting", "heat", 3)];
            let mut report = Report { figures, ..Report::default() };
            report.work.running[0] = 1;
            report.work.waiting[1] = 2;
            report.work.deferred[1] = 5;
            table.reported("echo", report);
        };
        table.start("echo", || Ok((Some(7), ()))).unwrap();
        reports();
        let files = Files { under_way: 16, waiting: [0, 3, 0] };
        assert_eq!((table.work().files, table.work().waiting), (files, [0, 2, 0, 0]));
        table.ended("echo", HostedState::Waiting, "signal 9".to_owned());
        let ended = WorkStatus { deferred: [0, 5, 0, 0], ..WorkStatus::default() };
        assert_eq!(table.work(), ended);
        table.start("echo", || Ok((Some(8), ()))).unwrap();
        reports();
        assert_eq!((table.work().files, table.work().deferred), (files, [0, 10, 0, 0]));
    }

    #[test]
    fn only_the_started_process_is_the_hosted_agent() {
        let table = HostedTable::new(&["echo".to_owned()], false);
        assert_eq!(table.name_of(7, "echo"), None);
        table.start("echo", || Ok((Some(7), ()))).unwrap();
        assert_eq!(table.name_of(7, "other"), Some("echo".to_owned()));
        table.ended("echo", HostedState::Waiting, String::new());
        assert_eq!(table.name_of(7, "echo"), None);
        let threads = HostedTable::new(&["echo".to_owned()], true);
        assert_eq!(threads.name_of(std::process::id(), "echo"), Some("echo".to_owned()));
        assert_eq!(threads.name_of(std::process::id(), "other"), None);
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let table = HostedTable::new(&["echo".to_owned()], false);
        for index in 0..ERROR_KINDS_MAX + 10 {
            table.arrived("echo");
            table.reported("echo", report(0, 0, &format!("kind-{index}")));
        }
        let errors = table.statuses().remove(0).errors;
        assert_eq!(errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(errors["other"], 10);
    }

    #[test]
    fn absurd_reports_saturate() {
        let table = HostedTable::new(&["echo".to_owned()], false);
        let all = u64::MAX;
        let absurd = Report { started: 0, done: all, failed: all, ..Report::default() };
        for _ in 0..3 {
            table.reported("echo", absurd.clone());
            table.left("echo");
        }
        assert_eq!(table.statuses()[0].tasks.done, all);
    }
}
