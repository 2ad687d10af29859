//! Writes the flat form of a packument. What is written and how it is read again is said in the parent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::BuildHasher;

use agents_versions::npm::Version as Number;
use bytes::Bytes;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use ipc::archive::{self, ArchiveError};

use super::{
    DIGEST_BYTES, DIGEST_TEXT, FORM, HAS_RELEASE, IS_DEPRECATED, IS_NUMBER, IS_PLAIN, NO_DIGEST,
    SECTIONS,
};
use crate::metadata::flat::{put_number, put_section};
use crate::metadata::npm::Version;

/// Writes the flat form of versions that are in the order of their texts; `ranked` are positions among them.
pub(in crate::metadata::npm) fn write<'a>(
    name: &str,
    dist_tags: &BTreeMap<String, String>,
    versions: impl Iterator<Item = (&'a str, Option<&'a Number>, &'a Version)>,
    ranked: &[u32],
) -> Result<Bytes, ArchiveError> {
    let mut packer = Packer::new(name, dist_tags);
    let mut before: Option<&Version> = None;
    for (text, number, version) in versions {
        // Mostly a version needs what the one before it does, which is found out faster than it is written.
        let is_known = before.is_some_and(|before| has_same_tables(before, version));
        packer.put(&Line::of(text, version), number, version, is_known)?;
        before = Some(version);
    }
    packer.seal(ranked)
}

/// What of a version is its own, beside what it needs.
pub(crate) struct Line<'a> {
    pub(crate) text: &'a str,
    pub(crate) deprecated: Option<&'a str>,
    pub(crate) published: Option<&'a str>,
    pub(crate) tarball: &'a str,
    pub(crate) sha512: Option<Digest<'a>>,
    pub(crate) sha256: Option<Digest<'a>>,
    pub(crate) unpacked_size: Option<u64>,
}

/// A digest as somebody has it.
#[derive(Clone, Copy)]
pub(crate) enum Digest<'a> {
    Bytes(&'a [u8]),
    /// In hexadecimal, unless it is none.
    Text(&'a str),
}

impl<'a> Line<'a> {
    fn of(text: &'a str, version: &'a Version) -> Self {
        Self {
            text,
            deprecated: version.deprecated.as_deref(),
            published: version.published.as_deref(),
            tarball: &version.tarball,
            sha512: version.hashes.sha512.as_deref().map(Digest::Text),
            sha256: version.hashes.sha256.as_deref().map(Digest::Text),
            unpacked_size: version.unpacked_size,
        }
    }
}

/// Writes the flat form version by version, in the order of their texts.
pub(crate) struct Packer<'a> {
    name: &'a str,
    tags: Vec<u8>,
    writer: Writer,
    /// Where the tables of the version before begin.
    tables: u32,
    /// Numbers and their positions.
    numbers: Vec<(Number, u32)>,
    count: u32,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(name: &'a str, dist_tags: &BTreeMap<String, String>) -> Self {
        let mut writer = Writer::default();
        let mut tags = Vec::new();
        writer.table(&mut tags, dist_tags);
        Self { name, tags, writer, tables: 0, numbers: Vec::new(), count: 0 }
    }

    /// Adds a version; `is_known` where its tables, which are those of `tables`, are the ones of the version before.
    pub(crate) fn add(
        &mut self,
        line: &Line<'_>,
        tables: &Version,
        is_known: bool,
    ) -> Result<(), ArchiveError> {
        let number = Number::parse_loose(line.text).ok();
        self.put(line, number.as_ref(), tables, is_known)?;
        self.numbers.extend(number.map(|number| (number, self.count)));
        self.count += 1;
        Ok(())
    }

    fn put(
        &mut self,
        line: &Line<'_>,
        number: Option<&Number>,
        tables: &Version,
        is_known: bool,
    ) -> Result<(), ArchiveError> {
        if !is_known {
            self.tables = self.writer.tables_at(tables)?;
        }
        self.writer.version(line, number, tables.engines_node.as_deref(), self.tables)
    }

    pub(crate) fn finish(mut self) -> Result<Bytes, ArchiveError> {
        let mut order = std::mem::take(&mut self.numbers);
        order.sort_by(|(one, _), (other, _)| other.cmp(one));
        let ranked: Vec<u32> = order.into_iter().map(|(_, at)| at).collect();
        self.seal(&ranked)
    }

    fn seal(self, ranked: &[u32]) -> Result<Bytes, ArchiveError> {
        let writer = self.writer;
        let ranked: Vec<u8> = ranked.iter().flat_map(|at| at.to_le_bytes()).collect();
        let ends: Vec<u8> = writer.ends.iter().flat_map(|end| end.to_le_bytes()).collect();
        let sections: [&[u8]; SECTIONS] = [
            self.name.as_bytes(),
            &self.tags,
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
}

#[derive(Default)]
struct Writer {
    hashing: DefaultHashBuilder,
    /// Of every text, by what it says.
    ids: HashTable<u32>,
    ends: Vec<u32>,
    texts: Vec<u8>,
    heads: Vec<u8>,
    tables: Vec<u8>,
    /// Where tables begin and end, by what they say.
    written: HashTable<(u32, u32)>,
    details: Vec<u8>,
    /// The texts that were last in the places where the same one mostly stands again.
    recent: [Option<u32>; RECENT],
}

/// Places of a version in which mostly what is there for the one before it.
const RECENT: usize = 4;
const ENGINE: usize = 0;
const DEPRECATION: usize = 1;
const BEFORE: usize = 2;
const BEHIND: usize = 3;

impl Writer {
    fn version(
        &mut self,
        line: &Line<'_>,
        number: Option<&Number>,
        engine: Option<&str>,
        begin: u32,
    ) -> Result<(), ArchiveError> {
        let mut flags = if line.deprecated.is_some() { IS_DEPRECATED } else { 0 };
        let mut numbers = [0; 3];
        if let Some(number) = number {
            flags |= IS_NUMBER;
            let all = [number.major, number.minor, number.patch].map(u32::try_from);
            if let [Ok(major), Ok(minor), Ok(patch)] = all {
                flags |= HAS_RELEASE | if number.pre.is_empty() { IS_PLAIN } else { 0 };
                numbers = [major, minor, patch];
            }
        }
        let engine = engine.map_or(0, |text| self.id_again(ENGINE, text) + 1);
        let details = u32::try_from(self.details.len()).map_err(too_large)?;
        self.details_of(line);
        let [major, minor, patch] = numbers;
        let text = self.id(line.text);
        for field in [text, flags, major, minor, patch, engine, begin, details] {
            self.heads.extend_from_slice(&field.to_le_bytes());
        }
        u32::try_from(self.texts.len()).map_err(too_large).map(|_| ())
    }

    /// Where the tables of a version begin.
    fn tables_at(&mut self, version: &Version) -> Result<u32, ArchiveError> {
        let begin = self.tables.len();
        let mut all = std::mem::take(&mut self.tables);
        self.put_tables(&mut all, version);
        self.tables = all;
        let (tables, hashing) = (&self.tables, &self.hashing);
        let of = |(begin, end): (u32, u32)| &tables[begin as usize..end as usize];
        let new = (
            u32::try_from(begin).map_err(too_large)?,
            u32::try_from(tables.len()).map_err(too_large)?,
        );
        let hash = hashing.hash_one(of(new));
        match self.written.entry(hash, |old| of(*old) == of(new), |old| hashing.hash_one(of(*old)))
        {
            Entry::Vacant(place) => {
                place.insert(new);
                Ok(new.0)
            }
            Entry::Occupied(old) => {
                let same = old.get().0;
                self.tables.truncate(begin);
                Ok(same)
            }
        }
    }

    fn put_tables(&mut self, out: &mut Vec<u8>, version: &Version) {
        self.table(out, &version.dependencies);
        self.table(out, &version.optional_dependencies);
        self.table(out, &version.peer_dependencies);
        self.list(out, &version.optional_peers);
        self.list(out, &version.bundled);
        self.table(out, &version.bin);
        self.list(out, &version.os);
        self.list(out, &version.cpu);
        self.list(out, &version.libc);
        self.list(out, &version.install_scripts);
        self.optional(out, version.license.as_deref());
    }

    fn details_of(&mut self, line: &Line<'_>) {
        let mut out = std::mem::take(&mut self.details);
        let deprecated = line.deprecated.map(|text| self.id_again(DEPRECATION, text));
        put_number(&mut out, deprecated.map_or(0, |id| u64::from(id) + 1));
        self.optional(&mut out, line.published);
        match line.tarball.rsplit_once(line.text) {
            Some((before, behind)) => {
                put_number(&mut out, 1);
                put_number(&mut out, self.id_again(BEFORE, before).into());
                put_number(&mut out, self.id_again(BEHIND, behind).into());
            }
            None => {
                put_number(&mut out, 0);
                self.put(&mut out, line.tarball);
            }
        }
        self.digest(&mut out, line.sha512);
        self.digest(&mut out, line.sha256);
        // A size that cannot be counted one further is not known.
        put_number(&mut out, line.unpacked_size.map_or(0, |size| size.wrapping_add(1)));
        self.details = out;
    }

    fn id(&mut self, text: &str) -> u32 {
        let (texts, ends, hashing) = (&mut self.texts, &mut self.ends, &self.hashing);
        let text = text.as_bytes();
        let is_it = |id: &u32| text_of(texts, ends, *id) == text;
        let hash_of = |id: &u32| hashing.hash_one(text_of(texts, ends, *id));
        match self.ids.entry(hashing.hash_one(text), is_it, hash_of) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                // Whether all fits is asked once for each version; until then these only wrap.
                let id = ends.len() as u32;
                place.insert(id);
                texts.extend_from_slice(text);
                ends.push(texts.len() as u32);
                id
            }
        }
    }

    /// The same for a text that probably is the one that was last in its place, which is found out faster than it is looked up.
    fn id_again(&mut self, place: usize, text: &str) -> u32 {
        if let Some(id) =
            self.recent[place].filter(|id| text_of(&self.texts, &self.ends, *id) == text.as_bytes())
        {
            return id;
        }
        let id = self.id(text);
        self.recent[place] = Some(id);
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

    fn digest(&mut self, out: &mut Vec<u8>, digest: Option<Digest<'_>>) {
        let (text, bytes) = match digest {
            None => return out.push(NO_DIGEST),
            Some(Digest::Bytes(bytes)) => ("", Some(Cow::Borrowed(bytes))),
            Some(Digest::Text(text)) => (text, bytes_of(text).map(Cow::Owned)),
        };
        match bytes {
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

fn text_of<'a>(texts: &'a [u8], ends: &[u32], id: u32) -> &'a [u8] {
    let end = |at: usize| ends.get(at).map_or(0, |end| *end as usize);
    let at = id as usize;
    let start = at.checked_sub(1).map_or(0, end);
    texts.get(start..end(at)).unwrap_or_default()
}

/// Whether all that [`Writer::put_tables`] writes is the same.
fn has_same_tables(one: &Version, other: &Version) -> bool {
    one.dependencies == other.dependencies
        && one.optional_dependencies == other.optional_dependencies
        && one.peer_dependencies == other.peer_dependencies
        && one.optional_peers == other.optional_peers
        && one.bundled == other.bundled
        && one.bin == other.bin
        && one.os == other.os
        && one.cpu == other.cpu
        && one.libc == other.libc
        && one.install_scripts == other.install_scripts
        && one.license == other.license
}

fn too_large(_: std::num::TryFromIntError) -> ArchiveError {
    ArchiveError::TooLarge
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
