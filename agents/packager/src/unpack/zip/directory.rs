//! The directory of a zip archive, checked against the headers in front of the files. Knows no
//! wheels.

use crate::limits;
use crate::unpack::source::Source;
use crate::unpack::{Entry, Refusal, printable};

/// How the content of a member is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::unpack) enum Method {
    Stored,
    Deflated,
}

/// One member. A directory's name ends with `/`.
#[derive(Clone, Debug)]
pub(in crate::unpack) struct Member {
    pub(in crate::unpack) name: String,
    pub(super) method: Method,
    pub(super) crc: u32,
    pub(super) packed_size: u64,
    pub(in crate::unpack) size: u64,
    executable: bool,
    pub(super) data_start: u64,
    flags: u16,
    header_start: u64,
}

impl Member {
    pub(in crate::unpack) fn is_directory(&self) -> bool {
        self.name.ends_with('/')
    }

    /// The file that it is.
    pub(in crate::unpack) fn entry(&self) -> Entry {
        Entry {
            path: self.name.clone(),
            size: self.size,
            executable: self.executable,
            repeated: false,
        }
    }
}

const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const END64_SIGNATURE: u32 = 0x0606_4b50;
const LOCATOR64_SIGNATURE: u32 = 0x0706_4b50;
const DESCRIPTOR_SIGNATURE: u32 = 0x0807_4b50;
const LOCAL_BYTES: u64 = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: u64 = 22;
const END64_BYTES: u64 = 56;
const LOCATOR64_BYTES: u64 = 20;

/// Sizes follow the content instead of standing in front of it.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// The name is UTF-8.
const FLAG_UTF8: u16 = 1 << 11;
/// Compression level hints, the descriptor, and the name's encoding; every other flag is a feature
/// that no package uses.
const FLAGS_ALLOWED: u16 = 0b110 | FLAG_DESCRIPTOR | FLAG_UTF8;

const EXTRA_ZIP64: u16 = 0x0001;
const EXTRA_UNICODE_PATH: u16 = 0x7075;
const EXTRA_UNICODE_COMMENT: u16 = 0x6375;
const EXTRA_AES: u16 = 0x9901;

/// Reads the directory and every local header, and checks that they cover the archive without gap
/// or overlap.
pub(super) fn read(source: Source<'_>, size: u64) -> Result<Vec<Member>, Refusal> {
    let end = find_end(source, size)?;
    let length = usize::try_from(end.directory_size)
        .map_err(|_| Refusal::malformed("its directory is too large"))?;
    let mut directory = vec![0; length];
    read_exact(source, &mut directory, end.directory_start)?;
    let mut fields = Fields(&directory);
    let mut members = Vec::new();
    while !fields.0.is_empty() {
        members.push(central(&mut fields)?);
        if members.len() > limits::ARCHIVE_ENTRIES_MAX {
            return Err(Refusal::TooMuch {
                what: "entries",
                max: limits::ARCHIVE_ENTRIES_MAX as u64,
            });
        }
    }
    if members.len() as u64 != end.entries {
        return Err(Refusal::malformed(
            "its directory has another number of entries than its end record says",
        ));
    }
    check_locals(source, &mut members, end.directory_start)?;
    Ok(members)
}

struct End {
    entries: u64,
    directory_start: u64,
    directory_size: u64,
}

/// Finds the one end record. A second signature in the tail would let another program find another
/// directory.
fn find_end(source: Source<'_>, size: u64) -> Result<End, Refusal> {
    let tail_size = size.min(END_BYTES + u64::from(u16::MAX));
    let mut tail = vec![0; tail_size as usize];
    read_exact(source, &mut tail, size - tail_size)?;
    let position = tail
        .windows(4)
        .rposition(|window| *window == END_SIGNATURE)
        .ok_or_else(|| Refusal::malformed("it is not a zip archive"))?;
    let mut fields = Fields(&tail[position + 4..]);
    let (disk, directory_disk) = (fields.u16()?, fields.u16()?);
    let (entries_here, entries) = (fields.u16()?, fields.u16()?);
    let (directory_size, directory_start) = (fields.u32()?, fields.u32()?);
    let comment = usize::from(fields.u16()?);
    if fields.0.len() != comment {
        return Err(Refusal::malformed("there is data after the end of the archive"));
    }
    if disk != 0 || directory_disk != 0 || entries_here != entries {
        return Err(Refusal::malformed("it is a part of a split archive"));
    }
    let end_start = size - tail_size + position as u64;
    let (end, directory_end) = match locator(source, end_start)? {
        None => {
            let end = End {
                entries: u64::from(entries),
                directory_start: u64::from(directory_start),
                directory_size: u64::from(directory_size),
            };
            (end, end_start)
        }
        Some(start) => {
            let end = end64(source, start, end_start)?;
            let agrees = |short: u64, long: u64, max: u64| short == max || short == long;
            if !agrees(u64::from(entries), end.entries, u64::from(u16::MAX))
                || !agrees(u64::from(directory_size), end.directory_size, u64::from(u32::MAX))
                || !agrees(u64::from(directory_start), end.directory_start, u64::from(u32::MAX))
            {
                return Err(Refusal::malformed("its two end records disagree"));
            }
            (end, start)
        }
    };
    if end.directory_size > limits::ZIP_DIRECTORY_BYTES_MAX {
        return Err(Refusal::TooMuch {
            what: "bytes in its directory",
            max: limits::ZIP_DIRECTORY_BYTES_MAX,
        });
    }
    if end.directory_start.checked_add(end.directory_size) != Some(directory_end) {
        return Err(Refusal::malformed("its directory does not end where the end record begins"));
    }
    check_single_end(source, &end, end_start, size)?;
    Ok(end)
}

/// In the part that programs search for the end record, only the real one may stand outside of the
/// files' content.
fn check_single_end(
    source: Source<'_>,
    end: &End,
    end_start: u64,
    size: u64,
) -> Result<(), Refusal> {
    let start = end.directory_start.max(size - size.min(END_BYTES + u64::from(u16::MAX)));
    let mut tail = vec![0; (size - start) as usize];
    read_exact(source, &mut tail, start)?;
    let count = tail.windows(4).filter(|window| **window == END_SIGNATURE).count();
    match count == 1 && start <= end_start {
        true => Ok(()),
        false => Err(Refusal::malformed("it has more than one end record")),
    }
}

/// The position of the 64-bit end record, if there is one.
fn locator(source: Source<'_>, end_start: u64) -> Result<Option<u64>, Refusal> {
    let Some(start) = end_start.checked_sub(LOCATOR64_BYTES) else { return Ok(None) };
    let mut bytes = [0; LOCATOR64_BYTES as usize];
    read_exact(source, &mut bytes, start)?;
    let mut fields = Fields(&bytes);
    if fields.u32()? != LOCATOR64_SIGNATURE {
        return Ok(None);
    }
    let (disk, position, disks) = (fields.u32()?, fields.u64()?, fields.u32()?);
    if disk != 0 || disks > 1 || position.checked_add(END64_BYTES) != Some(start) {
        return Err(Refusal::malformed("its 64-bit end record is not where it should be"));
    }
    Ok(Some(position))
}

fn end64(source: Source<'_>, start: u64, end_start: u64) -> Result<End, Refusal> {
    let mut bytes = [0; END64_BYTES as usize];
    read_exact(source, &mut bytes, start)?;
    let mut fields = Fields(&bytes);
    let signature = fields.u32()?;
    let record_size = fields.u64()?;
    let _versions = (fields.u16()?, fields.u16()?);
    let disks = (fields.u32()?, fields.u32()?);
    let (entries_here, entries) = (fields.u64()?, fields.u64()?);
    let (directory_size, directory_start) = (fields.u64()?, fields.u64()?);
    let fits = start + END64_BYTES + LOCATOR64_BYTES == end_start;
    if signature != END64_SIGNATURE
        || record_size != END64_BYTES - 12
        || disks != (0, 0)
        || entries != entries_here
        || !fits
    {
        return Err(Refusal::malformed("its 64-bit end record cannot be read"));
    }
    Ok(End { entries, directory_start, directory_size })
}

fn central(fields: &mut Fields<'_>) -> Result<Member, Refusal> {
    if fields.0.len() < CENTRAL_BYTES || fields.u32()? != CENTRAL_SIGNATURE {
        return Err(Refusal::malformed("its directory cannot be read"));
    }
    let _made_by = fields.u16()?;
    let _needed = fields.u16()?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    let _modified = fields.u32()?;
    let crc = fields.u32()?;
    let (packed_size, size) = (fields.u32()?, fields.u32()?);
    let lengths = (fields.u16()?, fields.u16()?, fields.u16()?);
    let disk = fields.u16()?;
    let _internal = fields.u16()?;
    let external = fields.u32()?;
    let start = fields.u32()?;
    let name = check_name(fields.take(usize::from(lengths.0))?, flags)?;
    let extra = fields.take(usize::from(lengths.1))?;
    let _comment = fields.take(usize::from(lengths.2))?;
    let mut long = zip64(&name, extra)?;
    let size = long.widen(size)?;
    let packed_size = long.widen(packed_size)?;
    let header_start = long.widen(start)?;
    if disk != 0 {
        return Err(Refusal::malformed("it is a part of a split archive"));
    }
    if flags & !FLAGS_ALLOWED != 0 {
        return Err(Refusal::Unsupported {
            name,
            what: "encryption or another feature that packages do not have",
        });
    }
    let method = method_of(&name, method)?;
    if method == Method::Stored && size != packed_size {
        return Err(Refusal::Disagree { name, what: "the size" });
    }
    let executable = unix_type(&name, external)?;
    Ok(Member {
        name,
        method,
        crc,
        packed_size,
        size,
        executable,
        data_start: 0,
        flags,
        header_start,
    })
}

/// Whether the file is executable. Like pip, this does not ask which system the archive claims to
/// come from.
fn unix_type(name: &str, external: u32) -> Result<bool, Refusal> {
    let mode = external >> 16;
    let what = match mode & 0o170_000 {
        0 | 0o100_000 => return Ok(mode & 0o111 != 0 && !name.ends_with('/')),
        0o040_000 if name.ends_with('/') => return Ok(false),
        0o120_000 => "symbolic link",
        0o040_000 => "directory that is named like a file",
        _ => "device or pipe",
    };
    Err(Refusal::NotAFile { name: name.to_owned(), what })
}

fn method_of(name: &str, method: u16) -> Result<Method, Refusal> {
    match method {
        0 => Ok(Method::Stored),
        8 => Ok(Method::Deflated),
        _ => Err(Refusal::Unsupported {
            name: name.to_owned(),
            what: "a compression method that packages do not have",
        }),
    }
}

/// A name must read the same in every encoding that a program might assume.
fn check_name(name: &[u8], flags: u16) -> Result<String, Refusal> {
    if !name.is_ascii() && flags & FLAG_UTF8 == 0 {
        return Err(Refusal::name(name, "has no known encoding"));
    }
    let text = std::str::from_utf8(name).map_err(|_| Refusal::name(name, "is not UTF-8"))?;
    Ok(text.to_owned())
}

/// Values of the 64-bit extra field, in the order in which the short fields ask for them.
struct Long<'a> {
    name: &'a str,
    values: std::vec::IntoIter<u64>,
    present: bool,
}

impl Long<'_> {
    fn widen(&mut self, short: u32) -> Result<u64, Refusal> {
        match short {
            u32::MAX if self.present => self
                .values
                .next()
                .ok_or_else(|| Refusal::Disagree { name: self.name.to_owned(), what: "the size" }),
            // Writers that cannot know the size in advance fill the field in even if it is not
            // asked for.
            short => Ok(u64::from(short)),
        }
    }
}

fn zip64<'a>(name: &'a str, extra: &[u8]) -> Result<Long<'a>, Refusal> {
    let mut fields = Fields(extra);
    let mut long: Option<Vec<u64>> = None;
    while !fields.0.is_empty() {
        let id = fields.u16()?;
        let length = usize::from(fields.u16()?);
        let mut body = Fields(fields.take(length)?);
        match id {
            EXTRA_UNICODE_PATH | EXTRA_UNICODE_COMMENT => {
                return Err(Refusal::Unsupported { name: name.to_owned(), what: "a second name" });
            }
            EXTRA_AES => {
                return Err(Refusal::Unsupported { name: name.to_owned(), what: "encryption" });
            }
            EXTRA_ZIP64 => {
                let mut values = Vec::new();
                while body.0.len() >= 8 {
                    values.push(body.u64()?);
                }
                if long.replace(values).is_some() {
                    return Err(Refusal::Disagree { name: name.to_owned(), what: "the size" });
                }
            }
            _ => {}
        }
    }
    let present = long.is_some();
    Ok(Long { name, values: long.unwrap_or_default().into_iter(), present })
}

/// Compares every local header, and checks that headers, contents and descriptors follow each other
/// without a gap.
fn check_locals(
    source: Source<'_>,
    members: &mut [Member],
    directory_start: u64,
) -> Result<(), Refusal> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by_key(|index| members[*index].header_start);
    let mut position = 0;
    for (at, index) in order.iter().enumerate() {
        let next = order.get(at + 1).map_or(directory_start, |index| members[*index].header_start);
        let member = &mut members[*index];
        if member.header_start != position {
            return Err(Refusal::malformed(
                "there is data in front of a file that belongs to nothing",
            ));
        }
        member.data_start = check_local(source, member)?;
        let data_end = member
            .data_start
            .checked_add(member.packed_size)
            .filter(|end| *end <= next)
            .ok_or_else(|| Refusal::Disagree { name: member.name.clone(), what: "the size" })?;
        if member.flags & FLAG_DESCRIPTOR != 0 {
            check_descriptor(source, member, data_end, next)?;
            position = next;
        } else {
            position = data_end;
        }
    }
    match position == directory_start {
        true => Ok(()),
        false => Err(Refusal::malformed(
            "there is data in front of the directory that belongs to nothing",
        )),
    }
}

/// Returns where the content starts.
fn check_local(source: Source<'_>, member: &Member) -> Result<u64, Refusal> {
    let disagree = |what| Refusal::Disagree { name: printable(member.name.as_bytes()), what };
    let mut bytes = [0; LOCAL_BYTES as usize];
    read_exact(source, &mut bytes, member.header_start)?;
    let mut fields = Fields(&bytes);
    if fields.u32()? != LOCAL_SIGNATURE {
        return Err(Refusal::malformed("a file has no header"));
    }
    let _needed = fields.u16()?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    let _modified = fields.u32()?;
    let crc = fields.u32()?;
    let (packed_size, size) = (fields.u32()?, fields.u32()?);
    let lengths = (u64::from(fields.u16()?), u64::from(fields.u16()?));
    let mut rest = vec![0; (lengths.0 + lengths.1) as usize];
    read_exact(source, &mut rest, member.header_start + LOCAL_BYTES)?;
    let (name, extra) = rest.split_at(lengths.0 as usize);
    if name != member.name.as_bytes() {
        return Err(disagree("the name"));
    }
    if flags != member.flags || method_of(&member.name, method)? != member.method {
        return Err(disagree("the packing"));
    }
    let mut long = zip64(&member.name, extra)?;
    let (size, packed_size) = (long.widen(size)?, long.widen(packed_size)?);
    let unknown = flags & FLAG_DESCRIPTOR != 0 && (crc, packed_size, size) == (0, 0, 0);
    if !unknown && (crc, packed_size, size) != (member.crc, member.packed_size, member.size) {
        return Err(disagree("the size"));
    }
    Ok(member.header_start + LOCAL_BYTES + lengths.0 + lengths.1)
}

/// The descriptor after the content repeats checksum and sizes, with or without a signature, in 32
/// or 64 bits.
fn check_descriptor(
    source: Source<'_>,
    member: &Member,
    start: u64,
    end: u64,
) -> Result<(), Refusal> {
    const DESCRIPTOR_BYTES_MAX: usize = 24;
    let disagree = || Refusal::Disagree { name: member.name.clone(), what: "the size" };
    let length = match end - start {
        length @ (12 | 16 | 20 | 24) => length as usize,
        _ => return Err(disagree()),
    };
    let mut bytes = [0; DESCRIPTOR_BYTES_MAX];
    read_exact(source, &mut bytes[..length], start)?;
    let mut fields = Fields(&bytes[..length]);
    if matches!(length, 16 | 24) && fields.u32()? != DESCRIPTOR_SIGNATURE {
        return Err(disagree());
    }
    let crc = fields.u32()?;
    let sizes = match length {
        12 | 16 => (u64::from(fields.u32()?), u64::from(fields.u32()?)),
        _ => (fields.u64()?, fields.u64()?),
    };
    match (crc, sizes) == (member.crc, (member.packed_size, member.size)) {
        true => Ok(()),
        false => Err(disagree()),
    }
}

fn read_exact(source: Source<'_>, buffer: &mut [u8], offset: u64) -> Result<(), Refusal> {
    source.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Refusal::Damaged("the archive is cut off".to_owned()),
        _ => Refusal::from_read(error),
    })
}

/// Little-endian numbers, taken from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (front, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| Refusal::malformed("a structure of the archive is cut off"))?;
        self.0 = rest;
        Ok(front)
    }

    fn number(&mut self, count: usize) -> Result<u64, Refusal> {
        Ok(self.take(count)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn u16(&mut self) -> Result<u16, Refusal> {
        Ok(self.number(2)? as u16)
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        Ok(self.number(4)? as u32)
    }

    fn u64(&mut self) -> Result<u64, Refusal> {
        self.number(8)
    }
}
