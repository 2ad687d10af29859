//! The threads of calls. One that is done with a call waits a while for another one: to make a thread, and to touch its memory for the
//! first time, takes longer than to answer what is small.
//!
//! 1. A thread that has nothing to do puts the way to itself among those that wait, where there is room, and otherwise ends.
//! 2. Whoever has a job takes such a way away and sends the job over it, the one that waits for the shortest time first; where there is
//!    none he makes a thread.
//! 3. A thread that has waited long enough takes its own way back and ends. Where it is gone, a job is coming, and it waits for that.
//!
//! So a way is used once, by who took it, and a thread never ends while somebody has the way to it. Ways are told apart by numbers.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{CALL_STACK_BYTES, CALL_THREADS_WAITING_MAX, CALL_THREADS_WAITING_TIME};

/// What a thread is to do. Catches its own panics: one that escapes ends the thread.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Those that wait.
#[derive(Default)]
pub(super) struct Threads {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    ways: Vec<(u64, SyncSender<Job>)>,
    made: u64,
}

impl Threads {
    /// Has a job done by a thread that waits, or by a new one.
    pub(super) fn run(self: &Arc<Self>, mut job: Job) -> std::io::Result<()> {
        while let Some((_, way)) = self.pop() {
            match way.try_send(job) {
                Ok(()) => return Ok(()),
                // Not by the rules above; the job is not lost for it.
                Err(failed) => job = returned(failed),
            }
        }
        let number = {
            let mut waiting = self.lock();
            waiting.made += 1;
            waiting.made
        };
        let own = Arc::clone(self);
        let builder = std::thread::Builder::new().name("call".to_owned());
        let serve = move || own.serve(number, job, CALL_THREADS_WAITING_TIME);
        builder.stack_size(CALL_STACK_BYTES).spawn(serve).map(|_| ())
    }

    /// A thread's life.
    fn serve(&self, number: u64, first: Job, patience: Duration) {
        let (way, jobs) = sync_channel(1);
        first();
        while self.wait(number, &way) {
            let Some(job) = self.next(number, &jobs, patience) else { return };
            job();
        }
    }

    /// Whether there is room to wait.
    fn wait(&self, number: u64, way: &SyncSender<Job>) -> bool {
        let mut waiting = self.lock();
        let has_room = waiting.ways.len() < CALL_THREADS_WAITING_MAX;
        if has_room {
            waiting.ways.push((number, way.clone()));
        }
        has_room
    }

    /// The next job; nothing where none came.
    fn next(&self, number: u64, jobs: &Receiver<Job>, patience: Duration) -> Option<Job> {
        if let Ok(job) = jobs.recv_timeout(patience) {
            return Some(job);
        }
        let mut waiting = self.lock();
        let place = waiting.ways.iter().position(|(other, _)| *other == number);
        if let Some(place) = place {
            waiting.ways.remove(place);
            return None;
        }
        drop(waiting);
        jobs.recv().ok()
    }

    fn pop(&self) -> Option<(u64, SyncSender<Job>)> {
        self.lock().ways.pop()
    }

    /// Whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn returned(failed: std::sync::mpsc::TrySendError<Job>) -> Job {
    use std::sync::mpsc::TrySendError::{Disconnected, Full};
    match failed {
        Disconnected(job) | Full(job) => job,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread::{ThreadId, current};

    use super::*;

    /// Waits until so many threads have nothing to do.
    fn until_waiting(threads: &Threads, count: usize) {
        while threads.lock().ways.len() != count {
            std::thread::yield_now();
        }
    }

    fn ran_by(threads: &Arc<Threads>) -> ThreadId {
        let (sender, receiver) = channel();
        let job = Box::new(move || sender.send(current().id()).expect("somebody asks"));
        threads.run(job).expect("a thread");
        receiver.recv().expect("it ran")
    }

    #[test]
    fn a_thread_that_is_done_does_the_next_job() {
        let threads = Arc::<Threads>::default();
        let first = ran_by(&threads);
        until_waiting(&threads, 1);
        assert_eq!(ran_by(&threads), first);
        until_waiting(&threads, 1);
        assert_eq!(threads.lock().made, 1);
    }

    #[test]
    fn jobs_do_not_wait_for_each_other_and_few_threads_stay() {
        let threads = Arc::<Threads>::default();
        let most = CALL_THREADS_WAITING_MAX + 2;
        let barrier = Arc::new(std::sync::Barrier::new(most + 1));
        for _ in 0..most {
            let barrier = Arc::clone(&barrier);
            // All are there at once, or this never ends.
            let meet = move || {
                barrier.wait();
            };
            threads.run(Box::new(meet)).expect("a thread");
        }
        barrier.wait();
        // Each of them holds the threads for as long as it lives.
        while Arc::strong_count(&threads) > 1 + CALL_THREADS_WAITING_MAX {
            std::thread::yield_now();
        }
        until_waiting(&threads, CALL_THREADS_WAITING_MAX);
    }

    #[test]
    fn who_waited_in_vain_ends_unless_a_job_is_coming() {
        let threads = Arc::<Threads>::default();
        let (way, jobs) = sync_channel(1);
        assert!(threads.wait(7, &way));
        assert!(threads.next(7, &jobs, Duration::ZERO).is_none(), "it waited long enough");
        assert!(threads.lock().ways.is_empty(), "somebody could still send to it");
        assert!(threads.wait(7, &way));
        let taken = threads.pop().expect("one waits").1;
        let own = Arc::clone(&threads);
        let next = std::thread::spawn(move || own.next(7, &jobs, Duration::ZERO).is_some());
        taken.try_send(Box::new(|| {})).expect("there is room for one");
        assert!(next.join().expect("an end"), "the job was lost");
    }

    #[test]
    fn a_panic_loses_its_thread_and_nothing_else() {
        let threads = Arc::<Threads>::default();
        threads.run(Box::new(|| panic!("a job's own"))).expect("a thread");
        while Arc::strong_count(&threads) > 1 {
            std::thread::yield_now();
        }
        assert!(threads.lock().ways.is_empty());
        ran_by(&threads);
    }
}
