//! The flat form of a crate: everything lies in rows of 32-bit numbers over texts that stand in it once, and is read where it lies.
//!
//! Versions of one crate are nearly alike, so equal dependencies, features and lists are there once, and a version is nine numbers and a
//! digest. It is a form of its own and not the layout of a build: other builds read it too, until [`FORM`] changes.
//!
//! The checksum around it tells what is damaged; what is inside is not believed either. [`Packed::open`] looks at every number once: each
//! position is within what it points at, rows end where the next begins, texts and versions are in order. So
//! whatever is read later is there, and searching by halves finds it. Opening takes a time that grows with the bytes and with nothing else.
//! Only what a requirement or a target means is read where it is needed.
//!
//! Sections: name; ends of texts, texts (ascending, each once); heads of versions (ascending), their digests; dependencies; features; then
//! three kinds of rows, each as ends and members: lists of texts, a version's dependencies, a version's features (ascending by name).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ipc::archive::{self, ArchiveError, Layout};
use semver::Version as SemVersion;

use super::{DependencyKind, Scope};
use crate::metadata::Hashes;
use crate::metadata::flat::Reader;

/// The form. Its number changes with anything that changes what is written.
pub(super) const FORM: Layout = Layout::new("cargo crate, form 1", &[]);

pub(super) const SECTIONS: usize = 13;
const NAME: usize = 0;
const TEXT_ENDS: usize = 1;
const TEXTS: usize = 2;
const HEADS: usize = 3;
const DIGESTS: usize = 4;
const NEEDS: usize = 5;
const FEATURES: usize = 6;
const LISTS: Rows = Rows { ends: 7, members: 8 };
const NEED_ROWS: Rows = Rows { ends: 9, members: 10 };
const FEATURE_ROWS: Rows = Rows { ends: 11, members: 12 };

/// What is known of a version, major (or its text), minor, patch, compiler, library, time, dependencies, features.
pub(super) const HEAD_WORDS: usize = 9;
pub(super) const DIGEST_BYTES: usize = 32;
/// Alias, package, requirement, target, registry, what is known of it, features.
pub(super) const NEED_WORDS: usize = 7;
/// Name, values.
pub(super) const FEATURE_WORDS: usize = 2;

pub(super) const IS_YANKED: u32 = 1;
pub(super) const HAS_DIGEST: u32 = 2;
/// The numbers of the head are all of the version; else the first one is its text.
pub(super) const IS_PLAIN: u32 = 4;
/// There is a feature `default`, for which nobody should have to search.
pub(super) const HAS_DEFAULT_FEATURE: u32 = 8;

/// It is a package of the project's own, in the place of a published one. No archive that is kept has such a version.
pub(super) const IS_LOCAL: u32 = 16;

pub(super) const IS_OPTIONAL: u32 = 1;
pub(super) const HAS_DEFAULT: u32 = 2;
pub(super) const IS_BUILD: u32 = 4;
pub(super) const IS_DEV: u32 = 8;

/// What one version takes in memory beside the archive.
const NUMBER_BYTES: usize = size_of::<SemVersion>();
/// What a crate takes beside both, about.
const CRATE_BYTES: usize = 512;

/// Two sections: where each row ends, and the members of all of them.
#[derive(Clone, Copy)]
struct Rows {
    ends: usize,
    members: usize,
}

type Words<'a> = &'a [[u8; 4]];

/// All versions of a crate in the flat form.
#[derive(Clone)]
pub(super) struct Packed {
    whole: Bytes,
    /// What is in the envelope.
    body: Bytes,
    /// Where in it each section is.
    sections: [Range<usize>; SECTIONS],
    /// The versions, ascending.
    numbers: Arc<[SemVersion]>,
    /// The registries that its dependencies may come from, where there are several. It is no part of the archive.
    scope: Option<Arc<Scope>>,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ", self.name())?;
        formatter.debug_set().entries(self.numbers.iter().map(ToString::to_string)).finish()
    }
}

impl Packed {
    pub(super) fn open(whole: &Bytes) -> Result<Self, ArchiveError> {
        let body = archive::access::<Vec<u8>>(archive::unseal(FORM, whole)?)?.as_slice();
        // Nothing that was packed is empty, and of nothing there is no part.
        if body.is_empty() {
            return Err(ArchiveError::Invalid);
        }
        let body = whole.slice_ref(body);
        Self::sectioned(whole.clone(), body).and_then(Self::checked).ok_or(ArchiveError::Invalid)
    }

    fn sectioned(whole: Bytes, body: Bytes) -> Option<Self> {
        let mut reader = Reader { bytes: &body };
        let mut sections = [const { 0..0 }; SECTIONS];
        for section in &mut sections {
            let length = reader.section()?.len();
            let end = body.len() - reader.bytes.len();
            *section = end - length..end;
        }
        let is_whole = reader.bytes.is_empty();
        is_whole.then(|| Self { whole, body, sections, numbers: [].into(), scope: None })
    }

    /// Checks everything, once.
    fn checked(mut self) -> Option<Self> {
        str::from_utf8(self.section(NAME)).ok()?;
        self.check_texts()?;
        let texts = self.words(TEXT_ENDS)?.len();
        let needs = self.records::<NEED_WORDS>(NEEDS)?;
        let features = self.records::<FEATURE_WORDS>(FEATURES)?;
        let lists = self.check_rows(LISTS, texts)?;
        let need_rows = self.check_rows(NEED_ROWS, needs.len())?;
        let feature_rows = self.check_rows(FEATURE_ROWS, features.len())?;
        let is_text = |word: [u8; 4]| at(word) < texts;
        // None, or a text and one.
        let may_be_text = |word: [u8; 4]| at(word) <= texts;
        let needs_fit = needs.iter().all(|need| {
            let [alias, package, requirement, target, registry, _, list] = *need;
            [alias, package, requirement].into_iter().all(is_text)
                && [target, registry].into_iter().all(may_be_text)
                && at(list) < lists
        });
        let features_fit = features.iter().all(|[name, list]| is_text(*name) && at(*list) < lists);
        let heads = self.records::<HEAD_WORDS>(HEADS)?;
        let heads_fit = heads.iter().all(|head| {
            let [flags, text, _, _, rust, links, published, needs, features] = *head;
            (at(flags) as u32 & IS_PLAIN != 0 || is_text(text))
                && [rust, links, published].into_iter().all(may_be_text)
                && at(needs) < need_rows
                && at(features) < feature_rows
        });
        let digests_fit = self.section(DIGESTS).len() == heads.len() * DIGEST_BYTES;
        if !(needs_fit && features_fit && heads_fit && digests_fit) {
            return None;
        }
        // A search by halves goes by the order.
        let ascends = |row: usize| {
            let names = self.row(FEATURE_ROWS, row).iter().map(|id| at(features[at(*id)][0]));
            names.is_sorted_by(|one, next| one < next)
        };
        if !(0..feature_rows).all(ascends) {
            return None;
        }
        let numbers: Option<Arc<[SemVersion]>> =
            heads.iter().map(|head| self.number(*head)).collect();
        self.numbers = numbers.filter(|numbers| numbers.is_sorted())?;
        Some(self)
    }

    fn check_texts(&self) -> Option<()> {
        let texts = str::from_utf8(self.section(TEXTS)).ok()?;
        let (mut start, mut before) = (0, None);
        for end in self.words(TEXT_ENDS)? {
            // Fails where the end is before the start, beyond the texts or within a character.
            let text = texts.get(start..at(*end))?;
            if before.is_some_and(|before| before >= text) {
                return None;
            }
            (start, before) = (at(*end), Some(text));
        }
        (start == texts.len()).then_some(())
    }

    /// How many rows there are, where each is there and all members are below `below`.
    fn check_rows(&self, rows: Rows, below: usize) -> Option<usize> {
        let (ends, members) = (self.words(rows.ends)?, self.words(rows.members)?);
        let is_whole = ends.last().map_or(0, |end| at(*end)) == members.len();
        let is_right = is_whole
            && ends.is_sorted_by_key(|end| at(*end))
            && members.iter().all(|member| at(*member) < below);
        is_right.then_some(ends.len())
    }

    fn number(&self, head: [[u8; 4]; HEAD_WORDS]) -> Option<SemVersion> {
        let [flags, major, minor, patch, ..] = head;
        if at(flags) as u32 & IS_PLAIN == 0 {
            return SemVersion::parse(self.text(at(major))).ok();
        }
        let [major, minor, patch] = [major, minor, patch].map(|word| at(word) as u64);
        Some(SemVersion::new(major, minor, patch))
    }

    /// The bytes that it was opened from.
    pub(super) fn whole(&self) -> &Bytes {
        &self.whole
    }

    pub(super) fn name(&self) -> &str {
        str::from_utf8(self.section(NAME)).unwrap_or_default()
    }

    pub(super) fn within(&self, scope: Arc<Scope>) -> Self {
        Self { scope: Some(scope), ..self.clone() }
    }

    pub(super) fn key(&self) -> Cow<'_, str> {
        match &self.scope {
            Some(scope) => scope.own(self.name()),
            None => Cow::Borrowed(self.name()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The version at a position, the lowest first.
    pub(super) fn listed(&self, position: usize) -> Listed<'_> {
        Listed { packed: self, position }
    }

    pub(super) fn bytes(&self) -> usize {
        self.whole.len() + self.numbers.len() * NUMBER_BYTES + CRATE_BYTES
    }

    fn section(&self, section: usize) -> &[u8] {
        &self.body[self.sections[section].clone()]
    }

    fn words(&self, section: usize) -> Option<Words<'_>> {
        let (words, rest) = self.section(section).as_chunks::<4>();
        rest.is_empty().then_some(words)
    }

    fn records<const WORDS: usize>(&self, section: usize) -> Option<&[[[u8; 4]; WORDS]]> {
        let (records, rest) = self.words(section)?.as_chunks::<WORDS>();
        rest.is_empty().then_some(records)
    }

    /// One record of a checked section.
    fn record<const WORDS: usize>(&self, section: usize, id: usize) -> [usize; WORDS] {
        let (words, _) = self.section(section).as_chunks::<4>();
        let (records, _) = words.as_chunks::<WORDS>();
        records[id].map(at)
    }

    fn row(&self, rows: Rows, id: usize) -> Words<'_> {
        let (ends, _) = self.section(rows.ends).as_chunks::<4>();
        let (members, _) = self.section(rows.members).as_chunks::<4>();
        let start = if id == 0 { 0 } else { at(ends[id - 1]) };
        &members[start..at(ends[id])]
    }

    fn text(&self, id: usize) -> &str {
        let (ends, _) = self.section(TEXT_ENDS).as_chunks::<4>();
        let start = if id == 0 { 0 } else { at(ends[id - 1]) };
        // All of it was one when it was opened, and no character is cut.
        str::from_utf8(&self.section(TEXTS)[start..at(ends[id])]).unwrap_or_default()
    }

    fn text_or_none(&self, id: usize) -> Option<&str> {
        id.checked_sub(1).map(|id| self.text(id))
    }

    fn texts(&self, row: usize) -> Texts<'_> {
        Texts { packed: self, ids: self.row(LISTS, row).iter() }
    }

    fn feature(&self, id: usize) -> (&str, Texts<'_>) {
        let [name, list] = self.record::<FEATURE_WORDS>(FEATURES, id);
        (self.text(name), self.texts(list))
    }
}

fn at(word: [u8; 4]) -> usize {
    u32::from_le_bytes(word) as usize
}

/// One version where it lies.
#[derive(Clone, Copy)]
pub struct Listed<'a> {
    packed: &'a Packed,
    position: usize,
}

impl<'a> Listed<'a> {
    fn field(self, field: usize) -> usize {
        self.packed.record::<HEAD_WORDS>(HEADS, self.position)[field]
    }

    /// Where it is among all versions of the crate.
    pub fn position(self) -> usize {
        self.position
    }

    /// The version.
    pub fn number(self) -> &'a SemVersion {
        &self.packed.numbers[self.position]
    }

    /// Whether it was withdrawn.
    pub fn is_yanked(self) -> bool {
        self.field(0) as u32 & IS_YANKED != 0
    }

    /// Whether it is a package of the project's own, with no file to fetch.
    pub fn is_local(self) -> bool {
        self.field(0) as u32 & IS_LOCAL != 0
    }

    /// Whether there is a digest to verify its file by.
    pub fn has_digest(self) -> bool {
        self.field(0) as u32 & HAS_DIGEST != 0
    }

    /// Whether it has a feature `default`.
    pub fn has_default(self) -> bool {
        self.field(0) as u32 & HAS_DEFAULT_FEATURE != 0
    }

    /// The digest of the `.crate` file.
    pub fn hashes(self) -> Hashes {
        let (digests, _) = self.packed.section(DIGESTS).as_chunks::<DIGEST_BYTES>();
        let digest = self.has_digest().then(|| crate::hex::hex(&digests[self.position]));
        Hashes { sha256: digest, sha512: None }
    }

    /// `rust_version`, as written.
    pub fn rust_version(self) -> Option<&'a str> {
        self.packed.text_or_none(self.field(4))
    }

    /// `links`.
    pub fn links(self) -> Option<&'a str> {
        self.packed.text_or_none(self.field(5))
    }

    /// Publication time, where the index has it.
    pub fn published(self) -> Option<&'a str> {
        self.packed.text_or_none(self.field(6))
    }

    /// Its dependencies, as they were listed.
    pub fn needs(self) -> impl ExactSizeIterator<Item = Need<'a>> {
        let packed = self.packed;
        let row = packed.row(NEED_ROWS, self.field(7));
        row.iter().map(move |id| Need { packed, record: packed.record(NEEDS, at(*id)) })
    }

    /// Its features by name, in order, with those that optional dependencies are by themselves.
    pub fn features(self) -> impl ExactSizeIterator<Item = (&'a str, Texts<'a>)> {
        let packed = self.packed;
        packed.row(FEATURE_ROWS, self.field(8)).iter().map(move |id| packed.feature(at(*id)))
    }

    /// What a feature lists; `None` where there is no such feature.
    pub fn feature(self, name: &str) -> Option<Texts<'a>> {
        let packed = self.packed;
        let row = packed.row(FEATURE_ROWS, self.field(8));
        let found = row.binary_search_by(|id| packed.feature(at(*id)).0.cmp(name)).ok()?;
        Some(packed.feature(at(row[found])).1)
    }
}

/// One dependency where it lies.
#[derive(Clone, Copy)]
pub struct Need<'a> {
    packed: &'a Packed,
    record: [usize; NEED_WORDS],
}

impl<'a> Need<'a> {
    /// The name under which features and code refer to it.
    pub fn alias(self) -> &'a str {
        self.packed.text(self.record[0])
    }

    /// The crate's name in the registry.
    pub fn package(self) -> &'a str {
        self.packed.text(self.record[1])
    }

    /// The wanted versions, in the one form that a requirement has as a text.
    pub fn requirement(self) -> &'a str {
        self.packed.text(self.record[2])
    }

    /// `cfg(...)` or a triple, where it is for some targets only.
    pub fn target(self) -> Option<&'a str> {
        self.packed.text_or_none(self.record[3])
    }

    /// What a resolver calls the crate; `None` where it is of a registry that nobody configured.
    pub fn known_key(self) -> Option<Cow<'a, str>> {
        match &self.packed.scope {
            Some(scope) => scope.key(self.package(), self.registry()),
            None => self.registry().is_none().then(|| Cow::Borrowed(self.package())),
        }
    }

    /// The same; where nobody configured the registry, a key that no crate has.
    pub fn key(self) -> Cow<'a, str> {
        self.known_key().unwrap_or_else(|| Cow::Owned(format!("{}@?", self.package())))
    }

    /// The index URL of another registry, where it is not the one of the depending crate.
    pub fn registry(self) -> Option<&'a str> {
        self.packed.text_or_none(self.record[4])
    }

    fn is(self, flag: u32) -> bool {
        self.record[5] as u32 & flag != 0
    }

    /// Whether a feature has to switch it on.
    pub fn is_optional(self) -> bool {
        self.is(IS_OPTIONAL)
    }

    /// Whether `default` is asked for too.
    pub fn has_default(self) -> bool {
        self.is(HAS_DEFAULT)
    }

    /// The table it stands in.
    pub fn kind(self) -> DependencyKind {
        match (self.is(IS_BUILD), self.is(IS_DEV)) {
            (true, _) => DependencyKind::Build,
            (_, true) => DependencyKind::Dev,
            _ => DependencyKind::Normal,
        }
    }

    /// The features that it asks for itself.
    pub fn features(self) -> Texts<'a> {
        self.packed.texts(self.record[6])
    }
}

/// A list of texts where it lies.
#[derive(Clone)]
pub struct Texts<'a> {
    packed: &'a Packed,
    ids: std::slice::Iter<'a, [u8; 4]>,
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.ids.next().map(|id| self.packed.text(at(*id)))
    }
}
