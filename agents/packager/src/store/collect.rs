//! Removing from the store what nobody needs any more. What is complete goes only when nobody else has
//! the store open.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use super::{Store, entry};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::metadata::Hashes;
use crate::store::Form;

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes every artefact that is not in `keep`, and unfinished files of processes that died.
    /// Refused with `store-busy` while another process has the store open.
    pub fn collect(&self, keep: &[(Hashes, Form)]) -> Result<Freed> {
        let _alone = self.in_use.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            // The attempt may have given the shared lock up; take it again before anything else.
            self.lock_shared()?;
            return Err(Error::new(Kind::Refused, "store-busy", "another process uses the store")
                .hint("try again when nothing is being installed")
                .retryable());
        }
        let freed = self.collect_alone(keep);
        self.lock_shared()?;
        freed
    }

    fn lock_shared(&self) -> Result<()> {
        rustix::fs::flock(&self.lock, FlockOperation::LockShared)
            .map_err(|error| Error::io("lock", &self.root.join("lock"), &error.into()))
    }

    fn collect_alone(&self, keep: &[(Hashes, Form)]) -> Result<Freed> {
        let mut entries = HashSet::new();
        let mut objects = HashSet::new();
        for (hashes, form) in keep {
            entries.extend(entry::names(hashes, *form));
            let entry = self.entry(hashes, *form);
            objects
                .extend(entry.iter().flat_map(|entry| &entry.files).map(|file| file.object.name()));
        }
        let mut freed = Freed::default();
        // Entries first: an entry whose files are gone would be damage, files without an entry are
        // only garbage.
        remove_unlisted(&self.root.join("index"), &entries, &mut freed)?;
        remove_unlisted(&self.root.join("files"), &objects, &mut freed)?;
        self.remove_unfinished(&mut freed)?;
        Ok(freed)
    }

    /// Removes unfinished files of processes that died. Needs no exclusive use: who is at work has younger ones.
    pub fn remove_abandoned(&self) -> Result<Freed> {
        let mut freed = Freed::default();
        self.remove_unfinished(&mut freed)?;
        Ok(freed)
    }

    fn remove_unfinished(&self, freed: &mut Freed) -> Result<()> {
        let directory = self.root.join("tmp");
        let age = Duration::from_secs(limits::STORE_TEMPORARY_AGE_SECONDS_MAX);
        for path in list(&directory)? {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let old = metadata
                .modified()
                .ok()
                .and_then(|time| SystemTime::now().duration_since(time).ok());
            if old.is_some_and(|old| old > age) {
                remove(&path, freed)?;
            }
        }
        Ok(())
    }
}

fn remove_unlisted(directory: &Path, keep: &HashSet<String>, freed: &mut Freed) -> Result<()> {
    for folder in list(directory)? {
        for path in list(&folder)? {
            let name = path.strip_prefix(directory).ok().and_then(Path::to_str);
            if !name.is_some_and(|name| keep.contains(name)) {
                remove(&path, freed)?;
            }
        }
    }
    Ok(())
}

fn list(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let error = |error: std::io::Error| Error::io("read the directory", directory, &error);
    fs::read_dir(directory)
        .map_err(error)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(error))
        .collect()
}

fn remove(path: &Path, freed: &mut Freed) -> Result<()> {
    let size = path.symlink_metadata().map(|metadata| metadata.len()).unwrap_or(0);
    fs::remove_file(path).map_err(|error| Error::io("remove", path, &error))?;
    freed.files += 1;
    freed.bytes += size;
    Ok(())
}
