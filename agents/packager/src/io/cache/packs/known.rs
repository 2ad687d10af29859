//! What a process knows of all packs: which answer lies where. It comes from the indexes only, also what the process has appended itself,
//! so there is one way in which a line is learnt, and none in which one is learnt and forgotten.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxBuildHasher;

use super::own::Own;
use super::{Identity, MAGIC, data_path, index_path, numbers, options};
use crate::io::cache::record::{RECORD_BYTES, Record, nanoseconds};
use crate::io::cache::{KEY_BYTES, Key};
use crate::io::limits::{DISK_INDEX_BYTES_READ_MAX, INDEX_LINES_AT_ONCE};

/// The files of a pack. While they are open no other file is taken for them.
#[derive(Debug)]
pub(in crate::io::cache) struct Files {
    index: File,
    pub(in crate::io::cache) data: File,
    pub(super) identity: Identity,
}

/// Where an answer lies.
#[derive(Debug)]
pub(in crate::io::cache) struct Place {
    pub(in crate::io::cache) record: Record,
    pub(in crate::io::cache) files: Arc<Files>,
}

/// What is known of all packs.
#[derive(Debug, Default)]
pub(in crate::io::cache) struct Known {
    lines: Lines,
    packs: BTreeMap<u32, Pack>,
    looked: Option<Instant>,
}

/// The line that counts of each answer, and the pack that it stands in.
type Lines = HashMap<Key, (Record, u32), FxBuildHasher>;

/// A pack that is read.
#[derive(Debug)]
struct Pack {
    files: Arc<Files>,
    /// Bytes of the index that were read.
    read: u64,
}

impl Known {
    /// Where the answer to `key` lies, if there is one.
    pub(in crate::io::cache) fn find(&self, key: Key) -> Option<Place> {
        let (record, number) = *self.lines.get(&key)?;
        let files = Arc::clone(&self.packs.get(&number)?.files);
        (!record.is_gone).then_some(Place { record, files })
    }

    /// The pack that it lies in, and where in it.
    pub(in crate::io::cache) fn spot(&self, key: Key) -> Option<(u32, u64)> {
        let (record, number) = self.lines.get(&key)?;
        (!record.is_gone).then_some((*number, record.offset))
    }

    /// What a line about it says of when it was written, if that is now: after what is known, whatever the clock says. It was wrong when
    /// that was written, or is now.
    pub(in crate::io::cache) fn next(&self, key: Key) -> u64 {
        let after = self.lines.get(&key).map(|(record, _)| record.written.saturating_add(1));
        nanoseconds(SystemTime::now()).max(after.unwrap_or_default())
    }

    /// Whether anything is known of it.
    #[cfg(test)]
    pub(in crate::io::cache) fn has_line(&self, key: Key) -> bool {
        self.lines.contains_key(&key)
    }

    /// Whether that is what is known, and not a later one.
    pub(in crate::io::cache) fn counts(&self, key: Key, record: &Record, files: &Files) -> bool {
        self.find(key)
            .is_some_and(|place| place.record == *record && place.files.identity == files.identity)
    }

    /// Whether it was looked for what others have written within that time.
    pub(in crate::io::cache) fn is_recent(&self, age_max: Duration) -> bool {
        self.looked.is_some_and(|looked| looked.elapsed() < age_max)
    }

    /// Learns what others have written. Not more often than is needed to be of use to a process that runs for days.
    pub(in crate::io::cache) fn look(&mut self, directory: &Path, interval: Duration) {
        if self.is_recent(interval) {
            return;
        }
        let mut standing = BTreeMap::new();
        for number in numbers(directory) {
            if let Ok(status) = index_path(directory, number).symlink_metadata() {
                standing.insert(number, (Identity::of(&status), status.len()));
            }
        }
        let is_there = |number: u32, pack: &Pack| {
            // No owner cuts an index. If somebody else did, what was read of it is not there any more.
            standing.get(&number).is_some_and(|(identity, length)| {
                *identity == pack.files.identity && *length >= pack.read
            })
        };
        let gone = self.packs.iter().filter(|(number, pack)| !is_there(**number, pack));
        let gone: Vec<u32> = gone.map(|(number, _)| *number).collect();
        self.forget(&gone);
        for (number, (_, length)) in standing {
            if self.packs.contains_key(&number) || self.open(directory, number, None) {
                self.read_to(number, length);
            }
        }
        self.looked = Some(Instant::now());
    }

    /// An answer is not there any more, though nobody could write that down.
    pub(in crate::io::cache) fn lose(&mut self, key: Key) {
        if let Some((record, _)) = self.lines.get_mut(&key) {
            *record = Record::gone(record.written);
        }
    }

    /// Learns what this process has appended, or has found in the pack that it has taken.
    pub(in crate::io::cache) fn follow(&mut self, directory: &Path, own: &Own) {
        let (number, identity) = (own.number, own.identity);
        if self.packs.get(&number).is_none_or(|pack| pack.files.identity != identity) {
            self.forget(&[number]);
            self.open(directory, number, Some(identity));
        }
        self.read_to(number, own.index_bytes);
    }

    /// Takes what is known of packs that went.
    fn forget(&mut self, gone: &[u32]) {
        let before = self.packs.len();
        self.packs.retain(|number, _| !gone.contains(number));
        if self.packs.len() == before {
            return;
        }
        self.lines.retain(|_, (_, number)| !gone.contains(number));
        self.lines.shrink_to(2 * self.lines.len());
    }

    /// Whether a pack of this form is there, and is that one.
    fn open(&mut self, directory: &Path, number: u32, wanted: Option<Identity>) -> bool {
        let open = || {
            let index = options().open(index_path(directory, number)).ok()?;
            let data = options().open(data_path(directory, number)).ok()?;
            let identity = Identity::of(&index.metadata().ok()?);
            let mut magic = [0; MAGIC.len()];
            index.read_exact_at(&mut magic, 0).ok()?;
            let is_it = magic == *MAGIC && wanted.is_none_or(|wanted| wanted == identity);
            is_it.then_some(Files { index, data, identity })
        };
        let Some(files) = open() else { return false };
        self.packs.insert(number, Pack { files: Arc::new(files), read: MAGIC.len() as u64 });
        true
    }

    /// Reads the lines of an index that are new, up to that length.
    fn read_to(&mut self, number: u32, length: u64) {
        const LINE: u64 = RECORD_BYTES as u64;
        let read: u64 = self.packs.values().map(|pack| pack.read).sum();
        let Self { lines, packs, .. } = self;
        let Some(pack) = packs.get_mut(&number) else { return };
        let room = DISK_INDEX_BYTES_READ_MAX.saturating_sub(read);
        let mut left = length.saturating_sub(pack.read).min(room) / LINE;
        let mut bytes = vec![0; RECORD_BYTES * (left as usize).min(INDEX_LINES_AT_ONCE)];
        while left > 0 {
            let count = left.min(INDEX_LINES_AT_ONCE as u64);
            let bytes = &mut bytes[..count as usize * RECORD_BYTES];
            if pack.files.index.read_exact_at(bytes, pack.read).is_err() {
                return;
            }
            (pack.read, left) = (pack.read + count * LINE, left - count);
            for (key, record) in bytes.as_chunks().0.iter().filter_map(Record::decode) {
                learn(lines, key, record, number);
            }
        }
    }
}

/// Where the answers lie that would count again if those packs went: the lines that supersede them stand there.
pub(super) fn outlasting(directory: &Path, going: &[u32]) -> Vec<(u32, u64)> {
    if going.is_empty() {
        return Vec::new();
    }
    let read = |number: u32| {
        let mut known = Known::default();
        let index = index_path(directory, number).symlink_metadata();
        if known.open(directory, number, None) {
            known.read_to(number, index.map_or(0, |status| status.len()));
        }
        known.lines
    };
    let mut last: HashMap<Key, u64, FxBuildHasher> = HashMap::default();
    for (key, (record, _)) in going.iter().flat_map(|number| read(*number)) {
        let written = last.entry(key).or_default();
        *written = record.written.max(*written);
    }
    let mut found = Vec::new();
    for number in numbers(directory).into_iter().filter(|number| !going.contains(number)) {
        let older = read(number).into_iter().filter(|(key, (record, _))| {
            !record.is_gone && last.get(key).is_some_and(|last| record.written < *last)
        });
        found.extend(older.map(|(_, (record, number))| (number, record.offset)));
    }
    found.sort_unstable();
    found
}

/// Damages the answer that lies there, so that nobody finds it: where nothing can be appended, or an older one must not count again.
/// It is not an owner's work: whatever lies there by now, what is damaged does not exist, and can be fetched.
pub(in crate::io::cache) fn spoil(directory: &Path, number: u32, offset: u64) -> Result<()> {
    let data = options().write(true).open(data_path(directory, number))?;
    let end = offset.saturating_add(KEY_BYTES as u64);
    if end > data.metadata()?.len() {
        return Ok(());
    }
    data.write_all_at(&[0; KEY_BYTES], offset)
}

/// Takes what a line says, unless a later one has said something else.
fn learn(lines: &mut Lines, key: Key, record: Record, number: u32) {
    let is_later =
        |(before, its): &(Record, u32)| *its == number || before.written <= record.written;
    if lines.get(&key).is_none_or(is_later) {
        // What is gone stays as a line of its own: an older one that is read after it must not count.
        lines.insert(key, (record, number));
    }
}
