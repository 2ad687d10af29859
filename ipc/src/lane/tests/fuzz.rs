//! Fuzz targets: readers on slots and regions that hold anything, writers on cursors that say anything.
//!
//! The other side keeps the rules now and then, so that what is wrong stands beside what is right; between any two steps it
//! changes words that it may write. One thread, so that a seed repeats a case; `hostile` has the same with two.

use super::*;
use crate::fuzz::{Chance, fuzz};
use crate::header::HEADER_BYTES;
use crate::ring::{FLAG_ABORT, FLAG_CANCEL, FLAG_MORE, FLAG_SECOND_LINE, FLAG_TWO_LINES};
use crate::segment::{LaneCounters, Slots};
use crate::sync::Ordering;

/// Steps of one case: a few laps of the smallest ring.
const STEPS: usize = 40;
/// A mark of a line that is being written (rule 8 of the ring).
const WRITING: u64 = 1 << 63;

/// A first word: flags and length that go together, or not.
fn first_word(chance: &mut Chance) -> u64 {
    let length = *chance.pick(&[0, 1, 24, 24, 24, 24, 32, 47, 48, 49, 0xFFFF]);
    let lone = [0, FLAG_REGION, FLAG_TWO_LINES, FLAG_CHUNK, FLAG_MORE, FLAG_ERROR, FLAG_CANCEL];
    let joined = [FLAG_ABORT, FLAG_SECOND_LINE, FLAG_REGION | FLAG_CHUNK, FLAG_REGION | FLAG_CHUNK];
    let flags = if chance.once_in(2) { *chance.pick(&lone) } else { *chance.pick(&joined) };
    let flags = if chance.once_in(8) { chance.next() as u8 } else { flags };
    let correlation = chance.below(2) as u64;
    length | (chance.next() & 0xFF) << 16 | u64::from(flags) << 24 | correlation << 32
}

/// Puts a line where it is expected next, or anywhere, with a stamp that may be right.
fn forge_line(chance: &mut Chance, slots: &Slots, next: u64) {
    let slots = slots.slots();
    let count = slots.len() as u64;
    let position = if chance.once_in(4) { chance.number(next) } else { next };
    let slot = &slots[(position % count) as usize];
    slot.scribble(1, first_word(chance));
    let small = [0, 1, 64, 128, 500, 1_024, 4_032, 4_096];
    let pick = |chance: &mut Chance| {
        if chance.once_in(4) { chance.number(4_096) } else { *chance.pick(&small) }
    };
    let header = *chance.pick(&[0, 0, 0, 1, HEADER_BYTES as u64, 256, 257]);
    slot.scribble(2, pick(chance));
    slot.scribble(3, pick(chance) | header << 32);
    slot.scribble(4, pick(chance));
    let stamp = match chance.below(8) {
        0 => chance.number(position.wrapping_add(1)),
        1 => position.wrapping_add(1 + count * (1 + chance.below(4) as u64)),
        2 => WRITING | position.wrapping_add(1),
        3 => position.wrapping_add(1).wrapping_sub(count),
        _ => position.wrapping_add(1),
    };
    slot.scribble(0, stamp);
}

/// One step of a writer: by the rules, or not.
fn write_something(chance: &mut Chance, sender: &mut Sender, next: u64) {
    let meta = Meta { correlation: chance.below(2) as u32, ..Meta::default() };
    let length = chance.below(49);
    match chance.below(8) {
        0 => {
            let _ = sender.send(meta, &[1; 48][..length], WhenFull::Reject);
        }
        1 => {
            let _ = sender.send_timed(meta, b"timed", Timing::default(), WhenFull::Reject);
        }
        2 => {
            let header = Header::new(Kind::Event);
            let header = chance.once_in(2).then_some(&header);
            let length = *chance.pick(&[0, 100, 1_900, 2_048, 5_000]);
            let parts: [&[u8]; 1] = [&[3; 5_000][..length]];
            let _ = sender.send_large(Large { header, meta, parts: &parts }, WhenFull::Reject);
        }
        3 => {
            let (slots, region) = sender.memory();
            let slot = chance.below(slots.slots().len());
            let word = chance.below(8);
            slots.slots()[slot].scribble(word, chance.number(next));
            let word = chance.below(region.words().len());
            region.words()[word].store(chance.next(), Ordering::Relaxed);
        }
        4 => {
            let header = sender.memory().0.header();
            header.reserved_until.0.store(chance.number(4_096), Ordering::Relaxed);
            header.writer_sleeping.0.store(chance.next() as u32, Ordering::Relaxed);
            header.identity.number.store(chance.next() as u32, Ordering::Relaxed);
            header.identity.flags.store(chance.next() as u32, Ordering::Relaxed);
            header.counters.messages.store(chance.next(), Ordering::Relaxed);
        }
        _ => forge_line(chance, sender.memory().0, next),
    }
}

/// Whether what was delivered is what the rules allow.
fn check_message(message: &Message<'_>) {
    let flags = message.meta.flags;
    assert_eq!(flags & (FLAG_SECOND_LINE | FLAG_ABORT | FLAG_CHUNK), 0, "{flags:#x}");
    assert_eq!(message.timing.is_some(), flags & FLAG_TWO_LINES != 0);
    if flags & FLAG_REGION == 0 {
        assert!(message.header.is_none() && message.payload.len() <= INLINE_BYTES_MAX);
        assert_eq!(message.payload.len(), usize::from(message.meta.length));
    }
    assert!(message.payload.len() <= MESSAGE_BYTES_MAX + HEADER_BYTES);
    if let Some(header) = message.header {
        assert_eq!(header.source, WRITER, "never what the bytes say");
        assert!((1..=10).contains(&header.priority));
    }
}

/// Reads in one of the ways; true once the lane is given up, and then for ever.
fn read_something(chance: &mut Chance, receiver: &mut Receiver, is_topic: bool) -> bool {
    let (before, messages) = (receiver.memory().counters(), &mut 0);
    let result = if chance.once_in(3) {
        let max = chance.below(20);
        let taken = receiver.receive_batch(max, |message| {
            check_message(&message);
            *messages += 1;
        });
        taken.inspect(|count| assert!(*count == *messages && *count <= max)).map(drop)
    } else {
        receiver.try_receive().map(|message| message.iter().for_each(check_message))
    };
    let after = receiver.memory().counters();
    assert!(after.position >= before.position && after.messages >= before.messages);
    assert!(after.lost >= before.lost);
    match result {
        Ok(()) => false,
        Err(ReceiveError::Lost(count)) => {
            assert!(is_topic && count > 0, "links lose nothing");
            false
        }
        Err(ReceiveError::Quarantined(violation)) => {
            let again = Err(ReceiveError::Quarantined(violation));
            assert_eq!(receiver.try_receive(), again);
            assert_eq!(receiver.receive_batch(5, |_| panic!("delivered")), again.map(|_| 0));
            assert_eq!(receiver.receive(Some(Instant::now())), again_err(violation));
            true
        }
        Err(other) => panic!("{other}"),
    }
}

fn again_err<'a>(violation: Violation) -> Result<Message<'a>, ReceiveError> {
    Err(ReceiveError::Quarantined(violation))
}

#[test]
fn link_reads_what_the_rules_allow_or_nothing_more() {
    fuzz(6_000, |chance| {
        let (mut sender, mut receiver, _control) = small();
        for _ in 0..STEPS {
            let next = receiver.memory().counters().position + chance.below(4) as u64;
            write_something(chance, &mut sender, next);
            if read_something(chance, &mut receiver, false) {
                break;
            }
            if chance.once_in(8) && receiver.arm() {
                receiver.disarm();
            }
        }
        let _ = receiver.counters();
    });
}

#[test]
fn topic_reads_what_the_rules_allow_or_nothing_more() {
    fuzz(6_000, |chance| {
        let policy = *chance.pick(&[TopicPolicy::Lossless, TopicPolicy::Lossy]);
        let mut sender = topic(policy);
        // It joins whatever the slots hold by then.
        let start = if chance.once_in(4) { chance.number(1 << 62) } else { 0 };
        for _ in 0..chance.below(6) {
            write_something(chance, &mut sender, start);
        }
        let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
        let at = chance.number(1 << 62);
        let begin = *chance.pick(&[Start::Live, Start::History, Start::At(at)]);
        let joined = Receiver::for_topic(WRITER, slots, region, None, begin, Spin::Adaptive);
        // The identity may be what was changed.
        let Ok(mut receiver) = joined else { return };
        sender.attach(READER, copy(receiver.cursor_fd()), None).unwrap();
        for _ in 0..STEPS {
            let next = receiver.memory().counters().position.saturating_add(chance.below(4) as u64);
            write_something(chance, &mut sender, next);
            if read_something(chance, &mut receiver, true) {
                break;
            }
        }
    });
}

/// A stamp of the very end of all positions leads nowhere and breaks nothing.
#[test]
fn topic_whose_slots_say_the_end_of_all_positions_is_read() {
    for stamp in [WRITING - 1, WRITING - 2, WRITING, u64::MAX, u64::MAX - 1, WRITING + 1] {
        let mut sender = topic(TopicPolicy::Lossy);
        for slot in sender.memory().0.slots() {
            slot.scribble(0, stamp);
        }
        let mut receiver = join(&mut sender, READER);
        for _ in 0..20 {
            if matches!(receiver.try_receive(), Err(ReceiveError::Quarantined(_))) {
                break;
            }
        }
    }
}

/// Cursors, sleep words and counters that say anything.
fn scribble_cursor(chance: &mut Chance, receiver: &Receiver, position: u64) {
    let header = receiver.memory().header();
    match chance.below(4) {
        0 => header.position.0.store(chance.number(position), Ordering::Relaxed),
        1 => header.sleeping.0.store(chance.next() as u32, Ordering::Relaxed),
        2 => {
            header.identity.number.store(chance.next() as u32, Ordering::Relaxed);
            header.counters.lost.store(chance.next(), Ordering::Relaxed);
        }
        _ => {
            let bucket = chance.below(header.latency.counts.len());
            header.latency.counts[bucket].store(chance.next(), Ordering::Relaxed);
        }
    }
}

#[test]
fn writer_of_a_link_goes_by_a_possible_cursor_or_stops() {
    fuzz(6_000, |chance| {
        let (mut sender, mut receiver, _control) = small();
        for _ in 0..STEPS {
            let LaneCounters { position, .. } = sender.counters();
            if chance.once_in(3) {
                scribble_cursor(chance, &receiver, position);
            }
            let length = chance.below(4_000);
            let large = Large { header: None, meta: meta(1), parts: &[&[1; 4_000][..length]] };
            let result = match chance.below(3) {
                0 => sender.send(meta(1), b"inline", WhenFull::Reject),
                1 => sender.send_timed(meta(1), b"timed", Timing::default(), WhenFull::Reject),
                _ => sender.send_large(large, WhenFull::WaitUntil(Instant::now())),
            };
            match result {
                Ok(()) | Err(SendError::Full) => {}
                Err(SendError::Quarantined(violation)) => {
                    let again = send(&mut sender, 1);
                    assert!(matches!(violation, Violation::Cursor { .. }));
                    assert_eq!(again, Err(SendError::Quarantined(violation)));
                    break;
                }
                Err(other) => panic!("{other}"),
            }
            // What was written is whole, whatever the cursor said: a violation would be ours.
            match receiver.try_receive() {
                Ok(_) => {}
                Err(error) => {
                    let ReceiveError::Quarantined(Violation::Stamp { .. }) = error else {
                        panic!("{error}")
                    };
                    // A cursor ahead of what was read lets the writer go round: the reader's own doing.
                    break;
                }
            }
        }
    });
}

#[test]
fn writer_of_a_topic_goes_on_without_readers_that_lie() {
    fuzz(3_000, |chance| {
        let policy = *chance.pick(&[TopicPolicy::Lossless, TopicPolicy::Lossy]);
        let mut sender = topic(policy);
        let mut honest = join(&mut sender, AgentId(1));
        let hostile = [AgentId(2), AgentId(3)].map(|reader| join(&mut sender, reader));
        let mut taken = 0;
        for sent in 0..STEPS as u32 {
            for reader in &hostile {
                if chance.once_in(2) {
                    let LaneCounters { position, .. } = sender.counters();
                    scribble_cursor(chance, reader, position);
                }
            }
            // One that only stands still may hold a lossless writer back, which is its right.
            let is_sent = send(&mut sender, sent).is_ok();
            assert!(is_sent || policy == TopicPolicy::Lossless);
            while let Some(number) = take(&mut honest) {
                assert!(number >= taken);
                taken = number + 1;
            }
            assert!(!is_sent || taken == sent + 1, "the honest one is not cut off");
            while let Some(detached) = sender.next_detached() {
                assert!(detached.reader != AgentId(1));
            }
        }
    });
}
