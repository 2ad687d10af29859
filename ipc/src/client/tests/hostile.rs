//! Peers and routers that are within their rights and want too much.

use super::*;
use crate::limits::{EVENTS_MAX, READER_CHANGES_MAX};
use crate::segment::Cursor;

/// A client and its router's end of the socket.
pub(super) fn introduced() -> (Client, Connection) {
    let (here, router) = Connection::pair().unwrap();
    let (version, agent, classes) = (VERSION, AgentId(1), ClassSet::LINKS);
    let welcome = FromRouter::Welcome { version, agent, instance: 1, classes };
    router.send(&welcome.encode().unwrap(), &[]).unwrap();
    (Client::introduce(here, &manifest("client", &[]), b"").unwrap(), router)
}

#[test]
fn readers_that_come_and_go_leave_nothing_with_a_publisher_that_does_not_look() {
    let (mut client, router) = introduced();
    let lane = LaneId(5);
    client.open.insert(lane);
    let cursor = Cursor::create(0, false).unwrap();
    let doorbell = Doorbell::new().unwrap();
    let (bell, _ear) = doorbell.ringer_for_peer().unwrap();
    let stays = FromRouter::ReaderJoined { lane, reader: AgentId(1_000) };
    router.send(&stays.encode().unwrap(), &[cursor.as_fd(), bell.as_fd()]).unwrap();
    for reader in (1..300).map(AgentId) {
        let joined = FromRouter::ReaderJoined { lane, reader };
        router.send(&joined.encode().unwrap(), &[cursor.as_fd(), bell.as_fd()]).unwrap();
        let left = FromRouter::ReaderLeft { lane, reader };
        router.send(&left.encode().unwrap(), &[]).unwrap();
        while let Some(event) = client.next_event(Instant::now()).unwrap() {
            assert!(matches!(event, Event::ReadersChanged { lane: LaneId(5) }));
        }
        assert_eq!(client.changes[&lane].len(), 1);
    }
    // One that is attached already leaves a word that it left.
    let left = FromRouter::ReaderLeft { lane, reader: AgentId(2_000) };
    router.send(&left.encode().unwrap(), &[]).unwrap();
    client.next_event(Instant::now()).unwrap();
    assert_eq!(client.changes[&lane].len(), 2);
}

#[test]
fn members_that_join_again_and_again_leave_nothing_with_a_sender_that_does_not_look() {
    let (mut client, router) = introduced();
    let (lane, reader) = (LaneId(5), AgentId(7));
    client.open.insert(lane);
    let cursor = Cursor::create(0, false).unwrap();
    let doorbell = Doorbell::new().unwrap();
    let (bell, _ear) = doorbell.ringer_for_peer().unwrap();
    let expected = FromRouter::ReaderExpected { lane, reader };
    router.send(&expected.encode().unwrap(), &[]).unwrap();
    for _ in 0..2 * READER_CHANGES_MAX.max(EVENTS_MAX) {
        let joined = FromRouter::ReaderJoined { lane, reader };
        router.send(&joined.encode().unwrap(), &[cursor.as_fd(), bell.as_fd()]).unwrap();
        let left = FromRouter::ReaderLeft { lane, reader };
        router.send(&left.encode().unwrap(), &[]).unwrap();
        client.take_in_all().unwrap();
    }
    assert!(client.changes[&lane].len() <= 2, "{:?}", client.changes[&lane]);
    assert_eq!(client.events.len(), 1);
    client.decline(lane, "done").unwrap();
    assert!(client.changes.is_empty(), "no descriptors of a topic that was given up");
    // The router sent it before it knew.
    let joined = FromRouter::ReaderJoined { lane, reader };
    router.send(&joined.encode().unwrap(), &[cursor.as_fd(), bell.as_fd()]).unwrap();
    client.take_in_all().unwrap();
    assert!(client.changes.is_empty());
    assert_eq!(client.events.len(), 1, "nor news of it");
}

#[test]
fn grants_that_were_on_their_way_when_the_link_was_closed_here_are_closed() {
    let (mut client, router) = introduced();
    let lane = LaneId(5);
    client.open.insert(lane);
    let (reading, mut writing) = std::io::pipe().unwrap();
    let grant = |number| {
        let granted = FromRouter::Granted { lane, grant: GrantId(number) };
        router.send(&granted.encode().unwrap(), &[reading.as_fd()]).unwrap();
    };
    grant(1);
    client.take_in_all().unwrap();
    assert_eq!(client.grants.len(), 1);
    client.decline(lane, "answers were not taken").unwrap();
    (2..100).for_each(grant);
    client.take_in_all().unwrap();
    client.discard_grants(lane, &[GrantId(200)]);
    assert!(client.grants.is_empty() && client.unwanted.is_empty());
    drop(reading);
    let error = writing.write_all(b"nobody reads").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
