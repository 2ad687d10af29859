//! How a writer waits for room: on a futex, for as long as its caller says, or in an event loop.
//!
//! Not here: the protocol of sleeping (`wait`), and what room is (`sender`).

use std::time::Instant;

use super::{Policy, Sender};
use crate::fault;
use crate::futex;
use crate::lane::{SendError, WhenFull};
use crate::sync::Ordering;
use crate::wait::{self, Next, Spinner};

impl Sender {
    /// Whether the reader of a link will ring when it makes room; one of an earlier version does not.
    pub(crate) fn is_told_of_room(&self) -> bool {
        self.policy == Policy::Link && self.readers.ring_for_room()
    }

    /// Of a link: gets ready to sleep in an event loop until its reader has read on; the doorbell of this process rings then. False
    /// where it has read on since the writer last looked, or where the lane has ended. After the bell, [`Sender::disarm`].
    pub(crate) fn arm(&mut self) -> bool {
        self.sleeper.arm(&self.slots.header().writer_sleeping.0, wait::ON_BELL);
        // The second look of rule 2 of `wait`. Partner: the Release store in `Receiver::publish`.
        let has_moved = self
            .readers
            .slowest()
            .is_none_or(|(cursor, seen)| cursor.load(Ordering::Acquire) != seen);
        let is_over = has_moved && self.refresh().is_err() || self.live().is_err();
        if has_moved || is_over {
            self.disarm();
            return false;
        }
        true
    }

    /// Awake again after [`Sender::arm`].
    pub(crate) fn disarm(&mut self) {
        self.sleeper.disarm(&self.slots.header().writer_sleeping.0);
    }

    pub(super) fn wait_for_room(
        &mut self,
        lines: u64,
        bytes: Option<usize>,
        when: WhenFull,
    ) -> Result<(), SendError> {
        let patience = self.patience.filter(|_| self.policy == Policy::Lossless);
        let until = patience.map(|patience| self.held_up_since() + patience);
        let counters = &self.slots.header().counters;
        let bump = |counter: &crate::sync::AtomicU64| {
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        };
        let WhenFull::WaitUntil(deadline) = when else {
            if until.is_some_and(|until| Instant::now() >= until) {
                return self.let_go_of_slowest(lines, bytes);
            }
            bump(&counters.rejected);
            return Err(SendError::Full);
        };
        let sleep_until = until.map_or(deadline, |until| until.min(deadline));
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
            if until.is_some_and(|until| Instant::now() >= until) {
                return self.let_go_of_slowest(lines, bytes);
            }
            if Instant::now() >= deadline {
                bump(&self.slots.header().counters.rejected);
                return Err(SendError::Full);
            }
            if next == Next::Sleep {
                self.sleep(sleep_until)?;
            }
        }
    }

    /// Since when the message is held up that is to be sent: what was sent since another one was refused is no waiting.
    fn held_up_since(&mut self) -> Instant {
        let position = self.producer.position();
        let known = self.held_up_since.filter(|(_, at)| *at == position);
        self.held_up_since.insert(known.unwrap_or_else(|| (Instant::now(), position))).0
    }

    /// Lets go of readers, the slowest first, until there is room.
    fn let_go_of_slowest(&mut self, lines: u64, bytes: Option<usize>) -> Result<(), SendError> {
        while !self.fits(lines, bytes) {
            if !self.readers.drop_slowest(self.slots.header(), &self.producer) {
                return Err(SendError::Full);
            }
            self.refresh()?;
        }
        Ok(())
    }

    /// Rules 2 and 4 of `wait`, on the slowest reader's cursor. The kernel compares it with what the last refresh saw, which
    /// is the second look.
    fn sleep(&mut self, deadline: Instant) -> Result<(), SendError> {
        let Some((word, seen)) = self.readers.slowest() else {
            return Err(SendError::Full);
        };
        self.sleeper.arm(&self.slots.header().writer_sleeping.0, wait::ON_FUTEX);
        fault::point("lane.writer-asleep");
        let state = self.control.as_ref().map(|control| {
            let state = control.state_word();
            (state, state.load(Ordering::Acquire))
        });
        let live = self.live();
        if live.is_ok() {
            futex::sleep(word, seen as u32, state, Some(deadline));
        }
        self.sleeper.disarm(&self.slots.header().writer_sleeping.0);
        live
    }
}
