//! Ends transactions, whether they got to their end by themselves or a crash stopped them.
//!
//! Every function here can be repeated: a crash while recovering is recovered like any other.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::database::fingerprint_name;
use super::fingerprint::Fingerprint;
use super::journal::{
    self, Begin, Finish, Found, Intent, Item, Journal, Leftover, Record, Story, Unfinished,
};
use super::project::{DOT_BOLIDE, GENERATIONS, Project, STAGING, TRASH, Workshop};
use super::settle::{Direction, Settled, Site};
use super::system::SystemLock;
use super::tree;
use super::{Inner, Session, Transactions, fingerprint};
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
    /// Items that were live, beside those that are.
    pub(super) turned: &'i BTreeSet<usize>,
    /// Held since before the intent, where it has a part of a system and did not crash.
    pub(super) system: Option<&'i SystemLock>,
    /// Where marks of what was live may not be on the device yet.
    pub(super) journal: Option<&'i Journal>,
    /// People were answered before it was on the device: they may have gone on from it, and what is not there is no edit of theirs.
    pub(super) may_be_torn: bool,
}

/// Nothing was live before but what is.
static NONE: BTreeSet<usize> = BTreeSet::new();

impl<'i> Undo<'i> {
    /// All of it, by who did it.
    pub(super) fn of(intent: &'i Intent, system: Option<&'i SystemLock>) -> Self {
        let has_names = true;
        Self { intent, has_names, turned: &NONE, system, journal: None, may_be_torn: false }
    }
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
            let story = match journal::find(&self.inner.journals, &which) {
                Ok(Found::Told(story)) => *story,
                // Ended by now, with an earlier one of the same project.
                Ok(Found::Gone) => continue,
                Ok(Found::Torn) => {
                    match self.recover_project_with(&which.project) {
                        Ok(recovered) => done.extend(recovered),
                        Err(error) => done.push(pending(None, error)),
                    }
                    continue;
                }
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

    /// The same for one whose journal does not name its project: where it was the last time.
    fn recover_project_with(&self, key: &str) -> Result<Vec<Recovered>> {
        let place = self.inner.database.place_of(key)?.ok_or_else(unknown_project)?;
        let project = Project::open(Path::new(&place))?;
        if project.key() != key {
            return Err(unknown_project());
        }
        let wait = Duration::from_millis(RECOVERY_WAIT_MS);
        Ok(self.lock(project, wait, Cancellation::NEVER)?.recovered)
    }
}

/// The error of a project that nothing is known of but its key.
fn unknown_project() -> Error {
    let message = "it began when the power went, and its project was not known before";
    Error::new(Kind::Failed, "project-unknown", message)
        .hint("the next command in that project removes what it had prepared")
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
            let outcome = match journal::find(&self.inner.journals, &which)? {
                Found::Gone => continue,
                Found::Torn => {
                    self.clear_torn(&which)?;
                    Outcome::Undone
                }
                Found::Told(story) => self.end(*story)?,
            };
            match outcome {
                // Mostly what an answer did not wait for.
                Outcome::Finished => tracing::debug!(transaction = %which.id, "finished"),
                _ => {
                    tracing::info!(transaction = %which.id, ?outcome, "ended a transaction that had been interrupted")
                }
            }
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

    fn end(&self, mut story: Story) -> Result<Outcome> {
        let is_later = story.intent.as_ref().is_some_and(|intent| intent.start.is_some());
        if is_later && let Some(outcome) = self.end_answered(&mut story)? {
            return Ok(outcome);
        }
        match &mut story.intent {
            Some(intent) if story.committed => {
                self.settle_again(&story.begin, intent)?;
                self.finish(&story.begin, intent)?;
                Ok(Outcome::Finished)
            }
            intent => {
                if let Some(intent) = intent {
                    self.note_turns(&story.begin, intent, &mut story.turned)?;
                }
                let turned = &story.turned;
                let undo = |intent| Undo { turned, ..Undo::of(intent, None) };
                self.give_up(&story.begin, intent.as_ref().map(undo), INTERRUPTED)?;
                Ok(Outcome::Undone)
            }
        }
    }

    /// Removes what a transaction had prepared whose journal does not even tell its beginning.
    fn clear_torn(&self, which: &Unfinished) -> Result<()> {
        let inner = &self.inner;
        self.remove_staging(&which.id)?;
        inner.forget_fingerprints(&which.id)?;
        if which.is_first {
            let place = self.project.path().display().to_string();
            inner.database.own_workshop(&which.project, &place)?;
        }
        inner.database.abandon(&which.project, inner.now_ms())?;
        self.dismantle()?;
        journal::remove_one(&inner.disk, &inner.journals, which)
    }

    fn remove_staging(&self, id: &str) -> Result<()> {
        let Some(workshop) = Workshop::existing(&self.project)? else { return Ok(()) };
        if let Some(staging) = workshop.find(&[STAGING])? {
            tree::remove_tree(&self.inner.disk, &staging, OsStr::new(id))?;
            self.wait_for_area(&staging)?;
        }
        self.remove_empty_areas(&workshop)
    }

    /// Brings the names of a committed transaction forward once more that were not on the device when the power went. What somebody
    /// has put in the place of one since stays.
    pub(super) fn settle_again(&self, begin: &Begin, intent: &mut Intent) -> Result<()> {
        let workshop = Workshop::existing(&self.project)?;
        let site = self.site(workshop.as_ref());
        let mut open = Vec::new();
        for item in &mut intent.items {
            if site.is_blocked(&item.live) {
                item.is_left = site.waits_in_slot(item)?;
                continue;
            }
            site.take_from_spare(item)?;
            if site.is_open(item)? {
                open.push(item);
            } else {
                item.is_left = site.is_lost(item)?;
            }
        }
        if !open.is_empty() {
            let free = intent.directories.iter().filter(|it| !site.is_blocked(it));
            site.make_directories(&free.cloned().collect::<Vec<_>>())?;
        }
        for item in &mut open {
            if site.settle_again(item)? == Settled::Foreign {
                item.is_left = true;
                continue;
            }
            tracing::info!(path = %item.live, "made visible once more");
            // Whoever edited it after the power came back gets that with a rollback.
            if item.old_sha256.is_some()
                && let Some(digest) = site.old_digest(item)?
            {
                item.old_sha256 = Some(crate::hex::hex(&digest));
            }
        }
        let is_any = !open.is_empty();
        let (left, settled): (Vec<Item>, Vec<Item>) =
            intent.items.iter().cloned().partition(|item| item.is_left);
        for item in &left {
            self.leave(&site, begin, intent, item)?;
        }
        let is_free = |item: &Item| !site.is_blocked(&item.live);
        let settled: Vec<Item> = settled.into_iter().filter(is_free).collect();
        if is_any { site.sync(&settled, &intent.directories) } else { Ok(()) }
    }

    /// Goes on without an item in whose place somebody has put something else. What a rollback was to bring back there is kept.
    fn leave(&self, site: &Site<'_>, begin: &Begin, intent: &Intent, item: &Item) -> Result<()> {
        tracing::warn!(path = %item.live, "left alone: somebody replaced it after the power had gone");
        if let (Finish::Discard { .. }, Some(slot)) = (&intent.finish, site.slot(item)?) {
            let slot = (&slot, OsStr::new(&item.slot));
            let none = Fingerprint::default();
            self.inner.keep_edits(&begin.id, item.live.as_str(), slot, &none)?;
        }
        Ok(())
    }

    /// Writes down which items are live, before they are settled back: what was live is looked through for a person's edits, and
    /// other contents, which the power may have torn before they were waited for, are not.
    pub(super) fn note_turns(
        &self,
        begin: &Begin,
        intent: &Intent,
        turned: &mut BTreeSet<usize>,
    ) -> Result<()> {
        let workshop = Workshop::existing(&self.project)?;
        let site = self.site(workshop.as_ref());
        let mut fresh = Vec::new();
        for (index, item) in intent.items.iter().enumerate() {
            let is_free = intent.start.is_none() || !site.is_blocked(&item.live);
            if is_free && !turned.contains(&index) && site.is_live(item)? {
                fresh.push(index);
            }
        }
        let Inner { disk, journals, .. } = &*self.inner;
        turned.extend(&fresh);
        if turned.is_empty() {
            return Ok(());
        }
        let which = Unfinished::of(begin);
        let Some(mut journal) = Journal::resume(disk, journals, &which)? else { return Ok(()) };
        for index in &fresh {
            journal.append(disk, &Record::Turn(*index))?;
        }
        // Those that were found may be in memory only.
        journal.sync(disk)
    }

    /// Undoes a transaction without a commit record and removes what it had prepared.
    pub(super) fn give_up(
        &self,
        begin: &Begin,
        undo: Option<Undo<'_>>,
        reason: &str,
    ) -> Result<()> {
        let workshop = Workshop::existing(&self.project)?;
        let is_answered = undo.is_some_and(|undo| undo.may_be_torn);
        let (_held, remains) = match undo {
            Some(undo) => {
                let Undo { intent, system, journal, .. } = undo;
                let undone = match undo.has_names {
                    true => {
                        let marked = journal.map_or(Ok(()), |it| it.sync(&self.inner.disk));
                        let site = self.site(workshop.as_ref());
                        marked.and_then(|()| self.undo(&site, begin, undo))
                    }
                    false => Ok(false),
                };
                // What is in the way of a name is no reason to leave a system where it is: that is everybody's.
                let lock = self.bring_system_back(begin, intent, system)?;
                (lock, undone?)
            }
            None => (None, false),
        };
        // What the device cannot read cannot always be removed either, and nobody needs it to be.
        let left = |outcome: Result<()>| match outcome {
            Err(error) if is_answered => {
                self.inner.tell(&self.project.key(), &format!("`{}`: {error}", begin.id));
                Ok(true)
            }
            outcome => outcome.map(|()| false),
        };
        // Copies that may not be on the device are no reason to delete what they were made of.
        let remains = left(self.wait_for_kept(&begin.id))? || remains;
        if !remains {
            left(self.remove_staging(&begin.id))?;
        }
        left(self.inner.forget_fingerprints(&begin.id))?;
        let slot = self.project.path().join(DOT_BOLIDE).join(STAGING).join(&begin.id);
        let slot = remains.then_some(slot);
        let kept = is_answered.then(|| self.inner.with_kept(&begin.id, reason, slot.as_deref()));
        let told = kept.as_ref().map(|why| format!("`{}` was taken back: {why}", begin.id));
        let reason = kept.as_deref().unwrap_or(reason);
        self.inner.database.abort(begin, reason, told.as_deref(), self.inner.now_ms())?;
        self.dismantle()?;
        journal::remove(&self.inner.disk, &self.inner.journals, begin)?;
        self.inner.database.let_go_of_log(&begin.id);
        self.tidy_system(undo.map(|undo| undo.intent));
        Ok(())
    }

    /// Brings all names back; whether something of what was new has to be left in its slot.
    fn undo(
        &self,
        site: &Site<'_>,
        begin: &Begin,
        Undo { intent, turned, may_be_torn, .. }: Undo<'_>,
    ) -> Result<bool> {
        let remains = Cell::new(false);
        let mut was_live = Vec::new();
        let is_blocked = |item: &Item| may_be_torn && site.is_blocked(&item.live);
        for (position, item) in intent.items.iter().enumerate() {
            let was = turned.contains(&position) || !is_blocked(item) && site.is_live(item)?;
            was_live.push(was);
        }
        for (position, item) in intent.items.iter().enumerate().rev() {
            let settled = match may_be_torn {
                true => self.settle_torn_back(site, begin, (position, item), &remains)?,
                false => site.settle(item, Direction::Back)?,
            };
            if settled == Settled::Foreign {
                tracing::warn!(path = %item.live, "left alone: somebody replaced it after the crash");
            }
        }
        let free: Vec<Item> = intent.items.iter().filter(|it| !is_blocked(it)).cloned().collect();
        site.sync(&free, &[])?;
        site.remove_directories(intent.directories.iter().rev())?;
        if let (Finish::Keep, Some(workshop)) = (&intent.finish, site.workshop) {
            // The new content was live for a while; what a person wrote into it then is theirs.
            for (position, item) in intent.items.iter().enumerate() {
                let Some(slot) = workshop.find(&[STAGING, &begin.id])? else { continue };
                // Where the old object could not go back, that is what lies there.
                if !was_live[position] || may_be_torn && site.has_old(item)? {
                    continue;
                }
                let name = fingerprint_name(&begin.id, position);
                let place = (&slot, OsStr::new(&item.slot));
                if may_be_torn {
                    let print = self.inner.load_whole_fingerprint(&name)?;
                    if !self.keep_of_torn(begin, &item.live, place, print.as_ref()) {
                        remains.set(true);
                    }
                    continue;
                }
                let print = match self.inner.load_fingerprint(&name) {
                    // Nobody can tell any more what is a person's: all of it is kept.
                    Err(error) if error.code == fingerprint::DAMAGED => {
                        Some(Fingerprint::default())
                    }
                    print => print?,
                };
                if let Some(print) = print {
                    self.inner.keep_edits(&begin.id, item.live.as_str(), place, &print)?;
                }
            }
        }
        Ok(remains.get())
    }

    /// Does what follows a commit record. Where a crash came late there may be no `.bolide` any more.
    pub(super) fn finish(&self, begin: &Begin, intent: &Intent) -> Result<()> {
        self.conclude(begin, intent)?;
        self.clear_away(begin, intent)
    }

    /// The part of it that history and the tree wait for. None of it is on the device when this returns.
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
        self.wait_for_rest(begin, intent)?;
        let is_noted = intent.start.is_none() || self.note_stored(begin);
        let disk = &self.inner.disk;
        let workshop = Workshop::existing(&self.project)?;
        if let (Finish::Discard { leftovers, .. }, Some(workshop)) = (&intent.finish, &workshop) {
            for leftover in leftovers {
                self.look_through(workshop, begin, leftover)?;
            }
            self.wait_for_kept(&begin.id)?;
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
            self.remove_empty_areas(workshop)?;
        }
        self.dismantle()?;
        self.leave_system(begin, intent)?;
        journal::remove(disk, &self.inner.journals, begin)?;
        if !is_noted && let Err(error) = disk.sync(&self.inner.journals) {
            tracing::warn!(%error, "the journal may come back after a loss of power");
        }
        self.inner.stored().remove(&begin.id);
        self.inner.database.let_go_of_log(&begin.id);
        self.tidy_system(Some(intent));
        Ok(())
    }

    pub(super) fn site<'a>(&'a self, workshop: Option<&'a Workshop>) -> Site<'a> {
        Site { disk: &self.inner.disk, project: &self.project, workshop }
    }

    pub(super) fn move_between(
        &self,
        workshop: &Workshop,
        from: &str,
        to: &str,
        id: &str,
    ) -> Result<()> {
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
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(()),
            done => Ok(done.map_err(failed)?),
        }
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
