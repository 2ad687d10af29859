//! What the bus's own parts order between two threads, for a race detector: `make races`.
//!
//! All of a segment is atomic words, so a detector finds no race in it whatever the orderings are. Orderings are there for
//! everything else: bytes of a pool, and whatever a program wrote before it sent. So each test hands over plain cells beside
//! its messages; where an Acquire or Release is missing, the cells race. `make races` shows that too, by a build without any
//! ordering, in which every one of these tests must be reported. Without a detector they are tests of what arrives.
//!
//! Not here: protocols that stand on fences, which detectors do not know (torn lines, entries of the directory, lost wake-ups):
//! those are modelled (`loom_tests`). Threads are joined and never scoped, and share nothing but cells: the standard library is
//! not built for the detector, so what its locks and scopes order would be reported.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

use std::cell::UnsafeCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipc::batch::{Borrower, Pool};
use ipc::class::{ReceivingHalf, SendingHalf, high};
use ipc::control::TopicPolicy;
use ipc::directory::{AgentEntry, Picture, Reader, RouterEntry, Writer};
use ipc::doorbell::Doorbell;
use ipc::header::{AgentId, Header, Kind};
use ipc::lane::{Ended, LaneOptions, Large, ReceiveError, Receiver, Sender, Start, WhenFull};
use ipc::limits::SLOTS_MIN;
use ipc::ring::{Consumer, Found, Gate, Line, Meta, Producer, Slot, Timing};
use ipc::segment::{ControlWriter, LaneState};
use ipc::wait::Spin;
use rustix::event::{PollFd, PollFlags, poll};

const WRITER: AgentId = AgentId(1);
const READER: AgentId = AgentId(2);
const OTHER_READER: AgentId = AgentId(3);
/// Small, so that slots, bytes and cells are used again and again.
const OPTIONS: LaneOptions = LaneOptions { slots: SLOTS_MIN, region_bytes: 4_096 };
/// Messages of one test: hundreds of laps.
const MESSAGES: u64 = 4_000;

/// Memory without any order of its own.
#[derive(Clone)]
struct Cells(Arc<[UnsafeCell<u64>]>);

// SAFETY: this is the claim that the tests put before the detector: each cell is written and read in an order that the part of
// the bus under test makes.
unsafe impl Send for Cells {}

impl Cells {
    /// Enough that a writer which was let go on never comes back to a cell that is still to be read: it writes a cell before
    /// it asks for room, so it is up to one lap ahead of what a full ring allows.
    fn for_ring() -> Self {
        Self::new(2 * OPTIONS.slots as u64)
    }

    fn new(count: u64) -> Self {
        Self((0..count).map(|_| UnsafeCell::new(u64::MAX)).collect())
    }

    fn put(&self, number: u64) {
        let cell = &self.0[number as usize % self.0.len()];
        // SAFETY: see `Send`; there are no references to the inside.
        unsafe { *cell.get() = number };
    }

    fn check(&self, number: u64) {
        let cell = &self.0[number as usize % self.0.len()];
        // SAFETY: see `Send`.
        let found = unsafe { *cell.get() };
        assert_eq!(found, number, "what was written before the message");
    }
}

fn copy(fd: BorrowedFd<'_>) -> OwnedFd {
    fd.try_clone_to_owned().unwrap()
}

/// Ends a hang; nothing is expected to take this long.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn soon() -> WhenFull {
    WhenFull::WaitUntil(later())
}

fn link(spin: Spin) -> (Sender, Receiver, ControlWriter, Doorbell) {
    let control = ControlWriter::create().unwrap();
    let doorbell = Doorbell::new().unwrap();
    let mut sender = Sender::for_link(OPTIONS).unwrap();
    sender.set_control(copy(control.as_fd())).unwrap();
    sender.set_spin(spin);
    let cursor = Receiver::new_cursor(spin).unwrap();
    let (bell, ear) = doorbell.ringer_for_peer().unwrap();
    ear.keep();
    sender.attach(READER, copy(cursor.as_fd()), Some(bell)).unwrap();
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let page = copy(control.as_fd());
    let mut receiver = Receiver::for_link(WRITER, slots, region, page, cursor).unwrap();
    receiver.set_spin(spin);
    (sender, receiver, control, doorbell)
}

/// Sends every sort of message in turn, each after its cell.
fn send_all<S>(mut sender: S, cells: Cells) -> JoinHandle<S>
where
    S: SendingHalf + Send + 'static,
{
    thread::spawn(move || {
        for number in 0..MESSAGES {
            cells.put(number);
            let (meta, bytes) = (Meta::default(), number.to_le_bytes());
            match number % 5 {
                0 | 1 => {
                    sender.push(meta, &bytes, soon()).unwrap();
                    sender.flush();
                }
                2 => sender.send_timed(meta, &bytes, Timing::default(), soon()).unwrap(),
                _ => {
                    let header = Header::new(Kind::Event);
                    // Some are longer than half of the region.
                    let filling = [7; 3_000];
                    let length = if number % 2 == 0 { 900 } else { filling.len() };
                    let parts: [&[u8]; 2] = [&bytes, &filling[..length]];
                    let large = Large { header: Some(&header), meta, parts: &parts };
                    sender.send_large(large, soon()).unwrap();
                }
            }
        }
        sender
    })
}

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk().unwrap())
}

fn receive_all(receiver: &mut impl ReceivingHalf, cells: &Cells) {
    for expected in 0..MESSAGES {
        let message = receiver.receive(Some(later())).unwrap();
        assert_eq!(number(message.payload), expected);
        cells.check(expected);
    }
}

#[test]
fn ring_orders_what_was_written_before_each_line() {
    let slots: Arc<[Slot]> = (0..OPTIONS.slots).map(|_| Slot::new()).collect();
    let cursor = Arc::new(AtomicU64::new(0));
    let cells = Cells::for_ring();
    let writer = thread::spawn({
        let (slots, cursor, cells) = (slots.clone(), cursor.clone(), cells.clone());
        move || {
            let mut producer = Producer::new(&slots, false);
            let mut gate = Gate::from_start();
            for number in 0..MESSAGES {
                cells.put(number);
                while !producer.has_room(2) {
                    gate.update(&cursor, &producer).unwrap();
                    producer.set_limit(gate.cursor().unwrap() + producer.capacity());
                    thread::yield_now();
                }
                let (meta, bytes) = (Meta::default(), number.to_le_bytes());
                match number % 2 {
                    0 => producer.write(&slots, meta, &bytes),
                    _ => producer.write_two(&slots, meta, &bytes, Timing::default()),
                }
            }
        }
    });
    let mut consumer = Consumer::new(&slots);
    let (mut line, mut timing) = (Line::default(), Timing::default());
    let mut expected = 0;
    while expected < MESSAGES {
        match consumer.take(&slots, &mut line, &mut timing).unwrap() {
            Found::One | Found::Two => {
                assert_eq!(line.word(0), expected);
                cells.check(expected);
                expected += 1;
                // The reader's side of rule 6 is its own to keep.
                cursor.store(consumer.position(), Ordering::Release);
            }
            Found::Empty => thread::yield_now(),
            Found::Lapped(_) => panic!("a gated ring never laps"),
        }
    }
    writer.join().unwrap();
}

#[test]
fn lane_orders_what_was_written_before_each_message() {
    for spin in [Spin::Adaptive, Spin::Forever] {
        let (sender, mut receiver, _control, _doorbell) = link(spin);
        let cells = Cells::for_ring();
        let writer = send_all(sender, cells.clone());
        receive_all(&mut receiver, &cells);
        drop(writer.join().unwrap());
    }
}

#[test]
fn sleepers_of_a_lane_wake_to_what_was_written_before() {
    let (sender, mut receiver, _control, _doorbell) = link(Spin::None);
    let cells = Cells::for_ring();
    let writer = send_all(sender, cells.clone());
    receive_all(&mut receiver, &cells);
    drop(writer.join().unwrap());
}

#[test]
fn batches_of_a_lane_are_ordered_after_what_was_written_before() {
    let (sender, mut receiver, _control, _doorbell) = link(Spin::Adaptive);
    let cells = Cells::for_ring();
    let writer = send_all(sender, cells.clone());
    let mut expected = 0;
    while expected < MESSAGES {
        let taken = receiver.receive_batch(5, |message| {
            assert_eq!(number(message.payload), expected);
            cells.check(expected);
            expected += 1;
        });
        if taken.unwrap() == 0 {
            thread::yield_now();
        }
    }
    drop(writer.join().unwrap());
}

#[test]
fn bell_wakes_to_what_was_written_before() {
    let (sender, mut receiver, _control, doorbell) = link(Spin::Adaptive);
    let cells = Cells::for_ring();
    let writer = send_all(sender, cells.clone());
    for expected in 0..MESSAGES {
        loop {
            if let Some(message) = receiver.try_receive().unwrap() {
                assert_eq!(number(message.payload), expected);
                cells.check(expected);
                break;
            }
            if receiver.arm() {
                let mut polled = [PollFd::new(&doorbell, PollFlags::IN)];
                poll(&mut polled, None).unwrap();
                receiver.disarm();
                doorbell.clear();
            }
        }
    }
    drop(writer.join().unwrap());
}

#[test]
fn ring_of_messages_wakes_to_what_was_written_before() {
    if let Err(why) = high::available() {
        return println!("class high is not tested here: {why}");
    }
    let control = ControlWriter::create().unwrap();
    let mut lane = Sender::for_link(OPTIONS).unwrap();
    lane.set_control(copy(control.as_fd())).unwrap();
    let (slots, region) = (copy(lane.slots_fd()), copy(lane.region_fd()));
    let mailbox = high::Mailbox::new().unwrap();
    let flags = rustix::process::PidfdFlags::empty();
    let own = rustix::process::pidfd_open(rustix::process::getpid(), flags).unwrap();
    let (cursor, inbox) = (copy(mailbox.cursor_fd()), mailbox.number());
    let sender = high::Sender::new(lane, READER, cursor, own.as_fd(), inbox).unwrap();
    let page = copy(control.as_fd());
    let mut receiver = high::Receiver::new(WRITER, slots, region, page, mailbox).unwrap();
    let cells = Cells::for_ring();
    let writer = send_all(sender, cells.clone());
    receive_all(&mut receiver, &cells);
    drop(writer.join().unwrap());
}

#[test]
fn every_reader_of_a_lossless_topic_holds_its_writer_back() {
    let mut sender = Sender::for_topic(OPTIONS, TopicPolicy::Lossless).unwrap();
    let cells = Cells::for_ring();
    let readers = [READER, OTHER_READER].map(|reader| {
        let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
        let mut receiver =
            Receiver::for_topic(WRITER, slots, region, None, Start::Live, Spin::Adaptive).unwrap();
        sender.attach(reader, copy(receiver.cursor_fd()), None).unwrap();
        let cells = cells.clone();
        thread::spawn(move || {
            receive_all(&mut receiver, &cells);
            receiver
        })
    });
    drop(send_all(sender, cells).join().unwrap());
    for reader in readers {
        drop(reader.join().unwrap());
    }
}

#[test]
fn lossy_topic_orders_what_it_does_not_lose() {
    let mut sender = Sender::for_topic(OPTIONS, TopicPolicy::Lossy).unwrap();
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let mut receiver =
        Receiver::for_topic(WRITER, slots, region, None, Start::Live, Spin::Adaptive).unwrap();
    sender.attach(READER, copy(receiver.cursor_fd()), None).unwrap();
    // Nothing holds this writer back, so no cell is used twice.
    let cells = Cells::new(MESSAGES);
    let writer = thread::spawn({
        let cells = cells.clone();
        move || {
            for number in 0..MESSAGES {
                cells.put(number);
                let bytes = number.to_le_bytes();
                let parts: [&[u8]; 2] = [&bytes, &[7; 900]];
                let (header, meta) = (None, Meta::default());
                match number % 2 {
                    0 => sender.send(meta, &bytes, WhenFull::Reject).unwrap(),
                    _ => {
                        let large = Large { header, meta, parts: &parts };
                        sender.send_large(large, WhenFull::Reject).unwrap();
                    }
                }
            }
            sender
        }
    });
    let mut last = None;
    while last != Some(MESSAGES - 1) {
        match receiver.receive(Some(later())) {
            Ok(message) => {
                let number = number(message.payload);
                assert!(last.is_none_or(|last| last < number), "in order");
                cells.check(number);
                last = Some(number);
            }
            Err(ReceiveError::Lost(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    drop(writer.join().unwrap());
}

#[test]
fn end_of_a_lane_is_told_after_what_was_done_before() {
    for _ in 0..50 {
        let (sender, mut receiver, control, _doorbell) = link(Spin::Adaptive);
        let cells = Cells::new(1);
        let router = thread::spawn({
            let cells = cells.clone();
            move || {
                cells.put(1);
                control.set(LaneState::Closed);
                control
            }
        });
        assert_eq!(receiver.receive(Some(later())), Err(ReceiveError::Ended(Ended::Closed)));
        cells.check(1);
        drop((router.join().unwrap(), sender));
    }
}

/// Here the plain memory is the pool itself: the lender writes it as bytes, and under the detector both sides have it at one
/// address. In every loan stands its number.
#[test]
fn lent_bytes_are_read_between_lending_and_return() {
    const BYTES: usize = 8_192;
    for spin in [Spin::Adaptive, Spin::None] {
        let (mut sender, mut receiver, control, _doorbell) = link(spin);
        let mut pool = Pool::create(1, 2 * BYTES).unwrap();
        pool.set_spin(spin);
        let mut borrower = Borrower::open(copy(pool.as_fd()), 2 * BYTES).unwrap();
        let page = copy(control.as_fd());
        pool.attach(READER, copy(borrower.returns_fd()), Some(page)).unwrap();
        let lender = thread::spawn(move || {
            for number in 0..MESSAGES / 4 {
                let mut loan = pool.loan(BYTES - 64, soon()).unwrap();
                loan.fill(number as u8);
                let carry = |line: &[u8]| sender.send(Meta::default(), line, soon());
                pool.lend(loan, &[READER], carry).map_err(|unsent| unsent.error).unwrap();
            }
            (pool, sender)
        });
        let mut bytes = vec![0; BYTES];
        for number in 0..MESSAGES / 4 {
            let message = receiver.receive(Some(later())).unwrap();
            let lent = borrower.take(message.payload).unwrap();
            let bytes = &mut bytes[..lent.length()];
            lent.read_at(0, bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == number as u8), "loan {number}");
        }
        drop(lender.join().unwrap());
    }
}

#[test]
fn loan_that_another_thread_gave_up_is_written_again() {
    const BYTES: usize = 4_096;
    let mut pool = Pool::create(1, BYTES).unwrap();
    for round in 0..50u8 {
        let mut loan = pool.loan(BYTES, soon()).unwrap();
        let flag = || Arc::new(AtomicBool::new(false));
        let (is_given, is_over) = (flag(), flag());
        let writer = thread::spawn({
            let (is_given, is_over) = (is_given.clone(), is_over.clone());
            move || {
                loan.fill(round);
                drop(loan);
                is_given.store(true, Ordering::Relaxed);
                // The thread goes on, so that its end is not what orders its writing before the next.
                while !is_over.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
        });
        // Every other time nobody waits for the loan: a wait is a call of the kernel, which may order by itself.
        while round % 2 == 0 && !is_given.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let mut next = pool.loan(BYTES, soon()).unwrap();
        assert!(next.iter().all(|byte| *byte == round));
        next.fill(round + 1);
        drop(next);
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
}

#[test]
fn picture_of_the_directory_is_ordered_after_what_was_known_before() {
    const REFRESHES: u64 = 300;
    let mut writer = Writer::create(RouterEntry::default()).unwrap();
    let reader = Reader::open(copy(writer.as_fd())).unwrap();
    let cells = Cells::new(REFRESHES + 1);
    let router = thread::spawn({
        let cells = cells.clone();
        move || {
            for refresh in 1..=REFRESHES {
                cells.put(refresh);
                let entry = AgentEntry { sent: refresh, ..AgentEntry::default() };
                let picture = Picture { agents: vec![entry], ..Picture::default() };
                writer.refresh(&picture);
            }
            writer
        }
    });
    let mut seen = 0;
    while seen < REFRESHES {
        let picture = reader.read();
        if !picture.whole || picture.generation == 0 {
            continue;
        }
        let refresh = picture.generation / 2;
        assert!(refresh >= seen && picture.agents[0].sent == refresh);
        cells.check(refresh);
        seen = refresh;
    }
    drop(router.join().unwrap());
}
