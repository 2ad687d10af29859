//! Which lent files are known to hold what they should, so that not every use reads them twice: the status that a file had when its
//! digest was found right. A write changes the time of a file's last change, which nobody can set back. Of this process only, and
//! only a shortcut: what is not known is read.
//!
//! Who has mapped a file for writing changes that time only with the first store into a page after the page was written back; later
//! stores go unseen until the next write-back. So nothing is learnt of a file until it was left alone for longer than the kernel
//! lets a page wait, and nothing at all where pages are never written back, or where it is not known that they are watched. It is
//! deceived only where somebody maps a file of the store, and the machine is set to write back later than kernels do by themselves,
//! or its disk is behind.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::Object;
use crate::limits::{STORE_WITNESS_QUIET, STORE_WITNESSES_MAX};

/// File systems that protect a page from writing when they write it back, so that the next store is noticed: ext2 to ext4, XFS,
/// Btrfs, F2FS. A file system in memory never does; of one in layers or on another machine nobody here knows.
const BELIEVED: [u32; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];

#[derive(Debug)]
pub(super) struct Witnesses {
    known: Mutex<HashMap<[u8; 32], Stamp>>,
    is_believed: bool,
}

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
    /// Those of files in this directory.
    pub(super) fn of(directory: BorrowedFd<'_>) -> Self {
        let status = rustix::fs::fstatfs(directory);
        // The kernel's numbers have 32 bits, whatever type they come in.
        let is_believed = status.is_ok_and(|status| BELIEVED.contains(&(status.f_type as u32)));
        Self { known: Mutex::default(), is_believed }
    }

    /// Whether times tell of every write here.
    pub(super) fn are_believed(&self) -> bool {
        self.is_believed
    }

    /// Whether a file is as it was when its digest was found right.
    pub(super) fn know(&self, object: &Object, status: &Stat) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&object.digest) == Some(&Stamp::of(status))
    }

    /// The digest of a file was found right by a look that `began` when it had the one status, and ended when it had the other.
    /// Nothing is learnt where it had been changed not long before.
    pub(super) fn note(&self, object: &Object, (before, after): (&Stat, &Stat), began: SystemTime) {
        let stamp = Stamp::of(before);
        let quiet_since = SystemTime::UNIX_EPOCH + stamp.changed;
        let is_quiet =
            began.duration_since(quiet_since).is_ok_and(|quiet| quiet >= STORE_WITNESS_QUIET);
        if !self.is_believed || stamp != Stamp::of(after) || !is_quiet {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= STORE_WITNESSES_MAX {
            known.clear();
        }
        known.insert(object.digest, stamp);
    }
}
