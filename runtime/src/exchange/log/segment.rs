//! What the writer, the committing thread and the readers of one log share.
//!
//! Who may touch what, when:
//! 1. Only the writer (the owner of the `Log`) adds segments, sets `Segment::end`, stores `next`.
//! 2. A record's bytes are written before `next` is stored with release; a reader loads `next` with
//!    acquire and looks at nothing at or above it.
//! 3. `end` of a segment is stored, and the next segment is in the list, before a position of the
//!    next segment is published by rule 2.
//! 4. `synced` and `is_broken` are stored by whoever commits: the committing thread, or the writer
//!    where the disk cannot follow. `synced` only grows.
//! 5. Index entries may be stored by anybody who saw the record there; all store the same.
//!
//! Not here: when to sync (`commit`), when to delete (`retain`).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::format::{HEADER_BYTES, RECORD_HEADER_BYTES};
use super::name::segment_name;
use super::storage::{SegmentFile, Storage};
use crate::limits::LOG_INDEX_STRIDE;

/// One segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    /// Seed of its checksums.
    pub(super) salt: u64,
    pub(super) created_ns: u64,
    /// The first position that is in a later segment; the largest number while it grows.
    end: AtomicU64,
    /// Bytes of the file.
    capacity: AtomicU64,
    /// Whether its name survives power loss.
    is_entered: AtomicBool,
    /// Open while something in it is not synced: an error of the disk is told to open files.
    file: Mutex<Option<Arc<dyn SegmentFile>>>,
    /// The offset of every `LOG_INDEX_STRIDE`-th record, 0 where it is not known.
    index: OnceLock<Box<[AtomicU32]>>,
}

/// One log.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) storage: Arc<dyn Storage>,
    segments: RwLock<Vec<Arc<Segment>>>,
    next: AtomicU64,
    synced: AtomicU64,
    is_broken: AtomicBool,
}

impl Segment {
    pub(super) fn new(first: u64, salt: u64, created_ns: u64, capacity: u64) -> Self {
        Self {
            first,
            salt,
            created_ns,
            end: AtomicU64::new(u64::MAX),
            capacity: AtomicU64::new(capacity),
            is_entered: AtomicBool::new(false),
            file: Mutex::new(None),
            index: OnceLock::new(),
        }
    }

    pub(super) fn end(&self) -> u64 {
        // Acquire: with the release of `close_at`.
        self.end.load(Ordering::Acquire)
    }

    /// The writer goes on in another segment.
    pub(super) fn close_at(&self, end: u64) {
        // Release: with the acquire of `end`.
        self.end.store(end, Ordering::Release);
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    pub(super) fn is_entered(&self) -> bool {
        self.is_entered.load(Ordering::Relaxed)
    }

    pub(super) fn set_entered(&self) {
        self.is_entered.store(true, Ordering::Relaxed);
    }

    /// Its file, opened where it is not open.
    pub(super) fn open(&self, storage: &dyn Storage) -> io::Result<Arc<dyn SegmentFile>> {
        let held = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        held.map_or_else(|| storage.open(&segment_name(self.first)), Ok)
    }

    pub(super) fn keep_open(&self, file: Arc<dyn SegmentFile>) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    pub(super) fn keep_open_no_longer(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn index(&self) -> &[AtomicU32] {
        self.index.get_or_init(|| {
            let records =
                self.capacity().saturating_sub(HEADER_BYTES as u64) / RECORD_HEADER_BYTES as u64;
            (0..=records / LOG_INDEX_STRIDE).map(|_| AtomicU32::new(0)).collect()
        })
    }

    /// Remembers where a record begins.
    pub(super) fn note(&self, position: u64, offset: u64) {
        let number = position - self.first;
        if number.is_multiple_of(LOG_INDEX_STRIDE)
            && let Some(entry) = self.index().get((number / LOG_INDEX_STRIDE) as usize)
        {
            // Relaxed: an offset that is seen too early only leads to a place that is examined.
            entry.store(offset as u32, Ordering::Relaxed);
        }
    }

    /// The nearest remembered record at or before a position: its position and offset.
    pub(super) fn nearest(&self, position: u64) -> (u64, u64) {
        let index = self.index();
        let last = (position - self.first) / LOG_INDEX_STRIDE;
        let last = usize::try_from(last).unwrap_or(usize::MAX).min(index.len() - 1);
        let known = (0..=last).rev().find_map(|number| {
            let offset = index[number].load(Ordering::Relaxed);
            (offset != 0).then(|| (self.first + number as u64 * LOG_INDEX_STRIDE, offset.into()))
        });
        known.unwrap_or((self.first, HEADER_BYTES as u64))
    }
}

impl Shared {
    /// A log that was just recovered; everything in it is synced.
    pub(super) fn new(storage: Arc<dyn Storage>, segments: Vec<Arc<Segment>>, next: u64) -> Self {
        Self {
            storage,
            segments: RwLock::new(segments),
            next: AtomicU64::new(next),
            synced: AtomicU64::new(next),
            is_broken: AtomicBool::new(false),
        }
    }

    /// The position after the last one that was stored.
    pub(super) fn next(&self) -> u64 {
        // Acquire: with the release of `publish`; the bytes of all records below are there.
        self.next.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, next: u64) {
        // Release: with the acquire of `next`.
        self.next.store(next, Ordering::Release);
    }

    /// All positions below this survive power loss.
    pub(super) fn synced(&self) -> u64 {
        // Acquire: with the release of `set_synced`; whoever acts on it acts after the disk did.
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn set_synced(&self, synced: u64) {
        // Release: with the acquire of `synced`.
        self.synced.fetch_max(synced, Ordering::Release);
    }

    pub(super) fn is_broken(&self) -> bool {
        // Acquire: with the release of `set_broken`.
        self.is_broken.load(Ordering::Acquire)
    }

    pub(super) fn set_broken(&self) {
        // Release: with the acquire of `is_broken`.
        self.is_broken.store(true, Ordering::Release);
    }

    pub(super) fn segments(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segments_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first position that is still there.
    pub(super) fn first(&self) -> u64 {
        self.segments().first().map_or_else(|| self.next(), |segment| segment.first)
    }
}
