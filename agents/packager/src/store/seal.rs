//! The mark of a lent file that nobody has written since it left the store: the time of its last modification, whose nanoseconds
//! are taken from its digest and from this start of the machine.
//!
//! Every write sets that time to the present, a store through a mapping, too, when it first touches a page (the file systems of
//! `witness::BELIEVED` do that; on others no seal is believed). The seal is given once, before the file has ever been anywhere
//! else, so no writer of an earlier time is still at work. To read one costs a look at the status instead of all bytes, which in a
//! store that was not used for a day have to come from the disk.
//!
//! A loss of power may keep what was written and lose its time (`fdatasync`, `lazytime`), or keep the time of a file whose content
//! was never on the disk. So a seal counts until the machine is started again. Then the digest is compared, once, and where it is
//! right and the old seal is whole the file gets another one: of the processes that had it before that start none is left. Which
//! starts there were stands in the store, in the file `seals`.
//!
//! What this does not notice is a file that was written and got its old time back, to the nanosecond, and kept its size: `touch -r`
//! and the like. Who has to know that compares digests (`store.verify`, `bolide verify`). Only the owner of a file sets its time to
//! what they like, so the seal of a file that has become somebody else's counts for nothing.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};

use super::{Object, Store};
use crate::limits::SEAL_STARTS_KEPT_MAX;

/// Bytes of the kernel's name for a start of the machine.
const START_BYTES: usize = 36;

/// The starts of the machine in which files of a store were sealed.
#[derive(Debug, Default)]
pub(super) struct Seals {
    /// Nothing where the kernel does not say; then nothing is believed.
    present: Option<u64>,
    earlier: Vec<u64>,
    /// Whose the files are that are made here, once one was made.
    owner: OnceLock<(u32, u32)>,
}

impl Seals {
    /// Those of the store in `root`.
    pub(super) fn of(root: &Path) -> Self {
        let start = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        start.map_or_else(|_| Self::default(), |start| Self::in_start(root, start.trim()))
    }

    /// The same, in this start.
    pub(super) fn in_start(root: &Path, start: &str) -> Self {
        if start.len() != START_BYTES {
            return Self::default();
        }
        let place = root.join("seals");
        let mut text = String::new();
        let bytes_max = (SEAL_STARTS_KEPT_MAX * (START_BYTES + 1)) as u64;
        let read =
            fs::File::open(&place).and_then(|file| file.take(bytes_max).read_to_string(&mut text));
        // Without them, or with what is torn, older seals are as good as none.
        let known: Vec<&str> = match read {
            Ok(_) => text.lines().filter(|line| line.len() == START_BYTES).collect(),
            Err(_) => Vec::new(),
        };
        let earlier: Vec<&str> = known.iter().copied().filter(|known| *known != start).collect();
        let seals = Self {
            present: Some(salt(start)),
            earlier: earlier.iter().map(|one| salt(one)).collect(),
            owner: OnceLock::new(),
        };
        if known.first() != Some(&start) {
            let kept = earlier.into_iter().take(SEAL_STARTS_KEPT_MAX - 1);
            let lines: String =
                [start].into_iter().chain(kept).map(|one| format!("{one}\n")).collect();
            let temporary = root.join("tmp").join(format!("seals-{}", std::process::id()));
            let written =
                fs::write(&temporary, lines).and_then(|()| fs::rename(&temporary, &place));
            if let Err(error) = written {
                tracing::debug!(%error, "this start of the machine is not noted; files are compared again in the next one");
            }
        }
        seals
    }
}

/// A number for a start: the bits of its name that are random.
fn salt(start: &str) -> u64 {
    let digits = start.bytes().filter_map(|byte| char::from(byte).to_digit(16));
    // FNV-1a, for which the order of digits counts.
    digits.fold(0xcbf2_9ce4_8422_2325, |hash, digit| {
        (hash ^ u64::from(digit)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The nanoseconds that stand for a content in a start.
fn nanoseconds(object: &Object, salt: u64) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&object.digest[..8]);
    // The multiplier of Fibonacci hashing spreads what differs over the upper bits.
    let mixed = (u64::from_le_bytes(first) ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed % 1_000_000_000) as i64
}

impl Store {
    /// Seals a file of the store that nobody else has: one that is being born, or one whose digest was compared and that never left
    /// the store, or was sealed in an earlier start.
    pub(super) fn seal(&self, file: impl AsFd, object: &Object) -> rustix::io::Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs()) as i64;
        let nanoseconds = self.seals.present.map_or(0, |salt| nanoseconds(object, salt));
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        };
        rustix::fs::futimens(file, &times)
    }

    /// Seals a file of `lent` anew whose digest was compared by a look that began when it had the status `before`: one that was
    /// sealed in an earlier start, that nobody else has, and that nobody has touched meanwhile. The caller's copy is right whatever
    /// comes of it; without a seal the next one is compared again.
    pub(super) fn seal_again(&self, file: impl AsFd, object: &Object, before: &Stat) {
        if before.st_nlink != 1 || !self.was_sealed(object, before) {
            return;
        }
        // Who links what is not sealed holds this lock, so the file gets no second name now.
        let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::flock(&file, lock).is_err() {
            return;
        }
        let is_untouched = rustix::fs::fstat(&file).is_ok_and(|now| {
            let changed = |status: &Stat| (status.st_ctime, status.st_ctime_nsec, status.st_nlink);
            changed(&now) == changed(before) && self.was_sealed(object, &now)
        });
        if is_untouched && let Err(error) = self.seal(&file, object) {
            tracing::debug!(%error, "a stored file could not be sealed again");
        }
    }

    /// Whether a file belongs to whom a file belongs that this process makes in the store. Any other is neither lent nor believed:
    /// an environment that gets it would have a file of somebody else, who may write it.
    pub(super) fn is_own(&self, status: &Stat) -> bool {
        self.owner().is_some_and(|owner| owner == (status.st_uid, status.st_gid))
    }

    /// The user and the group of a file that is made in the store; `None` where none can be made now.
    fn owner(&self) -> Option<(u32, u32)> {
        if let Some(owner) = self.seals.owner.get() {
            return Some(*owner);
        }
        // A directory may give its group to what is made in it, so what the process says of itself is not enough.
        let made = self.temporary(0o600).ok()?;
        let status = rustix::fs::fstat(&made).ok()?;
        Some(*self.seals.owner.get_or_init(|| (status.st_uid, status.st_gid)))
    }

    /// Whether anything is believed of seals here and now.
    pub(crate) fn are_seals_believed(&self) -> bool {
        self.seals.present.is_some() && self.witnesses.are_believed()
    }

    /// Whether a lent file holds what it held when it was sealed, as far as times tell.
    pub(super) fn is_sealed(&self, object: &Object, status: &Stat) -> bool {
        self.seals.present.is_some_and(|salt| self.has_seal(object, status, salt))
    }

    /// Whether it has a seal of an earlier start, so that nobody has written it in this one.
    pub(super) fn was_sealed(&self, object: &Object, status: &Stat) -> bool {
        self.seals.earlier.iter().any(|salt| self.has_seal(object, status, *salt))
    }

    fn has_seal(&self, object: &Object, status: &Stat, salt: u64) -> bool {
        self.witnesses.are_believed()
            && status.st_size as u64 == object.size
            && status.st_mtime_nsec as i64 == nanoseconds(object, salt)
            && self.is_own(status)
    }
}
