//! No timer decides that a peer is dead: a process that is stopped for longer than every bound of the bus is still there
//! when it goes on. Only what was declared to end at a time ends: an offer that nobody answers, a lease.

use std::time::{Duration, Instant};

use ipc::client::{Client, ClientError};
use ipc::exchange::queue::{Options, Queues, Taken};
use ipc::link::{Answer, CallError, Outcome};
use rustix::process::Signal;

use super::bus::{Bus, Setup, eventually, patience, setting, signal, stop};
use super::clients::Victim;
use super::victim::{NAME, SURVIVOR};

const SETUP: Setup = Setup { hosted: "echo,exchange", routed: "" };
/// Well beyond every time that a handshake, an offer, a farewell or a child may take.
const SECONDS: u64 = 7;
/// Of an item that is to be taken away.
const LEASE_NS: u64 = 300_000_000;
const HOUR_NS: u64 = 3_600_000_000_000;

/// A link to an agent as soon as it is there.
fn opened(client: &mut Client, name: &str) -> ipc::link::Link {
    let mut link = None;
    eventually("it can be reached", || {
        link = client.open(name).ok();
        link.is_some()
    });
    link.unwrap()
}

#[test]
fn who_is_stopped_for_longer_than_every_bound_is_not_dead() {
    let bus = Bus::start(SETUP);
    let stopped = Victim::start(&bus, "server", "", None);
    let mut client = bus.client(SURVIVOR);
    let mut own = opened(&mut client, NAME);
    let mut hosted = opened(&mut client, "echo");
    let run = |link: &mut ipc::link::Link, tool: &str| {
        let outcome = link.call(tool, b"x", &[], patience(), |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Done(b"x".to_vec()));
    };
    run(&mut own, "test.run");
    run(&mut hosted, "echo.echo");
    let before = bus.calm(2);
    let echo = bus.hosted_pid("echo").unwrap();
    stopped.stop();
    stop(echo);
    let asked = [(&mut own, "test.run"), (&mut hosted, "echo.echo")].map(|(link, tool)| {
        let request = link.request(tool, b"late", &[], patience()).unwrap();
        let soon = Instant::now() + Duration::from_millis(100);
        let silence = link.answer(request, soon);
        assert!(matches!(silence, Err(CallError::Deadline { .. })), "{silence:?}");
        request
    });
    let until = Instant::now() + Duration::from_secs(setting("BOLIDE_STOP_SECONDS", SECONDS));
    // An offer lapses, as is declared, and that is all that happens to whoever does not answer it.
    let mut other = bus.client("test.other");
    let refused = other.open(NAME).unwrap_err();
    let lapsed = matches!(&refused, ClientError::Refused { code, .. } if code == "no-answer");
    assert!(lapsed || matches!(refused, ClientError::NoAnswer), "{refused}");
    drop(other);
    // This is the time that is tried, not one that something is waited for.
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    assert!(client.next_event(Instant::now()).unwrap().is_none(), "an end was told");
    bus.settles("while they are stopped", &before);
    assert_eq!(bus.hosted_pid("echo"), Some(echo));
    stopped.signal(Signal::CONT);
    signal(echo, Signal::CONT);
    for (link, request) in [&mut own, &mut hosted].into_iter().zip(asked) {
        assert_eq!(link.answer(request, patience()), Ok(Answer::Done(b"late".to_vec())));
    }
    run(&mut own, "test.run");
    run(&mut hosted, "echo.echo");
    assert!(client.next_event(Instant::now()).unwrap().is_none(), "an end was told");
    assert_eq!(bus.metric("bolide_agent_restarts_total{agent=\"echo\"}"), 0);
}

#[test]
fn a_stopped_worker_loses_its_lease_at_the_deadline_and_learns_it() {
    let bus = Bus::start(SETUP);
    let mut client = bus.client(SURVIVOR);
    let mut queues = Queues::open(&mut client).unwrap();
    let options = Options { lease_ns: LEASE_NS, ..Options::default() };
    queues.declare("work", options, patience()).unwrap();
    queues.put("work", b"precious", patience()).unwrap();
    let worker = Victim::start(&bus, "queue-sleeper", "work", None);
    eventually("it has the item", || worker.reported("got") == [1]);
    worker.stop();
    let take = queues.take("work", 1, HOUR_NS, patience()).unwrap();
    let Taken::Item(item) = queues.next(take, patience()).unwrap() else { panic!("no item") };
    assert_eq!((&item.payload[..], item.lease.delivery), (&b"precious"[..], 2));
    queues.ack("work", item.lease, patience()).unwrap();
    worker.signal(Signal::CONT);
    std::fs::write(worker.report().with_extension("go-on"), "").unwrap();
    eventually("it learns that it was too late", || worker.reported("stale") == [1]);
    assert!(!client.agents(NAME).unwrap().is_empty(), "it was never taken for dead");
    let status = queues.status("work", patience()).unwrap();
    assert_eq!((status.acked, status.redelivered, status.ready), (1, 1, 0));
}
