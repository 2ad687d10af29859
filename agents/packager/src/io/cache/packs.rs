//! The files that answers are kept in: packs, to which answers are appended, each with an index of where they lie.
//!
//! To make a file costs more than to write a small answer into one, and a cold resolution writes a thousand. So a process appends to
//! one pack, which is its own for as long as it holds a lock on the index; another process takes another one. The rules:
//!
//! 1. Only who holds the lock on an index appends to it and to its pack ([`own`]). Where a file system has no locks, only who made it.
//! 2. An answer is written before the line about it, so whoever is killed leaves bytes that nobody finds, or a line that is cut and is
//!    taken off by the next owner.
//! 3. Whole lines are never taken off an index and never changed, so a reader goes on where it stopped ([`known`]). A pack that is
//!    begun anew has an index that is another file.
//! 4. Whoever removes a pack holds the lock, and removes the index last ([`sweep`]). That it stands at its path is therefore looked at
//!    once it is locked; and again before each line, for a person may remove the whole directory.
//!    The lines that it takes along may supersede older ones in packs that stay; those answers are damaged before, lest they come back.
//! 5. Nothing is synced: after a power loss anything may be missing or damaged. So a line has a checksum, and so has what it is about,
//!    with the key in it, lest a line that outlived its answer finds another one in its place.

mod known;
mod own;
mod sweep;

use std::fs::{File, Metadata};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

pub(super) use self::known::{Files, Known, Place, spoil};
pub(super) use self::own::Own;
pub(super) use self::sweep::{remove_single_files, sweep};
use super::record::RECORD_BYTES;
use crate::io::limits::{PACKS_MAX, PACKS_PER_CACHE};

/// What an index begins with; one that begins otherwise is another build's, and is left alone until it is swept away.
const MAGIC: &[u8; 32] = b"bolide metadata packs, form 1 \r\n";

/// What the packs of a directory may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes_max: u64,
    pub(super) index_bytes_max: u64,
}

impl Bounds {
    /// Whether no more is to be appended to a pack.
    fn is_full(self, index_bytes: u64, data_bytes: u64) -> bool {
        data_bytes >= self.bytes_max / PACKS_PER_CACHE
            || index_bytes + RECORD_BYTES as u64 > self.index_bytes_max / PACKS_PER_CACHE
    }

    /// What a pack takes of the bytes, of the lines and of the numbers that there are, whichever part is the greatest, in bytes.
    fn weight(self, index_bytes: u64, data_bytes: u64) -> u64 {
        let of_lines = index_bytes.saturating_mul(self.bytes_max) / self.index_bytes_max.max(1);
        let of_numbers = self.bytes_max / u64::from(PACKS_MAX);
        (index_bytes + data_bytes).max(of_lines).max(of_numbers)
    }
}

/// How an index is locked: not waiting for others.
pub(super) type Lock = fn(&File) -> rustix::io::Result<()>;

/// For as long as somebody has this description of the file open, unless it is given back ([`Held`]).
pub(super) fn flock(index: &File) -> rustix::io::Result<()> {
    rustix::fs::flock(index, FlockOperation::NonBlockingLockExclusive)
}

/// An index that was locked, which is given back with it: a child that this process has just begun has the description open as well, until
/// it is another program, and would hold the lock on.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Which file it is, as long as somebody has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(status: &Metadata) -> Self {
        Self(status.dev(), status.ino())
    }

    /// Of what stands at a path, and whether anything does.
    fn at(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok().map(|status| Self::of(&status))
    }
}

/// The packs that there are, in order.
pub(super) fn numbers(directory: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let number: u32 = name.to_str()?.strip_suffix(INDEX)?.parse().ok()?;
        (number < PACKS_MAX).then_some(number)
    };
    let mut numbers: Vec<u32> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// How the name of an index ends.
const INDEX: &str = ".index";

pub(super) fn index_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number}{INDEX}"))
}

pub(super) fn data_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number}.pack"))
}

/// How files of packs are opened: what stands at the end of a path only if it is no link.
fn options() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.read(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    options
}
