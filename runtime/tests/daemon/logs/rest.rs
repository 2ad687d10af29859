//! The exchange rests while it has nothing to do, whatever waits in it, and goes on when somebody reads.

use std::time::Duration;

use ipc::class::{Class, ClassSet};
use ipc::exchange::log::{Durability, Follower, Start};
use ipc::link::Answer;

use super::shares::append;
use super::{
    Daemon, EXCHANGE, Logs, Options, eventually, fill, logs, number, patience, small, take_number,
};

/// For so long it is looked at.
const WINDOW: Duration = Duration::from_millis(200);
/// And has used no more than this in it. Who looks each millisecond uses ten times as much, who turns all of it.
const REST_NS: u64 = 1_000_000;

/// What all threads of a process have run so far, in nanoseconds.
fn run_time_ns(pid: u32) -> u64 {
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.filter_map(of_thread).sum()
}

/// Returns when the exchange has used nearly nothing for a while.
#[track_caller]
pub(super) fn rests(daemon: &Daemon) {
    let exchange = daemon.agent_pid("exchange");
    assert!(run_time_ns(exchange) > 0, "the kernel counts");
    eventually("the exchange rests", || {
        let before = run_time_ns(exchange);
        std::thread::sleep(WINDOW);
        run_time_ns(exchange).saturating_sub(before) < REST_NS
    });
}

/// Many records at once.
fn fill_quickly(logs: &mut Logs, log: &str, count: u64) {
    let payloads: Vec<Vec<u8>> = (0..count).map(number).collect();
    for some in payloads.chunks(1_000) {
        let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
        let appended = logs.append_all(log, &some, Durability::Stored, patience()).unwrap();
        assert_eq!((appended.count as usize, appended.short), (some.len(), None));
    }
}

#[test]
fn a_follower_that_never_reads_costs_nothing_while_nothing_comes() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", Options { ahead_max: 5_000, ..small(0) }, patience()).unwrap();
    let mut follower =
        Follower::open(&mut client, "events", Start::First, true, patience()).unwrap();
    // More than its lane takes, until it holds the writer up.
    fill(&mut writer, "events", 0..5_000);
    let waiting = append(&mut writer, u64::MAX, &number(5_000));
    rests(&daemon);
    // And it hears of the reader all the same.
    (0..5_001).for_each(|expected| take_number(&mut follower, expected));
    let answer = writer.link().answer(waiting, patience()).unwrap();
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
}

#[test]
fn a_socket_that_has_everything_costs_nothing_while_another_follower_holds_an_append_up() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", Options { ahead_max: 100, ..small(0) }, patience()).unwrap();
    let mut slow = Follower::open(&mut client, "events", Start::First, true, patience()).unwrap();
    let mut reader = daemon.client("test.reader");
    reader.set_classes(ClassSet::NONE.with(Class::Normal));
    let mut quick = Follower::open(&mut reader, "events", Start::First, true, patience()).unwrap();
    assert_eq!(quick.link().class(), Class::Normal);
    fill(&mut writer, "events", 0..100);
    (0..100).for_each(|expected| take_number(&mut quick, expected));
    let waiting = append(&mut writer, u64::MAX, &number(100));
    rests(&daemon);
    (0..100).for_each(|expected| take_number(&mut slow, expected));
    let answer = writer.link().answer(waiting, patience()).unwrap();
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    [slow, quick].iter_mut().for_each(|follower| take_number(follower, 100));
}

#[test]
fn a_replay_whose_reader_pauses_costs_nothing_and_goes_on_when_it_reads_again() {
    const COUNT: u64 = 20_000;
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    writer.make("events", Options::default(), patience()).unwrap();
    // Many times what any lane holds.
    fill_quickly(&mut writer, "events", COUNT);
    for class in [Class::Critical, Class::High, Class::Normal] {
        let mut client = daemon.client(&format!("test.{class}"));
        // Where the kernel has no HIGH it is the next one down.
        client.set_classes(ClassSet::NONE.with(class).with(Class::Normal));
        for holds_back in [false, true] {
            let mut follower =
                Follower::open(&mut client, "events", Start::First, holds_back, patience())
                    .unwrap();
            take_number(&mut follower, 0);
            rests(&daemon);
            (1..COUNT).for_each(|expected| take_number(&mut follower, expected));
            follower.cancel(&mut client).unwrap();
        }
    }
}
