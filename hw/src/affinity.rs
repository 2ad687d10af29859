//! The CPUs that this process may use, and pinning to a set of them.
//!
//! The allowed set is read before anything pins: afterwards the kernel only tells the pinned set. The kernel also
//! cuts a wish silently to what is allowed, so the mask is always read back.

use rustix::thread::{CpuSet as KernelSet, sched_getaffinity, sched_setaffinity};

use crate::cpu;
use crate::cpu_set::CpuSet;
use crate::root::Root;

/// The CPUs that may be used: affinity of the calling thread and online on this machine; only the online ones on a
/// tree that stands in for it. Never empty: CPU 0 where nothing can be read.
pub fn allowed(root: &Root) -> CpuSet {
    let online = cpu::online(root);
    let allowed = match (root.is_machine(), current()) {
        (true, Some(current)) if online.is_empty() => current,
        (true, Some(current)) => current.intersection(&online),
        _ => online,
    };
    if allowed.is_empty() { CpuSet::from_iter([0]) } else { allowed }
}

/// The set that the calling thread may run on now.
pub fn current() -> Option<CpuSet> {
    let set = sched_getaffinity(None).ok()?;
    Some((0..KernelSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Restricts the calling thread to `wanted` and returns what the kernel made of it; `None` where it refused (no CPU
/// of the set is allowed), with the thread left as it was.
pub fn pin_current_thread(wanted: &CpuSet) -> Option<CpuSet> {
    let mut set = KernelSet::new();
    wanted.iter().filter(|cpu| *cpu < KernelSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    sched_setaffinity(None, &set).ok()?;
    current()
}

/// Pins the calling thread to one CPU, for a thread that polls; whether the kernel did it.
pub fn pin_polling_thread(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
        && current().is_some_and(|set| set.len() == 1 && set.contains(cpu))
}

#[cfg(test)]
mod tests {
    use super::{allowed, current, pin_current_thread, pin_polling_thread};
    use crate::cpu_set::CpuSet;
    use crate::root::Root;

    #[test]
    fn a_thread_is_pinned_where_it_is_allowed_and_nowhere_else() {
        std::thread::spawn(|| {
            let before = allowed(&Root::machine());
            let last = before.iter().last().unwrap();
            assert!(pin_polling_thread(last));
            assert_eq!(current().unwrap().to_string(), last.to_string());
            assert_eq!(pin_current_thread(&CpuSet::from_iter([1000])), None);
            assert_eq!(pin_current_thread(&before), Some(before));
        })
        .join()
        .unwrap();
    }
}
