//! A tool's side of the directory: rules 3 and 5. Nothing here writes, and nothing is believed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use thiserror::Error;

use super::format::{
    BYTES_AT, ENTRY_WORDS_MAX, Entry, GENERATION_AT, IDENTITY_AT, INSTANCE_AT, MACHINE_AT, MAGIC,
    PID_AT, Place, Places, STARTED_AT, TABLES_AT, TOTALS_AT, Totals, VERSION,
};
use super::seqlock;
use super::{AgentEntry, ClassEntry, LaneEntry, MachineEntry, Picture, RouterEntry, TopicEntry};
use crate::limits::{DIRECTORY_BYTES, DIRECTORY_PASSES_MAX, DIRECTORY_RETRIES_MAX};
use crate::segment::{SegmentError, Table};
use crate::sync::{AtomicU64, Ordering};

/// Why memory is no directory.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// The segment was refused.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Another structure, or another version of it.
    #[error("this is no directory that can be read: magic {magic:#010x}, version {major}")]
    Identity {
        /// Its magic.
        magic: u32,
        /// Its major version.
        major: u16,
    },
    /// Its header contradicts its size.
    #[error("the directory's header is broken: {what}")]
    Header {
        /// In what.
        what: &'static str,
    },
}

/// Reads a directory that a router handed over.
#[derive(Debug)]
pub struct Reader {
    table: Table,
    places: Places,
}

impl Reader {
    /// Checks and maps a received directory.
    pub fn open(descriptor: OwnedFd) -> Result<Self, DirectoryError> {
        let table = Table::open(descriptor)?;
        let places = places(table.words())?;
        Ok(Self { table, places })
    }

    /// The picture of now. Tries a bounded number of times to get all of it from one refresh.
    pub fn read(&self) -> Picture {
        let words = self.table.words();
        for _ in 1..DIRECTORY_PASSES_MAX {
            let picture = read(words, &self.places);
            if picture.whole {
                return picture;
            }
            std::thread::yield_now();
        }
        read(words, &self.places)
    }

    /// The machine alone: some loads, for who decides by it. Nothing where the router does not know, or writes for ever.
    pub fn machine(&self) -> Option<MachineEntry> {
        entry(&self.table.words()[MACHINE_AT..])
    }

    /// The generation alone: it changes with every refresh.
    pub fn generation(&self) -> u64 {
        self.table.words()[GENERATION_AT].load(Ordering::Relaxed)
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }
}

/// Checks a header; gives where the tables are. `words` has `DIRECTORY_BYTES / 8`.
pub(super) fn places(words: &[AtomicU64]) -> Result<Places, DirectoryError> {
    let get = |index: usize| words[index].load(Ordering::Relaxed);
    let identity = get(IDENTITY_AT);
    let (magic, major) = (identity as u32, (identity >> 32) as u16);
    if magic != MAGIC || major != VERSION.0 {
        return Err(DirectoryError::Identity { magic, major });
    }
    if get(BYTES_AT) != DIRECTORY_BYTES as u64 {
        return Err(DirectoryError::Header { what: "its size" });
    }
    let place = |index: usize, least: usize, what: &'static str| {
        let at = TABLES_AT + 2 * index;
        let place = Place::from_words([get(at), get(at + 1)], least);
        place.ok_or(DirectoryError::Header { what })
    };
    Ok(Places {
        agents: place(0, AgentEntry::WORDS, "the place of the agents")?,
        topics: place(1, TopicEntry::WORDS, "the place of the topics")?,
        lanes: place(2, LaneEntry::WORDS, "the place of the lanes")?,
        classes: place(3, ClassEntry::WORDS, "the place of the classes")?,
    })
}

/// One pass over everything.
pub(super) fn read(words: &[AtomicU64], places: &Places) -> Picture {
    let get = |index: usize| words[index].load(Ordering::Relaxed);
    let generation = seqlock::begin_picture(&words[GENERATION_AT]);
    let mut picture = Picture {
        router: RouterEntry {
            instance: get(INSTANCE_AT),
            pid: get(PID_AT) as u32,
            started_ns: get(STARTED_AT),
        },
        generation,
        ..Picture::default()
    };
    let Some(totals) = entry::<Totals>(&words[TOTALS_AT..]) else {
        picture.unreadable = 1;
        return picture;
    };
    (picture.refreshed_ns, picture.left_out) = (totals.refreshed_ns, totals.left_out);
    let unreadable = &mut picture.unreadable;
    picture.agents = entries(words, places.agents, totals.agents, unreadable);
    picture.topics = entries(words, places.topics, totals.topics, unreadable);
    picture.lanes = entries(words, places.lanes, totals.lanes, unreadable);
    picture.classes = entries(words, places.classes, totals.classes, unreadable);
    picture.machine = entry(&words[MACHINE_AT..]);
    picture.whole = seqlock::is_of_one_refresh(&words[GENERATION_AT], generation);
    picture
}

/// The first `count` entries of a table, as far as it has so many and they can be read.
fn entries<T: Entry>(
    words: &[AtomicU64],
    place: Place,
    count: u32,
    unreadable: &mut usize,
) -> Vec<T> {
    let count = place.capacity.min(count as usize);
    let mut found = Vec::with_capacity(count);
    for index in 0..count {
        match entry(&words[place.start + index * place.entry..]) {
            Some(entry) => found.push(entry),
            None => *unreadable += 1,
        }
    }
    found
}

/// One consistent entry.
fn entry<T: Entry>(words: &[AtomicU64]) -> Option<T> {
    let mut copied = [0; ENTRY_WORDS_MAX];
    let copied = &mut copied[..T::WORDS - 1];
    for _ in 0..DIRECTORY_RETRIES_MAX {
        if seqlock::load(&words[0], &words[1..T::WORDS], copied) {
            return T::decode(copied);
        }
        std::hint::spin_loop();
    }
    None
}
