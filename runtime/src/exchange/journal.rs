//! The journal of one durable queue: its changes in a log, and pictures of the whole so that the log stays short.
//!
//! Rules:
//! 1. A journal begins with a picture of the empty queue, which is on the disk before anybody hears of the queue.
//! 2. Changes are appended in their order; nobody is told of one before it is appended (`keeper`).
//! 3. When the lines since the last picture are many and twice as long as that picture, a new one is taken at one moment
//!    and written piece by piece between the changes that follow: four bytes of it for each byte of them, so it is
//!    complete before the journal has grown by a quarter of it.
//! 4. Segments before the last complete picture go once that is on the disk. Whatever the moment of a death: either the
//!    picture is complete, or the one before it and all changes since are still there.
//! 5. Replay starts at the first complete picture. Changes that came between the lines of a picture are made after it.
//! 6. On a disk without room a picture is written as soon as the queue has become small enough for it, so that what was worked
//!    off makes room; large ones leave free what acks need.
//!
//! So the disk holds at most about five times what is in the queue, and some segments. Not here: bytes (`codec`),
//! which queues there are and who waits for the disk (`keeper`).

mod codec;
mod replay;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use thiserror::Error;
use tracing::warn;

use self::codec::{encode_begin, encode_change, encode_end, encode_item, encode_known};
use super::log;
use super::names::Names;
use super::queue::{DeclareError, Extent, Frozen, Queue, Record};
use crate::limits::{
    JOURNAL_HEADROOM_SHARE, JOURNAL_KNOWN_PER_LINE, JOURNAL_PICTURE_BYTES_PER_TURN,
    JOURNAL_SEGMENT_BYTES,
};

/// Who keeps the segments: the only consumer of the log.
const PICTURE: &str = "picture";
/// Bytes of a log's record beside its payload.
const RECORD_BYTES: u64 = 64;
/// Bytes of a line beside an item's payload, at most: three names and numbers.
const LINE_BYTES: u64 = 512;

/// Bytes of a deduplication id in a picture, with a name of usual length.
const KNOWN_BYTES: u64 = 64;
/// What puts and large pictures leave free in a segment.
const HEADROOM_BYTES: u64 = JOURNAL_SEGMENT_BYTES / JOURNAL_HEADROOM_SHARE;

/// Why a journal cannot go on. What is in memory is then ahead of it, and is given up.
#[derive(Debug, Error)]
pub(super) enum JournalError {
    /// The log has no room, or the disk refused.
    #[error(transparent)]
    Append(#[from] log::AppendError),
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] log::OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] log::ReadError),
    /// The disk failed to sync.
    #[error(transparent)]
    Sync(#[from] log::SyncError),
    /// Its making was interrupted: nobody ever heard of the queue.
    #[error("the queue was never made")]
    Unfinished,
    /// No picture in it is complete.
    #[error("the journal is damaged: no complete picture of the queue in {lines} lines")]
    Damaged {
        /// How many lines could be read.
        lines: u64,
    },
    /// Something is there that was not opened.
    #[error("`{}` has the state of an earlier queue, which was not opened", .0.display())]
    There(PathBuf),
    /// An agent of a name that is in it came while it was read.
    #[error("it is read once more")]
    Names,
    /// Too many journals are made, opened and removed at the moment.
    #[error("too much waits for the disk")]
    Busy,
    /// There is no place for one more queue.
    #[error(transparent)]
    Place(#[from] DeclareError),
}

/// What was found in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    /// Lines that were read.
    pub(super) lines: u64,
    /// Of these, changes.
    pub(super) changes: u64,
    /// Bytes of all lines.
    pub(super) bytes: u64,
    /// Lines that are missing, unreadable, or do not follow from what is there.
    pub(super) damaged: u64,
    /// The greatest id of an item that was seen.
    pub(super) item_last: u64,
}

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Journal {
    log: log::Log,
    line: Vec<u8>,
    /// The picture that is being written.
    picture: Option<Picture>,
    /// Positions of the first and the last line of a complete picture that may not be on the disk yet.
    complete: Option<(u64, u64)>,
    /// Bytes of changes since the last picture was begun.
    bytes_since: u64,
    /// Of these, those that were appended since the picture was last written on.
    bytes_owed: u64,
    /// Of the last picture.
    picture_bytes: u64,
    /// The least number of bytes of changes between two pictures.
    picture_every: u64,
    /// The disk has no room: about how large a picture was when one was last thought of.
    short_of: Option<u64>,
}

#[derive(Debug)]
struct Picture {
    first: u64,
    frozen: Frozen,
    known_written: usize,
    items_count: u64,
    bytes: u64,
    /// What its lines leave free.
    kept_free: u64,
}

/// How the log of a queue is kept: everything goes that no picture needs.
pub(super) fn log_options() -> log::Options {
    let retention = log::Retention { records_max: Some(0), ..log::Retention::default() };
    log::Options { segment_bytes: JOURNAL_SEGMENT_BYTES, retention }
}

/// Bytes that a put of so many takes in the journal, with what must stay free for what follows from it.
pub(super) fn put_bytes(payload_bytes: usize) -> u64 {
    payload_bytes as u64 + RECORD_BYTES + LINE_BYTES + HEADROOM_BYTES
}

/// About how large a picture of a queue would be.
fn picture_bytes(queue: &Queue) -> u64 {
    let Extent { items, bytes, known } = queue.extent();
    bytes + items * (RECORD_BYTES + LINE_BYTES) + known * KNOWN_BYTES + 2 * LINE_BYTES
}

/// What a picture of so many bytes leaves free in its segment. A small one may use what is kept for the end of a queue: it makes
/// that again.
fn kept_free(picture_bytes: u64) -> u64 {
    if picture_bytes <= HEADROOM_BYTES / 2 { 0 } else { HEADROOM_BYTES }
}

/// Bytes that so many changes of items take that are there already.
pub(super) fn change_bytes(count: u64) -> u64 {
    count * (RECORD_BYTES + LINE_BYTES)
}

impl Journal {
    /// Begins the journal of a new queue in an empty log. When this returns, the queue survives power loss.
    pub(super) fn begin(
        log: log::Log,
        queue: &Queue,
        names: &Names,
        now_ns: u64,
    ) -> Result<Self, JournalError> {
        let mut journal = Self::new(log);
        journal.write_picture(queue, names, now_ns)?;
        Ok(journal)
    }

    fn new(log: log::Log) -> Self {
        Self {
            log,
            line: Vec::new(),
            picture: None,
            complete: None,
            bytes_since: 0,
            bytes_owed: 0,
            picture_bytes: 0,
            picture_every: 2 * JOURNAL_SEGMENT_BYTES,
            short_of: None,
        }
    }

    /// Appends a change.
    pub(super) fn append(
        &mut self,
        record: &Record,
        names: &Names,
        now_ns: u64,
    ) -> Result<(), JournalError> {
        encode_change(&mut self.line, names, record);
        let bytes = append(&mut self.log, &self.line, now_ns)?;
        self.bytes_since += bytes;
        self.bytes_owed += bytes;
        Ok(())
    }

    /// Makes sure that so many bytes of lines find their space taken.
    pub(super) fn reserve(&mut self, bytes: u64, now_ns: u64) -> Result<(), JournalError> {
        let mut reserved = self.log.reserve(bytes, now_ns);
        if reserved.is_err() {
            // No change may come for a while that would look.
            self.retire_complete(now_ns);
            reserved = self.log.reserve(bytes, now_ns);
        }
        match &reserved {
            Err(_) => drop(self.short_of.get_or_insert(u64::MAX)),
            Ok(()) if bytes > HEADROOM_BYTES => self.short_of = None,
            Ok(()) => {}
        }
        Ok(reserved?)
    }

    /// The position after the last line.
    pub(super) fn next_position(&self) -> u64 {
        self.log.next_position()
    }

    /// All positions below this survive power loss.
    pub(super) fn synced_position(&self) -> u64 {
        self.log.synced_position()
    }

    /// Asks that everything that was appended survives power loss.
    pub(super) fn request_sync(&self) -> Result<log::Ticket, JournalError> {
        Ok(self.log.request_sync(self.log.next_position().saturating_sub(1))?)
    }

    /// Keeps the journal short: goes on with a picture, begins one, or drops what lies before one.
    pub(super) fn shorten(
        &mut self,
        queue: &Queue,
        names: &Names,
        now_ns: u64,
    ) -> Result<(), JournalError> {
        if self.log.is_broken() {
            return Err(log::SyncError::Broken.into());
        }
        self.retire_complete(now_ns);
        let budget = JOURNAL_PICTURE_BYTES_PER_TURN + 4 * std::mem::take(&mut self.bytes_owed);
        let mut written = Ok(());
        if self.is_picture_due(queue, now_ns) {
            self.bytes_since = 0;
            written = self.begin_picture(queue, names, now_ns);
        }
        if let Err(error) = written.and_then(|()| self.go_on(budget, names, now_ns)) {
            // The changes are complete without it.
            warn!(%error, "a picture of a queue is given up");
            self.picture = None;
            self.short_of.get_or_insert(picture_bytes(queue));
        }
        Ok(())
    }

    /// Whether one is begun now: when the changes have become long, and on a disk without room when the queue has become half as
    /// large as it was the last time and the picture certainly fits, because it makes the room that there is.
    fn is_picture_due(&mut self, queue: &Queue, now_ns: u64) -> bool {
        if self.picture.is_some() || self.complete.is_some() {
            return false;
        }
        let Some(before) = self.short_of else {
            return self.bytes_since >= self.picture_every.max(2 * self.picture_bytes);
        };
        let bytes = picture_bytes(queue);
        if bytes > before / 2 && queue.extent().items > 0 {
            return false;
        }
        self.short_of = Some(bytes);
        let needed = bytes + kept_free(bytes);
        needed <= JOURNAL_SEGMENT_BYTES && self.log.reserve(needed, now_ns).is_ok()
    }

    /// Drops what lies before a picture once that is on the disk.
    fn retire_complete(&mut self, now_ns: u64) {
        if let Some((first, last)) = self.complete
            && self.log.synced_position() > last
        {
            self.complete = None;
            self.short_of = None;
            self.retire(first, now_ns);
        }
    }

    /// Writes a whole picture and syncs it.
    fn write_picture(
        &mut self,
        queue: &Queue,
        names: &Names,
        now_ns: u64,
    ) -> Result<(), JournalError> {
        self.begin_picture(queue, names, now_ns)?;
        self.go_on(u64::MAX, names, now_ns)?;
        self.log.sync()?;
        if let Some((first, _)) = self.complete.take() {
            self.retire(first, now_ns);
        }
        Ok(())
    }

    fn begin_picture(
        &mut self,
        queue: &Queue,
        names: &Names,
        now_ns: u64,
    ) -> Result<(), JournalError> {
        let first = self.log.next_position();
        let frozen = queue.freeze();
        encode_begin(&mut self.line, names, &frozen.head);
        let bytes = append(&mut self.log, &self.line, now_ns)?;
        let kept_free = kept_free(picture_bytes(queue));
        let (known_written, items_count) = (0, 0);
        self.picture =
            Some(Picture { first, frozen, known_written, items_count, bytes, kept_free });
        Ok(())
    }

    /// Writes about so many bytes of the picture that was begun.
    fn go_on(&mut self, budget: u64, names: &Names, now_ns: u64) -> Result<(), JournalError> {
        let Some(picture) = &mut self.picture else { return Ok(()) };
        let until = picture.bytes.saturating_add(budget);
        while picture.bytes < until {
            let known = &picture.frozen.known[picture.known_written..];
            let known = &known[..known.len().min(JOURNAL_KNOWN_PER_LINE)];
            if !known.is_empty() {
                encode_known(&mut self.line, names, known);
                picture.known_written += known.len();
            } else if let Some(item) = picture.frozen.items.next() {
                encode_item(&mut self.line, names, &item);
                picture.items_count += 1;
            } else {
                encode_end(&mut self.line, picture.items_count);
                let bytes = append(&mut self.log, &self.line, now_ns)?;
                let last = self.log.next_position() - 1;
                self.picture_bytes = picture.bytes + bytes;
                self.complete = Some((picture.first, last));
                self.picture = None;
                // Nobody waits for it; where it fails the log is broken, which the next call finds.
                let _ = self.log.request_sync(last);
                return Ok(());
            }
            // What follows from the items that are there must find room, whatever becomes of the picture.
            let needed = RECORD_BYTES + self.line.len() as u64 + picture.kept_free;
            self.log.reserve(needed, now_ns)?;
            picture.bytes += append(&mut self.log, &self.line, now_ns)?;
        }
        Ok(())
    }

    /// Drops what lies before a picture that is on the disk.
    fn retire(&mut self, first: u64, now_ns: u64) {
        // There is no other consumer, so there is room for this one.
        let kept = self.log.hold(PICTURE, first).is_ok();
        if kept && let Err(error) = self.log.retain(now_ns) {
            warn!(%error, "old segments of a queue stay");
        }
    }
}

/// Appends a line; its bytes in the log.
fn append(log: &mut log::Log, line: &[u8], now_ns: u64) -> Result<u64, log::AppendError> {
    let (sender, sender_name, priority, dedup) = (0, "", 0, 0);
    let record =
        log::Record { time_ns: now_ns, sender, sender_name, priority, dedup, payload: line };
    log.append(&record)?;
    Ok(RECORD_BYTES + line.len() as u64)
}

const _: () = assert!(
    crate::exchange::queue::limits::ITEM_BYTES_MAX + LINE_BYTES
        <= crate::limits::LOG_PAYLOAD_BYTES_MAX as u64,
    "a picture of the largest item is one record of the log"
);
