//! All versions of one package: ranked once for everybody, and where they come from an archive, unpacked one by one.
//!
//! A package has hundreds of versions, of which a resolution takes one. So what choosing looks at (the order, the
//! deprecation, the engine) lies apart from what only the chosen one is asked for, and a version is read when somebody
//! looks at it, once for all requests that share the packument.

use std::any::Any;
use std::cmp::Reverse;
use std::fmt;
use std::sync::{Arc, OnceLock};

use agents_versions::npm::{Range, Version as Number};
use bytes::Bytes;
use ipc::archive::ArchiveError;

use super::packed::{self, Packed};
use super::{Packument, Version};
use crate::limits::NPM_NOTES_BYTES_FIXED;

/// The versions of a package by their text.
#[derive(Clone, Default)]
pub struct Versions {
    form: Form,
    notes: Notes,
}

/// What whoever chooses among the versions wants to find again the next time. It goes with them, and is about nothing else.
#[derive(Default)]
struct Notes(OnceLock<Box<dyn Any + Send + Sync>>);

impl Clone for Notes {
    /// None: a copy may become another set of versions.
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[derive(Clone)]
enum Form {
    /// As an answer was read.
    Loose(Loose),
    /// As it is kept.
    Packed(Box<Packed>),
}

#[derive(Clone, Default)]
struct Loose {
    /// In the order of the texts.
    slots: Vec<Slot>,
    /// Positions in `slots`, the highest version first; without those whose text is none.
    ranked: OnceLock<Box<[u32]>>,
}

#[derive(Clone)]
struct Slot {
    text: Box<str>,
    number: Option<Number>,
    version: Arc<Version>,
}

/// One version, as far as choosing looks at it.
#[derive(Clone, Copy)]
pub struct Listed<'a> {
    versions: &'a Versions,
    at: usize,
}

impl<'a> Listed<'a> {
    /// Its position, which [`Versions::at`] takes.
    pub fn position(self) -> usize {
        self.at
    }

    /// Whether it is a version inside of a range.
    pub fn is_in(self, range: &Range) -> bool {
        match &self.versions.form {
            Form::Loose(loose) => {
                loose.slots[self.at].number.as_ref().is_some_and(|number| range.satisfies(number))
            }
            Form::Packed(packed) => packed.is_in(self.at, range),
        }
    }

    /// Its text.
    pub fn text(self) -> &'a str {
        match &self.versions.form {
            Form::Loose(loose) => &loose.slots[self.at].text,
            Form::Packed(packed) => packed.text(self.at),
        }
    }

    /// Its number; `None` where the text is none.
    pub fn number(self) -> Option<Number> {
        match &self.versions.form {
            Form::Loose(loose) => loose.slots[self.at].number.clone(),
            Form::Packed(packed) => packed.number(self.at),
        }
    }

    /// Whether there is a deprecation text.
    pub fn is_deprecated(self) -> bool {
        match &self.versions.form {
            Form::Loose(loose) => loose.slots[self.at].version.deprecated.is_some(),
            Form::Packed(packed) => packed.is_deprecated(self.at),
        }
    }

    /// `engines.node`.
    pub fn engines_node(self) -> Option<&'a str> {
        match &self.versions.form {
            Form::Loose(loose) => loose.slots[self.at].version.engines_node.as_deref(),
            Form::Packed(packed) => packed.engines_node(self.at),
        }
    }

    /// The whole version.
    pub fn version(self) -> Arc<Version> {
        match &self.versions.form {
            Form::Loose(loose) => Arc::clone(&loose.slots[self.at].version),
            Form::Packed(packed) => packed.version(self.at),
        }
    }
}

/// Bytes for notes on a packument whose archive has so many: a few versions of any, and more of those with many.
pub(crate) fn notes_bytes_max(length: usize) -> usize {
    NPM_NOTES_BYTES_FIXED + length / 8
}

impl Default for Form {
    fn default() -> Self {
        Self::Loose(Loose::default())
    }
}

impl Versions {
    fn of(form: Form) -> Self {
        Self { form, notes: Notes::default() }
    }

    /// The notes of one kind, made where there are none; `None` where another kind is kept. Whoever keeps notes bounds them.
    pub fn notes<T: Any + Send + Sync + Default>(&self) -> Option<&T> {
        self.notes.0.get_or_init(|| Box::new(T::default())).downcast_ref()
    }

    /// Bytes that the notes may take, about: they are weighed with the packument, whatever there is of them.
    pub fn notes_bytes_max(&self) -> usize {
        match &self.form {
            Form::Loose(_) => notes_bytes_max(0),
            Form::Packed(packed) => notes_bytes_max(packed.whole().len()),
        }
    }

    /// The version at a position.
    pub fn at(&self, position: usize) -> Option<Listed<'_>> {
        (position < self.len()).then_some(Listed { versions: self, at: position })
    }

    /// The version with this text.
    pub fn get(&self, text: &str) -> Option<Arc<Version>> {
        self.listed(text).map(Listed::version)
    }

    /// The same as far as choosing looks at it.
    pub fn listed(&self, text: &str) -> Option<Listed<'_>> {
        let at = match &self.form {
            Form::Loose(loose) => {
                loose.slots.binary_search_by(|slot| (*slot.text).cmp(text)).ok()?
            }
            Form::Packed(packed) => packed.find(text)?,
        };
        Some(Listed { versions: self, at })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Loose(loose) => loose.slots.len(),
            Form::Packed(packed) => packed.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn all(&self) -> impl Iterator<Item = Listed<'_>> {
        (0..self.len()).map(|at| Listed { versions: self, at })
    }

    /// All texts, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.all().map(Listed::text)
    }

    /// All versions, in the order of their texts. Unpacks them.
    pub fn values(&self) -> impl Iterator<Item = Arc<Version>> {
        self.all().map(Listed::version)
    }

    /// All texts and versions. Unpacks them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Arc<Version>)> {
        self.all().map(|one| (one.text(), one.version()))
    }

    /// Those whose text is a version, the highest first.
    pub fn ranked(&self) -> impl Iterator<Item = Listed<'_>> {
        let (loose, packed) = match &self.form {
            Form::Loose(loose) => (Some(loose.ranked().iter().map(|at| *at as usize)), None),
            Form::Packed(packed) => (None, Some(packed.ranked())),
        };
        let order = loose.into_iter().flatten().chain(packed.into_iter().flatten());
        order.map(|at| Listed { versions: self, at })
    }

    /// Adds a version, or puts it in the place of the one with the same text.
    pub fn insert(&mut self, text: String, version: Arc<Version>) {
        self.notes = Notes::default();
        let loose = self.loosen();
        let number = Number::parse_loose(&text).ok();
        let slot = Slot { text: text.into(), number, version };
        match loose.slots.binary_search_by(|other| other.text.cmp(&slot.text)) {
            Ok(at) => loose.slots[at] = slot,
            Err(at) => loose.slots.insert(at, slot),
        }
        loose.ranked = OnceLock::new();
    }

    fn loosen(&mut self) -> &mut Loose {
        if let Form::Packed(_) = &self.form {
            *self = self.iter().map(|(text, version)| (text.to_owned(), version)).collect();
        }
        match &mut self.form {
            Form::Loose(loose) => loose,
            Form::Packed(_) => unreachable!("it was made loose above"),
        }
    }
}

impl Loose {
    fn ranked(&self) -> &[u32] {
        self.ranked.get_or_init(|| {
            let numbered = (0..).zip(&self.slots);
            let mut order: Vec<(&Number, u32)> =
                numbered.filter_map(|(at, slot)| Some((slot.number.as_ref()?, at))).collect();
            order.sort_by_key(|(number, _)| Reverse(*number));
            order.into_iter().map(|(_, at)| at).collect()
        })
    }
}

impl FromIterator<(String, Arc<Version>)> for Versions {
    fn from_iter<I: IntoIterator<Item = (String, Arc<Version>)>>(versions: I) -> Self {
        let slot = |(text, version): (String, Arc<Version>)| Slot {
            number: Number::parse_loose(&text).ok(),
            text: text.into(),
            version,
        };
        let mut slots: Vec<Slot> = versions.into_iter().map(slot).collect();
        // Of several with one text the last counts.
        slots.reverse();
        slots.sort_by(|one, other| one.text.cmp(&other.text));
        slots.dedup_by(|one, other| one.text == other.text);
        Self::of(Form::Loose(Loose { slots, ranked: OnceLock::new() }))
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.keys()).finish()
    }
}

impl Packument {
    /// The archive of this packument.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`].
    pub fn pack(&self) -> Result<Bytes, ArchiveError> {
        let loose = match &self.versions.form {
            Form::Loose(loose) => loose,
            Form::Packed(packed) => return Ok(packed.whole().clone()),
        };
        let slots = loose.slots.iter();
        let versions = slots.map(|slot| (&*slot.text, slot.number.as_ref(), &*slot.version));
        packed::write(&self.name, &self.dist_tags, versions, loose.ranked())
    }

    /// A packument that stays packed until it is looked at.
    ///
    /// # Errors
    /// Where the archive is damaged or of another form.
    pub fn unpack(bytes: &Bytes) -> Result<Self, ArchiveError> {
        let packed::Opened { name, dist_tags, versions } = packed::open(bytes)?;
        Ok(Self { name, dist_tags, versions: Versions::of(Form::Packed(Box::new(versions))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Hashes;

    fn packument() -> Packument {
        let texts = ["1.0.0", "10.0.0", "2.0.0-beta.1", "2.0.0", "not a version"];
        let version = |text: &str| Version {
            version: text.to_owned(),
            dependencies: [("b".to_owned(), format!("^{text}"))].into(),
            deprecated: text.starts_with("10").then(|| "old".to_owned()),
            engines_node: text.starts_with('1').then(|| ">=4".to_owned()),
            unpacked_size: Some(7),
            ..Version::default()
        };
        Packument {
            name: "a".to_owned(),
            dist_tags: [("latest".to_owned(), "2.0.0".to_owned())].into(),
            versions: texts
                .map(|text| (text.to_owned(), Arc::new(version(text))))
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn a_packed_packument_comes_back() {
        let before = packument();
        let after = Packument::unpack(&before.pack().expect("packed")).expect("unpacked");
        assert_eq!((&after.name, &after.dist_tags), (&before.name, &before.dist_tags));
        assert!(after.versions.iter().eq(before.versions.iter()));
        let again = Packument::unpack(&after.pack().expect("packed")).expect("unpacked");
        assert!(again.versions.iter().eq(before.versions.iter()));
    }

    #[test]
    fn odd_versions_come_back() {
        let texts = ["4294967296.0.7", "1.0.0-rc.1", "1.0.0+build", "0.0.0", "", "1"];
        let addresses =
            ["", "https://r.example.invalid/a", "https://r.example.invalid/a-1.0.0.tgz"];
        let digests = [None, Some("ab".repeat(64)), Some("AB".to_owned()), Some("abc".to_owned())];
        let mut versions = Versions::default();
        for (at, text) in texts.into_iter().enumerate() {
            let version = Version {
                version: text.to_owned(),
                tarball: format!("{}{text}", addresses[at % addresses.len()]),
                hashes: Hashes {
                    sha512: digests[at % digests.len()].clone(),
                    sha256: digests[(at + 1) % digests.len()].clone(),
                },
                bundled: vec![text.to_owned(); at],
                license: (at % 2 == 0).then(|| "MIT".to_owned()),
                unpacked_size: (at % 2 == 1).then_some(at as u64 * 1_000),
                ..Version::default()
            };
            versions.insert(text.to_owned(), Arc::new(version));
        }
        let before = Packument { name: "a".to_owned(), versions, ..Packument::default() };
        let after = Packument::unpack(&before.pack().expect("packed")).expect("unpacked");
        assert!(after.versions.iter().eq(before.versions.iter()));
        for text in texts {
            let [one, other] =
                [&before, &after].map(|one| one.versions.listed(text).expect("listed").number());
            assert_eq!(one, other, "{text}");
        }
    }

    #[test]
    fn versions_are_ranked_and_the_others_left_out() {
        let before = packument();
        let after = Packument::unpack(&before.pack().expect("packed")).expect("unpacked");
        for packument in [before, after] {
            let ranked: Vec<&str> = packument.versions.ranked().map(Listed::text).collect();
            assert_eq!(ranked, ["10.0.0", "2.0.0", "2.0.0-beta.1", "1.0.0"]);
            let highest = packument.versions.ranked().next().expect("one");
            assert!(highest.is_deprecated());
            assert_eq!(highest.engines_node(), Some(">=4"));
            assert_eq!(packument.versions.get("2.0.0").expect("there").dependencies["b"], "^2.0.0");
            assert!(packument.versions.get("3.0.0").is_none());
        }
    }

    #[test]
    fn an_inserted_version_takes_its_rank() {
        let mut packument = packument();
        assert_eq!(packument.versions.ranked().count(), 4);
        packument.versions.insert("11.0.0".to_owned(), Arc::default());
        packument.versions.insert("2.0.0".to_owned(), Arc::default());
        assert_eq!(packument.versions.len(), 6);
        assert_eq!(packument.versions.ranked().next().map(Listed::text), Some("11.0.0"));
        assert!(packument.versions.get("2.0.0").expect("there").dependencies.is_empty());
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let bytes = packument().pack().expect("packed");
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            assert!(Packument::unpack(&damaged.into()).is_err(), "{at}");
        }
    }
}
