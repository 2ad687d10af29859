//! Ends transactions, whether they got to their end by themselves or a crash stopped them.
//!
//! Every function here can be repeated: a crash while recovering is recovered like any other.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::database::fingerprint_name;
use super::journal::{self, Begin, Finish, Intent, Leftover, Story};
use super::project::{GENERATIONS, Project, STAGING, TRASH, Workshop};
use super::settle::{Direction, Settled, Site};
use super::system::SystemLock;
use super::tree;
use super::{Session, Transactions};
use agents_contract::Cancellation;

use crate::error::{Error, Kind, Result};
use crate::limits::RECOVERY_WAIT_MS;

/// What became of a transaction that a crash had stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The transaction.
    pub transaction: String,
    /// The project's path, where it is known.
    pub project: Option<String>,
    /// What was done.
    pub outcome: Outcome,
    /// Why not, where it could not be ended.
    pub error: Option<Error>,
}

/// See [`Recovered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The old state stands.
    Undone,
    /// The new state stands.
    Finished,
    /// Still to be ended; its project is away, in use, or in the way of it.
    Pending,
}

/// What a transaction that gives up has to undo.
#[derive(Clone, Copy)]
pub(super) struct Undo<'i> {
    /// All that it may have done.
    pub(super) intent: &'i Intent,
    /// Whether names of the project may have changed.
    pub(super) has_names: bool,
    /// Held since before the intent, where it has a part of a system and did not crash.
    pub(super) system: Option<&'i SystemLock>,
}

/// Why a transaction gave up that a crash had stopped.
const INTERRUPTED: &str = "interrupted";

impl Transactions {
    /// Ends what crashes left in all projects. A project that is away or in use keeps its journal.
    pub fn recover_all(&self) -> Result<Vec<Recovered>> {
        let mut done = Vec::new();
        for which in journal::unfinished(&self.inner.journals)? {
            let pending = |project: Option<String>, error: Error| Recovered {
                transaction: which.id.clone(),
                project,
                outcome: Outcome::Pending,
                error: Some(error),
            };
            let story = match journal::read(&self.inner.journals, &which) {
                Ok(Some(story)) => story,
                // Ended by now, with an earlier one of the same project.
                Ok(None) => continue,
                Err(error) => {
                    done.push(pending(None, error));
                    continue;
                }
            };
            let path = story.begin.project.clone();
            match self.recover_project_of(&story) {
                Ok(recovered) => done.extend(recovered),
                Err(error) => done.push(pending(Some(path), error)),
            }
        }
        Ok(done)
    }

    /// Recovers the project of a transaction. Where that is away, its part of a system is ended alone: the names of a project can
    /// wait until it is found, a system is everybody's.
    pub(super) fn recover_project_of(&self, story: &Story) -> Result<Vec<Recovered>> {
        let project = match project_of(story) {
            Ok(project) => project,
            Err(error) => {
                self.end_system_part(story)?;
                return Err(error);
            }
        };
        let wait = Duration::from_millis(RECOVERY_WAIT_MS);
        Ok(self.lock(project, wait, Cancellation::NEVER)?.recovered)
    }
}

fn project_of(story: &Story) -> Result<Project> {
    let path = Path::new(&story.begin.project);
    let project = Project::open(path)?;
    if project.identity().same_object(&story.begin.identity) {
        return Ok(project);
    }
    let message = format!("`{}` is another directory than it was", path.display());
    Err(Error::new(Kind::Failed, "project-moved", message)
        .hint("run a command in the place that the project has now"))
}

impl Session {
    /// Ends what a crash left in this project.
    pub(super) fn recover(&self) -> Result<Vec<Recovered>> {
        let key = self.project.key();
        let mut done = Vec::new();
        for which in journal::unfinished(&self.inner.journals)? {
            if which.project != key {
                continue;
            }
            let Some(story) = journal::read(&self.inner.journals, &which)? else { continue };
            let outcome = self.end(&story)?;
            tracing::info!(transaction = %which.id, ?outcome, "ended a transaction that had been interrupted");
            done.push(Recovered {
                transaction: which.id,
                project: Some(self.project.path().display().to_string()),
                outcome,
                error: None,
            });
        }
        self.inner.database.abandon(&key, self.inner.now_ms())?;
        Ok(done)
    }

    fn end(&self, story: &Story) -> Result<Outcome> {
        match &story.intent {
            Some(intent) if story.committed => {
                self.finish(&story.begin, intent)?;
                Ok(Outcome::Finished)
            }
            intent => {
                let undo = |intent| Undo { intent, has_names: true, system: None };
                self.give_up(&story.begin, intent.as_ref().map(undo), INTERRUPTED)?;
                Ok(Outcome::Undone)
            }
        }
    }

    /// Undoes a transaction without a commit record and removes what it had prepared.
    pub(super) fn give_up(
        &self,
        begin: &Begin,
        undo: Option<Undo<'_>>,
        reason: &str,
    ) -> Result<()> {
        let workshop = Workshop::existing(&self.project)?;
        let _held = match undo {
            Some(Undo { intent, has_names, system }) => {
                let undone = match has_names {
                    true => self.undo(&self.site(workshop.as_ref()), begin, intent),
                    false => Ok(()),
                };
                // What is in the way of a name is no reason to leave a system where it is: that is everybody's.
                let lock = self.bring_system_back(begin, intent, system)?;
                undone?;
                lock
            }
            None => None,
        };
        if let Some(workshop) = &workshop {
            if let Some(staging) = workshop.find(&[STAGING])? {
                tree::remove_tree(&self.inner.disk, &staging, OsStr::new(&begin.id))?;
            }
            workshop.remove_empty_areas(&self.inner.disk)?;
        }
        self.inner.forget_fingerprints(&begin.id)?;
        self.inner.database.abort(begin, reason, self.inner.now_ms())?;
        self.dismantle()?;
        journal::remove(&self.inner.disk, &self.inner.journals, begin)?;
        self.tidy_system(undo.map(|undo| undo.intent));
        Ok(())
    }

    fn undo(&self, site: &Site<'_>, begin: &Begin, intent: &Intent) -> Result<()> {
        for item in intent.items.iter().rev() {
            if site.settle(item, Direction::Back)? == Settled::Foreign {
                tracing::warn!(path = %item.live, "left alone: somebody replaced it after the crash");
            }
        }
        for item in &intent.items {
            site.sync(item)?;
        }
        site.remove_directories(intent.directories.iter().rev())?;
        if let (Finish::Keep, Some(workshop)) = (&intent.finish, site.workshop) {
            // The new content was live for a while; what a person wrote into it then is theirs.
            for (position, item) in intent.items.iter().enumerate() {
                let Some(slot) = workshop.find(&[STAGING, &begin.id])? else { continue };
                let name = fingerprint_name(&begin.id, position);
                if let Some(print) = self.inner.load_fingerprint(&name)? {
                    let slot = (&slot, OsStr::new(&item.slot));
                    self.inner.keep_edits(&begin.id, item.live.as_str(), slot, &print)?;
                }
            }
        }
        Ok(())
    }

    /// Does what follows a commit record. Where a crash came late there may be no `.bolide` any more.
    pub(super) fn finish(&self, begin: &Begin, intent: &Intent) -> Result<()> {
        self.conclude(begin, intent)?;
        self.clear_away(begin, intent)
    }

    /// The part of it that history and the tree wait for.
    pub(super) fn conclude(&self, begin: &Begin, intent: &Intent) -> Result<()> {
        let workshop = Workshop::existing(&self.project)?;
        if let Some(workshop) = &workshop {
            match &intent.finish {
                Finish::Keep => self.move_between(workshop, STAGING, GENERATIONS, &begin.id)?,
                Finish::Discard { taken, .. } => {
                    for id in taken {
                        self.move_between(workshop, GENERATIONS, TRASH, id)?;
                    }
                }
            }
        }
        self.inner.database.commit(begin, intent, self.inner.now_ms())?;
        if let Finish::Discard { directories, .. } = &intent.finish {
            self.site(workshop.as_ref()).remove_directories(directories.iter())?;
        }
        Ok(())
    }

    /// The part that nobody waits for: what is not needed any more is looked through and deleted.
    fn clear_away(&self, begin: &Begin, intent: &Intent) -> Result<()> {
        let disk = &self.inner.disk;
        let workshop = Workshop::existing(&self.project)?;
        if let (Finish::Discard { leftovers, .. }, Some(workshop)) = (&intent.finish, &workshop) {
            for leftover in leftovers {
                self.look_through(workshop, begin, leftover)?;
            }
        }
        if let Finish::Discard { taken, .. } = &intent.finish {
            for area in [TRASH, GENERATIONS] {
                let Some(workshop) = &workshop else { break };
                let Some(area) = workshop.find(&[area])? else { continue };
                for id in taken {
                    tree::remove_tree(disk, &area, OsStr::new(id))?;
                }
            }
            for id in taken {
                self.inner.forget_fingerprints(id)?;
            }
        }
        if let Some(workshop) = &workshop {
            workshop.remove_empty_areas(disk)?;
        }
        self.dismantle()?;
        self.leave_system(begin, intent)?;
        journal::remove(disk, &self.inner.journals, begin)?;
        self.tidy_system(Some(intent));
        Ok(())
    }

    pub(super) fn site<'a>(&'a self, workshop: Option<&'a Workshop>) -> Site<'a> {
        Site { disk: &self.inner.disk, project: &self.project, workshop }
    }

    fn move_between(&self, workshop: &Workshop, from: &str, to: &str, id: &str) -> Result<()> {
        let disk = &self.inner.disk;
        let Some(source) = workshop.find(&[from])? else { return Ok(()) };
        let failed = |error: io::Error| Error::io("move", &source.path().join(id), &error);
        let name = OsStr::new(id);
        if source.status(name).map_err(failed)?.is_none() {
            return Ok(());
        }
        let target = workshop.ensure_area(disk, to)?;
        match disk.rename_to_free((&source, name), (&target, name)) {
            // A lower layer of an overlay: it stays where it is.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(()),
            done => done.map_err(failed)?,
        }
        disk.sync(&target).map_err(failed)?;
        disk.sync(&source).map_err(failed)
    }

    /// Copies aside what a person changed in something that is about to be deleted.
    fn look_through(&self, workshop: &Workshop, begin: &Begin, leftover: &Leftover) -> Result<()> {
        let Some(print) = self.inner.load_fingerprint(&leftover.fingerprint)? else {
            return Ok(());
        };
        for area in [TRASH, GENERATIONS] {
            if let Some(directory) = workshop.find(&[area, &leftover.owner])? {
                let slot = (&directory, OsStr::new(&leftover.slot));
                self.inner.keep_edits(&begin.id, leftover.live.as_str(), slot, &print)?;
            }
        }
        Ok(())
    }

    /// Removes `.bolide` if it is ours and nothing needs it.
    fn dismantle(&self) -> Result<()> {
        let key = self.project.key();
        if self.inner.database.may_dismantle(&key)? {
            if let Some(workshop) = Workshop::existing(&self.project)? {
                workshop.dismantle(&self.inner.disk, &self.project)?;
            }
            self.inner.database.dismantled(&key)?;
        }
        Ok(())
    }
}
