//! Packages of the system: changes that the distribution's own tool carries out, and takes back.
//!
//! It decides nothing about versions ([`crate::resolve`] does) and knows no project: whose part of a transaction a change is,
//! [`crate::transaction`] knows. It never asks for rights (`sudo`), and never runs what a caller wrote.
//!
//! # Rules
//! 1. A [`Change`] says of every package it touches what stands before and after, with the digests of both archives. It is
//!    part of the plan, so the digest that is approved covers it, and of the journal, before anything is done.
//! 2. Both archives of a package lie in [`Files`] before the first change, so that neither way needs a network. What cannot
//!    be had any more is said in [`Change::irreversible`] before anything begins.
//! 3. The tool is run in a world of its own: what is installed and these archives, no list, no pin. It cannot take another
//!    version than the one that was approved. It is rehearsed first; and apt and dnf, under their own lock, in the
//!    moment before their first change, show what they are about to do to a command that compares that with the change and
//!    stops them otherwise. pacman has no such place: it is given fixed names and archives, and afterwards its check of
//!    relations is compared with what the rehearsal found.
//! 4. Where things stand is always asked of the tool and never remembered. So a change can be brought forward or back from
//!    any state that a crash left, and again.
//! 5. The tool writes to a file and is in a process group of its own: whoever started it may die without disturbing it. Who
//!    comes later waits for its lock.
//! 6. Whether a transaction's tool has touched the system at all is the one thing that is remembered, because nobody could be
//!    asked it ([`Touch`]).
//! 7. Configuration files that a person edited stay in either direction while their package stays. Where it goes, dpkg leaves
//!    them; rpm and pacman put them beside (`.rpmsave`, `.pacsave`), which is told, and a way back that installs the package
//!    again leaves them there.

mod apt;
mod command;
mod distribution;
mod dnf;
mod files;
mod pacman;
mod simulated;
mod snapshot;
mod solved;
mod tasks;
mod touch;

use std::collections::BTreeSet;
use std::path::Path;

use agents_contract::Cancellation;
use serde::{Deserialize, Serialize};

pub use self::distribution::{Distribution, Manager};
pub(crate) use self::files::Files;
pub(crate) use self::simulated::Action;
pub(crate) use self::snapshot::Snapshot;
pub(crate) use self::solved::{Coming, Described, Going, Solved, Want, WantKind};
pub(crate) use self::touch::{Touch, Touched};

use self::apt::Apt;
use self::dnf::Dnf;
use self::pacman::Pacman;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::SYSTEM_LOCK_WAIT_SECONDS;

/// What happens to packages of the system, in either direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What could not be taken back, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub irreversible: Vec<String>,
    /// Who carries it out.
    pub manager: Manager,
    /// The root directory of the system.
    pub root: String,
    /// By name.
    pub steps: Vec<Step>,
}

/// What happens to one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is there afterwards.
    pub after: Standing,
    /// What was there.
    pub before: Standing,
    /// Its name, with the architecture where that is a foreign one.
    pub name: String,
}

/// How a package stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Nothing of it is there.
    Absent,
    /// Its configuration files are.
    Residue,
    /// It is installed.
    Installed(Version),
}

/// One version of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// As its archive says: `amd64`, `all`.
    pub architecture: String,
    /// Whether it is there only because others need it.
    pub is_automatic: bool,
    /// Where the tool takes it from, in its own words; empty for what was there before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// The digest of its archive; `None` where no archive can be had.
    pub sha256: Option<String>,
    /// The version.
    pub version: String,
}

/// Which way a change is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To what is there afterwards.
    Forward,
    /// To what was there before.
    Back,
}

impl Standing {
    /// The version, where it is installed.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Installed(version) => Some(version),
            Self::Absent | Self::Residue => None,
        }
    }

    /// Whether two are the same package files on the disk, wherever these came from.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Installed(one), Self::Installed(other)) => {
                one.version == other.version && one.architecture == other.architecture
            }
            _ => self == other,
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => formatter.write_str("absent"),
            Self::Residue => formatter.write_str("removed, with configuration files left"),
            Self::Installed(version) => formatter.write_str(&version.version),
        }
    }
}

impl Step {
    /// Where a direction leads.
    pub(crate) fn goal(&self, direction: Direction) -> &Standing {
        match direction {
            Direction::Forward => &self.after,
            Direction::Back => &self.before,
        }
    }

    /// Whether it changes more than a mark.
    pub(crate) fn is_real(&self) -> bool {
        !self.before.is_like(&self.after)
    }
}

/// Something that the distribution's tool finds wrong with a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fault {
    /// The package, with the architecture where that is a foreign one.
    pub package: String,
    /// In the tool's words.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "`{}` ({})", self.package, self.what)
    }
}

impl Change {
    /// Whether a package is one of those that it touches.
    pub(crate) fn names(&self, package: &str) -> bool {
        self.steps.iter().any(|step| step.name == package)
    }

    /// The digests of all archives that either direction takes.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &str> {
        let standings = self.steps.iter().filter(|step| step.is_real());
        let standings = standings.flat_map(|step| [&step.before, &step.after]);
        standings.filter_map(|standing| standing.version()?.sha256.as_deref())
    }
}

/// What every distribution's tool does; [`System`] says what each of these is.
trait Executor {
    fn snapshot(&self) -> Result<Snapshot>;
    fn wait(&self, seconds_max: u64, tell: &dyn Fn(&str)) -> Result<()>;
    fn fetch(
        &self,
        change: &Change,
        proxies: &[(String, String)],
        cancellation: &Cancellation,
    ) -> Result<u64>;
    fn rehearse(&self, change: &Change) -> Result<()>;
    fn bring(
        &self,
        change: &Change,
        direction: Direction,
        is_fresh: bool,
        touch: &Touch,
    ) -> Result<Vec<String>>;

    /// Every fault that the tool finds with packages, where it has such a question.
    fn audit(&self) -> Result<BTreeSet<Fault>> {
        Ok(BTreeSet::new())
    }

    /// Refuses a change of packages with which the tool finds fault.
    fn require_sound(&self, _change: &Change) -> Result<()> {
        Ok(())
    }
}

/// A tool that decides itself what follows from a wish.
trait Solver: Executor {
    fn solve(&self, wants: &[Want], is_offline: bool) -> Result<Solved>;
    fn describe(&self, name: &str, version: Option<&str>, is_offline: bool) -> Result<Described>;
}

impl Executor for Apt {
    fn snapshot(&self) -> Result<Snapshot> {
        self.snapshot()
    }

    fn wait(&self, seconds_max: u64, tell: &dyn Fn(&str)) -> Result<()> {
        self.wait(seconds_max, tell)
    }

    fn fetch(
        &self,
        change: &Change,
        proxies: &[(String, String)],
        cancellation: &Cancellation,
    ) -> Result<u64> {
        self.fetch(change, proxies, cancellation)
    }

    fn rehearse(&self, change: &Change) -> Result<()> {
        self.rehearse(change)
    }

    fn bring(
        &self,
        change: &Change,
        direction: Direction,
        is_fresh: bool,
        touch: &Touch,
    ) -> Result<Vec<String>> {
        self.bring(change, direction, is_fresh, touch)
    }

    fn audit(&self) -> Result<BTreeSet<Fault>> {
        self.audit()
    }

    fn require_sound(&self, change: &Change) -> Result<()> {
        self.require_sound(change)
    }
}

/// A system whose packages are changed.
pub(crate) struct System {
    manager: Manager,
    tool: Tool,
}

enum Tool {
    /// What follows is decided here, over its lists.
    Apt(Apt),
    /// What follows it decides itself.
    Solver(Box<dyn Solver>),
}

impl System {
    /// The system below `root`; `state` is a directory of ours for archives and what the tool is told.
    ///
    /// # Errors
    /// `no-executor` where there is no tool for it.
    pub(crate) fn open(root: &Path, state: &Path) -> Result<Self> {
        let distribution = Distribution::recognise(root);
        match distribution.manager {
            Some(manager) => {
                let tool = match manager {
                    Manager::Apt => Tool::Apt(Apt::new(root, state)?),
                    Manager::Dnf => Tool::Solver(Box::new(Dnf::new(root, state)?)),
                    Manager::Pacman => Tool::Solver(Box::new(Pacman::new(root, state)?)),
                };
                Ok(Self { manager, tool })
            }
            None => {
                let message = format!(
                    "packages of {} cannot be changed here: {}",
                    distribution.name,
                    distribution.why_not()
                );
                Err(Error::new(Kind::Refused, "no-executor", message))
            }
        }
    }

    /// Refuses who may not change the system.
    ///
    /// # Errors
    /// `needs-root`.
    pub(crate) fn require_root() -> Result<()> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let message = "packages of the system can only be changed by root; nothing was changed";
        Err(Error::new(Kind::Refused, "needs-root", message).hint(
            "run the command as root yourself (root has plans and a history of its own); bolide never calls `sudo`",
        ))
    }

    /// Who carries changes out.
    pub(crate) fn manager(&self) -> Manager {
        self.manager
    }

    fn executor(&self) -> &dyn Executor {
        match &self.tool {
            Tool::Apt(apt) => apt,
            Tool::Solver(solver) => &**solver,
        }
    }

    fn solver(&self) -> Result<&dyn Solver> {
        match &self.tool {
            Tool::Solver(solver) => Ok(&**solver),
            Tool::Apt(_) => Err(self.other_kind()),
        }
    }

    /// The refusal of packages of another kind than this system has.
    fn other_kind(&self) -> Error {
        let own = self.manager.ecosystem();
        let message = format!("the packages of this system are of the kind `{own}`");
        Error::new(Kind::Usage, "other-distribution", message)
            .hint(format!("name them as `{own}:NAME`, or `system:NAME`"))
    }

    /// Refuses packages of another kind.
    pub(crate) fn check_kind(&self, ecosystem: Ecosystem) -> Result<()> {
        if self.manager.ecosystem() == ecosystem { Ok(()) } else { Err(self.other_kind()) }
    }

    /// What is installed.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.executor().snapshot()
    }

    /// What apt would do with its own lists to have `wants` (`name=version`, `name-`). Needs no rights.
    pub(crate) fn simulate(&self, wants: &[String]) -> Result<Vec<Action>> {
        match &self.tool {
            Tool::Apt(apt) => apt.simulate(wants),
            Tool::Solver(_) => Err(self.other_kind()),
        }
    }

    /// An archive of a version that was installed, from apt's own cache.
    pub(crate) fn cached(&self, name: &str, version: &Version) -> Option<String> {
        match &self.tool {
            Tool::Apt(apt) => apt.cached(name, version),
            Tool::Solver(_) => None,
        }
    }

    /// What a tool that decides itself says that follows from wishes. Needs no rights.
    pub(crate) fn solve(&self, wants: &[Want], is_offline: bool) -> Result<Solved> {
        self.solver()?.solve(wants, is_offline)
    }

    /// What its repositories say of a package.
    pub(crate) fn describe(
        &self,
        name: &str,
        version: Option<&str>,
        is_offline: bool,
    ) -> Result<Described> {
        self.solver()?.describe(name, version, is_offline)
    }

    /// Waits until no other program changes packages; tells what it waits for.
    pub(crate) fn wait(&self, tell: &dyn Fn(&str)) -> Result<()> {
        self.executor().wait(SYSTEM_LOCK_WAIT_SECONDS, tell)
    }

    /// Gets every archive that either direction takes; the bytes that were fetched.
    pub(crate) fn fetch(
        &self,
        change: &Change,
        proxies: &[(String, String)],
        cancellation: &Cancellation,
    ) -> Result<u64> {
        self.executor().fetch(change, proxies, cancellation)
    }

    /// Refuses a change that does not begin where the system stands.
    pub(crate) fn check_unchanged(&self, change: &Change) -> Result<()> {
        let snapshot = self.snapshot()?;
        snapshot.require_whole()?;
        let moved: Vec<String> = change
            .steps
            .iter()
            .filter_map(|step| {
                let now = snapshot.standing(&step.name);
                let is_marked = |standing: &Standing| standing.version().map(|it| it.is_automatic);
                let same = now.is_like(&step.before) && is_marked(&now) == is_marked(&step.before);
                (!same).then(|| format!("`{}` is {now} and was {}", step.name, step.before))
            })
            .collect();
        if moved.is_empty() {
            self.executor().require_sound(change)
        } else {
            Err(stale(&moved.join(", ")))
        }
    }

    /// What the tool finds wrong with packages, whoever changed them.
    pub(crate) fn audit(&self) -> Result<BTreeSet<Fault>> {
        self.executor().audit()
    }

    /// Shows that the tool would do exactly what the change says, without doing it.
    pub(crate) fn rehearse(&self, change: &Change) -> Result<()> {
        self.executor().rehearse(change)
    }

    /// Brings the system to one end of a change, from wherever it is. `is_fresh`: nobody can have used it meanwhile. Answers
    /// what people should know. Forward, whoever calls has waited for others ([`Self::wait`]). After an error `touch` says whether
    /// there may be something to bring back.
    pub(crate) fn bring(
        &self,
        change: &Change,
        direction: Direction,
        is_fresh: bool,
        touch: &Touch,
    ) -> Result<Vec<String>> {
        self.executor().bring(change, direction, is_fresh, touch)
    }
}

/// The refusal of a plan that no longer fits the system.
fn stale(what: &str) -> Error {
    let message =
        format!("the plan no longer holds for the system: {what}; nothing of it was changed");
    Error::new(Kind::Stale, "plan-stale", message)
        .hint("make a new plan from what is there now")
        .retryable()
}
