//! Work in pieces, and who does them: the host's workers, or plain threads where there is no host.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Cancellation, Host};

/// The kinds of work that are placed and admitted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Solving; latency matters, somebody waits.
    Resolve,
    /// Hashing, inflating and writing files, in short pieces.
    Unpack,
    /// Looking through all that is installed.
    Scan,
    /// Nobody waits for it.
    Background,
}

/// What begins with one leave and lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Undertaking {
    /// Something large, of many pieces: it is put off while the machine is hot, for a bounded time.
    Heavy,
    /// One file from a network. Who has none under way may have one beside all those of others, within a bound of its own.
    Download,
}

/// Why an undertaking cannot begin at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// As many as may be are under way.
    Busy,
    /// The machine is too hot.
    Heat,
    /// How hot it is, is not known any more.
    Blind,
}

/// What somebody who has to wait is told, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For what.
    pub obstacle: Obstacle,
    /// For how long at most from when it was asked for, where that is bounded; then it begins, whatever else is under way.
    pub at_most: Option<Duration>,
}

/// Whose work it is, and how urgent.
#[derive(Clone, Debug)]
pub struct Order {
    /// Requesters take turns.
    pub requester: Arc<str>,
    /// 1 (least) to 10 (most).
    pub priority: u8,
    /// Whether it is still wanted. What is not is not begun.
    pub cancellation: Cancellation,
    /// When it was first asked for, where it is asked for again: the longest wait counts from then.
    pub asked_at: Option<Instant>,
}

impl Default for Order {
    /// Nobody's, of middle priority, always wanted.
    fn default() -> Self {
        Self {
            requester: Arc::from(""),
            priority: 5,
            cancellation: Cancellation::NEVER.clone(),
            asked_at: None,
        }
    }
}

/// Somebody who does work in pieces.
pub trait Crew: Debug + Send + Sync {
    /// Calls `piece` once for each number below `count`, several at once where that is possible, and returns when all have ended.
    /// Where the work is not wanted any more, the rest is left out: whoever asked has to look.
    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync));
}

/// The host's workers for one kind of work.
#[derive(Clone, Copy)]
pub struct Hands<'a> {
    /// Whose.
    pub host: &'a dyn Host,
    /// For whom.
    pub order: &'a Order,
    /// Which kind.
    pub work: Work,
}

impl Debug for Hands<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Hands({:?})", self.work)
    }
}

impl Crew for Hands<'_> {
    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        self.host.run(self.order, self.work, count, piece);
    }
}

/// The same for whoever outlives the one who hired them: a task of its own.
#[derive(Clone)]
pub struct Hired {
    /// Whose.
    pub host: Arc<dyn Host>,
    /// For whom.
    pub order: Order,
    /// Which kind.
    pub work: Work,
}

impl Debug for Hired {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Hired({:?})", self.work)
    }
}

impl Crew for Hired {
    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        self.host.run(&self.order, self.work, count, piece);
    }
}

/// Has `work` done once by `crew`, and gives what came of it; nothing where it was not wanted any more.
pub fn once<T: Send>(crew: &dyn Crew, work: impl FnOnce() -> T + Send) -> Option<T> {
    let (work, got) = (Mutex::new(Some(work)), Mutex::new(None));
    crew.run(1, &|_| {
        let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let came = work.map(|work| work());
        *got.lock().unwrap_or_else(PoisonError::into_inner) = came;
    });
    got.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// So many threads of one's own for each call; the caller is one of them.
#[derive(Clone, Copy, Debug)]
pub struct Threads(pub usize);

impl Crew for Threads {
    fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            // The threads are joined, which orders everything that the pieces did.
            while let index = next.fetch_add(1, Ordering::Relaxed)
                && index < count
            {
                piece(index);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.0.min(count) {
                scope.spawn(work);
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_once_comes_back_and_what_is_left_out_does_not() {
        #[derive(Debug)]
        struct Idle;
        impl Crew for Idle {
            fn run(&self, _: usize, _: &(dyn Fn(usize) + Sync)) {}
        }
        let text = String::from("given away");
        assert_eq!(once(&Threads(2), move || text.len()), Some(10));
        assert_eq!(once(&Idle, || 7), None);
    }

    #[test]
    fn threads_do_every_piece_once() {
        for (threads, count) in [(1, 5), (4, 2), (3, 100), (2, 0)] {
            let counts: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            Threads(threads).run(count, &|index| {
                counts[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }
}
