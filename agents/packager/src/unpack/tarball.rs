//! Tar archives as npm and cargo publish them, gzipped, and plain ones: USTAR, with pax and GNU headers for long
//! names only.
//!
//! Written here instead of taken from a library because the point is what it does *not* accept: a
//! tar library has to read everything, and each one resolves contradictions (a size in two headers,
//! a name in two headers) in its own way.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::names::{self, Names};
use super::source::{Section, Source};
use super::{Bounded, Entry, Refusal};
use crate::limits;

mod header;

use header::{Extension, Header, Type};

/// The layout that a tarball must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout<'a> {
    /// npm: the first component of each path is dropped, whatever it is called; links are left out
    /// with a warning.
    Npm,
    /// cargo: everything lies in the folder `name-version`, which is dropped; links are refused.
    Crate {
        /// `name-version`.
        folder: &'a str,
    },
    /// Any: paths stay whole but for components `.`, links are refused.
    Plain {
        /// The one folder in which everything has to lie.
        folder: Option<&'a str>,
    },
}

const BLOCK_BYTES: usize = 512;

/// Reads a tarball to its end and hands each file to `take`, in the archive's order. Returns the
/// warnings.
///
/// What `take` does not read of a file is skipped.
pub fn read<E: From<Refusal>>(
    source: Source<'_>,
    layout: Layout<'_>,
    take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    let wrap = |packed| Packing::Gzip(Box::new(GzDecoder::new(packed)));
    read_with(source, wrap, layout, take)
}

/// The same for an archive that is not compressed.
pub fn read_uncompressed<E: From<Refusal>>(
    source: Source<'_>,
    layout: Layout<'_>,
    take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    read_with(source, Packing::Plain, layout, take)
}

fn read_with<'a, E: From<Refusal>>(
    source: Source<'a>,
    wrap: impl FnOnce(Packed<'a>) -> Packing<'a>,
    layout: Layout<'_>,
    mut take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    let packed_bytes = source.size().map_err(Refusal::from_read)?;
    let section = Section::new(source, 0, packed_bytes);
    let packed = io::BufReader::with_capacity(64 << 10, section);
    let unpacked = Bounded::new(wrap(packed), packed_bytes);
    let mut reader =
        Tar { stream: io::BufReader::with_capacity(64 << 10, unpacked), names: Names::default() };
    while let Some((header, path)) = reader.next_header()? {
        reader.names.count()?;
        if let Some(entry) = reader.accept(&header, &path, layout)? {
            let mut content = Content { stream: &mut reader.stream, remaining: header.size };
            take(entry, &mut content)?;
            content.skip()?;
            reader.skip_padding(header.size)?;
        }
    }
    Ok(reader.finish()?)
}

type Packed<'a> = io::BufReader<Section<'a>>;

/// What stands around the archive.
enum Packing<'a> {
    Gzip(Box<GzDecoder<Packed<'a>>>),
    Plain(Packed<'a>),
}

impl Read for Packing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Packing::Gzip(decoder) => decoder.read(buffer),
            Packing::Plain(packed) => packed.read(buffer),
        }
    }
}

struct Tar<'a> {
    stream: io::BufReader<Bounded<Packing<'a>>>,
    names: Names,
}

impl Tar<'_> {
    /// The next entry with its extensions applied; `None` at the end of the archive.
    fn next_header(&mut self) -> Result<Option<(Header, Vec<u8>)>, Refusal> {
        let mut extension = Extension::default();
        loop {
            let Some(block) = self.block()? else {
                return extension.nothing_pending().map(|()| None);
            };
            if block.iter().all(|byte| *byte == 0) {
                extension.nothing_pending()?;
                return self.end().map(|()| None);
            }
            let mut header = Header::parse(&block)?;
            match header.kind {
                Type::Pax => extension.pax(&self.extension_body(&header)?)?,
                Type::PaxGlobal => header::global(&self.extension_body(&header)?)?,
                Type::GnuLongName => extension.gnu_long_name(&self.extension_body(&header)?)?,
                Type::GnuLongLink => extension
                    .gnu_long_link()
                    .and_then(|()| self.extension_body(&header).map(drop))?,
                _ => {
                    let path = extension.apply(&mut header)?;
                    return Ok(Some((header, path)));
                }
            }
        }
    }

    /// Decides about an entry: a file comes back, everything else was dealt with.
    fn accept(
        &mut self,
        header: &Header,
        path: &[u8],
        layout: Layout<'_>,
    ) -> Result<Option<Entry>, Refusal> {
        let trimmed = match header.kind {
            Type::Directory => path.strip_suffix(b"/").unwrap_or(path),
            _ => path,
        };
        let plain = match layout {
            Layout::Npm => without_dots(trimmed),
            Layout::Crate { .. } => Cow::Borrowed(trimmed),
            Layout::Plain { .. } => match without_any_dots(trimmed) {
                // The folder from which it was made, as `tar -c .` writes it.
                plain if plain.is_empty() && header.kind == Type::Directory => return Ok(None),
                plain => plain,
            },
        };
        let whole = names::check_bytes(&plain)?;
        let inner = strip(whole, layout)?;
        match header.kind {
            Type::Directory => {
                if header.size != 0 {
                    return Err(Refusal::Disagree { name: whole.to_owned(), what: "the size" });
                }
                if let Some(inner) = inner {
                    self.names.add_directory(inner)?;
                }
                Ok(None)
            }
            Type::Link => self.link(header, whole, layout).map(|()| None),
            _ => {
                let inner = inner.ok_or_else(|| {
                    Refusal::name(whole, "is a file outside of the package's folder")
                })?;
                let repeated = self.names.add_file(inner)?;
                if repeated && matches!(layout, Layout::Crate { .. }) {
                    return Err(Refusal::Repeated(inner.to_owned()));
                }
                if header.size > limits::ARCHIVE_FILE_BYTES_MAX {
                    return Err(Refusal::TooMuch {
                        what: "bytes in one file",
                        max: limits::ARCHIVE_FILE_BYTES_MAX,
                    });
                }
                let executable = header.mode & 0o111 != 0;
                Ok(Some(Entry { path: inner.to_owned(), size: header.size, executable, repeated }))
            }
        }
    }

    /// npm itself leaves links of a tarball out, so a package that has some works without them.
    fn link(&mut self, header: &Header, path: &str, layout: Layout<'_>) -> Result<(), Refusal> {
        if header.size != 0 {
            return Err(Refusal::Disagree { name: path.to_owned(), what: "the size" });
        }
        match layout {
            Layout::Npm => {
                self.names.warn(format!("the link `{path}` was left out, as npm does"));
                Ok(())
            }
            Layout::Crate { .. } | Layout::Plain { .. } => {
                Err(Refusal::NotAFile { name: path.to_owned(), what: "link" })
            }
        }
    }

    fn extension_body(&mut self, header: &Header) -> Result<Vec<u8>, Refusal> {
        self.names.count()?;
        if header.size > limits::TAR_EXTENSION_BYTES_MAX {
            return Err(Refusal::TooMuch {
                what: "bytes in an extension header",
                max: limits::TAR_EXTENSION_BYTES_MAX,
            });
        }
        let mut body = Vec::with_capacity(header.size as usize);
        let mut content = Content { stream: &mut self.stream, remaining: header.size };
        content.read_to_end(&mut body).map_err(Refusal::from_read)?;
        self.skip_padding(header.size)?;
        Ok(body)
    }

    /// The next block, or `None` if the stream ends before it. A part of a block is damage.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, Refusal> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.stream.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => {
                    return Err(Refusal::Damaged(
                        "the archive ends in the middle of a header".to_owned(),
                    ));
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Refusal::from_read(error)),
            }
        }
        Ok(Some(block))
    }

    fn skip_padding(&mut self, size: u64) -> Result<(), Refusal> {
        let padding = (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64;
        Content { stream: &mut self.stream, remaining: padding }.skip()
    }

    /// After the first block of zeros there is nothing but zeros: whatever else would be seen by
    /// some readers only.
    fn end(&mut self) -> Result<(), Refusal> {
        loop {
            let rest = self.stream.fill_buf().map_err(Refusal::from_read)?;
            if rest.is_empty() {
                return Ok(());
            }
            if rest.iter().any(|byte| *byte != 0) {
                return Err(Refusal::malformed("there is data after the end of the archive"));
            }
            let count = rest.len();
            self.stream.consume(count);
        }
    }

    /// Nothing but zeros may follow the compressed stream, for the same reason. (Its checksum was
    /// verified when it ended.)
    fn finish(self) -> Result<Vec<String>, Refusal> {
        let mut packed = match self.stream.into_inner().into_inner() {
            Packing::Gzip(decoder) => decoder.into_inner(),
            // Its end was the end of the file.
            Packing::Plain(_) => return Ok(self.names.into_warnings()),
        };
        loop {
            let rest = packed.fill_buf().map_err(Refusal::from_read)?;
            if rest.is_empty() {
                return Ok(self.names.into_warnings());
            }
            if rest.iter().any(|byte| *byte != 0) {
                return Err(Refusal::malformed(
                    "there is data after the end of the compressed stream",
                ));
            }
            let count = rest.len();
            packed.consume(count);
        }
    }
}

/// The path without `.` components behind the first one: some bundlers list files as
/// `package/./dist/index.js`, and npm unpacks them as it should. In the first place npm would take
/// the `.` for the package's folder, so it stays there and is refused.
fn without_dots(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.windows(3).any(|window| window == b"/./") {
        return Cow::Borrowed(path);
    }
    let mut plain = Vec::with_capacity(path.len());
    for (index, component) in path.split(|byte| *byte == b'/').enumerate() {
        match component {
            b"." if index > 0 => {}
            _ if index == 0 => plain.extend_from_slice(component),
            _ => {
                plain.push(b'/');
                plain.extend_from_slice(component);
            }
        }
    }
    Cow::Owned(plain)
}

/// The path without any `.` component: where nothing is dropped from a path, none of them can hide
/// which component is the first.
fn without_any_dots(path: &[u8]) -> Cow<'_, [u8]> {
    let mut path = path;
    while let Some(rest) = path.strip_prefix(b"./")
        && !matches!(rest, [] | [b'/', ..])
    {
        path = rest;
    }
    if path == b"." { Cow::Borrowed(b"") } else { without_dots(path) }
}

/// Drops the first component where the layout has a folder of its own. `None` if nothing remains.
fn strip<'p>(path: &'p str, layout: Layout<'_>) -> Result<Option<&'p str>, Refusal> {
    let (first, rest) = match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    match layout {
        Layout::Npm => {}
        Layout::Plain { folder: None } => return Ok(Some(path)),
        Layout::Plain { folder: Some(folder) } if first == folder => return Ok(Some(path)),
        Layout::Crate { folder } if first == folder => {}
        Layout::Crate { .. } | Layout::Plain { .. } => {
            return Err(Refusal::name(path, "is outside of the crate's own folder"));
        }
    }
    Ok(rest)
}

/// The content of one entry.
struct Content<'s, R> {
    stream: &'s mut R,
    remaining: u64,
}

impl<R: BufRead> Content<'_, R> {
    fn skip(&mut self) -> Result<(), Refusal> {
        while self.remaining > 0 {
            let available = self.stream.fill_buf().map_err(Refusal::from_read)?.len() as u64;
            if available == 0 {
                return Err(Refusal::Damaged(
                    "the archive ends in the middle of a file".to_owned(),
                ));
            }
            let count = available.min(self.remaining);
            self.stream.consume(count as usize);
            self.remaining -= count;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.stream.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::other(Refusal::Damaged(
                "the archive ends in the middle of a file".to_owned(),
            )));
        }
        self.remaining -= count as u64;
        Ok(count)
    }
}
