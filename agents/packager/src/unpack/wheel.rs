//! Wheels: zip archives in which every byte belongs to exactly one file, whichever end one starts
//! to read from.
//!
//! A zip archive says everything twice, in front of each file and in a directory at the end.
//! Programs that believe different copies unpack different files, so here both must agree, the
//! files must follow each other without a gap from the first byte on, and the directory must end
//! exactly where the end record begins. Digests are compared with `RECORD` while the content passes
//! by; every file must be listed there, as the specification of wheels demands.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};
use ring::digest;

use super::names::{self, Names};
use super::record::{self, Algorithm, Line};
use super::source::{Section, Source};
use super::{Entry, Refusal, check_output};
use crate::limits;

mod directory;

use directory::{Member, Method};

/// What the names inside a wheel say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `name-version`, the stem of `.dist-info`.
    pub stem: String,
    /// The name as the wheel spells it.
    pub name: String,
    /// The version as the wheel spells it.
    pub version: String,
}

/// A wheel whose directory was checked and whose `RECORD` was read.
pub struct Wheel<'a> {
    source: Source<'a>,
    size: u64,
    members: Vec<Member>,
    identity: Identity,
    record: HashMap<String, Line>,
    warnings: Vec<String>,
}

impl<'a> Wheel<'a> {
    /// Reads the directory, compares it with the headers in front of the files, and reads `RECORD`.
    pub fn open(source: Source<'a>) -> Result<Self, Refusal> {
        let size = source.size().map_err(Refusal::from_read)?;
        let members = directory::read(source, size)?;
        let warnings = check_names(&members)?;
        let identity = identify(&members)?;
        check_output(size, members.iter().map(|member| member.size).fold(0, u64::saturating_add))?;
        let mut wheel = Self { source, size, members, identity, record: HashMap::new(), warnings };
        wheel.record = wheel.read_record()?;
        Ok(wheel)
    }

    /// What the names say.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Hands each file to `take`, in the archive's order. Returns the warnings. What `take` does
    /// not read of a file is read and verified nevertheless.
    pub fn read<E: From<Refusal>>(
        mut self,
        mut take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let info = format!("{}.dist-info/", self.identity.stem);
        for member in
            std::mem::take(&mut self.members).iter().filter(|member| !member.is_directory())
        {
            let entry = Entry {
                path: member.name.clone(),
                size: member.size,
                executable: member.executable,
                repeated: false,
            };
            let listed = self.record.remove(&member.name);
            let exempt = member
                .name
                .strip_prefix(&info)
                .is_some_and(|name| matches!(name, "RECORD" | "RECORD.jws" | "RECORD.p7s"));
            if listed.is_none() && !exempt {
                return Err(
                    Refusal::Disagree { name: member.name.clone(), what: "the presence" }.into()
                );
            }
            let expected = listed.filter(|_| !exempt);
            if !exempt && expected.as_ref().is_some_and(|line| line.digest.is_none()) {
                self.warnings.push(format!("`RECORD` has no digest for `{}`", member.name));
            }
            let mut content = self.content(member, expected)?;
            take(entry, &mut content)?;
            content.finish()?;
        }
        match self.record.into_keys().next() {
            Some(missing) => Err(Refusal::Layout(format!(
                "`RECORD` lists `{missing}`, which is not in the archive"
            ))
            .into()),
            None => Ok(self.warnings),
        }
    }

    fn read_record(&self) -> Result<HashMap<String, Line>, Refusal> {
        let path = format!("{}.dist-info/RECORD", self.identity.stem);
        let member = self
            .members
            .iter()
            .find(|member| member.name == path)
            .ok_or_else(|| Refusal::Layout("it has no `RECORD`".to_owned()))?;
        if member.size > limits::RECORD_BYTES_MAX {
            return Err(Refusal::TooMuch {
                what: "bytes in `RECORD`",
                max: limits::RECORD_BYTES_MAX,
            });
        }
        let mut text = String::new();
        let mut content = self.content(member, None)?;
        content.read_to_string(&mut text).map_err(Refusal::from_read)?;
        content.finish()?;
        let mut lines = HashMap::new();
        for line in record::parse(&text)? {
            if line.path.ends_with('/') {
                continue;
            }
            if let Some(previous) = lines.insert(line.path.clone(), line.clone())
                && previous != line
            {
                return Err(Refusal::Disagree { name: line.path, what: "`RECORD`'s digest" });
            }
        }
        Ok(lines)
    }

    fn content(&self, member: &Member, expected: Option<Line>) -> Result<Content<'a>, Refusal> {
        let packed =
            Section::new(self.source, member.data_start, member.data_start + member.packed_size);
        let stream = match member.method {
            Method::Stored => Stream::Stored(packed),
            Method::Deflated => Stream::Deflated(Box::new(Inflate::new(packed))),
        };
        if expected.as_ref().and_then(|line| line.size).is_some_and(|size| size != member.size) {
            return Err(Refusal::Disagree { name: member.name.clone(), what: "the size" });
        }
        let digest = expected.and_then(|line| line.digest);
        Ok(Content {
            name: member.name.clone(),
            stream,
            remaining: member.size,
            crc: Crc::new(),
            expected_crc: member.crc,
            hash: digest.map(|digest| {
                (digest::Context::new(Algorithm::ring(digest.algorithm)), digest.bytes)
            }),
        })
    }

    /// The size of the artefact in bytes.
    pub fn packed_size(&self) -> u64 {
        self.size
    }
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

/// Exactly one `.dist-info`, and no `.data` but its own: with two, tools pick different ones.
fn identify(members: &[Member]) -> Result<Identity, Refusal> {
    let mut stem: Option<&str> = None;
    let tops = members.iter().filter_map(|member| member.name.split_once('/')).map(|(top, _)| top);
    for found in tops.clone().filter_map(|top| top.strip_suffix(".dist-info")) {
        if *stem.get_or_insert(found) != found {
            return Err(Refusal::Layout("it has more than one `.dist-info` directory".to_owned()));
        }
    }
    let stem =
        stem.ok_or_else(|| Refusal::Layout("it has no `.dist-info` directory".to_owned()))?;
    if tops.filter_map(|top| top.strip_suffix(".data")).any(|found| found != stem) {
        return Err(Refusal::Layout("it has the `.data` directory of another package".to_owned()));
    }
    let (name, version) = stem
        .split_once('-')
        .filter(|(name, version)| !name.is_empty() && !version.contains('-'))
        .ok_or_else(|| {
            Refusal::Layout("its `.dist-info` directory is not named after a version".to_owned())
        })?;
    Ok(Identity { stem: stem.to_owned(), name: name.to_owned(), version: version.to_owned() })
}

enum Stream<'a> {
    Stored(Section<'a>),
    Deflated(Box<Inflate<'a>>),
}

/// The content of one file; fails at its end if anything that was promised does not hold.
struct Content<'a> {
    name: String,
    stream: Stream<'a>,
    remaining: u64,
    crc: Crc,
    expected_crc: u32,
    hash: Option<(digest::Context, Vec<u8>)>,
}

impl Content<'_> {
    fn finish(mut self) -> Result<(), Refusal> {
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
