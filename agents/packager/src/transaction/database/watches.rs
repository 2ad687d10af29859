//! The projects that are watched, and what came of the last change of each.

use rusqlite::{OptionalExtension, Row, params};

use super::Database;
use crate::error::Result;

/// One watched project as it is kept. What the texts mean is `crate::watch`'s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchRow {
    /// The project's directory.
    pub(crate) path: String,
    /// What is done when it changes.
    pub(crate) policy: String,
    /// The configuration of who asked for it, as JSON.
    pub(crate) setting: String,
    /// Milliseconds since 1970.
    pub(crate) added_at_ms: u64,
    /// The manifests that were answered last.
    pub(crate) seen: Option<String>,
    /// What came of them.
    pub(crate) last: Option<WatchOutcome>,
    /// What else was read to answer them, as JSON.
    pub(crate) beside: Option<String>,
    /// Why it cannot be watched at the moment.
    pub(crate) unwatched: Option<String>,
}

/// What came of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchOutcome {
    pub(crate) outcome: String,
    pub(crate) digest: Option<String>,
    pub(crate) message: String,
    pub(crate) at_ms: u64,
}

impl Database {
    /// All of them by path.
    pub(crate) fn watches(&self) -> Result<Vec<WatchRow>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT path, policy, setting, added_at_ms, seen, outcome, digest, message, at_ms,
                     unwatched, beside
                 FROM watches ORDER BY path",
            )?;
            statement.query_map([], row)?.collect()
        })
    }

    /// Adds one, or changes the policy and setting of one that is there, if there are fewer than `count_max` others. What was
    /// seen before is forgotten: another policy has to look again.
    pub(crate) fn watch(&self, watch: &WatchRow, count_max: usize) -> Result<bool> {
        self.write(|connection| {
            let others: i64 = connection.query_row(
                "SELECT COUNT(*) FROM watches WHERE path <> ?1",
                [&watch.path],
                |row| row.get(0),
            )?;
            if usize::try_from(others).unwrap_or(usize::MAX) >= count_max {
                return Ok(false);
            }
            let at = watch.added_at_ms as i64;
            connection.execute(
                "INSERT INTO watches (path, policy, setting, added_at_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (path) DO UPDATE SET policy = ?2, setting = ?3, seen = NULL",
                params![watch.path, watch.policy, watch.setting, at],
            )?;
            Ok(true)
        })
    }

    /// Takes one away; whether it was there. Its setting is then in no file any more.
    pub(crate) fn unwatch(&self, path: &str) -> Result<bool> {
        let was_there = self.write(|connection| {
            Ok(connection.execute("DELETE FROM watches WHERE path = ?1", [path])? > 0)
        })?;
        if was_there {
            self.empty_log();
        }
        Ok(was_there)
    }

    /// Brings the log into the database and leaves it empty: what was deleted from the one would still be read in the other.
    fn empty_log(&self) {
        let emptied = self.read(|connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
        });
        match emptied {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!("another process reads the database; its log stays as it is")
            }
            Err(error) => tracing::warn!(%error, "the log of the database was not emptied"),
        }
    }

    /// Writes down what came of a change that was answered by `watch`, as it was read. What was `seen`, and what was read beside it, is kept
    /// where nothing is said of it. Where the project is watched otherwise by now, or again, nothing is: that is still to be answered.
    pub(crate) fn answered(
        &self,
        watch: &WatchRow,
        seen: Option<(&str, &str)>,
        last: &WatchOutcome,
    ) -> Result<()> {
        self.write(|connection| {
            let WatchRow { path, policy, setting, added_at_ms, .. } = watch;
            let WatchOutcome { outcome, digest, message, at_ms } = last;
            let (added_at, at) = (*added_at_ms as i64, *at_ms as i64);
            let (seen, beside) = seen.unzip();
            connection.execute(
                "UPDATE watches SET seen = COALESCE(?5, seen), outcome = ?6, digest = ?7,
                     message = ?8, at_ms = ?9, beside = COALESCE(?10, beside)
                 WHERE path = ?1 AND policy = ?2 AND setting = ?3 AND added_at_ms = ?4",
                params![
                    path, policy, setting, added_at, seen, outcome, digest, message, at, beside
                ],
            )?;
            Ok(())
        })
    }

    /// Writes down which of them cannot be watched, and why; all others can.
    pub(crate) fn note_unwatched(&self, named: &[(impl AsRef<str>, &str)]) -> Result<()> {
        self.write(|connection| {
            let forget = "UPDATE watches SET unwatched = NULL WHERE unwatched IS NOT NULL";
            connection.execute(forget, [])?;
            let mut note =
                connection.prepare_cached("UPDATE watches SET unwatched = ?2 WHERE path = ?1")?;
            for (path, reason) in named {
                note.execute([path.as_ref(), *reason])?;
            }
            Ok(())
        })
    }

    /// One of them.
    pub(crate) fn watched(&self, path: &str) -> Result<Option<WatchRow>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT path, policy, setting, added_at_ms, seen, outcome, digest, message, at_ms,
                     unwatched, beside
                 FROM watches WHERE path = ?1",
            )?;
            statement.query_row([path], row).optional()
        })
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<WatchRow> {
    let outcome: Option<String> = row.get(5)?;
    let (digest, message, at_ms) = (row.get(6)?, row.get::<_, Option<String>>(7)?, row.get(8)?);
    let at_ms: Option<i64> = at_ms;
    Ok(WatchRow {
        path: row.get(0)?,
        policy: row.get(1)?,
        setting: row.get(2)?,
        added_at_ms: row.get::<_, i64>(3)? as u64,
        seen: row.get(4)?,
        last: outcome.map(|outcome| WatchOutcome {
            outcome,
            digest,
            message: message.unwrap_or_default(),
            at_ms: at_ms.unwrap_or_default() as u64,
        }),
        unwatched: row.get(9)?,
        beside: row.get(10)?,
    })
}
