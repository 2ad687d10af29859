//! Calls for a process that is about to lock itself in. Not the locks: those are whose process it is.
#![allow(unsafe_code, reason = "system calls that no safe wrapper of ours has")]

use std::ffi::CStr;
use std::io;

/// Closes every descriptor from 3 on: what whoever started this process left open without knowing, or did not mark to be
/// closed. For the first line of a program, while nothing in it owns a descriptor.
///
/// # Errors
/// Where the kernel does not know the call (before 5.9) or a filter forbids it.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: takes integers and no pointer. No value of this program owns one of these descriptors yet, as the caller
    // promises; one that did would find its number used by somebody else.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes this process into name spaces of its own: of users (in which it is who it was), of mounts, of networks (in which there is
/// none), of System V's objects, and, from the next process that it starts on, of processes: that one's end is the end of all.
///
/// # Errors
/// Where the kernel, or who confined this process, does not let it. It may be in them nevertheless, with nobody to be there, and should
/// end.
pub fn enter_own_namespaces() -> io::Result<()> {
    use rustix::thread::UnshareFlags as Flags;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let all = Flags::NEWUSER | Flags::NEWNS | Flags::NEWPID | Flags::NEWNET | Flags::NEWIPC;
    // SAFETY: descriptors stay shared: `FILES` is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(all) }?;
    let (user, group) = (user.as_raw(), group.as_raw());
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// What `mount_setattr` is told: see its manual page.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    namespace: u64,
}

/// Makes everything that is mounted read-only for this process and those that it starts, but for one directory. For a process that has a
/// name space of mounts to itself; everybody else's mounts stay as they are.
///
/// # Errors
/// Where the kernel does not know the calls (before 5.12) or does not let this process make them.
pub fn make_read_only_except(directory: &CStr) -> io::Result<()> {
    let root = c"/";
    let none = std::ptr::null::<libc::c_char>();
    let mount = |from: *const libc::c_char, at: &CStr, flags: libc::c_ulong| -> io::Result<()> {
        // SAFETY: both paths end with a zero and outlive the call; no type and no data are handed over, which these kinds of
        // mounting do not look at.
        let done = unsafe { libc::mount(from, at.as_ptr(), none, flags, none.cast()) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    let change = |at: &CStr, flags: libc::c_int, set: u64, clear: u64| -> io::Result<()> {
        let attributes = MountAttributes { set, clear, propagation: 0, namespace: 0 };
        // SAFETY: the path ends with a zero, and the structure is the first version of what the kernel reads, whose size is told.
        let done = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                at.as_ptr(),
                flags,
                &raw const attributes,
                size_of::<MountAttributes>(),
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    mount(none, root, libc::MS_REC | libc::MS_PRIVATE)?;
    mount(directory.as_ptr(), directory, libc::MS_BIND)?;
    change(root, libc::AT_RECURSIVE, libc::MOUNT_ATTR_RDONLY, 0)?;
    change(directory, 0, 0, libc::MOUNT_ATTR_RDONLY)
}

/// Shows a directory at another place, too, in the name space of this process and of those that it starts: there it hides what lies there for
/// everybody else. For what is to learn a path that is not that of the copy in which it works.
///
/// # Errors
/// Where one of the two is not there, or who confined this process does not let it mount.
pub fn show_at(directory: &CStr, place: &CStr) -> io::Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: both paths end with a zero and outlive the call; no type and no data are handed over, which this kind of mounting does
    // not look at.
    let done = unsafe {
        libc::mount(directory.as_ptr(), place.as_ptr(), none, libc::MS_BIND, none.cast())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Tries to trace another process, for tests of what a confined process may do; what came of it.
#[cfg(feature = "faults")]
pub fn try_to_trace(process: i32) -> io::Result<()> {
    // SAFETY: seizing takes a process by number and no pointer that is followed.
    let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, 0_usize, 0_usize) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
