//! Processes that die in the middle of any call, and power that goes.

use std::collections::BTreeMap;

use super::*;
use crate::exchange::log::simulated::{Chance, Faults};

/// What must, may and must not be in the log.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Stored records that the log has not lost since.
    stored: BTreeMap<u64, Vec<u8>>,
    /// The one whose append failed; it may be there.
    attempted: Option<(u64, Vec<u8>)>,
    next: u64,
    synced: u64,
    /// What retention has left.
    first: u64,
}

impl Model {
    /// Some work until the process dies or the work is done.
    fn work(&mut self, log: &mut Log, disk: &Disk, chance: &mut Chance) {
        for _ in 0..60 {
            if disk.is_dead() {
                return;
            }
            match chance.below(10) {
                0 | 1 => {
                    if let Ok(synced) = log.shared.commit() {
                        self.synced = synced;
                    }
                }
                2 if chance.below(4) == 0 => {
                    let _ = log.retain(0);
                    self.first = log.first_position();
                }
                choice => {
                    let length = if choice == 3 && chance.below(5) == 0 {
                        70_000
                    } else {
                        chance.below(3_000)
                    };
                    self.append(log, length as usize);
                }
            }
        }
    }

    fn append(&mut self, log: &mut Log, length: usize) {
        let position = log.next_position();
        assert_eq!(position, self.next);
        match append(log, length) {
            Ok(given) => {
                assert_eq!(given, position);
                self.stored.insert(position, payload(position, length));
                self.next += 1;
            }
            Err(_) => self.attempted = Some((position, payload(position, length))),
        }
    }

    /// Compares with what is there, then takes that over.
    fn compare(&mut self, log: &Log, lost_power: bool) {
        let first = log.first_position();
        assert!(first >= self.first || lost_power, "retired records came back");
        let (records, gaps) = read_all(log, first);
        let attempted = self.attempted.take();
        for (position, payload) in &records {
            let is_stored = self.stored.get(position) == Some(payload);
            let is_attempted = attempted.as_ref() == Some(&(*position, payload.clone()));
            assert!(is_stored || is_attempted, "record {position} was invented");
        }
        let there: BTreeMap<_, _> = records.into_iter().collect();
        let promised = if lost_power { self.synced } else { self.next };
        for position in self.stored.range(first.max(self.first)..promised).map(|entry| entry.0) {
            assert!(there.contains_key(position), "record {position} of {promised} was lost");
        }
        let mut covered: Vec<_> = there.keys().map(|position| (*position, position + 1)).collect();
        covered.extend(gaps.iter().map(|gap| (gap.first, gap.next)));
        covered.sort_unstable();
        let end = covered.iter().fold(first, |expected, (from, to)| {
            assert_eq!(*from, expected, "something was skipped in silence");
            *to
        });
        assert_eq!(end, log.next_position());
        assert!(end >= promised);
        self.stored = there;
        self.next = end;
        self.synced = end;
        self.first = first;
    }
}

fn options() -> Options {
    let retention = Retention { records_max: Some(40), ..Retention::default() };
    Options { retention, ..small() }
}

/// Some lives of one log, each ended at a given call or, later, at a random one.
fn live(seed: u64, first_death: u64, power: bool) -> bool {
    let (disk, mut chance) = (Disk::new(seed), Chance(seed));
    let mut model = Model::default();
    let (mut deaths, mut reached) = (first_death, false);
    for _ in 0..4 {
        disk.fail(Faults { calls_until_death: Some(deaths), ..Faults::default() });
        // Opening is part of the life: a crash during recovery is a crash as well.
        if let Ok((mut log, _)) = open_on(&disk, options()) {
            model.compare(&log, false);
            model.work(&mut log, &disk, &mut chance);
        }
        reached |= disk.is_dead();
        let lost_power = power && chance.below(2) == 0;
        if lost_power {
            disk.lose_power()
        } else {
            disk.start_process()
        }
        let (log, _) = open_on(&disk, options()).unwrap();
        model.compare(&log, lost_power);
        deaths = chance.below(80);
    }
    reached
}

/// Every call of the first life of one seed, some of many others.
fn die_everywhere(power: bool) {
    for seed in 0..40 {
        let (mut death, stride) = if seed == 0 { (0, 1) } else { (seed % 7, 29) };
        while live(seed, death, power) && death < 150 {
            death += stride;
        }
    }
}

#[test]
fn a_process_may_die_at_every_call() {
    die_everywhere(false);
}

#[test]
fn power_may_go_at_every_call() {
    die_everywhere(true);
}

#[test]
fn a_full_disk_refuses_a_record_and_shows_nothing_of_it() {
    for seed in 0..50 {
        let disk = Disk::new(seed);
        let (mut log, _) = open_on(&disk, small()).unwrap();
        append(&mut log, 100).unwrap();
        disk.fail(Faults { writes_until_full: Some(0), ..Faults::default() });
        assert!(matches!(append(&mut log, 3_000), Err(AppendError::NoSpace)));
        assert_eq!(log.next_position(), 1);
        // No room for a new segment either; what fits in this one still goes.
        disk.fail(Faults { is_full: true, ..Faults::default() });
        assert!(matches!(append(&mut log, 30_000), Err(AppendError::NoSpace)));
        disk.fail(Faults::default());
        assert_eq!(append(&mut log, 50).unwrap(), 1);
        drop(log);
        let (log, recovered) = open_on(&disk, small()).unwrap();
        assert!(recovered.cut.is_none() && recovered.gap_count == 0);
        let (records, gaps) = read_all(&log, 0);
        assert_eq!(records, [(0, payload(0, 100)), (1, payload(1, 50))]);
        assert!(gaps.is_empty());
    }
}

#[test]
fn a_torn_last_record_is_cut_and_other_remains_are_kept_aside() {
    let disk = Disk::new(3);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    append(&mut log, 100).unwrap();
    let offset = log.offset;
    append(&mut log, 500).unwrap();
    drop(log);
    let name = name::segment_name(0);
    let whole = disk.bytes(&name);
    let mut torn = whole.clone();
    torn[offset as usize + 300..].fill(0);
    disk.put(&name, &torn);
    let (log, recovered) = open_on(&disk, small()).unwrap();
    let cut = recovered.cut.unwrap();
    assert_eq!((cut.segment, cut.offset, cut.aside), (0, offset, None));
    assert_eq!(log.next_position(), 1);
    drop(log);
    let mut foreign = whole;
    foreign[offset as usize..offset as usize + 4].fill(0);
    disk.put(&name, &foreign);
    let (log, recovered) = open_on(&disk, small()).unwrap();
    let aside = recovered.cut.unwrap().aside.unwrap();
    assert_eq!(disk.bytes(&aside)[8..500], foreign[offset as usize + 8..offset as usize + 500]);
    assert_eq!(log.next_position(), 1);
}
