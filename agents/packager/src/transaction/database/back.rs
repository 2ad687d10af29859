//! A committed transaction that the device turns out not to have: what was told of it is taken back.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::super::journal::{Begin, Item};
use super::super::limits::UNTOLD_MAX;
use super::{Database, parse, run};
use crate::error::Result;

/// The environments of a transaction that is said to be committed are what they were before it, as new generations; its steps go.
pub(super) fn unsettle(
    connection: &Transaction<'_>,
    begin: &Begin,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let is_committed = "SELECT state = 'committed' FROM transactions WHERE id = ?1";
    if !connection.query_row(is_committed, [&begin.id], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    run(connection, "DELETE FROM holds WHERE transaction_id = ?1", [&begin.id])?;
    run(connection, "DELETE FROM steps WHERE transaction_id = ?1", [&begin.id])?;
    let key = begin.key();
    let places = {
        let mut query = connection
            .prepare("SELECT place FROM environments WHERE project = ?1 AND transaction_id = ?2")?;
        let places = query.query_map(params![key, begin.id], |row| row.get(0))?;
        places.collect::<rusqlite::Result<Vec<String>>>()?
    };
    for place in places {
        let before = connection.query_row(
            "SELECT s.transaction_id, s.item FROM steps s JOIN transactions t ON t.id = s.transaction_id
             WHERE t.project = ?1 AND s.live = ?2 AND t.state = 'committed'
             ORDER BY t.sequence DESC LIMIT 1",
            params![key, place],
            |row| Ok((row.get::<_, String>(0)?, parse::<Item>(&row.get::<_, String>(1)?)?)),
        );
        let (transaction, fingerprint) = match before.optional()? {
            Some((transaction, item)) => (transaction, item.fingerprint),
            None => (begin.id.clone(), None),
        };
        run(
            connection,
            "UPDATE environments SET generation = generation + 1, fingerprint = ?3, transaction_id = ?4
             WHERE project = ?1 AND place = ?2",
            params![key, place, fingerprint, transaction],
        )?;
        run(
            connection,
            "INSERT INTO generations (project, place, number, transaction_id, fingerprint, created_at_ms)
             SELECT project, place, generation, transaction_id, fingerprint, ?3 FROM environments
             WHERE project = ?1 AND place = ?2",
            params![key, place, now_ms as i64],
        )?;
    }
    Ok(())
}

/// Remembers what the next answer in a project has to tell; of too many things the latest.
pub(super) fn remember_to_tell(
    connection: &Transaction<'_>,
    project: &str,
    message: &str,
) -> rusqlite::Result<()> {
    let insert = "INSERT INTO untold (project, message) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    run(connection, insert, [project, message])?;
    let forget = "DELETE FROM untold WHERE rowid NOT IN
                      (SELECT rowid FROM untold ORDER BY rowid DESC LIMIT ?1)";
    run(connection, forget, [UNTOLD_MAX]).map(drop)
}

impl Database {
    /// Whether somebody ever agreed to a plan. That was written after the plan, which is removed when it is old; and who takes an
    /// agreement back means what was not done yet.
    pub(in super::super) fn was_agreed_to(&self, digest: &str) -> Result<bool> {
        self.read(|connection| {
            let found = "SELECT EXISTS (SELECT 1 FROM approvals WHERE digest = ?1)";
            connection.query_row(found, [digest], |row| row.get(0))
        })
    }

    /// Remembers what the next answer in a project has to tell; of too many things the latest.
    pub(in super::super) fn tell(&self, project: &str, message: &str) -> Result<()> {
        self.write_lazily(|connection| remember_to_tell(connection, project, message))
    }

    /// What nobody was told of yet in a project; now somebody is.
    pub(in super::super) fn take_untold(&self, project: &str) -> Result<Vec<String>> {
        let untold = self.read(|connection| {
            let mut query = connection
                .prepare_cached("SELECT message FROM untold WHERE project = ?1 ORDER BY rowid")?;
            query.query_map([project], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        })?;
        if !untold.is_empty() {
            self.write_lazily(|connection| {
                run(connection, "DELETE FROM untold WHERE project = ?1", [project])
            })?;
        }
        Ok(untold)
    }
}
