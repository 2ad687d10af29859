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
use crate::leftovers::Leftovers;
use crate::limits::INCOMING_TRIES_MAX;

/// Removed with everything in it after the request has ended.
pub(super) struct Incoming {
    path: PathBuf,
    /// Holds the lock.
    lock: Option<OwnedFd>,
    host: Arc<dyn Host>,
    leftovers: Arc<Leftovers>,
}

impl Incoming {
    pub(super) fn new(
        parent: &Path,
        host: &Arc<dyn Host>,
        leftovers: &Arc<Leftovers>,
    ) -> Result<Self> {
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
            match lock(&path) {
                Ok(Some(lock)) => {
                    let (host, leftovers) = (Arc::clone(host), Arc::clone(leftovers));
                    return Ok(Self { path, lock: Some(lock), host, leftovers });
                }
                Ok(None) => {}
                Err(error) => {
                    leftovers.delete(&path, remove_abandoned_one);
                    return Err(failed(error));
                }
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
        let leftovers = Arc::clone(&self.leftovers);
        self.host.later(Box::new(move || {
            let Err(error) = remove::remove(&path) else { return };
            // It belongs to nobody from here on. Not only closed: a process that is just being started has the lock, too, until it
            // becomes a program.
            if let Some(lock) = lock {
                let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
            }
            leftovers.add(&path, remove_abandoned_one, &error.into());
            // What hinders is mostly over at once.
            leftovers.try_again();
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
pub(super) fn remove_abandoned(parent: &Path, leftovers: &Leftovers) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(Some(lock)) = lock(&path) else { continue };
        let removed = remove::remove(&path);
        drop(lock);
        if let Err(error) = removed {
            leftovers.add(&path, remove_abandoned_one, &error.into());
        }
    }
}

/// Removes a directory with everything in it.
pub(super) fn remove_tree(path: &Path) -> std::io::Result<()> {
    Ok(remove::remove(path)?)
}

/// Removes one that belongs to nobody. Where somebody has it, a later try finds it free, or gone.
fn remove_abandoned_one(path: &Path) -> std::io::Result<()> {
    match lock(path)? {
        Some(_lock) => Ok(remove::remove(path)?),
        None => path.symlink_metadata().and(Err(ErrorKind::WouldBlock.into())),
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
        let left = Arc::<Leftovers>::default();
        remove_abandoned(&parent, &left);
        let host: Arc<dyn Host> = Arc::new(PlainHost);
        let live = Incoming::new(&parent, &host, &left).expect("a directory");
        let died = parent.join("1-0");
        std::fs::create_dir(&died).expect("a directory");
        for path in [live.path(), &died] {
            std::fs::write(path.join("0"), "bytes").expect("a file");
        }
        std::fs::write(parent.join("file"), "no directory").expect("a file");
        remove_abandoned(&parent, &left);
        assert!(live.path().join("0").exists() && !died.exists() && parent.join("file").exists());
        drop(live);
        assert_eq!(std::fs::read_dir(&parent).expect("a directory").count(), 1);
    }

    #[test]
    fn what_cannot_be_removed_at_its_end_is_removed_later_and_never_from_a_new_owner() {
        let place = tempfile::tempdir().expect("a directory");
        let (parent, aside) = (place.path().join("incoming"), place.path().join("aside"));
        let (host, left): (Arc<dyn Host>, _) = (Arc::new(PlainHost), Arc::<Leftovers>::default());
        let one = Incoming::new(&parent, &host, &left).expect("a directory");
        let path = one.path().to_owned();
        std::fs::write(path.join("0"), "bytes").expect("a file");
        // A file in its place cannot be removed as a directory, whoever tries it.
        std::fs::rename(&path, &aside).expect("the same file system");
        std::fs::write(&path, "in the way").expect("a file");
        drop(one);
        assert!(!left.is_empty(), "it is forgotten");
        std::fs::remove_file(&path).expect("ours");
        std::fs::rename(&aside, &path).expect("the same file system");
        let owner = lock(&path).expect("a directory").expect("nobody's");
        left.try_again();
        assert!(path.join("0").exists(), "it was taken from under its owner");
        drop(owner);
        left.try_again();
        assert!(left.is_empty() && !path.exists());
        left.add(&path, remove_abandoned_one, &ErrorKind::PermissionDenied.into());
        left.try_again();
        assert!(left.is_empty(), "what is gone is no failure");
    }

    #[test]
    fn a_directory_that_a_process_of_the_same_number_left_is_not_taken() {
        let place = tempfile::tempdir().expect("a directory");
        let host: Arc<dyn Host> = Arc::new(PlainHost);
        let pid = std::process::id();
        for count in 0..8 {
            std::fs::create_dir(place.path().join(format!("{pid}-{count}"))).expect("a directory");
        }
        let one = Incoming::new(place.path(), &host, &Arc::default()).expect("another name");
        assert_eq!(std::fs::read_dir(one.path()).expect("a directory").count(), 0);
    }
}
