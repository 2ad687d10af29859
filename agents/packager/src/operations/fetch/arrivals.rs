//! What has been fetched, on its way to the workers that unpack it.

use std::collections::BinaryHeap;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agents_contract::{Cancellation, Crew};

use crate::error::{Error, Result};

/// What arrives, unpacked by several threads side by side. Each waits until something is there and then for as many workers, of whom each
/// takes the largest of what is there by then. So a large archive holds up nobody, none is left to the end, nobody holds a slot while nothing
/// is there, and whatever is there has all workers.
pub(super) struct Arrivals<'a> {
    arrivals: Mutex<Receiver<(u64, usize)>>,
    here: Mutex<Here>,
    crew: &'a dyn Crew,
    /// What the rest is fetched under: of no use after a failure.
    going: Cancellation,
    unpack: &'a (dyn Fn(usize) -> Result<()> + Sync),
    failure: Mutex<Option<Error>>,
}

/// What has arrived and nobody has taken.
#[derive(Default)]
struct Here {
    /// By size.
    archives: BinaryHeap<(u64, usize)>,
    /// For how many of them workers were asked for that have not come.
    promised: usize,
}

impl Here {
    /// How many nobody was asked for yet; somebody is, now.
    fn promise(&mut self) -> usize {
        let free = self.archives.len().saturating_sub(self.promised);
        self.promised += free;
        free
    }

    fn take(&mut self) -> Option<usize> {
        self.promised = self.promised.saturating_sub(1);
        self.archives.pop().map(|(_, index)| index)
    }
}

impl<'a> Arrivals<'a> {
    pub(super) fn new(
        arrivals: Receiver<(u64, usize)>,
        crew: &'a dyn Crew,
        going: Cancellation,
        unpack: &'a (dyn Fn(usize) -> Result<()> + Sync),
    ) -> Self {
        let (arrivals, here, failure) = (Mutex::new(arrivals), Mutex::default(), Mutex::default());
        Self { arrivals, here, crew, going, unpack, failure }
    }

    /// Until nothing comes any more, or something has failed.
    pub(super) fn serve(&self) {
        // A piece that panics is a failure, too; where nothing comes any more there is nothing to end.
        let _ending = Ending(&self.going);
        while let Some(count) = self.wait() {
            self.crew.run(count, &|_| {
                let largest = lock(&self.here).take();
                let Some(index) = largest.filter(|_| !self.has_failed()) else { return };
                if let Err(error) = (self.unpack)(index) {
                    lock(&self.failure).get_or_insert(error);
                    self.going.cancel();
                }
            });
        }
    }

    /// Waits until some are there that nobody else is about to take, and says how many; nothing where none will be.
    fn wait(&self) -> Option<usize> {
        let arrivals = lock(&self.arrivals);
        loop {
            if self.has_failed() {
                return None;
            }
            {
                let mut here = lock(&self.here);
                here.archives.extend(arrivals.try_iter());
                let count = here.promise();
                if count > 0 {
                    return Some(count);
                }
            }
            let first = arrivals.recv().ok()?;
            lock(&self.here).archives.push(first);
        }
    }

    fn has_failed(&self) -> bool {
        lock(&self.failure).is_some()
    }

    /// The first failure.
    pub(super) fn end(self) -> Result<()> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Dropped, also by a panic, it ends what is still under way.
struct Ending<'a>(&'a Cancellation);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What it guards is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{channel, sync_channel};
    use std::time::Duration;

    use agents_contract::{Threads, Wake};

    use super::*;
    use crate::error::Kind;

    /// Only a hang reaches it.
    const WATCHDOG: Duration = Duration::from_secs(60);

    /// Two threads that unpack what the caller sends, and what came of it.
    fn unpacked(
        unpack: &(dyn Fn(usize) -> Result<()> + Sync),
        send: impl FnOnce(std::sync::mpsc::SyncSender<(u64, usize)>, &Cancellation),
    ) -> Result<()> {
        let (arrived, arrivals) = sync_channel(8);
        let going = Cancellation::until(None);
        let unpacking = Arrivals::new(arrivals, &Threads(1), going.clone(), unpack);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| unpacking.serve());
            }
            send(arrived, &going);
        });
        unpacking.end()
    }

    #[test]
    fn what_takes_long_does_not_hold_up_what_comes_after_it() {
        let (began, has_begun) = channel();
        let (ended, has_ended) = channel();
        let has_ended = Mutex::new(has_ended);
        let unpack = |index| {
            if index == 0 {
                began.send(()).expect("heard");
                let others = lock(&has_ended);
                (1..4).for_each(|_| assert!(others.recv_timeout(WATCHDOG).is_ok()));
            } else {
                ended.send(index).expect("heard");
            }
            Ok(())
        };
        let came = unpacked(&unpack, |arrived, _| {
            arrived.send((1, 0)).expect("a place");
            has_begun.recv_timeout(WATCHDOG).expect("begun");
            (1..4).for_each(|index| arrived.send((1, index)).expect("a place"));
        });
        assert_eq!(came, Ok(()));
    }

    #[test]
    fn the_largest_of_what_is_there_is_unpacked_first() {
        let order = Mutex::new(Vec::new());
        let (arrived, arrivals) = sync_channel(8);
        let unpack = |index| {
            lock(&order).push(index);
            Ok(())
        };
        for (bytes, index) in [(5, 0), (9, 1), (1, 2), (7, 3)] {
            arrived.send((bytes, index)).expect("a place");
        }
        drop(arrived);
        let going = Cancellation::until(None);
        let unpacking = Arrivals::new(arrivals, &Threads(1), going, &unpack);
        unpacking.serve();
        assert_eq!(unpacking.end(), Ok(()));
        assert_eq!(*lock(&order), [1, 3, 0, 2]);
    }

    #[test]
    fn whatever_is_there_has_all_workers() {
        let (begun, all) = (Mutex::new(0), std::sync::Condvar::new());
        let unpack = |_| {
            let mut begun = lock(&begun);
            *begun += 1;
            all.notify_all();
            let waited = all.wait_timeout_while(begun, WATCHDOG, |begun| *begun < 4);
            assert!(!waited.expect("no panic").1.timed_out(), "not all of them at once");
            Ok(())
        };
        let (arrived, arrivals) = sync_channel(8);
        (0..4).for_each(|index| arrived.send((1, index)).expect("a place"));
        drop(arrived);
        let unpacking = Arrivals::new(arrivals, &Threads(4), Cancellation::until(None), &unpack);
        // One thread has them unpacked by four workers.
        unpacking.serve();
        assert_eq!(unpacking.end(), Ok(()));
    }

    #[test]
    fn a_failure_ends_what_is_still_fetched_and_is_what_is_told() {
        let refused = || Error::new(Kind::Verification, "archive-refused", "no archive");
        let unpack = |index| if index == 0 { Err(refused()) } else { Ok(()) };
        let came = unpacked(&unpack, |arrived, going| {
            let (ended, has_ended) = channel();
            let wake: Wake = Arc::new(move || ended.send(()).unwrap_or_default());
            let _listening = going.listen(&wake);
            arrived.send((1, 0)).expect("a place");
            has_ended.recv_timeout(WATCHDOG).expect("cancelled");
        });
        assert_eq!(came, Err(refused()));
    }
}
