//! What the router told and the program has not asked for yet, and the offers that it was shown.
//!
//! Everything is bounded, so a program that never asks for events loses the oldest ones and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;

use ipc::client::{Event as Heard, Offer, TopicOffer};
use ipc::control::TopicPolicy;
use ipc::header::LaneId;

use crate::agents::AgentTexts;
use crate::border::{pointer, text_for_c};
use crate::codes::{
    BOLIDE_DRAINING, BOLIDE_LINK_CLOSED, BOLIDE_LINK_OFFERED, BOLIDE_LOSSLESS, BOLIDE_LOSSY,
    BOLIDE_READERS_CHANGED, BOLIDE_TOPIC_FOUND,
};
use crate::limits::{EVENTS_KEPT_MAX, OFFERS_HELD_MAX};
use crate::shapes::Event;

/// Events, offers, and the event that was shown last.
#[derive(Debug, Default)]
pub(crate) struct Events {
    waiting: VecDeque<Heard>,
    links: BTreeMap<LaneId, Offer>,
    topics: BTreeMap<LaneId, TopicOffer>,
    shown: Option<Shown>,
}

/// What the event that was shown last points to.
#[derive(Debug, Default)]
struct Shown {
    code: Option<CString>,
    reason: Option<CString>,
    subject: Option<CString>,
    from: Option<AgentTexts>,
}

impl Events {
    /// Keeps an event. What it returns has no room and is to be declined.
    #[must_use]
    pub(crate) fn keep(&mut self, event: Heard) -> Option<LaneId> {
        if is_for_the_exchange(&event) {
            return None;
        }
        match &event {
            Heard::ReadersChanged { lane } => {
                let same =
                    |kept: &Heard| matches!(kept, Heard::ReadersChanged { lane: of } if of == lane);
                if self.waiting.iter().any(same) {
                    return None;
                }
            }
            Heard::LinkClosed { lane, .. } => {
                self.links.remove(lane);
                self.topics.remove(lane);
            }
            _ => {}
        }
        self.waiting.push_back(event);
        if self.waiting.len() <= EVENTS_KEPT_MAX {
            return None;
        }
        match self.waiting.pop_front() {
            Some(Heard::LinkOffered(offer)) => Some(offer.lane),
            _ => None,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next event as C sees it, and a link that is to be declined to make room.
    pub(crate) fn show(&mut self) -> Option<(Event, Option<LaneId>)> {
        let event = self.waiting.pop_front()?;
        let mut shown = Shown::default();
        let mut view = Event {
            kind: 0,
            lane: 0,
            subscription: 0,
            policy: 0,
            code: std::ptr::null(),
            reason: std::ptr::null(),
            subject: std::ptr::null(),
            from: std::ptr::null(),
        };
        let mut crowded_out = None;
        match event {
            Heard::LinkOffered(offer) => {
                (view.kind, view.lane) = (BOLIDE_LINK_OFFERED, offer.lane.0);
                shown.from = Some(AgentTexts::new(&offer.from));
                self.links.insert(offer.lane, offer);
                if self.links.len() > OFFERS_HELD_MAX {
                    crowded_out = self.links.pop_first().map(|(lane, _)| lane);
                }
            }
            Heard::LinkClosed { lane, code, reason } => {
                (view.kind, view.lane) = (BOLIDE_LINK_CLOSED, lane.0);
                shown.code = Some(text_for_c(&code));
                shown.reason = Some(text_for_c(&reason));
            }
            Heard::TopicFound(offer) => {
                (view.kind, view.lane) = (BOLIDE_TOPIC_FOUND, offer.lane.0);
                view.subscription = offer.subscription;
                view.policy = policy_number(offer.policy);
                shown.subject = Some(text_for_c(&offer.subject));
                shown.from = Some(AgentTexts::new(&offer.from));
                self.topics.insert(offer.lane, offer);
                if self.topics.len() > OFFERS_HELD_MAX {
                    self.topics.pop_first();
                }
            }
            Heard::ReadersChanged { lane } => {
                (view.kind, view.lane) = (BOLIDE_READERS_CHANGED, lane.0);
            }
            Heard::Draining => view.kind = BOLIDE_DRAINING,
            // Never kept.
            Heard::RouteWanted { .. } | Heard::RouteReady { .. } | Heard::RouteRefused { .. } => {
                return None;
            }
        }
        let shown = self.shown.insert(shown);
        view.code = pointer(shown.code.as_deref());
        view.reason = pointer(shown.reason.as_deref());
        view.subject = pointer(shown.subject.as_deref());
        view.from = shown.from.as_ref().map_or(std::ptr::null(), |from| from.agent());
        Some((view, crowded_out))
    }

    pub(crate) fn take_link(&mut self, lane: u32) -> Option<Offer> {
        self.links.remove(&LaneId(lane))
    }

    pub(crate) fn take_topic(&mut self, lane: u32) -> Option<TopicOffer> {
        self.topics.remove(&LaneId(lane))
    }
}

/// Events that only the daemon's own exchange gets.
fn is_for_the_exchange(event: &Heard) -> bool {
    matches!(
        event,
        Heard::RouteWanted { .. } | Heard::RouteReady { .. } | Heard::RouteRefused { .. }
    )
}

pub(crate) fn policy_number(policy: TopicPolicy) -> i32 {
    match policy {
        TopicPolicy::Lossless => BOLIDE_LOSSLESS,
        TopicPolicy::Lossy => BOLIDE_LOSSY,
    }
}
