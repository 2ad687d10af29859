//! Whatever is written is read again, and whatever is not is refused without a panic.

use proptest::prelude::*;

use super::*;

mod fuzz;

fn lease() -> impl Strategy<Value = Lease> {
    (any::<u64>(), any::<u32>()).prop_map(|(item, delivery)| Lease { item, delivery })
}

fn options() -> impl Strategy<Value = Options> {
    let when =
        prop_oneof![Just(WhenFull::Reject), Just(WhenFull::DropOldest), Just(WhenFull::Wait),];
    let durable = prop_oneof![Just(Durable::No), Just(Durable::Stored), Just(Durable::Synced)];
    (any::<u32>(), any::<[u64; 3]>(), any::<u32>(), when, durable).prop_map(
        |(items_max, numbers, deliveries_max, when_full, durable)| {
            let [bytes_max, lease_ns, lease_total_ns] = numbers;
            Options {
                items_max,
                bytes_max,
                lease_ns,
                lease_total_ns,
                deliveries_max,
                when_full,
                durable,
            }
        },
    )
}

fn operation(payload: &'static [u8]) -> impl Strategy<Value = Operation<'static>> {
    prop_oneof![
        options().prop_map(|options| Operation::Declare { options }),
        (1u8..=10, any::<Option<u128>>(), any::<u64>(), any::<u64>()).prop_map(
            move |(priority, dedup, deadline_ns, wait_ns)| Operation::Put {
                priority,
                dedup,
                deadline_ns,
                wait_ns,
                payload,
            }
        ),
        (any::<u32>(), any::<u64>())
            .prop_map(|(count, wait_ns)| Operation::Take { count, wait_ns }),
        lease().prop_map(Operation::Ack),
        (lease(), any::<u64>()).prop_map(|(lease, delay_ns)| Operation::Nack { lease, delay_ns }),
        lease().prop_map(Operation::Extend),
        (lease(), "[a-z.]{0,20}").prop_map(|(lease, to)| Operation::Handoff { lease, to }),
        Just(Operation::Status),
        (any::<u64>(), any::<u32>()).prop_map(|(after, count)| Operation::Dead { after, count }),
        any::<u64>().prop_map(|item| Operation::Requeue { item }),
        any::<u64>().prop_map(|item| Operation::Drop { item }),
        Just(Operation::Remove),
    ]
}

proptest! {
    #[test]
    fn operations_come_back_as_they_were(
        operation in operation(b"the payload"),
        queue in "[a-z.]{1,40}",
    ) {
        let bytes = operation.encode(&queue).unwrap();
        let decoded = Operation::decode(operation.tool(), &bytes).unwrap().unwrap();
        prop_assert_eq!(decoded, (queue, operation.clone()));
        for length in 0..bytes.len() {
            // Only a payload may end anywhere, and an older client's options one byte earlier.
            let cut = Operation::decode(operation.tool(), &bytes[..length]);
            let is_whole = match operation {
                Operation::Put { .. } => true,
                Operation::Declare { .. } => length == bytes.len() - 1,
                _ => false,
            };
            prop_assert!(cut.is_err() || is_whole, "{length} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn answers_come_back_as_they_were(
        lease in lease(),
        priority in 1u8..=10,
        left in any::<u64>(),
        sender in "[a-z.]{1,40}",
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let delivery = Delivery {
            lease,
            priority,
            lease_left_ns: left,
            sender: sender.clone(),
            payload,
        };
        prop_assert_eq!(Delivery::decode(&delivery.encode().unwrap()), Ok(delivery));
        let item = lease.item;
        let (deliveries, reason, bytes) = (lease.delivery, priority, left);
        let letter = DeadLetter { item, deliveries, priority, reason, bytes, sender };
        prop_assert_eq!(DeadLetter::decode(&letter.encode().unwrap()), Ok(letter));
        for outcome in [
            PutOutcome::Stored { item },
            PutOutcome::Duplicate { item },
            PutOutcome::Rejected { reason: priority },
        ] {
            prop_assert_eq!(PutOutcome::decode(&outcome.encode()), Ok(outcome));
        }
        for end in [TakeEnd::Complete, TakeEnd::Timeout, TakeEnd::TooManyWait, TakeEnd::Cancelled] {
            prop_assert_eq!(TakeEnd::decode(&end.encode(7)), Ok((7, end)));
        }
        let status = Status { ready: left, stale: item, ..Status::default() };
        prop_assert_eq!(Status::decode(&status.encode()), Ok(status));
    }

    #[test]
    fn foreign_bytes_never_panic(
        tool in prop::sample::select(vec![
            "queue.declare", "queue.put", "queue.take", "queue.ack", "queue.nack", "queue.extend",
            "queue.handoff", "queue.status", "queue.dead", "queue.requeue", "queue.drop", "other",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Operation::decode(tool, &bytes);
        let _ = (Delivery::decode(&bytes), DeadLetter::decode(&bytes), Status::decode(&bytes));
        let _ = (PutOutcome::decode(&bytes), TakeEnd::decode(&bytes));
    }
}
