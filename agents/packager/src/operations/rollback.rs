//! `pkg.rollback`: the state before a transaction, brought back.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agents_contract::{Cancellation, Work};

use super::{Task, system};
use crate::api::{RollbackAnswer, RollbackRequest};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Result};
use crate::limits::RECOVERY_WAIT_MS;
use crate::measures::Transacted;
use crate::transaction::Project;

impl Task<'_> {
    /// Undoes a transaction and all later ones of the project.
    pub(crate) fn rollback(
        &self,
        directory: OwnedFd,
        request: &RollbackRequest,
    ) -> Result<RollbackAnswer> {
        let project = Project::from_fd(directory)?;
        let mut session = self.lock(project.again()?)?;
        let place = project.path().to_string_lossy().into_owned();
        let wanted = request.transaction.as_deref();
        let hands = self.hands(Work::Scan);
        let done = session.rollback_and_leave(wanted, &self.actor, request.force, &hands);
        let mut warnings = session.take_notes();
        let done = done.map_err(|error| system::failed(error, &warnings, false))?;
        if let Some(unfinished) = &done.unfinished {
            warnings.push(format!("tidying up is left to the next command: {unfinished}"));
        }
        if super::npm::is_described(session.project()) {
            let installed = self.installed(session.project())?;
            super::npm::settled(session.project(), installed.get(&Ecosystem::Npm));
        }
        drop(session);
        if done.is_left {
            warnings.extend(self.clear_later(project));
        }
        self.shop.measures.transacted(Transacted::RolledBack);
        let answer = RollbackAnswer {
            schema: "bolide.rollback/1".to_owned(),
            transaction: done.transaction,
            undone: done.taken,
            project: place,
            kept: done.kept.map(|path| path.to_string_lossy().into_owned()),
            warnings,
            visible_ms: done.visible_us as f64 / 1000.0,
        };
        let mut payload = Vec::new();
        if ciborium::into_writer(&answer, &mut payload).is_ok() {
            self.conversation.publish("event.pkg.rolled-back", &payload);
        }
        Ok(answer)
    }

    /// Ends what an answer did not wait for. Whoever locks the project before this does it instead. Answers why that could not be
    /// done, where it was tried at once.
    pub(super) fn clear_later(&self, project: Project) -> Option<String> {
        let transactions = self.shop.transactions.clone();
        let told = Arc::new(Mutex::new(None));
        let failure = Arc::clone(&told);
        let clear = move |stop: &Cancellation| {
            // Whoever works with the lock has done it; a process that is just being started has it for a moment only.
            let wait = Duration::from_millis(RECOVERY_WAIT_MS);
            if let Err(error) = transactions.lock(project, wait, stop) {
                if matches!(error.code.as_str(), "locked" | "cancelled") {
                    tracing::debug!(%error, "what a transaction leaves is for others to end");
                    return;
                }
                tracing::warn!(%error, "what a transaction leaves could not be ended");
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        };
        if self.conversation.has_afterwards() {
            self.shop.aside.hold(Box::new(clear));
            return None;
        }
        self.shop.aside.later(&*self.shop.host, Box::new(clear));
        let error: Option<Error> = told.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.map(|error| format!("tidying up is left to the next command: {error}"))
    }
}
