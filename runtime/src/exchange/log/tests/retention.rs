//! What goes, and what stays for whom.

use super::*;

fn filled(retention: Retention) -> Log {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, Options { retention, ..small() }).unwrap();
    for _ in 0..200 {
        append(&mut log, 500).unwrap();
    }
    log
}

fn records(max: u64) -> Retention {
    Retention { records_max: Some(max), ..Retention::default() }
}

#[test]
fn nothing_goes_without_a_bound() {
    let mut log = filled(Retention::default());
    assert_eq!(log.retain(u64::MAX).unwrap(), Retained::default());
}

#[test]
fn whole_segments_go_when_there_are_too_many_records() {
    let mut log = filled(records(50));
    let retained = log.retain(0).unwrap();
    let kept = log.next_position() - retained.first;
    assert!((50..80).contains(&kept), "{kept}");
    assert_eq!(retained.records, retained.first);
    assert_eq!(retained.bytes, retained.segments * LOG_SEGMENT_BYTES_MIN);
    assert!(
        matches!(log.read(0), Err(ReadError::Retired { asked: 0, first }) if first == retained.first)
    );
    assert_eq!(read_all(&log, retained.first).0.len() as u64, kept);
    assert_eq!(log.retain(0).unwrap().segments, 0);
}

#[test]
fn whole_segments_go_when_there_are_too_many_bytes() {
    let bytes_max = Some(3 * LOG_SEGMENT_BYTES_MIN);
    let mut log = filled(Retention { bytes_max, ..Retention::default() });
    log.retain(0).unwrap();
    assert_eq!(log.shared.segments().len(), 3);
}

#[test]
fn old_records_go_and_a_silent_queue_is_emptied() {
    let mut log = filled(Retention { age_max_ns: Some(1_000), ..Retention::default() });
    // Record p was accepted at 1,000 + p.
    let retained = log.retain(2_100).unwrap();
    assert!((60..=100).contains(&retained.first), "{}", retained.first);
    let retained = log.retain(10_000).unwrap();
    assert_eq!((retained.first, log.shared.segments().len()), (200, 1));
    assert_eq!(append(&mut log, 1).unwrap(), 200);
}

#[test]
fn a_consumer_keeps_what_it_needs_unless_the_policy_is_deaf() {
    let mut log = filled(records(10));
    assert_eq!(log.hold("slow", 30), Ok(30));
    assert_eq!(log.hold("fast", 199), Ok(199));
    let retained = log.retain(0).unwrap();
    assert!(retained.is_held && retained.first <= 30);
    assert_eq!(read_all(&log, 30).0.len(), 170);
    assert_eq!(log.hold("slow", 150), Ok(150));
    assert!(log.retain(0).unwrap().first > 30);
    assert!(log.release("slow") && !log.release("slow"));
    assert!(log.retain(0).unwrap().first > 150);

    let mut log = filled(Retention { is_deaf_to_consumers: true, ..records(10) });
    log.hold("slow", 30).unwrap();
    assert!(log.retain(0).unwrap().first > 150);
    // What was retired is not promised, and what is not there yet neither.
    assert_eq!(log.hold("slow", 30), Ok(log.first_position()));
    assert_eq!(log.hold("slow", 1_000), Ok(200));
}

#[test]
fn the_number_of_consumers_is_bounded() {
    let mut log = filled(Retention::default());
    for number in 0..crate::limits::LOG_CONSUMERS_MAX {
        log.hold(&number.to_string(), 0).unwrap();
    }
    assert_eq!(log.hold("one more", 0), Err(HoldError::Full));
    assert_eq!(log.hold("7", 9), Ok(9));
}

#[test]
fn a_reader_in_a_retired_segment_finishes_it_and_is_then_told() {
    let mut log = filled(records(10));
    let mut reader = log.read(0).unwrap();
    let first = log.retain(0).unwrap().first;
    let mut seen = 0;
    let error = loop {
        match reader.read(1_000) {
            Ok(batch) => seen += batch.entries().count(),
            Err(error) => break error,
        }
    };
    assert!(seen > 0);
    assert!(matches!(error, ReadError::Retired { asked, first: given }
        if asked == seen as u64 && given == first));
    assert_eq!(reader.position(), seen as u64);
}

#[test]
fn a_surplus_is_out_of_the_log_at_once_and_off_the_disk_when_it_was_removed() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    for _ in 0..200 {
        append(&mut log, 500).unwrap();
    }
    let files = || {
        use crate::exchange::log::storage::Storage;
        disk.list().unwrap().len()
    };
    let before = files();
    assert!(log.take_surplus(0, 0).is_empty());
    let surplus = log.take_surplus(0, 100);
    let retained = surplus.retained();
    assert!(retained.first > 50 && retained.first <= 100 && retained.records == retained.first);
    assert_eq!((log.first_position(), files()), (retained.first, before));
    assert_eq!(surplus.remove().unwrap(), retained);
    assert_eq!(files(), before - retained.segments as usize);
    // Everything, and what comes has the next position.
    log.take_surplus(0, u64::MAX).remove().unwrap();
    assert_eq!((log.first_position(), files()), (200, 1));
    assert_eq!(append(&mut log, 1).unwrap(), 200);
}

#[test]
fn whoever_must_not_wait_for_the_disk_can_ask() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    let bytes = payload(0, 500);
    while !log.would_wait(&record(log.next_position(), &bytes)) {
        append(&mut log, 500).unwrap();
    }
    assert_eq!(log.size().0, crate::limits::LOG_SEGMENTS_UNSYNCED_MAX);
    assert!(log.is_disk_behind() && log.synced_position() == 0);
    // Who appends nevertheless waits.
    append(&mut log, 500).unwrap();
    assert!(log.synced_position() > 0 && !log.is_disk_behind());
}
