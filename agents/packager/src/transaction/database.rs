//! The database of transactions, environments, plans and approvals, in the state directory.
//!
//! It is derived from the journals, not the other way round: a transaction is committed when its journal says
//! so, and recovery writes here what is missing. Every write is one SQLite transaction and can be repeated.

mod back;
mod history;
mod holds;
mod log;
mod plans;
mod schema;
#[cfg(test)]
mod tests;
mod watches;
mod workshops;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

pub use self::history::{Changed, Contents, Details, Granted, HistoryEntry, State};
pub use self::holds::Hold;
pub use self::plans::Approval;
pub(crate) use self::plans::Storable;
pub(crate) use self::watches::{WatchOutcome, WatchRow};

use super::directory::RelativePath;
use super::disk::Disk;
use super::journal::{Begin, Finish, Intent, Item};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::CHANGES_MAX;
use crate::system::Change;

/// The part of a summary that is kept apart: it is long, and only the log's own readers want it.
pub(crate) const PACKAGES: &str = "changed_packages";

/// Another transaction has that name.
pub(super) const NAME_TAKEN: &str = "transaction-name-taken";

/// Transactions that one rollback looks back over.
const LOOK_BACK_MAX: u32 = crate::limits::HISTORY_ENTRIES_MAX;

/// The database, shared by all threads of a process.
pub(super) struct Database {
    /// Once it was opened, or why it could not be.
    connection: OnceLock<Result<Mutex<Kept>>>,
    path: PathBuf,
    disk: Disk,
    unwritten: plans::Unwritten,
    logs: log::Logs,
}

/// The connection, and what it was told last.
struct Kept {
    connection: Connection,
    /// Whether it waits for the disk at the end of each write; unknown where it could not be told.
    waits: Option<bool>,
}

impl Kept {
    /// Tells it only where it was told otherwise: most writes in a row are of one kind.
    fn wait_for_disk(&mut self, waits: bool) -> rusqlite::Result<()> {
        if self.waits == Some(waits) {
            return Ok(());
        }
        self.waits = None;
        let level = if waits { "FULL" } else { "NORMAL" };
        self.connection.pragma_update(None, "synchronous", level)?;
        self.waits = Some(waits);
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = self.write_approvals(None) {
            tracing::warn!(%error, "cannot write an approval");
        }
        self.write_plans();
    }
}

/// What is known of an environment. Generation 0 without a fingerprint: nothing of ours yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentState {
    /// Counts every change of the environment, rollbacks included.
    pub generation: u64,
    /// The digest of what we installed there last, if that still stands.
    pub fingerprint: Option<String>,
    /// The transaction that installed it.
    pub transaction: Option<String>,
}

/// One item of a committed transaction.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) transaction: String,
    pub(super) position: usize,
    pub(super) item: Item,
}

impl Step {
    /// The name of the fingerprint file of what the step installed.
    pub(super) fn fingerprint_name(&self) -> String {
        fingerprint_name(&self.transaction, self.position)
    }
}

/// The name of a fingerprint file.
pub(super) fn fingerprint_name(transaction: &str, position: usize) -> String {
    format!("{transaction}.{position}")
}

/// A committed transaction that was not undone.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) id: String,
    pub(super) directories: Vec<RelativePath>,
    pub(super) steps: Vec<Step>,
    /// Packages of the system that it changed.
    pub(super) system: Option<Change>,
}

impl Database {
    /// The database in `directory`, which is opened or made by [`Self::open`], or by whoever uses it first.
    pub(super) fn new(directory: &Path, disk: Disk) -> Self {
        let path = directory.join("state.sqlite3");
        let (unwritten, logs) = (plans::Unwritten::default(), log::Logs::default());
        Self { connection: OnceLock::new(), path, disk, unwritten, logs }
    }

    /// Opens or makes it, where it is not open yet. Whoever asks again is told the same.
    pub(super) fn open(&self) -> Result<()> {
        self.connection().map(drop)
    }

    fn connection(&self) -> Result<&Mutex<Kept>> {
        let opened = self.connection.get_or_init(|| {
            let opened = schema::open(&self.path).map_err(|error| describe(&self.path, error))?;
            opened.map(|connection| Mutex::new(Kept { connection, waits: None }))
        });
        opened.as_ref().map_err(Error::clone)
    }

    fn lock(&self) -> Result<MutexGuard<'_, Kept>> {
        // A panic between two statements leaves an open transaction, which rusqlite has rolled back.
        Ok(self.connection()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        query(&self.lock()?.connection).map_err(|error| describe(&self.path, error))
    }

    fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        self.in_one(true, change)
    }

    /// The same for what may be lost with the power, and only then: it waits for no disk. Whatever is written durably
    /// afterwards, and [`Self::sync`], make it durable too, since all stand in one log.
    fn write_lazily<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.in_one(false, change)
    }

    /// All or nothing.
    fn in_one<T>(
        &self,
        waits: bool,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let failed = |error: rusqlite::Error| describe(&self.path, error);
        let interrupted = |error: std::io::Error| Error::io("write", &self.path, &error);
        let mut kept = self.lock()?;
        kept.wait_for_disk(waits).map_err(failed)?;
        let connection = &mut kept.connection;
        self.disk.perform("database", || Ok(())).map_err(interrupted)?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let answer = change(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        self.disk.perform("database", || Ok(())).map_err(interrupted)?;
        Ok(answer)
    }

    /// Tells that a transaction begins, and who agreed to it where that waits to be written. Its journal tells it, too, so this may be
    /// lost with the power.
    ///
    /// # Errors
    /// `transaction-name-taken` where another one of that name is known: nothing is written of this one but who agreed to its plan.
    pub(super) fn begin(&self, begin: &Begin) -> Result<()> {
        self.hold_log(&begin.id);
        let agreed = self.agreed_to(begin.digest.as_deref());
        let row = self.write_lazily(|connection| {
            if let Some(agreed) = &agreed {
                agreed.put(connection)?;
            }
            upsert(connection, begin)
        })?;
        if let Some(agreed) = &agreed {
            self.forget_agreed(agreed);
        }
        if row == Row::New { Ok(()) } else { Err(name_taken(begin)) }
    }

    /// Tells that a transaction gave up before its commit record, or was taken back after it, and what the next answer in its project has
    /// to tell of that.
    pub(super) fn abort(
        &self,
        begin: &Begin,
        error: &str,
        told: Option<&str>,
        now_ms: u64,
    ) -> Result<()> {
        self.write(|connection| {
            if upsert(connection, begin)? == Row::Anothers {
                return Ok(());
            }
            back::unsettle(connection, begin, now_ms)?;
            connection.execute(
                "UPDATE transactions SET state = 'aborted', error = ?2, finished_at_ms = ?3 WHERE id = ?1",
                params![begin.id, error, now_ms as i64],
            )?;
            if let Some(told) = told {
                back::remember_to_tell(connection, &begin.key(), told)?;
            }
            Ok(())
        })
    }

    /// Tells that whatever is still said to be prepared in a project has given up: it left no journal.
    pub(super) fn abandon(&self, project: &str, now_ms: u64) -> Result<()> {
        let found = self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM transactions WHERE project = ?1 AND state = 'preparing')",
            )?;
            query.query_row([project], |row| row.get::<_, bool>(0))
        })?;
        if !found {
            return Ok(());
        }
        self.write(|connection| {
            connection.execute(
                "UPDATE transactions SET state = 'aborted', error = 'left no journal', finished_at_ms = ?2
                 WHERE project = ?1 AND state = 'preparing'",
                params![project, now_ms as i64],
            )?;
            Ok(())
        })
    }

    /// Tells that a transaction is committed, with all that follows for environments and other transactions. Before its journal goes,
    /// somebody has to wait for it.
    pub(super) fn commit(&self, begin: &Begin, intent: &Intent, now_ms: u64) -> Result<()> {
        let key = begin.key();
        self.hold_log(&begin.id);
        let is_ours = self.write_lazily(|connection| {
            if upsert(connection, begin)? == Row::Anothers {
                return Ok(false);
            }
            let system = intent.system.as_ref().map(json).transpose()?;
            let done = run(
                connection,
                "UPDATE transactions SET state = 'committed', finished_at_ms = ?2, directories = ?3,
                   system = ?4
                 WHERE id = ?1 AND state IN ('preparing', 'aborted')",
                params![begin.id, now_ms as i64, json(&intent.directories)?, system],
            )?;
            if done == 0 {
                // A crash came after this was written the first time.
                return Ok(true);
            }
            holds::record(connection, begin)?;
            match &intent.finish {
                Finish::Keep => {
                    let all = intent.items.iter().enumerate();
                    for (position, item) in all.filter(|(_, item)| !item.is_left) {
                        run(
                            connection,
                            "INSERT INTO steps (transaction_id, position, live, item) VALUES (?1, ?2, ?3, ?4)",
                            params![begin.id, position as i64, item.live.as_str(), json(item)?],
                        )?;
                    }
                }
                Finish::Discard { taken, .. } => {
                    for id in taken {
                        connection.execute(
                            "UPDATE transactions SET state = 'rolled-back', undone_by = ?2 WHERE id = ?1",
                            params![id, begin.id],
                        )?;
                    }
                }
            }
            let is_kept = intent.finish == Finish::Keep;
            for item in intent.items.iter().filter(|item| !(is_kept && item.is_left)) {
                if let Some(ecosystem) = item.environment {
                    advance(connection, &key, begin, item, ecosystem, now_ms)?;
                }
            }
            Ok(true)
        })?;
        if is_ours { Ok(()) } else { Err(name_taken(begin)) }
    }

    /// The state of one environment.
    pub(super) fn environment(
        &self,
        project: &str,
        place: &RelativePath,
    ) -> Result<EnvironmentState> {
        let state = self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT generation, fingerprint, transaction_id FROM environments
                 WHERE project = ?1 AND place = ?2",
            )?;
            query
                .query_row(params![project, place.as_str()], |row| {
                    Ok(EnvironmentState {
                        generation: row.get::<_, i64>(0)?.unsigned_abs(),
                        fingerprint: row.get(1)?,
                        transaction: row.get(2)?,
                    })
                })
                .optional()
        })?;
        Ok(state.unwrap_or_default())
    }

    /// The places of a project where an environment of ours stands, and whose they are.
    pub(super) fn environments(&self, project: &str) -> Result<Vec<(RelativePath, Ecosystem)>> {
        let rows = self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT place, ecosystem FROM environments
                 WHERE project = ?1 AND fingerprint IS NOT NULL ORDER BY place",
            )?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            query.query_map([project], row)?.collect::<rusqlite::Result<Vec<(String, String)>>>()
        })?;
        let known = |name: &str| Ecosystem::ALL.into_iter().find(|it| it.as_str() == name);
        let read = |(place, ecosystem): (String, String)| {
            // A newer program may know more of them; it verifies those.
            known(&ecosystem).map(|ecosystem| Ok((RelativePath::new(&place)?, ecosystem)))
        };
        rows.into_iter().filter_map(read).collect()
    }

    /// Every step at `live` that stands, the latest first.
    pub(super) fn steps_at(&self, project: &str, live: &RelativePath) -> Result<Vec<Step>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT s.transaction_id, s.position, s.item FROM steps s
                 JOIN transactions t ON t.id = s.transaction_id
                 WHERE t.project = ?1 AND s.live = ?2 AND t.state = 'committed'
                 ORDER BY t.sequence DESC LIMIT ?3",
            )?;
            query
                .query_map(params![project, live.as_str(), LOOK_BACK_MAX], step)?
                .collect::<rusqlite::Result<Vec<_>>>()
        })
    }

    /// The project's last transaction that was carried out, rollbacks not left out.
    pub(super) fn latest(&self, project: &str) -> Result<Option<String>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id FROM transactions WHERE project = ?1 AND state IN ('committed', 'rolled-back')
                 ORDER BY sequence DESC LIMIT 1",
            )?;
            query.query_row([project], |row| row.get(0)).optional()
        })
    }

    /// The project's transactions that stand, rollbacks left out, the latest first.
    pub(super) fn standing(&self, project: &str) -> Result<Vec<Standing>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, directories, system FROM transactions
                 WHERE project = ?1 AND state = 'committed' AND operation <> 'rollback'
                 ORDER BY sequence DESC LIMIT ?2",
            )?;
            let mut found = query
                .query_map(params![project, LOOK_BACK_MAX], |row| {
                    Ok(Standing {
                        id: row.get(0)?,
                        directories: parse(&row.get::<_, String>(1)?)?,
                        steps: Vec::new(),
                        system: row
                            .get::<_, Option<String>>(2)?
                            .as_deref()
                            .map(parse)
                            .transpose()?,
                    })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let mut query = connection.prepare_cached(
                "SELECT transaction_id, position, item FROM steps WHERE transaction_id = ?1
                 ORDER BY position LIMIT ?2",
            )?;
            for standing in &mut found {
                standing.steps = query
                    .query_map(params![standing.id, CHANGES_MAX as i64], step)?
                    .collect::<rusqlite::Result<Vec<_>>>()?;
            }
            Ok(found)
        })
    }

    /// What the standing transactions of a project, or of all, changed of systems, the latest first.
    pub(super) fn system_changes(&self, project: Option<&str>) -> Result<Vec<Change>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT system FROM transactions WHERE state = 'committed' AND system IS NOT NULL
                 AND operation <> 'rollback' AND (?1 IS NULL OR project = ?1) ORDER BY sequence DESC",
            )?;
            let found = query.query_map([project], |row| parse(&row.get::<_, String>(0)?))?;
            found.collect::<rusqlite::Result<Vec<_>>>()
        })
    }
}

/// Makes sure that the rows of a transaction and its project exist.
fn upsert(connection: &Transaction<'_>, begin: &Begin) -> rusqlite::Result<Row> {
    let key = begin.key();
    run(
        connection,
        "INSERT INTO projects (key, path, owns_workshop) VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET path = excluded.path",
        params![key, begin.project, !begin.had_workshop],
    )?;
    let mut summary = begin.summary.clone();
    let packages = summary.as_object_mut().and_then(|summary| summary.shift_remove(PACKAGES));
    let new = run(
        connection,
        "INSERT INTO transactions
           (id, sequence, project, operation, digest, actor, state, started_at_ms, summary, directories, packages)
         SELECT ?1, 1 + coalesce(max(sequence), 0), ?2, ?3, ?4, ?5, 'preparing', ?6, ?7, '[]', ?8
         FROM transactions WHERE true ON CONFLICT (id) DO NOTHING",
        params![
            begin.id,
            key,
            begin.operation,
            begin.digest,
            begin.actor,
            begin.started_at_ms as i64,
            summary.to_string(),
            packages.map(|packages| packages.to_string()),
        ],
    )?;
    if new > 0 && !begin.had_workshop {
        run(connection, "UPDATE projects SET owns_workshop = 1 WHERE key = ?1", [&key])?;
    }
    if new > 0 {
        return Ok(Row::New);
    }
    let mut query = connection.prepare_cached(
        "SELECT project = ?2 AND operation = ?3 AND started_at_ms = ?4 FROM transactions WHERE id = ?1",
    )?;
    let named = params![begin.id, key, begin.operation, begin.started_at_ms as i64];
    let is_this = query.query_row(named, |row| row.get(0))?;
    Ok(if is_this { Row::Known } else { Row::Anothers })
}

/// Whose row has the name of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// There was none, now it is its own.
    New,
    Known,
    Anothers,
}

/// Counts one more generation of an environment.
fn advance(
    connection: &Transaction<'_>,
    project: &str,
    begin: &Begin,
    item: &Item,
    ecosystem: Ecosystem,
    now_ms: u64,
) -> rusqlite::Result<()> {
    run(
        connection,
        "INSERT INTO environments (project, place, ecosystem, generation, fingerprint, transaction_id)
         VALUES (?1, ?2, ?3, 1, ?4, ?5)
         ON CONFLICT (project, place) DO UPDATE SET ecosystem = excluded.ecosystem,
           generation = generation + 1, fingerprint = excluded.fingerprint,
           transaction_id = excluded.transaction_id",
        params![project, item.live.as_str(), ecosystem.as_str(), item.fingerprint, begin.id],
    )?;
    run(
        connection,
        "INSERT INTO generations (project, place, number, transaction_id, fingerprint, created_at_ms)
         SELECT project, place, generation, transaction_id, fingerprint, ?3 FROM environments
         WHERE project = ?1 AND place = ?2",
        params![project, item.live.as_str(), now_ms as i64],
    )?;
    Ok(())
}

/// A statement that is used again and again, so that it is read and planned once.
fn run(
    connection: &Connection,
    statement: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(statement)?.execute(values)
}

fn step(row: &rusqlite::Row<'_>) -> rusqlite::Result<Step> {
    Ok(Step {
        transaction: row.get(0)?,
        position: usize::try_from(row.get::<_, i64>(1)?).unwrap_or(usize::MAX),
        item: parse(&row.get::<_, String>(2)?)?,
    })
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(error))
    })
}

fn name_taken(begin: &Begin) -> Error {
    let message = format!("another transaction is already named `{}`", begin.id);
    Error::new(Kind::Failed, NAME_TAKEN, message)
        .hint("nothing is written of this one; run the command again, and look at the clock of the machine")
        .retryable()
}

/// An error of SQLite as people read it.
fn describe(path: &Path, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let shown = path.display();
    let message = format!("the database `{shown}` cannot be used: {error}");
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            Error::io("write", path, &std::io::Error::from(std::io::ErrorKind::StorageFull))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(Kind::Failed, "state-busy", message)
                .hint("another process writes it; try again")
                .retryable()
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Error::new(Kind::Failed, "permission-denied", message)
                .hint("make the state directory yours and writable, or name another with --state-dir")
        }
        Some(ErrorCode::SystemIoFailure) => Error::new(Kind::Failed, "io", message)
            .hint("look at the disk that the state directory is on, then run the command again"),
        _ => Error::new(Kind::Failed, "state-damaged", message).hint(format!(
            "restore `{shown}` from a backup, or move it away with its `-wal` and `-shm`: what is installed \
             stays as it is, history and rollbacks are lost"
        )),
    }
}
