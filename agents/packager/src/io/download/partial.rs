//! Where a file is while it arrives. What broke off, or was killed, stays and is gone on with: the place is named by the digest that
//! the file must have, so whoever wants the same file finds it, from whichever server the rest comes.
//!
//! A place is its owner's as long as an exclusive lock on the file is held, which ends with the process; only the owner writes it,
//! renames it or removes it. Who finds it taken uses a place of its own beside the destination, which does not stay.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use reqwest::header::HeaderValue;

use crate::io::limits::{
    PARTIAL_AGE_MAX, PARTIAL_BYTES_MIN, PARTIAL_TAG_BYTES_MAX, PARTIALS_BYTES_MAX, PARTIALS_MAX,
};
use crate::metadata::Hashes;

const END: &str = ".part";
const TAG_END: &str = ".tag";
/// Times that a place is opened anew because its owner has just finished with it.
const OPENINGS_MAX: usize = 8;

/// An open place. Its lock goes with it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    file: File,
    is_shared: bool,
}

impl Place {
    /// The common place in `directory` for a file with these digests, or where that is taken or impossible, a fresh one at `own`.
    pub(super) fn open(directory: &Path, hashes: &Hashes, own: &Path) -> Result<Self> {
        // Where it has to be renamed to another file system the common place is of no use.
        let device =
            |path: Option<&Path>| path.and_then(|path| path.metadata().ok()).map(|it| it.dev());
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        if device(Some(directory)) == device(own.parent())
            && let Some(name) = name_of(hashes)
            && let Some(place) = Self::open_shared(directory.join(name))
        {
            return Ok(place);
        }
        // A part left by a crash; ours alone, as the directory is.
        let _ = std::fs::remove_file(own);
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(own)?;
        Ok(Self { path: own.to_owned(), file, is_shared: false })
    }

    /// Whether something that broke off is there to be gone on with.
    pub(super) fn is_begun(directory: &Path, hashes: &Hashes) -> bool {
        let there = name_of(hashes).and_then(|name| directory.join(name).symlink_metadata().ok());
        there.is_some_and(|there| there.is_file() && there.len() >= PARTIAL_BYTES_MIN)
    }

    /// Without a reason where it cannot be had: then there is the other one.
    fn open_shared(path: PathBuf) -> Option<Self> {
        for _ in 0..OPENINGS_MAX {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
            let file = options.custom_flags(no_link).open(&path).ok()?;
            if !file.metadata().ok()?.is_file() {
                return None;
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
            }
            // Its owner may have renamed or removed it between the two calls.
            if is_at(&file, &path) {
                return Some(Self { path, file, is_shared: true });
            }
        }
        None
    }

    /// The file, at its beginning.
    pub(super) fn file(&self) -> Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// What the server that sent the beginning called it.
    pub(super) fn tag(&self) -> Option<HeaderValue> {
        if !self.is_shared {
            return None;
        }
        let mut bytes = Vec::new();
        let file = File::open(tag_path(&self.path)).ok()?;
        file.take(PARTIAL_TAG_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        HeaderValue::from_bytes(&bytes).ok().filter(|tag| !tag.is_empty())
    }

    /// Writes that down, before the first byte that it is about.
    pub(super) fn note_tag(&self, tag: Option<&HeaderValue>) {
        if !self.is_shared {
            return;
        }
        let path = tag_path(&self.path);
        // Without it the next one is asked for the rest all the same, and the digest decides.
        let _ = match tag {
            Some(tag) => std::fs::write(path, tag.as_bytes()),
            None => std::fs::remove_file(path),
        };
    }

    /// The file is what it should be: gives it its name.
    pub(super) fn finish(&self, destination: &Path) -> Result<()> {
        std::fs::rename(&self.path, destination)?;
        if self.is_shared {
            let _ = std::fs::remove_file(tag_path(&self.path));
        }
        Ok(())
    }

    /// Gives it up. With `keep` what is there is gone on with by the next one, where it is worth it.
    pub(super) fn give_up(&self, keep: bool) {
        let size = self.file.metadata().map_or(0, |metadata| metadata.len());
        if keep && self.is_shared && size >= PARTIAL_BYTES_MIN {
            return;
        }
        remove(&self.path);
    }
}

/// Whether `path` still names this file.
fn is_at(file: &File, path: &Path) -> bool {
    let number = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let there = path.symlink_metadata().map(number);
    file.metadata().map(number).is_ok_and(|ours| there.is_ok_and(|there| there == ours))
}

fn name_of(hashes: &Hashes) -> Option<String> {
    let (algorithm, digest) = match (&hashes.sha512, &hashes.sha256) {
        (Some(digest), _) => ("sha512", digest),
        (None, Some(digest)) => ("sha256", digest),
        (None, None) => return None,
    };
    let is_hex = !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| format!("{algorithm}-{}{END}", digest.to_ascii_lowercase()))
}

fn tag_path(path: &Path) -> PathBuf {
    path.with_extension(&TAG_END[1..])
}

/// For the owner.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(tag_path(path));
    let _ = std::fs::remove_file(path);
}

/// Keeps the youngest of what broke off, within the bounds of number, size and age. What somebody is at work with stays.
pub(crate) fn collect(directory: &Path, now: SystemTime) -> Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut parts = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let is_part = path.to_str().is_some_and(|path| path.ends_with(END));
        if is_part {
            parts.push((
                metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                metadata.len(),
                path,
            ));
        } else if !path.with_extension(&END[1..]).exists() {
            let _ = std::fs::remove_file(&path);
        }
    }
    parts.sort_unstable_by(|one, other| other.cmp(one));
    let (mut count, mut bytes) = (0, 0_u64);
    for (modified, size, path) in parts {
        let is_old = now.duration_since(modified).is_ok_and(|age| age > PARTIAL_AGE_MAX);
        count += 1;
        bytes = bytes.saturating_add(size);
        if !is_old && count <= PARTIALS_MAX && bytes <= PARTIALS_BYTES_MAX {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() && is_at(&file, &path) {
            remove(&path);
            count -= 1;
            bytes = bytes.saturating_sub(size);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;
    use std::time::Duration;

    use super::*;

    fn hashes(digit: u8) -> Hashes {
        Hashes { sha256: Some(format!("{digit:02x}").repeat(32)), sha512: None }
    }

    /// Closing it is not enough where another test has just started a process, which has it until it becomes a program.
    fn let_go(place: Place) {
        place.file.unlock().expect("ours");
    }

    #[test]
    fn a_place_has_one_owner_and_what_it_leaves_is_the_next_ones() {
        let place = tempfile::tempdir().expect("a directory");
        let (directory, own) = (place.path().join("partial"), place.path().join("f.part"));
        let tag = HeaderValue::from_static("\"x\"");
        let first = Place::open(&directory, &hashes(1), &own).expect("space");
        first.note_tag(Some(&tag));
        first.file.set_len(PARTIAL_BYTES_MIN).expect("space");
        let second = Place::open(&directory, &hashes(1), &own).expect("space");
        assert!(first.is_shared && !second.is_shared && second.path == own);
        assert_eq!(second.tag(), None);
        second.give_up(true);
        assert!(!own.exists(), "nobody would find it again");
        first.give_up(true);
        let_go(first);
        let third = Place::open(&directory, &hashes(1), &own).expect("space");
        assert_eq!((third.is_shared, third.tag()), (true, Some(tag)));
        assert_eq!(third.file.metadata().expect("there").len(), PARTIAL_BYTES_MIN);
        third.finish(&place.path().join("f")).expect("the same file system");
        // The old owner's lock is on another file now.
        let fourth = Place::open(&directory, &hashes(1), &own).expect("space");
        assert_eq!((fourth.is_shared, fourth.tag()), (true, None));
        fourth.give_up(true);
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 0, "too small");
    }

    #[test]
    fn what_broke_off_is_bounded_in_age_number_and_size_and_never_taken_from_its_owner() {
        let place = tempfile::tempdir().expect("a directory");
        let (directory, own) = (place.path().join("partial"), place.path().join("f.part"));
        let now = SystemTime::now();
        let leave = |digit: u8, age: Duration, bytes: u64| {
            let left = Place::open(&directory, &hashes(digit), &own).expect("space");
            left.note_tag(Some(&HeaderValue::from_static("\"x\"")));
            left.file.set_len(bytes).expect("sparse");
            left.file.set_times(FileTimes::new().set_modified(now - age)).expect("ours");
            left
        };
        let count = || {
            let entries = std::fs::read_dir(&directory).expect("there").flatten();
            let parts = entries.filter(|entry| entry.path().extension() == Some("part".as_ref()));
            parts.count()
        };
        let day = Duration::from_secs(24 * 3_600);
        let held = leave(0, 100 * day, 1 << 20);
        let_go(leave(1, 100 * day, 1 << 20));
        let_go(leave(2, day, 1 << 20));
        std::fs::write(directory.join("alone.tag"), "x").expect("space");
        collect(&directory, now).expect("a directory");
        assert_eq!(count(), 2, "one is old, one is held");
        let_go(held);
        collect(&directory, now).expect("a directory");
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 2, "a part and its tag");
        (10..100)
            .for_each(|digit| let_go(leave(digit, Duration::from_secs(digit.into()), 1 << 20)));
        collect(&directory, now).expect("a directory");
        assert_eq!(count(), PARTIALS_MAX);
        let_go(leave(200, Duration::ZERO, PARTIALS_BYTES_MAX));
        collect(&directory, now).expect("a directory");
        assert_eq!(count(), 1, "the youngest takes all that there is");
        collect(&place.path().join("nowhere"), now).expect("nothing to do");
    }
}
