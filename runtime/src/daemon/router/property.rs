//! Any order of events: nothing leaks, every request gets one answer, the books agree after every
//! step.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};
use std::time::Duration;

use ipc::class::{Class, ClassSet};
use ipc::control::{CloseCause, FromRouter, Terms, ToRouter, TopicPolicy, TopicTerms};
use ipc::header::{AgentId, GrantId, LaneId};
use proptest::prelude::*;

use super::tests::{Segments, accept, hello, manifest};
use super::{Effect, Event, Half, Lane, Newcomer, Router};
use crate::daemon::quota::LimitTable;
use crate::exchange::NAME;
use crate::limits::OFFER_TIMEOUT;

const SUBJECTS: [&str; 5] = ["a", "a.b", "a.b.c", "wrong subject", "_group.g"];
const PATTERNS: [&str; 6] = ["a", "a.*", ">", "a.>", "*.*.c", "_group.*"];

#[derive(Clone, Copy, Debug)]
enum Op {
    Hello,
    Gone,
    Bye,
    List,
    Open(u8, u8),
    OpenRoute(u8, u8),
    Accept(u8, u8),
    Revoke(u8, u8),
    BadAccept(u8),
    Close(u8),
    Grant(u8),
    Publish(u8),
    Subscribe(u8),
    Unsubscribe(u8),
    Join(u8),
    Drop(u8, u8),
    Malformed,
    Wait(u16),
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Hello),
        2 => Just(Op::Gone),
        1 => Just(Op::Bye),
        1 => Just(Op::List),
        6 => any::<(u8, u8)>().prop_map(|(target, class)| Op::Open(target, class)),
        6 => any::<(u8, u8)>().prop_map(|(lane, class)| Op::OpenRoute(lane, class)),
        6 => any::<(u8, u8)>().prop_map(|(lane, class)| Op::Accept(lane, class)),
        1 => any::<(u8, u8)>().prop_map(|(agent, lane)| Op::Revoke(agent, lane)),
        1 => any::<u8>().prop_map(Op::BadAccept),
        3 => any::<u8>().prop_map(Op::Close),
        2 => any::<u8>().prop_map(Op::Grant),
        4 => any::<u8>().prop_map(Op::Publish),
        3 => any::<u8>().prop_map(Op::Subscribe),
        1 => any::<u8>().prop_map(Op::Unsubscribe),
        4 => any::<u8>().prop_map(Op::Join),
        2 => any::<(u8, u8)>().prop_map(|(lane, reader)| Op::Drop(lane, reader)),
        1 => Just(Op::Malformed),
        2 => any::<u16>().prop_map(Op::Wait),
    ]
}

fn terms(class: u8, ring: Option<u32>) -> Terms {
    let class = Class::ALL[usize::from(class) % Class::ALL.len()];
    Terms { ring, ..Terms::wanted(class) }
}

/// The world around the router, as far as the properties need it.
struct World {
    router: Router<Segments>,
    now: Duration,
    next_request: u32,
    /// Unanswered requests of living agents.
    asked: BTreeSet<(AgentId, u32)>,
    held_lanes: BTreeSet<LaneId>,
    handed_out: Vec<Weak<u32>>,
}

impl World {
    fn new() -> Self {
        Self {
            // Agent 0 is the exchange, and nobody talks to agents 1 and 2 directly.
            router: Router::new(1, [NAME.to_owned()])
                .with_routed(vec!["agent-1".to_owned(), "agent-2".to_owned()])
                .with_classes(ClassSet::LINKS.without(Class::Critical))
                .with_limits(LimitTable::parse("agent-3: links=2").unwrap()),
            now: Duration::ZERO,
            next_request: 0,
            asked: BTreeSet::new(),
            held_lanes: BTreeSet::new(),
            handed_out: Vec::new(),
        }
    }

    fn segments(&mut self) -> Option<Segments> {
        let segments = Rc::new(0);
        self.handed_out.push(Rc::downgrade(&segments));
        Some(segments)
    }

    fn does(&mut self, agent: u32, op: Op) {
        let id = AgentId(agent);
        let lane = |index: u8| LaneId(1 + u32::from(index) % (self.router.last_lane + 1));
        self.next_request += 1;
        let request = self.next_request;
        let cause = |index: u8| match index % 2 {
            0 => CloseCause::Wanted,
            _ => CloseCause::Quarantined,
        };
        let pick = |list: &[&str], index: u8| list[usize::from(index) % list.len()].to_owned();
        let (message, carries) = match op {
            Op::Hello => {
                let name = if agent == 0 { NAME.to_owned() } else { format!("agent-{agent}") };
                let Event::Hello(newcomer) = hello(agent, manifest(&name, &["tool"])) else {
                    unreachable!("that is what it makes")
                };
                let hosted_as = (agent == 0).then(|| NAME.to_owned());
                // One of them speaks a version without classes.
                let version = if agent == 4 { (1, 1) } else { (1, 2) };
                return self.step(Event::Hello(Newcomer { hosted_as, version, ..newcomer }));
            }
            Op::Gone => return self.step(Event::Gone { agent: id, reason: String::new() }),
            Op::Malformed => {
                return self.step(Event::Malformed { agent: id, reason: String::new() });
            }
            Op::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds.into()) / 16;
                return self.step(Event::Tick);
            }
            Op::Drain => return self.step(Event::Drain),
            Op::BadAccept(index) => {
                let message = accept(lane(index), Terms::default());
                let reason = String::new();
                let code = "bad-segment";
                return self.step(Event::BadSegment { agent: id, message, code, reason });
            }
            Op::Bye => (ToRouter::Bye, false),
            Op::List => (ToRouter::ListAgents { request, filter: String::new() }, false),
            Op::Open(target, class) => {
                let target = match target % 8 {
                    7 => "tool".to_owned(),
                    other => format!("agent-{other}"),
                };
                let terms = terms(class, Some(1));
                (ToRouter::OpenLink { request, target, terms }, true)
            }
            Op::OpenRoute(index, class) => {
                let terms = terms(class, Some(2));
                (ToRouter::OpenRoute { request, first: lane(index), terms }, true)
            }
            Op::Accept(index, class) => (accept(lane(index), terms(class, None)), true),
            Op::Revoke(target, index) => {
                let lane = if index % 2 == 0 { LaneId(0) } else { lane(index) };
                let (agent, reason) = (format!("agent-{}", target % 8), String::new());
                (ToRouter::Revoke { request, agent, lane, reason }, false)
            }
            Op::Close(index) => (
                ToRouter::CloseLink { lane: lane(index), reason: String::new(), why: cause(index) },
                false,
            ),
            Op::Grant(index) => (ToRouter::Grant { lane: lane(index), grant: GrantId(1) }, true),
            Op::Publish(index) => {
                let (subject, policy) = (pick(&SUBJECTS, index), TopicPolicy::Lossy);
                let terms = TopicTerms::default();
                (ToRouter::Publish { request, subject, policy, terms }, true)
            }
            Op::Subscribe(index) => {
                (ToRouter::Subscribe { request, pattern: pick(&PATTERNS, index) }, false)
            }
            Op::Unsubscribe(back) => {
                let subscription = request.saturating_sub(back.into());
                (ToRouter::Unsubscribe { subscription }, false)
            }
            Op::Drop(index, reader) => {
                let (lane, reader) = (lane(index), AgentId(u32::from(reader) % 7));
                (
                    ToRouter::DropReader { lane, reader, reason: String::new(), why: cause(index) },
                    false,
                )
            }
            Op::Join(index) => (ToRouter::JoinTopic { lane: lane(index) }, true),
        };
        let asks = matches!(
            message,
            ToRouter::ListAgents { .. }
                | ToRouter::OpenLink { .. }
                | ToRouter::Revoke { .. }
                | ToRouter::OpenRoute { .. }
                | ToRouter::Publish { .. }
                | ToRouter::Subscribe { .. }
        );
        if asks && self.router.agents.contains_key(&id) {
            self.asked.insert((id, request));
        }
        let segments = if carries { self.segments() } else { None };
        self.step(Event::Message { agent: id, message, segments });
    }

    fn step(&mut self, event: Event<Segments>) {
        // Rule 5.
        let mut told = BTreeSet::new();
        for effect in self.router.step(event, self.now) {
            match effect {
                Effect::Send { to, message, .. } => {
                    if let FromRouter::LinkClosed { lane, .. } = &message {
                        told.insert(*lane);
                    }
                    self.answered(to, &message);
                }
                Effect::LaneOpened { lane, .. } => assert!(self.held_lanes.insert(lane)),
                Effect::LaneEnded { lane, .. } => {
                    assert!(!told.contains(&lane), "told before its memory says so");
                    assert!(self.held_lanes.remove(&lane));
                }
                Effect::Left { agent, .. } => self.asked.retain(|(asker, _)| *asker != agent),
                _ => {}
            }
        }
        self.books_agree();
    }

    fn answered(&mut self, to: AgentId, message: &FromRouter) {
        let request = match message {
            FromRouter::Refused { request, .. } if *request != 0 => *request,
            FromRouter::Agents { request, more: false, .. }
            | FromRouter::LinkReady { request, .. }
            | FromRouter::Revoked { request, .. }
            | FromRouter::Published { request, .. }
            | FromRouter::Subscribed { request } => *request,
            _ => return,
        };
        assert!(self.asked.remove(&(to, request)), "answered twice or unasked: {message:?}");
    }

    /// Rule 1 and the bookkeeping that is derived from `lanes`.
    fn books_agree(&self) {
        let router = &self.router;
        let mut links: BTreeMap<AgentId, BTreeSet<LaneId>> = BTreeMap::new();
        let (mut topics, mut announced) = (links.clone(), links.clone());
        let mut offers: BTreeMap<AgentId, usize> = BTreeMap::new();
        let mut lapses = BTreeSet::new();
        let mut topics_count = 0;
        for (lane, kind) in &router.lanes {
            match kind {
                Lane::Offer(offer) => {
                    links.entry(offer.opener).or_default().insert(*lane);
                    links.entry(offer.target).or_default().insert(*lane);
                    *offers.entry(offer.opener).or_default() += 1;
                    lapses.insert((offer.lapses_at, *lane));
                }
                Lane::Link(link) => {
                    links.entry(link.opener).or_default().insert(*lane);
                    links.entry(link.acceptor).or_default().insert(*lane);
                    assert!(self.held_lanes.contains(lane));
                    assert!(router.classes.has(link.class), "{link:?}");
                }
                Lane::Topic(topic) => {
                    topics_count += 1;
                    assert!(topic.epoch > 0 && topic.follows.is_none_or(|before| before < *lane));
                    topics.entry(topic.writer).or_default().insert(*lane);
                    assert!(topic.readers.is_subset(&topic.announced_to));
                    for reader in &topic.announced_to {
                        announced.entry(*reader).or_default().insert(*lane);
                    }
                    assert!(self.held_lanes.contains(lane));
                }
            }
        }
        for (lane, kind) in &router.lanes {
            let (half, exchange) = match kind {
                Lane::Offer(offer) => (&offer.half, [offer.target, offer.opener]),
                Lane::Link(link) => (&link.half, [link.acceptor, link.opener]),
                Lane::Topic(_) => continue,
            };
            match half {
                Some(Half::First { .. }) => assert_eq!(exchange[0], AgentId(0)),
                Some(Half::Second { first, ended }) => {
                    assert_eq!(exchange[1], AgentId(0));
                    assert!(ended.is_some() || router.lanes.contains_key(first));
                    assert_ne!(lane, first);
                }
                None => {}
            }
        }
        assert_eq!(router.lapses, lapses);
        assert_eq!(router.topics_count, topics_count);
        assert_eq!(router.names.len(), router.agents.len());
        for (id, agent) in &router.agents {
            assert_eq!(router.names.get(&agent.info.manifest.name), Some(id));
            assert_eq!(agent.links, links.remove(id).unwrap_or_default());
            assert_eq!(agent.topics, topics.remove(id).unwrap_or_default());
            assert_eq!(agent.announced, announced.remove(id).unwrap_or_default());
            assert!(!agent.limits.links.is_exceeded_by(agent.links.len()));
            assert_eq!(agent.offers_count, offers.remove(id).unwrap_or_default());
        }
        assert!(links.is_empty() && topics.is_empty() && announced.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaks_and_every_request_is_answered_once(
        ops in prop::collection::vec((0u32..7, op()), 1..200),
        drain_at in prop::option::of(0usize..200),
    ) {
        let mut world = World::new();
        for agent in 0..7 {
            world.does(agent, Op::Hello);
        }
        for (index, (agent, op)) in ops.into_iter().enumerate() {
            if Some(index) == drain_at {
                world.does(0, Op::Drain);
            }
            world.does(agent, op);
        }
        world.now += OFFER_TIMEOUT;
        world.step(Event::Tick);
        prop_assert!(world.asked.is_empty(), "unanswered: {:?}", world.asked);
        for agent in 0..7 {
            world.does(agent, Op::Gone);
        }
        prop_assert!(world.router.lanes.is_empty() && world.router.agents.is_empty());
        prop_assert!(world.held_lanes.is_empty());
        prop_assert!(world.handed_out.iter().all(|segments| segments.upgrade().is_none()));
    }
}
