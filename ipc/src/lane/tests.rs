//! Lanes between two ends in one process: every segment is still made, sealed, checked and mapped twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::control::TopicPolicy;
use crate::doorbell::Doorbell;
use crate::header::{AgentId, Kind};
use crate::limits::{INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, SLOTS_MIN};
use crate::ring::{FLAG_CHUNK, FLAG_ERROR, FLAG_REGION};
use crate::segment::ControlWriter;
use crate::wait::Spin;

mod fanout;
mod fuzz;
mod hostile;
mod order;

const WRITER: AgentId = AgentId(7);
const READER: AgentId = AgentId(9);

fn copy(fd: BorrowedFd<'_>) -> OwnedFd {
    fd.try_clone_to_owned().unwrap()
}

fn options(slots: usize, region_bytes: usize) -> LaneOptions {
    LaneOptions { slots, region_bytes }
}

fn soon() -> WhenFull {
    WhenFull::WaitUntil(Instant::now() + Duration::from_secs(20))
}

fn link(options: LaneOptions, spin: Spin) -> (Sender, Receiver, ControlWriter) {
    let control = ControlWriter::create().unwrap();
    let mut sender = Sender::for_link(options).unwrap();
    sender.set_control(copy(control.as_fd())).unwrap();
    let cursor = Receiver::new_cursor(spin).unwrap();
    sender.attach(READER, copy(cursor.as_fd()), None).unwrap();
    let receiver = Receiver::for_link(
        WRITER,
        copy(sender.slots_fd()),
        copy(sender.region_fd()),
        copy(control.as_fd()),
        cursor,
    );
    (sender, receiver.unwrap(), control)
}

fn small() -> (Sender, Receiver, ControlWriter) {
    link(options(SLOTS_MIN, 4096), Spin::Adaptive)
}

fn topic(policy: TopicPolicy) -> Sender {
    Sender::for_topic(options(SLOTS_MIN, 4096), policy).unwrap()
}

fn join(sender: &mut Sender, reader: AgentId) -> Receiver {
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let start = Start::History;
    let receiver = Receiver::for_topic(WRITER, slots, region, None, start, Spin::Adaptive).unwrap();
    sender.attach(reader, copy(receiver.cursor_fd()), None).unwrap();
    receiver
}

fn meta(correlation: u32) -> Meta {
    Meta { priority: 3, correlation, ..Meta::default() }
}

fn send(sender: &mut Sender, number: u32) -> Result<(), SendError> {
    sender.send(meta(number), &number.to_le_bytes(), WhenFull::Reject)
}

fn take(receiver: &mut Receiver) -> Option<u32> {
    receiver.try_receive().unwrap().map(|message| {
        let number = u32::from_le_bytes(message.payload.try_into().unwrap());
        assert_eq!(message.meta.correlation, number);
        number
    })
}

#[test]
fn inline_message_arrives_with_its_first_word() {
    let (mut sender, mut receiver, _control) = small();
    assert_eq!(receiver.try_receive(), Ok(None));
    let payload = [0xA5; INLINE_BYTES_MAX];
    sender.send(Meta { flags: FLAG_ERROR, ..meta(77) }, &payload, WhenFull::Reject).unwrap();
    let message = receiver.try_receive().unwrap().unwrap();
    assert_eq!(message.payload, payload);
    assert_eq!(message.meta, Meta { length: 48, priority: 3, flags: FLAG_ERROR, correlation: 77 });
    assert_eq!((message.timing, message.header), (None, None));
    assert_eq!(receiver.try_receive(), Ok(None));
}

#[test]
fn timed_message_arrives_with_its_second_line() {
    let (mut sender, mut receiver, _control) = small();
    let timing = Timing { time_ns: 1, deadline_ns: u64::MAX, trace: u128::MAX - 5 };
    for lap in 0..20u32 {
        sender.send_timed(meta(lap), b"timed", timing, WhenFull::Reject).unwrap();
        let message = receiver.try_receive().unwrap().unwrap();
        assert_eq!((message.payload, message.timing), (&b"timed"[..], Some(&timing)));
        assert_eq!(message.meta.correlation, lap);
    }
}

#[test]
fn message_of_now_has_the_moment_when_there_was_room() {
    let (mut sender, mut receiver, _control) = small();
    let timing = Timing { time_ns: 7, deadline_ns: u64::MAX, trace: 5 };
    let before_ns = crate::histogram::since_ns(0);
    for lap in 0..20u32 {
        sender.send_timed_now(meta(lap), b"now", timing, WhenFull::Reject).unwrap();
        let message = receiver.try_receive().unwrap().unwrap();
        let got = *message.timing.unwrap();
        assert_eq!((message.payload, message.meta.correlation), (&b"now"[..], lap));
        assert_eq!((got.deadline_ns, got.trace), (u64::MAX, 5));
        let passed_ns = got.time_ns.abs_diff(before_ns);
        assert!(passed_ns < 60_000_000_000, "{} is not now", got.time_ns);
    }
    let long = [0; INLINE_BYTES_MAX + 1];
    let refused = Err(SendError::TooLong { got: long.len(), max: INLINE_BYTES_MAX });
    assert_eq!(sender.send_timed_now(meta(0), &long, timing, WhenFull::Reject), refused);
    assert_eq!(receiver.memory().counters().latency.count(), 20, "each was counted");
}

/// Lines alone and in twos by turns, so that what a reader expects is wrong each time, read by a reader that finds nothing before.
#[test]
fn reader_that_expects_two_lines_takes_what_there_is() {
    let (mut sender, mut receiver, _control) = small();
    for number in 0..60u32 {
        assert_eq!(receiver.try_receive(), Ok(None));
        let timing = Timing { trace: number.into(), ..Timing::default() };
        let two = number % 3 != 0;
        match two {
            true => sender.send_timed(meta(number), b"two", timing, WhenFull::Reject).unwrap(),
            false => send(&mut sender, number).unwrap(),
        }
        let message = receiver.try_receive().unwrap().unwrap();
        assert_eq!(message.meta.correlation, number);
        assert_eq!(message.timing.map(|timing| timing.trace), two.then_some(number.into()));
    }
}

#[test]
fn only_messages_that_say_when_they_were_sent_are_timed() {
    let (mut sender, mut receiver, _control) = small();
    let timed = |receiver: &Receiver| receiver.memory().counters().latency;
    send(&mut sender, 1).unwrap();
    assert_eq!(take(&mut receiver), Some(1));
    let untimed = Timing { time_ns: 0, deadline_ns: 0, trace: 1 };
    sender.send_timed(meta(2), b"", untimed, WhenFull::Reject).unwrap();
    receiver.try_receive().unwrap().unwrap();
    assert_eq!(timed(&receiver).count(), 0);

    // A minute ago, so that the bucket is known.
    let sent_ns = crate::histogram::since_ns(0) - 60_000_000_000;
    let timing = Timing { time_ns: sent_ns, deadline_ns: 0, trace: 1 };
    sender.send_timed(meta(3), b"", timing, WhenFull::Reject).unwrap();
    receiver.try_receive().unwrap().unwrap();
    let mut header = Header::new(Kind::Event);
    header.time_ns = sent_ns;
    let message = Large { header: Some(&header), meta: meta(4), parts: &[b"large"] };
    sender.send_large(message, WhenFull::Reject).unwrap();
    receiver.try_receive().unwrap().unwrap();
    let latency = timed(&receiver);
    let last = crate::histogram::BUCKETS - 1;
    assert_eq!((latency.count(), latency.counts()[last]), (2, 2));
    assert!(latency.sum_ns() >= 120_000_000_000);
    assert_eq!(receiver.counters().position, 6, "two messages of two lines and two of one");
}

#[test]
fn full_lane_rejects_and_goes_on_when_read() {
    let (mut sender, mut receiver, _control) = small();
    for number in 0..SLOTS_MIN as u32 {
        send(&mut sender, number).unwrap();
    }
    assert_eq!(send(&mut sender, 99), Err(SendError::Full));
    for number in 0..SLOTS_MIN as u32 {
        assert_eq!(take(&mut receiver), Some(number));
    }
    assert_eq!(take(&mut receiver), None);
    assert_eq!(sender.taken(), Ok(sender.sent()));
    send(&mut sender, 100).unwrap();
    assert_eq!(take(&mut receiver), Some(100));
    let counters = receiver.counters();
    assert_eq!((counters.messages, counters.rejected), (SLOTS_MIN as u64 + 1, 1));
}

#[test]
fn too_long_payloads_are_refused() {
    let (mut sender, _receiver, _control) = small();
    let inline = sender.send(meta(0), &[0; 49], WhenFull::Reject);
    assert_eq!(inline, Err(SendError::TooLong { got: 49, max: 48 }));
    let payload = vec![0; MESSAGE_BYTES_MAX + 1];
    let large = Large { header: None, meta: meta(0), parts: &[&payload] };
    let result = sender.send_large(large, WhenFull::Reject);
    assert!(matches!(result, Err(SendError::TooLong { .. })));
}

#[test]
fn lane_without_its_reader_is_full() {
    let mut sender = Sender::for_link(options(SLOTS_MIN, 4096)).unwrap();
    assert_eq!(send(&mut sender, 1), Err(SendError::Full));
    assert_eq!(sender.send(meta(1), b"", soon()), Err(SendError::Full));
}

#[test]
fn large_message_arrives_with_its_header_and_the_true_source() {
    let (mut sender, mut receiver, _control) = small();
    let mut header = Header::new(Kind::Query);
    (header.id, header.source, header.trace) = (5, AgentId(666), 1 << 100);
    let parts: [&[u8]; 4] = [b"one", b"", b"two", &[7; 100]];
    for lap in 0..100 {
        let message = Large { header: Some(&header), meta: meta(lap), parts: &parts };
        sender.send_large(message, WhenFull::Reject).unwrap();
        let received = receiver.try_receive().unwrap().unwrap();
        assert_eq!(received.payload, parts.concat());
        assert_eq!(received.header, Some(&Header { source: WRITER, ..header }));
        assert_eq!(received.meta.correlation, lap);
        assert!(!received.meta.has(FLAG_CHUNK));
    }
}

#[test]
fn message_larger_than_the_region_travels_in_chunks() {
    let (mut sender, mut receiver, _control) = small();
    let payload: Vec<u8> = (0..1_000_003u32).map(|index| (index * 7) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let header = Header::new(Kind::Result);
            for correlation in 0..3 {
                let (meta, parts) = (meta(correlation), [&payload[..10], &payload[10..]]);
                let message = Large { header: Some(&header), meta, parts: &parts };
                sender.send_large(message, soon()).unwrap();
                sender.send(meta, b"between", soon()).unwrap();
            }
        });
        for _ in 0..3 {
            assert!(receiver.receive(None).unwrap().payload == payload);
            assert_eq!(receiver.receive(None).unwrap().payload, b"between");
        }
    });
}

#[test]
fn message_that_was_given_up_between_chunks_leaves_no_trace() {
    let (mut sender, mut receiver, _control) = small();
    let payload = vec![1; 10_000];
    let large = |parts| Large { header: None, meta: meta(1), parts };
    let (given_up, whole): ([&[u8]; 1], [&[u8]; 1]) = ([&payload], [b"whole"]);
    let result = sender.send_large(large(&given_up), WhenFull::Reject);
    assert_eq!(result, Err(SendError::Full));
    assert_eq!(receiver.try_receive(), Ok(None), "chunks without an end");
    sender.send_large(large(&whole), WhenFull::Reject).unwrap();
    let deadline = Some(Instant::now() + Duration::from_secs(20));
    assert_eq!(receiver.receive(deadline).unwrap().payload, b"whole");
}

#[test]
fn abort_stays_due_when_the_next_message_fails_as_well() {
    let (mut sender, mut receiver, _control) = small();
    let payload = vec![1; 10_000];
    for correlation in 1..3 {
        let message = Large { header: None, meta: meta(correlation), parts: &[&payload] };
        assert_eq!(sender.send_large(message, WhenFull::Reject), Err(SendError::Full));
    }
    assert_eq!(receiver.try_receive(), Ok(None), "chunks without an end");
    let whole = Large { header: None, meta: meta(3), parts: &[b"whole"] };
    sender.send_large(whole, WhenFull::Reject).unwrap();
    let deadline = Some(Instant::now() + Duration::from_secs(20));
    assert_eq!(receiver.receive(deadline).unwrap().payload, b"whole");
}

#[test]
fn reader_that_joins_between_chunks_loses_one_message_and_goes_on() {
    let mut sender = topic(TopicPolicy::Lossless);
    let mut first = join(&mut sender, AgentId(1));
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let payload = vec![1; 5_000];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let message = Large { header: None, meta: meta(1), parts: &[&payload] };
            sender.send_large(message, soon()).unwrap();
            sender.send(meta(2), b"next", soon()).unwrap();
        });
        while !first.has_message() {
            std::thread::yield_now();
        }
        // The region holds two of the three chunks, so the writer waits for the first reader.
        // It begins with the message that is on its way, and its first chunk is gone before it reads.
        let late = Receiver::for_topic(WRITER, slots, region, None, Start::Live, Spin::Adaptive);
        let mut late = late.unwrap();
        assert_eq!(first.receive(None).unwrap().payload, payload);
        writer.join().unwrap();
        assert_eq!(late.receive(None), Err(ReceiveError::Lost(3)), "lines");
        assert_eq!(late.receive(None).unwrap().payload, b"next");
    });
}

#[test]
fn sleeping_sides_wake_each_other() {
    let (mut sender, mut receiver, _control) = small();
    sender.set_spin(Spin::None);
    receiver.set_spin(Spin::None);
    let count = 20_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                sender.send(meta(number), &number.to_le_bytes(), soon()).unwrap();
            }
        });
        for number in 0..count {
            let message = receiver.receive(None).unwrap();
            assert_eq!(message.payload, number.to_le_bytes());
        }
    });
}

#[test]
fn pushed_messages_wake_a_sleeper_when_flushed() {
    let (mut sender, mut receiver, _control) = link(options(64, 4096), Spin::Adaptive);
    receiver.set_spin(Spin::None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..5_000u32 {
                sender.push(meta(number), &[], soon()).unwrap();
                if number % 7 == 0 {
                    sender.flush();
                }
            }
            sender.flush();
        });
        let mut next = 0;
        while next < 5_000 {
            assert_eq!(receiver.receive(None).unwrap().meta.correlation, next);
            next += 1;
            let taken = receiver.receive_batch(10, |message| {
                assert_eq!(message.meta.correlation, next);
                next += 1;
            });
            taken.unwrap();
        }
    });
}

#[test]
fn waiting_ends_at_the_deadline() {
    let (mut sender, mut receiver, _control) = small();
    let deadline = Instant::now() + Duration::from_millis(2);
    assert_eq!(receiver.receive(Some(deadline)), Err(ReceiveError::Deadline));
    while send(&mut sender, 0).is_ok() {}
    let when = WhenFull::WaitUntil(Instant::now() + Duration::from_millis(2));
    assert_eq!(sender.send(meta(0), b"", when), Err(SendError::Full));
}

#[test]
fn end_of_the_lane_is_told_after_the_last_message() {
    for (state, ended) in [
        (LaneState::PeerGone, Ended::PeerGone),
        (LaneState::Revoked, Ended::Revoked),
        (LaneState::Closed, Ended::Closed),
        (LaneState::Quarantined, Ended::Quarantined),
    ] {
        let (mut sender, mut receiver, control) = small();
        send(&mut sender, 1).unwrap();
        control.set(LaneState::Draining);
        send(&mut sender, 2).unwrap();
        control.set(state);
        assert_eq!(take(&mut receiver), Some(1));
        assert_eq!(take(&mut receiver), Some(2));
        assert_eq!(receiver.try_receive(), Err(ReceiveError::Ended(ended)));
        assert_eq!(receiver.receive(None), Err(ReceiveError::Ended(ended)));
        let rest = (0..SLOTS_MIN as u32 + 1).find_map(|number| send(&mut sender, number).err());
        assert_eq!(rest, Some(SendError::Ended(ended)));
    }
}

#[test]
fn end_of_the_lane_wakes_sleepers() {
    let (mut sender, mut receiver, control) = small();
    while send(&mut sender, 0).is_ok() {}
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| sender.send(meta(0), b"", soon()));
        let (_other, mut empty, other_control) = small();
        let reader = scope.spawn(move || empty.receive(None).map(drop));
        control.set(LaneState::PeerGone);
        other_control.set(LaneState::Revoked);
        assert_eq!(writer.join().unwrap(), Err(SendError::Ended(Ended::PeerGone)));
        assert_eq!(reader.join().unwrap(), Err(ReceiveError::Ended(Ended::Revoked)));
    });
    assert!(receiver.try_receive().is_ok());
}

#[test]
fn doorbell_rings_once_for_an_armed_reader() {
    let control = ControlWriter::create().unwrap();
    let doorbell = Doorbell::new().unwrap();
    let mut sender = Sender::for_link(options(SLOTS_MIN, 4096)).unwrap();
    let cursor = Receiver::new_cursor(Spin::Adaptive).unwrap();
    sender.attach(READER, copy(cursor.as_fd()), Some(copy(doorbell.ringer()))).unwrap();
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let mut receiver =
        Receiver::for_link(WRITER, slots, region, copy(control.as_fd()), cursor).unwrap();

    let rung = || {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut polled = [PollFd::new(&doorbell, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).unwrap() == 1
    };
    send(&mut sender, 0).unwrap();
    assert!(!rung(), "nobody is armed");
    assert!(!receiver.arm(), "something is there");
    assert_eq!(take(&mut receiver), Some(0));
    assert!(receiver.arm());
    assert!(!rung());
    send(&mut sender, 1).unwrap();
    send(&mut sender, 2).unwrap();
    assert!(rung());
    receiver.disarm();
    doorbell.clear();
    assert_eq!((take(&mut receiver), take(&mut receiver)), (Some(1), Some(2)));
    assert!(!rung());
    control.set(LaneState::Closed);
    assert!(!receiver.arm(), "the end is news");
}

#[test]
fn doorbell_rings_once_for_an_armed_writer() {
    let control = ControlWriter::create().unwrap();
    let doorbell = Doorbell::new().unwrap();
    let mut sender = Sender::for_link(options(SLOTS_MIN, 4096)).unwrap();
    sender.set_control(copy(control.as_fd())).unwrap();
    let cursor = Receiver::new_cursor(Spin::Adaptive).unwrap();
    sender.attach(READER, copy(cursor.as_fd()), None).unwrap();
    assert!(sender.is_told_of_room());
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let mut receiver =
        Receiver::for_link(WRITER, slots, region, copy(control.as_fd()), cursor).unwrap();
    receiver.set_bell(crate::doorbell::Bell::from_peer(copy(doorbell.ringer())).unwrap());
    let rung = || {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut polled = [PollFd::new(&doorbell, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).unwrap() == 1
    };
    let mut number = 0;
    while send(&mut sender, number).is_ok() {
        number += 1;
    }
    assert!(sender.arm(), "the reader has taken nothing since it was full");
    assert!(!rung());
    assert_eq!(take(&mut receiver), Some(0));
    receiver.commit();
    assert!(rung());
    doorbell.clear();
    assert_eq!(take(&mut receiver), Some(1));
    receiver.commit();
    assert!(!rung(), "it is awake, or about to be");
    sender.disarm();
    assert!(!sender.arm(), "the reader has moved since the writer last looked");
    assert!(sender.arm(), "and has not since then");
    control.set(LaneState::Closed);
    sender.disarm();
    assert!(!sender.arm(), "the end is news");
}

#[test]
fn lossless_topic_is_held_back_by_its_slowest_reader() {
    let mut sender = topic(TopicPolicy::Lossless);
    for number in 0..100 {
        send(&mut sender, number).unwrap();
    }
    let mut fast = join(&mut sender, AgentId(1));
    let mut slow = join(&mut sender, AgentId(2));
    let mut sent = 100;
    while send(&mut sender, sent).is_ok() {
        sent += 1;
        assert_eq!(take(&mut fast), Some(sent - 1), "joined where the writer was");
    }
    assert_eq!(sent, 100 + SLOTS_MIN as u32);
    for number in 100..sent {
        assert_eq!(take(&mut slow), Some(number));
    }
    assert_eq!(take(&mut slow), None);
    send(&mut sender, sent).unwrap();
    assert_eq!(take(&mut fast), Some(sent));
    drop(slow);
    while send(&mut sender, sent).is_ok() {
        fast.try_receive().unwrap();
    }
    sender.detach(AgentId(2));
    send(&mut sender, sent).unwrap();
    assert_eq!(sender.readers(), 1);
}

#[test]
fn lossy_topic_never_waits_and_its_gaps_are_counted_exactly() {
    let mut sender = topic(TopicPolicy::Lossy);
    let mut receiver = join(&mut sender, READER);
    let (mut received, mut lost) = (0, 0);
    for burst in [3, 8, 9, 20, 1000, 1, 8] {
        for _ in 0..burst {
            send(&mut sender, 5).unwrap();
        }
        loop {
            match receiver.try_receive() {
                Ok(Some(_)) => received += 1,
                Ok(None) => break,
                Err(ReceiveError::Lost(count)) => lost += count,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_eq!(received + lost, 3 + 8 + 9 + 20 + 1000 + 1 + 8);
    assert!(lost >= 1 + 12 + 992, "{lost}");
}

#[test]
fn lossy_topic_under_load_never_gives_a_torn_message() {
    let mut sender = topic(TopicPolicy::Lossy);
    let mut receiver = join(&mut sender, READER);
    let count = 200_000u64;
    let (mut received, mut lost) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                let payload: Vec<u8> = [number; 6].iter().flat_map(|n| n.to_le_bytes()).collect();
                sender.send(Meta::default(), &payload, WhenFull::Reject).unwrap();
            }
        });
        let mut next = 0;
        while received + lost < count {
            match receiver.receive(Some(Instant::now() + Duration::from_secs(20))) {
                Ok(message) => {
                    let (words, _) = message.payload.as_chunks::<8>();
                    let first = u64::from_le_bytes(words[0]);
                    assert!(words.iter().all(|word| u64::from_le_bytes(*word) == first), "torn");
                    assert_eq!(first, next, "in order, gaps exact");
                    (received, next) = (received + 1, next + 1);
                }
                Err(ReceiveError::Lost(count)) => (lost, next) = (lost + count, next + count),
                Err(other) => panic!("{other}"),
            }
        }
    });
    assert_eq!(received + lost, count);
}

#[test]
fn lossy_lent_payloads_are_whole_or_lost() {
    let mut sender = topic(TopicPolicy::Lossy);
    let mut receiver = join(&mut sender, READER);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..20_000u32 {
                let payload = vec![number as u8; 1 + (number as usize * 37) % 1900];
                let large = Large { header: None, meta: Meta::default(), parts: &[&payload] };
                sender.send_large(large, WhenFull::Reject).unwrap();
            }
            sender.send(Meta { correlation: 1, ..Meta::default() }, b"", WhenFull::Reject).unwrap();
        });
        loop {
            match receiver.receive(Some(Instant::now() + Duration::from_secs(20))) {
                Ok(message) if message.meta.correlation == 1 => break,
                Ok(message) => {
                    let first = message.payload[0];
                    assert!(message.payload.iter().all(|byte| *byte == first), "torn");
                }
                Err(ReceiveError::Lost(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    });
}

#[test]
fn lossless_topic_with_many_readers_loses_nothing() {
    let mut sender = topic(TopicPolicy::Lossless);
    let readers: Vec<_> = (0..10).map(|id| join(&mut sender, AgentId(id))).collect();
    std::thread::scope(|scope| {
        for mut reader in readers {
            scope.spawn(move || {
                let deadline = Some(Instant::now() + Duration::from_secs(60));
                for number in 0..500u32 {
                    let message = reader.receive(deadline).unwrap();
                    assert_eq!(message.meta.correlation, number);
                }
            });
        }
        for number in 0..500 {
            sender.send(meta(number), &number.to_le_bytes(), soon()).unwrap();
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_mixture_arrives_in_order(
        messages in prop::collection::vec((0usize..6000, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let (mut sender, mut receiver, _control) = small();
        std::thread::scope(|scope| {
            let messages = &messages;
            scope.spawn(move || {
                for (index, (length, two_lines, with_header)) in messages.iter().enumerate() {
                    let payload = vec![index as u8; *length];
                    let meta = meta(index as u32);
                    let header = Header::new(Kind::Learn);
                    let header = with_header.then_some(&header);
                    if *length > INLINE_BYTES_MAX || header.is_some() {
                        let large = Large { header, meta, parts: &[&payload] };
                        sender.send_large(large, soon()).unwrap();
                    } else if *two_lines {
                        sender.send_timed(meta, &payload, Timing::default(), soon()).unwrap();
                    } else {
                        sender.send(meta, &payload, soon()).unwrap();
                    }
                }
            });
            for (index, (length, _, with_header)) in messages.iter().enumerate() {
                let message = receiver.receive(None).unwrap();
                assert_eq!(message.payload, vec![index as u8; *length]);
                assert_eq!(message.meta.correlation, index as u32);
                assert_eq!(message.header.is_some(), *with_header);
                assert_eq!(message.meta.has(FLAG_REGION), *length > 48 || *with_header);
            }
        });
    }
}

#[test]
fn batch_takes_messages_of_every_kind_in_order() {
    let (mut sender, mut receiver, _control) = link(options(64, 4096), Spin::Adaptive);
    let long = [7; 3_000];
    for number in 0..10u32 {
        sender.push(meta(number), &[number as u8; 5], WhenFull::Reject).unwrap();
    }
    sender.send_timed(meta(10), b"timed", Timing::default(), WhenFull::Reject).unwrap();
    let large = Large { header: None, meta: meta(11), parts: &[&long] };
    sender.send_large(large, WhenFull::Reject).unwrap();
    sender.push(meta(12), &[], WhenFull::Reject).unwrap();
    sender.flush();
    let mut seen = Vec::new();
    let count = receiver.receive_batch(100, |message| {
        seen.push((message.meta.correlation, message.payload.len(), message.timing.is_some()));
    });
    let mut expected: Vec<_> = (0..10).map(|number| (number, 5, false)).collect();
    expected.extend([(10, 5, true), (11, 3_000, false), (12, 0, false)]);
    assert_eq!((count, seen), (Ok(13), expected));
    assert_eq!(receiver.counters().messages, 13);
}

#[test]
fn batch_of_a_whole_lap_tells_its_writer_four_times() {
    let (mut sender, mut receiver, _control) = small();
    for number in 0..SLOTS_MIN as u32 {
        send(&mut sender, number).unwrap();
    }
    let cursor = copy(receiver.cursor_fd());
    let cursor = crate::segment::Cursor::open(cursor).unwrap();
    let mut steps = Vec::new();
    let count = receiver.receive_batch(SLOTS_MIN, |_| steps.push(cursor.counters().position));
    assert_eq!(count, Ok(SLOTS_MIN));
    assert_eq!(steps, [0, 0, 2, 2, 4, 4, 6, 6]);
}
