//! The idle classes of the kernel's processor and disk schedulers, for a thread that nobody waits for.
#![allow(unsafe_code, reason = "two system calls that no safe wrapper of ours has")]

/// What a thread got of what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// `SCHED_IDLE`: it runs where nobody else wants to.
    pub processor: bool,
    /// The idle class of the disk: its requests go last.
    pub disk: bool,
}

/// `ioprio_set(2)`: of a process or thread.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// `ioprio_set(2)`: the class stands above the 13 bits of data.
const IOPRIO_CLASS_IDLE: libc::c_int = 3 << 13;

/// Puts the calling thread into both classes for good; a kernel that refuses one leaves the thread as it was there.
pub fn make_current_thread_idle() -> Idle {
    // SAFETY: all of its fields are integers, for which zero is a value.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local of the right type; 0 is the calling thread.
    let processor = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) } == 0;
    // SAFETY: takes three integers and no pointer; 0 is the calling thread.
    let disk =
        unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE) }
            == 0;
    Idle { processor, disk }
}

#[cfg(test)]
mod tests {
    use super::make_current_thread_idle;

    #[test]
    fn the_kernel_shows_the_idle_class() {
        std::thread::spawn(|| {
            assert!(make_current_thread_idle().processor);
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let after_name = stat.rsplit_once(')').unwrap().1;
            // The 41st field of proc_pid_stat(5) is the policy; the name was the second.
            let policy = after_name.split_ascii_whitespace().nth(41 - 3).unwrap();
            assert_eq!(policy, libc::SCHED_IDLE.to_string());
        })
        .join()
        .unwrap();
    }
}
