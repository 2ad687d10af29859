//! Calls for a process that is about to lock itself in. Not the locks: those are whose process it is.
#![allow(unsafe_code, reason = "two system calls that no safe wrapper of ours has")]

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

/// Tries to trace another process, for tests of what a confined process may do; what came of it.
#[cfg(feature = "faults")]
pub fn try_to_trace(process: i32) -> io::Result<()> {
    // SAFETY: seizing takes a process by number and no pointer that is followed.
    let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, 0_usize, 0_usize) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
