//! Restores the state before a transaction.
//!
//! The old objects themselves come back, with their modes, times and links. A rollback is a transaction like
//! any other: in the journal, safe against a crash at any point, and in history.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Instant;

use agents_contract::{Crew, Threads};
use serde::{Deserialize, Serialize};

use super::Session;
use super::commit::{Purpose, live_identity, microseconds};
use super::database::{Standing, Step};
use super::directory::RelativePath;
use super::fingerprint::{self, Drift, DriftKind};
use super::journal::{Begin, Finish, Intent, Item, Leftover};
use super::project::{GENERATIONS, Workshop};
use super::system::WayBack;
use super::tree;
use crate::error::{Error, Kind, Result};
use crate::limits::LEFT_RECORD_BYTES_MIN;

/// What a rollback would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackPreview {
    /// The transactions that it undoes, the latest first.
    pub taken: Vec<String>,
    /// The names that it restores.
    pub restores: Vec<String>,
    /// What a person changed since; only `force` goes on then.
    pub edited: Vec<(String, DriftKind)>,
}

/// A rollback that was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolledBack {
    /// The name of the rollback itself.
    pub transaction: String,
    /// The transactions that it undid, the latest first.
    pub taken: Vec<String>,
    /// The names that it restored.
    pub restored: Vec<String>,
    /// Where copies of a person's changes lie, where there were any.
    pub kept: Option<PathBuf>,
    /// Why cleaning up was not finished; the next command does it. The old state stands.
    pub unfinished: Option<Error>,
    /// Whether something that is not needed any more is still to be deleted, by whoever takes the lock of the project next.
    #[serde(default)]
    pub is_left: bool,
    /// Microseconds from the call until the old state was visible.
    pub visible_us: u64,
}

struct Prepared {
    taken: Vec<Standing>,
    intent: Intent,
    drift: BTreeMap<String, Drift>,
    /// What somebody changed of the system since, as sentences.
    edited: Vec<String>,
}

impl Session {
    /// Says what [`Self::rollback`] would do.
    pub fn preview_rollback(&self, transaction: Option<&str>) -> Result<RollbackPreview> {
        let prepared = self.prepare_rollback(transaction, &Threads(1))?;
        let edited = prepared.drift.iter().flat_map(|(live, drift)| {
            drift.iter().map(move |(path, kind)| {
                (std::path::Path::new(live).join(path).to_string_lossy().into_owned(), *kind)
            })
        });
        Ok(RollbackPreview {
            taken: prepared.taken.iter().map(|standing| standing.id.clone()).collect(),
            restores: restored(&prepared.intent),
            edited: edited.collect(),
        })
    }

    /// Restores the state before `transaction` (the latest where `None`), taking along all later ones.
    pub fn rollback(
        &mut self,
        transaction: Option<&str>,
        actor: &str,
        force: bool,
    ) -> Result<RolledBack> {
        let finish = |session: &Self, begin: &Begin, intent: &Intent| {
            session.finish(begin, intent).map(|()| false)
        };
        self.roll_back(transaction, (actor, force), &Threads(1), finish)
    }

    /// The same, but where there is much to delete afterwards it stays for whoever takes the lock of the project next, as after a
    /// crash: nobody waits for it ([`RolledBack::is_left`]). `crew` looks for what was edited since.
    pub fn rollback_and_leave(
        &mut self,
        transaction: Option<&str>,
        actor: &str,
        force: bool,
        crew: &dyn Crew,
    ) -> Result<RolledBack> {
        let end = |session: &Self, begin: &Begin, intent: &Intent| {
            let is_left = session.is_much(intent);
            match is_left {
                true => session.conclude(begin, intent)?,
                false => session.finish(begin, intent)?,
            }
            Ok(is_left)
        };
        self.roll_back(transaction, (actor, force), crew, end)
    }

    fn roll_back(
        &mut self,
        transaction: Option<&str>,
        (actor, force): (&str, bool),
        crew: &dyn Crew,
        end: impl FnOnce(&Self, &Begin, &Intent) -> Result<bool>,
    ) -> Result<RolledBack> {
        let start = Instant::now();
        let Prepared { taken, mut intent, drift, edited } =
            self.prepare_rollback(transaction, crew)?;
        if !drift.is_empty() && !force {
            return Err(fingerprint::refusal("the rollback", &drift));
        }
        check_system(&intent, &edited, force)?;
        let taken: Vec<String> = taken.into_iter().map(|standing| standing.id).collect();
        let purpose = Purpose {
            operation: "rollback".to_owned(),
            digest: None,
            actor: actor.to_owned(),
            summary: serde_json::json!({ "undone": taken, "restored": restored(&intent) }),
        };
        let (begin, mut journal) = self.start(purpose, Vec::new())?;
        self.keep_live(&begin.id, &drift)
            .and_then(|()| self.ensure_generations(&intent))
            .map_err(|error| self.abandon(&begin, None, error))?;
        let (visible, _system) =
            self.carry_out_to_commit(&mut journal, &begin, &mut intent, None)?;
        let (is_left, unfinished) = match end(self, &begin, &intent) {
            Ok(is_left) => (is_left, None),
            Err(error) => (true, Some(error)),
        };
        let kept = self.inner.kept(&begin.id);
        Ok(RolledBack {
            transaction: begin.id,
            taken,
            restored: restored(&intent),
            kept: kept.is_dir().then_some(kept),
            unfinished,
            is_left,
            visible_us: microseconds(start, visible),
        })
    }

    /// Whether deleting what a rollback leaves takes longer than an answer should.
    fn is_much(&self, intent: &Intent) -> bool {
        let Finish::Discard { leftovers, .. } = &intent.finish else { return false };
        let records = leftovers.iter().map(|leftover| {
            let record = self.inner.fingerprints.path().join(&leftover.fingerprint);
            record.metadata().map_or(0, |record| record.len())
        });
        records.sum::<u64>() > LEFT_RECORD_BYTES_MIN
    }

    fn prepare_rollback(&self, transaction: Option<&str>, crew: &dyn Crew) -> Result<Prepared> {
        let mut taken = self.inner.database.standing(&self.project.key())?;
        let found = match transaction {
            None => (!taken.is_empty()).then_some(0),
            Some(id) => taken.iter().position(|standing| standing.id == id),
        };
        let Some(last) = found else { return Err(self.nothing_to_undo(transaction)) };
        taken.truncate(last + 1);
        // By live name: the steps at it, the latest first.
        let mut steps: BTreeMap<&RelativePath, Vec<&Step>> = BTreeMap::new();
        for step in taken.iter().flat_map(|standing| &standing.steps) {
            steps.entry(&step.item.live).or_default().push(step);
        }
        let mut items = Vec::new();
        let mut leftovers = Vec::new();
        let mut drift = BTreeMap::new();
        for (live, steps) in &steps {
            self.drift_seen_by(crew, live, &mut drift)?;
            items.push(self.restoring(live, steps)?);
            leftovers.extend(leave(steps));
        }
        items.retain(|item| item.old.is_some() || item.new.is_some());
        let mut directories: Vec<RelativePath> =
            taken.iter().flat_map(|standing| standing.directories.clone()).collect();
        directories.sort();
        directories.reverse();
        directories.dedup();
        let finish = Finish::Discard {
            taken: taken.iter().map(|standing| standing.id.clone()).collect(),
            directories,
            leftovers,
        };
        let directories = Vec::new();
        let WayBack { change: system, edited } = self.way_back(&taken)?;
        let intent = Intent { directories, items, finish, system, start: None };
        Ok(Prepared { taken, intent, drift, edited })
    }

    /// The item that brings back what lay at `live` before the earliest of `steps`.
    fn restoring(&self, live: &RelativePath, steps: &[&Step]) -> Result<Item> {
        let earliest = steps.last().expect("a live name is only listed with a step");
        let item = &earliest.item;
        if let Some(wanted) = item.old {
            self.check_generation(earliest, wanted)?;
        }
        let standing = self.inner.database.steps_at(&self.project.key(), live)?;
        let restored = standing.get(steps.len());
        Ok(Item {
            live: live.clone(),
            area: GENERATIONS.to_owned(),
            owner: earliest.transaction.clone(),
            slot: item.slot.clone(),
            old: live_identity(&self.project, live)?,
            new: item.old,
            doomed: None,
            old_sha256: None,
            new_sha256: None,
            environment: item.environment,
            fingerprint: restored.and_then(|step| step.item.fingerprint.clone()),
            is_left: false,
        })
    }

    /// Whether the old object is still there and, where it is a file, what it was.
    fn check_generation(&self, step: &Step, wanted: super::directory::Identity) -> Result<()> {
        let item = &step.item;
        let missing = |what: &str| {
            let message = format!(
                "what `{}` was before `{}` cannot be restored: its copy in `.bolide` {what}",
                item.live, step.transaction
            );
            Error::new(Kind::Verification, "generation-damaged", message).hint(way_on(item))
        };
        let workshop = Workshop::existing(&self.project)?.ok_or_else(|| missing("is gone"))?;
        let directory =
            workshop.find(&[GENERATIONS, &step.transaction])?.ok_or_else(|| missing("is gone"))?;
        let name = OsStr::new(&item.slot);
        let failed =
            |error: std::io::Error| Error::io("read", &directory.path().join(name), &error);
        let found = directory.identity(name).map_err(failed)?.ok_or_else(|| missing("is gone"))?;
        if !found.same_object(&wanted) {
            return Err(missing("was replaced"));
        }
        if let Some(expected) = &item.old_sha256
            && crate::hex::hex(&tree::file_digest(&directory, name).map_err(failed)?) != *expected
        {
            return Err(missing("was edited"));
        }
        Ok(())
    }

    /// A person may have removed `.bolide` after a transaction that had only created names.
    fn ensure_generations(&self, intent: &Intent) -> Result<()> {
        let disk = &self.inner.disk;
        let workshop = Workshop::ensure(disk, &self.project)?;
        let area = workshop.ensure_area(disk, GENERATIONS)?;
        for item in &intent.items {
            workshop.ensure_in(disk, &area, &item.owner)?;
        }
        Ok(())
    }

    fn nothing_to_undo(&self, transaction: Option<&str>) -> Error {
        let path = self.project.path().display();
        let message = match transaction {
            None => format!("nothing of Bolide stands in `{path}` that could be rolled back"),
            Some(id) => {
                format!("`{}` is not a transaction that stands in `{path}`", id.escape_debug())
            }
        };
        let code =
            if transaction.is_some() { "unknown-transaction" } else { "nothing-to-roll-back" };
        Error::new(Kind::Usage, code, message)
            .hint("`bolide history` lists the transactions and what became of them")
    }
}

/// What is deleted in the end at one live name, and the fingerprint that each should match.
fn leave(steps: &[&Step]) -> Vec<Leftover> {
    let mut leftovers = Vec::new();
    let mut add = |place: &Step, content: &Step| {
        if content.item.new.is_some() {
            leftovers.push(Leftover {
                live: content.item.live.clone(),
                owner: place.transaction.clone(),
                slot: place.item.slot.clone(),
                fingerprint: content.fingerprint_name(),
            });
        }
    };
    // What was live goes to where the old object lay; each later generation holds what the step before it had
    // installed.
    if let (Some(latest), Some(earliest)) = (steps.first(), steps.last()) {
        add(earliest, latest);
    }
    for pair in steps.windows(2) {
        if let [later, before] = pair {
            add(later, before);
        }
    }
    leftovers
}

fn restored(intent: &Intent) -> Vec<String> {
    let names = intent.items.iter().map(|item| item.live.as_str().to_owned());
    let steps = intent.system.iter().flat_map(|change| &change.steps);
    names.chain(steps.map(|step| format!("system:{}", step.name))).collect()
}

/// Refuses a rollback that would not bring a system back to what it was, unless that is accepted.
/// What can be done where there is nothing to restore; `--force` changes nothing of that.
fn way_on(item: &Item) -> String {
    let nothing = "nothing was changed, and `--force` cannot bring it back";
    match item.environment {
        Some(_) => format!(
            "{nothing}; `bolide install` builds `{}` from what `bolide.lock` says: to have it as it was, bring back \
             an earlier `bolide.lock` and manifest first, with `git checkout COMMIT -- FILE`",
            item.live
        ),
        None => format!(
            "{nothing}; `git checkout COMMIT -- {}` has it as it was in a commit, and `bolide install` then builds \
             what it says; without version control change it with `bolide add` and `bolide remove`",
            item.live
        ),
    }
}

fn check_system(intent: &Intent, edited: &[String], force: bool) -> Result<()> {
    let lost = intent.system.iter().flat_map(|change| &change.irreversible);
    let all: Vec<&str> = lost.chain(edited).map(String::as_str).collect();
    if all.is_empty() || force {
        return Ok(());
    }
    let message = format!("packages of the system are in the way: {}", all.join(", "));
    Err(Error::new(Kind::Verification, "system-edited", message)
        .hint("`--force` brings back what can be, whoever changed it"))
}
