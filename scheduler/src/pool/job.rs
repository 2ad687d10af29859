//! The pieces of one job: which is next, how many run, and what became of them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hw::lent::Loan;

use crate::admission::{Grant, Order};
use crate::limits::CANCELLATION_INTERVAL;
use crate::placement::{Lane, Work};

/// How many urgencies there are: the ten priorities.
pub(super) const URGENCIES: usize = 10;

/// The leave to run pieces of a job on a lane.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) job: Arc<Job>,
    pub(super) grant: Grant,
    pub(super) lane: Lane,
}

/// What somebody panicked with.
pub(super) type Panic = Box<dyn Any + Send>;

/// One call of [`super::Pools::run`].
#[derive(Debug)]
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) work: Work,
    loan: Arc<Loan>,
    pieces: Mutex<Pieces>,
    done: Condvar,
    unmanned: AtomicBool,
}

#[derive(Debug)]
struct Pieces {
    next: usize,
    count: usize,
    running: usize,
    panic: Option<Panic>,
}

impl Job {
    pub(super) fn new(loan: Arc<Loan>, (order, work): (Order, Work), count: usize) -> Self {
        let pieces = Mutex::new(Pieces { next: 0, count, running: 0, panic: None });
        let unmanned = AtomicBool::new(false);
        Self { order, work, loan, pieces, done: Condvar::new(), unmanned }
    }

    /// Which queue its tickets go to.
    pub(super) fn urgency(&self) -> usize {
        usize::from(self.order.priority).clamp(1, URGENCIES) - 1
    }

    /// The system has no thread for it.
    pub(super) fn set_unmanned(&self) {
        self.unmanned.store(true, Ordering::Relaxed);
    }

    /// Whether its caller has to do it all.
    pub(super) fn is_unmanned(&self) -> bool {
        self.unmanned.load(Ordering::Relaxed)
    }

    /// Runs the next piece, if there is one.
    pub(super) fn run_one(&self) -> bool {
        let index = {
            let mut pieces = self.lock();
            if pieces.next >= pieces.count {
                return false;
            }
            pieces.running += 1;
            pieces.next += 1;
            pieces.next - 1
        };
        let ran = catch_unwind(AssertUnwindSafe(|| self.loan.call(index)));
        let mut pieces = self.lock();
        pieces.running -= 1;
        if let Err(panic) = ran {
            pieces.next = pieces.count;
            pieces.panic.get_or_insert(panic);
        }
        if pieces.is_done() {
            self.done.notify_all();
        }
        true
    }

    /// Whether no piece is left to begin.
    pub(super) fn is_exhausted(&self) -> bool {
        let pieces = self.lock();
        pieces.next >= pieces.count
    }

    /// Waits for the end of all pieces; gives the first panic. `look` is called now and then meanwhile: when it has nothing, no more
    /// pieces begin.
    pub(super) fn wait_until_done(&self, look: impl Fn() -> Option<()>) -> Option<Panic> {
        let mut pieces = self.lock();
        while !pieces.is_done() {
            let waited = self.done.wait_timeout(pieces, CANCELLATION_INTERVAL);
            let (held, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            pieces = held;
            if timeout.timed_out() && !pieces.is_done() {
                drop(pieces);
                let goes_on = look().is_some();
                pieces = self.lock();
                if !goes_on {
                    pieces.next = pieces.count;
                }
            }
        }
        pieces.panic.take()
    }

    /// Numbers, whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pieces {
    fn is_done(&self) -> bool {
        self.running == 0 && self.next >= self.count
    }
}
