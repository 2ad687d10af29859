//! Retention: which old segments go, and what consumers keep.
//!
//! Whole segments, oldest first, never the one that is written. A segment goes when any bound of
//! the policy is exceeded and, unless the policy says otherwise, no consumer needs it.
//!
//! Not here: a reader that stands in a segment that goes keeps its file until it moves on.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::Log;
use super::name::segment_name;
use super::segment::Segment;
use super::storage::Storage;
use crate::limits::LOG_CONSUMERS_MAX;

/// What a log keeps; `None` is no bound. The segment that is written counts and stays, so a log may
/// keep one segment more than the bounds say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    /// Bytes on the disk.
    pub(crate) bytes_max: Option<u64>,
    /// Since the newest record of a segment was accepted.
    pub(crate) age_max_ns: Option<u64>,
    /// Positions.
    pub(crate) records_max: Option<u64>,
    /// Whether records go that a consumer has not passed yet.
    pub(crate) is_deaf_to_consumers: bool,
}

/// What one pass of retention did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retained {
    /// Segment files that were deleted.
    pub(crate) segments: u64,
    /// Their positions.
    pub(crate) records: u64,
    /// Their bytes on the disk.
    pub(crate) bytes: u64,
    /// The first position that is there now.
    pub(crate) first: u64,
    /// Whether more would have gone if no consumer needed it.
    pub(crate) is_held: bool,
}

/// Why a consumer's position is not kept.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum HoldError {
    /// Too many consumers.
    #[error("a log has at most {LOG_CONSUMERS_MAX} consumers")]
    Full,
}

/// Segments that are no part of their log any more and not deleted yet.
#[derive(Debug)]
pub(crate) struct Surplus {
    storage: Arc<dyn Storage>,
    /// Their first positions, the oldest first.
    firsts: Vec<u64>,
    retained: Retained,
}

/// What becomes of the oldest segment.
enum Oldest {
    Stays,
    /// A consumer needs it.
    IsHeld,
    Goes(Arc<Segment>),
}

impl Log {
    /// Keeps the records from this position on for a consumer, instead of what it held before.
    ///
    /// Gives the position that is really kept: the first one that is there where the wanted one was
    /// retired, and the next one where it does not exist. The latter happens after a power loss,
    /// when a consumer has seen records that were stored and not synced; their positions are given
    /// to other records.
    pub(crate) fn hold(&mut self, consumer: &str, position: u64) -> Result<u64, HoldError> {
        let position = position.clamp(self.first_position(), self.next_position());
        if let Some(held) = self.consumers.get_mut(consumer) {
            *held = position;
            return Ok(position);
        }
        if self.consumers.len() >= LOG_CONSUMERS_MAX {
            return Err(HoldError::Full);
        }
        self.consumers.insert(consumer.to_owned(), position);
        Ok(position)
    }

    /// Keeps nothing for this consumer any more. Whether it was known.
    #[cfg(test)]
    pub(crate) fn release(&mut self, consumer: &str) -> bool {
        self.consumers.remove(consumer).is_some()
    }

    /// Deletes what the policy does not keep. A segment whose newest record is too old is closed
    /// first, so that a log that fell silent is emptied as well. Blocks for the disk.
    pub(crate) fn retain(&mut self, now_ns: u64) -> io::Result<Retained> {
        self.close_old_segment(now_ns, 0);
        let mut surplus = self.no_surplus();
        loop {
            let segment = match self.oldest(now_ns, 0) {
                Oldest::Stays => break,
                Oldest::IsHeld => {
                    surplus.retained.is_held = true;
                    break;
                }
                Oldest::Goes(segment) => segment,
            };
            surplus.remove_file(segment.first)?;
            self.shared.segments_mut().remove(0);
            // One after the other, or a power loss could bring back an older one and leave a hole.
            self.shared.storage.sync_directory()?;
            surplus.count(&segment);
        }
        surplus.retained.first = self.first_position();
        Ok(surplus.retained)
    }

    /// Takes out of the log what the policy does not keep, and what lies below a position; [`Surplus::remove`] deletes it, on a
    /// thread that may wait for the disk. Nobody finds it here any more; after a crash it is there again.
    pub(crate) fn take_surplus(&mut self, now_ns: u64, below: u64) -> Surplus {
        self.close_old_segment(now_ns, below);
        let mut surplus = self.no_surplus();
        loop {
            match self.oldest(now_ns, below) {
                Oldest::Stays => break,
                Oldest::IsHeld => {
                    surplus.retained.is_held = true;
                    break;
                }
                Oldest::Goes(segment) => {
                    self.shared.segments_mut().remove(0);
                    surplus.count(&segment);
                    surplus.firsts.push(segment.first);
                }
            }
        }
        surplus.retained.first = self.first_position();
        surplus
    }

    fn no_surplus(&self) -> Surplus {
        let (storage, firsts) = (Arc::clone(&self.shared.storage), Vec::new());
        Surplus { storage, firsts, retained: Retained::default() }
    }

    fn is_old(&self, now_ns: u64, newest_ns: u64) -> bool {
        let age_max_ns = self.options.retention.age_max_ns;
        age_max_ns.is_some_and(|max| now_ns.saturating_sub(newest_ns) > max)
    }

    /// Only a closed segment can go.
    fn close_old_segment(&mut self, now_ns: u64, below: u64) {
        let is_surplus = self.is_old(now_ns, self.newest_ns) || below >= self.next;
        if self.next > self.active.first && is_surplus && !self.is_disk_behind() {
            // Where there is no space for a new segment the old one stays; the next pass tries again.
            let _ = self.roll(self.options.segment_bytes, self.newest_ns);
        }
    }

    fn oldest(&self, now_ns: u64, below: u64) -> Oldest {
        let policy = self.options.retention;
        let segments = self.shared.segments();
        let [segment, next, ..] = &segments[..] else { return Oldest::Stays };
        let end = segment.end();
        let bytes = || segments.iter().map(|segment| segment.capacity()).sum::<u64>();
        let is_surplus = end <= below
            || policy.bytes_max.is_some_and(|max| bytes() > max)
            || policy.records_max.is_some_and(|max| self.next - end >= max)
            || self.is_old(now_ns, next.created_ns);
        let needed = self.consumers.values().min().filter(|_| !policy.is_deaf_to_consumers);
        if !is_surplus {
            Oldest::Stays
        } else if needed.is_some_and(|needed| *needed < end) {
            Oldest::IsHeld
        } else {
            Oldest::Goes(Arc::clone(segment))
        }
    }
}

impl Surplus {
    /// Whether there is nothing to delete.
    pub(crate) fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }

    /// What went, or goes with [`Surplus::remove`].
    pub(crate) fn retained(&self) -> Retained {
        self.retained
    }

    /// Deletes it, the oldest first. Blocks for the disk.
    pub(crate) fn remove(self) -> io::Result<Retained> {
        for first in &self.firsts {
            self.remove_file(*first)?;
            // One after the other, or a power loss could bring back an older one and leave a hole.
            self.storage.sync_directory()?;
        }
        Ok(self.retained)
    }

    fn remove_file(&self, first: u64) -> io::Result<()> {
        match self.storage.remove(&segment_name(first)) {
            // Somebody else has deleted it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn count(&mut self, segment: &Segment) {
        self.retained.segments += 1;
        self.retained.records += segment.end() - segment.first;
        self.retained.bytes += segment.capacity();
    }
}
