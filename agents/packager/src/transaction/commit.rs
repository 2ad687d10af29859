//! One change of a project: staged first, then committed as a whole or not at all.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use agents_contract::Crew;
use rustix::fs::{Gid, Mode, Uid};
use serde::{Deserialize, Serialize};

use super::Session;
use super::database::{Hold, NAME_TAKEN};
use super::directory::{Directory, Identity, ObjectKind, RelativePath};
use super::fingerprint;
use super::journal::{self, Begin, Finish, Intent, Item, Journal, Record};
use super::look::{Looked, check_overlap};
use super::mend::Mended;
use super::project::{Content, STAGING, Workshop, is_link, linked};
use super::recovery::Undo;
use super::settle::{CANNOT_MOVE, Direction};
use super::system::SystemLock;
use super::tree;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{EARLY_WRITE_FILES_MIN, SUMMARY_BYTES_MAX};
use crate::store::Written;
use crate::system;

/// The error of a commit record that may or may not be on the device.
pub(super) const UNCERTAIN: &str = "commit-uncertain";

/// What a transaction is for; all of it is kept for history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Purpose {
    /// `add`, `remove`, `install`, `update`.
    pub operation: String,
    /// The plan that is carried out, where there is one.
    pub digest: Option<String>,
    /// On whose behalf: `uid 1000`, or the name of an agent.
    pub actor: String,
    /// The packages, as people want to see them in history.
    pub summary: serde_json::Value,
}

/// What has to be at a name for the change to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Anything,
    /// Nothing.
    Absent,
    /// A file with this content.
    File(Content),
}

/// One name of the project and what it shall stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name, relative to the project. Missing directories above it are made.
    pub live: RelativePath,
    /// The name in the staging directory of what goes there; `None` removes what is there.
    pub staged: Option<String>,
    /// The ecosystem, where the name is an environment with generations.
    pub environment: Option<Ecosystem>,
    /// What the plan saw there.
    pub expected: Expected,
}

/// How to commit.
#[derive(Clone, Copy, Default)]
pub struct CommitOptions<'a> {
    /// Replace an environment that a person edited; what was edited is copied aside first.
    pub force: bool,
    /// Packages of the system that change with it; their archives are fetched.
    pub system: Option<&'a system::Change>,
    /// Who looks through what is installed and what is to be; the caller itself where nobody is named.
    pub crew: Option<&'a dyn Crew>,
    /// Environments that are mended, by place: what a person changed there and is not left is copied aside first.
    pub mended: Option<&'a BTreeMap<RelativePath, Mended>>,
    /// Leave what an answer need not wait for to whoever takes the lock of the project next, as after a crash
    /// ([`Committed::is_left`]).
    pub leaves_rest: bool,
    /// Answer before any of it is on the device, where that can be done safely: then this session has to [`Session::confirm`] it.
    pub leaves_device: bool,
    /// The caller confirms it before anybody is answered, so the disk should begin early.
    pub confirms_at_once: bool,
}

/// A committed transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Committed {
    /// Its name.
    pub transaction: String,
    /// Where copies of a person's changes lie, where there were any.
    pub kept: Option<PathBuf>,
    /// Why cleaning up after the commit was not finished; the next command does it. The new state stands.
    pub unfinished: Option<Error>,
    /// Whether something is still to be waited for, by whoever takes the lock of the project next.
    #[serde(default)]
    pub is_left: bool,
    /// Whether it is on the device.
    pub is_stored: bool,
    /// Microseconds from the call until the new state was visible.
    pub visible_us: u64,
}

/// A transaction that is being prepared. Dropping it gives it up and leaves the project as it was.
pub struct Open<'s> {
    pub(super) session: &'s Session,
    pub(super) begin: Begin,
    journal: Journal,
    pub(super) staging: Directory,
    pub(super) written: Arc<Written>,
    files: usize,
    ended: bool,
}

impl Session {
    /// Begins a transaction: from here on there is a staging directory.
    pub fn begin(&mut self, purpose: Purpose) -> Result<Open<'_>> {
        self.begin_with(purpose, Vec::new())
    }

    /// Holds packages, or lets go of them, in a transaction that changes nothing else.
    pub fn hold(&mut self, purpose: Purpose, holds: Vec<Hold>) -> Result<Committed> {
        self.begin_with(purpose, holds)?.commit(&[], CommitOptions::default())
    }

    fn begin_with(&mut self, purpose: Purpose, holds: Vec<Hold>) -> Result<Open<'_>> {
        if purpose.summary.to_string().len() > SUMMARY_BYTES_MAX {
            let message = format!("the summary is larger than {SUMMARY_BYTES_MAX} bytes");
            return Err(Error::new(Kind::Usage, "summary-too-large", message));
        }
        self.project.require_owner()?;
        let (begin, journal) = self.start(purpose, holds)?;
        match self.make_staging(&begin) {
            Ok(staging) => {
                let written = Arc::default();
                Ok(Open { session: self, begin, journal, staging, written, files: 0, ended: false })
            }
            Err(error) => Err(self.abandon(&begin, None, error)),
        }
    }

    pub(super) fn start(&self, purpose: Purpose, holds: Vec<Hold>) -> Result<(Begin, Journal)> {
        let inner = &self.inner;
        let begin = Begin {
            id: inner.new_id()?,
            project: self.project.path().display().to_string(),
            identity: self.project.identity(),
            had_workshop: Workshop::existing(&self.project)?.is_some(),
            operation: purpose.operation,
            digest: purpose.digest,
            actor: purpose.actor,
            summary: purpose.summary,
            started_at_ms: inner.now_ms(),
            holds,
        };
        // Where nothing of the project can be on the device before the journal's name is, that is enough until the intent.
        let is_waited_for = !self.order().keeps_journal;
        let journal = Journal::create(&inner.disk, &inner.journals, begin.clone(), is_waited_for)?;
        match inner.database.begin(&begin) {
            Ok(()) => Ok((begin, journal)),
            Err(error) if error.code == NAME_TAKEN => {
                // What else has that name is the other one's.
                journal::remove(&inner.disk, &inner.journals, &begin)?;
                Err(error)
            }
            Err(error) => Err(self.abandon(&begin, None, error)),
        }
    }

    fn make_staging(&self, begin: &Begin) -> Result<Directory> {
        let disk = &self.inner.disk;
        let workshop = Workshop::ensure(disk, &self.project)?;
        let area = workshop.ensure_area(disk, STAGING)?;
        workshop.ensure_in(disk, &area, &begin.id)
    }

    /// Gives up after `error` and answers what to tell the caller.
    pub(super) fn abandon(&self, begin: &Begin, undo: Option<Undo<'_>>, error: Error) -> Error {
        if error.code == UNCERTAIN {
            return error;
        }
        match self.give_up(begin, undo, &error.message) {
            Ok(()) => error,
            Err(second) => {
                tracing::warn!(transaction = %begin.id, error = %second, "could not undo at once");
                let hint = format!(
                    "it could not be undone at once either ({second}); the next command in this project does that first"
                );
                Error { hint: Some(hint), ..error }
            }
        }
    }

    /// From the intent to the commit record; answers when the new state was visible, and what is to be held until the end where
    /// packages of a system are part of it. After an error nothing is left to undo, or the next recovery does it.
    pub(super) fn carry_out_to_commit(
        &self,
        journal: &mut Journal,
        begin: &Begin,
        intent: &mut Intent,
        staging: Option<&Directory>,
    ) -> Result<(Instant, Option<SystemLock>)> {
        let begun = self.lock_unchanged_system(begin, intent).and_then(|system| {
            if intent.start.is_some() && !journal.note(&self.inner.disk, begin, intent)? {
                intent.start = None;
            }
            journal.append(&self.inner.disk, &Record::Intent(intent.clone()))?;
            match staging {
                _ if intent.start.is_some() => {}
                Some(staging) => self.make_all_durable(&begin.id, journal, staging)?,
                None => journal.sync(&self.inner.disk)?,
            }
            Ok(system)
        });
        // Nothing of it is done: what stands as the intent says was brought there by others, and is theirs.
        let system = begun.map_err(|error| self.abandon(begin, None, error))?;
        let held = system.as_ref();
        if let Err(error) = self.bring_system_forward(begin, intent) {
            let undo = Undo { has_names: false, ..Undo::of(intent, held) };
            return Err(self.abandon(begin, Some(undo), error));
        }
        match self.change_names(journal, intent) {
            Ok(visible) => Ok((visible, system)),
            Err(error) => {
                let undo = Undo { journal: Some(&*journal), ..Undo::of(intent, held) };
                Err(self.abandon(begin, Some(undo), error))
            }
        }
    }

    /// Settles all names and writes the commit record; answers when the new state was visible.
    fn change_names(&self, journal: &mut Journal, intent: &mut Intent) -> Result<Instant> {
        let disk = &self.inner.disk;
        let workshop = Workshop::ensure(disk, &self.project)?;
        let site = self.site(Some(&workshop));
        site.make_directories(&intent.directories)?;
        for (index, item) in intent.items.iter_mut().enumerate() {
            journal.append(disk, &Record::Turn(index))?;
            if let Err(error) = site.settle(item, Direction::Forward) {
                let copy =
                    (error.code == CANNOT_MOVE).then(|| site.copy_aside(item)).transpose()?;
                let Some(copy) = copy.flatten() else { return Err(error) };
                journal.append(disk, &Record::Copied { index, copy })?;
                journal.sync(disk)?;
                item.copied(copy);
                site.settle(item, Direction::Forward)?;
            }
        }
        let visible = Instant::now();
        if !self.order().keeps_journal {
            // Else the record could be on the device and they not, and an exchange that is there in part could not be repeated.
            site.sync(&intent.items, &intent.directories)?;
        }
        for item in &intent.items {
            self.check_old_content(&workshop, item)?;
        }
        ipc::fault::point("commit.names-changed");
        let mark = journal.mark();
        let committed = journal.append(disk, &Record::Commit).and_then(|()| match intent.start {
            Some(_) => Ok(()),
            None => journal.sync(disk),
        });
        if let Err(error) = committed {
            return Err(match journal.take_back(disk, mark) {
                Ok(()) => error,
                Err(_) => Error::new(Kind::Failed, UNCERTAIN, error.message).hint(
                    "it is not certain whether the change was recorded; the next command finds out and \
                     either finishes or undoes it",
                ),
            });
        }
        ipc::fault::point("commit.recorded");
        Ok(visible)
    }

    /// The old file is in the slot now, where nobody replaces it any more: was it what the plan saw?
    fn check_old_content(&self, workshop: &Workshop, item: &Item) -> Result<()> {
        let Some(expected) = &item.old_sha256 else { return Ok(()) };
        let Some(directory) = workshop.find(&[&item.area, &item.owner])? else { return Ok(()) };
        let path = self.project.path().join(item.live.as_str());
        let digest = tree::file_digest(&directory, OsStr::new(&item.slot))
            .map_err(|error| Error::io("read", &path, &error))?;
        if crate::hex::hex(&digest) == *expected {
            return Ok(());
        }
        Err(stale(&item.live, "it was edited at the same moment"))
    }
}

impl Open<'_> {
    /// The name of the transaction.
    pub fn id(&self) -> &str {
        &self.begin.id
    }

    /// Where new content is prepared: on the file system of the project, removed if the transaction fails.
    pub fn staging(&self) -> &Path {
        self.staging.path()
    }

    /// Prepares the new content of a file. It gets the mode and owner of the file that it replaces.
    pub fn stage_file(
        &mut self,
        live: RelativePath,
        bytes: &[u8],
        expected: Expected,
    ) -> Result<Change> {
        let session = self.session;
        let disk = &session.inner.disk;
        let full = session.project.path().join(live.as_str());
        let status = match session.project.root().descend(live.parent().as_ref()) {
            Ok(parent) => {
                parent.status(live.name()).map_err(|error| Error::io("read", &full, &error))?
            }
            Err(_) => None,
        };
        let staged = format!("file-{}", self.files);
        self.files += 1;
        let path = self.staging.path().join(&staged);
        let failed = |error: io::Error| Error::io("write", &path, &error);
        let name = OsStr::new(&staged);
        let file =
            disk.perform("create", || self.staging.create_file(name, 0o666)).map_err(failed)?;
        disk.append(&file, bytes).map_err(failed)?;
        if let Some(status) = status {
            // A project of somebody else, changed by root, stays theirs.
            let owner = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
            let _ = rustix::fs::fchown(&file, Some(owner.0), Some(owner.1));
            let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
            rustix::fs::fchmod(&file, mode).map_err(|errno| failed(errno.into()))?;
        }
        Ok(Change { live, staged: Some(staged), environment: None, expected })
    }

    /// Gives it up.
    pub fn abort(mut self, reason: &str) -> Result<()> {
        self.ended = true;
        self.session.give_up(&self.begin, None, reason)
    }

    /// What was written into the staging directory: who writes says so there, and then it is not read once more.
    pub fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    /// Makes all changes, or none.
    pub fn commit(mut self, changes: &[Change], options: CommitOptions<'_>) -> Result<Committed> {
        self.ended = true;
        let began = Instant::now();
        let session = self.session;
        let start = match options {
            CommitOptions { leaves_rest: true, leaves_device: true, system: None, .. } => {
                session.start_to_answer_in(&self.staging)
            }
            _ => Ok(None),
        };
        let prepared = start.and_then(|start| {
            let (intent, kept) =
                self.prepare(changes, options, start.is_some() && !options.confirms_at_once)?;
            // What has no fingerprint cannot be looked at after a loss of power.
            let start = start.filter(|_| !self.written.leaves_out());
            Ok((Intent { start, ..intent }, kept))
        });
        let (mut intent, kept) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(session.abandon(&self.begin, None, error)),
        };
        let (journal, begin, staging) = (&mut self.journal, &self.begin, Some(&self.staging));
        let (visible, _system) =
            session.carry_out_to_commit(journal, begin, &mut intent, staging)?;
        // Who has the lock of systems ends with it.
        let leaves = options.leaves_rest && intent.system.is_none();
        let ended = match leaves {
            true => session.conclude(begin, &intent),
            false => session.finish(begin, &intent),
        };
        let unfinished = ended.err();
        let transaction = self.begin.id.clone();
        let kept = kept.then(|| session.inner.kept(&transaction));
        let is_left = leaves || unfinished.is_some();
        let is_stored = intent.start.is_none();
        if !is_stored {
            session.note_answered(&transaction);
        }
        let visible_us = microseconds(began, visible);
        Ok(Committed { transaction, kept, unfinished, is_left, is_stored, visible_us })
    }

    /// Everything before the intent: checks and fingerprints.
    fn prepare(
        &self,
        changes: &[Change],
        options: CommitOptions<'_>,
        is_later: bool,
    ) -> Result<(Intent, bool)> {
        check_overlap(changes)?;
        let looked = self.while_it_is_written(is_later, || match options.crew {
            Some(crew) => {
                let prints = self.staged_prints(changes, crew)?;
                let look = || self.look(changes, options.mended, prints);
                agents_contract::once(crew, look).ok_or_else(Error::cancelled)?
            }
            None => self.look(changes, options.mended, Vec::new()),
        });
        let Looked { mut directories, mut items, mut drift, mut taken_away } = looked?;
        self.note_new_content(&mut items)?;
        if !drift.is_empty() && !options.force {
            return Err(fingerprint::refusal("this change", &drift));
        }
        drift.append(&mut taken_away);
        self.session.keep_live(&self.begin.id, &drift)?;
        directories.sort();
        let kept = self.session.inner.kept(&self.begin.id).is_dir();
        let system = options.system.cloned();
        let finish = Finish::Keep;
        Ok((Intent { directories, items, finish, system, start: None }, kept))
    }

    /// Whether the state lies on another file system than what is staged.
    pub(super) fn is_apart(&self) -> Result<bool> {
        self.session.inner.is_apart(&self.staging)
    }

    /// Does something while the disk gets what is staged already: less is left for whoever waits for all of it. Only a beginning,
    /// of which nothing is believed: through a descriptor of its own, so that an error is still there for the one who asks. Where
    /// little was made here it would only be one more wait.
    /// So it would be where nobody waits for all of it.
    fn while_it_is_written<T>(&self, is_later: bool, work: impl FnOnce() -> T) -> T {
        if is_later || self.written.count() < EARLY_WRITE_FILES_MIN {
            return work();
        }
        let Ok(staging) = self.staging.child(OsStr::new(".")) else { return work() };
        std::thread::scope(|scope| {
            let write = move || {
                let _ = rustix::fs::syncfs(&staging);
            };
            // Without a thread it is written later.
            let _ = std::thread::Builder::new().spawn_scoped(scope, write);
            work()
        })
    }

    /// What files are going to hold, for the log.
    fn note_new_content(&self, items: &mut [Item]) -> Result<()> {
        for item in items {
            if item.new.is_some_and(|new| new.kind == ObjectKind::File) {
                let digest = tree::file_digest(&self.staging, OsStr::new(&item.slot));
                let path = self.staging.path().join(&item.slot);
                let digest = digest.map_err(|error| Error::io("read", &path, &error))?;
                item.new_sha256 = Some(crate::hex::hex(&digest));
            }
        }
        Ok(())
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.session.give_up(&self.begin, None, "dropped")
        {
            tracing::warn!(transaction = %self.begin.id, %error, "left for recovery");
        }
    }
}

pub(super) fn microseconds(start: Instant, end: Instant) -> u64 {
    u64::try_from(end.duration_since(start).as_micros()).unwrap_or(u64::MAX)
}

/// What a live name stands for; links are refused.
pub(super) fn live_identity(
    project: &super::Project,
    live: &RelativePath,
) -> Result<Option<Identity>> {
    let full = project.path().join(live.as_str());
    let parent = match project.root().descend(live.parent().as_ref()) {
        Ok(parent) => parent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_link(&error) => return Err(linked(&full)),
        Err(error) => return Err(Error::io("open the directory of", &full, &error)),
    };
    match parent.identity(live.name()).map_err(|error| Error::io("look at", &full, &error))? {
        Some(found) if matches!(found.kind, ObjectKind::Link | ObjectKind::Special) => {
            Err(linked(&full))
        }
        found => Ok(found),
    }
}

pub(super) fn stale(live: &RelativePath, what: &str) -> Error {
    let message = format!("`{live}` changed since the plan was made: {what}");
    Error::new(Kind::Stale, "plan-stale", message)
        .hint("make a new plan from what is there now")
        .retryable()
}
