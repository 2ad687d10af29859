//! Plans by digest, and who approved them. Knowing a digest is not an approval: only a record is.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::Database;
use crate::error::Result;

/// Approvals of one plan that are looked at.
const APPROVALS_MAX: u32 = 100;

/// That somebody agreed to a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The plan.
    pub digest: String,
    /// Who: `uid 1000`, or the name of an agent.
    pub who: String,
    /// By which means: `--yes`, `approvals grant`, a policy's name.
    pub how: String,
    /// Milliseconds since 1970.
    pub granted_at_ms: u64,
}

impl Database {
    /// Keeps a plan's JSON under its digest.
    pub(crate) fn store_plan(
        &self,
        digest: &str,
        body: &str,
        created_at_ms: u64,
        expires_at_ms: u64,
    ) -> Result<()> {
        // A plan that went with the power is made again; an approval of it, or its application, is written durably.
        self.write_lazily(|connection| {
            // Plans that expired long ago only take space, unless what they describe stands or is under way:
            // it has to be possible to look up what a transaction was agreed to do.
            connection.execute(
                "DELETE FROM plans WHERE expires_at_ms < ?1 AND digest NOT IN
                     (SELECT digest FROM transactions
                      WHERE digest IS NOT NULL AND state IN ('committed', 'preparing'))",
                [created_at_ms.saturating_sub(crate::limits::PLAN_LIFETIME_MS) as i64],
            )?;
            connection.execute(
                "INSERT INTO plans (digest, body, created_at_ms, expires_at_ms)
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT (digest) DO NOTHING",
                params![digest, body, created_at_ms as i64, expires_at_ms as i64],
            )?;
            Ok(())
        })
    }

    /// A plan's JSON.
    pub(crate) fn plan(&self, digest: &str) -> Result<Option<String>> {
        self.read(|connection| {
            connection
                .query_row("SELECT body FROM plans WHERE digest = ?1", [digest], |row| row.get(0))
                .optional()
        })
    }

    /// Plans that may still be applied.
    pub(crate) fn unexpired_plans(&self, now_ms: u64) -> Result<BTreeSet<String>> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT digest FROM plans WHERE expires_at_ms >= ?1")?;
            query.query_map([now_ms as i64], |row| row.get(0))?.collect()
        })
    }

    /// Plans that were carried out or are being so, each with the place of its project.
    pub(crate) fn standing_plans(&self) -> Result<Vec<(String, String)>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT DISTINCT t.digest, p.path FROM transactions t JOIN projects p ON p.key = t.project
                 WHERE t.digest IS NOT NULL AND t.state IN ('committed', 'preparing')",
            )?;
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// Records an approval.
    pub(crate) fn approve(&self, approval: &Approval) -> Result<()> {
        self.write(|connection| {
            connection.execute(
                "INSERT INTO approvals (digest, who, how, granted_at_ms) VALUES (?1, ?2, ?3, ?4)",
                params![approval.digest, approval.who, approval.how, approval.granted_at_ms as i64],
            )?;
            Ok(())
        })
    }

    /// Takes back all approvals of a plan.
    pub(crate) fn withdraw(&self, digest: &str, now_ms: u64) -> Result<usize> {
        self.write(|connection| {
            connection.execute(
                "UPDATE approvals SET withdrawn_at_ms = ?2
                 WHERE digest = ?1 AND withdrawn_at_ms IS NULL",
                params![digest, now_ms as i64],
            )
        })
    }

    /// The approvals of a plan that stand, the latest first.
    pub(crate) fn approvals(&self, digest: &str) -> Result<Vec<Approval>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT digest, who, how, granted_at_ms FROM approvals
                 WHERE digest = ?1 AND withdrawn_at_ms IS NULL ORDER BY number DESC LIMIT ?2",
            )?;
            query
                .query_map(params![digest, APPROVALS_MAX], |row| {
                    Ok(Approval {
                        digest: row.get(0)?,
                        who: row.get(1)?,
                        how: row.get(2)?,
                        granted_at_ms: row.get::<_, i64>(3)?.unsigned_abs(),
                    })
                })?
                .collect()
        })
    }
}
