//! Who may be in the store: any number of users, or one collection of garbage, over all threads and processes.
//!
//! Users of other processes are known by a shared lock on the file `lock`, which a process has while at least one of its threads is
//! inside; a collection takes it exclusively. Both die with their process. Being inside is short (one artefact added, one directory
//! filled); what a whole transaction needs for longer it says in a lease.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agents_contract::Cancellation;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};
use crate::limits::{LOCK_RETRY_MS, STORE_ENTRY_PATIENCE, STORE_ENTRY_TOLD_AFTER};

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
pub(super) struct Use<'g>(&'g Gate);

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

    /// Waits for a collection that runs, here or in another process: a second or two, and not longer than
    /// [`STORE_ENTRY_PATIENCE`].
    pub(super) fn enter(&self, cancellation: &Cancellation) -> Result<Use<'_>> {
        self.enter_within(STORE_ENTRY_PATIENCE, cancellation)
    }

    pub(super) fn enter_within(
        &self,
        patience: Duration,
        cancellation: &Cancellation,
    ) -> Result<Use<'_>> {
        let began = Instant::now();
        let mut is_told = false;
        let mut inside = self.lock();
        loop {
            // Who is inside has the lock for all threads.
            let has_lock = inside.users > 0;
            if !inside.is_collecting && (has_lock || self.share()?) {
                inside.users += 1;
                return Ok(Use(self));
            }
            Error::if_cancelled(cancellation)?;
            let waited = began.elapsed();
            if waited >= patience {
                return Err(collected(waited));
            }
            if waited >= STORE_ENTRY_TOLD_AFTER && !is_told {
                tracing::warn!(store = ?self.path, "waits for a collection of the store to end");
                is_told = true;
            }
            // Another process wakes nobody here, and neither does a cancellation.
            let retry = Duration::from_millis(LOCK_RETRY_MS);
            let woken = self.changed.wait_timeout(inside, retry);
            inside = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether this process has the shared lock now: no other process collects.
    fn share(&self) -> Result<bool> {
        match self.flock(FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(Error::io("lock", &self.path, &error.into())),
        }
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

    fn flock(&self, operation: FlockOperation) -> rustix::io::Result<()> {
        loop {
            match rustix::fs::flock(&self.file, operation) {
                Err(Errno::INTR) => {}
                done => return done,
            }
        }
    }
}

fn collected(waited: Duration) -> Error {
    let message = format!(
        "the store is being collected, and was for {} s that were waited",
        waited.as_secs()
    );
    Error::new(Kind::Refused, "store-busy", message)
        .hint("try again when `bolide cache collect`, here or in another process, has ended")
        .retryable()
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
