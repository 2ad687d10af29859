//! Runs the distribution's tools: with an environment that is built and not inherited, bounded in time and in what they say.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use agents_contract::Cancellation;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use super::distribution::tool;
use crate::error::{Error, Kind, Result};
use crate::limits::{
    LOCK_RETRY_MS, SYSTEM_ANSWER_BYTES_MAX, SYSTEM_CHANGE_SECONDS_MAX, SYSTEM_END_SECONDS_MAX,
    SYSTEM_LOG_BYTES_MAX, SYSTEM_NOTES_MAX, SYSTEM_WORDS_SHOWN_MAX,
};
use crate::process;

/// What every tool gets to see. Nobody is there to be asked, and configuration files of a person stay.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("HOME", "/"),
    ("LC_ALL", "C.UTF-8"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("TERM", "dumb"),
    ("UCF_FORCE_CONFFOLD", "1"),
];

/// How a tool ended and what it said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) is_success: bool,
    /// What it ended with, where it ended by itself.
    pub(super) code: Option<i32>,
    pub(super) text: String,
    /// What it complained about, for people.
    pub(super) complaints: String,
    /// All of its error output; of one that changes the system it is in the text.
    pub(super) errors: String,
}

/// A tool of the distribution, to be run in `directory`.
///
/// # Errors
/// `no-executor` where it is not there.
pub(super) fn command(name: &str, directory: &Path) -> Result<Command> {
    let path = tool(name).ok_or_else(|| {
        Error::new(Kind::Refused, "no-executor", format!("this system has no `{name}`"))
    })?;
    Ok(command_at(&path, directory))
}

/// The same where its place is known.
pub(super) fn command_at(path: &Path, directory: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().envs(ENVIRONMENT).current_dir(directory);
    command
}

/// Runs one that changes nothing of the system; it ends when nobody wants its answer any more.
pub(super) fn ask(
    command: &mut Command,
    seconds_max: u64,
    cancellation: &Cancellation,
) -> Result<Said> {
    ask_about(command, &[], seconds_max, cancellation)
}

/// The same for one that is told what the question is about.
pub(super) fn ask_about(
    command: &mut Command,
    input: &[u8],
    seconds_max: u64,
    cancellation: &Cancellation,
) -> Result<Said> {
    let limit = Duration::from_secs(seconds_max);
    let bytes_max = SYSTEM_ANSWER_BYTES_MAX;
    let output = process::run_with_input(command, input, limit, bytes_max, cancellation)
        .map_err(|error| Error::io("run", Path::new(command.get_program()), &error))?;
    let Some(output) = output else {
        Error::if_cancelled(cancellation)?;
        let message = format!("{} did not end within {seconds_max} s", name_of(command));
        return Err(Error::new(Kind::Failed, "system-silent", message).retryable());
    };
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Said {
        is_success: output.status.success(),
        code: output.status.code(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        complaints: complaints(&errors),
        errors,
    })
}

/// Runs one that changes the system. It is not ended because somebody lost interest, and it goes on where this process dies:
/// its output goes to the file `log`, which it has locked for as long as it lives ([`has_ended`]). Ended is only what never ends.
pub(super) fn change(command: &mut Command, log: &Path) -> Result<Said> {
    let failed = |error: std::io::Error| Error::io("write", log, &error);
    let mut options = File::options();
    // What a script of an earlier package left running keeps the file that it has.
    match std::fs::remove_file(log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = options.open(log).map_err(failed)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| failed(errno.into()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file.try_clone().map_err(failed)?)
        .process_group(0)
        .spawn()
        .map_err(|error| Error::io("run", Path::new(command.get_program()), &error))?;
    // The command would keep the file, and with it the lock.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    ipc::fault::point("system.tool-started");
    let status = wait(&mut child, &file).map_err(failed)?;
    ipc::fault::point("system.tool-ended");
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    file.take(SYSTEM_LOG_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut complaints = complaints(&text);
    let is_success = status.is_some_and(|status| status.success());
    if complaints.is_empty() && !is_success {
        complaints = match status {
            Some(status) => format!("{} ended with {status}", name_of(command)),
            None => format!("{} did not end, or never stopped writing", name_of(command)),
        };
    }
    let code = status.and_then(|status| status.code());
    Ok(Said { is_success, code, text, complaints, errors: String::new() })
}

/// What the last change wrote to its log; nothing where there was none.
pub(super) fn last_words(log: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(log) {
        let _ = file.take(SYSTEM_LOG_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Files that it put beside others, in its own words.
pub(super) fn set_aside(log: &Path) -> Vec<String> {
    let said = last_words(log);
    let is_one = |line: &&str| {
        [" saved as ", " created as ", " installed as "].iter().any(|words| line.contains(words))
    };
    let lines = said.lines().filter(is_one).take(SYSTEM_NOTES_MAX);
    let shown = |line: &str| line.chars().filter(|one| !one.is_control()).take(500).collect();
    lines.map(|line| shown(line.trim_start_matches("warning: ").trim())).collect()
}

/// Waits until nothing lives any more of the tool that last wrote to `log`, whoever started it, and answers whether that is so
/// within `seconds_max`. A program that its scripts left running may hold the lock for good.
pub(super) fn has_ended(log: &Path, seconds_max: u64) -> Result<bool> {
    let failed = |error: std::io::Error| Error::io("lock", log, &error);
    let file = match File::open(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        file => file.map_err(failed)?,
    };
    let deadline = Instant::now() + Duration::from_secs(seconds_max);
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() >= deadline => return Ok(false),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                std::thread::sleep(Duration::from_millis(LOCK_RETRY_MS));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

fn wait(child: &mut Child, log: &File) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + Duration::from_secs(SYSTEM_CHANGE_SECONDS_MAX);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline || log.metadata()?.len() > SYSTEM_LOG_BYTES_MAX {
            end(child)?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks it to end, then makes it.
fn end(child: &mut Child) -> std::io::Result<()> {
    // It is not waited for yet, so its number is still its own.
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _ = group.map(|group| kill_process_group(group, Signal::TERM));
    let deadline = Instant::now() + Duration::from_secs(SYSTEM_END_SECONDS_MAX);
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = child.wait();
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn name_of(command: &Command) -> String {
    let path = PathBuf::from(command.get_program());
    path.file_name().and_then(OsStr::to_str).unwrap_or("the tool").to_owned()
}

/// The lines that say what went wrong, without what a terminal would obey.
fn complaints(text: &str) -> String {
    let is_one = |line: &&str| {
        line.starts_with("E: ")
            || line.starts_with("error: ")
            || line.starts_with("dpkg: error")
            || line.starts_with("dpkg-query: error")
    };
    let mut said = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !is_one(&line) {
            continue;
        }
        // dpkg says why on the line after.
        let more = lines.peek().filter(|next| next.starts_with(' ')).copied().unwrap_or_default();
        let line = format!("{} {}", line.trim_start_matches("E: "), more.trim());
        if !said.is_empty() {
            said += "; ";
        }
        said.extend(line.trim().chars().map(|one| if one.is_control() { ' ' } else { one }));
    }
    match said.char_indices().nth(SYSTEM_WORDS_SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &said[..end]),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Said {
        let scratch = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        change(command.args(["-c", script]), &scratch.path().join("log")).unwrap()
    }

    #[test]
    fn what_went_wrong_is_said_with_its_reason() {
        let said = shell(
            "echo 'dpkg: error processing package web (--configure):'; echo ' script failed'; \
             printf 'E: red \\033[31m\\n' >&2; exit 100",
        );
        assert!(!said.is_success);
        assert_eq!(
            said.complaints,
            "dpkg: error processing package web (--configure): script failed; red  [31m"
        );
        assert_eq!(shell("exit 3").complaints, "sh ended with exit status: 3");
        assert!(shell("true").is_success);
    }

    #[test]
    fn what_a_tool_left_running_is_seen_until_it_ends() {
        let scratch = tempfile::tempdir().unwrap();
        let (log, gate) = (scratch.path().join("log"), scratch.path().join("gate"));
        assert!(has_ended(&log, 0).unwrap(), "nothing was ever started");
        let script = format!("mkfifo {0}; (read word < {0}) &", gate.display());
        let mut command = Command::new("/bin/sh");
        assert!(change(command.args(["-c", &script]), &log).unwrap().is_success);
        assert!(!has_ended(&log, 0).unwrap());
        std::fs::write(&gate, "go\n").unwrap();
        assert!(has_ended(&log, 120).unwrap());
    }

    #[test]
    fn what_a_tool_puts_beside_a_file_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("log");
        assert!(set_aside(&log).is_empty());
        let text =
            "Running\nwarning: /etc/web.conf saved as /etc/\x1b[31mweb.conf.rpmsave\nother\n";
        std::fs::write(&log, text).unwrap();
        assert_eq!(set_aside(&log), ["/etc/web.conf saved as /etc/[31mweb.conf.rpmsave"]);
    }

    #[test]
    fn nothing_of_the_environment_is_inherited() {
        let Ok(mut command) = command("apt-config", Path::new("/")) else { return };
        command.arg("--version");
        let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names.len(), ENVIRONMENT.len());
    }
}
