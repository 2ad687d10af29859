//! The control plane: what a client and the router say to each other over the SEQPACKET socket.
//!
//! One packet is one message: a fixed frame header, then fields. Descriptors travel beside the packet in the
//! order in which the variant's documentation names them. The codec is in this module too; it never allocates
//! more than `limits` allow and never panics on foreign bytes.

use crate::class::ClassSet;
use crate::header::{AgentId, GrantId, LaneId};
use crate::manifest::AgentManifest;

mod agents;
mod codec;
pub(crate) mod fields;
mod structures;
mod terms;
#[cfg(test)]
pub(crate) mod tests;

pub use codec::{DecodeError, EncodeError, FLAG_OPTIONAL, MAGIC, VERSION, negotiate};
pub use terms::{CLASSES_SINCE, NoClass, Terms};

/// What a topic does with a reader that is slower than the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TopicPolicy {
    /// The writer is held back by the slowest reader.
    Lossless = 1,
    /// The writer goes on; a reader that was lapped counts the gap.
    Lossy = 2,
}

/// What a lossless topic does with a reader that leaves no room for the next message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SlowReaders {
    /// The writer waits, as long as each of its calls says.
    #[default]
    Wait,
    /// When one message has been held up for so long, the writer lets go of whoever holds it up.
    LetGo {
        /// In milliseconds, at most `PATIENCE_MS_MAX`.
        patience_ms: u32,
    },
}

/// What the writer of a topic declares beside its policy. Old peers know nothing of it: then it is all nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TopicTerms {
    /// How many of the last messages a reader is given that joins.
    pub history: u32,
    /// What happens to a slow reader of a lossless topic.
    pub slow: SlowReaders,
}

/// What the router knows of a topic from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// How often an agent of this name has published this subject, this time included; 0 where the router does not count.
    pub epoch: u32,
    /// The lane of the time before, which has ended.
    pub follows: Option<LaneId>,
    /// Where a reader of the same name was when it left this lane.
    pub resume: Option<u64>,
}

/// Why a link is closed, or a reader of a topic let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseCause {
    /// It is not wanted any more.
    #[default]
    Wanted = 0,
    /// The other side broke the protocol.
    Quarantined = 1,
}

/// One agent as discovery shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its id on this router.
    pub id: AgentId,
    /// Its process, as the kernel says.
    pub pid: u32,
    /// The user it runs as, as the kernel says.
    pub uid: u32,
    /// What it says of itself.
    pub manifest: AgentManifest,
}

/// What an agent counted since it connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tasks that were begun; those that are in none of the next four are running.
    pub started: u64,
    /// Tasks that ended with a result.
    pub done: u64,
    /// Tasks that ended with an error.
    pub failed: u64,
    /// Tasks whose caller went away before they ended.
    pub cancelled: u64,
    /// Tasks that ended in a panic.
    pub panicked: u64,
    /// Errors by kind; at most `LIST_ENTRIES_MAX` kinds.
    pub errors: Vec<(String, u64)>,
    /// What else operators should see, for people, by name; at most `REPORT_FACTS_MAX`. Since 1.3.
    pub facts: Vec<(String, String)>,
    /// What its workers do. Since 1.3.
    pub work: WorkReport,
    /// What it measured besides; at most `REPORT_FIGURES_MAX`. Since 1.4.
    pub figures: Vec<Figure>,
}

/// One number that an agent measured since it connected. Who gives the names a meaning is the runtime on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Of which kind, outcome or part; empty where there is only one.
    pub label: String,
    /// How much.
    pub value: u64,
}

/// What the workers of an agent do and what waits for them. Lanes and reasons are numbers here; who gives them a meaning is the
/// runtime on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkReport {
    /// Pieces that run, by lane.
    pub running: [u32; WORK_LANES],
    /// The CPUs that the workers of each lane are held to, as the kernel writes such lists; at most `TEXT_BYTES_MAX` bytes.
    pub cpus: [String; WORK_LANES],
    /// Requests that wait, by reason.
    pub waiting: [u32; WORK_REASONS],
    /// Requests that had to wait since it connected.
    pub deferred: [u64; WORK_REASONS],
    /// How long they waited together, in nanoseconds.
    pub deferred_ns: [u64; WORK_REASONS],
}

/// Lanes that workers have: performance, efficient, low-power, background.
pub const WORK_LANES: usize = 4;
/// Reasons to wait: slots, heat, an unknown temperature, a pause.
pub const WORK_REASONS: usize = 4;

/// From a client to the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRouter {
    /// First message. Carries protocol version, manifest and token (empty where none is needed).
    Hello {
        /// The highest protocol version that the client speaks, major and minor.
        version: (u16, u16),
        /// Who it is.
        manifest: AgentManifest,
        /// A JWT, or empty.
        token: Vec<u8>,
    },
    /// Asks for the live agents whose name, tool, capability or tag equals `filter`; empty means all.
    ListAgents {
        /// Chosen by the client, returned in the answer.
        request: u32,
        /// The word to look for.
        filter: String,
    },
    /// Opens a link to `target` (an agent's name, or a tool that some agent answers). Descriptors: the slots
    /// segment that the client writes, the cursor segment that it writes, its region, its doorbell.
    OpenLink {
        /// Chosen by the client, returned in the answer.
        request: u32,
        /// An agent's name or a tool's.
        target: String,
        /// Which class is wanted. Since 1.2.
        terms: Terms,
    },
    /// The exchange's second half of a route: offers the target of `RouteWanted` a link on the opener's behalf.
    /// Descriptors as in `OpenLink`.
    OpenRoute {
        /// Chosen by the exchange, returned in the answer.
        request: u32,
        /// The first half, as `RouteWanted` named it.
        first: LaneId,
        /// Which class is wanted. Since 1.2.
        terms: Terms,
    },
    /// Accepts an offered link. Descriptors as in `OpenLink`, from the accepting side; of class NORMAL, the opener's end of
    /// the pair of sockets in the place of the doorbell.
    AcceptLink {
        /// The offered link.
        lane: LaneId,
        /// The class that it is: the offered one, or one further down. Since 1.2.
        terms: Terms,
    },
    /// Declines an offered link, or closes an open one.
    CloseLink {
        /// Which one.
        lane: LaneId,
        /// Why, for people.
        reason: String,
        /// Why, as both sides are told. Since 1.3.
        why: CloseCause,
    },
    /// Hands one descriptor to the peer of a link; messages refer to it by `grant`. Descriptors: the granted one.
    Grant {
        /// The link over which the messages will travel.
        lane: LaneId,
        /// Chosen by the sender, unique on this link.
        grant: GrantId,
    },
    /// Declares a topic lane. Descriptors: slots segment, region.
    Publish {
        /// Chosen by the client, returned in the answer.
        request: u32,
        /// Dot-separated words, no wildcards.
        subject: String,
        /// What happens to slow readers.
        policy: TopicPolicy,
        /// What else holds for readers.
        terms: TopicTerms,
    },
    /// Wants every topic lane, present and future, whose subject matches. Descriptors: none.
    Subscribe {
        /// Chosen by the client, returned in the answer.
        request: u32,
        /// Dot-separated words; `*` matches one, a final `>` the rest.
        pattern: String,
    },
    /// No longer wants what a subscription matched; topics that no other one matches are left. May be skipped. Descriptors:
    /// none.
    Unsubscribe {
        /// The request of the subscription.
        subscription: u32,
    },
    /// Takes up a topic lane that was announced with `TopicFound`. Descriptors: cursor segment, doorbell.
    JoinTopic {
        /// The announced lane.
        lane: LaneId,
    },
    /// The writer of a topic has let go of a reader, which the router tells it. May be skipped. Descriptors: none.
    DropReader {
        /// The topic lane.
        lane: LaneId,
        /// The reader.
        reader: AgentId,
        /// Why, for people.
        reason: String,
        /// Why, as the reader is told. Since 1.3.
        why: CloseCause,
    },
    /// Asks what the router knows of itself and its agents. Descriptors: none.
    Status {
        /// Chosen by the client, returned in the answer.
        request: u32,
    },
    /// Asks for the directory, and for it to be kept fresh for a while. Since 1.1; its frame says that it may be skipped, so
    /// nobody asks a router that speaks 1.0. Descriptors: none.
    Directory {
        /// Chosen by the client, returned in the answer.
        request: u32,
    },
    /// Takes the permission back: ends links and topics of an agent. Since 1.2, and not from hosted agents. Descriptors: none.
    Revoke {
        /// Chosen by the client, returned in the answer.
        request: u32,
        /// Whose.
        agent: String,
        /// Which one; 0 is all of them.
        lane: LaneId,
        /// Why, for people.
        reason: String,
    },
    /// What an agent counted since it connected, for the router's metrics; each report replaces the one before.
    Report(Report),
    /// The answer to `Ping`.
    Pong {
        /// From the ping.
        nonce: u64,
    },
    /// Takes its leave; the router frees everything and closes.
    Bye,
}

/// From the router to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromRouter {
    /// The handshake succeeded.
    Welcome {
        /// The protocol version that both will speak.
        version: (u16, u16),
        /// The client's own id.
        agent: AgentId,
        /// The router's instance, random per start; ids are unique within it.
        instance: u64,
        /// The classes that it allows for links. Since 1.2.
        classes: ClassSet,
    },
    /// A request was refused, or the connection is (request 0, then the router closes).
    Refused {
        /// The request it answers.
        request: u32,
        /// A stable code: `version`, `name-taken`, `unauthorized`, `no-such-target`, `limit`, `malformed`, `draining`,
        /// `bad-segment`, `peer-gone`, `starting` (a hosted agent is not up yet: try again), `declined`, `no-answer`,
        /// `no-class`, `agent-failed` (a hosted agent is not started again).
        code: String,
        /// For people.
        message: String,
    },
    /// The answer to `ListAgents`. Long lists come in several packets.
    Agents {
        /// The request it answers.
        request: u32,
        /// Whether more follow.
        more: bool,
        /// Some agents.
        agents: Vec<AgentInfo>,
    },
    /// Somebody wants a link. Descriptors: the opener's slots, cursor, region, doorbell, then the control page; of class HIGH
    /// also the opener's process.
    LinkOffered {
        /// The link.
        lane: LaneId,
        /// Who opened it.
        from: AgentInfo,
        /// The best class that it can have. Since 1.2.
        terms: Terms,
    },
    /// Somebody wants a link that must not be direct; told to the exchange only, which answers with `OpenRoute` and, when
    /// that link is ready, `AcceptLink`. Descriptors as in `LinkOffered`.
    RouteWanted {
        /// The link between the opener and the exchange.
        lane: LaneId,
        /// Who opened it.
        from: AgentInfo,
        /// Whom it is for.
        target: Box<AgentInfo>,
        /// As in `LinkOffered`.
        terms: Terms,
    },
    /// An opened link is ready. Descriptors: the peer's slots, cursor, region, doorbell (as in `AcceptLink`), then the control
    /// page; of class HIGH also the peer's process.
    LinkReady {
        /// The request it answers.
        request: u32,
        /// The link.
        lane: LaneId,
        /// Who is at the other end.
        peer: AgentInfo,
        /// The class that it is. Since 1.2.
        terms: Terms,
    },
    /// A link ended: the peer closed it, died, or was revoked. The code is one of `closed`, `peer-gone`, `revoked`,
    /// `quarantined`.
    LinkClosed {
        /// Which one.
        lane: LaneId,
        /// Why, as a code.
        code: String,
        /// Why, for people.
        reason: String,
    },
    /// The answer to `Status`, one JSON object in pieces. Descriptors: none.
    Status {
        /// The request it answers.
        request: u32,
        /// Whether more follow.
        more: bool,
        /// The next bytes of the text; a piece may end within a character.
        piece: Vec<u8>,
    },
    /// The answer to `Directory`, brought up to date. Descriptors: the directory's segment.
    Directory {
        /// The request it answers.
        request: u32,
    },
    /// The peer handed over a descriptor. Descriptors: the granted one.
    Granted {
        /// The link it belongs to.
        lane: LaneId,
        /// The name that messages use.
        grant: GrantId,
    },
    /// The topic lane that the client declared exists. Descriptors: the control page.
    Published {
        /// The request it answers.
        request: u32,
        /// The lane.
        lane: LaneId,
        /// How often an agent of this name has published this subject, this time included.
        epoch: u32,
    },
    /// The subscription stands. `TopicFound` follows for each matching lane.
    Subscribed {
        /// The request it answers.
        request: u32,
    },
    /// A topic lane matches a subscription. Descriptors: the writer's slots, its region, the control page.
    TopicFound {
        /// The request of the subscription.
        request: u32,
        /// The lane.
        lane: LaneId,
        /// Its subject.
        subject: String,
        /// What happens to slow readers.
        policy: TopicPolicy,
        /// Who writes it.
        from: AgentInfo,
        /// What the writer declared beside the policy.
        terms: TopicTerms,
        /// What was before.
        lineage: Lineage,
    },
    /// An agent was told of the client's own topic, which is a group's, and is expected to join. May be skipped.
    /// Descriptors: none.
    ReaderExpected {
        /// The topic lane.
        lane: LaneId,
        /// The agent.
        reader: AgentId,
    },
    /// A reader joined the client's own topic lane. Descriptors: the reader's cursor, its doorbell.
    ReaderJoined {
        /// The topic lane.
        lane: LaneId,
        /// The reader.
        reader: AgentId,
    },
    /// A reader left or died; its cursor no longer holds the writer back.
    ReaderLeft {
        /// The topic lane.
        lane: LaneId,
        /// The reader.
        reader: AgentId,
    },
    /// A sign of life is wanted (health only; death is learnt from the kernel).
    Ping {
        /// To be returned.
        nonce: u64,
    },
    /// The answer to `Revoke`. Since 1.2. Descriptors: none.
    Revoked {
        /// The request it answers.
        request: u32,
        /// How many links and topics were ended.
        count: u32,
    },
    /// The router stops; finish and leave.
    Draining,
}
