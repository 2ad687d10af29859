//! Latency of a lane, beside one cache line there and back with nothing else.
//!
//! Half of a round trip is one way. Two lines are measured with a real time, as a sender that wants its latency counted sends
//! them: it looks at the clock before, and the reader looks at it and counts; and without a time, where neither does. What
//! one look at the bus's clock takes stands beside it; and so does the same exchange of two lines written as bare loops, without
//! checks, counters or an end, which look at the same clock as often: the limit of that mechanism.
//!
//! Everything is in several places (`places`); the floor is every line of a page in each.

use std::hint::black_box;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ipc::clock::Clock;
use ipc::floor::{self, FLOOR_PLACES, FloorLine, FloorRing, FloorSlot};
use ipc::header::AgentId;
use ipc::lane::{LaneOptions, Receiver, Sender, WhenFull};
use ipc::ring::{Meta, Timing};
use ipc::segment::ControlWriter;
use ipc::socket::Connection;
use ipc::wait::Spin;

use super::pair::{Percentiles, exactly, times};
use super::places::{PLACES, apart, turn};

/// Bytes of payload in a message.
pub(super) const PAYLOAD_BYTES: usize = 48;
/// The same in words.
const PAYLOAD_WORDS: usize = PAYLOAD_BYTES / 8;
/// Slots of each lane, the default of the bus.
const SLOTS: usize = 1024;
/// Bytes of each lane's region; the measured messages do not use it.
pub(super) const REGION_BYTES: usize = 256 * 1024;
/// Looks at the clock that are timed together.
const CLOCK_LOOKS: u32 = 10_000;
/// A new clock knows its rate by then.
const CLOCK_KNOWN_AFTER: Duration = Duration::from_millis(2);

/// What is measured, in this order in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Floor,
    OneLine,
    TwoLines,
    TwoLinesUntimed,
    /// The mechanism of `TwoLines` alone.
    TwoLinesBare,
}

pub(super) const MEASURES: [Measure; 5] = [
    Measure::Floor,
    Measure::OneLine,
    Measure::TwoLines,
    Measure::TwoLinesUntimed,
    Measure::TwoLinesBare,
];

/// One side's ends.
pub(super) struct Ends {
    places: Vec<Place>,
    clock: Clock,
}

/// One side's ends in one place of the memory.
struct Place {
    /// Written by this side.
    own: FloorLine,
    /// Written by the other.
    other: FloorLine,
    /// The last value that was written: it only grows, so one pair of pages serves all rounds.
    floor: u64,
    bare: Bare,
    sender: Sender,
    receiver: Receiver,
}

/// One side of two bare rings in which messages have two lines.
struct Bare {
    /// Written by this side.
    own: FloorRing,
    /// Written by the other.
    other: FloorRing,
    sent: u64,
    received: u64,
    /// In place of a histogram.
    passed_ns: u64,
}

impl Measure {
    /// Its place in the report.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::OneLine => "classes.critical",
            Self::TwoLines => "classes.critical_two_lines",
            Self::TwoLinesUntimed => "classes.critical_two_lines.untimed",
            Self::TwoLinesBare => "classes.critical_two_lines.bare",
        }
    }
}

impl Ends {
    /// Makes this side's segments, hands them over, and takes the other side's.
    pub(super) fn offer(socket: &Connection, control: &ControlWriter) -> anyhow::Result<Self> {
        Ok(Self { places: apart(|| Place::offer(socket, control))?, clock: Clock::new() })
    }

    /// The other side of [`Ends::offer`].
    pub(super) fn take(socket: &Connection) -> anyhow::Result<Self> {
        Ok(Self { places: apart(|| Place::take(socket))?, clock: Clock::new() })
    }

    /// Sends messages and waits for the answer of each.
    pub(super) fn ask(&mut self, measure: Measure, messages: u64) -> anyhow::Result<Percentiles> {
        let mut times = times()?;
        for number in 0..messages {
            let place = &mut self.places[turn(number, messages, PLACES)];
            place.move_floor(number, messages);
            let began = Instant::now();
            place.ask(measure, number, &self.clock)?;
            times.saturating_record(began.elapsed().as_nanos() as u64);
        }
        Ok(Percentiles::one_way(&times))
    }

    /// The other side of [`Ends::ask`].
    pub(super) fn answer(&mut self, measure: Measure, messages: u64) -> anyhow::Result<()> {
        for number in 0..messages {
            let place = &mut self.places[turn(number, messages, PLACES)];
            place.move_floor(number, messages);
            place.answer(measure, &self.clock)?;
        }
        Ok(())
    }
}

impl Place {
    fn offer(socket: &Connection, control: &ControlWriter) -> anyhow::Result<Self> {
        let (own, other) = (FloorLine::create()?, FloorLine::create()?);
        let bare = Bare::new(FloorRing::create()?, FloorRing::create()?);
        let mut sender = Sender::for_link(options())?;
        let cursor = Receiver::new_cursor(Spin::Forever)?;
        let given = [
            own.as_fd(),
            other.as_fd(),
            bare.own.as_fd(),
            bare.other.as_fd(),
            sender.slots_fd(),
            sender.region_fd(),
            cursor.as_fd(),
            control.as_fd(),
        ];
        socket.send(b"offer", &given)?;
        let taken: [OwnedFd; 3] = exactly(socket.receive()?.descriptors)?;
        let [slots, region, their_cursor] = taken;
        let page = control.as_fd().try_clone_to_owned()?;
        sender.set_control(page.try_clone()?)?;
        sender.set_spin(Spin::Forever);
        sender.attach(AgentId(1), their_cursor, None)?;
        let receiver = Receiver::for_link(AgentId(1), slots, region, page, cursor)?;
        Ok(Self { own, other, floor: 0, bare, sender, receiver })
    }

    fn take(socket: &Connection) -> anyhow::Result<Self> {
        let taken: [OwnedFd; 8] = exactly(socket.receive()?.descriptors)?;
        let [other, own, bare_other, bare_own, slots, region, their_cursor, page] = taken;
        let mut sender = Sender::for_link(options())?;
        let cursor = Receiver::new_cursor(Spin::Forever)?;
        socket.send(b"taken", &[sender.slots_fd(), sender.region_fd(), cursor.as_fd()])?;
        sender.set_control(page.try_clone()?)?;
        sender.set_spin(Spin::Forever);
        sender.attach(AgentId(2), their_cursor, None)?;
        let receiver = Receiver::for_link(AgentId(2), slots, region, page, cursor)?;
        let (own, other) = (FloorLine::open(own)?, FloorLine::open(other)?);
        let bare = Bare::new(FloorRing::open(bare_own)?, FloorRing::open(bare_other)?);
        Ok(Self { own, other, floor: 0, bare, sender, receiver })
    }

    /// One message and its answer.
    #[inline]
    fn ask(&mut self, measure: Measure, number: u64, clock: &Clock) -> anyhow::Result<()> {
        match measure {
            Measure::Floor => {
                self.floor += 1;
                self.own.store(self.floor);
                self.other.wait_for(self.floor);
            }
            Measure::TwoLinesBare => {
                let words = [number; PAYLOAD_WORDS];
                self.bare.send(words, clock);
                ensure!(self.bare.receive(clock) == words, "{number} came back changed");
            }
            _ => {
                let payload = [number as u8; PAYLOAD_BYTES];
                self.send(measure, &payload)?;
                let answer = self.receiver.receive(None)?;
                ensure!(answer.payload == payload, "message {number} came back changed");
            }
        }
        Ok(())
    }

    #[inline]
    fn answer(&mut self, measure: Measure, clock: &Clock) -> anyhow::Result<()> {
        match measure {
            Measure::Floor => {
                self.floor += 1;
                self.other.wait_for(self.floor);
                self.own.store(self.floor);
            }
            Measure::TwoLinesBare => {
                let words = self.bare.receive(clock);
                self.bare.send(words, clock);
            }
            _ => {
                let mut payload = [0; PAYLOAD_BYTES];
                payload.copy_from_slice(self.receiver.receive(None)?.payload);
                self.send(measure, &payload)?;
            }
        }
        Ok(())
    }

    /// To the line that both sides use for message `number`.
    #[inline]
    fn move_floor(&mut self, number: u64, messages: u64) {
        let place = turn(number, messages, PLACES * FLOOR_PLACES);
        self.own.set_place(place);
        self.other.set_place(place);
    }

    fn send(&mut self, measure: Measure, payload: &[u8]) -> anyhow::Result<()> {
        let (sender, when) = (&mut self.sender, WhenFull::Reject);
        match measure {
            Measure::TwoLines => {
                sender.send_timed_now(Meta::default(), payload, Timing::default(), when)?;
            }
            Measure::TwoLinesUntimed => {
                sender.send_timed(Meta::default(), payload, Timing::default(), when)?;
            }
            _ => sender.send(Meta::default(), payload, when)?,
        }
        Ok(())
    }
}

impl Bare {
    fn new(own: FloorRing, other: FloorRing) -> Self {
        Self { own, other, sent: 0, received: 0, passed_ns: 0 }
    }

    /// As a lane does it: the second line is asked for before the clock is looked at, and is stamped before the first one.
    #[inline]
    fn send(&mut self, words: [u64; PAYLOAD_WORDS], clock: &Clock) {
        let [first, second] = [self.sent, self.sent + 1].map(|at| slot(&self.own, at));
        floor::claim(second);
        let timing = [0, clock.now_ns(), 0, 0, 0];
        for (place, word) in second.words.iter().zip(timing) {
            place.store(word, Ordering::Relaxed);
        }
        second.stamp.store(self.sent + 2, Ordering::Release);
        for (place, word) in first.words[1..].iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        first.words[0].store(PAYLOAD_BYTES as u64, Ordering::Relaxed);
        first.stamp.store(self.sent + 1, Ordering::Release);
        self.sent += 2;
    }

    /// As a lane does it: the first line is looked for, and both are asked for meanwhile.
    #[inline]
    fn receive(&mut self, clock: &Clock) -> [u64; PAYLOAD_WORDS] {
        let [first, second] = [self.received, self.received + 1].map(|at| slot(&self.other, at));
        while first.stamp.load(Ordering::Acquire) != self.received + 1 {
            floor::fetch(second);
            std::hint::spin_loop();
        }
        let words = std::array::from_fn(|index| first.words[index + 1].load(Ordering::Relaxed));
        let timing: [u64; 5] =
            std::array::from_fn(|index| second.words[index].load(Ordering::Relaxed));
        self.passed_ns = black_box(self.passed_ns.wrapping_add(clock.since_ns(timing[1])));
        black_box(timing);
        self.received += 2;
        words
    }
}

/// As many of them as a lane has.
#[inline]
fn slot(ring: &FloorRing, at: u64) -> &FloorSlot {
    &ring.memory().slots[at as usize & (SLOTS - 1)]
}

/// What one look at the clock takes.
pub(super) fn clock_ns() -> f64 {
    let clock = Clock::new();
    // The first looks ask the kernel.
    let known = Instant::now() + CLOCK_KNOWN_AFTER;
    while Instant::now() < known {
        black_box(clock.now_ns());
    }
    let began = Instant::now();
    for _ in 0..CLOCK_LOOKS {
        black_box(clock.now_ns());
    }
    began.elapsed().as_nanos() as f64 / f64::from(CLOCK_LOOKS)
}

fn options() -> LaneOptions {
    LaneOptions { slots: SLOTS, region_bytes: REGION_BYTES }
}
