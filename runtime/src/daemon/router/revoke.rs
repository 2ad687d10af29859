//! Revocation: a permission that was given is taken back. The control page says so, both sides are told, and the router
//! forgets the link; what is left of it is memory that only the two still map.
//!
//! A router cannot unmap what it handed out. So what revocation holds back is: everything that needs the router (grants, a new
//! link, the peer's answers to whoever keeps the rules), and of class NORMAL every further byte, because the socket is cut.

use ipc::control::FromRouter;
use ipc::header::{AgentId, LaneId};

use super::{Effects, Ending, Lane, Refusal, Router, lane_closed, send, shortened};

impl<D: Clone> Router<D> {
    /// `Revoke`: ends one link or topic of an agent, or all.
    pub(super) fn revoke(
        &mut self,
        asker: AgentId,
        request: u32,
        (name, lane): (&str, LaneId),
        reason: String,
        out: &mut Effects<D>,
    ) {
        let lanes = match self.may_revoke(asker, name, lane) {
            Ok(lanes) => lanes,
            Err((code, message)) => return self.refuse(asker, request, code, message, out),
        };
        let reason = format!("the permission was revoked: {}", shortened(reason));
        let mut count = 0;
        for lane in lanes {
            count += u32::from(self.revoke_lane(lane, &reason, out));
        }
        send(out, asker, FromRouter::Revoked { request, count });
    }

    fn may_revoke(&self, asker: AgentId, name: &str, lane: LaneId) -> Result<Vec<LaneId>, Refusal> {
        if self.agents.get(&asker).is_none_or(|agent| agent.hosted) {
            return Err(("unauthorized", "a hosted agent revokes nothing".to_owned()));
        }
        let agent = self.names.get(name).and_then(|id| self.agents.get(id));
        let Some(agent) = agent else {
            return Err(("no-such-target", format!("no agent is named `{name}`")));
        };
        let mut lanes = agent.links.iter().chain(&agent.topics).copied();
        if lane == LaneId(0) {
            return Ok(lanes.collect());
        }
        match lanes.find(|held| *held == lane) {
            Some(lane) => Ok(vec![lane]),
            None => Err(("no-such-target", format!("`{name}` has no lane {}", lane.0))),
        }
    }

    /// Ends an open link or a topic. An offer is nothing yet that could be taken back.
    fn revoke_lane(&mut self, lane: LaneId, reason: &str, out: &mut Effects<D>) -> bool {
        match self.lanes.get(&lane) {
            Some(Lane::Link(link)) => {
                let opener = link.opener;
                self.end_link(lane, opener, Ending::Revoked, reason, out);
                send(out, opener, lane_closed(lane, Ending::Revoked, reason));
                true
            }
            Some(Lane::Topic(topic)) => {
                let writer = topic.writer;
                self.end_topic(lane, Ending::Revoked, reason, out);
                if let Some(agent) = self.agents.get_mut(&writer) {
                    agent.topics.remove(&lane);
                }
                send(out, writer, lane_closed(lane, Ending::Revoked, reason));
                true
            }
            Some(Lane::Offer(_)) | None => false,
        }
    }
}
