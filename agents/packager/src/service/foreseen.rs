//! What was begun for a request before the state was opened ([`Agent::foresee`](agents_contract::Agent::foresee)).
//!
//! Its view of the registries is kept for the request itself: who asked there first is who follows what the answers lead to.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use agents_contract::{Conversation, Request};

use super::{Packager, needed, plan_of, read};
use crate::api::{ChangeRequest, PlanRequest, Setting};
use crate::error::{Error, Result};
use crate::io;
use crate::transaction::Project;

/// What one request has begun; nothing where it has taken that, or none was foreseen.
#[derive(Default)]
pub(super) struct Foreseen(Mutex<Option<Begun>>);

struct Begun {
    setting: Setting,
    place: PathBuf,
    registries: io::Client,
}

impl Foreseen {
    fn keep(&self, begun: Begun) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }

    /// The registries as they were asked for the same caller in the same place.
    pub(super) fn take(&self, setting: &Setting, place: &Path) -> Option<io::Client> {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |it: &mut Begun| it.setting == *setting && it.place == place;
        begun.take_if(is_same).map(|begun| begun.registries)
    }
}

impl Packager {
    /// Begins what a request will wait for. An error is one that the request itself will end with.
    pub(super) fn begin(&self, request: &Request, conversation: &dyn Conversation) -> Result<()> {
        let Some(plan) = planned(&request.tool, &request.payload)? else { return Ok(()) };
        let directory = needed(request.directory.as_ref())?;
        let copy = directory
            .try_clone()
            .map_err(|error| Error::io("duplicate", Path::new("."), &error))?;
        // Which registry is asked may stand in a manifest that a crash has left half changed, or that somebody is changing.
        let project = Project::from_fd(copy)?;
        if !self.shop.transactions.is_at_rest(&project)? {
            return Ok(());
        }
        let asker = (&request.caller, request.priority, conversation);
        let task = self.task(asker, plan.setting.clone(), Some(directory))?;
        if task.foresee(&project, &plan)? {
            let place = super::place_of(directory)?;
            let (setting, registries) = (task.setting.clone(), task.registries.clone());
            self.foreseen.keep(Begun { setting, place, registries });
        }
        Ok(())
    }
}

/// What a request has planned; nothing where it plans nothing.
fn planned(tool: &str, payload: &[u8]) -> Result<Option<PlanRequest>> {
    match tool {
        "pkg.plan" => read(payload).map(Some),
        "pkg.install" | "pkg.remove" | "pkg.update" => {
            let request: ChangeRequest = read(payload)?;
            // Who may carry out nothing asks nobody.
            request.setting.options.check_here()?;
            Ok(Some(plan_of(tool, request)))
        }
        _ => Ok(None),
    }
}
