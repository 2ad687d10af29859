//! Fuzz target: a client whose router says anything, with any descriptors.

use std::os::fd::{AsFd, OwnedFd};

use super::*;
use crate::control::tests::fuzz::{damage, from_router};
use crate::fuzz::{Chance, fuzz};
use crate::limits::{DESCRIPTORS_PER_PACKET_MAX, REGION_BYTES_MIN};
use crate::segment::{ControlWriter, Cursor, Region, Slots};

/// What a router may hand over, and what none does.
fn descriptors(doorbell: &Doorbell) -> Vec<OwnedFd> {
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
    let (pipe, _) = std::io::pipe().unwrap();
    vec![
        copy(Slots::create(64, false).unwrap().as_fd()),
        copy(Cursor::create(0, false).unwrap().as_fd()),
        copy(Region::create(REGION_BYTES_MIN).unwrap().as_fd()),
        doorbell.ringer_for_peer().unwrap().0,
        copy(ControlWriter::create().unwrap().as_fd()),
        pipe.into(),
    ]
}

/// The descriptors that go with a message in their order, or others.
fn chosen<'a>(
    chance: &mut Chance,
    message: &FromRouter,
    all: &'a [OwnedFd],
) -> Vec<BorrowedFd<'a>> {
    let count = message.descriptors();
    if chance.once_in(4) {
        let count = if chance.once_in(2) { count } else { chance.below(6) };
        let count = count.min(DESCRIPTORS_PER_PACKET_MAX);
        return (0..count).map(|_| chance.pick(all).as_fd()).collect();
    }
    let order: &[usize] = match message {
        FromRouter::TopicFound { .. } => &[0, 2, 4],
        FromRouter::ReaderJoined { .. } => &[1, 3],
        FromRouter::Published { .. } => &[4],
        _ => &[0, 1, 2, 3, 4],
    };
    order[..count.min(order.len())].iter().map(|index| all[*index].as_fd()).collect()
}

/// Does what programs do with events.
fn react(client: &mut Client, event: Event) -> Result<(), ClientError> {
    match event {
        Event::LinkOffered(offer) | Event::RouteWanted { offer, .. } => {
            let mut link = client.accept(offer)?;
            let _ = link.receiver().try_receive();
            let _ = link.request("tool", b"arguments", &[], Instant::now());
            Ok(())
        }
        Event::TopicFound(offer) => client.join(offer, Spin::Adaptive).map(drop),
        _ => Ok(()),
    }
}

#[test]
fn client_outlives_what_any_router_says() {
    let doorbell = Doorbell::new().unwrap();
    let all = descriptors(&doorbell);
    fuzz(1_500, |chance| {
        let (here, router) = Connection::pair().unwrap();
        router.set_nonblocking(true).unwrap();
        let (instance, classes) = (chance.next(), ClassSet::from_bits(chance.next() as u8));
        let (version, agent) = (VERSION, AgentId(1));
        let welcome = FromRouter::Welcome { version, agent, instance, classes };
        let mut first = welcome.encode().unwrap();
        if chance.once_in(4) {
            first = damage(chance, first);
        }
        if !first.is_empty() {
            router.send(&first, &[]).unwrap();
        }
        // It all lies there already, and the end too, so nothing is waited for.
        for _ in 0..chance.below(12) {
            let message = from_router(chance);
            let fds = chosen(chance, &message, &all);
            let Ok(packet) = message.encode() else { continue };
            let packet = if chance.once_in(2) { damage(chance, packet) } else { packet };
            let _ = !packet.is_empty() && router.send(&packet, &fds).is_ok();
        }
        let is_closed = chance.once_in(2);
        let router = (!is_closed).then_some(router);
        if is_closed || !first.is_empty() {
            let introduced = Client::introduce(here, &manifest("client", &["tool"]), b"token");
            let Ok(mut client) = introduced else { return };
            while let Ok(Some(event)) = client.next_event(Instant::now()) {
                if react(&mut client, event).is_err() && is_closed {
                    break;
                }
            }
            assert!(client.grants.len() <= GRANTS_HELD_MAX);
        }
        drop(router);
    });
}
