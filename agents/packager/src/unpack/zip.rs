//! Zip archives in which every byte belongs to exactly one file, whichever end one starts to read
//! from. Not what is in them: a wheel is checked by [`wheel`](super::wheel).
//!
//! A zip archive says everything twice, in front of each file and in a directory at the end.
//! Programs that believe different copies unpack different files, so here both must agree, the
//! files must follow each other without a gap from the first byte on, and the directory must end
//! exactly where the end record begins.

use std::io::{self, BufRead, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};
use ring::digest;

use super::names::{self, Names};
use super::record::{Algorithm, Digest};
use super::source::{Section, Source};
use super::{Entry, Refusal, check_output};
use crate::limits;

mod directory;

pub(super) use directory::Member;
use directory::Method;

/// An archive whose directory was checked.
pub(super) struct Zip<'a> {
    source: Source<'a>,
    pub(super) members: Vec<Member>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Zip<'a> {
    /// Reads the directory and compares it with the headers in front of the files.
    pub(super) fn open(source: Source<'a>) -> Result<Self, Refusal> {
        let size = source.size().map_err(Refusal::from_read)?;
        let members = directory::read(source, size)?;
        let warnings = check_names(&members)?;
        check_output(size, members.iter().map(|member| member.size).fold(0, u64::saturating_add))?;
        Ok(Self { source, members, warnings })
    }

    /// The content of one member, compared with a digest where one is expected.
    pub(super) fn content(&self, member: &Member, expected: Option<Digest>) -> Content<'a> {
        let packed =
            Section::new(self.source, member.data_start, member.data_start + member.packed_size);
        let stream = match member.method {
            Method::Stored => Stream::Stored(packed),
            Method::Deflated => Stream::Deflated(Box::new(Inflate::new(packed))),
        };
        Content {
            name: member.name.clone(),
            stream,
            remaining: member.size,
            crc: Crc::new(),
            expected_crc: member.crc,
            hash: expected.map(|digest| {
                (digest::Context::new(Algorithm::ring(digest.algorithm)), digest.bytes)
            }),
        }
    }
}

/// Reads an archive that need not be a wheel, and hands each file to `take`, in the archive's
/// order. Returns the warnings. What `take` does not read of a file is read and verified
/// nevertheless.
pub fn read<E: From<Refusal>>(
    source: Source<'_>,
    mut take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    let zip = Zip::open(source)?;
    for member in zip.members.iter().filter(|member| !member.is_directory()) {
        let mut content = zip.content(member, None);
        take(member.entry(), &mut content)?;
        content.finish()?;
    }
    Ok(zip.warnings)
}

fn check_names(members: &[Member]) -> Result<Vec<String>, Refusal> {
    let mut seen = Names::default();
    for member in members {
        seen.count()?;
        match member.name.strip_suffix('/') {
            Some(directory) => {
                names::check(directory)?;
                if member.size != 0 {
                    return Err(Refusal::Disagree { name: member.name.clone(), what: "the size" });
                }
                seen.add_directory(directory)?;
            }
            None => {
                names::check(&member.name)?;
                if seen.add_file(&member.name)? {
                    return Err(Refusal::Repeated(member.name.clone()));
                }
                if member.size > limits::ARCHIVE_FILE_BYTES_MAX {
                    return Err(Refusal::TooMuch {
                        what: "bytes in one file",
                        max: limits::ARCHIVE_FILE_BYTES_MAX,
                    });
                }
            }
        }
    }
    Ok(seen.into_warnings())
}

enum Stream<'a> {
    Stored(Section<'a>),
    Deflated(Box<Inflate<'a>>),
}

/// The content of one file; fails at its end if anything that was promised does not hold.
pub(super) struct Content<'a> {
    name: String,
    stream: Stream<'a>,
    remaining: u64,
    crc: Crc,
    expected_crc: u32,
    hash: Option<(digest::Context, Vec<u8>)>,
}

impl Content<'_> {
    pub(super) fn finish(mut self) -> Result<(), Refusal> {
        let mut buffer = [0; 16 << 10];
        while self.remaining > 0 {
            self.read(&mut buffer).map_err(Refusal::from_read)?;
        }
        let ended = match &mut self.stream {
            Stream::Stored(section) => section.remaining() == 0,
            Stream::Deflated(inflate) => inflate.ends_here().map_err(Refusal::from_read)?,
        };
        if !ended {
            return Err(Refusal::Disagree { name: self.name, what: "the size" });
        }
        if self.crc.sum() != self.expected_crc {
            return Err(Refusal::Damaged(format!("the checksum of `{}` is wrong", self.name)));
        }
        match self.hash {
            Some((hash, expected)) if hash.clone().finish().as_ref() != expected => {
                Err(Refusal::Disagree { name: self.name, what: "`RECORD`'s digest" })
            }
            _ => Ok(()),
        }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = match &mut self.stream {
            Stream::Stored(section) => section.read(&mut buffer[..wanted])?,
            Stream::Deflated(inflate) => inflate.read(&mut buffer[..wanted])?,
        };
        if count == 0 {
            let refusal = Refusal::Disagree { name: self.name.clone(), what: "the size" };
            return Err(io::Error::other(refusal));
        }
        self.remaining -= count as u64;
        self.crc.update(&buffer[..count]);
        if let Some((hash, _)) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        Ok(count)
    }
}

/// A deflate stream that knows whether its last block came, which the readers of `flate2` do not
/// tell.
struct Inflate<'a> {
    packed: io::BufReader<Section<'a>>,
    state: Decompress,
    ended: bool,
}

impl<'a> Inflate<'a> {
    fn new(packed: Section<'a>) -> Self {
        let packed = io::BufReader::with_capacity(32 << 10, packed);
        Self { packed, state: Decompress::new(false), ended: false }
    }

    /// Whether the stream ends exactly here, with all of its input used.
    fn ends_here(&mut self) -> io::Result<bool> {
        let mut probe = [0; 1];
        Ok(self.read(&mut probe)? == 0 && self.ended && self.packed.fill_buf()?.is_empty())
    }
}

impl Read for Inflate<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            let input = self.packed.fill_buf()?;
            let exhausted = input.is_empty();
            let (in_before, out_before) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(input, buffer, FlushDecompress::None)
                .map_err(io::Error::other)?;
            let consumed = (self.state.total_in() - in_before) as usize;
            let produced = (self.state.total_out() - out_before) as usize;
            self.packed.consume(consumed);
            self.ended = status == Status::StreamEnd;
            if produced > 0 || (exhausted && consumed == 0) {
                return Ok(produced);
            }
        }
        Ok(0)
    }
}
