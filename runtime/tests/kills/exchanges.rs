//! Deaths of the exchange: its callers and both sides of its routes hear of it, it is started again, and it serves as
//! before.
//!
//! Queues live in its memory, so what is in them goes with it; what is checked is that this is told and that nothing of
//! the earlier life is mistaken for something of the new one. Queues that survive have to be checked for their items here.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ipc::client::{Client, ClientError, Event};
use ipc::exchange::queue::{Delivery, Lease, Operation, Options, QueueError, Queues, Taken};
use ipc::lane::{Ended, ReceiveError, SendError};
use ipc::link::{CallError, Link};

use super::bus::{Bus, Fault, Setup, eventually, patience};
use super::innocents::Innocents;
use super::numbered;
use super::queues::number_of;
use super::report::{Row, Table};

const SETUP: Setup = Setup { hosted: "exchange", routed: "test.quiet.>" };
const HOUR_NS: u64 = 3_600_000_000_000;
const CALLERS: &str = "callers are told; it serves again";
const ROUTES: &str = "both sides are told; a new route works";
/// Messages over a route.
const MESSAGES: u64 = 64;

type Life = fn(&Bus) -> Result<(), Gone>;

/// Where, how often passed before, what goes on meanwhile.
const CASES: &[(&str, u64, Life, &str)] = &[
    ("exchange.caller-offered", 1, serve_queues, CALLERS),
    ("exchange.put-stored", 0, serve_queues, CALLERS),
    ("exchange.put-answered", 0, serve_queues, CALLERS),
    ("exchange.item-leased", 0, serve_queues, CALLERS),
    ("exchange.item-delivered", 1, serve_queues, CALLERS),
    ("exchange.nack-taken", 0, serve_queues, CALLERS),
    ("exchange.ack-taken", 0, serve_queues, CALLERS),
    ("exchange.leases-returned", 0, serve_queues, CALLERS),
    ("exchange.dead-letter", 0, serve_queues, CALLERS),
    ("exchange.requeued", 0, serve_queues, CALLERS),
    ("exchange.route-wanted", 0, serve_routes, ROUTES),
    ("exchange.route-asked", 0, serve_routes, ROUTES),
    ("exchange.route-half", 0, serve_routes, ROUTES),
    ("exchange.message-read", 5, serve_routes, ROUTES),
    ("exchange.message-pushed", 5, serve_routes, ROUTES),
    ("exchange.route-ending", 0, serve_routes, ROUTES),
];

/// The exchange is dead; told in a way that is allowed.
pub(crate) struct Gone;

impl From<QueueError> for Gone {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Call(CallError::Ended { ended: Ended::PeerGone, .. }) => Self,
            QueueError::Client(error) => error.into(),
            other => panic!("{other}"),
        }
    }
}

impl From<ClientError> for Gone {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { code, .. } if code == "peer-gone" || code == "starting" => Self,
            other => panic!("{other}"),
        }
    }
}

pub(crate) fn die_at_every_point(table: &mut Table, innocents: &Innocents) {
    for (point, skip, life, checked) in CASES {
        let recovery = die(Fault { point, skip: *skip }, *life);
        innocents.go_on();
        table.add(Row { point, who: "exchange", checked, recovery });
    }
}

fn die(fault: Fault, life: Life) -> Duration {
    let bus = Bus::start_armed(SETUP, fault);
    bus.find_exchange();
    let first = bus.hosted_pid("exchange");
    let before = bus.state();
    let innocents = Innocents::start(&bus);
    let Err(Gone) = life(&bus) else { panic!("{}: nobody died", fault.point) };
    let told = Instant::now();
    assert!(bus.has_fired(), "{}: it died elsewhere", fault.point);
    let queue = format!("after.{}", fault.point);
    let client = serves_again(&bus, &queue);
    let recovery = told.elapsed();
    drop(client);
    assert_ne!(bus.hosted_pid("exchange"), first);
    assert_eq!(bus.metric("bolide_agent_restarts_total{agent=\"exchange\"}"), 1);
    innocents.go_on();
    innocents.finish();
    bus.find_exchange();
    bus.settles(fault.point, &before);
    // Once more, over everything.
    assert!(life(&bus).is_ok(), "{}: it dies again", fault.point);
    recovery
}

fn serves_again(bus: &Bus, queue: &str) -> Client {
    let mut client = bus.client("test.after");
    let mut queues = None;
    eventually("the exchange is back", || {
        queues = Queues::open(&mut client).ok();
        queues.is_some()
    });
    let mut queues = queues.unwrap();
    queues.put(queue, b"12345678", patience()).unwrap();
    let item = take(&mut queues, queue).unwrap_or_else(|_| panic!("it died again"));
    assert_eq!(item.lease.delivery, 1);
    queues.ack(queue, item.lease, patience()).unwrap();
    // Ids grow over lives, so that a word about an item of the earlier life meets nothing.
    for item in [1, item.lease.item - 1] {
        let lease = Lease { item, delivery: 1 };
        let refused = queues.ack(queue, lease, patience());
        assert!(matches!(refused, Err(QueueError::Refused(_))), "{refused:?}");
    }
    client
}

fn take(queues: &mut Queues, queue: &str) -> Result<Delivery, Gone> {
    let take = queues.take(queue, 1, HOUR_NS, patience())?;
    let Taken::Item(item) = queues.next(take, patience())? else { panic!("no item") };
    queues.next(take, patience())?;
    Ok(item)
}

/// Everything that a queue does.
fn serve_queues(bus: &Bus) -> Result<(), Gone> {
    let (mut one, mut two) = (bus.client("test.sender"), bus.client("test.worker"));
    let mut sender = Queues::open(&mut one)?;
    let mut worker = Queues::open(&mut two)?;
    sender.put("jobs", &1u64.to_le_bytes(), patience())?;
    let first = take(&mut worker, "jobs")?;
    let nack = Operation::Nack { lease: first.lease, delay_ns: 0 };
    worker.call("jobs", &nack, patience())?;
    let again = take(&mut worker, "jobs")?;
    assert_eq!((number_of(&again), again.lease.delivery), (1, 2));
    worker.ack("jobs", again.lease, patience())?;
    {
        let mut leaver = bus.client("test.leaver");
        let mut leaving = Queues::open(&mut leaver)?;
        sender.put("jobs", &2u64.to_le_bytes(), patience())?;
        let item = take(&mut leaving, "jobs")?;
        assert_eq!((number_of(&item), item.lease.delivery), (2, 1));
    }
    let inherited = take(&mut worker, "jobs")?;
    assert_eq!((number_of(&inherited), inherited.lease.delivery), (2, 2));
    worker.ack("jobs", inherited.lease, patience())?;
    let once = Options { deliveries_max: 1, ..Options::default() };
    sender.declare("once", once, patience())?;
    sender.put("once", &3u64.to_le_bytes(), patience())?;
    let item = take(&mut worker, "once")?;
    worker.call("once", &Operation::Nack { lease: item.lease, delay_ns: 0 }, patience())?;
    let dead = sender.dead("once", patience())?;
    assert_eq!(dead.len(), 1);
    sender.call("once", &Operation::Requeue { item: dead[0].item }, patience())?;
    let item = take(&mut worker, "once")?;
    assert_eq!((number_of(&item), item.lease.delivery), (3, 2));
    worker.ack("once", item.lease, patience())?;
    Ok(())
}

/// A route from its beginning to its end, with messages both ways and a grant.
fn serve_routes(bus: &Bus) -> Result<(), Gone> {
    let (mut one, mut two) = (bus.client("test.quiet.one"), bus.client("test.two"));
    let (opened, accepted) = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| accepted(&mut two));
        let opened = one.open("test.two");
        if opened.is_err() {
            // Whoever waits for an offer that never comes is told by a direct one.
            let mut teller = bus.client("test.teller");
            let _ = teller.open("test.two");
        }
        (opened, accepting.join().unwrap())
    });
    let (mut opened, mut accepted) = (opened?, accepted);
    let file = std::fs::File::open("/dev/null").unwrap();
    one.grant(opened.lane(), file.as_fd())?;
    exchange_messages(&mut opened, &mut accepted)?;
    exchange_messages(&mut accepted, &mut opened)?;
    let lane = opened.lane();
    one.decline(lane, "done")?;
    let end = accepted.receiver().raw().receive(Some(patience())).map(|message| message.meta);
    match end {
        Err(ReceiveError::Ended(Ended::Closed)) => Ok(()),
        Err(ReceiveError::Ended(Ended::PeerGone)) => Err(Gone),
        other => panic!("{other:?}"),
    }
}

/// The first link that is offered.
fn accepted(client: &mut Client) -> Link {
    loop {
        if let Some(Event::LinkOffered(offer)) = client.next_event(patience()).unwrap() {
            return client.accept(offer).unwrap();
        }
    }
}

/// What arrives is whole and in order, to the end.
fn exchange_messages(from: &mut Link, to: &mut Link) -> Result<(), Gone> {
    let (sender, receiver) = (from.sender().raw(), to.receiver().raw());
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            for number in 0..MESSAGES {
                match numbered::send(sender, number, patience()) {
                    Ok(()) => {}
                    Err(SendError::Ended(Ended::PeerGone)) => return Err(Gone),
                    Err(error) => panic!("{error}"),
                }
            }
            Ok(())
        });
        let mut received = Ok(());
        for expected in 0..MESSAGES {
            match receiver.receive(Some(patience())) {
                Ok(message) => assert_eq!(numbered::number_of(&message), expected),
                Err(ReceiveError::Ended(Ended::PeerGone)) => {
                    received = Err(Gone);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        sending.join().unwrap().and(received)
    })
}
