//! Fuzz target: recovery and reading of segment files that somebody made, checksums and all.
//!
//! Changed bytes alone fail at the first checksum (`damage` has those). Here records and headers say anything with checksums
//! that are right: positions, what was synced, lengths of names, subjects, salts; and then some bytes are changed as well.

use super::*;
use crate::exchange::log::format::{
    ALIGNMENT, Seed, SegmentHeader, body_checksum, encode_record_header, padded,
};
use crate::limits::LOG_POSITIONS_MAX;
use harness::{Chance, fuzz};

#[path = "../../../../../ipc/src/fuzz.rs"]
#[allow(dead_code, reason = "a harness for several parts, of which this needs some")]
mod harness;

const SALT: u64 = 3;

fn header(chance: &mut Chance, first: u64) -> Vec<u8> {
    let odd = chance.once_in(6);
    let header = SegmentHeader {
        first: if odd { chance.number(first) } else { first },
        salt: if chance.once_in(12) { chance.next() } else { SALT },
        created_ns: chance.number(1_000),
        synced: if chance.once_in(3) { chance.number(first) } else { first },
        subject: (if chance.once_in(16) { "mail" } else { "jobs" }).to_owned(),
    };
    header.encode().to_vec()
}

/// A segment file from a position on; gives where the next one would begin.
fn segment(chance: &mut Chance, first: u64) -> (Vec<u8>, u64) {
    let mut bytes = header(chance, first);
    let mut position = first;
    for _ in 0..chance.below(12) {
        if chance.once_in(6) {
            position = position.wrapping_add(chance.number(1));
        }
        let length = chance.below(300);
        let payload = payload(position, length);
        let record = Record { time_ns: chance.number(1_000), ..record(7, &payload) };
        let synced = if chance.once_in(4) { chance.number(position) } else { first };
        let seed = Seed::of(SALT);
        let of_body = body_checksum(seed, &[record.sender_name.as_bytes(), &payload]);
        bytes.extend(encode_record_header(&record, (position, synced), seed, of_body));
        bytes.extend(record.sender_name.as_bytes());
        bytes.extend(&payload);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        if chance.once_in(8) {
            let hole = padded(chance.below(200));
            bytes.resize(bytes.len() + hole, 0);
        }
        position = position.wrapping_add(1);
    }
    if chance.once_in(3) {
        chance.mutate(&mut bytes);
    }
    if chance.once_in(2) {
        // As it is made: with its space taken.
        bytes.resize(bytes.len().max(LOG_SEGMENT_BYTES_MIN as usize), 0);
    }
    (bytes, position)
}

/// What is read is in order, within the log, and told without anything left out; gives how much it was.
fn check_read(log: &Log) -> u64 {
    let (first, next) = (log.first_position(), log.next_position());
    let mut reader = log.read(first).unwrap();
    let (mut at, mut count) = (first, 0);
    loop {
        let batch = reader.read(10_000).unwrap();
        if batch.is_empty() {
            break;
        }
        for entry in batch.entries() {
            match entry {
                Entry::Record(stored) => {
                    assert_eq!(stored.position, at, "nothing is left out");
                    at += 1;
                    count += 1;
                }
                Entry::Gap(gap) => {
                    assert!(gap.first == at && gap.next > gap.first && gap.next <= next, "{gap:?}");
                    at = gap.next;
                }
            }
        }
    }
    assert_eq!(at, next);
    count
}

#[test]
fn any_log_is_opened_and_goes_on_or_is_refused() {
    let mut read = 0;
    fuzz(1_500, |chance| {
        let disk = Disk::new(chance.next());
        let far = [0, 0, 0, 1 << 40, LOG_POSITIONS_MAX - 9, u64::MAX - 20, u64::MAX - 1];
        let mut first = *chance.pick(&far);
        for _ in 0..1 + chance.below(3) {
            let (bytes, next) = segment(chance, first);
            let named = if chance.once_in(8) { chance.number(first) } else { first };
            disk.put(&name::segment_name(named), &bytes);
            first = next;
        }
        let Ok((mut log, recovered)) = open_on(&disk, small()) else { return };
        assert!(recovered.first <= recovered.next);
        read += check_read(&log);
        let before = log.next_position();
        let Ok(position) = log.append(&record(7, b"goes on")) else { return };
        assert_eq!((position, log.next_position()), (before, before + 1));
        check_read(&log);
        drop(log);
        let (log, _) = open_on(&disk, small()).unwrap();
        assert_eq!(log.next_position(), before + 1, "what was stored is found again");
        check_read(&log);
    });
    assert!(read > 0 || std::env::var_os("BOLIDE_FUZZ_SEED").is_some());
}
