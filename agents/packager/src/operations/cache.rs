//! `pkg.cache`: what the store holds and what of it may go. What is needed is what the plans say that stand, that wait for an
//! approval, or that are under way; leases say it for transactions of other processes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agents_contract::Cancellation;

use super::Task;
use super::prepare::unprepare;
use crate::api::{CacheAction, CacheAnswer, CacheRequest};
use crate::error::Result;
use crate::git::Room;
use crate::limits::STORE_LOOKED_AT_AFTER;
use crate::metadata::Hashes;
use crate::store::{Collected, Form, Prepared, Store};
use crate::transaction::Transactions;

/// After so many hundredths of what the store may take were fetched, its size is looked at.
const LOOK_AFTER_PERCENT: u64 = 5;
/// What is wrong with a plan that nobody can apply any more.
const UNUSABLE: [&str; 3] = ["plan-damaged", "plan-version", "unknown-plan"];

impl Task<'_> {
    /// Shows the store, makes it smaller, or looks for damage in it.
    pub(crate) fn cache(&self, request: &CacheRequest) -> Result<CacheAnswer> {
        let (store, rules) = (&self.shop.store, self.shop.rules);
        let damaged = match request.action {
            CacheAction::Verify => Some(store.verify(&mut || self.check_wanted())?),
            _ => None,
        };
        let bytes_max = match (request.action, request.all) {
            (CacheAction::Collect, true) => 0,
            (CacheAction::Collect, false) => rules.bytes_max,
            _ => u64::MAX,
        };
        let mut of_repositories = 0;
        if request.action == CacheAction::Collect {
            // Its files are the store's under another name, or were made of them.
            self.shop.unprepare();
            let room = if request.all { Room::Nothing } else { Room::Usual };
            of_repositories = self.shop.shrink_repositories(room);
        }
        let Collected { before, artefacts, freed } =
            collect(store, &self.shop.transactions, bytes_max, &self.order.cancellation)?;
        Ok(CacheAnswer {
            schema: "bolide.cache/1".to_owned(),
            path: store.root().to_string_lossy().into_owned(),
            mode: store.mode_at(&store.root().join("tmp"))?.name().to_owned(),
            bytes_max: rules.bytes_max,
            bytes: before.bytes.saturating_sub(freed.bytes),
            artefacts: before.artefacts.saturating_sub(artefacts),
            artefacts_needed: before.artefacts_needed,
            removed: artefacts,
            damaged,
            freed_bytes: freed.bytes.saturating_add(of_repositories),
            prepared: self.shop.preparing.prepared().map(Prepared::standing),
        })
    }

    /// Has the size of the store looked at, when there is time, after enough was fetched; and by the first process of an hour.
    pub(super) fn keep_small(&self, fetched_bytes: u64) {
        let (shop, rules) = (self.shop, self.shop.rules);
        if fetched_bytes == 0 {
            return;
        }
        let before = shop.fetched_since.fetch_add(fetched_bytes, Ordering::Relaxed);
        let enough = rules.bytes_max / 100 * LOOK_AFTER_PERCENT;
        let is_first = before == 0 && !shop.store.was_looked_at(STORE_LOOKED_AT_AFTER);
        if !is_first && before.saturating_add(fetched_bytes) < enough {
            return;
        }
        // One and not none, so that the next look waits for the next bytes.
        shop.fetched_since.store(1, Ordering::Relaxed);
        let (store, transactions) = (Arc::clone(&shop.store), shop.transactions.clone());
        let (prepared, leftovers) = (shop.preparing.shared(), Arc::clone(&shop.leftovers));
        let look = move |stop: &Cancellation| {
            match collect(&store, &transactions, rules.bytes_max, stop) {
                Ok(done) if done.artefacts > 0 => {
                    tracing::info!(?done, "the store was too large");
                    // What goes from the store takes no place only when nothing else has its files.
                    if let Some(prepared) = &prepared {
                        unprepare(prepared, &leftovers);
                    }
                }
                Ok(done) => tracing::debug!(?done, "looked at the size of the store"),
                // Somebody installs something; the next look comes.
                Err(error) => tracing::debug!(%error, "cannot look at the size of the store"),
            }
        };
        shop.aside.later(&*shop.host, Box::new(look));
    }
}

fn collect(
    store: &Store,
    transactions: &Transactions,
    bytes_max: u64,
    cancellation: &Cancellation,
) -> Result<Collected> {
    let mut known = HashMap::new();
    // Plans are read before others are kept out of the store; inside only those that came in between.
    needed(transactions, &mut known)?;
    store.collect(&mut || needed(transactions, &mut known), bytes_max, cancellation)
}

type Artefacts = Vec<(Hashes, Form)>;

/// What is needed by what is known now; `known` are the plans that were read already.
fn needed(
    transactions: &Transactions,
    known: &mut HashMap<String, Artefacts>,
) -> Result<Artefacts> {
    let mut all = Vec::new();
    for digest in transactions.needed_plans()? {
        if !known.contains_key(&digest) {
            known.insert(digest.clone(), artefacts(transactions, &digest)?);
        }
        all.extend(known[&digest].iter().cloned());
    }
    Ok(all)
}

fn artefacts(transactions: &Transactions, digest: &str) -> Result<Artefacts> {
    let plan = match transactions.plan(digest) {
        Ok(plan) => plan,
        Err(error) if UNUSABLE.contains(&error.code.as_str()) => {
            // It can be applied no more, and what stands of it has files of its own.
            tracing::warn!(%error, "a plan is of no use, so nothing is kept for it");
            return Ok(Vec::new());
        }
        // A busy database or a broken disk says nothing about what is needed.
        Err(error) => return Err(error),
    };
    let packages = plan.resolutions.into_iter().flat_map(|resolution| resolution.packages);
    let artefact = |package: crate::resolution::Package| {
        Some((package.artifact.hashes.clone(), Form::of(package.ecosystem)?))
    };
    Ok(packages.filter_map(artefact).collect())
}
