//! Where the downloads of one request lie until they are in the store: a directory of its own, locked for as long as the request is
//! at work. One whose lock is free belongs to a process that died. Not where a download that breaks off waits to be gone on with:
//! that is [`crate::io`]'s.

mod remove;

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agents_contract::Host;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::{Error, Kind, Result};
use crate::limits::INCOMING_TRIES_MAX;

/// Removed with everything in it after the request has ended.
pub(super) struct Incoming {
    path: PathBuf,
    /// Holds the lock.
    lock: Option<OwnedFd>,
    host: Arc<dyn Host>,
}

impl Incoming {
    pub(super) fn new(parent: &Path, host: &Arc<dyn Host>) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        std::fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, &error))?;
        for _ in 0..INCOMING_TRIES_MAX {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{}-{count}", std::process::id()));
            let failed = |error: std::io::Error| Error::io("create", &path, &error);
            match std::fs::create_dir(&path) {
                Ok(()) => {}
                // A process of another container with the same number, or one that died.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(failed(error)),
            }
            // Whoever removes what is abandoned may have been between the two calls.
            if let Some(lock) = lock(&path).map_err(failed)? {
                return Ok(Self { path, lock: Some(lock), host: Arc::clone(host) });
            }
        }
        let message = format!("too many downloads are under way in `{}`", parent.display());
        Err(Error::new(Kind::Failed, "io", message))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let (path, lock) = (std::mem::take(&mut self.path), self.lock.take());
        self.host.later(Box::new(move || {
            // What stays is found without a lock by the next start.
            let _ = remove::remove(&path);
            drop(lock);
        }));
    }
}

/// The lock of such a directory; `None` where somebody else has it, or where it is gone.
fn lock(path: &Path) -> std::io::Result<Option<OwnedFd>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let is_there = rustix::fs::fstat(&opened)?.st_nlink > 0;
    Ok(is_there.then_some(opened))
}

/// Removes what processes that died had begun to fetch.
pub(super) fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if let Ok(Some(_lock)) = lock(&path)
            && let Err(error) = remove::remove(&path)
        {
            tracing::debug!(?path, %error, "cannot remove what another process left unfinished");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::PlainHost;

    #[test]
    fn what_nobody_fetches_any_more_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().expect("a directory");
        let parent = place.path().join("incoming");
        remove_abandoned(&parent);
        let host: Arc<dyn Host> = Arc::new(PlainHost);
        let live = Incoming::new(&parent, &host).expect("a directory");
        let died = parent.join("1-0");
        std::fs::create_dir(&died).expect("a directory");
        for path in [live.path(), &died] {
            std::fs::write(path.join("0"), "bytes").expect("a file");
        }
        std::fs::write(parent.join("file"), "no directory").expect("a file");
        remove_abandoned(&parent);
        assert!(live.path().join("0").exists() && !died.exists() && parent.join("file").exists());
        drop(live);
        assert_eq!(std::fs::read_dir(&parent).expect("a directory").count(), 1);
    }

    #[test]
    fn a_directory_that_a_process_of_the_same_number_left_is_not_taken() {
        let place = tempfile::tempdir().expect("a directory");
        let host: Arc<dyn Host> = Arc::new(PlainHost);
        let pid = std::process::id();
        for count in 0..8 {
            std::fs::create_dir(place.path().join(format!("{pid}-{count}"))).expect("a directory");
        }
        let one = Incoming::new(place.path(), &host).expect("another name");
        assert_eq!(std::fs::read_dir(one.path()).expect("a directory").count(), 0);
    }
}
