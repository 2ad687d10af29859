//! Behaviour of the log: on a real directory, and on a disk that fails in every way.

use std::sync::Arc;

use super::format::Stored;
use super::reader::Gap;
use super::retain::HoldError;
use super::simulated::Disk;
use super::*;

mod crashes;
mod damage;
mod fuzz;
mod killed;
mod reading;
mod retention;
mod syncing;

/// Bytes that can be told apart by their position.
fn payload(position: u64, length: usize) -> Vec<u8> {
    let mut chance = simulated::Chance(position);
    (0..length).map(|_| chance.next() as u8).collect()
}

fn record<'a>(position: u64, payload: &'a [u8]) -> Record<'a> {
    Record {
        time_ns: 1_000 + position,
        sender: 7,
        sender_name: "worker",
        priority: 5,
        dedup: u128::from(position) << 64 | 1,
        payload,
    }
}

fn small() -> Options {
    Options { segment_bytes: LOG_SEGMENT_BYTES_MIN, retention: Retention::default() }
}

fn open_on(disk: &Disk, options: Options) -> Result<(Log, Recovered), OpenError> {
    let committer = Committer::absent();
    Log::open_in(Arc::new(disk.clone()), "jobs", options, &committer, (1, 0x5eed))
}

/// Appends a record of this length; its content follows from its position.
fn append(log: &mut Log, length: usize) -> Result<u64, AppendError> {
    let position = log.next_position();
    log.append(&record(position, &payload(position, length)))
}

/// Everything from a position on: records as position and payload, gaps.
fn read_all(log: &Log, from: u64) -> (Vec<(u64, Vec<u8>)>, Vec<Gap>) {
    let mut reader = log.read(from).unwrap();
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let batch = reader.read(10_000).unwrap();
        if batch.is_empty() {
            return (records, gaps);
        }
        for entry in batch.entries() {
            match entry {
                Entry::Record(stored) => {
                    assert_eq!(stored.record.sender_name, "worker");
                    records.push((stored.position, stored.record.payload.to_vec()));
                }
                Entry::Gap(gap) => gaps.push(gap),
            }
        }
    }
}

#[test]
fn subjects_become_directory_names_one_to_one() {
    let long = "A".repeat(128);
    let subjects =
        ["jobs.new", "jobs", "Jobs", "..", ".", "a/b", "a%b", "", "ä", "x.", ".x", &long];
    let mut names: Vec<String> = subjects.iter().map(|subject| directory_name(subject)).collect();
    assert_eq!(names[0], "jobs.new");
    assert_eq!(names[3], "%2e%2e");
    assert_eq!(names[5], "a%2fb");
    for (name, subject) in names.iter().zip(subjects) {
        assert_eq!(subject_of(name).as_deref(), Some(subject));
    }
    for none in ["%2", "%%", "%zz", "Jobs", "%61", "..", ".removed-1"] {
        assert_eq!(subject_of(none), None, "{none}");
    }
    for name in &names {
        assert!(name.len() <= 255 && !name.contains('/') && !name.starts_with('.'), "{name}");
        assert_eq!(*name, name.to_lowercase());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), subjects.len());
}

#[test]
fn what_was_appended_is_read_after_it_was_opened_again() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(directory_name("jobs"));
    let committer = Committer::absent();
    let (mut log, recovered) = Log::open(&path, "jobs", small(), &committer, 1).unwrap();
    assert_eq!(recovered, Recovered { segments: 1, ..Recovered::default() });
    for position in 0..200 {
        assert_eq!(append(&mut log, position as usize * 3).unwrap(), position);
    }
    drop(log);
    let (log, recovered) = Log::open(&path, "jobs", small(), &committer, 2).unwrap();
    assert_eq!((recovered.first, recovered.next, recovered.gap_count), (0, 200, 0));
    assert!(recovered.segments > 3 && recovered.cut.is_none());
    let (records, gaps) = read_all(&log, 0);
    assert!(gaps.is_empty());
    let expected: Vec<_> =
        (0..200).map(|position| (position, payload(position, position as usize * 3))).collect();
    assert_eq!(records, expected);
}

#[test]
fn every_field_of_a_record_comes_back() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    let given = Record {
        time_ns: u64::MAX,
        sender: u32::MAX,
        sender_name: "älter",
        priority: 255,
        dedup: u128::MAX,
        payload: b"",
    };
    log.append(&given).unwrap();
    let mut reader = log.read(0).unwrap();
    let batch = reader.read(1).unwrap();
    let entries: Vec<_> = batch.entries().collect();
    assert_eq!(entries, [Entry::Record(Stored { position: 0, synced: 0, record: given })]);
}

#[test]
fn a_log_has_one_writer() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("jobs");
    let committer = Committer::absent();
    let held = Log::open(&path, "jobs", small(), &committer, 1).unwrap();
    let second = Log::open(&path, "jobs", small(), &committer, 1);
    assert!(matches!(second, Err(OpenError::Held)));
    drop(held);
    Log::open(&path, "jobs", small(), &committer, 1).unwrap();
}

#[test]
fn a_directory_of_another_queue_is_refused() {
    let disk = Disk::new(1);
    let (log, _) = open_on(&disk, small()).unwrap();
    drop(log);
    let storage = Arc::new(disk.clone());
    let opened = Log::open_in(storage, "mail", small(), &Committer::absent(), (1, 1));
    assert!(matches!(opened, Err(OpenError::OtherQueue { .. })));
}

#[test]
fn too_long_is_refused_and_the_largest_fits() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    let bytes = vec![3; LOG_PAYLOAD_BYTES_MAX + 1];
    let refused = log.append(&record(0, &bytes));
    assert!(matches!(refused, Err(AppendError::TooLong { part: "payload", .. })));
    let name = "n".repeat(LOG_NAME_BYTES_MAX + 1);
    let refused = log.append(&Record { sender_name: &name, ..record(0, b"") });
    assert!(matches!(refused, Err(AppendError::TooLong { part: "name", .. })));
    // As the first of an empty segment, then behind another.
    for position in 0..3 {
        let largest = record(position, &bytes[1..]);
        assert_eq!(log.append(&largest).unwrap(), position);
    }
    append(&mut log, 10).unwrap();
    drop(log);
    let (log, recovered) = open_on(&disk, small()).unwrap();
    assert_eq!((recovered.next, recovered.gap_count), (4, 0));
    let (records, _) = read_all(&log, 0);
    assert_eq!(records.len(), 4);
    assert!(records[2].1 == bytes[1..]);
}
