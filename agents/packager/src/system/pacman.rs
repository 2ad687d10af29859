//! pacman as the one who carries changes out. The protocol is in the parent's header.
//!
//! A change is first carried out on a copy of what is installed, by pacman itself and without files: what stands there then is
//! compared with the change, and so is what pacman's own check of relations finds. For real, what goes is taken away first and
//! what comes is installed from archives of ours, by a pacman that has no repository; pacman can do both in one
//! transaction only where one excludes the other. Signatures are checked as pacman is configured when archives are fetched.

mod back;
mod read;
mod solve;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use agents_contract::Cancellation;

use self::read::Installed;
use self::world::{World, ask, failed};
use super::command;
use super::files::Files;
use super::snapshot::{Entry, Snapshot};
use super::solved::{Described, Solved, Want};
use super::tasks::{self, Task};
use super::touch::Touch;
use super::{Change, Direction, Executor, Solver, Version, stale};
use crate::error::{Error, Kind, Result};
use crate::limits::{
    LOCK_RETRY_MS, SYSTEM_FETCH_SECONDS_MAX, SYSTEM_LOCK_WAIT_SECONDS, SYSTEM_RECOVERY_WAIT_SECONDS,
};

/// See the module.
pub(super) struct Pacman {
    world: World,
    files: Files,
}

/// How a copy stands.
struct Copied {
    /// Names and versions.
    packages: BTreeSet<(String, String)>,
    /// Relations that are unmet, in pacman's words.
    problems: BTreeSet<String>,
}

impl Pacman {
    pub(super) fn new(root: &Path, state: &Path) -> Result<Self> {
        Ok(Self { world: World::new(root, state)?, files: Files::open_for(state, "pkg")? })
    }

    fn installed(&self) -> Result<Vec<Installed>> {
        let said = ask(self.world.pacman()?.args(["--query", "--info"]))?;
        // Of nothing at all it says so by its end alone.
        let is_empty = said.text.is_empty() && said.complaints.is_empty();
        if !said.is_success && !is_empty {
            return Err(failed(&said));
        }
        Ok(read::installed(&said.text))
    }

    fn archive(&self, name: &str, sha256: &str) -> Result<String> {
        if self.files.has(sha256)? {
            return Ok(self.files.path(sha256).to_string_lossy().into_owned());
        }
        let message = format!("the archive of `{name}` that was kept is gone");
        Err(Error::new(Kind::Failed, "archive-gone", message))
    }

    /// Has pacman do the tasks on a copy, and refuses anything but them; which relations are unmet then.
    fn rehearse_tasks(&self, tasks: &[Task<'_>], direction: Direction) -> Result<BTreeSet<String>> {
        if tasks.is_empty() {
            return Ok(BTreeSet::new());
        }
        let place = self.files.scratch()?;
        let place = place.path();
        copy(&self.world.database().join("local"), &place.join("db/local"))?;
        let before = self.copied_state(place)?;
        let mut meant = before.packages.clone();
        let (mut goes, mut comes) = (Vec::new(), Vec::new());
        for task in tasks {
            let name = &task.step.name;
            let from = match direction {
                Direction::Forward => &task.step.before,
                Direction::Back => &task.now,
            };
            if let Some(version) = from.version() {
                let one = (name.clone(), version.version.clone());
                if !meant.remove(&one) {
                    return Err(stale(&format!("`{name}` {} is not there", one.1)));
                }
            }
            match task.comes() {
                Some((version, sha256)) => {
                    comes.push(self.archive(name, sha256)?);
                    meant.insert((name.clone(), version.version.clone()));
                }
                None => goes.push(name.as_str()),
            }
        }
        if !goes.is_empty() {
            let mut remove = self.world.copied(&self.files, place)?;
            let said = ask(remove.args(["--remove", "-dd", "--dbonly", "--"]).args(goes))?;
            self.check_rehearsed(&said)?;
        }
        if !comes.is_empty() {
            let mut upgrade = self.world.copied(&self.files, place)?;
            let said = ask(upgrade.args(["--upgrade", "--dbonly", "--"]).args(comes))?;
            self.check_rehearsed(&said)?;
        }
        let after = self.copied_state(place)?;
        let text = |found: Vec<&(String, String)>| -> String {
            found
                .iter()
                .map(|(name, version)| format!("`{name}` {version}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let more: Vec<_> = after.packages.symmetric_difference(&meant).collect();
        if !more.is_empty() {
            return Err(stale(&format!("pacman would leave other packages: {}", text(more))));
        }
        let broken: Vec<&str> =
            after.problems.difference(&before.problems).map(String::as_str).collect();
        match broken.is_empty() {
            true => Ok(after.problems),
            false => Err(stale(&broken.join("; "))),
        }
    }

    fn check_rehearsed(&self, said: &command::Said) -> Result<()> {
        if said.is_success {
            return Ok(());
        }
        let lines = said.text.lines().filter(|line| line.starts_with(":: ")).map(|line| &line[3..]);
        let shown: String = lines.chain([said.complaints.as_str()]).collect::<Vec<_>>().join("; ");
        let shown: String = shown.chars().filter(|one| !one.is_control()).take(1_000).collect();
        Err(stale(&format!("pacman would not do it: {shown}")))
    }

    /// What is installed in a copy, and which relations are unmet there.
    fn copied_state(&self, place: &Path) -> Result<Copied> {
        let query = ask(self.world.copied(&self.files, place)?.arg("--query"))?;
        let check = ask(self.world.copied(&self.files, place)?.args(["--database", "--check"]))?;
        let packages = read::names_and_versions(&query.text);
        Ok(Copied { packages, problems: problems(&check)? })
    }

    /// Shows that no relation is unmet of which the rehearsal did not know: between it and pacman's lock somebody else may have
    /// been here.
    fn check_related(&self, rehearsed: &BTreeSet<String>) -> Result<()> {
        let found = problems(&ask(self.world.pacman()?.args(["--database", "--check"]))?)?;
        let fresh: Vec<&str> = found.difference(rehearsed).map(String::as_str).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let message = format!("pacman finds fault after the change: {}", fresh.join("; "));
        Err(Error::new(Kind::Failed, "system-failed", message))
    }

    /// Has pacman do the tasks, which were rehearsed, and nothing else.
    fn carry_out(&self, tasks: &[Task<'_>]) -> Result<()> {
        let goes = tasks.iter().filter(|task| task.goal.version().is_none());
        let goes: Vec<&str> = goes.map(|task| task.step.name.as_str()).collect();
        let log = self.world.state().join("log");
        let mut is_begun = false;
        if !goes.is_empty() {
            // That nothing misses them in the end, the rehearsal has shown.
            let mut remove = self.world.closed(&self.files)?;
            remove.args(["--remove", "-dd", "--"]).args(goes);
            self.told(command::change(&mut remove, &log)?, is_begun)?;
            is_begun = true;
        }
        let mut comes = Vec::new();
        for task in tasks {
            if let Some((_, sha256)) = task.comes() {
                comes.push(self.archive(&task.step.name, sha256)?);
            }
        }
        if !comes.is_empty() {
            let mut upgrade = self.world.closed(&self.files)?;
            upgrade.args(["--upgrade", "--"]).args(comes);
            let second = self.world.state().join("log-of-archives");
            self.told(command::change(&mut upgrade, &second)?, is_begun)?;
        }
        Ok(())
    }

    fn told(&self, said: command::Said, is_begun: bool) -> Result<()> {
        match said.is_success {
            true => Ok(()),
            // It asks for the lock before it does anything, and before anything of a package can say the same.
            false if !is_begun && is_locked_out(&said.text) => Err(busy()),
            false => Err(failed(&said)),
        }
    }

    /// Marks what is there for itself and what is there for others.
    fn mark(&self, change: &Change, direction: Direction, touch: &Touch) -> Result<()> {
        let snapshot = self.snapshot()?;
        let marks = tasks::mismarked(change, &snapshot, direction);
        for (option, is_automatic) in [("--asdeps", true), ("--asexplicit", false)] {
            let wanted = marks.iter().filter(|(_, it)| it.is_automatic == is_automatic);
            let names: Vec<&str> = wanted.map(|(name, _)| *name).collect();
            if names.is_empty() {
                continue;
            }
            touch.record()?;
            let mut command = self.world.closed(&self.files)?;
            command.args(["--database", option, "--"]).args(names);
            let said = command::change(&mut command, &self.world.state().join("log-of-marks"))?;
            if !said.is_success {
                return Err(failed(&said));
            }
        }
        Ok(())
    }

    fn check_arrived(&self, change: &Change, direction: Direction) -> Result<()> {
        let snapshot = self.snapshot()?;
        let astray = tasks::astray(change, &snapshot, direction);
        if astray.is_empty() {
            return Ok(());
        }
        let what = tasks::described(&astray, &snapshot, direction);
        match direction {
            Direction::Forward => {
                let message = format!("pacman did not do what it said: {what}");
                Err(Error::new(Kind::Failed, "system-failed", message))
            }
            Direction::Back => Err(self.cannot_go_back(&astray, &what)),
        }
    }

    /// Takes a copy of an archive with this digest from pacman's own cache; whether there is one.
    fn adopt_cached(&self, name: &str, version: &Version, sha256: &str) -> Result<bool> {
        let name = format!("{name}-{}-{}.pkg.tar", version.version, version.architecture);
        for path in self.in_caches(&name) {
            let is_it = super::files::digest_of(&path).is_ok_and(|it| it == sha256);
            if is_it && self.files.adopt(&path)? == sha256 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes away what earlier changes said.
    fn forget_words(&self) {
        for name in ["log", "log-of-archives"] {
            let _ = std::fs::remove_file(self.world.state().join(name));
        }
    }
}

impl Executor for Pacman {
    fn snapshot(&self) -> Result<Snapshot> {
        let entries = self.installed()?.into_iter().map(|it| Entry {
            name: it.name,
            architecture: it.architecture,
            version: it.version,
            is_automatic: it.is_automatic,
        });
        Ok(Snapshot::of(entries))
    }

    fn wait(&self, seconds_max: u64, tell: &dyn Fn(&str)) -> Result<()> {
        let lock = self.world.database().join("db.lck");
        let began = Instant::now();
        let mut is_told = false;
        while lock.symlink_metadata().is_ok() {
            let waited = began.elapsed();
            if waited >= Duration::from_secs(seconds_max) {
                return Err(busy().hint(format!(
                    "wait until it has ended; where nobody is at work, remove `{}`",
                    lock.display()
                )));
            }
            if !is_told && waited >= Duration::from_secs(1) {
                is_told = true;
                tell(&format!(
                    "waits at most {seconds_max} s for another program that changes packages"
                ));
            }
            std::thread::sleep(Duration::from_millis(LOCK_RETRY_MS));
        }
        Ok(())
    }

    fn fetch(
        &self,
        change: &Change,
        proxies: &[(String, String)],
        cancellation: &Cancellation,
    ) -> Result<u64> {
        let mut missing: BTreeMap<&str, (&str, &Version)> = BTreeMap::new();
        for step in change.steps.iter().filter(|step| step.is_real()) {
            for (standing, was_installed) in [(&step.before, true), (&step.after, false)] {
                let Some(version) = standing.version() else { continue };
                let Some(sha256) = &version.sha256 else { continue };
                // pacman keeps in its cache what it has not looked at yet, too: what comes it fetches anew, and looks at.
                let is_here = self.files.has(sha256)?
                    || (was_installed && self.adopt_cached(&step.name, version, sha256)?);
                if !is_here {
                    missing.insert(sha256, (&step.name, version));
                }
            }
        }
        if missing.is_empty() {
            return Ok(0);
        }
        let place = self.files.scratch()?;
        let mut command = self.world.fetching(&self.files, place.path())?;
        command.envs(proxies.iter().cloned()).args(["--sync", "-w", "-dd", "--"]);
        command.args(missing.values().map(|(name, _)| *name));
        let said = command::ask(&mut command, SYSTEM_FETCH_SECONDS_MAX, cancellation)?;
        if !said.is_success {
            return Err(not_fetched(&said.complaints));
        }
        let bytes = self.files.adopt_all(place.path())?;
        for (sha256, (name, version)) in missing {
            if !self.files.has(sha256)? {
                let what = format!("`{name}` {}", version.version);
                return Err(stale(&format!(
                    "{what} is offered in another archive than the plan saw"
                )));
            }
        }
        Ok(bytes)
    }

    fn rehearse(&self, change: &Change) -> Result<()> {
        let snapshot = self.snapshot()?;
        let tasks = tasks::tasks(change, &snapshot, Direction::Forward);
        self.rehearse_tasks(&tasks, Direction::Forward).map(drop)
    }

    fn bring(
        &self,
        change: &Change,
        direction: Direction,
        is_fresh: bool,
        touch: &Touch,
    ) -> Result<Vec<String>> {
        tasks::check_bounds(change)?;
        let mut notes = Vec::new();
        match direction {
            // Whoever looked at the system just now has waited.
            Direction::Forward => {
                self.forget_words();
                let snapshot = self.snapshot()?;
                let tasks = tasks::tasks(change, &snapshot, direction);
                if !tasks.is_empty() {
                    let rehearsed = self.rehearse_tasks(&tasks, direction)?;
                    let is_unchanged = || self.snapshot().is_ok_and(|now| now == snapshot);
                    touch.around(|| self.carry_out(&tasks), is_unchanged)?;
                    self.check_related(&rehearsed)?;
                }
            }
            Direction::Back => {
                let seconds_max = match is_fresh {
                    true => SYSTEM_LOCK_WAIT_SECONDS,
                    false => SYSTEM_RECOVERY_WAIT_SECONDS,
                };
                self.wait_for_own(seconds_max)?;
                self.wait(seconds_max, &|_| {})?;
                self.forget_words();
                self.bring_back(change, &mut notes)?;
            }
        }
        for name in ["log", "log-of-archives"] {
            notes.extend(command::set_aside(&self.world.state().join(name)));
        }
        self.mark(change, direction, touch)?;
        self.check_arrived(change, direction)?;
        Ok(notes)
    }
}

impl Solver for Pacman {
    fn solve(&self, wants: &[Want], _is_offline: bool) -> Result<Solved> {
        // Its lists are fetched by `pacman -Sy` alone.
        self.solve_wants(wants)
    }

    fn describe(&self, name: &str, version: Option<&str>, _is_offline: bool) -> Result<Described> {
        let said = ask(self.world.pacman()?.args(["--sync", "--info", "--"]).arg(name))?;
        let found = read::installed(&said.text);
        let newest = found.first().filter(|it| version.is_none_or(|version| it.version == version));
        let newest = newest.ok_or_else(|| {
            Error::new(Kind::Usage, "unknown-package", format!("no repository has `{name}`"))
                .hint("look at the spelling; `pacman -Sy` fetches newer lists")
        })?;
        let mut listed = None;
        for repository in self.world.repositories() {
            let found = self.lists(repository, &[(name, &newest.version)])?;
            listed = listed.or_else(|| found.into_iter().next());
        }
        let listed = listed.unwrap_or_default();
        Ok(Described {
            version: newest.version.clone(),
            latest: newest.version.clone(),
            count: found.len(),
            license: listed.license,
            sha256: listed.sha256,
            requires: listed.depends,
        })
    }
}

fn busy() -> Error {
    let message = "another program changes packages: pacman's database is locked";
    Error::new(Kind::Failed, "system-busy", message)
        .hint("wait until it has ended, then run the command again")
        .retryable()
}

/// Whether pacman ended because another program has its lock: that is the first that it says then.
fn is_locked_out(said: &str) -> bool {
    let mut lines = said.lines().filter(|line| !line.starts_with("warning: "));
    lines.next().is_some_and(|line| {
        line.starts_with("error: failed to init transaction (unable to lock database)")
    })
}

/// What pacman's check of its database finds: one problem a line.
fn problems(check: &command::Said) -> Result<BTreeSet<String>> {
    if check.is_success {
        return Ok(BTreeSet::new());
    }
    let lines = check.errors.lines().filter_map(|line| line.strip_prefix("error: "));
    let found: BTreeSet<String> = lines.map(|line| line.trim().to_owned()).collect();
    if found.is_empty() { Err(failed(check)) } else { Ok(found) }
}

fn not_fetched(why: &str) -> Error {
    let is_unsigned =
        ["signature", "PGP", "keyring", ".sig'"].iter().any(|word| why.contains(word));
    if is_unsigned {
        let message = format!(
            "an archive is not signed as its repository demands: {why}; nothing was changed"
        );
        return Error::new(Kind::Verification, "bad-signature", message);
    }
    Error::new(Kind::Network, "system-fetch", format!("archives cannot be fetched: {why}"))
        .hint("try again; where an archive is gone, run `pacman -Sy` and make a new plan")
        .retryable()
}

/// Copies a directory of small files.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("copy", from, &error);
    std::fs::create_dir_all(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().map_err(failed)? {
            kind if kind.is_dir() => copy(&path, &target)?,
            kind if kind.is_file() => drop(std::fs::copy(&path, &target).map_err(failed)?),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pacman_itself_says_that_its_lock_was_taken() {
        let words = "error: failed to init transaction (unable to lock database)\n";
        assert!(is_locked_out(words) && is_locked_out(&format!("warning: odd\n{words}")));
        assert!(!is_locked_out(&format!("loading packages...\n:: Running hooks\n{words}")));
        assert!(!is_locked_out(""));
    }

    #[test]
    fn no_problem_is_cut_off_and_a_check_that_says_none_is_no_answer() {
        let errors: String = (0..500).map(|it| format!("error: missing '{it}'\n")).collect();
        let said = |errors: &str| command::Said {
            is_success: false,
            code: Some(1),
            text: String::new(),
            complaints: String::new(),
            errors: errors.to_owned(),
        };
        assert_eq!(problems(&said(&errors)).unwrap().len(), 500);
        assert!(problems(&said("odd\n")).is_err());
    }
}
