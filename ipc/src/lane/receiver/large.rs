//! Messages through the region: what a line says of lent bytes, checked; chunks put together; headers read.
//!
//! Not here: the looking and waiting (`receiver`).

use super::super::lender::{copy_out, is_still_there};
use super::super::{Message, ReceiveError, TakenMessage};
use super::{Receiver, Taken};
use crate::header::{HEADER_BYTES, HEADER_BYTES_MAX, Header};
use crate::limits::{MESSAGE_BYTES_MAX, REGION_ALIGNMENT};
use crate::ring::{FLAG_ABORT, FLAG_CHUNK, FLAG_REGION, Meta, Violation};

/// The buffer for large messages is given back beyond this, in bytes.
const BUFFER_KEPT_BYTES: usize = 1_024 * 1_024;

/// A message of several chunks on its way.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) bytes: Vec<u8>,
    /// Of the message that is complete.
    header_bytes: usize,
    /// Of the first chunk, while more are expected.
    open: Option<Open>,
    /// Lines of it so far.
    lines: u64,
    /// It cannot be completed: what follows of it is counted and thrown away.
    broken: bool,
}

impl Assembly {
    /// Whether the next line belongs to a message that has begun.
    #[inline]
    pub(super) fn is_under_way(&self) -> bool {
        self.lines > 0
    }

    /// Forgets what has begun; gives its lines.
    pub(super) fn give_up(&mut self) -> u64 {
        (self.open, self.broken) = (None, false);
        std::mem::take(&mut self.lines)
    }
}

impl Assembly {
    /// What the message takes that is under way, whether it is all there or not; else what the buffer holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.open.map_or(0, |open| open.total).max(self.bytes.capacity())
    }

    pub(super) fn release(&mut self) {
        if self.open.is_none() {
            self.bytes = Vec::new();
            self.header_bytes = 0;
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    correlation: u32,
    header_bytes: usize,
    total: usize,
}

/// What the slot says of lent bytes.
#[derive(Clone, Copy, Debug)]
struct Lent {
    start: u64,
    length: usize,
    open: Open,
}

impl Receiver {
    /// [`Receiver::try_receive`] that takes the message out of the receiver. One that came through the region leaves its bytes there
    /// and the bytes of the one before here. False where nothing is there: `into` has what it had, then and after an error.
    #[inline]
    pub(crate) fn try_take(&mut self, into: &mut TakenMessage) -> Result<bool, ReceiveError> {
        let Some(message) = self.try_receive()? else { return Ok(false) };
        if !message.meta.has(FLAG_REGION) {
            into.copy(message);
            return Ok(true);
        }
        let Message { meta, timing, header, payload } = message;
        (into.meta, into.timing, into.has_header) = (meta, timing.copied(), header.is_some());
        let length = payload.len();
        into.header = self.header;
        std::mem::swap(&mut into.bytes, &mut self.assembly.bytes);
        into.begin = into.bytes.len() - length;
        Ok(true)
    }

    /// Checks the header at the start of a large message; gives its length, 0 where there is none.
    pub(super) fn read_header(&mut self) -> Result<usize, ReceiveError> {
        let expected = self.assembly.header_bytes;
        if expected == 0 {
            return Ok(0);
        }
        match Header::decode(&self.assembly.bytes) {
            Ok((header, size)) if size == expected => {
                self.header = Header { source: self.source, ..header };
                Ok(size)
            }
            Ok((_, got)) => {
                Err(self.quarantine(Violation::Header(crate::header::HeaderError::Size { got })))
            }
            Err(error) => Err(self.quarantine(Violation::Header(error))),
        }
    }

    /// Takes in a line that names lent bytes or belongs to several. `Nothing` while more is to come.
    pub(super) fn take_large(&mut self) -> Result<Taken, ReceiveError> {
        let meta = self.line.meta;
        if meta.has(FLAG_ABORT) {
            // Nobody lost what its writer took back.
            self.assembly.give_up();
            return Ok(Taken::Nothing);
        }
        if self.assembly.broken {
            return self.skip_rest(meta);
        }
        let lent = self.lent().map_err(|violation| self.quarantine(violation))?;
        if self.assembly.open.is_none() {
            self.assembly.bytes.clear();
            self.assembly.bytes.shrink_to(BUFFER_KEPT_BYTES);
        }
        if !self.copy_lent(lent) {
            return self.skip_rest(meta);
        }
        crate::fault::point("lane.chunk-read");
        self.assembly.open = Some(lent.open);
        self.assembly.lines += 1;
        let (have, total) = (self.assembly.bytes.len(), lent.open.total);
        if meta.has(FLAG_CHUNK) {
            // The writer may be waiting for this space.
            self.publish();
            return Ok(Taken::Nothing);
        }
        if have != total {
            // Whoever begins in the middle of a message of a topic misses its first chunks; nobody broke the protocol.
            if self.slots.ungated() {
                return Err(self.lapped(0));
            }
            let position = self.consumer.position();
            return Err(self.quarantine(Violation::Chunks { position }));
        }
        self.assembly.give_up();
        self.messages += 1;
        self.publish();
        self.assembly.header_bytes = lent.open.header_bytes;
        Ok(Taken::Large)
    }

    /// One line of a message that is not to be had any more. It is told when its last one has come, so that what was lost is
    /// told once.
    #[cold]
    fn skip_rest(&mut self, meta: Meta) -> Result<Taken, ReceiveError> {
        self.assembly.open = None;
        self.assembly.broken = true;
        self.assembly.lines += 1;
        // The writer may be waiting for this space.
        self.publish();
        if meta.has(FLAG_CHUNK) { Ok(Taken::Nothing) } else { Err(self.lapped(0)) }
    }

    /// Checks what a line says of lent bytes, against the region and against the chunks before.
    fn lent(&self) -> Result<Lent, Violation> {
        let (position, line) = (self.consumer.position(), &self.line);
        let (start, lengths, total) = (line.word(0), line.word(1), line.word(2));
        let (length, header_bytes) = (lengths & u64::from(u32::MAX), (lengths >> 32) as usize);
        if !line.meta.has(FLAG_REGION) || line.meta.length != 24 {
            return Err(Violation::Chunks { position });
        }
        let size = self.region.bytes() as u64;
        let offset = start & (size - 1);
        if length > size
            || offset + length > size
            || !offset.is_multiple_of(REGION_ALIGNMENT as u64)
        {
            return Err(Violation::Region { offset, length });
        }
        if total > (MESSAGE_BYTES_MAX + HEADER_BYTES) as u64 {
            return Err(Violation::TooLong { got: total });
        }
        let total = total as usize;
        let fits = header_bytes == 0 || (HEADER_BYTES..=HEADER_BYTES_MAX).contains(&header_bytes);
        if !fits || header_bytes > total {
            return Err(Violation::Chunks { position });
        }
        let open = Open { correlation: line.meta.correlation, header_bytes, total };
        let before = match self.assembly.open {
            None => 0,
            Some(first) => {
                let same = first.correlation == open.correlation
                    && first.header_bytes == header_bytes
                    && first.total == total;
                if !same {
                    return Err(Violation::Chunks { position });
                }
                self.assembly.bytes.len()
            }
        };
        let length = length as usize;
        // A chunk of nothing that announces more would let a writer keep its reader busy without end.
        if before + length > total || (line.meta.has(FLAG_CHUNK) && length == 0) {
            return Err(Violation::Chunks { position });
        }
        Ok(Lent { start, length, open })
    }

    /// Copies lent bytes once. False when they were overwritten meanwhile (topics).
    fn copy_lent(&mut self, lent: Lent) -> bool {
        let size = self.region.bytes() as u64;
        let offset = (lent.start & (size - 1)) as usize;
        copy_out(self.region.words(), offset, lent.length, &mut self.assembly.bytes);
        if !self.slots.ungated() {
            return true;
        }
        is_still_there(&self.slots.header().reserved_until.0, lent.start, size)
    }
}
