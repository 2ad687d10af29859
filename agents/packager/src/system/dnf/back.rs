//! The way back: to what stood before a change, from whatever a failure or a crash left.
//!
//! rpm keeps no state between installed and not: it unpacks files before it notes a package, and takes them away before it
//! forgets one. So where it died is seen from the files. What it died in is first completed by rpm alone, without scripts and
//! whatever relations say; every file then belongs to a package that rpm knows, and dnf brings all of it back as it does
//! anything else.

use serde_json::json;

use super::super::command;
use super::super::tasks::{self, tasks};
use super::super::touch::Touch;
use super::words::{Torn, Whole};
use super::{Dnf, plain};
use crate::error::{Error, Kind, Result};
use crate::limits::SYSTEM_CHANGE_SECONDS_MAX;
use crate::system::{Change, Direction, Executor, Standing, Step, Version};
use agents_contract::Cancellation;

impl Dnf {
    pub(super) fn bring_back(
        &self,
        change: &Change,
        touch: &Touch,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        notes.extend(tasks::staying(change, &self.snapshot()?));
        self.complete_torn(change)?;
        let snapshot = self.snapshot()?;
        let tasks = tasks(change, &snapshot, Direction::Back);
        let tried = self.carry_out(&tasks, Direction::Back, Some(touch));
        tried.map_err(|error| {
            let steps: Vec<&Step> = tasks.iter().map(|task| task.step).collect();
            match steps.is_empty() {
                true => error,
                false => self.cannot_go_back(&steps, &error.message),
            }
        })
    }

    /// Has rpm finish what it died in.
    fn complete_torn(&self, change: &Change) -> Result<()> {
        let real: Vec<&Step> = change.steps.iter().filter(|step| step.is_real()).collect();
        let mut asked = Vec::new();
        for step in &real {
            let versions = [&step.before, &step.after].map(Standing::version);
            let mut archives = Vec::new();
            for sha256 in versions.iter().flatten().filter_map(|it| it.sha256.as_deref()) {
                if self.files.has(sha256)? {
                    archives.push(self.files.path(sha256));
                }
            }
            let Some(any) = versions.iter().flatten().next() else { continue };
            asked.push(json!({
                "after": versions[1].map(|it| &it.version),
                "arches": versions.iter().flatten().map(|it| &it.architecture).collect::<Vec<_>>(),
                "archives": archives,
                "before": versions[0].map(|it| &it.version),
                "name": plain(&step.name, any),
            }));
        }
        let request = json!({ "steps": asked });
        let limit = (SYSTEM_CHANGE_SECONDS_MAX, Cancellation::NEVER);
        let Torn { torn } = self.words.ask("torn", &request, limit, &[])?;
        let mut archives = Vec::new();
        for step in &real {
            let versions = [&step.after, &step.before].map(Standing::version);
            let Some(any) = versions.iter().rev().flatten().next() else { continue };
            let whole = match torn.get(plain(&step.name, any)) {
                Some(Whole::After) => versions[0].or(versions[1]),
                Some(Whole::Before) => versions[1],
                None => None,
            };
            if let Some(Version { sha256: Some(sha256), .. }) = whole {
                archives.push(self.archive(&step.name, sha256)?);
            }
        }
        if archives.is_empty() {
            return Ok(());
        }
        tracing::warn!(?torn, "rpm died in the middle of these; they are completed first");
        let mut rpm = command::command("rpm", std::path::Path::new("/"))?;
        rpm.args(["--root", self.words.root(), "--upgrade", "--force", "--nodeps"]);
        // What is given to it was checked by its digest, and its signature when it was fetched.
        rpm.args(["--noscripts", "--notriggers", "--nosignature", "--"]).args(archives);
        let said = command::change(&mut rpm, &self.log())?;
        if !said.is_success {
            // What stands in the end decides.
            tracing::warn!(complaints = %said.complaints, "rpm could not complete them");
        }
        Ok(())
    }

    /// Why rpm failed, where it said so.
    pub(super) fn said(&self) -> String {
        let log = command::last_words(&self.log());
        let is_one = |line: &&str| line.starts_with("error: ") || line.contains("scriptlet failed");
        let lines: Vec<&str> = log.lines().filter(is_one).map(str::trim).take(5).collect();
        let shown: String = lines.join("; ").chars().filter(|one| !one.is_control()).collect();
        if shown.is_empty() { shown } else { format!(" ({shown})") }
    }

    /// What a person has to do.
    pub(super) fn cannot_go_back(&self, astray: &[&Step], what: &str) -> Error {
        let root = match self.words.root() {
            "/" => String::new(),
            root => format!(" --root {root}"),
        };
        let commands = astray.iter().map(|step| match &step.before {
            Standing::Installed(version) => {
                let path = self.files.path(version.sha256.as_deref().unwrap_or_default());
                format!("`rpm{root} --upgrade --oldpackage --force {}`", path.display())
            }
            Standing::Absent | Standing::Residue => {
                format!("`rpm{root} --erase {}`", step.name)
            }
        });
        let commands: Vec<String> = commands.collect();
        let message = format!("the system could not be brought back: {what}{}", self.said());
        Error::new(Kind::Failed, "system-not-undone", message).hint(format!(
            "see `{}`; as root run {}; then run any bolide command here again",
            self.log().display(),
            commands.join(", ")
        ))
    }
}
