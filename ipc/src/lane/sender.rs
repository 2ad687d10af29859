//! The writing side of a lane: room, lending, publishing, what late readers are given.
//!
//! Not here: the ring's protocol (`ring`), that of sleeping (`wait`), and the readers (`fanout`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::fanout::{AttachError, DetachCause, DetachedReader, Readers, Slowest};
use super::history::History;
use super::lender::{self, Lender, Place};
use super::parts::{PARTS_MAX, Parts};
use super::{Ended, LaneOptions, SendError, WhenFull};
use crate::clock::Clock;
use crate::doorbell::Bell;
use crate::fault;
use crate::header::{AgentId, HEADER_BYTES, Header};
use crate::limits::{INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, READERS_MAX};
use crate::ring::{
    FLAG_ABORT, FLAG_CHUNK, FLAG_REGION, Gate, Meta, Place as JoinPlace, Producer, Timing,
    Violation,
};
use crate::segment::{Control, LaneCounters, Region, SegmentError, Slots};
use crate::sync::Ordering;
use crate::uring::Outbox;
use crate::wait::{Sleeper, Spin};

mod room;

/// Writes a lane.
#[derive(Debug)]
pub struct Sender {
    slots: Slots,
    region: Region,
    control: Option<Control>,
    producer: Producer,
    lender: Lender,
    readers: Readers,
    sleeper: Sleeper,
    spin: Spin,
    policy: Policy,
    quarantined: Option<Violation>,
    /// Chunks were sent whose message was given up; the reader must hear of it first.
    abort_due: Option<Meta>,
    messages: u64,
    bytes_lent: u64,
    clock: Clock,
    /// Lines of a message that is not whole yet.
    unfinished: u64,
    /// What readers that join late are given, where that is anything.
    history: Option<History>,
    /// For how long a lossless topic is held up by one message before it lets go of who holds it up.
    patience: Option<Duration>,
    /// Since when it is, and at which position the message is to stand.
    held_up_since: Option<(Instant, u64)>,
}

/// A message that goes through the region.
#[derive(Clone, Copy, Debug)]
pub struct Large<'a> {
    /// Its header, or none.
    pub header: Option<&'a Header>,
    /// Priority, flags and correlation of its slots; the length is filled in.
    pub meta: Meta,
    /// The payload, in at most [`PARTS_MAX`] parts that are sent as one.
    pub parts: &'a [&'a [u8]],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// One reader from the start.
    Link,
    Lossless,
    Lossy,
}

impl Sender {
    /// The writing side of a link. Messages can be sent once the reader is attached.
    pub fn for_link(options: LaneOptions) -> Result<Self, SegmentError> {
        Self::new(options, Policy::Link)
    }

    /// The writing side of a topic.
    pub fn for_topic(
        options: LaneOptions,
        policy: crate::control::TopicPolicy,
    ) -> Result<Self, SegmentError> {
        let policy = match policy {
            crate::control::TopicPolicy::Lossless => Policy::Lossless,
            crate::control::TopicPolicy::Lossy => Policy::Lossy,
        };
        Self::new(options, policy)
    }

    fn new(options: LaneOptions, policy: Policy) -> Result<Self, SegmentError> {
        let ungated = policy != Policy::Link;
        let slots = Slots::create(options.slots, ungated)?;
        let region = Region::create(options.region_bytes)?;
        let mut producer = Producer::new(slots.slots(), ungated);
        if policy == Policy::Link {
            // Nothing may be written before the one reader is there: a message without a reader would be lost silently.
            producer.set_limit(0);
        }
        let lender = Lender::new(region.bytes(), slots.slots().len());
        Ok(Self {
            slots,
            region,
            control: None,
            producer,
            lender,
            readers: Readers::default(),
            sleeper: Sleeper::default(),
            spin: Spin::Adaptive,
            policy,
            quarantined: None,
            abort_due: None,
            messages: 0,
            bytes_lent: 0,
            clock: Clock::new(),
            unfinished: 0,
            history: None,
            patience: None,
            held_up_since: None,
        })
    }

    /// Of a lane that carries no messages itself: where its writer counts.
    pub(crate) fn into_slots(self) -> Slots {
        self.slots
    }

    /// Gives readers of a topic that join later the last `messages` messages, as far as the ring still has them; at most
    /// half as many as it has slots. Before the first message and before the slots are handed on.
    ///
    /// # Panics
    /// When something was sent already.
    pub fn set_history(&mut self, messages: u32) {
        assert_eq!(self.producer.position(), 0, "what was sent is not known any more");
        let kept = messages.min(self.producer.capacity() as u32 / 2);
        self.history = (kept > 0 && self.policy != Policy::Link).then(|| History::new(kept));
        self.slots.header().counters.history.store(kept, Ordering::Relaxed);
    }

    /// Lets go of readers of a lossless topic that leave no room for one message for so long; without end unless set. They
    /// are told by [`Sender::next_detached`].
    pub fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    /// The slots segment, to be handed on.
    pub fn slots_fd(&self) -> BorrowedFd<'_> {
        self.slots.as_fd()
    }

    /// The region, to be handed on.
    pub fn region_fd(&self) -> BorrowedFd<'_> {
        self.region.as_fd()
    }

    /// Takes the router's page, by which the lane ends.
    pub fn set_control(&mut self, descriptor: OwnedFd) -> Result<(), SegmentError> {
        self.control = Some(Control::open(descriptor)?);
        Ok(())
    }

    /// How to wait for room. [`Spin::Adaptive`] unless set.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    /// Attaches a reader by its cursor and its bell, which were received.
    pub fn attach(
        &mut self,
        reader: AgentId,
        cursor: OwnedFd,
        bell: Option<OwnedFd>,
    ) -> Result<(), AttachError> {
        self.attach_with(reader, cursor, bell.map(Bell::from_peer).transpose()?)
    }

    /// The same with a bell that is one.
    pub(crate) fn attach_with(
        &mut self,
        reader: AgentId,
        cursor: OwnedFd,
        bell: Option<Bell>,
    ) -> Result<(), AttachError> {
        if self.policy == Policy::Link {
            self.readers.attach(reader, cursor, bell, Gate::from_start(), 1)?;
            self.producer.set_limit(self.producer.capacity());
            return Ok(());
        }
        self.readers.attach(reader, cursor, bell, Gate::joining(), READERS_MAX)?;
        self.producer.set_limit(self.producer.position());
        // It may have gone to sleep before anybody knew of it, and what it waits for may have been sent meanwhile.
        self.wake();
        Ok(())
    }

    /// Gives the one reader of a link a ring to post into instead of a bell.
    pub(crate) fn set_outbox(&mut self, reader: AgentId, outbox: Outbox) {
        self.readers.set_outbox(reader, outbox);
    }

    /// The bell of the one reader of a link.
    pub(crate) fn reader_bell(&self) -> Option<Bell> {
        self.readers.bell()
    }

    /// How many lines fit.
    pub(crate) fn capacity(&self) -> u64 {
        self.producer.capacity()
    }

    /// What was sent so far.
    pub fn counters(&self) -> LaneCounters {
        self.slots.counters()
    }

    /// Forgets a reader that left or died, so that it no longer holds the writer back.
    pub fn detach(&mut self, reader: AgentId) {
        self.readers.detach(reader);
    }

    /// How many readers are attached.
    pub fn readers(&self) -> usize {
        self.readers.count()
    }

    /// Everybody who is attached, with how many lines each has not read yet as far as its cursor says.
    pub fn behind(&self) -> impl Iterator<Item = (AgentId, u64)> {
        self.readers.behind(self.producer.position())
    }

    /// The next reader that was let go of, for a report.
    pub fn next_detached(&mut self) -> Option<DetachedReader> {
        self.readers.next_detached()
    }

    /// Sends one line: at most 48 bytes. Wakes whoever sleeps.
    #[inline]
    pub fn send(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        self.push(meta, payload, when).map(|()| self.flush())
    }

    /// Like [`Sender::send`], but wakes nobody: [`Sender::flush`] follows after some of them.
    #[inline]
    pub fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        debug_assert!(meta.flags & (FLAG_REGION | FLAG_CHUNK) == 0, "those are set by the lane");
        if payload.len() > INLINE_BYTES_MAX {
            return Err(SendError::TooLong { got: payload.len(), max: INLINE_BYTES_MAX });
        }
        if !self.producer.has_room(1) || self.abort_due.is_some() {
            self.make_room(1, None, when)?;
        }
        if self.history.is_some() {
            self.record_beginning();
        }
        self.producer.write(self.slots.slots(), meta, payload);
        self.messages += 1;
        fault::point("lane.stamped");
        Ok(())
    }

    /// Sends two lines: at most 48 bytes, and time, deadline and trace.
    #[inline]
    pub fn send_timed(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.send_two(meta, payload, |_| timing, when)
    }

    /// [`Sender::send_timed`] with this moment as the time: the clock is looked at once there is room, while the line that it goes
    /// into is on its way here.
    #[inline]
    pub fn send_timed_now(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let now = |lane: &Self| {
            lane.producer.ask_for_second(lane.slots.slots());
            Timing { time_ns: lane.clock.now_ns(), ..timing }
        };
        self.send_two(meta, payload, now, when)
    }

    #[inline]
    fn send_two(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: impl FnOnce(&Self) -> Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        if payload.len() > INLINE_BYTES_MAX {
            return Err(SendError::TooLong { got: payload.len(), max: INLINE_BYTES_MAX });
        }
        if !self.producer.has_room(2) || self.abort_due.is_some() {
            self.make_room(2, None, when)?;
        }
        let timing = timing(self);
        if let Some(history) = &mut self.history {
            history.record(self.producer.position());
        }
        self.producer.write_two(self.slots.slots(), meta, payload, timing);
        self.messages += 1;
        self.flush();
        Ok(())
    }

    /// Sends a message of any length up to `MESSAGE_BYTES_MAX` through the region, in chunks where it is longer than half of
    /// the region (links only). A deadline that passes between chunks takes the chunks back.
    ///
    /// # Panics
    /// When there are more than [`PARTS_MAX`] parts.
    pub fn send_large(&mut self, message: Large<'_>, when: WhenFull) -> Result<(), SendError> {
        let mut sent = 0;
        let result = self.resume_large(&message, &mut sent, when);
        // An abort that an earlier message still owes stays due.
        if result.is_err() && sent > 0 {
            self.take_back(message.meta);
        }
        result
    }

    /// Gives up a message of which some chunks were sent; the reader hears of it before anything else.
    pub(crate) fn take_back(&mut self, meta: Meta) {
        self.abort_due = Some(meta);
    }

    /// Sends the chunks of a message from byte `sent` on, its header counted, and moves `sent` along. Full is no end here: the
    /// same call goes on later. Until it is through, nothing else may be sent on this lane.
    ///
    /// # Panics
    /// When there are more than [`PARTS_MAX`] parts, or more was sent than there is.
    pub fn resume_large(
        &mut self,
        message: &Large<'_>,
        sent: &mut usize,
        when: WhenFull,
    ) -> Result<(), SendError> {
        assert!(message.parts.len() <= PARTS_MAX, "too many parts");
        let header = message.header.map(Header::encode);
        let header = header.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        let payload: usize = message.parts.iter().map(|part| part.len()).sum();
        let total = header.len() + payload;
        let chunk_max = self.lender.chunk_bytes_max();
        let max = match self.policy {
            Policy::Lossy => chunk_max - HEADER_BYTES,
            Policy::Link | Policy::Lossless => MESSAGE_BYTES_MAX,
        };
        if payload > max {
            return Err(SendError::TooLong { got: payload, max });
        }
        let mut parts = Parts::new(header, message.parts);
        parts.skip(*sent);
        let mut left = total - *sent;
        loop {
            let now = left.min(chunk_max);
            let place = self.lender.place(now);
            self.make_room(1, Some(now), when)?;
            debug_assert_eq!(place, self.lender.place(now), "waiting for room moves nothing");
            left -= now;
            *sent += now;
            self.reserve(place);
            parts.copy_chunk(&self.region, place, now);
            fault::point("lane.region-written");
            let mut meta = message.meta;
            meta.flags |= FLAG_REGION | if left > 0 { FLAG_CHUNK } else { 0 };
            let line = [place.start, now as u64 | (header.len() as u64) << 32, total as u64];
            let lossy = self.policy == Policy::Lossy;
            self.lender.take(place, self.producer.position(), lossy);
            self.producer.write(
                self.slots.slots(),
                meta,
                line.map(u64::to_le_bytes).as_flattened(),
            );
            fault::point("lane.large-stamped");
            self.unfinished += 1;
            self.bytes_lent += now as u64;
            if left == 0 {
                break;
            }
            self.wake();
            fault::point("lane.between-chunks");
        }
        let lines = std::mem::take(&mut self.unfinished);
        if let Some(history) = &mut self.history {
            history.record(self.producer.position() - lines);
        }
        self.messages += 1;
        self.slots.header().counters.bytes_lent.store(self.bytes_lent, Ordering::Relaxed);
        self.flush();
        Ok(())
    }

    /// Wakes whoever sleeps and has not been woken since, and lets whoever counts or joins see what was sent.
    #[inline]
    pub fn flush(&mut self) {
        let counters = &self.slots.header().counters;
        counters.messages.store(self.messages, Ordering::Relaxed);
        let whole = self.producer.position() - self.unfinished;
        if self.history.is_some() {
            self.tell_place(whole);
        } else {
            // Partner: the Acquire load in `JoinWords::ask`.
            counters.position.store(whole, Ordering::Release);
        }
        self.wake();
    }

    /// Of a topic that keeps messages: the next one begins here. Out of line, so that the others' way stays short.
    #[inline(never)]
    fn record_beginning(&mut self) {
        if let Some(history) = &mut self.history {
            history.record(self.producer.position());
        }
    }

    /// Of such a topic: where who joins now begins.
    #[inline(never)]
    fn tell_place(&mut self, position: u64) {
        let Some(history) = &mut self.history else { return };
        let header = self.slots.header();
        let first = history.first_since(position.saturating_sub(self.producer.capacity()));
        // Before the position it belongs to; who sees an older one finds by the stamps that it is gone.
        header.whole_from.0.store(first.unwrap_or(position), Ordering::Relaxed);
        let place = JoinPlace { from: history.from(), position };
        header.counters.join_words().tell(place);
    }

    /// How many lines were sent.
    pub fn sent(&self) -> u64 {
        self.producer.position()
    }

    /// How many of them every reader has taken. Looks at the cursors.
    pub fn taken(&mut self) -> Result<u64, SendError> {
        self.refresh()?;
        Ok(self.readers.least_read().unwrap_or(self.producer.position()))
    }

    /// The memory that a hostile writer would scribble in.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> (&Slots, &Region) {
        (&self.slots, &self.region)
    }

    #[inline]
    fn wake(&mut self) {
        if self.readers.may_sleep() {
            let position = self.producer.position();
            self.readers.wake(self.slots.header(), self.slots.slots(), position);
        }
    }

    /// Rule 8 for lent bytes: readers that may be lapped check this word after copying.
    fn reserve(&self, place: Place) {
        if self.policy != Policy::Link {
            lender::reserve(&self.slots.header().reserved_until.0, place);
        }
    }

    /// Makes sure of room for so many lines and, where given, lent bytes; waits as the caller allows.
    #[cold]
    #[inline(never)]
    fn make_room(
        &mut self,
        lines: u64,
        bytes: Option<usize>,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let needed = lines + u64::from(self.abort_due.is_some());
        self.live()?;
        if !self.fits(needed, bytes) {
            self.refresh()?;
        }
        if !self.fits(needed, bytes) {
            self.wait_for_room(needed, bytes, when)?;
        }
        self.held_up_since = None;
        if let Some(mut meta) = self.abort_due.take() {
            meta.flags = FLAG_ABORT;
            self.producer.write(self.slots.slots(), meta, &[]);
            self.unfinished = 0;
            fault::point("lane.abort-written");
        }
        Ok(())
    }

    fn fits(&self, lines: u64, bytes: Option<usize>) -> bool {
        let lossy = self.policy == Policy::Lossy;
        self.producer.has_room(lines)
            && bytes.is_none_or(|bytes| lossy || self.lender.is_free(self.lender.place(bytes)))
    }

    fn live(&self) -> Result<(), SendError> {
        if let Some(violation) = self.quarantined {
            return Err(SendError::Quarantined(violation));
        }
        let ended = self.control.as_ref().and_then(|control| Ended::from_state(control.state()));
        ended.map_or(Ok(()), |ended| Err(SendError::Ended(ended)))
    }

    /// Looks at all cursors: the new limit, and the region's free space.
    fn refresh(&mut self) -> Result<(), SendError> {
        let (position, capacity) = (self.producer.position(), self.producer.capacity());
        if self.policy == Policy::Lossy {
            self.producer.set_limit(position + capacity);
            return Ok(());
        }
        let seen = match self.readers.look(self.slots.header(), &self.producer) {
            Err(DetachedReader { cause: DetachCause::Violation(violation), .. })
                if self.policy == Policy::Link =>
            {
                self.quarantined = Some(violation);
                // Whoever looks only whether there is room finds none from here on.
                self.producer.set_limit(position);
                return Err(SendError::Quarantined(violation));
            }
            // Whoever is left is looked at again.
            Err(_) => {
                let header = self.slots.header();
                self.readers.look(header, &self.producer).unwrap_or(Slowest::Unmoved)
            }
            Ok(seen) => seen,
        };
        let (slowest, joining) = match seen {
            Slowest::Unmoved => return Ok(()),
            Slowest::At { cursor: Some(cursor), joining } => (cursor, joining),
            Slowest::At { cursor: None, .. } if self.policy == Policy::Link => return Ok(()),
            Slowest::At { cursor: None, joining } => (position, joining),
        };
        self.lender.release(slowest);
        // While somebody is about to join, look often, so that he is within the ring when he is found.
        let limit = slowest + capacity;
        let soon = position + capacity / 4;
        self.producer.set_limit(if joining { limit.min(soon) } else { limit });
        Ok(())
    }
}
