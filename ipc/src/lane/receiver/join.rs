//! Where a reader of a topic begins, and what it owes to a writer with many readers.
//!
//! Not here: the reading itself (`receiver`).
//!
//! # Joining
//! The writer says after each whole message where its last messages begin and where its next one goes (`ring::join`). A reader
//! begins exactly with the last messages, or exactly after them. From then on the stamps say what is there: what is overwritten
//! before it is read is counted, whether the writer knows of the reader yet or not. A reader is given no message twice and
//! none out of order, because it only ever moves forward from where it began.

use std::os::fd::OwnedFd;

use super::super::ReceiveError;
use super::Receiver;
use crate::futex;
use crate::header::AgentId;
use crate::limits::JOIN_TRIES_MAX;
use crate::ring::{Consumer, Place};
use crate::segment::{Control, Cursor, Region, SegmentError, Slots};
use crate::sync::{Ordering, fence};
use crate::wait::{self, Spin};

/// Positions beyond this are no writer's: a ring that is written without a pause reaches them in centuries.
const POSITION_MAX: u64 = 1 << 60;

/// Where a reader of a topic begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next message.
    Live,
    /// With the last messages that the writer keeps for those who join; where it keeps none, with the next one.
    History,
    /// At a position that is known from before, or as far behind it as the ring still goes; what is missing is reported as
    /// lost.
    At(u64),
}

impl Receiver {
    /// The reading side of a topic.
    pub fn for_topic(
        source: AgentId,
        slots: OwnedFd,
        region: OwnedFd,
        control: Option<OwnedFd>,
        start: Start,
        spin: Spin,
    ) -> Result<Self, SegmentError> {
        let slots = Slots::open_kind(slots, true)?;
        let Joining { place, missing } = place_to_join(&slots);
        let (begin, missing) = match start {
            Start::Live => (place.position, 0),
            Start::History => (place.from, missing),
            Start::At(position) => (position.min(place.position), 0),
        };
        let consumer = Consumer::join_at(slots.slots(), begin);
        let region = Region::open(region)?;
        let control = control.map(Control::open).transpose()?;
        let cursor = Cursor::create(begin, spin == Spin::Forever)?;
        let mut receiver = Self::new(source, slots, region, control, cursor, consumer);
        receiver.spin = spin;
        receiver.live_from = place.position;
        (receiver.missing, receiver.joined_at) = (missing, begin - missing);
        Ok(receiver)
    }

    /// What of the messages kept for those who join was not there any more: told once, before the others.
    pub(super) fn take_missing(&mut self) -> Option<ReceiveError> {
        let missing = std::mem::take(&mut self.missing);
        (missing > 0).then(|| self.lapped(missing))
    }

    /// Of a topic: where it was joined. The position now is this, the lines of what was received, and those that were lost.
    pub fn joined_at(&self) -> u64 {
        self.joined_at
    }

    /// The line that is read next.
    pub fn position(&self) -> u64 {
        self.consumer.position()
    }

    /// Whether what is read next was there before this reader joined.
    pub fn is_behind_join(&self) -> bool {
        self.consumer.position() < self.live_from
    }

    /// Which of the writer's starts this lane is of, as the router says.
    pub fn epoch(&self) -> u32 {
        self.control.as_ref().map_or(0, Control::epoch)
    }

    /// Rule 7 of `wait`: after arming, before the last look.
    pub(super) fn let_quiet_time_pass(&self) {
        if !self.slots.tells_where_to_join() {
            return;
        }
        let shared = &self.slots.header().quiet_until.0;
        let Some(until) = wait::quiet_until(shared, futex::monotonic_ns()) else { return };
        while futex::monotonic_ns() < until && self.consumer.is_empty(self.slots.slots()) {
            if self.spin == Spin::None {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        // The look that follows must not be older than the clock.
        fence(Ordering::SeqCst);
    }
}

/// Where a reader that joins can begin, and how many lines of the kept messages stood before that and are gone.
struct Joining {
    place: Place,
    missing: u64,
}

impl Joining {
    fn at(from: u64, position: u64) -> Self {
        Self { place: Place { from, position }, missing: 0 }
    }
}

/// Where the writer's last messages begin and where its next one goes. Every word may be a lie: what cannot be is taken as no
/// history, and the stamps tell the rest.
fn place_to_join(slots: &Slots) -> Joining {
    let counters = &slots.header().counters;
    let newest = Consumer::join(slots.slots()).position();
    if !slots.tells_where_to_join() {
        return Joining::at(newest, newest);
    }
    let keeps = counters.history.load(Ordering::Relaxed) > 0;
    let ask = |_| counters.join_words().ask();
    let place = (0..JOIN_TRIES_MAX).map(ask).find(|tried| tried.is_ok() || !keeps);
    let Place { from, position } = match place.unwrap_or_else(|| counters.join_words().ask()) {
        Ok(place) | Err(place) => place,
    };
    if position > POSITION_MAX {
        return Joining::at(newest, newest);
    }
    let capacity = slots.slots().len() as u64;
    match position.checked_sub(from).filter(|_| keeps) {
        None => Joining::at(position, position),
        Some(lines) if lines <= capacity => Joining::at(from, position),
        // They never all stood in the ring: as many as are whole.
        Some(_) if slots.tells_what_is_whole() => {
            let whole = slots.header().whole_from.0.load(Ordering::Relaxed);
            let begin = whole.clamp(position - capacity, position);
            Joining { place: Place { from: begin, position }, missing: begin - from }
        }
        Some(_) => Joining::at(position, position),
    }
}
