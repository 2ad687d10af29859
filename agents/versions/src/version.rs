//! One version of any family: its key, and what ranges want to know beside it.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::error::ParseError;
use crate::family::Family;
use crate::key::Key;
use crate::{alpine, cargo, composer, debian, gem, maven, npm, nuget, pypi, rpm, text};

/// A version that was read once. Versions of one family compare by their keys, without allocating; between families
/// the order is that of the families and means nothing.
#[derive(Clone, Debug)]
pub struct Version {
    family: Family,
    key: Key,
    pub(crate) details: Details,
}

/// What membership needs beside the key.
#[derive(Clone, Debug)]
pub(crate) enum Details {
    /// Order is all there is.
    None,
    Npm(npm::Version),
    Pypi(pypi::Details),
    Cargo(semver::Version),
    Rpm(rpm::Details),
    Nuget(nuget::Details),
    Gem(gem::Details),
    Composer(composer::Details),
}

impl Version {
    /// Reads a version strictly as the family's own client does; spaces around it do not count.
    pub fn parse(family: Family, text: &str) -> Result<Self, ParseError> {
        let text = text::version(text)?;
        let (key, details) = match family {
            Family::Npm => {
                npm::Version::parse(text).map(|version| (version.key(), Details::Npm(version)))?
            }
            Family::Pypi => {
                pypi::parse(text).map(|(key, details)| (key, Details::Pypi(details)))?
            }
            Family::Cargo => {
                cargo::parse(text).map(|(key, version)| (key, Details::Cargo(version)))?
            }
            Family::Debian => (debian::parse(text)?, Details::None),
            Family::Rpm => rpm::parse(text).map(|(key, details)| (key, Details::Rpm(details)))?,
            Family::Alpine => (alpine::parse(text)?, Details::None),
            Family::Maven => (maven::parse(text)?, Details::None),
            Family::Nuget => {
                nuget::parse(text).map(|(key, details)| (key, Details::Nuget(details)))?
            }
            Family::Gem => gem::parse(text).map(|(key, details)| (key, Details::Gem(details)))?,
            Family::Composer => {
                composer::parse(text).map(|(key, details)| (key, Details::Composer(details)))?
            }
        };
        Ok(Self { family, key, details })
    }

    /// Whose version it is.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Its place in the order of the family.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Only the place in the order, for those who hold many.
    pub fn into_key(self) -> Key {
        self.key
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.family.cmp(&other.family).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.family.hash(state);
        self.key.hash(state);
    }
}
