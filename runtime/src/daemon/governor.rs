//! The daemon's governor: a thread that looks at the machine about once a second and tells the hub what it decided.
//!
//! The hub shows it in the bus directory, where hosted agents read it, and in status and metrics, which therefore never touch a sensor.
//! Not here: what is read and decided ([`crate::machine`]), and who keeps to it (`host`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use hw::root::Root;
use ipc::directory::MachineEntry;
use scheduler::decision::{Background, Slots, State};
use scheduler::governor::Thresholds;
use scheduler::placement::Lane;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::hosted::HostedTable;
use super::hub::ToHub;
use super::snapshot::{Change, Machine, Thermal};
use crate::machine::{Load, Regulator, entry_of};

/// What the governor tells the hub.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// For status and metrics.
    pub(crate) machine: Machine,
    /// For the directory.
    pub(crate) entry: MachineEntry,
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct GovernorThread {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GovernorThread {
    /// Looks for the first time, then starts.
    pub(super) fn start(
        root: Root,
        thresholds: Thresholds,
        hub: mpsc::Sender<ToHub>,
        hosted: Arc<HostedTable>,
    ) -> Self {
        let (stop, stopped) = sync_channel(0);
        let govern = move || {
            let regulator = Regulator::new(root, thresholds);
            info!(sensor = regulator.source(), "the machine is looked at");
            Loop { regulator, hub, hosted, state: None }.run(&stopped);
        };
        let thread = std::thread::Builder::new().name("governor".to_owned()).spawn(govern);
        if let Err(error) = &thread {
            error!(%error, "nobody looks at the machine: hosted agents run little at once");
        }
        Self { stop: Some(stop), thread: thread.ok() }
    }
}

impl Drop for GovernorThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What it panicked with was said.
            let _ = thread.join();
        }
    }
}

struct Loop {
    regulator: Regulator,
    hub: mpsc::Sender<ToHub>,
    hosted: Arc<HostedTable>,
    state: Option<State>,
}

impl Loop {
    fn run(mut self, stopped: &Receiver<()>) {
        loop {
            let told = self.look();
            // A hub that is behind hears of the next look.
            let _ = self.hub.try_send(ToHub::Machine(Box::new(told)));
            match stopped.recv_timeout(self.regulator.interval()) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) -> Told {
        let work = self.hosted.work();
        let of = |lane: Lane| work.running[lane as usize] as usize;
        let in_flight = Slots {
            performance: of(Lane::Performance),
            efficient: of(Lane::Efficient),
            low_power: of(Lane::LowPower),
        };
        let is_waiting = work.waiting.iter().any(|waiting| *waiting > 0);
        let decision = self.regulator.step(Load { in_flight, is_waiting });
        self.log(decision.state);
        let classes = self.regulator.watcher().classes();
        let cpus = [&classes.performance, &classes.efficient, &classes.low_power];
        let entry = MachineEntry {
            millicelsius: self.regulator.celsius().map(|celsius| (celsius * 1000.0) as i64),
            cpus: cpus.map(|cpus| cpus.len() as u32),
            running: work.running,
            waiting: work.waiting,
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
        }
    }

    /// Once for each change, not for each reading.
    fn log(&mut self, state: State) {
        if self.state.replace(state) == Some(state) {
            return;
        }
        let (celsius, why) = (self.regulator.celsius(), self.regulator.why());
        match state {
            State::Blind => {
                warn!(why, "the temperature is not known any more: little runs at once")
            }
            State::Caution | State::Throttle => {
                warn!(celsius, why, "the machine is in the thermal state `{}`", state.name());
            }
            State::Optimal | State::Normal | State::Off => {
                info!(celsius, why, "the machine is in the thermal state `{}`", state.name());
            }
        }
    }
}
