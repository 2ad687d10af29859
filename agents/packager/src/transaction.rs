//! Changes of a project that happen as a whole or not at all, survive crashes, and can be taken back.
//!
//! It is not an installer: what the new content is, others prepare in the staging directory. It does not talk
//! to registries and decides nothing about versions.
//!
//! # The protocol
//! X is a project, S the state directory, TX a transaction.
//!
//! 1. Whoever changes X, recovers X, or reads its environments to change them holds the lock of X
//!    ([`Transactions::lock`]). Taking it recovers first: no command sees what a crash left.
//! 2. The journal of TX is in S and exists before anything of TX does; its first record names X. It is removed
//!    last. A journal that is found under the lock is a crash, or what an answer did not wait for (rule 7). Its name is on the
//!    device before anything of TX in X is: it is waited for, or the file system keeps that order by itself (`order.rs`). What it
//!    holds is on the device with the intent; a journal without a first record has no more than rule 3, and its name
//!    tells the rest.
//! 3. New content is written below `X/.bolide/staging/TX`, each item under one *slot* name. Nothing else of X
//!    changes before rule 5. A crash or failure up to here: staging and journal are removed.
//! 4. When all of it is written: what it consists of is recorded in S (a fingerprint per item), and the *intent* record
//!    is written. It names each item: live name, slot, the identities (inode, birth time, kind) of the old object at
//!    the live name and of the new one in the slot. Then comes the first wait: the file system is synced, with all of
//!    that, the plan and who agreed to it; what of it lies on another one is synced there. An intent that is on the device
//!    while the rest is not was not waited for, so nothing of rule 5 was done.
//! 5. Each item is *settled*: live name and slot exchange their objects, either of which may be none. One atomic
//!    step each (`RENAME_EXCHANGE`, or one rename where one side is empty); where the file system cannot, three
//!    renames over a spare name. After it the slot holds the old object. A mark comes before it, not waited for. What cannot
//!    be renamed at all (a directory of an overlay's lower layer) is copied to the spare name; the record *copied*
//!    makes that copy the old object, and only then the original is removed.
//! 6. Old files in their slots are compared with what the plan saw, then the *commit* record is written and synced, which is
//!    the second wait and the moment of the commit. The names themselves are synced before it only where the record could be on
//!    the device and they not: where they are not kept in order, or lie on another file system than the journal.
//! 7. Then `staging/TX` becomes `generations/TX` with one rename and the database learns of it. That is all that the answer to an
//!    installation or to a large rollback waits for in the daemon. Later, or before any other answer, under the lock, and by whoever
//!    takes it first: database and generations are synced, and then the journal goes, so that it does not go before anything that it
//!    can repeat is on the device.
//! 8. Before the commit record, a failure or crash settles every item back. Where an object is is read from the
//!    disk by its identity and never remembered, so settling can be interrupted and repeated at any point. What was live for
//!    a while, by its mark or because it is, is looked through for a person's edits (rule 10); the mark is synced before that
//!    name is settled back. After the commit record, items whose new object still waits in the slot (by rule 6 no loss of power
//!    leaves any) are settled forward once more, and rule 7 is repeated. What somebody put in the place of such a name since, or
//!    removed there, stays as it is, and is no part of TX any more; what they edited in its place is the old object that a rollback
//!    brings back.
//! 9. A rollback of TX is a transaction whose slots are those in `generations/TX`: rule 5 brings the old objects
//!    back. Several transactions are taken back at once, the earliest generation of each name directly. After its
//!    commit record the generations are moved to `X/.bolide/trash`, looked through for a person's edits (rule 10),
//!    and deleted; directories made for a change go if they are empty; `.bolide` goes when nothing needs it.
//! 10. A person's edit is never destroyed. What differs from the fingerprint refuses the change; when forced it is
//!     copied to `S/kept/TX` first. What is deleted is compared once more when nobody can reach it by its name.
//! 11. Packages of the system are changed between the intent and rule 5, and brought back after rule 8 has settled the
//!     names back; `system.rs` has the rules.
//! 12. If it cannot be known whether the commit record is on the device, nothing is undone: the next recovery
//!     reads the journal and decides.

//! 13. Where it is safe ([`Session::confirm`], `later.rs`), an installation is answered before the device has any of it: neither the
//!     wait of rule 4 nor that of rule 6 is made. The intent is then also an attribute of the journal's file (`note.rs`), which a file
//!     system that keeps names in order keeps with them, and says which start of the machine, and which mount, this is. Right after
//!     the answer, by the session that still has the lock, all of it is waited for, and only then the journal goes. A journal that is
//!     found in the same start is ended by rule 8. Found in another one, everything that is new is read: if all of it is there rule 7
//!     is repeated, else TX is taken back as in rule 8, although its commit record may be there. So it is where the device refuses it.

mod beside;
mod commit;
mod database;
mod directory;
mod disk;
mod durable;
mod edits;
mod fingerprint;
mod inspect;
mod journal;
mod later;
mod limits;
mod look;
mod mend;
mod note;
mod order;
mod project;
mod recovery;
mod rollback;
mod settle;
mod start;
mod system;
#[cfg(test)]
mod tests;
mod torn;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) use self::beside::{
    Beside, Digests, MEMBER_MANIFESTS, Reads, may_be_member, root_of_pattern,
};
pub use self::commit::{Change, CommitOptions, Committed, Expected, Open, Purpose};
pub(crate) use self::database::PACKAGES;
pub use self::database::{
    Approval, Changed, Contents, Details, EnvironmentState, Granted, HistoryEntry, Hold, State,
};
pub(crate) use self::database::{WatchOutcome, WatchRow};
pub use self::directory::{Identity, ObjectKind, RelativePath};
pub use self::fingerprint::DriftKind;
pub use self::inspect::{Difference, Finding, Inspection, Standing};
pub use self::later::Durability;
pub use self::mend::Mended;
pub use self::project::{Content, Project};
pub use self::recovery::{Outcome, Recovered};
pub use self::rollback::{RollbackPreview, RolledBack};
pub(crate) use self::system::Archives;
pub use self::tree::{tree_hash, tree_hash_without};

use self::database::Database;
use self::directory::Directory;
use self::disk::Disk;
use self::project::Lock;
use self::start::Start;
use agents_contract::{Cancellation, Figure};

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::metadata::held::Held;
use crate::plan::Plan;

/// Answers the time in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The transactions of one state directory. Cheap to clone.
#[derive(Clone)]
pub struct Transactions {
    inner: Arc<Inner>,
}

struct Inner {
    state: PathBuf,
    journals: Directory,
    locks: Directory,
    fingerprints: Directory,
    database: Database,
    disk: Disk,
    clock: Clock,
    start: Option<Start>,
    /// How often something was taken back after people were answered.
    taken_back: AtomicU64,
    /// What is being taken back, by transaction.
    refused: Mutex<BTreeMap<String, later::Refused>>,
    /// Transactions of which the device has all, as far as their journals have not gone yet.
    stored: Mutex<BTreeSet<String>>,
}

/// A locked project. Dropping it gives the lock up.
pub struct Session {
    inner: Arc<Inner>,
    project: Project,
    _lock: Lock,
    recovered: Vec<Recovered>,
    notes: Mutex<Vec<String>>,
    /// The transaction that this session answered with before the device had it.
    answered: Mutex<Option<String>>,
}

impl Transactions {
    /// Opens the state directory `state`, which is made where it does not exist.
    pub fn open(state: &Path, clock: Clock) -> Result<Self> {
        Self::open_on(state, clock, Disk::default(), start::of(Path::new("/")))
    }

    /// The same where the machine says of itself below `system` what it says below `/`, and the database is opened when
    /// [`Self::open_database`] says so: making one takes as long as a registry that is near takes to answer.
    pub(crate) fn new(system: &Path, state: &Path, clock: Clock) -> Result<Self> {
        Self::new_on(state, clock, Disk::default(), start::of(system))
    }

    fn open_on(state: &Path, clock: Clock, disk: Disk, start: Option<Start>) -> Result<Self> {
        let transactions = Self::new_on(state, clock, disk, start)?;
        transactions.open_database()?;
        Ok(transactions)
    }

    /// Opens the database, where it is not open yet.
    pub(crate) fn open_database(&self) -> Result<()> {
        self.inner.database.open()
    }

    fn new_on(state: &Path, clock: Clock, disk: Disk, start: Option<Start>) -> Result<Self> {
        make_private(state)?;
        let part = |name: &str| {
            let path = state.join(name);
            make_private(&path)?;
            Directory::open(&path).map_err(|error| Error::io("open", &path, &error))
        };
        Ok(Self {
            inner: Arc::new(Inner {
                journals: part("journal")?,
                locks: part("locks")?,
                fingerprints: part("fingerprints")?,
                database: Database::new(state, disk.clone()),
                state: state.to_owned(),
                disk,
                clock,
                start,
                taken_back: AtomicU64::new(0),
                refused: Mutex::default(),
                stored: Mutex::default(),
            }),
        })
    }

    /// Locks a project, waiting at most `wait` for who has it, and recovers it.
    pub fn lock(
        &self,
        project: Project,
        wait: Duration,
        cancellation: &Cancellation,
    ) -> Result<Session> {
        let inner = self.inner.clone();
        let lock = Lock::acquire(&inner.locks, &project, wait, cancellation)?;
        let mut session = Session {
            inner,
            project,
            _lock: lock,
            recovered: Vec::new(),
            notes: Mutex::default(),
            answered: Mutex::default(),
        };
        session.recovered = session.recover()?;
        Ok(session)
    }

    /// Transactions of one project, or of all, the latest first.
    pub fn history(&self, project: Option<&Project>, count: u32) -> Result<Vec<HistoryEntry>> {
        self.inner.database.history(project.map(Project::key).as_deref(), None, count)
    }

    /// The same from the one on that comes before `before`.
    pub fn history_before(
        &self,
        project: Option<&Project>,
        before: &str,
        count: u32,
    ) -> Result<Vec<HistoryEntry>> {
        self.inner.database.history(project.map(Project::key).as_deref(), Some(before), count)
    }

    /// What else is known of a transaction.
    pub fn details(&self, transaction: &str) -> Result<Details> {
        self.inner.database.details(transaction)
    }

    /// The last transaction of a project that was carried out, a rollback or not: while it is the same, nothing changed in between.
    pub(crate) fn latest(&self, project: &Project) -> Result<Option<String>> {
        self.inner.database.latest(&project.key())
    }

    /// Whether somebody is at work in a project, also before there is a journal, or a journal is there: a crash left it, or an
    /// answer did not wait for its end. Otherwise there is nothing to wait for and nothing to make whole.
    pub(crate) fn has_unfinished(&self, project: &Project) -> Result<bool> {
        if Lock::is_held(&self.inner.locks, project)? {
            return Ok(true);
        }
        let key = project.key();
        let unfinished = journal::unfinished(&self.inner.journals)?;
        Ok(unfinished.iter().any(|which| which.project == key))
    }

    /// Whether nobody is at work on a project, and no crash has left anything half done, here or elsewhere. Asks no database.
    pub(crate) fn is_at_rest(&self, project: &Project) -> Result<bool> {
        let is_held = Lock::is_held(&self.inner.locks, project)?;
        Ok(!is_held && journal::unfinished(&self.inner.journals)?.is_empty())
    }

    /// What is known of an environment.
    pub fn environment(&self, project: &Project, place: &RelativePath) -> Result<EnvironmentState> {
        self.inner.database.environment(&project.key(), place)
    }

    /// What is held in a project, by ecosystem.
    pub fn holds(&self, project: &Project) -> Result<BTreeMap<Ecosystem, Held>> {
        self.inner.database.holds(&project.key())
    }

    /// Keeps a plan and answers its digest.
    pub fn store_plan(&self, plan: &Plan) -> Result<String> {
        let digest = self.note_plan(plan)?;
        self.write_plans();
        self.check_plans()?;
        Ok(digest)
    }

    /// The same without waiting for the disk: whoever asks here for the plan finds it, and [`Self::write_plans`] writes it.
    pub(crate) fn note_plan(&self, plan: &Plan) -> Result<String> {
        self.note_stored(plan, plan.to_stored()?)
    }

    /// The same for a plan whose stored form is there.
    pub(crate) fn note_stored(&self, plan: &Plan, stored: crate::plan::Stored) -> Result<String> {
        let crate::plan::Stored { digest, json } = stored;
        self.inner.database.note_plan(database::Storable {
            digest: digest.clone(),
            json,
            created_at_ms: plan.created_at_ms,
            expires_at_ms: plan.expires_at_ms,
        })?;
        Ok(digest)
    }

    /// Writes the plans that wait for it.
    pub(crate) fn write_plans(&self) {
        self.inner.database.write_plans();
    }

    /// Whether plans wait for it.
    pub(crate) fn has_unwritten_plans(&self) -> bool {
        self.inner.database.has_unwritten_plans()
    }

    /// Why plans that were to be written could not be, where nobody was told yet.
    pub(crate) fn check_plans(&self) -> Result<()> {
        self.inner.database.check_plans()
    }

    /// The plan with this digest.
    pub fn plan(&self, digest: &str) -> Result<Plan> {
        let body = self.inner.database.plan(digest)?.ok_or_else(|| unknown_plan(digest))?;
        let plan = Plan::from_json(&body)?;
        if plan.digest()? != digest {
            let message = format!("the stored plan `{digest}` is damaged: it has another digest");
            return Err(
                Error::new(Kind::Verification, "plan-damaged", message).hint("make a new plan")
            );
        }
        Ok(plan)
    }

    /// The digests of the plans that describe something: what stands in a project that is there, what is under way, and what may
    /// still be approved and applied.
    pub(crate) fn needed_plans(&self) -> Result<Vec<String>> {
        let mut digests = self.inner.database.unexpired_plans(self.inner.now_ms())?;
        for (digest, path) in self.inner.database.standing_plans()? {
            // Of a project that is gone nothing is needed any more, and one on a disk that is not here can be filled again.
            if Path::new(&path).symlink_metadata().is_ok() {
                digests.insert(digest);
            }
        }
        Ok(digests.into_iter().collect())
    }

    /// Records that somebody agreed to a plan.
    pub fn approve(&self, digest: &str, who: &str, how: &str) -> Result<Approval> {
        let approval = self.approval(digest, who, how)?;
        self.inner.database.approve(&approval, true)?;
        Ok(approval)
    }

    /// The same for who carries the plan out at once: it is on the device before anything is changed, and nothing waits for it before.
    /// The transaction writes it; where none comes to begin, whoever holds what this answers does.
    pub(crate) fn approve_at_once(&self, digest: &str, who: &str, how: &str) -> Result<Agreed> {
        let approval = self.approval(digest, who, how)?;
        self.inner.database.note_approval(approval);
        Ok(Agreed { transactions: self.clone(), digest: digest.to_owned() })
    }

    fn approval(&self, digest: &str, who: &str, how: &str) -> Result<Approval> {
        if !self.inner.database.has_plan(digest)? {
            return Err(unknown_plan(digest));
        }
        Ok(Approval {
            digest: digest.to_owned(),
            who: who.to_owned(),
            how: how.to_owned(),
            granted_at_ms: self.inner.now_ms(),
        })
    }

    /// Takes back all approvals of a plan; answers how many there were.
    pub fn withdraw_approvals(&self, digest: &str) -> Result<usize> {
        self.inner.database.withdraw(digest, self.inner.now_ms())
    }

    /// The approval that lets a plan be applied, or the refusal `approval-needed`.
    pub fn require_approval(&self, digest: &str) -> Result<Approval> {
        let approvals = self.inner.database.approvals(digest)?;
        approvals.into_iter().next().ok_or_else(|| {
            let shown = digest.escape_debug();
            let message = format!("nobody has approved the plan `{shown}`");
            Error::new(Kind::Stale, "approval-needed", message).hint(format!(
                "look at it, then run `bolide apply {shown} --yes`, or send `approve` with the request"
            ))
        })
    }

    /// The projects that are watched.
    pub(crate) fn watches(&self) -> Result<Vec<WatchRow>> {
        self.inner.database.watches()
    }

    /// One of them.
    pub(crate) fn watched(&self, path: &str) -> Result<Option<WatchRow>> {
        self.inner.database.watched(path)
    }

    /// Watches one more, or the same one otherwise; false where there are `count_max` others.
    pub(crate) fn watch(&self, watch: &WatchRow, count_max: usize) -> Result<bool> {
        self.inner.database.watch(watch, count_max)
    }

    /// Watches one no more; whether it was watched.
    pub(crate) fn unwatch(&self, path: &str) -> Result<bool> {
        self.inner.database.unwatch(path)
    }

    /// Writes down which projects cannot be watched, and why; all others can.
    pub(crate) fn note_unwatched(&self, named: &[(impl AsRef<str>, &str)]) -> Result<()> {
        self.inner.database.note_unwatched(named)
    }

    /// Writes down what came of a change in a project that is still watched like this, and which manifests that
    /// answered: their digest, and what was read beside them.
    pub(crate) fn watch_answered(
        &self,
        watch: &WatchRow,
        seen: Option<(&str, &str)>,
        last: &WatchOutcome,
    ) -> Result<()> {
        self.inner.database.answered(watch, seen, last)
    }

    /// How many transactions were taken back after people were answered.
    pub(crate) fn figure(&self) -> Figure {
        let value = self.inner.taken_back.load(Ordering::Relaxed);
        Figure { name: "transactions", label: "taken-back", value }
    }

    /// The time as this state directory's owner sees it.
    pub fn now_ms(&self) -> u64 {
        self.inner.now_ms()
    }
}

impl Session {
    /// The project.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// What taking the lock had to recover.
    pub fn recovered(&self) -> &[Recovered] {
        &self.recovered
    }
}

impl Inner {
    fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// A name that sorts by time and is nobody else's: `tx-20261121-012614-123-7f3a09c25be1d846`.
    fn new_id(&self) -> Result<String> {
        use ring::rand::{SecureRandom, SystemRandom};
        let mut random = [0_u8; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| {
            Error::new(Kind::Failed, "no-randomness", "the kernel gives no random numbers")
        })?;
        let now = self.now_ms();
        let (year, month, day) = civil_date(now / 86_400_000);
        let seconds = now / 1000 % 86_400;
        Ok(format!(
            "tx-{year:04}{month:02}{day:02}-{:02}{:02}{:02}-{:03}-{}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            now % 1000,
            hex(&random)
        ))
    }
}

/// An approval of a plan that is carried out at once. Whatever becomes of that: with this it is written at the latest.
#[must_use = "what is not held is written now"]
pub(crate) struct Agreed {
    transactions: Transactions,
    digest: String,
}

impl Agreed {
    /// Writes it, where no transaction has done so.
    pub(crate) fn write(&self) -> Result<()> {
        self.transactions.inner.database.write_approvals(Some(&self.digest))
    }
}

impl Drop for Agreed {
    fn drop(&mut self) {
        if let Err(error) = self.write() {
            tracing::warn!(%error, "cannot write an approval");
            // Whoever carries the plan out later has to be told so again.
            self.transactions.inner.database.forget_approvals(&self.digest);
        }
    }
}

fn unknown_plan(digest: &str) -> Error {
    let shown = digest.escape_debug();
    Error::new(Kind::Usage, "unknown-plan", format!("no plan has the digest `{shown}`"))
        .hint("`bolide plan` makes one and prints its digest")
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // The era of 400 years begins on a first of March, so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Makes a directory that only we may read, and makes one so that is ours and was not.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    let failed = |error: std::io::Error| Error::io("create", path, &error);
    if !path.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    }
    let about = std::fs::metadata(path).map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    if about.uid() != own {
        let owner = about.uid();
        let message = format!("`{}` belongs to uid {owner}, not to {own}", path.display());
        return Err(Error::new(Kind::Failed, "foreign-state", message)
            .hint("name another state directory with --state-dir, or run as its owner"));
    }
    // Others count on one like /tmp, which root owns: closing it would break the machine.
    if about.mode() & 0o1000 != 0 {
        let message = format!("`{}` is a directory that many users share", path.display());
        return Err(Error::new(Kind::Failed, "shared-state", message)
            .hint("name a directory below it with --state-dir"));
    }
    if about.mode() & 0o077 != 0 {
        let mode = std::fs::Permissions::from_mode(about.mode() & 0o7700);
        std::fs::set_permissions(path, mode)
            .map_err(|error| Error::io("make private", path, &error))?;
    }
    Ok(())
}
