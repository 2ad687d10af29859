//! Links that may not be direct: the same to both sides, through the exchange.

use std::os::fd::AsFd;

use ipc::class::{ReceivingHalf, SendingHalf};
use ipc::client::{Client, Event, Offer};
use ipc::lane::{Ended, Large, ReceiveError, SendError, WhenFull};
use ipc::limits::MESSAGE_BYTES_MAX;
use ipc::link::{CallError, Link, Outcome};
use ipc::ring::Meta;
use rustix::process::Signal;

use super::world::{Daemon, Options, cbor, eventually, is_alive, patience, signal};

const ROUTED: Options =
    Options { hosted: "exchange,echo", dev: false, drain_seconds: 10, routed: "test.quiet.>" };

fn offered(client: &mut Client) -> Offer {
    loop {
        if let Some(Event::LinkOffered(offer)) = client.next_event(patience()).unwrap() {
            return offer;
        }
    }
}

/// A routed link between two clients of this process.
fn linked(daemon: &Daemon) -> (Client, Client, Link, Link) {
    let mut one = daemon.client("test.quiet.one");
    let mut two = daemon.client("test.two");
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let offer = offered(&mut two);
            assert_eq!(offer.from.manifest.name, "test.quiet.one");
            let accepted = two.accept(offer).unwrap();
            (two, accepted)
        });
        let opened = one.open("test.two").unwrap();
        let (two, accepted) = accepted.join().unwrap();
        (one, two, opened, accepted)
    })
}

fn lanes(daemon: &Daemon) -> u64 {
    daemon.status()["lanes"].as_u64().unwrap()
}

#[test]
fn a_routed_call_is_answered_like_a_direct_one() {
    let daemon = Daemon::start(&ROUTED);
    let mut client = daemon.client("test.quiet.client");
    let mut link = client.open("echo").unwrap();
    assert_eq!(link.peer().manifest.name, "echo");
    assert_eq!(lanes(&daemon), 4, "two links that meet in the exchange");
    for size in [0, 10, 48, 49, 1_000, 200_000, 3_000_000, 16_000_000] {
        let payload = vec![size as u8; size];
        let answer = client.call(&mut link, "echo.echo", &payload, &[], patience(), |_| {});
        assert_eq!(answer.unwrap(), Outcome::Done(payload), "{size} bytes");
    }
    let directory = std::fs::File::open("/").unwrap();
    let grant = client.grant(link.lane(), directory.as_fd()).unwrap();
    let counted = client.call(&mut link, "echo.directory", &[], &[grant], patience(), |_| {});
    assert!(matches!(counted, Ok(Outcome::Done(_))), "{counted:?}");
    let failed = client.call(&mut link, "echo.fail", &[], &[], patience(), |_| {});
    assert!(matches!(failed, Ok(Outcome::Failed(_))), "{failed:?}");
}

#[test]
fn routed_messages_arrive_in_order_and_whole_while_the_reader_is_slow() {
    const COUNT: u32 = 60_000;
    let daemon = Daemon::start(&ROUTED);
    let (_one, _two, mut opened, mut accepted) = linked(&daemon);
    let payload = |number: u32| number.to_le_bytes().repeat(number as usize % 13);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let lane = opened.sender().raw();
            for number in 0..COUNT {
                let meta = Meta { correlation: number, priority: 7, ..Meta::default() };
                lane.send(meta, &payload(number), WhenFull::WaitUntil(patience())).unwrap();
            }
        });
        for number in 0..COUNT {
            if number == 100 {
                // Both rings are full, and the writer waits. A reader tells of what it took a quarter of a ring later.
                eventually("the writer is held up", || {
                    daemon.status()["messages"]["critical"].as_u64().unwrap() >= 3 * 1_024 - 2 * 256
                });
            }
            let lane = accepted.receiver().raw();
            let message = lane.receive(Some(patience())).unwrap();
            assert_eq!((message.meta.correlation, message.meta.priority), (number, 7));
            assert_eq!(message.payload, payload(number));
        }
    });
}

#[test]
fn what_was_sent_before_the_end_arrives_and_then_the_end() {
    let daemon = Daemon::start(&ROUTED);
    let (mut one, _two, mut opened, mut accepted) = linked(&daemon);
    for number in 0..100u32 {
        let meta = Meta { correlation: number, ..Meta::default() };
        opened.sender().raw().send(meta, b"last words", WhenFull::WaitUntil(patience())).unwrap();
    }
    one.decline(opened.lane(), "done").unwrap();
    let lane = accepted.receiver().raw();
    for number in 0..100 {
        assert_eq!(lane.receive(Some(patience())).unwrap().meta.correlation, number);
    }
    let end = lane.receive(Some(patience())).unwrap_err();
    assert_eq!(end, ReceiveError::Ended(Ended::Closed));
    eventually("both halves are gone", || lanes(&daemon) == 0);
}

#[test]
fn the_death_of_the_far_side_ends_a_call_on_a_route() {
    let daemon = Daemon::start(&ROUTED);
    let mut client = daemon.client("test.quiet.client");
    let mut link = client.open("echo").unwrap();
    let request = link.request("echo.wait", &cbor(600_000u64), &[], patience()).unwrap();
    assert!(link.answer(request, patience()).is_ok(), "it has begun");
    signal(daemon.agent_pid("echo"), Signal::KILL);
    let end = link.answer(request, patience()).unwrap_err();
    assert!(matches!(end, CallError::Ended { ended: Ended::PeerGone, .. }), "{end:?}");
    eventually("both halves are gone", || lanes(&daemon) == 0);
}

#[test]
fn the_death_of_the_exchange_ends_its_routes_and_it_comes_back() {
    let daemon = Daemon::start(&ROUTED);
    let mut client = daemon.client("test.quiet.client");
    let mut link = client.open("echo").unwrap();
    let exchange = daemon.agent_pid("exchange");
    signal(exchange, Signal::KILL);
    let end = client.call(&mut link, "echo.echo", b"x", &[], patience(), |_| {}).unwrap_err();
    assert!(matches!(end, CallError::Ended { ended: Ended::PeerGone, .. }), "{end:?}");
    let mut again = None;
    eventually("the exchange is back", || {
        again = client.open("echo").ok();
        again.is_some()
    });
    let answer = client.call(&mut again.unwrap(), "echo.echo", b"x", &[], patience(), |_| {});
    assert_eq!(answer.unwrap(), Outcome::Done(b"x".to_vec()));
    assert!(!is_alive(exchange));
}

#[test]
fn others_stay_direct() {
    let daemon = Daemon::start(&ROUTED);
    let mut client = daemon.client("test.loud");
    let _link = client.open("echo").unwrap();
    assert_eq!(lanes(&daemon), 2);
}

#[test]
fn who_hoards_what_all_routes_may_hold_loses_a_route_and_nobody_else_does() {
    // As many of the longest messages as all routes together may hold.
    const HOARDED: usize = 32;
    let daemon = Daemon::start(&ROUTED);
    let (_one, _two, mut opened, mut accepted) = linked(&daemon);
    let mut hoarder = daemon.client("test.quiet.hoarder");
    let mut sink = daemon.client("test.sink");
    let payload = vec![1; MESSAGE_BYTES_MAX];
    let (mut hoards, _sinks) = std::thread::scope(|scope| {
        let sinks = scope.spawn(|| {
            let accept = |_| {
                let offer = offered(&mut sink);
                sink.accept(offer).unwrap()
            };
            (0..HOARDED).map(accept).collect::<Vec<Link>>()
        });
        let open = |_| hoarder.open("test.sink").unwrap();
        ((0..HOARDED).map(open).collect::<Vec<Link>>(), sinks.join().unwrap())
    });
    for link in &mut hoards {
        let lane = link.sender().raw();
        let message = Large { header: None, meta: Meta::default(), parts: &[&payload] };
        let begun = lane.resume_large(&message, &mut 0, WhenFull::Reject);
        assert_eq!(begun, Err(SendError::Full), "it is not complete");
        eventually("the exchange has what was sent", || lane.taken().unwrap() == lane.sent());
    }
    for round in 0..3 {
        let innocent = vec![round; 1_000_000];
        let (sender, receiver) = (opened.sender().raw(), accepted.receiver().raw());
        sender.send(Meta::default(), &innocent, WhenFull::WaitUntil(patience())).unwrap();
        assert!(receiver.receive(Some(patience())).unwrap().payload == innocent);
    }
    eventually("the hoarder has lost a route", || lanes(&daemon) < 4 * (HOARDED as u64 + 1));
    let is_over = |link: &mut Link| link.receiver().raw().is_over();
    assert_eq!(hoards.iter_mut().filter_map(|link| is_over(link).then_some(())).count(), 1);
}
