//! Class LOW keeps the promises of every class, with the exchange between its ends.
//!
//! One promise it does not make: that the end of the reader is told to the writer. A log outlives its readers; it keeps what is
//! sent for whoever follows next, and a writer that is not held back by anybody goes on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ipc::class::conformance::{Break, How, Pair, WRITER, Way};
use ipc::class::{Class, Counters, ReceivingHalf, SendingHalf, low};
use ipc::client::Client;
use ipc::exchange::log::{Durability, Logs, Options, Start};
use ipc::lane::{Large, Message, ReceiveError, SendError, WhenFull};
use ipc::ring::{FLAG_ABORT, FLAG_CHUNK, FLAG_SECOND_LINE, FLAG_TWO_LINES, Meta, Timing};
use ipc::wait::Spin;

use super::logs::EXCHANGE;
use super::world::{Daemon, eventually, patience, share_one_processor};

const LOG: &str = "way";

/// Class LOW under test: everybody where they may run, or daemon, exchange, writer and reader on one processor.
struct Low<const ON_ONE: bool>;

type Anywhere = Low<false>;
type OnOne = Low<true>;

/// A sender, and the means to append what it would not.
struct Sender {
    half: low::Sender,
    rogue: Logs,
}

/// The daemon, and the clients that the halves came from.
struct Beside {
    reader: Mutex<Client>,
    /// The reader's doorbell.
    bell: OwnedFd,
    writer: Mutex<Option<Client>>,
    _rogue: Mutex<Client>,
    _daemon: Daemon,
}

impl<const ON_ONE: bool> Way for Low<ON_ONE> {
    const CLASS: Class = Class::Low;
    type Sender = Sender;
    type Receiver = low::Receiver;
    type Beside = Beside;

    fn make(spin: Spin) -> Option<Pair<Self>> {
        if ON_ONE {
            share_one_processor();
        }
        let daemon = Daemon::start(&EXCHANGE);
        let mut writer = daemon.client("test.writer");
        let (mut reader, mut rogue) = (daemon.client("test.reader"), daemon.client("test.rogue"));
        let mut logs = Logs::open(&mut rogue).unwrap();
        let options = Options { ahead_max: 64, ..Options::default() };
        logs.make(LOG, options, patience()).unwrap();
        let half = low::Sender::open(&mut writer, LOG, Durability::Stored, patience()).unwrap();
        let start = Start::End;
        let mut receiver =
            low::Receiver::open(&mut reader, WRITER, LOG, start, true, patience()).unwrap();
        receiver.set_spin(spin);
        let writer = Mutex::new(Some(writer));
        let bell = reader.doorbell().as_fd().try_clone_to_owned().unwrap();
        let (reader, rogue) = (Mutex::new(reader), Mutex::new(rogue));
        let beside = Beside { reader, bell, writer, _rogue: rogue, _daemon: daemon };
        Some(Pair { sender: Sender { half, rogue: logs }, receiver, beside })
    }

    fn end_writer(beside: &Beside, sender: Sender, how: How) {
        let client = beside.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match how {
            How::Closes => {
                drop(sender);
                client.unwrap().bye().unwrap();
            }
            How::Dies => {
                // Nothing of it runs any more; the kernel closes its socket.
                std::mem::forget(sender.half);
                drop(client);
            }
        }
    }

    fn end_reader(_: &Beside, receiver: low::Receiver, _: How) {
        drop(receiver);
    }

    fn wake_fd<'a>(beside: &'a Beside, _: &'a low::Receiver) -> BorrowedFd<'a> {
        beside.bell.as_fd()
    }

    fn woken(beside: &Beside) {
        beside.reader.lock().unwrap_or_else(PoisonError::into_inner).doorbell().clear();
    }

    fn settle(receiver: &mut low::Receiver) {
        eventually("what was sent arrives", || receiver.has_news());
    }

    fn hostile() -> Vec<(&'static str, Break<Self>)> {
        vec![
            ("a record of nothing", |sender| sender.append(&[])),
            ("half a line", |sender| sender.append(&[0; 15])),
            ("a kind that is none", |sender| sender.packet((0, 0, 3 << 16), 0)),
            ("a byte that is no truth", |sender| sender.packet((0, 0, 2 << 24), 0)),
            ("less than it says", |sender| sender.packet((8, 8, 0), 7)),
            ("more than it says", |sender| sender.packet((8, 8, 0), 9)),
            ("a record longer than any packet", |sender| {
                sender.packet((40_000, 40_000, 0), 40_000);
            }),
            ("flags of slots", |sender| sender.packet((flag(FLAG_SECOND_LINE), 0, 0), 0)),
            ("timing that is not there", |sender| sender.packet((flag(FLAG_TWO_LINES), 0, 0), 31)),
            ("a piece of nothing", |sender| sender.packet((flag(FLAG_CHUNK), 64, 0), 0)),
            ("an end without pieces", |sender| sender.packet((64, 65, 0), 64)),
            ("an abort with a payload", |sender| {
                sender.packet((flag(FLAG_CHUNK) | 64, 128, 0), 64);
                sender.packet((flag(FLAG_ABORT) | 8, 8, 0), 8);
            }),
            ("more than the bus carries", |sender| {
                sender.packet((flag(FLAG_CHUNK) | 64, u32::MAX, 0), 64);
            }),
            ("pieces beyond their total", |sender| {
                sender.packet((flag(FLAG_CHUNK) | 64, 128, 0), 64);
                sender.packet((65, 128, CONTINUES), 65);
            }),
            ("pieces of two messages", |sender| {
                sender.packet((flag(FLAG_CHUNK) | 64, 128, 0), 64);
                sender.packet((1 << 32 | 64, 128, CONTINUES), 64);
            }),
            ("a header that is none", |sender| sender.packet((96, 96, 96), 96)),
        ]
    }
}

const CONTINUES: u32 = 1 << 24;

fn flag(flag: u8) -> u64 {
    u64::from(flag) << 24
}

impl Sender {
    fn append(&mut self, packet: &[u8]) {
        self.rogue.append(LOG, packet, patience()).unwrap();
    }

    /// A packet: first word, total, header length with kind and last byte, and so many bytes of payload.
    fn packet(&mut self, line: (u64, u32, u32), payload: usize) {
        let mut bytes = line.0.to_le_bytes().to_vec();
        bytes.extend(line.1.to_le_bytes());
        bytes.extend(line.2.to_le_bytes());
        bytes.resize(16 + payload, 0);
        self.append(&bytes);
    }
}

impl SendingHalf for Sender {
    fn class(&self) -> Class {
        self.half.class()
    }

    fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        self.half.push(meta, payload, when)
    }

    fn flush(&mut self) {
        self.half.flush();
    }

    fn send_timed(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.half.send_timed(meta, payload, timing, when)
    }

    fn take_back(&mut self, meta: Meta) {
        self.half.take_back(meta);
    }

    fn resume_large(
        &mut self,
        message: &Large<'_>,
        sent: &mut usize,
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.half.resume_large(message, sent, when)
    }

    fn set_spin(&mut self, spin: Spin) {
        self.half.set_spin(spin);
    }

    fn counters(&self) -> Counters {
        self.half.counters()
    }
}

ipc::conformance! { every suite: Anywhere }
ipc::conformance! { every suite_on_one_processor: OnOne }

fn numbers(daemon: &Daemon, count: u32) -> low::Sender {
    let mut writer = daemon.client("test.writer");
    Logs::open(&mut writer).unwrap().make(LOG, Options::default(), patience()).unwrap();
    let mut sender = low::Sender::open(&mut writer, LOG, Durability::Synced, patience()).unwrap();
    for number in 0..count {
        let meta = Meta { correlation: number, ..Meta::default() };
        sender.send(meta, &number.to_le_bytes(), WhenFull::Reject).unwrap();
    }
    // The client is not needed to send; without it the daemon takes the writer for dead.
    std::mem::forget(writer);
    sender
}

#[test]
fn the_end_is_heard_though_the_goodbye_finds_no_room() {
    let daemon = Daemon::start(&EXCHANGE);
    let mut writer = daemon.client("test.writer");
    let options = Options { ahead_max: 4, ..Options::default() };
    Logs::open(&mut writer).unwrap().make(LOG, options, patience()).unwrap();
    let mut sender = low::Sender::open(&mut writer, LOG, Durability::Stored, patience()).unwrap();
    let mut reader = daemon.client("test.reader");
    let start = Start::First;
    let mut receiver =
        low::Receiver::open(&mut reader, WRITER, LOG, start, true, patience()).unwrap();
    let mut count = 0;
    while sender.send(Meta::default(), b"x", WhenFull::Reject).is_ok() {
        count += 1;
    }
    drop(sender);
    writer.bye().unwrap();
    for _ in 0..count {
        assert_eq!(receiver.receive(Some(patience())).unwrap().payload, b"x");
    }
    let end = receiver.receive(Some(patience())).map(drop);
    assert!(matches!(end, Err(ReceiveError::Ended(_))), "{end:?}");
}

#[test]
fn a_receiver_goes_on_where_another_one_was_and_learns_of_the_death_of_the_exchange() {
    let daemon = Daemon::start(&EXCHANGE);
    let mut sender = numbers(&daemon, 10);
    assert_eq!(sender.position(), 10);
    let mut reader = daemon.client("test.reader");
    let open = |reader: &mut Client, start| {
        low::Receiver::open(reader, WRITER, LOG, start, false, patience()).unwrap()
    };
    let until = || Some(patience());
    let mut first = open(&mut reader, Start::First);
    for number in 0..4 {
        assert_eq!(first.receive(until()).unwrap().meta.correlation, number);
    }
    let mut second = open(&mut reader, Start::At(first.position()));
    assert_eq!(second.receive(until()).unwrap().meta.correlation, 4);
    let large = vec![7; 100_000];
    sender.send(Meta::default(), &large, WhenFull::Reject).unwrap();
    // One that begins in the middle of a message is told what it does not get.
    let mut third = open(&mut reader, Start::At(11));
    for _ in 0..3 {
        assert_eq!(third.receive(until()), Err(ReceiveError::Lost(1)));
    }
    sender.send(Meta::default(), b"whole", WhenFull::Reject).unwrap();
    assert_eq!(third.receive(until()).unwrap().payload, b"whole");
    super::logs::kill_exchange(&daemon);
    let ended = |error| matches!(error, ReceiveError::Ended(_));
    let until: Option<Instant> = None;
    let is_end = |result: Result<Message<'_>, ReceiveError>| result.map(drop).is_err_and(ended);
    assert!(is_end(third.receive(until)));
    assert!(matches!(
        sender.send(Meta::default(), b"late", WhenFull::Reject),
        Err(SendError::Ended(_))
    ));
}
