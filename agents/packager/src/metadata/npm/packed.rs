//! The flat form in which a packument is kept, in memory as on disk: read where it lies, one version at a time.
//!
//! Versions of one package are nearly alike, so every text stands in it once, tables that are equal are written once, an
//! archive's address is what stands around the version in it, and digests are their bytes. What choosing looks at has a
//! place of fixed size; the rest of a version is read when somebody asks for it. It is a form of its own and not the
//! layout of a build: other builds read it too, until [`FORM`] changes.
//!
//! The checksum around it was right when it was opened, so this was once written here; still every read is checked, and
//! what does not read is a version without an archive, which is refused where it would be used.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use agents_versions::npm::Version as Number;
use bytes::Bytes;
use ipc::archive::{self, ArchiveError, Layout};

use super::{Dependencies, Version};
use crate::metadata::Hashes;
use crate::metadata::flat::{Reader, put_number, put_section};

/// The form. Its number changes with anything in this file that changes what is written.
const FORM: Layout = Layout::new("npm packument, form 1", &[]);

/// Sections before the versions: name, tags, ends of texts, texts, order, heads, tables, details.
const SECTIONS: usize = 8;
/// Text, what is known of it, three numbers, engine, where its tables and its details begin.
const HEAD_BYTES: usize = 32;

const IS_DEPRECATED: u32 = 1;
const IS_NUMBER: u32 = 2;
/// The numbers of the head are all of it; else it is read from the text.
const IS_PLAIN: u32 = 4;

/// How a digest is written.
const NO_DIGEST: u8 = 0;
const DIGEST_BYTES: u8 = 1;
const DIGEST_TEXT: u8 = 2;

/// All versions of a package in the flat form.
#[derive(Debug)]
pub(super) struct Packed {
    whole: Bytes,
    ends: Bytes,
    texts: Bytes,
    ranked: Bytes,
    heads: Bytes,
    tables: Bytes,
    details: Bytes,
    /// Versions that somebody looked into; few, so they are searched one by one.
    unpacked: Mutex<Vec<(u32, Arc<Version>)>>,
}

impl Clone for Packed {
    fn clone(&self) -> Self {
        Self {
            whole: self.whole.clone(),
            ends: self.ends.clone(),
            texts: self.texts.clone(),
            ranked: self.ranked.clone(),
            heads: self.heads.clone(),
            tables: self.tables.clone(),
            details: self.details.clone(),
            unpacked: Mutex::default(),
        }
    }
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
        unpacked: Mutex::default(),
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
        let [major, minor, patch] = [2, 3, 4].map(|field| u64::from(self.field(at, field)));
        Some(Number { major, minor, patch, pre: Vec::new() })
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

    /// A whole version, kept for whoever asks next.
    pub(super) fn version(&self, at: usize) -> Arc<Version> {
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        let known = || self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, version)) = known().iter().find(|(one, _)| *one == place) {
            return Arc::clone(version);
        }
        let version = Arc::new(self.unpack(at).unwrap_or_default());
        let mut known = known();
        if let Some((_, version)) = known.iter().find(|(one, _)| *one == place) {
            return Arc::clone(version);
        }
        known.push((place, Arc::clone(&version)));
        version
    }

    /// The same for whoever goes through all of them.
    pub(super) fn version_in_passing(&self, at: usize) -> Arc<Version> {
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
            DIGEST_BYTES => Some(Some(crate::io::cache::hex(reader.section()?))),
            _ => self.owned(reader).map(Some),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at * 4..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*four))
}

/// Writes the flat form of versions that are in the order of their texts; `ranked` are positions among them.
pub(super) fn write<'a>(
    name: &str,
    dist_tags: &BTreeMap<String, String>,
    versions: impl Iterator<Item = (&'a str, Option<&'a Number>, &'a Version)>,
    ranked: &[u32],
) -> Result<Bytes, ArchiveError> {
    let mut writer = Writer::default();
    let mut tags = Vec::new();
    writer.table(&mut tags, dist_tags);
    for (text, number, version) in versions {
        writer.version(text, number, version)?;
    }
    let ranked: Vec<u8> = ranked.iter().flat_map(|at| at.to_le_bytes()).collect();
    let ends: Vec<u8> = writer.ends.iter().flat_map(|end| end.to_le_bytes()).collect();
    let sections: [&[u8]; SECTIONS] = [
        name.as_bytes(),
        &tags,
        &ends,
        &writer.texts,
        &ranked,
        &writer.heads,
        &writer.tables,
        &writer.details,
    ];
    let mut body = Vec::with_capacity(sections.iter().map(|one| one.len() + 8).sum());
    for section in sections {
        put_section(&mut body, section);
    }
    Ok(archive::seal(FORM, &body)?.into())
}

#[derive(Default)]
struct Writer {
    ids: HashMap<String, u32>,
    ends: Vec<u32>,
    texts: Vec<u8>,
    heads: Vec<u8>,
    tables: Vec<u8>,
    /// Where tables with these bytes begin.
    written: HashMap<Vec<u8>, u32>,
    details: Vec<u8>,
}

impl Writer {
    fn version(
        &mut self,
        text: &str,
        number: Option<&Number>,
        version: &Version,
    ) -> Result<(), ArchiveError> {
        let too_large = |_| ArchiveError::TooLarge;
        let mut flags = if version.deprecated.is_some() { IS_DEPRECATED } else { 0 };
        let mut numbers = [0; 3];
        if let Some(number) = number {
            flags |= IS_NUMBER;
            let all = [number.major, number.minor, number.patch].map(u32::try_from);
            if let ([Ok(major), Ok(minor), Ok(patch)], true) = (all, number.pre.is_empty()) {
                flags |= IS_PLAIN;
                numbers = [major, minor, patch];
            }
        }
        let engine = version.engines_node.as_deref().map_or(0, |text| self.id(text) + 1);
        let tables = self.tables_of(version);
        let begin = match self.written.get(&tables) {
            Some(begin) => *begin,
            None => {
                let begin = u32::try_from(self.tables.len()).map_err(too_large)?;
                self.tables.extend_from_slice(&tables);
                self.written.insert(tables, begin);
                begin
            }
        };
        let details = u32::try_from(self.details.len()).map_err(too_large)?;
        self.details_of(text, version);
        let [major, minor, patch] = numbers;
        let text = self.id(text);
        for field in [text, flags, major, minor, patch, engine, begin, details] {
            self.heads.extend_from_slice(&field.to_le_bytes());
        }
        u32::try_from(self.texts.len()).map_err(too_large).map(|_| ())
    }

    fn tables_of(&mut self, version: &Version) -> Vec<u8> {
        let mut out = Vec::new();
        self.table(&mut out, &version.dependencies);
        self.table(&mut out, &version.optional_dependencies);
        self.table(&mut out, &version.peer_dependencies);
        self.list(&mut out, &version.optional_peers);
        self.list(&mut out, &version.bundled);
        self.table(&mut out, &version.bin);
        self.list(&mut out, &version.os);
        self.list(&mut out, &version.cpu);
        self.list(&mut out, &version.libc);
        self.list(&mut out, &version.install_scripts);
        self.optional(&mut out, version.license.as_deref());
        out
    }

    fn details_of(&mut self, text: &str, version: &Version) {
        let mut out = std::mem::take(&mut self.details);
        self.optional(&mut out, version.deprecated.as_deref());
        self.optional(&mut out, version.published.as_deref());
        match version.tarball.rsplit_once(text).filter(|_| text == version.version) {
            Some((before, behind)) => {
                put_number(&mut out, 1);
                self.put(&mut out, before);
                self.put(&mut out, behind);
            }
            None => {
                put_number(&mut out, 0);
                self.put(&mut out, &version.tarball);
            }
        }
        self.digest(&mut out, version.hashes.sha512.as_deref());
        self.digest(&mut out, version.hashes.sha256.as_deref());
        // A size that cannot be counted one further is not known.
        put_number(&mut out, version.unpacked_size.map_or(0, |size| size.wrapping_add(1)));
        self.details = out;
    }

    fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        // Whether all fits is asked once for each version; until then these only wrap.
        let id = self.ends.len() as u32;
        self.texts.extend_from_slice(text.as_bytes());
        self.ends.push(self.texts.len() as u32);
        self.ids.insert(text.to_owned(), id);
        id
    }

    fn put(&mut self, out: &mut Vec<u8>, text: &str) {
        let id = self.id(text);
        put_number(out, id.into());
    }

    fn optional(&mut self, out: &mut Vec<u8>, text: Option<&str>) {
        let id = text.map_or(0, |text| u64::from(self.id(text)) + 1);
        put_number(out, id);
    }

    fn list(&mut self, out: &mut Vec<u8>, list: &[String]) {
        put_number(out, list.len() as u64);
        list.iter().for_each(|text| self.put(out, text));
    }

    fn table(&mut self, out: &mut Vec<u8>, table: &BTreeMap<String, String>) {
        put_number(out, table.len() as u64);
        for (name, text) in table {
            self.put(out, name);
            self.put(out, text);
        }
    }

    fn digest(&mut self, out: &mut Vec<u8>, digest: Option<&str>) {
        let Some(text) = digest else { return out.push(NO_DIGEST) };
        match bytes_of(text) {
            Some(bytes) => {
                out.push(DIGEST_BYTES);
                put_section(out, &bytes);
            }
            None => {
                out.push(DIGEST_TEXT);
                self.put(out, text);
            }
        }
    }
}

/// What lower-case hexadecimal stands for.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}
