//! The bytes of the control plane's messages.
//!
//! A packet is a frame of 16 bytes (u32 magic, u16 major, u16 minor, u16 type, u16 flags, u32 length of what follows)
//! and the fields in the order of the variant's declaration. A later minor version only appends fields and types:
//! bytes after the known fields are skipped, and an unknown type whose frame has [`FLAG_OPTIONAL`] may be skipped too.
//! Decoding allocates at most a small multiple of the packet, which is at most `PACKET_BYTES_MAX`.

use thiserror::Error;

use super::agents::{agents_that_fit, read_agents, write_agents};
use super::fields::{Reader, Writer};
use super::structures::{
    read_agent, read_lineage, read_manifest, read_more_topic_terms, read_report, read_topic_terms,
    write_agent, write_lineage, write_manifest, write_more_topic_terms, write_report,
    write_topic_terms,
};
use super::terms::{read_classes, read_terms, write_terms};
use super::{AgentInfo, CloseCause, FromRouter, ToRouter, TopicPolicy};
use crate::header::{AgentId, GrantId, LaneId};
use crate::limits::{
    FRAME_BYTES, PACKET_BYTES_MAX, STATUS_PIECE_BYTES_MAX, TEXT_BYTES_MAX, TOKEN_BYTES_MAX,
};

/// The first four bytes of every packet: `BLDC`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BLDC");
/// The protocol version of this build, major and minor.
pub const VERSION: (u16, u16) = (1, 4);
/// In a frame's flags: a receiver that does not know the type skips the packet.
pub const FLAG_OPTIONAL: u16 = 1;
/// Types whose frames say that they may be skipped: both sides get along without them.
const OPTIONAL_TYPES: [u16; 5] = [14, 20, 21, 144, 150];

/// The version that both sides will speak: equal majors, the lower minor; nothing when the majors differ.
pub fn negotiate(theirs: (u16, u16)) -> Option<(u16, u16)> {
    (theirs.0 == VERSION.0).then(|| (VERSION.0, theirs.1.min(VERSION.1)))
}

/// Why a message cannot be put into a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A text, list or the whole is longer than the protocol allows.
    #[error("`{field}` is too long: got {got}, at most {max}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length or count.
        got: usize,
        /// The bound.
        max: usize,
    },
}

/// Why a packet is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("packet truncated within `{field}`")]
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// Not a packet of this protocol.
    #[error("wrong magic: expected {MAGIC:#010x}, got {got:#010x}")]
    Magic {
        /// The first four bytes.
        got: u32,
    },
    /// The other side speaks another major version.
    #[error("protocol version not supported: expected {}.x, got {}.{}", VERSION.0, got.0, got.1)]
    Version {
        /// The frame's version.
        got: (u16, u16),
    },
    /// The frame's length is not that of the packet.
    #[error("packet length mismatch: frame says {expected}, got {got}")]
    Length {
        /// What the frame says, without the frame itself.
        expected: usize,
        /// What there was.
        got: usize,
    },
    /// No such message in this version.
    #[error("unknown message type: {number}")]
    UnknownType {
        /// The frame's type.
        number: u16,
        /// Whether the sender allows that it be skipped.
        optional: bool,
    },
    /// A text, list or the whole is longer than the protocol allows.
    #[error("`{field}` is too long: got {got}, at most {max}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length or count.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// A text is not UTF-8 or has control characters.
    #[error("`{field}` is no plain text")]
    Text {
        /// Which field.
        field: &'static str,
    },
    /// A number outside its range.
    #[error("`{field}` is out of range: {got}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it held.
        got: u64,
    },
}

impl ToRouter {
    /// The packet of this message, or which field is too long.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        packet(self.type_number(), |out| self.write(out))
    }

    /// The message of this packet. The bytes are foreign: any content gives a message or an error.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let (number, optional, mut fields) = open(packet)?;
        Self::read(number, &mut fields)?.ok_or(DecodeError::UnknownType { number, optional })
    }

    /// How many descriptors travel beside this message.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::OpenLink { .. } | Self::AcceptLink { .. } | Self::OpenRoute { .. } => 4,
            Self::Publish { .. } | Self::JoinTopic { .. } => 2,
            Self::Grant { .. } => 1,
            _ => 0,
        }
    }

    fn type_number(&self) -> u16 {
        match self {
            Self::Hello { .. } => 1,
            Self::ListAgents { .. } => 2,
            Self::OpenLink { .. } => 3,
            Self::AcceptLink { .. } => 4,
            Self::CloseLink { .. } => 5,
            Self::Grant { .. } => 6,
            Self::Publish { .. } => 7,
            Self::Subscribe { .. } => 8,
            Self::JoinTopic { .. } => 9,
            Self::Pong { .. } => 10,
            Self::Bye => 11,
            Self::Status { .. } => 12,
            Self::Report(_) => 13,
            Self::Revoke { .. } => 16,
            Self::OpenRoute { .. } => 15,
            Self::Directory { .. } => 14,
            Self::DropReader { .. } => 20,
            Self::Unsubscribe { .. } => 21,
        }
    }

    fn write(&self, out: &mut Writer) -> Result<(), EncodeError> {
        match self {
            Self::Hello { version, manifest, token } => {
                out.u16(version.0);
                out.u16(version.1);
                out.extensible("manifest", |out| write_manifest(out, manifest))?;
                out.block("token", token, TOKEN_BYTES_MAX)
            }
            Self::ListAgents { request, filter } => request_word(out, *request, "filter", filter),
            Self::OpenLink { request, target, terms } => {
                request_word(out, *request, "target", target)?;
                write_terms(out, terms)
            }
            Self::OpenRoute { request, first, terms } => {
                out.u32(*request);
                out.u32(first.0);
                write_terms(out, terms)
            }
            Self::AcceptLink { lane, terms } => {
                out.u32(lane.0);
                write_terms(out, terms)
            }
            Self::JoinTopic { lane } => {
                out.u32(lane.0);
                Ok(())
            }
            Self::Revoke { request, agent, lane, reason } => {
                request_word(out, *request, "agent", agent)?;
                out.u32(lane.0);
                out.block("reason", reason.as_bytes(), TEXT_BYTES_MAX)
            }
            Self::CloseLink { lane, reason, why } => {
                out.u32(lane.0);
                out.block("reason", reason.as_bytes(), TEXT_BYTES_MAX)?;
                out.u8(*why as u8);
                Ok(())
            }
            Self::Grant { lane, grant } => {
                out.u32(lane.0);
                out.u64(grant.0);
                Ok(())
            }
            Self::Publish { request, subject, policy, terms } => {
                request_word(out, *request, "subject", subject)?;
                out.u8(*policy as u8);
                write_topic_terms(out, *terms);
                write_more_topic_terms(out)
            }
            Self::DropReader { lane, reader, reason, why } => {
                out.u32(lane.0);
                out.u32(reader.0);
                out.block("reason", reason.as_bytes(), TEXT_BYTES_MAX)?;
                out.u8(*why as u8);
                Ok(())
            }
            Self::Subscribe { request, pattern } => request_word(out, *request, "pattern", pattern),
            Self::Pong { nonce } => {
                out.u64(*nonce);
                Ok(())
            }
            Self::Bye => Ok(()),
            Self::Status { request }
            | Self::Directory { request }
            | Self::Unsubscribe { subscription: request } => {
                out.u32(*request);
                Ok(())
            }
            Self::Report(report) => write_report(out, report),
        }
    }

    fn read(number: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match number {
            1 => {
                let version = (fields.u16("version")?, fields.u16("version")?);
                let manifest = read_manifest(&mut fields.extensible("manifest")?)?;
                let token = fields.block("token", TOKEN_BYTES_MAX)?.to_vec();
                Self::Hello { version, manifest, token }
            }
            2 => Self::ListAgents { request: request(fields)?, filter: fields.word("filter")? },
            3 => Self::OpenLink {
                request: request(fields)?,
                target: fields.word("target")?,
                terms: read_terms(fields)?,
            },
            4 => Self::AcceptLink { lane: lane(fields)?, terms: read_terms(fields)? },
            5 => Self::CloseLink {
                lane: lane(fields)?,
                reason: fields.text("reason", TEXT_BYTES_MAX)?,
                why: why(fields)?,
            },
            6 => Self::Grant { lane: lane(fields)?, grant: GrantId(fields.u64("grant")?) },
            7 => {
                let request = request(fields)?;
                let (subject, policy) = (fields.word("subject")?, policy(fields)?);
                let terms = read_topic_terms(fields)?;
                read_more_topic_terms(fields)?;
                Self::Publish { request, subject, policy, terms }
            }
            8 => Self::Subscribe { request: request(fields)?, pattern: fields.word("pattern")? },
            9 => Self::JoinTopic { lane: lane(fields)? },
            10 => Self::Pong { nonce: fields.u64("nonce")? },
            11 => Self::Bye,
            12 => Self::Status { request: request(fields)? },
            13 => Self::Report(read_report(fields)?),
            15 => Self::OpenRoute {
                request: request(fields)?,
                first: lane(fields)?,
                terms: read_terms(fields)?,
            },
            16 => Self::Revoke {
                request: request(fields)?,
                agent: fields.word("agent")?,
                lane: lane(fields)?,
                reason: fields.text("reason", TEXT_BYTES_MAX)?,
            },
            14 => Self::Directory { request: request(fields)? },
            20 => Self::DropReader {
                lane: lane(fields)?,
                reader: reader(fields)?,
                reason: fields.text("reason", TEXT_BYTES_MAX)?,
                why: why(fields)?,
            },
            21 => Self::Unsubscribe { subscription: fields.u32("subscription")? },
            _ => return Ok(None),
        }))
    }
}

impl FromRouter {
    /// The packet of this message, or which field is too long.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        packet(self.type_number(), |out| self.write(out))
    }

    /// The message of this packet. The bytes are foreign: any content gives a message or an error.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let (number, optional, mut fields) = open(packet)?;
        Self::read(number, &mut fields)?.ok_or(DecodeError::UnknownType { number, optional })
    }

    /// How many descriptors travel beside this message.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::LinkOffered { terms, .. }
            | Self::LinkReady { terms, .. }
            | Self::RouteWanted { terms, .. } => 5 + terms.descriptors(),
            Self::TopicFound { .. } => 3,
            Self::ReaderJoined { .. } => 2,
            Self::Granted { .. } | Self::Published { .. } | Self::Directory { .. } => 1,
            _ => 0,
        }
    }

    /// The packets of the answer to `ListAgents`: as many as the bounds of one packet make necessary, at least one.
    pub fn encode_agents(request: u32, agents: &[AgentInfo]) -> Result<Vec<Vec<u8>>, EncodeError> {
        let mut packets = Vec::new();
        let mut rest = agents;
        loop {
            let (now, later) = rest.split_at(agents_that_fit(rest)?);
            rest = later;
            let message = Self::Agents { request, more: !rest.is_empty(), agents: now.to_vec() };
            packets.push(message.encode()?);
            if rest.is_empty() {
                return Ok(packets);
            }
        }
    }

    fn type_number(&self) -> u16 {
        match self {
            Self::Welcome { .. } => 129,
            Self::Refused { .. } => 130,
            Self::Agents { .. } => 131,
            Self::LinkOffered { .. } => 132,
            Self::LinkReady { .. } => 133,
            Self::LinkClosed { .. } => 134,
            Self::Granted { .. } => 135,
            Self::Published { .. } => 136,
            Self::Subscribed { .. } => 137,
            Self::TopicFound { .. } => 138,
            Self::ReaderJoined { .. } => 139,
            Self::ReaderLeft { .. } => 140,
            Self::Ping { .. } => 141,
            Self::Draining => 142,
            Self::Revoked { .. } => 146,
            Self::Status { .. } => 143,
            Self::RouteWanted { .. } => 145,
            Self::Directory { .. } => 144,
            Self::ReaderExpected { .. } => 150,
        }
    }

    fn write(&self, out: &mut Writer) -> Result<(), EncodeError> {
        match self {
            Self::Welcome { version, agent, instance, classes } => {
                out.u16(version.0);
                out.u16(version.1);
                out.u32(agent.0);
                out.u64(*instance);
                out.u8(classes.bits());
            }
            Self::Refused { request, code, message } => {
                request_word(out, *request, "code", code)?;
                out.block("message", message.as_bytes(), TEXT_BYTES_MAX)?;
            }
            Self::Agents { request, more, agents } => write_agents(out, *request, *more, agents)?,
            Self::LinkOffered { lane, from, terms } => {
                out.u32(lane.0);
                write_agent(out, from)?;
                write_terms(out, terms)?;
            }
            Self::RouteWanted { lane, from, target, terms } => {
                out.u32(lane.0);
                write_agent(out, from)?;
                write_agent(out, target)?;
                write_terms(out, terms)?;
            }
            Self::LinkReady { request, lane, peer, terms } => {
                out.u32(*request);
                out.u32(lane.0);
                write_agent(out, peer)?;
                write_terms(out, terms)?;
            }
            Self::LinkClosed { lane, code, reason } => {
                out.u32(lane.0);
                out.word("code", code)?;
                out.block("reason", reason.as_bytes(), TEXT_BYTES_MAX)?;
            }
            Self::Granted { lane, grant } => {
                out.u32(lane.0);
                out.u64(grant.0);
            }
            Self::Published { request, lane, epoch } => {
                out.u32(*request);
                out.u32(lane.0);
                out.u32(*epoch);
            }
            Self::Subscribed { request } | Self::Directory { request } => out.u32(*request),
            Self::TopicFound { request, lane, subject, policy, from, terms, lineage } => {
                out.u32(*request);
                out.u32(lane.0);
                out.word("subject", subject)?;
                out.u8(*policy as u8);
                write_agent(out, from)?;
                write_topic_terms(out, *terms);
                write_lineage(out, *lineage);
                write_more_topic_terms(out)?;
            }
            Self::ReaderExpected { lane, reader }
            | Self::ReaderJoined { lane, reader }
            | Self::ReaderLeft { lane, reader } => {
                out.u32(lane.0);
                out.u32(reader.0);
            }
            Self::Ping { nonce } => out.u64(*nonce),
            Self::Revoked { request, count } => {
                out.u32(*request);
                out.u32(*count);
            }
            Self::Draining => {}
            Self::Status { request, more, piece } => {
                out.u32(*request);
                out.u8((*more).into());
                out.block("piece", piece, STATUS_PIECE_BYTES_MAX)?;
            }
        }
        Ok(())
    }

    fn read(number: u16, fields: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match number {
            129 => Self::Welcome {
                version: (fields.u16("version")?, fields.u16("version")?),
                agent: AgentId(fields.u32("agent")?),
                instance: fields.u64("instance")?,
                classes: read_classes(fields)?,
            },
            130 => Self::Refused {
                request: request(fields)?,
                code: fields.word("code")?,
                message: fields.text("message", TEXT_BYTES_MAX)?,
            },
            131 => read_agents(fields)?,
            132 => Self::LinkOffered {
                lane: lane(fields)?,
                from: read_agent(fields)?,
                terms: read_terms(fields)?,
            },
            133 => Self::LinkReady {
                request: request(fields)?,
                lane: lane(fields)?,
                peer: read_agent(fields)?,
                terms: read_terms(fields)?,
            },
            134 => Self::LinkClosed {
                lane: lane(fields)?,
                code: fields.word("code")?,
                reason: fields.text("reason", TEXT_BYTES_MAX)?,
            },
            135 => Self::Granted { lane: lane(fields)?, grant: GrantId(fields.u64("grant")?) },
            136 => Self::Published {
                request: request(fields)?,
                lane: lane(fields)?,
                epoch: if fields.is_empty() { 0 } else { fields.u32("epoch")? },
            },
            137 => Self::Subscribed { request: request(fields)? },
            138 => {
                let (request, lane) = (request(fields)?, lane(fields)?);
                let (subject, policy) = (fields.word("subject")?, policy(fields)?);
                let from = read_agent(fields)?;
                let (terms, lineage) = (read_topic_terms(fields)?, read_lineage(fields)?);
                read_more_topic_terms(fields)?;
                Self::TopicFound { request, lane, subject, policy, from, terms, lineage }
            }
            139 => Self::ReaderJoined { lane: lane(fields)?, reader: reader(fields)? },
            140 => Self::ReaderLeft { lane: lane(fields)?, reader: reader(fields)? },
            141 => Self::Ping { nonce: fields.u64("nonce")? },
            142 => Self::Draining,
            143 => Self::Status {
                request: request(fields)?,
                more: fields.u8("more")? != 0,
                piece: fields.block("piece", STATUS_PIECE_BYTES_MAX)?.to_vec(),
            },
            145 => Self::RouteWanted {
                lane: lane(fields)?,
                from: read_agent(fields)?,
                target: Box::new(read_agent(fields)?),
                terms: read_terms(fields)?,
            },
            146 => Self::Revoked { request: request(fields)?, count: fields.u32("count")? },
            144 => Self::Directory { request: request(fields)? },
            150 => Self::ReaderExpected { lane: lane(fields)?, reader: reader(fields)? },
            _ => return Ok(None),
        }))
    }
}

fn packet(
    number: u16,
    write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = Writer::new();
    out.u32(MAGIC);
    out.u16(VERSION.0);
    out.u16(VERSION.1);
    out.u16(number);
    out.u16(if OPTIONAL_TYPES.contains(&number) { FLAG_OPTIONAL } else { 0 });
    out.u32(0);
    debug_assert_eq!(out.len(), FRAME_BYTES);
    write(&mut out)?;
    out.set_u32(12, (out.len() - FRAME_BYTES) as u32);
    out.into_packet()
}

/// Checks the frame; gives the type, whether it may be skipped, and the fields.
fn open(packet: &[u8]) -> Result<(u16, bool, Reader<'_>), DecodeError> {
    if packet.len() > PACKET_BYTES_MAX {
        let (got, max) = (packet.len(), PACKET_BYTES_MAX);
        return Err(DecodeError::TooLong { field: "packet", got, max });
    }
    let mut frame = Reader::new(packet);
    let magic = frame.u32("magic")?;
    if magic != MAGIC {
        return Err(DecodeError::Magic { got: magic });
    }
    let version = (frame.u16("version")?, frame.u16("version")?);
    if version.0 != VERSION.0 {
        return Err(DecodeError::Version { got: version });
    }
    let number = frame.u16("type")?;
    let flags = frame.u16("flags")?;
    let expected = frame.u32("length")? as usize;
    let got = packet.len() - FRAME_BYTES;
    if expected != got {
        return Err(DecodeError::Length { expected, got });
    }
    Ok((number, flags & FLAG_OPTIONAL != 0, Reader::new(&packet[FRAME_BYTES..])))
}

fn request_word(
    out: &mut Writer,
    request: u32,
    field: &'static str,
    word: &str,
) -> Result<(), EncodeError> {
    out.u32(request);
    out.word(field, word)
}

fn request(fields: &mut Reader<'_>) -> Result<u32, DecodeError> {
    fields.u32("request")
}

/// Messages of an earlier version end before it. What a later one may add means that it was wanted.
fn why(fields: &mut Reader<'_>) -> Result<CloseCause, DecodeError> {
    if fields.is_empty() {
        return Ok(CloseCause::Wanted);
    }
    Ok(match fields.u8("why")? {
        1 => CloseCause::Quarantined,
        _ => CloseCause::Wanted,
    })
}

fn lane(fields: &mut Reader<'_>) -> Result<LaneId, DecodeError> {
    fields.u32("lane").map(LaneId)
}

fn reader(fields: &mut Reader<'_>) -> Result<AgentId, DecodeError> {
    fields.u32("reader").map(AgentId)
}

fn policy(fields: &mut Reader<'_>) -> Result<TopicPolicy, DecodeError> {
    match fields.u8("policy")? {
        1 => Ok(TopicPolicy::Lossless),
        2 => Ok(TopicPolicy::Lossy),
        other => Err(DecodeError::Value { field: "policy", got: other.into() }),
    }
}
