//! What registries answered, kept on disk in a few packs ([`packs`]), never trusted to be whole.
//!
//! Of an answer a pack holds a header (the key and the validators), the archive that is read instead of the body where it can be (it
//! may be missing), and the body; where they begin, and when the answer was last confirmed, stands in the pack's index. The directory
//! is ours alone (0700), since answers may be private; the key is a hash of what was asked, of whom, and with which credential.

pub(crate) mod memory;
mod packs;
mod record;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use url::Url;

use self::packs::{Known, Own, Place};
use self::record::Record;
use super::http::Validators;
use super::limits::{DISK_BYTES_MAX, DISK_WRITES_PER_SWEEP, PACKS_PER_CACHE};
use super::secret::Credentials;

/// Header: a few validators; servers that send more get no revalidation.
const HEADER_BYTES_MAX: usize = 16 << 10;

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

/// What stands before a body, behind the key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Header {
    #[serde(flatten)]
    validators: Validators,
}

/// One stored answer, of which only the header was read.
#[derive(Debug)]
pub(crate) struct Stored {
    data: Arc<File>,
    record: Record,
    validators: Validators,
}

/// One stored answer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) validators: Validators,
    pub(crate) body: Vec<u8>,
}

impl Stored {
    pub(crate) fn validators(&self) -> &Validators {
        &self.validators
    }

    /// When it was last confirmed.
    pub(crate) fn confirmed(&self) -> SystemTime {
        self.record.confirmed
    }

    /// How old it is; an entry from the future (the clock was set back) is infinitely old.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.record.confirmed).unwrap_or(Duration::MAX)
    }

    /// The archive, whose own checksum tells whether it is whole.
    pub(crate) fn archive(&self) -> Option<Vec<u8>> {
        let length = self.record.archive_bytes;
        if length == 0 {
            return None;
        }
        self.part(u64::from(self.record.header_bytes), length)
    }

    /// The answer itself, if it is whole.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let start = u64::from(self.record.header_bytes) + u64::from(self.record.archive_bytes);
        let body = self.part(start, self.record.body_bytes)?;
        let is_whole = crc(&body) == self.record.body_crc;
        is_whole.then(|| Entry { validators: self.validators.clone(), body })
    }

    fn part(&self, start: u64, length: u32) -> Option<Vec<u8>> {
        read(&self.data, self.record.offset.checked_add(start)?, length)
    }
}

fn read(file: &File, start: u64, length: u32) -> Option<Vec<u8>> {
    // What is not there is not made room for.
    let end = start.checked_add(length.into())?;
    if length as usize > HEADER_BYTES_MAX && end > file.metadata().ok()?.len() {
        return None;
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, start).ok()?;
    Some(bytes)
}

/// The directory with the answers.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    bytes_max: u64,
    writes: AtomicU64,
    known: Mutex<Known>,
    /// The pack that is appended to, once something was. Locked before `known`.
    own: Mutex<Option<Own>>,
}

impl Disk {
    pub(crate) fn new(cache_dir: &Path) -> Self {
        Self::with_limit(cache_dir, DISK_BYTES_MAX)
    }

    fn with_limit(cache_dir: &Path, bytes_max: u64) -> Self {
        Self {
            directory: cache_dir.join("metadata"),
            bytes_max,
            writes: AtomicU64::new(0),
            known: Mutex::default(),
            own: Mutex::default(),
        }
    }

    /// Whether there may be an answer; waits for the disk only where something was written by others.
    pub(crate) fn has(&self, key: Key) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: Key) -> Option<Place> {
        let mut known = lock(&self.known);
        known.find(&self.directory, key).filter(|place| !place.record.is_gone).cloned()
    }

    /// The stored answer; whatever is damaged does not exist.
    pub(crate) fn open(&self, key: Key) -> Option<Stored> {
        let Place { record, data, .. } = self.find(key)?;
        if record.header_bytes as usize > key.0.len() + HEADER_BYTES_MAX {
            return None;
        }
        let header = read(&data, record.offset, record.header_bytes)?;
        if crc(&header) != record.header_crc {
            return None;
        }
        let header: Header = serde_json::from_slice(header.strip_prefix(&key.0)?).ok()?;
        Some(Stored { data, record, validators: header.validators })
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
        let mut header = key.0.to_vec();
        let written =
            serde_json::to_writer(&mut header, &Header { validators: validators.clone() });
        if written.is_err() || header.len() > key.0.len() + HEADER_BYTES_MAX {
            header.truncate(key.0.len());
            header.extend_from_slice(b"{}");
        }
        let bytes = |part: &[u8]| u32::try_from(part.len());
        let lengths = (bytes(&header), bytes(archive), bytes(body));
        let (Ok(header_bytes), Ok(archive_bytes), Ok(body_bytes)) = lengths else { return false };
        let now = SystemTime::now();
        let record = Record {
            key,
            is_gone: false,
            offset: 0,
            header_bytes,
            archive_bytes,
            body_bytes,
            header_crc: crc(&header),
            body_crc: crc(body),
            confirmed: confirmed.unwrap_or(now),
            written: now,
        };
        let is_first = self.append(record, Some([&header, archive, body]));
        let before = self.writes.fetch_add(1, Ordering::Relaxed);
        is_first || before % DISK_WRITES_PER_SWEEP == DISK_WRITES_PER_SWEEP - 1
    }

    /// Appends a line, and before it what it is about where that is not there yet. Whether a pack was made for it.
    fn append(&self, mut record: Record, parts: Option<[&[u8]; 3]>) -> bool {
        let mut held = lock(&self.own);
        let mut is_first = false;
        let mut append = || -> std::io::Result<Option<Place>> {
            let bytes_max = self.bytes_max / PACKS_PER_CACHE;
            if held.as_ref().is_none_or(|own| own.is_full(bytes_max)) {
                // Let go of first: others may have it now, to remove it.
                *held = None;
                *held = Own::take(&self.directory, bytes_max)?;
                is_first = held.as_ref().is_some_and(|own| own.is_new);
            }
            let Some(own) = held.as_mut() else { return Ok(None) };
            match parts {
                Some(parts) => own.append(&mut record, parts)?,
                None => own.note(&record)?,
            }
            Ok(Some(own.place(record)))
        };
        match append() {
            Ok(Some(place)) => lock(&self.known).take(place),
            Ok(None) => tracing::debug!("metadata is not kept: too many processes do"),
            Err(error) => {
                tracing::debug!(path = %self.directory.display(), %error, "cannot keep metadata");
                // What is half there the next owner of the pack passes over.
                *held = None;
            }
        }
        is_first
    }

    /// Marks an answer as confirmed now.
    pub(crate) fn confirm(&self, key: Key, now: SystemTime) {
        let Some(stored) = self.open(key) else { return };
        // Written anew, since only one process appends to a pack: what is in use moves to the youngest, and the oldest can go.
        let record = stored.record;
        let archive = stored.part(u64::from(record.header_bytes), record.archive_bytes);
        if let (Some(archive), Some(entry)) = (archive, stored.entry()) {
            self.write(key, &entry.validators, (&archive, &entry.body), Some(now));
        }
    }

    /// Forgets an answer.
    pub(crate) fn remove(&self, key: Key) {
        // Mostly it was not there.
        if self.has(key) {
            self.append(Record::gone(key), None);
        }
    }

    /// Removes the oldest answers until nine tenths of the limit are left.
    pub(crate) fn sweep(&self) {
        let mut own = lock(&self.own);
        if packs::bytes(&self.directory) > self.bytes_max {
            // It may be the one that goes.
            *own = None;
        }
        packs::sweep(&self.directory, self.bytes_max);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a private file so that readers see the old one or the new one, never a part. Not synced to the disk:
/// after a power loss it may be damaged, which readers notice.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    // Unique among the processes that share the directory, and among our threads.
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = directory.join(format!(".{}-{count}.new", std::process::id()));
    let write = || {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&temporary)?.write_all(bytes)?;
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
