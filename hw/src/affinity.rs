//! The CPUs that this process may use, and pinning to a set of them.
//!
//! The allowed set is read before anything pins: afterwards the kernel only tells the pinned set. The kernel also
//! cuts a wish silently to what is allowed, so the mask is always read back.

use rustix::thread::{CpuSet as KernelSet, sched_getaffinity, sched_setaffinity};

use crate::allowed::Allowed;
use crate::cpu_set::CpuSet;
use crate::root::Root;

/// The CPUs that may be used, as [`Allowed::read`] has them. Never empty.
pub fn allowed(root: &Root) -> CpuSet {
    Allowed::read(root).cpus
}

/// The set that the calling thread may run on now. Where the machine has more CPUs than the system call's usual mask
/// holds, the kernel's own list is read.
pub fn current() -> Option<CpuSet> {
    match sched_getaffinity(None) {
        Ok(set) => Some((0..KernelSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()),
        Err(_) => listed(&Root::machine().read("proc/thread-self/status")?),
    }
}

/// The set in the text of `/proc/PID/status`.
fn listed(status: &str) -> Option<CpuSet> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    CpuSet::parse(list).filter(|set| !set.is_empty())
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
    use super::{allowed, current, listed, pin_current_thread, pin_polling_thread};
    use crate::cpu_set::CpuSet;
    use crate::root::Root;

    #[test]
    fn the_list_of_the_kernel_says_what_the_system_call_says() {
        let status = Root::machine().read("proc/thread-self/status").unwrap();
        assert_eq!(listed(&status), current());
        let large =
            "Name:\tbolide\nCpus_allowed:\tff\nCpus_allowed_list:\t3,1020-1300\nMems_allowed:\t1";
        assert_eq!(listed(large).unwrap().to_string(), "3,1020-1300");
        assert_eq!(listed("Cpus_allowed_list:\t\n"), None);
        assert_eq!(listed("Cpus_allowed_list:\tx\n"), None);
    }

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
