//! The threads of one lane and their queues: one shared queue for each urgency, and one of each worker's own that the others steal from.
//!
//! How a sleeper learns of a ticket:
//! 1. A ticket is put into a queue, then `ready` is counted up, under the lock of the crew; then one sleeper is woken.
//! 2. A worker counts `ready` down under the same lock, or sleeps where it is nothing. Who counted it down has a right to one ticket.
//! 3. So there are never fewer tickets in the queues than rights, and who has a right looks until it finds one. It finds none only while
//!    another worker moves tickets from a shared queue to its own.
//!
//! Which sleeper is woken: the one that fell asleep last and not on the CPU that wakes it, because the kernel leaves who wakes where it
//! slept. On a machine with few CPUs it looks for no idle one (Linux 6: none with two), so a sleeper of the waker's own CPU takes that
//! away from it, and both have one CPU while another one has nothing to do.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crossbeam_deque::{Injector, Steal, Stealer, Worker};
use hw::idle;
use hw::pin;

use super::job::{Ticket, URGENCIES};
use super::{AT_WORK, Shared};
use crate::limits::{LANE_WORKERS_MAX, WORKER_STACK_BYTES};
use crate::placement::Lane;

/// One lane's.
#[derive(Debug)]
pub(super) struct Workers {
    /// The most urgent last.
    shared: [Injector<Ticket>; URGENCIES],
    own: [OnceLock<Stealer<Ticket>>; LANE_WORKERS_MAX],
    crew: Mutex<Crew>,
    /// One for each worker.
    wake: [Condvar; LANE_WORKERS_MAX],
}

#[derive(Debug, Default)]
struct Crew {
    ready: usize,
    /// Those that are asleep and were not woken yet, the last one last.
    asleep: Vec<Sleeper>,
    idle: usize,
    stopping: bool,
    /// The system had no thread for a ticket, which nobody may have come to yet.
    short: bool,
    threads: Vec<JoinHandle<()>>,
}

/// A worker without a ticket.
#[derive(Clone, Copy, Debug)]
struct Sleeper {
    number: usize,
    /// Where it fell asleep; a hint.
    cpu: usize,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            shared: std::array::from_fn(|_| Injector::new()),
            own: [const { OnceLock::new() }; LANE_WORKERS_MAX],
            crew: Mutex::default(),
            wake: [const { Condvar::new() }; LANE_WORKERS_MAX],
        }
    }
}

impl Workers {
    /// Gives a ticket to whoever is free first; there is one more thread where nobody is and there may be. The ticket comes back where
    /// the lane cannot have one more thread and those that it has may not come: there are none, or of them some are `away`, waiting for
    /// the leave that the ticket has.
    pub(super) fn push(
        &self,
        ticket: Ticket,
        away: usize,
        shared: &Arc<Shared>,
    ) -> Result<(), Ticket> {
        let lane = ticket.lane;
        let mut crew = self.lock();
        if crew.ready >= crew.idle && crew.threads.len() < LANE_WORKERS_MAX {
            let number = crew.threads.len();
            let name = format!("{}-{number}", short_name(lane));
            let shared = Arc::clone(shared);
            let work = move || shared.lanes[lane as usize].run(number, lane, &shared);
            let builder = std::thread::Builder::new().name(name).stack_size(WORKER_STACK_BYTES);
            match builder.spawn(work) {
                Ok(thread) => crew.threads.push(thread),
                Err(_no_thread) if crew.threads.is_empty() || away > 0 => return Err(ticket),
                // Those that there are come to it.
                Err(_no_thread) => crew.short = true,
            }
        }
        self.shared[ticket.job.urgency()].push(ticket);
        crew.ready += 1;
        let woken = crew.take_sleeper(pin::current_cpu());
        drop(crew);
        if let Some(sleeper) = woken {
            self.wake[sleeper.number].notify_one();
        }
        Ok(())
    }

    /// Whether a ticket may lie here for which the system had no thread.
    pub(super) fn is_short(&self) -> bool {
        self.lock().short
    }

    /// Ends all threads of the lane; nobody has work for them any more.
    pub(super) fn stop(&self) {
        let threads = {
            let mut crew = self.lock();
            crew.stopping = true;
            std::mem::take(&mut crew.threads)
        };
        self.wake.iter().for_each(Condvar::notify_all);
        for thread in threads {
            // A worker catches what pieces panic with.
            let _ = thread.join();
        }
    }

    /// A worker's life.
    fn run(&self, number: usize, lane: Lane, shared: &Arc<Shared>) {
        AT_WORK.set(true);
        if lane == Lane::Background {
            idle::make_current_thread_idle();
        }
        shared.places.enter(lane);
        let own = Worker::new_fifo();
        // Each number is a thread of its own, once.
        let _ = self.own[number].set(own.stealer());
        while self.wait_for_ready(number) {
            shared.work(self.find(&own));
        }
        shared.places.leave(lane);
    }

    /// Rule 2; false where the lane stops.
    fn wait_for_ready(&self, number: usize) -> bool {
        let mut crew = self.lock();
        crew.idle += 1;
        // Every ticket has somebody.
        crew.short &= crew.ready > 0;
        while crew.ready == 0 && !crew.stopping {
            // Anew each time: whoever woke it took it off the list.
            crew.asleep.retain(|sleeper| sleeper.number != number);
            crew.asleep.push(Sleeper { number, cpu: pin::current_cpu() });
            crew = self.wake[number].wait(crew).unwrap_or_else(PoisonError::into_inner);
        }
        crew.asleep.retain(|sleeper| sleeper.number != number);
        crew.idle -= 1;
        if crew.ready == 0 {
            return false;
        }
        crew.ready -= 1;
        true
    }

    /// Rule 3.
    fn find(&self, own: &Worker<Ticket>) -> Ticket {
        loop {
            let taken = own.pop().or_else(|| self.take_shared(own)).or_else(|| self.steal());
            match taken {
                Some(ticket) => return ticket,
                None => std::thread::yield_now(),
            }
        }
    }

    fn take_shared(&self, own: &Worker<Ticket>) -> Option<Ticket> {
        self.shared.iter().rev().find_map(|queue| until_sure(|| queue.steal_batch_and_pop(own)))
    }

    fn steal(&self) -> Option<Ticket> {
        let others = self.own.iter().map_while(OnceLock::get);
        others.into_iter().find_map(|other| until_sure(|| other.steal()))
    }

    /// Numbers, whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crew {
    /// Whom to wake, who then is not asleep any more; nobody where nobody is.
    fn take_sleeper(&mut self, cpu: usize) -> Option<Sleeper> {
        let elsewhere = self.asleep.iter().rposition(|sleeper| sleeper.cpu != cpu);
        let index = elsewhere.or_else(|| self.asleep.len().checked_sub(1))?;
        Some(self.asleep.remove(index))
    }
}

/// A lost race says nothing of what is there.
fn until_sure(mut steal: impl FnMut() -> Steal<Ticket>) -> Option<Ticket> {
    loop {
        match steal() {
            Steal::Success(ticket) => return Some(ticket),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// What threads are called in `/proc`, where names have 15 bytes.
fn short_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Performance => "worker-p",
        Lane::Efficient => "worker-e",
        Lane::LowPower => "worker-lp",
        Lane::Background => "worker-idle",
    }
}

#[cfg(test)]
mod tests {
    use super::{Crew, Sleeper};

    #[test]
    fn who_sleeps_elsewhere_is_woken_first_and_of_those_the_last() {
        let asleep = [(0, 1), (1, 0), (2, 1), (3, 0)].map(|(number, cpu)| Sleeper { number, cpu });
        let mut crew = Crew { asleep: asleep.to_vec(), ..Crew::default() };
        let woken: Vec<_> =
            std::iter::from_fn(|| crew.take_sleeper(0).map(|one| one.number)).collect();
        assert_eq!(woken, [2, 0, 3, 1]);
    }
}
