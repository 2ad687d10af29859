//! The bytes of a segment file: its header, its records, and how to tell a record from anything
//! else. Pure; `ipc/PROTOCOL.md` section 9 says the same in tables.
//!
//! A file may hold anything (a crash, a bad disk, another program), so nothing here believes a
//! length before its checksum is right, and nothing panics. The checksums are seeded with a number
//! that was drawn when the log was made: a payload cannot contain the image of a record that this
//! log would take for one of its own.
//!
//! Not here: files (`storage`), the search for what follows damage (`scan`).

use std::ops::Range;

use crate::limits::{LOG_NAME_BYTES_MAX, LOG_PAYLOAD_BYTES_MAX};

/// `BLLG`, the first bytes of a segment file.
const MAGIC: [u8; 4] = *b"BLLG";
/// Major and minor number of the format; another major is not read.
const VERSION: (u16, u16) = (1, 0);
/// Bytes before the first record. One page, so that a record never shares one with the header.
pub(super) const HEADER_BYTES: usize = 4096;
/// Where the second copy of the header stands: one bad disk sector cannot take both.
const HEADER_COPY_AT: usize = 2048;
const HEADER_FIELDS_BYTES: usize = 184;
const SUBJECT_AT: usize = 50;
const HEADER_CHECKSUM_AT: usize = 180;
/// Bytes of a record before the sender's name.
pub(super) const RECORD_HEADER_BYTES: usize = 64;
/// Records start at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// The longest record, without what aligns the next one.
pub(super) const RECORD_BYTES_MAX: usize =
    RECORD_HEADER_BYTES + LOG_NAME_BYTES_MAX + LOG_PAYLOAD_BYTES_MAX;

const _: () = assert!(SUBJECT_AT + LOG_NAME_BYTES_MAX <= HEADER_CHECKSUM_AT);
const _: () = assert!(HEADER_FIELDS_BYTES <= HEADER_COPY_AT);
const _: () = assert!(HEADER_COPY_AT + HEADER_FIELDS_BYTES <= HEADER_BYTES);

/// What a segment file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Position of its first record; also its name.
    pub(super) first: u64,
    /// Seed of all checksums of records, the same in all segments of a log.
    pub(super) salt: u64,
    /// When it was made, nanoseconds since 1970.
    pub(super) created_ns: u64,
    /// All positions below this were synced when it was made.
    pub(super) synced: u64,
    /// Whose log this is.
    pub(super) subject: String,
}

/// What a sender gives for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// When it was accepted, nanoseconds since 1970.
    pub(crate) time_ns: u64,
    /// The number that the sender had on the bus; means nothing after a restart.
    pub(crate) sender: u32,
    /// The sender's name, at most `LOG_NAME_BYTES_MAX` bytes.
    pub(crate) sender_name: &'a str,
    /// 1 to 10 as in a message's header; not judged here.
    pub(crate) priority: u8,
    /// By which a repeated message is known; 0: none.
    pub(crate) dedup: u128,
    /// At most `LOG_PAYLOAD_BYTES_MAX` bytes.
    pub(crate) payload: &'a [u8],
}

/// A record as it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    /// Its place in the log.
    pub(crate) position: u64,
    /// All positions below this were synced when it was written.
    pub(super) synced: u64,
    /// What the sender gave.
    pub(crate) record: Record<'a>,
}

/// What stands at some place of a segment, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// The header of a record that takes so many bytes until the next one.
    Record(usize),
    /// Nothing was written here.
    Nothing,
    /// Something else.
    Damaged,
}

/// What stands at some place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A record, and the bytes until the next one.
    Record(Stored<'a>, usize),
    /// The header is right and the rest is not: so many bytes until the next record.
    DamagedBody(usize),
    /// No record.
    Other(Beginning),
}

/// Bytes that a record takes, with what aligns the next one.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// Bytes of this record without what aligns the next one.
pub(super) fn record_length(record: &Record<'_>) -> usize {
    RECORD_HEADER_BYTES + record.sender_name.len() + record.payload.len()
}

/// With what every checksum of a log begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u32);

impl Seed {
    /// That of a log whose headers have this salt.
    pub(super) fn of(salt: u64) -> Self {
        Self(crc32c::crc32c(&salt.to_le_bytes()))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut copy = [0; N];
    copy.copy_from_slice(&bytes[at..at + N]);
    copy
}

fn header_checksum(seed: Seed, header: &[u8; RECORD_HEADER_BYTES]) -> u32 {
    let of_length = crc32c::crc32c_append(seed.0, &header[..4]);
    crc32c::crc32c_append(of_length, &header[8..])
}

/// The checksum of name and payload, as they stand one behind the other.
pub(super) fn body_checksum(seed: Seed, parts: &[&[u8]]) -> u32 {
    parts.iter().fold(seed.0, |before, part| crc32c::crc32c_append(before, part))
}

/// The first bytes of a record whose name and payload have this checksum. They follow, then zeros up to a multiple of 8.
pub(super) fn encode_record_header(
    record: &Record<'_>,
    (position, synced): (u64, u64),
    seed: Seed,
    of_body: u32,
) -> [u8; RECORD_HEADER_BYTES] {
    debug_assert!(record.sender_name.len() <= LOG_NAME_BYTES_MAX);
    debug_assert!(record.payload.len() <= LOG_PAYLOAD_BYTES_MAX);
    let mut bytes = [0; RECORD_HEADER_BYTES];
    bytes[0..4].copy_from_slice(&(record_length(record) as u32).to_le_bytes());
    bytes[8..16].copy_from_slice(&position.to_le_bytes());
    bytes[16..24].copy_from_slice(&record.time_ns.to_le_bytes());
    bytes[24..32].copy_from_slice(&synced.to_le_bytes());
    bytes[32..48].copy_from_slice(&record.dedup.to_le_bytes());
    bytes[48..52].copy_from_slice(&record.sender.to_le_bytes());
    bytes[52..56].copy_from_slice(&of_body.to_le_bytes());
    bytes[56..58].copy_from_slice(&(record.sender_name.len() as u16).to_le_bytes());
    bytes[58] = record.priority;
    let checksum = header_checksum(seed, &bytes);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Judges the first bytes of what stands somewhere, `RECORD_HEADER_BYTES` or what the file has. A
/// record outside of `accepted` is none: positions only grow, so it is the image of an older one.
pub(super) fn begin(bytes: &[u8], salt: u64, accepted: &Range<u64>) -> Beginning {
    let Some(length) = bytes.get(..4) else { return Beginning::Nothing };
    let length = u32::from_le_bytes(array(length, 0)) as usize;
    if length == 0 {
        return Beginning::Nothing;
    }
    let is_possible = (RECORD_HEADER_BYTES..=RECORD_BYTES_MAX).contains(&length);
    if !is_possible || bytes.len() < RECORD_HEADER_BYTES {
        return Beginning::Damaged;
    }
    let header: [u8; RECORD_HEADER_BYTES] = array(bytes, 0);
    let position = u64::from_le_bytes(array(&header, 8));
    let name_length = usize::from(u16::from_le_bytes(array(&header, 56)));
    let is_header = accepted.contains(&position)
        && header_checksum(Seed::of(salt), &header) == u32::from_le_bytes(array(&header, 4))
        && name_length <= LOG_NAME_BYTES_MAX.min(length - RECORD_HEADER_BYTES);
    if is_header { Beginning::Record(padded(length)) } else { Beginning::Damaged }
}

/// Judges the whole of what stands somewhere. `bytes` has all that [`begin`] said it takes, or
/// what the file has.
pub(super) fn examine<'a>(bytes: &'a [u8], salt: u64, accepted: &Range<u64>) -> Found<'a> {
    let size = match begin(bytes, salt, accepted) {
        Beginning::Record(size) => size,
        other => return Found::Other(other),
    };
    let Some(bytes) = bytes.get(..size) else { return Found::DamagedBody(size) };
    let length = u32::from_le_bytes(array(bytes, 0)) as usize;
    let checksum = body_checksum(Seed::of(salt), &[&bytes[RECORD_HEADER_BYTES..length]]);
    let is_whole = checksum == u32::from_le_bytes(array(bytes, 52));
    match parse(bytes).filter(|_| is_whole) {
        Some(stored) => Found::Record(stored, size),
        None => Found::DamagedBody(size),
    }
}

/// The record at the start of bytes that [`examine`] found to be one.
pub(super) fn parse(bytes: &[u8]) -> Option<Stored<'_>> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    let length = u32::from_le_bytes(array(header, 0)) as usize;
    let name_length = usize::from(u16::from_le_bytes(array(header, 56)));
    let body = bytes.get(RECORD_HEADER_BYTES..length)?;
    let (name, payload) = body.split_at_checked(name_length)?;
    let record = Record {
        time_ns: u64::from_le_bytes(array(header, 16)),
        sender: u32::from_le_bytes(array(header, 48)),
        sender_name: std::str::from_utf8(name).ok()?,
        priority: header[58],
        dedup: u128::from_le_bytes(array(header, 32)),
        payload,
    };
    let position = u64::from_le_bytes(array(header, 8));
    Some(Stored { position, synced: u64::from_le_bytes(array(header, 24)), record })
}

impl SegmentHeader {
    /// The whole page, with both copies.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut fields = [0; HEADER_FIELDS_BYTES];
        fields[0..4].copy_from_slice(&MAGIC);
        fields[4..6].copy_from_slice(&VERSION.0.to_le_bytes());
        fields[6..8].copy_from_slice(&VERSION.1.to_le_bytes());
        fields[8..16].copy_from_slice(&self.first.to_le_bytes());
        fields[16..24].copy_from_slice(&self.salt.to_le_bytes());
        fields[24..32].copy_from_slice(&self.created_ns.to_le_bytes());
        fields[32..40].copy_from_slice(&self.synced.to_le_bytes());
        // 40..48 are zero.
        let subject = self.subject.as_bytes();
        fields[48..50].copy_from_slice(&(subject.len() as u16).to_le_bytes());
        fields[SUBJECT_AT..SUBJECT_AT + subject.len()].copy_from_slice(subject);
        let checksum = crc32c::crc32c(&fields[..HEADER_CHECKSUM_AT]);
        fields[HEADER_CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        let mut page = [0; HEADER_BYTES];
        page[..HEADER_FIELDS_BYTES].copy_from_slice(&fields);
        page[HEADER_COPY_AT..HEADER_COPY_AT + HEADER_FIELDS_BYTES].copy_from_slice(&fields);
        page
    }

    /// The first copy that is right, if one is. Fails with the major number of a later format.
    pub(super) fn decode(page: &[u8]) -> Result<Option<Self>, u16> {
        for at in [0, HEADER_COPY_AT] {
            let Some(fields) = page.get(at..at + HEADER_FIELDS_BYTES) else { continue };
            let checksum = u32::from_le_bytes(array(fields, HEADER_CHECKSUM_AT));
            if fields[..4] != MAGIC || crc32c::crc32c(&fields[..HEADER_CHECKSUM_AT]) != checksum {
                continue;
            }
            let major = u16::from_le_bytes(array(fields, 4));
            if major != VERSION.0 {
                return Err(major);
            }
            let length = usize::from(u16::from_le_bytes(array(fields, 48)));
            let subject = (length <= LOG_NAME_BYTES_MAX)
                .then(|| std::str::from_utf8(&fields[SUBJECT_AT..SUBJECT_AT + length]).ok());
            let Some(Some(subject)) = subject else { continue };
            return Ok(Some(Self {
                first: u64::from_le_bytes(array(fields, 8)),
                salt: u64::from_le_bytes(array(fields, 16)),
                created_ns: u64::from_le_bytes(array(fields, 24)),
                synced: u64::from_le_bytes(array(fields, 32)),
                subject: subject.to_owned(),
            }));
        }
        Ok(None)
    }
}
