//! A command that a benchmark runs again and again: what is started, how its end is waited for, and the memory that it took.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How often an ended run is noticed.
const END_INTERVAL: Duration = Duration::from_micros(200);
/// How often the memory of a run is looked at, where it is.
const MEMORY_INTERVAL: Duration = Duration::from_millis(4);

/// One command.
#[derive(Clone)]
pub(super) struct Step {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, PathBuf)>,
}

/// Whose memory is looked at while a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Nobody's.
    Not,
    /// The most that the process itself has had, as the kernel keeps it.
    Own,
    /// That of the process and all that it started, added up while they run.
    Family,
}

impl Step {
    pub(super) fn new(program: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        let step = Self { program: program.into(), arguments: Vec::new(), variables: Vec::new() };
        step.and(arguments)
    }

    /// The same with more arguments.
    pub(super) fn and<S: AsRef<str>>(&self, more: &[S]) -> Self {
        let mut step = self.clone();
        step.arguments.extend(more.iter().map(|argument| argument.as_ref().to_owned()));
        step
    }

    pub(super) fn variable(mut self, name: &'static str, value: impl Into<PathBuf>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Runs it to its end in a directory; what it says lies in `output` and `errors` below `told` afterwards. The most memory that
    /// it was seen with, in bytes. One that takes longer than `time_max` is ended.
    pub(super) fn run(
        &self,
        directory: &Path,
        told: &Path,
        memory: Memory,
        time_max: Duration,
    ) -> anyhow::Result<u64> {
        let [output, errors] = ["output", "errors"].map(|name| told.join(name));
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("UV_PYTHON_DOWNLOADS", "never")
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&output)?)
            .stderr(std::fs::File::create(&errors)?)
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.program.display()))?;
        let (status, peak) = wait(&mut child, memory, time_max)?;
        if !status.success() {
            let (name, first) = (self.program.display(), self.arguments.first());
            let first = first.map_or("", String::as_str);
            let last = last_line(&errors).or_else(|| last_line(&output));
            bail!("`{name} {first}`: {status}: {}", last.as_deref().unwrap_or("no message"));
        }
        Ok(peak)
    }
}

fn last_line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
}

/// Waits for a child without keeping a core busy.
fn wait(
    child: &mut Child,
    memory: Memory,
    time_max: Duration,
) -> anyhow::Result<(ExitStatus, u64)> {
    let began = Instant::now();
    let (mut peak, mut looked) = (0, began);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        if began.elapsed() > time_max {
            child.kill()?;
            child.wait()?;
            bail!("not finished within {time_max:?}");
        }
        if memory != Memory::Not && looked.elapsed() > MEMORY_INTERVAL {
            looked = Instant::now();
            peak = peak.max(match memory {
                Memory::Family => family_rss_bytes(child.id()),
                _ => peak_rss_bytes(child.id()).unwrap_or(0),
            });
        }
        std::thread::sleep(END_INTERVAL);
    }
}

/// The most memory that a process has had until now.
pub(super) fn peak_rss_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmHWM:")
}

/// The memory that a process and all that it started have now.
fn family_rss_bytes(pid: u32) -> u64 {
    let mut open = vec![pid];
    let mut sum = 0;
    while let Some(pid) = open.pop() {
        sum += status_bytes(pid, "VmRSS:").unwrap_or(0);
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            open.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    sum
}

fn status_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> Step {
        Step::new("sh", &["-c", text])
    }

    #[test]
    fn a_run_says_what_it_says_and_fails_with_its_last_word() {
        let told = tempfile::tempdir().unwrap();
        let run = |step: Step| step.run(told.path(), told.path(), Memory::Not, Duration::MAX);
        run(shell("echo $0 $word").and(&["zero"]).variable("word", "one")).unwrap();
        assert_eq!(std::fs::read_to_string(told.path().join("output")).unwrap(), "zero one\n");
        let failed = run(shell("echo no >&2; echo; exit 3")).unwrap_err().to_string();
        assert!(failed.ends_with("exit status: 3: no"), "{failed}");
    }

    #[test]
    fn a_run_that_takes_too_long_is_ended() {
        let told = tempfile::tempdir().unwrap();
        let run = shell("exec cat /dev/zero").run(
            told.path(),
            told.path(),
            Memory::Not,
            Duration::from_millis(20),
        );
        assert_eq!(run.unwrap_err().to_string(), "not finished within 20ms");
    }

    #[test]
    fn the_memory_of_a_process_and_of_its_family_is_seen() {
        let own = peak_rss_bytes(std::process::id()).unwrap();
        assert!(own > 1024 * 1024);
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let family = family_rss_bytes(std::process::id());
        assert!(family > status_bytes(std::process::id(), "VmRSS:").unwrap() / 2);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
