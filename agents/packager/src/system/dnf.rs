//! dnf and rpm as those who carry changes out. The protocol is in the parent's header.
//!
//! dnf 4 is asked through its own Python interface, by a program of ours in dnf's interpreter (`tool.py`): its command line
//! would have to be read back from tables for people. What follows from a wish, dnf's solver decides over its repositories.
//! Carried out is a change without any: dnf loads what is installed and the archives that it is given, solves once more, and
//! compares with what was expected under its own lock before rpm begins; rpm then gets fixed packages and cannot choose.
//! Signatures are checked as the repositories are configured when archives are fetched; no key is ever imported.

mod back;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agents_contract::Cancellation;
use serde_json::json;

pub(super) use self::words::NAMES;
use self::words::{Answer, Description, Expected, Fetched, Installed, Nevra, Words};
use super::command;
use super::files::Files;
use super::snapshot::{Entry, Snapshot};
use super::solved::{Coming, Described, Going, Solved, Want};
use super::tasks::{self, Task};
use super::touch::Touch;
use super::{Change, Direction, Executor, Solver, Standing, Version, stale};
use crate::error::{Error, Kind, Result};
use crate::limits::{
    SYSTEM_FETCH_SECONDS_MAX, SYSTEM_LOCK_WAIT_SECONDS, SYSTEM_QUESTION_SECONDS_MAX,
    SYSTEM_RECOVERY_WAIT_SECONDS,
};

/// See the module.
pub(super) struct Dnf {
    words: Words,
    files: Files,
    state: PathBuf,
}

const QUESTION: (u64, &Cancellation) = (SYSTEM_QUESTION_SECONDS_MAX, Cancellation::NEVER);

impl Dnf {
    pub(super) fn new(root: &Path, state: &Path) -> Result<Self> {
        let files = Files::open_for(state, "rpm")?;
        Ok(Self { words: Words::new(root)?, files, state: state.to_owned() })
    }

    fn installed(&self) -> Result<Installed> {
        self.words.ask("snapshot", &json!({}), QUESTION, &[])
    }

    fn log(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Takes away what an earlier change said.
    fn forget_words(&self) -> Result<()> {
        match std::fs::remove_file(self.log()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.log(), &error))
            }
            _ => Ok(()),
        }
    }

    /// Waits until a dnf that a dead process of ours started, and everything that it started, has ended.
    fn wait_for_own(&self, seconds_max: u64) -> Result<()> {
        if command::has_ended(&self.log(), seconds_max)? {
            return Ok(());
        }
        let message = "what an earlier transaction's dnf started still runs";
        Err(Error::new(Kind::Failed, "system-busy", message)
            .hint(format!(
                "wait until nobody has `{}` open any more, or end who has, then run the command again",
                self.log().display()
            ))
            .retryable())
    }

    fn archive(&self, name: &str, sha256: &str) -> Result<String> {
        if self.files.has(sha256)? {
            return Ok(self.files.path(sha256).to_string_lossy().into_owned());
        }
        let message = format!("the archive of `{name}` that was kept is gone");
        Err(Error::new(Kind::Failed, "archive-gone", message))
    }

    /// Has dnf do the tasks and nothing else; without a record to make, say whether it would.
    fn carry_out(
        &self,
        tasks: &[Task<'_>],
        direction: Direction,
        touch: Option<&Touch>,
    ) -> Result<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        let mut expected = Expected::default();
        for task in tasks {
            // Forward a change begins where the plan saw the system, and nowhere else.
            let from = match direction {
                Direction::Forward => &task.step.before,
                Direction::Back => &task.now,
            };
            expected.goes.extend(from.version().map(|it| nevra(&task.step.name, it)));
            if let Some((version, sha256)) = task.comes() {
                let one = nevra(&task.step.name, version);
                expected.comes.push(self.archive(&task.step.name, sha256)?);
                expected.names.push(one);
                expected.automatic.extend(version.is_automatic.then_some(one));
            }
        }
        let text = json!(expected).to_string();
        let place = match touch {
            Some(touch) => touch.arm(&self.files, &text)?,
            None => {
                let place = self.state.join("rehearsed");
                self.files.write(&place, &text)?;
                place
            }
        };
        let request = json!({
            "expected": place,
            "seconds": SYSTEM_LOCK_WAIT_SECONDS,
            "touched": touch.map(Touch::path),
        });
        self.words.tell("change", &request, &self.log())
    }

    /// Marks what is there for itself and what is there for others.
    fn mark(&self, change: &Change, direction: Direction, touch: &Touch) -> Result<()> {
        let snapshot = self.snapshot()?;
        let marks: Vec<_> = tasks::mismarked(change, &snapshot, direction)
            .into_iter()
            .map(|(name, it)| (plain(name, it), it.architecture.as_str(), it.is_automatic))
            .collect();
        if marks.is_empty() {
            return Ok(());
        }
        let expected = Expected { marks, ..Expected::default() };
        let request = json!({
            "expected": touch.arm(&self.files, &json!(expected).to_string())?,
            "seconds": SYSTEM_LOCK_WAIT_SECONDS,
            "touched": touch.path(),
        });
        self.words.tell("mark", &request, &self.state.join("log-of-marks"))
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
                let message = format!("dnf did not do what it said: {what}{}", self.said());
                Err(Error::new(Kind::Failed, "system-failed", message))
            }
            Direction::Back => Err(self.cannot_go_back(&astray, &what)),
        }
    }
}

impl Executor for Dnf {
    fn snapshot(&self) -> Result<Snapshot> {
        let installed = self.installed()?;
        let entries = installed.packages.into_iter().map(|it| Entry {
            name: qualified(&installed.native, &it.name, &it.arch),
            architecture: it.arch,
            version: it.evr,
            is_automatic: it.is_automatic,
        });
        Ok(Snapshot::of(entries))
    }

    fn wait(&self, seconds_max: u64, tell: &dyn Fn(&str)) -> Result<()> {
        // A second at first, so that who waits is told for whom.
        for seconds in [1, seconds_max] {
            let limit = (SYSTEM_QUESTION_SECONDS_MAX + seconds, Cancellation::NEVER);
            let asked: Result<serde_json::Value> =
                self.words.ask("wait", &json!({ "seconds": seconds }), limit, &[]);
            match asked {
                Err(error) if error.code == "system-busy" && seconds < seconds_max => {
                    tell(&format!(
                        "waits at most {seconds_max} s for another program: {}",
                        error.message
                    ))
                }
                asked => return asked.map(drop),
            }
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
            for version in [&step.before, &step.after].into_iter().filter_map(Standing::version) {
                if let Some(sha256) = &version.sha256
                    && !self.files.has(sha256)?
                {
                    missing.insert(sha256, (&step.name, version));
                }
            }
        }
        if missing.is_empty() {
            return Ok(0);
        }
        let place = self.files.scratch()?;
        let packages: Vec<_> = missing
            .iter()
            .map(|(sha256, (name, it))| {
                json!({
                    "arch": it.architecture, "evr": it.version, "name": plain(name, it),
                    "sha256": sha256,
                })
            })
            .collect();
        let request = json!({
            "into": place.path(), "packages": packages, "with_repositories": true,
        });
        let limit = (SYSTEM_FETCH_SECONDS_MAX, cancellation);
        let Fetched { gone } = self.words.ask("fetch", &request, limit, proxies)?;
        let bytes = self.files.adopt_all(place.path())?;
        for (sha256, (name, version)) in missing {
            if !self.files.has(sha256)? {
                let what = format!("`{name}` {}", version.version);
                let is_gone = gone.iter().any(|gone| gone == plain(name, version));
                return Err(stale(&match is_gone {
                    true => format!(
                        "{what} is offered in another archive than the plan saw, or not at all"
                    ),
                    false => format!("the archive of {what} is not what its repository says"),
                }));
            }
        }
        Ok(bytes)
    }

    fn rehearse(&self, change: &Change) -> Result<()> {
        let snapshot = self.snapshot()?;
        let tasks = tasks::tasks(change, &snapshot, Direction::Forward);
        self.carry_out(&tasks, Direction::Forward, None)
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
                self.forget_words()?;
                let snapshot = self.snapshot()?;
                let tasks = tasks::tasks(change, &snapshot, direction);
                self.carry_out(&tasks, direction, Some(touch))?;
            }
            Direction::Back => {
                let seconds_max = match is_fresh {
                    true => SYSTEM_LOCK_WAIT_SECONDS,
                    false => SYSTEM_RECOVERY_WAIT_SECONDS,
                };
                // Of one that this process started it has seen the end.
                if !is_fresh {
                    self.wait_for_own(seconds_max)?;
                }
                self.wait(seconds_max, &|_| {})?;
                self.forget_words()?;
                self.bring_back(change, touch, &mut notes)?;
            }
        }
        notes.extend(command::set_aside(&self.log()));
        self.mark(change, direction, touch)?;
        self.check_arrived(change, direction)?;
        Ok(notes)
    }
}

impl Solver for Dnf {
    fn solve(&self, wants: &[Want], is_offline: bool) -> Result<Solved> {
        let wants: Vec<_> = wants
            .iter()
            .map(|it| json!({ "kind": it.kind, "name": it.name, "version": it.version }))
            .collect();
        let request =
            json!({ "is_offline": is_offline, "wants": wants, "with_repositories": true });
        let answer: Answer = self.words.ask("solve", &request, QUESTION, &[])?;
        if let Some(why) = answer.conflict {
            return Ok(Solved::Conflict(why));
        }
        if let Some(one) = answer.comes.iter().find(|it| it.stands_beside) {
            let message = format!(
                "`{}` {} would be installed beside another version of itself, which is not carried out here",
                one.name, one.evr
            );
            return Err(Error::new(Kind::Refused, "several-versions", message)
                .hint("use dnf itself for such packages (kernels, mostly)"));
        }
        let native = self.installed()?.native;
        let names: BTreeMap<&str, String> = answer
            .comes
            .iter()
            .map(|it| (it.name.as_str(), qualified(&native, &it.name, &it.arch)))
            .collect();
        let coming = |it: &words::Comes| Coming {
            name: qualified(&native, &it.name, &it.arch),
            architecture: it.arch.clone(),
            version: it.evr.clone(),
            sha256: it.sha256.clone(),
            origin: it.origin.clone(),
            size: it.size,
            license: it.license.clone(),
            file: it.file.clone(),
            uses: it.uses.iter().filter_map(|name| names.get(name.as_str()).cloned()).collect(),
        };
        let comes = answer.comes.iter().map(coming).collect();
        let going = |it: words::Goes| Going {
            name: qualified(&native, &it.name, &it.arch),
            version: it.evr,
            sha256: it.sha256,
        };
        Ok(Solved::Change(comes, answer.goes.into_iter().map(going).collect()))
    }

    fn describe(&self, name: &str, version: Option<&str>, is_offline: bool) -> Result<Described> {
        let request = json!({
            "is_offline": is_offline, "want": { "name": name, "version": version },
            "with_repositories": true,
        });
        let found: Description = self.words.ask("describe", &request, QUESTION, &[])?;
        Ok(Described {
            version: found.evr,
            latest: found.latest,
            count: found.count,
            license: found.license,
            sha256: found.sha256,
            requires: found.requires,
        })
    }
}

/// A package's name as it is written in plans: with the architecture where that is a foreign one.
fn qualified(native: &[String], name: &str, architecture: &str) -> String {
    match native.iter().any(|own| own == architecture) {
        true => name.to_owned(),
        false => format!("{name}.{architecture}"),
    }
}

/// The name alone.
fn plain<'a>(name: &'a str, version: &Version) -> &'a str {
    let is_named = |rest: &&str| rest.ends_with('.');
    let rest = name.strip_suffix(version.architecture.as_str()).filter(is_named);
    rest.map_or(name, |rest| &rest[..rest.len() - 1])
}

fn nevra<'a>(name: &'a str, version: &'a Version) -> Nevra<'a> {
    (plain(name, version), &version.architecture, &version.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(architecture: &str) -> Version {
        Version {
            architecture: architecture.to_owned(),
            is_automatic: false,
            origin: String::new(),
            sha256: None,
            version: "1-1".to_owned(),
        }
    }

    #[test]
    fn a_foreign_architecture_is_part_of_a_name_and_no_more() {
        let native = ["x86_64".to_owned(), "noarch".to_owned()];
        assert_eq!(qualified(&native, "glibc", "i686"), "glibc.i686");
        assert_eq!(plain("glibc.i686", &version("i686")), "glibc");
        assert_eq!(plain("java.noarch-api", &version("noarch")), "java.noarch-api");
        assert_eq!(plain("lib", &version("noarch")), "lib");
        assert_eq!(plain("noarch", &version("noarch")), "noarch");
    }
}
