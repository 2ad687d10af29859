//! A host that counts: bounded permits for each kind of work, no opinion about cores. The
//! scheduler's host takes its place where there is one.

use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::SystemTime;

use agents_contract::{Host, Permit, Work};

/// Downloads at once: they wait for a network, not for a processor.
const DOWNLOADS_MAX: usize = 16;

/// Places for each kind of work.
#[derive(Debug)]
pub(crate) struct PlainHost {
    resolve: Arc<Places>,
    download: Arc<Places>,
    unpack: Arc<Places>,
    background: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    total: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

struct Held(Arc<Places>);

impl PlainHost {
    /// As many places for computing as there are processors.
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            resolve: Places::new(1),
            download: Places::new(DOWNLOADS_MAX),
            unpack: Places::new(processors),
            background: Places::new(1),
        }
    }

    fn places(&self, work: Work) -> &Arc<Places> {
        match work {
            Work::Resolve => &self.resolve,
            Work::Download => &self.download,
            Work::Unpack => &self.unpack,
            Work::Background => &self.background,
        }
    }
}

impl Host for PlainHost {
    fn permit(&self, work: Work) -> Permit {
        let places = self.places(work);
        let free = places.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = places.freed.wait_while(free, |free| *free == 0);
        *waited.unwrap_or_else(PoisonError::into_inner) -= 1;
        Permit::new(Held(Arc::clone(places)))
    }

    fn parallelism(&self, work: Work) -> usize {
        self.places(work).total
    }

    /// Any core will do.
    fn place_current_thread(&self, _work: Work) {}

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl Places {
    fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, free: Mutex::new(total), freed: Condvar::new() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_that_is_given_back_lets_the_next_one_run() {
        let host = Arc::new(PlainHost::new());
        let first = host.permit(Work::Resolve);
        let waiting = Arc::clone(&host);
        let second = std::thread::spawn(move || drop(waiting.permit(Work::Resolve)));
        drop(first);
        second.join().unwrap();
        assert_eq!(*host.resolve.free.lock().unwrap(), 1);
    }
}
