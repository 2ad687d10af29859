//! The daemon's governor: a thread that looks at the machine about once a second and tells the hub what it decided.
//!
//! The hub shows it in the bus directory, where hosted agents read it, and in status and metrics, which therefore never touch a sensor.
//! Reading a file of the kernel may never end. So nothing waits for this thread without bound: what it decided is shown with its age
//! ([`silence`]), and a daemon that stops leaves a thread that hangs to the end of the process.
//! Not here: what is read and decided ([`crate::machine`]), and who keeps to it (`host`).

pub(super) mod silence;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hw::root::Root;
use ipc::directory::MachineEntry;
use scheduler::admission::Reason;
use scheduler::decision::{Background, Slots, State};
use scheduler::governor::{ThresholdValues, Thresholds};
use scheduler::placement::{Lane, Pinning};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::hosted::HostedTable;
use super::hub::ToHub;
use super::snapshot::{Change, Machine, Thermal, WorkStatus};
use crate::config::{Settings, band_text};
use crate::limits::GOVERNOR_STOP_TIMEOUT;
use crate::machine::{Load, Regulator, StateLines, entry_of, pinning_number};

/// What the governor tells the hub.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// For status and metrics.
    pub(crate) machine: Machine,
    /// For the directory.
    pub(crate) entry: MachineEntry,
}

/// What it goes by, which may change while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    thresholds: Thresholds,
    pinning: Pinning,
}

impl Rules {
    /// What was configured.
    pub(super) fn of(settings: &Settings) -> Self {
        Self { thresholds: settings.thresholds, pinning: settings.pinning }
    }
}

/// The thread; it ends when this is dropped, unless it hangs.
#[derive(Debug)]
pub(super) struct GovernorThread {
    rules: Arc<Mutex<Rules>>,
    /// Wakes it early; dropped, it ends.
    wake: Option<SyncSender<()>>,
    /// Ends with the thread; nothing is ever sent.
    ended: Receiver<()>,
}

impl GovernorThread {
    /// Looks for the first time, then starts.
    pub(super) fn start(
        root: Root,
        rules: Rules,
        hub: mpsc::Sender<ToHub>,
        hosted: Arc<HostedTable>,
    ) -> Self {
        // One place: who wakes it twice at once means the same.
        let (wake, woken) = sync_channel(1);
        let shared = Arc::new(Mutex::new(rules));
        let given = Arc::clone(&shared);
        let (end, ended) = channel::<()>();
        let govern = move || {
            let _end = end;
            let regulator = Regulator::new(root, rules.thresholds);
            info!(sensor = regulator.source(), "the machine is looked at");
            let (lines, started) = (StateLines::default(), Instant::now());
            Loop { regulator, rules, given, hub, hosted, lines, started }.run(&woken);
        };
        let thread = std::thread::Builder::new().name("governor".to_owned()).spawn(govern);
        if let Err(error) = &thread {
            error!(%error, "nobody looks at the machine: hosted agents run little at once");
        }
        Self { rules: shared, wake: Some(wake), ended }
    }

    /// These rules hold from now on.
    pub(super) fn set_rules(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        if let Some(wake) = &self.wake {
            // Where it is full, it is about to look anyway.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for GovernorThread {
    fn drop(&mut self) {
        drop(self.wake.take());
        // What it panicked with was said.
        if self.ended.recv_timeout(GOVERNOR_STOP_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            warn!(
                "the thread that looks at the machine hangs: it is left to the end of the process"
            );
        }
    }
}

struct Loop {
    regulator: Regulator,
    rules: Rules,
    /// Those that hold from the next look on.
    given: Arc<Mutex<Rules>>,
    hub: mpsc::Sender<ToHub>,
    hosted: Arc<HostedTable>,
    lines: StateLines,
    started: Instant,
}

impl Loop {
    fn run(mut self, woken: &Receiver<()>) {
        loop {
            self.follow_rules();
            let told = self.look();
            // A hub that is behind hears of the next look.
            let _ = self.hub.try_send(ToHub::Machine(Box::new(told)));
            match woken.recv_timeout(self.regulator.interval()) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn follow_rules(&mut self) {
        let rules = *self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.thresholds != self.rules.thresholds {
            self.regulator.set_thresholds(rules.thresholds);
        }
        self.rules = rules;
    }

    fn look(&mut self) -> Told {
        let work = self.hosted.work();
        let decision = self.regulator.step(load_of(&work));
        self.log(decision.state);
        let classes = self.regulator.watcher().classes();
        let cpus = [&classes.performance, &classes.efficient, &classes.low_power];
        let entry = MachineEntry {
            millicelsius: self.regulator.celsius().map(|celsius| (celsius * 1000.0) as i64),
            cpus: cpus.map(|cpus| cpus.len() as u32),
            running: work.running,
            waiting: work.waiting,
            files: work.files.under_way,
            files_waiting: work.files.waiting,
            watch_deferred: work.watch_deferred,
            pinning: pinning_number(self.rules.pinning),
            ..entry_of(decision)
        };
        Told { machine: self.shown(), entry }
    }

    fn shown(&self) -> Machine {
        let (regulator, decision) = (&self.regulator, self.regulator.decision());
        let classes = regulator.watcher().classes();
        let Slots { performance, efficient, low_power } = decision.slots;
        let by_class = |numbers: [usize; 3]| {
            let names = [Lane::Performance, Lane::Efficient, Lane::LowPower].map(Lane::name);
            names.into_iter().zip(numbers).collect::<BTreeMap<_, _>>()
        };
        let changes = regulator.changes().iter().map(|(direction, reason, count)| Change {
            direction: direction.name(),
            reason: reason.name(),
            count,
        });
        // A machine that never had a sensor does not fail to read it.
        let has_sensor = regulator.source().is_some();
        let reads = regulator.reads();
        let failures = reads.failures.iter();
        let failures = failures.map(|(cause, count)| (*cause, if has_sensor { *count } else { 0 }));
        Machine {
            thermal: Thermal {
                state: decision.state.name(),
                celsius: regulator.celsius(),
                source: regulator.source(),
                reads: if has_sensor { reads.reads } else { 0 },
                failures: failures.collect(),
            },
            slots: by_class([performance, efficient, low_power]),
            why: regulator.why(),
            changes: changes.collect(),
            heavy: decision.heavy,
            background: match decision.background {
                Background::Efficient => "efficient",
                Background::LowPower => "low_power",
                Background::Paused => "paused",
            },
            cpus: by_class(
                [&classes.performance, &classes.efficient, &classes.low_power]
                    .map(|cpus| cpus.len()),
            ),
            allowed: regulator.watcher().allowed().cpus.to_string(),
            pinning: self.rules.pinning.name(),
            thresholds: shown_bands(regulator.thresholds()),
            thresholds_configured: self.cut_bands(),
        }
    }

    /// The configured bands that do not hold as they are.
    fn cut_bands(&self) -> BTreeMap<&'static str, String> {
        let mut configured = shown_bands(self.rules.thresholds.values());
        let held = shown_bands(self.regulator.thresholds());
        configured.retain(|name, band| held.get(name) != Some(band));
        configured
    }

    /// Once for each change, not for each reading, and not for each of many; `left_out` are those before it.
    fn log(&mut self, state: State) {
        let Some(left_out) = self.lines.look(state, self.started.elapsed()) else { return };
        let (celsius, why, name) = (self.regulator.celsius(), self.regulator.why(), state.name());
        match state {
            State::Blind => {
                warn!(why, left_out, "the temperature is not known any more: little runs at once")
            }
            State::Caution | State::Throttle => {
                warn!(celsius, why, left_out, "the machine is in the thermal state `{name}`");
            }
            State::Optimal | State::Normal | State::Off => {
                info!(celsius, why, left_out, "the machine is in the thermal state `{name}`");
            }
        }
    }
}

/// What the pools of all agents do. Of those who wait, more slots would help only those who wait for slots.
fn load_of(work: &WorkStatus) -> Load {
    let is_waiting = work.waiting[Reason::Slots as usize] > 0;
    Load::of(work.running.map(|count| count as usize), is_waiting)
}

fn shown_bands(values: ThresholdValues) -> BTreeMap<&'static str, String> {
    let ThresholdValues { normal, caution, throttle, heavy } = values;
    let bands =
        [("normal", normal), ("caution", caution), ("throttle", throttle), ("heavy", heavy)];
    bands.map(|(name, band)| (name, band_text(band))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_for_a_slot_asks_the_governor_for_more() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            let mut work = WorkStatus { running: [1, 2, 3, 4], ..WorkStatus::default() };
            work.waiting[place] = 5;
            let in_flight = Slots { performance: 1, efficient: 2, low_power: 3 };
            let is_waiting = reason == Reason::Slots;
            assert_eq!(load_of(&work), Load { in_flight, is_waiting }, "{reason:?}");
        }
    }
}
