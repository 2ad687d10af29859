//! Durable queues on a disk that is really full, and one whose worker is slow.

use ipc::class::{Class, ClassSet};
use ipc::exchange::queue::{Durable, Options, PutOutcome, QueueError, Queues, TakeEnd, Taken};

use super::super::world::{Daemon, eventually, patience};
use super::{EXCHANGE, HOUR_NS, item, queues};

/// Of an item: some fill a segment.
const ITEM_BYTES: usize = 32 * 1024;

fn payload(number: u32) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(ITEM_BYTES, number as u8);
    payload
}

fn number_of(bytes: &[u8]) -> u32 {
    let number = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert!(bytes == payload(number));
    number
}

/// Why a put was refused: the code of the error.
fn put(queues: &mut Queues, number: u32) -> Result<(), String> {
    match queues.put("work", &payload(number), patience()) {
        Ok(PutOutcome::Stored { .. }) => Ok(()),
        Err(QueueError::Refused(error)) => {
            let error: agents_contract::ToolError = ciborium::from_reader(&error[..]).unwrap();
            assert!(error.retry, "{error:?}");
            Err(error.code)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_refuses_puts_and_lets_work_be_finished() {
    let Some(daemon) = Daemon::start_on_small_disk(&EXCHANGE, "24m") else { return };
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let (_worker, mut worker) = queues(&daemon, "test.worker");
    let bytes_max = 1 << 28;
    let options = Options { durable: Durable::Stored, bytes_max, ..Options::default() };
    sender.declare("work", options, patience()).unwrap();
    let mut stored = 0;
    let why = loop {
        match put(&mut sender, stored) {
            Ok(()) => stored += 1,
            Err(why) => break why,
        }
        assert!(stored < 10_000, "the disk is never full");
    };
    assert_eq!(why, "no-space");
    assert!(stored > 100, "{stored}");
    // What is there is worked off, and makes room for more.
    for expected in 0..stored {
        let got = item(&mut worker, "work");
        assert_eq!((number_of(&got.payload), got.lease.delivery), (expected, 1));
        worker.ack("work", got.lease, patience()).unwrap();
    }
    eventually("there is room again", || put(&mut sender, stored).is_ok());
    assert_eq!(number_of(&item(&mut worker, "work").payload), stored);
    let status = sender.status("work", patience()).unwrap();
    assert_eq!((status.acked, status.ready, status.redelivered), (u64::from(stored), 0, 0));
}

#[test]
fn a_slow_worker_of_a_durable_queue_gets_everything_once_and_holds_up_nobody() {
    const COUNT: u32 = 200;
    let daemon = Daemon::start(&EXCHANGE);
    let (_sender, mut sender) = queues(&daemon, "test.sender");
    let options = Options { durable: Durable::Synced, ..Options::default() };
    sender.declare("work", options, patience()).unwrap();
    for class in [Class::Critical, Class::Normal] {
        let mut client = daemon.client(&format!("test.{class}"));
        client.set_classes(ClassSet::NONE.with(class));
        let mut slow = Queues::open(&mut client).unwrap();
        let take = slow.take("work", COUNT, HOUR_NS, patience()).unwrap();
        // Many times what its lane holds, of which it takes nothing.
        (0..COUNT).for_each(|number| put(&mut sender, number).unwrap());
        sender.put("other", b"x", patience()).unwrap();
        let other = item(&mut sender, "other");
        sender.ack("other", other.lease, patience()).unwrap();
        let mut leases = Vec::new();
        for expected in 0..COUNT {
            let Taken::Item(got) = slow.next(take, patience()).unwrap() else { panic!("no item") };
            assert_eq!((number_of(&got.payload), got.lease.delivery), (expected, 1));
            leases.push(got.lease);
        }
        let end = slow.next(take, patience()).unwrap();
        assert_eq!(end, Taken::End { missing: 0, end: TakeEnd::Complete });
        leases.into_iter().for_each(|lease| slow.ack("work", lease, patience()).unwrap());
    }
    let status = sender.status("work", patience()).unwrap();
    let all = u64::from(2 * COUNT);
    assert_eq!((status.stored, status.acked, status.redelivered, status.stale), (all, all, 0, 0));
}
