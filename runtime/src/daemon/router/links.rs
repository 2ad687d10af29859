//! Links: open, offer, accept or decline, grant, close; and what lapses.

use std::time::Duration;

use ipc::control::{CloseCause, FromRouter, Terms};
use ipc::header::{AgentId, GrantId, LaneId};

use super::agents::Found;
use super::{
    Agent, Asked, Carry, Effect, Effects, Ending, Half, Lane, Link, Offer, Refusal, Router,
    lane_closed, send, shortened,
};
use crate::limits::{
    DESCRIPTORS_PER_CONNECTION, DESCRIPTORS_PER_LINK, DESCRIPTORS_PER_OFFER, DESCRIPTORS_PER_TOPIC,
    OFFER_TIMEOUT, OFFERS_PER_AGENT_MAX,
};

impl<D: Clone> Router<D> {
    pub(super) fn open_link(
        &mut self,
        opener: AgentId,
        target: &str,
        mut asked: Asked<D>,
        now: Duration,
        out: &mut Effects<D>,
    ) {
        let target = match self.may_open(opener, target) {
            Ok(target) => target,
            Err((code, message)) => {
                return self.refuse(opener, asked.request, code, message, out);
            }
        };
        if self.is_routed(opener, target) {
            return self.want_route(opener, target, asked, now, out);
        }
        asked.terms = match self.settled((opener, target), asked.terms) {
            Ok(terms) => terms,
            Err((code, message)) => {
                return self.refuse(opener, asked.request, code, message, out);
            }
        };
        let from = self.agents.get(&opener).map(|agent| agent.info.clone());
        let Some(from) = from else { return };
        let offered = |lane, terms| FromRouter::LinkOffered { lane, from, terms };
        self.offer((opener, target), asked, None, now, offered, out);
    }

    /// Lists an offer and tells the other side, or refuses where there are no numbers left.
    pub(super) fn offer(
        &mut self,
        (opener, target): (AgentId, AgentId),
        asked: Asked<D>,
        half: Option<Half>,
        now: Duration,
        message: impl FnOnce(LaneId, Terms) -> FromRouter,
        out: &mut Effects<D>,
    ) -> Option<LaneId> {
        let Some(lane) = self.new_lane() else {
            let text = "every lane number of this daemon is spent; restart it".to_owned();
            self.refuse(opener, asked.request, "limit", text, out);
            return None;
        };
        for agent in [opener, target] {
            if let Some(agent) = self.agents.get_mut(&agent) {
                agent.links.insert(lane);
            }
        }
        if let Some(agent) = self.agents.get_mut(&opener) {
            agent.offers_count += 1;
        }
        let lapses_at = now.saturating_add(OFFER_TIMEOUT);
        self.lapses.insert((lapses_at, lane));
        let carry = Carry::Offer(asked.segments.clone());
        let message = message(lane, asked.terms.clone());
        self.lanes.insert(lane, Lane::Offer(Offer { opener, target, asked, lapses_at, half }));
        out.push(Effect::Send { to: target, message, carry });
        Some(lane)
    }

    fn may_open(&self, opener: AgentId, target: &str) -> Result<AgentId, Refusal> {
        if self.draining {
            let text = "the daemon is stopping and opens no new links".to_owned();
            return Err(("draining", text));
        }
        let found = match self.find(opener, target) {
            Found::Agent(found) => found,
            Found::Starting(name) if self.failed.contains_key(&name) => {
                let how = shortened(self.failed.get(&name).cloned().unwrap_or_default());
                let text = format!(
                    "the hosted agent `{name}` failed too often and is not started again; \
                     its last end: {how}"
                );
                return Err(("agent-failed", text));
            }
            Found::Starting(name) => {
                let text = format!("the hosted agent `{name}` is not up; it is being started");
                return Err(("starting", text));
            }
            Found::Nobody => {
                let text = format!("no agent is named `{target}` or answers a tool `{target}`");
                return Err(("no-such-target", text));
            }
        };
        if found == opener {
            return Err(("no-such-target", "an agent cannot open a link to itself".to_owned()));
        }
        self.may_have_more(opener, found).map(|()| found)
    }

    /// Whether both may have one link more.
    pub(super) fn may_have_more(&self, opener: AgentId, target: AgentId) -> Result<(), Refusal> {
        for side in [opener, target] {
            let Some(agent) = self.agents.get(&side) else {
                return Err(("peer-gone", "one of the two left the bus".to_owned()));
            };
            let (name, limits) = (&agent.info.manifest.name, &agent.limits);
            if limits.links.is_exceeded_by(agent.links.len() + 1) {
                let text = format!(
                    "limit `links`: `{name}` already has {}, of at most {}",
                    agent.links.len(),
                    limits.links
                );
                return Err(("limit:links", text));
            }
            if limits.descriptors.is_exceeded_by(agent.descriptors() + DESCRIPTORS_PER_OFFER) {
                let text = format!(
                    "limit `descriptors`: the daemon keeps {} for `{name}`, of at most {}",
                    agent.descriptors(),
                    limits.descriptors
                );
                return Err(("limit:descriptors", text));
            }
        }
        let offers = self.agents.get(&opener).map_or(0, |agent| agent.offers_count);
        if offers >= OFFERS_PER_AGENT_MAX && Some(opener) != self.exchange() {
            let text = format!(
                "limit `offers`: {OFFERS_PER_AGENT_MAX} links are waiting to be accepted already"
            );
            return Err(("limit:offers", text));
        }
        Ok(())
    }

    pub(super) fn accept_link(
        &mut self,
        acceptor: AgentId,
        lane: LaneId,
        (answer, segments): (Terms, D),
        out: &mut Effects<D>,
    ) {
        let terms = match self.lanes.get(&lane) {
            Some(Lane::Offer(offer)) if offer.target == acceptor => {
                self.accepted(acceptor, &offer.asked.terms, answer)
            }
            // Nothing to answer where the offer is not there: it was not its own, or it lapsed, and
            // then `LinkClosed` is on its way already.
            _ => return,
        };
        let terms = match terms {
            Ok(terms) => terms,
            Err((code, text)) => return self.accept_failed(acceptor, lane, (code, &text), out),
        };
        let Some(offer) = self.take_offer(lane, acceptor) else { return };
        // The opener of a route sees whom it is for, not who is on the way.
        let peer = self.seen_peer(offer.half.as_ref(), acceptor);
        let Some(peer) = self.agents.get(&peer).map(|agent| agent.info.clone()) else { return };
        self.offer_answered(offer.opener);
        self.count_class(&terms);
        let Offer { opener, asked: Asked { request, segments: own, .. }, half, .. } = offer;
        self.lanes.insert(lane, Lane::Link(Link { opener, acceptor, class: terms.class, half }));
        let carry = Carry::Ready { peer: segments.clone(), own: own.clone() };
        out.push(Effect::LaneOpened { lane, first: own, second: Some(segments) });
        let message = FromRouter::LinkReady { request, lane, peer, terms };
        out.push(Effect::Send { to: opener, message, carry });
    }

    /// The acceptor's descriptors were no good, or its terms: neither side gets the link.
    pub(super) fn accept_failed(
        &mut self,
        acceptor: AgentId,
        lane: LaneId,
        (code, reason): (&'static str, &str),
        out: &mut Effects<D>,
    ) {
        let Some(offer) = self.take_offer(lane, acceptor) else { return };
        self.unlist(lane, &offer, Ending::Revoked);
        let text = match code {
            "bad-segment" => format!("the other side answered with an unfit segment: {reason}"),
            _ => reason.to_owned(),
        };
        out.push(Effect::OfferEnded { segments: offer.asked.segments, ending: Ending::Revoked });
        self.refuse(offer.opener, offer.asked.request, code, text, out);
        send(out, acceptor, lane_closed(lane, Ending::Revoked, reason));
    }

    pub(super) fn grant(
        &mut self,
        from: AgentId,
        lane: LaneId,
        grant: GrantId,
        granted: D,
        out: &mut Effects<D>,
    ) {
        // A grant for a link that just ended is dropped with the link: its sender has been told.
        let Some(Lane::Link(link)) = self.lanes.get(&lane) else { return };
        let to = match from {
            from if from == link.opener => link.acceptor,
            from if from == link.acceptor => link.opener,
            _ => return,
        };
        // Descriptors do not pass through the exchange.
        let Some((to, lane)) = self.far_end(lane, to) else { return };
        let message = FromRouter::Granted { lane, grant };
        out.push(Effect::Send { to, message, carry: Carry::Grant(granted) });
    }

    /// `CloseLink`: declines an offer, closes a link, ends a topic or leaves one.
    pub(super) fn close_lane(
        &mut self,
        agent: AgentId,
        lane: LaneId,
        (why, reason): (CloseCause, String),
        out: &mut Effects<D>,
    ) {
        let ending = match why {
            CloseCause::Wanted => Ending::Closed,
            CloseCause::Quarantined => Ending::Quarantined,
        };
        match self.lanes.get(&lane) {
            Some(Lane::Offer(offer)) if offer.target == agent => {
                let Some(offer) = self.take_offer(lane, agent) else { return };
                self.unlist(lane, &offer, ending);
                let text = format!("the other side declined: {reason}");
                self.refuse(offer.opener, offer.asked.request, "declined", text, out);
            }
            Some(Lane::Link(link)) if [link.opener, link.acceptor].contains(&agent) => {
                let ending = self.inherited(lane, agent).unwrap_or(ending);
                self.end_link(lane, agent, ending, &reason, out);
            }
            Some(Lane::Topic(topic)) if topic.writer == agent => {
                self.end_topic(lane, ending, &reason, out);
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.topics.remove(&lane);
                }
            }
            // The topic goes on for the others. Where its writer broke the protocol, the reader's cursor says so, and that
            // is what is counted.
            Some(Lane::Topic(topic)) if topic.readers.contains(&agent) => {
                self.leave_topic(lane, agent, out);
            }
            Some(Lane::Topic(_)) => self.decline_topic(lane, agent, out),
            // Not its own, or it ended a moment ago; then `LinkClosed` is on its way.
            _ => {}
        }
    }

    /// Ends an offer or a link because of `by`, and tells the other side.
    pub(super) fn end_link(
        &mut self,
        lane: LaneId,
        by: AgentId,
        ending: Ending,
        reason: &str,
        out: &mut Effects<D>,
    ) {
        match self.lanes.remove(&lane) {
            Some(Lane::Link(Link { opener, acceptor, half, .. })) => {
                self.half_ended(half.as_ref(), ending);
                for side in [opener, acceptor] {
                    if let Some(agent) = self.agents.get_mut(&side) {
                        agent.links.remove(&lane);
                    }
                }
                let other = if by == opener { acceptor } else { opener };
                out.push(Effect::LaneEnded { lane, ending });
                send(out, other, lane_closed(lane, ending, reason));
            }
            Some(Lane::Offer(offer)) => {
                self.lapses.remove(&(offer.lapses_at, lane));
                self.unlist(lane, &offer, ending);
                out.push(Effect::OfferEnded { segments: offer.asked.segments, ending });
                if by == offer.opener {
                    send(out, offer.target, lane_closed(lane, ending, reason));
                } else {
                    let text = reason.to_owned();
                    self.refuse(offer.opener, offer.asked.request, "peer-gone", text, out);
                }
            }
            Some(topic @ Lane::Topic(_)) => {
                self.lanes.insert(lane, topic);
            }
            None => {}
        }
    }

    /// Ends every offer whose time is over.
    pub(super) fn lapse_offers(&mut self, now: Duration) -> Effects<D> {
        let mut out = Vec::new();
        while let Some((at, lane)) = self.lapses.first().copied().filter(|(at, _)| *at <= now) {
            self.lapses.remove(&(at, lane));
            let Some(Lane::Offer(offer)) = self.lanes.remove(&lane) else { continue };
            let ending = Ending::Closed;
            self.unlist(lane, &offer, ending);
            let seconds = OFFER_TIMEOUT.as_secs();
            let name = self.agents.get(&offer.target).map(|agent| &agent.info.manifest.name);
            let name = name.map_or("", String::as_str);
            let text = format!("agent `{name}` did not answer the offer within {seconds} s");
            out.push(Effect::OfferEnded { segments: offer.asked.segments, ending });
            send(&mut out, offer.target, lane_closed(lane, ending, &text));
            self.refuse(offer.opener, offer.asked.request, "no-answer", text, &mut out);
        }
        out
    }

    /// Takes the offer out of `lanes` and its timer away, if it was made to `target`.
    fn take_offer(&mut self, lane: LaneId, target: AgentId) -> Option<Offer<D>> {
        match self.lanes.remove(&lane)? {
            Lane::Offer(offer) if offer.target == target => {
                self.lapses.remove(&(offer.lapses_at, lane));
                Some(offer)
            }
            other => {
                self.lanes.insert(lane, other);
                None
            }
        }
    }

    /// Takes an ended offer out of the sets of both sides, and has the other half of a route know.
    fn unlist(&mut self, lane: LaneId, offer: &Offer<D>, ending: Ending) {
        self.half_ended(offer.half.as_ref(), ending);
        self.offer_answered(offer.opener);
        for side in [offer.opener, offer.target] {
            if let Some(agent) = self.agents.get_mut(&side) {
                agent.links.remove(&lane);
            }
        }
    }

    fn offer_answered(&mut self, opener: AgentId) {
        if let Some(agent) = self.agents.get_mut(&opener) {
            agent.offers_count = agent.offers_count.saturating_sub(1);
        }
    }
}

impl Agent {
    /// Descriptors that the daemon keeps open for it, at most.
    fn descriptors(&self) -> usize {
        DESCRIPTORS_PER_CONNECTION
            + self.links.len() * DESCRIPTORS_PER_LINK
            + self.offers_count * DESCRIPTORS_PER_OFFER
            + self.topics.len() * DESCRIPTORS_PER_TOPIC
    }
}
