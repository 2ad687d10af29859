//! Processes that a program starts beside itself, and the CPU that a measuring thread stays on.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Said by a second process that can take rounds.
pub const READY: &str = "ready";

/// The second process of a measurement; killed where the first one drops it.
#[derive(Debug)]
pub struct Second {
    process: Child,
    input: ChildStdin,
}

impl Second {
    /// This same program with `arguments`; returns when it has said [`READY`].
    pub fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the second process")?;
        let input = process.stdin.take().context("the second process has no input")?;
        let output = process.stdout.take().context("the second process has no output")?;
        let second = Self { process, input };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim_end() == READY, "the second process did not start");
        Ok(second)
    }

    fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.input, "{line}")?)
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // Both fail where it has ended and was waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The second processes of a program, shared with the thread that ends them.
#[derive(Clone, Debug, Default)]
pub struct Seconds(Arc<Mutex<Vec<Second>>>);

impl Seconds {
    /// One more.
    pub fn add(&self, second: Second) {
        self.locked().push(second);
    }

    /// Hands all of them one line.
    pub fn tell(&self, line: &str) -> anyhow::Result<()> {
        self.locked().iter_mut().try_for_each(|second| second.tell(line))
    }

    /// Ends all of them and waits for that.
    pub fn end(&self) {
        self.locked().clear();
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Second>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `hold`, then the pid of the caller: what [`held`] starts of this program.
pub const HOLD: &str = "hold";

/// A command that runs `program` so that the kernel kills it when this process ends, however it ends. This takes a
/// detour over this same program, because what is asked for must be asked by the process that it is for.
pub fn held(program: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([HOLD, &getpid().as_raw_nonzero().to_string(), program]);
    Ok(command)
}

/// The other side of [`held`]: becomes the program. Returns only what went wrong.
pub fn become_held(arguments: &[OsString]) -> anyhow::Result<()> {
    let [parent, program, rest @ ..] = arguments else { bail!("expected `PID PROGRAM ...`") };
    let parent: i32 = parent.to_str().context("the pid is not a number")?.parse()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Where the parent ended before, nobody would ever send the signal.
    ensure!(getppid().map(Pid::as_raw_pid) == Some(parent), "the starting process has ended");
    let failed = Command::new(program).args(rest).exec();
    Err(failed).with_context(|| format!("cannot start `{}`", program.to_string_lossy()))
}

/// Keeps the calling thread on one CPU; the mask is read back, because the kernel cuts it silently to what is allowed.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    ensure!(cpu < CpuSet::MAX_CPU, "no such CPU: {cpu}");
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot pin to CPU {cpu}"))?;
    ensure!(sched_getaffinity(None)? == set, "cannot pin to CPU {cpu}");
    Ok(())
}

/// `A,B`: the CPUs of the first and of the second process.
pub fn two_cpus(text: &str) -> anyhow::Result<(usize, usize)> {
    let (first, second) = text.split_once(',').context("expected two CPUs: `A,B`")?;
    Ok((first.parse()?, second.parse()?))
}
