//! What registries answered, kept on disk in a few packs ([`packs`]), never trusted to be whole.
//!
//! Of an answer a pack holds a header (the key and the validators), the archive that is read instead of the body where it can be (it
//! may be missing), and the body; where they begin, and when the answer was last confirmed, stands in the pack's index. The directory
//! is ours alone (0700), since answers may be private; the key is a hash of what was asked, of whom, and with which credentials.

pub(crate) mod memory;
mod packs;
mod record;

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use url::Url;

use self::packs::{Bounds, Files, Known, Lock, Own, Place};
use self::record::Record;
use super::http::Validators;
use super::limits::{
    DISK_BYTES_MAX, DISK_INDEX_BYTES_MAX, DISK_LOOK_INTERVAL, DISK_STALL, DISK_STALLED_FOR,
    DISK_WRITES_PER_SWEEP,
};
use super::secret::Credentials;

/// Header: a few validators; servers that send more get no revalidation.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// What was asked, of whom, with which credentials: a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key([u8; KEY_BYTES]);

const KEY_BYTES: usize = 32;

impl Key {
    /// The key of `what` (a name, a file's hash) of kind `kind` at `endpoint`, with every credential that somebody may be shown who is
    /// asked beneath it: one may be for a single package.
    pub(crate) fn new(
        kind: &str,
        endpoint: &Url,
        credentials: Option<&Credentials>,
        what: &str,
    ) -> Self {
        Self::of(&[kind.as_bytes(), what.as_bytes()], endpoint, credentials)
    }

    /// The same where this one is asked as well: what it says, and to whom, is part of the answer.
    pub(crate) fn and(self, endpoint: &Url, credentials: Option<&Credentials>) -> Self {
        Self::of(&[&self.0], endpoint, credentials)
    }

    fn of(what: &[&[u8]], endpoint: &Url, credentials: Option<&Credentials>) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut put = |part: &[u8]| {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        };
        what.iter().for_each(|part| put(part));
        put(endpoint.as_str().as_bytes());
        for (place, credential) in credentials.iter().flat_map(|all| all.beneath(endpoint)) {
            put(place.path().as_bytes());
            put(credential.key_bytes());
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
    key: Key,
    record: Record,
    files: Arc<Files>,
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

    /// All of it as it lies there, if it is whole.
    fn raw(&self) -> Option<Vec<u8>> {
        let Record { header_bytes, archive_bytes, body_bytes, body_crc, .. } = self.record;
        let before = header_bytes.checked_add(archive_bytes)?;
        let bytes = self.part(0, before.checked_add(body_bytes)?)?;
        (crc(bytes.get(before as usize..)?) == body_crc).then_some(bytes)
    }

    fn part(&self, start: u64, length: u32) -> Option<Vec<u8>> {
        read(&self.files.data, self.record.offset.checked_add(start)?, length)
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
    bounds: Bounds,
    look_interval: Duration,
    lock: Lock,
    writes: AtomicU64,
    /// Whether somebody will call [`Disk::rest`].
    pub(crate) will_rest: AtomicBool,
    known: Mutex<Known>,
    /// Locked before `known`.
    writer: Mutex<Writer>,
}

/// Who appends.
#[derive(Debug, Default)]
struct Writer {
    /// The pack that is appended to, once something was.
    own: Option<Own>,
    /// When there was none to be had, or it could not be written to: a thousand answers need not try it each.
    refused: Option<Instant>,
    /// When the disk kept somebody waiting who must not wait.
    stalled: Option<Instant>,
}

impl Writer {
    /// What was written at once took so long.
    fn note(&mut self, took: Duration, now: Instant) {
        if took >= DISK_STALL {
            self.stalled = Some(now);
        }
    }
}

/// An answer as it is written.
struct Form<'a> {
    key: Key,
    header: Vec<u8>,
    archive: &'a [u8],
    body: &'a [u8],
    record: Record,
}

impl<'a> Form<'a> {
    /// Nothing for what is larger than a line can say.
    fn new(
        key: Key,
        validators: &Validators,
        (archive, body): (&'a [u8], &'a [u8]),
        confirmed: SystemTime,
    ) -> Option<Self> {
        let mut header = key.0.to_vec();
        let written =
            serde_json::to_writer(&mut header, &Header { validators: validators.clone() });
        if written.is_err() || header.len() > key.0.len() + HEADER_BYTES_MAX {
            header.truncate(key.0.len());
            header.extend_from_slice(b"{}");
        }
        let bytes = |part: &[u8]| u32::try_from(part.len()).ok();
        let record = Record {
            is_gone: false,
            offset: 0,
            header_bytes: bytes(&header)?,
            archive_bytes: bytes(archive)?,
            body_bytes: bytes(body)?,
            header_crc: crc(&header),
            body_crc: crc(body),
            confirmed,
            written: 0,
        };
        Some(Self { key, header, archive, body, record })
    }

    fn append(&self, own: &mut Own, written: u64) -> std::io::Result<()> {
        let mut parts = [&self.header, self.archive, self.body].map(IoSlice::new);
        own.append(self.key, Record { written, ..self.record }, &mut parts)
    }
}

impl Disk {
    pub(crate) fn new(cache_dir: &Path) -> Self {
        let bounds = Bounds { bytes_max: DISK_BYTES_MAX, index_bytes_max: DISK_INDEX_BYTES_MAX };
        Self::with(cache_dir, bounds, DISK_LOOK_INTERVAL, packs::flock)
    }

    fn with(cache_dir: &Path, bounds: Bounds, look_interval: Duration, lock: Lock) -> Self {
        Self {
            directory: cache_dir.join("metadata"),
            bounds,
            look_interval,
            lock,
            writes: AtomicU64::new(0),
            will_rest: AtomicBool::new(false),
            known: Mutex::default(),
            writer: Mutex::default(),
        }
    }

    /// Whether there may be an answer. Never waits for the disk, nor for whoever does: where it is not known there may be one, and
    /// [`Disk::open`] tells.
    pub(crate) fn has(&self, key: Key) -> bool {
        let Ok(known) = self.known.try_lock() else { return true };
        // Whoever reads or writes looks anew after one interval, so while a cold cache is filled it is known here.
        !known.is_recent(self.look_interval.saturating_mul(2)) || known.find(key).is_some()
    }

    /// The stored answer; whatever is damaged does not exist.
    pub(crate) fn open(&self, key: Key) -> Option<Stored> {
        let Place { record, files } = self.known().find(key)?;
        if record.header_bytes as usize > key.0.len() + HEADER_BYTES_MAX {
            return None;
        }
        let header = read(&files.data, record.offset, record.header_bytes)?;
        if crc(&header) != record.header_crc {
            return None;
        }
        let header: Header = serde_json::from_slice(header.strip_prefix(&key.0)?).ok()?;
        Some(Stored { key, record, files, validators: header.validators })
    }

    /// What is known, with what others have written until lately.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = lock(&self.known);
        known.look(&self.directory, self.look_interval);
        known
    }

    /// Keeps an answer that came now. Failing to costs only time later, so it is logged and not reported. Whether it is time to
    /// [`Disk::sweep`].
    pub(crate) fn write(&self, key: Key, validators: &Validators, parts: (&[u8], &[u8])) -> bool {
        let form = Form::new(key, validators, parts, SystemTime::now());
        form.is_some_and(|form| self.append(key, None, |own, written| form.append(own, written)))
    }

    /// The same for who must not wait, neither for others nor for a disk that made somebody wait lately: a small answer, into the pack
    /// that there is. Nothing where it was not written so.
    pub(crate) fn write_at_once(
        &self,
        key: Key,
        validators: &Validators,
        parts: (&[u8], &[u8]),
    ) -> Option<bool> {
        let mut writer = self.writer.try_lock().ok()?;
        let mut known = self.known.try_lock().ok()?;
        let is_stalled = writer.stalled.is_some_and(|it| it.elapsed() < DISK_STALLED_FOR);
        // What others wrote is looked for by who may wait.
        if is_stalled || !known.is_recent(self.look_interval) {
            return None;
        }
        let own = writer.own.as_mut().filter(|own| !own.is_full(self.bounds))?;
        let form = Form::new(key, validators, parts, SystemTime::now())?;
        let began = Instant::now();
        let written = own.stands(&self.directory).then(|| {
            form.append(own, known.next(key))?;
            known.follow(&self.directory, own);
            Ok(())
        });
        writer.note(began.elapsed(), Instant::now());
        match written? {
            Ok(()) => Some(self.is_time_to_sweep()),
            Err(error) => {
                self.refuse(&mut writer, &error);
                Some(false)
            }
        }
    }

    /// Keeps an answer in another form, confirmed at that time, unless there is a later one. Whether it is time to [`Disk::sweep`].
    pub(crate) fn rewrite(
        &self,
        stored: &Stored,
        parts: (&[u8], &[u8]),
        confirmed: SystemTime,
    ) -> bool {
        let form = Form::new(stored.key, &stored.validators, parts, confirmed);
        form.is_some_and(|form| {
            self.append(stored.key, Some(stored), |own, written| form.append(own, written))
        })
    }

    /// Marks an answer as confirmed now, unless there is a later one. Whether it is time to [`Disk::sweep`].
    pub(crate) fn confirm(&self, stored: &Stored, now: SystemTime) -> bool {
        let Stored { key, record, files, .. } = stored;
        self.append(*key, Some(stored), |own, written| {
            let record = Record { confirmed: now, written, ..*record };
            if own.is(files) {
                return own.note(*key, record);
            }
            // What is in use moves to the youngest pack, and the oldest can go.
            match stored.raw() {
                Some(bytes) => own.append(*key, record, &mut [IoSlice::new(&bytes)]),
                None => Ok(()),
            }
        })
    }

    /// Forgets an answer, also where nothing can be written.
    pub(crate) fn remove(&self, key: Key) {
        // Mostly it was not there.
        if self.known().find(key).is_none() {
            return;
        }
        let mut is_noted = false;
        self.append(key, None, |own, written| {
            own.note(key, Record::gone(written)).inspect(|()| is_noted = true)
        });
        if is_noted {
            return;
        }
        // A full disk has room for what takes none.
        let mut known = lock(&self.known);
        let spoiled = known.spot(key).map(|(number, at)| packs::spoil(&self.directory, number, at));
        if let Some(Err(error)) = spoiled {
            tracing::debug!(path = %self.directory.display(), %error, "cannot forget what is gone");
        }
        known.lose(key);
    }

    /// Appends what `job` does, which is told when it is written. Not where there is a later answer than the one that it is about, as far as
    /// one can know: another process may be writing it now. Whether it is time to [`Disk::sweep`].
    fn append(
        &self,
        key: Key,
        before: Option<&Stored>,
        job: impl FnOnce(&mut Own, u64) -> std::io::Result<()>,
    ) -> bool {
        let mut writer = lock(&self.writer);
        if writer.refused.is_some_and(|refused| refused.elapsed() < self.look_interval) {
            return false;
        }
        let own = &mut writer.own;
        let mut is_first = false;
        let append = || -> std::io::Result<()> {
            let taken = self.take(own);
            // Where none is to be had, there may be too many.
            is_first = own.is_none() || taken.as_ref().is_ok_and(|is_new| *is_new);
            taken?;
            let Some(own) = own.as_mut() else {
                return Err(std::io::Error::other("too many processes keep metadata here"));
            };
            let mut known = self.known();
            if let Some(Stored { record, files, .. }) = before {
                known.look(&self.directory, Duration::ZERO);
                if !known.counts(key, record, files) {
                    return Ok(());
                }
            }
            let written = known.next(key);
            drop(known);
            job(own, written)?;
            lock(&self.known).follow(&self.directory, own);
            Ok(())
        };
        match append() {
            Ok(()) => writer.refused = None,
            Err(error) => self.refuse(&mut writer, &error),
        }
        self.is_time_to_sweep() || is_first
    }

    /// Lets go of a pack that could not be written to, or was not to be had.
    fn refuse(&self, writer: &mut Writer, error: &std::io::Error) {
        tracing::debug!(path = %self.directory.display(), %error, "cannot keep metadata");
        (writer.own, writer.refused) = (None, Some(Instant::now()));
    }

    /// Counts what was written.
    fn is_time_to_sweep(&self) -> bool {
        let count = self.writes.fetch_add(1, Ordering::Relaxed);
        count % DISK_WRITES_PER_SWEEP == DISK_WRITES_PER_SWEEP - 1
    }

    /// Takes a pack where there is none, it is full, or somebody removed it. Whether it was made for this.
    fn take(&self, own: &mut Option<Own>) -> std::io::Result<bool> {
        let is_good = |own: &Own| !own.is_full(self.bounds) && own.stands(&self.directory);
        if own.as_ref().is_some_and(is_good) {
            return Ok(false);
        }
        // Let go of first: others may have it now, to remove it.
        *own = None;
        *own = Own::take(&self.directory, self.bounds, self.lock)?;
        let Some(own) = own else { return Ok(false) };
        self.known().follow(&self.directory, own);
        Ok(own.is_new)
    }

    /// Removes the oldest answers until nine tenths of the limit are left. Others write meanwhile.
    pub(crate) fn sweep(&self) {
        packs::remove_single_files(&self.directory);
        packs::sweep(&self.directory, self.bounds, self.lock);
    }

    /// Lets go of all files, and forgets what lies where, unless it was asked for within that time; for a process that has nothing to do.
    /// Whether it did.
    pub(crate) fn rest(&self, idle_for: Duration) -> bool {
        // Who holds either is not idle.
        let (Ok(mut writer), Ok(mut known)) = (self.writer.try_lock(), self.known.try_lock())
        else {
            return false;
        };
        let is_idle = !known.is_recent(idle_for);
        if is_idle {
            (*writer, *known) = (Writer::default(), Known::default());
        }
        is_idle
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
