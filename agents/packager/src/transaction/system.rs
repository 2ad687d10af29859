//! The part of a transaction that changes packages of the system: the first to be done and the last to be undone.
//!
//! # The protocol
//! 1. The *intent* record names the whole change before the distribution's tool is started. Everything that can fail without
//!    it (fetching, staging, what a person edited) has not failed by then.
//! 2. One transaction at a time is between its intent and its end with a part of a system: it holds the lock of systems. Who
//!    takes that lock and finds the journal of another one that was at it has that one ended first.
//! 3. Before the commit record a failure or crash brings the system back after the names of the project; where things stand
//!    is asked of the tool. After the commit record the change stands and is kept with the transaction.
//! 4. A rollback is the change the other way round, from what its latest transaction left to what its earliest one found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::database::Standing as Transacted;
use super::journal::{self, Begin, Intent};
use super::{Inner, Project, Session, Transactions};
use crate::error::{Error, Kind, Result};
use crate::limits::{LOCK_RETRY_MS, SYSTEM_LOCK_WAIT_SECONDS, SYSTEM_RECOVERY_WAIT_SECONDS};
use crate::system::{Change, Direction, Files, Snapshot, Standing, Step, System};

/// Held from the intent to the end of a transaction with a part of a system.
pub(super) struct SystemLock {
    _file: File,
}

/// What a rollback does to a system, and what somebody changed there since.
#[derive(Default)]
pub(super) struct WayBack {
    pub(super) change: Option<Change>,
    pub(super) edited: Vec<String>,
}

impl Transactions {
    /// Where archives of the system's packages lie, and what its tool is told.
    pub(crate) fn system_place(&self) -> Result<PathBuf> {
        self.inner.system_place()
    }

    /// What the standing transactions of a project changed of systems, the latest first.
    pub(crate) fn system_changes(&self, project: &Project) -> Result<Vec<Change>> {
        self.inner.database.system_changes(Some(&project.key()))
    }

    /// Digests of archives that standing transactions keep, by name, architecture and version.
    pub(crate) fn system_archives(&self) -> Result<BTreeMap<(String, String, String), String>> {
        let mut found = BTreeMap::new();
        for change in self.inner.database.system_changes(None)? {
            for step in change.steps {
                for version in [step.before, step.after].iter().filter_map(Standing::version) {
                    let Some(sha256) = version.sha256.clone() else { continue };
                    let key =
                        (step.name.clone(), version.architecture.clone(), version.version.clone());
                    found.insert(key, sha256);
                }
            }
        }
        Ok(found)
    }

    /// Ends what others left in the middle of a system's part. Never under the lock of systems, which that takes.
    fn end_others(&self, own: &str) -> Result<()> {
        for which in journal::unfinished(&self.inner.journals)? {
            if which.id == own {
                continue;
            }
            let Some(story) = journal::read(&self.inner.journals, &which)? else { continue };
            if is_at_a_system(&story) {
                self.recover_project_of(&story).map_err(|error| in_the_way(&story, &error))?;
            }
        }
        Ok(())
    }
}

impl Inner {
    fn system_place(&self) -> Result<PathBuf> {
        let place = self.state.join("system");
        super::make_private(&place)?;
        Ok(place)
    }

    fn system(&self, change: &Change) -> Result<System> {
        System::open(Path::new(&change.root), &self.system_place()?)
    }

    fn lock_system(&self, wait: Duration) -> Result<SystemLock> {
        let path = self.locks.path().join("system.lock");
        let failed = |error: std::io::Error| Error::io("lock", &path, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        let deadline = Instant::now() + wait;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(SystemLock { _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(LOCK_RETRY_MS));
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    let message = "another transaction changes packages of the system";
                    return Err(Error::new(Kind::Failed, "system-busy", message)
                        .hint("wait until it has ended, then run the command again")
                        .retryable());
                }
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }

    /// Removes archives that no transaction needs. That this fails keeps some; it is tried again next time.
    fn tidy_archives(&self) -> Result<()> {
        let mut needed = BTreeSet::new();
        for change in self.database.system_changes(None)? {
            needed.extend(change.digests().map(str::to_owned));
        }
        for which in journal::unfinished(&self.journals)? {
            let story = journal::read(&self.journals, &which)?;
            let intent = story.and_then(|story| story.intent);
            let change = intent.and_then(|intent| intent.system);
            needed.extend(change.iter().flat_map(Change::digests).map(str::to_owned));
        }
        let place = self.system_place()?;
        let tidied = Files::open(&place)?.keep_only(&needed);
        tidied.map_err(|error| Error::io("tidy", &place, &error))
    }
}

impl Session {
    /// What people should know of what was done to the system.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(self.notes.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings a system forward, where an intent has a part of one. The lock is to be held until the transaction has ended.
    pub(super) fn bring_system_forward(
        &self,
        begin: &Begin,
        intent: &Intent,
    ) -> Result<Option<SystemLock>> {
        let Some(change) = &intent.system else { return Ok(None) };
        let wait = Duration::from_secs(SYSTEM_LOCK_WAIT_SECONDS);
        let transactions = Transactions { inner: self.inner.clone() };
        transactions.end_others(&begin.id)?;
        let lock = self.inner.lock_system(wait)?;
        for which in journal::unfinished(&self.inner.journals)? {
            let is_other = which.id != begin.id;
            let story =
                is_other.then(|| journal::read(&self.inner.journals, &which)).transpose()?;
            if let Some(story) = story.flatten().filter(is_at_a_system) {
                let error = Error::new(Kind::Failed, "system-busy", "it was begun just now");
                return Err(in_the_way(&story, &error));
            }
        }
        let system = self.inner.system(change)?;
        // Between the rehearsal and the lock somebody else may have been here.
        system.check_unchanged(change)?;
        let notes = system.bring(change, Direction::Forward, false)?;
        self.note(notes);
        Ok(Some(lock))
    }

    /// Brings it back. `is_fresh`: the failure was just now.
    pub(super) fn bring_system_back(&self, intent: &Intent, is_fresh: bool) -> Result<()> {
        let Some(change) = &intent.system else { return Ok(()) };
        let seconds = match is_fresh {
            true => SYSTEM_LOCK_WAIT_SECONDS,
            false => SYSTEM_RECOVERY_WAIT_SECONDS,
        };
        let _lock = self.inner.lock_system(Duration::from_secs(seconds))?;
        let notes = self.inner.system(change)?.bring(change, Direction::Back, is_fresh)?;
        for note in &notes {
            tracing::warn!(%note, "the system was brought back");
        }
        self.note(notes);
        Ok(())
    }

    fn note(&self, notes: Vec<String>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
    }

    /// What follows the end of a transaction with a part of a system, whichever it was.
    pub(super) fn tidy_system(&self, intent: Option<&Intent>) {
        let has_part = intent.is_some_and(|intent| intent.system.is_some());
        if let Some(error) = has_part.then(|| self.inner.tidy_archives().err()).flatten() {
            tracing::warn!(%error, "archives of packages are tidied up another time");
        }
    }

    /// The way back over several transactions, the latest first.
    pub(super) fn way_back(&self, taken: &[Transacted]) -> Result<WayBack> {
        let changes: Vec<&Change> = taken.iter().filter_map(|it| it.system.as_ref()).collect();
        let Some(latest) = changes.first() else { return Ok(WayBack::default()) };
        if changes.iter().any(|change| change.root != latest.root) {
            let message = "these transactions changed several systems; roll them back one by one";
            return Err(Error::new(Kind::Usage, "several-systems", message));
        }
        System::require_root()?;
        let snapshot = self.inner.system(latest)?.snapshot()?;
        snapshot.require_whole()?;
        let mut first: BTreeMap<&str, (&Standing, &Standing)> = BTreeMap::new();
        for step in changes.iter().flat_map(|change| &change.steps) {
            // The first that is met is the latest; what is met last was found there.
            let entry = first.entry(&step.name).or_insert((&step.after, &step.before));
            entry.1 = &step.before;
        }
        let mut way = WayBack::default();
        let mut steps = Vec::new();
        let mut irreversible = Vec::new();
        for (name, (left, goal)) in first {
            let before = now(&snapshot, name, left);
            if !before.is_like(left) {
                way.edited.push(format!("`{name}` is {before}, and {left} was installed"));
            }
            if !before.is_like(goal) && goal.version().is_some_and(|it| it.sha256.is_none()) {
                irreversible
                    .push(format!("`{name}` stays {before}: no archive of {goal} can be had"));
                continue;
            }
            let step = Step { name: name.to_owned(), before, after: goal.clone() };
            let is_marked = |it: &Standing| it.version().map(|version| version.is_automatic);
            if step.is_real() || is_marked(&step.before) != is_marked(&step.after) {
                steps.push(step);
            }
        }
        let Change { manager, root, .. } = (*latest).clone();
        way.change = Some(Change { irreversible, manager, root, steps });
        Ok(way)
    }
}

/// How a package stands now, with the archive that a transaction left it in.
fn now(snapshot: &Snapshot, name: &str, left: &Standing) -> Standing {
    let mut now = snapshot.standing(name);
    if let (Standing::Installed(version), Some(left)) = (&mut now, left.version())
        && version.version == left.version
        && version.architecture == left.architecture
    {
        version.sha256.clone_from(&left.sha256);
    }
    now
}

fn is_at_a_system(story: &journal::Story) -> bool {
    let intent = story.intent.as_ref();
    !story.committed && intent.is_some_and(|intent| intent.system.is_some())
}

fn in_the_way(story: &journal::Story, error: &Error) -> Error {
    let project = &story.begin.project;
    let message = format!(
        "a transaction in `{project}` was at packages of the system and has not ended: {error}"
    );
    Error::new(Kind::Failed, "system-busy", message)
        .hint(format!("run `bolide history` in `{project}`, which ends it, then try again"))
        .retryable()
}
