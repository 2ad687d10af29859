//! Fuzz target: what clients ask of work queues and what they are answered.

use super::*;
use crate::fuzz::{Chance, fuzz};

fn lease(chance: &mut Chance) -> Lease {
    Lease { item: chance.number(1), delivery: chance.number(1) as u32 }
}

fn operation<'a>(chance: &mut Chance, payload: &'a [u8]) -> Operation<'a> {
    match chance.below(11) {
        0 => Operation::Declare { options: Options::default() },
        1 | 2 => {
            let dedup = chance.once_in(2).then(|| u128::from(chance.next()));
            let (deadline_ns, wait_ns) = (chance.number(0), chance.number(0));
            let priority = chance.below(12) as u8;
            Operation::Put { priority, dedup, deadline_ns, wait_ns, payload }
        }
        3 => Operation::Take { count: chance.next() as u32, wait_ns: chance.number(0) },
        4 => Operation::Ack(lease(chance)),
        5 => Operation::Nack { lease: lease(chance), delay_ns: chance.number(0) },
        6 => Operation::Extend(lease(chance)),
        7 => Operation::Handoff { lease: lease(chance), to: "worker".to_owned() },
        8 => Operation::Dead { after: chance.number(0), count: chance.next() as u32 },
        9 => Operation::Requeue { item: chance.number(1) },
        _ => Operation::Status,
    }
}

#[test]
fn what_is_taken_for_an_operation_can_be_asked_again() {
    fuzz(20_000, |chance| {
        let payload = chance.below(100);
        let payload = chance.bytes(payload);
        let operation = operation(chance, &payload);
        let mut bytes = operation.encode("jobs").unwrap();
        chance.mutate(&mut bytes);
        let tools = ["queue.declare", "queue.put", "queue.take", "queue.ack", "queue.none"];
        let other = *chance.pick(&tools);
        for tool in [operation.tool(), other] {
            let Ok(Some((queue, read))) = Operation::decode(tool, &bytes) else { continue };
            assert_eq!(read.tool(), tool);
            let again = read.encode(&queue).unwrap();
            let reread = Operation::decode(tool, &again).unwrap();
            assert_eq!(reread, Some((queue, read)));
        }
    });
}

#[test]
fn what_is_taken_for_an_answer_can_be_given_again() {
    fuzz(20_000, |chance| {
        let payload = chance.below(100);
        let delivery = Delivery {
            lease: lease(chance),
            priority: 5,
            lease_left_ns: chance.next(),
            sender: "sender".to_owned(),
            payload: chance.bytes(payload),
        };
        let letter = DeadLetter {
            item: chance.next(),
            deliveries: 3,
            priority: 5,
            reason: 1,
            bytes: chance.next(),
            sender: "sender".to_owned(),
        };
        let valid = [
            delivery.encode().unwrap(),
            letter.encode().unwrap(),
            Status::default().encode(),
            PutOutcome::Stored { item: 7 }.encode(),
            TakeEnd::Timeout.encode(7),
        ];
        let mut bytes = chance.pick(&valid).clone();
        chance.mutate(&mut bytes);
        if let Ok(read) = Delivery::decode(&bytes) {
            assert_eq!(Delivery::decode(&read.encode().unwrap()), Ok(read));
        }
        if let Ok(read) = DeadLetter::decode(&bytes) {
            assert_eq!(DeadLetter::decode(&read.encode().unwrap()), Ok(read));
        }
        if let Ok(read) = Status::decode(&bytes) {
            assert_eq!(Status::decode(&read.encode()), Ok(read));
        }
        if let Ok(read) = PutOutcome::decode(&bytes) {
            assert_eq!(PutOutcome::decode(&read.encode()), Ok(read));
        }
        if let Ok((missing, end)) = TakeEnd::decode(&bytes) {
            assert_eq!(TakeEnd::decode(&end.encode(missing)), Ok((missing, end)));
        }
    });
}
