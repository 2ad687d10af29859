//! One answer to one changed project: what its policy says, done as a request of its own.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use agents_contract::{Cancellation, Conversation, Obstacle, Order, Station, Wait};
use serde::Serialize;

use super::seen::Seen;
use super::shown::{APPLYING, DEFERRED, Page, Standing};
use super::turns::{Turn, Turns};
use super::under_way::{Deferred, Terms};
use crate::api::{Action, PlanAnswer, Setting, WatchPolicy};
use crate::error::{Error, Kind, Result};
use crate::limits::{BESIDE_MAX, LEFTOVERS_TIME};
use crate::measures::Trigger;
use crate::operations::confirm::UNCONFIRMED;
use crate::operations::{Shop, Task, apply};
use crate::transaction::{Beside, Project, Reads, WatchOutcome, WatchRow};

/// How urgent what nobody waits for is, 1 to 10.
const PRIORITY: u8 = 3;

/// Why one waits for which it is cool enough.
const WAITS_FOR_OTHERS: &str = "waits until other changes that have waited, too, are applied";

/// What is said of one that is being applied now.
const HAS_WAITED: &str = "it has waited for a cooler machine";

/// What an answer tells the one who began it.
pub(super) enum Step {
    /// It waits, and has begun nothing.
    Waits(Deferred),
    /// It waits no more.
    GoesOn,
}

/// Whether an answer is still wanted, whom it tells, and where it takes its turn after a wait.
#[derive(Clone, Copy)]
pub(super) struct Commission<'a> {
    pub(super) wanted: &'a Cancellation,
    pub(super) tell: &'a (dyn Fn(Step) + Send + Sync),
    pub(super) turns: &'a Arc<Turns>,
}

/// `event.manifest.changed`, and after it `event.manifest.answered`, if nothing else is wanted before; in between perhaps
/// `event.manifest.deferred`, once for each thing that it waits for, and `event.manifest.applying` after it.
#[derive(Clone, Debug, Serialize)]
struct Event<'a> {
    schema: &'static str,
    project: &'a str,
    policy: WatchPolicy,
    /// The manifests that are there.
    manifests: &'a [&'static str],
    /// What came of it, or `deferred` and `applying` before that; nothing in the first event.
    outcome: Option<&'static str>,
    /// The plan's digest, where there is one.
    digest: Option<&'a str>,
    message: &'a str,
}

/// What came of a change, for the one who began the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Whether to try again later.
    pub(super) again: bool,
    /// What of the project matters from now on beside its root, where that is news.
    pub(super) beside: Option<Arc<Beside>>,
}

/// What came of it.
struct Answered {
    trigger: Trigger,
    digest: Option<String>,
    message: String,
}

impl Done {
    /// Nothing, and nothing more to do.
    pub(super) const NOTHING: Self = Self { again: false, beside: None };
    /// Something that may pass was in the way.
    pub(super) const AGAIN: Self = Self { again: true, beside: None };
}

/// Answers a change in the project at `path`, if it is one.
pub(super) fn answer(
    shop: &Shop,
    station: &dyn Station,
    path: &Path,
    commission: Commission<'_>,
) -> Done {
    let path = path.to_string_lossy();
    let row = match shop.transactions.watched(&path) {
        Ok(Some(row)) => row,
        Ok(None) => return Done::NOTHING,
        Err(error) => {
            tracing::warn!(%error, "a watched project was not read");
            return Done::AGAIN;
        }
    };
    // One that is not there is answered when it comes.
    let Ok(project) = Project::open(Path::new(&row.path)) else { return Done::NOTHING };
    let seen = match Seen::now(&project, &beside(&row)) {
        Ok(seen) => seen,
        Err(error) => return note(shop, &row, None, &failed(&error), error.retry),
    };
    if row.seen.as_deref() == Some(&seen.digest) {
        return Done::NOTHING;
    }
    // The host is stopping: the next start finds the change.
    let Some(_busy) = station.begin() else { return Done::NOTHING };
    shop.leftovers.try_again_for(Some(LEFTOVERS_TIME));
    let (policy, setting) = match meaning(&row) {
        Ok(terms) => terms,
        Err(error) => return note(shop, &row, Some(&seen), &failed(&error), false),
    };
    let event = Event {
        schema: "bolide.manifest-event/1",
        project: &row.path,
        policy,
        manifests: &seen.root.names,
        outcome: None,
        digest: None,
        message: "",
    };
    publish(station, "event.manifest.changed", &event);
    let alone = Alone {
        shop,
        station,
        row: &row,
        seen: Mutex::new(seen.clone()),
        commission,
        event,
        page: shop.shown.page(Path::new(&row.path)),
        turn: Mutex::default(),
        told: Mutex::default(),
    };
    let done = catch_unwind(AssertUnwindSafe(|| carry_out(&alone, project, (policy, setting))))
        .unwrap_or_else(|panic| Err(failed_inside(&row, &*panic)));
    shop.tidy_later();
    shop.prepare_later();
    let (answered, again) = match done {
        Ok(answered) => (answered, false),
        // Something else is wanted by now, or the host stops: nobody has answered, and nothing is to be told.
        // The same where the disk has not said yet whether it took what was applied: the next look finds out.
        Err(error) if ["cancelled", "plan-stale", UNCONFIRMED].contains(&&*error.code) => {
            return Done::AGAIN;
        }
        // What may pass is tried again, and until then the change counts as not answered.
        Err(error) => (failed(&error), error.retry),
    };
    alone.tell(&answered);
    let seen = lock(&alone.seen).clone();
    // What was applied has written the lock. Where nothing else has changed, that is no change to answer.
    let written = match answered.trigger {
        Trigger::Applied => Project::open(Path::new(&*path))
            .and_then(|project| Seen::now(&project, &seen.beside))
            .ok()
            .filter(|now| now.wishes == seen.wishes),
        _ => None,
    };
    let seen = written.unwrap_or(seen);
    note(shop, &row, (!again).then_some(&seen), &answered, again)
}

/// The digest of what is in the manifests of the project at `path` now, and in what else of it matters; nothing where they cannot be read.
pub(super) fn digest_at(path: &Path, beside: &Arc<Beside>) -> Option<String> {
    let seen = Project::open(path).and_then(|project| Seen::now(&project, beside));
    seen.ok().map(|seen| seen.digest)
}

/// What was read to answer the last change, beside the root's manifests. What cannot be understood is read anew with the next one.
pub(super) fn beside(row: &WatchRow) -> Arc<Beside> {
    let kept = row.beside.as_deref().and_then(|beside| serde_json::from_str(beside).ok());
    Arc::new(kept.unwrap_or_default())
}

/// What the project of a row is watched with.
pub(super) fn terms(row: &WatchRow) -> Terms {
    (row.policy.clone(), row.setting.clone(), row.added_at_ms)
}

fn meaning(row: &WatchRow) -> Result<(WatchPolicy, Setting)> {
    let policy = WatchPolicy::from_name(&row.policy).ok_or_else(|| super::damaged(&row.policy))?;
    let setting = serde_json::from_str(&row.setting).map_err(|error| super::damaged(&error))?;
    Ok((policy, setting))
}

fn carry_out(
    alone: &Alone<'_>,
    project: Project,
    (policy, setting): (WatchPolicy, Setting),
) -> Result<Answered> {
    let order = Order {
        requester: requester(alone.row),
        priority: PRIORITY,
        cancellation: alone.commission.wanted.clone(),
        asked_at: None,
        noted: Vec::new(),
    };
    let actor =
        format!("watch ({}), set by uid {}", policy.name(), rustix::process::geteuid().as_raw());
    let place = project.path().to_owned();
    let task = Task::new(alone.shop, alone, (actor, order), setting, place)?;
    let (project, reads) = project.recorded();
    let open = || {
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::DIRECTORY
            | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(project.path(), flags, rustix::fs::Mode::empty())
            .map_err(|errno| Error::io("open", project.path(), &errno.into()))
    };
    let planned = task.plan_install(&project);
    let is_cut = alone.has_read(&reads, planned.is_ok());
    let planned = planned?;
    let Some(digest) = planned.digest else {
        let explanation = planned.answer.conflict.map(|conflict| conflict.explanation);
        let message = explanation.unwrap_or_default();
        return Ok(Answered { trigger: Trigger::Conflict, digest: None, message });
    };
    let mut message = summary(&planned.answer);
    if is_cut {
        let more = format!(
            "; beside its root {BESIDE_MAX} files and directories are watched, more are there"
        );
        message.push_str(&more);
    }
    if planned.answer.files.is_empty() && planned.answer.removed.is_empty() {
        return Ok(Answered { trigger: Trigger::InLine, digest: None, message });
    }
    let trigger = match policy {
        WatchPolicy::Plan => Trigger::Planned,
        WatchPolicy::Approve => Trigger::Approval,
        WatchPolicy::Apply => {
            let applied = task.apply(open()?, &digest, (true, false))?;
            if let (false, Some(transaction)) = (applied.stored, &applied.transaction) {
                alone.shop.confirm_one(&project, transaction, alone.commission.wanted)?;
            }
            // Nobody else is told what was to be told of earlier transactions.
            for warning in &applied.warnings {
                message.push_str("; ");
                message.push_str(warning);
            }
            Trigger::Applied
        }
    };
    Ok(Answered { trigger, digest: Some(digest), message })
}

/// Each project is one of its own: what it fetches from a registry that trickles holds up no other one. There are as many of them as
/// answers, of which a few work and a bounded number waits.
fn requester(row: &WatchRow) -> Arc<str> {
    Arc::from(format!("watch {}", row.path))
}

/// One line for people.
fn summary(plan: &PlanAnswer) -> String {
    let count = |action| plan.packages.iter().filter(|package| package.action == action).count();
    let (added, changed) = (count(Action::Add), count(Action::Change));
    let removed = plan.removed.len();
    match (added, changed, removed) {
        (0, 0, 0) if plan.files.is_empty() => "nothing to do".to_owned(),
        (0, 0, 0) => format!("the same packages; writes {}", plan.files.join(", ")),
        _ => {
            let packages = if added == 1 { "package" } else { "packages" };
            format!("{added} {packages} more, {changed} in another version, {removed} less")
        }
    }
}

fn failed(error: &Error) -> Answered {
    let trigger = match error.kind {
        Kind::Conflict => Trigger::Conflict,
        _ => Trigger::Failed,
    };
    let hint = error.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
    Answered { trigger, digest: None, message: format!("{}{hint}", error.message) }
}

/// What panicked is a failure like others, and tried again: it may have had to do with what was there at that moment.
fn failed_inside(row: &WatchRow, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a panic without words");
    tracing::error!(project = row.path, text, "an answer to a change panicked");
    Error::new(Kind::Failed, "panic", format!("the answer failed inside: {text}")).retryable()
}

/// Writes it down.
fn note(
    shop: &Shop,
    row: &WatchRow,
    seen: Option<&Seen>,
    answered: &Answered,
    again: bool,
) -> Done {
    let last = WatchOutcome {
        outcome: answered.trigger.name().to_owned(),
        digest: answered.digest.clone(),
        message: answered.message.clone(),
        at_ms: shop.transactions.now_ms(),
    };
    let beside = seen.map(|seen| serde_json::to_string(&*seen.beside).unwrap_or_default());
    let kept = seen.zip(beside.as_deref()).map(|(seen, beside)| (seen.digest.as_str(), beside));
    if let Err(error) = shop.transactions.watch_answered(row, kept, &last) {
        tracing::warn!(%error, "what came of a watched project was not written down");
    }
    let news = seen.filter(|seen| row.beside != beside && *seen.beside != Beside::default());
    Done { again, beside: news.map(|seen| Arc::clone(&seen.beside)) }
}

fn publish(station: &dyn Station, subject: &str, event: &Event<'_>) {
    let mut payload = Vec::new();
    if ciborium::into_writer(event, &mut payload).is_ok() {
        station.publish(subject, &payload);
    }
}

/// The conversation of work that nobody asked for.
struct Alone<'a> {
    shop: &'a Shop,
    station: &'a dyn Station,
    row: &'a WatchRow,
    /// The manifests that it answers.
    seen: Mutex<Seen>,
    commission: Commission<'a>,
    event: Event<'a>,
    page: Page<'a>,
    /// Where it goes on after a wait.
    turn: Mutex<Option<Turn>>,
    /// What those who listen were told that it waits for.
    told: Mutex<Vec<Obstacle>>,
}

impl Alone<'_> {
    /// This was read of the project to plan it; all that there is to read where there `is_plan`. Whether it is more than is watched.
    fn has_read(&self, reads: &Reads, is_plan: bool) -> bool {
        let mut seen = lock(&self.seen);
        *seen = seen.with_read(reads.so_far(), is_plan);
        seen.beside.is_cut
    }

    /// How it stands with it from now on, for those who look, those who listen, and who began it: it waits for this, or goes on.
    fn stands(&self, obstacle: Option<Obstacle>, message: &str) {
        let (outcome, subject) = match obstacle {
            Some(_) => (DEFERRED, "event.manifest.deferred"),
            None => (APPLYING, "event.manifest.applying"),
        };
        let at_ms = self.shop.transactions.now_ms();
        self.page.show(Standing { outcome, message: message.to_owned(), at_ms });
        let is_news = obstacle.is_none_or(|obstacle| {
            let mut told = lock(&self.told);
            let is_news = !told.contains(&obstacle);
            told.extend(is_news.then_some(obstacle));
            is_news
        });
        if is_news {
            let event = Event { outcome: Some(outcome), message, ..self.event.clone() };
            publish(self.station, subject, &event);
        }
        (self.commission.tell)(match obstacle {
            Some(obstacle) => {
                let Seen { digest: seen, beside, .. } = lock(&self.seen).clone();
                Step::Waits(Deferred { terms: terms(self.row), seen, beside, obstacle })
            }
            None => Step::GoesOn,
        });
    }

    /// What came of it, for those who listen.
    fn tell(&self, answered: &Answered) {
        let event = Event {
            outcome: Some(answered.trigger.name()),
            digest: answered.digest.as_deref(),
            message: &answered.message,
            ..self.event.clone()
        };
        publish(self.station, "event.manifest.answered", &event);
        if answered.trigger == Trigger::Approval {
            publish(self.station, "event.approval.requested", &event);
        }
        self.shop.measures.triggered(answered.trigger);
        self.station.changed();
    }
}

/// Each is changed in one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Conversation for Alone<'_> {
    /// Nobody listens.
    fn progress(&self, _payload: &[u8]) {}

    fn cancellation(&self) -> &Cancellation {
        self.commission.wanted
    }

    fn publish(&self, subject: &str, payload: &[u8]) {
        self.station.publish(subject, payload);
    }

    /// Minutes may pass: people are told, and others answered meanwhile. It had its turn where others made it hot in front of it; now those
    /// have theirs whom heat holds up no more.
    fn waits(&self, wait: Wait) {
        let turn = lock(&self.turn).take();
        drop(turn);
        self.stands(Some(wait.obstacle), &apply::waits_for(wait));
    }

    /// Others may go on in the same moment: it still waits until it is its turn, and is given up like before. Minutes later the machine
    /// may be hot again, so it asks again with its turn kept: it begins with both.
    fn goes_on(&self, asked_at: Instant) -> bool {
        let has_turn = lock(&self.turn).is_some();
        let had_to_wait = Cell::new(false);
        if !has_turn {
            let waits = || {
                had_to_wait.set(true);
                self.stands(Some(Obstacle::Busy), WAITS_FOR_OTHERS);
            };
            let turn = self.commission.turns.take((self.commission.wanted, asked_at), waits);
            let Some(turn) = turn else { return false };
            *lock(&self.turn) = Some(turn);
        }
        if had_to_wait.get() {
            return false;
        }
        self.stands(None, HAS_WAITED);
        true
    }
}

#[cfg(test)]
mod tests;
