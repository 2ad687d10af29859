//! Permits: at most so many pieces of each kind of work at once, first come first served.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hw::cpu::Classes;

use crate::placement::{Work, slots};

/// Hands out permits. Cheap to clone; all clones share the slots.
#[derive(Clone, Debug)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lines: Mutex<[Line; Work::ALL.len()]>,
    changed: Condvar,
}

/// The queue before one kind of work. Tickets are served in order: a waiter runs when its ticket is below
/// `finished + slots`.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    slots: u64,
    taken: u64,
    finished: u64,
}

/// The right to run one piece of work; dropping it admits the next.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    work: Work,
}

impl Admission {
    /// Slots as [`slots`] computes them for these classes.
    pub fn new(classes: &Classes) -> Self {
        let lines =
            Work::ALL.map(|work| Line { slots: slots(work, classes) as u64, ..Line::default() });
        Self { shared: Arc::new(Shared { lines: Mutex::new(lines), changed: Condvar::new() }) }
    }

    /// Waits for a slot of this kind, in order of arrival.
    pub fn acquire(&self, work: Work) -> Permit {
        let index = work as usize;
        let mut lines = self.shared.lock();
        let ticket = lines[index].taken;
        lines[index].taken += 1;
        while ticket >= lines[index].finished + lines[index].slots {
            lines = self.shared.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        Permit { shared: Arc::clone(&self.shared), work }
    }

    /// How many pieces of this kind may run at once.
    pub fn slots(&self, work: Work) -> usize {
        self.shared.lock()[work as usize].slots as usize
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, [Line; Work::ALL.len()]> {
        // The counters are whole between any two statements, so a panic elsewhere does not spoil them.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.lock()[self.work as usize].finished += 1;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hw::cpu::Classes;
    use hw::cpu_set::CpuSet;

    use super::Admission;
    use crate::placement::Work;

    fn admission(cpus: &str) -> Admission {
        let performance = CpuSet::parse(cpus).unwrap();
        let none = CpuSet::default();
        let classes =
            Classes { performance, efficient: none.clone(), low_power: none, source: "test" };
        Admission::new(&classes)
    }

    #[test]
    fn never_more_run_than_there_are_slots_and_all_run() {
        let admission = admission("0-2");
        let (running, peak, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    let _permit = admission.acquire(Work::Unpack);
                    peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(done.into_inner(), 32);
        assert!((1..=3).contains(&peak.into_inner()));
    }

    #[test]
    fn one_kind_does_not_take_the_slots_of_another() {
        let admission = admission("0");
        let _unpack = admission.acquire(Work::Unpack);
        let _background = admission.acquire(Work::Background);
        let _resolve = admission.acquire(Work::Resolve);
    }
}
