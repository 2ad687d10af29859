//! How pacman is told which system is meant, and how it is shut off from everything but given archives.

use std::path::{Path, PathBuf};
use std::process::Command;

use agents_contract::Cancellation;

use super::super::command::{self, Said, command};
use super::super::files::Files;
use crate::error::{Error, Kind, Result};
use crate::limits::SYSTEM_QUESTION_SECONDS_MAX;

/// A system, and where pacman is told of it.
pub(super) struct World {
    root: PathBuf,
    state: PathBuf,
    database: PathBuf,
    /// What the system's own configuration says, with everything that it includes.
    configuration: String,
}

impl World {
    pub(super) fn new(root: &Path, state: &Path) -> Result<Self> {
        let root = root.canonicalize().map_err(|error| Error::io("open", root, &error))?;
        let is_plain = |text: &str| !text.chars().any(char::is_control);
        if !root.to_str().is_some_and(is_plain) {
            let message = format!("`{}` cannot be told to pacman", root.display());
            return Err(Error::new(Kind::Usage, "bad-path", message));
        }
        let mut asked = command("pacman-conf", Path::new("/"))?;
        asked.arg("--config").arg(root.join("etc/pacman.conf")).arg("--rootdir").arg(&root);
        let said = ask(&mut asked)?;
        if !said.is_success {
            return Err(failed(&said));
        }
        let mut world = Self {
            root,
            state: state.to_owned(),
            database: PathBuf::new(),
            configuration: said.text,
        };
        world.database = match world.is_this_machine() {
            true => PathBuf::from(world.value("DBPath").unwrap_or("/var/lib/pacman/")),
            false => world.root.join("var/lib/pacman"),
        };
        Ok(world)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Where pacman keeps what is installed, its lists and its lock.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.configuration.lines().filter_map(|line| line.split_once('='));
        lines.filter(move |(key, _)| key.trim() == name).map(|(_, value)| value.trim())
    }

    /// Its repositories, in their order.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &str> {
        let names =
            self.configuration.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'));
        names.filter(|name| *name != "options" && !name.contains('/'))
    }

    /// Where pacman keeps archives that it fetched.
    pub(super) fn caches(&self) -> Vec<PathBuf> {
        match self.is_this_machine() {
            true => self.values("CacheDir").map(PathBuf::from).collect(),
            false => vec![self.root.join("var/cache/pacman/pkg")],
        }
    }

    /// pacman over everything that it knows.
    pub(super) fn pacman(&self) -> Result<Command> {
        let mut command = command("pacman", Path::new("/"))?;
        command.arg("--config").arg(self.root.join("etc/pacman.conf"));
        self.place(&mut command);
        Ok(command)
    }

    fn place(&self, command: &mut Command) {
        command.arg("--root").arg(&self.root).arg("--dbpath").arg(&self.database);
        command.args(["--noconfirm", "--color", "never"]);
        if !self.is_this_machine() {
            let inside = |path: &str| self.root.join(path);
            command.arg("--logfile").arg(inside("var/log/pacman.log"));
            command.arg("--gpgdir").arg(inside("etc/pacman.d/gnupg"));
            command.arg("--hookdir").arg(inside("etc/pacman.d/hooks"));
        }
    }

    /// pacman that fetches into a directory of ours, which another user than root could not enter.
    pub(super) fn fetching(&self, files: &Files, into: &Path) -> Result<Command> {
        let lines = self.configuration.lines().filter(|line| !line.starts_with("DownloadUser"));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let mut command = self.with(files, "pacman-fetch.conf", &text)?;
        self.place(&mut command);
        command.arg("--cachedir").arg(into);
        Ok(command)
    }

    /// pacman for which there is nothing in the world but what is installed and what it is given.
    pub(super) fn closed(&self, files: &Files) -> Result<Command> {
        let mut command = self.with(files, CLOSED, &self.options())?;
        self.place(&mut command);
        Ok(command)
    }

    /// The same over a copy of what is installed, in a directory of ours: it changes nothing else.
    pub(super) fn copied(&self, files: &Files, place: &Path) -> Result<Command> {
        let mut command = self.with(files, CLOSED, &self.options())?;
        command.arg("--root").arg(place).arg("--dbpath").arg(place.join("db"));
        command.arg("--logfile").arg(place.join("log")).arg("--cachedir").arg(place);
        command.arg("--hookdir").arg(place.join("hooks"));
        command.args(["--noconfirm", "--color", "never"]);
        Ok(command)
    }

    /// The system's options without its repositories. What is given is known by its digest, and its signature was checked when it
    /// was fetched.
    fn options(&self) -> String {
        let own = |line: &&str| {
            let key = line.split_once('=').map_or(*line, |(key, _)| key).trim();
            !matches!(key, "DownloadUser" | "LocalFileSigLevel" | "RemoteFileSigLevel" | "SigLevel")
        };
        let mut lines = self.configuration.lines();
        let first = lines.next().unwrap_or("[options]");
        let options = lines.take_while(|line| !line.starts_with('[')).filter(own);
        let mut text = format!("{first}\nSigLevel = Never\nLocalFileSigLevel = Never\n");
        text.extend(options.flat_map(|line| [line, "\n"]));
        text
    }

    fn with(&self, files: &Files, name: &str, text: &str) -> Result<Command> {
        let path = self.state.join(name);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
            files.write(&path, text)?;
        }
        let mut command = command("pacman", Path::new("/"))?;
        command.arg("--config").arg(path);
        Ok(command)
    }

    /// By which a pacman that changes this system for us is known among all processes.
    pub(super) fn sign(&self) -> PathBuf {
        self.state.join(CLOSED)
    }
}

const CLOSED: &str = "pacman-closed.conf";

/// Asks; nothing is changed.
pub(super) fn ask(command: &mut Command) -> Result<Said> {
    command::ask(command, SYSTEM_QUESTION_SECONDS_MAX, Cancellation::NEVER)
}

pub(super) fn failed(said: &Said) -> Error {
    let message = format!("pacman failed: {}", said.complaints);
    Error::new(Kind::Failed, "system-failed", message)
}
