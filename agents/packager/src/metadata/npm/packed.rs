//! The flat form in which a packument is kept, in memory as on disk: read where it lies, one version at a time.
//!
//! Versions of one package are nearly alike, so every text stands in it once, tables that are equal are written once, an
//! archive's address is what stands around the version in it, and digests are their bytes. What choosing looks at has a
//! place of fixed size; the rest of a version is read when somebody asks for it. It is a form of its own and not the
//! layout of a build: other builds read it too, until [`FORM`] changes.
//!
//! The checksum around it was right when it was opened, so this was once written here; still every read is checked, and
//! what does not read is a version without an archive, which is refused where it would be used.

mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use agents_versions::npm::{Range, Version as Number};
use bytes::Bytes;
use ipc::archive::{self, ArchiveError, Layout};

pub(super) use self::write::write;
pub(crate) use self::write::{Digest, Line, Packer};
use super::{Dependencies, Version};
use crate::metadata::Hashes;
use crate::metadata::flat::Reader;

/// The form. Its number changes with anything in this file that changes what is written.
const FORM: Layout = Layout::new("npm packument, form 2", &[]);

/// Sections before the versions: name, tags, ends of texts, texts, order, heads, tables, details.
const SECTIONS: usize = 8;
/// Text, what is known of it, three numbers, engine, where its tables and its details begin.
const HEAD_BYTES: usize = 32;

const IS_DEPRECATED: u32 = 1;
const IS_NUMBER: u32 = 2;
/// The numbers of the head are all of it; else the rest is read from the text.
const IS_PLAIN: u32 = 4;
/// The numbers of the head are those of the version; else all of it is read from the text.
const HAS_RELEASE: u32 = 8;

/// How a digest is written.
const NO_DIGEST: u8 = 0;
const DIGEST_BYTES: u8 = 1;
const DIGEST_TEXT: u8 = 2;

/// All versions of a package in the flat form.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    whole: Bytes,
    ends: Bytes,
    texts: Bytes,
    ranked: Bytes,
    heads: Bytes,
    tables: Bytes,
    details: Bytes,
}

/// A packument that was opened.
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) dist_tags: BTreeMap<String, String>,
    pub(super) versions: Packed,
}

/// Opens the flat form.
pub(super) fn open(whole: &Bytes) -> Result<Opened, ArchiveError> {
    let body = archive::access::<Vec<u8>>(archive::unseal(FORM, whole)?)?.as_slice();
    let mut reader = Reader { bytes: body };
    let mut sections: [&[u8]; SECTIONS] = [&[]; SECTIONS];
    for section in &mut sections {
        *section = reader.section().ok_or(ArchiveError::Invalid)?;
    }
    let [name, tags, ends, texts, ranked, heads, tables, details] = sections;
    if heads.len() % HEAD_BYTES != 0 || ranked.len() % 4 != 0 || ends.len() % 4 != 0 {
        return Err(ArchiveError::Invalid);
    }
    let part = |part: &[u8]| if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) };
    let versions = Packed {
        whole: whole.clone(),
        ends: part(ends),
        texts: part(texts),
        ranked: part(ranked),
        heads: part(heads),
        tables: part(tables),
        details: part(details),
    };
    let tags = versions.table(&mut Reader { bytes: tags }).ok_or(ArchiveError::Invalid)?;
    let name = std::str::from_utf8(name).map_err(|_| ArchiveError::Invalid)?.to_owned();
    Ok(Opened { name, dist_tags: tags, versions })
}

impl Packed {
    /// The bytes that it was opened from.
    pub(super) fn whole(&self) -> &Bytes {
        &self.whole
    }

    pub(super) fn len(&self) -> usize {
        self.heads.len() / HEAD_BYTES
    }

    fn field(&self, at: usize, field: usize) -> u32 {
        word(&self.heads, at * HEAD_BYTES / 4 + field).unwrap_or(0)
    }

    pub(super) fn text(&self, at: usize) -> &str {
        self.text_of(self.field(at, 0)).unwrap_or_default()
    }

    pub(super) fn number(&self, at: usize) -> Option<Number> {
        let flags = self.field(at, 1);
        if flags & IS_NUMBER == 0 {
            return None;
        }
        if flags & IS_PLAIN == 0 {
            return Number::parse_loose(self.text(at)).ok();
        }
        let (major, minor, patch) = self.release(at);
        Some(Number { major, minor, patch, pre: Vec::new() })
    }

    fn release(&self, at: usize) -> (u64, u64, u64) {
        let [major, minor, patch] = [2, 3, 4].map(|field| u64::from(self.field(at, field)));
        (major, minor, patch)
    }

    /// Whether the version is in a range. Only of a pre-release that the range could mean is the text read.
    pub(super) fn is_in(&self, at: usize, range: &Range) -> bool {
        let flags = self.field(at, 1);
        if flags & (HAS_RELEASE | IS_PLAIN) == HAS_RELEASE
            && !range.admits_prereleases_of(self.release(at))
        {
            return false;
        }
        self.number(at).is_some_and(|number| range.satisfies(&number))
    }

    pub(super) fn is_deprecated(&self, at: usize) -> bool {
        self.field(at, 1) & IS_DEPRECATED != 0
    }

    pub(super) fn engines_node(&self, at: usize) -> Option<&str> {
        self.text_of(self.field(at, 5).checked_sub(1)?)
    }

    /// Positions, the highest version first.
    pub(super) fn ranked(&self) -> impl Iterator<Item = usize> {
        let count = self.len();
        (0..self.ranked.len() / 4)
            .filter_map(|at| word(&self.ranked, at))
            .map(|at| at as usize)
            .filter(move |at| *at < count)
    }

    /// Where a text stands; they are in the order of their bytes.
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.text(middle).cmp(text) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// A whole version.
    pub(super) fn version(&self, at: usize) -> Arc<Version> {
        Arc::new(self.unpack(at).unwrap_or_default())
    }

    fn unpack(&self, at: usize) -> Option<Version> {
        let mut tables = Reader { bytes: self.tables.get(self.field(at, 6) as usize..)? };
        let mut details = Reader { bytes: self.details.get(self.field(at, 7) as usize..)? };
        let version = self.text(at).to_owned();
        Some(Version {
            dependencies: self.table(&mut tables)?,
            optional_dependencies: self.table(&mut tables)?,
            peer_dependencies: self.table(&mut tables)?,
            optional_peers: self.list(&mut tables)?,
            bundled: self.list(&mut tables)?,
            bin: self.table(&mut tables)?,
            os: self.list(&mut tables)?,
            cpu: self.list(&mut tables)?,
            libc: self.list(&mut tables)?,
            install_scripts: self.list(&mut tables)?,
            license: self.optional(&mut tables)?,
            engines_node: self.engines_node(at).map(str::to_owned),
            deprecated: self.optional(&mut details)?,
            published: self.optional(&mut details)?,
            tarball: self.around(&mut details, &version)?,
            hashes: Hashes {
                sha512: self.digest(&mut details)?,
                sha256: self.digest(&mut details)?,
            },
            unpacked_size: match details.number()? {
                0 => None,
                size => Some(size - 1),
            },
            version,
        })
    }

    fn text_of(&self, id: u32) -> Option<&str> {
        let end = word(&self.ends, id as usize)? as usize;
        let start = match id {
            0 => 0,
            id => word(&self.ends, id as usize - 1)? as usize,
        };
        std::str::from_utf8(self.texts.get(start..end)?).ok()
    }

    fn owned(&self, reader: &mut Reader<'_>) -> Option<String> {
        let id = u32::try_from(reader.number()?).ok()?;
        self.text_of(id).map(str::to_owned)
    }

    #[expect(clippy::option_option, reason = "outer: does it read at all; inner: is there one")]
    fn optional(&self, reader: &mut Reader<'_>) -> Option<Option<String>> {
        match reader.number()? {
            0 => Some(None),
            id => Some(Some(self.text_of(u32::try_from(id - 1).ok()?)?.to_owned())),
        }
    }

    fn list(&self, reader: &mut Reader<'_>) -> Option<Vec<String>> {
        (0..reader.number()?).map(|_| self.owned(reader)).collect()
    }

    fn table(&self, reader: &mut Reader<'_>) -> Option<Dependencies> {
        (0..reader.number()?).map(|_| Some((self.owned(reader)?, self.owned(reader)?))).collect()
    }

    /// A text that was written as what stands before and behind the version in it.
    fn around(&self, reader: &mut Reader<'_>, version: &str) -> Option<String> {
        let has_version = reader.number()? == 1;
        let mut text = self.owned(reader)?;
        if has_version {
            text.push_str(version);
            text.push_str(&self.owned(reader)?);
        }
        Some(text)
    }

    #[expect(clippy::option_option, reason = "outer: does it read at all; inner: is there one")]
    fn digest(&self, reader: &mut Reader<'_>) -> Option<Option<String>> {
        match reader.byte()? {
            NO_DIGEST => Some(None),
            DIGEST_BYTES => Some(Some(crate::hex::hex(reader.section()?))),
            _ => self.owned(reader).map(Some),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at * 4..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*four))
}
