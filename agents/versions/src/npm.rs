//! npm's versions and ranges, read exactly as npm's own library reads them.
//!
//! Strict text is semver 2.0.0 with an optional `v`; loose text also allows `=1.2.3`, leading zeros and
//! `1.2.3beta`, which registries still serve. Ranges are in `range`. Nothing here knows packages or tags.

mod range;
mod scan;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

pub use range::{Options, Range};

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::limits::{NPM_VERSION_BYTES_MAX, NPM_VERSION_NUMBER_MAX};
use crate::text::{is_digits, not_a_version, shorten};

/// One dot-separated part of a pre-release.
#[derive(Clone, Debug)]
pub enum Identifier {
    /// Digits only, small enough to be exact.
    Number(u64),
    /// Anything else; digits only when the number is too large to be exact.
    Text(Box<str>),
}

impl Identifier {
    fn new(text: &str) -> Self {
        match text.parse::<u64>() {
            Ok(number) if is_digits(text) && number < NPM_VERSION_NUMBER_MAX => {
                Identifier::Number(number)
            }
            _ => Identifier::Text(text.into()),
        }
    }

    /// The value where the identifier counts as numeric; large ones lose digits, as they do in JavaScript.
    fn as_number(&self) -> Option<f64> {
        match self {
            // Below 2^53, so the conversion is exact.
            Identifier::Number(number) => Some(*number as f64),
            Identifier::Text(text) if is_digits(text) => text.parse().ok(),
            Identifier::Text(_) => None,
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identifier::Number(number) => number.fmt(formatter),
            Identifier::Text(text) => formatter.write_str(text),
        }
    }
}

impl Ord for Identifier {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.as_number(), other.as_number()) {
            (Some(left), Some(right)) => left.total_cmp(&right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => match (self, other) {
                (Identifier::Text(left), Identifier::Text(right)) => left.cmp(right),
                _ => Ordering::Equal,
            },
        }
    }
}

impl PartialOrd for Identifier {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Identifier {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Identifier {}

/// One version. Build metadata is read and forgotten: it never takes part in an order.
#[derive(Clone, Debug)]
pub struct Version {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
    /// Third number.
    pub patch: u64,
    /// The pre-release; empty for a release.
    pub pre: Vec<Identifier>,
}

impl Version {
    /// Reads a strict version: `1.2.3`, `v1.2.3`, `1.2.3-beta.1+build`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_with(text, false)
    }

    /// Reads a version as registries serve them: `=1.2.3`, `v 1.2.3`, `01.2.3`, `1.2.3beta` as well.
    pub fn parse_loose(text: &str) -> Result<Self, ParseError> {
        Self::parse_with(text, true)
    }

    pub(crate) fn parse_with(text: &str, loose: bool) -> Result<Self, ParseError> {
        if text.len() > NPM_VERSION_BYTES_MAX {
            return Err(ParseError::TooLong { limit: NPM_VERSION_BYTES_MAX });
        }
        let parts = scan::version(scan::trim(text), loose)
            .ok_or_else(|| not_a_version(text, "`major.minor.patch`"))?;
        let number = |digits: &str| match digits.parse::<u64>() {
            Ok(number) if number <= NPM_VERSION_NUMBER_MAX => Ok(number),
            _ => Err(ParseError::NumberTooLarge {
                text: shorten(text),
                limit: NPM_VERSION_NUMBER_MAX,
            }),
        };
        Ok(Self {
            major: number(parts.major)?,
            minor: number(parts.minor)?,
            patch: number(parts.patch)?,
            pre: parts
                .pre
                .map(|pre| pre.split('.').map(Identifier::new).collect())
                .unwrap_or_default(),
        })
    }

    /// Whether it is a pre-release.
    pub fn is_prerelease(&self) -> bool {
        !self.pre.is_empty()
    }

    /// The version's place in the order, as bytes.
    pub fn key(&self) -> Key {
        const RELEASE: u8 = 2;
        const PRERELEASE: u8 = 1;
        const END: u8 = 0;
        const NUMBER: u8 = 1;
        const TEXT: u8 = 2;
        let mut key = KeyWriter::with_capacity(32);
        key.integer(self.major).integer(self.minor).integer(self.patch);
        if self.pre.is_empty() {
            key.mark(RELEASE);
            return key.finish();
        }
        key.mark(PRERELEASE);
        for identifier in &self.pre {
            match (identifier.as_number(), identifier) {
                // The bits of a float that is not negative are in the order of its value.
                (Some(number), _) => key.mark(NUMBER).integer(number.to_bits()),
                (None, Identifier::Text(text)) => key.mark(TEXT).text(text.bytes()),
                (None, Identifier::Number(_)) => &mut key,
            };
        }
        key.mark(END);
        key.finish()
    }

    fn release(&self) -> (u64, u64, u64) {
        (self.major, self.minor, self.patch)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.release().cmp(&other.release()).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => self.pre.cmp(&other.pre),
            }
        })
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

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)?;
        for (index, identifier) in self.pre.iter().enumerate() {
            write!(formatter, "{}{identifier}", if index == 0 { '-' } else { '.' })?;
        }
        Ok(())
    }
}

/// The highest of `versions` that `range` contains; the first of equals.
pub fn max_satisfying<'a>(
    versions: impl IntoIterator<Item = &'a Version>,
    range: &Range,
) -> Option<&'a Version> {
    versions.into_iter().filter(|version| range.satisfies(version)).fold(None, |best, version| {
        match best {
            Some(best) if best >= version => Some(best),
            _ => Some(version),
        }
    })
}
