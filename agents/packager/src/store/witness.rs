//! Which lent files are known to hold what they should, so that not every use reads them twice: the status that a file had when its
//! digest was found right. Whatever changes a file changes the time of its last change, which nobody can set back. Of this process
//! only, and only a shortcut: what is not known is read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::Object;
use crate::limits::{STORE_WITNESS_QUIET, STORE_WITNESSES_MAX};

#[derive(Debug, Default)]
pub(super) struct Witnesses(Mutex<HashMap<[u8; 32], Stamp>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    changed: Duration,
}

impl Stamp {
    fn of(status: &Stat) -> Self {
        let seconds = u64::try_from(status.st_ctime).unwrap_or_default();
        let nanoseconds = u32::try_from(status.st_ctime_nsec).unwrap_or_default();
        Self {
            device: status.st_dev,
            inode: status.st_ino,
            size: status.st_size,
            changed: Duration::new(seconds, nanoseconds),
        }
    }
}

impl Witnesses {
    /// Whether a file is as it was when its digest was found right.
    pub(super) fn know(&self, object: &Object, status: &Stat) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&object.digest) == Some(&Stamp::of(status))
    }

    /// The digest of a file was found right by a look that `began` when it had the one status, and ended when it had the other.
    /// Nothing is learnt where it had been changed just before: clocks of file systems are coarse, and a change right after
    /// could have the same time.
    pub(super) fn note(&self, object: &Object, (before, after): (&Stat, &Stat), began: SystemTime) {
        let stamp = Stamp::of(before);
        let quiet_since = SystemTime::UNIX_EPOCH + stamp.changed;
        let is_quiet =
            began.duration_since(quiet_since).is_ok_and(|quiet| quiet >= STORE_WITNESS_QUIET);
        if stamp != Stamp::of(after) || !is_quiet {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= STORE_WITNESSES_MAX {
            known.clear();
        }
        known.insert(object.digest, stamp);
    }
}
