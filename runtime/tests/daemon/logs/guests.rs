//! Followers that are processes, stopped and killed while much is appended, and many agents that come and go.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use ipc::class::{Class, ClassSet};
use ipc::client::Client;
use ipc::exchange::log::{Appended, Entry, Follower, LogError, Logs, Options, Short, Start};
use ipc::exchange::queue::Queues;
use ipc::link::{Answer, RequestId};
use rustix::process::Signal;

use super::super::world::{VICTIM, client_manifest};
use super::rest::rests;
use super::shares::append;
use super::{
    Daemon, EXCHANGE, eventually, fill, logs, number, number_of, patience, signal, take_number,
};

/// How far ahead of a follower that holds back writers may be.
const AHEAD_MAX: u64 = 3_000;
/// Agents that come and go, and how many at once.
const GUESTS: usize = 200;
const AT_ONCE: usize = 4;

/// A process that follows and holds back.
struct Guest {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Guest {
    fn start(daemon: &Daemon) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logs::guests::the_guest", "--nocapture"])
            .env(VICTIM, daemon.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut guest = Self { process, output };
        guest.says("follows");
        guest
    }

    fn says(&mut self, what: &str) {
        while !self.output.next().unwrap().unwrap().contains(what) {}
    }

    fn signal(&self, which: Signal) {
        signal(self.process.id(), which);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test of its own: what the others start.
#[test]
fn the_guest() {
    let Some(socket) = std::env::var_os(VICTIM) else { return };
    let mut client = Client::connect(socket.as_ref(), &client_manifest("test.guest"), &[]).unwrap();
    let mut follower = Follower::open(&mut client, "events", Start::End, true, patience()).unwrap();
    let mut output = std::io::stdout();
    let mut say = |text: &str| writeln!(output, "\n{text}").and_then(|()| output.flush());
    say("follows").unwrap();
    loop {
        let Ok(Entry::Record(record)) = follower.next(patience()) else { return };
        if number_of(record.payload).is_multiple_of(100) {
            say(&format!("at {}.", record.position)).unwrap();
        }
    }
}

/// Appends until a follower is too far behind; the number that was not appended.
fn fill_until_held_up(writer: &mut Logs, mut next: u64) -> u64 {
    loop {
        match writer.append("events", &number(next), patience()) {
            Ok(position) => assert_eq!(position, next),
            Err(LogError::Short(Short::Behind)) => return next,
            Err(error) => panic!("{error}"),
        }
        next += 1;
    }
}

fn is_appended(writer: &mut Logs, request: RequestId, first: u64) {
    let Answer::Done(answer) = writer.link().answer(request, patience()).unwrap() else {
        panic!("refused")
    };
    assert_eq!(Appended::decode(&answer).unwrap(), Appended { first, count: 1, short: None });
}

#[test]
fn a_stopped_follower_holds_up_who_waits_for_it_and_a_killed_one_nobody() {
    let daemon = Daemon::start(&EXCHANGE);
    let (_client, mut writer) = logs(&daemon, "test.writer");
    let options = Options { ahead_max: AHEAD_MAX, ..Options::default() };
    writer.make("events", options, patience()).unwrap();
    let mut reader = daemon.client("test.reader");
    let mut other = Follower::open(&mut reader, "events", Start::First, false, patience()).unwrap();
    let mut guest = Guest::start(&daemon);
    fill(&mut writer, "events", 0..101);
    guest.says("at 100.");
    guest.signal(Signal::STOP);
    let held = fill_until_held_up(&mut writer, 101);
    assert!(held >= AHEAD_MAX, "{held}");
    let waiting = append(&mut writer, u64::MAX, &number(held));
    // Others read meanwhile, and nobody keeps looking.
    (0..held).for_each(|expected| take_number(&mut other, expected));
    rests(&daemon);
    guest.signal(Signal::CONT);
    is_appended(&mut writer, waiting, held);
    fill(&mut writer, "events", held + 1..held + 201);
    guest.signal(Signal::STOP);
    let again = fill_until_held_up(&mut writer, held + 201);
    let waiting = append(&mut writer, u64::MAX, &number(again));
    rests(&daemon);
    guest.signal(Signal::KILL);
    is_appended(&mut writer, waiting, again);
    fill(&mut writer, "events", again + 1..again + 2 * AHEAD_MAX);
    (held..again + 2 * AHEAD_MAX).for_each(|expected| take_number(&mut other, expected));
}

/// What one agent does before it leaves, most of it without a word.
fn visit(daemon: &Daemon, index: usize) {
    let mut client = daemon.client(&format!("test.guest-{index}"));
    let class = [Class::Critical, Class::High, Class::Normal][index % 3];
    client.set_classes(ClassSet::NONE.with(class).with(Class::Normal));
    match index % 5 {
        0 => drop(client.open("exchange").unwrap()),
        1 => {
            let mut follower =
                Follower::open(&mut client, "events", Start::First, true, patience()).unwrap();
            let entry = follower.next(patience()).unwrap();
            assert!(matches!(entry, Entry::Record(_)), "{entry:?}");
        }
        2 => {
            let mut queues = Queues::open(&mut client).unwrap();
            queues.take("work", 3, u64::MAX, patience()).unwrap();
        }
        3 => {
            let mut queues = Queues::open(&mut client).unwrap();
            queues.put("work", &index.to_le_bytes(), patience()).unwrap();
        }
        _ => {
            // A writer that waits, and a follower that it waits for.
            let mut follower =
                Follower::open(&mut client, "events", Start::End, true, patience()).unwrap();
            let mut logs = Logs::open(&mut client).unwrap();
            logs.info("events", patience()).unwrap();
            follower.try_next().unwrap();
        }
    }
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn a_follower_that_leaves_the_last_record_unread_is_not_behind() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    let options = Options { ahead_max: AHEAD_MAX, ..Options::default() };
    writer.make("events", options, patience()).unwrap();
    let mut follower = Follower::open(&mut client, "events", Start::End, true, patience()).unwrap();
    fill(&mut writer, "events", 0..1);
    // One thread, so an append that waited for this follower would wait for itself.
    for next in 1..2 * AHEAD_MAX {
        fill(&mut writer, "events", next..next + 1);
        take_number(&mut follower, next - 1);
    }
    // One that takes nothing is.
    assert!(fill_until_held_up(&mut writer, 2 * AHEAD_MAX) <= 3 * AHEAD_MAX);
}

#[test]
fn two_hundred_agents_that_come_and_go_hold_up_nobody_and_leave_nothing() {
    let daemon = Daemon::start(&EXCHANGE);
    let (mut client, mut writer) = logs(&daemon, "test.writer");
    let options = Options { ahead_max: AHEAD_MAX, ..Options::default() };
    writer.make("events", options, patience()).unwrap();
    fill(&mut writer, "events", 0..1);
    let mut follower =
        Follower::open(&mut client, "events", Start::First, true, patience()).unwrap();
    let exchange = daemon.agent_pid("exchange");
    (0..5).for_each(|index| visit(&daemon, index));
    rests(&daemon);
    let before = descriptors(exchange);
    take_number(&mut follower, 0);
    let mut next = 1;
    std::thread::scope(|scope| {
        let daemon = &daemon;
        let guests: Vec<_> = (0..AT_ONCE)
            .map(|first| {
                let mine = (first..GUESTS).step_by(AT_ONCE);
                scope.spawn(move || mine.for_each(|index| visit(daemon, index)))
            })
            .collect();
        while guests.iter().any(|guest| !guest.is_finished()) {
            let appended = append(&mut writer, u64::MAX, &number(next));
            is_appended(&mut writer, appended, next);
            // All of it: who always leaves the last one unread counts as behind, and would wait for itself.
            take_number(&mut follower, next);
            next += 1;
        }
    });
    eventually("the exchange has closed what was theirs", || descriptors(exchange) <= before);
    eventually("nobody follows any more", || {
        writer.info("events", patience()).unwrap().followers == 1
    });
    fill(&mut writer, "events", next..next + 2);
    (next..next + 2).for_each(|expected| take_number(&mut follower, expected));
    rests(&daemon);
    assert_eq!(daemon.agent_pid("exchange"), exchange, "it has not died");
}
