//! The classes as the conformance suite sees them: how two halves come to be in one process, how they end, how they lie.
//!
//! Not here: what is promised (`conformance`).

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SendFlags, send};
use rustix::process::PidfdFlags;

use super::*;
use crate::class::{high, normal};
use crate::doorbell::Doorbell;
use crate::lane::{self, LaneOptions};
use crate::ring::{FLAG_CHUNK, FLAG_REGION, FLAG_SECOND_LINE};
use crate::segment::{ControlWriter, LaneState};

/// Small enough that a maximal message takes many laps.
pub(super) const OPTIONS: LaneOptions = LaneOptions { slots: 64, region_bytes: 65_536 };

pub(super) fn copy(fd: BorrowedFd<'_>) -> OwnedFd {
    fd.try_clone_to_owned().unwrap()
}

pub(super) fn state(how: How) -> LaneState {
    match how {
        How::Closes => LaneState::Closed,
        How::Dies => LaneState::PeerGone,
    }
}

/// What a writer of slots can scribble: a line with this first word and payload words, with the right stamp.
fn scribble(lane: &lane::Sender, first_word: u64, payload: [u64; 3]) {
    // One message went before, so the next line is the second one.
    let slot = &lane.memory().0.slots()[1];
    slot.scribble(1, first_word);
    for (index, word) in payload.into_iter().enumerate() {
        slot.scribble(2 + index, word);
    }
    slot.scribble(0, 2);
}

const REGION_LINE: u64 = 24 | (FLAG_REGION as u64) << 24;

/// What a writer does to its own slots.
type Lie = fn(&lane::Sender);

/// Lies in slots, for every class that carries its payload there.
const SLOT_LIES: [(&str, Lie); 6] = [
    ("a stamp from the future", |lane| lane.memory().0.slots()[1].scribble(0, 999)),
    ("a line longer than a slot", |lane| scribble(lane, 49, [0; 3])),
    ("a second line alone", |lane| scribble(lane, (FLAG_SECOND_LINE as u64) << 24, [0; 3])),
    ("bytes outside of the region", |lane| scribble(lane, REGION_LINE, [65_472, 128, 128])),
    ("more than the bus carries", |lane| scribble(lane, REGION_LINE, [0, 64, 1 << 40])),
    ("a piece of nothing", |lane| {
        scribble(lane, REGION_LINE | (FLAG_CHUNK as u64) << 24, [0, 0, 64]);
    }),
];

pub(super) struct Critical;

impl Way for Critical {
    const CLASS: Class = Class::Critical;
    type Sender = lane::Sender;
    type Receiver = lane::Receiver;
    type Beside = (ControlWriter, Doorbell);

    fn make(spin: Spin) -> Option<Pair<Self>> {
        let control = ControlWriter::create().unwrap();
        let doorbell = Doorbell::new().unwrap();
        let mut sender = lane::Sender::for_link(OPTIONS).unwrap();
        sender.set_control(copy(control.as_fd())).unwrap();
        let cursor = lane::Receiver::new_cursor(spin).unwrap();
        let (bell, ear) = doorbell.ringer_for_peer().unwrap();
        ear.keep();
        sender.attach(READER, copy(cursor.as_fd()), Some(bell)).unwrap();
        let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
        let page = copy(control.as_fd());
        let mut receiver = lane::Receiver::for_link(WRITER, slots, region, page, cursor).unwrap();
        ReceivingHalf::set_spin(&mut receiver, spin);
        Some(Pair { sender, receiver, beside: (control, doorbell) })
    }

    fn end_writer(beside: &Self::Beside, sender: lane::Sender, how: How) {
        drop(sender);
        beside.0.set(state(how));
    }

    fn end_reader(beside: &Self::Beside, receiver: lane::Receiver, how: How) {
        drop(receiver);
        beside.0.set(state(how));
    }

    fn wake_fd<'a>(beside: &'a Self::Beside, _receiver: &'a lane::Receiver) -> BorrowedFd<'a> {
        beside.1.as_fd()
    }

    fn woken(beside: &Self::Beside) {
        beside.1.clear();
    }

    fn hostile() -> Vec<(&'static str, Break<Self>)> {
        // The slots lie there to be found, whoever wakes the reader.
        macro_rules! all {
            ($($index:literal)*) => {
                vec![$((SLOT_LIES[$index].0, |sender| (SLOT_LIES[$index].1)(sender))),*]
            };
        }
        all!(0 1 2 3 4 5)
    }
}

pub(super) struct High;

impl Way for High {
    const CLASS: Class = Class::High;
    type Sender = high::Sender;
    type Receiver = high::Receiver;
    type Beside = ControlWriter;

    fn make(spin: Spin) -> Option<Pair<Self>> {
        if let Err(why) = high::available() {
            println!("class high is not tested here: {why}");
            return None;
        }
        let control = ControlWriter::create().unwrap();
        let mut lane = lane::Sender::for_link(OPTIONS).unwrap();
        lane.set_control(copy(control.as_fd())).unwrap();
        let (slots, region) = (copy(lane.slots_fd()), copy(lane.region_fd()));
        let mailbox = high::Mailbox::new().unwrap();
        let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
        let (own, cursor) = (own.unwrap(), copy(mailbox.cursor_fd()));
        let number = mailbox.number();
        let sender = high::Sender::new(lane, READER, cursor, own.as_fd(), number).unwrap();
        let page = copy(control.as_fd());
        let mut receiver = high::Receiver::new(WRITER, slots, region, page, mailbox).unwrap();
        receiver.set_spin(spin);
        Some(Pair { sender, receiver, beside: control })
    }

    fn end_writer(control: &ControlWriter, sender: high::Sender, how: How) {
        drop(sender);
        control.set(state(how));
    }

    fn end_reader(control: &ControlWriter, receiver: high::Receiver, how: How) {
        drop(receiver);
        control.set(state(how));
    }

    fn wake_fd<'a>(_control: &'a ControlWriter, receiver: &'a high::Receiver) -> BorrowedFd<'a> {
        receiver.descriptor().unwrap()
    }

    fn hostile() -> Vec<(&'static str, Break<Self>)> {
        macro_rules! all {
            ($($index:literal)*) => {
                vec![$((SLOT_LIES[$index].0, |sender| {
                    (SLOT_LIES[$index].1)(sender.lane());
                    sender.lane().flush();
                })),*]
            };
        }
        all!(0 1 2 3 4 5)
    }
}

pub(super) struct Normal;

/// A packet: first word, total, header length, kind, and so many bytes of payload.
fn packet(sender: &normal::Sender, line: (u64, u32, u32), payload: usize) {
    let mut bytes = line.0.to_le_bytes().to_vec();
    bytes.extend(line.1.to_le_bytes());
    bytes.extend(line.2.to_le_bytes());
    bytes.resize(16 + payload, 0);
    send(sender.socket(), &bytes, SendFlags::DONTWAIT).unwrap();
}

const CHUNK: u64 = (FLAG_CHUNK as u64) << 24;
const ABORT: u64 = (crate::ring::FLAG_ABORT as u64) << 24;
const TWO_LINES: u64 = (crate::ring::FLAG_TWO_LINES as u64) << 24;
const SECOND_LINE: u64 = (FLAG_SECOND_LINE as u64) << 24;
const TOTAL_MAX: u32 = (MESSAGE_BYTES_MAX + crate::header::HEADER_BYTES) as u32;

impl Way for Normal {
    const CLASS: Class = Class::Normal;
    type Sender = normal::Sender;
    type Receiver = normal::Receiver;
    type Beside = ();

    fn make(spin: Spin) -> Option<Pair<Self>> {
        let (ours, theirs) = normal::pair().unwrap();
        let sender = normal::Sender::new(ours).unwrap();
        let mut receiver = normal::Receiver::new(WRITER, theirs).unwrap();
        receiver.set_spin(spin);
        Some(Pair { sender, receiver, beside: () })
    }

    fn end_writer(_: &(), sender: normal::Sender, how: How) {
        match how {
            How::Closes => drop(sender),
            How::Dies => sender.die(),
        }
    }

    fn end_reader(_: &(), receiver: normal::Receiver, _: How) {
        drop(receiver);
    }

    fn wake_fd<'a>(_: &'a (), receiver: &'a normal::Receiver) -> BorrowedFd<'a> {
        receiver.descriptor().unwrap()
    }

    fn hostile() -> Vec<(&'static str, Break<Self>)> {
        vec![
            ("a packet of nothing", |sender| {
                send(sender.socket(), &[], SendFlags::empty()).unwrap();
            }),
            ("half a line", |sender| {
                send(sender.socket(), &[0; 15], SendFlags::empty()).unwrap();
            }),
            ("a kind that is none", |sender| packet(sender, (0, 0, 2 << 16), 0)),
            ("a byte that must be zero", |sender| packet(sender, (0, 0, 1 << 24), 0)),
            ("less than it says", |sender| packet(sender, (8, 8, 0), 7)),
            ("more than it says", |sender| packet(sender, (8, 8, 0), 9)),
            ("a packet longer than any", |sender| packet(sender, (40_000, 40_000, 0), 40_000)),
            ("flags of slots", |sender| packet(sender, (SECOND_LINE, 0, 0), 0)),
            ("timing that is not there", |sender| packet(sender, (TWO_LINES, 0, 0), 31)),
            ("timing of a long message", |sender| packet(sender, (TWO_LINES | 49, 49, 0), 81)),
            ("a piece of nothing", |sender| packet(sender, (CHUNK, 64, 0), 0)),
            ("a piece that is the whole", |sender| packet(sender, (CHUNK | 64, 64, 0), 64)),
            ("an end without pieces", |sender| packet(sender, (64, 65, 0), 64)),
            ("an abort of nothing", |sender| packet(sender, (ABORT, 0, 0), 0)),
            ("more than the bus carries", |sender| {
                packet(sender, (CHUNK | 64, TOTAL_MAX + 1, 0), 64);
            }),
            ("pieces of two messages", |sender| {
                packet(sender, (CHUNK | 64, 128, 0), 64);
                packet(sender, (1 << 32 | 64, 128, 0), 64);
            }),
            ("pieces beyond their total", |sender| {
                packet(sender, (CHUNK | 64, 128, 0), 64);
                packet(sender, (65, 128, 0), 65);
            }),
            ("a message between pieces", |sender| {
                packet(sender, (CHUNK | 64, 128, 0), 64);
                packet(sender, (8, 8, 0), 8);
            }),
            ("a header that is none", |sender| packet(sender, (96, 96, 96), 96)),
            ("a header longer than its message", |sender| packet(sender, (8, 8, 96), 8)),
            ("a header of another length", |sender| packet(sender, (300, 300, 300), 300)),
        ]
    }
}
