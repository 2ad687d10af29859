//! The bytes of the directory: where the tables are, and each entry as words (PROTOCOL.md has the same as tables).
//!
//! Decoding takes any words. Not here: in which order words are stored and loaded (`writer`, `reader`).

use super::{AgentEntry, AgentState, ClassEntry, LaneEntry, LeftOut, MachineEntry, TopicEntry};
use crate::header::{AgentId, LaneId};
use crate::histogram::{BUCKETS, Histogram};
use crate::limits::{
    DIRECTORY_AGENTS_MAX, DIRECTORY_BYTES, DIRECTORY_CLASSES_MAX, DIRECTORY_LANES_MAX,
    DIRECTORY_TOPICS_MAX, SEGMENT_HEADER_BYTES, WORD_BYTES_MAX,
};

pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"BLDR");
pub(super) const VERSION: (u16, u16) = (1, 1);

// --- the header, in words

pub(super) const IDENTITY_AT: usize = 0;
pub(super) const BYTES_AT: usize = 1;
pub(super) const INSTANCE_AT: usize = 2;
pub(super) const PID_AT: usize = 3;
pub(super) const STARTED_AT: usize = 4;
/// Two words for each table.
pub(super) const TABLES_AT: usize = 8;
/// In a line of its own.
pub(super) const GENERATION_AT: usize = 24;
/// In lines of their own.
pub(super) const TOTALS_AT: usize = 32;
/// In lines of its own.
pub(super) const MACHINE_AT: usize = 40;
pub(super) const HEADER_WORDS: usize = SEGMENT_HEADER_BYTES / 8;

/// Where a table lies, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: usize,
    /// Of one entry, its version included.
    pub(super) entry: usize,
    pub(super) capacity: usize,
}

/// All four of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) agents: Place,
    pub(super) topics: Place,
    pub(super) lanes: Place,
    pub(super) classes: Place,
}

impl Place {
    const fn after(start: usize, entry: usize, capacity: usize) -> Self {
        Self { start, entry, capacity }
    }

    const fn end(self) -> usize {
        self.start + self.entry * self.capacity
    }

    /// u32 offset in bytes, u32 bytes of an entry, u32 capacity, u32 zero.
    pub(super) fn to_words(self) -> [u64; 2] {
        [(self.start * 8) as u64 | (self.entry as u64 * 8) << 32, self.capacity as u64]
    }

    /// The place that a header names, if it lies within the directory and its entries have at least `least` words.
    pub(super) fn from_words(words: [u64; 2], least: usize) -> Option<Self> {
        let (start, entry) = (words[0] as u32 as usize, (words[0] >> 32) as usize);
        let capacity = words[1] as u32 as usize;
        let aligned = start.is_multiple_of(8) && entry.is_multiple_of(8);
        // Each is under 2^32, so nothing overflows.
        let fits = start + entry.checked_mul(capacity)? <= DIRECTORY_BYTES;
        let sound = aligned && fits && start >= SEGMENT_HEADER_BYTES && entry / 8 >= least;
        sound.then_some(Self { start: start / 8, entry: entry / 8, capacity })
    }
}

/// Where this version puts them.
pub(super) const PLACES: Places = {
    let agents = Place::after(HEADER_WORDS, AGENT_WORDS, DIRECTORY_AGENTS_MAX);
    let topics = Place::after(agents.end(), TOPIC_WORDS, DIRECTORY_TOPICS_MAX);
    let lanes = Place::after(topics.end(), LANE_WORDS, DIRECTORY_LANES_MAX);
    let classes = Place::after(lanes.end(), CLASS_WORDS, DIRECTORY_CLASSES_MAX);
    Places { agents, topics, lanes, classes }
};
const _: () = assert!(PLACES.classes.end() * 8 <= DIRECTORY_BYTES, "the tables fit");
const _: () = assert!(TOTALS_AT + TOTALS_WORDS <= MACHINE_AT);
const _: () = assert!(MACHINE_AT + MACHINE_WORDS <= HEADER_WORDS);

/// An entry: its words after the version.
pub(super) trait Entry: Sized {
    /// With the version.
    const WORDS: usize;

    /// Fills the words after the version; `words` has `WORDS - 1`, all zero.
    fn encode(&self, words: &mut [u64]);

    /// Reads the words after the version, at least `WORDS - 1`. Nothing where they are no entry.
    fn decode(words: &[u64]) -> Option<Self>;
}

/// How much of the tables is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) refreshed_ns: u64,
    pub(super) agents: u32,
    pub(super) topics: u32,
    pub(super) lanes: u32,
    pub(super) classes: u32,
    pub(super) left_out: LeftOut,
}

pub(super) const TOTALS_WORDS: usize = 8;
pub(super) const MACHINE_WORDS: usize = 16;
const AGENT_WORDS: usize = 32;
const TOPIC_WORDS: usize = 32;
const LANE_WORDS: usize = 16;
const CLASS_WORDS: usize = 256;
/// Of an entry with a text, counted after the version.
const TEXT_AT: usize = 15;
const TEXT_WORDS: usize = WORD_BYTES_MAX / 8;
/// Of a class, counted after the version.
const COUNTS_AT: usize = 15;

const _: () = assert!(TEXT_AT + TEXT_WORDS < AGENT_WORDS && TEXT_AT + TEXT_WORDS < TOPIC_WORDS);
const _: () = assert!(COUNTS_AT + BUCKETS < CLASS_WORDS);

/// The largest entry, in words.
pub(super) const ENTRY_WORDS_MAX: usize = CLASS_WORDS;

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The text in `words`, cut to what fits; gives its length.
fn put_text(words: &mut [u64], text: &str) -> u64 {
    let mut end = text.len().min(WORD_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (index, byte) in text.as_bytes()[..end].iter().enumerate() {
        words[TEXT_AT + index / 8] |= u64::from(*byte) << (8 * (index % 8));
    }
    end as u64
}

fn take_text(words: &[u64], length: u32) -> Option<String> {
    let length = length as usize;
    if length > WORD_BYTES_MAX {
        return None;
    }
    let bytes = words[TEXT_AT..TEXT_AT + TEXT_WORDS].iter().flat_map(|word| word.to_le_bytes());
    let text = String::from_utf8(bytes.take(length).collect()).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

impl Entry for Totals {
    const WORDS: usize = TOTALS_WORDS;

    fn encode(&self, words: &mut [u64]) {
        words[0] = self.refreshed_ns;
        words[1] = pair(self.agents, self.topics);
        words[2] = pair(self.lanes, self.classes);
        words[3] = pair(self.left_out.agents, self.left_out.topics);
        words[4] = u64::from(self.left_out.lanes);
    }

    fn decode(words: &[u64]) -> Option<Self> {
        let (agents, topics, lanes) = (low(words[3]), high(words[3]), low(words[4]));
        Some(Self {
            refreshed_ns: words[0],
            agents: low(words[1]),
            topics: high(words[1]),
            lanes: low(words[2]),
            classes: high(words[2]),
            left_out: LeftOut { agents, topics, lanes },
        })
    }
}

impl Entry for MachineEntry {
    const WORDS: usize = MACHINE_WORDS;

    fn encode(&self, words: &mut [u64]) {
        let flags = [self.state, u8::from(self.heavy), self.background];
        let known = u8::from(self.millicelsius.is_some());
        words[0] = self.decided_ns;
        let flags = u32::from_le_bytes([flags[0], flags[1], flags[2], known]);
        words[1] = pair(flags, u32::from(self.pinning));
        words[2] = pair(self.slots[0], self.slots[1]);
        words[3] = u64::from(self.slots[2]);
        words[4] = self.millicelsius.unwrap_or_default() as u64;
        words[5] = pair(self.cpus[0], self.cpus[1]);
        words[6] = u64::from(self.cpus[2]);
        words[7] = pair(self.running[0], self.running[1]);
        words[8] = pair(self.running[2], self.running[3]);
        words[9] = pair(self.waiting[0], self.waiting[1]);
        words[10] = pair(self.waiting[2], self.waiting[3]);
        words[11] = pair(self.files, self.files_waiting[0]);
        words[12] = pair(self.files_waiting[1], self.files_waiting[2]);
        words[13] = pair(self.watch_deferred[0], self.watch_deferred[1]);
        words[14] = u64::from(self.watch_deferred[2]);
    }

    fn decode(words: &[u64]) -> Option<Self> {
        let [state, heavy, background, known] = low(words[1]).to_le_bytes();
        let [pinning, ..] = high(words[1]).to_le_bytes();
        (state != 0).then(|| Self {
            decided_ns: words[0],
            state,
            heavy: heavy == 1,
            background,
            slots: [low(words[2]), high(words[2]), low(words[3])],
            millicelsius: (known == 1).then_some(words[4] as i64),
            cpus: [low(words[5]), high(words[5]), low(words[6])],
            running: [low(words[7]), high(words[7]), low(words[8]), high(words[8])],
            waiting: [low(words[9]), high(words[9]), low(words[10]), high(words[10])],
            files: low(words[11]),
            files_waiting: [high(words[11]), low(words[12]), high(words[12])],
            watch_deferred: [low(words[13]), high(words[13]), low(words[14])],
            pinning,
        })
    }
}

impl AgentState {
    fn number(self) -> u32 {
        match self {
            Self::Other => 0,
            Self::Guest => 1,
            Self::Starting => 2,
            Self::Up => 3,
            Self::Waiting => 4,
            Self::Failed => 5,
            Self::Stopped => 6,
        }
    }

    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Guest,
            2 => Self::Starting,
            3 => Self::Up,
            4 => Self::Waiting,
            5 => Self::Failed,
            6 => Self::Stopped,
            _ => Self::Other,
        }
    }
}

impl Entry for AgentEntry {
    const WORDS: usize = AGENT_WORDS;

    fn encode(&self, words: &mut [u64]) {
        let length = put_text(words, &self.name);
        words[0] = pair(self.id.0, self.pid);
        words[1] = pair(self.uid, self.state.number());
        words[2] = pair(self.links, self.topics);
        words[3] = pair(self.subscriptions, length as u32);
        words[4] = self.sent;
        words[5] = self.received;
        words[6] = self.bytes_lent;
    }

    fn decode(words: &[u64]) -> Option<Self> {
        Some(Self {
            id: AgentId(low(words[0])),
            pid: high(words[0]),
            uid: low(words[1]),
            state: AgentState::from_number(high(words[1])),
            links: low(words[2]),
            topics: high(words[2]),
            subscriptions: low(words[3]),
            name: take_text(words, high(words[3]))?,
            sent: words[4],
            received: words[5],
            bytes_lent: words[6],
        })
    }
}

impl Entry for TopicEntry {
    const WORDS: usize = TOPIC_WORDS;

    fn encode(&self, words: &mut [u64]) {
        let length = put_text(words, &self.subject);
        words[0] = pair(self.lane.0, self.writer.0);
        words[1] = pair(if self.lossless { 1 } else { 2 }, length as u32);
        words[2] = pair(self.readers, self.announced);
        words[3] = self.messages;
        words[4] = self.bytes_lent;
        words[5] = self.rejected;
        words[6] = self.waits;
    }

    fn decode(words: &[u64]) -> Option<Self> {
        Some(Self {
            lane: LaneId(low(words[0])),
            writer: AgentId(high(words[0])),
            lossless: low(words[1]) == 1,
            subject: take_text(words, high(words[1]))?,
            readers: low(words[2]),
            announced: high(words[2]),
            messages: words[3],
            bytes_lent: words[4],
            rejected: words[5],
            waits: words[6],
        })
    }
}

impl Entry for LaneEntry {
    const WORDS: usize = LANE_WORDS;

    fn encode(&self, words: &mut [u64]) {
        let kind = if self.topic { 2 } else { 1 };
        words[0] = pair(self.lane.0, u32::from(self.class) | kind << 8);
        words[1] = pair(self.from.0, self.to.0);
        words[2] = self.messages;
        words[3] = self.bytes_lent;
        words[4] = self.rejected;
        words[5] = self.waits;
        words[6] = self.received;
        words[7] = self.lost;
        words[8] = pair(self.depth, self.slots);
        words[9] = self.timed;
        words[10] = self.p50_ns;
        words[11] = self.p99_ns;
        words[12] = self.p999_ns;
    }

    fn decode(words: &[u64]) -> Option<Self> {
        let what = high(words[0]);
        Some(Self {
            lane: LaneId(low(words[0])),
            class: what as u8,
            topic: (what >> 8) as u8 == 2,
            from: AgentId(low(words[1])),
            to: AgentId(high(words[1])),
            messages: words[2],
            bytes_lent: words[3],
            rejected: words[4],
            waits: words[5],
            received: words[6],
            lost: words[7],
            depth: low(words[8]),
            slots: high(words[8]),
            timed: words[9],
            p50_ns: words[10],
            p99_ns: words[11],
            p999_ns: words[12],
        })
    }
}

impl Entry for ClassEntry {
    const WORDS: usize = CLASS_WORDS;

    fn encode(&self, words: &mut [u64]) {
        words[0] = pair(self.class.into(), self.lanes);
        words[1] = self.messages;
        words[2] = self.rejected;
        words[3] = self.lost;
        words[4] = self.bytes_lent;
        words[5] = self.waits;
        words[6] = self.depth;
        words[7] = self.latency.sum_ns();
        words[COUNTS_AT..COUNTS_AT + BUCKETS].copy_from_slice(self.latency.counts());
    }

    fn decode(words: &[u64]) -> Option<Self> {
        let counts: [u64; BUCKETS] = words[COUNTS_AT..COUNTS_AT + BUCKETS].try_into().ok()?;
        Some(Self {
            class: low(words[0]) as u8,
            lanes: high(words[0]),
            messages: words[1],
            rejected: words[2],
            lost: words[3],
            bytes_lent: words[4],
            waits: words[5],
            depth: words[6],
            latency: Histogram::from_parts(counts, words[7]),
        })
    }
}
