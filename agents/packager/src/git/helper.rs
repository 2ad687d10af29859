//! The process between us and git. It leaves the terminal, where nobody is to be asked anything, starts git in its own group of processes, waits for its end, and ends the whole group when whoever
//! started it lets go of its standard input, as that process does by dying.
//!
//! It is the same program with a word of its own as first argument; where git reads from and writes to follow, then the largest file, then
//! the program and its arguments. What git says goes the way that the helper's own words would.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use crate::limits::BUILD_MEMORY_BYTES_MAX;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getpgrp, kill_process_group, pidfd_open, setrlimit,
    setsid,
};

/// The first argument of such a process.
pub const COMMAND: &str = "git-helper";
/// Its exit code where git could not be run at all; git itself never ends with it.
pub(super) const UNABLE: u8 = 121;
/// The same where there is no such program.
pub(super) const MISSING: u8 = 122;
/// Stands in the place of a file: nothing to read, or what is said is not kept.
pub(super) const NO_FILE: &str = "-";

/// Whether this process was started to run git.
pub fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == COMMAND)
}

/// Runs it to its end. For the first line of `main`: this process must own no descriptor and have one thread.
pub fn run() -> ExitCode {
    match supervise() {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => ExitCode::from(MISSING),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(UNABLE)
        }
    }
}

fn supervise() -> std::io::Result<u8> {
    ipc::confined::close_inherited()?;
    setsid()?;
    let bad = || std::io::Error::other("it was not told what to run");
    let words: Vec<String> = std::env::args().skip(2).collect();
    let [input, output, file_bytes_max, program, arguments @ ..] = &words[..] else {
        return Err(bad());
    };
    let bytes = file_bytes_max.parse().map_err(|_| bad())?;
    limit(Resource::Fsize, bytes)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Data, BUILD_MEMORY_BYTES_MAX)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    if input != NO_FILE {
        command.stdin(File::open(input)?);
    }
    if output != NO_FILE {
        command.stdout(new_file(Path::new(output))?);
    }
    wait(command.spawn()?)
}

fn limit(of: Resource, most: u64) -> std::io::Result<()> {
    Ok(setrlimit(of, Rlimit { current: Some(most), maximum: Some(most) })?)
}

fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Its end, or everybody's where nobody waits for it any more.
fn wait(mut child: Child) -> std::io::Result<u8> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("a process without a number"))?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let stdin = std::io::stdin();
    loop {
        // Nothing comes by the input but its end.
        let mut places = [PollFd::new(&handle, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut places, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        if !places[1].revents().is_empty() {
            // This process is one of the group.
            let _ = kill_process_group(getpgrp(), Signal::KILL);
        }
        if !places[0].revents().is_empty() {
            let status = child.wait()?;
            // As shells tell of a signal.
            use std::os::unix::process::ExitStatusExt as _;
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(UNABLE));
        }
    }
}
