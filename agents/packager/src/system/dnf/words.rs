//! What is said to dnf and what it answers: JSON, through a program of ours that runs in dnf's own interpreter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agents_contract::Cancellation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::command::{self, Said};
use super::super::distribution::interpreter_of;
use super::super::stale;
use crate::error::{Error, Kind, Result};

/// The program: its header says how it is called.
const TOOL: &str = include_str!("tool.py");

/// Names of dnf 4. That of version 5 is no script, and understands none of this.
pub(crate) const NAMES: [&str; 3] = ["dnf-3", "dnf4", "dnf"];

/// What the program ends with beside success; see there.
const BUSY: i32 = 75;
const STALE: i32 = 76;
const UNKNOWN: i32 = 77;
const UNSIGNED: i32 = 78;
const UNREACHABLE: i32 = 79;

/// dnf about one system.
pub(super) struct Words {
    interpreter: PathBuf,
    root: String,
}

/// Everything that is installed.
#[derive(Deserialize)]
pub(super) struct Installed {
    /// Architectures that go without saying.
    pub(super) native: Vec<String>,
    pub(super) packages: Vec<Package>,
}

#[derive(Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) arch: String,
    pub(super) evr: String,
    pub(super) is_automatic: bool,
}

/// The answer of a solver.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) conflict: Option<String>,
    #[serde(default)]
    pub(super) comes: Vec<Comes>,
    #[serde(default)]
    pub(super) goes: Vec<Goes>,
}

#[derive(Deserialize)]
pub(super) struct Comes {
    pub(super) name: String,
    pub(super) arch: String,
    pub(super) evr: String,
    pub(super) sha256: Option<String>,
    pub(super) origin: String,
    pub(super) size: Option<u64>,
    pub(super) license: Option<String>,
    pub(super) file: String,
    pub(super) uses: Vec<String>,
    /// Whether another version of it stays, as kernels do.
    pub(super) stands_beside: bool,
}

#[derive(Deserialize)]
pub(super) struct Goes {
    pub(super) name: String,
    pub(super) arch: String,
    pub(super) evr: String,
    pub(super) sha256: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Fetched {
    /// Names of which no repository has the archive that was meant.
    pub(super) gone: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Description {
    pub(super) evr: String,
    pub(super) latest: String,
    pub(super) count: usize,
    pub(super) license: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) requires: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Torn {
    /// By name: with which archive it becomes whole.
    pub(super) torn: BTreeMap<String, Whole>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Whole {
    After,
    Before,
}

/// Name, architecture and version.
pub(super) type Nevra<'a> = (&'a str, &'a str, &'a str);

/// What a change is compared with, in the moment before it begins.
#[derive(Default, Serialize)]
pub(super) struct Expected<'a> {
    /// Paths of archives.
    pub(super) comes: Vec<String>,
    /// What these are.
    pub(super) names: Vec<Nevra<'a>>,
    pub(super) goes: Vec<Nevra<'a>>,
    /// Those of the names that are there for others only.
    pub(super) automatic: Vec<Nevra<'a>>,
    /// Name, architecture, and whether it is there for others only.
    pub(super) marks: Vec<(&'a str, &'a str, bool)>,
}

impl Words {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let root = root.canonicalize().map_err(|error| Error::io("open", root, &error))?;
        let interpreter = NAMES.into_iter().find_map(interpreter_of).ok_or_else(|| {
            Error::new(Kind::Refused, "no-executor", "this system has no dnf of version 4")
        })?;
        let text = root.to_str().filter(|text| !text.chars().any(char::is_control));
        let text = text.ok_or_else(|| {
            let message = format!("`{}` cannot be told to dnf", root.display());
            Error::new(Kind::Usage, "bad-path", message)
        })?;
        Ok(Self { interpreter, root: text.to_owned() })
    }

    pub(super) fn root(&self) -> &str {
        &self.root
    }

    fn command(&self, word: &str, request: &str) -> Result<std::process::Command> {
        let mut command = command::command_at(&self.interpreter, Path::new("/"));
        // `-I`: nothing of the caller's, neither variables nor modules.
        command.args(["-I", "-c", TOOL, word, &self.root, request]);
        Ok(command)
    }

    /// Asks; nothing of the system is changed.
    pub(super) fn ask<A: DeserializeOwned>(
        &self,
        word: &str,
        request: &Value,
        (seconds_max, cancellation): (u64, &Cancellation),
        proxies: &[(String, String)],
    ) -> Result<A> {
        let mut command = self.command(word, "-")?;
        command.envs(proxies.iter().cloned());
        let input = request.to_string();
        let said = command::ask_about(&mut command, input.as_bytes(), seconds_max, cancellation)?;
        if !said.is_success {
            return Err(refused(&said));
        }
        serde_json::from_str(&said.text).map_err(|error| {
            let message = format!("dnf says what is not understood: {error}");
            Error::new(Kind::Failed, "system-unreadable", message)
        })
    }

    /// Tells; its output goes to `log`.
    pub(super) fn tell(&self, word: &str, request: &Value, log: &Path) -> Result<()> {
        let mut command = self.command(word, &request.to_string())?;
        let said = command::change(&mut command, log)?;
        if said.is_success { Ok(()) } else { Err(refused(&said)) }
    }
}

/// Why dnf did not.
fn refused(said: &Said) -> Error {
    let why = &said.complaints;
    match said.code {
        Some(BUSY) => Error::new(
            Kind::Failed,
            "system-busy",
            format!("another program changes packages: {why}"),
        )
        .hint("wait until it has ended, then run the command again")
        .retryable(),
        Some(STALE) => stale(why),
        Some(UNKNOWN) => Error::new(Kind::Usage, "unknown-package", why.as_str())
            .hint("look at the spelling; `dnf search` knows more words"),
        Some(UNSIGNED) => Error::new(
            Kind::Verification,
            "bad-signature",
            format!(
                "an archive is not signed as its repository demands: {why}; nothing was changed"
            ),
        ),
        Some(UNREACHABLE) => Error::new(Kind::Network, "system-fetch", why.as_str())
            .hint("try again; where an archive is gone, make a new plan")
            .retryable(),
        _ => Error::new(Kind::Failed, "system-failed", format!("dnf failed: {why}")),
    }
}
