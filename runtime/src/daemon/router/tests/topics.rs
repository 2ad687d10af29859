//! One writer of a subject at a time: what a reader can tell apart; and what closing says of why.

use ipc::control::{CloseCause, FromRouter, ToRouter};
use ipc::header::AgentId;

use super::super::{Effect, Ending};
use super::{Bus, closing, found, lane_of, publish, refused_code, sent_to, subscribe};

#[test]
fn an_agent_publishes_a_subject_once_at_a_time_and_then_with_the_next_epoch() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    bus.says(3, subscribe(1, "t"), None);
    let first = lane_of(&bus.says(1, publish(2, "t"), Some(30)), 1);
    let refused = bus.says(1, publish(3, "t"), Some(30));
    assert_eq!(refused_code(&refused, 1, 3), "name-taken");
    assert!(found(&refused, 3).is_empty(), "readers hear of one");
    // Another agent's is another topic, and another subject as well.
    assert_eq!(found(&bus.says(2, publish(2, "t"), Some(30)), 3).len(), 1);
    lane_of(&bus.says(1, publish(4, "u"), Some(30)), 1);
    let end = ToRouter::CloseLink { lane: first, reason: String::new(), why: CloseCause::Wanted };
    bus.says(1, end, None);
    let effects = bus.says(1, publish(5, "t"), Some(30));
    let next = sent_to(&effects, 3);
    let [FromRouter::TopicFound { lineage, .. }] = &next[..] else { panic!("{next:?}") };
    assert_eq!((lineage.epoch, lineage.follows), (2, Some(first)));
}

#[test]
fn a_topic_ends_as_its_writer_says_and_a_reader_that_leaves_ends_nothing() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[])]);
    for (why, ending) in
        [(CloseCause::Wanted, Ending::Closed), (CloseCause::Quarantined, Ending::Quarantined)]
    {
        let lane = bus.topic(1, "t");
        bus.says(2, subscribe(1, "t"), None);
        bus.says(2, ToRouter::JoinTopic { lane }, Some(0));
        let close = || ToRouter::CloseLink { lane, reason: "why".to_owned(), why };
        let left = FromRouter::ReaderLeft { lane, reader: AgentId(2) };
        let effects = bus.says(2, close(), None);
        assert_eq!(sent_to(&effects, 1), [left]);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::LaneEnded { .. })));
        let effects = bus.says(1, close(), None);
        let (closed, code, reason) = closing(&effects, 2);
        assert_eq!((closed, &*code, &*reason), (lane, ending.code(), "why"));
        assert!(effects.contains(&Effect::LaneEnded { lane, ending }), "{effects:?}");
    }
}
