//! Looks at the machine for the pools of one process, on a thread that sleeps without a timeout while they have no work.
//!
//! What the pools may do is decided elsewhere ([`View`]): by the daemon for the agents that it hosts, which read it in the bus
//! directory; by a governor of this process where it works alone. A daemon that says nothing for [`DECISION_AGE_MAX`] decides nothing
//! any more: then little may run. How workers are pinned the daemon says, too, since its configuration can change while it runs; where they
//! may be is this process's own matter: it may be held to fewer CPUs than the daemon.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hw::cgroup::Groups;
use hw::pressure::Pressure;
use hw::root::Root;
use hw::watcher::Watcher;
use ipc::directory::Reader;
use scheduler::decision::{Decision, Slots, State};
use scheduler::governor::Thresholds;
use scheduler::placement::{Lane, Pinning};
use scheduler::pool::{Machine, Pools, Watch};
use tracing::{debug, warn};

use super::careful;
use crate::limits::{
    DECISION_AGE_MAX, MACHINE_INTERVAL, MACHINE_INTERVAL_WAITING, PRESSURE_HIGH, PRESSURE_LOW,
};
use crate::machine::{Load, Regulator, cool_capacity, decision_of, monotonic_ns, pinning_of};

/// Stands for the time of a decision while there is none.
const SILENT_NS: u64 = u64::MAX;

/// Who decides. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct View(Arc<Source>);

#[derive(Debug)]
enum Source {
    Daemon {
        reader: Reader,
        /// When the decision that the pools have was made; 0 for none.
        followed_ns: AtomicU64,
        /// What holds when it says nothing any more; taken for each change of what the pools have, so that those come in order.
        without: Mutex<Without>,
    },
    Own {
        root: Root,
        thresholds: Thresholds,
        /// Made by the keeper at its first look: reading a sensor may take a while, and nobody waits for it.
        regulator: Mutex<Option<Box<Regulator>>>,
    },
}

/// Without a word from the daemon nobody knows the temperature, so nothing may be added: what it allowed last, cut to what is safe.
#[derive(Debug)]
struct Without {
    /// What is safe on this machine.
    careful: Decision,
    /// What was followed last.
    last: Option<Decision>,
}

impl Without {
    fn decision(&self) -> Decision {
        let Decision { slots, background, .. } = self.last.unwrap_or(self.careful);
        let slots = slots.least(self.careful.slots);
        Decision { state: State::Blind, slots, background, heavy: false }
    }
}

impl View {
    /// Of a daemon's directory.
    pub(super) fn of_daemon(reader: Reader, careful: Decision) -> Self {
        let followed_ns = AtomicU64::new(0);
        let without = Mutex::new(Without { careful, last: None });
        Self(Arc::new(Source::Daemon { reader, followed_ns, without }))
    }

    /// Of this process.
    pub(super) fn own(root: Root, thresholds: Thresholds) -> Self {
        Self(Arc::new(Source::Own { root, thresholds, regulator: Mutex::new(None) }))
    }

    /// Brings pools up to date where that costs nothing: before each piece of work.
    pub(super) fn follow(&self, pools: &Pools) {
        let Source::Daemon { reader, followed_ns, without } = &*self.0 else { return };
        let entry = reader.machine();
        let is_fresh = entry.is_some_and(|entry| {
            let age = monotonic_ns().saturating_sub(entry.decided_ns);
            u128::from(age) <= DECISION_AGE_MAX.as_nanos()
        });
        let entry = entry.filter(|_| is_fresh);
        let decided_ns = entry.map_or(SILENT_NS, |entry| entry.decided_ns);
        if followed_ns.load(Ordering::Relaxed) == decided_ns {
            return;
        }
        let mut without = without.lock().unwrap_or_else(PoisonError::into_inner);
        if followed_ns.swap(decided_ns, Ordering::Relaxed) == decided_ns {
            return;
        }
        match entry {
            Some(entry) => {
                let decision = decision_of(&entry);
                without.last = Some(decision);
                pools.set_decision(decision);
            }
            None => {
                warn!("the daemon does not say what may run: little does until it does");
                pools.set_decision(without.decision());
            }
        }
    }

    /// The machine has changed; where the daemon is silent, what holds without it does, too.
    pub(super) fn set_careful(&self, careful: Decision, pools: &Pools) {
        let Source::Daemon { followed_ns, without, .. } = &*self.0 else { return };
        let mut without = without.lock().unwrap_or_else(PoisonError::into_inner);
        without.careful = careful;
        if followed_ns.load(Ordering::Relaxed) == SILENT_NS {
            pools.set_decision(without.decision());
        }
    }

    /// Looks at everything, however long that takes; gives when to look again.
    fn look(&self, pools: &Pools) -> Duration {
        let Source::Own { root, thresholds, regulator } = &*self.0 else {
            self.follow(pools);
            return MACHINE_INTERVAL;
        };
        let mut regulator = regulator.lock().unwrap_or_else(PoisonError::into_inner);
        let regulator =
            regulator.get_or_insert_with(|| Box::new(Regulator::new(root.clone(), *thresholds)));
        let running = pools.report().running;
        let in_flight = Slots {
            performance: running[Lane::Performance as usize],
            efficient: running[Lane::Efficient as usize],
            low_power: running[Lane::LowPower as usize],
        };
        let load = Load { in_flight, is_waiting: pools.has_waiting() };
        pools.set_decision(regulator.step(load));
        regulator.interval()
    }
}

impl View {
    /// How workers are to be held, where somebody else says so.
    pub(super) fn pinning(&self) -> Option<Pinning> {
        match &*self.0 {
            Source::Daemon { reader, .. } => reader.machine().and_then(|entry| pinning_of(&entry)),
            Source::Own { .. } => None,
        }
    }

    /// When to look again. What waits hears of a daemon's decision early; a decision of this process's own costs a reading of
    /// the sensor, which wakes what it measures and is as old as the kernel keeps it.
    pub(super) fn pace(&self, interval: Duration, is_waiting: bool) -> Duration {
        match *self.0 {
            Source::Daemon { .. } if is_waiting => interval.min(MACHINE_INTERVAL_WAITING),
            Source::Daemon { .. } | Source::Own { .. } => interval,
        }
    }
}

/// What looks.
pub(super) struct Keeper {
    root: Root,
    pinning: Pinning,
    /// Of the tree that stands for the machine: which CPUs are what.
    watcher: Watcher,
    groups: Groups,
    contended: bool,
}

impl Keeper {
    /// The first look at the machine, without its sensors, and what may run until somebody has decided.
    pub(super) fn new(root: &Root, pinning: Pinning) -> (Self, Machine, Decision) {
        let watcher = Watcher::new(root.clone());
        let decision = careful(cool_capacity(root, &watcher));
        let groups = Groups::read(root);
        let keeper = Self { root: root.clone(), pinning, watcher, groups, contended: false };
        let machine = keeper.machine();
        (keeper, machine, decision)
    }

    /// Looks from now on, for as long as the pools are there.
    pub(super) fn start(mut self, pools: &Arc<Pools>, view: &View) {
        let (watch, view, pools) = (pools.watch(), view.clone(), Arc::downgrade(pools));
        let keep = move || self.keep(&watch, &view, &pools);
        if let Err(error) = std::thread::Builder::new().name("keeper".to_owned()).spawn(keep) {
            debug!(%error, "nobody looks at the machine while work runs");
        }
    }

    fn keep(&mut self, watch: &Watch, view: &View, pools: &Weak<Pools>) {
        while watch.wait_for_work() {
            let began = Instant::now();
            let Some(pools) = pools.upgrade() else { return };
            let mut interval = view.look(&pools);
            if !self.watcher.tick().is_empty() {
                view.set_careful(careful(cool_capacity(&self.root, &self.watcher)), &pools);
            }
            if let Some(pinning) = view.pinning() {
                self.pinning = pinning;
            }
            self.contended = self.is_contended();
            pools.set_machine(self.machine());
            interval = view.pace(interval, pools.has_waiting());
            drop(pools);
            watch.pause(interval.saturating_sub(began.elapsed()));
        }
    }

    fn machine(&self) -> Machine {
        // A tree says what the CPUs are, but only the kernel where this process may be. This thread is never pinned.
        let own = (!self.root.is_machine()).then(hw::affinity::current).flatten();
        let allowed = own.unwrap_or_else(|| self.watcher.allowed().cpus.clone());
        let (classes, pinning) = (self.watcher.classes().clone(), self.pinning);
        Machine { classes, allowed, pinning, contended: self.contended }
    }

    /// With a distance between the two, so that workers do not move to and fro.
    fn is_contended(&self) -> bool {
        let pressure = Pressure::of_group(&self.root, &self.groups);
        let pressure = pressure.or_else(|| Pressure::of_machine(&self.root));
        let limit = if self.contended { PRESSURE_LOW } else { PRESSURE_HIGH };
        self.pinning == Pinning::Auto && pressure.is_some_and(|it| it.some_avg10 > limit)
    }
}
