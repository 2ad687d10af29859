//! The router's mind: who is on the bus, which links and topics exist, and what follows from each
//! event.
//!
//! A pure state machine: [`Router::step`] takes an event and the time and returns effects; sockets,
//! memory and processes are [`super::connections`]'. `D` stands for the checked descriptors that
//! came with a message; the machine passes them on and drops them, and never looks inside, so tests
//! use plain values in their place.
//!
//! Rules that hold after every step:
//! 1. Every lane in `lanes` names living agents only, and stands in the sets of all of them.
//! 2. An agent that leaves takes its name, lanes, offers, readerships and subscriptions with it, in
//!    one step.
//! 3. Every request gets exactly one answer: its positive one or `Refused`, an `OpenLink` at the
//!    latest `OFFER_TIMEOUT` later. Only a requester that is itself gone gets none.
//! 4. `LaneOpened` and `LaneEnded` come in pairs: whoever holds memory for a lane can rely on it.
//! 5. `LaneEnded` and `OfferEnded` come before anybody is told `LinkClosed`: who has been told listens to the lane's bell no
//!    more, and so must find in its memory that it has ended.

mod agents;
mod classes;
mod event;
mod links;
#[cfg(test)]
mod property;
pub(crate) mod rate;
mod revoke;
mod routes;
pub(crate) mod subject;
#[cfg(test)]
mod tests;
mod topics;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipc::class::{Class, ClassSet};
use ipc::control::{AgentInfo, FromRouter, ToRouter, TopicPolicy, TopicTerms};
use ipc::header::{AgentId, LaneId};

use self::classes::Asked;
pub(crate) use self::event::{Carry, Effect, Ending, Event, Newcomer};
use super::quota::{AgentLimits, LimitTable};
use crate::limits::REASON_BYTES_MAX;

/// Every limit that the daemon itself counts, from the start at zero; the exchange names its own.
pub(crate) const LIMITS: [&str; 12] = [
    "agents",
    "bytes",
    "closing",
    "descriptors",
    "grants",
    "handshake_bytes",
    "handshake_ms",
    "links",
    "messages",
    "offers",
    "open_files",
    "outbox",
];

/// Everything that the router knows.
#[derive(Debug)]
pub(crate) struct Router<D> {
    agents: BTreeMap<AgentId, Agent>,
    names: BTreeMap<String, AgentId>,
    lanes: BTreeMap<LaneId, Lane<D>>,
    /// Offers by the time they lapse.
    lapses: BTreeSet<(Duration, LaneId)>,
    topics_count: usize,
    /// Topics that ended, by the name of their writer and their subject: bounded, the oldest is forgotten.
    ended_topics: BTreeMap<(String, String), EndedTopic>,
    last_lane: u32,
    instance: u64,
    draining: bool,
    /// Names that only the supervisor's processes may bear, with the tools they were last seen to
    /// answer.
    reserved: BTreeMap<String, Vec<String>>,
    /// Of these, those that are not started again, and why.
    failed: BTreeMap<String, String>,
    /// Agents whose name matches one of these patterns have no direct links.
    routed: Vec<String>,
    refused: BTreeMap<&'static str, u64>,
    /// Of these, and of what was slowed down, by the limit that was reached.
    limited: BTreeMap<&'static str, u64>,
    /// The classes that links may have.
    classes: ClassSet,
    /// Links that fell below the class that was wanted, by both.
    fallbacks: BTreeMap<(Class, Class), Fallen>,
    limits: LimitTable,
}

#[derive(Debug)]
struct Agent {
    info: AgentInfo,
    hosted: bool,
    /// The protocol that it speaks.
    version: (u16, u16),
    limits: AgentLimits,
    /// Links, offered and open.
    links: BTreeSet<LaneId>,
    /// Of these, offers it made that nobody answered yet.
    offers_count: usize,
    /// Topics it writes.
    topics: BTreeSet<LaneId>,
    /// Topics of others that it was told of, whether it reads them or not.
    announced: BTreeSet<LaneId>,
    subscriptions: Vec<Subscription>,
}

#[derive(Debug)]
struct Subscription {
    /// 0 for the patterns of a manifest.
    request: u32,
    pattern: String,
}

#[derive(Debug)]
enum Lane<D> {
    Offer(Offer<D>),
    Link(Link),
    Topic(Topic<D>),
}

#[derive(Debug)]
struct Offer<D> {
    opener: AgentId,
    target: AgentId,
    asked: Asked<D>,
    lapses_at: Duration,
    half: Option<Half>,
}

#[derive(Debug)]
struct Link {
    opener: AgentId,
    acceptor: AgentId,
    class: Class,
    half: Option<Half>,
}

/// Links that have another class than was wanted.
#[derive(Debug, Default)]
struct Fallen {
    count: u64,
    /// Why the last of them did.
    reason: String,
}

/// What a link is within a route: two links that meet in the exchange.
#[derive(Clone, Debug)]
enum Half {
    /// From the opener to the exchange.
    First {
        /// Whom it is for.
        target: AgentId,
        /// The other half, once the exchange has asked for it.
        second: Option<LaneId>,
        /// How the other half ended, if it did.
        ended: Option<Ending>,
    },
    /// From the exchange to the target.
    Second {
        /// The other half.
        first: LaneId,
        /// How the other half ended, if it did.
        ended: Option<Ending>,
    },
}

#[derive(Debug)]
struct Topic<D> {
    writer: AgentId,
    writer_name: String,
    declared: Declared,
    /// How often an agent of this name has published this subject.
    epoch: u32,
    /// The lane of the time before.
    follows: Option<LaneId>,
    segments: D,
    announced_to: BTreeSet<AgentId>,
    readers: BTreeSet<AgentId>,
}

/// What a topic's writer says of it.
#[derive(Clone, Debug)]
struct Declared {
    subject: String,
    policy: TopicPolicy,
    terms: TopicTerms,
}

/// What is known of a topic that ended.
#[derive(Clone, Copy, Debug)]
struct EndedTopic {
    epoch: u32,
    lane: LaneId,
}

/// One agent as `status` shows it.
#[derive(Clone, Debug)]
pub(crate) struct AgentView {
    /// Who.
    pub(crate) info: AgentInfo,
    /// Whether the supervisor started it.
    pub(crate) hosted: bool,
    /// Its links.
    pub(crate) links_count: usize,
    /// Topics it writes.
    pub(crate) topics_count: usize,
    /// Its patterns.
    pub(crate) subscriptions_count: usize,
    /// What it may have.
    pub(crate) limits: AgentLimits,
}

type Effects<D> = Vec<Effect<D>>;
/// Code and words. The code `limit:NAME` is told as `limit`, and counted under the limit's name.
type Refusal = (&'static str, String);

impl<D: Clone> Router<D> {
    /// An empty bus. `instance` is random per start; `reserved` are the names of hosted agents.
    pub(crate) fn new(instance: u64, reserved: impl IntoIterator<Item = String>) -> Self {
        Self {
            agents: BTreeMap::new(),
            names: BTreeMap::new(),
            lanes: BTreeMap::new(),
            lapses: BTreeSet::new(),
            topics_count: 0,
            ended_topics: BTreeMap::new(),
            last_lane: 0,
            instance,
            draining: false,
            reserved: reserved.into_iter().map(|name| (name, Vec::new())).collect(),
            failed: BTreeMap::new(),
            routed: Vec::new(),
            refused: BTreeMap::new(),
            limited: BTreeMap::new(),
            classes: ClassSet::LINKS,
            fallbacks: BTreeMap::new(),
            limits: LimitTable::default(),
        }
    }

    /// The same, where links from and to agents of such names pass through the exchange.
    pub(crate) fn with_routed(mut self, patterns: Vec<String>) -> Self {
        self.routed = patterns;
        self
    }

    /// The same, where agents may have so much.
    pub(crate) fn with_limits(mut self, limits: LimitTable) -> Self {
        self.limits = limits;
        self
    }

    /// What follows from `event` at `now` (any clock that never runs backwards).
    pub(crate) fn step(&mut self, event: Event<D>, now: Duration) -> Effects<D> {
        let mut effects = self.lapse_offers(now);
        let out = &mut effects;
        match event {
            Event::Hello(newcomer) => self.hello(newcomer, out),
            Event::Message { agent, message, segments } => {
                if self.agents.contains_key(&agent) {
                    self.message(agent, message, segments, now, out);
                }
            }
            Event::BadSegment { agent, message, code, reason } => {
                if self.agents.contains_key(&agent) {
                    self.bad_segment(agent, message, (code, reason), out);
                }
            }
            Event::Malformed { agent, reason } => self.expel(agent, "malformed", reason, out),
            Event::Gone { agent, reason } => self.leave(agent, Ending::PeerGone, &reason, out),
            Event::Tick => {}
            Event::Drain => self.drain(out),
        }
        effects
    }

    /// When [`Event::Tick`] is wanted next, if ever.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.lapses.first().map(|(at, _)| *at)
    }

    /// Every agent, for `status` and metrics.
    pub(crate) fn agents(&self) -> impl Iterator<Item = AgentView> {
        self.agents.values().map(|agent| AgentView {
            info: agent.info.clone(),
            hosted: agent.hosted,
            links_count: agent.links.len(),
            topics_count: agent.topics.len(),
            subscriptions_count: agent.subscriptions.len(),
            limits: agent.limits.clone(),
        })
    }

    /// Links and topics that exist: the lanes that carry messages (a link has two).
    pub(crate) fn lanes_count(&self) -> usize {
        let lanes = |lane: &Lane<D>| match lane {
            Lane::Offer(_) => 0,
            Lane::Link(_) => 2,
            Lane::Topic(_) => 1,
        };
        self.lanes.values().map(lanes).sum()
    }

    /// Requests and connections refused since the start, by code.
    pub(crate) fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }

    /// What was refused or slowed down since the start, by the limit that was reached.
    pub(crate) fn limited(&self) -> &BTreeMap<&'static str, u64> {
        &self.limited
    }

    /// Counts somebody who was refused at the door.
    pub(crate) fn count_refusal(&mut self, code: &'static str) {
        let code = match code.strip_prefix("limit:") {
            None => code,
            Some(limit) => {
                self.count_limit(limit);
                "limit"
            }
        };
        *self.refused.entry(code).or_default() += 1;
    }

    /// Counts that somebody reached a limit.
    pub(crate) fn count_limit(&mut self, limit: &'static str) {
        debug_assert!(LIMITS.contains(&limit), "{limit} is shown only once it was reached");
        *self.limited.entry(limit).or_default() += 1;
    }

    /// The hosted agents that are not started again, each with how it ended last.
    pub(crate) fn set_failed(&mut self, failed: BTreeMap<String, String>) {
        self.failed = failed;
    }

    fn message(
        &mut self,
        agent: AgentId,
        message: ToRouter,
        segments: Option<D>,
        now: Duration,
        out: &mut Effects<D>,
    ) {
        let asks = |request: &u32| *request != 0;
        match (message, segments) {
            (ToRouter::ListAgents { request, filter }, None) if asks(&request) => {
                self.list_agents(agent, request, &filter, out);
            }
            (ToRouter::OpenLink { request, target, terms }, Some(segments)) if asks(&request) => {
                self.open_link(agent, &target, Asked { request, terms, segments }, now, out);
            }
            (ToRouter::OpenRoute { request, first, terms }, Some(segments)) if asks(&request) => {
                self.open_route(agent, first, Asked { request, terms, segments }, now, out);
            }
            (ToRouter::AcceptLink { lane, terms }, Some(segments)) => {
                self.accept_link(agent, lane, (terms, segments), out);
            }
            (ToRouter::Revoke { request, agent: name, lane, reason }, None) if asks(&request) => {
                self.revoke(agent, request, (&name, lane), reason, out);
            }
            (ToRouter::CloseLink { lane, reason, why }, None) => {
                self.close_lane(agent, lane, (why, shortened(reason)), out);
            }
            (ToRouter::Grant { lane, grant }, Some(granted)) => {
                self.grant(agent, lane, grant, granted, out);
            }
            (ToRouter::Publish { request, subject, policy, terms }, Some(segments))
                if asks(&request) =>
            {
                let declared = Declared { subject, policy, terms };
                self.publish(agent, request, declared, segments, out);
            }
            (ToRouter::Subscribe { request, pattern }, None) if asks(&request) => {
                self.subscribe(agent, request, pattern, out);
            }
            (ToRouter::Unsubscribe { subscription }, None) => {
                self.unsubscribe(agent, subscription, out);
            }
            (ToRouter::DropReader { lane, reader, reason, why }, None) => {
                self.drop_reader(agent, lane, reader, (why, &shortened(reason)), out);
            }
            (ToRouter::JoinTopic { lane }, Some(segments)) => {
                self.join_topic(agent, lane, segments, out);
            }
            (ToRouter::Status { request }, None) if asks(&request) => {
                out.push(Effect::TellStatus { to: agent, request });
            }
            (ToRouter::Directory { request }, None) if asks(&request) => {
                out.push(Effect::TellDirectory { to: agent, request });
            }
            (ToRouter::Report(report), None) => {
                let reporter = self.agents.get(&agent).filter(|agent| agent.hosted);
                if let Some(reporter) = reporter {
                    let name = reporter.info.manifest.name.clone();
                    out.push(Effect::Reported { name, report });
                }
            }
            (ToRouter::Pong { .. }, None) => {}
            (ToRouter::Bye, None) => {
                self.leave(agent, Ending::Closed, "it said goodbye", out);
                out.push(Effect::Close { agent });
            }
            (ToRouter::Hello { .. }, _) => {
                let reason = "a second `Hello` on one connection".to_owned();
                self.expel(agent, "malformed", reason, out);
            }
            _ => {
                let reason = "a message with request 0 or with the wrong descriptors".to_owned();
                self.expel(agent, "malformed", reason, out);
            }
        }
    }

    fn bad_segment(
        &mut self,
        agent: AgentId,
        message: ToRouter,
        (code, reason): Refusal,
        out: &mut Effects<D>,
    ) {
        let reason = shortened(reason);
        match message {
            ToRouter::OpenLink { request, .. }
            | ToRouter::OpenRoute { request, .. }
            | ToRouter::Publish { request, .. } => {
                self.refuse(agent, request, code, reason, out);
            }
            ToRouter::AcceptLink { lane, .. } => {
                self.accept_failed(agent, lane, (code, &reason), out);
            }
            ToRouter::JoinTopic { lane } => {
                self.count_refusal(code);
                send(out, agent, lane_closed(lane, Ending::Revoked, &reason));
            }
            // Whoever names it is told that it did not come.
            ToRouter::Grant { .. } if code.starts_with("limit:") => self.count_refusal(code),
            _ => self.expel(agent, "malformed", reason, out),
        }
    }

    fn drain(&mut self, out: &mut Effects<D>) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        for agent in self.agents.keys() {
            send(out, *agent, FromRouter::Draining);
        }
    }

    /// Throws an agent (or a connection that never became one) out.
    fn expel(&mut self, agent: AgentId, code: &'static str, message: String, out: &mut Effects<D>) {
        self.refuse(agent, 0, code, message.clone(), out);
        self.leave(agent, Ending::PeerGone, &message, out);
        out.push(Effect::Close { agent });
    }

    /// Frees everything of an agent at once; rule 2. Nothing happens to one that is unknown.
    fn leave(&mut self, agent: AgentId, ending: Ending, reason: &str, out: &mut Effects<D>) {
        let Some(left) = self.agents.remove(&agent) else { return };
        let name = left.info.manifest.name;
        self.names.remove(&name);
        let told = format!("agent `{name}` (process {}) is gone: {reason}", left.info.pid);
        for lane in left.links {
            self.end_link(lane, agent, ending, &told, out);
        }
        for lane in left.topics {
            self.end_topic(lane, ending, &told, out);
        }
        for lane in left.announced {
            self.forget_reader(lane, agent, out);
        }
        let hosted = left.hosted;
        out.push(Effect::Left { agent, name, hosted, reason: reason.to_owned() });
    }

    fn refuse(
        &mut self,
        to: AgentId,
        request: u32,
        code: &'static str,
        message: String,
        out: &mut Effects<D>,
    ) {
        self.count_refusal(code);
        let code = if code.starts_with("limit:") { "limit" } else { code }.to_owned();
        send(out, to, FromRouter::Refused { request, code, message });
    }

    /// A lane id that was never used, or `None` when all are spent.
    fn new_lane(&mut self) -> Option<LaneId> {
        self.last_lane = self.last_lane.checked_add(1)?;
        Some(LaneId(self.last_lane))
    }
}

fn send<D>(out: &mut Effects<D>, to: AgentId, message: FromRouter) {
    out.push(Effect::Send { to, message, carry: Carry::Nothing });
}

fn lane_closed(lane: LaneId, ending: Ending, reason: &str) -> FromRouter {
    let code = ending.code().to_owned();
    FromRouter::LinkClosed { lane, code, reason: reason.to_owned() }
}

/// A peer's words, cut to what others are shown.
fn shortened(mut text: String) -> String {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
