//! `pkg.apply`: an approved plan carried out. Everything is fetched, verified and staged before the one moment in which it
//! becomes visible; before that moment any failure leaves the project as it was.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use agents_contract::{Obstacle, Order, Permit, Undertaking, Wait, Work};

use super::beside::Beside;
use super::system::{self, Part};
use super::{Task, cargo, npm, pypi, rest};
use crate::api::ApplyAnswer;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::install::Options;
use crate::limits::{
    HEAVY_PACKAGES_MIN, HISTORY_ENTRIES_MAX, STORE_REPAIRS_MAX, SUMMARY_PACKAGES_BYTES_MAX,
};
use crate::measures::Transacted;
use crate::plan::{Plan, Rebuild};
use crate::resolution::{Package, Resolution};
use crate::store::{self, DAMAGED, Shelf};
use crate::transaction::{
    Change, CommitOptions, Expected, HistoryEntry, Open, PACKAGES, Project, Purpose, RelativePath,
    Session, State,
};

/// Packages named in the summary of a transaction; the rest is counted.
const SUMMARY_PACKAGES_MAX: usize = 20;

/// What a transaction that was committed leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Its end, by whoever takes the lock of the project next.
    Rest,
    /// To wait for the disk, in the same session.
    Device,
}

/// What there is when something is staged.
#[derive(Clone, Copy)]
struct Stock<'a> {
    /// Entries of what the store had before anything was fetched.
    shelf: &'a Shelf,
    /// Packages that were fetched, unpacked for this.
    beside: &'a Beside,
    /// What is installed.
    installed: &'a BTreeMap<Ecosystem, Resolution>,
}

impl Task<'_> {
    /// Carries out the plan with this digest. With `approve` the caller's own approval is recorded first.
    pub(crate) fn apply(
        &self,
        directory: OwnedFd,
        digest: &str,
        (approve, force): (bool, bool),
    ) -> Result<ApplyAnswer> {
        // A plan that was made for this installation is not kept beside it.
        rest::clear();
        let plan = self.plan_of(digest)?;
        let part = self.system_part(&plan, force)?;
        plan.check_here()?;
        // Before the project is locked: it may take minutes on a hot machine.
        let _heavy = match is_heavy(&plan) {
            true => Some(self.begin_heavy()?),
            false => None,
        };
        let project = Project::from_fd(directory)?;
        let mut session = self.lock(project.again()?)?;
        plan.check_preconditions(&self.shop.transactions, session.project())
            .map_err(|error| self.or_applied(digest, session.project(), error))?;
        self.check_holds(&plan, session.project())?;
        if let Some(part) = &part {
            self.check_part(part)?;
        }
        let agree = || {
            self.shop.transactions.approve_at_once(digest, &self.actor, "by the caller of apply")
        };
        // Until the answer: where no transaction begins, it is written then.
        let agreed = approve.then(agree).transpose()?;
        self.shop.transactions.require_approval(digest)?;
        let installed = self.installed(session.project())?;
        let mut answer = described(&plan, digest, &installed);
        let changes_nothing =
            plan.edits.is_empty() && plan.environments.is_empty() && part.is_none();
        let crates =
            resolution(&plan, Ecosystem::Cargo).filter(|crates| !crates.packages.is_empty());
        if let (true, Some(agreed)) = (changes_nothing, &agreed) {
            agreed.write()?;
        }
        // Crates lie outside of the project: its lock may be right and cargo's cache empty.
        if changes_nothing && (plan.operation != "install" || crates.is_none()) {
            answer.warnings.extend(session.take_notes());
            return Ok(answer);
        }
        let needed = self.needed(&plan);
        let _lease = self.lease(&needed)?;
        let work = (&*plan, part.as_ref());
        // Over all tries: what was fetched in one is not fetched in the next, nor is what the disk said forgotten.
        let beside = Beside::of(&plan, &project, self.shop);
        let known = (&installed, &beside);
        let mut repairs = 0;
        let left = loop {
            let carried = self.carry_out(&mut session, &project, work, known, force, &mut answer);
            match carried {
                // Nothing was changed yet. What is damaged is fetched and everything staged anew.
                Err(error) if error.code == DAMAGED && repairs < STORE_REPAIRS_MAX => {
                    tracing::warn!(%error, "the store was damaged");
                    repairs += 1;
                    self.shop.measures.found_damage();
                    self.examine(&needed)?;
                }
                done => break done?,
            }
        };
        match left {
            Left::Device => {
                self.confirm(session, &mut answer)?;
                self.publish(&answer);
            }
            Left::Rest => {
                drop(session);
                answer.warnings.extend(self.clear_later(project));
            }
            Left::Nothing => {}
        }
        self.keep_small(answer.downloaded_bytes);
        Ok(answer)
    }

    /// Fetches, stages and commits; what is left to end.
    fn carry_out(
        &self,
        session: &mut Session,
        project: &Project,
        (plan, part): (&Plan, Option<&Part<'_>>),
        (installed, beside): (&BTreeMap<Ecosystem, Resolution>, &Beside),
        force: bool,
        answer: &mut ApplyAnswer,
    ) -> Result<Left> {
        let began = Instant::now();
        let (shelf, bytes) = self.fetch_for(&self.needed(plan), beside)?;
        answer.downloaded_bytes += bytes;
        if let Some(part) = part {
            answer.downloaded_bytes += self.prepare_part(part)?;
        }
        lap(answer, "fetch", began);
        self.check_wanted()?;
        if plan.edits.is_empty() && plan.environments.is_empty() && part.is_none() {
            let Some(crates) = resolution(plan, Ecosystem::Cargo) else { return Ok(Left::Nothing) };
            let hands = self.hands(Work::Unpack);
            let cancellation = self.conversation.cancellation();
            let verify = self.shop.rules.verify;
            let options = Options { crew: &hands, cancellation, verify, ..Options::default() };
            answer.warnings.extend(cargo::populate(self, crates, options)?);
            return Ok(Left::Nothing);
        }
        let stock = Stock { shelf: &shelf, beside, installed };
        let changed = self.change(session, project, (plan, part), stock, force, answer);
        let how = if changed.is_ok() { Transacted::Committed } else { Transacted::Failed };
        self.shop.measures.transacted(how);
        let left = changed?;
        // What the device may still refuse is told when it has it, or nobody waits for that any more.
        if !matches!(left, Left::Device) {
            self.publish(answer);
        }
        Ok(left)
    }

    /// Waits until something large may begin, and tells the caller that it has to; an error where nobody wants it any more, or the
    /// host stops.
    fn begin_heavy(&self) -> Result<Permit> {
        let told = RefCell::new(Vec::new());
        let waits = |wait: Wait| {
            told.borrow_mut().push(wait.obstacle);
            self.conversation.waits(wait);
            self.say("wait", waits_for(wait), 0, 0);
        };
        let cancellation = self.while_it_waits();
        let mut order = Order { cancellation, ..self.order.clone() };
        let asked_at = Instant::now();
        loop {
            let permit = self.shop.host.begin(&order, Undertaking::Heavy, &waits);
            let permit = permit.ok_or_else(|| self.waited_in_vain())?;
            let noted = told.borrow().clone();
            let begins = noted.is_empty() || self.conversation.goes_on(asked_at);
            self.check_wanted()?;
            if begins {
                return Ok(permit);
            }
            // It was others' turn meanwhile, and they may have made it hot again.
            order = Order { asked_at: Some(asked_at), noted, ..order };
        }
    }

    /// Why a plan does not hold: where that is its own work, the transaction is named.
    fn or_applied(&self, digest: &str, project: &Project, error: Error) -> Error {
        let log = self.shop.transactions.history(Some(project), HISTORY_ENTRIES_MAX);
        let is_it = |entry: &HistoryEntry| {
            entry.digest.as_deref() == Some(digest)
                && entry.state == State::Committed
                && entry.undone_by.is_none()
        };
        match log.unwrap_or_default().into_iter().find(is_it) {
            Some(entry) => Error {
                message: format!("the plan was applied as {}; {}", entry.id, error.message),
                ..error
            },
            None => error,
        }
    }

    /// Stages everything beside the project and commits it; what is left to end.
    fn change(
        &self,
        session: &mut Session,
        project: &Project,
        (plan, part): (&Plan, Option<&Part<'_>>),
        stock: Stock<'_>,
        force: bool,
        answer: &mut ApplyAnswer,
    ) -> Result<Left> {
        let began = Instant::now();
        let mut open = session.begin(Purpose {
            operation: plan.operation.clone(),
            digest: answer.digest.clone(),
            actor: self.actor.clone(),
            summary: summary(plan, answer),
        })?;
        let staged = match force {
            true => Ok(()),
            false => pypi::check_others(project, plan),
        };
        let staged = staged.and_then(|()| self.stage_all(&mut open, project, plan, stock, answer));
        let changes = match staged {
            Ok(changes) => changes,
            Err(error) => {
                open.abort(&error.message)?;
                return Err(error);
            }
        };
        lap(answer, "stage", began);
        let began = Instant::now();
        if let Err(error) = stock.beside.written() {
            open.abort(&error.message)?;
            return Err(error);
        }
        self.say("commit", "making it visible", 0, 0);
        // To describe what was staged is the end of unpacking it.
        let hands = self.hands(Work::Unpack);
        let system = part.map(|part| part.change);
        let crew = Some(&hands as _);
        // What is outside of the project, in the store or in cargo's cache, is not taken back with it.
        let is_inside = stock.beside.is_unused() && resolution(plan, Ecosystem::Cargo).is_none();
        let how = self.how_to_answer(is_inside);
        let options = CommitOptions { force, system, crew, ..how };
        let committed = open.commit(&changes, options);
        let notes = session.take_notes();
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                if error.is_sync_failed() {
                    stock.beside.forget();
                }
                return Err(system::failed(error, &notes, part.is_some()));
            }
        };
        answer.warnings.extend(notes);
        npm::settled(session.project(), resolution(plan, Ecosystem::Npm));
        lap(answer, "commit", began);
        if let Some(unfinished) = committed.unfinished {
            answer.warnings.push(format!("tidying up is left to the next command: {unfinished}"));
        }
        answer.kept = committed.kept.map(|path| path.to_string_lossy().into_owned());
        answer.transaction = Some(committed.transaction);
        answer.stored = committed.is_stored;
        Ok(match (committed.is_stored, committed.is_left) {
            (false, _) => Left::Device,
            (true, true) => Left::Rest,
            (true, false) => Left::Nothing,
        })
    }

    /// What of a transaction need not be waited for, where all that it writes is taken back with it.
    fn how_to_answer(&self, is_inside: bool) -> CommitOptions<'static> {
        let unconfirmed = &self.shop.unconfirmed;
        CommitOptions {
            leaves_rest: true,
            leaves_device: is_inside && unconfirmed.is_wanted(),
            confirms_at_once: !unconfirmed.stays(),
            ..CommitOptions::default()
        }
    }

    /// Everything that the plan changes, ready in staging.
    fn stage_all(
        &self,
        open: &mut Open<'_>,
        project: &Project,
        plan: &Plan,
        Stock { shelf, beside, installed }: Stock<'_>,
        answer: &mut ApplyAnswer,
    ) -> Result<Vec<Change>> {
        let hands = self.hands(Work::Unpack);
        let written = open.written();
        // Of what was given it has every path.
        rest::leave(Arc::clone(&written));
        let options = Options {
            crew: &hands,
            verify: self.shop.rules.verify,
            durability: store::Durability::Later,
            cancellation: self.conversation.cancellation(),
            written: Some(&written),
            shelf: Some(shelf),
            prepared: self.shop.preparing.prepared(),
            fresh: beside.filled(),
        };
        let mut changes = Vec::new();
        for rebuild in &plan.environments {
            self.say("stage", format!("building `{}`", rebuild.place), 0, 0);
            changes.push(self.stage(open, project, plan, rebuild, installed, options, answer)?);
        }
        if let Some(resolution) = resolution(plan, Ecosystem::Cargo) {
            answer.warnings.extend(cargo::populate(self, resolution, options)?);
        }
        for edit in &plan.edits {
            let expected = edit.before.clone().map_or(Expected::Absent, Expected::File);
            let live = edit.path.clone();
            changes.push(match &edit.after {
                Some(bytes) => open.stage_file(live, bytes, expected)?,
                None => Change { live, staged: None, environment: None, expected },
            });
        }
        self.check_wanted()?;
        Ok(changes)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all of them are what staging one environment needs"
    )]
    fn stage(
        &self,
        open: &Open<'_>,
        project: &Project,
        plan: &Plan,
        rebuild: &Rebuild,
        installed: &BTreeMap<Ecosystem, Resolution>,
        options: Options<'_>,
        answer: &mut ApplyAnswer,
    ) -> Result<Change> {
        let Rebuild { place, ecosystem } = rebuild;
        let change = |staged| Change {
            live: place.clone(),
            staged,
            environment: Some(*ecosystem),
            expected: Expected::Anything,
        };
        let Some(resolution) = resolution(plan, *ecosystem) else { return Err(damaged(place)) };
        let is_empty = || crate::install::npm::is_empty(resolution, place.as_str());
        if *ecosystem == Ecosystem::Npm && is_empty() {
            return Ok(change(None));
        }
        let index = plan.environments.iter().position(|one| one == rebuild).unwrap_or_default();
        let name = format!("environment-{ecosystem}-{index}");
        let staging = open.staging().join(&name);
        let warnings = match ecosystem {
            Ecosystem::Npm => npm::stage(self, resolution, place, &staging, options)?,
            Ecosystem::Pypi => {
                let before = installed.get(ecosystem);
                pypi::stage(self, project, place, resolution, before, &staging, options)?
            }
            Ecosystem::Cargo | Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {
                return Err(damaged(place));
            }
        };
        answer.warnings.extend(warnings);
        Ok(change(Some(name)))
    }

    /// Tells the bus what was committed.
    fn publish(&self, answer: &ApplyAnswer) {
        let mut payload = Vec::new();
        if ciborium::into_writer(answer, &mut payload).is_ok() {
            self.conversation.publish("event.pkg.committed", &payload);
        }
    }
}

/// What a caller is told who has to wait.
pub(crate) fn waits_for(Wait { obstacle, at_most }: Wait) -> String {
    let what = match obstacle {
        Obstacle::Heat => "waits until the machine is cooler",
        Obstacle::Blind => "waits until it is known how hot the machine is",
        Obstacle::Busy => "waits for its turn",
    };
    match at_most {
        Some(at_most) => format!("{what}, at most {} s", at_most.as_secs()),
        None => what.to_owned(),
    }
}

fn resolution(plan: &Plan, ecosystem: Ecosystem) -> Option<&Resolution> {
    plan.resolutions.iter().find(|resolution| resolution.ecosystem == ecosystem)
}

/// Whether carrying it out keeps all cores busy for long.
fn is_heavy(plan: &Plan) -> bool {
    let built = plan.resolutions.iter().filter(|resolution| is_built(plan, resolution.ecosystem));
    built.map(|resolution| resolution.packages.len()).sum::<usize>() >= HEAVY_PACKAGES_MIN
}

/// Whether the packages of an ecosystem are needed on the disk. Crates always are: cargo's cache may have lost them.
pub(super) fn is_built(plan: &Plan, ecosystem: Ecosystem) -> bool {
    ecosystem == Ecosystem::Cargo
        || plan.environments.iter().any(|environment| environment.ecosystem == ecosystem)
}

fn damaged(place: &RelativePath) -> Error {
    let message = format!("the plan builds `{place}` from nothing");
    Error::new(Kind::Verification, "plan-damaged", message).hint("make a new plan")
}

fn lap(answer: &mut ApplyAnswer, step: &str, began: Instant) {
    answer.times_ms.insert(step.to_owned(), began.elapsed().as_secs_f64() * 1000.0);
}

/// The answer before anything is done: what the plan adds and takes away.
fn described(
    plan: &Plan,
    digest: &str,
    installed: &BTreeMap<Ecosystem, Resolution>,
) -> ApplyAnswer {
    let mut fresh = BTreeSet::new();
    let mut gone = BTreeSet::new();
    for resolution in plan.resolutions.iter().filter(|it| !it.ecosystem.is_of_system()) {
        let purls =
            |packages: &[Package]| packages.iter().map(Package::purl).collect::<BTreeSet<_>>();
        let before = installed.get(&resolution.ecosystem);
        let before = before.map_or_else(BTreeSet::new, |before| purls(&before.packages));
        let after = purls(&resolution.packages);
        fresh.extend(after.difference(&before).cloned());
        gone.extend(before.difference(&after).cloned());
    }
    if let Some(change) = &plan.system {
        let (comes, goes) = system::purls(change);
        fresh.extend(comes);
        gone.extend(goes);
    }
    let edits = plan.edits.iter().map(|edit| edit.path.to_string());
    let environments = plan.environments.iter().map(|environment| environment.place.to_string());
    ApplyAnswer {
        schema: "bolide.apply/1".to_owned(),
        transaction: None,
        digest: Some(digest.to_owned()),
        project: plan.project.path.clone(),
        installed: fresh.into_iter().collect(),
        removed: gone.into_iter().collect(),
        files: edits.chain(environments).collect(),
        warnings: Vec::new(),
        kept: None,
        times_ms: BTreeMap::new(),
        downloaded_bytes: 0,
        stored: true,
    }
}

/// What history shows of it.
fn summary(plan: &Plan, answer: &ApplyAnswer) -> serde_json::Value {
    let requested: Vec<String> =
        plan.requested.iter().take(SUMMARY_PACKAGES_MAX).map(ToString::to_string).collect();
    serde_json::json!({
        "requested": requested,
        "installed": answer.installed.len(),
        "removed": answer.removed.len(),
        PACKAGES: packages(answer),
    })
}

/// What the log keeps of them: all, or as many as have room, and whether that is all.
fn packages(answer: &ApplyAnswer) -> serde_json::Value {
    let mut bytes = 0;
    let mut take = |purls: &[String]| {
        let fits = |purl: &&String| {
            bytes += purl.len() + 3;
            bytes <= SUMMARY_PACKAGES_BYTES_MAX
        };
        purls.iter().take_while(fits).cloned().collect::<Vec<_>>()
    };
    let (added, removed) = (take(&answer.installed), take(&answer.removed));
    let is_whole = added.len() == answer.installed.len() && removed.len() == answer.removed.len();
    serde_json::json!({ "added": added, "removed": removed, "whole": is_whole })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_waits_is_told_for_what_and_how_long() {
        let said = |obstacle, at_most| waits_for(Wait { obstacle, at_most });
        let ten_minutes = Some(Duration::from_secs(600));
        let heat = "waits until the machine is cooler, at most 600 s";
        assert_eq!(said(Obstacle::Heat, ten_minutes), heat);
        assert_eq!(said(Obstacle::Busy, None), "waits for its turn");
        assert!(said(Obstacle::Blind, ten_minutes).ends_with("at most 600 s"));
    }
}
