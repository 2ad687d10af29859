//! Archives of packages that a change or its undoing takes, by their digests, in the state directory. Not a cache: what is
//! here is what makes the way back certain.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ring::digest;

use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::limits::{SYSTEM_FILE_BYTES_MAX, SYSTEM_FILE_UNUSED_FOR};
use crate::transaction::make_private;

/// Makes names of what is under way differ between threads; orders nothing.
static MADE: AtomicU64 = AtomicU64::new(0);

/// What names of archives end with.
const KINDS: [&str; 3] = ["deb", "rpm", "pkg"];

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    kind: &'static str,
}

impl Files {
    /// Those in the directory `state` of ours.
    pub(crate) fn open(state: &Path) -> Result<Self> {
        Self::open_for(state, KINDS[0])
    }

    /// The same for another kind of archives, one of [`KINDS`].
    pub(super) fn open_for(state: &Path, kind: &'static str) -> Result<Self> {
        let directory = state.join("archives");
        make_private(&directory)?;
        Ok(Self { directory, kind })
    }

    /// Where the archive with a digest lies.
    pub(crate) fn path(&self, sha256: &str) -> PathBuf {
        self.directory.join(format!("{sha256}.{}", self.kind))
    }

    /// Whether it lies there whole. What does not is removed.
    pub(crate) fn has(&self, sha256: &str) -> Result<bool> {
        let path = self.path(sha256);
        match digest_of(&path) {
            Ok(found) if found == sha256 => {
                // Fresh, so that nobody tidies it up before the transaction that needs it is written down.
                let file = File::open(&path).map_err(|error| Error::io("read", &path, &error))?;
                let _ = file.set_modified(SystemTime::now());
                Ok(true)
            }
            Ok(_) => {
                let removed = std::fs::remove_file(&path);
                removed.map(|()| false).map_err(|error| Error::io("remove", &path, &error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("read", &path, &error)),
        }
    }

    /// A name that nobody else uses.
    fn fresh(&self) -> PathBuf {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let fresh = self.directory.join(format!("new-{}-{number}", std::process::id()));
        // A process of this number may have died here.
        let _ = std::fs::remove_file(&fresh);
        let _ = std::fs::remove_dir_all(&fresh);
        fresh
    }

    /// An empty directory to fetch into, which goes with the answer.
    pub(crate) fn scratch(&self) -> Result<Scratch> {
        let fresh = self.fresh();
        let made = std::fs::DirBuilder::new().mode(0o700).create(&fresh);
        made.map_err(|error| Error::io("create", &fresh, &error))?;
        Ok(Scratch(fresh))
    }

    /// Writes a small file as a whole.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<()> {
        let fresh = self.fresh();
        let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, path));
        written.map_err(|error| Error::io("write", path, &error))
    }

    /// Takes a copy of a file; its digest. The copy is on the device when this returns.
    pub(crate) fn adopt(&self, from: &Path) -> Result<String> {
        let failed = |error: io::Error| Error::io("copy", from, &error);
        let mut source = File::open(from).map_err(failed)?;
        if source.metadata().map_err(failed)?.len() > SYSTEM_FILE_BYTES_MAX {
            let message =
                format!("`{}` is larger than {SYSTEM_FILE_BYTES_MAX} bytes", from.display());
            return Err(Error::new(Kind::Failed, "archive-too-large", message));
        }
        let fresh = self.fresh();
        let mut options = File::options();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut target =
            options.open(&fresh).map_err(|error| Error::io("write", &fresh, &error))?;
        let written = io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
        let sha256 = written.and_then(|()| digest_of(&fresh)).map_err(failed)?;
        let path = self.path(&sha256);
        let moved =
            std::fs::rename(&fresh, &path).and_then(|()| File::open(&self.directory)?.sync_all());
        moved.map(|()| sha256).map_err(|error| Error::io("write", &path, &error))
    }

    /// Takes everything that lies in a directory; its bytes. What it is, its digest says.
    pub(super) fn adopt_all(&self, place: &Path) -> Result<u64> {
        let failed = |error: io::Error| Error::io("read", place, &error);
        let mut bytes = 0;
        for entry in std::fs::read_dir(place).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let about = entry.metadata().map_err(failed)?;
            if about.is_file() {
                self.adopt(&entry.path())?;
                bytes += about.len();
            }
        }
        Ok(bytes)
    }

    /// Removes what no digest of these names and nobody has used for a while.
    pub(crate) fn keep_only(&self, needed: &BTreeSet<String>) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.rsplit_once('.'));
            let digest = digest.filter(|(_, kind)| KINDS.contains(kind)).map(|(digest, _)| digest);
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            let is_needed = digest.is_some_and(|digest| needed.contains(digest));
            if is_needed || age <= SYSTEM_FILE_UNUSED_FOR {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }
}

/// A directory that is removed when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed as something that nobody uses.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The SHA-256 of a file in lower-case hexadecimal.
pub(super) fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(context.finish().as_ref())),
            Ok(count) => context.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_found_by_its_digest_and_a_damaged_one_is_not() {
        let state = tempfile::tempdir().unwrap();
        let files = Files::open(state.path()).unwrap();
        let source = state.path().join("source");
        std::fs::write(&source, b"package").unwrap();
        let sha256 = files.adopt(&source).unwrap();
        assert!(files.has(&sha256).unwrap());
        std::fs::write(files.path(&sha256), b"other").unwrap();
        assert!(!files.has(&sha256).unwrap());
        assert!(!files.path(&sha256).exists());
    }

    #[test]
    fn only_what_nobody_needs_goes_and_not_at_once() {
        let state = tempfile::tempdir().unwrap();
        let files = Files::open(state.path()).unwrap();
        let adopt = |text: &str, age: std::time::Duration| {
            let source = state.path().join("source");
            std::fs::write(&source, text).unwrap();
            let sha256 = files.adopt(&source).unwrap();
            let file = File::open(files.path(&sha256)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
            sha256
        };
        let old = 2 * SYSTEM_FILE_UNUSED_FOR;
        let (needed, stale) = (adopt("needed", old), adopt("stale", old));
        let fresh = adopt("fresh", std::time::Duration::ZERO);
        files.keep_only(&BTreeSet::from([needed.clone()])).unwrap();
        let is_there = |sha256: &String| files.path(sha256).exists();
        assert!(is_there(&needed) && is_there(&fresh) && !is_there(&stale));
    }
}
