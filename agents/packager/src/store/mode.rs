//! How files come out of the store into a directory: as clones, as hard links, or as copies; whichever its file system gives,
//! found by trying, once for each file system.
//!
//! A clone shares the blocks and is a file of its own, so it is the best. A hard link shares everything, and what is written into
//! it is written into the store; `lend` says how that stays harmless. A copy always works.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use agents_contract::Cancellation;
use rustix::fs::{AtFlags, Mode as Permissions, OFlags};
use rustix::io::Errno;

use super::{Store, open_directory};
use crate::error::{Error, Result};

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The file system shares the blocks until one side is written (btrfs, XFS, bcachefs).
    Reflink,
    /// One file with two names.
    Link,
    /// The bytes once more.
    Copy,
}

impl Mode {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Reflink, Self::Link, Self::Copy];

    /// Its name for people and in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::Link => "link",
            Self::Copy => "copy",
        }
    }
}

/// Which ways may be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best that works.
    #[default]
    Best,
    /// This one, and a copy where it does not work.
    Only(Mode),
}

impl Wanted {
    /// `auto`, or the name of a mode.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Best),
            name => Mode::ALL.into_iter().find(|mode| mode.name() == name).map(Self::Only),
        }
    }

    /// The name that [`Self::from_name`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "auto",
            Self::Only(mode) => mode.name(),
        }
    }

    fn allows(self, mode: Mode) -> bool {
        self == Self::Best || self == Self::Only(mode)
    }
}

/// What is wanted, and what was found, by the device number of the file system.
#[derive(Debug, Default)]
pub(super) struct Modes {
    pub(super) wanted: Wanted,
    known: Mutex<HashMap<u64, Mode>>,
}

impl Modes {
    pub(super) fn of(wanted: Wanted) -> Self {
        Self { wanted, known: Mutex::default() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Mode>> {
        // A map of plain values is whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// How files of this store come into `directory`. The first question about a file system tries it there.
    pub fn mode_at(&self, directory: &Path) -> Result<Mode> {
        let _use = self.gate.enter(Cancellation::NEVER)?;
        self.mode_in(open_directory(directory)?.as_fd(), directory)
    }

    pub(super) fn mode_in(&self, directory: BorrowedFd<'_>, path: &Path) -> Result<Mode> {
        let status = rustix::fs::fstat(directory)
            .map_err(|error| Error::io("examine", path, &error.into()))?;
        if let Some(known) = self.modes.known().get(&status.st_dev) {
            return Ok(*known);
        }
        let Some(found) = self.try_modes(directory)? else {
            // Nothing can be made there; whoever fills it says why, and nothing was learnt.
            return Ok(Mode::Copy);
        };
        self.modes.known().insert(status.st_dev, found);
        Ok(found)
    }

    /// A mode turned out not to work in one place of its file system, as a link does not between two mounts of it.
    pub(super) fn fall_back(&self, directory: BorrowedFd<'_>) {
        if let Ok(status) = rustix::fs::fstat(directory) {
            self.modes.known().insert(status.st_dev, Mode::Copy);
        }
    }

    /// Whether a file can have a name in the store and one in `directory`. Tried, not concluded from what is known of the file system.
    pub(super) fn is_linked_into(&self, directory: BorrowedFd<'_>) -> Result<bool> {
        let (original, name) = (self.temporary(0o600)?, probe_name());
        let (from, own) = (&self.temporary, original.name());
        let linked = rustix::fs::linkat(from, own, directory, name.as_str(), AtFlags::empty());
        if linked.is_ok() {
            remove_probe(directory, &name)?;
        }
        Ok(linked.is_ok())
    }

    /// Tries what is wanted with small files; `None` where none can be made in `directory`.
    fn try_modes(&self, directory: BorrowedFd<'_>) -> Result<Option<Mode>> {
        let mut original = self.temporary(0o600)?;
        original.write(&[0x42; 4_096])?;
        if self.modes.wanted.allows(Mode::Reflink) {
            let open = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let read =
                rustix::fs::openat(&self.temporary, original.name(), open, Permissions::empty());
            let read = read.map_err(|error| Error::io("open", &original.path(), &error.into()))?;
            let cloned = with_probe(directory, 0o600, |probe, _| {
                rustix::fs::ioctl_ficlone(probe, &read).is_ok()
            })?;
            match cloned {
                None => return Ok(None),
                Some(true) => return Ok(Some(Mode::Reflink)),
                Some(false) => {}
            }
        }
        if self.modes.wanted.allows(Mode::Link) {
            let name = probe_name();
            let linked = rustix::fs::linkat(
                &self.temporary,
                original.name(),
                directory,
                name.as_str(),
                AtFlags::empty(),
            );
            match linked {
                Ok(()) => {
                    remove_probe(directory, &name)?;
                    return Ok(Some(Mode::Link));
                }
                Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                // Nothing can be made there, which says nothing of the file system.
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(Mode::Copy))
    }
}

/// Which of the permissions 0777 a new file in `directory` keeps: the process's umask, and what the file system has to say.
pub(super) fn permissions_left(directory: BorrowedFd<'_>) -> Result<Option<u32>> {
    with_probe(directory, 0o777, |_, status| status.st_mode & 0o777)
}

fn probe_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".bolide-probe-{}-{count}", std::process::id())
}

/// Makes a file in `directory`, looks at it and removes it; `None` where none can be made.
fn with_probe<T>(
    directory: BorrowedFd<'_>,
    permissions: u32,
    look: impl FnOnce(&OwnedFd, &rustix::fs::Stat) -> T,
) -> Result<Option<T>> {
    let name = probe_name();
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let permissions = Permissions::from_raw_mode(permissions);
    let Ok(probe) = rustix::fs::openat(directory, name.as_str(), flags, permissions) else {
        return Ok(None);
    };
    remove_probe(directory, &name)?;
    Ok(rustix::fs::fstat(&probe).ok().map(|status| look(&probe, &status)))
}

/// A name that stays would be installed with the directory.
fn remove_probe(directory: BorrowedFd<'_>, name: &str) -> Result<()> {
    rustix::fs::unlinkat(directory, name, AtFlags::empty())
        .map_err(|error| Error::io("remove", Path::new(name), &error.into()))
}
