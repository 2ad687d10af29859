//! What could not be deleted when nobody needed it any more: an error of the disk, a right that was missing for a while. It is
//! tried again when there is time, and for a moment before the next request is served, so that nothing lies there until a later start.
//!
//! It is remembered in memory only, and not without bounds: what is forgotten is swept by the next start like what a process that
//! died has left. Not for what a project has, which the journal of its transaction remembers.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::LEFTOVERS_MAX;

/// Deletes one thing. That it is not there is as good.
pub(crate) type Delete = fn(&Path) -> Result<()>;

/// What is still to be deleted. Each path is somebody's own, so that nobody else gives the same name to something new.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Mutex<VecDeque<(PathBuf, Delete)>>);

impl Leftovers {
    /// Deletes it; what cannot be deleted now is tried again.
    pub(crate) fn delete(&self, path: &Path, delete: Delete) {
        if let Err(error) = delete(path) {
            self.add(path, delete, &error);
        }
    }

    /// The same for what somebody has tried to delete already.
    pub(crate) fn add(&self, path: &Path, delete: Delete, error: &Error) {
        if error.kind() != ErrorKind::NotFound {
            tracing::warn!(?path, %error, "cannot delete what nobody needs any more: tried again later");
            self.keep(path.to_owned(), delete);
        }
    }

    /// Tries each of them once more.
    pub(crate) fn try_again(&self) {
        self.try_again_for(None);
    }

    /// The same for somebody who waits: after so long none is begun any more.
    pub(crate) fn try_again_for(&self, time: Option<Duration>) {
        let began = Instant::now();
        let count = self.lock().len();
        for _ in 0..count {
            if time.is_some_and(|time| began.elapsed() >= time) {
                break;
            }
            // One at a time, so that who comes meanwhile finds the others; and not under the lock, for whoever deletes waits for the disk.
            let Some((path, delete)) = self.next() else { break };
            match delete(&path) {
                Ok(()) => tracing::debug!(?path, "deleted at last"),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::debug!(?path, %error, "it still cannot be deleted");
                    self.keep(path, delete);
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn next(&self) -> Option<(PathBuf, Delete)> {
        self.lock().pop_front()
    }

    fn keep(&self, path: PathBuf, delete: Delete) {
        if !self.has_kept(&path, delete) {
            tracing::warn!(?path, "too much cannot be deleted: the next start tries it again");
        }
    }

    /// Whether it is remembered, now or already.
    fn has_kept(&self, path: &Path, delete: Delete) -> bool {
        let mut left = self.lock();
        if left.iter().any(|(kept, _)| kept == path) {
            return true;
        }
        let has_room = left.len() < LEFTOVERS_MAX;
        if has_room {
            left.push_back((path.to_owned(), delete));
        }
        has_room
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(PathBuf, Delete)>> {
        // A list is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For a file.
pub(crate) fn file(path: &Path) -> Result<()> {
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file cannot be deleted where a directory has its name, whoever asks.
    fn hindered(path: &Path) {
        std::fs::create_dir(path).expect("a directory");
    }

    fn hindered_no_more(path: &Path) {
        std::fs::remove_dir(path).expect("a directory");
        std::fs::write(path, "left").expect("a file");
    }

    #[test]
    fn what_cannot_be_deleted_is_tried_until_it_can() {
        let place = tempfile::tempdir().expect("a directory");
        let path = |name: &str| place.path().join(name);
        let left = Leftovers::default();
        std::fs::write(path("goes"), "").expect("a file");
        left.delete(&path("goes"), file);
        left.delete(&path("never was"), file);
        assert!(left.is_empty() && !path("goes").exists());
        for name in ["one", "other"] {
            hindered(&path(name));
            left.delete(&path(name), file);
        }
        left.try_again();
        assert!(path("one").exists() && path("other").exists());
        hindered_no_more(&path("one"));
        left.try_again();
        assert!(!path("one").exists() && !left.is_empty(), "the one does not hold up the other");
        hindered_no_more(&path("other"));
        left.try_again();
        assert!(!path("other").exists() && left.is_empty());
    }

    #[test]
    fn a_path_is_remembered_once_and_who_has_no_time_begins_none() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("one");
        let left = Leftovers::default();
        hindered(&path);
        left.delete(&path, file);
        left.delete(&path, file);
        assert_eq!(left.lock().len(), 1);
        hindered_no_more(&path);
        left.try_again_for(Some(Duration::ZERO));
        assert!(path.exists() && !left.is_empty());
        left.try_again_for(Some(Duration::MAX));
        assert!(!path.exists() && left.is_empty());
    }

    #[test]
    fn no_more_is_remembered_than_the_limit_says() {
        let place = tempfile::tempdir().expect("a directory");
        let path = |number: usize| place.path().join(number.to_string());
        let left = Leftovers::default();
        for number in 0..=LEFTOVERS_MAX {
            hindered(&path(number));
            left.delete(&path(number), file);
        }
        (0..=LEFTOVERS_MAX).for_each(|number| hindered_no_more(&path(number)));
        left.try_again();
        let entries = std::fs::read_dir(place.path()).expect("a directory").flatten();
        let names: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        assert_eq!(names, [path(LEFTOVERS_MAX)], "the next start sweeps it");
    }
}
