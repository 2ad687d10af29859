//! Where the workers of each lane are held, and holding them there: when they start, and again when the machine changes under them.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hw::cpu::Classes;
use hw::cpu_set::CpuSet;
use hw::pin::Thread;

use crate::placement::{Lane, Pinning, cpus_of};

/// What placement depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs by class.
    pub classes: Classes,
    /// Those that this process may use.
    pub allowed: CpuSet,
    /// What was configured.
    pub pinning: Pinning,
    /// Whether others want the processors, too.
    pub contended: bool,
}

/// The places of all lanes.
#[derive(Debug)]
pub(super) struct Places {
    inner: Mutex<Inner>,
    /// A bit for each lane whose workers may go wherever anybody of this process may.
    free: AtomicU8,
}

#[derive(Debug)]
struct Inner {
    machine: Machine,
    low_power_only: bool,
    /// Whether threads were ever held to a part of what is allowed. From then on they are placed even where pinning is off: nobody else
    /// would let them go again.
    ever_pinned: bool,
    lanes: [Held; Lane::ALL.len()],
}

#[derive(Debug, Default)]
struct Held {
    wanted: CpuSet,
    threads: Vec<Thread>,
    /// Threads of others that do such work.
    guests: Vec<Thread>,
    /// What the kernel made of it, of the thread that was placed last.
    effective: Option<CpuSet>,
}

impl Places {
    pub(super) fn new(machine: Machine, low_power_only: bool) -> Self {
        let lanes = Lane::ALL.map(|_| Held::default());
        let places = Self {
            inner: Mutex::new(Inner { machine, low_power_only, ever_pinned: false, lanes }),
            free: AtomicU8::new(0),
        };
        places.place_all(&mut places.lock());
        places
    }

    pub(super) fn set(&self, machine: Machine) {
        let mut inner = self.lock();
        inner.machine = machine;
        self.place_all(&mut inner);
    }

    pub(super) fn set_low_power_only(&self, only: bool) {
        let mut inner = self.lock();
        if inner.low_power_only != only {
            inner.low_power_only = only;
            self.place_all(&mut inner);
        }
    }

    /// Places the calling thread, and again whenever that has to change.
    pub(super) fn enter(&self, lane: Lane) {
        let mut inner = self.lock();
        let is_placed = inner.ever_pinned;
        let held = &mut inner.lanes[lane as usize];
        let thread = Thread::current();
        held.threads.push(thread);
        held.effective = if is_placed { held.place(thread) } else { thread.cpus() };
    }

    pub(super) fn leave(&self, lane: Lane) {
        let thread = Thread::current();
        self.lock().lanes[lane as usize].threads.retain(|one| *one != thread);
    }

    /// The same for a thread that is no worker; it is given, because it may leave from another one.
    pub(super) fn enter_guest(&self, lane: Lane, thread: Thread) {
        let mut inner = self.lock();
        let is_placed = inner.ever_pinned;
        let held = &mut inner.lanes[lane as usize];
        held.guests.push(thread);
        if is_placed {
            held.place(thread);
        }
    }

    pub(super) fn leave_guest(&self, lane: Lane, thread: Thread) {
        self.lock().lanes[lane as usize].guests.retain(|one| *one != thread);
    }

    /// Whether being a worker of this lane restricts a thread to nothing.
    pub(super) fn is_free(&self, lane: Lane) -> bool {
        self.free.load(Ordering::Relaxed) & (1 << lane as u8) != 0
    }

    /// How many threads each lane has, and where they are.
    pub(super) fn report(&self) -> ([usize; Lane::ALL.len()], [CpuSet; Lane::ALL.len()]) {
        let inner = self.lock();
        let workers = std::array::from_fn(|lane| inner.lanes[lane].threads.len());
        let cpus = std::array::from_fn(|lane| {
            let held = &inner.lanes[lane];
            held.effective.clone().unwrap_or_else(|| held.wanted.clone())
        });
        (workers, cpus)
    }

    /// Holds every worker where it belongs now. Who is there already costs one system call.
    fn place_all(&self, inner: &mut Inner) {
        let Inner { machine, low_power_only, ever_pinned, lanes } = inner;
        let Machine { classes, allowed, pinning, contended } = machine;
        *ever_pinned |= *pinning != Pinning::Off;
        let mut free = 0;
        for lane in Lane::ALL {
            let is_wide = match pinning {
                Pinning::Off => true,
                Pinning::Auto => *contended,
                Pinning::Strict => false,
            };
            let held = &mut lanes[lane as usize];
            held.wanted = if is_wide {
                allowed.clone()
            } else {
                cpus_of(lane, classes, allowed, *low_power_only)
            };
            // Background is never the caller's own thread: there is no way back from the idle class.
            if held.wanted == *allowed && lane != Lane::Background {
                free |= 1 << lane as u8;
            }
            if *ever_pinned {
                for thread in &held.guests {
                    held.place(*thread);
                }
                for thread in held.threads.clone() {
                    held.effective = held.place(thread);
                }
            } else if let Some(thread) = held.threads.last() {
                held.effective = thread.cpus();
            }
        }
        // A hint of no consequence but speed.
        self.free.store(free, Ordering::Relaxed);
    }

    /// Sets and lists of threads, whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Where the kernel refuses, the thread stays where the kernel has put it.
    fn place(&self, thread: Thread) -> Option<CpuSet> {
        let before = thread.cpus();
        if before.as_ref() == Some(&self.wanted) {
            return before;
        }
        thread.pin(&self.wanted).or(before)
    }
}
