//! What registries answered, kept on disk: one file per answer, written atomically, never trusted to be whole.
//!
//! A file holds a magic line, the length of a header, the header (JSON), the archive that is read instead of the body
//! where it can be (it may be missing), and the body. Its time of modification is when the answer was last confirmed. The directory is ours alone (0700), since answers may be private; the
//! file's name is a hash of what was asked, of whom, and with which credential.

pub(crate) mod memory;

use crate::hex::hex;
use std::fs::{File, FileTimes};
use std::io::{IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use url::Url;

use super::http::Validators;
use super::limits::{DISK_BYTES_MAX, DISK_WRITES_PER_SWEEP, PACKUMENT_BYTES_MAX};
use super::secret::Credentials;

const MAGIC: &[u8] = b"bolide metadata 2\n";
/// Header: a few validators; servers that send more get no revalidation.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// What is read at first: the header of nearly all answers.
const HEADER_BYTES_USUAL: usize = 1 << 10;
/// An entry with both of its forms.
const ENTRY_BYTES_MAX: u64 = 2 * (PACKUMENT_BYTES_MAX + HEADER_BYTES_MAX) as u64;

/// What was asked, of whom, with which credential: a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of `what` (a name, a file's hash) of kind `kind` at `endpoint`.
    pub(crate) fn new(
        kind: &str,
        endpoint: &Url,
        credentials: Option<&Credentials>,
        what: &str,
    ) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let credential = credentials.and_then(|credentials| credentials.for_url(endpoint));
        let credential = credential.map_or(&b""[..], |(_, credential)| credential.key_bytes());
        for part in [kind.as_bytes(), endpoint.as_str().as_bytes(), credential, what.as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What stands before a body.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Header {
    #[serde(flatten)]
    pub(crate) validators: Validators,
    archive_bytes: u64,
    body_bytes: u64,
    body_crc: u32,
}

/// One stored answer, of which only the header was read.
#[derive(Debug)]
pub(crate) struct Stored {
    file: File,
    header: Header,
    /// Where the archive begins in the file.
    start: u64,
    confirmed: SystemTime,
}

/// One stored answer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) validators: Validators,
    pub(crate) body: Vec<u8>,
}

impl Stored {
    pub(crate) fn validators(&self) -> &Validators {
        &self.header.validators
    }

    /// When it was last confirmed.
    pub(crate) fn confirmed(&self) -> SystemTime {
        self.confirmed
    }

    /// How old it is; an entry from the future (the clock was set back) is infinitely old.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.confirmed).unwrap_or(Duration::MAX)
    }

    /// The archive, whose own checksum tells whether it is whole.
    pub(crate) fn archive(&self) -> Option<Vec<u8>> {
        if self.header.archive_bytes == 0 {
            return None;
        }
        self.part(self.start, self.header.archive_bytes)
    }

    /// The answer itself, if it is whole.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let body = self.part(self.start + self.header.archive_bytes, self.header.body_bytes)?;
        let is_whole = crc(&body) == self.header.body_crc;
        is_whole.then(|| Entry { validators: self.header.validators.clone(), body })
    }

    fn part(&self, start: u64, length: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.file.read_exact_at(&mut bytes, start).ok()?;
        Some(bytes)
    }
}

/// The directory with the answers.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    bytes_max: u64,
    writes: AtomicU64,
}

impl Disk {
    pub(crate) fn new(cache_dir: &Path) -> Self {
        Self::with_limit(cache_dir, DISK_BYTES_MAX)
    }

    fn with_limit(cache_dir: &Path, bytes_max: u64) -> Self {
        Self { directory: cache_dir.join("metadata"), bytes_max, writes: AtomicU64::new(0) }
    }

    fn path(&self, key: Key) -> PathBuf {
        let name = hex(&key.0);
        self.directory.join(&name[..2]).join(&name[2..])
    }

    /// Whether there may be an answer; does not wait for more than the directory.
    pub(crate) fn has(&self, key: Key) -> bool {
        self.path(key).exists()
    }

    /// The stored answer; whatever is damaged does not exist.
    pub(crate) fn open(&self, key: Key) -> Option<Stored> {
        let file = File::open(self.path(key)).ok()?;
        let metadata = file.metadata().ok()?;
        let mut bytes = [0; HEADER_BYTES_USUAL];
        let got = file.read_at(&mut bytes, 0).ok()?;
        let rest = bytes[..got].strip_prefix(MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let begin = MAGIC.len() + 4;
        let header: Header = match rest.get(..length) {
            Some(text) => serde_json::from_slice(text).ok()?,
            None if length <= HEADER_BYTES_MAX => {
                let mut text = vec![0; length];
                file.read_exact_at(&mut text, begin as u64).ok()?;
                serde_json::from_slice(&text).ok()?
            }
            None => return None,
        };
        let start = (begin + length) as u64;
        let end = start.checked_add(header.archive_bytes)?.checked_add(header.body_bytes)?;
        let is_whole = end == metadata.len() && end <= ENTRY_BYTES_MAX;
        let confirmed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        is_whole.then_some(Stored { file, header, start, confirmed })
    }

    /// Keeps an answer, confirmed at that time. Failing to costs only time later, so it is logged and not reported. Whether it is time
    /// to [`Disk::sweep`].
    pub(crate) fn write(
        &self,
        key: Key,
        validators: &Validators,
        (archive, body): (&[u8], &[u8]),
        confirmed: Option<SystemTime>,
    ) -> bool {
        let header = Header {
            validators: validators.clone(),
            archive_bytes: archive.len() as u64,
            body_bytes: body.len() as u64,
            body_crc: crc(body),
        };
        let Ok(mut text) = serde_json::to_vec(&header) else { return false };
        if text.len() > HEADER_BYTES_MAX {
            let without = Header { validators: Validators::default(), ..header };
            text = serde_json::to_vec(&without).unwrap_or_default();
        }
        let length = (text.len() as u32).to_le_bytes();
        let path = self.path(key);
        let parts: &[&[u8]] = &[MAGIC, &length, &text, archive, body];
        if let Err(error) = write_atomically_at(&path, parts, confirmed) {
            tracing::debug!(path = %path.display(), %error, "cannot keep metadata");
        }
        self.writes.fetch_add(1, Ordering::Relaxed) % DISK_WRITES_PER_SWEEP
            == DISK_WRITES_PER_SWEEP - 1
    }

    /// Marks an answer as confirmed now.
    pub(crate) fn confirm(&self, key: Key, now: SystemTime) {
        let file = File::options().write(true).open(self.path(key));
        let result = file.and_then(|file| file.set_times(FileTimes::new().set_modified(now)));
        if let Err(error) = result {
            tracing::debug!(%error, "cannot mark metadata as confirmed");
        }
    }

    /// Forgets an answer.
    pub(crate) fn remove(&self, key: Key) {
        // Mostly it was not there.
        let _ = std::fs::remove_file(self.path(key));
    }

    /// Removes the oldest answers until nine tenths of the limit are left.
    pub(crate) fn sweep(&self) {
        let mut files = Vec::new();
        let Ok(directories) = std::fs::read_dir(&self.directory) else { return };
        for directory in directories.flatten() {
            let Ok(entries) = std::fs::read_dir(directory.path()) else { continue };
            for entry in entries.flatten() {
                if let Ok(metadata) = entry.metadata() {
                    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.push((modified, metadata.len(), entry.path()));
                }
            }
        }
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        if total <= self.bytes_max {
            return;
        }
        files.sort();
        for (_, size, path) in files {
            if total <= self.bytes_max / 10 * 9 {
                break;
            }
            if std::fs::remove_file(&path).is_ok() {
                total -= size;
            }
        }
    }
}

/// Writes a private file so that readers see the old one or the new one, never a part. Not synced to the disk:
/// after a power loss it may be damaged, which readers notice.
pub(crate) fn write_atomically(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    write_atomically_at(path, parts, None)
}

/// The same with a time of modification of its own.
fn write_atomically_at(
    path: &Path,
    parts: &[&[u8]],
    modified: Option<SystemTime>,
) -> std::io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    // Unique among the processes that share the directory, and among our threads.
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = directory.join(format!(".{}-{count}.new", std::process::id()));
    let write = || {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let written = file.write_vectored(left)?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        if let Some(modified) = modified {
            file.set_times(FileTimes::new().set_modified(modified))?;
        }
        std::fs::rename(&temporary, path)
    };
    let result = write();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests;
