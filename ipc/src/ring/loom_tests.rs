//! Every interleaving of a small ring: what arrives is whole, in order, and nothing is missing.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p ipc --release --lib loom_`.

use loom::sync::Arc;
use loom::thread;

use super::consumer::Owned;
use super::*;
use crate::sync::{AtomicU64, Ordering};

const CAPACITY: u64 = 4;

struct Shared {
    slots: Vec<Slot>,
    cursor: AtomicU64,
}

fn shared() -> Arc<Shared> {
    let slots = (0..CAPACITY).map(|_| Slot::new()).collect();
    Arc::new(Shared { slots, cursor: AtomicU64::new(0) })
}

/// First word and payload say the same number, so a torn copy shows.
fn meta(number: u64) -> Meta {
    Meta { correlation: number as u32, ..Meta::default() }
}

fn number(line: Line) -> u64 {
    assert_eq!(u64::from(line.meta.correlation), line.word(0), "torn");
    line.word(0)
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// Both ways of taking a line.
#[test]
fn loom_gated_ring_reuses_slots_only_after_they_were_read() {
    full_ring_is_read(Consumer::take_owned);
}

#[test]
fn loom_quick_way_reads_whole_lines_in_order() {
    full_ring_is_read(|consumer, slots| {
        let mut line = Line::default();
        Ok(match consumer.take_plain(slots, &mut line) {
            Some(meta) => Owned::Message { line: Line { meta, ..line }, timing: None },
            None => Owned::Empty,
        })
    });
}

/// A ring that is full at the start, so that the writer depends on the cursor.
fn full_ring_is_read(take: fn(&mut Consumer, &[Slot]) -> Result<Owned, Violation>) {
    model(move || {
        let shared = shared();
        let mut producer = Producer::new(&shared.slots, false);
        for value in 0..CAPACITY {
            producer.write(&shared.slots, meta(value), &value.to_le_bytes());
        }
        let writer = thread::spawn({
            let shared = shared.clone();
            move || {
                let mut gate = Gate::from_start();
                for value in CAPACITY..CAPACITY + 2 {
                    while !producer.has_room(1) {
                        gate.update(&shared.cursor, &producer).unwrap();
                        producer.set_limit(gate.cursor().unwrap() + CAPACITY);
                        if !producer.has_room(1) {
                            thread::yield_now();
                        }
                    }
                    producer.write(&shared.slots, meta(value), &value.to_le_bytes());
                }
            }
        });
        let mut consumer = Consumer::new(&shared.slots);
        let mut expected = 0;
        while expected < CAPACITY + 2 {
            match take(&mut consumer, &shared.slots).unwrap() {
                Owned::Message { line, .. } => {
                    assert_eq!(number(line), expected);
                    expected += 1;
                    shared.cursor.store(consumer.position(), Ordering::Release);
                }
                Owned::Empty => thread::yield_now(),
                Owned::Lapped(_) => panic!("a gated ring never laps"),
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn loom_second_line_is_there_when_the_first_is() {
    model(|| {
        let shared = shared();
        let writer = thread::spawn({
            let shared = shared.clone();
            move || {
                let mut producer = Producer::new(&shared.slots, false);
                let timing = Timing { time_ns: 9, ..Timing::default() };
                producer.write_two(&shared.slots, meta(1), &1u64.to_le_bytes(), timing);
            }
        });
        let mut consumer = Consumer::new(&shared.slots);
        loop {
            match consumer.take_owned(&shared.slots).unwrap() {
                Owned::Message { line, timing } => {
                    assert_eq!(number(line), 1);
                    assert_eq!(timing.unwrap().time_ns, 9);
                    break;
                }
                Owned::Empty => thread::yield_now(),
                Owned::Lapped(_) => panic!("a gated ring never laps"),
            }
        }
        writer.join().unwrap();
    });
}

/// The writer goes round while the reader is reading: whole or lost, and every position is accounted for.
#[test]
fn loom_ungated_ring_gives_whole_lines_and_exact_gaps() {
    model(|| {
        let shared = shared();
        let mut producer = Producer::new(&shared.slots, true);
        let mut write = move |shared: &Shared, value: u64| {
            producer.set_limit(producer.position() + CAPACITY);
            producer.write(&shared.slots, meta(value), &value.to_le_bytes());
        };
        let mut consumer = Consumer::join(&shared.slots);
        for value in 0..CAPACITY {
            write(&shared, value);
        }
        let writer = thread::spawn({
            let shared = shared.clone();
            move || {
                write(&shared, CAPACITY);
                write(&shared, CAPACITY + 1);
            }
        });
        let mut next = 0;
        for _ in 0..2 {
            match consumer.take_owned(&shared.slots).unwrap() {
                Owned::Message { line, .. } => {
                    assert_eq!(number(line), next);
                    next += 1;
                }
                Owned::Lapped(lost) => next += lost,
                Owned::Empty => thread::yield_now(),
            }
        }
        writer.join().unwrap();
        loop {
            match consumer.take_owned(&shared.slots).unwrap() {
                Owned::Message { line, .. } => {
                    assert_eq!(number(line), next);
                    next += 1;
                }
                Owned::Lapped(lost) => next += lost,
                Owned::Empty => break,
            }
        }
        assert_eq!(next, CAPACITY + 2);
    });
}

/// A reader that joins while the writer goes on begins exactly with the last two messages of some moment, and from there on
/// every position is either read whole or counted as lost.
#[test]
fn loom_reader_that_joins_begins_with_the_last_messages() {
    model(|| {
        let slots: Vec<Slot> = (0..CAPACITY).map(|_| Slot::new()).collect();
        let words = [(); 3].map(|()| AtomicU64::new(0));
        let shared = Arc::new((slots, words));
        let mut producer = Producer::new(&shared.0, true);
        let mut write = move |shared: &(Vec<Slot>, [AtomicU64; 3]), value: u64| {
            producer.set_limit(producer.position() + CAPACITY);
            producer.write(&shared.0, meta(value), &value.to_le_bytes());
            let [from, position, again] = &shared.1;
            let place = Place { from: value.saturating_sub(1), position: value + 1 };
            JoinWords { from, position, again }.tell(place);
        };
        for value in 0..3 {
            write(&shared, value);
        }
        let writer = thread::spawn({
            let shared = shared.clone();
            move || {
                write(&shared, 3);
                write(&shared, 4);
            }
        });
        let [from, position, again] = &shared.1;
        // One try, as the reader makes many; a writer that moved on is no place to begin.
        let place = JoinWords { from, position, again }.ask();
        if let Ok(place) = place {
            assert_eq!(place.position - place.from, 2, "exactly the last two");
            let mut consumer = Consumer::join_at(&shared.0, place.from);
            let mut next = place.from;
            for _ in 0..2 {
                match consumer.take_owned(&shared.0).unwrap() {
                    Owned::Message { line, .. } => {
                        assert_eq!(number(line), next);
                        next += 1;
                    }
                    Owned::Lapped(lost) => next += lost,
                    Owned::Empty => assert!(next >= place.position, "what was told is there"),
                }
                assert_eq!(consumer.position(), next);
            }
        }
        writer.join().unwrap();
    });
}
