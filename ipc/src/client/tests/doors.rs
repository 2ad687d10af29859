//! What a client keeps open for others, and for how long: bells, descriptors, notes of topics.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::hostile::introduced;
use super::*;
use crate::class::Class;
use crate::control::{CloseCause, Lineage, TopicPolicy, TopicTerms};
use crate::doorbell::Doorbell;
use crate::lane::LaneOptions;
use crate::limits::{CLOSING_PER_PEER_MAX, REGION_BYTES_MIN};
use crate::segment::{ControlWriter, Cursor, Region, Slots};
use crate::socket::tests::is_alone;

/// What the client told its router next.
fn told(router: &Connection) -> ToRouter {
    ToRouter::decode(&router.receive().unwrap().bytes).unwrap()
}

/// Takes what the client said when it came.
fn after_hello(introduced: (Client, Connection)) -> (Client, Connection) {
    assert!(matches!(told(&introduced.1), ToRouter::Hello { .. }));
    introduced.1.set_nonblocking(true).unwrap();
    introduced
}

fn small() -> LaneOptions {
    LaneOptions { slots: 8, region_bytes: REGION_BYTES_MIN }
}

fn offered(client: &mut Client) -> Offer {
    match client.next_event(later()).unwrap() {
        Some(Event::LinkOffered(offer)) => offer,
        other => panic!("{other:?}"),
    }
}

/// A link with both ends, which it takes two threads to make.
fn opened(one: &mut Client, two: &mut Client, class: Class) -> (Link, Link) {
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let offer = offered(two);
            two.accept(offer).unwrap()
        });
        let opened = one.open_link("two", LinkOptions { class }).unwrap();
        (opened, accepting.join().unwrap())
    })
}

#[test]
fn a_link_that_has_ended_leaves_no_bell_though_its_peer_keeps_everything() {
    let router = Router::start();
    let mut one = connect(router.path(), "one", &[]);
    let mut two = connect(router.path(), "two", &[]);
    for client in [&mut one, &mut two] {
        client.set_lane_options(small());
    }
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (opened, accepted) = opened(&mut one, &mut two, Class::Critical);
        assert_eq!((one.doorbell.bells(), two.doorbell.bells()), (1, 1));
        one.decline(opened.lane(), "done").unwrap();
        assert_eq!(one.doorbell.bells(), 0, "it was closed here");
        let Some(Event::LinkClosed { .. }) = two.next_event(later()).unwrap() else { panic!() };
        assert_eq!(two.doorbell.bells(), 0, "it was closed there");
        kept.push((opened, accepted));
    }
    let (opened_last, accepted_last) = opened(&mut one, &mut two, Class::Critical);
    drop(opened_last);
    assert_eq!(one.doorbell.bells(), 0, "nobody is left");
    drop(accepted_last);
    for class in [Class::Normal, Class::High] {
        let link = opened(&mut one, &mut two, class);
        // A socket tells of everything by itself; a ring tells of messages, and the bell of room.
        let bells = usize::from(link.0.class() != Class::Normal);
        assert_eq!((one.doorbell.bells(), two.doorbell.bells()), (bells, bells), "{class}");
        drop(link);
        assert_eq!((one.doorbell.bells(), two.doorbell.bells()), (0, 0), "{class}: nobody is left");
    }
    // One that never came to be.
    assert!(one.open("nobody").is_err());
    assert_eq!(one.doorbell.bells(), 0);
}

#[test]
fn a_link_that_broke_the_protocol_ends_as_quarantined_for_both() {
    let router = Router::start();
    let mut one = connect(router.path(), "one", &[]);
    let mut two = connect(router.path(), "two", &[]);
    let (mut opened, mut accepted) = opened(&mut one, &mut two, Class::Critical);
    one.quarantine(opened.lane(), "it scribbled").unwrap();
    let event = two.next_event(later()).unwrap();
    let is_told = matches!(&event, Some(Event::LinkClosed { code, reason, .. })
        if code == "quarantined" && reason == "it scribbled");
    assert!(is_told, "{event:?}");
    for link in [&mut opened, &mut accepted] {
        let end = link.receiver().receive(Some(later())).unwrap_err();
        assert!(matches!(end, CallError::Ended { ended: Ended::Quarantined, .. }), "{end:?}");
    }
}

#[test]
fn a_topic_that_was_closed_here_leaves_no_note_of_readers_to_come() {
    let (mut client, router) = after_hello(introduced());
    let (lane, other) = (LaneId(5), LaneId(6));
    let expected = |lane| FromRouter::ReaderExpected { lane, reader: AgentId(7) };
    // Those of a topic that is being published come before its number; of another one, which was just closed, too.
    let request = client.next_request;
    router.send(&expected(lane).encode().unwrap(), &[]).unwrap();
    router.send(&expected(other).encode().unwrap(), &[]).unwrap();
    let control = ControlWriter::create().unwrap();
    let published = FromRouter::Published { request, lane, epoch: 1 };
    router.send(&published.encode().unwrap(), &[control.as_fd()]).unwrap();
    let publisher = client.publisher("_group.g", TopicPolicy::Lossless).unwrap();
    assert_eq!(client.changes.keys().collect::<Vec<_>>(), [&lane]);
    assert_eq!(client.groups.iter().collect::<Vec<_>>(), [&lane]);
    client.decline(publisher.lane(), "done").unwrap();
    router.send(&expected(lane).encode().unwrap(), &[]).unwrap();
    client.take_in_all().unwrap();
    assert!(client.changes.is_empty() && client.groups.is_empty());
    // One that was refused leaves none either.
    let request = client.next_request;
    router.send(&expected(other).encode().unwrap(), &[]).unwrap();
    let (code, message) = ("limit".to_owned(), "no".to_owned());
    let refused = FromRouter::Refused { request, code, message };
    router.send(&refused.encode().unwrap(), &[]).unwrap();
    client.publisher("_group.g", TopicPolicy::Lossless).unwrap_err();
    assert!(client.changes.is_empty() && client.groups.is_empty());
}

#[test]
fn a_reader_that_is_refused_is_reported_to_the_router() {
    let (mut client, router) = after_hello(introduced());
    let lane = LaneId(5);
    let request = client.next_request;
    let control = ControlWriter::create().unwrap();
    let published = FromRouter::Published { request, lane, epoch: 1 };
    router.send(&published.encode().unwrap(), &[control.as_fd()]).unwrap();
    let mut publisher = client.publisher("news", TopicPolicy::Lossless).unwrap();
    assert!(matches!(told(&router), ToRouter::Publish { .. }));
    let (cursor, slots) = (Cursor::create(0, false).unwrap(), Slots::create(8, false).unwrap());
    let doorbell = Doorbell::new().unwrap();
    let (bell, _ear) = doorbell.ringer_for_peer().unwrap();
    // Slots for a cursor, a cursor for a bell, and one that is right.
    let unfit = [[slots.as_fd(), bell.as_fd()], [cursor.as_fd(), cursor.as_fd()]];
    let all = unfit.into_iter().chain([[cursor.as_fd(), bell.as_fd()]]);
    for (reader, descriptors) in (1..).map(AgentId).zip(all) {
        let joined = FromRouter::ReaderJoined { lane, reader };
        router.send(&joined.encode().unwrap(), &descriptors).unwrap();
    }
    client.update(&mut publisher).unwrap();
    for expected in [1, 2].map(AgentId) {
        match told(&router) {
            ToRouter::DropReader { lane: of, reader, why, .. } => {
                let wanted = (lane, expected, CloseCause::Quarantined);
                assert_eq!((of, reader, why), wanted);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(router.receive().is_err(), "the third is a reader");
    assert_eq!(publisher.readers(), 1);
    assert_eq!(publisher.take_refused().unwrap().0, AgentId(2));
}

#[test]
fn a_client_without_descriptors_blames_nobody_and_goes_on() {
    if !is_alone("client::tests::doors::a_client_without_descriptors_blames_nobody_and_goes_on") {
        return;
    }
    let (mut client, router) = after_hello(introduced());
    let (lane, from) =
        (LaneId(5), AgentInfo { id: AgentId(2), pid: 0, uid: 0, manifest: manifest("peer", &[]) });
    let terms = Terms::default();
    let one: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let all = vec![one.as_fd(); 5];
    let (slots, region) = (Slots::create(8, true).unwrap(), Region::create(4096).unwrap());
    client.open.insert(lane);
    let full = getrlimit(Resource::Nofile);
    let next = one.try_clone().unwrap();
    let current = Some(next.as_raw_fd() as u64);
    drop(next);
    setrlimit(Resource::Nofile, Rlimit { current, ..full }).unwrap();
    let offered = FromRouter::LinkOffered { lane: LaneId(6), from: from.clone(), terms };
    router.send(&offered.encode().unwrap(), &all).unwrap();
    let granted = FromRouter::Granted { lane, grant: GrantId(1) };
    router.send(&granted.encode().unwrap(), &all[..1]).unwrap();
    let joined = FromRouter::ReaderJoined { lane, reader: AgentId(3) };
    router.send(&joined.encode().unwrap(), &all[..2]).unwrap();
    let (subject, policy) = ("news".to_owned(), TopicPolicy::Lossy);
    let (terms, lineage) = (TopicTerms::default(), Lineage::default());
    let lane = LaneId(7);
    let found = FromRouter::TopicFound { request: 0, lane, subject, policy, from, terms, lineage };
    let topic = [slots.as_fd(), region.as_fd(), one.as_fd()];
    router.send(&found.encode().unwrap(), &topic).unwrap();
    let event = client.next_event(Instant::now());
    let request = client.next_request;
    router.send(&FromRouter::Directory { request }.encode().unwrap(), &all[..1]).unwrap();
    let directory = client.directory();
    setrlimit(Resource::Nofile, full).unwrap();
    assert!(matches!(directory, Err(ClientError::NoDescriptorsLeft)), "{directory:?}");
    // The program hears of the topic that it cannot have.
    let is_told = matches!(&event, Ok(Some(Event::LinkClosed { lane: LaneId(7), .. })));
    assert!(is_told, "{event:?}");
    assert!(matches!(told(&router), ToRouter::CloseLink { lane: LaneId(6), .. }));
    let dropped = told(&router);
    let is_dropped = matches!(dropped, ToRouter::DropReader { reader: AgentId(3), .. });
    assert!(is_dropped, "{dropped:?}");
    assert!(matches!(told(&router), ToRouter::CloseLink { lane: LaneId(7), .. }));
    assert!(matches!(told(&router), ToRouter::Directory { .. }));
    // With descriptors everything is as before.
    router.send(&granted.encode().unwrap(), &all[..1]).unwrap();
    client.take_grant(LaneId(5), GrantId(1), later()).unwrap();
}

#[test]
fn a_link_that_grants_what_does_not_close_is_closed_and_the_others_go_on() {
    let (mut client, router) = after_hello(introduced());
    let closer = Closer::new();
    client.set_closer(closer.clone());
    let (bad, good) = (LaneId(5), LaneId(6));
    client.open.extend([bad, good]);
    let mut ends = Vec::new();
    let mut grant = |lane, number| {
        let (stuck, end) = crate::closer::tests::lingering();
        let granted = FromRouter::Granted { lane, grant: GrantId(number) };
        router.send(&granted.encode().unwrap(), &[stuck.as_fd()]).unwrap();
        ends.push(end);
    };
    for number in 1..=CLOSING_PER_PEER_MAX as u64 + 1 {
        grant(bad, number);
        client.take_in_all().unwrap();
        // Nobody wants it. Without a closer this would wait for an hour.
        client.discard_grants(bad, &[GrantId(number)]);
    }
    assert!(!client.open.contains(&bad) && client.open.contains(&good));
    assert!(matches!(told(&router), ToRouter::CloseLink { lane: LaneId(5), .. }));
    grant(good, 1);
    let kept = client.take_grant(good, GrantId(1), later()).unwrap();
    drop(ends);
    drop(kept);
    let until = later();
    while closer.count() > 0 {
        assert!(Instant::now() < until, "not closed");
        std::thread::yield_now();
    }
}
