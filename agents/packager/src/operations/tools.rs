//! What the ecosystems' own tools on this machine are, asked once and remembered as long as their file stays the same.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use agents_contract::Cancellation;

use crate::error::Result;
use crate::io::limits::CANCELLATION_INTERVAL;
use crate::limits::{INTERPRETER_SECONDS_MAX, TOOL_OUTPUT_BYTES_MAX, TOOLS_REMEMBERED_MAX};
use crate::process;
use crate::python::Interpreter;

/// The memory of what was asked. Bounded: it starts anew when it is full.
pub(crate) struct Tools {
    /// Where what interpreters say is kept for the next process.
    directory: PathBuf,
    versions: Mutex<HashMap<Program, Option<semver::Version>>>,
    /// One that is asked before anybody waits for its answer.
    begun: Mutex<Option<Begun>>,
}

struct Begun {
    program: Program,
    answer: Receiver<io::Result<Option<semver::Version>>>,
}

/// A program file at one state: the path as it was found, not where it leads, because a version manager's shim decides by the name it is
/// called by, and what the file is that it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Program {
    path: PathBuf,
    modified: SystemTime,
    size: u64,
}

impl Tools {
    /// A memory whose part that lasts is in this directory, which is made when something is to be kept.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, versions: Mutex::default(), begun: Mutex::default() }
    }

    /// Has a tool asked for its version, which somebody will ask for here in a moment.
    pub(crate) fn begin_version(&self, name: &str, search_path: Option<&str>) {
        let Some(search_path) = search_path.map(str::to_owned) else { return };
        let Some(program) = find(name, &search_path) else { return };
        let (path, (sender, answer)) = (program.path.clone(), channel());
        let work = move || drop(sender.send(ask(&path, &search_path, Cancellation::NEVER)));
        // Who needs it asks himself where this cannot be begun.
        if std::thread::Builder::new().name(name.to_owned()).spawn(work).is_ok() {
            let begun = Begun { program, answer };
            *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        }
    }

    /// The answer of one that was asked already.
    fn begun_version(
        &self,
        program: &Program,
        cancellation: &Cancellation,
    ) -> Option<io::Result<Option<semver::Version>>> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let Begun { answer, .. } = begun.take_if(|begun| begun.program == *program)?;
        drop(begun);
        loop {
            match answer.recv_timeout(CANCELLATION_INTERVAL) {
                Err(RecvTimeoutError::Timeout) if !cancellation.is_cancelled() => {}
                answered => return answered.ok(),
            }
        }
    }

    /// The version that `name --version` prints, where there is such a program on `search_path` (the value of `PATH`).
    pub(crate) fn version(
        &self,
        name: &str,
        search_path: Option<&str>,
        cancellation: &Cancellation,
    ) -> Option<semver::Version> {
        let search_path = search_path?;
        let program = find(name, search_path)?;
        let memory = || self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memory().get(&program).cloned();
        if let Some(version) = known {
            return version;
        }
        // Nothing is locked while the program runs: a slow one must not hold up those who ask for another.
        // No answer is not remembered either; the next one may come in time.
        let begun = self.begun_version(&program, cancellation);
        let asked = begun.unwrap_or_else(|| ask(&program.path, search_path, cancellation));
        let version = asked.ok()?;
        let mut versions = memory();
        if versions.len() >= TOOLS_REMEMBERED_MAX {
            versions.clear();
        }
        versions.insert(program, version.clone());
        version
    }

    /// What an interpreter says of itself, remembered as long as nothing has changed that it follows from (`python::remembered`).
    pub(crate) fn interpreter(
        &self,
        path: &Path,
        cancellation: &Cancellation,
    ) -> Result<Interpreter> {
        Interpreter::inspect_once(path, &self.directory, cancellation)
    }
}

/// The first program of that name, by the look that finds it.
fn find(name: &str, search_path: &str) -> Option<Program> {
    let directories = std::env::split_paths(search_path);
    let mut paths = directories.filter(|it| it.is_absolute()).map(|it| it.join(name));
    paths
        .find_map(|path| {
            let metadata = path.metadata().ok().filter(|metadata| metadata.is_file())?;
            Some((metadata.modified().ok()?, metadata.len(), path))
        })
        .map(|(modified, size, path)| Program { path, modified, size })
}

/// Runs `program --version` and takes the first word that is a version (`v20.1.0`, `cargo 1.95.0 (...)`). An error is no
/// answer at all: the program did not start, or not end in time.
fn ask(
    program: &Path,
    search_path: &str,
    cancellation: &Cancellation,
) -> io::Result<Option<semver::Version>> {
    let limit = Duration::from_secs(INTERPRETER_SECONDS_MAX);
    let mut command = Command::new(program);
    command.arg("--version").env("PATH", search_path).current_dir("/");
    let output = process::run(&mut command, limit, TOOL_OUTPUT_BYTES_MAX as u64, cancellation)?
        .ok_or(io::ErrorKind::TimedOut)?;
    // A text that was cut within a character is still read.
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .split_whitespace()
        .find_map(|word| semver::Version::parse(word.trim_start_matches('v')).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by another process: a program that this one holds open for writing could not be started.
    fn program(path: &Path, script: &str) {
        let write = "printf '%s' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let status = Command::new("/bin/sh").args(["-c", write]).arg(path).arg(script).status();
        assert!(status.expect("run").success());
    }

    #[test]
    fn a_tool_that_was_asked_before_is_not_asked_again() {
        let directory = tempfile::tempdir().expect("made");
        let asked = directory.path().join("asked");
        let script = format!("#!/bin/sh\necho x >> '{}'\necho v2.0.0\n", asked.display());
        program(&directory.path().join("node"), &script);
        let search_path = directory.path().to_string_lossy().into_owned();
        let tools = Tools::new(directory.path().join("interpreters"));
        tools.begin_version("no-such", Some(&search_path));
        tools.begin_version("node", None);
        tools.begin_version("node", Some(&search_path));
        let version = || tools.version("node", Some(&search_path), Cancellation::NEVER);
        assert_eq!(version(), Some(semver::Version::new(2, 0, 0)));
        assert_eq!(version(), Some(semver::Version::new(2, 0, 0)));
        assert_eq!(std::fs::read_to_string(&asked).expect("asked"), "x\n");
        // Another program of that name is another one. It takes the place of one that may run at this moment.
        tools.begin_version("node", Some(&search_path));
        program(&directory.path().join("next"), "#!/bin/sh\necho v4.0.0\n");
        std::fs::rename(directory.path().join("next"), directory.path().join("node"))
            .expect("moved");
        assert_eq!(version(), Some(semver::Version::new(4, 0, 0)));
    }

    #[test]
    fn a_slow_tool_does_not_hold_up_the_others() {
        let directory = tempfile::tempdir().expect("made");
        let flag = directory.path().join("flag");
        let wait = format!("while ! [ -e '{}' ]; do sleep 0.02; done", flag.display());
        program(&directory.path().join("slow"), &format!("#!/bin/sh\n{wait}\necho v2.0.0\n"));
        program(&directory.path().join("fast"), "#!/bin/sh\necho fast 1.0.0 '(x)'\n");
        let search_path = format!("{}:/usr/bin:/bin", directory.path().display());
        let tools = Tools::new(directory.path().join("interpreters"));
        std::thread::scope(|scope| {
            let slow =
                scope.spawn(|| tools.version("slow", Some(&search_path), Cancellation::NEVER));
            std::thread::sleep(Duration::from_millis(100));
            let fast = tools.version("fast", Some(&search_path), Cancellation::NEVER);
            assert!(!slow.is_finished(), "the fast one waited for the slow one");
            std::fs::write(&flag, "").expect("written");
            assert_eq!(fast, Some(semver::Version::new(1, 0, 0)));
            assert_eq!(slow.join().expect("ended"), Some(semver::Version::new(2, 0, 0)));
        });
    }
}
