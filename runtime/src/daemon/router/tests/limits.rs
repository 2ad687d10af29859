//! What one agent may have: refused beyond, by name, and counted.

use ipc::manifest::OwnLimits;

use super::*;
use crate::daemon::quota::LimitTable;

fn limited(text: &str) -> Bus {
    let limits = LimitTable::parse(text).unwrap();
    let mut bus = Bus(Router::new(99, []).with_limits(limits));
    for (id, name) in [(1, "one"), (2, "two"), (3, "three")] {
        bus.does(hello(id, manifest(name, &[])));
    }
    bus
}

#[test]
fn one_link_more_than_declared_is_refused_by_name_on_either_side() {
    let mut bus = limited("two: links=1");
    let lane = bus.link(1, 2, "two");
    for (from, to) in [(3, "two"), (2, "three")] {
        let effects = bus.says(from, open(4, to), Some(0));
        let (code, message) = refusal(&effects, from, 4);
        assert_eq!(code, "limit");
        assert!(message.contains("limit `links`: `two` already has 1, of at most 1"), "{message}");
    }
    assert_eq!(bus.0.limited().get("links"), Some(&2));
    assert_eq!(bus.0.refused().get("limit"), Some(&2));
    bus.says(1, close(lane, "done"), None);
    bus.link(3, 2, "two");
}

#[test]
fn a_refusal_says_where_its_limit_was_set() {
    let mut bus = limited("two: links=5");
    let asks = OwnLimits { links: Some(1), ..OwnLimits::default() };
    bus.does(hello(4, AgentManifest { limits: asks, ..manifest("four", &[]) }));
    let asks = OwnLimits { links: Some(9), ..OwnLimits::default() };
    bus.does(hello(5, AgentManifest { limits: asks, ..manifest("five", &[]) }));
    bus.link(4, 5, "five");
    let (_, message) = refusal(&bus.says(4, open(7, "one"), Some(0)), 4, 7);
    assert!(message.ends_with("of at most 1 (set by its own manifest)"), "{message}");
    for _ in 0..5 {
        bus.link(5, 2, "two");
    }
    let (_, message) = refusal(&bus.says(5, open(7, "two"), Some(0)), 5, 7);
    assert!(message.ends_with("of at most 5 (set by `bus.limits` for `two`)"), "{message}");
}

#[test]
fn descriptors_that_the_daemon_keeps_are_bounded_too() {
    let mut bus = limited("two: descriptors=9");
    bus.link(1, 2, "two");
    let effects = bus.says(3, open(4, "two"), Some(0));
    let (code, message) = refusal(&effects, 3, 4);
    assert_eq!(code, "limit");
    assert!(message.contains("limit `descriptors`"), "{message}");
    assert_eq!(bus.0.limited().get("descriptors"), Some(&1));
}

#[test]
fn memory_beyond_the_share_is_a_refusal_like_others() {
    let mut bus = limited("");
    let (agent, code, reason) = (AgentId(1), "limit:bytes", "limit `bytes`: 9 of 8".to_owned());
    let message = open(4, "two");
    let effects = bus.does(Event::BadSegment { agent, message, code, reason });
    assert_eq!(refusal(&effects, 1, 4), ("limit".to_owned(), "limit `bytes`: 9 of 8".to_owned()));
    assert_eq!(bus.0.limited().get("bytes"), Some(&1));
}
