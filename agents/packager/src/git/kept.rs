//! Repositories that were fetched, each for one commit: what is there never changes, so nobody has to wait for anybody.
//!
//! One is made elsewhere and moved here whole, with its lock. Whoever reads one holds its lock with others; whoever removes one needs the
//! lock alone, sees that it still is the one that stands there, and moves it away whole. Under the digest of the address as it is written: addresses that only look alike are two repositories.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::limits::{REPOSITORIES_BYTES_MAX, REPOSITORIES_KEPT_MAX, REPOSITORY_FILES_MAX};
use super::size;
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::manifest::address::git::Repository;

/// One that stays while this is held.
pub(crate) struct Kept {
    path: PathBuf,
    lock: File,
}

impl Kept {
    /// The one that has a commit, if it was fetched before.
    pub(crate) fn find(root: &Path, repository: &Repository, commit: &str) -> Option<Self> {
        let path = place(root, repository, commit);
        let lock = open(&path)?;
        rustix::fs::flock(&lock, FlockOperation::LockShared).ok()?;
        // Whoever removed it meanwhile had the lock before.
        if !is_at(&lock, &path) {
            return None;
        }
        // What was used last goes last. Without that it only goes earlier.
        let _ = lock.set_modified(SystemTime::now());
        Some(Self { path, lock })
    }

    /// Keeps what was made at `from`. What somebody else kept of the same commit meanwhile is as good.
    pub(crate) fn keep(
        root: &Path,
        repository: &Repository,
        commit: &str,
        from: &Path,
    ) -> Result<Self> {
        let to = place(root, repository, commit);
        std::fs::create_dir_all(root).map_err(|error| Error::io("create", root, &error))?;
        let gone = || Error::io("read", from, &ErrorKind::NotFound.into());
        // Held before anybody else can see it, so that nobody removes it in between.
        let lock = open(from).ok_or_else(gone)?;
        rustix::fs::flock(&lock, FlockOperation::LockShared)
            .map_err(|error| Error::io("lock", from, &error.into()))?;
        // Each turn that ends without one is one in which another process kept one and another removed it.
        loop {
            match std::fs::rename(from, &to) {
                Ok(()) => return Ok(Self { path: to, lock }),
                Err(error) if is_there(&error) => {}
                Err(error) => return Err(Error::io("move a repository to", &to, &error)),
            }
            if let Some(kept) = Self::find(root, repository, commit) {
                return Ok(kept);
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes one that is not whole, unless somebody else reads it, too, and finds out the same.
    pub(crate) fn discard(self, remove: &mut dyn FnMut(&Path) -> Result<()>) {
        // What is held with others is let go before it is held alone.
        if rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_at(&self.lock, &self.path)
            && let Err(error) = remove(&self.path)
        {
            tracing::debug!(path = ?self.path, %error, "a repository cannot be removed");
        }
    }
}

fn is_there(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty)
}

fn place(root: &Path, repository: &Repository, commit: &str) -> PathBuf {
    let digest = hex(digest(&SHA256, repository.remote.as_bytes()).as_ref());
    root.join(format!("{digest}-{commit}"))
}

fn open(path: &Path) -> Option<File> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from)
}

/// Whether what is held is what stands at a path.
fn is_at(lock: &File, path: &Path) -> bool {
    let place = |status: std::fs::Metadata| (status.dev(), status.ino());
    let held = lock.metadata().map(place).ok();
    held.is_some() && held == path.symlink_metadata().map(place).ok()
}

/// What may stay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// As much as the bounds say.
    Usual,
    Nothing,
}

/// Removes those that were not used for longest, until the others fit; bytes of them. `remove` moves one away.
pub(crate) fn shrink(root: &Path, room: Room, remove: &mut dyn FnMut(&Path) -> Result<()>) -> u64 {
    let Ok(entries) = std::fs::read_dir(root) else { return 0 };
    let mut found: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
    for entry in entries.flatten() {
        let used = entry.metadata().and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        found.push((used, entry.path(), size::of(&entry.path(), REPOSITORY_FILES_MAX).bytes));
    }
    found.sort();
    let before = found.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
    let (mut count, mut total) = (found.len(), before);
    for (_, path, bytes) in found {
        let fits = count <= REPOSITORIES_KEPT_MAX && total <= REPOSITORIES_BYTES_MAX;
        if fits && room == Room::Usual {
            break;
        }
        let Some(lock) = open(&path) else { continue };
        // Somebody reads it, or it is another one by now.
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
            || !is_at(&lock, &path)
        {
            continue;
        }
        match remove(&path) {
            Ok(()) => (count, total) = (count - 1, total.saturating_sub(bytes)),
            Err(error) => tracing::debug!(?path, %error, "a repository cannot be removed"),
        }
    }
    before - total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(remote: &str) -> Repository {
        Repository { remote: remote.to_owned(), revision: None, subdirectory: None }
    }

    #[test]
    fn one_that_was_just_kept_is_taken_away_by_nobody() {
        const TURNS: usize = 2_000;
        let place = tempfile::tempdir().expect("a directory");
        let (root, from) = (place.path().join("repositories"), place.path().join("from"));
        let repository = repository("https://h/x");
        let is_done = std::sync::atomic::AtomicBool::new(false);
        let ordering = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let away = place.path().join("away");
                while !is_done.load(ordering) {
                    shrink(&root, Room::Nothing, &mut |path| {
                        let moved = std::fs::rename(path, &away);
                        moved.map_err(|error| Error::io("move away", path, &error))
                    });
                    let _ = std::fs::remove_dir_all(&away);
                }
            });
            let kept = (0..TURNS).map(|_| {
                let _ = std::fs::create_dir(&from);
                std::fs::write(from.join("pack"), "").expect("a file");
                let kept = Kept::keep(&root, &repository, "0", &from);
                kept.map(|kept| kept.path().join("pack").exists())
            });
            let kept: Vec<_> = kept.collect();
            is_done.store(true, ordering);
            assert!(kept.iter().all(|kept| matches!(kept, Ok(true))), "{:?}", kept.last());
        });
    }

    #[test]
    fn one_that_is_read_stays_and_others_go_when_there_is_no_room() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("repositories");
        let make = |name: &str| {
            let from = place.path().join(name);
            std::fs::create_dir(&from).expect("a directory");
            std::fs::write(from.join("pack"), name).expect("a file");
            from
        };
        let [one, other] = ["https://h/x", "https://h/X"].map(repository);
        let kept = Kept::keep(&root, &one, "0", &make("a")).expect("kept");
        assert!(Kept::find(&root, &other, "0").is_none(), "it is another repository");
        assert!(Kept::find(&root, &one, "1").is_none());
        drop(Kept::keep(&root, &other, "0", &make("b")).expect("kept"));
        let again = Kept::keep(&root, &one, "0", &make("c")).expect("the one that is there");
        assert_eq!(std::fs::read_to_string(again.path().join("pack")).expect("read"), "a");
        let count = || std::fs::read_dir(&root).expect("read").count();
        let mut remove = |path: &Path| {
            std::fs::remove_dir_all(path).map_err(|error| Error::io("remove", path, &error))
        };
        shrink(&root, Room::Usual, &mut remove);
        assert_eq!(count(), 2);
        shrink(&root, Room::Nothing, &mut remove);
        assert_eq!(count(), 1, "one is read");
        drop((kept, again));
        shrink(&root, Room::Nothing, &mut remove);
        assert_eq!(count(), 0);
        assert!(Kept::find(&root, &one, "0").is_none());
    }
}
