//! The header of a message: who, to whom, what kind, how urgent, until when.

/// Identifies an agent for one connection to one router; never reused while that router lives. 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub u32);

/// Identifies a link (a pair of opposite lanes) or a topic lane for the life of a router. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u32);

/// Names a descriptor that was handed to a peer beside its messages; a reference in [`Header::context`]. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantId(pub u64);

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Work to be done.
    Task = 1,
    /// The outcome of work, or a part of it.
    Result = 2,
    /// Ownership of a task passes to the receiver.
    Handoff = 3,
    /// A question that expects an answer; changes nothing by itself.
    Query = 4,
    /// A sign of life.
    Heartbeat = 5,
    /// Something happened.
    Event = 6,
    /// Knowledge to keep.
    Learn = 7,
}

/// How a message travels. A sender names a class; the bus picks the mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Shared-memory rings.
    Critical = 0,
    /// io_uring.
    High = 1,
    /// Unix sockets.
    Normal = 2,
    /// Durable mapped logs.
    Low = 3,
    /// Large regions handed over by reference.
    Batch = 4,
}

/// The header of one message. On the wire: little-endian, fixed size, unknown trailing bytes skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Unique per source.
    pub id: u64,
    /// Nanoseconds since the Unix epoch, by the sender's clock.
    pub time_ns: u64,
    /// Who sent it. Filled in from the lane by the receiver, never trusted from the bytes.
    pub source: AgentId,
    /// For whom it is; 0 means whoever holds the lane.
    pub target: AgentId,
    /// What it is.
    pub kind: Kind,
    /// 1 (least) to 10 (most urgent).
    pub priority: u8,
    /// The id of the message that this one answers; 0 for none.
    pub correlation: u64,
    /// Joins everything that follows from one cause.
    pub trace: u128,
    /// Nanoseconds since the Unix epoch after which nobody wants an answer; 0 for none.
    pub deadline_ns: u64,
    /// How the payload is to be read; see PROTOCOL.md for the ids.
    pub schema: u32,
    /// Descriptors granted for this message, or other references; 0 for none.
    pub context: [u64; 2],
}
