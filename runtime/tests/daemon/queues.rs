//! Work queues through the exchange: each item to one worker, and to another one when that one is gone.

use std::time::Instant;

use ipc::class::Class;
use ipc::client::{Event, LinkOptions};
use ipc::exchange::queue::{
    Delivery, ITEM_BYTES_MAX, Lease, Operation, Options, PutOutcome, QueueError, Queues, TakeEnd,
    Taken,
};

use ipc::link::{Answer, Incoming};

use super::world::{self, Daemon, cbor, eventually, patience};

#[path = "queues/durable.rs"]
mod durable;
#[path = "queues/full.rs"]
mod full;
#[path = "queues/workers.rs"]
mod workers;

const EXCHANGE: world::Options =
    world::Options { hosted: "exchange", dev: false, drain_seconds: 10, routed: "" };
const HOUR_NS: u64 = 3_600_000_000_000;

/// An agent with a link to the exchange.
fn queues(daemon: &Daemon, name: &str) -> (ipc::client::Client, Queues) {
    let mut client = daemon.client(name);
    let queues = Queues::open(&mut client).unwrap();
    (client, queues)
}

fn item(queues: &mut Queues, queue: &str) -> Delivery {
    let take = queues.take(queue, 1, HOUR_NS, patience()).unwrap();
    let Taken::Item(delivery) = queues.next(take, patience()).unwrap() else { panic!("no item") };
    assert_eq!(
        queues.next(take, patience()).unwrap(),
        Taken::End { missing: 0, end: TakeEnd::Complete }
    );
    delivery
}

fn put(priority: u8, payload: &[u8]) -> Operation<'_> {
    Operation::Put { priority, dedup: None, deadline_ns: 0, wait_ns: 0, payload }
}

fn refusal(result: Result<(), QueueError>) -> String {
    let Err(QueueError::Refused(error)) = result else { panic!("{result:?}") };
    let error: agents_contract::ToolError = ciborium::from_reader(error.as_slice()).unwrap();
    error.code
}

#[test]
fn each_item_goes_to_one_worker_and_is_done_when_it_says_so() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_one, mut one) = queues(&daemon, "test.one");
    let (_two, mut two) = queues(&daemon, "test.two");
    assert!(sender.declare("work", Options::default(), patience()).unwrap());
    assert!(!sender.declare("work", Options::default(), patience()).unwrap(), "it is there");
    for payload in [b"a", b"b"] {
        let stored = sender.put("work", payload, patience()).unwrap();
        assert!(matches!(stored, PutOutcome::Stored { .. }), "{stored:?}");
    }
    let (first, second) = (item(&mut one, "work"), item(&mut two, "work"));
    assert_eq!((&first.payload[..], &second.payload[..]), (&b"a"[..], &b"b"[..]));
    assert_eq!((first.lease.delivery, &first.sender[..]), (1, "test.sender"));
    one.ack("work", first.lease, patience()).unwrap();
    assert_eq!(refusal(one.ack("work", first.lease, patience())), "stale");
    assert_eq!(refusal(one.ack("work", second.lease, patience())), "stale", "not its own");
    two.ack("work", second.lease, patience()).unwrap();
    let status = sender.status("work", patience()).unwrap();
    assert_eq!((status.stored, status.acked, status.ready, status.leased), (2, 2, 0, 0));
    assert_eq!((status.stale, status.redelivered), (2, 0));
}

#[test]
fn a_worker_that_waits_gets_what_comes_and_urgent_items_come_first() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_worker, mut worker) = queues(&daemon, "test.worker");
    let take = worker.take("jobs", 1, HOUR_NS, patience()).unwrap();
    assert_eq!(worker.try_next(take).unwrap(), None);
    sender.put("jobs", b"at once", patience()).unwrap();
    let Taken::Item(at_once) = worker.next(take, patience()).unwrap() else { panic!() };
    assert_eq!(at_once.payload, b"at once");
    for (priority, payload) in [(1, b"low "), (5, b"mid "), (10, b"high")] {
        sender.put_with("jobs", &put(priority, payload), patience()).unwrap();
    }
    let order: Vec<Vec<u8>> = (0..3).map(|_| item(&mut worker, "jobs").payload).collect();
    assert_eq!(order, [b"high".to_vec(), b"mid ".to_vec(), b"low ".to_vec()]);
}

#[test]
fn the_items_of_a_dead_worker_go_to_another_with_their_count_raised() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_heir, mut heir) = queues(&daemon, "test.heir");
    let (dying_client, mut dying) = queues(&daemon, "test.dying");
    sender.put("work", b"precious", patience()).unwrap();
    let held = item(&mut dying, "work");
    let take = heir.take("work", 1, HOUR_NS, patience()).unwrap();
    drop((dying, dying_client));
    let Taken::Item(inherited) = heir.next(take, patience()).unwrap() else { panic!() };
    assert_eq!(inherited.payload, b"precious");
    assert_eq!(inherited.lease, Lease { delivery: 2, ..held.lease });
    heir.ack("work", inherited.lease, patience()).unwrap();
    assert_eq!(sender.status("work", patience()).unwrap().redelivered, 1);
}

#[test]
fn a_lease_that_runs_out_comes_back_and_too_many_deliveries_make_a_dead_letter() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_worker, mut worker) = queues(&daemon, "test.worker");
    let options = Options { lease_ns: 20_000_000, deliveries_max: 2, ..Options::default() };
    sender.declare("short", options, patience()).unwrap();
    sender.put("short", b"slow", patience()).unwrap();
    assert_eq!(item(&mut worker, "short").lease.delivery, 1);
    let second = item(&mut worker, "short");
    assert_eq!(second.lease.delivery, 2);
    eventually("it is dead", || sender.status("short", patience()).unwrap().dead == 1);
    let dead = sender.dead("short", patience()).unwrap();
    assert_eq!((dead.len(), dead[0].item, dead[0].deliveries), (1, second.lease.item, 2));
    let requeue = Operation::Requeue { item: second.lease.item };
    sender.call("short", &requeue, patience()).unwrap();
    assert_eq!(item(&mut worker, "short").lease.delivery, 3, "no number comes twice");
}

#[test]
fn an_item_can_be_handed_to_another_worker() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_one, mut one) = queues(&daemon, "test.one");
    let (_two, mut two) = queues(&daemon, "test.two");
    sender.put("work", b"yours", patience()).unwrap();
    let held = item(&mut one, "work");
    let nobody = Operation::Handoff { lease: held.lease, to: "test.nobody".to_owned() };
    assert!(one.call("work", &nobody, patience()).is_err());
    let handoff = Operation::Handoff { lease: held.lease, to: "test.two".to_owned() };
    one.call("work", &handoff, patience()).unwrap();
    let got = two.next_handoff(patience()).unwrap();
    assert_eq!((got.lease, &got.payload[..]), (held.lease, &b"yours"[..]));
    assert_eq!(refusal(one.ack("work", held.lease, patience())), "stale");
    two.ack("work", got.lease, patience()).unwrap();
}

#[test]
fn what_a_cancelled_take_would_get_goes_to_others() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_quitter, mut quitter) = queues(&daemon, "test.quitter");
    let (_worker, mut worker) = queues(&daemon, "test.worker");
    let take = quitter.take("work", 1, HOUR_NS, patience()).unwrap();
    quitter.link().sender().cancel(take).unwrap();
    // Its own next request is behind the cancellation.
    quitter.status("work", patience()).unwrap();
    sender.put("work", b"for somebody", patience()).unwrap();
    assert_eq!(item(&mut worker, "work").payload, b"for somebody");
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut queues) = queues(&daemon, "test.client");
    let mut refused = |tool: &str, payload: &[u8]| {
        let link = queues.link();
        let answer = link.call(tool, payload, &[], patience(), |_| {}).unwrap();
        let ipc::link::Outcome::Failed(error) = answer else { panic!("{answer:?}") };
        let error: agents_contract::ToolError = ciborium::from_reader(&error[..]).unwrap();
        error.code
    };
    assert_eq!(refused("queue.put", b"\xff\xff"), "bad-request");
    assert_eq!(refused("queue.fly", b"\x01\x00x"), "no-such-tool");
    assert_eq!(refused("something.else", &cbor(1)), "no-such-tool");
    let urgent = put(11, b"x").encode("work").unwrap();
    assert_eq!(refused("queue.put", &urgent), "bad-request");
    let nameless = put(5, b"x").encode("").unwrap();
    assert_eq!(refused("queue.put", &nameless), "queue-refused");
    let _ = client.agents("").unwrap();
}

#[test]
fn a_take_of_several_that_is_cancelled_spends_no_deliveries() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_quitter, mut quitter) = queues(&daemon, "test.quitter");
    let (_worker, mut worker) = queues(&daemon, "test.worker");
    let take = quitter.take("work", 5, HOUR_NS, patience()).unwrap();
    quitter.link().sender().cancel(take).unwrap();
    let ended = quitter.next(take, patience()).unwrap();
    assert_eq!(ended, Taken::End { missing: 5, end: TakeEnd::Cancelled });
    for payload in [b"a", b"b"] {
        sender.put("work", payload, patience()).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(item(&mut worker, "work").lease.delivery, 1);
    }
    assert_eq!(sender.status("work", patience()).unwrap().takers, 0);
}

#[test]
fn items_beyond_what_a_lane_holds_arrive_and_those_beyond_the_bus_are_refused() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_worker, mut worker) = queues(&daemon, "test.worker");
    let options = Options { bytes_max: 64 << 20, ..Options::default() };
    sender.declare("large", options, patience()).unwrap();
    let payload: Vec<u8> = (0..ITEM_BYTES_MAX).map(|index| (index / 64) as u8).collect();
    for length in [1_000_000, ITEM_BYTES_MAX] {
        sender.put("large", &payload[..length], patience()).unwrap();
        let got = item(&mut worker, "large");
        assert!(got.payload == payload[..length], "{length}");
        worker.ack("large", got.lease, patience()).unwrap();
    }
    let beyond = sender.put("large", &[&payload[..], b"x"].concat(), patience());
    assert_eq!(refusal(beyond.map(drop)), "too-large");
}

#[test]
fn a_worker_may_take_more_bytes_at_once_than_the_exchange_keeps_for_it() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_worker, mut worker) = queues(&daemon, "test.worker");
    let options = Options { bytes_max: 64 << 20, ..Options::default() };
    sender.declare("large", options, patience()).unwrap();
    let payload = vec![1; 1 << 20];
    for _ in 0..40 {
        sender.put("large", &payload, patience()).unwrap();
    }
    let take = worker.take("large", 40, HOUR_NS, patience()).unwrap();
    let mut count = 0;
    while let Taken::Item(delivery) = worker.next(take, patience()).unwrap() {
        assert_eq!(delivery.lease.delivery, 1);
        count += 1;
    }
    assert_eq!(count, 40);
}

#[test]
fn a_caller_that_never_reads_loses_its_link_and_harms_nobody() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_deaf, mut deaf) = queues(&daemon, "test.deaf");
    let (_other, mut other) = queues(&daemon, "test.other");
    let ended = loop {
        let asked = deaf.link().request("no.tool", b"", &[], patience());
        if let Err(error) = asked {
            break error;
        }
    };
    assert!(matches!(ended, ipc::link::CallError::Ended { .. }), "{ended}");
    other.put("work", b"x", patience()).unwrap();
    assert_eq!(item(&mut other, "work").payload, b"x");
}

#[test]
fn items_that_a_deaf_worker_alone_keeps_cost_it_its_link() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut deaf) = queues(&daemon, "test.deaf");
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let options = Options { lease_ns: 1_000_000, deliveries_max: 1, ..Options::default() };
    sender.declare("work", options, patience()).unwrap();
    deaf.take("work", 1_000, HOUR_NS, patience()).unwrap();
    let payload = vec![0; ITEM_BYTES_MAX];
    // Each is dead at once, and larger than what dead letters may be. The last few wait for nobody any more.
    eventually("its link is closed", || {
        let put = sender.put("work", &payload, patience()).unwrap();
        assert!(!matches!(put, PutOutcome::Duplicate { .. }), "{put:?}");
        match client.next_event(Instant::now()).unwrap() {
            Some(Event::LinkClosed { lane, .. }) => lane == deaf.link().lane(),
            _ => false,
        }
    });
}

#[test]
fn a_socket_that_its_caller_has_dropped_is_let_go_of() {
    let daemon = Daemon::start(&EXCHANGE);
    let mut client = daemon.client("test.client");
    let options = LinkOptions { class: Class::Normal };
    let link = client.open_link("exchange", options).unwrap();
    assert_eq!(link.terms().class, Class::Normal);
    let lane = link.lane();
    drop(link);
    let closed = client.next_event(patience()).unwrap();
    assert!(matches!(closed, Some(Event::LinkClosed { lane: of, .. }) if of == lane), "{closed:?}");
}

#[test]
fn a_caller_that_takes_no_answers_any_more_is_heard_out_and_let_go_of() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_heir, mut heir) = queues(&daemon, "test.heir");
    let mut client = daemon.client("test.half");
    let options = LinkOptions { class: Class::Normal };
    let link = client.open_link("exchange", options).unwrap();
    assert_eq!(link.terms().class, Class::Normal);
    let lane = link.lane();
    let (mut sender, mut receiver) = link.split();
    let mut ask = |operation: Operation<'_>| {
        let arguments = operation.encode("work").unwrap();
        sender.request(operation.tool(), &arguments, &[], patience(), "exchange").unwrap()
    };
    // It has one item, and waits for another.
    heir.put("work", b"held", patience()).unwrap();
    ask(Operation::Take { count: 2, wait_ns: HOUR_NS });
    let first = receiver.receive(Some(patience())).unwrap();
    assert!(matches!(first, Incoming::Answer { answer: Answer::Progress(_), .. }), "{first:?}");
    drop(receiver);
    ask(put(5, b"last"));
    let closed = client.next_event(patience()).unwrap();
    assert!(matches!(closed, Some(Event::LinkClosed { lane: of, .. }) if of == lane), "{closed:?}");
    // What it had comes again. What was on its way to it may count as delivered: nobody knows how far it came.
    let mut items = [item(&mut heir, "work"), item(&mut heir, "work")]
        .map(|item| (item.payload, item.lease.delivery));
    items.sort_unstable();
    assert_eq!(items[0], (b"held".to_vec(), 2));
    assert_eq!(items[1].0, b"last");
    assert!((1..=2).contains(&items[1].1), "{items:?}");
    let counted = "bolide_errors_total{agent=\"exchange\",kind=\"reader-ended\"} 1";
    eventually("it is counted", || daemon.get("/metrics").1.contains(counted));
}

#[test]
fn asking_about_a_queue_does_not_make_one() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut client) = queues(&daemon, "test.client");
    assert_eq!(refusal(client.status("work", patience()).map(drop)), "no-such-queue");
    assert!(client.declare("work", Options::default(), patience()).unwrap());
}
