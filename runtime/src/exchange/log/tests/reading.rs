//! Replay, following, and readers beside a writer.

use super::*;

#[test]
fn a_reader_starts_at_any_position() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    for position in 0..1_500 {
        append(&mut log, (position * 7 % 120) as usize).unwrap();
    }
    for from in (0..=1_500).step_by(37) {
        let (records, gaps) = read_all(&log, from);
        assert!(gaps.is_empty());
        assert!(records.iter().map(|record| record.0).eq(from..1_500));
    }
    // The same without what was remembered while it was written.
    drop(log);
    let (log, _) = open_on(&disk, small()).unwrap();
    for from in [0, 1, 255, 256, 257, 700, 1_499, 1_500] {
        let (records, _) = read_all(&log, from);
        assert!(records.iter().map(|record| record.0).eq(from..1_500));
    }
}

#[test]
fn a_position_that_does_not_exist_yet_is_refused_and_the_next_one_followed() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    append(&mut log, 10).unwrap();
    assert!(matches!(log.read(2), Err(ReadError::Ahead { asked: 2, next: 1 })));
    let mut reader = log.read(1).unwrap();
    for position in 1..500 {
        assert!(!reader.has_more() && reader.read(1_000).unwrap().is_empty());
        append(&mut log, 100).unwrap();
        assert!(reader.has_more());
        let batch = reader.read(1_000).unwrap();
        let positions: Vec<_> = batch
            .entries()
            .map(|entry| match entry {
                Entry::Record(stored) => stored.position,
                Entry::Gap(gap) => panic!("{gap:?}"),
            })
            .collect();
        assert_eq!(positions, [position]);
    }
}

#[test]
fn a_read_gives_about_as_much_as_was_asked_for_and_at_least_one_record() {
    let disk = Disk::new(1);
    let options = Options::default();
    let (mut log, _) = open_on(&disk, options).unwrap();
    append(&mut log, 300_000).unwrap();
    for _ in 0..100 {
        append(&mut log, 1_000).unwrap();
    }
    let mut reader = log.read(0).unwrap();
    assert_eq!(reader.read(1).unwrap().entries().count(), 1);
    assert_eq!(reader.read(1).unwrap().entries().count(), 1);
    assert_eq!(reader.read(5_000).unwrap().entries().count(), 5);
    assert_eq!(reader.read(usize::MAX).unwrap().entries().count(), 94);
    assert_eq!(reader.position(), 101);
}

#[test]
fn readers_on_other_threads_see_whole_records_in_order() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("jobs");
    let committer = Committer::start(Mechanism::Best).unwrap();
    let (mut log, _) = Log::open(&path, "jobs", small(), &committer, 1).unwrap();
    const RECORDS: u64 = 5_000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = log.read(0).unwrap();
            scope.spawn(move || {
                let mut expected = 0;
                while expected < RECORDS {
                    for entry in reader.read(20_000).unwrap().entries() {
                        let Entry::Record(stored) = entry else { panic!("{entry:?}") };
                        assert_eq!(stored.position, expected);
                        let length = (expected % 300) as usize;
                        assert_eq!(stored.record.payload, payload(expected, length));
                        expected += 1;
                    }
                }
            });
        }
        for position in 0..RECORDS {
            append(&mut log, (position % 300) as usize).unwrap();
        }
    });
}
