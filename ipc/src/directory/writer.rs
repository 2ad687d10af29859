//! The router's side of the directory: rules 1 to 4.

use std::os::fd::{AsFd, BorrowedFd};

use super::format::{
    BYTES_AT, ENTRY_WORDS_MAX, Entry, GENERATION_AT, HEADER_WORDS, IDENTITY_AT, INSTANCE_AT,
    MACHINE_AT, MAGIC, PID_AT, PLACES, Place, STARTED_AT, TABLES_AT, TOTALS_AT, Totals, VERSION,
};
use super::seqlock;
use super::{LeftOut, MachineEntry, Picture, RouterEntry};
use crate::limits::DIRECTORY_BYTES;
use crate::segment::{SegmentError, Table};
use crate::sync::{AtomicU64, Ordering};

/// Writes the directory. One per router.
#[derive(Debug)]
pub struct Writer {
    table: Table,
    generation: u64,
    used: Totals,
}

impl Writer {
    /// A fresh directory, without entries.
    pub fn create(router: RouterEntry) -> Result<Self, SegmentError> {
        let table = Table::create()?;
        let words = table.words();
        let set = |index: usize, word: u64| words[index].store(word, Ordering::Relaxed);
        set(BYTES_AT, DIRECTORY_BYTES as u64);
        set(INSTANCE_AT, router.instance);
        set(PID_AT, router.pid.into());
        set(STARTED_AT, router.started_ns);
        let places = [PLACES.agents, PLACES.topics, PLACES.lanes, PLACES.classes];
        for (index, word) in places.into_iter().flat_map(Place::to_words).enumerate() {
            set(TABLES_AT + index, word);
        }
        let (major, minor) = VERSION;
        let version = u32::from(major) | u32::from(minor) << 16;
        // Handing the descriptor on through the kernel orders all this before anything that a reader reads.
        set(IDENTITY_AT, u64::from(MAGIC) | u64::from(version) << 32);
        Ok(Self { table, generation: 0, used: Totals::default() })
    }

    /// Shows this picture from now on. What there is no room for is counted in `left_out` by itself.
    pub fn refresh(&mut self, picture: &Picture) {
        let words = self.table.words();
        let generation = &words[GENERATION_AT];
        seqlock::begin_refresh(generation, self.generation);
        let (agents, agents_left) = put_all(words, PLACES.agents, &picture.agents);
        let (topics, topics_left) = put_all(words, PLACES.topics, &picture.topics);
        crate::fault::point("directory.half-written");
        let (lanes, lanes_left) = put_all(words, PLACES.lanes, &picture.lanes);
        let (classes, _) = put_all(words, PLACES.classes, &picture.classes);
        let before = picture.left_out;
        self.used = Totals {
            refreshed_ns: picture.refreshed_ns,
            agents,
            topics,
            lanes,
            classes,
            left_out: LeftOut {
                agents: before.agents.saturating_add(agents_left),
                topics: before.topics.saturating_add(topics_left),
                lanes: before.lanes.saturating_add(lanes_left),
            },
        };
        put(&words[TOTALS_AT..], &self.used);
        self.generation = seqlock::end_refresh(generation, self.generation);
    }

    /// Shows this of the machine from now on; no refresh, and costs nobody one.
    pub fn show_machine(&mut self, machine: &MachineEntry) {
        put(&self.table.words()[MACHINE_AT..], machine);
    }

    /// How often it was refreshed, times two.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The parts that are in use, header first: where in the directory, and the bytes. For a mirror.
    pub(super) fn for_each_part<E>(
        &self,
        mut give: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let used = self.used;
        let table = |place: Place, count: u32| (place.start, place.entry * count as usize);
        let parts = [
            (0, HEADER_WORDS),
            table(PLACES.agents, used.agents),
            table(PLACES.topics, used.topics),
            table(PLACES.lanes, used.lanes),
            table(PLACES.classes, used.classes),
        ];
        let mut bytes = Vec::new();
        for (start, count) in parts {
            bytes.clear();
            for word in &self.table.words()[start..start + count] {
                bytes.extend(word.load(Ordering::Relaxed).to_le_bytes());
            }
            give(start as u64 * 8, &bytes)?;
        }
        Ok(())
    }

    /// The memory that a hostile router would scribble in.
    #[cfg(test)]
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.table.words()
    }
}

impl AsFd for Writer {
    /// What is handed to readers; it can only be mapped for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }
}

/// Writes as many entries as there is room for; gives how many those are and how many are left.
fn put_all<T: Entry>(words: &[AtomicU64], place: Place, entries: &[T]) -> (u32, u32) {
    let shown = entries.len().min(place.capacity);
    for (index, entry) in entries[..shown].iter().enumerate() {
        put(&words[place.start + index * place.entry..], entry);
    }
    (shown as u32, u32::try_from(entries.len() - shown).unwrap_or(u32::MAX))
}

/// Rule 3.
fn put<T: Entry>(words: &[AtomicU64], entry: &T) {
    let mut fresh = [0; ENTRY_WORDS_MAX];
    let fresh = &mut fresh[..T::WORDS - 1];
    entry.encode(fresh);
    let (version, cells) = (&words[0], &words[1..T::WORDS]);
    let same = |(cell, word): (&AtomicU64, &u64)| cell.load(Ordering::Relaxed) == *word;
    if cells.iter().zip(&*fresh).all(same) {
        return;
    }
    seqlock::store(version, cells, fresh);
}
