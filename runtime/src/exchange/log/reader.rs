//! Reading a log from any position, while it is written and while old segments are deleted.
//!
//! A reader holds the file that it reads, so retention cannot take it away under it. What cannot
//! be read is handed out as a gap with its positions; nothing is skipped in silence.
//!
//! Not here: waiting for more. A follower looks at `Positions::next`, which the writer publishes.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::format::{Found, Stored, parse};
use super::scan::Window;
use super::segment::{Segment, Shared};
use super::storage::SegmentFile;

/// Why nothing can be read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// Retention has deleted it.
    #[error("position {asked} was retired; the first available one is {first}")]
    Retired {
        /// What was wanted.
        asked: u64,
        /// The first position that is still there.
        first: u64,
    },
    /// Nothing was stored there yet.
    #[error("position {asked} does not exist yet; the next one is {next}")]
    Ahead {
        /// What was wanted.
        asked: u64,
        /// The position that the next record will have.
        next: u64,
    },
    /// The system refused.
    #[error("cannot read the log")]
    System(#[from] io::Error),
}

/// Reads one log, forwards.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    file: Arc<dyn SegmentFile>,
    /// What is read next.
    position: u64,
    /// Where its record begins, or somewhere before it.
    offset: u64,
    window: Window,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    /// A record in the window: where its file offset is.
    Record(u64),
    Gap(Gap),
}

/// Positions whose records cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The first of them.
    pub(crate) first: u64,
    /// The first one behind them.
    pub(crate) next: u64,
}

/// What stands next in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// A record.
    Record(Stored<'a>),
    /// Records that were here and cannot be read any more.
    Gap(Gap),
}

/// What one read gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    window: &'a Window,
    items: &'a [Item],
}

impl<'a> Batch<'a> {
    /// Whether the reader is at the end of the log.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The entries in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let window = self.window;
        self.items.iter().filter_map(move |item| match *item {
            Item::Record(offset) => parse(window.held(offset)).map(Entry::Record),
            Item::Gap(gap) => Some(Entry::Gap(gap)),
        })
    }
}

/// The segment that holds this position or, where none does, the next one.
fn segment_of(shared: &Shared, position: u64) -> Option<Arc<Segment>> {
    let segments = shared.segments();
    let index = segments.partition_point(|segment| segment.end() <= position);
    segments.get(index).cloned()
}

impl Reader {
    /// A reader whose first entry is at this position.
    pub(super) fn new(shared: Arc<Shared>, from: u64) -> Result<Self, ReadError> {
        let next = shared.next();
        if from > next {
            return Err(ReadError::Ahead { asked: from, next });
        }
        let first = shared.first();
        let retired = ReadError::Retired { asked: from, first };
        let Some(segment) = segment_of(&shared, from).filter(|_| from >= first) else {
            return Err(retired);
        };
        let file = segment.open(&*shared.storage)?;
        let mut reader = Self {
            shared,
            segment,
            file,
            position: from,
            offset: 0,
            window: Window::new(),
            items: Vec::new(),
        };
        reader.locate()?;
        Ok(reader)
    }

    /// The position of the next entry.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether there is something to read now.
    #[cfg(test)]
    pub(crate) fn has_more(&self) -> bool {
        self.position < self.shared.next()
    }

    /// Finds the offset of `position` in the segment from the nearest one that is known.
    fn locate(&mut self) -> io::Result<()> {
        let segment = &*self.segment;
        let (mut expected, mut offset) = segment.nearest(self.position.max(segment.first));
        let end = segment.end().min(self.shared.next());
        while expected < self.position {
            let accepted = expected..end;
            offset = match self.window.look(&*self.file, offset, segment.salt, &accepted)? {
                Found::Record(stored, size) if stored.position < self.position => {
                    segment.note(stored.position, offset);
                    expected = stored.position + 1;
                    offset + size as u64
                }
                Found::Record(..) => break,
                // Reading will find what comes behind the damage.
                _ => match self.window.find(&*self.file, offset, segment.salt, &accepted)? {
                    Some(found) => found,
                    None => break,
                },
            };
        }
        self.offset = offset;
        Ok(())
    }

    /// Goes on in the segment that has the next position.
    fn move_on(&mut self) -> Result<(), ReadError> {
        let first = self.shared.first();
        let retired = ReadError::Retired { asked: self.position, first };
        let Some(segment) = segment_of(&self.shared, self.position) else { return Err(retired) };
        if self.position < first {
            return Err(retired);
        }
        self.file = segment.open(&*self.shared.storage)?;
        self.segment = segment;
        self.window.discard(0);
        Ok(self.locate()?)
    }

    /// The next entries: about `bytes_max` bytes of records, at least one entry where there is one.
    /// After an error the position is as before.
    pub(crate) fn read(&mut self, bytes_max: usize) -> Result<Batch<'_>, ReadError> {
        self.items.clear();
        // The file may have more than when it was last looked at.
        self.window.discard(bytes_max.min(crate::limits::LOG_SEGMENT_BYTES_MAX as usize));
        let next = self.shared.next();
        let mut bytes = 0;
        while self.position < next && bytes < bytes_max.max(1) {
            if self.position >= self.segment.end() {
                if !self.items.is_empty() {
                    break;
                }
                self.move_on()?;
            }
            if self.position < self.segment.first {
                // Between two segments something is missing.
                self.skip_to(self.segment.first.min(next));
                continue;
            }
            let Some(size) = self.step(self.segment.end().min(next))? else { break };
            bytes += size;
        }
        Ok(Batch { window: &self.window, items: &self.items })
    }

    fn skip_to(&mut self, next: u64) {
        self.items.push(Item::Gap(Gap { first: self.position, next }));
        self.position = next;
    }

    /// Takes one entry below `end`; `None` where the batch has to end before it.
    fn step(&mut self, end: u64) -> io::Result<Option<usize>> {
        let (accepted, salt) = (self.position..end, self.segment.salt);
        // What the batch already has must stay in memory.
        let found = if self.items.is_empty() {
            self.window.look(&*self.file, self.offset, salt, &accepted)?
        } else {
            match self.window.look_held(self.offset, salt, &accepted) {
                Some(found) => found,
                None => return Ok(None),
            }
        };
        let behind = match found {
            Found::Record(stored, _) if stored.position > self.position => {
                let position = stored.position;
                self.skip_to(position);
                return Ok(Some(0));
            }
            Found::Record(stored, size) => {
                self.segment.note(stored.position, self.offset);
                self.items.push(Item::Record(self.offset));
                self.position += 1;
                self.offset += size as u64;
                return Ok(Some(size));
            }
            Found::DamagedBody(size) => self.offset + size as u64,
            Found::Other(_) => self.offset + super::format::ALIGNMENT as u64,
        };
        if !self.items.is_empty() {
            return Ok(None);
        }
        match self.window.find(&*self.file, behind, salt, &accepted)? {
            Some(found) => self.offset = found,
            None => self.skip_to(end),
        }
        Ok(Some(0))
    }
}
