//! The way back: to what stood before a change, from whatever a failure or a crash left.
//!
//! apt goes first, since it knows the order. Where it cannot (it refuses a package that is half there, and so does whatever
//! depends on one), dpkg is told directly; that what stood before was whole is known, so between its steps relations may be
//! unmet. What cannot be brought back is left to a person, with the commands.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;

use super::super::command;
use super::{Apt, Task, failed, is_beyond_reach, is_foreign, tasks};
use crate::error::{Error, Kind, Result};
use crate::system::{Change, Direction, Standing, Step};

impl Apt {
    pub(super) fn bring_back(
        &self,
        change: &Change,
        is_fresh: bool,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let snapshot = self.snapshot()?;
        for step in change.steps.iter().filter(|step| step.is_real()) {
            let now = snapshot.standing(&step.name);
            if is_beyond_reach(step, Direction::Back) && !now.is_like(&step.before) {
                let (name, before) = (&step.name, &step.before);
                notes.push(format!("`{name}` stays as it is: no archive of {before} can be had"));
            } else if is_foreign(step, &now, Direction::Back) {
                let name = &step.name;
                notes.push(format!("`{name}` stays at {now}: somebody else changed it meanwhile"));
            }
        }
        let tasks = tasks(change, &snapshot, Direction::Back);
        let worn = self.worn(&tasks, is_fresh)?;
        let is_clean = |task: &Task<'_>| {
            snapshot.is_settled(&task.step.name) && task.now.is_like(&task.step.after)
        };
        // Asked for what is half there, apt would say other versions than the change does.
        let tried = match tasks.iter().all(is_clean) {
            true if tasks.is_empty() => Ok(()),
            true => self.carry_out(&tasks, Direction::Back),
            false => Err(Error::new(Kind::Failed, "system-torn", "packages are half there")),
        };
        if let Err(error) = tried {
            tracing::warn!(%error, "apt does not bring the system back; dpkg is told");
            self.tell_dpkg(change)?;
        }
        self.purge(&tasks, &worn, notes)
    }

    /// Takes away what was not there and unpacks what was, whatever relations say in between.
    fn tell_dpkg(&self, change: &Change) -> Result<()> {
        let log = self.world.state().join("log");
        let left = |removals: bool| -> Result<Vec<String>> {
            let snapshot = self.snapshot()?;
            let mut words = Vec::new();
            for task in tasks(change, &snapshot, Direction::Back) {
                match (task.is_removal(), task.archive()) {
                    (true, _) if removals => words.push(task.step.name.clone()),
                    (false, Some(sha256)) if !removals && self.files.has(sha256)? => {
                        words.push(self.files.path(sha256).to_string_lossy().into_owned());
                    }
                    _ => {}
                }
            }
            Ok(words)
        };
        let run = |arguments: &[&str], words: &[String]| -> Result<()> {
            let mut command = self.world.dpkg("dpkg")?;
            let said = command::change(command.args(arguments).args(words), &log)?;
            if !said.is_success {
                // What stands in the end decides, and a later step may mend it.
                tracing::warn!(error = %failed("dpkg", &said), "one step back failed");
            }
            Ok(())
        };
        let gone = left(true)?;
        if !gone.is_empty() {
            run(&["--force-depends", "--force-remove-reinstreq", "--remove", "--"], &gone)?;
        }
        let back = left(false)?;
        if !back.is_empty() {
            run(&["--force-depends", "--unpack", "--"], &back)?;
        }
        run(&["--configure", "--pending"], &[])
    }

    /// Packages whose traces are to stay although they were not there before: a person edited their configuration, or their
    /// own scripts would take away what may be a person's data. Nobody can have used what is fresh.
    pub(super) fn worn(&self, tasks: &[Task<'_>], is_fresh: bool) -> Result<BTreeSet<String>> {
        let mut worn = BTreeSet::new();
        for task in tasks.iter().filter(|task| *task.goal == Standing::Absent && !is_fresh) {
            let name = &task.step.name;
            let info = self.world.root().join("var/lib/dpkg/info");
            let script = |name: &str| info.join(format!("{name}.postrm")).exists();
            let architecture = task.now.version().map(|version| version.architecture.as_str());
            let plain = name.split(':').next().unwrap_or(name);
            let has_script =
                script(plain) || architecture.is_some_and(|it| script(&format!("{plain}:{it}")));
            if has_script || self.is_edited(name)? {
                worn.insert(name.clone());
            }
        }
        Ok(worn)
    }

    /// Whether a configuration file of a package is not as it came.
    fn is_edited(&self, name: &str) -> Result<bool> {
        let said = self.ask(self.world.dpkg("dpkg")?.args(["--verify", "--", name]))?;
        // `??5?????? c /etc/web.conf`: something differs, and it is a configuration file.
        Ok(said.text.lines().any(|line| line.split_whitespace().nth(1) == Some("c")))
    }

    /// Takes away what a removal left of packages that were not there before.
    pub(super) fn purge(
        &self,
        tasks: &[Task<'_>],
        worn: &BTreeSet<String>,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let snapshot = self.snapshot()?;
        let left = tasks.iter().filter(|task| {
            *task.goal == Standing::Absent
                && snapshot.standing(&task.step.name) == Standing::Residue
        });
        let (kept, gone): (Vec<&Task<'_>>, Vec<&Task<'_>>) =
            left.partition(|task| worn.contains(&task.step.name));
        for Task { step, .. } in kept {
            let name = &step.name;
            notes.push(format!(
                "what `{name}` keeps of its configuration and data stays; `apt-get purge {name}` takes it away"
            ));
        }
        if gone.is_empty() {
            return Ok(());
        }
        let names = gone.iter().map(|task| task.step.name.as_str());
        let mut command = self.world.dpkg("dpkg")?;
        let log = self.world.state().join("log");
        let said = command::change(command.args(["--purge", "--"]).args(names), &log)?;
        if !said.is_success {
            notes.push(format!("{}", failed("dpkg", &said)));
        }
        Ok(())
    }

    /// What a person has to do.
    pub(super) fn cannot_go_back(&self, astray: &[&Step], what: &str) -> Error {
        let mut commands = Vec::new();
        let program = match self.world.root().as_os_str().as_bytes() {
            b"/" => "dpkg".to_owned(),
            _ => format!("dpkg --root={}", self.world.root().display()),
        };
        for step in astray {
            commands.push(match &step.before {
                Standing::Installed(version) => {
                    let path = self.files.path(version.sha256.as_deref().unwrap_or_default());
                    format!("`{program} --install {}`", path.display())
                }
                Standing::Absent | Standing::Residue => {
                    format!("`{program} --force-remove-reinstreq --remove {}`", step.name)
                }
            });
        }
        commands.push(format!("`{program} --configure --pending`"));
        let log = self.world.state().join("log");
        let message = format!("the system could not be brought back: {what}");
        Error::new(Kind::Failed, "system-not-undone", message).hint(format!(
            "see `{}`; as root run {}; then run any bolide command here again",
            log.display(),
            commands.join(", ")
        ))
    }
}
