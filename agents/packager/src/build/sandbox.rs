//! The locks of a build. Not its supervision: that is [`helper`](super::helper)'s.
//!
//! 1. Limits of the kernel for each process: memory, processor time, size of a file.
//! 2. No capability, and no way to get one.
//! 3. Landlock: the system's programs, libraries and headers, the interpreter and the environment of the build may be read and run; the
//!    build's own directory may be written, at the place where its copy of a tree is shown, too; no other file can be opened. No TCP, no signal to others, no abstract socket.
//! 4. A filter of system calls: no socket, no look into another process, no name space, no mount, nothing of the kernel's own.
//!    Unlike a reader of archives a build may use what it does not forbid, since compilers are of many kinds.
//!
//! Landlock does not know changes of modes, owners, times and attributes: in the name space of mounts everything but the build's directory
//! is read-only. Without name spaces of its own nothing is built; whoever forbids them is named.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::{Bounds, Order};
use crate::limits;
use crate::unpack::isolation::{Rules, apply};

/// What of the system may be read and run: no home, no `/var`, no `/run`, no `/proc`.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/group",
    "/etc/debian_version",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/filesystems",
];

/// Devices that hold nothing.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Settings of the kernel's that take name spaces from users, and the value with which they do.
const FORBIDDING: &[(&str, &str, &str)] = &[
    ("user.max_user_namespaces", "0", "set it to 10000"),
    ("user.max_mnt_namespaces", "0", "set it to 10000"),
    ("user.max_pid_namespaces", "0", "set it to 10000"),
    ("user.max_net_namespaces", "0", "set it to 10000"),
    ("user.max_ipc_namespaces", "0", "set it to 10000"),
    ("kernel.unprivileged_userns_clone", "0", "set it to 1"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "give this program a profile of AppArmor with `userns,`, or set it to 0",
    ),
];

/// Goes into name spaces in which there is no network and nothing but the build's directory can be changed.
pub(super) fn enter(order: &Order) -> Result<(), String> {
    let text = |path: &std::path::Path| {
        CString::new(path.as_os_str().as_bytes())
            .map_err(|_| "the directory of the build has a zero in its name".to_owned())
    };
    let work = text(&order.work)?;
    ipc::confined::enter_own_namespaces().map_err(|error| {
        let why = forbidden_by(&|name| std::fs::read_to_string(name).ok());
        format!("it can have no name spaces of its own ({error}): {why}")
    })?;
    ipc::confined::make_read_only_except(&work).map_err(|error| {
        format!(
            "what is mounted cannot be made read-only for it ({error}): that takes Linux 5.12, and a container or a security \
             module that lets programs mount in name spaces of their own"
        )
    })?;
    let Some(shown) = &order.shown else { return Ok(()) };
    ipc::confined::show_at(&text(&order.directory)?, &text(shown)?).map_err(|error| {
        format!("the copy that is built cannot be shown at `{}` ({error})", shown.display())
    })
}

/// Who takes name spaces from this user, and what to do about it.
fn forbidden_by(read: &dyn Fn(&str) -> Option<String>) -> String {
    let found = FORBIDDING.iter().find(|(name, value, _)| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        read(&path).is_some_and(|text| text.trim() == *value)
    });
    match found {
        Some((name, value, remedy)) => format!("`{name}` is {value} here; {remedy}"),
        None => "no setting of the kernel's forbids them, so the container or the service in which this runs does \
                 (for Docker, its seccomp profile and AppArmor's); allow user name spaces there, or build outside of it"
            .to_owned(),
    }
}

/// Locks this process in, and what it becomes. It must have one thread.
pub(super) fn lock_in(order: &Order, bounds: &Bounds) -> Result<(), String> {
    limit(bounds).map_err(|error| format!("cannot limit itself: {error}"))?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, none).map_err(|error| format!("cannot give up rights: {error}"))?;
    let holds = restrict(order).map_err(|error| format!("Landlock cannot be used: {error}"))?;
    if !holds {
        return Err("the kernel has no Landlock (5.13, and switched on)".to_owned());
    }
    filter().map_err(|error| format!("its system calls cannot be filtered: {error}"))
}

fn limit(bounds: &Bounds) -> Result<(), rustix::io::Errno> {
    let limits = [
        (Resource::Data, bounds.memory_bytes),
        (Resource::As, bounds.memory_bytes.saturating_mul(limits::BUILD_ADDRESSES_PER_BYTE)),
        (Resource::Cpu, bounds.processor_seconds),
        (Resource::Fsize, bounds.file_bytes),
        (Resource::Nofile, limits::BUILD_DESCRIPTORS_MAX),
        (Resource::Core, 0),
    ];
    for (resource, max) in limits {
        let given = rustix::process::getrlimit(resource).maximum;
        let max = Some(given.map_or(max, |given| given.min(max)));
        setrlimit(resource, Rlimit { current: max, maximum: max })?;
    }
    Ok(())
}

/// Whether something holds: an old kernel has none of it.
fn restrict(order: &Order) -> Result<bool, landlock::RulesetError> {
    const NEWEST: ABI = ABI::V9;
    let system = SYSTEM.iter().map(std::path::Path::new);
    let readable = system.chain(order.readable.iter().map(|path| path.as_path()));
    let devices = AccessFs::ReadFile | AccessFs::WriteFile;
    let no_devices = AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(DEVICES, devices))?
        // A path below what is shown leads to where it is shown, not to the directory of the build.
        .add_rules(path_beneath_rules(
            std::iter::once(&order.work).chain(&order.shown),
            no_devices,
        ))?
        .restrict_self()?;
    let is_there = matches!(status.landlock, LandlockStatus::Available { .. });
    Ok(is_there && status.ruleset != RulesetStatus::NotEnforced)
}

/// What the x32 way into the kernel adds to a call's number; a filter has to name both.
const X32: i64 = 0x4000_0000;

fn filter() -> Result<(), String> {
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let both = |calls: &[i64]| -> Rules {
        let own = calls.iter().map(|call| (*call, Vec::new()));
        let other = calls.iter().map(|call| (*call | X32, Vec::new()));
        own.chain(
            if cfg!(target_arch = "x86_64") { Some(other) } else { None }.into_iter().flatten(),
        )
        .collect()
    };
    let set = |rules: Rules, matched: SeccompAction| {
        apply(rules, SeccompAction::Allow, matched).map_err(|error| error.to_string())
    };
    // Its flags lie in memory, where no filter looks; who is told that there is no such call makes the older one.
    set(both(&[libc::SYS_clone3]), SeccompAction::Errno(libc::ENOSYS as u32))?;
    let mut rules = both(FORBIDDEN);
    if cfg!(target_arch = "x86_64") {
        rules.extend(X32_ONLY.iter().map(|call| (*call | X32, Vec::new())));
    }
    for (call, told) in by_arguments() {
        let told: Result<Vec<_>, _> = told.into_iter().map(condition).collect();
        let told = told.map_err(|error| error.to_string())?;
        if cfg!(target_arch = "x86_64") {
            rules.insert(call | X32, told.clone());
        }
        rules.insert(call, told);
    }
    set(rules, refused)
}

/// One argument, how it is compared, and with what.
type Told = (u8, SeccompCmpOp, u64);

/// All of them are integers of 32 bits for the kernel.
fn condition((argument, op, value): Told) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
}

/// Calls that are refused where one of these holds.
fn by_arguments() -> [(i64, Vec<Told>); 4] {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let name_spaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let bits = (0..32).map(|place| 1_u64 << place).filter(|bit| name_spaces as u64 & bit != 0);
    let with_name_space = bits.map(|bit| (0, MaskedEq(bit), bit)).collect();
    // Of its kinds only a stream (1) is between two ends and nobody else: a datagram may be sent to any path of the machine.
    let no_stream = [(1, 0), (2, 2), (4, 4), (8, 8)];
    let no_stream = no_stream.into_iter().map(|(bit, is)| (1, MaskedEq(bit), is));
    let no_pair = std::iter::once((0, Ne, libc::AF_UNIX as u64)).chain(no_stream).collect();
    [
        (libc::SYS_clone, with_name_space),
        (libc::SYS_socketpair, no_pair),
        // The limits of others.
        (libc::SYS_prlimit64, vec![(0, Ne, 0)]),
        // That it ends with its helper.
        (libc::SYS_prctl, vec![(0, Eq, libc::PR_SET_PDEATHSIG as u64)]),
    ]
}

/// What no build needs: the network, other processes, and the kernel's own matters.
const FORBIDDEN: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Who watches a path learns what others do there, whether or not he may open it.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    // Files without a place are counted nowhere; memfd_secret has a name in the library for some processors only.
    libc::SYS_memfd_create,
    447,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_personality,
    // Queues and memory of System V outlive whoever made them.
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_shmget,
    libc::SYS_mq_open,
    // How another process is scheduled.
    libc::SYS_setpriority,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_ioprio_set,
];

/// Numbers of their own that the x32 way has for some of them: ptrace, process_vm_readv and process_vm_writev.
const X32_ONLY: &[i64] = &[521, 539, 540];

#[cfg(test)]
mod tests {
    use super::forbidden_by;

    #[test]
    fn the_setting_that_forbids_name_spaces_is_named_with_what_to_do() {
        let with = |name: &'static str, value: &'static str| {
            forbidden_by(&move |path| (path == name).then(|| value.to_owned()))
        };
        let users = with("/proc/sys/user/max_user_namespaces", "0\n");
        assert!(users.contains("`user.max_user_namespaces` is 0 here; set it"), "{users}");
        let ubuntu = with("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        assert!(ubuntu.contains("apparmor_restrict_unprivileged_userns` is 1"), "{ubuntu}");
        assert!(ubuntu.contains("profile"), "{ubuntu}");
        let container = with("/proc/sys/user/max_user_namespaces", "96364\n");
        assert!(container.contains("container"), "{container}");
    }
}
