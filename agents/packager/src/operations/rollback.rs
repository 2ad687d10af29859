//! `pkg.rollback`: the state before a transaction, brought back.

use std::os::fd::OwnedFd;

use super::Task;
use crate::api::{RollbackAnswer, RollbackRequest};
use crate::error::Result;
use crate::measures::Transacted;
use crate::transaction::Project;

impl Task<'_> {
    /// Undoes a transaction and all later ones of the project.
    pub(crate) fn rollback(
        &self,
        directory: OwnedFd,
        request: &RollbackRequest,
    ) -> Result<RollbackAnswer> {
        let mut session = self.lock(Project::from_fd(directory)?)?;
        let project = session.project().path().to_string_lossy().into_owned();
        let wanted = request.transaction.as_deref();
        let done = session.rollback(wanted, &self.actor, request.force)?;
        self.shop.measures.transacted(Transacted::RolledBack);
        let answer = RollbackAnswer {
            schema: "bolide.rollback/1".to_owned(),
            transaction: done.transaction,
            undone: done.taken,
            project,
            kept: done.kept.map(|path| path.to_string_lossy().into_owned()),
            warnings: session.take_notes(),
            visible_ms: done.visible_us as f64 / 1000.0,
        };
        let mut payload = Vec::new();
        if ciborium::into_writer(&answer, &mut payload).is_ok() {
            self.conversation.publish("event.pkg.rolled-back", &payload);
        }
        Ok(answer)
    }
}
