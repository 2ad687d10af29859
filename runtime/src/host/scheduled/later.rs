//! Jobs that nobody waits for, done one after the other when background work may run, by a thread that is there only while there are any.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agents_contract::Job;
use scheduler::admission::Order;
use scheduler::placement::Work;
use scheduler::pool::Pools;
use tracing::warn;

use crate::limits::LATER_JOBS_MAX;

/// The jobs. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Later(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Whether a thread is there, which looks again before it ends.
    is_served: bool,
    closed: bool,
}

impl Later {
    /// Takes a job; gives it back where there is no place for it, or no thread to be had.
    pub(super) fn put(&self, job: Job, pools: &Arc<Pools>) -> Result<(), Job> {
        let mut state = self.lock();
        if state.closed || state.jobs.len() >= LATER_JOBS_MAX {
            return Err(job);
        }
        if !state.is_served {
            let (later, pools) = (self.clone(), Arc::clone(pools));
            let serve = move || later.serve(&pools);
            let named = std::thread::Builder::new().name("later".to_owned());
            if named.spawn(serve).is_err() {
                return Err(job);
            }
            state.is_served = true;
        }
        state.jobs.push_back(job);
        Ok(())
    }

    /// Leaves undone what was not begun.
    pub(super) fn close(&self) {
        let left = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(left);
    }

    fn serve(&self, pools: &Pools) {
        let order = Order { requester: Arc::from("later"), priority: 1, waited: Duration::ZERO };
        while let Some(job) = self.take() {
            let job = Mutex::new(Some(job));
            let piece = |_: usize| {
                let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(job) = job {
                    job();
                }
            };
            let is_wanted = || !self.lock().closed;
            let run = || pools.run((&order, Work::Background), 1, &is_wanted, &piece);
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                warn!("work in the background ended in a panic");
            }
        }
    }

    /// The next one; nothing where the thread ends.
    fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        let job = state.jobs.pop_front();
        state.is_served = job.is_some();
        job
    }

    /// No code of anybody else runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Later {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Later({} jobs)", self.lock().jobs.len())
    }
}
