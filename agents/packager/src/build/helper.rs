//! The two processes of a build that are this program: the helper, which supervises, and the worker, which becomes the interpreter.
//! See [`build`](super) for who starts whom.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open,
    set_parent_process_death_signal, setsid, waitid,
};

use super::run::Task;
use super::{Ended, Order, Report, sandbox};
use crate::limits;

/// The first argument of a helper.
pub const COMMAND: &str = "build-helper";
/// The first argument of a worker.
const WORKER: &str = "build-worker";
/// The first number behind the three that every program has.
const FIRST_FREE: i32 = 3;

/// Whether this process was started to build something.
pub fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == COMMAND || word == WORKER)
}

/// Supervises one build, or is it. For the first line of `main`: this process must own no descriptor and have one thread.
pub fn run() -> ExitCode {
    let task = std::env::args().nth(3);
    let Some(task) = task.and_then(|text| serde_json::from_str::<Task>(&text).ok()) else {
        return ExitCode::FAILURE;
    };
    if std::env::args().nth(1).is_some_and(|word| word == WORKER) {
        work(&task);
        return ExitCode::FAILURE;
    }
    let report = supervise(&task)
        .unwrap_or_else(|why| Report { ended: Ended::Unable(why), tail: String::new() });
    let told = serde_json::to_vec(&report).map(|bytes| std::io::stdout().write_all(&bytes));
    match told {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Becomes what is to be run, or says why it cannot: into a pipe that is its standard input so far, and that closes when it becomes
/// that. So nothing that comes that way was said by what is run.
fn work(task: &Task) {
    let stdin = std::io::stdin();
    let closed = ipc::confined::close_inherited().map_err(|error| error.to_string());
    let pipe = closed.and_then(|()| {
        rustix::io::fcntl_dupfd_cloexec(&stdin, FIRST_FREE).map_err(|error| error.to_string())
    });
    let _ = match pipe {
        Ok(pipe) => rustix::io::write(&pipe, become_it(task).as_bytes()),
        Err(why) => rustix::io::write(&stdin, why.as_bytes()),
    };
}

/// Becomes what is to be run; why it cannot.
fn become_it(task: &Task) -> String {
    let lock_in = || -> Result<(), String> {
        let failed = |error: rustix::io::Errno| format!("cannot be ended with its helper: {error}");
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
        // The helper may have died before the line above; what it reads has no reader then.
        let stdout = std::io::stdout();
        let mut output = [PollFd::new(&stdout, PollFlags::empty())];
        poll(&mut output, Some(&Timespec::default())).map_err(failed)?;
        if output[0].revents().contains(PollFlags::ERR) {
            return Err("its helper has ended".to_owned());
        }
        // No terminal, and a group of its own. Who leads one already stays so.
        let _ = setsid();
        sandbox::lock_in(&task.order, &task.bounds)
    };
    if let Err(why) = lock_in() {
        return why;
    }
    let Order { program, arguments, directory, shown, variables, .. } = &task.order;
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .args(arguments)
        .current_dir(shown.as_ref().unwrap_or(directory))
        .env_clear()
        .envs(variables.iter().cloned());
    let error = command.exec();
    format!("cannot run `{}`: {error}", program.display())
}

fn supervise(task: &Task) -> Result<Report, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    ipc::confined::close_inherited()
        .map_err(|error| failed("cannot close what it inherited", &error))?;
    sandbox::enter(&task.order)?;
    let (output, theirs) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed("cannot make a pipe", &error))?;
    let (trouble, to_trouble) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed("cannot make a pipe", &error))?;
    let both = theirs.try_clone().map_err(|error| failed("cannot make a pipe", &error))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(WORKER)
        .arg(std::process::id().to_string())
        .arg(serde_json::to_string(task).map_err(|error| error.to_string())?)
        .stdin(to_trouble)
        .stdout(theirs)
        .stderr(both)
        .current_dir("/")
        .env_clear()
        .envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
    let child = command.spawn().map_err(|error| failed("cannot start a process", &error))?;
    // Its ends of the pipes are the worker's alone from now on.
    drop(command);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| "a process without a number".to_owned())?;
    let handle = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| failed("cannot watch the process", &error))?;
    let mut watch = Watch { task, output: Some(output), tail: VecDeque::new(), printed: 0 };
    let ended = watch.until_the_end(&handle);
    let mut ended = end_all(&handle, ended);
    if let Ended::Exit(_) = ended
        && let Some(what) = watch.look()
    {
        // Between two looks, or with nobody left to be looked at.
        ended = Ended::Limit(what);
    }
    let mut why = Vec::new();
    // Whoever could write there has ended, or became something else.
    let read = File::from(trouble).take(limits::BUILD_TROUBLE_BYTES_MAX).read_to_end(&mut why);
    read.map_err(|error| failed("cannot know whether it was locked in", &error))?;
    if !why.is_empty() {
        return Err(String::from_utf8_lossy(&why).into_owned());
    }
    watch.drain();
    let bytes: Vec<u8> = watch.tail.into();
    Ok(Report { ended, tail: String::from_utf8_lossy(&bytes).into_owned() })
}

/// One build as it runs.
struct Watch<'t> {
    task: &'t Task,
    /// `None` after its end.
    output: Option<OwnedFd>,
    tail: VecDeque<u8>,
    printed: u64,
}

impl Watch<'_> {
    /// Waits for the end; why it is to be ended where it does not end by itself.
    fn until_the_end(&mut self, handle: &OwnedFd) -> Option<Ended> {
        let bounds = self.task.bounds;
        let deadline = Instant::now() + bounds.time;
        let mut look_at = Instant::now() + limits::BUILD_LOOK_EVERY;
        let limit = |what: String| Some(Ended::Limit(what));
        loop {
            let now = Instant::now();
            if now >= deadline {
                return limit(format!("{} seconds", bounds.time.as_secs_f64()));
            }
            if now >= look_at {
                if let Some(what) = self.look() {
                    return limit(what);
                }
                // A large tree takes long to look at.
                look_at = Instant::now() + limits::BUILD_LOOK_EVERY.max(now.elapsed() * 4);
            }
            let wait = deadline.min(look_at).saturating_duration_since(now);
            let (has_ended, is_let_go, has_output) = self.poll(handle, wait);
            if is_let_go {
                return Some(Ended::Unable("nobody waits for it any more".to_owned()));
            }
            if has_output {
                self.read();
            }
            if self.printed > bounds.output_bytes {
                return limit(format!("{} bytes of output", bounds.output_bytes));
            }
            if has_ended {
                return None;
            }
        }
    }

    fn poll(&self, handle: &OwnedFd, wait: Duration) -> (bool, bool, bool) {
        let stdin = std::io::stdin();
        let mut places = vec![
            PollFd::new(handle, PollFlags::IN),
            // Nothing comes that way but its end.
            PollFd::new(&stdin, PollFlags::IN),
        ];
        places.extend(self.output.as_ref().map(|output| PollFd::new(output, PollFlags::IN)));
        let wait = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        if poll(&mut places, Some(&wait)).is_err() {
            return (false, false, false);
        }
        let has = |place: usize| places.get(place).is_some_and(|it| !it.revents().is_empty());
        (has(0), has(1), has(2))
    }

    /// Takes some of what it prints.
    fn read(&mut self) {
        let Some(output) = &self.output else { return };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(output, &mut buffer) {
            Ok(0) => self.output = None,
            Ok(count) => {
                self.printed += count as u64;
                self.tail.extend(&buffer[..count]);
                let more = self.tail.len().saturating_sub(limits::BUILD_TAIL_BYTES);
                self.tail.drain(..more);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => self.output = None,
        }
    }

    /// Takes what is left after the end of all who could print.
    fn drain(&mut self) {
        let Some(output) = &self.output else { return };
        if rustix::io::ioctl_fionbio(output, true).is_err() {
            return;
        }
        // As much as a pipe holds, and its end.
        for _ in 0..limits::BUILD_DRAIN_READS_MAX {
            self.read();
            if self.output.is_none() {
                return;
            }
        }
    }

    /// What it has too much of.
    fn look(&self) -> Option<String> {
        let bounds = &self.task.bounds;
        let processes = descendants(getpid()).len();
        if processes > bounds.processes {
            return Some(format!("{} processes", bounds.processes));
        }
        let mut used = Used::default();
        if let Err(what) = used.add(&self.task.order.work, bounds.files) {
            return Some(what);
        }
        if used.files > bounds.files {
            return Some(format!("{} files", bounds.files));
        }
        let is_full = used.bytes > bounds.disk_bytes;
        is_full.then(|| format!("{} bytes of files", bounds.disk_bytes))
    }
}

/// What lies in a directory.
#[derive(Default)]
struct Used {
    files: u64,
    bytes: u64,
}

impl Used {
    /// Adds what lies below, until it is too much. What changes meanwhile is counted another time; what cannot be counted is too much.
    fn add(&mut self, directory: &Path, most: u64) -> Result<(), String> {
        let mut left = vec![(directory.to_owned(), 0)];
        while let Some((directory, depth)) = left.pop() {
            if depth > limits::BUILD_DEPTH_MAX {
                return Err(format!("{} directories inside one another", limits::BUILD_DEPTH_MAX));
            }
            let entries = match std::fs::read_dir(&directory) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                {
                    continue;
                }
                Err(error) => {
                    return Err(format!("can be counted: a directory cannot be read ({error})"));
                }
                Ok(entries) => entries,
            };
            for entry in entries.flatten() {
                self.files += 1;
                if self.files > most {
                    return Ok(());
                }
                // Of the entry itself, wherever it leads.
                let Ok(status) = entry.metadata() else { continue };
                self.bytes = self.bytes.saturating_add(status.blocks().saturating_mul(512));
                if status.is_dir() {
                    left.push((entry.path(), depth + 1));
                }
            }
        }
        Ok(())
    }
}

/// Ends the worker; how it ended, where nobody ended it. It is the first process of its name space: the kernel ends all others before
/// it tells of its end.
fn end_all(handle: &OwnedFd, ended: Option<Ended>) -> Ended {
    if ended.is_some() {
        let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
    }
    let status = loop {
        match waitid(WaitId::PidFd(handle.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            status => break status.ok().flatten(),
        }
    };
    let by_itself =
        status.map(|status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ended::Exit(code),
            (None, signal) => Ended::Signal(signal.unwrap_or_default()),
        });
    let unknown = || Ended::Unable("it is not known how it ended".to_owned());
    ended.or(by_itself).unwrap_or_else(unknown)
}

/// Every process with its parent.
fn parents() -> HashMap<i32, i32> {
    let mut parents = HashMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return parents };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let mut text = String::new();
        let read = File::open(entry.path().join("stat"))
            .and_then(|file| file.take(4 << 10).read_to_string(&mut text));
        // Behind the name, which may contain anything, come the state and the parent.
        let parent = text
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse::<i32>().ok());
        if let (Ok(_), Some(parent)) = (read, parent) {
            parents.insert(pid, parent);
        }
    }
    parents
}

/// Everything that a process has started, at whatever remove.
fn descendants(of: Pid) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, parent) in parents() {
        children.entry(parent).or_default().push(pid);
    }
    let (mut found, mut left) = (Vec::new(), vec![Pid::as_raw(Some(of))]);
    while let Some(pid) = left.pop() {
        let own = children.remove(&pid).unwrap_or_default();
        found.extend_from_slice(&own);
        left.extend(own);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processes_that_one_has_started_are_found_at_any_remove() {
        let script = "sleep 60 & echo begun; wait";
        let mut command = Command::new("/bin/sh");
        let mut shell =
            command.args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut word = [0; 6];
        shell.stdout.as_mut().expect("a pipe").read_exact(&mut word).expect("begun");
        let pid = Pid::from_raw(shell.id() as i32).expect("a number");
        let found = descendants(pid);
        assert_eq!(found.len(), 1, "{found:?}");
        rustix::process::kill_process(Pid::from_raw(found[0]).expect("a number"), Signal::KILL)
            .expect("ended");
        shell.wait().expect("ended");
    }

    #[test]
    fn files_are_counted_until_there_are_too_many() {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(place.path().join("inner")).expect("a directory");
        for name in ["a", "b", "inner/c"] {
            std::fs::write(place.path().join(name), [1; 5000]).expect("a file");
        }
        std::os::unix::fs::symlink("/", place.path().join("out")).expect("a link");
        let mut used = Used::default();
        used.add(place.path(), 100).expect("counted");
        assert_eq!(used.files, 5);
        assert!((15_000..100_000).contains(&used.bytes), "{}", used.bytes);
        let mut used = Used::default();
        used.add(place.path(), 2).expect("counted");
        assert_eq!(used.files, 3);
    }
}
