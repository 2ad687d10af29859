//! Deaths of the exchange: its callers and both sides of its routes hear of it, it is started again, and it serves as
//! before.
//!
//! What is in the queues of its memory goes with it; what is checked then is that this is told, and that nothing of the
//! earlier life is mistaken for something of the new one. In durable ones, whatever was acknowledged is there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipc::class::ReceivingHalf;
use ipc::client::{Client, ClientError, Event};
use ipc::exchange::queue::{
    Delivery, Durable, Lease, Operation, Options, QueueError, Queues, Taken,
};
use ipc::lane::{Ended, ReceiveError, SendError};
use ipc::link::{CallError, Link};

use super::bus::{Bus, Fault, Setup, eventually, patience};
use super::innocents::Innocents;
use super::kept::{serve_log, settle_log};
use super::numbered;
use super::queues::{drained, number_of};
use super::report::{Row, Table};

const SETUP: Setup = Setup { hosted: "exchange", routed: "test.quiet.>" };
const HOUR_NS: u64 = 3_600_000_000_000;
const CALLERS: &str = "callers are told; it serves again";
const KEPT: &str = "what was acknowledged is there, once";
const ROUTES: &str = "both sides are told; a new route works";
/// Messages over a route.
const MESSAGES: u64 = 64;

type Life = fn(&Bus, &mut Ledger) -> Result<(), Gone>;

/// What was asked of the queues and the log of one life, and what was said to be done.
#[derive(Default)]
pub(crate) struct Ledger {
    /// What they survive.
    pub(crate) durable: Durable,
    /// Records: how many were asked for, and how many were told to be there.
    pub(crate) append_asked: u64,
    pub(crate) appended: u64,
    /// What their names end with.
    life: &'static str,
    asked: BTreeSet<u64>,
    stored: BTreeSet<u64>,
    /// The last delivery of each item that came.
    delivered: BTreeMap<u64, u32>,
    /// Whose acknowledgement was sent, and whose was answered.
    acking: BTreeSet<u64>,
    acked: BTreeSet<u64>,
}

impl Ledger {
    fn of(life: &'static str, durable: Durable) -> Self {
        Self { life, durable, ..Self::default() }
    }

    pub(crate) fn queue(&self, name: &str) -> String {
        format!("{name}.{}", self.life)
    }

    fn put(&mut self, queues: &mut Queues, queue: &str, number: u64) -> Result<(), Gone> {
        self.asked.insert(number);
        queues.put(queue, &number.to_le_bytes(), patience())?;
        self.stored.insert(number);
        Ok(())
    }

    /// The next item, which must be this one with this delivery.
    fn take(
        &mut self,
        queues: &mut Queues,
        queue: &str,
        expected: (u64, u32),
    ) -> Result<Lease, Gone> {
        let item = take(queues, queue)?;
        assert_eq!((number_of(&item), item.lease.delivery), expected);
        self.delivered.insert(expected.0, expected.1);
        Ok(item.lease)
    }

    fn ack(
        &mut self,
        queues: &mut Queues,
        queue: &str,
        number: u64,
        lease: Lease,
    ) -> Result<(), Gone> {
        self.acking.insert(number);
        queues.ack(queue, lease, patience())?;
        self.acked.insert(number);
        Ok(())
    }

    /// What is in the queues after the death, against what was said before it.
    fn settle(&self, queues: &mut Queues) {
        let mut left = BTreeSet::new();
        for name in ["jobs", "once"] {
            let queue = self.queue(name);
            let letters = match queues.dead(&queue, patience()) {
                // It was in memory, or it had not been made yet; whoever put something into it is missed below.
                Err(QueueError::Refused(_)) => continue,
                letters => letters.unwrap(),
            };
            for letter in letters {
                let requeue = Operation::Requeue { item: letter.item };
                queues.call(&queue, &requeue, patience()).unwrap();
            }
            for item in drained(queues, &queue) {
                let number = number_of(&item);
                assert!(self.asked.contains(&number), "nobody put {number}");
                assert!(!self.acked.contains(&number), "{number} was done");
                let before = self.delivered.get(&number).copied().unwrap_or(0);
                assert!(item.lease.delivery > before, "{number} comes again uncounted");
                assert!(left.insert(number), "{number} comes twice");
            }
        }
        let due = self.stored.difference(&self.acking);
        let lost: Vec<_> = due.filter(|number| !left.contains(number)).collect();
        assert!(
            self.durable == Durable::No || lost.is_empty(),
            "{lost:?} were stored and are gone"
        );
    }
}

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

/// Where it has to do with a disk; the same, and what is to survive.
const KEEPING: &[(&str, u64, &str, Durable, Life)] = &[
    ("exchange.put-stored", 1, "exchange, stored", Durable::Stored, serve_queues),
    ("exchange.changes-written", 0, "exchange, stored", Durable::Stored, serve_queues),
    ("exchange.changes-written", 5, "exchange, stored", Durable::Stored, serve_queues),
    ("exchange.put-answered", 1, "exchange, stored", Durable::Stored, serve_queues),
    ("exchange.item-delivered", 2, "exchange, stored", Durable::Stored, serve_queues),
    ("exchange.ack-taken", 1, "exchange, stored", Durable::Stored, serve_queues),
    ("exchange.dead-letter", 0, "exchange, stored", Durable::Stored, serve_queues),
    ("exchange.changes-written", 3, "exchange, synced", Durable::Synced, serve_queues),
    ("log.before-sync", 4, "exchange, synced", Durable::Synced, serve_queues),
    ("log.synced", 4, "exchange, synced", Durable::Synced, serve_queues),
    ("exchange.changes-synced", 3, "exchange, synced", Durable::Synced, serve_queues),
    ("exchange.records-appended", 3, "exchange, log", Durable::Stored, serve_log),
    ("log.before-sync", 3, "exchange, log", Durable::Synced, serve_log),
    ("log.synced", 3, "exchange, log", Durable::Synced, serve_log),
];

pub(crate) fn die_at_every_point(table: &mut Table, innocents: &Innocents) {
    for (point, skip, life, checked) in CASES {
        let recovery = die(Fault { point, skip: *skip }, Durable::No, *life);
        innocents.go_on();
        table.add(Row { point, who: "exchange", checked, recovery });
    }
    for (point, skip, who, durable, life) in KEEPING {
        let recovery = die(Fault { point, skip: *skip }, *durable, *life);
        innocents.go_on();
        table.add(Row { point, who, checked: KEPT, recovery });
    }
}

fn die(fault: Fault, durable: Durable, life: Life) -> Duration {
    let bus = Bus::start_armed(SETUP, fault);
    bus.find_exchange();
    let first = bus.hosted_pid("exchange");
    let mut before = bus.calm(0);
    if durable != Durable::No {
        // The next one has their files open, and nothing of the dead one's.
        before.held[1].0 = u64::MAX;
    }
    let innocents = Innocents::start(&bus);
    let mut ledger = Ledger::of("first", durable);
    let Err(Gone) = life(&bus, &mut ledger) else { panic!("{}: nobody died", fault.point) };
    let told = Instant::now();
    assert!(bus.has_fired(), "{}: it died elsewhere", fault.point);
    let queue = format!("after.{}", fault.point);
    let (mut client, mut queues) = serves_again(&bus, &queue);
    let recovery = told.elapsed();
    ledger.settle(&mut queues);
    settle_log(&mut client, &ledger);
    // The link holds an end of a doorbell of the exchange's.
    drop((client, queues));
    assert_ne!(bus.hosted_pid("exchange"), first);
    assert_eq!(bus.metric("bolide_agent_restarts_total{agent=\"exchange\"}"), 1);
    innocents.go_on();
    innocents.finish();
    bus.find_exchange();
    bus.settles(fault.point, &before);
    // Once more, over everything.
    assert!(
        life(&bus, &mut Ledger::of("second", durable)).is_ok(),
        "{}: it dies again",
        fault.point
    );
    recovery
}

fn serves_again(bus: &Bus, queue: &str) -> (Client, Queues) {
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
    (client, queues)
}

fn take(queues: &mut Queues, queue: &str) -> Result<Delivery, Gone> {
    let take = queues.take(queue, 1, HOUR_NS, patience())?;
    let Taken::Item(item) = queues.next(take, patience())? else { panic!("no item") };
    queues.next(take, patience())?;
    Ok(item)
}

/// Everything that a queue does.
fn serve_queues(bus: &Bus, ledger: &mut Ledger) -> Result<(), Gone> {
    let (jobs, once) = (ledger.queue("jobs"), ledger.queue("once"));
    let (mut one, mut two) = (bus.client("test.sender"), bus.client("test.worker"));
    let mut sender = Queues::open(&mut one)?;
    let mut worker = Queues::open(&mut two)?;
    let nack = |lease| Operation::Nack { lease, delay_ns: 0 };
    let durable = ledger.durable;
    if durable != Durable::No {
        sender.declare(&jobs, Options { durable, ..Options::default() }, patience())?;
    }
    ledger.put(&mut sender, &jobs, 1)?;
    let lease = ledger.take(&mut worker, &jobs, (1, 1))?;
    worker.call(&jobs, &nack(lease), patience())?;
    let lease = ledger.take(&mut worker, &jobs, (1, 2))?;
    ledger.ack(&mut worker, &jobs, 1, lease)?;
    {
        let mut leaver = bus.client("test.leaver");
        let mut leaving = Queues::open(&mut leaver)?;
        ledger.put(&mut sender, &jobs, 2)?;
        ledger.take(&mut leaving, &jobs, (2, 1))?;
    }
    let lease = ledger.take(&mut worker, &jobs, (2, 2))?;
    ledger.ack(&mut worker, &jobs, 2, lease)?;
    let options = Options { deliveries_max: 1, durable, ..Options::default() };
    sender.declare(&once, options, patience())?;
    ledger.put(&mut sender, &once, 3)?;
    let lease = ledger.take(&mut worker, &once, (3, 1))?;
    worker.call(&once, &nack(lease), patience())?;
    let dead = sender.dead(&once, patience())?;
    assert_eq!(dead.len(), 1);
    sender.call(&once, &Operation::Requeue { item: dead[0].item }, patience())?;
    let lease = ledger.take(&mut worker, &once, (3, 2))?;
    ledger.ack(&mut worker, &once, 3, lease)
}

/// A route from its beginning to its end, with messages both ways and a grant.
fn serve_routes(bus: &Bus, _: &mut Ledger) -> Result<(), Gone> {
    let (mut one, mut two) = (bus.client("test.quiet.one"), bus.client("test.two"));
    let refused = AtomicBool::new(false);
    let (opened, accepted) = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| accepted(&mut two, &refused));
        let opened = one.open("test.two");
        refused.store(opened.is_err(), Ordering::Relaxed);
        (opened, accepting.join().unwrap())
    });
    let (mut opened, mut accepted) = (opened?, accepted.expect("the other half"));
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

/// The first link that is offered, while whoever opens it has not been refused.
fn accepted(client: &mut Client, refused: &AtomicBool) -> Option<Link> {
    loop {
        let slice = Instant::now() + Duration::from_millis(5);
        match client.next_event(slice).unwrap() {
            Some(Event::LinkOffered(offer)) => return Some(client.accept(offer).unwrap()),
            None if refused.load(Ordering::Relaxed) => return None,
            _ => {}
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
