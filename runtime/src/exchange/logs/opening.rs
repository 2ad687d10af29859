//! Which logs are open: each agent has a share, and one that is opened takes the place of one that nobody uses.
//!
//! Nothing is closed for a log before that log is open, so names of logs that do not exist cost nobody anything.

use std::sync::Arc;

use agents_contract::ToolError;
use ipc::exchange::log as wire;

use super::hands::DiskJob;
use super::{LogKey, Logs, Served, Why, refuse};
use crate::exchange::queue::NameId;
use crate::limits::{LOGS_OPEN_MAX, LOGS_OPEN_PER_AGENT_MAX, LOGS_OPENING_MAX};

impl Logs {
    /// The log of this name, opened where it is not; `Err` says what to wait for, or why there is none. With options a log is made
    /// where there is none. A log that is not open is charged to `opener`.
    pub(super) fn find(
        &mut self,
        name: &str,
        options: Option<wire::Options>,
        opener: Option<NameId>,
    ) -> Result<LogKey, Result<Why, ToolError>> {
        if let Some(key) = self.names.get(name).copied() {
            let Some(served) = self.logs.get_mut(&key) else { return Ok(key) };
            self.last_key += 1;
            served.used = self.last_key;
            return if served.open.is_some() { Ok(key) } else { Err(Ok(Why::Opening(key))) };
        }
        if name.is_empty() {
            return Err(Err(refuse::no_name()));
        }
        self.may_open(opener).map_err(Err)?;
        self.last_key += 1;
        let (key, name) = (LogKey(self.last_key), Arc::<str>::from(name));
        let directory = self.directory.clone();
        let machinery = self.machinery().map_err(|error| Err(refuse::no_threads(&error)))?;
        let committer = machinery.committer.clone();
        let job = DiskJob::Open { key, name: Arc::clone(&name), directory, options, committer };
        machinery.disk.give(job).map_err(|_| Err(refuse::busy()))?;
        let used = self.last_key;
        self.logs.insert(key, Served { name: Arc::clone(&name), used, opener, open: None });
        self.names.insert(name, key);
        Err(Ok(Why::Opening(key)))
    }

    /// Whether one more log may be opened for an agent.
    fn may_open(&self, opener: Option<NameId>) -> Result<(), ToolError> {
        let opening = self.logs.values().filter(|served| served.open.is_none()).count();
        if opening >= LOGS_OPENING_MAX {
            return Err(refuse::busy());
        }
        let is_charged = |served: &Served| opener.is_some() && served.opener == opener;
        let own = self.logs.iter().filter(|(_, served)| is_charged(served));
        if own.filter(|(key, served)| !self.is_idle(**key, served)).count()
            >= LOGS_OPEN_PER_AGENT_MAX
        {
            return Err(refuse::too_many_of_agent());
        }
        Ok(())
    }

    /// Whether nobody uses a log that is open.
    fn is_idle(&self, key: LogKey, served: &Served) -> bool {
        let of =
            |why| matches!(why, Why::Opening(of) | Why::Disk(of) | Why::Followers(of) if of == key);
        let open = served.open.as_ref();
        open.is_some_and(|open| open.followers.is_empty() && open.waiting.is_empty())
            && !self.held.values().any(|held| of(held.wait.why))
    }

    /// Takes in a log that was opened: closes the one that its opener, or else anybody, has not used for longest where there are
    /// more than may be. Where all are in use the new one is closed.
    pub(super) fn make_place(&mut self, key: LogKey) -> Result<(), ToolError> {
        let opener = self.logs.get(&key).and_then(|served| served.opener);
        let is_own = |served: &Served| opener.is_some() && served.opener == opener;
        self.close_surplus(key, LOGS_OPEN_PER_AGENT_MAX, is_own, refuse::too_many_of_agent)?;
        self.close_surplus(key, LOGS_OPEN_MAX, |_| true, refuse::too_many_open)
    }

    fn close_surplus(
        &mut self,
        kept: LogKey,
        max: usize,
        is_counted: impl Fn(&Served) -> bool,
        refused: fn() -> ToolError,
    ) -> Result<(), ToolError> {
        loop {
            let open = self.logs.iter().filter(|(_, served)| served.open.is_some());
            let counted = open.filter(|(_, served)| is_counted(served));
            if counted.clone().count() <= max {
                return Ok(());
            }
            let others = counted.filter(|(key, _)| **key != kept);
            let idle = others.filter(|(key, served)| self.is_idle(**key, served));
            let oldest = idle.min_by_key(|(_, served)| served.used).map(|(key, _)| *key);
            self.close(oldest.ok_or_else(refused)?);
        }
    }

    /// Forgets an opening. What follows it goes on with the next one.
    pub(super) fn close(&mut self, key: LogKey) {
        let Some(served) = self.logs.remove(&key) else { return };
        self.names.remove(&served.name);
        self.syncing.remove(&key);
        let Some(open) = served.open else { return };
        for id in &open.followers {
            if let Some(follower) = self.followers.get_mut(id) {
                follower.detach();
                self.hungry.insert(*id);
            }
        }
        // On the thread that opens, so that it is closed before it is opened again. Where that one is busy, it waits here.
        if let Some(machinery) = &mut self.machinery
            && let Err(DiskJob::Close(log)) =
                machinery.disk.give(DiskJob::Close(Box::new(open.log)))
        {
            drop(log);
        }
    }
}
