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
use super::database::fingerprint_name;
use super::directory::{Directory, Identity, ObjectKind, RelativePath};
use super::fingerprint::{self, Drift, Fingerprint};
use super::journal::{Begin, Finish, Intent, Item, Journal, Record};
use super::project::{Content, STAGING, Workshop, is_link, linked};
use super::settle::{CANNOT_MOVE, Direction};
use super::tree;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{CHANGES_MAX, SUMMARY_BYTES_MAX};
use crate::store::Written;

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
    /// Who looks through what is installed and what is to be; the caller itself where nobody is named.
    pub crew: Option<&'a dyn Crew>,
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
    /// Microseconds from the call until the new state was visible.
    pub visible_us: u64,
}

/// What there is to change, and what a person changed meanwhile.
struct Looked {
    directories: Vec<RelativePath>,
    items: Vec<Item>,
    drift: BTreeMap<String, Drift>,
}

/// A transaction after its commit record.
pub(super) struct Done {
    pub(super) unfinished: Option<Error>,
    pub(super) visible: Instant,
}

/// A transaction that is being prepared. Dropping it gives it up and leaves the project as it was.
pub struct Open<'s> {
    session: &'s Session,
    begin: Begin,
    journal: Journal,
    staging: Directory,
    written: Arc<Written>,
    files: usize,
    ended: bool,
}

impl Session {
    /// Begins a transaction: from here on there is a staging directory.
    pub fn begin(&mut self, purpose: Purpose) -> Result<Open<'_>> {
        if purpose.summary.to_string().len() > SUMMARY_BYTES_MAX {
            let message = format!("the summary is larger than {SUMMARY_BYTES_MAX} bytes");
            return Err(Error::new(Kind::Usage, "summary-too-large", message));
        }
        self.project.require_owner()?;
        let (begin, journal) = self.start(purpose)?;
        match self.make_staging(&begin) {
            Ok(staging) => {
                let written = Arc::default();
                Ok(Open { session: self, begin, journal, staging, written, files: 0, ended: false })
            }
            Err(error) => Err(self.abandon(&begin, None, error)),
        }
    }

    pub(super) fn start(&self, purpose: Purpose) -> Result<(Begin, Journal)> {
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
        };
        let journal = Journal::create(&inner.disk, &inner.journals, begin.clone())?;
        match inner.database.begin(&begin) {
            Ok(()) => Ok((begin, journal)),
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
    pub(super) fn abandon(&self, begin: &Begin, intent: Option<&Intent>, error: Error) -> Error {
        if error.code == UNCERTAIN {
            return error;
        }
        match self.give_up(begin, intent, &error.message) {
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

    /// From the intent to the end. An error before the commit record is for the caller to undo; after it the
    /// transaction stands, and what could not be finished is answered.
    pub(super) fn carry_out(
        &self,
        journal: &mut Journal,
        begin: &Begin,
        intent: &mut Intent,
    ) -> Result<Done> {
        let disk = &self.inner.disk;
        journal.append(disk, &Record::Intent(intent.clone()))?;
        journal.sync(disk)?;
        let workshop = Workshop::ensure(disk, &self.project)?;
        let site = self.site(Some(&workshop));
        site.make_directories(&intent.directories)?;
        for (index, item) in intent.items.iter_mut().enumerate() {
            if let Err(error) = site.settle(item, Direction::Forward) {
                let copy =
                    (error.code == CANNOT_MOVE).then(|| site.copy_aside(item)).transpose()?;
                let Some(copy) = copy.flatten() else { return Err(error) };
                journal.append(disk, &Record::Copied { index, copy })?;
                journal.sync(disk)?;
                item.copied(copy);
                site.settle(item, Direction::Forward)?;
            }
            journal.append(disk, &Record::Done(index))?;
        }
        let visible = Instant::now();
        for item in &intent.items {
            site.sync(item)?;
            self.check_old_content(&workshop, item)?;
        }
        let mark = journal.mark();
        let committed = journal.append(disk, &Record::Commit).and_then(|()| journal.sync(disk));
        if let Err(error) = committed {
            return Err(match journal.take_back(disk, mark) {
                Ok(()) => error,
                Err(_) => Error::new(Kind::Failed, UNCERTAIN, error.message).hint(
                    "it is not certain whether the change was recorded; the next command finds out and \
                     either finishes or undoes it",
                ),
            });
        }
        drop(workshop);
        Ok(Done { unfinished: self.finish(begin, intent).err(), visible })
    }

    /// The old file is in the slot now, where nobody replaces it any more: was it what the plan saw?
    fn check_old_content(&self, workshop: &Workshop, item: &Item) -> Result<()> {
        let Some(expected) = &item.old_sha256 else { return Ok(()) };
        let Some(directory) = workshop.find(&[&item.area, &item.owner])? else { return Ok(()) };
        let path = self.project.path().join(item.live.as_str());
        let digest = tree::file_digest(&directory, OsStr::new(&item.slot))
            .map_err(|error| Error::io("read", &path, &error))?;
        if tree::hex(&digest) == *expected {
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
        let start = Instant::now();
        let session = self.session;
        let (mut intent, kept) = match self.prepare(changes, options) {
            Ok(prepared) => prepared,
            Err(error) => return Err(session.abandon(&self.begin, None, error)),
        };
        match session.carry_out(&mut self.journal, &self.begin, &mut intent) {
            Ok(Done { unfinished, visible }) => {
                let transaction = self.begin.id.clone();
                let kept = kept.then(|| session.inner.kept(&transaction));
                let visible_us = microseconds(start, visible);
                Ok(Committed { transaction, kept, unfinished, visible_us })
            }
            Err(error) => Err(session.abandon(&self.begin, Some(&intent), error)),
        }
    }

    /// Everything before the intent: checks, fingerprints, and the staged content on the device.
    fn prepare(&self, changes: &[Change], options: CommitOptions<'_>) -> Result<(Intent, bool)> {
        check_overlap(changes)?;
        let look = || self.look(changes);
        let looked = match options.crew {
            Some(crew) => agents_contract::once(crew, look).ok_or_else(Error::cancelled)?,
            None => look(),
        };
        let Looked { mut directories, items, drift } = looked?;
        if !drift.is_empty() && !options.force {
            return Err(fingerprint::refusal("this change", &drift));
        }
        self.session.keep_live(&self.begin.id, &drift)?;
        self.session
            .inner
            .disk
            .sync_file_system(&self.staging)
            .map_err(|error| Error::io("write", self.staging.path(), &error))?;
        directories.sort();
        let kept = !drift.is_empty();
        Ok((Intent { directories, items, finish: Finish::Keep }, kept))
    }

    /// Looks at every file of what is to be made live, and of what it replaces.
    fn look(&self, changes: &[Change]) -> Result<Looked> {
        let mut directories = Vec::new();
        let mut items = Vec::with_capacity(changes.len());
        for change in changes {
            let removal = change.staged.is_none() && !matches!(change.expected, Expected::File(_));
            if removal && live_identity(&self.session.project, &change.live)?.is_none() {
                // A removal of what is not there changes nothing.
                continue;
            }
            self.missing_directories(&change.live, &mut directories)?;
            items.push(self.item(items.len(), change)?);
        }
        let drift = self.drift(&items)?;
        Ok(Looked { directories, items, drift })
    }

    fn item(&self, position: usize, change: &Change) -> Result<Item> {
        let project = &self.session.project;
        let full = project.path().join(change.live.as_str());
        let old = live_identity(&self.session.project, &change.live)?;
        let slot = change.staged.clone().unwrap_or_else(|| format!("removed-{position}"));
        RelativePath::new(&slot)?;
        let new = match &change.staged {
            Some(name) => Some(self.staged_identity(name)?),
            None => None,
        };
        let old_sha256 = match (&change.expected, old) {
            (Expected::Absent, Some(_)) => {
                return Err(stale(&change.live, "it exists now"));
            }
            (Expected::File(_), None) => return Err(stale(&change.live, "it is gone")),
            (Expected::File(content), Some(_)) => {
                if project.content(&change.live)?.as_ref() != Some(content) {
                    return Err(stale(&change.live, "it was edited"));
                }
                Some(content.sha256.clone())
            }
            (_, Some(Identity { kind: ObjectKind::File, .. })) => {
                project.content(&change.live)?.map(|content| content.sha256)
            }
            _ => None,
        };
        if new.is_some_and(|new| matches!(new.kind, ObjectKind::Link | ObjectKind::Special)) {
            return Err(linked(&full));
        }
        let mut fingerprint = None;
        if new.is_some() {
            let place = change.live.name();
            let print =
                Fingerprint::record(&self.staging, OsStr::new(&slot), place, &self.written)?;
            tracing::debug!(live = %change.live, entries = print.count(), "recorded what is installed");
            let name = fingerprint_name(&self.begin.id, position);
            self.session.inner.save_fingerprint(&name, &print)?;
            fingerprint = Some(print.digest());
        }
        Ok(Item {
            live: change.live.clone(),
            area: STAGING.to_owned(),
            owner: self.begin.id.clone(),
            slot,
            old,
            new,
            doomed: None,
            old_sha256,
            environment: change.environment,
            fingerprint,
        })
    }

    fn staged_identity(&self, name: &str) -> Result<Identity> {
        let path = self.staging.path().join(name);
        if name.contains('/') {
            let message = format!("`{}` is not directly in the staging directory", path.display());
            return Err(Error::new(Kind::Usage, "bad-path", message));
        }
        let found = self.staging.identity(OsStr::new(name));
        found
            .and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|error| Error::io("find", &path, &error))
    }

    /// Collects the directories above `live` that have to be made.
    fn missing_directories(
        &self,
        live: &RelativePath,
        missing: &mut Vec<RelativePath>,
    ) -> Result<()> {
        let mut next = live.parent();
        while let Some(path) = next {
            next = path.parent();
            let found = live_identity(&self.session.project, &path)?;
            match found.map(|found| found.kind) {
                Some(ObjectKind::Directory) => return Ok(()),
                Some(_) => {
                    let full = self.session.project.path().join(path.as_str());
                    let message = format!("`{}` is not a directory", full.display());
                    return Err(Error::new(Kind::Failed, "not-a-directory", message));
                }
                None if missing.contains(&path) => return Ok(()),
                None => missing.push(path),
            }
        }
        Ok(())
    }

    /// What a person changed in the environments that are about to be replaced. Files are not looked at: the
    /// plan was made from what they hold now.
    fn drift(&self, items: &[Item]) -> Result<BTreeMap<String, Drift>> {
        let mut drift = BTreeMap::new();
        for item in items {
            if item.old.is_some_and(|old| old.kind == ObjectKind::Directory) {
                self.session.drift_at(&item.live, &mut drift)?;
            }
        }
        Ok(drift)
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

fn check_overlap(changes: &[Change]) -> Result<()> {
    if changes.len() > CHANGES_MAX {
        let message = format!("{} changes at once; the limit is {CHANGES_MAX}", changes.len());
        return Err(Error::new(Kind::Usage, "too-many-changes", message));
    }
    let mut sorted: Vec<_> = changes.iter().map(|change| &change.live).collect();
    sorted.sort();
    for pair in sorted.windows(2) {
        if let [left, right] = pair
            && left.overlaps(right)
        {
            let message = format!("`{left}` and `{right}` are changed at once, one in the other");
            return Err(Error::new(Kind::Usage, "overlapping-changes", message));
        }
    }
    let mut staged: Vec<_> = changes.iter().filter_map(|change| change.staged.as_ref()).collect();
    staged.sort();
    if let Some([name, _]) = staged.windows(2).find(|pair| pair.first() == pair.last()) {
        let message = format!("`{name}` of the staging directory is meant for two places");
        return Err(Error::new(Kind::Usage, "overlapping-changes", message));
    }
    Ok(())
}

fn stale(live: &RelativePath, what: &str) -> Error {
    let message = format!("`{live}` changed since the plan was made: {what}");
    Error::new(Kind::Stale, "plan-stale", message)
        .hint("make a new plan from what is there now")
        .retryable()
}
