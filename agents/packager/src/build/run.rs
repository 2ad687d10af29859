//! A build from outside: how its helper is started, waited for and let go. What it says is not believed beyond its form.

use std::fs::DirBuilder;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use agents_contract::Cancellation;
use serde::{Deserialize, Serialize};

use super::helper::COMMAND;
use super::{Bounds, Ended, Order, Report};
use crate::error::{Error, Result};
use crate::limits;

/// What a helper is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) order: Order,
    pub(super) bounds: Bounds,
}

/// Which program supervises builds, and within which bounds.
#[derive(Clone, Debug)]
pub struct Sandbox {
    program: PathBuf,
    bounds: Bounds,
}

/// A program that nearly every machine has.
const SHELL: &str = "/bin/sh";
/// How often a wait looks whether anybody still wants the answer.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Sandbox {
    /// The program that runs now, even if its file was replaced meanwhile.
    pub fn own() -> Self {
        Self::at(Path::new("/proc/self/exe"))
    }

    /// A program whose `main` begins as [`helper`](super::helper) says.
    pub fn at(program: &Path) -> Self {
        Self { program: program.to_owned(), bounds: Bounds::default() }
    }

    /// The same with other bounds.
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Runs what is ordered to its end, and the end of everything that it started.
    ///
    /// # Errors
    /// Where no helper can be started, or nobody wants the answer any more.
    pub fn run(&self, order: Order, cancellation: &Cancellation) -> Result<Report> {
        let task = Task { order, bounds: self.bounds };
        let failed = |error: io::Error| Error::io("run", &self.program, &error);
        let text = serde_json::to_string(&task).map_err(|error| failed(error.into()))?;
        let mut helper = Helper(self.start(text).map_err(failed)?);
        let (told, report) = channel();
        let stdout = helper.0.stdout.take();
        std::thread::Builder::new()
            .name("build-report".to_owned())
            .spawn(move || {
                let mut bytes = Vec::new();
                let read = stdout
                    .map(|pipe| pipe.take(limits::BUILD_REPORT_BYTES_MAX).read_to_end(&mut bytes));
                // Nobody listens any more where nobody wants it.
                let _ = told.send(read.is_some_and(|read| read.is_ok()).then_some(bytes));
            })
            .map_err(failed)?;
        let give_up_at = Instant::now() + self.bounds.time + limits::BUILD_HELPER_LATE_MAX;
        let bytes = loop {
            match report.recv_timeout(LOOK_EVERY) {
                Ok(bytes) => break bytes,
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => Error::if_cancelled(cancellation)?,
            }
            if Instant::now() >= give_up_at {
                break None;
            }
        };
        let report = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(report.unwrap_or_else(|| Report {
            ended: Ended::Unable("the process that supervises it ended without a word".to_owned()),
            tail: String::new(),
        }))
    }

    /// Runs what does nothing, to see whether builds are possible here.
    ///
    /// # Errors
    /// Why they are not, for people.
    pub fn probe(&self) -> std::result::Result<(), String> {
        // A name that nobody can take before.
        let random = RandomState::new().hash_one(std::process::id());
        let place = std::env::temp_dir().join(format!("bolide-probe-{random:016x}"));
        let failed = |error: io::Error| format!("{}: {error}", place.display());
        // It must not be there: what lies in it would be counted, and could be another user's.
        DirBuilder::new().mode(0o700).create(&place).map_err(failed)?;
        let tried = place.canonicalize().map_err(failed).and_then(|work| self.run_nothing(work));
        let removed = std::fs::remove_dir(&place).map_err(failed);
        tried.and(removed)
    }

    fn run_nothing(&self, work: PathBuf) -> std::result::Result<(), String> {
        let order = Order {
            program: SHELL.into(),
            arguments: vec!["-c".to_owned(), ":".to_owned()],
            directory: work.clone(),
            work,
            shown: None,
            readable: Vec::new(),
            variables: Vec::new(),
        };
        match self.run(order, Cancellation::NEVER) {
            Ok(Report { ended: Ended::Unable(why), .. }) => Err(why),
            Ok(report) => report.failure().map_or(Ok(()), Err),
            Err(error) => Err(error.to_string()),
        }
    }

    fn start(&self, task: String) -> io::Result<Child> {
        Command::new(&self.program)
            .arg(COMMAND)
            .arg(std::process::id().to_string())
            .arg(task)
            // Held until the end: when it hangs up, the helper ends everything.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            // What is in it may be secret, and nothing is needed but the way to the program's libraries.
            .env_clear()
            .envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)))
            .spawn()
    }
}

/// A helper; dropped, it has ended, and everything with it.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let give_up_at = Instant::now() + limits::BUILD_HELPER_LATE_MAX;
        while Instant::now() < give_up_at {
            match self.0.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Report {
    /// What went wrong, for people; `None` where it ended well.
    pub fn failure(&self) -> Option<String> {
        match &self.ended {
            Ended::Exit(0) => None,
            Ended::Exit(code) => Some(format!("ended with the status {code}")),
            Ended::Signal(signal) => Some(format!("was ended by the signal {signal}")),
            Ended::Limit(what) => Some(format!("was ended: it took more than {what}")),
            Ended::Unable(why) => Some(format!("could not be run in a sandbox: {why}")),
        }
    }

    /// The last lines of what it printed, marked as such; what steers a terminal is shown and does nothing.
    pub fn last_lines(&self) -> String {
        let is_shown = |line: &&str| !line.trim().is_empty();
        let lines: Vec<String> = self.tail.lines().filter(is_shown).map(quoted).collect();
        let first = lines.len().saturating_sub(limits::BUILD_TAIL_LINES_MAX);
        lines[first..].join("\n")
    }
}

/// A line of strangers, so that nobody takes it for one of ours.
fn quoted(line: &str) -> String {
    let mut quoted = String::from("| ");
    for character in line.chars().take(limits::BUILD_TAIL_LINE_CHARS_MAX) {
        // Beside controls what turns the direction of a line, or ends one.
        let turns = matches!(character,
            '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match character.is_control() || turns {
            true => quoted.extend(character.escape_default()),
            false => quoted.push(character),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_printed_is_marked_and_steers_nothing() {
        let tail = "one\n\n\u{1b}[2Jerror: x\rhint: y\r\n\u{202e}z \"ö\"\n".to_owned();
        let report = Report { ended: Ended::Exit(1), tail };
        let shown = "| one\n| \\u{1b}[2Jerror: x\\rhint: y\n| \\u{202e}z \"ö\"";
        assert_eq!(report.last_lines(), shown);
    }
}
