//! Links whose peer answers what nobody asked, or too much: the caller gets away at his deadline and keeps little.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::*;
use crate::header::AgentId;
use crate::lane::{LaneOptions, Receiver, Sender};
use crate::limits::{ANSWERS_SKIPPED_MAX, MESSAGE_BYTES_MAX, SPARE_BYTES_MAX};
use crate::manifest::AgentManifest;
use crate::segment::ControlWriter;
use crate::wait::Spin;

fn copy(fd: BorrowedFd<'_>) -> OwnedFd {
    fd.try_clone_to_owned().unwrap()
}

fn agent(id: u32) -> AgentInfo {
    let manifest = AgentManifest { name: format!("agent-{id}"), ..AgentManifest::default() };
    AgentInfo { id: AgentId(id), pid: 1, uid: 1, manifest }
}

fn lane(control: &ControlWriter) -> (Sender, Receiver) {
    let mut sender = Sender::for_link(LaneOptions::default()).unwrap();
    sender.set_control(copy(control.as_fd())).unwrap();
    let cursor = Receiver::new_cursor(Spin::Adaptive).unwrap();
    sender.attach(AgentId(9), copy(cursor.as_fd()), None).unwrap();
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let page = copy(control.as_fd());
    let receiver = Receiver::for_link(AgentId(9), slots, region, page, cursor).unwrap();
    (sender, receiver)
}

/// Both ends of a link.
fn ends() -> (Link, Link) {
    let control = ControlWriter::create().unwrap();
    let ((there, here_receiver), (here, there_receiver)) = (lane(&control), lane(&control));
    let link = |peer, sender: Sender, receiver: Receiver| {
        let halves =
            (AnySender::Critical(Box::new(sender)), AnyReceiver::Critical(Box::new(receiver)));
        Link::new((LaneId(1), None), agent(peer), (Terms::default(), 1), halves.0, halves.1)
    };
    (link(2, here, here_receiver), link(1, there, there_receiver))
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[test]
fn answers_that_nobody_asked_for_do_not_hold_the_caller() {
    let (mut client, mut peer) = ends();
    let request = client.request("tool", b"", &[], later()).unwrap();
    let foreign = RequestId(request.0 + 1);
    for _ in 0..500 {
        peer.sender().answer(foreign, b"", WhenFull::Reject).unwrap();
    }
    let refused = client.answer(request, Instant::now());
    assert!(matches!(refused, Err(CallError::Deadline { .. })), "{refused:?}");
    assert!(client.receiver().raw().has_message(), "the others were not waited out");
    // They are skipped for one that comes in time.
    peer.sender().answer(request, b"asked for", WhenFull::Reject).unwrap();
    assert_eq!(client.answer(request, later()), Ok(Answer::Done(b"asked for".to_vec())));
}

#[test]
fn one_look_skips_a_bounded_number_of_answers() {
    let (mut client, mut peer) = ends();
    let request = client.request("tool", b"", &[], later()).unwrap();
    let foreign = RequestId(request.0 + 1);
    let mut sent = 0;
    while sent <= ANSWERS_SKIPPED_MAX {
        match peer.sender().answer(foreign, b"", WhenFull::Reject) {
            Ok(()) => sent += 1,
            // A lap of the ring at most lies there at one time.
            Err(_) => assert_eq!(client.try_answer(request), Ok(None)),
        }
    }
    assert_eq!(client.try_answer(request), Ok(None));
}

#[test]
fn progress_without_end_does_not_hold_the_caller() {
    let (mut client, mut peer) = ends();
    for _ in 0..500 {
        peer.sender().progress(RequestId(1), b"on my way", WhenFull::Reject).unwrap();
    }
    let refused = client.call("tool", b"", &[], Instant::now(), |_| panic!("too late"));
    assert!(matches!(refused, Err(CallError::Deadline { .. })), "{refused:?}");
    let told = |link: &mut Link| link.next(later()).unwrap();
    assert!(matches!(told(&mut peer), Incoming::Request(_)));
    assert!(matches!(told(&mut peer), Incoming::Cancelled { request: 1 }));
}

#[test]
fn what_comes_beside_answers_is_kept_up_to_so_many_bytes() {
    let (mut client, mut peer) = ends();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let payload = vec![1; MESSAGE_BYTES_MAX / 2];
            let header = Header::new(Kind::Event);
            for _ in 0..5 {
                let large =
                    Large { header: Some(&header), meta: Meta::default(), parts: &[&payload] };
                peer.sender().raw().send_large(large, WhenFull::WaitUntil(later())).unwrap();
            }
        });
        let refused = client.answer(RequestId(1), later());
        assert!(matches!(refused, Err(CallError::Flooded { .. })), "{refused:?}");
    });
    let kept: usize = client.set_aside.iter().map(Incoming::bytes).sum();
    assert_eq!(kept, SET_ASIDE_BYTES_MAX);
}

#[test]
fn what_is_taken_stays_while_the_link_goes_on_and_memory_goes_round_unless_it_is_much() {
    let (mut client, mut peer) = ends();
    let mut take = |tool: &str, payload: &[u8], taken: &mut TakenMessage| {
        client.request(tool, payload, &[], later()).unwrap();
        assert_eq!(peer.receiver().try_take(taken), Ok(true));
        let message = taken.message();
        match View::of(message) {
            View::Request(request) => assert_eq!((request.tool, request.payload), (tool, payload)),
            other => panic!("{other:?}"),
        }
        message.payload.as_ptr()
    };
    let (mut first, mut second) = (TakenMessage::default(), TakenMessage::default());
    let place = take("log.append", &[1; 200], &mut first);
    take("log.sync", &[2; 100], &mut second);
    let View::Request(request) = View::of(first.message()) else { panic!("not a request") };
    assert_eq!((request.tool, request.payload), ("log.append", &[1; 200][..]));
    // Two memories go round: that of the message, and that of the one before.
    take("log.append", &[3; 100], &mut first);
    assert_eq!(take("log.append", &[4; 150], &mut first), place);
    take("log.append", &[5; SPARE_BYTES_MAX + 1], &mut first);
    assert_eq!(first.payload_bytes(), 2 + "log.append".len() + SPARE_BYTES_MAX + 1);
    first.release();
    assert_eq!(first.payload_bytes(), 0);
    take("log.append", &[6; 10], &mut first);
}

#[test]
fn short_messages_are_taken_as_long_ones_are() {
    let (mut client, mut peer) = ends();
    let mut taken = TakenMessage::default();
    assert_eq!(peer.receiver().try_take(&mut taken), Ok(false));
    client.request("tool", &[7; 300], &[], later()).unwrap();
    client.sender().cancel(RequestId(1)).unwrap();
    client.sender().raw().send(Meta::default(), b"short", WhenFull::Reject).unwrap();
    assert_eq!(peer.receiver().try_take(&mut taken), Ok(true));
    assert!(matches!(View::of(taken.message()), View::Request(_)));
    assert_eq!(peer.receiver().try_take(&mut taken), Ok(true));
    assert_eq!(View::of(taken.message()), View::Cancelled { request: 1 });
    assert_eq!(peer.receiver().try_take(&mut taken), Ok(true));
    assert_eq!(View::of(taken.message()), View::Other { header: None, payload: b"short" });
    assert_eq!(peer.receiver().try_take(&mut taken), Ok(false));
}
