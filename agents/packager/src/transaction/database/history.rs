//! What happened, for people and programs that ask.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Database, Item};
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::limits::{CHANGES_MAX, HISTORY_ENTRIES_MAX};
use crate::transaction::directory::{Identity, ObjectKind};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not ended: somebody works on it, or a crash left it for recovery.
    Preparing,
    /// Its result stands.
    Committed,
    /// It gave up and changed nothing.
    Aborted,
    /// A rollback undid it.
    RolledBack,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its name.
    pub id: String,
    /// The path of the project when it was last used.
    pub project: String,
    /// `add`, `remove`, `install`, `rollback`.
    pub operation: String,
    /// How it ended.
    pub state: State,
    /// On whose behalf.
    pub actor: String,
    /// The plan, where there was one.
    pub digest: Option<String>,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    /// The same, where it has ended.
    pub finished_at_ms: Option<u64>,
    /// The rollback that undid it.
    pub undone_by: Option<String>,
    /// For a rollback: what it undid, the latest first.
    pub undid: Vec<String>,
    /// Why it gave up.
    pub error: Option<String>,
    /// The packages, as the operation described them.
    pub summary: serde_json::Value,
}

/// What is in the log of one transaction beside its [`HistoryEntry`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Who agreed to its plan, the first one first.
    pub approvals: Vec<Granted>,
    /// What it added and took away, as its operation told it when it began.
    pub packages: Option<serde_json::Value>,
    /// The names that it changed. Nothing where it gave up.
    pub changes: Vec<Changed>,
}

/// An approval, whether it still stands or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Who.
    pub who: String,
    /// By which means.
    pub how: String,
    /// Milliseconds since 1970.
    pub granted_at_ms: u64,
    /// The same, where it was taken back.
    pub withdrawn_at_ms: Option<u64>,
}

/// One name before and after; `None` where nothing was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The name, in the project.
    pub path: String,
    /// The ecosystem, where it is an environment.
    pub environment: Option<Ecosystem>,
    /// What was there.
    pub before: Option<Contents>,
    /// What was there afterwards.
    pub after: Option<Contents>,
}

/// A file or a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Which of the two.
    pub is_directory: bool,
    /// SHA-256 of a file's content; of a directory the digest of the fingerprint with which it was installed, if we did.
    pub digest: Option<String>,
}

impl Contents {
    fn of(identity: Option<Identity>, digest: Option<&str>) -> Option<Self> {
        let is_directory = identity?.kind == ObjectKind::Directory;
        Some(Self { is_directory, digest: digest.map(str::to_owned) })
    }
}

impl Database {
    /// What else is known of a transaction.
    pub(crate) fn details(&self, transaction: &str) -> Result<Details> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT a.who, a.how, a.granted_at_ms, a.withdrawn_at_ms FROM approvals a
                 JOIN transactions t ON t.digest = a.digest WHERE t.id = ?1 ORDER BY a.number",
            )?;
            let time = |value: i64| value.unsigned_abs();
            let approvals = query.query_map([transaction], |row| {
                Ok(Granted {
                    who: row.get(0)?,
                    how: row.get(1)?,
                    granted_at_ms: row.get(2).map(time)?,
                    withdrawn_at_ms: row.get::<_, Option<i64>>(3)?.map(time),
                })
            })?;
            let approvals = approvals.collect::<rusqlite::Result<_>>()?;
            let mut query =
                connection.prepare_cached("SELECT packages FROM transactions WHERE id = ?1")?;
            let packages = query.query_row([transaction], |row| row.get::<_, Option<String>>(0));
            let packages = packages.optional()?.flatten();
            let packages = packages.map(|text| super::parse(&text)).transpose()?;
            Ok(Details { approvals, packages, changes: changes(connection, transaction)? })
        })
    }

    /// Transactions of one project or of all, the latest first; those before one of them where it is named.
    pub(crate) fn history(
        &self,
        project: Option<&str>,
        before: Option<&str>,
        count: u32,
    ) -> Result<Vec<HistoryEntry>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT t.id, p.path, t.operation, t.state, t.actor, t.digest, t.started_at_ms,
                        t.finished_at_ms, t.undone_by, t.error, t.summary,
                        (SELECT json_group_array(u.id ORDER BY u.sequence DESC)
                         FROM transactions u WHERE u.project = t.project AND u.undone_by = t.id)
                 FROM transactions t JOIN projects p ON p.key = t.project
                 WHERE (?1 IS NULL OR t.project = ?1)
                   AND (?3 IS NULL OR t.sequence < (SELECT sequence FROM transactions WHERE id = ?3))
                 ORDER BY t.sequence DESC LIMIT ?2",
            )?;
            query
                .query_map(params![project, count.min(HISTORY_ENTRIES_MAX), before], |row| {
                    Ok(HistoryEntry {
                        id: row.get(0)?,
                        project: row.get(1)?,
                        operation: row.get(2)?,
                        state: match row.get_ref(3)?.as_str()? {
                            "committed" => State::Committed,
                            "aborted" => State::Aborted,
                            "rolled-back" => State::RolledBack,
                            _ => State::Preparing,
                        },
                        actor: row.get(4)?,
                        digest: row.get(5)?,
                        started_at_ms: row.get::<_, i64>(6)?.unsigned_abs(),
                        finished_at_ms: row.get::<_, Option<i64>>(7)?.map(i64::unsigned_abs),
                        undone_by: row.get(8)?,
                        error: row.get(9)?,
                        summary: super::parse(&row.get::<_, String>(10)?)?,
                        undid: super::parse(&row.get::<_, String>(11)?)?,
                    })
                })?
                .collect()
        })
    }
}

/// The names that a transaction changed, or, for a rollback, those of the transactions that it undid, as far as one transaction could
/// have changed so many.
fn changes(connection: &Connection, transaction: &str) -> rusqlite::Result<Vec<Changed>> {
    let mut query = connection.prepare_cached(
        "SELECT s.item, t.id = ?1 FROM steps s JOIN transactions t ON t.id = s.transaction_id
         WHERE t.id = ?1 OR t.undone_by = ?1 ORDER BY t.sequence, s.position LIMIT ?2",
    )?;
    let mut found: BTreeMap<String, Changed> = BTreeMap::new();
    let rows = query.query_map(params![transaction, CHANGES_MAX as i64], |row| {
        Ok((super::parse::<Item>(&row.get::<_, String>(0)?)?, row.get::<_, bool>(1)?))
    })?;
    for row in rows {
        let (item, is_own) = row?;
        let old = Contents::of(item.old, item.old_sha256.as_deref());
        let new = Contents::of(item.new, item.new_sha256.as_deref());
        let environment = item.environment;
        let path = item.live.as_str().to_owned();
        if is_own {
            let change = Changed { path: path.clone(), environment, before: old, after: new };
            found.insert(path, change);
            continue;
        }
        // The earliest one says what came back, the latest one what was there.
        let undone = found.entry(path.clone());
        let undone = undone.or_insert(Changed { path, environment, before: None, after: old });
        undone.before = new;
    }
    for change in found.values_mut().filter(|change| change.environment.is_some()) {
        let (before, after) = fingerprints(connection, transaction, &change.path)?;
        for (held, digest) in [(&mut change.before, before), (&mut change.after, after)] {
            if let Some(held) = held.as_mut().filter(|held| held.is_directory) {
                held.digest = digest;
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The fingerprints of an environment before and after a transaction.
fn fingerprints(
    connection: &Connection,
    transaction: &str,
    place: &str,
) -> rusqlite::Result<(Option<String>, Option<String>)> {
    let mut query = connection.prepare_cached(
        "SELECT (SELECT e.fingerprint FROM generations e WHERE e.project = g.project
                 AND e.place = g.place AND e.number = g.number - 1), g.fingerprint
         FROM generations g WHERE g.transaction_id = ?1 AND g.place = ?2",
    )?;
    let found = query.query_row([transaction, place], |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(found.optional()?.unwrap_or_default())
}
