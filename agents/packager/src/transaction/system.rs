//! The part of a transaction that changes packages of the system: the first to be done and the last to be undone.
//!
//! # The protocol
//! 1. The *intent* record names the whole change before the distribution's tool is started. Everything that can fail without
//!    it (fetching, staging, what a person edited, a system that stands otherwise than the plan saw) has not failed by then.
//! 2. One transaction at a time is between its intent and its end with a part of a system: it holds the lock of systems from
//!    before the intent. Who takes that lock and finds that another one has touched a system (3) and not ended gives the lock
//!    back and has that one ended first; one whose project is locked is alive, and ends by itself.
//! 3. *Touched* is a record of its own ([`Touch`]), on the device before the tool's first change, and made by the tool's own
//!    hook under the tool's own lock (dnf's is our program that drives it; pacman has none, so there it is made before pacman is
//!    started, which only then asks for its lock). Whoever ends the transaction, alive or after a crash, first takes away what that hook
//!    agrees to: from then on the answer is final, whatever the dead have left running. Without the record only names of the
//!    project go back: what stands in the system as the change would have it is somebody else's.
//! 4. With it, and before the commit record, a failure or crash brings the system back after the names of the project, and also
//!    where these cannot be settled yet; where things stand is asked of the tool. When the system was seen to be back the
//!    record goes, before the rest is ended: what is done there from then on is others'.
//! 5. After the commit record the change stands and is kept with the transaction; *touched* says nothing any more.
//! 6. Where a crash's project is away, the part of a system is ended alone, and the record *restored* says so to who finds the
//!    project.
//! 7. A rollback is the change the other way round, from what its latest transaction left to what its earliest one found.
//!
//! # Where a kill falls
//! | the last thing done | what the next one finds | what it does |
//! |---|---|---|
//! | the lock of systems | no intent | removes staging |
//! | the intent, written or not | no record | settles names |
//! | apt armed, or started and before its hook | no record; apt, if it lives, finds nothing to agree to and stops | settles names |
//! | the hook has renamed, its device knows or not | the record, or after a loss of power none; dpkg has not begun | asks apt, which has nothing to bring back; or settles names |
//! | pacman's record, pacman itself started or not | the record | waits for a pacman of ours, brings back |
//! | anything of apt's or dpkg's work; apt goes on where it lives | the record | waits for apt's lock, brings back |
//! | names, marks, all but the commit record | the record | settles names, brings back |
//! | the commit record | a commit | finishes; the record goes before the journal |
//! | brought back, the record not gone | the record | brings back what is back |
//! | the record gone, the journal not | no record | settles names |
//!
//! What is left: while the record is there, what somebody installs by hand in the version that was planned cannot be told from
//! apt's own work, and goes. That is so after a crash amid apt's work; and in two moments in which nothing is to be brought back:
//! apt itself killed after its hook and before dpkg's first change, a recovery killed after its last look and before the record
//! is gone. With pacman the first of these begins before it has its lock, and lasts for as long as it waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::database::Standing as Transacted;
use super::journal::{self, Begin, Intent, Journal, Record, Story, Unfinished};
use super::project::LOCKED;
use super::{Inner, Project, Session, Transactions};
use crate::error::{Error, Kind, Result};
use crate::limits::{
    LOCK_RETRY_MS, SYSTEM_LOCK_WAIT_SECONDS, SYSTEM_RECOVERY_WAIT_SECONDS, SYSTEM_ROUNDS_MAX,
};
use crate::system::{
    Change, Direction, Files, Snapshot, Standing, Step, System, Touch, Touched, Version,
};

/// Held from before the intent to the end of a transaction with a part of a system.
pub(super) struct SystemLock {
    _file: File,
}

/// Digests of archives, by name, architecture and version.
pub(crate) struct Archives(BTreeMap<(String, String, String), String>);

impl Archives {
    /// The digest of the archive of a version.
    pub(crate) fn digest(&self, name: &str, version: &Version) -> Option<String> {
        self.0.get(&key_of(name, version)).cloned()
    }

    /// Names the archive of what is installed where nobody did.
    pub(crate) fn fill(&self, name: &str, standing: &mut Standing) {
        if let Standing::Installed(version) = standing
            && version.sha256.is_none()
        {
            version.sha256 = self.digest(name, version);
        }
    }
}

fn key_of(name: &str, version: &Version) -> (String, String, String) {
    (name.to_owned(), version.architecture.clone(), version.version.clone())
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

    /// Digests of archives that standing transactions keep.
    pub(crate) fn system_archives(&self) -> Result<Archives> {
        self.inner.system_archives()
    }

    /// Ends what crashes left in the middle of a system's part, as far as that can be done.
    pub(crate) fn end_systems(&self) -> Result<()> {
        for (transaction, error) in self.end_others("")? {
            tracing::warn!(%transaction, %error, "packages of the system are not brought back yet");
        }
        Ok(())
    }

    /// Takes the lock of systems when nobody else is in the middle of a system's part, nor died there.
    pub(super) fn lock_after_others(&self, own: &str) -> Result<SystemLock> {
        let wait = Duration::from_secs(SYSTEM_LOCK_WAIT_SECONDS);
        let mut rounds = 0;
        loop {
            let mut failures = self.end_others(own)?;
            let lock = self.inner.lock_system(wait)?;
            let Some(story) = self.in_the_middle(own)? else { return Ok(lock) };
            // Whoever was at it has died meanwhile, or is only just ending it and needs the lock for that.
            drop(lock);
            rounds += 1;
            let failure = failures.remove(&story.begin.id);
            let failure = failure.filter(|error| error.code != LOCKED);
            if failure.is_some() || rounds == SYSTEM_ROUNDS_MAX {
                let begun = || Error::new(Kind::Failed, "system-busy", "it was begun just now");
                return Err(in_the_way(&story, &failure.unwrap_or_else(begun)));
            }
        }
    }

    /// Ends what others left in the middle of a system's part, and answers why some could not be ended: whose project is locked is
    /// alive. Never under the lock of systems, which that takes.
    fn end_others(&self, own: &str) -> Result<BTreeMap<String, Error>> {
        let mut failures = BTreeMap::new();
        for story in self.others_at_a_system(own)? {
            if let Err(error) = self.recover_project_of(&story) {
                failures.insert(story.begin.id, error);
            }
        }
        Ok(failures)
    }

    /// One that may have left something in a system; under its lock, so whoever wrote an intent is dead. What became of the names
    /// of a project is no matter here.
    fn in_the_middle(&self, own: &str) -> Result<Option<Story>> {
        for story in self.others_at_a_system(own)? {
            if self.inner.touch(&story.begin.id)?.look()? == Touched::Perhaps {
                return Ok(Some(story));
            }
        }
        Ok(None)
    }

    fn others_at_a_system(&self, own: &str) -> Result<Vec<Story>> {
        let journals = &self.inner.journals;
        let mut found = Vec::new();
        for which in journal::unfinished(journals)?.iter().filter(|which| which.id != own) {
            let story = journal::read(journals, which).map_err(|error| {
                let path = journal::path_of(journals, which);
                error.hint(format!(
                    "it cannot be told whether `{}` is of a transaction that was at packages of the system; compare its \
                     project with your version control, then move that file away",
                    path.display()
                ))
            })?;
            found.extend(story.filter(is_at_a_system));
        }
        Ok(found)
    }

    /// Ends the part of a system of a transaction that died and whose project is away. Its journal goes on without that part.
    pub(super) fn end_system_part(&self, story: &Story) -> Result<()> {
        if !is_at_a_system(story) {
            return Ok(());
        }
        let inner = &self.inner;
        let which = Unfinished::of(&story.begin);
        // Whoever lives writes it still.
        let Some(mut journal) = Journal::resume(&inner.disk, &inner.journals, &which)? else {
            return Ok(());
        };
        let _lock = inner.lock_system(Duration::from_secs(SYSTEM_RECOVERY_WAIT_SECONDS))?;
        let story = journal::read(&inner.journals, &which)?.filter(is_at_a_system);
        let intent = story.and_then(|story| story.intent);
        let Some(change) = intent.and_then(|intent| intent.system) else { return Ok(()) };
        inner.bring_back(&which.id, &change, false)?;
        journal.append(&inner.disk, &Record::Restored)?;
        journal.sync(&inner.disk)?;
        tracing::info!(transaction = %which.id, "ended the part of a system of a transaction whose project is away");
        inner.tidy_archives_later();
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

    fn system_archives(&self) -> Result<Archives> {
        let mut found = BTreeMap::new();
        for change in self.database.system_changes(None)? {
            for step in change.steps {
                for version in [step.before, step.after].iter().filter_map(Standing::version) {
                    if let Some(sha256) = version.sha256.clone() {
                        found.insert(key_of(&step.name, version), sha256);
                    }
                }
            }
        }
        Ok(Archives(found))
    }

    fn touch(&self, transaction: &str) -> Result<Touch> {
        Touch::of(&self.system_place()?, transaction)
    }

    /// Brings a system back, under its lock, where the transaction has touched it; what people should know. From then on what
    /// stands there is others'.
    fn bring_back(
        &self,
        transaction: &str,
        change: &Change,
        is_fresh: bool,
    ) -> Result<Vec<String>> {
        let touch = self.touch(transaction)?;
        let touched = touch.look()?;
        ipc::fault::point("system.looked");
        if touched == Touched::Never {
            return Ok(Vec::new());
        }
        let notes = self.system(change)?.bring(change, Direction::Back, is_fresh, &touch)?;
        ipc::fault::point("system.back");
        touch.forget()?;
        for note in &notes {
            tracing::warn!(%note, "the system was brought back");
        }
        Ok(notes)
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

    /// The same where nobody waits for it.
    fn tidy_archives_later(&self) {
        if let Err(error) = self.tidy_archives() {
            tracing::warn!(%error, "archives of packages are tidied up another time");
        }
    }
}

impl Session {
    /// What people should know of what was done to the system.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        let mut notes = self.inner.untold(&self.project.key());
        notes.append(self.notes.get_mut().unwrap_or_else(PoisonError::into_inner));
        notes
    }

    /// Takes the lock of systems where an intent has a part of one, to be held until the transaction has ended, and refuses where
    /// the system does not stand as the intent says. Before the intent is written: whose packages are there is certain then.
    pub(super) fn lock_unchanged_system(
        &self,
        begin: &Begin,
        intent: &Intent,
    ) -> Result<Option<SystemLock>> {
        let Some(change) = &intent.system else { return Ok(None) };
        let transactions = Transactions { inner: self.inner.clone() };
        let lock = transactions.lock_after_others(&begin.id)?;
        let system = self.inner.system(change)?;
        system.wait(&|_| {})?;
        // Between the rehearsal and the lock somebody else may have been here.
        system.check_unchanged(change)?;
        ipc::fault::point("system.locked");
        Ok(Some(lock))
    }

    /// Brings a system forward, where an intent has a part of one; under its lock.
    pub(super) fn bring_system_forward(&self, begin: &Begin, intent: &Intent) -> Result<()> {
        let Some(change) = &intent.system else { return Ok(()) };
        ipc::fault::point("system.intended");
        let (system, touch) = (self.inner.system(change)?, self.inner.touch(&begin.id)?);
        self.note(system.bring(change, Direction::Forward, false, &touch)?);
        ipc::fault::point("system.forward");
        Ok(())
    }

    /// Brings it back, under the lock that is `held` where the failure was just now, or else under one to be held until the
    /// journal is gone.
    pub(super) fn bring_system_back(
        &self,
        begin: &Begin,
        intent: &Intent,
        held: Option<&SystemLock>,
    ) -> Result<Option<SystemLock>> {
        let Some(change) = &intent.system else { return Ok(None) };
        let wait = Duration::from_secs(SYSTEM_RECOVERY_WAIT_SECONDS);
        let is_fresh = held.is_some();
        let lock = (!is_fresh).then(|| self.inner.lock_system(wait)).transpose()?;
        self.note(self.inner.bring_back(&begin.id, change, is_fresh)?);
        Ok(lock)
    }

    fn note(&self, notes: Vec<String>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
    }

    /// What a commit record leaves to do of a part of a system, before its journal goes.
    pub(super) fn leave_system(&self, begin: &Begin, intent: &Intent) -> Result<()> {
        match intent.system {
            Some(_) => self.inner.touch(&begin.id)?.forget(),
            None => Ok(()),
        }
    }

    /// What follows the end of a transaction with a part of a system, whichever it was.
    pub(super) fn tidy_system(&self, intent: Option<&Intent>) {
        let has_part = intent.is_some_and(|intent| intent.system.is_some());
        if has_part {
            self.inner.tidy_archives_later();
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
        // Whoever only marked a package did not know its archive; an earlier transaction may.
        let archives = self.inner.system_archives()?;
        let mut way = WayBack::default();
        let mut steps = Vec::new();
        let mut irreversible = Vec::new();
        for (name, (left, goal)) in first {
            let (mut before, mut goal) = (now(&snapshot, name, left), goal.clone());
            archives.fill(name, &mut before);
            archives.fill(name, &mut goal);
            if !before.is_like(left) {
                way.edited.push(format!("`{name}` is {before}, and {left} was installed"));
            }
            if !before.is_like(&goal) && goal.version().is_some_and(|it| it.sha256.is_none()) {
                irreversible
                    .push(format!("`{name}` stays {before}: no archive of {goal} can be had"));
                continue;
            }
            let step = Step { name: name.to_owned(), before, after: goal };
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

fn is_at_a_system(story: &Story) -> bool {
    let intent = story.intent.as_ref();
    !story.committed && intent.is_some_and(|intent| intent.system.is_some())
}

fn in_the_way(story: &Story, error: &Error) -> Error {
    let project = &story.begin.project;
    let message = format!(
        "a transaction in `{project}` was at packages of the system and has not ended: {error}"
    );
    Error::new(Kind::Failed, "system-busy", message)
        .hint(format!("run `bolide history` in `{project}`, which ends it, then try again"))
        .retryable()
}
