//! Lent bytes of a lane: a place is written again only after its line was passed, or whoever read it knows that it was lost.

use loom::sync::Arc;
use loom::thread;

use super::lender::{self, Lender, copy_in, copy_out};
use super::model;
use crate::ring::{Consumer, Found, Gate, Line, Meta, Producer, Slot, Timing};
use crate::sync::{AtomicU64, Ordering};

const CAPACITY: u64 = 4;
/// Two places.
const REGION_BYTES: usize = 128;

struct Shared {
    slots: Vec<Slot>,
    cursor: AtomicU64,
    reserved_until: AtomicU64,
    /// Of each place one word is used.
    region: Vec<AtomicU64>,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        slots: (0..CAPACITY).map(|_| Slot::new()).collect(),
        cursor: AtomicU64::new(0),
        reserved_until: AtomicU64::new(0),
        region: (0..REGION_BYTES / 8).map(|_| AtomicU64::new(0)).collect(),
    })
}

/// The writer of a lane: slots and region.
struct Writer {
    producer: Producer,
    lender: Lender,
    gate: Gate,
    ungated: bool,
}

impl Writer {
    fn new(shared: &Shared, ungated: bool) -> Self {
        Self {
            producer: Producer::new(&shared.slots, ungated),
            lender: Lender::new(REGION_BYTES, CAPACITY as usize),
            gate: Gate::from_start(),
            ungated,
        }
    }

    /// As `Sender::resume_large`, for a message of one chunk of eight bytes.
    fn send(&mut self, shared: &Shared, value: u64) {
        let place = self.lender.place(8);
        while !self.ungated && !self.lender.is_free(place) {
            self.gate.update(&shared.cursor, &self.producer).unwrap();
            self.lender.release(self.gate.cursor().unwrap());
            if !self.lender.is_free(place) {
                thread::yield_now();
            }
        }
        if self.ungated {
            self.producer.set_limit(self.producer.position() + CAPACITY);
            lender::reserve(&shared.reserved_until, place);
        }
        let offset = place.start as usize % REGION_BYTES;
        copy_in(&shared.region, offset, &[&value.to_le_bytes()]);
        self.lender.take(place, self.producer.position(), self.ungated);
        self.producer.write(&shared.slots, Meta::default(), &place.start.to_le_bytes());
    }
}

/// What lies where a line says.
fn read(shared: &Shared, start: u64) -> u64 {
    let mut bytes = Vec::with_capacity(8);
    copy_out(&shared.region, start as usize % REGION_BYTES, 8, &mut bytes);
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn loom_lent_place_is_used_again_only_after_its_line_was_passed() {
    model(|| {
        let shared = shared();
        let mut writer = Writer::new(&shared, false);
        // Both places are lent, so the third message depends on the cursor.
        writer.send(&shared, 1);
        writer.send(&shared, 2);
        let sending = thread::spawn({
            let shared = shared.clone();
            move || writer.send(&shared, 3)
        });
        let mut consumer = Consumer::new(&shared.slots);
        let (mut line, mut timing) = (Line::default(), Timing::default());
        let mut expected = 1;
        while expected <= 3 {
            match consumer.take(&shared.slots, &mut line, &mut timing).unwrap() {
                Found::One => {
                    assert_eq!(read(&shared, line.word(0)), expected);
                    expected += 1;
                    shared.cursor.store(consumer.position(), Ordering::Release);
                }
                Found::Empty => thread::yield_now(),
                found => panic!("{found:?}"),
            }
        }
        sending.join().unwrap();
    });
}

#[test]
fn loom_lent_bytes_of_a_topic_are_whole_or_known_to_be_lost() {
    model(|| {
        let shared = shared();
        let mut writer = Writer::new(&shared, true);
        writer.send(&shared, 1);
        let sending = thread::spawn({
            let shared = shared.clone();
            move || (2..=3).for_each(|value| writer.send(&shared, value))
        });
        let mut consumer = Consumer::join(&shared.slots);
        // From before the first message on, so that there is one.
        if consumer.position() > 1 {
            consumer = Consumer::new(&shared.slots);
        }
        let (mut line, mut timing) = (Line::default(), Timing::default());
        let position = consumer.position();
        if let Found::One = consumer.take(&shared.slots, &mut line, &mut timing).unwrap() {
            let start = line.word(0);
            let found = read(&shared, start);
            if lender::is_still_there(&shared.reserved_until, start, REGION_BYTES as u64) {
                assert_eq!(found, position + 1);
            }
        }
        sending.join().unwrap();
    });
}
