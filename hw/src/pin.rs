//! Threads of this process and the sets of CPUs that they are held to, by thread number, so that one thread can place another.
//!
//! Not here: which set is right (`scheduler`), and what this process may use at all ([`crate::affinity`]).

use rustix::process::Pid;
use rustix::thread::{
    CpuSet as KernelSet, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity,
};

use crate::cpu_set::CpuSet;

/// A thread of this process, while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thread(Pid);

impl Thread {
    /// The calling one.
    pub fn current() -> Self {
        Self(gettid())
    }

    /// Its number, as in `/proc/self/task`.
    pub fn number(self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    /// The set that it may run on now; `None` where it has ended.
    pub fn cpus(self) -> Option<CpuSet> {
        let set = sched_getaffinity(Some(self.0)).ok()?;
        Some((0..KernelSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
    }

    /// Holds it to `wanted` and returns what the kernel made of that, which may be less; `None` where the kernel refused (none of them
    /// is allowed, or the thread has ended), and it is left as it was.
    pub fn pin(self, wanted: &CpuSet) -> Option<CpuSet> {
        let mut set = KernelSet::new();
        wanted.iter().filter(|cpu| *cpu < KernelSet::MAX_CPU).for_each(|cpu| set.set(cpu));
        sched_setaffinity(Some(self.0), &set).ok()?;
        self.cpus()
    }
}

/// Where the calling thread runs at this moment; it may be another CPU already when this is read.
pub fn current_cpu() -> usize {
    sched_getcpu()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::Thread;
    use crate::cpu_set::CpuSet;

    #[test]
    fn one_thread_places_another() {
        let (tell, told) = channel();
        let (end, ended) = channel::<()>();
        let worker = std::thread::spawn(move || {
            tell.send(Thread::current()).unwrap();
            let _ = ended.recv();
        });
        let thread = told.recv().unwrap();
        let before = thread.cpus().unwrap();
        let last = CpuSet::from_iter(before.iter().last());
        assert_eq!(thread.pin(&last), Some(last.clone()));
        assert_eq!(thread.pin(&CpuSet::from_iter([1000])), None);
        assert_eq!(thread.cpus(), Some(last));
        assert_eq!(thread.pin(&before), Some(before));
        drop(end);
        worker.join().unwrap();
    }
}
