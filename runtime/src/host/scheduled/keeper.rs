//! Looks at the machine for the pools of one process, on a thread that sleeps without a timeout while they have no work.
//!
//! What the pools may do is decided elsewhere ([`View`]): by the daemon for the agents that it hosts, which read it in the bus
//! directory (`followed`); by a governor of this process where it works alone. How workers are pinned the daemon says, too, since its
//! configuration can change while it runs; where they may be is this process's own matter: it may be held to fewer CPUs than the daemon.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hw::cgroup::Groups;
use hw::pressure::Pressure;
use hw::root::Root;
use hw::watcher::Watcher;
use ipc::directory::Reader;
use scheduler::decision::Decision;
use scheduler::governor::Thresholds;
use scheduler::placement::Pinning;
use scheduler::pool::{Machine, Pools, Watch};
use tracing::debug;

use super::careful;
use super::followed::Followed;
use crate::limits::{MACHINE_INTERVAL, MACHINE_INTERVAL_WAITING, PRESSURE_HIGH, PRESSURE_LOW};
use crate::machine::{Load, Regulator, cool_capacity, pinning_of};

/// Who decides. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct View(Arc<Source>);

#[derive(Debug)]
enum Source {
    Daemon {
        reader: Reader,
        followed: Box<Followed>,
    },
    Own {
        root: Root,
        thresholds: Thresholds,
        /// Made by the keeper at its first look: reading a sensor may take a while, and nobody waits for it.
        regulator: Mutex<Option<Box<Regulator>>>,
    },
}

impl View {
    /// Of a daemon's directory.
    pub(super) fn of_daemon(reader: Reader, careful: Decision) -> Self {
        Self(Arc::new(Source::Daemon { reader, followed: Box::new(Followed::new(careful)) }))
    }

    /// Of this process.
    pub(super) fn own(root: Root, thresholds: Thresholds) -> Self {
        Self(Arc::new(Source::Own { root, thresholds, regulator: Mutex::new(None) }))
    }

    /// Brings pools up to date where that costs nothing: before each piece of work.
    pub(super) fn follow(&self, pools: &Pools) {
        if let Source::Daemon { reader, followed } = &*self.0 {
            followed.follow(|| reader.machine(), pools);
        }
    }

    /// The machine has changed; where the daemon is silent, what holds without it does, too.
    pub(super) fn set_careful(&self, careful: Decision, pools: &Pools) {
        if let Source::Daemon { followed, .. } = &*self.0 {
            followed.set_careful(careful, pools);
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
        pools.set_decision(regulator.step(load_of(pools)));
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

/// What pools do. Of those who wait, more slots would help only those who wait for slots.
pub(super) fn load_of(pools: &Pools) -> Load {
    Load::of(pools.report().running, pools.lacks_slots())
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
