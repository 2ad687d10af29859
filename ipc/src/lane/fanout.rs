//! A writer's readers: who is attached, how far the slowest is, who sleeps.
//!
//! Publishing costs the same for one reader and for many:
//! 1. Cursors are looked at only when the known limit is reached (rule 3 of `ring`), and while one reader holds the writer up
//!    only that one's cursor, until it moves.
//! 2. A few readers that may sleep are each looked at after a message. Of many, all are looked at once per quiet time (rule 7 of
//!    `wait`), and in between those that were seen asleep. Whether it still is quiet the processor's counter tells; only where it
//!    does not, the kernel is asked.
//! 3. Readers that sleep sleep on the stamp of the line that they wait for. Those that had read everything wait for the same
//!    one, so one system call wakes them all, and none is made twice for one sleep.
//!
//! Not here: what is written, and how long a writer waits (`sender`).

use std::io;
use std::os::fd::OwnedFd;

use thiserror::Error;

use crate::clock::{Clock, Span};
use crate::doorbell::Bell;
use crate::fault;
use crate::futex;
use crate::header::AgentId;
use crate::layout::SlotsHeader;
use crate::limits::{QUIET_NS, READERS_LOOKED_AT_MAX, READERS_MAX};
use crate::ring::{self, Gate, Producer, Slot, Violation};
use crate::segment::{Cursor, SegmentError};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::uring::Outbox;
use crate::wait::{self, Quiet};

/// A reader that no longer holds the writer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetachedReader {
    /// Which one.
    pub reader: AgentId,
    /// Why.
    pub cause: DetachCause,
}

/// Why a writer let go of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DetachCause {
    /// It broke the protocol.
    #[error("it broke the protocol: {0}")]
    Violation(Violation),
    /// It held the writer up for longer than the topic bears.
    #[error("it was too slow")]
    TooSlow,
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

/// Everybody who is attached.
#[derive(Debug)]
pub(super) struct Readers {
    held: Vec<Reader>,
    detached: Vec<DetachedReader>,
    /// Readers that may sleep; while there are none, nobody looks and no fence is made.
    sleepers: usize,
    /// Of these, those that know nothing of quiet times.
    impatient: usize,
    quiet: Quiet,
    /// A part of the quiet time, told by a clock that is faster to look at.
    certainly_quiet: Span,
    clock: Clock,
    /// Who was asleep when all were looked at last.
    watched: Vec<u16>,
    /// Who held the writer back when all cursors were looked at last.
    slowest: Option<usize>,
}

#[derive(Debug)]
struct Reader {
    id: AgentId,
    cursor: Cursor,
    bell: Option<Bell>,
    /// Instead of bell and sleep word: posts into the reader's ring at each flush (class HIGH).
    outbox: Option<Box<Outbox>>,
    gate: Gate,
    /// The sleep word for which it was woken last.
    woken: u32,
}

/// What the cursors say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slowest {
    /// It has not moved since the last look; nothing that follows from it has changed.
    Unmoved,
    /// The smallest cursor of those that hold the writer back, if any do, and whether somebody is about to join them.
    At { cursor: Option<u64>, joining: bool },
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            detached: Vec::new(),
            sleepers: 0,
            impatient: 0,
            quiet: Quiet::default(),
            certainly_quiet: Span::default(),
            clock: Clock::monotonic(),
            watched: Vec::new(),
            slowest: None,
        }
    }
}

impl Readers {
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

    /// Whether anybody may have to be woken.
    #[inline]
    pub(super) fn may_sleep(&self) -> bool {
        self.sleepers > 0
    }

    pub(super) fn attach(
        &mut self,
        id: AgentId,
        cursor: OwnedFd,
        bell: Option<Bell>,
        gate: Gate,
        max: usize,
    ) -> Result<(), AttachError> {
        if self.held.len() >= max {
            return Err(AttachError::TooManyReaders { max });
        }
        let cursor = Cursor::open(cursor)?;
        self.held.push(Reader { id, cursor, bell, outbox: None, gate, woken: 0 });
        self.watched.reserve(READERS_MAX.min(self.held.len()));
        self.changed();
        Ok(())
    }

    pub(super) fn detach(&mut self, reader: AgentId) {
        self.held.retain(|held| held.id != reader);
        self.changed();
    }

    /// Lets go of a reader and remembers why.
    pub(super) fn drop_for(&mut self, reader: AgentId, cause: DetachCause) {
        self.detach(reader);
        // Whoever is attached now can be in the list only once more; nobody needs to hear of more than that.
        if self.detached.len() < READERS_MAX {
            self.detached.push(DetachedReader { reader, cause });
        }
    }

    pub(super) fn next_detached(&mut self) -> Option<DetachedReader> {
        self.detached.pop()
    }

    pub(super) fn set_outbox(&mut self, reader: AgentId, outbox: Outbox) {
        if let Some(held) = self.held.iter_mut().find(|held| held.id == reader) {
            held.outbox = Some(Box::new(outbox));
        }
    }

    /// The bell of the one reader of a link.
    pub(super) fn bell(&self) -> Option<Bell> {
        self.held.first()?.bell.clone()
    }

    /// Whether every reader rings the bell of a writer that waits for room.
    pub(super) fn ring_for_room(&self) -> bool {
        self.held.iter().all(|held| held.cursor.rings_for_room())
    }

    /// Everybody, with how many lines each has not read yet as far as its cursor says.
    pub(super) fn behind(&self, position: u64) -> impl Iterator<Item = (AgentId, u64)> {
        self.held.iter().map(move |held| {
            let cursor = held.cursor.header().position.0.load(Ordering::Relaxed);
            (held.id, position.saturating_sub(cursor))
        })
    }

    /// Up to where everybody has read, as far as was seen; nothing where there is nobody.
    pub(super) fn least_read(&self) -> Option<u64> {
        self.held.iter().map(|held| held.gate.cursor().unwrap_or(0)).min()
    }

    /// Looks at the cursors. A reader that broke the protocol is counted and let go of.
    pub(super) fn look(
        &mut self,
        header: &SlotsHeader,
        producer: &Producer,
    ) -> Result<Slowest, DetachedReader> {
        if let Some(held) = self.slowest.and_then(|slowest| self.held.get(slowest)) {
            let cursor = &held.cursor.header().position.0;
            if held.gate.cursor() == Some(cursor.load(Ordering::Relaxed)) {
                return Ok(Slowest::Unmoved);
            }
        }
        self.slowest = None;
        let mut broken = None;
        for held in &mut self.held {
            if let Err(violation) = held.gate.update(&held.cursor.header().position.0, producer) {
                let cause = DetachCause::Violation(violation);
                broken = Some(DetachedReader { reader: held.id, cause });
            }
        }
        if let Some(broken) = broken {
            let count = &header.counters.quarantined;
            count.store(count.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
            // Of several broken readers the others are found next time; until then they hold nothing back wrongly.
            self.drop_for(broken.reader, broken.cause);
            return Err(broken);
        }
        let cursors = self.held.iter().map(|held| held.gate.cursor()).enumerate();
        let slowest = cursors.filter_map(|(index, cursor)| Some((cursor?, index))).min();
        let joining = self.held.iter().any(|held| !held.gate.is_settled());
        // While somebody is about to join, all are looked at each time.
        self.slowest = slowest.map(|(_, index)| index).filter(|_| !joining);
        Ok(Slowest::At { cursor: slowest.map(|(cursor, _)| cursor), joining })
    }

    /// What a writer that waits for room sleeps on: the slowest reader's cursor, and its value at the last look.
    pub(super) fn slowest(&self) -> Option<(&AtomicU64, u64)> {
        let held = self.held.iter().filter_map(|held| Some((held.gate.cursor()?, held)));
        let (seen, slowest) = held.min_by_key(|(cursor, _)| *cursor)?;
        Some((&slowest.cursor.header().position.0, seen))
    }

    /// Lets go of everybody whose cursor is the slowest. False where nobody holds the writer back.
    pub(super) fn drop_slowest(&mut self, header: &SlotsHeader, producer: &Producer) -> bool {
        // While the slowest one stood still nobody looked at the others, who may have read on.
        self.slowest = None;
        if self.look(header, producer).is_err() {
            return true;
        }
        let cursors = self.held.iter().filter_map(|held| held.gate.cursor());
        let Some(slowest) = cursors.min() else { return false };
        let too_slow = |held: &&Reader| held.gate.cursor() == Some(slowest);
        let ids: Vec<AgentId> = self.held.iter().filter(too_slow).map(|held| held.id).collect();
        for id in ids {
            self.drop_for(id, DetachCause::TooSlow);
        }
        true
    }

    /// Wakes whoever sleeps, waits for a line before `position`, and was not woken for it yet.
    pub(super) fn wake(&mut self, header: &SlotsHeader, slots: &[Slot], position: u64) {
        // Such a reader has no sleep word: what is posted stays until it looks, asleep or not.
        if let [Reader { outbox: Some(outbox), .. }] = &mut self.held[..] {
            return outbox.signal();
        }
        // Partner: the fence in `Sleeper::arm`; rule 3 of `wait`, once for all readers.
        fence(Ordering::SeqCst);
        let mut last_woken = None;
        if self.sleepers <= READERS_LOOKED_AT_MAX || self.impatient > 0 {
            for held in self.held.iter_mut().filter(|held| !held.cursor.polls()) {
                held.wake(slots, position, &mut last_woken);
            }
            return;
        }
        if self.certainly_quiet.is_running() || !self.begin_quiet_time(header) {
            for index in &self.watched {
                if let Some(held) = self.held.get_mut(usize::from(*index)) {
                    held.wake(slots, position, &mut last_woken);
                }
            }
            return;
        }
        self.watched.clear();
        for (index, held) in self.held.iter_mut().enumerate() {
            if !held.cursor.polls() && held.wake(slots, position, &mut last_woken) {
                self.watched.push(index as u16);
            }
        }
    }

    /// Whether the quiet time is over, by the kernel's clock. If so, a new one has begun.
    #[cold]
    #[inline(never)]
    fn begin_quiet_time(&mut self, header: &SlotsHeader) -> bool {
        let (now_ns, span) = self.clock.begin(QUIET_NS);
        let begins = self.quiet.is_over(&header.quiet_until.0, now_ns);
        if begins {
            self.certainly_quiet = span;
        }
        begins
    }

    /// Somebody came or left: what is remembered by place no longer holds.
    fn changed(&mut self) {
        let sleepers = self.held.iter().filter(|held| !held.cursor.polls());
        self.sleepers = sleepers.clone().count();
        self.impatient = sleepers.filter(|held| !held.cursor.heeds_quiet()).count();
        self.quiet.end();
        self.certainly_quiet = Span::default();
        self.watched.clear();
        self.slowest = None;
    }
}

impl Reader {
    /// Wakes it if it must be; says whether it sleeps or is about to.
    fn wake(&mut self, slots: &[Slot], position: u64, last_woken: &mut Option<u64>) -> bool {
        let header = self.cursor.header();
        let Some(seen) = wait::asleep(&header.sleeping.0) else { return false };
        if self.woken == seen {
            return true;
        }
        if wait::wants_bell(seen) {
            if let Some(bell) = &self.bell {
                fault::point("lane.before-bell");
                bell.ring();
                self.woken = seen;
            }
            return true;
        }
        // It sleeps on the slot of its cursor, which it stored before it got ready to sleep. A false cursor wakes nobody,
        // which is its own loss.
        let cursor = header.position.0.load(Ordering::Relaxed);
        if cursor == position {
            // It has read everything; the line that it waits for is yet to come.
            return true;
        }
        if *last_woken != Some(cursor) {
            fault::point("lane.before-wake");
            futex::wake(ring::slot_at(slots, cursor).stamp());
            *last_woken = Some(cursor);
        }
        self.woken = seen;
        true
    }
}
