//! Who has topics: those who may map the memory of others.

use ipc::class::{Class, ClassSet};

use super::*;

fn subscribe(request: u32) -> ToRouter {
    ToRouter::Subscribe { request, pattern: "news".to_owned() }
}

fn publish(request: u32) -> ToRouter {
    let (subject, policy) = ("news".to_owned(), TopicPolicy::Lossy);
    ToRouter::Publish { request, subject, policy, terms: TopicTerms::default() }
}

#[track_caller]
fn is_refused(bus: &mut Bus, agent: u32, because: &str) {
    let (publish, subscribe) =
        (bus.says(agent, publish(5), Some(0)), bus.says(agent, subscribe(6), None));
    for (effects, request) in [(publish, 5), (subscribe, 6)] {
        let (code, message) = refusal(&effects, agent, request);
        assert_eq!(code, "no-class");
        assert!(message.contains(because) && message.contains("use a log"), "{message}");
    }
}

#[test]
fn where_links_may_not_be_critical_there_are_no_topics() {
    let classes = ClassSet::LINKS.without(Class::Critical);
    let mut bus = Bus(Router::new(99, []).with_classes(classes));
    bus.does(hello(1, manifest("one", &[])));
    is_refused(&mut bus, 1, "`bus.classes` does not allow it");
    assert_eq!(bus.0.topics().count(), 0);
}

#[test]
fn a_routed_agent_neither_writes_topics_nor_hears_of_any() {
    let mut bus = Bus(Router::new(99, []).with_routed(vec!["quiet.>".to_owned()]));
    let wants_news =
        AgentManifest { subscriptions: vec!["news".to_owned()], ..manifest("quiet.reader", &[]) };
    bus.does(hello(1, wants_news));
    assert_eq!(bus.0.refused().get("no-class"), Some(&1), "its manifest asks in vain");
    bus.does(hello(2, manifest("writer", &[])));
    bus.does(hello(3, manifest("reader", &[])));
    is_refused(&mut bus, 1, "`bus.routed` has `quiet.>`");
    bus.says(3, subscribe(7), None);
    let effects = bus.says(2, publish(8), Some(0));
    assert!(sent_to(&effects, 1).is_empty());
    assert!(matches!(sent_to(&effects, 3).as_slice(), [FromRouter::TopicFound { .. }]));
}
