//! A thread beside the serving one, for what may wait for the disk.
//!
//! Jobs go in and results come out through bounded channels; each result rings the bell. Jobs of one thread are done in
//! order. Not here: what the jobs are (`logs`, `keeper`).

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use crate::limits::DISK_JOBS_MAX;

/// A thread that does one job after the other.
#[derive(Debug)]
pub(super) struct Hand<J, R> {
    jobs: SyncSender<J>,
    results: Receiver<R>,
    /// Jobs whose results were not taken.
    out: usize,
    /// The thread has panicked.
    pub(super) is_dead: bool,
}

/// Rings when a thread ends, in a panic too, so that who waits for it looks.
struct RingAtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for RingAtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<J: Send + 'static, R: Send + 'static> Hand<J, R> {
    /// Starts the thread; `ring` is called on it after each result, and when it ends.
    pub(super) fn start(
        name: &str,
        ring: impl Fn() + Send + 'static,
        work: fn(J) -> R,
    ) -> io::Result<Self> {
        let (jobs, to_do) = mpsc::sync_channel::<J>(DISK_JOBS_MAX);
        let (done, results) = mpsc::sync_channel(DISK_JOBS_MAX);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let bell = RingAtEnd(ring);
            // Gone before the bell is: who looks then finds that nothing more comes.
            let done = done;
            for job in to_do {
                if done.send(work(job)).is_err() {
                    return;
                }
                (bell.0)();
            }
        })?;
        Ok(Self { jobs, results, out: 0, is_dead: false })
    }

    /// Whether one more job can be given.
    pub(super) fn has_room(&self) -> bool {
        self.out < DISK_JOBS_MAX
    }

    /// Gives a job; it comes back where there is no room.
    pub(super) fn give(&mut self, job: J) -> Result<(), J> {
        if !self.has_room() {
            return Err(job);
        }
        match self.jobs.try_send(job) {
            Ok(()) => {
                self.out += 1;
                Ok(())
            }
            Err(mpsc::TrySendError::Full(job) | mpsc::TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// The next result, if it is there.
    pub(super) fn take(&mut self) -> Option<R> {
        if self.out == 0 {
            return None;
        }
        match self.results.try_recv() {
            Ok(result) => {
                self.out -= 1;
                Some(result)
            }
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => {
                self.is_dead = true;
                None
            }
        }
    }
}
