//! Logs on a disk that is really full: a small file system in memory.

use ipc::exchange::log::{Follower, LogError, Short, Start};

use super::{
    Daemon, EXCHANGE, code, eventually, kill_exchange, logs, number, patience, read_all, reopen,
    same, small, take_number,
};

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let Some(daemon) = Daemon::start_on_small_disk(&EXCHANGE, "512k") else { return };
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", small(0), patience()).unwrap();
    let mut reader = daemon.client("test.reader");
    let mut follower =
        Follower::open(&mut reader, "events", Start::First, false, patience()).unwrap();
    let mut stored = 0;
    let why = loop {
        match writer.append("events", &number(stored), patience()) {
            Ok(position) => assert_eq!(position, stored),
            Err(error) => break error,
        }
        stored += 1;
    };
    assert!(matches!(why, LogError::Short(Short::DiskFull)), "{why:?}");
    assert!(why.to_string().contains("the disk is full"), "{why}");
    assert!(stored > 1_000, "{stored}");
    assert_eq!(code(writer.make("another", small(0), patience())), "disk-full");
    // What is there can be read and followed, and be made to survive.
    (0..stored).for_each(|expected| take_number(&mut follower, expected));
    assert_eq!(read_all(&mut writer, "events", Start::First), (same(0..stored), vec![]));
    assert_eq!(writer.sync("events", patience()).unwrap(), stored);
    // The next life of the exchange finds the disk full.
    kill_exchange(&daemon);
    let mut writer = reopen(&mut client);
    assert_eq!(read_all(&mut writer, "events", Start::First), (same(0..stored), vec![]));
    let refused = writer.append("events", &number(stored), patience());
    let first = match refused {
        Err(LogError::Short(Short::DiskFull)) => stored,
        // What was cut off behind the last record may have left room for some.
        Ok(position) => position + 1,
        other => panic!("{other:?}"),
    };
    let mut next = first;
    while let Ok(position) = writer.append("events", &number(next), patience()) {
        assert_eq!(position, next);
        next += 1;
    }
    // Room is made, and appends go on where they stopped.
    let trimmed = writer.trim("events", next / 2, patience()).unwrap();
    assert!(trimmed.bytes > 0 && trimmed.first <= next / 2, "{trimmed:?}");
    let more = next + 200;
    for expected in next..more {
        assert_eq!(writer.append("events", &number(expected), patience()).unwrap(), expected);
    }
    writer.make("another", small(0), patience()).unwrap();
    let kept = trimmed.first..more;
    assert_eq!(read_all(&mut writer, "events", Start::First), (same(kept.clone()), vec![]));
    kill_exchange(&daemon);
    let mut writer = reopen(&mut client);
    eventually("the log is served again", || writer.info("events", patience()).is_ok());
    assert_eq!(read_all(&mut writer, "events", Start::First), (same(kept), vec![]));
}
