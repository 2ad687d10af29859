//! Pools of worker threads, one for each class of cores, and the admission in front of them.
//!
//! A caller has pieces of work: [`Pools::run`] asks admission for leave to run them, and each grant becomes a *ticket* in the queue of the
//! lane that it is for. A worker of that lane takes the ticket, runs pieces of its job until there are none or others wait, and gives
//! the grant back. There are as many workers as there can be grants, and as pieces that wait for answers from elsewhere: a
//! ticket never waits for a thread.
//!
//! Where a lane is held to no fewer CPUs than the caller is (all cores alike, or no pinning), the caller takes the first ticket itself:
//! for a short job that saves the wake-up of a worker, which is most of its cost.
//!
//! A piece that blocks for an answer from elsewhere gives its leave back meanwhile ([`waiting`]).
//!
//! Threads of others that do such work, too (those that move bytes to and from networks), are placed with the workers of a lane
//! ([`Pools::settle`]), and take tickets of that lane themselves as any caller does that is no better placed.
//!
//! A worker without tickets sleeps on a condition variable without a timeout. Nothing here looks at sensors or clocks by itself; whoever
//! does tells [`Pools::set_decision`] and [`Pools::set_machine`].

mod asking;
mod guest;
mod job;
mod leave;
mod places;
#[cfg(test)]
mod tests;
mod wanted;
mod workers;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hw::cpu_set::CpuSet;
use hw::lent::lend;

pub use self::guest::Guest;
use self::job::{Job, Ticket};
pub use self::leave::waiting;
pub use self::places::Machine;
use self::places::Places;
pub use self::wanted::{Wake, Wanted};
use self::workers::Workers;
use crate::admission::{Admission, Deferred, Grant, Id, Leave, Order, Reason, Transfers, Wish};
use crate::decision::{Background, Decision};
use crate::placement::{Lane, Work};

/// The pools of one process.
#[derive(Debug)]
pub struct Pools {
    shared: Arc<Shared>,
}

/// What begins with one leave and lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undertaking {
    /// A whole installation, a scan of everything: waits for a cool machine.
    Heavy,
    /// A file from a network.
    Download,
}

/// The leave for an undertaking; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    grant: Option<Grant>,
}

/// What the pools are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tickets that run or are about to, by lane.
    pub running: [usize; Lane::ALL.len()],
    /// Threads, by lane.
    pub workers: [usize; Lane::ALL.len()],
    /// The CPUs that the workers of each lane are held to, as the kernel says; what they would be held to where there are none yet.
    pub cpus: [CpuSet; Lane::ALL.len()],
    /// What waits and waited, by reason.
    pub deferred: [Deferred; Reason::ALL.len()],
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    state: Mutex<State>,
    /// An undertaking may begin, or work came to idle pools.
    changed: Condvar,
    /// For who sleeps until there is work at all; told only where somebody does, so that work does not wake who has looked just before.
    begun: Condvar,
    /// A hint for workers between two pieces; the truth is in `state`.
    contended: AtomicBool,
    lanes: [Workers; Lane::ALL.len()],
    places: Places,
}

#[derive(Debug)]
struct State {
    admission: Admission,
    jobs: BTreeMap<Id, Arc<Job>>,
    /// Leaves whose owners have not picked them up yet.
    begun: BTreeMap<Id, Grant>,
    /// When time alone lets somebody begin who waits.
    look_at: Option<Duration>,
    /// Pieces at work that have no leave at the moment, by lane.
    away: [usize; Lane::ALL.len()],
    closed: bool,
    /// Who sleeps until there is work.
    sleepers: usize,
}

thread_local! {
    /// Whether this thread is running a ticket: then more work is done in place, since it could wait for itself.
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

impl Pools {
    /// Pools without threads; they come with work.
    pub fn new(decision: Decision, machine: Machine) -> Self {
        let state = State {
            admission: Admission::new(decision),
            jobs: BTreeMap::new(),
            begun: BTreeMap::new(),
            look_at: None,
            away: [0; Lane::ALL.len()],
            closed: false,
            sleepers: 0,
        };
        let shared = Shared {
            started: Instant::now(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            begun: Condvar::new(),
            contended: AtomicBool::new(false),
            lanes: Lane::ALL.map(|_| Workers::default()),
            places: Places::new(machine, is_low_power_only(decision)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs `piece` once for every number below `count`, several at once where that is admitted, and returns when all have ended.
    /// When `is_wanted` says no, no more are begun. A panic in a piece ends the job likewise and goes on in the caller.
    ///
    /// From within a piece, it runs everything in place.
    pub fn run(
        &self,
        (order, work): (&Order, Work),
        count: usize,
        is_wanted: &dyn Fn() -> bool,
        piece: &(dyn Fn(usize) + Sync),
    ) {
        if AT_WORK.get() {
            return (0..count).take_while(|_| is_wanted()).for_each(piece);
        }
        if count == 0 {
            return;
        }
        let panic = lend(piece, |loan| {
            let job = Arc::new(Job::new(Arc::clone(loan), (order.clone(), work), count));
            let wish = Wish::Pieces { work, most: count };
            let Some(id) = self.shared.start(wish, &job) else {
                // More requests than anybody has: this one goes on without the others' help.
                self.shared.work_off(&job);
                return job.wait_until_done(|| is_wanted().then_some(()));
            };
            let look = || {
                if job.is_unmanned() {
                    self.shared.work_off(&job);
                }
                self.shared.look_again(&mut self.shared.lock());
                is_wanted().then_some(())
            };
            let panic = job.wait_until_done(look);
            self.shared.finish(id);
            panic
        });
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Waits until the undertaking may begin; nothing where it is not wanted any more. If it has to wait longer than a moment, `waits` is told why,
    /// once.
    pub fn begin(
        &self,
        order: &Order,
        undertaking: Undertaking,
        wanted: &dyn Wanted,
        waits: &dyn Fn(Reason),
    ) -> Option<Permit> {
        let wish = match undertaking {
            Undertaking::Heavy => Wish::Heavy,
            Undertaking::Download => Wish::Download,
        };
        let shared = &self.shared;
        let (_state, grant) = shared.wait_for_leave((order, wish), wanted, waits);
        grant.map(|grant| Permit { shared: Arc::clone(shared), grant: Some(grant) })
    }

    /// How many pieces of such work could run at once if nothing else did; at least 1.
    pub fn width(&self, work: Work) -> usize {
        self.shared.lock().admission.width(work)
    }

    /// This holds from now on.
    pub fn set_decision(&self, decision: Decision) {
        let mut state = self.shared.lock();
        state.admission.set_decision(decision);
        self.shared.dispatch(&mut state, None);
        drop(state);
        self.shared.places.set_low_power_only(is_low_power_only(decision));
    }

    /// What holds.
    pub fn decision(&self) -> Decision {
        self.shared.lock().admission.decision()
    }

    /// The machine is like this from now on: workers are placed anew where that changes something.
    pub fn set_machine(&self, machine: Machine) {
        self.shared.places.set(machine);
    }

    /// What they are doing.
    pub fn report(&self) -> Report {
        let (running, deferred) = {
            let state = self.shared.lock();
            (state.admission.running(), state.admission.deferred())
        };
        let (workers, cpus) = self.shared.places.report();
        Report { running, workers, cpus, deferred }
    }

    /// The transfers that run and wait.
    pub fn transfers(&self) -> Transfers {
        self.shared.lock().admission.transfers()
    }

    /// Whether nothing runs and nobody waits, not even for answers from elsewhere.
    pub fn is_idle(&self) -> bool {
        self.shared.lock().is_idle()
    }

    /// Whether somebody waits who has nothing yet.
    pub fn has_waiting(&self) -> bool {
        self.shared.lock().admission.has_waiting()
    }

    /// Whether somebody has nothing yet to whom one more slot would give something.
    pub fn lacks_slots(&self) -> bool {
        self.shared.lock().admission.lacks_slots()
    }

    /// Something that sleeps while the pools are idle.
    pub fn watch(&self) -> Watch {
        Watch { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        self.shared.begun.notify_all();
        self.shared.lanes.iter().for_each(Workers::stop);
    }
}

/// For the thread that looks at the machine while there is work, and only then.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    /// Sleeps until the pools have something to do; false where they are gone.
    pub fn wait_for_work(&self) -> bool {
        let mut state = self.shared.lock();
        while !state.closed && state.is_idle() {
            state.sleepers += 1;
            state = self.shared.begun.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleepers -= 1;
        }
        !state.closed
    }

    /// Sleeps for so long; less where the pools go.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.shared.lock();
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !left.is_zero()
            && !state.closed
        {
            state = self.shared.wait(state, left);
        }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.admission.is_idle() && self.away.iter().all(|away| *away == 0)
    }
}

impl Shared {
    /// Asks for the job; gives its name. The caller may be its first worker.
    fn start(self: &Arc<Self>, wish: Wish, job: &Arc<Job>) -> Option<Id> {
        let mut state = self.lock();
        let was_idle = state.is_idle();
        let id = state.admission.ask(&job.order, wish, self.now()).ok()?;
        state.jobs.insert(id, Arc::clone(job));
        let own = self.dispatch(&mut state, Some(id));
        let has_sleepers = was_idle && state.sleepers > 0;
        drop(state);
        if has_sleepers {
            self.begun.notify_all();
        }
        if let Some(ticket) = own {
            AT_WORK.set(true);
            self.work(ticket);
            AT_WORK.set(false);
        }
        Some(id)
    }

    fn finish(self: &Arc<Self>, id: Id) {
        let mut state = self.lock();
        state.jobs.remove(&id);
        state.admission.withdraw(id, self.now());
        self.dispatch(&mut state, None);
    }

    /// Time has passed, which may let somebody begin who waits.
    fn look_again(self: &Arc<Self>, state: &mut State) {
        if state.look_at.is_some_and(|at| at <= self.now()) {
            self.dispatch(state, None);
        }
    }

    /// Hands out everything that may begin. The first ticket of `mine` is given back where its caller may run it.
    fn dispatch(self: &Arc<Self>, state: &mut State, mine: Option<Id>) -> Option<Ticket> {
        let now = self.now();
        let (mut own, mut may_begin) = (None, false);
        while let Some(grant) = state.admission.next(now) {
            let (Some(job), Leave::Run(lane)) = (state.jobs.get(&grant.id), grant.leave) else {
                // Somebody waits for it. A job that has ended gets nothing: it was withdrawn.
                state.begun.insert(grant.id, grant);
                may_begin = true;
                continue;
            };
            let is_mine = mine == Some(grant.id);
            let ticket = Ticket { job: Arc::clone(job), grant, lane };
            if is_mine && own.is_none() && self.may_run_itself(lane) {
                own = Some(ticket);
                continue;
            }
            let away = state.away[lane as usize];
            if let Err(ticket) = self.lanes[lane as usize].push(ticket, away, self) {
                ticket.job.set_unmanned();
                state.admission.withdraw(ticket.grant.id, now);
                state.admission.give_back(ticket.grant);
            }
        }
        state.admission.note_deferrals(now);
        state.look_at = state.admission.next_look(now);
        // A hint: who misses a change looks again after the next piece, and the truth is read under the lock.
        self.contended.store(state.admission.is_contended(), Ordering::Relaxed);
        if may_begin {
            self.changed.notify_all();
        }
        own
    }

    /// Runs a ticket to its end.
    fn work(self: &Arc<Self>, ticket: Ticket) {
        let job = Arc::clone(&ticket.job);
        leave::hold(self, ticket);
        while job.run_one() && leave::is_held() && !self.contended.load(Ordering::Relaxed) {}
        leave::end();
    }

    /// A piece of `job` computes no longer with this.
    fn give_back(self: &Arc<Self>, state: &mut State, job: &Job, grant: Grant) {
        // What a piece got after a wait was asked for by itself, and is no job's.
        if job.is_exhausted() || !state.jobs.contains_key(&grant.id) {
            state.admission.withdraw(grant.id, self.now());
        }
        state.admission.give_back(grant);
        self.dispatch(state, None);
    }

    /// Runs all of a job in this thread.
    fn work_off(&self, job: &Job) {
        AT_WORK.set(true);
        while job.run_one() {}
        AT_WORK.set(false);
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// No code of anybody else runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(grant) = self.grant.take() else { return };
        let mut state = self.shared.lock();
        state.admission.withdraw(grant.id, self.shared.now());
        state.admission.give_back(grant);
        self.shared.dispatch(&mut state, None);
    }
}

fn is_low_power_only(decision: Decision) -> bool {
    decision.background != Background::Efficient
}
