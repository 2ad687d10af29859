//! The writing side of a lane: room, lending, publishing, waking.
//!
//! Not here: the ring's protocol (`ring`) and that of sleeping (`wait`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use thiserror::Error;

use super::lender::{Lender, Place};
use super::parts::{PARTS_MAX, Parts};
use super::{Ended, LaneOptions, SendError, WhenFull};
use crate::doorbell::Bell;
use crate::fault;
use crate::futex;
use crate::header::{AgentId, HEADER_BYTES, Header};
use crate::limits::{INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, READERS_MAX};
use crate::ring::{
    self, FLAG_ABORT, FLAG_CHUNK, FLAG_REGION, Gate, Meta, Producer, Timing, Violation,
};
use crate::segment::{Control, Cursor, LaneCounters, Region, SegmentError, Slots};
use crate::sync::{Ordering, fence};
use crate::uring::Outbox;
use crate::wait::{self, Next, Sleeper, Spin, Spinner};

/// Writes a lane.
#[derive(Debug)]
pub struct Sender {
    slots: Slots,
    region: Region,
    control: Option<Control>,
    producer: Producer,
    lender: Lender,
    readers: Vec<Reader>,
    detached: Vec<DetachedReader>,
    /// Readers that may sleep; while there are none, nobody looks and no fence is made.
    sleepers: usize,
    sleeper: Sleeper,
    spin: Spin,
    policy: Policy,
    quarantined: Option<Violation>,
    /// Chunks were sent whose message was given up; the reader must hear of it first.
    abort_due: Option<Meta>,
    messages: u64,
    bytes_lent: u64,
}

/// A reader that broke the protocol and no longer holds the writer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetachedReader {
    /// Which one.
    pub reader: AgentId,
    /// How.
    pub violation: Violation,
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

#[derive(Debug)]
struct Reader {
    id: AgentId,
    cursor: Cursor,
    bell: Option<Bell>,
    /// Instead of bell and sleep word: posts into the reader's ring at each flush (class HIGH).
    outbox: Option<Box<Outbox>>,
    gate: Gate,
    /// The sleep word for which the bell was rung last.
    rung: u32,
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
        let (readers, detached) = (Vec::new(), Vec::new());
        Ok(Self {
            slots,
            region,
            control: None,
            producer,
            lender,
            readers,
            detached,
            sleepers: 0,
            sleeper: Sleeper::default(),
            spin: Spin::Adaptive,
            policy,
            quarantined: None,
            abort_due: None,
            messages: 0,
            bytes_lent: 0,
        })
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
        let max = if self.policy == Policy::Link { 1 } else { READERS_MAX };
        if self.readers.len() >= max {
            return Err(AttachError::TooManyReaders { max });
        }
        let cursor = Cursor::open(cursor)?;
        let bell = bell.map(Bell::from_peer).transpose()?;
        self.sleepers += usize::from(!cursor.polls());
        let gate = match self.policy {
            Policy::Link => Gate::from_start(),
            Policy::Lossless | Policy::Lossy => Gate::joining(),
        };
        self.readers.push(Reader { id: reader, cursor, bell, outbox: None, gate, rung: 0 });
        if self.policy == Policy::Link {
            self.producer.set_limit(self.producer.capacity());
        } else {
            self.producer.set_limit(self.producer.position());
        }
        Ok(())
    }

    /// Gives the one reader of a link a ring to post into instead of a bell.
    pub(crate) fn set_outbox(&mut self, reader: AgentId, outbox: Outbox) {
        if let Some(held) = self.readers.iter_mut().find(|held| held.id == reader) {
            held.outbox = Some(Box::new(outbox));
        }
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
        self.readers.retain(|held| held.id != reader);
        self.sleepers = self.readers.iter().filter(|reader| !reader.cursor.polls()).count();
    }

    /// How many readers are attached.
    pub fn readers(&self) -> usize {
        self.readers.len()
    }

    /// The next reader that was detached because it broke the protocol, for a report.
    pub fn next_detached(&mut self) -> Option<DetachedReader> {
        self.detached.pop()
    }

    /// Sends one line: at most 48 bytes. Wakes whoever sleeps.
    #[inline]
    pub fn send(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        self.push(meta, payload, when)?;
        fault::point("lane.stamped");
        self.flush();
        Ok(())
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
        self.producer.write(self.slots.slots(), meta, payload);
        self.messages += 1;
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
        if payload.len() > INLINE_BYTES_MAX {
            return Err(SendError::TooLong { got: payload.len(), max: INLINE_BYTES_MAX });
        }
        if !self.producer.has_room(2) || self.abort_due.is_some() {
            self.make_room(2, None, when)?;
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
            self.abort_due = Some(message.meta);
        }
        result
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
            self.flush();
            self.bytes_lent += now as u64;
            if left == 0 {
                break;
            }
            fault::point("lane.between-chunks");
        }
        self.messages += 1;
        let counters = &self.slots.header().counters;
        counters.bytes_lent.store(self.bytes_lent, Ordering::Relaxed);
        counters.messages.store(self.messages, Ordering::Relaxed);
        counters.position.store(self.producer.position(), Ordering::Relaxed);
        Ok(())
    }

    /// Wakes whoever sleeps and has not been woken since, and lets whoever counts see what was sent.
    #[inline]
    pub fn flush(&mut self) {
        let counters = &self.slots.header().counters;
        counters.messages.store(self.messages, Ordering::Relaxed);
        counters.position.store(self.producer.position(), Ordering::Relaxed);
        if self.sleepers > 0 {
            self.wake_readers();
        }
    }

    /// Whether a reader has taken everything that was sent. Looks at the cursors.
    pub fn is_drained(&mut self) -> Result<bool, SendError> {
        self.refresh()?;
        let position = self.producer.position();
        Ok(self.readers.iter().all(|reader| reader.gate.cursor() == Some(position)))
    }

    /// The memory that a hostile writer would scribble in.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> (&Slots, &Region) {
        (&self.slots, &self.region)
    }

    fn wake_readers(&mut self) {
        // Such a reader has no sleep word: what is posted stays until it looks, asleep or not.
        if let [Reader { outbox: Some(outbox), .. }] = &mut self.readers[..] {
            return outbox.signal();
        }
        // Partner: the fence in `Sleeper::arm`; rule 3 of `wait`, once for all readers.
        fence(Ordering::SeqCst);
        let slots = self.slots.slots();
        let mut last_woken = None;
        for reader in self.readers.iter_mut().filter(|reader| !reader.cursor.polls()) {
            let header = reader.cursor.header();
            let Some(seen) = wait::asleep(&header.sleeping.0) else { continue };
            if wait::wants_bell(seen) {
                if reader.rung != seen
                    && let Some(bell) = &reader.bell
                {
                    fault::point("lane.before-bell");
                    bell.ring();
                    reader.rung = seen;
                }
                continue;
            }
            // It sleeps on the slot of its cursor, which it stored before it got ready to sleep. A false cursor wakes
            // nobody, which is its own loss.
            let cursor = header.position.0.load(Ordering::Relaxed);
            if last_woken != Some(cursor) {
                fault::point("lane.before-wake");
                futex::wake(ring::slot_at(slots, cursor).stamp());
                last_woken = Some(cursor);
            }
        }
    }

    /// Rule 8 for lent bytes: readers that may be lapped check this word after copying.
    fn reserve(&self, place: Place) {
        if self.policy != Policy::Link {
            self.slots.header().reserved_until.0.store(place.end, Ordering::Relaxed);
            // Partner: the Acquire fence in `Receiver::copy_lent`, seen through any byte that was already overwritten.
            fence(Ordering::Release);
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
        if let Some(mut meta) = self.abort_due.take() {
            meta.flags = FLAG_ABORT;
            self.producer.write(self.slots.slots(), meta, &[]);
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
        let mut broken = None;
        for reader in &mut self.readers {
            let result = reader.gate.update(&reader.cursor.header().position.0, &self.producer);
            if let Err(violation) = result {
                broken = Some(DetachedReader { reader: reader.id, violation });
            }
        }
        if let Some(broken) = broken {
            let count = &self.slots.header().counters.quarantined;
            count.store(count.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
            self.detach(broken.reader);
            self.detached.push(broken);
            if self.policy == Policy::Link {
                self.quarantined = Some(broken.violation);
                return Err(SendError::Quarantined(broken.violation));
            }
            // Of several broken readers the others are found next time; until then they hold nothing back wrongly.
        }
        let slowest = self.readers.iter().filter_map(|reader| reader.gate.cursor()).min();
        let slowest = match (slowest, self.policy) {
            (Some(slowest), _) => slowest,
            (None, Policy::Link) => return Ok(()),
            (None, Policy::Lossless | Policy::Lossy) => position,
        };
        self.lender.release(slowest);
        // While somebody is about to join, look often, so that he is within the ring when he is found.
        let joining = self.readers.iter().any(|reader| !reader.gate.is_settled());
        let limit = slowest + capacity;
        let soon = position + capacity / 4;
        self.producer.set_limit(if joining { limit.min(soon) } else { limit });
        Ok(())
    }

    fn wait_for_room(
        &mut self,
        lines: u64,
        bytes: Option<usize>,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let counters = &self.slots.header().counters;
        let bump = |counter: &crate::sync::AtomicU64| {
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        };
        let WhenFull::WaitUntil(deadline) = when else {
            bump(&counters.rejected);
            return Err(SendError::Full);
        };
        bump(&counters.waits);
        let mut spinner = Spinner::new(self.spin);
        loop {
            self.refresh()?;
            if self.fits(lines, bytes) {
                return Ok(());
            }
            let next = spinner.next();
            if next == Next::Poll {
                continue;
            }
            self.live()?;
            if Instant::now() >= deadline {
                bump(&self.slots.header().counters.rejected);
                return Err(SendError::Full);
            }
            if next == Next::Sleep {
                self.sleep(deadline)?;
            }
        }
    }

    /// Rules 2 and 4 of `wait`, on the slowest reader's cursor. The kernel compares it with what the last refresh saw, which
    /// is the second look.
    fn sleep(&mut self, deadline: Instant) -> Result<(), SendError> {
        let held = self.readers.iter().filter_map(|held| Some((held.gate.cursor()?, held)));
        let Some((seen, slowest)) = held.min_by_key(|(cursor, _)| *cursor) else {
            return Err(SendError::Full);
        };
        self.sleeper.arm(&self.slots.header().writer_sleeping.0, wait::ON_FUTEX);
        fault::point("lane.writer-asleep");
        let state = self.control.as_ref().map(|control| {
            let word = control.state_word();
            (word, word.load(Ordering::Acquire))
        });
        let live = self.live();
        if live.is_ok() {
            let word = &slowest.cursor.header().position.0;
            futex::sleep(word, seen as u32, state, Some(deadline));
        }
        self.sleeper.disarm(&self.slots.header().writer_sleeping.0);
        live
    }
}

/// Why a reader was not attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// A link has one, a topic a bounded number.
    #[error("too many readers: at most {max}")]
    TooManyReaders {
        /// The bound.
        max: usize,
    },
    /// Its cursor was refused.
    #[error("the reader's cursor was refused")]
    Cursor(#[from] SegmentError),
    /// Its bell was refused.
    #[error("the reader's doorbell was refused")]
    Bell(#[from] io::Error),
}
