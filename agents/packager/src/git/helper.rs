//! The process between us and git. It leaves the terminal, where nobody is to be asked anything, starts git in its own group of processes,
//! waits for its end, and ends the whole group when whoever started it lets go of its standard input, as that process does by dying, and
//! when a directory takes more room than it may.
//!
//! It is the same program with a word of its own as first argument; where git reads from and writes to follow, then the largest file, the
//! memory of each process, that directory with its bound, then the program and its arguments. What git says goes the way that the helper's own words would.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::limits::{GIT_LOOK_INTERVAL, GIT_LOOK_PAUSE_FACTOR, GIT_PLACE_FILES_MAX};
use super::size;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
/// Stands in the place of a file or a directory: nothing to read, what is said is not kept, nothing to look at.
pub(super) const NO_FILE: &str = "-";

/// Whether this process was started to run git.
pub fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == COMMAND)
}

/// Runs it to its end. For the first line of `main`: this process must own no descriptor and have one thread.
pub fn run() -> ExitCode {
    match supervise() {
        Ok(code) => ExitCode::from(code),
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
    let [input, output, file_bytes_max, memory_bytes_max, place, place_bytes_max, more @ ..] =
        &words[..]
    else {
        return Err(bad());
    };
    let [program, arguments @ ..] = more else {
        return Err(bad());
    };
    let number = |text: &String| text.parse::<u64>().map_err(|_| bad());
    let place = (place != NO_FILE).then_some(Path::new(place));
    let place_bytes_max = number(place_bytes_max)?;
    limit(Resource::Fsize, number(file_bytes_max)?)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Data, number(memory_bytes_max)?)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    if input != NO_FILE {
        command.stdin(File::open(input)?);
    }
    if output != NO_FILE {
        command.stdout(new_file(Path::new(output))?);
    }
    let child = match command.spawn() {
        // Whatever else is missing is no program.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(MISSING),
        spawned => spawned?,
    };
    wait(child, place.map(|place| Watch::of(place, place_bytes_max)))
}

fn limit(of: Resource, most: u64) -> std::io::Result<()> {
    Ok(setrlimit(of, Rlimit { current: Some(most), maximum: Some(most) })?)
}

fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A directory that is looked at.
struct Watch<'w> {
    place: &'w Path,
    bytes_max: u64,
    next: Instant,
}

impl<'w> Watch<'w> {
    fn of(place: &'w Path, bytes_max: u64) -> Self {
        Self { place, bytes_max, next: Instant::now() + GIT_LOOK_INTERVAL }
    }

    /// Until it is looked at again; nothing where it takes too much room.
    fn look(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if now < self.next {
            return Some(self.next - now);
        }
        let size = size::of(self.place, GIT_PLACE_FILES_MAX);
        let pause = GIT_LOOK_INTERVAL.max(now.elapsed() * GIT_LOOK_PAUSE_FACTOR);
        self.next = Instant::now() + pause;
        let fits = size.bytes <= self.bytes_max && size.files <= GIT_PLACE_FILES_MAX;
        fits.then_some(pause)
    }
}

/// Its end, or everybody's where nobody waits for it any more or too much came.
fn wait(mut child: Child, mut watch: Option<Watch<'_>>) -> std::io::Result<u8> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("a process without a number"))?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let stdin = std::io::stdin();
    loop {
        // Nothing comes by the input but its end.
        let mut places = [PollFd::new(&handle, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
        let pause = watch.as_mut().map(Watch::look);
        let time = match pause.flatten() {
            Some(pause) => Some(Timespec::try_from(pause).map_err(std::io::Error::other)?),
            None => None,
        };
        let is_too_much = pause == Some(None);
        if !is_too_much {
            match poll(&mut places, time.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
        }
        if is_too_much || !places[1].revents().is_empty() {
            // This process is one of the group. Whoever waits for it sees by what lies there that it was too much.
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
