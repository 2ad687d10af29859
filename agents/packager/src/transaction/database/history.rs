//! What happened, for people and programs that ask.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::Database;
use crate::error::Result;
use crate::limits::HISTORY_ENTRIES_MAX;

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

impl Database {
    /// Transactions of one project or of all, the latest first.
    pub(crate) fn history(&self, project: Option<&str>, count: u32) -> Result<Vec<HistoryEntry>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT t.id, p.path, t.operation, t.state, t.actor, t.digest, t.started_at_ms,
                        t.finished_at_ms, t.undone_by, t.error, t.summary,
                        (SELECT json_group_array(u.id ORDER BY u.sequence DESC)
                         FROM transactions u WHERE u.project = t.project AND u.undone_by = t.id)
                 FROM transactions t JOIN projects p ON p.key = t.project
                 WHERE ?1 IS NULL OR t.project = ?1 ORDER BY t.sequence DESC LIMIT ?2",
            )?;
            query
                .query_map(params![project, count.min(HISTORY_ENTRIES_MAX)], |row| {
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
