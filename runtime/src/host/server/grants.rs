//! What requests bring along: the directory in which a tool is to work. It comes over the socket, and the request that names it over
//! shared memory, so a call waits aside until it is there. One that its granter wants kept ([`GrantId::is_kept`]) stays with the
//! link for the requests after it; of each link that is the last one, until the link ends.

use std::time::Instant;

use ipc::client::ClientError;
use ipc::closer::Foreign;
use ipc::header::{GrantId, LaneId};

use super::super::calls::{Call, tool_error};
use super::{Server, refuse};
use crate::limits::GRANT_PATIENCE;

/// A directory that stays with a link.
pub(super) struct KeptDirectory {
    number: GrantId,
    directory: Foreign,
}

impl Server {
    /// Lets a call wait for its turn where all that it names is here, otherwise for what it names.
    pub(super) fn admit(&mut self, mut call: Call) {
        let Some(grant) = call.request.grants.first().copied() else { return self.enqueue(call) };
        match self.kept_directory(call.link.lane, grant) {
            Some(directory) => {
                call.directory = Some(directory);
                self.discard_surplus(&mut call);
                self.enqueue(call);
            }
            None => self.ungranted.push((call, Instant::now() + GRANT_PATIENCE)),
        }
    }

    /// Fetches the directories of calls that wait for them. All that has come is taken in first: one call must not take another's
    /// packet from the socket after that one was looked for, and nobody wake for it again.
    pub(super) fn take_grants(&mut self) -> Result<(), ClientError> {
        if self.ungranted.is_empty() {
            return Ok(());
        }
        self.client.take_in()?;
        let now = Instant::now();
        for (mut call, until) in std::mem::take(&mut self.ungranted) {
            let lane = call.link.lane;
            let Some(grant) = call.request.grants.first().copied() else { continue };
            self.discard_surplus(&mut call);
            if let Some(directory) = self.directory(lane, grant) {
                call.directory = Some(directory);
                self.enqueue(call);
            } else if now < until {
                self.ungranted.push((call, until));
            } else {
                let error = ClientError::NoGrant { lane, grant };
                let refusal = tool_error("no-grant", error.to_string(), true);
                refuse(&call.link, &call.request, &refusal);
                // It may still come, and then it serves nothing.
                self.discard_grants(lane, &[grant]);
            }
        }
        Ok(())
    }

    /// Closes what was granted for a request that nobody will serve. What is kept was for more than that one.
    pub(super) fn discard_grants(&mut self, lane: LaneId, grants: &[GrantId]) {
        let kept = self.links.get(&lane).and_then(|served| served.kept.as_ref());
        let kept = kept.map(|kept| kept.number);
        for grant in grants.iter().filter(|grant| Some(**grant) != kept) {
            self.client.discard_grants(lane, &[*grant]);
        }
    }

    /// A tool works in one directory; what else was granted serves nothing.
    fn discard_surplus(&mut self, call: &mut Call) {
        let surplus: Vec<GrantId> = call.request.grants.drain(1..).collect();
        self.discard_grants(call.link.lane, &surplus);
    }

    /// What was granted, where it has come.
    fn directory(&mut self, lane: LaneId, grant: GrantId) -> Option<Foreign> {
        let Some(granted) = self.client.held_grant(lane, grant) else {
            return self.kept_directory(lane, grant);
        };
        let directory = Foreign::new(granted, Some(&self.closer), lane.0);
        // One that cannot be kept, for want of a descriptor, serves this call.
        if grant.is_kept()
            && let Some(served) = self.links.get_mut(&lane)
            && let Ok(copy) = directory.try_clone()
        {
            served.kept = Some(KeptDirectory { number: grant, directory: copy });
        }
        Some(directory)
    }

    /// What the link has kept under this number.
    fn kept_directory(&self, lane: LaneId, grant: GrantId) -> Option<Foreign> {
        let kept = self.links.get(&lane)?.kept.as_ref()?;
        if kept.number != grant {
            return None;
        }
        kept.directory.try_clone().ok()
    }
}
