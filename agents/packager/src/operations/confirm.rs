//! Installations that were answered before the disk had them: confirmed there right after their answers.
//!
//! The session of each has its project's lock until then, so whoever comes next waits for that much and builds upon nothing that is
//! not there. A process that ends in between leaves it to the next one to take the lock. What the disk refuses is taken back: in
//! history, in the log, in the measures, and in the next answer in that project.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use agents_contract::{Cancellation, Station};

use super::limits::{CONFIRMED_LOOK_BACK, UNCONFIRMED_PROJECTS_MAX};
use super::{Shop, Task};
use crate::api::ApplyAnswer;
use crate::error::{Error, Kind, Result};
use crate::limits::LOCK_WAIT_SECONDS;
use crate::transaction::{Durability, Outcome, Project, Recovered, Session, State};

/// The error of a transaction whose end is not known yet.
pub(crate) const UNCONFIRMED: &str = "not-confirmed";

/// Who was answered and not confirmed yet.
pub(crate) struct Unconfirmed {
    /// What the machine's owner wants.
    durability: Durability,
    /// Whether this process goes on when it has answered.
    stays: AtomicBool,
    /// Where it tells what was taken back, as long as it serves.
    station: OnceLock<Weak<dyn Station>>,
    sessions: Mutex<Vec<Session>>,
    /// Projects in which that did not come to an end, to be tried again after later answers and when this process ends.
    left: Mutex<Vec<Project>>,
}

impl Unconfirmed {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            durability,
            stays: AtomicBool::new(false),
            station: OnceLock::new(),
            sessions: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// This process serves: somebody will call [`Shop::confirm`] after each answer.
    pub(crate) fn stay(&self, station: &Arc<dyn Station>) {
        let _ = self.station.set(Arc::downgrade(station));
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Tells the bus what was taken back after it was told of as committed.
    fn publish(&self, ended: &[Recovered]) {
        let Some(station) = self.station.get().and_then(Weak::upgrade) else { return };
        for one in ended.iter().filter(|one| one.outcome == Outcome::Undone) {
            let event = serde_json::json!({
                "schema": "bolide.taken-back/1",
                "project": one.project,
                "transaction": one.transaction,
            });
            let mut payload = Vec::new();
            if ciborium::into_writer(&event, &mut payload).is_ok() {
                station.publish("event.pkg.taken-back", &payload);
            }
        }
    }

    /// Whether it does.
    pub(super) fn stays(&self) -> bool {
        self.stays.load(Ordering::Relaxed)
    }

    /// Whether an installation need not wait.
    pub(super) fn is_wanted(&self) -> bool {
        self.durability == Durability::AfterAnswer
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Vec<Project>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a project to be tried again; where there are too many, the next command there does it.
    fn leave(&self, project: &Project) {
        let mut left = self.left();
        let is_known = left.iter().any(|it| it.identity() == project.identity());
        if !is_known && left.len() < UNCONFIRMED_PROJECTS_MAX {
            left.extend(project.again());
        }
    }

    /// Those of a project, or all.
    fn take(&self, project: Option<&Project>) -> Vec<Session> {
        let mut sessions = self.lock();
        let is_wanted = |it: &mut Session| {
            project.is_none_or(|project| project.identity() == it.project().identity())
        };
        sessions.extract_if(.., is_wanted).collect()
    }
}

impl Shop {
    /// Waits for the disk where somebody was answered before, and tries once more where that had not come to an end.
    pub(crate) fn confirm(&self) {
        let left = std::mem::take(&mut *self.unconfirmed.left());
        // What it would tell was logged.
        let _ = self.confirm_all(self.unconfirmed.take(None));
        for project in left {
            let Ok(again) = project.again() else { continue };
            // Whoever has the lock has ended it, or failed and is told.
            match self.transactions.lock(again, Duration::ZERO, Cancellation::NEVER) {
                Err(error) if error.code != "locked" => {
                    let place = project.path().display();
                    tracing::debug!(project = %place, %error, "still not confirmed");
                    self.unconfirmed.leave(&project);
                }
                _ => {}
            }
        }
    }

    /// The same in one project.
    ///
    /// # Errors
    /// Where the disk refused something, nobody else can know it, and it could not be taken back: nobody may go on there.
    pub(super) fn confirm_in(&self, project: &Project) -> Result<()> {
        self.confirm_all(self.unconfirmed.take(Some(project)))
    }

    /// The same of one transaction for whoever says more of it than an answer: once it is on the disk, or an error where it was taken
    /// back, or that is not known yet ([`UNCONFIRMED`]). Another thread may have begun with it: whoever has the lock ends it.
    pub(crate) fn confirm_one(
        &self,
        project: &Project,
        transaction: &str,
        wanted: &Cancellation,
    ) -> Result<()> {
        let wait = Duration::from_secs(LOCK_WAIT_SECONDS);
        let ended = self.confirm_in(project).and_then(|()| {
            let ended = self.transactions.lock(project.again()?, wait, wanted);
            ended.map(drop)
        });
        ended.map_err(|error| {
            let message = format!("it is not known yet whether the disk has it: {error}");
            Error::new(Kind::Failed, UNCONFIRMED, message).retryable()
        })?;
        let history = self.transactions.history(Some(project), CONFIRMED_LOOK_BACK)?;
        let entry = history.into_iter().find(|entry| entry.id == transaction);
        match entry {
            Some(entry) if entry.state == State::Aborted => {
                let why = entry.error.unwrap_or_default();
                let error = Error::new(Kind::Failed, "not-stored", why);
                Err(error.hint("look at the disk; it is tried again").retryable())
            }
            _ => Ok(()),
        }
    }

    fn confirm_all(&self, sessions: Vec<Session>) -> Result<()> {
        let mut stays = Ok(());
        for mut session in sessions {
            let ended = session.confirm();
            self.unconfirmed.publish(ended.as_deref().unwrap_or_default());
            let failed = ended.map_or_else(Some, |ended| ended.into_iter().find_map(|it| it.error));
            if let Some(error) = failed {
                let project = session.project().path().display();
                tracing::warn!(%project, %error, "what was installed is not confirmed yet; it is tried again");
                self.unconfirmed.leave(session.project());
                if session.has_to_stay() {
                    stays = Err(error);
                    self.unconfirmed.lock().push(session);
                }
            }
        }
        stays
    }
}

impl Drop for Shop {
    /// A clean end leaves as little as it can to the next start.
    fn drop(&mut self) {
        self.confirm();
        self.registries.settle();
    }
}

impl Task<'_> {
    /// Leaves a committed transaction to be confirmed after the answer; here and now where the process ends with its answer.
    pub(super) fn confirm(&self, mut session: Session, answer: &mut ApplyAnswer) -> Result<()> {
        let unconfirmed = &self.shop.unconfirmed;
        if unconfirmed.stays() {
            unconfirmed.lock().push(session);
            return Ok(());
        }
        let ended = session.confirm()?;
        if ended.iter().any(|one| one.outcome == Outcome::Undone) {
            let message = session.take_notes().join("; ");
            let error = Error::new(Kind::Failed, "not-stored", message);
            return Err(error.hint("look at the disk, then try again"));
        }
        let unfinished = ended.into_iter().find_map(|one| one.error);
        answer.stored = unfinished.is_none();
        let left = |error: Error| format!("tidying up is left to the next command: {error}");
        answer.warnings.extend(unfinished.map(left));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use agents_contract::Busy;

    use super::*;

    /// Hears the subjects of what is published.
    #[derive(Default)]
    struct Ear(Mutex<Vec<String>>);

    impl Station for Ear {
        fn publish(&self, subject: &str, payload: &[u8]) {
            let event: serde_json::Value = ciborium::from_reader(payload).expect("an event");
            let transaction = event["transaction"].as_str().unwrap_or_default();
            self.0.lock().expect("a list").push(format!("{subject} {transaction}"));
        }

        fn begin(&self) -> Option<Busy> {
            None
        }

        fn cancellation(&self) -> &Cancellation {
            Cancellation::NEVER
        }

        fn changed(&self) {}
    }

    #[test]
    fn those_who_listen_hear_of_what_was_taken_back() {
        let unconfirmed = Unconfirmed::new(Durability::AfterAnswer);
        let ended = |outcome, transaction: &str| Recovered {
            transaction: transaction.to_owned(),
            project: None,
            outcome,
            error: None,
        };
        let ended = [ended(Outcome::Finished, "tx-1"), ended(Outcome::Undone, "tx-2")];
        unconfirmed.publish(&ended);
        let ear = Arc::new(Ear::default());
        let station: Arc<dyn Station> = ear.clone();
        unconfirmed.stay(&station);
        unconfirmed.publish(&ended);
        assert_eq!(*ear.0.lock().expect("a list"), ["event.pkg.taken-back tx-2"]);
    }
}
