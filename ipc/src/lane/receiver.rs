//! The reading side of a lane: taking, checking, reassembling, and sleeping when there is nothing.
//!
//! Not here: the ring's protocol (`ring`), that of sleeping (`wait`), and where a reader of a topic begins (`join`). Everything that the writer wrote is copied once and
//! checked before it is used; what breaks the protocol quarantines the lane for good.

mod join;
mod large;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

pub use self::join::Start;
use self::large::Assembly;
use super::{Ended, Message, ReceiveError};
use crate::clock::Clock;
use crate::doorbell::Bell;
use crate::fault;
use crate::futex;
use crate::header::{AgentId, Header, Kind};
use crate::limits::PIECES_PER_LOOK;
use crate::ring::{
    self, Consumer, FLAG_ABORT, FLAG_CHUNK, FLAG_REGION, FLAG_TWO_LINES, Found, Line, Meta, Timing,
    Violation,
};
use crate::segment::{Control, Cursor, Region, SegmentError, Slots};
use crate::sync::Ordering;
use crate::wait::{self, Next, Sleeper, Spin, Spinner};

/// After so many empty looks the cursor is brought up to date: about a microsecond of waiting.
const IDLE_POLLS: u32 = 32;
/// Where nothing more is there, it is stored at once when it would soon be due: before messages, that would delay one of them.
const IDLE_PER_LAP: u64 = 8;
/// It is due so often per lap.
const DUE_PER_LAP: u64 = 4;

/// Reads a lane.
#[derive(Debug)]
pub struct Receiver {
    slots: Slots,
    region: Region,
    cursor: Cursor,
    control: Option<Control>,
    consumer: Consumer,
    source: AgentId,
    /// The cursor as it was stored last.
    published: u64,
    /// How often in a row nothing was there while the cursor was not up to date.
    idle_polls: u32,
    sleeper: Sleeper,
    /// The bell of a link's writer, for when that waits for room in an event loop.
    bell: Option<Bell>,
    /// The writer's sleep word for which it was rung last.
    rung: u32,
    spin: Spin,
    quarantined: Option<Violation>,
    /// What a batch met after it had taken something: the next look tells it.
    due: Option<ReceiveError>,
    /// The line that was taken last.
    line: Line,
    /// Its second line, where it had one.
    timing: Timing,
    header: Header,
    assembly: Assembly,
    messages: u64,
    lost: u64,
    /// Of a topic: where it was joined, and up to where the messages were there before.
    joined_at: u64,
    live_from: u64,
    /// Of a topic: lines of kept messages that were gone when it was joined, and were not told yet.
    missing: u64,
    clock: Clock,
}

/// What was taken; the bytes lie in the receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    Nothing,
    Inline,
    Large,
}

impl Receiver {
    /// The cursor for a new link's reader, to be handed to the writer before the lane itself arrives.
    pub fn new_cursor(spin: Spin) -> Result<Cursor, SegmentError> {
        Cursor::create(0, spin == Spin::Forever)
    }

    /// The reading side of a link: segments that were received from `source`, and the own cursor.
    pub fn for_link(
        source: AgentId,
        slots: OwnedFd,
        region: OwnedFd,
        control: OwnedFd,
        cursor: Cursor,
    ) -> Result<Self, SegmentError> {
        let slots = Slots::open_kind(slots, false)?;
        let consumer = Consumer::new(slots.slots());
        let region = Region::open(region)?;
        let control = Some(Control::open(control)?);
        Ok(Self::new(source, slots, region, control, cursor, consumer))
    }

    fn new(
        source: AgentId,
        slots: Slots,
        region: Region,
        control: Option<Control>,
        cursor: Cursor,
        consumer: Consumer,
    ) -> Self {
        let spin = if cursor.polls() { Spin::Forever } else { Spin::Adaptive };
        let published = consumer.position();
        let (joined_at, live_from) = (published, published);
        Self {
            slots,
            region,
            cursor,
            control,
            consumer,
            source,
            published,
            idle_polls: 0,
            sleeper: Sleeper::default(),
            bell: None,
            rung: 0,
            spin,
            quarantined: None,
            due: None,
            line: Line::default(),
            timing: Timing::default(),
            header: Header::new(Kind::Event),
            assembly: Assembly::default(),
            messages: 0,
            lost: 0,
            joined_at,
            live_from,
            missing: 0,
            clock: Clock::new(),
        }
    }

    /// The cursor segment, to be handed on.
    pub fn cursor_fd(&self) -> BorrowedFd<'_> {
        self.cursor.as_fd()
    }

    /// Who writes this lane.
    pub fn source(&self) -> AgentId {
        self.source
    }

    /// How to wait. A receiver whose cursor says that it never sleeps never does, whatever is set.
    pub fn set_spin(&mut self, spin: Spin) {
        if !self.cursor.polls() {
            self.spin = if spin == Spin::Forever { Spin::Adaptive } else { spin };
        }
    }

    /// The next message, if it is there. The lane's end is reported when everything was read.
    #[inline]
    pub fn try_receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError> {
        if let Some(meta) = self.take_plain() {
            return Ok(Some(Message::inline(meta, &self.line)));
        }
        match self.poll()? {
            Taken::Nothing => {
                self.ended()?;
                Ok(None)
            }
            taken => self.message(taken).map(Some),
        }
    }

    /// The next message; waits until `deadline`, or without end.
    #[inline]
    pub fn receive(&mut self, deadline: Option<Instant>) -> Result<Message<'_>, ReceiveError> {
        if let Some(meta) = self.take_plain() {
            return Ok(Message::inline(meta, &self.line));
        }
        let taken = match self.poll()? {
            Taken::Nothing => self.wait(deadline)?,
            taken => taken,
        };
        self.message(taken)
    }

    /// Takes up to `max` messages that are there, and stores the cursor as often as one by one. Gives how many were
    /// taken; what comes in between is told by the next call, in its place.
    #[inline]
    pub fn receive_batch(
        &mut self,
        max: usize,
        mut take: impl FnMut(Message<'_>),
    ) -> Result<usize, ReceiveError> {
        let mut count = self.take_run(max, &mut take);
        while count < max {
            let taken = match self.poll() {
                Ok(Taken::Nothing) if count == 0 => {
                    self.ended()?;
                    return Ok(0);
                }
                Ok(Taken::Nothing) => return Ok(count),
                Ok(taken) => self.message(taken).map(&mut take),
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                return self.after_some(count, error);
            }
            count += 1;
            count += self.take_run(max - count, &mut take);
        }
        Ok(count)
    }

    /// What was taken counts, and the error is not lost.
    #[cold]
    fn after_some(&mut self, count: usize, error: ReceiveError) -> Result<usize, ReceiveError> {
        if count == 0 {
            return Err(error);
        }
        self.due = Some(error);
        Ok(count)
    }

    /// Takes the bell of a link's writer, so that this reader can tell it of room.
    pub(crate) fn set_bell(&mut self, bell: Bell) {
        self.bell = Some(bell);
    }

    /// Gets ready to sleep in an event loop: the doorbell rings for the next message. False when something is there
    /// already; then the receiver stays awake. After the bell, [`Receiver::disarm`].
    ///
    /// # Panics
    /// When the cursor says that the reader never sleeps: then nobody would ring.
    pub fn arm(&mut self) -> bool {
        assert!(!self.cursor.polls(), "a reader that polls has no bell");
        self.publish();
        self.sleeper.arm(&self.cursor.header().sleeping.0, wait::ON_BELL);
        self.let_quiet_time_pass();
        fault::point("lane.reader-armed");
        let ready = !self.consumer.is_empty(self.slots.slots())
            || self.quarantined.is_some()
            || self.due.is_some()
            || self.ended().is_err();
        if ready {
            self.disarm();
        }
        !ready
    }

    /// Says where this reader is. A reader of its name that comes after it can go on there; otherwise it would go on up to a
    /// quarter of the ring before.
    pub fn commit(&mut self) {
        if self.unpublished() > 0 {
            self.publish();
        }
    }

    /// Messages that were received.
    pub fn received(&self) -> u64 {
        self.messages
    }

    /// Lines that were lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether a message is there.
    pub fn has_message(&self) -> bool {
        !self.consumer.is_empty(self.slots.slots())
    }

    /// Bytes of the message that is being put together, or that was taken last.
    pub fn held_bytes(&self) -> usize {
        self.assembly.held_bytes()
    }

    /// Whether a message has begun to come that is not complete.
    pub fn is_under_way(&self) -> bool {
        self.assembly.is_under_way()
    }

    /// Gives memory of earlier messages back, as far as none is under way.
    pub fn release(&mut self) {
        self.assembly.release();
    }

    /// The router's page, where there is one.
    pub(crate) fn control(&self) -> Option<&Control> {
        self.control.as_ref()
    }

    /// Whether nothing more will come: the lane has ended, or its writer broke the protocol.
    pub fn is_over(&self) -> bool {
        self.quarantined.is_some() || !self.is_live()
    }

    /// Awake again after [`Receiver::arm`].
    pub fn disarm(&mut self) {
        self.sleeper.disarm(&self.cursor.header().sleeping.0);
    }

    /// What the writer has counted.
    pub fn counters(&self) -> crate::segment::LaneCounters {
        self.slots.counters()
    }

    /// Whether more may come, as the router says.
    pub(crate) fn is_live(&self) -> bool {
        self.control.as_ref().is_none_or(|control| control.state().is_live())
    }

    /// The word that says whether the lane has ended, and its value: what a sleeper of another kind watches as well.
    pub(crate) fn state(&self) -> Option<(&crate::sync::AtomicU32, u32)> {
        let word = self.control.as_ref()?.state_word();
        Some((word, word.load(Ordering::Acquire)))
    }

    /// The memory that a hostile reader would scribble in.
    #[cfg(test)]
    pub(super) fn memory(&self) -> &Cursor {
        &self.cursor
    }

    /// Whether the next line may be taken the quick way: a gated ring, nothing broken, no message half read.
    #[inline]
    fn is_plain(&self) -> bool {
        !self.slots.ungated() && self.quarantined.is_none() && !self.assembly.is_under_way()
    }

    /// The quick way for one message; nothing where [`Receiver::poll`] has to look. A call costs a third of a lane's rate.
    #[inline(always)]
    fn take_plain(&mut self) -> Option<Meta> {
        if !self.is_plain() {
            return None;
        }
        let meta = self.consumer.take_plain(self.slots.slots(), &mut self.line)?;
        self.passed(1);
        Some(meta)
    }

    /// The quick way for all messages that are there, at most so many and at most until the cursor is due.
    #[inline]
    fn take_run(&mut self, max: usize, take: &mut impl FnMut(Message<'_>)) -> usize {
        if !self.is_plain() {
            return 0;
        }
        let slots = self.slots.slots();
        let until_due = (self.lap() / DUE_PER_LAP).saturating_sub(self.unpublished()).max(1);
        let max = max.min(until_due as usize);
        let mut count = 0;
        while count < max
            && let Some(meta) = self.consumer.take_plain(slots, &mut self.line)
        {
            take(Message::inline(meta, &self.line));
            count += 1;
        }
        if count > 0 {
            self.passed(count as u64);
        }
        count
    }

    #[inline]
    pub(crate) fn poll(&mut self) -> Result<Taken, ReceiveError> {
        if let Some(due) = self.due.take() {
            return Err(due);
        }
        if let Some(violation) = self.quarantined {
            return Err(ReceiveError::Quarantined(violation));
        }
        if self.missing > 0
            && let Some(missing) = self.take_missing()
        {
            return Err(missing);
        }
        let mut pieces = 0;
        loop {
            let taken = self.consumer.take(self.slots.slots(), &mut self.line, &mut self.timing);
            match taken {
                Ok(Found::One | Found::Two) => {
                    let flags = self.line.meta.flags;
                    if flags & (FLAG_REGION | FLAG_CHUNK | FLAG_ABORT) == 0
                        && !self.assembly.is_under_way()
                    {
                        self.passed(1);
                        return Ok(Taken::Inline);
                    }
                    let taken = self.take_large()?;
                    pieces += 1;
                    // A message that was given up ends this look, and so do many pieces: a stream of either must not hold the
                    // reader.
                    let is_over = flags & FLAG_ABORT != 0 || pieces >= PIECES_PER_LOOK;
                    if !matches!(taken, Taken::Nothing) || is_over {
                        return Ok(taken);
                    }
                }
                Ok(Found::Empty) => {
                    self.publish_when_idle();
                    return Ok(Taken::Nothing);
                }
                Ok(Found::Lapped(lost)) => return Err(self.lapped(lost)),
                Err(violation) => return Err(self.quarantine(violation)),
            }
        }
    }

    /// A reader that found everything read is at most a quarter of the ring ahead of its cursor, so nobody waits for it; a fence
    /// after each message would stand in the way of the next one (in a ring of eight slots it is made all the same).
    #[inline]
    fn publish_when_idle(&mut self) {
        let unpublished = self.unpublished();
        if unpublished > 0 {
            self.idle_polls += 1;
            if self.idle_polls >= IDLE_POLLS || unpublished >= self.lap() / IDLE_PER_LAP {
                self.publish();
            }
        }
    }

    /// Counts messages, and stores the cursor at least four times per lap.
    #[inline]
    fn passed(&mut self, messages: u64) {
        self.messages += messages;
        self.idle_polls = 0;
        if self.unpublished() >= self.lap() / DUE_PER_LAP {
            self.publish();
        }
    }

    /// Lines that were read and that the cursor does not have yet.
    #[inline]
    fn unpublished(&self) -> u64 {
        self.consumer.position() - self.published
    }

    #[inline]
    fn lap(&self) -> u64 {
        self.slots.slots().len() as u64
    }

    /// Rule 6 of the ring, and the waking of a writer that waits for room.
    #[cold]
    #[inline(never)]
    pub(crate) fn publish(&mut self) {
        self.idle_polls = 0;
        self.published = self.consumer.position();
        let header = self.cursor.header();
        header.counters.messages.store(self.messages, Ordering::Relaxed);
        header.counters.lost.store(self.lost, Ordering::Relaxed);
        fault::point("lane.read");
        // Partner: the Acquire load in `Gate::update`.
        header.position.0.store(self.published, Ordering::Release);
        fault::point("lane.cursor-stored");
        if let Some(seen) = wait::must_wake(&self.slots.header().writer_sleeping.0) {
            self.wake_writer(seen);
        }
    }

    /// Rules 4 and 5 of `wait`, for a writer that waits for room.
    fn wake_writer(&mut self, seen: u32) {
        if !wait::wants_bell(seen) {
            return futex::wake(&self.cursor.header().position.0);
        }
        if let Some(bell) = self.bell.as_ref().filter(|_| self.rung != seen) {
            bell.ring();
            self.rung = seen;
        }
    }

    #[inline]
    pub(crate) fn message(&mut self, taken: Taken) -> Result<Message<'_>, ReceiveError> {
        let header_bytes = match taken {
            Taken::Inline => None,
            Taken::Large => Some(self.read_header()?),
            Taken::Nothing => return Err(ReceiveError::Deadline),
        };
        let meta = self.line.meta;
        let timing = meta.has(FLAG_TWO_LINES).then_some(&self.timing);
        Ok(match header_bytes {
            None => {
                if let Some(timing) = timing {
                    self.record_latency(timing.time_ns);
                }
                let payload = &self.line.payload[..usize::from(meta.length)];
                Message { meta, timing, header: None, payload }
            }
            Some(size) => {
                let header = (size > 0).then_some(&self.header);
                if let Some(header) = header {
                    self.record_latency(header.time_ns);
                }
                Message { meta, timing, header, payload: &self.assembly.bytes[size..] }
            }
        })
    }

    /// Counts how long a message was on its way. Only for one that says when it was sent: the clock is not looked at for
    /// others.
    #[inline]
    fn record_latency(&self, sent_ns: u64) {
        if sent_ns != 0 {
            self.cursor.header().latency.record(self.clock.since_ns(sent_ns));
        }
    }

    /// Counts lines that were overwritten, and those of a message that can no longer be completed.
    #[cold]
    fn lapped(&mut self, lost: u64) -> ReceiveError {
        let lost = lost + self.assembly.give_up();
        self.lost += lost;
        ReceiveError::Lost(lost)
    }

    #[cold]
    fn quarantine(&mut self, violation: Violation) -> ReceiveError {
        self.quarantined = Some(violation);
        self.cursor.header().counters.quarantined.store(1, Ordering::Relaxed);
        ReceiveError::Quarantined(violation)
    }

    /// The lane's end, when everything was read: looked at after the state was seen, so nothing that was sent before the
    /// end is missed.
    pub(crate) fn ended(&self) -> Result<(), ReceiveError> {
        let state = self.control.as_ref().map(Control::state);
        match state.and_then(Ended::from_state) {
            Some(ended) if self.consumer.is_empty(self.slots.slots()) => {
                Err(ReceiveError::Ended(ended))
            }
            _ => Ok(()),
        }
    }

    /// The correlation of what was taken last.
    pub(crate) fn correlation(&self) -> u32 {
        self.line.meta.correlation
    }

    /// What comes next, for whoever looks at it by [`Receiver::message`]; waits as [`Receiver::receive`] does.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Result<Taken, ReceiveError> {
        match self.poll()? {
            Taken::Nothing => self.wait(deadline),
            taken => Ok(taken),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&mut self, deadline: Option<Instant>) -> Result<Taken, ReceiveError> {
        let mut spinner = Spinner::new(self.spin);
        loop {
            let next = spinner.next();
            if next != Next::Poll {
                self.ended()?;
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(ReceiveError::Deadline);
                }
            }
            if next == Next::Sleep {
                self.sleep(deadline);
            }
            // What is waited for is mostly one line, and every instruction between its arrival and its reader counts.
            if let Some(meta) = self.take_plain() {
                self.line.meta = meta;
                return Ok(Taken::Inline);
            }
            match self.poll()? {
                Taken::Nothing => {}
                taken => return Ok(taken),
            }
        }
    }

    /// Rules 2, 4 and 6 of `wait`, on the stamp of the next slot.
    fn sleep(&mut self, deadline: Option<Instant>) {
        if self.published != self.consumer.position() {
            self.publish();
        }
        let word = &self.cursor.header().sleeping.0;
        self.sleeper.arm(word, wait::ON_FUTEX);
        self.let_quiet_time_pass();
        fault::point("lane.reader-asleep");
        let stamp = self.consumer.next_slot(self.slots.slots()).stamp();
        // One load for both decisions: a line that is finished between two of them would be slept through.
        let first = stamp.load(Ordering::Acquire);
        let seen = first as u32;
        let state = self.control.as_ref().map(|control| {
            let word = control.state_word();
            (word, word.load(Ordering::Acquire))
        });
        if self.consumer.is_empty(self.slots.slots()) && self.ended().is_ok() {
            // A line that is being written has the low half of the finished one, so its arrival could be missed.
            let soon = || Instant::now() + Duration::from_millis(1);
            let until = if ring::is_writing_value(first) { Some(soon()) } else { deadline };
            futex::sleep(stamp, seen, state, until);
        }
        self.sleeper.disarm(word);
    }
}
