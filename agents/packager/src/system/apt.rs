//! apt and dpkg as those who carry changes out. The protocol is in the parent's header.

mod audit;
mod back;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use agents_contract::Cancellation;

use self::world::World;
use super::command::{self, Said};
use super::files::{Files, digest_of};
use super::simulated::{self, Action};
use super::snapshot::{FORMAT, Snapshot};
use super::touch::Touch;
use super::{Change, Direction, Standing, Step, Version, stale};
use crate::error::{Error, Kind, Result};
use crate::limits::{
    SYSTEM_FETCH_SECONDS_MAX, SYSTEM_FILE_BYTES_MAX, SYSTEM_LOCK_WAIT_SECONDS,
    SYSTEM_QUESTION_SECONDS_MAX, SYSTEM_RECOVERY_WAIT_SECONDS, SYSTEM_STEPS_MAX,
};

/// See the module.
pub(super) struct Apt {
    world: World,
    files: Files,
    native: String,
}

/// What is left to do for one package.
struct Task<'c> {
    step: &'c Step,
    goal: &'c Standing,
    now: Standing,
}

impl Task<'_> {
    /// The archive that brings it to its goal; `None` where it is to go.
    fn archive(&self) -> Option<&str> {
        self.goal.version()?.sha256.as_deref()
    }

    fn is_removal(&self) -> bool {
        self.goal.version().is_none()
    }
}

impl Apt {
    pub(super) fn new(root: &Path, state: &Path) -> Result<Self> {
        let files = Files::open(state)?;
        let world = World::new(root, state, &files)?;
        let mut asked = command::command("dpkg", Path::new("/"))?;
        let asked = asked.arg("--print-architecture");
        let said = command::ask(asked, SYSTEM_QUESTION_SECONDS_MAX, Cancellation::NEVER)?;
        let native = said.text.trim().to_owned();
        Ok(Self { world, files, native })
    }

    fn ask(&self, command: &mut std::process::Command) -> Result<Said> {
        command::ask(command, SYSTEM_QUESTION_SECONDS_MAX, Cancellation::NEVER)
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let mut query = self.world.dpkg("dpkg-query")?;
        let packages = self.ask(query.args(["--show", "--showformat", FORMAT]))?;
        if !packages.is_success {
            return Err(failed("dpkg-query", &packages));
        }
        let marks = self.ask(self.world.apt("apt-mark")?.arg("showauto"))?;
        if !marks.is_success {
            return Err(failed("apt-mark", &marks));
        }
        Snapshot::read(&self.native, &packages.text, &marks.text)
    }

    pub(super) fn simulate(&self, wants: &[String]) -> Result<Vec<Action>> {
        let mut command = self.world.apt("apt-get")?;
        // What is recommended has been decided about already, and whoever asks may not be root.
        command.args(["-qq", "--simulate", "-o", "APT::Install-Recommends=false"]);
        command.args(["-o", "APT::Get::AutomaticRemove=false", "-o", "APT::Get::Purge=false"]);
        command.args(["-o", "Debug::NoLocking=true", "--allow-downgrades", "install", "--"]);
        let said = self.ask(command.args(wants))?;
        if !said.is_success {
            return Err(failed("apt-get", &said));
        }
        Ok(simulated::read(&self.native, &said.text))
    }

    pub(super) fn cached(&self, name: &str, version: &Version) -> Option<String> {
        let plain = name.split(':').next().unwrap_or(name);
        let Version { architecture, version, .. } = version;
        let name = format!("{plain}_{}_{architecture}.deb", version.replace(':', "%3a"));
        let path = self.world.root().join("var/cache/apt/archives").join(name);
        let about = path.symlink_metadata().ok()?;
        let is_fit = about.is_file() && about.len() <= SYSTEM_FILE_BYTES_MAX;
        is_fit.then(|| digest_of(&path).ok()).flatten()
    }

    pub(super) fn wait(&self, seconds_max: u64, tell: &dyn Fn(&str)) -> Result<()> {
        let mut is_told = false;
        loop {
            // A second at a time at first, so that who waits is told for whom.
            let seconds = if is_told { seconds_max } else { 1 };
            let mut command = self.world.closed("apt-get")?;
            command.arg("-o").arg(format!("DPkg::Lock::Timeout={seconds}")).arg("check");
            let limit = SYSTEM_QUESTION_SECONDS_MAX + seconds_max;
            let said = command::ask(&mut command, limit, Cancellation::NEVER)?;
            // That something is broken is no reason to wait, nor for this to judge.
            if said.is_success || !is_locked(&said.complaints) {
                return Ok(());
            }
            if is_told {
                return Err(busy(&said));
            }
            is_told = true;
            tell(&format!(
                "waits at most {seconds_max} s for another program that changes packages ({})",
                said.complaints
            ));
        }
    }

    pub(super) fn fetch(
        &self,
        change: &Change,
        proxies: &[(String, String)],
        cancellation: &Cancellation,
    ) -> Result<u64> {
        let mut missing: BTreeMap<&str, (&str, &Version)> = BTreeMap::new();
        for step in change.steps.iter().filter(|step| step.is_real()) {
            for version in [&step.before, &step.after].into_iter().filter_map(Standing::version) {
                let Some(sha256) = &version.sha256 else { continue };
                if self.files.has(sha256)? {
                    continue;
                }
                if self.cached(&step.name, version).as_ref() == Some(sha256) {
                    self.adopt_cached(&step.name, version)?;
                } else {
                    missing.insert(sha256, (&step.name, version));
                }
            }
        }
        if missing.is_empty() {
            return Ok(0);
        }
        let place = self.files.scratch()?;
        let mut command = self.world.apt_in("apt-get", place.path())?;
        command.envs(proxies.iter().cloned()).args(["-qq", "-o", "APT::Sandbox::User=root"]);
        command.args(["download", "--"]);
        command.args(missing.values().map(|(name, it)| format!("{name}={}", it.version)));
        let said = command::ask(&mut command, SYSTEM_FETCH_SECONDS_MAX, cancellation)?;
        let bytes = self.adopt_all(place.path())?;
        for (sha256, (name, version)) in missing {
            if self.files.has(sha256)? {
                continue;
            }
            let what = format!("`{name}` {}", version.version);
            if !said.is_success {
                let message = format!("{what} cannot be fetched: {}", said.complaints);
                return Err(Error::new(Kind::Network, "system-fetch", message)
                    .hint("try again; where the archive is gone, run `apt-get update` and make a new plan")
                    .retryable());
            }
            return Err(stale(&format!("{what} is offered in another archive than the plan saw")));
        }
        Ok(bytes)
    }

    fn adopt_cached(&self, name: &str, version: &Version) -> Result<()> {
        let plain = name.split(':').next().unwrap_or(name);
        let Version { architecture, version, .. } = version;
        let name = format!("{plain}_{}_{architecture}.deb", version.replace(':', "%3a"));
        self.files.adopt(&self.world.root().join("var/cache/apt/archives").join(name)).map(drop)
    }

    /// Takes everything that was fetched; its bytes. What it is, its digest says.
    fn adopt_all(&self, place: &Path) -> Result<u64> {
        let failed = |error: std::io::Error| Error::io("read", place, &error);
        let mut bytes = 0;
        for entry in std::fs::read_dir(place).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let about = entry.path().metadata().map_err(failed)?;
            if about.is_file() {
                self.files.adopt(&entry.path())?;
                bytes += about.len();
            }
        }
        Ok(bytes)
    }

    pub(super) fn rehearse(&self, change: &Change) -> Result<()> {
        let snapshot = self.snapshot()?;
        let tasks = tasks(change, &snapshot, Direction::Forward);
        self.rehearse_tasks(&tasks, Direction::Forward)
    }

    /// Has apt say what it would do in the closed world, and refuses anything but the tasks.
    fn rehearse_tasks(&self, tasks: &[Task<'_>], direction: Direction) -> Result<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        let mut command = self.world.closed("apt-get")?;
        command.args(["--simulate", "-o", "Debug::NoLocking=true"]);
        let said = self.ask(command.args(["install", "--"]).args(self.arguments(tasks)?))?;
        if !said.is_success {
            return Err(failed("apt-get", &said));
        }
        let would: BTreeSet<_> = simulated::read(&self.native, &said.text)
            .into_iter()
            .map(|it| (it.name, it.before, it.after))
            .collect();
        let meant: BTreeSet<_> = tasks.iter().map(|it| Action::of(it.step, direction)).collect();
        check_same(&would, &meant)
    }

    /// What apt is asked for: paths of archives, and names that go.
    fn arguments(&self, tasks: &[Task<'_>]) -> Result<Vec<String>> {
        let mut arguments = Vec::with_capacity(tasks.len());
        for task in tasks {
            if task.is_removal() {
                arguments.push(format!("{}-", task.step.name));
                continue;
            }
            let sha256 = task.archive().unwrap_or_default();
            if !self.files.has(sha256)? {
                let message = format!("the archive of `{}` {} is gone", task.step.name, task.goal);
                return Err(Error::new(Kind::Failed, "archive-gone", message));
            }
            arguments.push(self.files.path(sha256).to_string_lossy().into_owned());
        }
        Ok(arguments)
    }

    /// Has apt do the tasks and nothing else.
    fn carry_out(&self, tasks: &[Task<'_>], direction: Direction, touch: &Touch) -> Result<()> {
        self.rehearse_tasks(tasks, direction)?;
        let mut lines: Vec<String> = tasks.iter().map(|task| self.line(task, direction)).collect();
        lines.sort();
        let arguments = self.arguments(tasks)?;
        let expected = touch.arm(&self.files, &(lines.join("\n") + "\n"))?;
        let mut command = self.world.closed("apt-get")?;
        command.arg("-o").arg(format!("DPkg::Lock::Timeout={SYSTEM_LOCK_WAIT_SECONDS}"));
        command.args(world::compared_with(&expected, touch));
        command.args(["install", "--"]).args(arguments);
        let said = command::change(&mut command, &self.world.state().join("log"))?;
        // What apt's cache says of the system is of before, which apt may not see within the same second.
        let _ = std::fs::remove_file(self.world.root().join("var/cache/apt/pkgcache.bin"));
        if said.text.contains(world::REFUSED) {
            return Err(stale("apt was about to do something else at the last moment"));
        }
        match said.is_success {
            true => Ok(()),
            // It asks for the lock before it does anything.
            false if is_locked(&said.complaints) => Err(busy(&said)),
            false => Err(failed("apt-get", &said)),
        }
    }

    /// What apt tells the comparing command of a task.
    fn line(&self, task: &Task<'_>, direction: Direction) -> String {
        let from = match direction {
            Direction::Forward => &task.step.before,
            Direction::Back => &task.step.after,
        };
        let words = |standing: &Standing| match standing.version() {
            Some(Version { version, architecture, .. }) => format!("{version} {architecture}"),
            None => "- -".to_owned(),
        };
        let plain = task.step.name.split(':').next().unwrap_or_default();
        let what = match task.archive() {
            Some(sha256) => self.files.path(sha256).to_string_lossy().into_owned(),
            None => "**REMOVE**".to_owned(),
        };
        format!("{plain} {} {} {what}", words(from), words(task.goal))
    }

    pub(super) fn bring(
        &self,
        change: &Change,
        direction: Direction,
        is_fresh: bool,
        touch: &Touch,
    ) -> Result<Vec<String>> {
        if change.steps.len() > SYSTEM_STEPS_MAX {
            let message = format!("more than {SYSTEM_STEPS_MAX} packages of the system at once");
            return Err(Error::new(Kind::Failed, "too-many-packages", message));
        }
        let seconds_max = match (direction, is_fresh) {
            (Direction::Back, false) => SYSTEM_RECOVERY_WAIT_SECONDS,
            _ => SYSTEM_LOCK_WAIT_SECONDS,
        };
        // Forward, whoever looked at the system just now has waited.
        if direction == Direction::Back {
            let log = self.world.state().join("log");
            // A late apt-mark asks for no lock; apt and dpkg do, and are waited for below, too.
            if !is_fresh && !command::has_ended(&log, seconds_max)? {
                tracing::warn!("a tool that was started before, or something of a package, runs");
            }
            self.wait(seconds_max, &|_| {})?;
        }
        let mut notes = Vec::new();
        // What was wrong before is not this change's.
        let known = match direction {
            Direction::Forward => self.audit()?,
            Direction::Back => BTreeSet::new(),
        };
        match direction {
            Direction::Forward => {
                let snapshot = self.snapshot()?;
                let tasks = tasks(change, &snapshot, direction);
                let worn = self.worn(&tasks, is_fresh)?;
                if !tasks.is_empty() {
                    self.carry_out(&tasks, direction, touch)?;
                }
                self.purge(&tasks, &worn, &mut notes)?;
            }
            Direction::Back => self.bring_back(change, is_fresh, touch, &mut notes)?,
        }
        self.mark(change, direction, touch)?;
        self.check_arrived(change, direction)?;
        self.check_sound(change, direction, &known, &mut notes)?;
        Ok(notes)
    }

    /// Marks what is there for itself and what is there for others.
    fn mark(&self, change: &Change, direction: Direction, touch: &Touch) -> Result<()> {
        let snapshot = self.snapshot()?;
        for (word, is_automatic) in [("auto", true), ("manual", false)] {
            let differs = |step: &&Step| {
                let now = snapshot.standing(&step.name);
                let marks = (step.goal(direction).version(), now.version());
                matches!(marks, (Some(goal), Some(now)) if goal.is_automatic == is_automatic
                    && now.is_automatic != is_automatic)
            };
            let names: Vec<&str> =
                change.steps.iter().filter(differs).map(|step| step.name.as_str()).collect();
            if names.is_empty() {
                continue;
            }
            touch.record()?;
            let mut command = self.world.apt("apt-mark")?;
            let log = self.world.state().join("log");
            let said = command::change(command.arg(word).arg("--").args(names), &log)?;
            if !said.is_success {
                return Err(failed("apt-mark", &said));
            }
        }
        Ok(())
    }

    /// Asks once more how everything stands.
    fn check_arrived(&self, change: &Change, direction: Direction) -> Result<()> {
        let snapshot = self.snapshot()?;
        let astray: Vec<&Step> = change
            .steps
            .iter()
            // No task changes the others, so they are as they were, on hold or not.
            .filter(|step| step.is_real())
            .filter(|step| {
                let goal = step.goal(direction);
                let now = snapshot.standing(&step.name);
                let is_gone = goal.version().is_none() && now.version().is_none();
                let is_there = is_gone || now.is_like(goal);
                let is_kept = is_beyond_reach(step, direction) || is_foreign(step, &now, direction);
                !(snapshot.is_settled(&step.name) && (is_there || is_kept))
            })
            .collect();
        if astray.is_empty() {
            return Ok(());
        }
        let text = |step: &&Step| {
            let (now, goal) = (snapshot.standing(&step.name), step.goal(direction));
            format!("`{}` is {now} and should be {goal}", step.name)
        };
        let what: Vec<String> = astray.iter().map(text).collect();
        match direction {
            Direction::Forward => {
                let message = format!("apt did not do what it said: {}", what.join(", "));
                Err(Error::new(Kind::Failed, "system-failed", message))
            }
            Direction::Back => Err(self.cannot_go_back(&astray, &what.join(", "))),
        }
    }
}

/// What is left to do, from where things stand.
fn tasks<'c>(change: &'c Change, snapshot: &Snapshot, direction: Direction) -> Vec<Task<'c>> {
    let left = change.steps.iter().filter(|step| step.is_real()).filter_map(|step| {
        let (goal, now) = (step.goal(direction), snapshot.standing(&step.name));
        let is_gone = goal.version().is_none() && now.version().is_none();
        let is_there = (is_gone || now.is_like(goal)) && snapshot.is_settled(&step.name);
        let is_left = is_beyond_reach(step, direction)
            || (is_foreign(step, &now, direction) && snapshot.is_settled(&step.name));
        (!is_there && !is_left).then_some(Task { step, goal, now })
    });
    left.collect()
}

/// Whether a goal cannot be had, as was said before anything began.
fn is_beyond_reach(step: &Step, direction: Direction) -> bool {
    direction == Direction::Back
        && step.before.version().is_some_and(|version| version.sha256.is_none())
}

/// Whether somebody else changed the package after a crash: then it is theirs.
fn is_foreign(step: &Step, now: &Standing, direction: Direction) -> bool {
    direction == Direction::Back
        && now.version().is_some()
        && !now.is_like(&step.before)
        && !now.is_like(&step.after)
}

type Named = (String, Option<String>, Option<String>);

/// Refuses anything that would be done beside what is meant, and anything that would not.
pub(super) fn check_same(would: &BTreeSet<Named>, meant: &BTreeSet<Named>) -> Result<()> {
    let text = |(name, before, after): &Named| {
        let or_none =
            |version: &Option<String>| version.clone().unwrap_or_else(|| "none".to_owned());
        format!("`{name}` from {} to {}", or_none(before), or_none(after))
    };
    let more: Vec<String> = would.difference(meant).map(text).collect();
    let less: Vec<String> = meant.difference(would).map(text).collect();
    let mut parts = Vec::new();
    if !more.is_empty() {
        parts.push(format!("apt would also take {}", more.join(", ")));
    }
    if !less.is_empty() {
        parts.push(format!("apt would not take {}", less.join(", ")));
    }
    if parts.is_empty() { Ok(()) } else { Err(stale(&parts.join("; "))) }
}

/// Whether apt complains of a lock that another program has.
fn is_locked(complaints: &str) -> bool {
    complaints.contains("Could not get lock") || complaints.contains("Unable to acquire")
}

fn busy(said: &Said) -> Error {
    let message = format!("another program changes packages: {}", said.complaints);
    Error::new(Kind::Failed, "system-busy", message)
        .hint("wait until it has ended, then run the command again")
        .retryable()
}

fn failed(tool: &str, said: &Said) -> Error {
    let message = format!("{tool} failed: {}", said.complaints);
    Error::new(Kind::Failed, "system-failed", message)
}
