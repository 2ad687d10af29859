//! Retention: which old segments go, and what consumers keep.
//!
//! Whole segments, oldest first, never the one that is written. A segment goes when any bound of
//! the policy is exceeded and, unless the policy says otherwise, no consumer needs it.
//!
//! Not here: a reader that stands in a segment that goes keeps its file until it moves on.

use std::io;

use thiserror::Error;

use super::Log;
use super::name::segment_name;
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
    pub(crate) fn release(&mut self, consumer: &str) -> bool {
        self.consumers.remove(consumer).is_some()
    }

    /// Deletes what the policy does not keep. A segment whose newest record is too old is closed
    /// first, so that a queue that fell silent is emptied as well.
    pub(crate) fn retain(&mut self, now_ns: u64) -> io::Result<Retained> {
        let policy = self.options.retention;
        let is_old = |newest_ns: u64| {
            policy.age_max_ns.is_some_and(|max| now_ns.saturating_sub(newest_ns) > max)
        };
        if self.next > self.active.first && is_old(self.newest_ns) {
            // Where there is no space for a new segment the old one stays; the next pass tries again.
            let _ = self.roll(self.options.segment_bytes, self.newest_ns);
        }
        let needed = self.consumers.values().min().filter(|_| !policy.is_deaf_to_consumers);
        let needed = needed.copied().unwrap_or(u64::MAX);
        let mut bytes: u64 = self.shared.segments().iter().map(|segment| segment.capacity()).sum();
        let mut retained = Retained::default();
        loop {
            let (segment, newest_ns) = {
                let segments = self.shared.segments();
                let [segment, next, ..] = &segments[..] else { break };
                (segment.clone(), next.created_ns)
            };
            let end = segment.end();
            let is_surplus = policy.bytes_max.is_some_and(|max| bytes > max)
                || policy.records_max.is_some_and(|max| self.next - end >= max)
                || is_old(newest_ns);
            if !is_surplus {
                break;
            }
            if needed < end {
                retained.is_held = true;
                break;
            }
            match self.shared.storage.remove(&segment_name(segment.first)) {
                // Somebody else has deleted it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.shared.segments_mut().remove(0);
            // One after the other, or a power loss could bring back an older one and leave a hole.
            self.shared.storage.sync_directory()?;
            bytes -= segment.capacity();
            retained.segments += 1;
            retained.records += end - segment.first;
            retained.bytes += segment.capacity();
        }
        retained.first = self.first_position();
        Ok(retained)
    }
}
