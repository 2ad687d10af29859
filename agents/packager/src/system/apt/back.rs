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
use crate::system::{Change, Direction, Snapshot, Standing, Step, Touch};

impl Apt {
    pub(super) fn bring_back(
        &self,
        change: &Change,
        is_fresh: bool,
        touch: &Touch,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        self.write_down()?;
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
        let leaving = leaving(change, &snapshot);
        let worn = self.worn(&leaving, is_fresh)?;
        let is_clean = |task: &Task<'_>| {
            snapshot.is_settled(&task.step.name) && task.now.is_like(&task.step.after)
        };
        // Asked for what is half there, apt would say other versions than the change does.
        let tried = match tasks.iter().all(is_clean) {
            true if tasks.is_empty() => Ok(()),
            true => self.carry_out(&tasks, Direction::Back, touch),
            false => Err(Error::new(Kind::Failed, "system-torn", "packages are half there")),
        };
        match tried {
            Ok(()) => {}
            // Others' packages would go along. Whose they are decides.
            Err(error) if error.code == "plan-stale" => {
                let steps: Vec<&Step> = tasks.iter().map(|task| task.step).collect();
                return Err(self.cannot_go_back(&steps, &error.message));
            }
            Err(error) => {
                tracing::warn!(%error, "apt does not bring the system back; dpkg is told");
                self.tell_dpkg(change)?;
            }
        }
        self.purge(&leaving, &worn, notes)
    }

    /// Has dpkg write into its record of packages what a killed one had only noted beside it. dpkg reads such notes, apt does
    /// not, and would take the system for what it was before them.
    fn write_down(&self) -> Result<()> {
        let place = self.world.root().join("var/lib/dpkg/updates");
        let notes = std::fs::read_dir(&place).into_iter().flatten().flatten();
        let is_note = |name: std::ffi::OsString| name.as_bytes().iter().all(u8::is_ascii_digit);
        if !notes.map(|entry| entry.file_name()).any(is_note) {
            return Ok(());
        }
        // It opens its record for writing, is told nothing, and closes it.
        let mut command = self.world.dpkg("dpkg")?;
        let log = self.world.state().join("log");
        let said = command::change(command.arg("--set-selections"), &log)?;
        if !said.is_success {
            tracing::warn!(error = %failed("dpkg", &said), "what dpkg noted is not written down");
        }
        Ok(())
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
        let torn = self.torn(change)?;
        if !torn.is_empty() {
            run(&["--force-depends", "--unpack", "--"], &torn)?;
        }
        let gone = left(true)?;
        if !gone.is_empty() {
            let force: &[&str] = match self.is_needed_by_others(change, &gone)? {
                true => &[],
                false => &["--force-depends"],
            };
            run(&[force, &["--force-remove-reinstreq", "--remove", "--"]].concat(), &gone)?;
        }
        let back = left(false)?;
        if !back.is_empty() {
            run(&["--force-depends", "--unpack", "--"], &back)?;
        }
        run(&["--configure", "--pending"], &[])
    }

    /// Archives of packages in the middle of whose unpacking dpkg died. Unpacked once more, they are known with all of their
    /// files, and nothing of them stays when they go.
    fn torn(&self, change: &Change) -> Result<Vec<String>> {
        let snapshot = self.snapshot()?;
        let mut archives = Vec::new();
        for Task { step, .. } in tasks(change, &snapshot, Direction::Back) {
            let after = step.after.version().and_then(|version| version.sha256.as_deref());
            if let Some(sha256) = after.filter(|_| snapshot.is_torn(&step.name))
                && self.files.has(sha256)?
            {
                archives.push(self.files.path(sha256).to_string_lossy().into_owned());
            }
        }
        Ok(archives)
    }

    /// Whether something that is no part of the change may need one of these packages, or what they provide. Where that cannot
    /// be asked, something may.
    fn is_needed_by_others(&self, change: &Change, names: &[String]) -> Result<bool> {
        let mut query = self.world.dpkg("dpkg-query")?;
        let format = "${Package}\\t${Provides}\\t${Depends}, ${Pre-Depends}\\n";
        let said = self.ask(query.args(["--show", "--showformat", format]))?;
        if !said.is_success {
            tracing::warn!(error = %failed("dpkg-query", &said), "who needs whom is not known");
            return Ok(true);
        }
        let names: BTreeSet<&str> = names.iter().map(|name| plain(name)).collect();
        let own: BTreeSet<&str> = change.steps.iter().map(|step| plain(&step.name)).collect();
        Ok(needs(&said.text, &own, &names))
    }

    /// Packages whose traces are to stay although they were not there before: a person edited their configuration, or their
    /// own scripts would take away what may be a person's data. Nobody can have data in what is fresh, but a configuration file
    /// may have been there before the package.
    pub(super) fn worn(&self, tasks: &[Task<'_>], is_fresh: bool) -> Result<BTreeSet<String>> {
        let mut worn = BTreeSet::new();
        for task in tasks.iter().filter(|task| *task.goal == Standing::Absent) {
            let name = &task.step.name;
            let info = self.world.root().join("var/lib/dpkg/info");
            let script = |name: &str| info.join(format!("{name}.postrm")).exists();
            let architecture = task.now.version().map(|version| version.architecture.as_str());
            let plain = name.split(':').next().unwrap_or(name);
            let has_script =
                script(plain) || architecture.is_some_and(|it| script(&format!("{plain}:{it}")));
            if (has_script && !is_fresh) || self.is_edited(name)? {
                worn.insert(name.clone());
            }
        }
        Ok(worn)
    }

    /// Whether a configuration file of a package is there and not as it came.
    fn is_edited(&self, name: &str) -> Result<bool> {
        let said = self.ask(self.world.dpkg("dpkg")?.args(["--verify", "--", name]))?;
        // `??5?????? c /etc/web.conf`: something differs, and it is a configuration file.
        let differs = |line: &str| {
            let mut words = line.split_whitespace();
            words.next().is_some_and(|word| word != "missing") && words.next() == Some("c")
        };
        if said.text.lines().any(differs) {
            return Ok(true);
        }
        // One that has not been put in its place yet is there only where it was before.
        let mut query = self.world.dpkg("dpkg-query")?;
        let said = self.ask(query.args(["--show", "--showformat", "${Conffiles}", "--", name]))?;
        let is_before = |line: &str| {
            let (path, digest) = line.trim().split_once(' ').unwrap_or_default();
            let place = self.world.root().join(path.trim_start_matches('/'));
            digest == "newconffile" && place.symlink_metadata().is_ok()
        };
        Ok(said.text.lines().any(is_before))
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
            notes.push(failed("dpkg", &said).to_string());
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

/// What is to leave no trace, also where all but traces is gone: a way back may have been interrupted there.
fn leaving<'c>(change: &'c Change, snapshot: &Snapshot) -> Vec<Task<'c>> {
    let steps = change.steps.iter().filter(|step| step.before == Standing::Absent);
    let tasks =
        steps.map(|step| Task { step, goal: &step.before, now: snapshot.standing(&step.name) });
    let is_ours = |task: &Task<'_>| {
        task.now != Standing::Absent && !is_foreign(task.step, &task.now, Direction::Back)
    };
    tasks.filter(is_ours).collect()
}

/// A name without its architecture.
fn plain(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
}

/// The names in relations between packages.
fn named(relations: &str) -> impl Iterator<Item = &str> {
    let names = relations.split([',', '|']);
    names.map(|text| text.trim().split([' ', '(', ':']).next().unwrap_or_default())
}

/// Whether, in dpkg's words, a package that is none of `own` needs one of `names` or something that these provide.
fn needs(said: &str, own: &BTreeSet<&str>, names: &BTreeSet<&str>) -> bool {
    let lines = || {
        said.lines().filter_map(|line| {
            let (name, rest) = line.split_once('\t')?;
            let (provides, relations) = rest.split_once('\t')?;
            Some((name, provides, relations))
        })
    };
    let provided = lines().filter(|(name, ..)| names.contains(name));
    let mut words: BTreeSet<&str> = provided.flat_map(|(_, provides, _)| named(provides)).collect();
    words.extend(names);
    words.remove("");
    let others = || lines().filter(|(name, ..)| !own.contains(name));
    others().any(|(.., relations)| named(relations).any(|name| words.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_provides_is_needed_as_its_name_is() {
        let said = "exim\tmail-agent (= 4), smtp\tlibc6, \nmutt\t\tlibc6 (>= 2), mail-agent | x, \nown\t\texim, \n";
        let is_needed = |own: &[&str], name: &str| {
            needs(said, &own.iter().copied().collect(), &BTreeSet::from([name]))
        };
        assert!(is_needed(&["own"], "exim"), "mutt needs what exim provides");
        assert!(is_needed(&["mutt"], "exim"), "own names it");
        assert!(!is_needed(&["own", "mutt"], "exim"));
        assert!(is_needed(&[], "libc6") && !is_needed(&[], "mutt"));
    }
}
