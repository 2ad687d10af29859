//! Topics between real processes: late readers, restarts on both sides, slow readers, groups.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ipc::class::ReceivingHalf;
use ipc::client::{Client, ClientError, Event, TopicOffer};
use ipc::control::TopicPolicy;
use ipc::lane::{Ended, LaneOptions, ReceiveError, WhenFull};
use ipc::topic::{Begin, Heard, Publisher, Subscriber, TopicOptions};
use ipc::wait::Spin;

use super::world::{self, Daemon, client_manifest, eventually, patience};

const BARE: world::Options =
    world::Options { hosted: "", dev: false, drain_seconds: 10, routed: "" };
/// Names the socket to a process of these tests.
const SOCKET: &str = "BOLIDE_TEST_TOPICS_SOCKET";
/// Says what that process does.
const ROLE: &str = "BOLIDE_TEST_TOPICS_ROLE";

fn found(client: &mut Client) -> TopicOffer {
    loop {
        if let Some(Event::TopicFound(offer)) = client.next_event(patience()).unwrap() {
            return offer;
        }
    }
}

fn attached(client: &mut Client, publisher: &mut Publisher, readers: usize) {
    eventually("the readers are attached", || {
        client.update(publisher).unwrap();
        publisher.readers() == readers
    });
}

fn publish(publisher: &mut Publisher, numbers: std::ops::Range<u32>) {
    for number in numbers {
        publisher.publish(&number.to_le_bytes(), WhenFull::WaitUntil(patience())).unwrap();
    }
}

/// What is heard next: a number, a gap, or an epoch.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Number(u32),
    Lost(u64),
    Epoch(u32),
}

#[test]
fn where_memory_may_not_be_shared_topics_and_groups_are_refused_and_the_reason_says_what_to_use() {
    let forbidden = [("BOLIDE_BUS_CLASSES", "high,normal")];
    let daemon = Daemon::start_with(&world::Options { hosted: "echo", ..BARE }, &forbidden);
    let mut client = daemon.client("test.client");
    let written = client.publisher("news", TopicPolicy::Lossy).map(drop);
    let read = client.subscribe("news").map(drop);
    let joined = client.join_group("crew").map(drop);
    for refused in [written, read, joined] {
        let Err(ClientError::Refused { code, message }) = refused else { panic!("{refused:?}") };
        assert_eq!(code, "no-class");
        assert!(message.contains("`bus.classes`") && message.contains("use a log"), "{message}");
    }
    // What is not refused goes on.
    assert!(client.open("echo").is_ok());
}

fn heard(subscriber: &mut Subscriber) -> Word {
    match subscriber.next(Some(patience())).unwrap() {
        Heard::Message(message) => {
            Word::Number(u32::from_le_bytes(message.payload[..4].try_into().unwrap()))
        }
        Heard::Lost(lost) => Word::Lost(lost),
        Heard::Epoch(epoch) => Word::Epoch(epoch),
    }
}

#[track_caller]
fn hears(subscriber: &mut Subscriber, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(heard(subscriber), Word::Number(number));
    }
}

/// Another process: it is told what to do line by line, and answers line by line.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(daemon: &Daemon, role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "topics::process_of_these_tests", "--nocapture"])
            .env(SOCKET, daemon.socket())
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Tells it something and gives its answer.
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended");
            // The harness of tests talks too.
            if let Some((_, answer)) = line.split_once("ANSWER ") {
                return answer.trim().to_owned();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test by itself: the other process of the tests here.
#[test]
fn process_of_these_tests() {
    let (Some(socket), Ok(role)) = (std::env::var_os(SOCKET), std::env::var(ROLE)) else { return };
    match role.as_str() {
        "writer" => writing(socket.as_ref()),
        "reader" => reading(socket.as_ref(), "test.reader", Begin::Resume),
        other => reading(socket.as_ref(), other, Begin::History),
    }
}

fn say(answer: impl std::fmt::Display) {
    let mut output = std::io::stdout();
    writeln!(output, "ANSWER {answer}").unwrap();
    output.flush().unwrap();
}

fn lines() -> impl Iterator<Item = (String, u32)> {
    std::io::stdin().lines().map_while(Result::ok).filter_map(|line| {
        let (word, number) = line.split_once(' ')?;
        Some((word.to_owned(), number.parse().ok()?))
    })
}

/// Publishes as it is told: `publish UNTIL`, `readers COUNT`.
fn writing(socket: &Path) {
    let mut client = Client::connect(socket, &client_manifest("test.writer"), &[]).unwrap();
    let options = TopicOptions::from(TopicPolicy::Lossless).with_history(8);
    let mut publisher = client.publisher("test.numbers", options).unwrap();
    let mut next = 0;
    say(publisher.epoch());
    for (word, number) in lines() {
        match word.as_str() {
            "publish" => {
                publish(&mut publisher, next..number);
                next = number;
            }
            _ => attached(&mut client, &mut publisher, number as usize),
        }
        say(number);
    }
}

/// Reads as it is told: `read COUNT` gives the first and the last number and what was lost; `commit 0`.
fn reading(socket: &Path, name: &str, begin: Begin) {
    let mut client = Client::connect(socket, &client_manifest(name), &[]).unwrap();
    client.subscribe("test.numbers").unwrap();
    let offer = found(&mut client);
    let resumed = offer.lineage.resume.is_some();
    let mut subscriber = client.join_from(offer, begin, Spin::Adaptive).unwrap();
    say(resumed);
    for (word, count) in lines() {
        if word == "commit" {
            subscriber.commit();
            say("committed");
            continue;
        }
        let (mut lost, mut numbers) = (0, Vec::new());
        while numbers.len() < count as usize {
            match heard(&mut subscriber) {
                Word::Number(number) => {
                    assert!(numbers.last().is_none_or(|last| *last < number), "out of order");
                    numbers.push(number);
                }
                Word::Lost(count) => lost += count,
                Word::Epoch(epoch) => panic!("epoch {epoch}"),
            }
        }
        say(format!("{:?} {:?} {lost}", numbers.first(), numbers.last()));
    }
}

#[test]
fn a_process_that_joins_late_gets_the_last_messages() {
    let daemon = Daemon::start(&BARE);
    let mut writer = Process::start(&daemon, "writer");
    assert_eq!(writer.answer(), "1");
    writer.ask("publish 100");
    let mut late = Process::start(&daemon, "test.late");
    assert_eq!(late.answer(), "false");
    writer.ask("readers 1");
    writer.ask("publish 110");
    assert_eq!(late.ask("read 18"), "Some(92) Some(109) 0", "eight of before and ten of after");
}

#[test]
fn a_reader_that_was_killed_goes_on_where_it_was() {
    let daemon = Daemon::start(&BARE);
    let mut writer = Process::start(&daemon, "writer");
    writer.answer();
    let mut reader = Process::start(&daemon, "reader");
    assert_eq!(reader.answer(), "false", "nobody was there before");
    writer.ask("readers 1");
    writer.ask("publish 50");
    assert_eq!(reader.ask("read 50"), "Some(0) Some(49) 0");
    reader.ask("commit 0");
    reader.kill();
    writer.ask("readers 0");
    writer.ask("publish 300");
    let mut again = Process::start(&daemon, "reader");
    assert_eq!(again.answer(), "true");
    writer.ask("readers 1");
    assert_eq!(again.ask("read 250"), "Some(50) Some(299) 0", "nothing twice, nothing missing");
    again.ask("commit 0");
    again.kill();
    writer.ask("readers 0");
    // Twice as much as the ring holds.
    writer.ask("publish 2348");
    let mut third = Process::start(&daemon, "reader");
    assert_eq!(third.answer(), "true");
    writer.ask("readers 1");
    writer.ask("publish 2349");
    let report = third.ask("read 1");
    let words: Vec<&str> = report.split(' ').collect();
    let first: u64 = words[0]["Some(".len()..].trim_end_matches(')').parse().unwrap();
    assert_eq!(first, 300 + words[2].parse::<u64>().unwrap(), "what was missed is told: {report}");
    assert!(first > 2_348 - 1_024, "{report}");
}

#[test]
fn readers_finish_with_the_old_writer_and_go_on_with_the_new_one() {
    let daemon = Daemon::start(&BARE);
    let mut client = daemon.client("test.client");
    client.subscribe("test.numbers").unwrap();
    let mut writer = Process::start(&daemon, "writer");
    assert_eq!(writer.answer(), "1");
    let mut subscriber = {
        let offer = found(&mut client);
        client.join(offer, Spin::Adaptive).unwrap()
    };
    writer.ask("readers 1");
    writer.ask("publish 500");
    hears(&mut subscriber, 0..10);
    for epoch in 2..4 {
        writer.kill();
        writer = Process::start(&daemon, "writer");
        assert_eq!(writer.answer(), epoch.to_string());
        let offer = found(&mut client);
        assert_eq!(offer.lineage.epoch, epoch);
        client.follow(&mut subscriber, offer, Spin::Adaptive).unwrap();
        writer.ask("readers 1");
        writer.ask("publish 500");
    }
    hears(&mut subscriber, 10..500);
    for epoch in 2..4 {
        assert_eq!(heard(&mut subscriber), Word::Epoch(epoch));
        assert_eq!((subscriber.epoch(), subscriber.raw().epoch()), (epoch, epoch));
        hears(&mut subscriber, 0..500);
    }
    drop(writer);
    let end = subscriber.next(Some(patience())).unwrap_err();
    assert_eq!(end, ReceiveError::Ended(Ended::PeerGone));
    // What follows later is followed later.
    let mut writer = Process::start(&daemon, "writer");
    assert_eq!(writer.answer(), "4");
    let offer = found(&mut client);
    client.follow(&mut subscriber, offer, Spin::Adaptive).unwrap();
    writer.ask("publish 3");
    assert_eq!(heard(&mut subscriber), Word::Epoch(4));
    hears(&mut subscriber, 0..3);
}

#[test]
fn what_does_not_follow_is_not_followed() {
    let daemon = Daemon::start(&BARE);
    let mut client = daemon.client("test.client");
    client.subscribe("test.>").unwrap();
    let mut one = daemon.client("test.one");
    let mut two = daemon.client("test.two");
    let _first = one.publisher("test.a", TopicPolicy::Lossy).unwrap();
    let offer = found(&mut client);
    let mut subscriber = client.join(offer, Spin::Adaptive).unwrap();
    let _second = two.publisher("test.a", TopicPolicy::Lossy).unwrap();
    let offer = found(&mut client);
    let refused = client.follow(&mut subscriber, offer, Spin::Adaptive).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { .. }), "{refused}");
}

#[test]
fn a_reader_that_never_reads_is_let_go_of_and_hears_of_it() {
    let daemon = Daemon::start(&BARE);
    let mut writer = daemon.client("test.writer");
    writer.set_lane_options(LaneOptions { slots: 64, region_bytes: 4_096 });
    let options = TopicOptions::from(TopicPolicy::Lossless).letting_go_after(1_000);
    let mut publisher = writer.publisher("test.numbers", options).unwrap();
    let mut idle = daemon.client("test.idle");
    let mut honest = daemon.client("test.honest");
    let join = |client: &mut Client| {
        client.subscribe("test.numbers").unwrap();
        let offer = found(client);
        client.join(offer, Spin::Adaptive).unwrap()
    };
    let (mut kept, mut reads) = (join(&mut idle), join(&mut honest));
    attached(&mut writer, &mut publisher, 2);
    std::thread::scope(|scope| {
        scope.spawn(|| hears(&mut reads, 0..1_000));
        for number in 0..1_000u32 {
            writer.publish(&mut publisher, &number.to_le_bytes(), patience()).unwrap();
        }
    });
    attached(&mut writer, &mut publisher, 1);
    let Some(Event::LinkClosed { code, reason, .. }) = idle.next_event(patience()).unwrap() else {
        panic!("it was not told")
    };
    assert_eq!(code, "revoked");
    assert!(reason.contains("too slow"), "{reason}");
    let (mut lost, mut number) = (0, 0);
    while lost + number < 1_000 {
        match heard(&mut kept) {
            Word::Lost(count) => lost += count,
            Word::Number(_) => number += 1,
            Word::Epoch(_) => panic!("nobody started again"),
        }
    }
    assert_eq!(lost + number, 1_000, "and all of it is accounted for");
}

#[test]
fn without_patience_a_publisher_waits_until_its_own_deadline() {
    let daemon = Daemon::start(&BARE);
    let mut writer = daemon.client("test.writer");
    let mut publisher = writer.publisher("test.numbers", TopicPolicy::Lossless).unwrap();
    let mut idle = daemon.client("test.idle");
    idle.subscribe("test.numbers").unwrap();
    let offer = found(&mut idle);
    let _kept = idle.join(offer, Spin::Adaptive).unwrap();
    attached(&mut writer, &mut publisher, 1);
    while publisher.publish(b"x", WhenFull::Reject).is_ok() {}
    let soon = Instant::now() + Duration::from_millis(150);
    let full = writer.publish(&mut publisher, b"x", soon).unwrap_err();
    assert!(matches!(full, ClientError::Send(ipc::lane::SendError::Full)), "{full}");
    assert_eq!(publisher.readers(), 1);
}

/// A member in a thread: joins the senders it hears of and gives what it got, until it hears `end`.
fn member(mut client: Client) -> Vec<Vec<u8>> {
    let mut senders: Vec<Subscriber> = Vec::new();
    let mut got = Vec::new();
    loop {
        while let Some(event) = client.next_event(Instant::now()).unwrap() {
            if let Event::TopicFound(offer) = event {
                senders.push(client.join(offer, Spin::Adaptive).unwrap());
            }
        }
        for sender in &mut senders {
            while let Some(heard) = sender.try_next().unwrap() {
                let Heard::Message(message) = heard else { panic!("{heard:?}") };
                if message.payload == b"end" {
                    return got;
                }
                got.push(message.payload.to_vec());
            }
        }
        let lanes = senders.iter_mut().map(|sender| sender.raw() as &mut dyn ReceivingHalf);
        client.wait(&mut lanes.collect::<Vec<_>>(), Some(patience())).unwrap();
    }
}

#[test]
fn a_message_to_a_group_reaches_every_member_of_the_time() {
    let daemon = Daemon::start(&BARE);
    let joined = |name: &str| {
        let mut client = daemon.client(name);
        client.join_group("builders").unwrap();
        client
    };
    let mut sender = daemon.client("test.sender");
    let (one, two) = (joined("test.one"), joined("test.two"));
    let mut stranger = daemon.client("test.stranger");
    stranger.subscribe(">").unwrap();
    std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(|| member(one)), scope.spawn(|| member(two)));
        let mut group = sender.group("builders", TopicOptions::default()).unwrap();
        let reached = sender.settle(&mut group, patience()).unwrap();
        assert_eq!((reached.members, reached.missing), (2, 0));
        let long = vec![7; 5_000];
        for payload in [b"first".as_slice(), &long] {
            let reached = sender.send_to_group(&mut group, payload, patience()).unwrap();
            assert_eq!((reached.members, reached.missing), (2, 0));
        }
        let three = joined("test.three");
        let three = scope.spawn(|| member(three));
        assert_eq!(sender.settle(&mut group, patience()).unwrap().members, 3);
        sender.send_to_group(&mut group, b"later", patience()).unwrap();
        sender.send_to_group(&mut group, b"end", patience()).unwrap();
        let all = vec![b"first".to_vec(), long, b"later".to_vec()];
        assert_eq!((one.join().unwrap(), two.join().unwrap()), (all.clone(), all));
        assert_eq!(three.join().unwrap(), [b"later".to_vec()]);
    });
    let heard = stranger.next_event(Instant::now()).unwrap();
    assert!(heard.is_none(), "who wants everything is no member: {heard:?}");
}

#[test]
fn a_message_to_one_of_a_group_is_read_by_one() {
    let daemon = Daemon::start(&BARE);
    let mut sender = daemon.client("test.sender");
    let members: Vec<Client> = (0..3)
        .map(|index| {
            let mut client = daemon.client(&format!("test.member-{index}"));
            client.join_group("workers").unwrap();
            client
        })
        .collect();
    std::thread::scope(|scope| {
        let members: Vec<_> =
            members.into_iter().map(|client| scope.spawn(|| member(client))).collect();
        let mut group = sender.group("workers", TopicOptions::default()).unwrap();
        assert_eq!(sender.settle(&mut group, patience()).unwrap().members, 3);
        for number in 0..300u32 {
            let to = sender.send_to_one(&mut group, &number.to_le_bytes(), patience()).unwrap();
            assert!(to.is_some());
        }
        sender.send_to_group(&mut group, b"end", patience()).unwrap();
        let shares: Vec<_> = members.into_iter().map(|one| one.join().unwrap()).collect();
        // Whoever has read most is next, so one whose thread did not run meanwhile may have had none.
        assert!(shares.iter().all(|share| share.is_sorted_by_key(|bytes| number(bytes))));
        let mut all: Vec<u32> = shares.concat().iter().map(|bytes| number(bytes)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>());
    });
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn a_member_that_does_not_take_part_is_missing_and_holds_nobody_up() {
    let daemon = Daemon::start(&BARE);
    let mut sender = daemon.client("test.sender");
    let mut absent = daemon.client("test.absent");
    let membership = absent.join_group("builders").unwrap();
    let mut group = sender.group("builders", TopicOptions::default()).unwrap();
    let soon = || Instant::now() + Duration::from_millis(20);
    let reached = sender.send_to_group(&mut group, b"x", soon()).unwrap();
    assert_eq!((reached.members, reached.missing), (0, 1));
    assert_eq!(sender.send_to_one(&mut group, b"x", patience()).unwrap(), None);
    absent.unsubscribe(membership).unwrap();
    eventually("it has left", || sender.settle(&mut group, soon()).unwrap().missing == 0);
}

#[test]
fn a_broadcast_reaches_everybody_who_listens() {
    let daemon = Daemon::start(&BARE);
    let mut sender = daemon.client("test.sender");
    let mut listener = daemon.client("test.listener");
    listener.join_broadcast().unwrap();
    std::thread::scope(|scope| {
        let listener = scope.spawn(|| member(listener));
        let mut everybody = sender.broadcast(TopicOptions::default()).unwrap();
        assert_eq!(sender.settle(&mut everybody, patience()).unwrap().members, 1);
        sender.send_to_group(&mut everybody, b"news", patience()).unwrap();
        sender.send_to_group(&mut everybody, b"end", patience()).unwrap();
        assert_eq!(listener.join().unwrap(), [b"news".to_vec()]);
    });
}
