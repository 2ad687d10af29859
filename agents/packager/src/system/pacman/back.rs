//! The way back: to what stood before a change, from whatever a failure or a crash left.
//!
//! pacman makes an entry for a package before it unpacks it and writes it after that; what it replaces it takes away first, files
//! before the entry. So what it died in is an entry without content, a package that is nowhere, or one whose files are missing. It
//! is installed once more over whatever is there, without scripts; every file then belongs to a package that pacman knows, and all
//! of it goes back as anything else.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::command;
use super::super::tasks::{self, tasks};
use super::world::ask;
use super::{Pacman, busy};
use crate::error::{Error, Kind, Result};
use crate::limits::{LOCK_RETRY_MS, SYSTEM_ARGUMENTS_BYTES_MAX};
use crate::system::snapshot::Snapshot;
use crate::system::{Change, Direction, Executor, Standing, Step, Version};

/// What a pacman of ours writes to.
const LOGS: [&str; 4] = ["log", "log-of-archives", "log-of-marks", "log-of-torn"];

/// pacman's lock, held by this process.
struct Held {
    path: PathBuf,
    _file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Pacman {
    /// Waits for a pacman that a dead process of ours started, and removes the lock of one that is gone: pacman's lock is a file,
    /// which outlives its process.
    pub(super) fn wait_for_own(&self, seconds_max: u64) -> Result<()> {
        let sign = self.world.sign();
        let began = Instant::now();
        while is_in_an_argument(&sign) {
            if began.elapsed() >= Duration::from_secs(seconds_max) {
                return Err(busy());
            }
            std::thread::sleep(Duration::from_millis(LOCK_RETRY_MS));
        }
        let lock = self.world.database().join("db.lck");
        let Ok(about) = lock.symlink_metadata() else { return Ok(()) };
        if !self.may_be_own(&about) || is_open(&about) {
            return Ok(());
        }
        let same = |it: &std::fs::Metadata| {
            (it.dev(), it.ino(), it.ctime(), it.ctime_nsec())
                == (about.dev(), about.ino(), about.ctime(), about.ctime_nsec())
        };
        // Between the looks somebody may have taken it.
        if !lock.symlink_metadata().is_ok_and(|it| same(&it)) {
            return Ok(());
        }
        tracing::warn!(lock = %lock.display(), "nobody has it open; removed");
        std::fs::remove_file(&lock).map_err(|error| Error::io("remove", &lock, &error))
    }

    /// Whether a pacman of ours can have made this lock: it is not older than what one of them says.
    fn may_be_own(&self, lock: &std::fs::Metadata) -> bool {
        let made = lock.modified().ok();
        LOGS.iter().filter_map(|name| self.world.state().join(name).metadata().ok()).any(|log| {
            // A file system that notes no beginnings tells nothing.
            log.created().map_or(true, |begun| made.is_some_and(|made| begun <= made))
        })
    }

    /// Takes pacman's lock as pacman does, for as long as the answer lives.
    fn lock(&self) -> Result<Held> {
        // By this the lock is known as ours if we die with it.
        let log = self.world.state().join("log-of-torn");
        let begun = File::options().create(true).append(true).mode(0o600).open(&log);
        begun.map_err(|error| Error::io("write", &log, &error))?;
        let path = self.world.database().join("db.lck");
        let mut options = File::options();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Held { path, _file: file }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(busy()),
            Err(error) => Err(Error::io("create", &path, &error)),
        }
    }

    pub(super) fn bring_back(&self, change: &Change, notes: &mut Vec<String>) -> Result<()> {
        notes.extend(tasks::staying(change, &self.snapshot()?));
        self.complete_torn(change)?;
        let snapshot = self.snapshot()?;
        let tasks = tasks(change, &snapshot, Direction::Back);
        let rehearsed = self.rehearse_tasks(&tasks, Direction::Back);
        rehearsed.and_then(|_| self.carry_out(&tasks)).map_err(|error| {
            let steps: Vec<&Step> = tasks.iter().map(|task| task.step).collect();
            self.cannot_go_back(&steps, &error.message)
        })?;
        let noted = self.torn_entries();
        match std::fs::remove_dir_all(&noted) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", &noted, &error))
            }
            _ => Ok(()),
        }
    }

    /// Where entries are noted that had no content: they are taken away before their packages are installed once more, and between
    /// the two nothing else would tell of it.
    fn torn_entries(&self) -> PathBuf {
        self.world.state().join("torn")
    }

    /// Takes away entries without content, with which pacman does nothing at all.
    fn remove_torn_entries(&self, change: &Change) -> Result<()> {
        let _held = self.lock()?;
        let installed = self.installed()?;
        let noted = self.torn_entries();
        for step in &change.steps {
            for version in [&step.before, &step.after].into_iter().filter_map(Standing::version) {
                let name = entry_of(step, version);
                let entry = self.world.database().join("local").join(&name);
                let is_whole = installed
                    .iter()
                    .any(|it| it.name == step.name && it.version == version.version);
                if is_whole || !entry.is_dir() {
                    continue;
                }
                let note = noted.join(&name);
                std::fs::create_dir_all(&note)
                    .map_err(|error| Error::io("create", &note, &error))?;
                std::fs::remove_dir_all(&entry)
                    .map_err(|error| Error::io("remove", &entry, &error))?;
            }
        }
        Ok(())
    }

    /// Installs once more what pacman died in.
    fn complete_torn(&self, change: &Change) -> Result<()> {
        self.remove_torn_entries(change)?;
        let snapshot = self.snapshot()?;
        let mut archives = Vec::new();
        for step in change.steps.iter().filter(|step| step.is_real()) {
            if let Some(sha256) = self.completes(step, &snapshot)? {
                archives.push(self.archive(&step.name, &sha256)?);
            }
        }
        if archives.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            count = archives.len(),
            "pacman died in the middle of packages; they are completed"
        );
        let mut upgrade = self.world.closed(&self.files)?;
        upgrade
            .args(["--upgrade", "-dd", "--noscriptlet", "--overwrite", "*", "--"])
            .args(archives);
        let said = command::change(&mut upgrade, &self.world.state().join("log-of-torn"))?;
        if !said.is_success {
            // What stands in the end decides.
            tracing::warn!(complaints = %said.complaints, "pacman could not complete them");
        }
        Ok(())
    }

    /// The archive that makes whole what pacman died in; `None` where it did not.
    fn completes(&self, step: &Step, snapshot: &Snapshot) -> Result<Option<String>> {
        let digest = |it: &Version| it.sha256.clone();
        let (before, after) = (step.before.version(), step.after.version());
        let noted = self.torn_entries();
        let had_entry = |it: &Version| noted.join(entry_of(step, it)).exists();
        let now = snapshot.standing(&step.name);
        Ok(match (now.version(), before, after) {
            (None, Some(before), Some(after)) => digest(after).or_else(|| digest(before)),
            (None, None, Some(after)) if had_entry(after) => digest(after),
            (Some(_), Some(before), None) if self.misses_files(&step.name)? => digest(before),
            (Some(_), Some(before), Some(_)) if now.is_like(&step.before) => {
                match self.misses_files(&step.name)? {
                    true => digest(before),
                    false => None,
                }
            }
            (Some(_), _, Some(after)) if now.is_like(&step.after) => {
                let Some(sha256) = digest(after) else { return Ok(None) };
                match self.files.has(&sha256)? && !self.is_fully_known(&step.name, &sha256)? {
                    true => Some(sha256),
                    false => None,
                }
            }
            _ => None,
        })
    }

    fn misses_files(&self, name: &str) -> Result<bool> {
        let said = ask(self.world.pacman()?.args(["--query", "--check", "--"]).arg(name))?;
        Ok(!said.is_success)
    }

    /// Whether pacman knows all files of an installed package that its archive has.
    fn is_fully_known(&self, name: &str, sha256: &str) -> Result<bool> {
        let known =
            ask(self.world.pacman()?.args(["--query", "--list", "--quiet", "--"]).arg(name))?;
        let mut archive = self.world.pacman()?;
        archive.args(["--query", "--list", "--quiet", "--file", "--"]);
        let all = ask(archive.arg(self.files.path(sha256)))?;
        Ok(known.text == all.text)
    }

    /// What a person has to do.
    pub(super) fn cannot_go_back(&self, astray: &[&Step], what: &str) -> Error {
        let root = match self.world.root() == Path::new("/") {
            true => String::new(),
            false => format!(" --root {}", self.world.root().display()),
        };
        let commands = astray.iter().map(|step| match &step.before {
            Standing::Installed(version) => {
                let path = self.files.path(version.sha256.as_deref().unwrap_or_default());
                format!("`pacman{root} -U --overwrite '*' {}`", path.display())
            }
            Standing::Absent | Standing::Residue => format!("`pacman{root} -R {}`", step.name),
        });
        let commands: Vec<String> = commands.collect();
        let message = format!("the system could not be brought back: {what}");
        Error::new(Kind::Failed, "system-not-undone", message).hint(format!(
            "see the logs in `{}`; as root run {}; then run any bolide command here again",
            self.world.state().display(),
            commands.join(", ")
        ))
    }
}

/// The name of a package's entry in pacman's database.
fn entry_of(step: &Step, version: &Version) -> String {
    format!("{}-{}", step.name, version.version)
}

/// The directories of all processes.
fn processes() -> impl Iterator<Item = std::path::PathBuf> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |entry: &std::fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|it| it.is_ascii_digit()))
    };
    entries.filter(is_number).map(|entry| entry.path())
}

/// Whether some process was started with this path as an argument.
fn is_in_an_argument(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let wanted = path.as_os_str().as_bytes();
    let own = rustix::process::geteuid().as_raw();
    processes().any(|process| {
        // Nobody else can have started one that changes the system.
        let is_able = |it: std::fs::Metadata| it.uid() == 0 || it.uid() == own;
        if !process.metadata().is_ok_and(is_able) {
            return false;
        }
        let mut line = Vec::new();
        if let Ok(file) = File::open(process.join("cmdline")) {
            let _ = file.take(SYSTEM_ARGUMENTS_BYTES_MAX).read_to_end(&mut line);
        }
        line.split(|byte| *byte == 0).any(|argument| argument == wanted)
    })
}

/// Whether some process has this file open.
fn is_open(about: &std::fs::Metadata) -> bool {
    processes().any(|process| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::metadata(file.path()).ok())
            .any(|it| it.dev() == about.dev() && it.ino() == about.ino())
    })
}
