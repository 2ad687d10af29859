//! Artefacts as they were downloaded, kept where other hosts are to have them, or this one after damage. Never needed: each can be
//! fetched again. Who reads one compares its digest.

use std::fs::{DirBuilder, File, FileTimes};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agents_contract::Cancellation;

use super::Store;
use crate::error::{Error, Result};
use crate::limits::STORE_USE_NOTED_AFTER;
use crate::metadata::Hashes;

/// Which digest names an artefact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256, 64 digits.
    Sha256,
    /// SHA-512, 128 digits.
    Sha512,
}

impl Algorithm {
    /// The name in addresses.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl Store {
    /// Moves the file of an artefact, which was verified, into the store.
    pub fn keep_archive(&self, hashes: &Hashes, from: &Path) -> Result<()> {
        let Some(to) =
            name_of(hashes).and_then(|(algorithm, digest)| self.place(algorithm, digest))
        else {
            return Ok(());
        };
        let _use = self.gate.enter(Cancellation::NEVER)?;
        if let Some(folder) = to.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| Error::io("create the directory", folder, &error))?;
        }
        std::fs::rename(from, &to).map_err(|error| Error::io("create", &to, &error))
    }

    /// An artefact that was kept. Its digest was right when it came; whoever takes it compares it.
    pub fn archive(&self, hashes: &Hashes) -> Option<File> {
        let (algorithm, digest) = name_of(hashes)?;
        self.archive_by(algorithm, digest)
    }

    /// The same by a digest in lower-case hexadecimal; anything else names nothing.
    pub fn archive_by(&self, algorithm: Algorithm, digest: &str) -> Option<File> {
        let path = self.place(algorithm, digest)?;
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let file = File::options().read(true).custom_flags(no_link).open(path).ok()?;
        let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
        let now = SystemTime::now();
        let age = metadata.modified().ok().and_then(|last| now.duration_since(last).ok());
        if age.is_none_or(|age| age >= STORE_USE_NOTED_AFTER) {
            // Who may not write it only looks.
            let _ = file.set_times(FileTimes::new().set_modified(now));
        }
        Some(file)
    }

    /// Removes one that is not what it should be.
    pub fn forget_archive(&self, hashes: &Hashes) {
        let place = name_of(hashes).and_then(|(algorithm, digest)| self.place(algorithm, digest));
        if let Some(path) = place {
            // What cannot be removed is found to be damaged again.
            let _ = std::fs::remove_file(path);
        }
    }

    fn place(&self, algorithm: Algorithm, digest: &str) -> Option<PathBuf> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_digest = digest.len() == algorithm.digits() && digest.bytes().all(is_digit);
        let name = || format!("{}-{}", algorithm.name(), &digest[2..]);
        is_digest.then(|| self.root.join("archives").join(&digest[..2]).join(name()))
    }
}

/// The one digest by which an artefact is known: the longest that its registry gives, the same on every host.
fn name_of(hashes: &Hashes) -> Option<(Algorithm, &str)> {
    match hashes {
        Hashes { sha512: Some(digest), .. } => Some((Algorithm::Sha512, digest)),
        Hashes { sha256: Some(digest), .. } => Some((Algorithm::Sha256, digest)),
        Hashes { sha512: None, sha256: None } => None,
    }
}
