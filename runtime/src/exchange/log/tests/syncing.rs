//! The committing thread and what it promises.

use super::*;
use crate::exchange::log::simulated::Faults;

fn check_commits(mechanism: Mechanism) {
    let home = tempfile::tempdir().unwrap();
    let committer = Committer::start(mechanism).unwrap();
    assert!(committer.mechanism().contains("fdatasync"));
    let paths = [home.path().join("a"), home.path().join("b")];
    let mut logs =
        paths.each_ref().map(|path| Log::open(path, "jobs", small(), &committer, 1).unwrap().0);
    for round in 0..20 {
        let tickets: Vec<_> = logs
            .iter_mut()
            .flat_map(|log| {
                let last = (0..10).map(|_| append(log, 700).unwrap()).last().unwrap();
                [log.request_sync(last).unwrap(), log.request_sync(last - 3).unwrap()]
            })
            .collect();
        for ticket in tickets {
            assert!(ticket.wait().unwrap() >= round * 10 + 7);
        }
        assert!(logs.iter().all(|log| log.synced_position() == (round + 1) * 10));
    }
    let position = logs[0].next_position();
    let refused = logs[0].request_sync(position).unwrap_err();
    assert_eq!(refused, SyncError::Ahead { asked: position, next: position });
    // What is synced needs no thread.
    logs[0].committer = Committer::absent();
    assert_eq!(logs[0].request_sync(3).unwrap().wait(), Ok(position));
}

#[test]
fn a_group_is_synced_by_the_best_mechanism() {
    check_commits(Mechanism::Best);
}

#[test]
fn a_group_is_synced_by_a_ring() {
    check_commits(Mechanism::Ring);
}

#[test]
fn who_polls_is_told_when_a_group_is_over() {
    let (told, notices) = std::sync::mpsc::channel();
    let notice = move || {
        let _ = told.send(());
    };
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    log.committer = Committer::start_with(Mechanism::Best, notice).unwrap();
    append(&mut log, 10).unwrap();
    let mut ticket = log.request_sync(0).unwrap();
    notices.recv().unwrap();
    assert_eq!(ticket.try_done(), Some(Ok(1)));
    assert_eq!(log.request_sync(0).unwrap().try_done(), Some(Ok(1)));
}

#[test]
fn a_group_is_synced_without_a_ring() {
    check_commits(Mechanism::Plain);
}

#[test]
fn after_a_failed_sync_nothing_is_promised_until_the_log_is_opened_again() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    log.committer = Committer::start(Mechanism::Best).unwrap();
    append(&mut log, 10).unwrap();
    assert_eq!(log.request_sync(0).unwrap().wait(), Ok(1));
    append(&mut log, 10).unwrap();
    disk.fail(Faults { syncs_fail: true, ..Faults::default() });
    assert_eq!(log.request_sync(1).unwrap().wait(), Err(SyncError::Failed { code: 5 }));
    disk.fail(Faults::default());
    // The kernel would say yes now, and the record would still not be on the disk.
    assert_eq!(log.request_sync(1).unwrap_err(), SyncError::Broken);
    assert!(log.is_broken());
    assert_eq!(log.synced_position(), 1);
    assert_eq!(append(&mut log, 10).unwrap(), 2);
    drop(log);
    let (log, recovered) = open_on(&disk, small()).unwrap();
    assert_eq!((recovered.mark, log.synced_position(), log.is_broken()), (1, 3, false));
    drop(log);
    disk.lose_power();
    let (log, _) = open_on(&disk, small()).unwrap();
    assert_eq!(read_all(&log, 0).0.len(), 3);
}

#[test]
fn a_log_that_cannot_be_synced_cannot_be_opened() {
    let disk = Disk::new(1);
    disk.fail(Faults { syncs_fail: true, ..Faults::default() });
    assert!(matches!(open_on(&disk, small()), Err(OpenError::System(_))));
}

#[test]
fn a_thread_that_is_gone_is_told_apart() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    append(&mut log, 10).unwrap();
    assert_eq!(log.request_sync(0).unwrap_err(), SyncError::Stopped);
}

#[test]
fn a_writer_that_outruns_the_disk_syncs_itself() {
    let disk = Disk::new(1);
    let (mut log, _) = open_on(&disk, small()).unwrap();
    for _ in 0..LOG_SEGMENTS_UNSYNCED_MAX * 40 {
        append(&mut log, 700).unwrap();
    }
    assert!(log.synced_position() > 0);
    let synced = log.synced_position();
    let unsynced = log.shared.segments().iter().filter(|part| part.end() > synced).count();
    assert!(unsynced <= LOG_SEGMENTS_UNSYNCED_MAX);
}
