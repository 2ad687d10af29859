//! The files that answers are kept in: packs, to which answers are appended, each with an index of where they lie.
//!
//! To make a file costs more than to write a small answer into one, and a cold resolution writes a thousand. So a process appends to
//! one pack, which is its own for as long as it holds a lock on the index; another process takes another one. An answer is written
//! before the line about it, so whoever is killed leaves bytes that nobody finds, or a line that is cut and is taken off by the next
//! owner. Nothing is synced: after a power loss anything may be missing or damaged, so a line has a checksum, and so has what it is
//! about, with the key in it, lest a line that outlived its answer finds another one in its place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustc_hash::FxBuildHasher;
use rustix::fs::FlockOperation;

use super::Key;
use super::record::{RECORD_BYTES, Record};
use crate::io::limits::{DISK_LOOK_INTERVAL, PACK_INDEX_BYTES_MAX, PACKS_MAX};

/// What an index begins with; one that begins otherwise is another build's, and is left alone until it is swept away.
const MAGIC: &[u8; 32] = b"bolide metadata packs, form 1 \r\n";

/// Where an answer lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) record: Record,
    pub(super) data: Arc<File>,
    number: u32,
}

/// What is known of all packs.
#[derive(Debug, Default)]
pub(super) struct Known {
    places: HashMap<Key, Place, FxBuildHasher>,
    packs: HashMap<u32, Pack>,
    looked: Option<Instant>,
}

/// A pack that is read.
#[derive(Debug)]
struct Pack {
    index: File,
    data: Arc<File>,
    /// Bytes of the index that were read.
    read: u64,
}

impl Known {
    /// Where the answer to `key` lies, and whether there is one.
    pub(super) fn find(&mut self, directory: &Path, key: Key) -> Option<&Place> {
        self.look(directory);
        self.places.get(&key)
    }

    /// Learns what others have written. Not more often than is needed to be of use to a process that runs for days.
    fn look(&mut self, directory: &Path) {
        if self.looked.is_some_and(|looked| looked.elapsed() < DISK_LOOK_INTERVAL) {
            return;
        }
        let numbers = numbers(directory);
        self.packs.retain(|number, pack| {
            numbers.contains(number) && is_at(&pack.index, &index_path(directory, *number))
        });
        let packs = &self.packs;
        self.places.retain(|_, place| {
            packs.get(&place.number).is_some_and(|pack| Arc::ptr_eq(&pack.data, &place.data))
        });
        for number in numbers {
            if !self.packs.contains_key(&number)
                && let Some(pack) = Pack::open(directory, number)
            {
                self.packs.insert(number, pack);
            }
            self.read(number);
        }
        self.looked = Some(Instant::now());
    }

    /// Reads the lines of an index that are new.
    fn read(&mut self, number: u32) {
        let Some(pack) = self.packs.get_mut(&number) else { return };
        let length = pack.index.metadata().map_or(0, |metadata| metadata.len());
        let length = length.min(PACK_INDEX_BYTES_MAX).saturating_sub(pack.read);
        let length = length - length % RECORD_BYTES as u64;
        let mut bytes = vec![0; length as usize];
        if length == 0 || pack.index.read_exact_at(&mut bytes, pack.read).is_err() {
            return;
        }
        pack.read += length;
        let data = Arc::clone(&pack.data);
        let (lines, _) = bytes.as_chunks::<RECORD_BYTES>();
        for record in lines.iter().filter_map(Record::decode) {
            self.take(Place { record, data: Arc::clone(&data), number });
        }
    }

    /// Takes what a line says, unless a later one has said something else.
    pub(super) fn take(&mut self, place: Place) {
        let key = place.record.key;
        let is_later = |before: &Place| {
            before.number == place.number || before.record.written <= place.record.written
        };
        if self.places.get(&key).is_none_or(is_later) {
            // What is gone stays as a line of its own: an older one that is read after it must not count.
            self.places.insert(key, place);
        }
    }
}

impl Pack {
    fn open(directory: &Path, number: u32) -> Option<Self> {
        let open = |path: PathBuf| File::options().read(true).custom_flags(no_link()).open(path);
        let index = open(index_path(directory, number)).ok()?;
        let data = open(data_path(directory, number)).ok()?;
        let mut magic = [0; MAGIC.len()];
        index.read_exact_at(&mut magic, 0).ok()?;
        (magic == *MAGIC).then(|| Self { index, data: Arc::new(data), read: MAGIC.len() as u64 })
    }
}

/// The pack that this process appends to.
#[derive(Debug)]
pub(super) struct Own {
    number: u32,
    /// Locked.
    index: File,
    index_bytes: u64,
    data: Arc<File>,
    data_bytes: u64,
    /// Whether its files were made for this.
    pub(super) is_new: bool,
}

impl Own {
    /// The first pack that nobody else appends to and that is below `bytes_max`.
    pub(super) fn take(directory: &Path, bytes_max: u64) -> std::io::Result<Option<Self>> {
        if !directory.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        for number in 0..PACKS_MAX {
            if let Some(own) = Self::lock(directory, number)?
                && !own.is_full(bytes_max)
            {
                return Ok(Some(own));
            }
        }
        Ok(None)
    }

    /// Whether no more is to be appended.
    pub(super) fn is_full(&self, bytes_max: u64) -> bool {
        self.data_bytes >= bytes_max
            || self.index_bytes + RECORD_BYTES as u64 > PACK_INDEX_BYTES_MAX
    }

    fn lock(directory: &Path, number: u32) -> std::io::Result<Option<Self>> {
        let path = index_path(directory, number);
        let open = |path: &Path| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.mode(0o600).custom_flags(no_link()).open(path)
        };
        let mut index = open(&path)?;
        if rustix::fs::flock(&index, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // Whoever sweeps holds the lock while it removes the files, so from now on they stay.
        if !is_at(&index, &path) {
            return Ok(None);
        }
        let mut magic = [0; MAGIC.len()];
        let length = index.metadata()?.len();
        let is_new = length < MAGIC.len() as u64;
        if is_new {
            index.set_len(0)?;
            index.write_all(MAGIC)?;
        } else {
            index.read_exact_at(&mut magic, 0)?;
            if magic != *MAGIC {
                return Ok(None);
            }
        }
        let lines = length.saturating_sub(MAGIC.len() as u64);
        let index_bytes = MAGIC.len() as u64 + lines - lines % RECORD_BYTES as u64;
        // A line that was cut when its writer ended.
        index.set_len(index_bytes)?;
        index.seek(SeekFrom::Start(index_bytes))?;
        let mut data = open(&data_path(directory, number))?;
        if is_new {
            // What is left of a pack whose removal broke off.
            data.set_len(0)?;
        }
        let data_bytes = data.seek(SeekFrom::End(0))?;
        let data = Arc::new(data);
        Ok(Some(Self { number, index, index_bytes, data, data_bytes, is_new }))
    }

    /// Appends an answer and the line about it; `record` is told where it lies.
    pub(super) fn append(&mut self, record: &mut Record, parts: [&[u8]; 3]) -> std::io::Result<()> {
        record.offset = self.data_bytes;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        write_all(&self.data, parts)?;
        self.data_bytes += length as u64;
        self.note(record)
    }

    /// Appends a line.
    pub(super) fn note(&mut self, record: &Record) -> std::io::Result<()> {
        self.index.write_all(&record.encode())?;
        self.index_bytes += RECORD_BYTES as u64;
        Ok(())
    }

    /// Where what was appended here lies.
    pub(super) fn place(&self, record: Record) -> Place {
        Place { record, data: Arc::clone(&self.data), number: self.number }
    }
}

fn write_all(mut file: &File, parts: [&[u8]; 3]) -> std::io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let written = file.write_vectored(left)?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

/// Removes the packs that nothing was appended to for longest, until nine tenths of the limit are left; never one that a process appends
/// to. And what earlier builds kept here, in a file for each answer.
pub(super) fn sweep(directory: &Path, bytes_max: u64) {
    remove_single_files(directory);
    let mut packs: Vec<(SystemTime, u64, u32)> = Vec::new();
    for number in numbers(directory) {
        let Ok(index) = index_path(directory, number).symlink_metadata() else { continue };
        let data = data_path(directory, number).symlink_metadata().map_or(0, |data| data.len());
        let modified = index.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        packs.push((modified, index.len() + data, number));
    }
    let mut total: u64 = packs.iter().map(|(_, size, _)| size).sum();
    if total <= bytes_max {
        return;
    }
    packs.sort_unstable();
    for (_, size, number) in packs {
        if total <= bytes_max / 10 * 9 {
            break;
        }
        if remove(directory, number).unwrap_or(false) {
            total -= size;
        }
    }
}

/// Bytes of all packs.
pub(super) fn bytes(directory: &Path) -> u64 {
    let length = |path: PathBuf| path.symlink_metadata().map_or(0, |metadata| metadata.len());
    let both =
        |number| length(index_path(directory, number)) + length(data_path(directory, number));
    numbers(directory).into_iter().map(both).sum()
}

/// Whether it could be removed: nobody appends to it.
fn remove(directory: &Path, number: u32) -> std::io::Result<bool> {
    let path = index_path(directory, number);
    let index = File::options().write(true).custom_flags(no_link()).open(&path)?;
    if rustix::fs::flock(&index, FlockOperation::NonBlockingLockExclusive).is_err()
        || !is_at(&index, &path)
    {
        return Ok(false);
    }
    // Should this end in between, no line is left that is about another pack of that number.
    index.set_len(0)?;
    std::fs::remove_file(data_path(directory, number))?;
    std::fs::remove_file(path)?;
    Ok(true)
}

fn remove_single_files(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_one = name.len() == 2 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
        if is_one && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // What is left of it the next sweep removes.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The packs that there are.
fn numbers(directory: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let number: u32 = name.to_str()?.strip_suffix(INDEX)?.parse().ok()?;
        (number < PACKS_MAX).then_some(number)
    };
    entries.filter_map(number).collect()
}

/// How the name of an index ends.
const INDEX: &str = ".index";

pub(super) fn index_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number}{INDEX}"))
}

pub(super) fn data_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number}.pack"))
}

/// Whether an open file is what stands at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(one), Ok(other)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// What stands at the end of a path is opened only if it is no link.
fn no_link() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits() as i32
}
