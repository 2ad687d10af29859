//! The router's rules, one by one, without any IO.

use std::rc::Rc;
use std::time::Duration;

use ipc::control::{AgentInfo, CloseCause, FromRouter, Terms, ToRouter, TopicPolicy, TopicTerms};
use ipc::header::{AgentId, GrantId, LaneId};
use ipc::manifest::AgentManifest;

use super::{Carry, Effect, Ending, Event, Newcomer, Router};
use crate::exchange::NAME;
use crate::limits::{
    AGENTS_MAX, OFFER_TIMEOUT, OFFERS_PER_AGENT_MAX, READERS_PER_TOPIC_MAX, REASON_BYTES_MAX,
    SUBSCRIPTIONS_PER_AGENT_MAX, TOPICS_PER_AGENT_MAX,
};

mod classes;
mod limits;
mod topic_rights;
mod topics;

pub(super) type Segments = Rc<u32>;

const NOW: Duration = Duration::from_secs(1);

pub(super) fn manifest(name: &str, tools: &[&str]) -> AgentManifest {
    AgentManifest {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        category: "test".to_owned(),
        priority: 5,
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        ..AgentManifest::default()
    }
}

pub(super) fn hello(agent: u32, manifest: AgentManifest) -> Event<Segments> {
    Event::Hello(Newcomer {
        agent: AgentId(agent),
        pid: 1000 + agent,
        uid: 7,
        hosted_as: None,
        version: (1, 0),
        manifest,
    })
}

pub(super) fn says(agent: u32, message: ToRouter, segments: Option<u32>) -> Event<Segments> {
    Event::Message { agent: AgentId(agent), message, segments: segments.map(Rc::new) }
}

struct Bus(Router<Segments>);

impl Bus {
    fn with(agents: &[(u32, &str, &[&str])]) -> Self {
        let mut bus = Self(Router::new(99, ["packager".to_owned()]));
        for (id, name, tools) in agents {
            let effects = bus.does(hello(*id, manifest(name, tools)));
            assert!(matches!(
                sent_to(&effects, *id).as_slice(),
                [FromRouter::Welcome { version: (1, 0), instance: 99, .. }]
            ));
        }
        bus
    }

    fn does(&mut self, event: Event<Segments>) -> Vec<Effect<Segments>> {
        self.0.step(event, NOW)
    }

    fn says(
        &mut self,
        agent: u32,
        message: ToRouter,
        segments: Option<u32>,
    ) -> Vec<Effect<Segments>> {
        self.does(says(agent, message, segments))
    }

    /// Links `from` and `to`, whose name is given.
    fn link(&mut self, from: u32, to: u32, name: &str) -> LaneId {
        let effects = self.says(from, open(1, name), Some(10));
        let lane = lane_of(&effects, to);
        let effects = self.says(to, accept(lane, Terms::default()), Some(20));
        assert_eq!(lane_of(&effects, from), lane);
        lane
    }

    fn topic(&mut self, writer: u32, subject: &str) -> LaneId {
        let effects = self.says(writer, publish(2, subject), Some(30));
        lane_of(&effects, writer)
    }

    fn is_empty(&self) -> bool {
        let router = &self.0;
        router.agents.is_empty()
            && router.names.is_empty()
            && router.lanes.is_empty()
            && router.lapses.is_empty()
            && router.topics_count == 0
    }
}

fn open(request: u32, target: &str) -> ToRouter {
    ToRouter::OpenLink { request, target: target.to_owned(), terms: Terms::default() }
}

pub(super) fn accept(lane: LaneId, terms: Terms) -> ToRouter {
    ToRouter::AcceptLink { lane, terms }
}

fn publish(request: u32, subject: &str) -> ToRouter {
    let (subject, policy) = (subject.to_owned(), TopicPolicy::Lossless);
    ToRouter::Publish { request, subject, policy, terms: TopicTerms::default() }
}

fn subscribe(request: u32, pattern: &str) -> ToRouter {
    ToRouter::Subscribe { request, pattern: pattern.to_owned() }
}

fn close(lane: LaneId, reason: &str) -> ToRouter {
    ToRouter::CloseLink { lane, reason: reason.to_owned(), why: CloseCause::Wanted }
}

fn gone(agent: u32) -> Event<Segments> {
    Event::Gone { agent: AgentId(agent), reason: "its process ended".to_owned() }
}

fn sent_to(effects: &[Effect<Segments>], agent: u32) -> Vec<FromRouter> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message, .. } if *to == AgentId(agent) => Some(message.clone()),
        _ => None,
    });
    sent.collect()
}

/// The code of the only `Refused` to `agent`, which must name `request`.
#[track_caller]
fn refusal(effects: &[Effect<Segments>], agent: u32, expected: u32) -> (String, String) {
    let refused = sent_to(effects, agent).into_iter().filter_map(|message| match message {
        FromRouter::Refused { request, code, message } => Some((request, code, message)),
        _ => None,
    });
    let refused: Vec<_> = refused.collect();
    let [(request, code, message)] = refused.as_slice() else { panic!("{effects:?}") };
    assert_eq!(*request, expected);
    (code.clone(), message.clone())
}

#[track_caller]
fn refused_code(effects: &[Effect<Segments>], agent: u32, expected: u32) -> String {
    refusal(effects, agent, expected).0
}

#[track_caller]
fn lane_of(effects: &[Effect<Segments>], agent: u32) -> LaneId {
    for message in sent_to(effects, agent) {
        match message {
            FromRouter::LinkOffered { lane, .. }
            | FromRouter::LinkReady { lane, .. }
            | FromRouter::Published { lane, .. }
            | FromRouter::TopicFound { lane, .. }
            | FromRouter::LinkClosed { lane, .. } => return lane,
            _ => {}
        }
    }
    panic!("no lane for {agent} in {effects:?}");
}

#[track_caller]
fn closing(effects: &[Effect<Segments>], agent: u32) -> (LaneId, String, String) {
    let closed = sent_to(effects, agent).into_iter().filter_map(|message| match message {
        FromRouter::LinkClosed { lane, code, reason } => Some((lane, code, reason)),
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    let [only] = closed.as_slice() else { panic!("{effects:?}") };
    only.clone()
}

fn listed(bus: &mut Bus, filter: &str) -> Vec<u32> {
    let message = ToRouter::ListAgents { request: 5, filter: filter.to_owned() };
    let effects = bus.says(1, message, None);
    let mut ids = Vec::new();
    for message in sent_to(&effects, 1) {
        let FromRouter::Agents { request: 5, agents, .. } = message else { panic!("{message:?}") };
        ids.extend(agents.iter().map(|agent: &AgentInfo| agent.id.0));
    }
    ids
}

#[test]
fn a_taken_name_is_refused_and_the_connection_closed() {
    let mut bus = Bus::with(&[(1, "one", &[])]);
    let effects = bus.does(hello(2, manifest("one", &[])));
    let (code, message) = refusal(&effects, 2, 0);
    assert_eq!(code, "name-taken");
    assert!(message.contains("process 1001"), "{message}");
    assert!(effects.contains(&Effect::Close { agent: AgentId(2) }));
}

#[test]
fn a_name_is_free_again_when_its_bearer_is_gone() {
    let mut bus = Bus::with(&[(1, "one", &[])]);
    bus.does(gone(1));
    let effects = bus.does(hello(2, manifest("one", &[])));
    assert!(matches!(sent_to(&effects, 2).as_slice(), [FromRouter::Welcome { .. }]));
}

#[test]
fn a_hosted_name_is_kept_for_the_process_that_was_started_for_it() {
    let mut bus = Bus::with(&[]);
    let effects = bus.does(hello(1, manifest("packager", &[])));
    assert_eq!(refused_code(&effects, 1, 0), "unauthorized");
    let newcomer = |agent, name, hosted: &str| {
        Event::Hello(Newcomer {
            agent: AgentId(agent),
            pid: 1,
            uid: 7,
            hosted_as: Some(hosted.to_owned()),
            version: (1, 0),
            manifest: manifest(name, &[]),
        })
    };
    let effects = bus.does(newcomer(2, "other", "packager"));
    assert_eq!(refused_code(&effects, 2, 0), "unauthorized");
    let effects = bus.does(newcomer(3, "packager", "packager"));
    assert!(matches!(sent_to(&effects, 3).as_slice(), [FromRouter::Welcome { .. }]));
}

#[test]
fn improper_names_and_patterns_are_malformed() {
    let mut bus = Bus::with(&[]);
    for (id, name) in [(1, ""), (2, "a b"), (3, "a..b"), (4, "*")] {
        let effects = bus.does(hello(id, manifest(name, &[])));
        assert_eq!(refused_code(&effects, id, 0), "malformed");
    }
    let mut greedy = manifest("greedy", &[]);
    greedy.subscriptions = vec!["a.>.b".to_owned()];
    assert_eq!(refused_code(&bus.does(hello(5, greedy)), 5, 0), "malformed");
    assert!(bus.is_empty());
}

#[test]
fn agents_are_found_by_name_tool_capability_and_tag() {
    let mut bus = Bus::with(&[(1, "one", &["a.tool"])]);
    let mut two = manifest("two", &["b.tool"]);
    two.capabilities = vec!["packages".to_owned()];
    two.tags = vec!["fast".to_owned()];
    bus.does(hello(2, two));
    assert_eq!(listed(&mut bus, ""), [1, 2]);
    assert_eq!(listed(&mut bus, "one"), [1]);
    assert_eq!(listed(&mut bus, "b.tool"), [2]);
    assert_eq!(listed(&mut bus, "packages"), [2]);
    assert_eq!(listed(&mut bus, "fast"), [2]);
    assert!(listed(&mut bus, "nobody").is_empty());
}

#[test]
fn a_long_list_comes_in_several_packets_of_which_the_last_says_so() {
    let mut bus = Bus::with(&[]);
    for id in 1..=200 {
        let mut wordy = manifest(&format!("agent-{id}"), &[]);
        wordy.tags = vec!["x".repeat(1000)];
        bus.does(hello(id, wordy));
    }
    let message = ToRouter::ListAgents { request: 5, filter: String::new() };
    let packets = sent_to(&bus.says(1, message, None), 1);
    assert!(packets.len() > 1);
    let (last, before) = packets.split_last().unwrap();
    assert!(matches!(last, FromRouter::Agents { more: false, .. }));
    assert!(before.iter().all(|one| matches!(one, FromRouter::Agents { more: true, .. })));
    assert_eq!(listed(&mut bus, "").len(), 200);
}

#[test]
fn a_link_hands_each_side_the_others_segments_and_the_control_page() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let effects = bus.says(1, open(7, "two"), Some(10));
    let [Effect::Send { to: AgentId(2), message, carry }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    let FromRouter::LinkOffered { lane, from, .. } = message else { panic!("{message:?}") };
    assert_eq!((from.id, from.pid, from.uid), (AgentId(1), 1001, 7));
    assert_eq!(*carry, Carry::Offer(Rc::new(10)));
    let effects = bus.says(2, accept(*lane, Terms::default()), Some(20));
    let [opened, Effect::Send { to: AgentId(1), message, carry }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    let (first, second) = (Rc::new(10), Some(Rc::new(20)));
    assert_eq!(*opened, Effect::LaneOpened { lane: *lane, first, second });
    assert!(matches!(message, FromRouter::LinkReady { request: 7, .. }));
    assert_eq!(*carry, Carry::Ready { peer: Rc::new(20), own: Rc::new(10) });
    assert_eq!(bus.0.lanes_count(), 2);
    assert_eq!(bus.0.next_deadline(), None);
}

#[test]
fn a_tool_leads_to_the_hosted_agent_then_the_urgent_then_the_elder() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &["t"]), (3, "three", &["t"])]);
    assert_eq!(lane_of(&bus.says(1, open(1, "t"), Some(0)), 2), LaneId(1));
    let mut urgent = manifest("four", &["t"]);
    urgent.priority = 9;
    bus.does(hello(4, urgent));
    lane_of(&bus.says(1, open(2, "t"), Some(0)), 4);
    let hosted = Newcomer {
        agent: AgentId(5),
        pid: 5,
        uid: 7,
        hosted_as: Some("packager".to_owned()),
        version: (1, 0),
        manifest: manifest("packager", &["t"]),
    };
    bus.does(Event::Hello(hosted));
    lane_of(&bus.says(1, open(3, "t"), Some(0)), 5);
}

#[test]
fn a_hosted_agent_that_is_down_is_said_to_be_starting() {
    let mut bus = Bus::with(&[(1, "one", &[])]);
    assert_eq!(refused_code(&bus.says(1, open(3, "packager"), Some(0)), 1, 3), "starting");
}

#[test]
fn a_hosted_agent_that_is_given_up_is_said_to_have_failed() {
    let mut bus = Bus::with(&[(1, "one", &[])]);
    let failed = [("packager".to_owned(), "exit status 3".to_owned())];
    bus.0.set_failed(failed.into_iter().collect());
    let (code, text) = refusal(&bus.says(1, open(3, "packager"), Some(0)), 1, 3);
    assert_eq!(code, "agent-failed");
    assert!(text.contains("exit status 3"), "{text}");
}

#[test]
fn links_to_nobody_and_to_oneself_are_refused() {
    let mut bus = Bus::with(&[(1, "one", &["own.tool"])]);
    for target in ["nobody", "one", "own.tool"] {
        let code = refused_code(&bus.says(1, open(3, target), Some(0)), 1, 3);
        assert_eq!(code, "no-such-target");
    }
}

#[test]
fn a_declined_offer_gives_the_reason() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let lane = lane_of(&bus.says(1, open(3, "two"), Some(0)), 2);
    let (code, message) = refusal(&bus.says(2, close(lane, "too busy"), None), 1, 3);
    assert_eq!(code, "declined");
    assert!(message.ends_with("too busy"));
    assert!(bus.0.lanes.is_empty());
}

#[test]
fn an_unanswered_offer_lapses_for_both_sides() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    bus.says(1, open(3, "two"), Some(0));
    let at = bus.0.next_deadline().unwrap();
    assert_eq!(at, NOW + OFFER_TIMEOUT);
    assert!(bus.0.step(Event::Tick, at - Duration::from_nanos(1)).is_empty());
    let effects = bus.0.step(Event::Tick, at);
    let (code, message) = refusal(&effects, 1, 3);
    assert_eq!(code, "no-answer");
    assert!(message.contains("`two` did not answer"), "{message}");
    let (lane, code, _) = closing(&effects, 2);
    assert_eq!(code, "closed");
    assert!(bus.says(2, accept(lane, Terms::default()), Some(0)).is_empty());
}

#[test]
fn only_the_target_may_accept() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    let lane = lane_of(&bus.says(1, open(3, "two"), Some(0)), 2);
    assert!(bus.says(3, accept(lane, Terms::default()), Some(0)).is_empty());
    assert!(bus.says(1, accept(lane, Terms::default()), Some(0)).is_empty());
    assert!(!bus.says(2, accept(lane, Terms::default()), Some(0)).is_empty());
}

#[test]
fn a_bad_segment_of_the_acceptor_is_told_to_both() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let lane = lane_of(&bus.says(1, open(3, "two"), Some(0)), 2);
    let message = accept(lane, Terms::default());
    let reason = "no seals".to_owned();
    let (agent, code) = (AgentId(2), "bad-segment");
    let effects = bus.does(Event::BadSegment { agent, message, code, reason });
    assert_eq!(refused_code(&effects, 1, 3), "bad-segment");
    assert_eq!(closing(&effects, 2).1, "revoked");
    assert!(bus.0.lanes.is_empty());
}

#[test]
fn closing_a_link_tells_the_other_side_why_within_bounds() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let lane = bus.link(1, 2, "two");
    let effects = bus.says(1, close(lane, &"é".repeat(REASON_BYTES_MAX)), None);
    let (closed, code, reason) = closing(&effects, 2);
    assert_eq!((closed, code.as_str()), (lane, "closed"));
    assert!(reason.len() <= REASON_BYTES_MAX);
    assert!(effects.contains(&Effect::LaneEnded { lane, ending: Ending::Closed }));
    assert!(bus.says(2, close(lane, ""), None).is_empty());
}

#[test]
fn a_death_closes_links_as_peer_gone_and_says_who_died() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let lane = bus.link(1, 2, "two");
    let effects = bus.does(gone(2));
    let (closed, code, reason) = closing(&effects, 1);
    assert_eq!((closed, code.as_str()), (lane, "peer-gone"));
    assert!(reason.contains("`two`") && reason.contains("process 1002"), "{reason}");
    assert!(effects.contains(&Effect::LaneEnded { lane, ending: Ending::PeerGone }));
    assert!(bus.does(gone(2)).is_empty());
}

#[test]
fn a_death_answers_open_offers_on_both_sides() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    bus.says(1, open(3, "two"), Some(0));
    let lane = lane_of(&bus.says(2, open(4, "three"), Some(0)), 3);
    let effects = bus.does(gone(2));
    assert_eq!(refused_code(&effects, 1, 3), "peer-gone");
    assert_eq!(closing(&effects, 3).0, lane);
    // Whoever has accepted in this very moment sleeps on the control page.
    let ended = Effect::OfferEnded { segments: Rc::new(0), ending: Ending::PeerGone };
    assert_eq!(effects.iter().filter(|effect| **effect == ended).count(), 2);
    assert_eq!(bus.0.next_deadline(), None);
}

#[test]
fn grants_go_to_the_other_end_of_a_link_only() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    let lane = bus.link(1, 2, "two");
    let grant = ToRouter::Grant { lane, grant: GrantId(8) };
    for (from, to) in [(1, 2), (2, 1)] {
        let effects = bus.says(from, grant.clone(), Some(40));
        let message = FromRouter::Granted { lane, grant: GrantId(8) };
        let carry = Carry::Grant(Rc::new(40));
        assert_eq!(effects, [Effect::Send { to: AgentId(to), message, carry }]);
    }
    assert!(bus.says(3, grant, Some(40)).is_empty());
}

#[test]
fn topics_are_announced_to_present_and_future_subscribers_once() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    assert!(matches!(
        sent_to(&bus.says(2, subscribe(4, "event.*"), None), 2).as_slice(),
        [FromRouter::Subscribed { request: 4 }]
    ));
    let effects = bus.says(1, publish(2, "event.up"), Some(30));
    let found = sent_to(&effects, 2);
    assert!(matches!(found.as_slice(), [FromRouter::TopicFound { request: 4, .. }]), "{found:?}");
    assert!(sent_to(&effects, 3).is_empty());
    let later = sent_to(&bus.says(3, subscribe(5, ">"), None), 3);
    assert!(matches!(
        later.as_slice(),
        [FromRouter::Subscribed { request: 5 }, FromRouter::TopicFound { request: 5, .. }]
    ));
    let again = sent_to(&bus.says(2, subscribe(6, ">"), None), 2);
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(sent_to(&bus.says(1, subscribe(6, ">"), None), 1).len(), 1);
}

#[test]
fn patterns_of_a_manifest_count_from_the_start() {
    let mut bus = Bus::with(&[(1, "one", &[])]);
    bus.topic(1, "event.up");
    let mut two = manifest("two", &[]);
    two.subscriptions = vec!["event.>".to_owned()];
    let sent = sent_to(&bus.does(hello(2, two)), 2);
    assert!(matches!(
        sent.as_slice(),
        [FromRouter::Welcome { .. }, FromRouter::TopicFound { request: 0, .. }]
    ));
}

#[test]
fn readers_join_leave_and_are_forgotten_when_they_die() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let lane = bus.topic(1, "t");
    assert!(bus.says(2, ToRouter::JoinTopic { lane }, Some(0)).is_empty(), "not announced");
    bus.says(2, subscribe(1, "t"), None);
    let join = || ToRouter::JoinTopic { lane };
    let reader = AgentId(2);
    let joined = [FromRouter::ReaderJoined { lane, reader }];
    let left = [FromRouter::ReaderLeft { lane, reader }];
    assert_eq!(sent_to(&bus.says(2, join(), Some(0)), 1), joined);
    assert_eq!(sent_to(&bus.says(2, close(lane, ""), None), 1), left);
    assert_eq!(sent_to(&bus.says(2, join(), Some(0)), 1), joined);
    assert_eq!(sent_to(&bus.does(gone(2)), 1), left);
    assert!(sent_to(&bus.says(1, close(lane, ""), None), 2).is_empty());
}

#[test]
fn a_topic_ends_with_its_writer_for_everyone_who_knew_it() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    for reader in [2, 3] {
        bus.says(reader, subscribe(1, "t"), None);
    }
    let lane = bus.topic(1, "t");
    bus.says(2, ToRouter::JoinTopic { lane }, Some(0));
    let effects = bus.does(gone(1));
    for reader in [2, 3] {
        let (closed, code, _) = closing(&effects, reader);
        assert_eq!((closed, code.as_str()), (lane, "peer-gone"));
    }
    assert_eq!(bus.0.topics_count, 0);
    assert_eq!(bus.0.lanes_count(), 0);
}

#[test]
fn too_many_readers_are_turned_away_without_harm_to_the_others() {
    let mut bus = Bus::with(&[(1, "one", &[])]);
    let lane = bus.topic(1, "t");
    for id in 2..=READERS_PER_TOPIC_MAX as u32 + 2 {
        let mut reader = manifest(&format!("reader-{id}"), &[]);
        reader.subscriptions = vec!["t".to_owned()];
        bus.does(hello(id, reader));
        let effects = bus.says(id, ToRouter::JoinTopic { lane }, Some(0));
        if id as usize > READERS_PER_TOPIC_MAX + 1 {
            assert_eq!(closing(&effects, id).1, "revoked");
        } else {
            assert_eq!(sent_to(&effects, 1).len(), 1);
        }
    }
}

#[test]
fn every_limit_of_an_agent_is_held() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    for request in 1..=OFFERS_PER_AGENT_MAX as u32 {
        lane_of(&bus.says(1, open(request, "two"), Some(0)), 2);
    }
    assert_eq!(refused_code(&bus.says(1, open(99, "two"), Some(0)), 1, 99), "limit");
    for request in 1..=TOPICS_PER_AGENT_MAX as u32 {
        lane_of(&bus.says(1, publish(request, &format!("t.{request}")), Some(0)), 1);
    }
    assert_eq!(refused_code(&bus.says(1, publish(99, "t"), Some(0)), 1, 99), "limit");
    for request in 1..=SUBSCRIPTIONS_PER_AGENT_MAX as u32 {
        bus.says(1, subscribe(request, "x"), None);
    }
    assert_eq!(refused_code(&bus.says(1, subscribe(99, "x"), None), 1, 99), "limit");
}

#[test]
fn answered_offers_make_room_for_new_ones() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    for _ in 0..OFFERS_PER_AGENT_MAX * 3 {
        bus.link(1, 2, "two");
        let lane = lane_of(&bus.says(1, open(3, "two"), Some(0)), 2);
        bus.says(2, close(lane, "no"), None);
    }
}

#[test]
fn the_bus_has_room_for_so_many_agents_and_no_more() {
    let mut bus = Bus::with(&[]);
    for id in 1..=AGENTS_MAX as u32 {
        bus.does(hello(id, manifest(&format!("agent-{id}"), &[])));
    }
    assert_eq!(refused_code(&bus.does(hello(9999, manifest("late", &[]))), 9999, 0), "limit");
}

#[test]
fn draining_tells_everybody_and_refuses_what_is_new() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let lane = bus.link(1, 2, "two");
    let effects = bus.does(Event::Drain);
    assert_eq!(sent_to(&effects, 1), [FromRouter::Draining]);
    assert_eq!(sent_to(&effects, 2), [FromRouter::Draining]);
    assert!(bus.does(Event::Drain).is_empty());
    assert_eq!(refused_code(&bus.does(hello(3, manifest("three", &[]))), 3, 0), "draining");
    assert_eq!(refused_code(&bus.says(1, open(4, "two"), Some(0)), 1, 4), "draining");
    assert_eq!(refused_code(&bus.says(1, publish(5, "t"), Some(0)), 1, 5), "draining");
    let grant = ToRouter::Grant { lane, grant: GrantId(1) };
    assert_eq!(sent_to(&bus.says(1, grant, Some(0)), 2).len(), 1);
}

#[test]
fn breaking_the_protocol_ends_the_connection_and_frees_everything() {
    for message in [
        ToRouter::ListAgents { request: 0, filter: String::new() },
        ToRouter::Hello { version: (1, 0), manifest: manifest("x", &[]), token: Vec::new() },
        accept(LaneId(1), Terms::default()),
    ] {
        let mut bus = Bus::with(&[(1, "one", &[])]);
        bus.topic(1, "t");
        let effects = bus.says(1, message, None);
        assert_eq!(refused_code(&effects, 1, 0), "malformed");
        assert!(effects.contains(&Effect::Close { agent: AgentId(1) }));
        assert!(bus.is_empty());
    }
}

#[test]
fn goodbye_frees_everything_and_peers_see_an_orderly_close() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    bus.link(1, 2, "two");
    let effects = bus.says(1, ToRouter::Bye, None);
    assert_eq!(closing(&effects, 2).1, "closed");
    assert!(effects.contains(&Effect::Close { agent: AgentId(1) }));
    bus.does(gone(1));
    bus.does(gone(2));
    assert!(bus.is_empty());
}

/// A bus whose `quiet.*` agents have no direct links: 1 is the exchange, 2 and 3 want to talk.
fn routed() -> Bus {
    let router = Router::new(99, [NAME.to_owned()]).with_routed(vec!["quiet.*".to_owned()]);
    let mut bus = Bus(router);
    let Event::Hello(newcomer) = hello(1, manifest(NAME, &[])) else { unreachable!() };
    bus.does(Event::Hello(Newcomer { hosted_as: Some(NAME.to_owned()), ..newcomer }));
    bus.does(hello(2, manifest("quiet.asker", &[])));
    bus.does(hello(3, manifest("answerer", &["answer"])));
    bus
}

/// Opens a route from 2 to 3 as far as the exchange has not accepted the first of its two lanes.
fn far_half(bus: &mut Bus) -> (LaneId, LaneId) {
    let effects = bus.says(2, open(7, "answer"), Some(10));
    let sent = sent_to(&effects, 1);
    let [FromRouter::RouteWanted { lane: first, from, target, .. }] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!((from.id, target.id), (AgentId(2), AgentId(3)));
    let first = *first;
    let effects =
        bus.says(1, ToRouter::OpenRoute { request: 8, first, terms: Terms::default() }, Some(11));
    let sent = sent_to(&effects, 3);
    let [FromRouter::LinkOffered { lane: second, from, .. }] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(from.id, AgentId(2), "the target sees who really asks");
    let second = *second;
    let effects = bus.says(3, accept(second, Terms::default()), Some(12));
    assert_eq!(lane_of(&effects, 1), second);
    (first, second)
}

/// Opens a route from 2 to 3: its two lanes.
fn route(bus: &mut Bus) -> (LaneId, LaneId) {
    let (first, second) = far_half(bus);
    let effects = bus.says(1, accept(first, Terms::default()), Some(13));
    let sent = sent_to(&effects, 2);
    let [FromRouter::LinkReady { request: 7, lane, peer, .. }] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!((*lane, peer.id), (first, AgentId(3)), "the opener sees whom it reached");
    (first, second)
}

#[test]
fn a_link_that_may_not_be_direct_passes_through_the_exchange() {
    let mut bus = routed();
    let (first, second) = route(&mut bus);
    assert_ne!(first, second);
    assert_eq!(bus.0.lanes_count(), 4);
}

#[test]
fn a_grant_skips_the_exchange() {
    let mut bus = routed();
    let (first, second) = route(&mut bus);
    let grant = GrantId(5);
    let effects = bus.says(2, ToRouter::Grant { lane: first, grant }, Some(20));
    assert_eq!(sent_to(&effects, 3), [FromRouter::Granted { lane: second, grant }]);
    assert!(sent_to(&effects, 1).is_empty());
    let effects = bus.says(3, ToRouter::Grant { lane: second, grant }, Some(21));
    assert_eq!(sent_to(&effects, 2), [FromRouter::Granted { lane: first, grant }]);
    let effects = bus.says(1, ToRouter::Grant { lane: second, grant }, Some(22));
    assert_eq!(sent_to(&effects, 3), [FromRouter::Granted { lane: second, grant }]);
}

#[test]
fn the_other_half_ends_as_the_first_one_did() {
    let mut bus = routed();
    let (first, second) = route(&mut bus);
    let effects = bus.does(Event::Gone { agent: AgentId(2), reason: "killed".to_owned() });
    let told = |effects: &[Effect<Segments>], to: u32| match sent_to(effects, to).as_slice() {
        [FromRouter::LinkClosed { lane, code, .. }] => (*lane, code.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&effects, 1), (first, "peer-gone".to_owned()));
    assert!(sent_to(&effects, 3).is_empty(), "what is on its way is passed on first");
    let effects = bus.says(1, close(second, "the other side is gone"), None);
    assert_eq!(told(&effects, 3), (second, "peer-gone".to_owned()));
    assert_eq!(bus.0.lanes_count(), 0);
}

#[test]
fn a_half_that_was_never_accepted_ends_and_the_other_one_knows_how() {
    let mut bus = routed();
    let (_, second) = far_half(&mut bus);
    bus.does(Event::Gone { agent: AgentId(2), reason: "killed".to_owned() });
    let effects = bus.says(1, close(second, "the other side is gone"), None);
    let [FromRouter::LinkClosed { lane, code, .. }] = &sent_to(&effects, 3)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((*lane, &**code), (second, "peer-gone"));
    assert_eq!(bus.0.lanes_count(), 0);
}

#[test]
fn only_the_exchange_may_open_a_route_and_only_one_that_is_wanted() {
    let mut bus = routed();
    let effects = bus.says(2, open(7, "answer"), Some(10));
    let FromRouter::RouteWanted { lane: first, .. } = sent_to(&effects, 1)[0].clone() else {
        panic!()
    };
    let open_route = |first| ToRouter::OpenRoute { request: 9, first, terms: Terms::default() };
    let refused = |effects: Vec<Effect<Segments>>, to| {
        matches!(sent_to(&effects, to).as_slice(), [FromRouter::Refused { request: 9, .. }])
    };
    assert!(refused(bus.says(3, open_route(first), Some(11)), 3));
    assert!(refused(bus.says(1, open_route(LaneId(99)), Some(11)), 1));
    bus.says(1, open_route(first), Some(11));
    assert!(refused(bus.says(1, open_route(first), Some(11)), 1), "once");
}

#[test]
fn without_the_exchange_nothing_is_routed_and_nothing_is_direct() {
    let mut bus = routed();
    bus.does(Event::Gone { agent: AgentId(1), reason: "crashed".to_owned() });
    let effects = bus.says(2, open(7, "answer"), Some(10));
    assert!(matches!(
        sent_to(&effects, 2).as_slice(),
        [FromRouter::Refused { request: 7, code, .. }] if code == "starting"
    ));
    bus.does(hello(4, manifest("loud", &[])));
    bus.link(4, 3, "answerer");
}

fn found(effects: &[Effect<Segments>], agent: u32) -> Vec<(LaneId, u32, Option<LaneId>)> {
    let sent = sent_to(effects, agent).into_iter().filter_map(|message| match message {
        FromRouter::TopicFound { lane, lineage, .. } => {
            Some((lane, lineage.epoch, lineage.follows))
        }
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_writer_that_starts_again_begins_the_next_epoch() {
    let mut bus = Bus::with(&[(1, "writer", &[]), (2, "reader", &[]), (3, "other", &[])]);
    bus.says(2, subscribe(1, "t"), None);
    let mut last = None;
    for epoch in 1..4 {
        let effects = bus.says(1, publish(2, "t"), Some(30));
        let lane = lane_of(&effects, 2);
        assert_eq!(found(&effects, 2), [(lane, epoch, last)]);
        let published = FromRouter::Published { request: 2, lane, epoch };
        assert_eq!(sent_to(&effects, 1), [published]);
        bus.does(gone(1));
        bus.does(hello(1, manifest("writer", &[])));
        last = Some(lane);
    }
    let effects = bus.says(3, publish(2, "t"), Some(30));
    assert_eq!(found(&effects, 2)[0].1, 1, "another writer's topic is another topic");
    let effects = bus.says(1, publish(2, "u"), Some(30));
    assert!(matches!(sent_to(&effects, 1)[0], FromRouter::Published { epoch: 1, .. }));
}

#[test]
fn only_the_writer_drops_a_reader_and_the_reader_hears_of_it() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    let lane = bus.topic(1, "t");
    bus.says(2, subscribe(1, "t"), None);
    bus.says(2, ToRouter::JoinTopic { lane }, Some(0));
    let drops = |reader: u32| {
        let (reader, reason) = (AgentId(reader), "too slow".to_owned());
        ToRouter::DropReader { lane, reader, reason, why: CloseCause::Wanted }
    };
    assert!(bus.says(3, drops(2), None).is_empty());
    assert!(bus.says(1, drops(3), None).is_empty());
    let effects = bus.says(1, drops(2), None);
    let (closed, code, reason) = closing(&effects, 2);
    assert_eq!((closed, &*code, &*reason), (lane, "revoked", "too slow"));
    let left = FromRouter::ReaderLeft { lane, reader: AgentId(2) };
    assert_eq!(sent_to(&effects, 1), [left]);
    assert!(bus.says(1, drops(2), None).is_empty());
    bus.says(2, ToRouter::JoinTopic { lane }, Some(0));
    let (reader, reason, why) = (AgentId(2), "unfit".to_owned(), CloseCause::Quarantined);
    let effects = bus.says(1, ToRouter::DropReader { lane, reader, reason, why }, None);
    assert_eq!(closing(&effects, 2).1, "quarantined", "the true reason");
}

#[test]
fn a_link_that_broke_the_protocol_is_told_as_such() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let lane = bus.link(1, 2, "two");
    let reason = "it scribbled".to_owned();
    let close = ToRouter::CloseLink { lane, reason, why: CloseCause::Quarantined };
    let effects = bus.says(1, close, None);
    let (closed, code, reason) = closing(&effects, 2);
    assert_eq!((closed, &*code, &*reason), (lane, "quarantined", "it scribbled"));
    let ended = Effect::LaneEnded { lane, ending: Ending::Quarantined };
    assert!(effects.contains(&ended), "{effects:?}");
}

#[test]
fn an_agent_that_declines_a_topic_of_a_group_is_not_waited_for() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    bus.says(2, subscribe(1, "_group.g"), None);
    let lane = bus.topic(1, "_group.g");
    let left = FromRouter::ReaderLeft { lane, reader: AgentId(2) };
    assert_eq!(sent_to(&bus.says(2, close(lane, "no room"), None), 1), [left]);
    assert!(bus.says(2, close(lane, "again"), None).is_empty());
    assert_eq!(found(&bus.says(2, subscribe(2, "_group.g"), None), 2).len(), 1, "told again");
}

#[test]
fn descriptors_for_which_there_was_no_room_expel_nobody() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let lane = bus.link(1, 2, "two");
    let message = ToRouter::Grant { lane, grant: GrantId(1) };
    let (agent, reason, code) = (AgentId(1), "none left".to_owned(), "limit:open_files");
    let starved = Event::BadSegment { agent, message, code, reason };
    assert!(bus.does(starved).is_empty());
    assert_eq!(bus.0.limited().get("open_files"), Some(&1));
    assert_eq!(bus.0.agents().count(), 2);
}

#[test]
fn the_sender_of_a_group_knows_whom_to_expect_before_it_can_send() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    bus.says(2, subscribe(1, "_group.g"), None);
    bus.says(3, subscribe(1, ">"), None);
    let effects = bus.says(1, publish(2, "_group.g"), Some(30));
    let sent = sent_to(&effects, 1);
    let [FromRouter::ReaderExpected { lane, reader }, FromRouter::Published { .. }] = sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_eq!(reader, AgentId(2));
    assert!(sent_to(&effects, 3).is_empty(), "everything is not every group");
    let expected = FromRouter::ReaderExpected { lane, reader: AgentId(3) };
    let left = |reader| FromRouter::ReaderLeft { lane, reader: AgentId(reader) };
    assert_eq!(sent_to(&bus.says(3, subscribe(5, "_group.g"), None), 1), [expected]);
    assert_eq!(sent_to(&bus.does(gone(2)), 1), [left(2)]);
    let leave = ToRouter::Unsubscribe { subscription: 5 };
    assert_eq!(sent_to(&bus.says(3, leave.clone(), None), 1), [left(3)]);
    assert!(bus.says(3, leave, None).is_empty());
}

#[test]
fn a_subscription_that_is_taken_back_leaves_topics_that_no_other_covers() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    let (a, b) = (bus.topic(1, "a"), bus.topic(1, "b"));
    bus.says(2, subscribe(1, "a"), None);
    bus.says(2, subscribe(2, "*"), None);
    for lane in [a, b] {
        bus.says(2, ToRouter::JoinTopic { lane }, Some(0));
    }
    let effects = bus.says(2, ToRouter::Unsubscribe { subscription: 2 }, None);
    let left = FromRouter::ReaderLeft { lane: b, reader: AgentId(2) };
    assert_eq!(sent_to(&effects, 1), [left], "`a` is still covered");
    bus.says(2, ToRouter::Unsubscribe { subscription: 0 }, None);
    assert_eq!(found(&bus.says(2, subscribe(3, "b"), None), 2).len(), 1, "announced again");
}
