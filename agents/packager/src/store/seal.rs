//! The mark of a lent file that nobody has written since it left the store: the time of its last modification, whose nanoseconds
//! are taken from its digest.
//!
//! Every write sets that time to the present, a store through a mapping, too, when it first touches a page (the file systems of
//! `witness::BELIEVED` do that; on others no seal is believed). The seal is given once, before the file has ever been anywhere
//! else, and never again, so no writer of an earlier time is still at work. To read one costs a look at the status instead of all
//! bytes, which in a store that was not used for a day have to come from the disk.
//!
//! What it does not notice is a file that was written and got its old time back, to the nanosecond, and kept its size: `touch -r`
//! and the like. Who has to know that compares digests (`store.verify`, `bolide verify`). And on a file system that is mounted with
//! `lazytime` a loss of power may leave what was written and lose its time.

use std::os::fd::AsFd;

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};

use super::{Object, Store};

/// The nanoseconds that stand for a content.
fn nanoseconds(object: &Object) -> i64 {
    let [a, b, c, d, ..] = object.digest;
    i64::from(u32::from_le_bytes([a, b, c, d]) % 1_000_000_000)
}

impl Store {
    /// Seals a file of the store that is about to be lent for the first time; it came just now.
    pub(super) fn seal(&self, file: impl AsFd, object: &Object) -> rustix::io::Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs()) as i64;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds(object) },
        };
        rustix::fs::futimens(file, &times)
    }

    /// Whether a lent file holds what it held when it was lent first, as far as times tell.
    pub(super) fn is_sealed(&self, object: &Object, status: &Stat) -> bool {
        self.witnesses.are_believed()
            && status.st_size as u64 == object.size
            && status.st_mtime_nsec as i64 == nanoseconds(object)
    }
}
