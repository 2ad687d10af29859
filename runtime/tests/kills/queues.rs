//! Deaths of those who put items into a queue and of those who take them out: what was acknowledged is there, what was
//! delivered comes again with its count raised, and no lease is left.

use std::collections::BTreeMap;

use ipc::exchange::queue::{Delivery, Operation, Options, Queues, Status, TakeEnd, Taken};

use super::bus::{eventually, patience};
use super::clients::Stage;

/// Items for a worker that will die.
const ITEMS: u64 = 8;

fn queues(stage: &mut Stage) -> Queues {
    Queues::open(&mut stage.client).unwrap()
}

pub(crate) fn number_of(item: &Delivery) -> u64 {
    u64::from_le_bytes(item.payload[..8].try_into().unwrap())
}

/// Everything that is in the queue, taken and acknowledged.
pub(crate) fn drained(queues: &mut Queues, queue: &str) -> Vec<Delivery> {
    let mut items = Vec::new();
    loop {
        let take = queues.take(queue, 1, 0, patience()).unwrap();
        match queues.next(take, patience()).unwrap() {
            Taken::Item(item) => {
                let end = queues.next(take, patience()).unwrap();
                assert_eq!(end, Taken::End { missing: 0, end: TakeEnd::Complete });
                queues.ack(queue, item.lease, patience()).unwrap();
                items.push(item);
            }
            Taken::End { .. } => return items,
        }
    }
}

/// Of a queue in which an item may be delivered once.
pub(crate) fn once() -> Options {
    Options { deliveries_max: 1, ..Options::default() }
}

/// Waits until the exchange knows of the death: nobody holds a lease or waits.
fn without_leases(queues: &mut Queues, queue: &str) -> Status {
    let mut status = queues.status(queue, patience()).unwrap();
    eventually("the dead have no leases", || {
        status = queues.status(queue, patience()).unwrap();
        (status.leased, status.takers, status.putters) == (0, 0, 0)
    });
    status
}

/// What was stored is there once; what was sent and not answered may be.
pub(crate) fn take_after_the_sender(stage: &mut Stage) {
    let (mut queues, queue) = (queues(stage), stage.queue.clone());
    stage.victim.wait();
    // As a put makes it: one that died very early has put nothing, and then it is there, and empty.
    queues.declare(&queue, Options::default(), patience()).unwrap();
    eventually("the sender is forgotten", || {
        stage.client.agents(super::victim::NAME).unwrap().is_empty()
    });
    without_leases(&mut queues, &queue);
    let items = drained(&mut queues, &queue);
    let stored = stage.victim.reported("stored");
    let numbers: Vec<u64> = items.iter().map(number_of).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    assert!(items.iter().all(|item| item.lease.delivery == 1), "{items:?}");
    let (got, told) = (numbers.len(), stored.len());
    assert!(got == told || got == told + 1, "{told} were stored, {got} came");
    close(stage, &mut queues);
}

/// The queue is empty by now, and goes: a long run has more of them than the exchange has room for.
fn close(stage: &mut Stage, queues: &mut Queues) {
    queues.remove(&stage.queue, patience()).unwrap();
    stage.client.decline(queues.link().lane(), "done").unwrap();
}

fn fill(queues: &mut Queues, queue: &str) {
    for number in 0..ITEMS {
        queues.put(queue, &number.to_le_bytes(), patience()).unwrap();
    }
}

/// What the dead worker had and did not finish goes to another one, with its count raised.
pub(crate) fn inherit(stage: &mut Stage) {
    let (mut queues, queue) = (queues(stage), stage.queue.clone());
    fill(&mut queues, &queue);
    stage.victim.wait();
    without_leases(&mut queues, &queue);
    let inherited = drained(&mut queues, &queue);
    let mut had: BTreeMap<u64, u64> = BTreeMap::new();
    for number in stage.victim.reported("got") {
        *had.entry(number).or_default() += 1;
    }
    let acked = stage.victim.reported("acked");
    for item in &inherited {
        let number = number_of(item);
        assert!(!acked.contains(&number), "item {number} came after it was done");
        let before = had.get(&number).copied().unwrap_or(0);
        let delivery = u64::from(item.lease.delivery);
        assert!(delivery > before, "delivery {delivery} of item {number} after {before}");
    }
    let status = queues.status(&queue, patience()).unwrap();
    // Each once: those of the dead, the one whose acknowledgement it sent last perhaps, and ours.
    assert_eq!((status.stored, status.acked, status.ready, status.dead), (ITEMS, ITEMS, 0, 0));
    let done = acked.len() + inherited.len();
    assert!(done as u64 == ITEMS || done as u64 + 1 == ITEMS, "{done} of {ITEMS}");
    close(stage, &mut queues);
}

/// An item that may be delivered once is dead with its worker, and can be called back.
pub(crate) fn bury_and_call_back(stage: &mut Stage) {
    let (mut queues, queue) = (queues(stage), stage.queue.clone());
    queues.declare(&queue, once(), patience()).unwrap();
    queues.put(&queue, &0u64.to_le_bytes(), patience()).unwrap();
    stage.victim.wait();
    let status = without_leases(&mut queues, &queue);
    if !stage.exact && status.dead == 0 {
        // A worker that was killed earlier had nothing.
        drained(&mut queues, &queue);
        return close(stage, &mut queues);
    }
    assert_eq!((status.ready, status.dead), (0, 1));
    let dead = queues.dead(&queue, patience()).unwrap();
    assert_eq!((dead.len(), dead[0].deliveries), (1, 1));
    queues.call(&queue, &Operation::Requeue { item: dead[0].item }, patience()).unwrap();
    let again = drained(&mut queues, &queue);
    assert_eq!((again.len(), again[0].lease.delivery), (1, 2), "no number comes twice");
    close(stage, &mut queues);
}
