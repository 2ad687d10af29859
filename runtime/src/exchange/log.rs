//! The durable log: records are appended, kept, replayed from any position, retired.
//!
//! Class LOW of the bus. Only the exchange writes it; `ipc/PROTOCOL.md` section 9 gives the bytes.
//! Two promises, each a number:
//! - *stored* ([`Log::append`] returned): the record is in the page cache and survives the death of
//!   every process.
//! - *synced* ([`Log::synced_position`] is above it): it survives power loss. One thread syncs for
//!   all that wait (`commit`).
//!
//! Why the file is written with `pwrite` and not through a mapping. A record of 100 bytes costs
//! about 0.4 us by `pwrite` and 0.03 us by a copy into a mapping whose page is there; where a page
//! is touched for the first time, and so at the 99th percentile, it is 1.9 us and 1.4 us
//! (`bench::bus::log` measures both). But a store into a mapping of a file that another program of
//! the user has truncated, on a full disk that allocates late, or after an error of the disk, is a
//! SIGBUS that ends the daemon and so every queue; `pwrite` returns an error for this one queue.
//! Hundreds of nanoseconds are little beside a message's way through the exchange. Readers may map.
//!
//! Not here: who may write, followers, waking them (`logs`). Nothing here
//! asks for the time: it is a parameter.

mod commit;
mod format;
mod name;
mod reader;
mod recover;
mod retain;
mod scan;
mod segment;
#[cfg(test)]
pub(super) mod simulated;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

pub(crate) use commit::{Committer, Mechanism, SyncError, Ticket, mechanism_here};
pub(crate) use format::Record;
pub(crate) use name::{directory_name, subject_of};
pub(crate) use reader::{Entry, ReadError, Reader};
pub(crate) use recover::{OpenError, Recovered};
pub(crate) use retain::{Retained, Retention, Surplus};

use crate::limits::{
    LOG_APPEND_BUFFER_BYTES, LOG_NAME_BYTES_MAX, LOG_PAYLOAD_BYTES_MAX, LOG_POSITIONS_MAX,
    LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN, LOG_SEGMENTS_MAX,
    LOG_SEGMENTS_UNSYNCED_MAX,
};
use format::{
    HEADER_BYTES, RECORD_HEADER_BYTES, Seed, SegmentHeader, body_checksum, encode_record_header,
    padded, record_length,
};
use recover::{Opened, Opening, make_segment, recover};
use segment::{Segment, Shared};
use storage::{Directory, SegmentFile, Storage};

/// Segment sizes are whole pages of this many bytes.
const PAGE_BYTES: u64 = 4096;

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Bytes of a segment file, taken on the disk when it is made.
    pub(crate) segment_bytes: u64,
    /// When old segments are deleted.
    pub(crate) retention: Retention,
}

/// Why a record was not stored. Nothing of it can be seen.
#[derive(Debug, Error)]
pub(crate) enum AppendError {
    /// The payload or the name is longer than any record has.
    #[error("the {part} of a record has at most {max} bytes: {got}")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its bytes.
        got: usize,
        /// What fits.
        max: usize,
    },
    /// The disk, or what this user may have of it, is full.
    #[error("no space for the record")]
    NoSpace,
    /// Retention does not keep up.
    #[error("the log has {LOG_SEGMENTS_MAX} segments, no more are possible")]
    Full,
    /// Its files claim positions that no log reaches.
    #[error("the log has no positions left")]
    NoPositions,
    /// The system refused.
    #[error("cannot append to the log")]
    System(#[source] io::Error),
}

/// A log, opened for writing. There is one writer.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    committer: Committer,
    options: Options,
    subject: String,
    /// Of all checksums.
    seed: Seed,
    active: Arc<Segment>,
    file: Arc<dyn SegmentFile>,
    /// Where the next record goes.
    offset: u64,
    next: u64,
    newest_ns: u64,
    buffer: Box<[u8]>,
    /// Part of a record that was refused stands behind the last one.
    tail_is_dirty: bool,
    consumers: BTreeMap<String, u64>,
}

/// How far a log is; for followers and for whoever shows it.
#[derive(Clone, Debug)]
pub(crate) struct Positions(Arc<Shared>);

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: LOG_SEGMENT_BYTES_DEFAULT, retention: Retention::default() }
    }
}

impl AppendError {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::System(error),
        }
    }
}

impl Positions {
    /// As [`Log::read`], on another thread than the log's.
    pub(crate) fn read(&self, from: u64) -> Result<Reader, ReadError> {
        Reader::new(Arc::clone(&self.0), from)
    }
}

impl Log {
    /// Opens the log in `directory`, or makes one; its parent must exist. Everything that is there
    /// afterwards is synced. Blocks for the disk.
    pub(crate) fn open(
        directory: &Path,
        subject: &str,
        options: Options,
        committer: &Committer,
        now_ns: u64,
    ) -> Result<(Self, Recovered), OpenError> {
        let storage = Directory::open(directory).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Held,
            _ => OpenError::System(error),
        })?;
        // The keys of `RandomState` are the system's random numbers.
        let salt = RandomState::new().hash_one(now_ns);
        Self::open_in(Arc::new(storage), subject, options, committer, (now_ns, salt))
    }

    /// On a disk in memory, where nothing is synced unless the test does it.
    #[cfg(test)]
    pub(super) fn open_on(
        disk: &simulated::Disk,
        subject: &str,
        options: Options,
    ) -> Result<(Self, Recovered), OpenError> {
        let storage = Arc::new(disk.clone());
        Self::open_in(storage, subject, options, &Committer::absent(), (1, 0x5eed))
    }

    fn open_in(
        storage: Arc<dyn Storage>,
        subject: &str,
        mut options: Options,
        committer: &Committer,
        (now_ns, salt): (u64, u64),
    ) -> Result<(Self, Recovered), OpenError> {
        if subject.len() > LOG_NAME_BYTES_MAX {
            return Err(OpenError::Subject { got: subject.len(), max: LOG_NAME_BYTES_MAX });
        }
        let bytes = options.segment_bytes.clamp(LOG_SEGMENT_BYTES_MIN, LOG_SEGMENT_BYTES_MAX);
        options.segment_bytes = bytes.next_multiple_of(PAGE_BYTES);
        let segment_bytes = options.segment_bytes;
        let opened = recover(storage, Opening { subject, segment_bytes, now_ns, salt })?;
        let Opened { shared, active, file, offset, newest_ns, recovered } = opened;
        let log = Self {
            shared: Arc::new(shared),
            committer: committer.clone(),
            options,
            subject: subject.to_owned(),
            seed: Seed::of(active.salt),
            active,
            file,
            offset,
            next: recovered.next,
            newest_ns,
            buffer: vec![0; LOG_APPEND_BUFFER_BYTES].into(),
            tail_is_dirty: false,
            consumers: BTreeMap::new(),
        };
        Ok((log, recovered))
    }

    /// Stores a record and gives its position. It survives the death of every process from here on.
    pub(crate) fn append(&mut self, record: &Record<'_>) -> Result<u64, AppendError> {
        check("payload", record.payload.len(), LOG_PAYLOAD_BYTES_MAX)?;
        check("name", record.sender_name.len(), LOG_NAME_BYTES_MAX)?;
        if self.next >= LOG_POSITIONS_MAX {
            return Err(AppendError::NoPositions);
        }
        let size = padded(record_length(record));
        if self.tail_is_dirty {
            self.clean_tail().map_err(AppendError::of)?;
        }
        if self.offset + size as u64 > self.active.capacity() {
            self.make_room(size as u64, record.time_ns)?;
        }
        if let Err(error) = self.write(record, size) {
            self.tail_is_dirty = true;
            // Where this fails as well, the next append tries again before it writes.
            let _ = self.clean_tail();
            return Err(AppendError::of(error));
        }
        let position = self.next;
        self.active.note(position, self.offset);
        self.offset += size as u64;
        self.next += 1;
        self.newest_ns = self.newest_ns.max(record.time_ns);
        self.shared.publish(self.next);
        Ok(position)
    }

    /// Makes sure that records which take so many bytes altogether, their headers and alignment included, find their
    /// space taken. So a full disk is met before anything depends on them.
    pub(crate) fn reserve(&mut self, bytes: u64, now_ns: u64) -> Result<(), AppendError> {
        if self.tail_is_dirty {
            self.clean_tail().map_err(AppendError::of)?;
        }
        if self.offset + bytes <= self.active.capacity() {
            return Ok(());
        }
        self.make_room(bytes, now_ns)
    }

    fn write(&mut self, record: &Record<'_>, size: usize) -> io::Result<()> {
        let synced = self.shared.synced();
        let (place, seed) = ((self.next, synced), self.seed);
        let name = record.sender_name.as_bytes();
        let name_end = RECORD_HEADER_BYTES + name.len();
        self.buffer[RECORD_HEADER_BYTES..name_end].copy_from_slice(name);
        let Some(rest) = self.buffer.get_mut(name_end..size) else {
            let of_body = body_checksum(seed, &[name, record.payload]);
            let header = encode_record_header(record, place, seed, of_body);
            self.buffer[..RECORD_HEADER_BYTES].copy_from_slice(&header);
            // The header last: until then nothing stands here.
            self.file.write_at(record.payload, self.offset + name_end as u64)?;
            return self.file.write_at(&self.buffer[..name_end], self.offset);
        };
        let (payload, padding) = rest.split_at_mut(record.payload.len());
        payload.copy_from_slice(record.payload);
        padding.fill(0);
        let body = &self.buffer[RECORD_HEADER_BYTES..name_end + record.payload.len()];
        let header = encode_record_header(record, place, seed, body_checksum(seed, &[body]));
        self.buffer[..RECORD_HEADER_BYTES].copy_from_slice(&header);
        self.file.write_at(&self.buffer[..size], self.offset)
    }

    /// Takes away what a refused record left, and takes its space again.
    fn clean_tail(&mut self) -> io::Result<()> {
        self.file.truncate(self.offset)?;
        self.file.allocate(self.active.capacity())?;
        self.tail_is_dirty = false;
        Ok(())
    }

    /// Makes place for a record that does not fit any more.
    fn make_room(&mut self, size: u64, now_ns: u64) -> Result<(), AppendError> {
        let needed = (HEADER_BYTES as u64 + size).next_multiple_of(PAGE_BYTES);
        let capacity = self.options.segment_bytes.max(needed);
        if self.next == self.active.first {
            // Nothing is in it, so the next one would have the same name.
            self.file.allocate(capacity).map_err(AppendError::of)?;
            self.active.set_capacity(capacity);
            return Ok(());
        }
        self.roll(capacity, now_ns)
    }

    /// Goes on in a new segment.
    fn roll(&mut self, capacity: u64, now_ns: u64) -> Result<(), AppendError> {
        let synced = self.shared.synced();
        if self.shared.segments().len() >= LOG_SEGMENTS_MAX {
            return Err(AppendError::Full);
        }
        if self.is_disk_behind() && self.shared.commit().is_err() {
            // There is nothing more to promise, so nothing needs to stay open.
            self.shared.segments().iter().for_each(|segment| segment.keep_open_no_longer());
        }
        let header = SegmentHeader {
            first: self.next,
            salt: self.active.salt,
            created_ns: now_ns,
            synced,
            subject: self.subject.clone(),
        };
        let made = make_segment(&*self.shared.storage, &header, capacity);
        let (segment, file) = made.map_err(AppendError::of)?;
        self.active.close_at(self.next);
        self.shared.segments_mut().push(Arc::clone(&segment));
        (self.active, self.file, self.offset) = (segment, file, HEADER_BYTES as u64);
        self.committer.nudge(&self.shared);
        Ok(())
    }

    /// Whether so many full segments are not synced yet that the append which fills one more waits for the disk.
    pub(crate) fn is_disk_behind(&self) -> bool {
        let synced = self.shared.synced();
        let segments = self.shared.segments();
        let unsynced = segments.iter().rev().take_while(|segment| segment.end() > synced);
        unsynced.count() >= LOG_SEGMENTS_UNSYNCED_MAX
    }

    /// Whether an append of such a record would wait for the disk, because it begins a segment and the disk is behind. Who must
    /// not wait asks first, and again when a sync is over.
    pub(crate) fn would_wait(&self, record: &Record<'_>) -> bool {
        self.offset + padded(record_length(record)) as u64 > self.active.capacity()
            && self.is_disk_behind()
    }

    /// The first position of the segment that is written: another one after each new segment.
    pub(crate) fn active_first(&self) -> u64 {
        self.active.first
    }

    /// Segment files, and their bytes on the disk.
    pub(crate) fn size(&self) -> (usize, u64) {
        let segments = self.shared.segments();
        (segments.len(), segments.iter().map(|segment| segment.capacity()).sum())
    }

    /// Keeps from now on what this says.
    pub(crate) fn set_retention(&mut self, retention: Retention) {
        self.options.retention = retention;
    }

    /// Asks that the record at this position survives power loss.
    pub(crate) fn request_sync(&self, position: u64) -> Result<Ticket, SyncError> {
        self.committer.request(&self.shared, position)
    }

    /// Makes all that is stored survive power loss, on this thread.
    pub(crate) fn sync(&self) -> Result<u64, SyncError> {
        self.shared.commit()
    }

    /// All positions below this survive power loss.
    pub(crate) fn synced_position(&self) -> u64 {
        self.shared.synced()
    }

    /// The position that the next record gets.
    pub(crate) fn next_position(&self) -> u64 {
        self.next
    }

    /// The first position that is still there.
    pub(crate) fn first_position(&self) -> u64 {
        self.shared.first()
    }

    /// Whether a sync has failed: nothing more is promised to survive power loss until the log is
    /// opened again.
    pub(crate) fn is_broken(&self) -> bool {
        self.shared.is_broken()
    }

    /// How far the log is, for other threads.
    pub(crate) fn positions(&self) -> Positions {
        Positions(Arc::clone(&self.shared))
    }

    /// A reader whose first entry is at this position; it works beside the writer, on any thread.
    pub(crate) fn read(&self, from: u64) -> Result<Reader, ReadError> {
        Reader::new(Arc::clone(&self.shared), from)
    }
}

fn check(part: &'static str, got: usize, max: usize) -> Result<(), AppendError> {
    if got > max { Err(AppendError::TooLong { part, got, max }) } else { Ok(()) }
}
