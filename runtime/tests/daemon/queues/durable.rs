//! Durable queues: what was told survives every death, and nothing comes twice without its count saying so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use ipc::client::{Client, ClientError};
use ipc::exchange::queue::{
    Durable, Operation, Options, PutOutcome, QueueError, Queues, Status, Taken,
};
use ipc::link::Answer;
use rustix::process::Signal;

use super::super::world::{Daemon, eventually, is_alive, patience, signal};
use super::{EXCHANGE, HOUR_NS, item, queues, refusal};

fn durable(durable: Durable) -> Options {
    Options { durable, deliveries_max: 100, ..Options::default() }
}

/// A link to the exchange as soon as one is up again.
fn reopen(client: &mut Client) -> Queues {
    let mut queues = None;
    eventually("the exchange is reachable", || match Queues::open(client) {
        Ok(opened) => {
            queues = Some(opened);
            true
        }
        Err(ClientError::Refused { .. }) => false,
        Err(error) => panic!("{error}"),
    });
    queues.unwrap()
}

fn kill_exchange(daemon: &Daemon) {
    let pid = daemon.agent_pid("exchange");
    signal(pid, Signal::KILL);
    eventually("it is dead", || !is_alive(pid));
}

fn stored(outcome: PutOutcome) -> u64 {
    let PutOutcome::Stored { item } = outcome else { panic!("{outcome:?}") };
    item
}

fn status(queues: &mut Queues) -> Status {
    queues.status("work", patience()).unwrap()
}

fn kept_over_a_kill_of_the_exchange(level: Durable) {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut queues) = queues(&daemon, "test.client");
    assert!(queues.declare("work", durable(level), patience()).unwrap());
    let items: Vec<u64> = [&b"done"[..], b"held", b"ready"]
        .iter()
        .map(|payload| stored(queues.put("work", payload, patience()).unwrap()))
        .collect();
    let done = item(&mut queues, "work");
    queues.ack("work", done.lease, patience()).unwrap();
    let held = item(&mut queues, "work");
    assert_eq!((done.lease.item, held.lease.item), (items[0], items[1]));
    kill_exchange(&daemon);
    let mut queues = reopen(&mut client);
    let now = status(&mut queues);
    assert_eq!((now.ready, now.leased, now.acked, now.stored), (2, 0, 1, 3));
    assert!(!queues.declare("work", durable(level), patience()).unwrap(), "it is there");
    assert_eq!(refusal(queues.ack("work", held.lease, patience())), "stale");
    let again = item(&mut queues, "work");
    assert_eq!((again.lease.item, again.lease.delivery), (items[1], 2));
    assert_eq!((&again.payload[..], &again.sender[..]), (&b"held"[..], "test.client"));
    let other = item(&mut queues, "work");
    assert_eq!((other.lease.item, other.lease.delivery), (items[2], 1));
}

#[test]
fn a_stored_queue_survives_a_kill_of_the_exchange() {
    kept_over_a_kill_of_the_exchange(Durable::Stored);
}

#[test]
fn a_synced_queue_survives_a_kill_of_the_exchange() {
    kept_over_a_kill_of_the_exchange(Durable::Synced);
}

#[test]
fn a_durable_queue_survives_a_kill_of_everybody() {
    let mut daemon = Daemon::start(&EXCHANGE);
    let (client, mut sender) = queues(&daemon, "test.sender");
    sender.declare("work", durable(Durable::Stored), patience()).unwrap();
    sender.put("work", b"kept", patience()).unwrap();
    sender.put("fleeting", b"lost", patience()).unwrap();
    let exchange = daemon.agent_pid("exchange");
    signal(daemon.pid(), Signal::KILL);
    signal(exchange, Signal::KILL);
    daemon.wait();
    drop((client, sender));
    daemon.restart(&EXCHANGE);
    let mut client = daemon.client("test.sender");
    let mut queues = reopen(&mut client);
    assert_eq!(item(&mut queues, "work").payload, b"kept");
    assert_eq!(refusal(queues.status("fleeting", patience()).map(drop)), "no-such-queue");
}

#[test]
fn a_removed_queue_does_not_come_back() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut queues) = queues(&daemon, "test.client");
    queues.declare("work", durable(Durable::Stored), patience()).unwrap();
    queues.put("work", b"x", patience()).unwrap();
    assert_eq!(refusal(queues.remove("work", patience())), "in-use");
    let held = item(&mut queues, "work");
    queues.ack("work", held.lease, patience()).unwrap();
    queues.remove("work", patience()).unwrap();
    kill_exchange(&daemon);
    let mut queues = reopen(&mut client);
    assert_eq!(refusal(queues.status("work", patience()).map(drop)), "no-such-queue");
    assert!(queues.declare("work", durable(Durable::Stored), patience()).unwrap());
}

#[test]
fn what_waits_for_the_disk_is_answered_though_its_queue_is_removed() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut queues) = queues(&daemon, "test.client");
    for _ in 0..10 {
        queues.declare("work", durable(Durable::Synced), patience()).unwrap();
        stored(queues.put("work", b"x", patience()).unwrap());
        let held = item(&mut queues, "work");
        let requests = [Operation::Ack(held.lease), Operation::Remove].map(|operation| {
            let arguments = operation.encode("work").unwrap();
            queues.link().request(operation.tool(), &arguments, &[], patience()).unwrap()
        });
        for request in requests {
            let answer = queues.link().answer(request, patience()).unwrap();
            assert_eq!(answer, Answer::Done(Vec::new()));
        }
    }
}

#[test]
fn while_one_queue_waits_for_the_disk_everybody_else_goes_on() {
    let declare = Operation::Declare { options: durable(Durable::Stored) };
    let cases = [
        ("exchange.queue-making", "new", declare, vec![1]),
        ("exchange.queue-removing", "old", Operation::Remove, vec![]),
    ];
    for (point, name, operation, answer) in cases {
        let home = tempfile::tempdir().unwrap();
        let hold = home.path().join("hold");
        let value = format!("{point}:{}", hold.display());
        let daemon = Daemon::start_with(&EXCHANGE, &[("BOLIDE_FAULT_HOLD", &value)]);
        let (_client, mut slow) = queues(&daemon, "test.slow");
        let (_other, mut other) = queues(&daemon, "test.other");
        slow.declare("old", durable(Durable::Stored), patience()).unwrap();
        other.declare("work", durable(Durable::Synced), patience()).unwrap();
        std::fs::write(&hold, []).unwrap();
        let arguments = operation.encode(name).unwrap();
        let waiting = slow.link().request(operation.tool(), &arguments, &[], patience()).unwrap();
        let held = hold.with_added_extension("held");
        eventually("it waits for the disk", || held.exists());
        for _ in 0..10 {
            stored(other.put("work", b"x", patience()).unwrap());
            let taken = item(&mut other, "work");
            other.ack("work", taken.lease, patience()).unwrap();
        }
        // What is about the same queue waits too, unless it is taken back.
        let arguments = Operation::Status.encode(name).unwrap();
        let status = other.link().request("queue.status", &arguments, &[], patience()).unwrap();
        other.link().sender().cancel(status).unwrap();
        let taken_back = other.link().answer(status, patience()).unwrap();
        assert!(matches!(taken_back, Answer::Failed(_)), "{taken_back:?}");
        other.put("work", b"x", patience()).unwrap();
        let again = other.link().request("queue.status", &arguments, &[], patience()).unwrap();
        std::fs::remove_file(&hold).unwrap();
        assert_eq!(slow.link().answer(waiting, patience()).unwrap(), Answer::Done(answer.clone()));
        let again = other.link().answer(again, patience()).unwrap();
        assert_eq!(matches!(again, Answer::Done(_)), !answer.is_empty(), "{again:?}");
    }
}

/// What one agent was told in all lives of the exchange.
#[derive(Default)]
struct Ledger {
    stored: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    /// Asked for and not answered: done or not.
    doubtful: BTreeSet<u64>,
    deliveries: BTreeMap<u64, u32>,
}

/// Puts, takes and acks until the exchange dies under it.
fn work_until_it_dies(
    queues: &mut Queues,
    ledger: &mut Ledger,
    done: &AtomicU64,
) -> Result<(), QueueError> {
    loop {
        for _ in 0..3 {
            ledger.stored.insert(stored(queues.put("work", &[7; 200], patience())?));
            done.fetch_add(1, Relaxed);
        }
        let take = queues.take("work", 2, HOUR_NS, patience())?;
        let mut leases = Vec::new();
        while let Taken::Item(delivery) = queues.next(take, patience())? {
            let before = ledger.deliveries.insert(delivery.lease.item, delivery.lease.delivery);
            assert!(before < Some(delivery.lease.delivery), "one number, two deliveries");
            assert!(!ledger.acked.contains(&delivery.lease.item), "an acked item came back");
            leases.push(delivery.lease);
        }
        for lease in leases {
            ledger.doubtful.insert(lease.item);
            queues.ack("work", lease, patience())?;
            ledger.doubtful.remove(&lease.item);
            ledger.acked.insert(lease.item);
            done.fetch_add(1, Relaxed);
        }
    }
}

#[test]
fn killed_at_any_moment_the_exchange_loses_nothing_that_it_told() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut queues) = queues(&daemon, "test.client");
    queues.declare("work", durable(Durable::Stored), patience()).unwrap();
    let mut ledger = Ledger::default();
    for round in 0..5u64 {
        let pid = daemon.agent_pid("exchange");
        // Somebody else decides when; how far the work is then differs from round to round.
        let done = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&done);
        let killer = std::thread::spawn(move || {
            while seen.load(Relaxed) < 20 + 37 * round {
                std::thread::yield_now();
            }
            signal(pid, Signal::KILL);
        });
        let ended = work_until_it_dies(&mut queues, &mut ledger, &done);
        assert!(matches!(ended, Err(QueueError::Call(_))), "{ended:?}");
        killer.join().unwrap();
        queues = reopen(&mut client);
    }
    let left: u64 = status(&mut queues).ready;
    let mut there = BTreeSet::new();
    for _ in 0..left {
        let delivery = item(&mut queues, "work");
        let told = ledger.deliveries.get(&delivery.lease.item);
        assert!(told < Some(&delivery.lease.delivery), "{delivery:?}");
        there.insert(delivery.lease.item);
    }
    let lost = |item: &&u64| !there.contains(item) && !ledger.doubtful.contains(item);
    let lost: Vec<_> = ledger.stored.difference(&ledger.acked).filter(lost).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(there.is_disjoint(&ledger.acked), "an acked item came back");
    assert!(ledger.acked.len() > 5, "something was done: {}", ledger.acked.len());
}
