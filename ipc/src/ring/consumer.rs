//! The reading side of a ring: looking, copying, checking, and what to do when it was lapped.
//!
//! Not here: the rules (in `ring`), and what the flags mean for messages (`lane`).

use super::{
    FLAG_SECOND_LINE, FLAG_TWO_LINES, Line, Meta, Slot, Timing, Violation, WRITING, capacity_of,
    slot_of,
};
use crate::limits::{INLINE_BYTES_MAX, READ_AHEAD_LINES, READ_AHEAD_RUN};
use crate::prefetch;
use crate::sync::{Ordering, fence};

/// What a reader finds at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing yet.
    Empty,
    /// A message of one line.
    One,
    /// A message of two lines.
    Two,
    /// So many positions were overwritten before they were read; the next look finds what is left.
    Lapped(u64),
}

/// What a reader found, in one value.
#[cfg(test)]
#[derive(Debug, PartialEq)]
pub(super) enum Owned {
    Empty,
    Message { line: Line, timing: Option<Timing> },
    Lapped(u64),
}

/// What one look at one slot gives.
enum Look {
    Empty,
    There,
    Lapped { writer: u64 },
}

/// The reading side's private state.
#[derive(Debug)]
pub struct Consumer {
    pub(super) position: u64,
    pub(super) capacity: u64,
    pub(super) ungated: bool,
    /// The last message had two lines, and so may the next one: its second line is asked for while the first one is looked for.
    pub(super) expects_two: bool,
    pub(super) ahead: Ahead,
}

/// What this reader knows of how far the writer is ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// With each line before this position a later one is asked for.
    pub(super) ask_until: u64,
    /// At this position the writer's lead is looked at again.
    look_at: u64,
}

impl Consumer {
    /// A reader that is there from the start, gated (links).
    ///
    /// # Panics
    /// When the number of slots is no power of two or less than 4.
    pub fn new(slots: &[Slot]) -> Self {
        Self::at(slots, 0, false)
    }

    /// A reader that joins where the writer is now and may be lapped (topics). One pass over all stamps.
    pub fn join(slots: &[Slot]) -> Self {
        let newest = slots.iter().map(|slot| slot.stamp.load(Ordering::Acquire));
        let position = newest.filter(|stamp| stamp & WRITING == 0).max().unwrap_or(0);
        Self::at(slots, position, true)
    }

    /// A reader that may be lapped and begins at `position` (topics); what is gone by then is reported as lost.
    pub fn join_at(slots: &[Slot], position: u64) -> Self {
        Self::at(slots, position, true)
    }

    fn at(slots: &[Slot], position: u64, ungated: bool) -> Self {
        let (capacity, ahead) = (capacity_of(slots), Ahead::none_before(position));
        Self { position, capacity, ungated, expects_two: false, ahead }
    }

    /// The position that is read next: what the cursor says, when it is stored.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The slot whose stamp changes when the next message arrives.
    pub(crate) fn next_slot<'a>(&self, slots: &'a [Slot]) -> &'a Slot {
        slot_of(slots, self.position)
    }

    /// Whether there is nothing new: what a reader asks again before it sleeps. Broken memory counts as news.
    pub(crate) fn is_empty(&self, slots: &[Slot]) -> bool {
        matches!(self.look(slots, self.position), Ok(Look::Empty))
    }

    /// Takes what is there: a private copy in `line`, and in `timing` where there is a second line. Lengths and flags were
    /// checked.
    #[inline]
    pub fn take(
        &mut self,
        slots: &[Slot],
        line: &mut Line,
        timing: &mut Timing,
    ) -> Result<Found, Violation> {
        let position = self.position;
        match self.look(slots, position)? {
            Look::Empty => {
                self.ahead = Ahead::none_before(position);
                // So that both lines are on their way at once. A hint: the stamp of the first line is what tells.
                if self.expects_two {
                    prefetch::for_reading(slot_of(slots, position + 1));
                }
                return Ok(Found::Empty);
            }
            Look::Lapped { writer } => return Ok(self.skip(writer)),
            Look::There => {}
        }
        slot_of(slots, position).copy_to(line);
        self.ask_ahead(slots, position);
        if self.ungated && !still_there(slots, position) {
            return self.lapped(slots, position);
        }
        if usize::from(line.meta.length) > INLINE_BYTES_MAX {
            return Err(Violation::Length { position, got: line.meta.length });
        }
        if line.meta.flags & (FLAG_TWO_LINES | FLAG_SECOND_LINE) == 0 {
            self.position = position + 1;
            self.expects_two = false;
            return Ok(Found::One);
        }
        self.take_second(slots, line.meta.flags, timing)
    }

    /// The common case of [`Consumer::take`] alone: the next message of a gated ring, if it is one line that stands for
    /// itself. Anything else, what breaks the rules too, is left where it is for `take`, which copies and checks it anew.
    #[inline]
    pub(crate) fn take_plain(&mut self, slots: &[Slot], line: &mut Line) -> Option<Meta> {
        debug_assert!(!self.ungated, "rule 8 needs a second look");
        let slot = slot_of(slots, self.position);
        // Partner: the Release store of the stamp in `Producer::write_at`.
        if slot.stamp.load(Ordering::Acquire) != self.position + 1 {
            return None;
        }
        let word = slot.first_word();
        if !Meta::is_plain_word(word) {
            return None;
        }
        slot.copy_payload_to(line);
        self.ask_ahead(slots, self.position);
        self.position += 1;
        self.expects_two = false;
        Some(Meta::from_word(word))
    }

    /// The rarer rest of [`Consumer::take`]: messages of two lines.
    fn take_second(
        &mut self,
        slots: &[Slot],
        flags: u8,
        timing: &mut Timing,
    ) -> Result<Found, Violation> {
        let position = self.position;
        if flags & FLAG_SECOND_LINE != 0 {
            // After a lap a reader may land in the middle of a message; that message is lost too.
            if !self.ungated || flags != FLAG_SECOND_LINE {
                return Err(Violation::Flags { position, got: flags });
            }
            self.position = position + 1;
            return Ok(Found::Lapped(1));
        }
        match self.look(slots, position + 1)? {
            Look::There => {}
            Look::Lapped { writer } => return Ok(self.skip(writer)),
            Look::Empty => {
                let got = slot_of(slots, position + 1).stamp.load(Ordering::Relaxed);
                return Err(Violation::Stamp { position: position + 1, got });
            }
        }
        self.ask_ahead(slots, position + 1);
        let slot = slot_of(slots, position + 1);
        let (meta, words) = (Meta::from_word(slot.first_word()), slot.payload_words::<4>());
        if self.ungated && !still_there(slots, position + 1) {
            return self.lapped(slots, position + 1);
        }
        if meta.flags != FLAG_SECOND_LINE {
            return Err(Violation::Flags { position: position + 1, got: meta.flags });
        }
        self.position = position + 2;
        self.expects_two = true;
        let [time_ns, deadline_ns, low, high] = words;
        *timing = Timing { time_ns, deadline_ns, trace: u128::from(low) | u128::from(high) << 64 };
        Ok(Found::Two)
    }

    /// Asks for a line that will be read soon, where the writer is further ahead than that: it would lose a line that it is
    /// about to write, and send late. So only while a look still further ahead finds a line, and a look only after
    /// a run of lines in which the ring was never found empty, or a lap.
    #[inline]
    fn ask_ahead(&mut self, slots: &[Slot], position: u64) {
        if position < self.ahead.ask_until {
            prefetch::for_reading(slot_of(slots, position + READ_AHEAD_LINES));
        } else if position >= self.ahead.look_at {
            self.look_ahead(slots, position);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_ahead(&mut self, slots: &[Slot], position: u64) {
        let next = position + READ_AHEAD_RUN;
        let far = next + READ_AHEAD_LINES;
        // Of what is read here nothing is believed but that asking is worth while: no partner, no order.
        let is_there = far - position < self.capacity
            && slot_of(slots, far).stamp.load(Ordering::Relaxed) == far + 1;
        self.ahead = Ahead { ask_until: if is_there { next } else { position }, look_at: next };
    }

    /// [`Consumer::take`] as one value, for tests.
    #[cfg(test)]
    pub(super) fn take_owned(&mut self, slots: &[Slot]) -> Result<Owned, Violation> {
        let (mut line, mut timing) = (Line::default(), Timing::default());
        Ok(match self.take(slots, &mut line, &mut timing)? {
            Found::Empty => Owned::Empty,
            Found::One => Owned::Message { line, timing: None },
            Found::Two => Owned::Message { line, timing: Some(timing) },
            Found::Lapped(lost) => Owned::Lapped(lost),
        })
    }

    /// Rules 5 and 9 for the slot of one position.
    #[inline]
    fn look(&self, slots: &[Slot], position: u64) -> Result<Look, Violation> {
        // Partner: the Release store of the stamp in `Producer::write_at`.
        let stamp = slot_of(slots, position).stamp.load(Ordering::Acquire);
        if stamp == position + 1 {
            return Ok(Look::There);
        }
        self.classify(stamp, position)
    }

    fn classify(&self, stamp: u64, position: u64) -> Result<Look, Violation> {
        let before = (position + 1).saturating_sub(self.capacity);
        if stamp == before {
            return Ok(Look::Empty);
        }
        if !self.ungated {
            return Err(Violation::Stamp { position, got: stamp });
        }
        let written = stamp & !WRITING;
        let ours = (position + 1) & (self.capacity - 1);
        if written & (self.capacity - 1) != ours && written != 0 {
            return Err(Violation::Stamp { position, got: stamp });
        }
        if written <= position + 1 {
            // An older lap, or this very line on its way.
            return Ok(Look::Empty);
        }
        Ok(Look::Lapped { writer: written - 1 })
    }

    /// After a copy turned out to be torn: the slot says where the writer is by now.
    fn lapped(&mut self, slots: &[Slot], position: u64) -> Result<Found, Violation> {
        match self.look(slots, position)? {
            Look::Lapped { writer } => Ok(self.skip(writer)),
            Look::Empty | Look::There => {
                let got = slot_of(slots, position).stamp.load(Ordering::Relaxed);
                Err(Violation::Stamp { position, got })
            }
        }
    }

    /// Rule 9: the writer is at `writer` in the slot that was to be read, so all that is at least one lap older is gone.
    fn skip(&mut self, writer: u64) -> Found {
        let target = writer + 1 - self.capacity + self.capacity / 4;
        let target = target.max(self.position + 1);
        let lost = target - self.position;
        self.position = target;
        Found::Lapped(lost)
    }
}

impl Ahead {
    /// The writer is not known to be ahead.
    fn none_before(position: u64) -> Self {
        Self { ask_until: position, look_at: position.saturating_add(READ_AHEAD_RUN) }
    }
}

/// Rule 8: whether the line of a position was whole when it was copied.
#[inline]
fn still_there(slots: &[Slot], position: u64) -> bool {
    // Partner: the Release fence in `Producer::write_at`, seen through any word that was already overwritten.
    fence(Ordering::Acquire);
    slot_of(slots, position).stamp.load(Ordering::Relaxed) == position + 1
}
