//! Routes: links that policy does not allow to be direct. Two links that meet in the exchange, which passes on what comes
//! over one of them to the other; the two agents see one link, from and to each other.
//!
//! 1. The opener's `OpenLink` becomes an offer to the exchange (`RouteWanted`).
//! 2. The exchange offers the target a link on the opener's behalf (`OpenRoute`, then `LinkOffered` that names the opener).
//! 3. When that is ready the exchange accepts the first one.
//! 4. Granted descriptors skip the exchange: the router hands them to the far end.
//! 5. When one half ends the exchange is told, passes on what it still has, and closes the other half, which then ends as
//!    the first one did.

use std::time::Duration;

use ipc::control::FromRouter;
use ipc::header::{AgentId, LaneId};

use super::subject::matches;
use super::{Asked, Effects, Ending, Half, Lane, Router};
use crate::exchange::NAME;

impl<D: Clone> Router<D> {
    /// The exchange, while it is on the bus.
    pub(super) fn exchange(&self) -> Option<AgentId> {
        self.names.get(NAME).copied().filter(|id| {
            // Without a daemon that hosts it any agent could take its name.
            self.agents.get(id).is_some_and(|agent| agent.hosted)
        })
    }

    /// Whether a link between the two must pass through the exchange.
    pub(super) fn is_routed(&self, opener: AgentId, target: AgentId) -> bool {
        let exchange = self.exchange();
        if [Some(opener), Some(target)].contains(&exchange) {
            return false;
        }
        let names = [opener, target].into_iter().filter_map(|id| self.agents.get(&id));
        names
            .map(|agent| &agent.info.manifest.name)
            .any(|name| self.routed.iter().any(|pattern| matches(pattern, name)))
    }

    pub(super) fn want_route(
        &mut self,
        opener: AgentId,
        target: AgentId,
        mut asked: Asked<D>,
        now: Duration,
        out: &mut Effects<D>,
    ) {
        let Some(exchange) = self.exchange() else {
            let text = "the link may not be direct, and the exchange is not up".to_owned();
            return self.refuse(opener, asked.request, "starting", text, out);
        };
        let settled = self
            .may_have_more(opener, exchange)
            .and_then(|()| self.settled((opener, exchange), asked.terms));
        asked.terms = match settled {
            Ok(terms) => terms,
            Err((code, message)) => {
                return self.refuse(opener, asked.request, code, message, out);
            }
        };
        let info = |id| self.agents.get(&id).map(|agent| agent.info.clone());
        let (Some(from), Some(whom)) = (info(opener), info(target)) else { return };
        let target_info = Box::new(whom);
        let wanted =
            |lane, terms| FromRouter::RouteWanted { lane, from, target: target_info, terms };
        let half = Some(Half::First { target, second: None, ended: None });
        self.offer((opener, exchange), asked, half, now, wanted, out);
    }

    pub(super) fn open_route(
        &mut self,
        exchange: AgentId,
        first: LaneId,
        mut asked: Asked<D>,
        now: Duration,
        out: &mut Effects<D>,
    ) {
        let wanted = match self.lanes.get(&first) {
            Some(Lane::Offer(offer)) if offer.target == exchange => match &offer.half {
                Some(Half::First { target, second: None, .. }) => Some((offer.opener, *target)),
                _ => None,
            },
            _ => None,
        };
        let Some((opener, target)) = wanted else {
            let text = "nobody waits for this route".to_owned();
            return self.refuse(exchange, asked.request, "no-such-target", text, out);
        };
        let from = self.agents.get(&opener).map(|agent| agent.info.clone());
        let (Some(from), true) = (from, self.agents.contains_key(&target)) else {
            let text = "one of the two left the bus".to_owned();
            return self.refuse(exchange, asked.request, "peer-gone", text, out);
        };
        let settled = self
            .may_have_more(exchange, target)
            .and_then(|()| self.settled((exchange, target), asked.terms));
        asked.terms = match settled {
            Ok(terms) => terms,
            Err((code, message)) => {
                return self.refuse(exchange, asked.request, code, message, out);
            }
        };
        let offered = |lane, terms| FromRouter::LinkOffered { lane, from, terms };
        let half = Some(Half::Second { first, ended: None });
        let Some(lane) = self.offer((exchange, target), asked, half, now, offered, out) else {
            return;
        };
        if let Some(Lane::Offer(offer)) = self.lanes.get_mut(&first)
            && let Some(Half::First { second, .. }) = &mut offer.half
        {
            *second = Some(lane);
        }
    }

    /// Where a grant over `lane` to `to` really goes: across the exchange, where there is a route, and nowhere while that is
    /// incomplete.
    pub(super) fn far_end(&self, lane: LaneId, to: AgentId) -> Option<(AgentId, LaneId)> {
        let Some(Lane::Link(link)) = self.lanes.get(&lane) else { return None };
        let other = match &link.half {
            // From the exchange itself, or no route at all.
            None => return Some((to, lane)),
            Some(Half::First { .. }) if to == link.opener => return Some((to, lane)),
            Some(Half::Second { .. }) if to == link.acceptor => return Some((to, lane)),
            Some(Half::First { second, .. }) => (*second)?,
            Some(Half::Second { first, .. }) => *first,
        };
        match (self.lanes.get(&other)?, &link.half) {
            (Lane::Link(far), Some(Half::First { .. })) => Some((far.acceptor, other)),
            (Lane::Link(far), _) => Some((far.opener, other)),
            _ => None,
        }
    }

    /// How the exchange closes a half whose other half has ended: as that one did.
    pub(super) fn inherited(&self, lane: LaneId, by: AgentId) -> Option<Ending> {
        let Some(Lane::Link(link)) = self.lanes.get(&lane) else { return None };
        match &link.half {
            Some(Half::First { ended, .. }) if by == link.acceptor => *ended,
            Some(Half::Second { ended, .. }) if by == link.opener => *ended,
            _ => None,
        }
    }

    /// Remembers at the other half how this one ended.
    pub(super) fn half_ended(&mut self, half: Option<&Half>, ending: Ending) {
        let other = match half {
            Some(Half::First { second, .. }) => *second,
            Some(Half::Second { first, .. }) => Some(*first),
            None => None,
        };
        let half = match other.and_then(|other| self.lanes.get_mut(&other)) {
            Some(Lane::Link(link)) => &mut link.half,
            Some(Lane::Offer(offer)) => &mut offer.half,
            _ => return,
        };
        match half {
            Some(Half::First { ended, .. } | Half::Second { ended, .. }) => *ended = Some(ending),
            None => {}
        }
    }
}
