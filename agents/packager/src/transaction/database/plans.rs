//! Plans by digest, and who approved them. Knowing a digest is not an approval: only a record is.
//!
//! Nobody has to wait until a plan is written: it is known here from the moment in which it has a digest, and written when there
//! is time, before somebody asks for it at the latest. So whatever refers to a plan finds it in the database. Between the two
//! it goes with the process, as a written one may go with the power: then it is made again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Database, run};
use crate::error::{Error, Result};
use crate::limits::{PLANS_UNWRITTEN_BYTES_MAX, PLANS_UNWRITTEN_MAX};
use crate::plan::Json;

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

/// A plan in the form that is stored.
#[derive(Debug)]
pub(crate) struct Storable {
    pub(crate) digest: String,
    pub(crate) json: Json,
    pub(crate) created_at_ms: u64,
    pub(crate) expires_at_ms: u64,
}

/// Plans that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Unwritten(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    plans: Vec<Arc<Storable>>,
    /// Of plans that are about to be carried out: one for each request at work at most.
    approvals: Vec<Arc<Approval>>,
    /// Why the last one could not be written.
    failure: Option<Error>,
}

impl Unwritten {
    fn with<T>(&self, look: impl FnOnce(&mut Waiting) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, digest: &str) -> Option<Arc<Storable>> {
        self.with(|waiting| waiting.plans.iter().find(|plan| plan.digest == digest).cloned())
    }

    /// One of them is written.
    fn remove(&self, plan: &Arc<Storable>) {
        self.with(|waiting| waiting.plans.retain(|other| !Arc::ptr_eq(other, plan)));
    }

    /// Approvals of a plan, the latest first.
    fn approvals(&self, digest: &str) -> Vec<Arc<Approval>> {
        let is_of = |approval: &&Arc<Approval>| approval.digest == digest;
        self.with(|waiting| waiting.approvals.iter().rev().filter(is_of).cloned().collect())
    }
}

/// What was agreed to and is not written yet: for the row of the transaction that carries it out.
pub(super) struct Agreed {
    plan: Option<Arc<Storable>>,
    /// The earliest first.
    approvals: Vec<Arc<Approval>>,
}

impl Agreed {
    pub(super) fn put(&self, connection: &Transaction<'_>) -> rusqlite::Result<()> {
        if let Some(plan) = &self.plan {
            put(connection, plan)?;
        }
        self.approvals.iter().try_for_each(|approval| insert(connection, approval))
    }
}

impl Database {
    /// Keeps a plan in memory until [`Self::write_plans`]; writes it at once where too many wait.
    pub(crate) fn note_plan(&self, plan: Storable) -> Result<()> {
        let plan = Arc::new(plan);
        let has_room = self.unwritten.with(|waiting| {
            let bytes: usize = waiting.plans.iter().map(|plan| plan.json.len()).sum();
            let has_room = waiting.plans.len() < PLANS_UNWRITTEN_MAX
                && bytes + plan.json.len() <= PLANS_UNWRITTEN_BYTES_MAX;
            if has_room {
                waiting.plans.push(Arc::clone(&plan));
            }
            has_room
        });
        if has_room { Ok(()) } else { self.store_plan(&plan) }
    }

    /// Writes what waits. Where that fails, it goes on waiting, and [`Self::check_plans`] says why.
    pub(crate) fn write_plans(&self) {
        while let Some(plan) = self.unwritten.with(|waiting| waiting.plans.first().map(Arc::clone))
        {
            if let Err(error) = self.write_noted(&plan) {
                tracing::warn!(%error, "cannot write a plan");
                self.unwritten.with(|waiting| waiting.failure = Some(error));
                return;
            }
            if let Some(plan) = Arc::into_inner(plan) {
                plan.json.give_back();
            }
        }
    }

    /// Whether any wait to be written.
    pub(crate) fn has_unwritten_plans(&self) -> bool {
        self.unwritten.with(|waiting| !waiting.plans.is_empty())
    }

    /// Where a write that nobody waited for has failed, tries it once more; its failure.
    pub(crate) fn check_plans(&self) -> Result<()> {
        let failure = || self.unwritten.with(|waiting| waiting.failure.take());
        if failure().is_some() {
            // The disk may be as it was again, and then there is nothing to tell.
            self.write_plans();
        }
        failure().map_or(Ok(()), Err)
    }

    /// Writes one of those that wait; it waits until it is there, so that it is found in one of the two places at any time.
    fn write_noted(&self, plan: &Arc<Storable>) -> Result<()> {
        self.store_plan(plan)?;
        self.unwritten.remove(plan);
        Ok(())
    }

    /// Keeps a plan's JSON under its digest.
    pub(crate) fn store_plan(&self, plan: &Storable) -> Result<()> {
        // A plan that went with the power is made again; an approval of it, or its application, is written durably.
        self.write_lazily(|connection| put(connection, plan))
    }

    /// Whether a plan is known.
    pub(crate) fn has_plan(&self, digest: &str) -> Result<bool> {
        if self.unwritten.find(digest).is_some() {
            return Ok(true);
        }
        self.read(|connection| {
            let mut query = connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM plans WHERE digest = ?1)")?;
            query.query_row([digest], |row| row.get(0))
        })
    }

    /// A plan's JSON.
    pub(crate) fn plan(&self, digest: &str) -> Result<Option<String>> {
        if let Some(plan) = self.unwritten.find(digest) {
            self.write_noted(&plan)?;
        }
        self.read(|connection| {
            connection
                .query_row("SELECT body FROM plans WHERE digest = ?1", [digest], |row| row.get(0))
                .optional()
        })
    }

    /// Plans that may still be applied, those that are not written yet included.
    pub(crate) fn unexpired_plans(&self, now_ms: u64) -> Result<BTreeSet<String>> {
        // Before the table: what is written in between is in both, and in neither it is never.
        let mut digests: BTreeSet<String> = self.unwritten.with(|waiting| {
            let unexpired = waiting.plans.iter().filter(|plan| plan.expires_at_ms >= now_ms);
            unexpired.map(|plan| plan.digest.clone()).collect()
        });
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT digest FROM plans WHERE expires_at_ms >= ?1")?;
            for digest in query.query_map([now_ms as i64], |row| row.get(0))? {
                digests.insert(digest?);
            }
            Ok(())
        })?;
        Ok(digests)
    }

    /// Plans that are being carried out, and those whose results stand: of each name in a project the last one that changed it.
    /// What an older one left is a generation, which has files of its own. A repair has no plan: what it mends is still what the
    /// plan before it describes. Each with the place of its project.
    pub(crate) fn standing_plans(&self) -> Result<Vec<(String, String)>> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT DISTINCT t.digest, p.path FROM transactions t JOIN projects p ON p.key = t.project
                 WHERE t.digest IS NOT NULL AND (t.state = 'preparing' OR t.sequence IN
                     (SELECT max(n.sequence) FROM steps s JOIN transactions n ON n.id = s.transaction_id
                      WHERE n.state = 'committed' AND n.digest IS NOT NULL GROUP BY n.project, s.live))",
            )?;
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// Records an approval, with its plan where that is not written yet. Both are on the device when this returns where that
    /// `is_waited_for`, else before the intent of the transaction that is approved.
    pub(crate) fn approve(&self, approval: &Approval, is_waited_for: bool) -> Result<()> {
        let plan = self.unwritten.find(&approval.digest);
        let record = |connection: &Transaction<'_>| {
            if let Some(plan) = &plan {
                put(connection, plan)?;
            }
            insert(connection, approval)
        };
        if is_waited_for {
            self.write(record)?
        } else {
            self.write_lazily(record)?
        }
        if let Some(plan) = &plan {
            self.unwritten.remove(plan);
        }
        Ok(())
    }

    /// Keeps an approval in memory until a transaction of its plan begins, or until [`Self::write_approvals`].
    pub(crate) fn note_approval(&self, approval: Approval) {
        self.unwritten.with(|waiting| waiting.approvals.push(Arc::new(approval)));
    }

    /// What waits to be written of a plan that somebody agreed to, for [`Self::begin`].
    pub(super) fn agreed_to(&self, digest: Option<&str>) -> Option<Agreed> {
        let digest = digest?;
        let mut approvals = self.unwritten.approvals(digest);
        approvals.reverse();
        let plan = self.unwritten.find(digest);
        (!approvals.is_empty()).then_some(Agreed { plan, approvals })
    }

    /// It is written.
    pub(super) fn forget_agreed(&self, agreed: &Agreed) {
        self.unwritten.with(|waiting| {
            let is_written = |one: &Arc<Approval>| {
                agreed.approvals.iter().any(|written| Arc::ptr_eq(written, one))
            };
            waiting.approvals.retain(|one| !is_written(one));
        });
        if let Some(plan) = &agreed.plan {
            self.unwritten.remove(plan);
        }
    }

    /// Writes the approvals that wait, of one plan or of all: no transaction of theirs has begun.
    pub(crate) fn write_approvals(&self, digest: Option<&str>) -> Result<()> {
        let is_asked = |approval: &&Arc<Approval>| digest.is_none_or(|it| it == approval.digest);
        let waiting: Vec<_> = self
            .unwritten
            .with(|waiting| waiting.approvals.iter().filter(is_asked).cloned().collect());
        for approval in waiting {
            self.approve(&approval, false)?;
            self.unwritten.with(|waiting| {
                waiting.approvals.retain(|other| !Arc::ptr_eq(other, &approval));
            });
        }
        Ok(())
    }

    /// Lets go of those of a plan that wait and cannot be written.
    pub(crate) fn forget_approvals(&self, digest: &str) {
        self.unwritten
            .with(|waiting| waiting.approvals.retain(|approval| approval.digest != digest));
    }

    /// Takes back all approvals of a plan.
    pub(crate) fn withdraw(&self, digest: &str, now_ms: u64) -> Result<usize> {
        self.write_approvals(Some(digest))?;
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
        // One that waits is enough to know that there is one, and the latest.
        let waiting = self.unwritten.approvals(digest);
        if !waiting.is_empty() {
            return Ok(waiting.iter().map(|approval| Approval::clone(approval)).collect());
        }
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

fn insert(connection: &Transaction<'_>, approval: &Approval) -> rusqlite::Result<()> {
    let Approval { digest, who, how, granted_at_ms } = approval;
    run(
        connection,
        "INSERT INTO approvals (digest, who, how, granted_at_ms) VALUES (?1, ?2, ?3, ?4)",
        params![digest, who, how, *granted_at_ms as i64],
    )?;
    Ok(())
}

/// Writes a plan, and removes those that expired long ago and only take space, unless what they describe stands or is under way: it has
/// to be possible to look up what a transaction was agreed to do.
fn put(connection: &Transaction<'_>, plan: &Storable) -> rusqlite::Result<()> {
    let Storable { digest, json, created_at_ms, expires_at_ms } = plan;
    let (created_at_ms, expires_at_ms) = (*created_at_ms, *expires_at_ms);
    let unfit = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let json = json.whole();
    let text = std::str::from_utf8(&json).map_err(unfit)?;
    run(
        connection,
        "DELETE FROM plans WHERE expires_at_ms < ?1 AND digest NOT IN
             (SELECT digest FROM transactions
              WHERE digest IS NOT NULL AND state IN ('committed', 'preparing'))",
        [created_at_ms.saturating_sub(crate::limits::PLAN_LIFETIME_MS) as i64],
    )?;
    run(
        connection,
        "INSERT INTO plans (digest, body, created_at_ms, expires_at_ms)
         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (digest) DO NOTHING",
        params![digest, text, created_at_ms as i64, expires_at_ms as i64],
    )?;
    Ok(())
}
