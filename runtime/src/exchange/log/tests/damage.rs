//! Bytes on the disk that nobody wrote like that.

use proptest::prelude::*;

use super::*;
use crate::exchange::log::format::{SegmentHeader, examine, parse};
use crate::exchange::log::simulated::Chance;

/// A log of some records in several segments, all synced, and its files.
fn sample(records: u64) -> (Disk, Vec<String>) {
    let disk = Disk::new(9);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    for position in 0..records {
        append(&mut log, (position * 37 % 900) as usize).unwrap();
        if position % 10 == 9 {
            log.shared.commit().unwrap();
        }
    }
    drop(log);
    let mut names = disk.list().unwrap();
    names.sort_unstable();
    (disk, names)
}

/// Everything that is read is what was written, and what is not read is named.
fn check_honest(log: &Log, recovered: &Recovered, count: u64) {
    let first = log.first_position();
    let (records, gaps) = read_all(log, first);
    for (position, got) in &records {
        assert_eq!(*got, payload(*position, (position * 37 % 900) as usize));
    }
    let named: u64 = gaps.iter().map(|gap| gap.next - gap.first).sum();
    assert_eq!(records.len() as u64 + named, log.next_position() - first);
    // What came last may look like a torn record; then the cut says so.
    assert!(log.next_position() >= count || recovered.cut.is_some() || first > 0);
}

#[test]
fn a_file_may_end_at_every_byte() {
    let disk = Disk::new(2);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    let mut ends = Vec::new();
    for position in 0..8 {
        append(&mut log, position * 11).unwrap();
        ends.push(log.offset);
    }
    drop(log);
    let name = name::segment_name(0);
    let whole = disk.bytes(&name);
    for length in 0..=ends[7] {
        // Padding is no part of a record.
        disk.put(&name, &whole[..length as usize]);
        let (log, recovered) = open_on(&disk, small()).unwrap();
        let complete = ends.iter().filter(|end| **end <= length).count() as u64;
        assert_eq!(log.next_position(), complete, "{length} bytes");
        assert_eq!(recovered.gap_count, 0);
        let (records, gaps) = read_all(&log, 0);
        assert_eq!((records.len() as u64, gaps.len()), (complete, 0));
    }
}

#[test]
fn a_damaged_record_before_good_ones_is_a_gap() {
    let (disk, names) = sample(30);
    let (log, _) = open_on(&disk, small()).unwrap();
    let offset = log.active.nearest(log.active.first).1;
    drop(log);
    let last = &names[names.len() - 1];
    let first = name::segment_first(last).unwrap();
    let mut bytes = disk.bytes(last);
    // In the payload of the first record of the last segment.
    bytes[offset as usize + 80] ^= 1;
    disk.put(last, &bytes);
    let (mut log, recovered) = open_on(&disk, small()).unwrap();
    assert_eq!(recovered.gaps, [Gap { first, next: first + 1 }]);
    assert_eq!(recovered.next, 30);
    check_honest(&log, &recovered, 30);
    // The log goes on, and a reader can start within the gap.
    append(&mut log, 5).unwrap();
    let (records, gaps) = read_all(&log, first);
    assert_eq!(gaps, [Gap { first, next: first + 1 }]);
    assert_eq!(records[0].0, first + 1);
    assert_eq!(records.len() as u64, 30 - first);
}

#[test]
fn a_damaged_header_costs_no_records() {
    let (disk, names) = sample(60);
    assert!(names.len() > 2);
    for name in &names[1..] {
        let mut bytes = disk.bytes(name);
        bytes[..4096].fill(0xff);
        disk.put(name, &bytes);
    }
    let (log, recovered) = open_on(&disk, small()).unwrap();
    assert_eq!((recovered.next, recovered.gap_count), (60, 0));
    let (records, gaps) = read_all(&log, 0);
    assert_eq!((records.len(), gaps.len()), (60, 0));
}

#[test]
fn a_log_without_any_header_is_kept_aside_and_its_positions_are_not_used_again() {
    let (disk, names) = sample(60);
    for name in &names {
        let mut bytes = disk.bytes(name);
        bytes[..4096].fill(0);
        disk.put(name, &bytes);
    }
    let (log, recovered) = open_on(&disk, small()).unwrap();
    assert!(log.next_position() >= 60);
    assert_eq!(recovered.gap_count, names.len() as u64);
    let kept = disk.list().unwrap();
    assert_eq!(kept.iter().filter(|name| name::aside_first(name).is_some()).count(), names.len());
}

#[test]
fn a_lost_segment_is_a_gap() {
    let (disk, names) = sample(80);
    assert!(names.len() > 3);
    disk.remove(&names[1]).unwrap();
    let (log, recovered) = open_on(&disk, small()).unwrap();
    check_honest(&log, &recovered, 80);
    let (_, gaps) = read_all(&log, 0);
    let (first, next) =
        (name::segment_first(&names[1]).unwrap(), name::segment_first(&names[2]).unwrap());
    assert_eq!(gaps, [Gap { first, next }]);
}

#[test]
fn what_the_disk_lost_at_the_end_although_it_was_synced_is_a_gap() {
    let disk = Disk::new(4);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    for _ in 0..3 {
        append(&mut log, 100).unwrap();
    }
    let before = log.offset as usize;
    let _ = log.shared.commit().unwrap();
    append(&mut log, 100).unwrap();
    drop(log);
    // The last record says that three were synced; two of these are gone.
    let name = name::segment_name(0);
    let mut bytes = disk.bytes(&name);
    let size = (before - format::HEADER_BYTES) / 3;
    bytes[before - 2 * size..before].fill(0);
    disk.put(&name, &bytes);
    let (_, recovered) = open_on(&disk, small()).unwrap();
    assert_eq!(recovered.gaps, [Gap { first: 1, next: 3 }]);
    assert_eq!((recovered.mark, recovered.next), (3, 4));
}

#[test]
fn the_image_of_a_record_inside_a_payload_is_no_record() {
    let disk = Disk::new(5);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    // What a sender who does not know this log's salt can make, and a copy of an older record.
    let (foreign, seed) = (record(9, b""), format::Seed::of(1));
    let of_body = format::body_checksum(seed, &[foreign.sender_name.as_bytes()]);
    let forged = format::encode_record_header(&foreign, (9, 0), seed, of_body);
    append(&mut log, 100).unwrap();
    let old = disk.bytes(&name::segment_name(0))[4096..4096 + 64].to_vec();
    let mut bytes = vec![0; 10];
    for image in [&forged[..], &old[..]] {
        bytes.extend_from_slice(image);
    }
    let offset = log.offset as usize;
    log.append(&record(1, &bytes)).unwrap();
    append(&mut log, 100).unwrap();
    drop(log);
    let name = name::segment_name(0);
    let mut whole = disk.bytes(&name);
    whole[offset] ^= 8;
    disk.put(&name, &whole);
    let (log, recovered) = open_on(&disk, small()).unwrap();
    assert_eq!(recovered.gaps, [Gap { first: 1, next: 2 }]);
    assert_eq!(log.next_position(), 3);
}

#[test]
fn a_segment_truncated_by_somebody_else_is_a_gap_for_readers() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("jobs");
    let (mut log, _) = Log::open(&path, "jobs", small(), &Committer::absent(), 1).unwrap();
    for _ in 0..5 {
        append(&mut log, 100).unwrap();
    }
    let file = std::fs::File::options().write(true).open(path.join(name::segment_name(0)));
    file.unwrap().set_len(0).unwrap();
    let (records, gaps) = read_all(&log, 0);
    assert_eq!((records.len(), gaps), (0, vec![Gap { first: 0, next: 5 }]));
    // The writer goes on; its next record can be read.
    append(&mut log, 100).unwrap();
    let (records, gaps) = read_all(&log, 0);
    assert_eq!((records.len(), gaps), (1, vec![Gap { first: 0, next: 5 }]));
}

#[test]
fn a_later_format_is_not_touched() {
    let (disk, names) = sample(5);
    let mut bytes = disk.bytes(&names[0]);
    for at in [0, 2048] {
        bytes[at + 4] = 2;
        let checksum = crc32c::crc32c(&bytes[at..at + 180]).to_le_bytes();
        bytes[at + 180..at + 184].copy_from_slice(&checksum);
    }
    disk.put(&names[0], &bytes);
    assert!(matches!(open_on(&disk, small()), Err(OpenError::Version { major: 2 })));
    assert_eq!(disk.bytes(&names[0]), bytes);
}

#[test]
fn flipped_bits_are_found_wherever_they_are() {
    let (disk, names) = sample(60);
    let whole: Vec<Vec<u8>> = names.iter().map(|name| disk.bytes(name)).collect();
    let mut chance = Chance(77);
    for round in 0..400 {
        for (name, bytes) in names.iter().zip(&whole) {
            disk.put(name, bytes);
        }
        for _ in 0..=round % 3 {
            let index = chance.below(names.len() as u64) as usize;
            let mut bytes = disk.bytes(&names[index]);
            let at = chance.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << chance.below(8);
            disk.put(&names[index], &bytes);
        }
        let (log, recovered) = open_on(&disk, small()).unwrap();
        check_honest(&log, &recovered, 60);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_may_stand_in_the_files(
        files in prop::collection::vec((0u64..50, prop::collection::vec(any::<u8>(), 0..9_000)), 0..4),
        has_header in any::<bool>(),
    ) {
        let disk = Disk::new(1);
        for (first, bytes) in &files {
            let mut bytes = bytes.clone();
            if has_header {
                let subject = "jobs".to_owned();
                let header = SegmentHeader { first: *first, salt: 3, created_ns: 0, synced: 0, subject };
                bytes.splice(..bytes.len().min(4096), header.encode());
            }
            disk.put(&name::segment_name(*first), &bytes);
        }
        let (mut log, _) = open_on(&disk, small()).unwrap();
        let (records, _) = read_all(&log, log.first_position());
        prop_assert!(records.is_empty(), "a record was invented");
        let position = append(&mut log, 10).unwrap();
        drop(log);
        let (log, _) = open_on(&disk, small()).unwrap();
        let (records, _) = read_all(&log, log.first_position());
        prop_assert_eq!(records, [(position, payload(position, 10))]);
    }

    #[test]
    fn any_bytes_may_be_examined(bytes in prop::collection::vec(any::<u8>(), 0..300), salt: u64) {
        let _ = examine(&bytes, salt, &(0..u64::MAX));
        let _ = parse(&bytes);
        let _ = SegmentHeader::decode(&bytes);
    }
}
