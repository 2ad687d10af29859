//! One writer of a subject at a time: what a reader can tell apart.

use ipc::control::{CloseCause, FromRouter, ToRouter};

use super::{Bus, found, lane_of, publish, refused_code, subscribe};

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
    let next = super::sent_to(&effects, 3);
    let [FromRouter::TopicFound { lineage, .. }] = &next[..] else { panic!("{next:?}") };
    assert_eq!((lineage.epoch, lineage.follows), (2, Some(first)));
}
