//! The locks of a process that reads archives: afterwards it can compute, read what it was handed, and answer. Not the
//! process: that is [`helper`](super::helper).
//!
//! 1. Limits: memory, addresses, descriptors, and what it may write into files. Processor time is limited from outside, anew
//!    for each archive.
//! 2. Landlock, where the kernel has it: no file, no TCP, no signal to others, no abstract socket. No rule allows anything, since
//!    every descriptor that is needed is handed over.
//! 3. A list of the system calls that readers need; every other one fails. Those that no mistake makes, only somebody who has
//!    taken over (a program, a process, a socket, a look into another process), end the process at once.
//!
//! Each of the last two is enough against files and programs by itself, so a kernel without Landlock is told, and serves. A
//! kernel without filters of system calls does not.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, Ruleset,
    RulesetAttr as _, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::limits;

/// What holds a process that was locked in, beside the filter of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// The version of Landlock's interface; 0 where the kernel has none.
    pub landlock: u8,
}

/// Which of the locks are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// All.
    All,
    /// Landlock without the filter, so that a test sees what it holds by itself.
    #[cfg(feature = "attacks")]
    Landlock,
}

/// Why a process cannot be locked in.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// A limit cannot be set.
    #[error("cannot limit itself: {0}")]
    Limits(#[from] rustix::io::Errno),
    /// Landlock is there and fails.
    #[error("cannot use Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// The kernel takes no filter, or has a processor for which there is none.
    #[error("cannot filter its system calls: {0}")]
    Filter(String),
}

pub(crate) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Locks this process in for good. It must have one thread.
pub fn lock_in(layers: Layers) -> Result<Isolation, IsolationError> {
    limit()?;
    let isolation = Isolation { landlock: restrict()? };
    if layers == Layers::All {
        filter()?;
    }
    Ok(isolation)
}

fn limit() -> Result<(), rustix::io::Errno> {
    let limits = [
        (Resource::Data, limits::UNPACK_MEMORY_BYTES_MAX),
        (Resource::As, limits::UNPACK_ADDRESS_BYTES_MAX),
        (Resource::Fsize, limits::UNPACK_LAST_WORDS_BYTES_MAX),
        (Resource::Nofile, limits::UNPACK_DESCRIPTORS_MAX),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
    ];
    for (resource, max) in limits {
        // Never more than this process was given.
        let given = rustix::process::getrlimit(resource).maximum;
        let max = Some(given.map_or(max, |given| given.min(max)));
        setrlimit(resource, Rlimit { current: max, maximum: max })?;
    }
    // Nobody else of this user attaches to it, and a crash leaves no image.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// The version of the interface that holds; 0 for none.
fn restrict() -> Result<u8, landlock::RulesetError> {
    use ABI::{V1, V2, V3, V4, V5, V6, V7, V8, V9};
    const NEWEST: ABI = V9;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. }
            if status.ruleset != RulesetStatus::NotEnforced =>
        {
            // Its numbers are not told otherwise.
            let known = [V1, V2, V3, V4, V5, V6, V7, V8, V9];
            Ok(known.iter().filter(|version| **version <= effective_abi).count() as u8)
        }
        _ => Ok(0),
    }
}

fn filter() -> Result<(), IsolationError> {
    // The second filter forbids to set another one, so the harsher one goes first; of both the kernel takes the harsher answer.
    let fatal = Rules::from_iter(FATAL.iter().map(|call| (*call, Vec::new())));
    apply(fatal, SeccompAction::Allow, SeccompAction::KillProcess)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    apply(allowed()?, refused, SeccompAction::Allow)
}

/// Sets one filter: what is in `rules` gets `matched`, everything else `otherwise`.
pub(crate) fn apply(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<(), IsolationError> {
    let failed = |error: &dyn std::fmt::Display| IsolationError::Filter(error.to_string());
    let machine = std::env::consts::ARCH.try_into();
    let machine = machine.map_err(|error: seccompiler::BackendError| failed(&error))?;
    let filter = SeccompFilter::new(rules, otherwise, matched, machine);
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(|error: seccompiler::BackendError| failed(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))
}

/// What only somebody does who has taken the process over.
const FATAL: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_add_key,
    libc::SYS_keyctl,
];

/// What readers need: what they were handed, memory, and an end.
const HARMLESS: &[i64] = &[
    libc::SYS_recvmsg,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// With conditions: memory that is nobody's file and never a program, and a signal to itself, which is how `abort` ends.
fn allowed() -> Result<Rules, IsolationError> {
    let masked = |argument, bits: libc::c_int, value: libc::c_int| {
        let op = SeccompCmpOp::MaskedEq(u64::from(bits.unsigned_abs()));
        SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            op,
            u64::from(value.unsigned_abs()),
        )
    };
    let own = u64::from(std::process::id());
    let rules = || -> Result<Rules, seccompiler::BackendError> {
        let no_program = masked(2, libc::PROT_EXEC, 0)?;
        let no_file = masked(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)?;
        let itself = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own)?;
        let conditional = [
            (libc::SYS_mmap, vec![no_program.clone(), no_file]),
            (libc::SYS_mprotect, vec![no_program]),
            (libc::SYS_tgkill, vec![itself]),
        ];
        let mut rules = Rules::from_iter(HARMLESS.iter().map(|call| (*call, Vec::new())));
        for (call, conditions) in conditional {
            rules.insert(call, vec![SeccompRule::new(conditions)?]);
        }
        Ok(rules)
    };
    rules().map_err(|error| IsolationError::Filter(error.to_string()))
}
