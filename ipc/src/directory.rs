//! The bus directory: who is on the bus, what lanes and topics there are and how they fare, for tools that look on.
//!
//! One writer, the router; its memory is a sealed segment that it hands to whoever asks, who maps it for reading. A reader
//! touches nothing: no message, no lock, no line that an agent writes. A mirror of the same bytes in a named file is for
//! tools that have no socket ([`Mirror`]). PROTOCOL.md has the bytes.
//!
//! Rules of who may touch which word when:
//! 1. Only the router writes. The header is written before the segment is handed on and, but for the generation, never again.
//! 2. The generation (of all but the machine, which is written by itself) is odd while a refresh is under way. The router stores the odd value before the first word of a refresh
//!    and the even one after the last.
//! 3. Every entry has a version of its own, odd while the entry is written: store it odd, release fence, store the words,
//!    store it even with release. A reader loads it with acquire, loads the words, makes an acquire fence and loads it again;
//!    the words count only if it was even and is the same. An entry whose words would not change is not written.
//! 4. How many entries of each table are in use stands in the totals, an entry too. Those beyond hold what was there before.
//! 5. A reader believes nothing: offsets and sizes are checked against the size of the file, texts are checked, and every
//!    loop is bounded.
//!
//! Not here: who asks for a refresh and when (`runtime`).

use crate::header::{AgentId, LaneId};
use crate::histogram::Histogram;

mod format;
mod mirror;
mod reader;
mod seqlock;
#[cfg(test)]
mod tests;
mod writer;

pub use mirror::{Mirror, MirrorError, MirrorWriter, NAME_FILE};
pub use reader::{DirectoryError, Reader};
pub use writer::Writer;

/// The bus at one time, as far as the directory shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// The router that it is of.
    pub router: RouterEntry,
    /// Even; grows by two with each refresh. The writer ignores it.
    pub generation: u64,
    /// When this was so, nanoseconds since 1970.
    pub refreshed_ns: u64,
    /// Whether all of it is of one refresh. If not, each entry still is. The writer ignores it.
    pub whole: bool,
    /// Entries that a reader gave up: always being written, or no entry. The writer ignores it.
    pub unreadable: usize,
    /// What did not fit.
    pub left_out: LeftOut,
    /// By id.
    pub agents: Vec<AgentEntry>,
    /// By lane.
    pub topics: Vec<TopicEntry>,
    /// One for each pair of writer and reader, by lane.
    pub lanes: Vec<LaneEntry>,
    /// One for each class that has been used.
    pub classes: Vec<ClassEntry>,
    /// What the router's machine allows; nothing where the router does not know. The writer takes it by itself.
    pub machine: Option<MachineEntry>,
}

/// What may run, and what the machine is like. Numbers of states and reasons are PROTOCOL.md's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineEntry {
    /// When this was decided, on the monotonic clock that all processes of a machine share.
    pub decided_ns: u64,
    /// The thermal state, from 1.
    pub state: u8,
    /// Whether heavy work may begin.
    pub heavy: bool,
    /// Where background work may begin.
    pub background: u8,
    /// Slots on performance, efficient and low-power cores.
    pub slots: [u32; 3],
    /// The package's temperature in thousandths of a degree Celsius, where it is known.
    pub millicelsius: Option<i64>,
    /// CPUs of each class.
    pub cpus: [u32; 3],
    /// Pieces that run in hosted agents, by lane.
    pub running: [u32; 4],
    /// Requests that wait in hosted agents, by reason.
    pub waiting: [u32; 4],
    /// Files from networks that hosted agents are fetching.
    pub files: u32,
    /// Files that wait to be fetched: because others are, because of heat, because nobody knows how hot it is.
    pub files_waiting: [u32; 3],
    /// Changes in watched projects that wait: for heat, until it is known how hot it is, for their turn.
    pub watch_deferred: [u32; 3],
    /// How workers are to be held to classes of cores: 1 unless processors are contended, 2 not at all, 3 whatever happens; 0 is not said.
    pub pinning: u8,
}

/// The router itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterEntry {
    /// Random per start.
    pub instance: u64,
    /// Its process.
    pub pid: u32,
    /// When it started, nanoseconds since 1970.
    pub started_ns: u64,
}

/// How many entries there was no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Agents.
    pub agents: u32,
    /// Topics.
    pub topics: u32,
    /// Lanes.
    pub lanes: u32,
}

/// How an agent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgentState {
    /// Something that a later version knows.
    #[default]
    Other,
    /// On the bus; came by itself.
    Guest,
    /// Hosted, not on the bus yet.
    Starting,
    /// Hosted, on the bus.
    Up,
    /// Hosted, ended, started again after a while.
    Waiting,
    /// Hosted, ended too often.
    Failed,
    /// Hosted, ended with the router.
    Stopped,
}

/// An agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentEntry {
    /// 0 for a hosted agent that is not on the bus.
    pub id: AgentId,
    /// Its process; 0 for none.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// How it is.
    pub state: AgentState,
    /// At most `WORD_BYTES_MAX` bytes.
    pub name: String,
    /// Links that it has.
    pub links: u32,
    /// Topics that it writes.
    pub topics: u32,
    /// Patterns that it wants.
    pub subscriptions: u32,
    /// Messages that it sent since it came.
    pub sent: u64,
    /// Messages that it took.
    pub received: u64,
    /// Bytes that it lent.
    pub bytes_lent: u64,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicEntry {
    /// Its lane.
    pub lane: LaneId,
    /// Who writes it.
    pub writer: AgentId,
    /// Whether its writer waits for its readers.
    pub lossless: bool,
    /// At most `WORD_BYTES_MAX` bytes.
    pub subject: String,
    /// How many read it.
    pub readers: u32,
    /// How many know of it.
    pub announced: u32,
    /// Messages.
    pub messages: u64,
    /// Bytes lent.
    pub bytes_lent: u64,
    /// Messages refused because it was full.
    pub rejected: u64,
    /// How often its writer waited.
    pub waits: u64,
}

/// One direction between a writer and a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneEntry {
    /// The link or topic.
    pub lane: LaneId,
    /// The number of its [`Class`].
    pub class: u8,
    /// Whether it is a topic's.
    pub topic: bool,
    /// Who writes.
    pub from: AgentId,
    /// Who reads.
    pub to: AgentId,
    /// Messages sent.
    pub messages: u64,
    /// Bytes lent.
    pub bytes_lent: u64,
    /// Messages refused because it was full.
    pub rejected: u64,
    /// How often the writer waited.
    pub waits: u64,
    /// Messages taken.
    pub received: u64,
    /// Positions lost.
    pub lost: u64,
    /// Lines between writer and reader.
    pub depth: u32,
    /// Lines that there is room for.
    pub slots: u32,
    /// How many messages said when they were sent.
    pub timed: u64,
    /// Their one-way time: median, 99th and 99.9th of a hundred, in nanoseconds; 0 where there were none.
    pub p50_ns: u64,
    /// As above.
    pub p99_ns: u64,
    /// As above.
    pub p999_ns: u64,
}

/// What one class has carried since the router started, lanes that ended included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassEntry {
    /// The number of its [`Class`].
    pub class: u8,
    /// Lanes now.
    pub lanes: u32,
    /// Lines between writers and readers now.
    pub depth: u64,
    /// Messages sent.
    pub messages: u64,
    /// Messages refused because a lane was full.
    pub rejected: u64,
    /// Positions that readers of topics lost.
    pub lost: u64,
    /// Bytes lent.
    pub bytes_lent: u64,
    /// How often a writer waited.
    pub waits: u64,
    /// One-way times of messages that said when they were sent.
    pub latency: Histogram,
}

impl AgentState {
    /// Its name in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Guest => "guest",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}
