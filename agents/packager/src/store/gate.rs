//! Who may be in the store: any number of users, or one collection of garbage, over all threads and processes.
//!
//! Users of other processes are known by a shared lock on the file `lock`, which a process has while at least one of its threads is
//! inside; a collection takes it exclusively. Both die with their process. Being inside is short (one artefact added, one directory
//! filled); what a whole transaction needs for longer it says in a lease.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::error::{Error, Kind, Result};
use crate::limits::LOCK_RETRY_MS;

#[derive(Debug)]
pub(super) struct Gate {
    file: File,
    path: PathBuf,
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    users: usize,
    is_collecting: bool,
}

/// A user inside.
#[derive(Debug)]
pub(crate) struct Use<'g>(&'g Gate);

/// The only one inside.
#[derive(Debug)]
pub(super) struct Alone<'g> {
    gate: &'g Gate,
    has_lock: bool,
}

impl Gate {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| Error::io("open", &path, &error))?;
        Ok(Self { file, path, inside: Mutex::default(), changed: Condvar::new() })
    }

    /// Waits for a collection that runs, here or in another process: a second or two.
    pub(super) fn enter(&self) -> Result<Use<'_>> {
        let mut inside = self.lock();
        while inside.is_collecting {
            inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        if inside.users == 0 {
            self.flock(FlockOperation::LockShared)?;
        }
        inside.users += 1;
        Ok(Use(self))
    }

    /// Waits until nobody is inside, and refuses with `store-busy` where that takes longer than `patience`. Who comes
    /// meanwhile waits, too.
    pub(super) fn enter_alone(&self, patience: Duration) -> Result<Alone<'_>> {
        let deadline = Instant::now() + patience;
        let mut inside = self.lock();
        if inside.is_collecting {
            return Err(busy());
        }
        inside.is_collecting = true;
        // From here on it is given back whatever happens.
        let mut alone = Alone { gate: self, has_lock: false };
        while inside.users > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(inside);
                drop(alone);
                return Err(busy());
            }
            let waited = self.changed.wait_timeout(inside, left);
            inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(inside);
        while rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= deadline {
                return Err(busy());
            }
            std::thread::sleep(Duration::from_millis(LOCK_RETRY_MS));
        }
        alone.has_lock = true;
        Ok(alone)
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Two plain values, whole between any two statements.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flock(&self, operation: FlockOperation) -> Result<()> {
        loop {
            match rustix::fs::flock(&self.file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                done => {
                    return done.map_err(|error| Error::io("lock", &self.path, &error.into()));
                }
            }
        }
    }
}

fn busy() -> Error {
    Error::new(Kind::Refused, "store-busy", "the store is in use, or is being collected")
        .hint("try again when nothing is being installed")
        .retryable()
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let mut inside = self.0.lock();
        inside.users -= 1;
        if inside.users == 0 {
            // A lock that cannot be given back goes with the process.
            let _ = self.0.flock(FlockOperation::Unlock);
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Without it the lock is that of the users inside, who keep it.
        if self.has_lock {
            let _ = self.gate.flock(FlockOperation::Unlock);
        }
        self.gate.lock().is_collecting = false;
        self.gate.changed.notify_all();
    }
}
