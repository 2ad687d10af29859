//! METADATA out of a wheel that stays where it is: the end of the archive is read by range requests, the whole
//! file only where the server cannot read ranges.
//!
//! Only as much of the zip format as that takes; not an unpacker. Every offset and length is the server's word
//! and is checked against bounds before use.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use url::Url;

use crate::error::Result;
use crate::io::http::{Http, Request, Urgency, Validators, nonsense};
use crate::io::limits::{
    CORE_METADATA_BYTES_MAX, FILE_IN_MEMORY_BYTES_MAX, WHEEL_DIRECTORY_BYTES_MAX, WHEEL_TAIL_BYTES,
};
use crate::io::resource::Answer;
use crate::io::secret::Credentials;

const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const ENTRY_SIGNATURE: [u8; 4] = *b"PK\x01\x02";
const LOCAL_SIGNATURE: [u8; 4] = *b"PK\x03\x04";
const END_BYTES: usize = 22;
const ENTRY_BYTES: usize = 46;
const LOCAL_BYTES: u64 = 30;
/// A local header's name and extra fields may be longer than the directory's; this much is read along.
const LOCAL_SLACK_BYTES: u64 = 1024;

/// Reads one wheel.
pub(super) struct Reader<'a> {
    pub(super) http: &'a Http,
    pub(super) credentials: &'a Credentials,
    pub(super) url: &'a Url,
    pub(super) file_name: &'a str,
    pub(super) urgency: &'a Urgency,
}

/// Where METADATA is in the archive.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    offset: u64,
    packed_bytes: u64,
    unpacked_bytes: u64,
    name_bytes: u64,
    deflated: bool,
    crc: u32,
}

/// A run of bytes of the archive, starting at `start`.
struct Part {
    start: u64,
    bytes: Bytes,
}

impl Part {
    fn get(&self, from: u64, length: u64) -> Option<&[u8]> {
        let from = usize::try_from(from.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(usize::try_from(length).ok()?)?;
        self.bytes.get(from..to)
    }
}

impl Reader<'_> {
    /// The METADATA file; `None` where the index lists a wheel that does not exist.
    pub(super) async fn metadata(&self) -> Result<Option<Answer>> {
        let mut request =
            Request::new(self.url.clone(), Some(self.credentials), FILE_IN_MEMORY_BYTES_MAX);
        request.range = Some(format!("bytes=-{WHEEL_TAIL_BYTES}"));
        let reply = self.http.get(&request, self.urgency).await?;
        let body = match reply.status {
            StatusCode::PARTIAL_CONTENT => {
                let (start, total) = content_range(reply.header(&CONTENT_RANGE))
                    .ok_or_else(|| nonsense(&reply.url, "a part without saying which"))?;
                let tail = Part { start, bytes: reply.body.clone() };
                self.metadata_of_tail(tail, total).await?
            }
            // The server ignored the range and sent everything.
            StatusCode::OK => self.metadata_of_whole(reply.body.clone())?,
            _ if reply.is_missing() => return Ok(None),
            // It understood and refused, or did not understand: a file shorter than the tail, or no ranges.
            StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::BAD_REQUEST
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::METHOD_NOT_ALLOWED => match self.whole().await? {
                Some(bytes) => self.metadata_of_whole(bytes)?,
                None => return Ok(None),
            },
            _ => return Err(reply.unexpected()),
        };
        let url = self.url.clone();
        Ok(Some(Answer { url, media_type: String::new(), validators: Validators::default(), body }))
    }

    async fn whole(&self) -> Result<Option<Bytes>> {
        let mut request =
            Request::new(self.url.clone(), Some(self.credentials), FILE_IN_MEMORY_BYTES_MAX);
        // A range of everything: the answer must come without content coding, like the parts.
        request.range = Some("bytes=0-".to_owned());
        let reply = self.http.get(&request, self.urgency).await?;
        match reply.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(Some(reply.body)),
            _ if reply.is_missing() => Ok(None),
            _ => Err(reply.unexpected()),
        }
    }

    fn metadata_of_whole(&self, bytes: Bytes) -> Result<Bytes> {
        let total = bytes.len() as u64;
        let part = Part { start: 0, bytes };
        let read = || {
            let (offset, length) = directory(&part, total)?;
            let entries = part.get(offset, length).ok_or("its directory is outside of it")?;
            let place = find_metadata(entries, self.file_name)?;
            unpack(&part, &place)
        };
        read().map_err(|why| self.damaged(why))
    }

    async fn metadata_of_tail(&self, tail: Part, total: u64) -> Result<Bytes> {
        let (offset, length) = directory(&tail, total).map_err(|why| self.damaged(why))?;
        let fetched;
        let entries = match tail.get(offset, length) {
            Some(entries) => entries,
            None => {
                fetched = self.part(offset, length, total).await?;
                fetched
                    .get(offset, length)
                    .ok_or_else(|| self.damaged("its directory is outside of it"))?
            }
        };
        let place = find_metadata(entries, self.file_name).map_err(|why| self.damaged(why))?;
        let wanted = LOCAL_BYTES + place.name_bytes + LOCAL_SLACK_BYTES + place.packed_bytes;
        let wanted = wanted.min(total.saturating_sub(place.offset));
        if tail.get(place.offset, wanted).is_some() {
            return unpack(&tail, &place).map_err(|why| self.damaged(why));
        }
        let part = self.part(place.offset, wanted, total).await?;
        unpack(&part, &place).map_err(|why| self.damaged(why))
    }

    async fn part(&self, from: u64, length: u64, total: u64) -> Result<Part> {
        let end = from.checked_add(length).filter(|end| length > 0 && *end <= total);
        let end = end.ok_or_else(|| self.damaged("an entry is outside of it"))?;
        let mut request =
            Request::new(self.url.clone(), Some(self.credentials), FILE_IN_MEMORY_BYTES_MAX);
        request.range = Some(format!("bytes={from}-{}", end - 1));
        let reply = self.http.get(&request, self.urgency).await?;
        match reply.status {
            StatusCode::OK => Ok(Part { start: 0, bytes: reply.body }),
            StatusCode::PARTIAL_CONTENT => {
                let range = content_range(reply.header(&CONTENT_RANGE));
                if range != Some((from, total)) || reply.body.len() as u64 != length {
                    return Err(nonsense(&reply.url, "another part than it was asked for"));
                }
                Ok(Part { start: from, bytes: reply.body })
            }
            _ => Err(reply.unexpected()),
        }
    }

    fn damaged(&self, why: &str) -> crate::error::Error {
        nonsense(self.url, format!("the wheel cannot be read: {why}"))
    }
}

/// The METADATA of a wheel that lies on this machine; the inner error says why it is no wheel.
pub(super) fn metadata_of_file(
    file: &File,
    file_name: &str,
) -> std::io::Result<Result<Bytes, &'static str>> {
    let total = file.metadata()?.len();
    let part = |from: u64, length: u64| -> std::io::Result<Part> {
        let from = from.min(total);
        let length = length.min(total - from).min(FILE_IN_MEMORY_BYTES_MAX as u64);
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, from)?;
        Ok(Part { start: from, bytes: bytes.into() })
    };
    let tail = part(total.saturating_sub(WHEEL_TAIL_BYTES), WHEEL_TAIL_BYTES)?;
    let (offset, length) = match directory(&tail, total) {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let entries = part(offset, length)?;
    let place = match find_metadata(&entries.bytes, file_name) {
        Ok(place) => place,
        Err(why) => return Ok(Err(why)),
    };
    let wanted = LOCAL_BYTES + place.name_bytes + LOCAL_SLACK_BYTES + place.packed_bytes;
    Ok(unpack(&part(place.offset, wanted)?, &place))
}

/// `bytes START-END/TOTAL`, as start and total.
fn content_range(header: Option<&str>) -> Option<(u64, u64)> {
    let (range, total) = header?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    found.map_or(0, |bytes| u64::from(u16::from_le_bytes(bytes)))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    found.map_or(0, |bytes| u64::from(u32::from_le_bytes(bytes)))
}

/// Offset and length of the directory, from the record at the archive's end.
fn directory(tail: &Part, total: u64) -> Result<(u64, u64), &'static str> {
    let bytes = &tail.bytes;
    let last = bytes.len().checked_sub(END_BYTES).ok_or("it is too short for an archive")?;
    // The record ends with a comment of a length that it tells itself; both must fit.
    let at = (0..=last)
        .rev()
        .find(|at| {
            bytes[*at..].starts_with(&END_SIGNATURE)
                && at + END_BYTES + u16_at(bytes, at + 20) as usize == bytes.len()
        })
        .ok_or("it has no directory")?;
    let (length, offset) = (u32_at(bytes, at + 12), u32_at(bytes, at + 16));
    if offset == u64::from(u32::MAX) || length == u64::from(u32::MAX) {
        return Err("it is in the zip64 format");
    }
    if length > WHEEL_DIRECTORY_BYTES_MAX {
        return Err("its directory is too large");
    }
    let end = tail.start + at as u64;
    if end > total || offset + length != end {
        return Err("its directory is not where it should be");
    }
    Ok((offset, length))
}

/// The only `NAME-VERSION.dist-info/METADATA` at the top; a wheel with two could show each reader another one.
fn find_metadata(mut entries: &[u8], file_name: &str) -> Result<Place, &'static str> {
    let mut found = None;
    while !entries.is_empty() {
        if entries.len() < ENTRY_BYTES || !entries.starts_with(&ENTRY_SIGNATURE) {
            return Err("its directory is damaged");
        }
        let name_bytes = u16_at(entries, 28);
        let length = ENTRY_BYTES as u64 + name_bytes + u16_at(entries, 30) + u16_at(entries, 32);
        let name = entries.get(ENTRY_BYTES..ENTRY_BYTES + name_bytes as usize);
        let (Some(name), Some(rest)) = (name, entries.get(length as usize..)) else {
            return Err("its directory is damaged");
        };
        if is_metadata(name, file_name) {
            if found.is_some() {
                return Err("it has several METADATA files");
            }
            let method = u16_at(entries, 10);
            if !matches!(method, 0 | 8) || u16_at(entries, 8) & 1 != 0 {
                return Err("its METADATA is encrypted or in an unknown coding");
            }
            found = Some(Place {
                offset: u32_at(entries, 42),
                packed_bytes: u32_at(entries, 20),
                unpacked_bytes: u32_at(entries, 24),
                name_bytes,
                deflated: method == 8,
                crc: u32_at(entries, 16) as u32,
            });
        }
        entries = rest;
    }
    let place = found.ok_or("it has no METADATA")?;
    let limit = CORE_METADATA_BYTES_MAX as u64;
    if place.unpacked_bytes > limit || place.packed_bytes > limit {
        return Err("its METADATA is too large");
    }
    Ok(place)
}

fn is_metadata(name: &[u8], file_name: &str) -> bool {
    let Some(directory) =
        std::str::from_utf8(name).ok().and_then(|name| name.strip_suffix("/METADATA"))
    else {
        return false;
    };
    let Some(stem) = directory.strip_suffix(".dist-info") else { return false };
    // Spelling differs between tools; that the project is right is checked by what METADATA says.
    let project = |text: &str| {
        let name = text.split('-').next().unwrap_or_default();
        name.to_ascii_lowercase().replace(['.', '-'], "_")
    };
    !stem.contains('/') && project(stem) == project(file_name)
}

fn unpack(part: &Part, place: &Place) -> Result<Bytes, &'static str> {
    let header = part.get(place.offset, LOCAL_BYTES).ok_or("METADATA is outside of it")?;
    if !header.starts_with(&LOCAL_SIGNATURE) {
        return Err("METADATA is not where its directory says");
    }
    let start = place.offset + LOCAL_BYTES + u16_at(header, 26) + u16_at(header, 28);
    let packed = part.get(start, place.packed_bytes).ok_or("METADATA is outside of it")?;
    let bytes = if place.deflated {
        let mut bytes = Vec::new();
        // One byte more than announced shows that there is more.
        let decoder = flate2::read::DeflateDecoder::new(packed).take(place.unpacked_bytes + 1);
        let mut decoder = decoder;
        decoder.read_to_end(&mut bytes).map_err(|_| "METADATA cannot be unpacked")?;
        bytes
    } else {
        packed.to_vec()
    };
    let mut crc = flate2::Crc::new();
    crc.update(&bytes);
    if bytes.len() as u64 != place.unpacked_bytes || crc.sum() != place.crc {
        return Err("METADATA is damaged");
    }
    Ok(bytes.into())
}

#[cfg(test)]
pub(super) mod tests;
