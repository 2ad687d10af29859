//! The ring on the heap, one step at a time, and against a model; hostile slots.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::consumer::Owned;
use super::*;
use crate::limits::{READ_AHEAD_LINES, READ_AHEAD_RUN};
use crate::sync::{AtomicU64, Ordering};

fn slots(count: usize) -> Vec<Slot> {
    (0..count).map(|_| Slot::new()).collect()
}

fn meta(number: u64) -> Meta {
    Meta { correlation: number as u32, ..Meta::default() }
}

fn taken(consumer: &mut Consumer, slots: &[Slot]) -> Option<u64> {
    match consumer.take_owned(slots).unwrap() {
        Owned::Message { line, .. } => Some(line.word(0)),
        Owned::Empty => None,
        Owned::Lapped(count) => panic!("lapped by {count}"),
    }
}

#[test]
fn first_word_keeps_every_field() {
    let meta = Meta { length: 0x1234, priority: 0x56, flags: 0x78, correlation: 0x9ABC_DEF0 };
    assert_eq!(meta.to_word(), 0x9ABC_DEF0_7856_1234);
    assert_eq!(Meta::from_word(meta.to_word()), meta);
}

#[test]
fn line_carries_up_to_48_bytes() {
    for length in 0..=48 {
        let slots = slots(4);
        let bytes: Vec<u8> = (1..=length).collect();
        Producer::new(&slots, false).write(&slots, Meta::default(), &bytes);
        let Ok(Owned::Message { line, .. }) = Consumer::new(&slots).take_owned(&slots) else {
            panic!("nothing arrived");
        };
        assert_eq!(&line.payload[..usize::from(line.meta.length)], bytes);
    }
}

#[test]
fn writer_needs_a_cursor_after_one_lap() {
    let slots = slots(4);
    let (mut producer, mut consumer) = (Producer::new(&slots, false), Consumer::new(&slots));
    let (cursor, mut gate) = (AtomicU64::new(0), Gate::from_start());
    for number in 0..4u64 {
        assert!(producer.has_room(1));
        producer.write(&slots, meta(number), &number.to_le_bytes());
    }
    assert!(!producer.has_room(1));
    gate.update(&cursor, &producer).unwrap();
    assert_eq!(gate.cursor(), Some(0));
    assert_eq!(taken(&mut consumer, &slots), Some(0));
    assert_eq!(taken(&mut consumer, &slots), Some(1));
    cursor.store(consumer.position(), Ordering::Release);
    gate.update(&cursor, &producer).unwrap();
    producer.set_limit(gate.cursor().unwrap() + 4);
    assert!(producer.has_room(2) && !producer.has_room(3));
}

#[test]
fn cursors_that_lie_are_violations() {
    let slots = slots(4);
    let mut producer = Producer::new(&slots, false);
    for number in 0..4u64 {
        producer.write(&slots, meta(number), &number.to_le_bytes());
    }
    let mut gate = Gate::from_start();
    let mut update = |cursor| gate.update(&AtomicU64::new(cursor), &producer);
    assert_eq!(update(5), Err(Violation::Cursor { position: 4, got: 5 }), "beyond the writer");
    assert_eq!(update(3), Ok(()));
    assert_eq!(update(2), Err(Violation::Cursor { position: 4, got: 2 }), "back");
    assert_eq!(update(u64::MAX), Err(Violation::Cursor { position: 4, got: u64::MAX }));
    let mut joining = Gate::joining();
    producer.set_limit(8);
    producer.write(&slots, meta(4), &4u64.to_le_bytes());
    assert_eq!(joining.update(&AtomicU64::new(0), &producer), Ok(()));
    assert_eq!(joining.cursor(), None, "still outside");
    assert_eq!(joining.update(&AtomicU64::new(1), &producer), Ok(()));
    assert_eq!(joining.cursor(), Some(1));
}

#[test]
fn stamps_that_lie_are_violations() {
    for (stamp, ungated) in
        [(2, false), (5, false), (u64::MAX, false), (2, true), (WRITING | 3, true)]
    {
        let slots = slots(4);
        slots[0].stamp.store(stamp, Ordering::Relaxed);
        let new = if ungated { |slots| Consumer::join_at(slots, 0) } else { Consumer::new };
        let mut consumer = new(&slots);
        let expected = Violation::Stamp { position: 0, got: stamp };
        assert_eq!(consumer.take_owned(&slots), Err(expected), "{stamp:#x}");
    }
}

#[test]
fn lengths_and_flags_that_lie_are_violations() {
    let check = |meta: Meta, expected: Violation| {
        let slots = slots(4);
        slots[0].words[0].store(meta.to_word(), Ordering::Relaxed);
        slots[0].stamp.store(1, Ordering::Relaxed);
        assert_eq!(Consumer::new(&slots).take_owned(&slots), Err(expected));
    };
    let (position, meta) = (0, Meta::default());
    check(Meta { length: 49, ..meta }, Violation::Length { position, got: 49 });
    let got = FLAG_SECOND_LINE;
    check(Meta { flags: got, ..meta }, Violation::Flags { position, got });
    // The second line of a message must be there when the first is.
    let stamp = Violation::Stamp { position: 1, got: 0 };
    check(Meta { flags: FLAG_TWO_LINES, ..meta }, stamp);
}

#[test]
fn reader_asks_ahead_only_while_its_writer_is_ahead() {
    for ungated in [false, true] {
        let slots = slots(256);
        let mut producer = Producer::new(&slots, ungated);
        let new = if ungated { |slots| Consumer::join_at(slots, 0) } else { Consumer::new };
        let mut consumer = new(&slots);
        // For each message that is taken: whether one that comes later is asked for.
        let mut asked = Vec::new();
        let mut step = |write: u64, take: u64| {
            producer.set_limit(producer.position() + write);
            for _ in 0..write {
                let number = producer.position();
                producer.write(&slots, meta(number), &number.to_le_bytes());
            }
            asked.clear();
            for _ in 0..take {
                let (number, until) = (consumer.position(), consumer.ahead.ask_until);
                assert_eq!(taken(&mut consumer, &slots), Some(number));
                asked.push(number < until);
            }
            asked.iter().filter(|asked| **asked).count() as u64
        };
        let (run, far) = (READ_AHEAD_RUN, READ_AHEAD_RUN + READ_AHEAD_LINES);
        assert_eq!(step(far + run + 1, run), 0, "not before a run of messages");
        assert_eq!(step(0, 1), 0, "this one looks, and there is one so far ahead");
        assert_eq!(step(0, run - 1), run - 1, "so these ask");
        assert_eq!(step(0, READ_AHEAD_LINES + 1), 0, "there is none any more");
        assert_eq!(taken(&mut consumer, &slots), None);
    }
}

#[test]
fn stamp_that_lies_far_ahead_costs_requests_only() {
    let far = READ_AHEAD_RUN + READ_AHEAD_RUN + READ_AHEAD_LINES;
    for lie in [far + 1, u64::MAX, WRITING | (far + 1)] {
        let slots = slots(256);
        let (mut producer, mut consumer) = (Producer::new(&slots, false), Consumer::new(&slots));
        slots[far as usize].stamp.store(lie, Ordering::Relaxed);
        for number in 0..=READ_AHEAD_RUN {
            producer.write(&slots, meta(number), &number.to_le_bytes());
        }
        for number in 0..=READ_AHEAD_RUN {
            assert_eq!(taken(&mut consumer, &slots), Some(number));
        }
        let next = READ_AHEAD_RUN + 1;
        assert_eq!(consumer.ahead.ask_until > next, lie == far + 1, "{lie:#x}");
        assert_eq!(taken(&mut consumer, &slots), None, "the next one is asked for, not believed");
        assert_eq!(consumer.ahead.ask_until, next);
    }
}

#[test]
fn lapped_reader_goes_on_a_quarter_after_the_oldest() {
    let slots = slots(8);
    let mut producer = Producer::new(&slots, true);
    let mut consumer = Consumer::join(&slots);
    for number in 0..20u64 {
        producer.set_limit(producer.position() + 8);
        producer.write(&slots, meta(number), &number.to_le_bytes());
    }
    // Its slot holds 16, so 9 is the oldest that it knows to be there; a quarter of 8 is given up beside. There it finds 19
    // and knows better.
    assert_eq!(consumer.take_owned(&slots), Ok(Owned::Lapped(11)));
    assert_eq!(consumer.take_owned(&slots), Ok(Owned::Lapped(3)));
    let rest: Vec<_> = std::iter::from_fn(|| taken(&mut consumer, &slots)).collect();
    assert_eq!(rest, [14, 15, 16, 17, 18, 19]);
}

#[test]
fn reader_joins_where_the_writer_is() {
    let slots = slots(8);
    let mut producer = Producer::new(&slots, true);
    for number in 0..20u64 {
        producer.set_limit(producer.position() + 8);
        producer.write(&slots, meta(number), &number.to_le_bytes());
    }
    let mut consumer = Consumer::join(&slots);
    assert_eq!(consumer.position(), 20);
    assert_eq!(taken(&mut consumer, &slots), None);
    producer.set_limit(28);
    producer.write(&slots, meta(20), &20u64.to_le_bytes());
    assert_eq!(taken(&mut consumer, &slots), Some(20));
}

proptest! {
    #[test]
    fn quick_way_takes_what_the_full_way_takes_or_leaves_it(
        stamp in 0u64..3, word in any::<u64>(), length in 0u16..60, flags in 0u8..=255,
        payload in prop::array::uniform6(any::<u64>()),
    ) {
        let slots = slots(4);
        let meta = Meta { length, flags, ..Meta::from_word(word) };
        slots[0].stamp.store(stamp, Ordering::Relaxed);
        for (slot, value) in slots[0].words.iter().zip([meta.to_word()].iter().chain(&payload)) {
            slot.store(*value, Ordering::Relaxed);
        }
        let (mut quick, mut line) = (Consumer::new(&slots), Line::default());
        let taken = quick.take_plain(&slots, &mut line);
        let mut full = Consumer::new(&slots);
        let expected = full.take_owned(&slots);
        if let Some(meta) = taken {
            let message = Owned::Message { line: Line { meta, ..line }, timing: None };
            prop_assert_eq!(expected, Ok(message));
            prop_assert_eq!(quick.position(), full.position());
        } else {
            let alone = flags & FLAGS_JOINED == 0 && matches!(expected, Ok(Owned::Message { .. }));
            prop_assert!(!alone, "left where it is: {:?}", expected);
            prop_assert_eq!(quick.position(), 0);
        }
    }

    #[test]
    fn ring_behaves_like_a_bounded_queue(steps in prop::collection::vec(0u8..4, 1..400)) {
        let slots = slots(8);
        let (mut producer, mut consumer) = (Producer::new(&slots, false), Consumer::new(&slots));
        let (cursor, mut gate) = (AtomicU64::new(0), Gate::from_start());
        let mut model: VecDeque<(u64, bool)> = VecDeque::new();
        let mut number = 0;
        for step in steps {
            let two = step == 1;
            match step {
                0 | 1 => {
                    if !producer.has_room(1 + u64::from(two)) {
                        gate.update(&cursor, &producer).unwrap();
                        producer.set_limit(gate.cursor().unwrap() + 8);
                    }
                    let used: u64 = model.iter().map(|(_, two)| 1 + u64::from(*two)).sum();
                    let room = producer.has_room(1 + u64::from(two));
                    prop_assert_eq!(room, used + u64::from(two) < 8);
                    if room && two {
                        let timing = Timing { trace: number.into(), ..Timing::default() };
                        let payload = u64::to_le_bytes(number);
                        producer.write_two(&slots, meta(number), &payload, timing);
                        model.push_back((number, true));
                    } else if room {
                        producer.write(&slots, meta(number), &number.to_le_bytes());
                        model.push_back((number, false));
                    }
                    number += 1;
                }
                _ => match (consumer.take_owned(&slots).unwrap(), model.pop_front()) {
                    (Owned::Empty, None) => {}
                    (Owned::Message { line, timing }, Some((number, two))) => {
                        prop_assert_eq!(line.word(0), number);
                        prop_assert_eq!(timing.map(|timing| timing.trace), two.then_some(number.into()));
                        cursor.store(consumer.position(), Ordering::Release);
                    }
                    other => prop_assert!(false, "{:?}", other),
                },
            }
        }
    }

    #[test]
    fn any_bytes_in_slots_give_a_value_or_a_violation(
        words in prop::collection::vec(prop::array::uniform8(any::<u64>()), 8),
        small in any::<bool>(), ungated in any::<bool>(),
    ) {
        let slots = slots(8);
        for (slot, words) in slots.iter().zip(&words) {
            let stamp = if small { words[7] % 20 } else { words[7] };
            slot.stamp.store(stamp, Ordering::Relaxed);
            for (word, value) in slot.words.iter().zip(words) {
                word.store(*value, Ordering::Relaxed);
            }
        }
        let mut consumer =
            if ungated { Consumer::join(&slots) } else { Consumer::new(&slots) };
        for _ in 0..40 {
            if consumer.take_owned(&slots).is_err() {
                break;
            }
        }
    }
}
