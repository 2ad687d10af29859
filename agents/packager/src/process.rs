//! Runs a program to its end within bounds of time and size. Not a sandbox: who calls has decided to run it.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use agents_contract::Cancellation;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

/// Runs a command without input and collects at most `bytes_max` of each of its outputs; `None` where it did not end
/// within `limit` or before it was cancelled, or something that it started still holds its outputs then.
///
/// # Errors
/// Where it cannot be started or waited for.
pub(crate) fn run(
    command: &mut Command,
    limit: Duration,
    bytes_max: u64,
    cancellation: &Cancellation,
) -> io::Result<Option<Output>> {
    run_with_input(command, &[], limit, bytes_max, cancellation)
}

/// The same for a program that is told something: it gets `input`, then the end of its input.
///
/// # Errors
/// Where it cannot be started or waited for.
pub(crate) fn run_with_input(
    command: &mut Command,
    input: &[u8],
    limit: Duration,
    bytes_max: u64,
    cancellation: &Cancellation,
) -> io::Result<Option<Output>> {
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    // A group of its own, so that what a wrapper started ends with it.
    let (mut child, deadline) = (start(command.process_group(0))?, Instant::now() + limit);
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_owned();
        // On a thread, since a program need not read. That it did not is seen from its answer.
        std::thread::spawn(move || pipe.write_all(&input).ok());
    }
    collect(child, deadline, bytes_max, (cancellation, AtTheEnd::Nothing))
}

/// The same for a program that makes a session of its own first and ends when its input does: that is held until then, so that it ends
/// with this process, however that ends. Everything in its group of processes is ended with it.
///
/// # Errors
/// Where it cannot be started or waited for.
pub(crate) fn run_held(
    command: &mut Command,
    limit: Duration,
    bytes_max: u64,
    cancellation: &Cancellation,
) -> io::Result<Option<Output>> {
    let (mut child, deadline) = (start(command.stdin(Stdio::piped()))?, Instant::now() + limit);
    let held = child.stdin.take();
    let output = collect(child, deadline, bytes_max, (cancellation, AtTheEnd::EndGroup));
    drop(held);
    output
}

/// How often it is asked whether somebody still waits for a program.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// What is done when a program has ended by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtTheEnd {
    Nothing,
    EndGroup,
}

fn start(command: &mut Command) -> io::Result<Child> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn collect(
    mut child: Child,
    deadline: Instant,
    bytes_max: u64,
    (cancellation, at_the_end): (&Cancellation, AtTheEnd),
) -> io::Result<Option<Output>> {
    // Both pipes are drained by threads: a program that fills one of them must not stall the other.
    let stdout = child.stdout.take().map(|pipe| drain(pipe, bytes_max));
    let stderr = child.stderr.take().map(|pipe| drain(pipe, bytes_max));
    let Some(status) = wait(&mut child, deadline, (cancellation, at_the_end))? else {
        return Ok(None);
    };
    // Not joined: a reader goes on for as long as a grandchild holds the pipe.
    let collect = |reader: Option<Receiver<Vec<u8>>>| {
        let left = deadline.saturating_duration_since(Instant::now());
        reader.and_then(|reader| reader.recv_timeout(left).ok())
    };
    let (Some(stdout), Some(stderr)) = (collect(stdout), collect(stderr)) else { return Ok(None) };
    Ok(Some(Output { status, stdout, stderr }))
}

fn drain(pipe: impl Read + Send + 'static, bytes_max: u64) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe ends the answer like its end does; the answer is then judged as it is.
        let _ = pipe.take(bytes_max).read_to_end(&mut bytes);
        // Nobody listens any more after the deadline.
        let _ = sender.send(bytes);
    });
    receiver
}

/// Waits for the end, or ends it.
fn wait(
    child: &mut Child,
    deadline: Instant,
    (cancellation, at_the_end): (&Cancellation, AtTheEnd),
) -> io::Result<Option<ExitStatus>> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Not waited for yet, so its number is its own.
    let end = group.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    loop {
        if at_the_end == AtTheEnd::EndGroup
            && let Some(group) = group
            && has_ended(group)
        {
            // Its number is still its own.
            let _ = kill_process_group(group, Signal::KILL);
        }
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) if Instant::now() < deadline && !cancellation.is_cancelled() => {
                pause_until(end.as_ref());
            }
            outcome => {
                // Failing to kill it means that it is gone. It is not waited for yet, so its number is still its own.
                let end_group = || group.map(|group| kill_process_group(group, Signal::KILL));
                let _ = end_group();
                let _ = child.kill();
                // One that makes its group itself may have done so between the two.
                let _ = end_group();
                let _ = child.wait();
                return outcome.map(|_| None);
            }
        }
    }
}

/// Waits a moment, and no longer than until the process has ended, where the kernel tells of that.
fn pause_until(end: Option<&OwnedFd>) {
    let Some(end) = end else { return std::thread::sleep(LOOK_INTERVAL) };
    let moment = Timespec::try_from(LOOK_INTERVAL).ok();
    // Interrupted, it looks again, which is right at any time.
    let _ = poll(&mut [PollFd::new(end, PollFlags::IN)], moment.as_ref());
}

/// Whether a child has ended, which it is not told yet that anybody knows.
fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration, bytes_max: u64) -> Option<Output> {
        let mut command = Command::new("/bin/sh");
        run(command.args(["-c", script]), limit, bytes_max, Cancellation::NEVER).expect("run")
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn both_outputs_and_the_status_are_collected() {
        let output = shell("echo out; echo err >&2; exit 3", LONG, 100).expect("ended");
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"out\n"[..], &b"err\n"[..])
        );
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn a_program_gets_its_input_and_need_not_read_it() {
        let told = |script: &str, input: &[u8]| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            let output = run_with_input(&mut command, input, LONG, 100, Cancellation::NEVER);
            output.expect("run").expect("ended").stdout
        };
        assert_eq!(told("cat", b"input"), b"input");
        assert_eq!(told("exec <&-; echo done", &[b'x'; 1 << 20]), b"done\n");
    }

    #[test]
    fn a_long_answer_is_cut() {
        let output = shell("yes 2>&1", LONG, 10).expect("ended by the closed pipe");
        assert_eq!(output.stdout.len(), 10);
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let start = Instant::now();
        assert!(shell("sleep 60; echo never", SHORT, 100).is_none());
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn a_program_that_nobody_wants_any_more_is_ended() {
        let start = Instant::now();
        let cancellation = Cancellation::until(None);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 60; echo never"]);
        let output = std::thread::scope(|scope| {
            let output = scope.spawn(|| run(&mut command, LONG, 100, &cancellation));
            cancellation.cancel();
            output.join().expect("no panic").expect("run")
        });
        assert!(output.is_none() && start.elapsed() < LONG);
    }

    #[test]
    fn a_grandchild_that_holds_the_pipe_is_not_waited_for() {
        let start = Instant::now();
        assert!(shell("sleep 5 & echo started", SHORT, 100).is_none());
        assert!(start.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn a_program_that_is_held_ends_with_all_that_it_started() {
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", "sleep 60 & read line; echo never"]);
        let start = Instant::now();
        assert!(run_held(&mut command, SHORT, 100, Cancellation::NEVER).expect("run").is_none());
        let mut command = Command::new("setsid");
        // Its output would be held by what it started.
        command.args(["sh", "-c", "sleep 60 & echo done"]);
        let output = run_held(&mut command, LONG, 100, Cancellation::NEVER).expect("run");
        assert_eq!(output.expect("ended").stdout, b"done\n");
        assert!(start.elapsed() < LONG);
    }
}
