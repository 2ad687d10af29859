//! Whatever is written is read again, and whatever is not is refused without a panic.

use proptest::prelude::*;

use super::*;

fn options() -> impl Strategy<Value = Options> {
    any::<[u64; 5]>().prop_map(|[segment_bytes, bytes_max, age_max_ns, records_max, ahead_max]| {
        Options { segment_bytes, bytes_max, age_max_ns, records_max, ahead_max }
    })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![any::<u64>().prop_map(Start::At), Just(Start::First), Just(Start::End)]
}

fn operation() -> impl Strategy<Value = Operation<'static>> {
    const PAYLOADS: &[&[u8]] = &[b"one", b"", b"three"];
    let durability = prop_oneof![Just(Durability::Stored), Just(Durability::Synced)];
    prop_oneof![
        (any::<Option<()>>(), options(), any::<bool>()).prop_map(|(has, options, replaces)| {
            Operation::Open { options: has.map(|()| options), replaces }
        }),
        (durability, any::<u8>(), any::<bool>(), any::<u64>(), 0..=PAYLOADS.len()).prop_map(
            |(durability, priority, takes_will_back, wait_ns, count)| {
                let records = Records::from_payloads(&PAYLOADS[..count]);
                Operation::Append(Append {
                    durability,
                    priority,
                    takes_will_back,
                    wait_ns,
                    records,
                })
            }
        ),
        (start(), any::<u32>(), any::<u32>()).prop_map(|(start, records_max, bytes_max)| {
            Operation::Read { start, records_max, bytes_max }
        }),
        (start(), any::<bool>())
            .prop_map(|(start, holds_back)| Operation::Follow { start, holds_back }),
        Just(Operation::Sync),
        any::<u64>().prop_map(|below| Operation::Trim { below }),
        Just(Operation::Info),
        Just(Operation::Will { payload: b"the last word" }),
    ]
}

proptest! {
    #[test]
    fn operations_come_back_as_they_were(operation in operation(), log in "[a-z.]{1,40}") {
        let bytes = operation.encode(&log).unwrap();
        let decoded = Operation::decode(operation.tool(), &bytes).unwrap().unwrap();
        prop_assert_eq!(decoded, (log.as_str(), operation.clone()));
        for length in 0..bytes.len() {
            let _ = Operation::decode(operation.tool(), &bytes[..length]);
        }
    }

    #[test]
    fn garbage_is_no_operation_and_no_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for tool in ["open", "append", "read", "follow", "sync", "trim", "info", "will", "fly"] {
            let _ = Operation::decode(&format!("log.{tool}"), &bytes);
        }
        let _ = Appended::decode(&bytes);
        let _ = Trimmed::decode(&bytes);
        let _ = Info::read(&mut Reader::new(&bytes));
        if let Ok(entries) = Entries::decode(bytes) {
            entries.iter().for_each(drop);
        }
    }

    #[test]
    fn entries_come_back_as_they_were(
        position in any::<u64>(),
        time_ns in any::<u64>(),
        priority in any::<u8>(),
        sender in "[a-z.]{0,128}",
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let record = Record { position, time_ns, priority, sender: &sender, payload: &payload };
        let (first, next) = (position, time_ns);
        let given = [
            Entry::Begin { position },
            Entry::Record(record),
            Entry::Lost { first, next },
            Entry::Damaged { first, next },
            Entry::Record(record),
        ];
        let mut bytes = Vec::new();
        given.iter().for_each(|entry| entry.append_to(&mut bytes));
        let entries = Entries::decode(bytes).unwrap();
        prop_assert_eq!(entries.next_position(), position.saturating_add(1));
        let got: Vec<Entry<'_>> = entries.iter().collect();
        prop_assert_eq!(&got[..], &given[1..]);
    }
}

#[test]
fn too_many_and_too_long_records_are_refused() {
    use crate::limits::{LOG_RECORD_BYTES_MAX, LOG_RECORDS_PER_APPEND_MAX};
    let append = |payloads: &[&[u8]]| {
        let records = Records::from_payloads(payloads);
        let (durability, priority, takes_will_back, wait_ns) = (Durability::Stored, 5, false, 0);
        let append =
            Operation::Append(Append { durability, priority, takes_will_back, wait_ns, records });
        append.encode("log")
    };
    assert!(append(&vec![&b""[..]; LOG_RECORDS_PER_APPEND_MAX]).is_ok());
    assert!(append(&vec![&b""[..]; LOG_RECORDS_PER_APPEND_MAX + 1]).is_err());
    assert!(append(&[&vec![0; LOG_RECORD_BYTES_MAX + 1]]).is_err());
    let mut many = append(&[]).unwrap();
    many.extend(vec![0; 4 * (LOG_RECORDS_PER_APPEND_MAX + 1)]);
    assert!(Operation::decode("log.append", &many).is_err());
    let mut long = append(&[]).unwrap();
    long.extend((LOG_RECORD_BYTES_MAX as u32 + 1).to_le_bytes());
    long.extend(vec![0; LOG_RECORD_BYTES_MAX + 1]);
    assert!(Operation::decode("log.append", &long).is_err());
}
