//! Throughput of one lane in one direction, beside bare loops over the same memory without any check.
//!
//! Messages of 32 bytes. The first process writes every payload, the second reads every word of it; the second's checksum,
//! which depends on the order too, must be the first's. Bare writers and readers ask for their lines ahead, too, always: nobody
//! stops them. Everything is in several places (`places`), one after the other. Not here: the two processes (`pair`), and latency (`latency`).

use std::array;
use std::hint::{black_box, spin_loop};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ipc::floor::{self, FLOOR_SLOTS, FloorRing};
use ipc::header::AgentId;
use ipc::lane::{LaneOptions, Receiver, Sender, WhenFull};
use ipc::limits::{CLAIM_AHEAD_LINES, READ_AHEAD_LINES};
use ipc::ring::Meta;
use ipc::segment::ControlWriter;
use ipc::socket::Connection;
use ipc::wait::Spin;
use serde_json::{Value, json};

use super::latency::REGION_BYTES;
use super::pair::exactly;
use super::places::{PLACES, apart};

/// For one message there and back so many go one way: 20 ms at the highest rate, so that starting does not count.
const FACTOR: u64 = 20;
/// Messages of a batch.
const BATCH: u64 = 64;
/// Slots of the smaller lane, the default of the bus.
const SMALL_SLOTS: usize = 1_024;
/// How long the writer waits for room before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const WORDS: usize = 4;
/// How many payloads ahead the two sides of a bare index ring ask for lines: two to a line, as many lines as a lane.
const CLAIM_PAYLOADS: u64 = CLAIM_AHEAD_LINES * 2;
const READ_PAYLOADS: u64 = READ_AHEAD_LINES * 2;

/// What is measured, in this order in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Bare,
    Lane,
    BareBatched,
    LaneBatched,
    BareSmall,
    LaneSmall,
    BareSmallBatched,
    LaneSmallBatched,
}

pub(super) const MEASURES: [Measure; 8] = [
    Measure::Bare,
    Measure::Lane,
    Measure::BareBatched,
    Measure::LaneBatched,
    Measure::BareSmall,
    Measure::LaneSmall,
    Measure::BareSmallBatched,
    Measure::LaneSmallBatched,
];

/// The first process's ends: it writes.
pub(super) struct Lanes(Vec<Writers>);

/// The second process's ends: it reads.
pub(super) struct Readers(Vec<ReadersHere>);

/// The writing ends in one place.
struct Writers {
    bare: Bare,
    bare_small: Bare,
    large: Sender,
    small: Sender,
}

/// The reading ends in one place.
struct ReadersHere {
    bare: Bare,
    bare_small: Bare,
    large: Receiver,
    small: Receiver,
}

/// One side of the two bare rings in one memory, which serves all rounds: each goes on where it stopped.
struct Bare {
    ring: FloorRing,
    slot: u64,
    index: u64,
}

impl Lanes {
    /// Makes the rings and hands them over.
    pub(super) fn offer(socket: &Connection, control: &ControlWriter) -> anyhow::Result<Self> {
        Ok(Self(apart(|| Writers::offer(socket, control))?))
    }

    /// The other side of [`Lanes::offer`].
    pub(super) fn take(socket: &Connection) -> anyhow::Result<Readers> {
        Ok(Readers(apart(|| ReadersHere::take(socket))?))
    }

    /// Messages per second of one measurement.
    pub(super) fn rate(
        &mut self,
        socket: &Connection,
        measure: Measure,
        messages: u64,
    ) -> anyhow::Result<f64> {
        let parts = parts(messages);
        let sum = |part: Range<u64>| part.fold(0, |sum, number| add(sum, payload(number)));
        let expected = parts.clone().map(sum).map(u64::to_le_bytes);
        // The other side is ready.
        socket.receive()?;
        let began = Instant::now();
        for (place, part) in self.0.iter_mut().zip(parts.clone()) {
            place.write(measure, part)?;
        }
        let answer = socket.receive()?.bytes;
        let taken = began.elapsed();
        ensure!(answer == expected.as_flattened(), "{measure:?}: messages arrived changed");
        let sent: u64 = parts.map(|part| part.end - part.start).into_iter().sum();
        Ok(sent as f64 / taken.as_secs_f64())
    }
}

impl Readers {
    /// The other side of [`Lanes::rate`].
    pub(super) fn answer(
        &mut self,
        socket: &Connection,
        measure: Measure,
        messages: u64,
    ) -> anyhow::Result<()> {
        self.0.iter().for_each(|place| place.say(measure));
        socket.send(b"ready", &[])?;
        let mut sums = [0; PLACES];
        for ((place, sum), part) in self.0.iter_mut().zip(&mut sums).zip(parts(messages)) {
            *sum = place.read(measure, part.end - part.start)?;
        }
        socket.send(sums.map(u64::to_le_bytes).as_flattened(), &[])?;
        Ok(())
    }
}

impl Writers {
    fn offer(socket: &Connection, control: &ControlWriter) -> anyhow::Result<Self> {
        let (bare, bare_small) = (FloorRing::create()?, FloorRing::create()?);
        let (mut large, mut small) = (sender(FLOOR_SLOTS)?, sender(SMALL_SLOTS)?);
        let given = [
            bare.as_fd(),
            bare_small.as_fd(),
            large.slots_fd(),
            large.region_fd(),
            small.slots_fd(),
            small.region_fd(),
            control.as_fd(),
        ];
        socket.send(b"rings", &given)?;
        let cursors: [OwnedFd; 2] = exactly(socket.receive()?.descriptors)?;
        for (sender, cursor) in [&mut large, &mut small].into_iter().zip(cursors) {
            sender.set_control(control.as_fd().try_clone_to_owned()?)?;
            sender.set_spin(Spin::Forever);
            sender.attach(AgentId(1), cursor, None)?;
        }
        Ok(Self { bare: Bare::new(bare), bare_small: Bare::new(bare_small), large, small })
    }

    fn write(&mut self, measure: Measure, numbers: Range<u64>) -> anyhow::Result<()> {
        match measure {
            Measure::Bare => write_bare::<FLOOR_SLOTS>(&mut self.bare, numbers),
            Measure::BareBatched => write_bare_batched::<FLOOR_SLOTS>(&mut self.bare, numbers),
            Measure::BareSmall => write_bare::<SMALL_SLOTS>(&mut self.bare_small, numbers),
            Measure::BareSmallBatched => {
                write_bare_batched::<SMALL_SLOTS>(&mut self.bare_small, numbers)
            }
            Measure::Lane => write_lane(&mut self.large, numbers)?,
            Measure::LaneBatched => write_lane_batched(&mut self.large, numbers)?,
            Measure::LaneSmall => write_lane(&mut self.small, numbers)?,
            Measure::LaneSmallBatched => write_lane_batched(&mut self.small, numbers)?,
        }
        Ok(())
    }
}

impl ReadersHere {
    fn take(socket: &Connection) -> anyhow::Result<Self> {
        let taken: [OwnedFd; 7] = exactly(socket.receive()?.descriptors)?;
        let [bare, bare_small, slots, region, small_slots, small_region, page] = taken;
        let bare = Bare::new(FloorRing::open(bare)?);
        let bare_small = Bare::new(FloorRing::open(bare_small)?);
        let cursors = (Receiver::new_cursor(Spin::Forever)?, Receiver::new_cursor(Spin::Forever)?);
        socket.send(b"cursors", &[cursors.0.as_fd(), cursors.1.as_fd()])?;
        let of = AgentId(2);
        let large = Receiver::for_link(of, slots, region, page.try_clone()?, cursors.0)?;
        let small = Receiver::for_link(of, small_slots, small_region, page, cursors.1)?;
        Ok(Self { bare, bare_small, large, small })
    }

    /// The writer of either of two bare rings that share a cursor is told where the reader is.
    fn say(&self, measure: Measure) {
        match measure {
            Measure::Bare => self.bare.say(self.bare.slot),
            Measure::BareBatched => self.bare.say(self.bare.index),
            Measure::BareSmall => self.bare_small.say(self.bare_small.slot),
            Measure::BareSmallBatched => self.bare_small.say(self.bare_small.index),
            _ => {}
        }
    }

    /// The checksum of what came.
    fn read(&mut self, measure: Measure, messages: u64) -> anyhow::Result<u64> {
        Ok(match measure {
            Measure::Bare => read_bare::<FLOOR_SLOTS>(&mut self.bare, messages),
            Measure::BareBatched => read_bare_batched::<FLOOR_SLOTS>(&mut self.bare, messages),
            Measure::BareSmall => read_bare::<SMALL_SLOTS>(&mut self.bare_small, messages),
            Measure::BareSmallBatched => {
                read_bare_batched::<SMALL_SLOTS>(&mut self.bare_small, messages)
            }
            Measure::Lane => read_lane(&mut self.large, messages)?,
            Measure::LaneBatched => read_lane_batched(&mut self.large, messages)?,
            Measure::LaneSmall => read_lane(&mut self.small, messages)?,
            Measure::LaneSmallBatched => read_lane_batched(&mut self.small, messages)?,
        })
    }
}

impl Bare {
    fn new(ring: FloorRing) -> Self {
        Self { ring, slot: 0, index: 0 }
    }

    /// The reader tells the writer where it is.
    #[inline]
    fn say(&self, reached: u64) {
        self.ring.memory().head.0.store(reached, Ordering::Release);
    }
}

impl Measure {
    /// Its place in the report.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Bare => "throughput.bare_per_s",
            Self::BareBatched => "throughput.bare_batched_per_s",
            Self::Lane => "throughput.lane_per_s",
            Self::LaneBatched => "throughput.lane_batched_per_s",
            Self::BareSmall => "throughput.bare_1024_per_s",
            Self::BareSmallBatched => "throughput.bare_1024_batched_per_s",
            Self::LaneSmall => "throughput.lane_1024_per_s",
            Self::LaneSmallBatched => "throughput.lane_1024_batched_per_s",
        }
    }
}

/// How many messages go one way for `messages` there and back.
pub(super) fn messages(messages: u64) -> u64 {
    messages * FACTOR
}

/// The numbers of the messages in each place.
fn parts(messages: u64) -> [Range<u64>; PLACES] {
    let each = messages.div_ceil(PLACES as u64);
    array::from_fn(|place| place as u64 * each..(place as u64 + 1) * each)
}

/// What the figures are of.
pub(super) fn describe(throughput: &mut Value) {
    throughput["slots"] = json!(FLOOR_SLOTS);
    throughput["message_bytes"] = json!(WORDS * 8);
    throughput["batch"] = json!(BATCH);
}

fn sender(slots: usize) -> anyhow::Result<Sender> {
    Ok(Sender::for_link(LaneOptions { slots, region_bytes: REGION_BYTES })?)
}

fn batches(numbers: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = numbers.end;
    numbers.step_by(BATCH as usize).map(move |start| start..end.min(start + BATCH))
}

#[inline]
fn payload(number: u64) -> [u64; WORDS] {
    [number, !number, number.wrapping_mul(3), number ^ 0x55]
}

/// Takes every word in, and its place: with an odd factor no two places count alike.
#[inline]
fn add(sum: u64, [a, b, c, d]: [u64; WORDS]) -> u64 {
    let message = a.wrapping_add(b.rotate_left(7)) ^ c.wrapping_add(d.rotate_left(19));
    sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(message)
}

#[inline]
fn to_bytes(words: [u64; WORDS]) -> [u8; WORDS * 8] {
    let mut bytes = [0; WORDS * 8];
    for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    bytes
}

/// The words of a payload; of one with another length such that the checksum will not be the same.
#[inline]
fn from_bytes(bytes: &[u8]) -> [u64; WORDS] {
    match bytes.as_chunks::<8>() {
        ([a, b, c, d], []) => [*a, *b, *c, *d].map(u64::from_le_bytes),
        _ => [u64::MAX; WORDS],
    }
}

fn write_bare<const SLOTS: usize>(bare: &mut Bare, numbers: Range<u64>) {
    let (memory, slots) = (bare.ring.memory(), SLOTS as u64);
    let (mut at, mut limit) = (bare.slot, bare.slot + slots);
    for number in numbers {
        while at >= limit {
            spin_loop();
            limit = memory.head.0.load(Ordering::Acquire) + slots;
        }
        let slot = &memory.slots[(at & (slots - 1)) as usize];
        for (place, word) in slot.words.iter().zip(payload(number)) {
            place.store(word, Ordering::Relaxed);
        }
        slot.stamp.store(at + 1, Ordering::Release);
        floor::claim(&memory.slots[((at + CLAIM_AHEAD_LINES) & (slots - 1)) as usize]);
        at += 1;
    }
    bare.slot = at;
}

fn read_bare<const SLOTS: usize>(bare: &mut Bare, messages: u64) -> u64 {
    let (memory, slots) = (bare.ring.memory(), SLOTS as u64);
    let mut sum = 0;
    for at in bare.slot..bare.slot + messages {
        let slot = &memory.slots[(at & (slots - 1)) as usize];
        while slot.stamp.load(Ordering::Acquire) != at + 1 {
            spin_loop();
        }
        floor::fetch(&memory.slots[((at + READ_AHEAD_LINES) & (slots - 1)) as usize]);
        sum = add(sum, array::from_fn(|index| slot.words[index].load(Ordering::Relaxed)));
        // Four times per lap, as the lane's reader.
        if (at + 1).is_multiple_of(slots / 4) {
            bare.say(at + 1);
        }
    }
    bare.slot += messages;
    sum
}

fn write_bare_batched<const SLOTS: usize>(bare: &mut Bare, numbers: Range<u64>) {
    let (memory, slots) = (bare.ring.memory(), SLOTS as u64);
    let (mut at, mut limit) = (bare.index, bare.index + slots);
    for batch in batches(numbers) {
        while at + (batch.end - batch.start) > limit {
            spin_loop();
            limit = memory.head.0.load(Ordering::Acquire) + slots;
        }
        for number in batch {
            let places = &memory.payloads[(at & (slots - 1)) as usize];
            for (place, word) in places.iter().zip(payload(number)) {
                place.store(word, Ordering::Relaxed);
            }
            floor::claim(&memory.payloads[((at + CLAIM_PAYLOADS) & (slots - 1)) as usize]);
            at += 1;
        }
        memory.tail.0.store(at, Ordering::Release);
    }
    bare.index = at;
}

fn read_bare_batched<const SLOTS: usize>(bare: &mut Bare, messages: u64) -> u64 {
    let (memory, slots) = (bare.ring.memory(), SLOTS as u64);
    let (mut sum, mut position, end) = (0, bare.index, bare.index + messages);
    while position < end {
        let tail = memory.tail.0.load(Ordering::Acquire);
        if tail == position {
            spin_loop();
            continue;
        }
        for at in position..tail {
            let places = &memory.payloads[(at & (slots - 1)) as usize];
            if at.is_multiple_of(2) && at + READ_PAYLOADS < tail {
                floor::fetch(&memory.payloads[((at + READ_PAYLOADS) & (slots - 1)) as usize]);
            }
            sum = add(sum, array::from_fn(|index| places[index].load(Ordering::Relaxed)));
        }
        position = tail;
        bare.say(tail);
    }
    bare.index = end;
    sum
}

fn write_lane(lane: &mut Sender, numbers: Range<u64>) -> anyhow::Result<()> {
    let when = WhenFull::WaitUntil(Instant::now() + PATIENCE);
    for number in numbers {
        lane.send(Meta::default(), &to_bytes(payload(number)), when)?;
    }
    Ok(())
}

fn read_lane(lane: &mut Receiver, messages: u64) -> anyhow::Result<u64> {
    let mut sum = 0;
    for _ in 0..messages {
        sum = add(sum, from_bytes(lane.receive(None)?.payload));
    }
    Ok(black_box(sum))
}

fn write_lane_batched(lane: &mut Sender, numbers: Range<u64>) -> anyhow::Result<()> {
    let when = WhenFull::WaitUntil(Instant::now() + PATIENCE);
    for batch in batches(numbers) {
        for number in batch {
            lane.push(Meta::default(), &to_bytes(payload(number)), when)?;
        }
        lane.flush();
    }
    Ok(())
}

fn read_lane_batched(lane: &mut Receiver, messages: u64) -> anyhow::Result<u64> {
    let (mut sum, mut left) = (0, messages);
    while left > 0 {
        let max = left.min(BATCH) as usize;
        let count = lane.receive_batch(max, |message| {
            sum = add(sum, from_bytes(message.payload));
        })?;
        if count == 0 {
            spin_loop();
        }
        left -= count as u64;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_out_of_order_have_another_sum() {
        let sum = |numbers: &[u64]| numbers.iter().fold(0, |sum, at| add(sum, payload(*at)));
        let numbers: Vec<u64> = (0..4_096).collect();
        for apart in [1, 16, BATCH as usize, SMALL_SLOTS, 2_048] {
            let mut swapped = numbers.clone();
            swapped.swap(100, 100 + apart);
            assert_ne!(sum(&swapped), sum(&numbers), "two that are {apart} apart");
            let mut swapped = numbers.clone();
            let (first, second) = swapped.split_at_mut(apart);
            first.swap_with_slice(&mut second[..apart]);
            assert_ne!(sum(&swapped), sum(&numbers), "the first {apart} with the next");
        }
    }

    #[test]
    fn every_place_has_messages_of_its_own() {
        let parts = parts(13);
        assert!(parts.iter().all(|part| part.end - part.start == 2));
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
    }
}
