//! The same suite with the writer in a process of its own, and both processes on one processor.
//!
//! There nothing moves while somebody spins: who waits has to let the other one run, or every test here hangs. The writer's
//! death is a real one. Not here: what is promised (`conformance`), and two halves in one process (`ways`).
//!
//! This program is started again with a variable set; its standard input is the socket over which the halves meet, and over
//! which the test then says what the writer is to do, one call and one answer at a time.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::PidfdFlags;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::ways::{Critical, High, Normal, OPTIONS, copy, state};
use super::*;
use crate::class::{Counters, high, normal};
use crate::control::fields::{Reader, Writer};
use crate::doorbell::Doorbell;
use crate::header::HEADER_BYTES;
use crate::lane;
use crate::segment::ControlWriter;
use crate::socket::Connection;
use crate::uring::RingNumber;

/// Says of which class the writer is; set only in its process.
const CLASS_VARIABLE: &str = "BOLIDE_TEST_APART";
/// More ways to lie than any class has.
const LIES_MAX: usize = 24;

/// A class whose halves can come to be in two processes.
pub(super) trait Split: Way {
    /// The reader's part of the meeting. Nothing where the other process finds that the class cannot be had.
    fn read(socket: &Connection, spin: Spin) -> Option<(Self::Receiver, Self::Beside)>;

    /// The writer's part.
    fn write(socket: &Connection) -> Option<Self::Sender>;

    /// What a router tells the reader of the writer's end.
    fn tell(beside: &Self::Beside, how: How);
}

/// A class with its writer in another process.
pub(super) struct Apart<W>(PhantomData<W>);

/// The writer, as the process of the reader holds it.
pub(super) struct Remote {
    class: Class,
    socket: Connection,
    child: Mutex<Child>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The calling thread, and the process that it starts next, run on one processor alone.
fn share_one_processor() {
    let allowed = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|index| allowed.is_set(*index)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
}

fn descriptors<const COUNT: usize>(socket: &Connection) -> [OwnedFd; COUNT] {
    socket.receive().unwrap().descriptors.try_into().unwrap()
}

impl<W: Split> Way for Apart<W> {
    const CLASS: Class = W::CLASS;
    type Sender = Remote;
    type Receiver = W::Receiver;
    type Beside = W::Beside;

    fn make(spin: Spin) -> Option<Pair<Self>> {
        share_one_processor();
        let (here, there) = Connection::pair().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "class::conformance::apart::writing_process", "--nocapture"])
            .env(CLASS_VARIABLE, W::CLASS.name())
            .stdin(Stdio::from(copy(there.as_fd())))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        drop(there);
        // Whatever fails from here on, the process ends with this.
        let sender = Remote { class: W::CLASS, socket: here, child: Mutex::new(child) };
        let (receiver, beside) = W::read(&sender.socket, spin)?;
        Some(Pair { sender, receiver, beside })
    }

    fn end_writer(beside: &Self::Beside, sender: Remote, how: How) {
        if how == How::Closes {
            sender.ask(Call::Close, |_| {});
        }
        drop(sender);
        W::tell(beside, how);
    }

    fn end_reader(beside: &Self::Beside, receiver: W::Receiver, how: How) {
        W::end_reader(beside, receiver, how);
    }

    fn wake_fd<'a>(beside: &'a Self::Beside, receiver: &'a W::Receiver) -> BorrowedFd<'a> {
        W::wake_fd(beside, receiver)
    }

    fn woken(beside: &Self::Beside) {
        W::woken(beside);
    }

    fn hostile() -> Vec<(&'static str, Break<Self>)> {
        macro_rules! all {
            ($($index:literal)*) => {
                [$(|sender: &mut Remote| sender.lie($index)),*]
            };
        }
        let lies: [Break<Self>; LIES_MAX] =
            all!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
        let names = W::hostile();
        assert!(names.len() <= LIES_MAX);
        names.into_iter().map(|(name, _)| name).zip(lies).collect()
    }
}

/// What the writer is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Call {
    Push,
    Flush,
    Send,
    SendTimed,
    SendLarge,
    SetSpin,
    Counters,
    Lie,
    Close,
}

const CALLS: [Call; 9] = [
    Call::Push,
    Call::Flush,
    Call::Send,
    Call::SendTimed,
    Call::SendLarge,
    Call::SetSpin,
    Call::Counters,
    Call::Lie,
    Call::Close,
];

impl Remote {
    fn ask(&self, call: Call, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        self.ask_with(call, write, &[])
    }

    fn ask_with(&self, call: Call, write: impl FnOnce(&mut Writer), payload: &[u8]) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(call as u8);
        write(&mut out);
        // Payloads are longer than packets.
        let file = memfd_create("payload", MemfdFlags::CLOEXEC).unwrap();
        rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&file, payload.len() as u64)).unwrap();
        let mut written = 0;
        while written < payload.len() {
            written += rustix::io::pwrite(&file, &payload[written..], written as u64).unwrap();
        }
        self.socket.send(&out.into_bytes(), &[file.as_fd()]).unwrap();
        self.socket.receive().expect("the writing process is there").bytes
    }

    fn sent(
        &self,
        call: Call,
        (meta, when): (Meta, WhenFull),
        more: &[u8],
        payload: &[u8],
    ) -> Sent {
        let write = |out: &mut Writer| {
            out.u8(meta.priority);
            out.u8(meta.flags);
            out.u32(meta.correlation);
            out.u64(match when {
                WhenFull::Reject => u64::MAX,
                WhenFull::WaitUntil(until) => {
                    until.saturating_duration_since(Instant::now()).as_nanos() as u64
                }
            });
            out.rest(more);
        };
        let answer = self.ask_with(call, write, payload);
        read_result(&mut Reader::new(&answer))
    }

    fn lie(&mut self, index: u8) {
        self.ask(Call::Lie, |out| out.u8(index));
    }
}

type Sent = Result<(), SendError>;

const ENDS: [Ended; 4] = [Ended::PeerGone, Ended::Revoked, Ended::Closed, Ended::RouterGone];

fn write_result(out: &mut Writer, result: Sent) {
    let (kind, number) = match result {
        Ok(()) => (0, 0),
        Err(SendError::Full) => (1, 0),
        Err(SendError::TooLong { got, max }) => (2, (got as u64) << 32 | max as u64),
        Err(SendError::Ended(ended)) => {
            (3, ENDS.iter().position(|one| *one == ended).unwrap() as u64)
        }
        Err(error @ SendError::Quarantined(_)) => panic!("{error}"),
    };
    out.u8(kind);
    out.u64(number);
}

fn read_result(fields: &mut Reader<'_>) -> Sent {
    let (kind, number) = (fields.u8("kind").unwrap(), fields.u64("number").unwrap());
    match kind {
        0 => Ok(()),
        1 => Err(SendError::Full),
        2 => {
            let (got, max) = ((number >> 32) as usize, number as u32 as usize);
            Err(SendError::TooLong { got, max })
        }
        _ => Err(SendError::Ended(ENDS[number as usize])),
    }
}

impl SendingHalf for Remote {
    fn class(&self) -> Class {
        self.class
    }

    fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Sent {
        self.sent(Call::Push, (meta, when), &[], payload)
    }

    fn flush(&mut self) {
        self.ask(Call::Flush, |_| {});
    }

    fn send(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Sent {
        self.sent(Call::Send, (meta, when), &[], payload)
    }

    fn send_timed(&mut self, meta: Meta, payload: &[u8], timing: Timing, when: WhenFull) -> Sent {
        let mut more = Writer::new();
        more.u64(timing.time_ns);
        more.u64(timing.deadline_ns);
        more.rest(&timing.trace.to_le_bytes());
        self.sent(Call::SendTimed, (meta, when), &more.into_bytes(), payload)
    }

    fn send_large(&mut self, message: Large<'_>, when: WhenFull) -> Sent {
        let header = message.header.map(Header::encode);
        let header = header.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        self.sent(Call::SendLarge, (message.meta, when), header, &message.parts.concat())
    }

    fn take_back(&mut self, _: Meta) {
        unreachable!("a message goes to the other process as a whole");
    }

    fn resume_large(&mut self, message: &Large<'_>, sent: &mut usize, when: WhenFull) -> Sent {
        // As a whole: where pieces wait is in the other process.
        self.send_large(*message, when)?;
        *sent = message.parts.iter().map(|part| part.len()).sum();
        Ok(())
    }

    fn set_spin(&mut self, spin: Spin) {
        self.ask(Call::SetSpin, |out| out.u8(u8::from(spin == Spin::Adaptive)));
    }

    fn counters(&self) -> Counters {
        let answer = self.ask(Call::Counters, |_| {});
        let mut fields = Reader::new(&answer);
        let mut next = || fields.u64("counter").unwrap();
        Counters { messages: next(), bytes_large: next(), waits: next(), rejected: next() }
    }
}

/// Does what it is told until the other process is gone.
fn obey<W: Split>(socket: &Connection) {
    let Some(mut sender) = W::write(socket) else { return };
    while let Ok(packet) = socket.receive() {
        let mut fields = Reader::new(&packet.bytes);
        let call = CALLS[usize::from(fields.u8("call").unwrap())];
        let mut answer = Writer::new();
        // An answer is never empty.
        answer_to::<W>(&mut sender, call, (&mut fields, &packet.descriptors[0]), &mut answer);
        if call == Call::Close {
            drop(sender);
            socket.send(b"closed", &[]).unwrap();
            let _ = socket.receive();
            return;
        }
        answer.u8(0);
        socket.send(&answer.into_bytes(), &[]).unwrap();
    }
}

fn answer_to<W: Split>(
    sender: &mut W::Sender,
    call: Call,
    (fields, file): (&mut Reader<'_>, &OwnedFd),
    answer: &mut Writer,
) {
    match call {
        Call::Flush => return sender.flush(),
        Call::SetSpin => {
            let is_adaptive = fields.u8("spin").unwrap() != 0;
            return sender.set_spin(if is_adaptive { Spin::Adaptive } else { Spin::None });
        }
        Call::Counters => {
            let Counters { messages, bytes_large, waits, rejected } = sender.counters();
            for one in [messages, bytes_large, waits, rejected] {
                answer.u64(one);
            }
            return;
        }
        Call::Lie => return W::hostile()[usize::from(fields.u8("lie").unwrap())].1(sender),
        Call::Close => return,
        Call::Push | Call::Send | Call::SendTimed | Call::SendLarge => {}
    }
    let (priority, flags) = (fields.u8("priority").unwrap(), fields.u8("flags").unwrap());
    let correlation = fields.u32("correlation").unwrap();
    let meta = Meta { priority, flags, correlation, ..Meta::default() };
    let when = match fields.u64("when").unwrap() {
        u64::MAX => WhenFull::Reject,
        left => WhenFull::WaitUntil(Instant::now() + Duration::from_nanos(left)),
    };
    let payload = content_of(file);
    let result = match call {
        Call::Push => sender.push(meta, &payload, when),
        Call::Send => sender.send(meta, &payload, when),
        Call::SendTimed => {
            let (time_ns, deadline_ns) = (fields.u64("time").unwrap(), fields.u64("time").unwrap());
            let trace = u128::from_le_bytes(fields.rest().try_into().unwrap());
            let timing = Timing { time_ns, deadline_ns, trace };
            sender.send_timed(meta, &payload, timing, when)
        }
        _ => {
            let header = fields.rest();
            let header = (header.len() == HEADER_BYTES).then(|| Header::decode(header).unwrap().0);
            let (first, second) = payload.split_at(payload.len() / 2);
            let parts = [first, second];
            sender.send_large(Large { header: header.as_ref(), meta, parts: &parts }, when)
        }
    };
    write_result(answer, result);
}

fn content_of(file: &OwnedFd) -> Vec<u8> {
    let length = rustix::fs::fstat(file).unwrap().st_size as usize;
    let (mut bytes, mut read) = (vec![0; length], 0);
    while read < length {
        read += rustix::io::pread(file, &mut bytes[read..], read as u64).unwrap();
    }
    bytes
}

/// Not a test by itself: the other process of the suite.
#[test]
fn writing_process() {
    let Ok(class) = std::env::var(CLASS_VARIABLE) else { return };
    let socket = Connection::from(copy(io::stdin().as_fd()));
    match Class::from_name(&class).unwrap() {
        Class::Critical => obey::<Critical>(&socket),
        Class::High => obey::<High>(&socket),
        _ => obey::<Normal>(&socket),
    }
}

impl Split for Critical {
    fn read(socket: &Connection, spin: Spin) -> Option<(lane::Receiver, Self::Beside)> {
        let (control, doorbell) = (ControlWriter::create().unwrap(), Doorbell::new().unwrap());
        let cursor = lane::Receiver::new_cursor(spin).unwrap();
        let [slots, region] = descriptors(socket);
        let (bell, ear) = doorbell.ringer_for_peer().unwrap();
        ear.keep();
        socket.send(b"reader", &[cursor.as_fd(), bell.as_fd(), control.as_fd()]).unwrap();
        socket.receive().unwrap();
        let page = copy(control.as_fd());
        let mut receiver = lane::Receiver::for_link(WRITER, slots, region, page, cursor).unwrap();
        ReceivingHalf::set_spin(&mut receiver, spin);
        Some((receiver, (control, doorbell)))
    }

    fn write(socket: &Connection) -> Option<lane::Sender> {
        let mut sender = lane::Sender::for_link(OPTIONS).unwrap();
        socket.send(b"writer", &[sender.slots_fd(), sender.region_fd()]).unwrap();
        let [cursor, bell, page] = descriptors(socket);
        sender.set_control(page).unwrap();
        sender.attach(READER, cursor, Some(bell)).unwrap();
        socket.send(b"attached", &[]).unwrap();
        Some(sender)
    }

    fn tell(beside: &Self::Beside, how: How) {
        beside.0.set(state(how));
    }
}

impl Split for High {
    fn read(socket: &Connection, spin: Spin) -> Option<(high::Receiver, ControlWriter)> {
        if let Err(why) = high::available() {
            println!("class high is not tested here: {why}");
            return None;
        }
        let control = ControlWriter::create().unwrap();
        let mailbox = high::Mailbox::new().unwrap();
        let own = rustix::process::getpid();
        let own = rustix::process::pidfd_open(own, PidfdFlags::empty()).unwrap();
        let [slots, region] = descriptors(socket);
        let given = [mailbox.cursor_fd(), control.as_fd(), own.as_fd()];
        socket.send(&mailbox.number().0.to_le_bytes(), &given).unwrap();
        let verdict = socket.receive().unwrap().bytes;
        if verdict != b"attached" {
            println!("class high is not tested here: {}", String::from_utf8_lossy(&verdict));
            return None;
        }
        let page = copy(control.as_fd());
        let mut receiver = high::Receiver::new(WRITER, slots, region, page, mailbox).unwrap();
        receiver.set_spin(spin);
        Some((receiver, control))
    }

    fn write(socket: &Connection) -> Option<high::Sender> {
        let mut lane = lane::Sender::for_link(OPTIONS).unwrap();
        socket.send(b"writer", &[lane.slots_fd(), lane.region_fd()]).unwrap();
        let reader = socket.receive().unwrap();
        let number = RingNumber(u32::from_le_bytes(reader.bytes.try_into().unwrap()));
        let [cursor, page, process]: [OwnedFd; 3] = reader.descriptors.try_into().unwrap();
        lane.set_control(page).unwrap();
        match high::Sender::new(lane, READER, cursor, process.as_fd(), number) {
            Ok(sender) => {
                socket.send(b"attached", &[]).unwrap();
                Some(sender)
            }
            Err(error) => {
                socket.send(error.to_string().as_bytes(), &[]).unwrap();
                None
            }
        }
    }

    fn tell(control: &ControlWriter, how: How) {
        control.set(state(how));
    }
}

impl Split for Normal {
    fn read(socket: &Connection, spin: Spin) -> Option<(normal::Receiver, ())> {
        let (ours, theirs) = normal::pair().unwrap();
        socket.send(b"socket", &[theirs.as_fd()]).unwrap();
        socket.receive().unwrap();
        let mut receiver = normal::Receiver::new(WRITER, ours).unwrap();
        receiver.set_spin(spin);
        Some((receiver, ()))
    }

    fn write(socket: &Connection) -> Option<normal::Sender> {
        let [ours] = descriptors(socket);
        let sender = normal::Sender::new(ours).unwrap();
        socket.send(b"attached", &[]).unwrap();
        Some(sender)
    }

    fn tell(_: &(), _: How) {}
}
