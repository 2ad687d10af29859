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

use super::limits::{
    GIT_PLACE_BYTES_MAX, GIT_PLACE_FILES_MAX, REPOSITORIES_BYTES_MAX, REPOSITORIES_KEPT_MAX,
    REPOSITORY_TURNS_MAX,
};
use super::size;
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::manifest::address::git::Repository;

/// One that stays while this is held.
pub(crate) struct Kept {
    path: PathBuf,
    lock: File,
}

/// What another one of the same commit is worth that stands there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    AsGood,
    /// It could not be removed: others read it, and find out the same.
    Damaged,
}

impl Kept {
    /// The one that has a commit, if it was fetched before.
    ///
    /// # Errors
    /// Where one is there that cannot be opened or locked: another one could not take its place.
    pub(crate) fn find(root: &Path, repository: &Repository, commit: &str) -> Result<Option<Self>> {
        let path = place(root, repository, commit);
        let lock = match open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", &path, &error)),
        };
        lock_shared(&lock, &path)?;
        // Whoever removed it meanwhile had the lock before.
        if !is_at(&lock, &path).map_err(|error| Error::io("look at", &path, &error))? {
            return Ok(None);
        }
        // What was used last goes last. Without that it only goes earlier.
        let _ = lock.set_modified(SystemTime::now());
        Ok(Some(Self { path, lock }))
    }

    /// Keeps what was made at `from`. What somebody else kept of the same commit meanwhile is as good, unless it is said to be damaged: then
    /// this one is read where it was made, and goes with that.
    pub(crate) fn keep(
        root: &Path,
        (repository, commit): (&Repository, &str),
        from: &Path,
        other: Other,
    ) -> Result<Self> {
        let to = place(root, repository, commit);
        std::fs::create_dir_all(root).map_err(|error| Error::io("create", root, &error))?;
        // Held before anybody else can see it, so that nobody removes it in between.
        let lock = open(from).map_err(|error| Error::io("open", from, &error))?;
        lock_shared(&lock, from)?;
        // Each turn that ends without one is one in which another process kept one and another removed it.
        for _ in 0..REPOSITORY_TURNS_MAX {
            match std::fs::rename(from, &to) {
                Ok(()) => return Ok(Self { path: to, lock }),
                Err(error) if is_there(&error) => {}
                Err(error) => return Err(Error::io("move a repository to", &to, &error)),
            }
            if other == Other::Damaged {
                break;
            }
            if let Some(kept) = Self::find(root, repository, commit)? {
                return Ok(kept);
            }
        }
        Ok(Self { path: from.to_owned(), lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes one that is not whole, unless somebody else reads it, too, and finds out the same. What another one is worth that stands
    /// there afterwards.
    pub(crate) fn discard(self, remove: &mut dyn FnMut(&Path) -> Result<()>) -> Other {
        // What is held with others is let go before it is held alone.
        if rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Other::Damaged;
        }
        let removed = match is_at(&self.lock, &self.path) {
            Ok(true) => remove(&self.path),
            // Somebody else removed it meanwhile.
            Ok(false) => Ok(()),
            Err(error) => Err(Error::io("look at", &self.path, &error)),
        };
        match removed {
            Ok(()) => Other::AsGood,
            Err(error) => {
                tracing::debug!(path = ?self.path, %error, "a repository cannot be removed");
                Other::Damaged
            }
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

fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Waits for whoever moves it away just now.
fn lock_shared(lock: &File, path: &Path) -> Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(lock, FlockOperation::LockShared))
        .map_err(|error| Error::io("lock", path, &error.into()))
}

/// Whether what is held is what stands at a path.
fn is_at(lock: &File, path: &Path) -> std::io::Result<bool> {
    let place = |status: std::fs::Metadata| (status.dev(), status.ino());
    match path.symlink_metadata() {
        Ok(status) => Ok(place(status) == place(lock.metadata()?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
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
        found.push((used, entry.path(), bytes_of(&entry.path())));
    }
    found.sort();
    let before = found.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
    let (mut count, mut total) = (found.len(), before);
    for (_, path, bytes) in found {
        let fits = count <= REPOSITORIES_KEPT_MAX && total <= REPOSITORIES_BYTES_MAX;
        if fits && room == Room::Usual {
            break;
        }
        let Ok(lock) = open(&path) else { continue };
        // Somebody reads it, or it is another one by now.
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
            || !is_at(&lock, &path).unwrap_or(false)
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

/// Bytes of one; where it has more files than a fetch may leave, as many as that may.
fn bytes_of(path: &Path) -> u64 {
    let size = size::of(path, GIT_PLACE_FILES_MAX);
    match size.files > GIT_PLACE_FILES_MAX {
        true => size.bytes.max(GIT_PLACE_BYTES_MAX),
        false => size.bytes,
    }
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
                let kept = Kept::keep(&root, (&repository, "0"), &from, Other::AsGood);
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
        let keep = |repository, from| {
            Kept::keep(&root, (repository, "0"), &make(from), Other::AsGood).expect("kept")
        };
        let find = |repository, commit| Kept::find(&root, repository, commit).expect("looked for");
        let kept = keep(&one, "a");
        assert!(find(&other, "0").is_none(), "it is another repository");
        assert!(find(&one, "1").is_none());
        drop(keep(&other, "b"));
        // The one that is there.
        let again = keep(&one, "c");
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
        assert!(find(&one, "0").is_none());
    }

    #[test]
    fn what_has_many_branches_is_counted_with_its_objects() {
        const OBJECTS: usize = 3 << 20;
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("repositories");
        let pack = root.join("a/objects/pack");
        std::fs::create_dir_all(&pack).expect("a directory");
        std::fs::write(pack.join("pack"), vec![1; OBJECTS]).expect("a file");
        for name in 0..1_500 {
            std::fs::write(root.join(format!("a/{name}")), "").expect("a file");
        }
        let mut remove = |path: &Path| {
            std::fs::remove_dir_all(path).map_err(|error| Error::io("remove", path, &error))
        };
        let freed = shrink(&root, Room::Nothing, &mut remove);
        assert!(freed >= OBJECTS as u64, "{freed}");
    }

    #[test]
    fn one_that_cannot_be_opened_is_told_and_not_waited_for() {
        let place = tempfile::tempdir().expect("a directory");
        let (root, from) = (place.path().join("repositories"), place.path().join("from"));
        let one = repository("https://h/x");
        std::fs::create_dir_all(&root).expect("a directory");
        std::fs::create_dir(&from).expect("a directory");
        // Whoever is root may open everything; nobody opens this as a directory.
        let there = super::place(&root, &one, "0");
        std::os::unix::fs::symlink("nowhere", &there).expect("a link");
        let told = Kept::find(&root, &one, "0").err().expect("an error");
        assert!(told.message.contains(&*there.to_string_lossy()), "{told}");
        assert!(Kept::keep(&root, (&one, "0"), &from, Other::AsGood).is_err());
    }

    #[test]
    fn two_that_find_the_same_damage_both_go_on() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("repositories");
        let one = repository("https://h/x");
        let make = |name: &str| {
            let from = place.path().join(name);
            std::fs::create_dir(&from).expect("a directory");
            std::fs::write(from.join("pack"), name).expect("a file");
            from
        };
        let keep = |from: &Path, other| Kept::keep(&root, (&one, "0"), from, other).expect("kept");
        let read = |kept: &Kept| std::fs::read_to_string(kept.path().join("pack")).expect("read");
        let mut remove = |path: &Path| {
            std::fs::remove_dir_all(path).map_err(|error| Error::io("remove", path, &error))
        };
        drop(keep(&make("damaged"), Other::AsGood));
        let find = || Kept::find(&root, &one, "0").expect("looked for").expect("one");
        let (first, second) = (find(), find());
        let other = first.discard(&mut remove);
        assert!(other == Other::Damaged, "the second reads it");
        let fresh = make("fresh");
        let kept = keep(&fresh, other);
        assert_eq!((kept.path(), &*read(&kept)), (&*fresh, "fresh"));
        assert!(second.discard(&mut remove) == Other::AsGood);
        let kept = keep(&make("also fresh"), Other::AsGood);
        assert_eq!(read(&kept), "also fresh");
        // Where the other one is gone by then, it is kept.
        drop(kept);
        find().discard(&mut remove);
        assert_eq!(keep(&fresh, Other::Damaged).path(), find().path());
    }
}
