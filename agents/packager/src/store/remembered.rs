//! Entries of the index as they were read, in a process that stays: reading one, with the digest at its end, costs as much as
//! installing a small package that stands ready.
//!
//! An entry is believed as long as its file is the one that was read, unchanged: it is looked at every time. Whoever forgets an
//! artefact, or fetches it again, removes or replaces the file.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Stat};

use super::{Entry, Form, Store, entry, not_here};
use crate::error::Result;
use crate::limits::REMEMBERED_FILES_MAX;
use crate::metadata::Hashes;
use crate::resolution::Package;

/// What is remembered; nothing before [`Remembered::begin`].
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Guards nothing: who reads it early only reads a file.
    has_begun: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    entries: HashMap<String, (Stamp, Arc<Entry>)>,
    files: usize,
}

/// Inode, size, and the times of the last modification and change.
type Stamp = (u64, u64, (i64, i64), (i64, i64));

fn stamp(status: &Stat) -> Stamp {
    let modified = (status.st_mtime, status.st_mtime_nsec as i64);
    let changed = (status.st_ctime, status.st_ctime_nsec as i64);
    (status.st_ino, status.st_size as u64, modified, changed)
}

impl Remembered {
    pub(super) fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    fn get(&self, name: &str, now: Stamp) -> Option<Arc<Entry>> {
        let held = self.held();
        held.entries.get(name).filter(|(then, _)| *then == now).map(|(_, entry)| Arc::clone(entry))
    }

    fn put(&self, name: &str, stamp: Stamp, entry: &Arc<Entry>) {
        let files = entry.files.len();
        let mut held = self.held();
        if let Some((_, before)) = held.entries.remove(name) {
            held.files -= before.files.len();
        }
        if files > REMEMBERED_FILES_MAX {
            return;
        }
        if held.files + files > REMEMBERED_FILES_MAX {
            // What is in use is read once more.
            *held = Held::default();
        }
        held.files += files;
        held.entries.insert(name.to_owned(), (stamp, Arc::clone(entry)));
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // A map and the sum over it; nothing panics between the two.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Remembers entries from now on.
    pub(crate) fn remember(&self) {
        self.remembered.begin();
    }

    /// The same as [`Store::entry`], shared.
    pub(super) fn shared_entry(&self, hashes: &Hashes, form: Form) -> Option<Arc<Entry>> {
        let names = entry::names(hashes, form);
        if !self.remembered.has_begun.load(Ordering::Relaxed) {
            return names
                .iter()
                .find_map(|name| entry::read(&self.index, name, form))
                .map(Arc::new);
        }
        names.iter().find_map(|name| self.remembered_entry(name, form))
    }

    /// The same as [`Store::require`], shared.
    pub(crate) fn require_shared(&self, package: &Package) -> Result<Arc<Entry>> {
        let form = Form::of(package.ecosystem);
        let entry = form.and_then(|form| self.shared_entry(&package.artifact.hashes, form));
        entry.ok_or_else(|| not_here(package))
    }

    fn remembered_entry(&self, name: &str, form: Form) -> Option<Arc<Entry>> {
        let look = || rustix::fs::statat(&self.index, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let before = look()?;
        if let Some(entry) = self.remembered.get(name, stamp(&before))
            && !entry::is_use_to_be_noted(&before)
        {
            return Some(entry);
        }
        let entry = Arc::new(entry::read(&self.index, name, form)?);
        // Reading it may have noted its use; what was replaced meanwhile has another stamp and is not remembered.
        if let Some(after) = look().filter(|after| after.st_ino == before.st_ino) {
            self.remembered.put(name, stamp(&after), &entry);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Object;
    use crate::store::entry::StoredFile;

    #[test]
    fn no_more_files_are_remembered_than_the_limit_says() {
        let entry = |files: usize| {
            let file = StoredFile {
                path: "a".into(),
                object: Object::of(b""),
                executable: false,
                windows_shebang: false,
            };
            let (name, version) = ("a".to_owned(), "1".to_owned());
            let files = vec![file; files];
            Arc::new(Entry { form: Form::Npm, name, version, warnings: Vec::new(), files })
        };
        let remembered = Remembered::default();
        let stamp = (1, 2, (3, 4), (5, 6));
        let small = entry(REMEMBERED_FILES_MAX / 2);
        for name in ["a", "b", "b"] {
            remembered.put(name, stamp, &small);
        }
        assert!(remembered.get("a", stamp).is_some() && remembered.get("b", stamp).is_some());
        assert!(remembered.get("a", (2, 2, (3, 4), (5, 6))).is_none(), "another file");
        remembered.put("c", stamp, &entry(1));
        assert!(remembered.get("a", stamp).is_none() && remembered.get("c", stamp).is_some());
        remembered.put("large", stamp, &entry(REMEMBERED_FILES_MAX + 1));
        assert!(remembered.get("large", stamp).is_none() && remembered.get("c", stamp).is_some());
        assert_eq!(remembered.held().files, 1);
    }
}
