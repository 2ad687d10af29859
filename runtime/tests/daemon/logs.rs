//! Logs through the exchange: what was acknowledged is there, in order, after everybody's death, and followers get all of it or
//! are told what they lost.

use std::sync::atomic::{AtomicBool, Ordering};

use ipc::client::Client;
use ipc::exchange::log::{
    Append, Durability, Entries, Entry, Follower, LogError, Logs, Operation, Options, Records,
    Short, Start,
};
use rustix::process::Signal;

use super::world::{self, Daemon, eventually, patience, signal};

#[path = "logs/full.rs"]
mod full;
#[path = "logs/guests.rs"]
mod guests;
#[path = "logs/rest.rs"]
mod rest;
#[path = "logs/segments.rs"]
mod segments;
#[path = "logs/shares.rs"]
mod shares;

pub(crate) const EXCHANGE: world::Options =
    world::Options { hosted: "exchange", dev: false, drain_seconds: 10, routed: "" };
/// Small enough that some hundred records are several of them.
const SEGMENT_BYTES: u64 = 16 * 1024;

/// An agent with a link to the exchange; tries again while that is started.
fn logs(daemon: &Daemon, name: &str) -> (Client, Logs) {
    let mut client = daemon.client(name);
    let logs = reopen(&mut client);
    (client, logs)
}

fn reopen(client: &mut Client) -> Logs {
    let mut logs = None;
    eventually("the exchange takes links", || {
        logs = Logs::open(client).ok();
        logs.is_some()
    });
    logs.unwrap()
}

/// Kills the exchange and returns when another one is there.
pub(crate) fn kill_exchange(daemon: &Daemon) {
    let pid = daemon.agent_pid("exchange");
    signal(pid, Signal::KILL);
    eventually("another exchange is there", || {
        daemon.agent("exchange").is_some_and(|agent| agent["pid"] != pid)
    });
}

fn small(bytes_max: u64) -> Options {
    Options { segment_bytes: SEGMENT_BYTES, bytes_max, ..Options::default() }
}

fn number(number: u64) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(100, number as u8);
    payload
}

fn number_of(payload: &[u8]) -> u64 {
    assert_eq!(payload.len(), 100);
    let number_of = u64::from_le_bytes(payload[..8].try_into().unwrap());
    assert_eq!(payload, number(number_of));
    number_of
}

fn fill(logs: &mut Logs, log: &str, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        assert_eq!(logs.append(log, &number(expected), patience()).unwrap(), expected);
    }
}

/// Positions with what belongs to each.
type Pairs = Vec<(u64, u64)>;

/// Everything from a position on: records by position and number, and what is missing.
fn read_all(logs: &mut Logs, log: &str, mut start: Start) -> (Pairs, Pairs) {
    let (mut records, mut missing) = (Vec::new(), Vec::new());
    loop {
        let entries: Entries = logs.read(log, start, 10_000, patience()).unwrap();
        let mut is_over = true;
        for entry in entries.iter() {
            is_over = false;
            match entry {
                Entry::Record(record) => records.push((record.position, number_of(record.payload))),
                Entry::Lost { first, next } | Entry::Damaged { first, next } => {
                    missing.push((first, next));
                }
                Entry::Begin { .. } => {}
            }
        }
        if is_over {
            return (records, missing);
        }
        start = Start::At(entries.next_position());
    }
}

fn same(numbers: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    numbers.map(|number| (number, number)).collect()
}

fn code<T: std::fmt::Debug>(result: Result<T, LogError>) -> String {
    let Err(LogError::Refused(error)) = result else { panic!("{result:?}") };
    let error: agents_contract::ToolError = ciborium::from_reader(error.as_slice()).unwrap();
    error.code
}

fn take_number(follower: &mut Follower, expected: u64) {
    let Entry::Record(record) = follower.next(patience()).unwrap() else { panic!("no record") };
    assert_eq!((record.position, number_of(record.payload)), (expected, expected));
}

#[test]
fn what_was_appended_is_read_from_anywhere_and_survives_the_daemon() {
    let mut daemon = Daemon::start(&EXCHANGE);
    let (client, mut writer) = logs(&daemon, "test.writer");
    let (made, info) = writer.make("events", small(0), patience()).unwrap();
    assert!(made);
    assert_eq!((info.first, info.next, info.options), (0, 0, small(0)));
    fill(&mut writer, "events", 0..500);
    assert_eq!(read_all(&mut writer, "events", Start::First), (same(0..500), vec![]));
    assert_eq!(read_all(&mut writer, "events", Start::At(321)), (same(321..500), vec![]));
    assert_eq!(read_all(&mut writer, "events", Start::End), (vec![], vec![]));
    assert_eq!(code(writer.read("events", Start::At(501), 1, patience())), "ahead");
    let entries = writer.read("events", Start::At(7), 0, patience()).unwrap();
    let Some(Entry::Record(record)) = entries.iter().next() else { panic!("{entries:?}") };
    assert_eq!((record.position, record.sender, record.priority), (7, "test.writer", 5));
    assert!(record.time_ns > 0);
    drop((writer, client));
    signal(daemon.pid(), Signal::KILL);
    daemon.wait();
    daemon.restart(&EXCHANGE);
    let (_client, mut reader) = logs(&daemon, "test.reader");
    assert_eq!(read_all(&mut reader, "events", Start::First), (same(0..500), vec![]));
    let (made, info) = reader.make("events", small(0), patience()).unwrap();
    assert!(!made && info.next == 500 && info.segments > 3);
}

#[test]
fn kill_nine_of_the_exchange_amid_appends_loses_nothing_that_was_acknowledged() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", small(0), patience()).unwrap();
    let mut acknowledged: Vec<(u64, u64)> = Vec::new();
    let mut next = 0;
    for _ in 0..4 {
        let (is_going, is_dead) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                eventually("appends go on", || is_going.load(Ordering::Acquire));
                kill_exchange(&daemon);
                is_dead.store(true, Ordering::Release);
            });
            let before = acknowledged.len();
            loop {
                // Many at once and one at a time.
                let payloads = [number(next), number(next + 1), number(next + 2)];
                let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
                let count = 1 + (next as usize % 3);
                let all = &payloads[..count];
                match writer.append_all("events", all, Durability::Stored, patience()) {
                    Ok(appended) => {
                        assert_eq!((appended.count as usize, appended.short), (count, None));
                        for offset in 0..count as u64 {
                            acknowledged.push((appended.first + offset, next + offset));
                        }
                    }
                    Err(LogError::Call(_)) => break,
                    Err(error) => panic!("{error}"),
                }
                next += count as u64;
                if acknowledged.len() > before + 200 {
                    is_going.store(true, Ordering::Release);
                }
            }
            // Of the one that was under way nobody knows; its numbers are not used again.
            next += 3;
        });
        assert!(is_dead.load(Ordering::Acquire));
        writer = reopen(&mut client);
        let (records, missing) = read_all(&mut writer, "events", Start::First);
        assert_eq!(missing, vec![]);
        let positions: Vec<u64> = records.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, (0..records.len() as u64).collect::<Vec<_>>(), "no gaps");
        assert!(records.is_sorted_by_key(|(_, number)| *number), "in order");
        for (position, number) in &acknowledged {
            assert_eq!(records[*position as usize].1, *number);
        }
        assert!(records.len() <= acknowledged.len() + 3 * 4, "and little more");
    }
}

#[test]
fn two_followers_get_everything_and_the_death_of_one_is_nothing_to_the_other() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", small(0), patience()).unwrap();
    fill(&mut writer, "events", 0..300);
    let (mut one, mut two) = (daemon.client("test.one"), daemon.client("test.two"));
    let follow = |client: &mut Client, start| {
        Follower::open(client, "events", start, false, patience()).unwrap()
    };
    let mut from_first = follow(&mut one, Start::First);
    let mut from_middle = follow(&mut two, Start::At(150));
    let mut from_end = follow(&mut two, Start::End);
    assert!(from_end.try_next().unwrap().is_none());
    (0..300).for_each(|expected| take_number(&mut from_first, expected));
    (150..200).for_each(|expected| take_number(&mut from_middle, expected));
    fill(&mut writer, "events", 300..400);
    assert_eq!(writer.info("events", patience()).unwrap().followers, 3);
    drop((from_first, one));
    eventually("it is forgotten", || writer.info("events", patience()).unwrap().followers == 2);
    (300..400).for_each(|expected| take_number(&mut from_end, expected));
    let position = from_middle.position();
    from_middle.cancel(&mut two).unwrap();
    let mut resumed = follow(&mut two, Start::At(position));
    (200..400).for_each(|expected| take_number(&mut resumed, expected));
    fill(&mut writer, "events", 400..2_000);
    (400..2_000).for_each(|expected| take_number(&mut resumed, expected));
}

#[test]
fn a_follower_goes_on_by_position_after_the_exchange_died() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", small(0), patience()).unwrap();
    fill(&mut writer, "events", 0..100);
    let mut reader = daemon.client("test.reader");
    let mut follower =
        Follower::open(&mut reader, "events", Start::First, false, patience()).unwrap();
    (0..60).for_each(|expected| take_number(&mut follower, expected));
    kill_exchange(&daemon);
    // What is in its lane may still come; then it hears of the end.
    while follower.next(patience()).is_ok() {}
    let position = follower.position();
    let mut writer_again = reopen(&mut client);
    fill(&mut writer_again, "events", 100..120);
    let mut follower =
        Follower::open(&mut reader, "events", Start::At(position), false, patience()).unwrap();
    (position..120).for_each(|expected| take_number(&mut follower, expected));
}

#[test]
fn a_follower_slower_than_retention_is_told_how_many_records_it_lost() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", small(4 * SEGMENT_BYTES), patience()).unwrap();
    let mut reader = daemon.client("test.reader");
    let mut follower =
        Follower::open(&mut reader, "events", Start::End, false, patience()).unwrap();
    // More than its lane has place for.
    fill(&mut writer, "events", 0..4_000);
    let (mut expected, mut lost) = (0, 0);
    while expected < 4_000 {
        match follower.next(patience()).unwrap() {
            Entry::Record(record) => {
                assert_eq!((record.position, number_of(record.payload)), (expected, expected));
                expected += 1;
            }
            Entry::Lost { first, next } => {
                assert_eq!(first, expected);
                assert!(next > first);
                lost += next - first;
                expected = next;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0 && lost < 4_000, "{lost}");
    let info = writer.info("events", patience()).unwrap();
    assert!(info.first > 0 && info.bytes <= 5 * SEGMENT_BYTES, "{info:?}");
}

#[test]
fn trimmed_positions_are_told_and_never_come_back() {
    let mut daemon = Daemon::start(&EXCHANGE);
    let (client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", small(0), patience()).unwrap();
    fill(&mut writer, "events", 0..500);
    let trimmed = writer.trim("events", 250, patience()).unwrap();
    assert!(trimmed.first > 0 && trimmed.first <= 250, "{trimmed:?}");
    assert_eq!(trimmed.records, trimmed.first);
    let first = trimmed.first;
    let read = read_all(&mut writer, "events", Start::At(10));
    assert_eq!(read, (same(first..500), vec![(10, first)]));
    assert_eq!(read_all(&mut writer, "events", Start::First), (same(first..500), vec![]));
    let again = writer.trim("events", 250, patience()).unwrap();
    assert_eq!((again.first, again.records), (first, 0));
    let mut reader = daemon.client("test.reader");
    let mut follower =
        Follower::open(&mut reader, "events", Start::At(0), false, patience()).unwrap();
    assert_eq!(follower.next(patience()).unwrap(), Entry::Lost { first: 0, next: first });
    take_number(&mut follower, first);
    // Everything, and what comes has the next position.
    assert_eq!(writer.trim("events", u64::MAX, patience()).unwrap().first, 500);
    drop((follower, reader, writer, client));
    signal(daemon.pid(), Signal::KILL);
    daemon.wait();
    daemon.restart(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    fill(&mut writer, "events", 500..510);
    assert_eq!(read_all(&mut writer, "events", Start::First), (same(500..510), vec![]));
}

#[test]
fn records_go_by_number_and_age() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    let few = Options { records_max: 100, ..small(0) };
    writer.make("few", few, patience()).unwrap();
    fill(&mut writer, "few", 0..1_000);
    eventually("old ones go", || writer.info("few", patience()).unwrap().first > 700);
    let young = Options { age_max_ns: 1_000_000, ..small(0) };
    writer.make("young", young, patience()).unwrap();
    fill(&mut writer, "young", 0..10);
    eventually("all go", || writer.info("young", patience()).unwrap().first == 10);
}

#[test]
fn synced_appends_are_synced_and_so_is_what_was_stored_before() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", small(0), patience()).unwrap();
    assert_eq!(writer.sync("events", patience()).unwrap(), 0);
    fill(&mut writer, "events", 0..10);
    assert_eq!(writer.append_synced("events", &number(10), patience()).unwrap(), 10);
    assert_eq!(writer.info("events", patience()).unwrap().synced, 11);
    fill(&mut writer, "events", 11..20);
    assert_eq!(writer.sync("events", patience()).unwrap(), 20);
    // Many that wait at once are answered in order, each one after its own record.
    let mut requests = Vec::new();
    for expected in 20..60 {
        let payload = number(expected);
        let payloads = [&payload[..]];
        let append = Operation::Append(Append {
            durability: Durability::Synced,
            priority: 1,
            takes_will_back: false,
            wait_ns: 0,
            records: Records::from_payloads(&payloads),
        });
        let arguments = append.encode("events").unwrap();
        let link = writer.link();
        requests.push(link.request(append.tool(), &arguments, &[], patience()).unwrap());
    }
    for (request, expected) in requests.into_iter().zip(20..) {
        let answer = writer.link().answer(request, patience()).unwrap();
        let ipc::link::Answer::Done(bytes) = answer else { panic!("{answer:?}") };
        let appended = ipc::exchange::log::Appended::decode(&bytes).unwrap();
        assert_eq!((appended.first, appended.count), (expected, 1));
    }
    assert_eq!(writer.info("events", patience()).unwrap().synced, 60);
}

#[test]
fn options_are_kept_and_replaced_only_when_asked() {
    let mut daemon = Daemon::start(&EXCHANGE);
    let (client, mut writer) = logs(&daemon, "test.writer");
    let found = Operation::Open { options: None, replaces: false };
    assert_eq!(code(writer.call("events", &found, patience())), "no-such-log");
    assert_eq!(code(writer.append("events", b"x", patience())), "no-such-log");
    writer.make("events", small(0), patience()).unwrap();
    assert_eq!(code(writer.make("events", small(1 << 20), patience())), "log-differs");
    let other = Operation::Open { options: Some(small(1 << 20)), replaces: true };
    writer.call("events", &other, patience()).unwrap();
    drop((writer, client));
    signal(daemon.pid(), Signal::KILL);
    daemon.wait();
    daemon.restart(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    assert_eq!(writer.info("events", patience()).unwrap().options, small(1 << 20));
    assert!(!writer.make("events", small(1 << 20), patience()).unwrap().0);
}

#[test]
fn hostile_names_and_requests_are_refused_or_kept_within() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    assert_eq!(code(writer.make("", small(0), patience())), "bad-request");
    assert_eq!(code(writer.make("a\nb", small(0), patience())), "bad-request");
    let long = "x".repeat(128);
    assert!(matches!(
        writer.make(&"x".repeat(129), small(0), patience()),
        Err(LogError::Encode(_))
    ));
    for name in ["..", "../../escaped", "/tmp/escaped", ".", "Ä b", "options", &long] {
        assert!(writer.make(name, small(0), patience()).unwrap().0, "{name}");
        assert_eq!(writer.append(name, &number(0), patience()).unwrap(), 0);
    }
    let entries = std::fs::read_dir(daemon.state_dir().join("logs")).unwrap();
    assert_eq!(entries.count(), 7);
    assert!(!daemon.state_dir().join("escaped").exists());
    let mut refused = |tool: &str, payload: &[u8]| {
        let answer = writer.link().call(tool, payload, &[], patience(), |_| {}).unwrap();
        let ipc::link::Outcome::Failed(error) = answer else { panic!("{answer:?}") };
        code::<()>(Err(LogError::Refused(error)))
    };
    assert_eq!(refused("log.append", b"\xff\xff"), "bad-request");
    assert_eq!(refused("log.fly", b"\x01\x00x"), "no-such-tool");
    let append = |priority| {
        let records = Records::from_payloads(&[b"x"]);
        let (durability, takes_will_back, wait_ns) = (Durability::Stored, false, 0);
        Operation::Append(Append { durability, priority, takes_will_back, wait_ns, records })
            .encode("..")
    };
    assert_eq!(refused("log.append", &append(0).unwrap()), "bad-request");
    assert_eq!(refused("log.append", &append(11).unwrap()), "bad-request");
    let will = Operation::Will { payload: &[0; 5_000] }.encode("..").unwrap();
    assert_eq!(refused("log.will", &will), "bad-request");
}

#[test]
fn the_largest_records_pass() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    writer.make("large", Options::default(), patience()).unwrap();
    let mut reader = daemon.client("test.reader");
    let mut follower =
        Follower::open(&mut reader, "large", Start::First, false, patience()).unwrap();
    let payload = vec![7; ipc::limits::LOG_RECORD_BYTES_MAX];
    for position in 0..3 {
        assert_eq!(writer.append("large", &payload, patience()).unwrap(), position);
    }
    for position in 0..3 {
        let entries = writer.read("large", Start::At(position), 1, patience()).unwrap();
        let Some(Entry::Record(record)) = entries.iter().next() else { panic!("no record") };
        assert!(record.position == position && record.payload == payload);
        let Entry::Record(record) = follower.next(patience()).unwrap() else { panic!("no record") };
        assert!(record.position == position && record.payload == payload);
    }
}

#[test]
fn writers_wait_for_followers_that_hold_them_back() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    let options = Options { ahead_max: 50, ..small(0) };
    writer.make("events", options, patience()).unwrap();
    fill(&mut writer, "events", 0..100);
    let mut reader = daemon.client("test.reader");
    let mut follower =
        Follower::open(&mut reader, "events", Start::At(90), true, patience()).unwrap();
    fill(&mut writer, "events", 100..140);
    let refused = writer.append("events", &number(140), patience());
    assert!(matches!(refused, Err(LogError::Short(Short::Behind))), "{refused:?}");
    let payload = number(140);
    let payloads = [&payload[..]];
    let append = |wait_ns| {
        let records = Records::from_payloads(&payloads);
        let (durability, priority, takes_will_back) = (Durability::Stored, 5, false);
        Operation::Append(Append { durability, priority, takes_will_back, wait_ns, records })
    };
    let in_vain = writer.call("events", &append(5_000_000), patience()).unwrap();
    let in_vain = ipc::exchange::log::Appended::decode(&in_vain).unwrap();
    assert_eq!((in_vain.count, in_vain.short), (0, Some(Short::Behind)));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let appended = writer.call("events", &append(u64::MAX), patience()).unwrap();
            ipc::exchange::log::Appended::decode(&appended).unwrap()
        });
        (90..141).for_each(|expected| take_number(&mut follower, expected));
        assert_eq!(waiting.join().unwrap().first, 140);
    });
    // Nobody is held back by one that has gone.
    follower.cancel(&mut reader).unwrap();
    eventually("it is forgotten", || writer.info("events", patience()).unwrap().followers == 0);
    fill(&mut writer, "events", 141..300);
}

/// The segment files of a log, in order.
#[test]
fn a_follower_that_is_dropped_holds_nobody_back() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_writer, mut writer) = logs(&daemon, "test.writer");
    let options = Options { ahead_max: 4, ..small(0) };
    writer.make("events", options, patience()).unwrap();
    let mut client = daemon.client("test.reader");
    drop(Follower::open(&mut client, "events", Start::End, true, patience()).unwrap());
    let payload = number(0);
    let payloads = [&payload[..]];
    for _ in 0..10 {
        let append = Operation::Append(Append {
            durability: Durability::Stored,
            priority: 5,
            takes_will_back: false,
            wait_ns: u64::MAX,
            records: Records::from_payloads(&payloads),
        });
        writer.call("events", &append, patience()).unwrap();
    }
}

#[test]
fn a_live_follower_gets_an_append_that_is_longer_as_entries_than_a_message() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", Options::default(), patience()).unwrap();
    let start = Start::End;
    let mut follower = Follower::open(&mut client, "events", start, false, patience()).unwrap();
    let payload =
        vec![7; ipc::limits::MESSAGE_BYTES_MAX / ipc::limits::LOG_RECORDS_PER_APPEND_MAX - 14];
    let payloads = vec![&payload[..]; ipc::limits::LOG_RECORDS_PER_APPEND_MAX];
    let appended = writer.append_all("events", &payloads, Durability::Stored, patience()).unwrap();
    assert_eq!(appended.count as usize, payloads.len());
    for expected in 0..payloads.len() as u64 {
        let Entry::Record(record) = follower.next(patience()).unwrap() else { panic!("no record") };
        assert_eq!((record.position, record.payload.len()), (expected, payload.len()));
    }
}

#[test]
fn records_of_one_append_stand_together_though_the_disk_is_slower_than_their_writer() {
    const TOGETHER: u64 = 100;
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    let (_other_client, mut other) = logs(&daemon, "test.other");
    writer.make("events", small(0), patience()).unwrap();
    let mut reader = daemon.client("test.reader");
    let mut follower =
        Follower::open(&mut reader, "events", Start::First, false, patience()).unwrap();
    // One to a segment, so most of them wait until others are synced.
    let large = |number: u64| {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(10_000, 1);
        payload
    };
    let payloads: Vec<Vec<u8>> = (0..TOGETHER).map(large).collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let (appended, between) = std::thread::scope(|scope| {
        let between = scope.spawn(|| {
            let append = |_| other.append("events", b"between", patience()).unwrap();
            (0..50).map(append).collect::<Vec<u64>>()
        });
        let stored = Durability::Stored;
        let appended = writer.append_all("events", &payloads, stored, patience()).unwrap();
        (appended, between.join().unwrap())
    });
    assert_eq!((u64::from(appended.count), appended.short), (TOGETHER, None));
    let together = appended.first..appended.first + TOGETHER;
    assert!(between.iter().all(|position| !together.contains(position)));
    for expected in 0..TOGETHER + 50 {
        let Entry::Record(record) = follower.next(patience()).unwrap() else { panic!("no record") };
        assert_eq!(record.position, expected);
        if together.contains(&expected) {
            assert!(record.payload == payloads[(expected - appended.first) as usize]);
        } else {
            assert_eq!(record.payload, b"between");
        }
    }
}
