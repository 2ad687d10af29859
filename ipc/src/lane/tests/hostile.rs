//! Peers that write anything anywhere they can: nothing panics, nothing hangs, the lane is given up.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::limits::PIECES_PER_LOOK;
use crate::segment::SegmentError;

/// A small generator of numbers, so that a failure can be repeated from its seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Mostly numbers that nearly make sense.
    fn plausible(&mut self, near: u64) -> u64 {
        match self.next() % 6 {
            0 => self.next(),
            1 => 0,
            2 => u64::MAX,
            3 => near.wrapping_add(self.next() % 64),
            4 => near.wrapping_sub(self.next() % 64),
            _ => self.next() % 4096,
        }
    }
}

/// Reads until the lane is given up, at most so often.
fn read_all(receiver: &mut Receiver, reads_max: u64, bytes_max: usize) -> Option<Violation> {
    for _ in 0..reads_max {
        match receiver.try_receive() {
            Ok(Some(message)) => assert!(message.payload.len() <= bytes_max),
            Ok(None) | Err(ReceiveError::Lost(_)) => {}
            Err(ReceiveError::Quarantined(violation)) => {
                assert_eq!(receiver.try_receive(), Err(ReceiveError::Quarantined(violation)));
                return Some(violation);
            }
            Err(other) => panic!("{other}"),
        }
    }
    None
}

fn scribble_while_reading(
    seed: u64,
    reads_max: u64,
    mut sender: Sender,
    mut receiver: Receiver,
) -> bool {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, sender) = (&stop, &mut sender);
        scope.spawn(move || {
            let mut numbers = Numbers(seed | 1);
            while !stop.load(Ordering::Relaxed) {
                // The rules are kept now and then, so that the reader gets somewhere.
                let large = Large { header: None, meta: Meta::default(), parts: &[&[1; 500]] };
                let _ = sender.send_large(large, WhenFull::Reject);
                let _ = sender.send(Meta::default(), &[2; 48], WhenFull::Reject);
                let (slots, region) = sender.memory();
                let slot = numbers.next() as usize % slots.slots().len();
                let near = slot as u64 + 1 + (numbers.next() % 8) * slots.slots().len() as u64;
                slots.slots()[slot].scribble(numbers.next() as usize % 8, numbers.plausible(near));
                let word = numbers.next() as usize % region.words().len();
                region.words()[word].store(numbers.next(), Ordering::Relaxed);
                let header = slots.header();
                header.reserved_until.0.store(numbers.plausible(near * 64), Ordering::Relaxed);
                header.writer_sleeping.0.store(numbers.next() as u32, Ordering::Relaxed);
            }
        });
        let violation = read_all(&mut receiver, reads_max, MESSAGE_BYTES_MAX);
        stop.store(true, Ordering::Relaxed);
        violation.is_some()
    })
}

#[test]
fn link_whose_writer_scribbles_is_quarantined() {
    for seed in 1..60u64 {
        let (sender, receiver, _control) = small();
        // Sooner or later the awaited slot is hit; a reader that is held for ever would be a failure.
        assert!(scribble_while_reading(seed * 0x9E37_79B9, u64::MAX, sender, receiver));
    }
}

#[test]
fn topic_whose_writer_scribbles_never_panics() {
    for seed in 1..60u64 {
        let mut sender = topic(TopicPolicy::Lossy);
        let receiver = join(&mut sender, READER);
        scribble_while_reading(seed * 0x9E37_79B9, 20_000, sender, receiver);
    }
}

#[test]
fn link_whose_reader_scribbles_is_quarantined() {
    let mut quarantined = 0;
    for seed in 1..200u64 {
        let (mut sender, receiver, _control) = small();
        let mut numbers = Numbers(seed * 0x9E37_79B9);
        for _ in 0..100 {
            let position = &receiver.memory().header().position.0;
            position.store(numbers.plausible(position.load(Ordering::Relaxed)), Ordering::Relaxed);
            receiver.memory().header().sleeping.0.store(numbers.next() as u32, Ordering::Relaxed);
            let large = Large { header: None, meta: Meta::default(), parts: &[&[1; 900]] };
            let _ = sender.send_large(large, WhenFull::Reject);
            if let Err(SendError::Quarantined(violation)) = send(&mut sender, 1) {
                assert!(matches!(violation, Violation::Cursor { .. }));
                quarantined += 1;
                break;
            }
        }
    }
    assert!(quarantined > 150, "{quarantined}");
}

#[test]
fn topic_goes_on_without_a_reader_that_scribbles() {
    let mut sender = topic(TopicPolicy::Lossless);
    let mut honest = join(&mut sender, AgentId(1));
    let hostile = join(&mut sender, AgentId(2));
    for number in 0..1_000 {
        if number == 500 {
            hostile.memory().header().position.0.store(u64::MAX, Ordering::Relaxed);
        } else if number < 500 {
            hostile.memory().header().position.0.store(number, Ordering::Relaxed);
        }
        sender.send(meta(number as u32), &(number as u32).to_le_bytes(), soon()).unwrap();
        assert_eq!(take(&mut honest), Some(number as u32));
    }
    let detached = sender.next_detached().unwrap();
    assert_eq!(detached.reader, AgentId(2));
    let DetachCause::Violation(violation) = detached.cause else { panic!("{detached:?}") };
    assert!(matches!(violation, Violation::Cursor { got: u64::MAX, .. }));
    assert_eq!((sender.readers(), sender.next_detached()), (1, None));
    assert_eq!(sender.counters().quarantined, 1);
}

#[test]
fn endless_message_is_cut_off() {
    let (sender, mut receiver, _control) = small();
    // Chunks of a message that says it is longer than any may be.
    let line =
        |total: u64| [1, 24 | u64::from(FLAG_REGION | FLAG_CHUNK) << 24, 0, 64, total, 0, 0, 0];
    for (index, value) in line(u64::MAX).into_iter().enumerate().rev() {
        sender.memory().0.slots()[0].scribble(index, value);
    }
    let expected = Violation::TooLong { got: u64::MAX };
    assert_eq!(receiver.try_receive(), Err(ReceiveError::Quarantined(expected)));
}

/// Lines that say "one byte, and more follows" without end.
#[test]
fn drip_of_single_bytes_holds_nobody() {
    let (sender, mut receiver, _control) = link(options(4_096, 4_096), Spin::Adaptive);
    let slots = sender.memory().0.slots();
    for (position, slot) in slots.iter().enumerate() {
        let flags = u64::from(FLAG_REGION | FLAG_CHUNK) << 24;
        let line = [position as u64 + 1, 24 | flags, 0, 1, MESSAGE_BYTES_MAX as u64, 0, 0, 0];
        line.into_iter().enumerate().rev().for_each(|(index, word)| slot.scribble(index, word));
    }
    let position = |receiver: &Receiver| receiver.memory().counters().position as usize;
    assert_eq!(receiver.try_receive(), Ok(None));
    assert_eq!(position(&receiver), PIECES_PER_LOOK);
    let taken = receiver.receive_batch(5, |_| panic!("nothing is whole"));
    assert_eq!((taken, position(&receiver)), (Ok(0), 2 * PIECES_PER_LOOK));
    // There is more, so it does not sleep; and a deadline is seen.
    assert!(!receiver.arm() && receiver.has_message());
    assert_eq!(receiver.receive(Some(Instant::now())), Err(ReceiveError::Deadline));
}

/// After the quarantine nothing is taken, not even what would find room.
#[test]
fn quarantined_sender_takes_nothing_more() {
    let (mut sender, receiver, _control) = small();
    let half = [1; 2_048];
    let large = Large { header: None, meta: meta(1), parts: &[&half] };
    sender.send_large(large, WhenFull::Reject).unwrap();
    sender.send_large(large, WhenFull::Reject).unwrap();
    receiver.memory().header().position.0.store(u64::MAX, Ordering::Relaxed);
    // No bytes are left to lend, though there are slots; so the cursor is looked at.
    let refused = sender.send_large(large, WhenFull::Reject);
    assert!(matches!(refused, Err(SendError::Quarantined(Violation::Cursor { .. }))));
    assert_eq!(send(&mut sender, 1), refused);
    assert_eq!(sender.counters().quarantined, 1, "once, however often it is asked");
}

#[test]
fn slots_that_say_another_kind_are_refused() {
    let (sender, _receiver, control) = small();
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let start = Start::Live;
    let refused = Receiver::for_topic(WRITER, slots, region, None, start, Spin::Adaptive);
    assert!(matches!(refused, Err(SegmentError::Kind { got: false })), "{refused:?}");
    let sender = topic(TopicPolicy::Lossy);
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let cursor = Receiver::new_cursor(Spin::Adaptive).unwrap();
    let refused = Receiver::for_link(WRITER, slots, region, copy(control.as_fd()), cursor);
    assert!(matches!(refused, Err(SegmentError::Kind { got: true })), "{refused:?}");
}
