//! The files of logs: damaged, torn, and more of them than are open.

use std::path::PathBuf;

use ipc::exchange::log::Start;
use rustix::process::Signal;

use super::{
    Daemon, EXCHANGE, code, fill, kill_exchange, logs, number, patience, read_all, same, signal,
    small,
};

fn segments(daemon: &Daemon, log: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(daemon.state_dir().join("logs").join(log)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    paths.sort();
    paths
}

#[test]
fn a_damaged_segment_is_a_gap_that_is_told_and_a_torn_record_is_cut_off() {
    let mut daemon = Daemon::start(&EXCHANGE);
    let (client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", small(0), patience()).unwrap();
    fill(&mut writer, "events", 0..500);
    writer.sync("events", patience()).unwrap();
    drop((writer, client));
    signal(daemon.pid(), Signal::KILL);
    daemon.wait();
    let files = segments(&daemon, "events");
    assert!(files.len() > 3);
    let scribble = |path: &PathBuf, at: usize, bytes: &[u8]| {
        let mut content = std::fs::read(path).unwrap();
        content[at..at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(path, content).unwrap();
    };
    // A record in the middle of the second segment, and half a record behind the last one.
    scribble(&files[1], 8_200, &[0xff; 64]);
    let last = files.last().unwrap();
    let content = std::fs::read(last).unwrap();
    let end = content.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(8);
    scribble(last, end, &number(9)[..40]);
    daemon.restart(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    fill(&mut writer, "events", 500..510);
    let (records, missing) = read_all(&mut writer, "events", Start::First);
    assert_eq!(missing.len(), 1);
    let lost = missing[0].1 - missing[0].0;
    assert!((1..=2).contains(&lost), "{missing:?}");
    assert_eq!(records.len() as u64, 510 - lost);
    assert!(records.iter().all(|(position, number)| position == number));
    let other = daemon.state_dir().join("logs/events");
    std::fs::write(other.join("options"), b"garbage").unwrap();
    kill_exchange(&daemon);
    let (_other, mut again) = logs(&daemon, "test.again");
    assert_eq!(code(again.info("events", patience())), "log-damaged");
    assert!(again.make("events", small(0), patience()).unwrap().0, "options replace garbage");
    assert_eq!(again.info("events", patience()).unwrap().next, 510);
}

#[test]
fn many_logs_are_served_by_opening_those_that_are_used() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    let name = |index: u64| format!("log.{index}");
    for index in 0..80 {
        writer.make(&name(index), small(0), patience()).unwrap();
        writer.append(&name(index), &number(0), patience()).unwrap();
    }
    for index in 0..80 {
        assert_eq!(writer.append(&name(index), &number(1), patience()).unwrap(), 1);
        assert_eq!(read_all(&mut writer, &name(index), Start::First).0, same(0..2));
    }
}
