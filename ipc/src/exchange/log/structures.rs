//! What the log's operations carry: fixed little-endian structures, each with its writer and reader.
//!
//! A later minor version appends fields; what a reader leaves over is skipped, except where payloads are the last field.

use std::fmt;

use crate::control::fields::{Reader, Writer};
use crate::control::{DecodeError, EncodeError};
use crate::limits::{LOG_RECORD_BYTES_MAX, LOG_RECORDS_PER_APPEND_MAX, WORD_BYTES_MAX};

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Durability {
    /// The record survives the death of every process.
    #[default]
    Stored = 1,
    /// It survives power loss.
    Synced = 2,
}

/// Records to append, one or many. Others' records may come before and behind, never between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append<'a> {
    /// What the acknowledgement means.
    pub durability: Durability,
    /// 1 to 10; kept with the records.
    pub priority: u8,
    /// Whether the will of this link (`Operation::Will`) is taken back when all records are appended.
    pub takes_will_back: bool,
    /// How long it may wait while a follower that holds writers back is too far behind.
    pub wait_ns: u64,
    /// The payloads.
    pub records: Records<'a>,
}

/// Bytes of an [`Appended`].
const APPENDED_BYTES: usize = 13;

/// How a log is kept: segment_bytes, bytes_max, age_max_ns, records_max, ahead_max: u64; 0 is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment file, the unit in which old records go; 0 for what suits `bytes_max`.
    pub segment_bytes: u64,
    /// Bytes on the disk beyond which the oldest segments go. One segment more may be there.
    pub bytes_max: u64,
    /// Age beyond which they go.
    pub age_max_ns: u64,
    /// Records beyond which they go.
    pub records_max: u64,
    /// Records that followers which hold writers back may be behind.
    pub ahead_max: u64,
}

/// From where to read: kind (1 position, 2 first, 3 end): u8; position: u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From this position. What was there and is gone is told.
    At(u64),
    /// From the first record that is there.
    First,
    /// What comes from now on.
    End,
}

/// Why not all records were appended: the last field of [`Appended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Short {
    /// A follower that holds writers back is too far behind.
    Behind = 1,
    /// The disk is full.
    DiskFull = 2,
    /// The log has as many segments as it may have.
    LogFull = 3,
    /// Whoever asked for it cancelled it while it waited.
    Cancelled = 4,
}

/// The answer to an append: first: u64; count: u32; why it is less than asked: u8, 0 where it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position of the first record.
    pub first: u64,
    /// How many records were appended, one after the other.
    pub count: u32,
    /// Why not all were.
    pub short: Option<Short>,
}

/// The answer to a trim: first, records, bytes: u64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// The first position that is there now.
    pub first: u64,
    /// Records that went.
    pub records: u64,
    /// Bytes on the disk that are free again.
    pub bytes: u64,
}

/// How a log is: first, next, synced, segments, bytes, followers: u64; [`Options`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The first position that is there.
    pub first: u64,
    /// The position that the next record gets.
    pub next: u64,
    /// Everything below it survives power loss.
    pub synced: u64,
    /// Segment files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Followers.
    pub followers: u64,
    /// How it is kept.
    pub options: Options,
}

/// Payloads of records, to be appended or as they came.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(Source<'a>);

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Payloads(&'a [&'a [u8]]),
    /// u32 length and bytes of each; checked.
    Encoded(&'a [u8]),
}

/// A record as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place.
    pub position: u64,
    /// When it was stored, nanoseconds since 1970.
    pub time_ns: u64,
    /// As its sender gave it.
    pub priority: u8,
    /// Who appended it: an agent's name.
    pub sender: &'a str,
    /// What was appended.
    pub payload: &'a [u8],
}

/// One of the things that stand in a log. A record is kind 1: u8; priority: u8; length of the name: u16; length of the payload:
/// u32; position, time_ns: u64; name; payload. Others: kind (0 begin, 2 lost, 3 damaged): u8; seven zeros; first, next: u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Where reading began.
    Begin {
        /// The position.
        position: u64,
    },
    /// A record.
    Record(Record<'a>),
    /// Records that were retired before they were read.
    Lost {
        /// The first of them.
        first: u64,
        /// The one behind them.
        next: u64,
    },
    /// Records that a crash or the disk has destroyed.
    Damaged {
        /// The first of them.
        first: u64,
        /// The one behind them.
        next: u64,
    },
}

/// Entries that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    bytes: Vec<u8>,
    next: u64,
}

const KIND_BEGIN: u8 = 0;
const KIND_RECORD: u8 = 1;
const KIND_LOST: u8 = 2;
const KIND_DAMAGED: u8 = 3;
/// Bytes of an entry before name and payload, and the whole of one that is no record.
const ENTRY_BYTES: usize = 24;

impl Default for Options {
    /// A gigabyte of the newest records; nobody holds anybody back.
    fn default() -> Self {
        let bytes_max = 1_024 * 1_024 * 1_024;
        Self { segment_bytes: 0, bytes_max, age_max_ns: 0, records_max: 0, ahead_max: 0 }
    }
}

impl Options {
    /// Puts it behind other fields.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        let mut out = Writer::new();
        self.write(&mut out);
        bytes.extend(out.into_bytes());
    }

    /// The fields of foreign bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes))
    }

    pub(super) fn write(&self, out: &mut Writer) {
        let Self { segment_bytes, bytes_max, age_max_ns, records_max, ahead_max } = *self;
        for value in [segment_bytes, bytes_max, age_max_ns, records_max, ahead_max] {
            out.u64(value);
        }
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            segment_bytes: fields.u64("segment_bytes")?,
            bytes_max: fields.u64("bytes_max")?,
            age_max_ns: fields.u64("age_max")?,
            records_max: fields.u64("records_max")?,
            ahead_max: fields.u64("ahead_max")?,
        })
    }
}

impl<'a> Append<'a> {
    /// The log's name and the rest of a request to append. The bytes are foreign.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<(&'a str, Self), DecodeError> {
        let mut fields = Reader::new(payload);
        let log = fields.word_here("log")?;
        Ok((log, Self::read(&mut fields)?))
    }

    pub(super) fn write(&self, out: &mut Writer) -> Result<(), EncodeError> {
        out.u8(self.durability as u8);
        out.u8(u8::from(self.takes_will_back));
        out.u8(self.priority);
        out.u64(self.wait_ns);
        self.records.write(out)
    }

    #[inline]
    pub(super) fn read(fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            durability: Durability::read(fields)?,
            takes_will_back: fields.u8("flags")? & 1 != 0,
            priority: fields.u8("priority")?,
            wait_ns: fields.u64("wait")?,
            records: Records::read(fields)?,
        })
    }
}

impl Durability {
    #[inline]
    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match fields.u8("durability")? {
            1 => Ok(Self::Stored),
            2 => Ok(Self::Synced),
            got => Err(DecodeError::Value { field: "durability", got: got.into() }),
        }
    }
}

impl Start {
    pub(super) fn write(self, out: &mut Writer) {
        let (kind, position) = match self {
            Self::At(position) => (1, position),
            Self::First => (2, 0),
            Self::End => (3, 0),
        };
        out.u8(kind);
        out.u64(position);
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, position) = (fields.u8("start")?, fields.u64("position")?);
        match kind {
            1 => Ok(Self::At(position)),
            2 => Ok(Self::First),
            3 => Ok(Self::End),
            got => Err(DecodeError::Value { field: "start", got: got.into() }),
        }
    }
}

impl fmt::Display for Short {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Behind => "a follower is too far behind (hint: wait for it)",
            Self::DiskFull => "the disk is full (hint: free space, or trim the log)",
            Self::LogFull => "the log has as many segments as it may (hint: trim it)",
            Self::Cancelled => "it was cancelled",
        })
    }
}

impl Appended {
    /// The answer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    /// The same without an allocation.
    pub fn to_bytes(&self) -> [u8; APPENDED_BYTES] {
        let mut bytes = [0; APPENDED_BYTES];
        bytes[..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12] = self.short.map_or(0, |short| short as u8);
        bytes
    }

    /// The answer of foreign bytes.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes);
        let (first, count) = (fields.u64("first")?, fields.u32("count")?);
        let short = match fields.u8("short")? {
            0 => None,
            1 => Some(Short::Behind),
            2 => Some(Short::DiskFull),
            3 => Some(Short::LogFull),
            4 => Some(Short::Cancelled),
            got => return Err(DecodeError::Value { field: "short", got: got.into() }),
        };
        Ok(Self { first, count, short })
    }
}

impl Trimmed {
    /// The answer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        [self.first, self.records, self.bytes].map(u64::to_le_bytes).concat()
    }

    /// The answer of foreign bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes);
        let (first, records) = (fields.u64("first")?, fields.u64("records")?);
        Ok(Self { first, records, bytes: fields.u64("bytes")? })
    }
}

impl Info {
    /// The answer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Self { first, next, synced, segments, bytes, followers, options } = self;
        let numbers = [*first, *next, *synced, *segments, *bytes, *followers];
        let mut out = numbers.map(u64::to_le_bytes).concat();
        options.append_to(&mut out);
        out
    }

    pub(super) fn read(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first: fields.u64("first")?,
            next: fields.u64("next")?,
            synced: fields.u64("synced")?,
            segments: fields.u64("segments")?,
            bytes: fields.u64("bytes")?,
            followers: fields.u64("followers")?,
            options: Options::read(fields)?,
        })
    }
}

impl<'a> Records<'a> {
    /// Records of these payloads.
    pub fn from_payloads(payloads: &'a [&'a [u8]]) -> Self {
        Self(Source::Payloads(payloads))
    }

    /// The payloads in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let (payloads, mut encoded) = match self.0 {
            Source::Payloads(payloads) => (payloads, &[][..]),
            Source::Encoded(bytes) => (&[][..], bytes),
        };
        payloads.iter().copied().chain(std::iter::from_fn(move || {
            let (payload, rest) = split(encoded).ok()?;
            encoded = rest;
            Some(payload)
        }))
    }

    /// The payload where there is just one.
    #[inline]
    pub fn only(&self) -> Option<&'a [u8]> {
        match self.0 {
            Source::Payloads([payload]) => Some(payload),
            Source::Payloads(_) => None,
            Source::Encoded(bytes) => {
                split(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(payload, _)| payload)
            }
        }
    }

    pub(super) fn write(&self, out: &mut Writer) -> Result<(), EncodeError> {
        let (mut count, field) = (0, "records");
        for payload in self.iter() {
            count += 1;
            out.rest(&encoded_length(payload)?);
            out.rest(payload);
        }
        let (got, max) = (count, LOG_RECORDS_PER_APPEND_MAX);
        if got > max { Err(EncodeError::TooLong { field, got, max }) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn read(fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let encoded = fields.rest();
        let (mut rest, mut count) = (encoded, 0);
        while !rest.is_empty() {
            rest = split(rest)?.1;
            count += 1;
            let (got, max) = (count, LOG_RECORDS_PER_APPEND_MAX);
            if got > max {
                return Err(DecodeError::TooLong { field: "records", got, max });
            }
        }
        Ok(Self(Source::Encoded(encoded)))
    }
}

impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Records<'_> {}

/// What stands before a payload.
#[inline]
pub(super) fn encoded_length(payload: &[u8]) -> Result<[u8; 4], EncodeError> {
    let (got, max) = (payload.len(), LOG_RECORD_BYTES_MAX);
    if got > max {
        return Err(EncodeError::TooLong { field: "record", got, max });
    }
    Ok((got as u32).to_le_bytes())
}

/// The first record of some, and the rest.
#[inline]
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let truncated = DecodeError::Truncated { field: "record" };
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Err(truncated) };
    let got = u32::from_le_bytes(*length) as usize;
    if got > LOG_RECORD_BYTES_MAX {
        let max = LOG_RECORD_BYTES_MAX;
        return Err(DecodeError::TooLong { field: "record", got, max });
    }
    rest.split_at_checked(got).ok_or(truncated)
}

impl<'a> Entry<'a> {
    /// Puts the entry behind others. Names of senders are words.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        let other = |bytes: &mut Vec<u8>, kind: u8, first: u64, next: u64| {
            bytes.extend(u64::from(kind).to_le_bytes());
            bytes.extend(first.to_le_bytes());
            bytes.extend(next.to_le_bytes());
        };
        match *self {
            Self::Begin { position } => other(bytes, KIND_BEGIN, position, position),
            Self::Lost { first, next } => other(bytes, KIND_LOST, first, next),
            Self::Damaged { first, next } => other(bytes, KIND_DAMAGED, first, next),
            Self::Record(Record { position, time_ns, priority, sender, payload }) => {
                let sender = if sender.len() <= WORD_BYTES_MAX { sender } else { "" };
                bytes.extend([KIND_RECORD, priority]);
                bytes.extend((sender.len() as u16).to_le_bytes());
                bytes.extend((payload.len() as u32).to_le_bytes());
                bytes.extend(position.to_le_bytes());
                bytes.extend(time_ns.to_le_bytes());
                bytes.extend_from_slice(sender.as_bytes());
                bytes.extend_from_slice(payload);
            }
        }
    }

    /// The first entry of foreign bytes, and the rest of them.
    pub fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let truncated = DecodeError::Truncated { field: "entry" };
        let Some((head, rest)) = bytes.split_first_chunk::<ENTRY_BYTES>() else {
            return Err(truncated);
        };
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let (first, next) = (word(8), word(16));
        let entry = match head[0] {
            KIND_BEGIN => Self::Begin { position: first },
            KIND_LOST => Self::Lost { first, next },
            KIND_DAMAGED => Self::Damaged { first, next },
            KIND_RECORD => {
                let lengths = word(0);
                let name_length = usize::from((lengths >> 16) as u16);
                let (name, rest) = rest.split_at_checked(name_length).ok_or(truncated)?;
                let payload_length = (lengths >> 32) as usize;
                let truncated = DecodeError::Truncated { field: "payload" };
                let (payload, rest) = rest.split_at_checked(payload_length).ok_or(truncated)?;
                let wrong = DecodeError::Text { field: "sender" };
                let sender = std::str::from_utf8(name).ok().ok_or(wrong)?;
                let (priority, position, time_ns) = (head[1], first, next);
                let record = Record { position, time_ns, priority, sender, payload };
                return Ok((Self::Record(record), rest));
            }
            got => return Err(DecodeError::Value { field: "entry", got: got.into() }),
        };
        Ok((entry, rest))
    }

    /// The position behind it.
    pub fn next_position(&self) -> u64 {
        match *self {
            Self::Begin { position } => position,
            Self::Record(Record { position, .. }) => position.saturating_add(1),
            Self::Lost { next, .. } | Self::Damaged { next, .. } => next,
        }
    }
}

impl Entries {
    /// Entries of foreign bytes; all of them are looked at.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let (mut rest, mut next) = (&bytes[..], 0);
        while !rest.is_empty() {
            let (entry, behind) = Entry::split(rest)?;
            next = entry.next_position();
            rest = behind;
        }
        Ok(Self { bytes, next })
    }

    /// Records, and what was lost, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = &self.bytes[..];
        let all = std::iter::from_fn(move || {
            let (entry, behind) = Entry::split(rest).ok()?;
            rest = behind;
            Some(entry)
        });
        all.filter(|entry| !matches!(entry, Entry::Begin { .. }))
    }

    /// Where to go on.
    pub fn next_position(&self) -> u64 {
        self.next
    }
}
