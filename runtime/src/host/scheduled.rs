//! The host that the scheduler stands behind: pools of workers, and a keeper that looks at the machine while they have work.
//!
//! Nothing is made before there is work: a command that only lists starts no thread and reads no sensor.

mod followed;
mod keeper;
mod later;

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use agents_contract::{
    Cancellation, Host, Job, Obstacle, Order, Permit, Place, Undertaking, Wait, Work,
};
use hw::root::Root;
use ipc::control::WorkReport;
use ipc::directory::Reader;
use ipc::limits::TEXT_BYTES_MAX;
use scheduler::admission::{self, Transfers};
use scheduler::decision::{Background, Decision, Slots, State};
use scheduler::governor::{Capacity, Thresholds};
use scheduler::limits::{DEFER_MAX, DOWNLOADS_ALL_MAX};
use scheduler::placement::{self, Lane, Pinning};
use scheduler::pool::{Pools, Undertaking as Begun, Wake, Wanted};

use self::keeper::{Keeper, View};
use self::later::Later;
use crate::config::Settings;
use crate::machine::pinning_of;

/// Pools of one process.
#[derive(Debug)]
pub(crate) struct ScheduledHost {
    root: Root,
    pinning: Pinning,
    thresholds: Thresholds,
    /// The daemon's decisions; taken by whoever makes the pools. Without them, this process decides for itself.
    directory: Mutex<Option<Reader>>,
    /// Whether this process goes on after its work.
    is_hosted: AtomicBool,
    later: Later,
    working: OnceLock<Working>,
}

#[derive(Debug)]
struct Working {
    pools: Arc<Pools>,
    view: View,
}

impl ScheduledHost {
    /// For a process that decides for itself, unless it is told of a directory before it has work.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            root: settings.root(),
            pinning: settings.pinning,
            thresholds: settings.thresholds,
            directory: Mutex::new(None),
            is_hosted: AtomicBool::new(false),
            later: Later::default(),
            working: OnceLock::new(),
        }
    }

    /// The daemon decides from now on; what it decided stands there.
    pub(crate) fn set_directory(&self, directory: Reader) {
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = Some(directory);
        // Decides where a job is done, and publishes nothing.
        self.is_hosted.store(true, Ordering::Relaxed);
    }

    fn working(&self) -> &Working {
        self.working.get_or_init(|| {
            let directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner).take();
            let told = directory.as_ref().and_then(Reader::machine);
            let pinning = told.and_then(|entry| pinning_of(&entry)).unwrap_or(self.pinning);
            let (keeper, machine, decision) = Keeper::new(&self.root, pinning);
            let pools = Arc::new(Pools::new(decision, machine));
            let view = match directory {
                Some(reader) => View::of_daemon(reader, decision),
                None => View::own(self.root.clone(), self.thresholds),
            };
            view.follow(&pools);
            keeper.start(&pools, &view);
            Working { pools, view }
        })
    }

    /// Files of networks that are under way and wait, for the daemon; nothing where there was no work yet.
    pub(crate) fn transfers(&self) -> Option<Transfers> {
        self.working.get().map(|working| working.pools.transfers())
    }

    /// What is being done, for the daemon; nothing where there was no work yet.
    pub(crate) fn report(&self) -> WorkReport {
        let Some(working) = self.working.get() else { return WorkReport::default() };
        let report = working.pools.report();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        WorkReport {
            running: report.running.map(count),
            cpus: report.cpus.map(|cpus| cut(cpus.to_string())),
            waiting: report.deferred.map(|deferred| count(deferred.waiting)),
            deferred: report.deferred.map(|deferred| deferred.count),
            deferred_ns: report
                .deferred
                .map(|deferred| u64::try_from(deferred.time.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

impl Host for ScheduledHost {
    fn run(&self, order: &Order, work: Work, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        let Working { pools, view } = self.working();
        view.follow(pools);
        let is_wanted = || !order.cancellation.is_cancelled();
        let piece = |index: usize| agents_contract::with_waiter(wait, || piece(index));
        pools.run((&ordered(order), kind(work)), count, &is_wanted, &piece);
    }

    fn begin(
        &self,
        order: &Order,
        undertaking: Undertaking,
        waits: &dyn Fn(Wait),
    ) -> Option<Permit> {
        let Working { pools, view } = self.working();
        view.follow(pools);
        let ordered = ordered(order);
        let left = DEFER_MAX.saturating_sub(ordered.waited);
        let at_most = (undertaking == Undertaking::Heavy).then_some(left);
        let undertaking = match undertaking {
            Undertaking::Heavy => Begun::Heavy,
            Undertaking::Download => Begun::Download,
        };
        let waits = |reason| waits(Wait { obstacle: obstacle(reason), at_most });
        let wanted = Cancellable(&order.cancellation);
        pools.begin(&ordered, undertaking, &wanted, &waits).map(Permit::new)
    }

    fn settle(&self, work: Work) -> Place {
        Place::new(self.working().pools.settle(kind(work)))
    }

    fn later(&self, job: Job) {
        let kept = match self.is_hosted.load(Ordering::Relaxed) {
            true => self.later.put(job, &self.working().pools),
            false => Err(job),
        };
        if let Err(job) = kept {
            job();
        }
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl Drop for ScheduledHost {
    fn drop(&mut self) {
        self.later.close();
    }
}

fn obstacle(reason: admission::Reason) -> Obstacle {
    match reason {
        admission::Reason::Slots | admission::Reason::Paused => Obstacle::Busy,
        admission::Reason::Heat => Obstacle::Heat,
        admission::Reason::Blind => Obstacle::Blind,
    }
}

/// What a piece waits with for others than the pools.
fn wait(cancellation: &Cancellation, wait: &mut dyn FnMut()) {
    scheduler::pool::waiting(&Cancellable(cancellation), wait);
}

/// Whoever cancels wakes who waits.
struct Cancellable<'a>(&'a Cancellation);

impl Wanted for Cancellable<'_> {
    fn is_wanted(&self) -> bool {
        !self.0.is_cancelled()
    }

    fn left(&self) -> Option<Duration> {
        self.0.left()
    }

    fn listen(&self, wake: Wake) -> Option<Box<dyn Any>> {
        Some(Box::new(self.0.listen(&wake)))
    }
}

fn ordered(order: &Order) -> admission::Order {
    let Order { requester, priority, asked_at, .. } = order;
    let waited = asked_at.map_or(Duration::ZERO, |at| at.elapsed());
    admission::Order { requester: requester.clone(), priority: *priority, waited }
}

fn kind(work: Work) -> placement::Work {
    match work {
        Work::Resolve => placement::Work::Resolve,
        Work::Unpack => placement::Work::Unpack,
        Work::Scan => placement::Work::Scan,
        Work::Background => placement::Work::Background,
    }
}

/// A list of CPUs is ASCII.
fn cut(mut text: String) -> String {
    text.truncate(TEXT_BYTES_MAX);
    text
}

/// Slots that are safe where nothing is known of the temperature: one performance core, and few of the others.
fn careful(capacity: Capacity) -> Decision {
    let Slots { performance, efficient, low_power } = capacity.cores;
    let optimal = capacity.slots_optimal();
    let slots = if efficient + low_power > 0 {
        let efficient = efficient.min(optimal.saturating_sub(1));
        Slots { performance: 1, efficient, low_power: 0 }
    } else {
        Slots { performance: performance.min(optimal / 2).max(1), ..Slots::default() }
    };
    Decision { state: State::Blind, slots, heavy: false, background: Background::Efficient }
}

const _: () = assert!(Lane::ALL.len() == ipc::control::WORK_LANES);
const _: () = assert!(admission::Reason::ALL.len() == ipc::control::WORK_REASONS);
// What hashes a file that was let begin never waits for a thread.
const _: () = assert!(agents_packager::io::limits::FILES_AT_ONCE_MAX >= DOWNLOADS_ALL_MAX);

#[cfg(test)]
mod tests;
