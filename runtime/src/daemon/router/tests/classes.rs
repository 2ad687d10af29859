//! Which class a link gets, and revocation.

use ipc::class::{Class, ClassSet};

use super::*;

/// A bus of two agents that speak `version`, where links are of these classes.
fn bus(classes: ClassSet, version: (u16, u16)) -> Bus {
    let mut bus = Bus(Router::new(99, []).with_classes(classes));
    for (id, name) in [(1, "one"), (2, "two")] {
        let Event::Hello(newcomer) = hello(id, manifest(name, &[])) else { unreachable!() };
        bus.does(Event::Hello(Newcomer { version, ..newcomer }));
    }
    bus
}

fn wants(class: Class, ring: Option<u32>) -> ToRouter {
    let terms = Terms { ring, ..Terms::wanted(class) };
    ToRouter::OpenLink { request: 1, target: "two".to_owned(), terms }
}

/// The terms of the offer to agent 2.
#[track_caller]
fn offered(effects: &[Effect<Segments>]) -> (LaneId, Terms) {
    match sent_to(effects, 2).as_slice() {
        [FromRouter::LinkOffered { lane, terms, .. }] => (*lane, terms.clone()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn ready(effects: &[Effect<Segments>]) -> Terms {
    match sent_to(effects, 1).as_slice() {
        [FromRouter::LinkReady { terms, .. }] => terms.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_link_has_the_class_that_is_wanted_and_allowed() {
    for class in ClassSet::LINKS.iter() {
        let mut bus = bus(ClassSet::LINKS, (1, 2));
        let (lane, terms) = offered(&bus.says(1, wants(class, Some(7)), Some(0)));
        assert_eq!(terms, Terms { ring: Some(7), ..Terms::wanted(class) });
        let answer = Terms { ring: Some(8), ..terms };
        assert_eq!(ready(&bus.says(2, accept(lane, answer.clone()), Some(0))), answer);
        assert_eq!(bus.0.class_of(lane), class);
        assert_eq!(bus.0.fallbacks().count(), 0);
    }
}

#[test]
fn what_is_forbidden_falls_one_class_down_and_is_counted() {
    let chain = [
        (ClassSet::LINKS.without(Class::Critical), Some(1), Class::High),
        (ClassSet::LINKS.without(Class::Critical), None, Class::Normal),
        (ClassSet::NONE.with(Class::Normal), Some(1), Class::Normal),
    ];
    for (allowed, ring, got) in chain {
        let mut bus = bus(allowed, (1, 2));
        let effects = bus.says(1, wants(Class::Critical, ring), Some(0));
        let (lane, terms) = offered(&effects);
        assert_eq!((terms.class, terms.wanted), (got, Class::Critical));
        assert!(terms.reason.contains("the router does not allow it"), "{terms:?}");
        let told = ready(&bus.says(2, accept(lane, terms.clone()), Some(0)));
        assert_eq!((told.class, &told.reason), (got, &terms.reason));
        let counted: Vec<_> = bus.0.fallbacks().collect();
        assert_eq!(counted, [(Class::Critical, got, 1, terms.reason.as_str())]);
    }
}

#[test]
fn an_acceptor_may_go_down_and_its_reason_is_told_but_never_up() {
    let mut bus = bus(ClassSet::LINKS, (1, 2));
    let (lane, mut terms) = offered(&bus.says(1, wants(Class::High, Some(1)), Some(0)));
    terms.fall("no rings").unwrap();
    let told = ready(&bus.says(2, accept(lane, terms), Some(0)));
    assert_eq!((told.class, told.reason.as_str()), (Class::Normal, "high: no rings"));

    let (lane, terms) = offered(&bus.says(1, wants(Class::Normal, None), Some(0)));
    let better = Terms { class: Class::Critical, ..terms };
    let effects = bus.says(2, accept(lane, better), Some(0));
    assert_eq!(refused_code(&effects, 1, 1), "no-class");
    assert_eq!(closing(&effects, 2).0, lane);
}

#[test]
fn agents_of_an_earlier_version_have_critical_links_or_none() {
    let mut old = bus(ClassSet::LINKS, (1, 1));
    let (_, terms) = offered(&old.says(1, wants(Class::Critical, None), Some(0)));
    assert_eq!(terms, Terms::default());
    let effects = old.says(1, wants(Class::High, Some(1)), Some(0));
    let (code, message) = refusal(&effects, 1, 1);
    assert_eq!(code, "no-class");
    assert!(message.contains("speaks 1.1"), "{message}");
    let mut without = bus(ClassSet::LINKS.without(Class::Critical), (1, 1));
    let effects = without.says(1, wants(Class::Critical, None), Some(0));
    assert_eq!(refused_code(&effects, 1, 1), "no-class");
}

#[test]
fn revoking_ends_a_link_for_both_sides() {
    let mut bus = Bus::with(&[(1, "one", &[]), (2, "two", &[]), (3, "three", &[])]);
    let lane = bus.link(1, 2, "two");
    let other = bus.link(3, 2, "two");
    let topic = bus.topic(2, "news");
    let revoke = |lane| ToRouter::Revoke {
        request: 9,
        agent: "two".to_owned(),
        lane,
        reason: "enough".to_owned(),
    };
    let effects = bus.says(3, revoke(lane), None);
    for side in [1, 2] {
        let (closed, code, reason) = closing(&effects, side);
        assert_eq!((closed, code.as_str()), (lane, "revoked"));
        assert!(reason.contains("enough"), "{reason}");
    }
    assert!(effects.contains(&Effect::LaneEnded { lane, ending: Ending::Revoked }));
    assert_eq!(sent_to(&effects, 3), [FromRouter::Revoked { request: 9, count: 1 }]);
    let effects = bus.says(1, revoke(lane), None);
    assert_eq!(refused_code(&effects, 1, 9), "no-such-target");
    let effects = bus.says(1, revoke(LaneId(0)), None);
    assert_eq!(sent_to(&effects, 1), [FromRouter::Revoked { request: 9, count: 2 }]);
    for lane in [other, topic] {
        assert!(effects.contains(&Effect::LaneEnded { lane, ending: Ending::Revoked }));
    }
    assert!(bus.0.lanes.is_empty());
}

#[test]
fn a_hosted_agent_revokes_nothing() {
    let mut bus = Bus::with(&[(1, "one", &[])]);
    let Event::Hello(newcomer) = hello(2, manifest("packager", &[])) else { unreachable!() };
    let hosted_as = Some("packager".to_owned());
    bus.does(Event::Hello(Newcomer { hosted_as, ..newcomer }));
    let (agent, reason) = ("one".to_owned(), String::new());
    let message = ToRouter::Revoke { request: 9, agent, lane: LaneId(0), reason };
    assert_eq!(refused_code(&bus.says(2, message, None), 2, 9), "unauthorized");
}
