//! Ring and sleep word together, as a lane has them: a reader on the stamp, a writer on the cursor, a batch with one wake-up, a
//! message between rings.

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::model;
use crate::ring::{Consumer, Found, Gate, Line, Meta, Producer, Slot, Timing};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::wait::loom_tests::Futex;
use crate::wait::{ON_FUTEX, Sleeper, must_wake};

const CAPACITY: u64 = 4;

struct Shared {
    slots: Vec<Slot>,
    cursor: AtomicU64,
    reader_sleeping: AtomicU32,
    writer_sleeping: AtomicU32,
    reader: Futex,
    writer: Futex,
    /// What a program wrote before it sent, and reads after it received.
    beside: Vec<UnsafeCell<u64>>,
    /// The completions of a reader's ring.
    posted: Mutex<bool>,
    is_posted: Condvar,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        slots: (0..CAPACITY).map(|_| Slot::new()).collect(),
        cursor: AtomicU64::new(0),
        reader_sleeping: AtomicU32::new(0),
        writer_sleeping: AtomicU32::new(0),
        reader: Futex::new(),
        writer: Futex::new(),
        beside: (0..CAPACITY).map(|_| UnsafeCell::new(0)).collect(),
        posted: Mutex::new(false),
        is_posted: Condvar::new(),
    })
}

fn write(shared: &Shared, producer: &mut Producer, value: u64) {
    // SAFETY: the model fails where this is not ordered.
    shared.beside[(value % CAPACITY) as usize].with_mut(|cell| unsafe { *cell = value });
    producer.write(&shared.slots, Meta::default(), &value.to_le_bytes());
}

/// Takes one line, if it is there; it must be this one.
fn take(shared: &Shared, consumer: &mut Consumer, expected: u64) -> bool {
    let (mut line, mut timing) = (Line::default(), Timing::default());
    match consumer.take(&shared.slots, &mut line, &mut timing).unwrap() {
        Found::Empty => return false,
        Found::One => {}
        found => panic!("{found:?}"),
    }
    assert_eq!(line.word(0), expected);
    // SAFETY: the model fails where this is not ordered.
    let beside = shared.beside[(expected % CAPACITY) as usize].with(|cell| unsafe { *cell });
    assert_eq!(beside, expected);
    true
}

/// As `Sender::wake_readers`.
fn flush(shared: &Shared) {
    if must_wake(&shared.reader_sleeping).is_some() {
        shared.reader.wake();
    }
}

/// As `Receiver::sleep`.
fn sleep_for_a_line(shared: &Shared, consumer: &Consumer, sleeper: &mut Sleeper) {
    sleeper.arm(&shared.reader_sleeping, ON_FUTEX);
    let stamp = consumer.next_slot(&shared.slots).stamp();
    let first = stamp.load(Ordering::Acquire);
    if consumer.is_empty(&shared.slots) {
        shared.reader.sleep(stamp, first as u32);
    }
    sleeper.disarm(&shared.reader_sleeping);
}

/// As `Receiver::publish`.
fn publish(shared: &Shared, consumer: &Consumer) {
    shared.cursor.store(consumer.position(), Ordering::Release);
    if must_wake(&shared.writer_sleeping).is_some() {
        shared.writer.wake();
    }
}

/// Two lines and one wake-up after both, then a third: nothing is left lying.
#[test]
fn loom_sleeping_reader_gets_every_line_of_a_batch() {
    model(|| {
        let shared = shared();
        let writer = thread::spawn({
            let shared = shared.clone();
            move || {
                let mut producer = Producer::new(&shared.slots, false);
                write(&shared, &mut producer, 0);
                write(&shared, &mut producer, 1);
                flush(&shared);
                write(&shared, &mut producer, 2);
                flush(&shared);
            }
        });
        let (mut consumer, mut sleeper) = (Consumer::new(&shared.slots), Sleeper::default());
        for expected in 0..3 {
            while !take(&shared, &mut consumer, expected) {
                sleep_for_a_line(&shared, &consumer, &mut sleeper);
            }
        }
        writer.join().unwrap();
    });
}

/// The reader takes a batch and stores its cursor once for all of it.
#[test]
fn loom_sleeping_writer_gets_the_room_of_a_batch() {
    model(|| {
        let shared = shared();
        let mut producer = Producer::new(&shared.slots, false);
        for value in 0..CAPACITY {
            write(&shared, &mut producer, value);
        }
        let writer = thread::spawn({
            let shared = shared.clone();
            move || {
                let (mut gate, mut sleeper) = (Gate::from_start(), Sleeper::default());
                for value in CAPACITY..CAPACITY + 2 {
                    loop {
                        gate.update(&shared.cursor, &producer).unwrap();
                        let seen = gate.cursor().unwrap();
                        producer.set_limit(seen + CAPACITY);
                        if producer.has_room(1) {
                            break;
                        }
                        // As `Sender::sleep`: the kernel's comparison is the second look.
                        sleeper.arm(&shared.writer_sleeping, ON_FUTEX);
                        shared.writer.sleep(&shared.cursor, seen as u32);
                        sleeper.disarm(&shared.writer_sleeping);
                    }
                    write(&shared, &mut producer, value);
                }
            }
        });
        let mut consumer = Consumer::new(&shared.slots);
        for batch in [0..2, 2..4, 4..6] {
            for expected in batch {
                while !take(&shared, &mut consumer, expected) {
                    thread::yield_now();
                }
            }
            publish(&shared, &consumer);
        }
        writer.join().unwrap();
    });
}

/// Class HIGH: a message between rings stays until it is taken, and slots are looked at after that.
#[test]
fn loom_reader_with_a_ring_finds_every_line() {
    model(|| {
        let shared = shared();
        let writer = thread::spawn({
            let shared = shared.clone();
            move || {
                let mut producer = Producer::new(&shared.slots, false);
                for value in 0..2 {
                    write(&shared, &mut producer, value);
                    *shared.posted.lock().unwrap() = true;
                    shared.is_posted.notify_all();
                }
            }
        });
        let mut consumer = Consumer::new(&shared.slots);
        let mut expected = 0;
        while expected < 2 {
            let mut posted = shared.posted.lock().unwrap();
            while !*posted {
                posted = shared.is_posted.wait(posted).unwrap();
            }
            *posted = false;
            drop(posted);
            while take(&shared, &mut consumer, expected) {
                expected += 1;
            }
        }
        writer.join().unwrap();
    });
}
