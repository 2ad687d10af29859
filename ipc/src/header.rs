//! The header of a message: who, to whom, what kind, how urgent, until when; and its 96 bytes.
//!
//! Not here: the first word of a ring's slot, which every message has (`ring`).

use thiserror::Error;

#[cfg(test)]
mod tests;

/// An encoded header, in bytes, of this version. A later minor version may be longer.
pub const HEADER_BYTES: usize = 96;
/// The longest header that is accepted; what lies beyond the known fields is skipped.
pub const HEADER_BYTES_MAX: usize = 256;

/// The priority of what does not say one: the middle of 1 to 10.
pub const PRIORITY_DEFAULT: u8 = 5;

/// Identifies an agent for one connection to one router; never reused while that router lives. 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub u32);

/// Identifies a link (a pair of opposite lanes) or a topic lane for the life of a router. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u32);

/// Names a descriptor that was handed to a peer beside its messages; a reference in [`Header::context`]. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantId(pub u64);

impl GrantId {
    /// The bit of a number whose descriptor the granter wants kept by who serves its requests, for further requests over the same
    /// link that name it: of each link the last such one. Who does not keep any takes it as it is.
    const KEPT: u64 = 1 << 63;

    /// The same number for a descriptor that is to be kept.
    pub fn kept(self) -> Self {
        Self(self.0 | Self::KEPT)
    }

    /// Whether the descriptor is to be kept.
    pub fn is_kept(self) -> bool {
        self.0 & Self::KEPT != 0
    }
}

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

impl Kind {
    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Task,
            2 => Self::Result,
            3 => Self::Handoff,
            4 => Self::Query,
            5 => Self::Heartbeat,
            6 => Self::Event,
            7 => Self::Learn,
            _ => return None,
        })
    }
}

impl Header {
    /// A header with only a kind; the middle priority, everything else absent.
    pub fn new(kind: Kind) -> Self {
        Self {
            id: 0,
            time_ns: 0,
            source: AgentId(0),
            target: AgentId(0),
            kind,
            priority: PRIORITY_DEFAULT,
            correlation: 0,
            trace: 0,
            deadline_ns: 0,
            schema: 0,
            context: [0; 2],
        }
    }

    /// The bytes of this header (PROTOCOL.md gives the map).
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..2].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        bytes[2] = self.kind as u8;
        bytes[3] = self.priority;
        bytes[4..8].copy_from_slice(&self.schema.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.source.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.target.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.correlation.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.deadline_ns.to_le_bytes());
        bytes[48..64].copy_from_slice(&self.trace.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.context[0].to_le_bytes());
        bytes[72..80].copy_from_slice(&self.context[1].to_le_bytes());
        bytes
    }

    /// Reads a header from the start of `bytes`; returns it and how many bytes it took. The bytes are foreign: any
    /// content gives a value or an error.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), HeaderError> {
        let (Some(size), true) =
            (take(bytes, 0).map(u16::from_le_bytes), bytes.len() >= HEADER_BYTES)
        else {
            return Err(HeaderError::Truncated { got: bytes.len() });
        };
        let size = usize::from(size);
        if !(HEADER_BYTES..=HEADER_BYTES_MAX).contains(&size) || size > bytes.len() {
            return Err(HeaderError::Size { got: size });
        }
        let kind = Kind::from_number(bytes[2]).ok_or(HeaderError::Kind { got: bytes[2] })?;
        let priority = bytes[3];
        if !(1..=10).contains(&priority) {
            return Err(HeaderError::Priority { got: priority });
        }
        let u32_at = |at| take(bytes, at).map_or(0, u32::from_le_bytes);
        let u64_at = |at| take(bytes, at).map_or(0, u64::from_le_bytes);
        let header = Self {
            id: u64_at(8),
            time_ns: u64_at(16),
            source: AgentId(u32_at(24)),
            target: AgentId(u32_at(28)),
            kind,
            priority,
            correlation: u64_at(32),
            trace: take(bytes, 48).map_or(0, u128::from_le_bytes),
            deadline_ns: u64_at(40),
            schema: u32_at(4),
            context: [u64_at(64), u64_at(72)],
        };
        Ok((header, size))
    }
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Fewer bytes than the smallest header.
    #[error("header truncated: expected at least {HEADER_BYTES} bytes, got {got}")]
    Truncated {
        /// How many bytes there were.
        got: usize,
    },
    /// The size field is impossible.
    #[error(
        "header size out of range: expected {HEADER_BYTES} to {HEADER_BYTES_MAX} and no more than the message, got {got}"
    )]
    Size {
        /// The size field.
        got: usize,
    },
    /// No such kind.
    #[error("unknown message kind: {got}")]
    Kind {
        /// The kind field.
        got: u8,
    },
    /// Priorities go from 1 to 10.
    #[error("priority out of range: expected 1 to 10, got {got}")]
    Priority {
        /// The priority field.
        got: u8,
    },
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
