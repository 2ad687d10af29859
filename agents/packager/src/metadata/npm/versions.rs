//! All versions of one package: ranked once for everybody, and where they come from an archive, unpacked one by one.
//!
//! A package has hundreds of versions, of which a resolution takes one. So what choosing looks at (the order, the
//! deprecation, the engine) lies apart from what only the chosen one is asked for, and a version is read or unpacked when
//! somebody looks at it, once for all requests that share the packument.

use std::cmp::Reverse;
use std::fmt;
use std::ops::{Index, Range};
use std::sync::{Arc, OnceLock};

use agents_versions::npm::Version as Number;
use bytes::Bytes;
use ipc::archive::{self, ArchiveError, Layout};

use super::{Packument, Version};

/// What an archive of this module is; other texts are another layout.
const LAYOUT: Layout = Layout::new(
    "npm packument",
    &[include_str!("versions.rs"), include_str!("../npm.rs"), include_str!("../../metadata.rs")],
);

/// The versions of a package by their text.
#[derive(Clone, Default)]
pub struct Versions {
    /// In the order of the texts.
    slots: Vec<Slot>,
    /// Positions in `slots`, the highest version first; without those whose text is none.
    ranked: OnceLock<Box<[u32]>>,
    /// Where the packed ones are.
    packed: Bytes,
}

#[derive(Clone)]
struct Slot {
    text: Box<str>,
    number: OnceLock<Option<Number>>,
    is_deprecated: bool,
    engines_node: Option<Box<str>>,
    version: OnceLock<Arc<Version>>,
    /// In `packed`.
    place: Range<usize>,
}

/// One version, as far as choosing looks at it.
#[derive(Clone, Copy)]
pub struct Listed<'a> {
    versions: &'a Versions,
    slot: &'a Slot,
}

impl<'a> Listed<'a> {
    /// Its text.
    pub fn text(self) -> &'a str {
        &self.slot.text
    }

    /// Its number; `None` where the text is none.
    pub fn number(self) -> Option<&'a Number> {
        self.slot.number.get_or_init(|| Number::parse_loose(&self.slot.text).ok()).as_ref()
    }

    /// Whether there is a deprecation text.
    pub fn is_deprecated(self) -> bool {
        self.slot.is_deprecated
    }

    /// `engines.node`.
    pub fn engines_node(self) -> Option<&'a str> {
        self.slot.engines_node.as_deref()
    }

    /// The whole version.
    pub fn version(self) -> &'a Arc<Version> {
        self.slot.version.get_or_init(|| {
            let body = &self.versions.packed[self.slot.place.clone()];
            // The checksum of the whole was right, so this is what was once packed; an empty one has no archive, and is
            // refused where it would be used.
            Arc::new(archive::copy(body).unwrap_or_default())
        })
    }
}

impl Versions {
    /// The version with this text.
    pub fn get(&self, text: &str) -> Option<&Arc<Version>> {
        self.listed(text).map(Listed::version)
    }

    /// The same as far as choosing looks at it.
    pub fn listed(&self, text: &str) -> Option<Listed<'_>> {
        let at = self.slots.binary_search_by(|slot| (*slot.text).cmp(text)).ok()?;
        Some(Listed { versions: self, slot: &self.slots[at] })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All texts, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| &*slot.text)
    }

    /// All versions, in the order of their texts. Unpacks them.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.iter().map(|(_, version)| version)
    }

    /// All texts and versions. Unpacks them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Version>)> {
        self.slots.iter().map(|slot| (&*slot.text, Listed { versions: self, slot }.version()))
    }

    /// Those whose text is a version, the highest first.
    pub fn ranked(&self) -> impl Iterator<Item = Listed<'_>> {
        let order = self.ranked.get_or_init(|| self.rank());
        order.iter().map(|&at| Listed { versions: self, slot: &self.slots[at as usize] })
    }

    fn rank(&self) -> Box<[u32]> {
        let number = |slot| Listed { versions: self, slot }.number();
        let mut order: Vec<(&Number, u32)> = (0..)
            .zip(&self.slots)
            .filter_map(|(at, slot)| number(slot).map(|number| (number, at)))
            .collect();
        order.sort_by_key(|(number, _)| Reverse(*number));
        order.into_iter().map(|(_, at)| at).collect()
    }

    /// Adds a version, or puts it in the place of the one with the same text.
    pub fn insert(&mut self, text: String, version: Arc<Version>) {
        let slot = Slot {
            is_deprecated: version.deprecated.is_some(),
            engines_node: version.engines_node.as_deref().map(Box::from),
            text: text.into(),
            number: OnceLock::new(),
            version: OnceLock::from(version),
            place: 0..0,
        };
        match self.slots.binary_search_by(|other| other.text.cmp(&slot.text)) {
            Ok(at) => self.slots[at] = slot,
            Err(at) => self.slots.insert(at, slot),
        }
        self.ranked = OnceLock::new();
    }
}

impl<Q: AsRef<str> + ?Sized> Index<&Q> for Versions {
    type Output = Arc<Version>;

    fn index(&self, text: &Q) -> &Arc<Version> {
        self.get(text.as_ref()).expect("a version that is there")
    }
}

impl FromIterator<(String, Arc<Version>)> for Versions {
    fn from_iter<I: IntoIterator<Item = (String, Arc<Version>)>>(versions: I) -> Self {
        let mut all = Self::default();
        versions.into_iter().for_each(|(text, version)| all.insert(text, version));
        all
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.keys()).finish()
    }
}

/// The form in which a packument is kept.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Packed {
    name: String,
    dist_tags: Vec<(String, String)>,
    heads: Vec<Head>,
    ranked: Vec<u32>,
    /// The archives of all versions, one after the other.
    bodies: Vec<u8>,
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Head {
    text: String,
    is_deprecated: bool,
    engines_node: Option<String>,
    /// Where its archive ends in `bodies`; it begins where the one before ends.
    end: u32,
}

impl Packument {
    /// The archive of this packument.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`].
    pub fn pack(&self) -> Result<Bytes, ArchiveError> {
        let mut bodies = Vec::new();
        let mut heads = Vec::with_capacity(self.versions.len());
        for (text, version) in self.versions.iter() {
            bodies.extend_from_slice(&archive::lay_out(&**version)?);
            heads.push(Head {
                text: text.to_owned(),
                is_deprecated: version.deprecated.is_some(),
                engines_node: version.engines_node.clone(),
                end: u32::try_from(bodies.len()).map_err(|_| ArchiveError::TooLarge)?,
            });
        }
        let ranked = self.versions.ranked.get_or_init(|| self.versions.rank()).to_vec();
        let dist_tags = self.dist_tags.clone().into_iter().collect();
        let packed = Packed { name: self.name.clone(), dist_tags, heads, ranked, bodies };
        Ok(archive::seal(LAYOUT, &packed)?.into())
    }

    /// A packument that stays packed until it is looked at.
    ///
    /// # Errors
    /// Where the archive is damaged or of another build.
    pub fn unpack(bytes: &Bytes) -> Result<Self, ArchiveError> {
        let packed = archive::access::<Packed>(archive::unseal(LAYOUT, bytes)?)?;
        let bodies = packed.bodies.as_slice();
        let mut slots = Vec::with_capacity(packed.heads.len());
        let mut start = 0;
        for head in packed.heads.iter() {
            let end = head.end.to_native() as usize;
            if end < start || end > bodies.len() {
                return Err(ArchiveError::Invalid);
            }
            slots.push(Slot {
                text: head.text.as_str().into(),
                number: OnceLock::new(),
                is_deprecated: head.is_deprecated,
                engines_node: head.engines_node.as_ref().map(|text| text.as_str().into()),
                version: OnceLock::new(),
                place: start..end,
            });
            start = end;
        }
        let is_sorted = slots.is_sorted_by(|one: &Slot, next| one.text < next.text);
        let ranked: Box<[u32]> = packed.ranked.iter().map(|at| at.to_native()).collect();
        if !is_sorted || ranked.iter().any(|at| *at as usize >= slots.len()) {
            return Err(ArchiveError::Invalid);
        }
        let tags = packed.dist_tags.iter();
        Ok(Self {
            name: packed.name.as_str().to_owned(),
            dist_tags: tags.map(|tag| (tag.0.as_str().into(), tag.1.as_str().into())).collect(),
            versions: Versions {
                slots,
                ranked: OnceLock::from(ranked),
                packed: bytes.slice_ref(bodies),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn versions_are_ranked_and_the_others_left_out() {
        let before = packument();
        let after = Packument::unpack(&before.pack().expect("packed")).expect("unpacked");
        for packument in [before, after] {
            let ranked: Vec<&str> = packument.versions.ranked().map(Listed::text).collect();
            assert_eq!(ranked, ["10.0.0", "2.0.0", "2.0.0-beta.1", "1.0.0"]);
            let highest = packument.versions.ranked().next().expect("one");
            assert!(highest.is_deprecated());
            assert_eq!(highest.engines_node(), Some(">=4"));
            assert_eq!(packument.versions["2.0.0"].dependencies["b"], "^2.0.0");
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
        assert!(packument.versions["2.0.0"].dependencies.is_empty());
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
