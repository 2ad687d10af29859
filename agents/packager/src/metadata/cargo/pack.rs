//! Writes the flat form of a crate, version by version; what it looks like is [`packed`](super::packed)'s matter.
//!
//! Texts get their numbers as they come, and new ones by their order at the end. Features of optional dependencies that are features
//! by themselves are written down like the others, so that nobody has to look for what mentions them.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bytes::Bytes;
use ipc::archive::{self, ArchiveError};
use semver::Version as SemVersion;

use super::packed::{
    DIGEST_BYTES, FEATURE_WORDS, FORM, HAS_DEFAULT, HAS_DEFAULT_FEATURE, HAS_DIGEST, HEAD_WORDS,
    IS_BUILD, IS_DEV, IS_LOCAL, IS_OPTIONAL, IS_PLAIN, IS_YANKED, NEED_WORDS, SECTIONS,
};
use super::{Dependency, DependencyKind};
use crate::metadata::flat::put_section;

/// What a version is beside its dependencies and features.
pub(crate) struct Head<'a> {
    pub(crate) version: SemVersion,
    pub(crate) is_yanked: bool,
    /// Whether it is a package of the project's own.
    pub(crate) is_local: bool,
    pub(crate) links: Option<&'a str>,
    pub(crate) rust_version: Option<&'a str>,
    pub(crate) published: Option<&'a str>,
    /// In hexadecimal.
    pub(crate) sha256: Option<&'a str>,
}

/// One dependency as it is written.
pub(crate) struct NeedParts<'a, F> {
    pub(crate) alias: &'a str,
    pub(crate) package: &'a str,
    /// In the form that [`semver::VersionReq`] is displayed in.
    pub(crate) requirement: &'a str,
    pub(crate) features: F,
    pub(crate) default_features: bool,
    pub(crate) optional: bool,
    pub(crate) target: Option<&'a str>,
    pub(crate) kind: DependencyKind,
    pub(crate) registry: Option<&'a str>,
}

/// Versions are written one after the other: what one needs and which features it has, then the version itself.
#[derive(Default)]
pub(crate) struct Writer {
    texts: Texts,
    heads: Vec<Version>,
    needs: Records<NEED_WORDS>,
    features: Records<FEATURE_WORDS>,
    lists: Rows,
    need_rows: Rows,
    feature_rows: Rows,
    /// Of the version that is being written.
    current: Current,
}

#[derive(Default)]
struct Current {
    needs: Vec<u32>,
    /// Names and features.
    features: Vec<(u32, u32)>,
    /// The names of optional dependencies.
    optional: Vec<u32>,
    /// Dependencies that a feature names as `dep:`.
    mentioned: HashSet<u32>,
    list: Vec<u32>,
}

struct Version {
    number: SemVersion,
    words: [u32; HEAD_WORDS],
    digest: [u8; DIGEST_BYTES],
}

impl Writer {
    /// Adds a dependency of the next version.
    pub(crate) fn need(&mut self, dependency: &Dependency) {
        self.need_of(&NeedParts {
            alias: &dependency.alias,
            package: &dependency.package,
            requirement: &dependency.requirement.to_string(),
            features: dependency.features.iter().map(String::as_str),
            default_features: dependency.default_features,
            optional: dependency.optional,
            target: dependency.target.as_deref(),
            kind: dependency.kind,
            registry: dependency.registry.as_deref(),
        });
    }

    /// The same of its parts.
    pub(crate) fn need_of<'a>(
        &mut self,
        need: &NeedParts<'a, impl Iterator<Item = &'a str> + Clone>,
    ) {
        let flags = [
            (need.optional, IS_OPTIONAL),
            (need.default_features, HAS_DEFAULT),
            (need.kind == DependencyKind::Build, IS_BUILD),
            (need.kind == DependencyKind::Dev, IS_DEV),
        ];
        let flags = flags.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum();
        let list = self.list(need.features.clone());
        let alias = self.texts.id(need.alias);
        let record = [
            alias,
            self.texts.id(need.package),
            self.texts.id(need.requirement),
            self.texts.optional(need.target),
            self.texts.optional(need.registry),
            flags,
            list,
        ];
        let id = self.needs.id(record);
        self.current.needs.push(id);
        if need.optional {
            self.current.optional.push(alias);
        }
    }

    /// Adds a feature of the next version.
    pub(crate) fn feature<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a str>) {
        let mentioned = &mut self.current.mentioned;
        let texts = &mut self.texts;
        let values = values.inspect(|value| {
            if let Some(alias) = value.strip_prefix("dep:") {
                mentioned.insert(texts.id(alias));
            }
        });
        // Collected, because both look texts up.
        let values: Vec<&str> = values.collect();
        let name = self.texts.id(name);
        let list = self.list(values.into_iter());
        let id = self.features.id([name, list]);
        self.current.features.push((name, id));
    }

    fn list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> u32 {
        let mut list = std::mem::take(&mut self.current.list);
        list.extend(texts.map(|text| self.texts.id(text)));
        let id = self.lists.id(&list);
        list.clear();
        self.current.list = list;
        id
    }

    /// Adds the version that all of that belongs to.
    pub(crate) fn version(&mut self, head: Head<'_>) {
        self.add_implicit();
        let Current { needs, features, .. } = &mut self.current;
        let texts = &self.texts;
        features.sort_by(|(one, _), (other, _)| texts.text(*one).cmp(texts.text(*other)));
        // Of several with one name the last counts, as in a table that is read.
        features.reverse();
        features.dedup_by_key(|(name, _)| *name);
        features.reverse();
        let has_default = features.iter().any(|(name, _)| texts.text(*name) == "default");
        let features: Vec<u32> = features.iter().map(|(_, id)| *id).collect();
        let (need_row, feature_row) = (self.need_rows.id(needs), self.feature_rows.id(&features));
        let digest = head.sha256.and_then(bytes_of);
        let mut flags = if head.is_yanked { IS_YANKED } else { 0 };
        flags |= if head.is_local { IS_LOCAL } else { 0 };
        flags |= if digest.is_some() { HAS_DIGEST } else { 0 };
        flags |= if has_default { HAS_DEFAULT_FEATURE } else { 0 };
        let number = head.version;
        let parts = [number.major, number.minor, number.patch].map(u32::try_from);
        let has_more = !number.pre.is_empty() || !number.build.is_empty();
        let [major, minor, patch] = match (parts, has_more) {
            ([Ok(major), Ok(minor), Ok(patch)], false) => {
                flags |= IS_PLAIN;
                [major, minor, patch]
            }
            _ => [self.texts.id(&number.to_string()), 0, 0],
        };
        let words = [
            flags,
            major,
            minor,
            patch,
            self.texts.optional(head.rust_version),
            self.texts.optional(head.links),
            self.texts.optional(head.published),
            need_row,
            feature_row,
        ];
        self.heads.push(Version { number, words, digest: digest.unwrap_or_default() });
        self.current.needs.clear();
        self.current.features.clear();
        self.current.optional.clear();
        self.current.mentioned.clear();
    }

    /// An optional dependency is a feature by itself, unless there is one of its name or some feature mentions it with `dep:`.
    fn add_implicit(&mut self) {
        let Current { optional, features, mentioned, .. } = &mut self.current;
        if optional.is_empty() {
            return;
        }
        mentioned.extend(features.iter().map(|(name, _)| *name));
        // One alias may have several dependencies, for several targets.
        optional.retain(|alias| mentioned.insert(*alias));
        for alias in std::mem::take(optional) {
            let value = format!("dep:{}", self.texts.text(alias));
            let list = self.list(std::iter::once(value.as_str()));
            let id = self.features.id([alias, list]);
            self.current.features.push((alias, id));
        }
    }

    /// The archive of everything.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`].
    pub(crate) fn finish(mut self, name: &str) -> Result<Bytes, ArchiveError> {
        let (ranks, ends, texts) = self.texts.in_order();
        let rank = |word: &mut u32| *word = ranks[*word as usize];
        let rank_optional = |word: &mut u32| {
            if *word > 0 {
                *word = ranks[*word as usize - 1] + 1;
            }
        };
        self.lists.members.iter_mut().for_each(rank);
        for [alias, package, requirement, target, registry, _, _] in &mut self.needs.records {
            [alias, package, requirement].into_iter().for_each(rank);
            [target, registry].into_iter().for_each(rank_optional);
        }
        self.features.records.iter_mut().for_each(|[name, _]| rank(name));
        for version in &mut self.heads {
            let [flags, text, _, _, rust_version, links, published, _, _] = &mut version.words;
            if *flags & IS_PLAIN == 0 {
                rank(text);
            }
            [rust_version, links, published].into_iter().for_each(rank_optional);
        }
        // Stable: of several with one number the first stays first.
        self.heads.sort_by(|one, other| one.number.cmp(&other.number));
        let heads: Vec<[u32; HEAD_WORDS]> = self.heads.iter().map(|it| it.words).collect();
        let digests: Vec<u8> = self.heads.iter().flat_map(|version| version.digest).collect();
        let sections: [&[u8]; SECTIONS] = [
            name.as_bytes(),
            &bytes(&ends),
            &texts,
            &bytes(heads.as_flattened()),
            &digests,
            &bytes(self.needs.records.as_flattened()),
            &bytes(self.features.records.as_flattened()),
            &bytes(&self.lists.ends),
            &bytes(&self.lists.members),
            &bytes(&self.need_rows.ends),
            &bytes(&self.need_rows.members),
            &bytes(&self.feature_rows.ends),
            &bytes(&self.feature_rows.members),
        ];
        let mut body = Vec::with_capacity(sections.iter().map(|one| one.len() + 8).sum());
        for section in sections {
            // Positions within are counted in 32 bits.
            u32::try_from(section.len()).map_err(|_| ArchiveError::TooLarge)?;
            put_section(&mut body, section);
        }
        Ok(archive::seal(FORM, &body)?.into())
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The bytes that 64 digits stand for.
fn bytes_of(text: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut bytes = [0; DIGEST_BYTES];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != DIGEST_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        *byte = (digit(high)? << 4 | digit(low)?) as u8;
    }
    Some(bytes)
}

/// Texts, each once.
#[derive(Default)]
struct Texts {
    ids: HashMap<Rc<str>, u32>,
    texts: Vec<Rc<str>>,
}

impl Texts {
    fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        // Whether all fits is asked at the end; until then this only wraps.
        let id = self.texts.len() as u32;
        let text: Rc<str> = text.into();
        self.texts.push(Rc::clone(&text));
        self.ids.insert(text, id);
        id
    }

    /// None is 0, the others are one further.
    fn optional(&mut self, text: Option<&str>) -> u32 {
        text.map_or(0, |text| self.id(text) + 1)
    }

    fn text(&self, id: u32) -> &str {
        &self.texts[id as usize]
    }

    /// For each number the place in the order, where each text ends then, and all texts in that order.
    fn in_order(&self) -> (Vec<u32>, Vec<u32>, Vec<u8>) {
        let mut order: Vec<u32> = (0..self.texts.len() as u32).collect();
        order.sort_unstable_by_key(|id| self.text(*id));
        let mut ranks = vec![0; order.len()];
        let (mut ends, mut texts) = (Vec::with_capacity(order.len()), Vec::new());
        for (rank, id) in order.into_iter().enumerate() {
            ranks[id as usize] = rank as u32;
            texts.extend_from_slice(self.text(id).as_bytes());
            ends.push(texts.len() as u32);
        }
        (ranks, ends, texts)
    }
}

/// Records of one kind, each once.
struct Records<const WORDS: usize> {
    ids: HashMap<[u32; WORDS], u32>,
    records: Vec<[u32; WORDS]>,
}

impl<const WORDS: usize> Default for Records<WORDS> {
    fn default() -> Self {
        Self { ids: HashMap::new(), records: Vec::new() }
    }
}

impl<const WORDS: usize> Records<WORDS> {
    fn id(&mut self, record: [u32; WORDS]) -> u32 {
        *self.ids.entry(record).or_insert_with(|| {
            self.records.push(record);
            self.records.len() as u32 - 1
        })
    }
}

/// Rows of one kind, each once.
#[derive(Default)]
struct Rows {
    ids: HashMap<Box<[u32]>, u32>,
    ends: Vec<u32>,
    members: Vec<u32>,
}

impl Rows {
    fn id(&mut self, row: &[u32]) -> u32 {
        if let Some(id) = self.ids.get(row) {
            return *id;
        }
        let id = self.ends.len() as u32;
        self.members.extend_from_slice(row);
        self.ends.push(self.members.len() as u32);
        self.ids.insert(row.into(), id);
        id
    }
}
