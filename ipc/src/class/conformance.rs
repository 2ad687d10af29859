//! What every class promises, as tests that are generic over the class.
//!
//! A class joins by implementing [`Way`] and one line of `conformance!`, here or, where it needs more than this crate has, in
//! the tests of a part that has it. Promises that only one mechanism has (a lane's cursor, a socket's packets) are tested
//! beside it. Nothing here sleeps for order: threads meet in messages, and a deadline only ends a test that hangs.
#![allow(missing_docs, reason = "each promise is named as it is")]
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "tests, in whatever part they run"
)]

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Class, ReceivingHalf, SendingHalf, TRANSPORT_FLAGS};
use crate::header::{AgentId, Header, Kind};
use crate::lane::{Ended, Large, ReceiveError, SendError, WhenFull};
use crate::limits::{INLINE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::ring::{FLAG_CANCEL, FLAG_ERROR, FLAG_MORE, Meta, Timing};
use crate::wait::Spin;

#[cfg(test)]
mod apart;
#[cfg(test)]
mod ways;

#[cfg(test)]
use apart::Apart;
#[cfg(test)]
use ways::{Critical, High, Normal};

#[cfg(test)]
type CriticalApart = Apart<Critical>;
#[cfg(test)]
type HighApart = Apart<High>;
#[cfg(test)]
type NormalApart = Apart<Normal>;

/// Who writes, as its receiver is told.
pub const WRITER: AgentId = AgentId(7);
/// Who reads.
pub const READER: AgentId = AgentId(9);

/// How one half goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Closes,
    Dies,
}

/// A class under test.
pub trait Way: Sized {
    const CLASS: Class;
    type Sender: SendingHalf + Send;
    type Receiver: ReceivingHalf + Send;
    /// What is neither half: the router's page, a doorbell.
    type Beside: Send + Sync;

    /// Two connected halves. Nothing where this machine lacks the mechanism, which is printed.
    fn make(spin: Spin) -> Option<Pair<Self>>;

    /// The writer goes, as its process would; the rest of its promises is the kernel's and the router's.
    fn end_writer(beside: &Self::Beside, sender: Self::Sender, how: How);

    /// The reader goes.
    fn end_reader(beside: &Self::Beside, receiver: Self::Receiver, how: How);

    /// What an event loop waits for.
    fn wake_fd<'a>(beside: &'a Self::Beside, receiver: &'a Self::Receiver) -> BorrowedFd<'a>;

    /// What an event loop does when it woke, beside [`ReceivingHalf::disarm`].
    fn woken(_beside: &Self::Beside) {}

    /// Returns when the next thing that was sent has arrived, where that takes its time: a third party is on the way.
    fn settle(_receiver: &mut Self::Receiver) {}

    /// Each way in which a writer may break the protocol, by name.
    fn hostile() -> Vec<(&'static str, Break<Self>)>;
}

pub type Break<W> = fn(&mut <W as Way>::Sender);

pub struct Pair<W: Way> {
    pub sender: W::Sender,
    pub receiver: W::Receiver,
    pub beside: W::Beside,
}

/// Ends a test that hangs.
fn late() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

fn soon() -> WhenFull {
    WhenFull::WaitUntil(Instant::now() + Duration::from_secs(60))
}

fn meta(correlation: u32) -> Meta {
    Meta { priority: 1 + (correlation % 10) as u8, correlation, ..Meta::default() }
}

/// Bytes that differ from place to place and from message to message.
fn content(number: u32, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(31).wrapping_add(number) as u8).collect()
}

fn receive_number<W: Way>(receiver: &mut W::Receiver) -> u32 {
    let message = receiver.receive(late()).unwrap();
    let number = message.meta.correlation;
    assert_eq!(message.payload, number.to_le_bytes());
    assert_eq!(message.meta.priority, meta(number).priority);
    number
}

fn send_number<W: Way>(
    sender: &mut W::Sender,
    number: u32,
    when: WhenFull,
) -> Result<(), SendError> {
    sender.send(meta(number), &number.to_le_bytes(), when)
}

fn is_readable(fd: BorrowedFd<'_>, seconds: i64) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap() == 1
}

pub fn messages_keep_their_order<W: Way>() {
    for spin in [Spin::None, Spin::Adaptive] {
        let Some(Pair { mut sender, mut receiver, beside }) = W::make(spin) else { return };
        const COUNT: u32 = 5_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..COUNT {
                    sender.push(meta(number), &number.to_le_bytes(), soon()).unwrap();
                    if number % 3 == 0 || number == COUNT - 1 {
                        sender.flush();
                    }
                }
            });
            for number in 0..COUNT {
                assert_eq!(receive_number::<W>(&mut receiver), number);
            }
        });
        assert!(receiver.try_receive().unwrap().is_none());
        assert_eq!((sender.class(), receiver.class()), (W::CLASS, W::CLASS));
        assert_eq!((sender.counters().messages, sender.counters().rejected), (u64::from(COUNT), 0));
        assert_eq!(receiver.counters().messages, u64::from(COUNT));
        drop(beside);
    }
}

pub fn every_size_arrives<W: Way>() {
    for spin in [Spin::None, Spin::Adaptive] {
        let Some(Pair { mut sender, mut receiver, beside }) = W::make(spin) else { return };
        let near = |size: usize| [size - 1, size, size + 1];
        let mut sizes: Vec<usize> = vec![0, 1, 7, 8, 9];
        sizes.extend(
            [INLINE_BYTES_MAX, 96, 144, 4_096, 16_384, 32_672, 32_768, 65_536]
                .map(near)
                .as_flattened(),
        );
        sizes.extend([1_000_000, MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX]);
        let sizes = &sizes;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (number, size) in (0..).zip(sizes) {
                    let payload = content(number, *size);
                    sender.send(meta(number), &payload, soon()).unwrap();
                    let header = Header::new(Kind::Learn);
                    let (first, second) = payload.split_at(size / 3);
                    let parts = [first, &[], second];
                    let large = Large { header: Some(&header), meta: meta(number), parts: &parts };
                    sender.send_large(large, soon()).unwrap();
                }
            });
            for (number, size) in (0..).zip(sizes) {
                for has_header in [false, true] {
                    let message = receiver.receive(late()).unwrap();
                    assert_eq!(message.meta.correlation, number);
                    assert!(message.payload == content(number, *size), "{size} bytes");
                    let header =
                        has_header.then(|| Header { source: WRITER, ..Header::new(Kind::Learn) });
                    assert_eq!(message.header, header.as_ref());
                }
            }
        });
        drop(beside);
    }
}

pub fn too_long_messages_are_refused<W: Way>() {
    let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
    let payload = vec![0; MESSAGE_BYTES_MAX + 1];
    let result = sender.send(meta(0), &payload, soon());
    assert_eq!(result, Err(SendError::TooLong { got: payload.len(), max: MESSAGE_BYTES_MAX }));
    let (timing, long) = (Timing::default(), [0; INLINE_BYTES_MAX + 1]);
    let refused = Err(SendError::TooLong { got: long.len(), max: INLINE_BYTES_MAX });
    assert_eq!(sender.send_timed(meta(0), &long, timing, soon()), refused);
    assert_eq!(sender.send_timed_now(meta(0), &long, timing, soon()), refused);
    assert_eq!(sender.push(meta(0), &long, soon()), refused);
    send_number::<W>(&mut sender, 5, soon()).unwrap();
    assert_eq!(receive_number::<W>(&mut receiver), 5);
    drop(beside);
}

pub fn everything_beside_the_payload_is_carried<W: Way>() {
    let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
    assert_eq!(receiver.source(), WRITER);
    for flags in [0, FLAG_MORE, FLAG_ERROR, FLAG_CANCEL, FLAG_MORE | FLAG_ERROR] {
        for correlation in [0, 1, 99, u32::MAX] {
            let meta = Meta { flags, ..meta(correlation) };
            let timing = Timing { time_ns: 1, deadline_ns: u64::MAX, trace: u128::MAX - 5 };
            let mut header = Header::new(Kind::Task);
            (header.id, header.trace, header.source) = (u64::MAX, 1 << 100, AgentId(55));
            sender.send(meta, b"plain", WhenFull::Reject).unwrap();
            sender.send_timed(meta, b"timed", timing, WhenFull::Reject).unwrap();
            let large = Large { header: Some(&header), meta, parts: &[b"with ", b"header"] };
            sender.send_large(large, WhenFull::Reject).unwrap();
            header.source = WRITER;
            let expected = [
                (&b"plain"[..], None, None),
                (b"timed", Some(&timing), None),
                (b"with header", None, Some(&header)),
            ];
            for (payload, timing, header) in expected {
                let message = receiver.receive(late()).unwrap();
                assert_eq!(
                    (message.payload, message.timing, message.header),
                    (payload, timing, header)
                );
                assert_eq!(message.meta.flags & !TRANSPORT_FLAGS, flags);
                let got = (message.meta.priority, message.meta.correlation);
                assert_eq!(got, (meta.priority, correlation));
            }
        }
    }
    drop(beside);
}

/// More small messages than any way holds.
const MANY: u32 = 1_000_000;

/// Sends numbers from 0 until the way is full; how many went.
fn fill<W: Way>(sender: &mut W::Sender) -> u32 {
    for number in 0..MANY {
        match send_number::<W>(sender, number, WhenFull::Reject) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, SendError::Full);
                return number;
            }
        }
    }
    panic!("never full");
}

pub fn message_of_now_has_the_moment_of_sending<W: Way>() {
    let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
    let timing = Timing { time_ns: 0, deadline_ns: u64::MAX, trace: 5 };
    let before_ns = crate::histogram::since_ns(0);
    sender.send_timed_now(meta(1), b"now", timing, soon()).unwrap();
    let message = receiver.receive(late()).unwrap();
    let got = *message.timing.unwrap();
    assert_eq!((message.payload, got.deadline_ns, got.trace), (&b"now"[..], u64::MAX, 5));
    assert!(got.time_ns.abs_diff(before_ns) < 60_000_000_000, "{} is not now", got.time_ns);
    drop(beside);
}

pub fn full_way_rejects_and_goes_on_when_read<W: Way>() {
    let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
    let count = fill::<W>(&mut sender);
    assert!(count > 0);
    let already_over = WhenFull::WaitUntil(Instant::now());
    assert_eq!(send_number::<W>(&mut sender, count, already_over), Err(SendError::Full));
    assert_eq!(sender.counters().rejected, 2);
    for number in 0..count {
        assert_eq!(receive_number::<W>(&mut receiver), number);
    }
    assert_eq!(receiver.try_receive(), Ok(None));
    send_number::<W>(&mut sender, 77, soon()).unwrap();
    assert_eq!(receive_number::<W>(&mut receiver), 77);
    drop(beside);
}

pub fn waiting_writer_is_let_in_by_the_reader<W: Way>() {
    for spin in [Spin::None, Spin::Adaptive] {
        let Some(Pair { mut sender, mut receiver, beside }) = W::make(spin) else { return };
        sender.set_spin(spin);
        let count = fill::<W>(&mut sender);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in count..3 * count {
                    send_number::<W>(&mut sender, number, soon()).unwrap();
                }
            });
            for number in 0..3 * count {
                assert_eq!(receive_number::<W>(&mut receiver), number);
            }
        });
        drop(beside);
    }
}

pub fn message_given_up_half_way_is_never_seen<W: Way>() {
    let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
    let payload = vec![1; MESSAGE_BYTES_MAX];
    for _ in 0..2 {
        let until = WhenFull::WaitUntil(Instant::now() + Duration::from_millis(5));
        assert_eq!(sender.send(meta(1), &payload, until), Err(SendError::Full));
    }
    assert_eq!(sender.send(meta(1), &payload, WhenFull::Reject), Err(SendError::Full));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 2..5 {
                send_number::<W>(&mut sender, number, soon()).unwrap();
            }
        });
        for number in 2..5 {
            assert_eq!(receive_number::<W>(&mut receiver), number);
        }
    });
    drop(beside);
}

pub fn large_and_small_messages_mix<W: Way>() {
    let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::Adaptive) else { return };
    /// A size and a way to send, without any pattern that a piece or a lap could hide behind.
    fn shape(number: u32) -> (usize, u32) {
        let mixed = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let sizes = [8, 48, 49, 300, 5_000, 40_000, 200_000];
        (mixed as usize % sizes[mixed as usize % 7], (mixed >> 20) as u32 % 3)
    }
    const COUNT: u32 = 600;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                let (size, way) = shape(number);
                let (payload, header) = (content(number, size), Header::new(Kind::Event));
                let sent = match way {
                    0 if size <= INLINE_BYTES_MAX => {
                        sender.send_timed(meta(number), &payload, Timing::default(), soon())
                    }
                    1 => {
                        let meta = meta(number);
                        let large = Large { header: Some(&header), meta, parts: &[&payload] };
                        sender.send_large(large, soon())
                    }
                    _ => sender.send(meta(number), &payload, soon()),
                };
                sent.unwrap();
            }
        });
        for number in 0..COUNT {
            let (size, way) = shape(number);
            let message = receiver.receive(late()).unwrap();
            assert_eq!(message.meta.correlation, number);
            assert!(message.payload == content(number, size), "{size} bytes");
            assert_eq!(message.header.is_some(), way == 1);
            assert_eq!(message.timing.is_some(), way == 0 && size <= INLINE_BYTES_MAX);
        }
    });
    drop(beside);
}

pub fn end_of_the_writer_is_told_after_what_it_sent<W: Way>() {
    for (how, expected) in [(How::Closes, Ended::Closed), (How::Dies, Ended::PeerGone)] {
        let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
        for number in 0..3 {
            send_number::<W>(&mut sender, number, soon()).unwrap();
        }
        // Announced to nobody.
        sender.push(meta(3), &3u32.to_le_bytes(), soon()).unwrap();
        W::end_writer(&beside, sender, how);
        for number in 0..4 {
            W::settle(&mut receiver);
            let message = receiver.try_receive().unwrap().unwrap();
            assert_eq!(message.meta.correlation, number);
        }
        W::settle(&mut receiver);
        for _ in 0..2 {
            assert_eq!(receiver.try_receive(), Err(ReceiveError::Ended(expected)));
            assert_eq!(receiver.receive(None), Err(ReceiveError::Ended(expected)));
        }
    }
}

pub fn end_of_the_writer_wakes_a_reader_that_sleeps<W: Way>() {
    for (how, expected) in [(How::Closes, Ended::Closed), (How::Dies, Ended::PeerGone)] {
        let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
        send_number::<W>(&mut sender, 0, soon()).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                assert_eq!(receive_number::<W>(&mut receiver), 0);
                assert_eq!(receiver.receive(None), Err(ReceiveError::Ended(expected)));
            });
            W::end_writer(&beside, sender, how);
            reader.join().unwrap();
        });
    }
}

pub fn end_of_the_reader_is_told_to_the_writer<W: Way>() {
    for how in [How::Closes, How::Dies] {
        for spin in [Spin::None, Spin::Adaptive] {
            let Some(Pair { mut sender, receiver, beside }) = W::make(spin) else { return };
            sender.set_spin(spin);
            fill::<W>(&mut sender);
            std::thread::scope(|scope| {
                // Some of them wait in the call, some come too late to wait; all hear the same.
                let writer = scope.spawn(|| {
                    for _ in 0..2 {
                        let result = send_number::<W>(&mut sender, 0, soon());
                        assert!(matches!(result, Err(SendError::Ended(_))), "{result:?}");
                        let payload = vec![0; MESSAGE_BYTES_MAX];
                        let result = sender.send(meta(0), &payload, soon());
                        assert!(matches!(result, Err(SendError::Ended(_))), "{result:?}");
                    }
                });
                W::end_reader(&beside, receiver, how);
                writer.join().unwrap();
            });
        }
    }
}

pub fn deadline_ends_a_wait_and_nothing_else<W: Way>() {
    for spin in [Spin::None, Spin::Adaptive, Spin::Forever] {
        let Some(Pair { mut sender, mut receiver, beside }) = W::make(spin) else { return };
        for number in 0..3 {
            let until = Instant::now() + Duration::from_millis(2);
            assert_eq!(receiver.receive(Some(until)), Err(ReceiveError::Deadline));
            assert!(Instant::now() >= until);
            send_number::<W>(&mut sender, number, soon()).unwrap();
            W::settle(&mut receiver);
            // What is there is given, even when no time is left.
            let message = receiver.receive(Some(until)).unwrap();
            assert_eq!(message.meta.correlation, number);
        }
        drop(beside);
    }
}

pub fn event_loop_wakes_for_a_message<W: Way>() {
    let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
    for number in 0..5 {
        // What was announced once may be announced still; a loop that looks in vain arms again.
        let mut looks = 0;
        while !receiver.arm() {
            assert_eq!(receiver.try_receive(), Ok(None));
            looks += 1;
            assert!(looks < 10, "never quiet");
        }
        assert!(!is_readable(W::wake_fd(&beside, &receiver), 0));
        send_number::<W>(&mut sender, number, soon()).unwrap();
        assert!(is_readable(W::wake_fd(&beside, &receiver), 60));
        receiver.disarm();
        W::woken(&beside);
        assert_eq!(receive_number::<W>(&mut receiver), number);
        assert_eq!(receiver.try_receive(), Ok(None));
    }
    send_number::<W>(&mut sender, 9, soon()).unwrap();
    W::settle(&mut receiver);
    assert!(!receiver.arm(), "something is there");
    assert_eq!(receive_number::<W>(&mut receiver), 9);
}

pub fn writer_that_breaks_the_protocol_is_quarantined<W: Way>() {
    for (name, break_it) in W::hostile() {
        let Some(Pair { mut sender, mut receiver, beside }) = W::make(Spin::None) else { return };
        send_number::<W>(&mut sender, 1, soon()).unwrap();
        assert_eq!(receive_number::<W>(&mut receiver), 1);
        break_it(&mut sender);
        let first = receiver.receive(late());
        let Err(ReceiveError::Quarantined(violation)) = first else { panic!("{name}: {first:?}") };
        // For good, whatever comes later.
        let _ = send_number::<W>(&mut sender, 2, WhenFull::Reject);
        for _ in 0..2 {
            let again = Err(ReceiveError::Quarantined(violation));
            assert_eq!(receiver.try_receive(), again, "{name}");
            assert_eq!(receiver.receive(None).map(drop), again.map(drop), "{name}");
        }
        drop(beside);
    }
}

/// The suite for one class, as a module of tests. `every`: what all classes promise. `ending`: what those promise beside it
/// whose ways end with their reader.
#[macro_export]
#[doc(hidden)]
macro_rules! conformance {
    (@ $module:ident, $way:ident: $($promise:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $promise() {
                    // On a thread of its own, because a way may pin the one that makes it.
                    let promise = $crate::class::conformance::$promise::<super::$way>;
                    if let Err(panic) = std::thread::spawn(promise).join() {
                        std::panic::resume_unwind(panic);
                    }
                }
            )*
        }
    };
    (every $module:ident: $way:ident) => {
        $crate::conformance! { @ $module, $way:
            messages_keep_their_order
            every_size_arrives
            too_long_messages_are_refused
            everything_beside_the_payload_is_carried
            message_of_now_has_the_moment_of_sending
            full_way_rejects_and_goes_on_when_read
            waiting_writer_is_let_in_by_the_reader
            message_given_up_half_way_is_never_seen
            large_and_small_messages_mix
            end_of_the_writer_is_told_after_what_it_sent
            end_of_the_writer_wakes_a_reader_that_sleeps
            deadline_ends_a_wait_and_nothing_else
            event_loop_wakes_for_a_message
            writer_that_breaks_the_protocol_is_quarantined
        }
    };
    (ending $module:ident: $way:ident) => {
        $crate::conformance! { @ $module, $way: end_of_the_reader_is_told_to_the_writer }
    };
}

#[cfg(test)]
conformance! { every critical: Critical }
#[cfg(test)]
conformance! { ending critical_ends: Critical }
#[cfg(test)]
conformance! { every high: High }
#[cfg(test)]
conformance! { ending high_ends: High }
#[cfg(test)]
conformance! { every normal: Normal }
#[cfg(test)]
conformance! { ending normal_ends: Normal }
#[cfg(test)]
conformance! { every critical_apart: CriticalApart }
#[cfg(test)]
conformance! { ending critical_ends_apart: CriticalApart }
#[cfg(test)]
conformance! { every high_apart: HighApart }
#[cfg(test)]
conformance! { ending high_ends_apart: HighApart }
#[cfg(test)]
conformance! { every normal_apart: NormalApart }
#[cfg(test)]
conformance! { ending normal_ends_apart: NormalApart }
