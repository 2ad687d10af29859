//! HIGH: the lane's slots, with a message between two rings of io_uring as the signal.
//!
//! The payload takes the lane's way and is checked as there; each flush enters the kernel once (`io_uring_enter`) and posts into
//! the reader's inbox. The reader looks at its own queue of completions and not at the slots, or sleeps in
//! `io_uring_enter`, together with everything else that its rings carry. Why this one of the ways that io_uring
//! offers: `ipc/README.md` has the figures. Not here: rings (`uring`) and slots (`lane`).
//!
//! # Setting up
//! 1. The reader makes a [`Mailbox`] and hands on: its cursor (a descriptor), the [`RingNumber`] of its inbox, and, where
//!    the two have no connection of their own, its process id or better a descriptor of its process (the router has one).
//! 2. The writer makes the lane, attaches with [`Sender::new`], which fetches the inbox and tries it, and hands on slots and
//!    region. Where this fails, [`AttachError::Unavailable`] says why, and both go one class down.
//! 3. The reader opens the lane with [`Receiver::new`].

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use thiserror::Error;

use super::{Class, Counters, ReceivingHalf, SendingHalf};
use crate::doorbell::Bell;
use crate::header::AgentId;
use crate::lane::{self, Large, Message, ReceiveError, SendError, Taken, WhenFull};
use crate::ring::{Meta, Timing};
use crate::segment::{Control, Cursor, SegmentError};
use crate::uring::{Inbox, Outbox, RingNumber, Unavailable};
use crate::wait::{Next, Spin, Spinner};

/// Why a writer was not connected with a reader.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The lane refused the reader.
    #[error(transparent)]
    Lane(#[from] lane::AttachError),
    /// There is no way between the rings; the next class down may do.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a reader has no mailbox.
#[derive(Debug, Error)]
pub enum MailboxError {
    /// Its cursor cannot be made.
    #[error(transparent)]
    Cursor(#[from] SegmentError),
    /// There is no ring; the next class down may do.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What a reader has before its lane arrives.
#[derive(Debug)]
pub struct Mailbox {
    inbox: Inbox,
    cursor: Cursor,
}

/// Writes a lane and posts into its reader's ring.
#[derive(Debug)]
pub struct Sender {
    lane: lane::Sender,
    /// Lines that were pushed since the last flush.
    unannounced: u64,
    /// At so many of them the reader is told: one that sleeps on a ring full of lines would never make room.
    unannounced_max: u64,
}

/// Reads a lane when its ring says so.
#[derive(Debug)]
pub struct Receiver {
    lane: lane::Receiver,
    inbox: Inbox,
    /// Completions were seen, or whoever asked was told of a message, and the slots were not yet found empty since.
    is_due: Cell<bool>,
    spin: Spin,
}

impl Mailbox {
    /// A fresh one.
    pub fn new() -> Result<Self, MailboxError> {
        let inbox = Inbox::new()?;
        let cursor = Cursor::create(0, false)?;
        // Its sleep word stays as it is: the writer posts with each flush, whether the reader sleeps or not.
        Ok(Self { inbox, cursor })
    }

    /// Of parts that were made before it was known which class they are for.
    pub(crate) fn from_parts(inbox: Inbox, cursor: Cursor) -> Self {
        Self { inbox, cursor }
    }

    /// The cursor, to be handed on.
    pub fn cursor_fd(&self) -> BorrowedFd<'_> {
        self.cursor.as_fd()
    }

    /// Under which number the writer fetches the ring from this process.
    pub fn number(&self) -> RingNumber {
        self.inbox.number()
    }
}

impl Sender {
    /// Attaches the one reader of a lane that has none yet: its cursor, a descriptor of its process, and its ring's number there.
    pub fn new(
        lane: lane::Sender,
        reader: AgentId,
        cursor: OwnedFd,
        process: BorrowedFd<'_>,
        number: RingNumber,
    ) -> Result<Self, AttachError> {
        let outbox = Outbox::connect(process, number)?;
        Ok(Self::with_outbox(lane, reader, cursor, outbox)?)
    }

    /// The same, where the way into the reader's ring was found before.
    pub(crate) fn with_outbox(
        mut lane: lane::Sender,
        reader: AgentId,
        cursor: OwnedFd,
        outbox: Outbox,
    ) -> Result<Self, lane::AttachError> {
        lane.attach(reader, cursor, None)?;
        lane.set_outbox(reader, outbox);
        let unannounced_max = lane.capacity() / 2;
        Ok(Self { lane, unannounced: 0, unannounced_max })
    }

    /// Whether the reader will ring when it makes room.
    pub(super) fn is_told_of_room(&self) -> bool {
        self.lane.is_told_of_room()
    }

    /// How many lines were sent.
    pub fn sent(&self) -> u64 {
        self.lane.sent()
    }

    /// How many of them the reader has taken. Looks at its cursor.
    pub fn taken(&mut self) -> Result<u64, SendError> {
        self.lane.taken()
    }

    /// The lane: room is waited for as in class CRITICAL.
    pub(super) fn lane(&mut self) -> &mut lane::Sender {
        &mut self.lane
    }
}

impl SendingHalf for Sender {
    fn class(&self) -> Class {
        Class::High
    }

    #[inline]
    fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        self.lane.push(meta, payload, when)?;
        self.unannounced += 1;
        if self.unannounced >= self.unannounced_max {
            self.flush();
        }
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {
        if self.unannounced > 0 {
            self.unannounced = 0;
            self.lane.flush();
        }
    }

    fn send_timed(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.flush();
        self.lane.send_timed(meta, payload, timing, when)
    }

    fn send_timed_now(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.flush();
        self.lane.send_timed_now(meta, payload, timing, when)
    }

    fn take_back(&mut self, meta: Meta) {
        self.lane.take_back(meta);
    }

    fn resume_large(
        &mut self,
        message: &Large<'_>,
        sent: &mut usize,
        when: WhenFull,
    ) -> Result<(), SendError> {
        self.flush();
        self.lane.resume_large(message, sent, when)
    }

    fn set_spin(&mut self, spin: Spin) {
        self.lane.set_spin(spin);
    }

    fn counters(&self) -> Counters {
        self.lane.counters().into()
    }
}

impl Receiver {
    /// Takes the bell of the writer, so that this reader can tell it of room.
    pub(crate) fn set_bell(&mut self, bell: Bell) {
        self.lane.set_bell(bell);
    }

    /// Opens the lane that `source` made for this mailbox.
    pub fn new(
        source: AgentId,
        slots: OwnedFd,
        region: OwnedFd,
        control: OwnedFd,
        mailbox: Mailbox,
    ) -> Result<Self, SegmentError> {
        let Mailbox { inbox, cursor } = mailbox;
        let lane = lane::Receiver::for_link(source, slots, region, control, cursor)?;
        // The ring may have been posted into before this side was ready.
        Ok(Self { lane, inbox, is_due: Cell::new(true), spin: Spin::Adaptive })
    }

    pub(crate) fn control(&self) -> Option<&Control> {
        self.lane.control()
    }

    /// Its ring. Whoever takes completions out of it looks for messages as well ([`ReceivingHalf::has_message`]) before waiting
    /// for them again: one of the completions may have told of one.
    pub fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Looks at the ring, and at the slots only when it says so.
    #[inline]
    fn poll(&mut self) -> Result<Taken, ReceiveError> {
        if self.inbox.take() {
            self.is_due.set(true);
        }
        if !self.is_due.get() {
            return Ok(Taken::Nothing);
        }
        let taken = self.lane.poll()?;
        // An end of a look that is no emptiness (a message that was given up) is followed by another look.
        if matches!(taken, Taken::Nothing) && !self.lane.has_message() {
            self.is_due.set(false);
        }
        Ok(taken)
    }

    #[cold]
    #[inline(never)]
    fn wait(&mut self, deadline: Option<Instant>) -> Result<Taken, ReceiveError> {
        let mut spinner = Spinner::new(self.spin);
        loop {
            let next = spinner.next();
            if next != Next::Poll {
                self.lane.ended()?;
                // What was pushed and never announced, because its writer died or its signal was lost.
                self.has_message();
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(ReceiveError::Deadline);
                }
            }
            if next == Next::Sleep && !self.is_due.get() && !self.inbox.is_rung() {
                self.lane.publish();
                let state = self.lane.state();
                if self.lane.ended().is_ok() {
                    self.inbox.sleep(state, deadline);
                }
            }
            match self.poll()? {
                Taken::Nothing => {}
                taken => return Ok(taken),
            }
        }
    }
}

impl ReceivingHalf for Receiver {
    fn class(&self) -> Class {
        Class::High
    }

    fn source(&self) -> AgentId {
        self.lane.source()
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError> {
        let mut taken = self.poll()?;
        if matches!(taken, Taken::Nothing) && !self.lane.is_live() {
            // Nobody will announce what still lies there.
            self.lane.ended()?;
            self.is_due.set(true);
            taken = self.poll()?;
        }
        match taken {
            Taken::Nothing => Ok(None),
            taken => self.lane.message(taken).map(Some),
        }
    }

    #[inline]
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Message<'_>, ReceiveError> {
        let taken = match self.poll()? {
            Taken::Nothing => self.wait(deadline)?,
            taken => taken,
        };
        self.lane.message(taken)
    }

    /// What is told here can be had, announced or not: a set of lanes would ask for it without end otherwise.
    fn has_message(&self) -> bool {
        let is_there = self.lane.has_message();
        if is_there {
            self.is_due.set(true);
        }
        is_there
    }

    fn is_over(&self) -> bool {
        self.lane.is_over()
    }

    fn is_under_way(&self) -> bool {
        self.lane.is_under_way()
    }

    fn held_bytes(&self) -> usize {
        self.lane.held_bytes()
    }

    fn release(&mut self) {
        self.lane.release();
    }

    /// The ring itself: readable while completions lie in it.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.inbox.as_fd())
    }

    fn arm(&mut self) -> bool {
        if self.is_due.get() || self.inbox.is_rung() {
            return false;
        }
        self.lane.publish();
        if let Some((word, seen)) = self.lane.state() {
            // Without it (Linux before 6.7) an event loop learns of the end from the router's word on the socket.
            self.inbox.watch(word, seen);
        }
        !self.has_message() && !self.inbox.is_rung() && self.lane.ended().is_ok()
    }

    fn disarm(&mut self) {}

    fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    fn counters(&self) -> Counters {
        self.lane.counters().into()
    }
}

/// Whether this process can have a mailbox, asked before anything is agreed with a peer. Whether the peer's can be fetched
/// shows only when it is tried.
pub fn available() -> Result<(), Unavailable> {
    Inbox::new().map(drop)
}
