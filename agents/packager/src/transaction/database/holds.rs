//! The packages of a project that are held at the versions that they have.
//!
//! A hold belongs to the transaction that made it: it stands as long as that one does, and until a later one lets go of it. So
//! whatever takes that transaction back takes the hold back.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};

use super::super::journal::Begin;
use super::{Database, json, parse};
use crate::ecosystem::Ecosystem;
use crate::error::Result;
use crate::metadata::held::Held;

/// A package that is held, or no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose it is.
    pub ecosystem: Ecosystem,
    /// Its name, normalised.
    pub name: String,
    /// The versions that it is held at; none lets go of it.
    pub versions: BTreeSet<String>,
}

/// Writes down what a transaction holds and lets go of.
pub(super) fn record(connection: &Transaction<'_>, begin: &Begin) -> rusqlite::Result<()> {
    for hold in &begin.holds {
        connection.execute(
            "INSERT INTO holds (transaction_id, ecosystem, name, versions) VALUES (?1, ?2, ?3, ?4)",
            params![begin.id, hold.ecosystem.as_str(), hold.name, json(&hold.versions)?],
        )?;
    }
    Ok(())
}

impl Database {
    /// What is held in a project: of each name the last word that stands.
    pub(in super::super) fn holds(&self, project: &str) -> Result<BTreeMap<Ecosystem, Held>> {
        let rows = self.read(|connection| {
            // SQLite takes the other columns from the row with the maximum.
            let mut query = connection.prepare_cached(
                "SELECT h.ecosystem, h.name, h.versions, max(t.sequence)
                 FROM holds h JOIN transactions t ON t.id = h.transaction_id
                 WHERE t.project = ?1 AND t.state = 'committed' GROUP BY h.ecosystem, h.name",
            )?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, row.get(1)?, parse(&row.get::<_, String>(2)?)?))
            };
            let rows = query.query_map([project], row)?;
            rows.collect::<rusqlite::Result<Vec<(String, String, BTreeSet<String>)>>>()
        })?;
        let mut holds: BTreeMap<Ecosystem, Held> = BTreeMap::new();
        for (ecosystem, name, versions) in rows {
            let known = Ecosystem::ALL.into_iter().find(|it| it.as_str() == ecosystem);
            // One that only a newer program knows is not resolved by this one either.
            let Some(ecosystem) = known.filter(|_| !versions.is_empty()) else { continue };
            holds.entry(ecosystem).or_default().packages.insert(name, versions);
        }
        Ok(holds)
    }
}
