//! Walking through a segment file: record after record, and past what is none.
//!
//! A place that holds no record is not the end: a power loss may have dropped this page and kept
//! the next one, a disk may have lost a sector. So the walk looks for the next record at every
//! possible place, and what was skipped shows as a jump of positions.
//!
//! Not here: what a jump means (`recover` reports it once, `reader` hands it out).

use std::io;
use std::ops::Range;

use super::format::{
    ALIGNMENT, Beginning, Found, HEADER_BYTES, RECORD_HEADER_BYTES, Stored, begin, examine,
};
use super::storage::SegmentFile;
use crate::limits::LOG_READ_BYTES_MIN;

/// A part of a file in memory.
#[derive(Debug)]
pub(super) struct Window {
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    start: u64,
    /// How much one read fetches when the record does not need more.
    preferred: usize,
}

/// Where the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Behind the last record.
    pub(super) offset: u64,
    /// The position after the last record.
    pub(super) next: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, preferred: LOG_READ_BYTES_MIN }
    }

    /// Forgets what was read: the file may have grown since.
    pub(super) fn discard(&mut self, preferred: usize) {
        self.buffer.clear();
        self.preferred = preferred.max(LOG_READ_BYTES_MIN);
        // One large record must not keep its megabytes for ever.
        if self.buffer.capacity() / 4 > self.preferred {
            self.buffer.shrink_to(self.preferred);
        }
    }

    /// What is in memory from this offset on.
    pub(super) fn held(&self, offset: u64) -> &[u8] {
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.buffer.get(at..)).unwrap_or_default()
    }

    /// The bytes from this offset on: at least so many, fewer only where the file ends.
    pub(super) fn read(
        &mut self,
        file: &dyn SegmentFile,
        offset: u64,
        needed: usize,
    ) -> io::Result<&[u8]> {
        if self.held(offset).len() < needed {
            self.buffer.resize(needed.max(self.preferred), 0);
            let filled = file.read_at(&mut self.buffer, offset);
            // After a failure nothing is held, rather than what was before.
            self.buffer.truncate(*filled.as_ref().unwrap_or(&0));
            self.start = offset;
            filled?;
        }
        Ok(self.held(offset))
    }

    /// What stands at this offset.
    pub(super) fn look(
        &mut self,
        file: &dyn SegmentFile,
        offset: u64,
        salt: u64,
        accepted: &Range<u64>,
    ) -> io::Result<Found<'_>> {
        let first = self.read(file, offset, RECORD_HEADER_BYTES)?;
        match begin(first, salt, accepted) {
            Beginning::Record(size) => Ok(examine(self.read(file, offset, size)?, salt, accepted)),
            other => Ok(Found::Other(other)),
        }
    }

    /// What stands at this offset, if all of it is in memory.
    pub(super) fn look_held(
        &self,
        offset: u64,
        salt: u64,
        accepted: &Range<u64>,
    ) -> Option<Found<'_>> {
        let bytes = self.held(offset);
        let size = match begin(bytes.get(..RECORD_HEADER_BYTES)?, salt, accepted) {
            Beginning::Record(size) => size,
            _ => RECORD_HEADER_BYTES,
        };
        bytes.get(..size).map(|bytes| examine(bytes, salt, accepted))
    }

    /// The next place after this one, which is no record, where one can be: most of a file that
    /// was allocated ahead is zero, and no record begins with zeros.
    fn behind(&self, offset: u64) -> u64 {
        let held = self.held(offset).get(ALIGNMENT..).unwrap_or_default();
        let zeros = held.iter().position(|byte| *byte != 0).unwrap_or(held.len());
        offset + (ALIGNMENT + zeros / ALIGNMENT * ALIGNMENT) as u64
    }

    /// The next record at this offset or behind it.
    pub(super) fn find(
        &mut self,
        file: &dyn SegmentFile,
        mut offset: u64,
        salt: u64,
        accepted: &Range<u64>,
    ) -> io::Result<Option<u64>> {
        while !self.read(file, offset, RECORD_HEADER_BYTES)?.is_empty() {
            match self.look(file, offset, salt, accepted)? {
                Found::Record(..) => return Ok(Some(offset)),
                Found::DamagedBody(size) => offset += size as u64,
                Found::Other(_) => offset = self.behind(offset),
            }
        }
        Ok(None)
    }

    /// Goes through a whole segment; every record is shown with its offset and size.
    pub(super) fn walk(
        &mut self,
        file: &dyn SegmentFile,
        salt: u64,
        mut accepted: Range<u64>,
        mut visit: impl FnMut(&Stored<'_>, u64, usize),
    ) -> io::Result<Walked> {
        let mut walked = Walked { offset: HEADER_BYTES as u64, next: accepted.start };
        let mut offset = walked.offset;
        loop {
            let behind = match self.look(file, offset, salt, &accepted)? {
                Found::Record(stored, size) => {
                    visit(&stored, offset, size);
                    offset += size as u64;
                    accepted.start = stored.position + 1;
                    walked = Walked { offset, next: accepted.start };
                    continue;
                }
                Found::DamagedBody(size) => offset + size as u64,
                Found::Other(_) => offset + ALIGNMENT as u64,
            };
            match self.find(file, behind, salt, &accepted)? {
                Some(found) => offset = found,
                None => return Ok(walked),
            }
        }
    }

    /// Behind the last byte that is not zero, from this offset on; the offset itself where all are.
    pub(super) fn written_end(&mut self, file: &dyn SegmentFile, offset: u64) -> io::Result<u64> {
        let (mut end, mut at) = (offset, offset);
        loop {
            let bytes = self.read(file, at, 1)?;
            if bytes.is_empty() {
                return Ok(end);
            }
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += bytes.len() as u64;
        }
    }
}
