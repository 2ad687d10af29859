//! What a caller asks for: one package and the versions that would do.
//!
//! Written as a purl (`pkg:npm/express@4.19.2`) or short (`npm:express@^4`, `pypi:requests[socks]>=2.31`,
//! `cargo:serde[derive]@1`). The requirement stays the ecosystem's own text; its resolver gives it meaning.
//! Names are judged by each ecosystem's own rules.

mod name;
mod read;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::error::Error;

pub use name::{check_name, normalize_name};

/// One wanted package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spec {
    /// Where the package lives.
    pub ecosystem: Ecosystem,
    /// Its name, normalised as the ecosystem does (PEP 503 for PyPI; npm with its scope, `@scope/name`).
    pub name: String,
    /// PyPI extras or cargo features, sorted and without repetition.
    pub extras: Vec<String>,
    /// npm range, PEP 440 specifiers, cargo requirement, Debian relation, or `=VERSION` of rpm and pacman; empty means any version.
    pub requirement: String,
}

impl Spec {
    /// Reads a purl or a short spec. Every error says which form would have been understood.
    pub fn parse(text: &str) -> Result<Self, Error> {
        read::read(text)
    }
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Spec {
    /// The short form; reads back as the same spec.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.ecosystem, self.name)?;
        if !self.extras.is_empty() {
            write!(formatter, "[{}]", self.extras.join(","))?;
        }
        match self.ecosystem {
            _ if self.requirement.is_empty() => Ok(()),
            Ecosystem::Npm
            | Ecosystem::Cargo
            | Ecosystem::Debian
            | Ecosystem::Rpm
            | Ecosystem::Pacman => {
                write!(formatter, "@{}", self.requirement)
            }
            Ecosystem::Pypi => formatter.write_str(&self.requirement),
        }
    }
}

/// What a purl leaves as it is: letters, digits, and `.-_~:`.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~').remove(b':');

/// Puts a text behind a purl. Nearly all are as they are, and looking at all bytes, whatever is found, is a few of them at a time.
fn put_kept(purl: &mut String, text: &str) {
    let is_kept =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':');
    match text.bytes().fold(true, |all, byte| all & is_kept(byte)) {
        true => purl.push_str(text),
        false => purl.extend(utf8_percent_encode(text, KEPT)),
    }
}

/// Whether a character makes a terminal show something else than what stands there: controls, those that turn the direction of
/// writing, and the separators of lines and paragraphs.
pub fn steers(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || turns
}

/// The package URL of one exact version. The scope of an npm package is the purl's namespace, `@` percent-encoded.
///
/// Letters keep their case: an old npm package may differ from another in case only, and a purl names one of them.
pub fn purl(ecosystem: Ecosystem, name: &str, version: &str) -> String {
    let mut purl = String::with_capacity(name.len() + version.len() + PURL_BYTES_BESIDE);
    put_purl(&mut purl, ecosystem, name, version);
    purl
}

/// What a purl takes beside name and version, mostly.
const PURL_BYTES_BESIDE: usize = 24;

/// The same behind what is in `purl`.
pub(crate) fn put_purl(purl: &mut String, ecosystem: Ecosystem, name: &str, version: &str) {
    match ecosystem {
        Ecosystem::Debian => return purl.push_str(&debian_purl(name, version)),
        Ecosystem::Rpm => return purl.push_str(&rpm_purl(name, version)),
        Ecosystem::Pacman => {
            purl.push_str("pkg:alpm/arch/");
            purl.extend(utf8_percent_encode(name, KEPT));
        }
        Ecosystem::Npm | Ecosystem::Pypi | Ecosystem::Cargo => {
            purl.push_str("pkg:");
            purl.push_str(ecosystem.as_str());
            for segment in name.split('/') {
                purl.push('/');
                put_kept(purl, segment);
            }
        }
    }
    purl.push('@');
    put_kept(purl, version);
}

/// The purl type for rpm has the epoch as a qualifier. Its namespace would be the vendor, which a name does not tell.
fn rpm_purl(name: &str, version: &str) -> String {
    let (epoch, version) = match version.split_once(':') {
        Some((epoch, version)) => (format!("?epoch={epoch}"), version),
        None => (String::new(), version),
    };
    let (name, version) = (utf8_percent_encode(name, KEPT), utf8_percent_encode(version, KEPT));
    format!("pkg:rpm/{name}@{version}{epoch}")
}

/// The purl type for Debian has the distribution as its namespace and the architecture as a qualifier.
fn debian_purl(name: &str, version: &str) -> String {
    let (name, architecture) = match name.split_once(':') {
        Some((name, architecture)) => (name, format!("?arch={architecture}")),
        None => (name, String::new()),
    };
    let (name, version) = (utf8_percent_encode(name, KEPT), utf8_percent_encode(version, KEPT));
    format!("pkg:deb/debian/{name}@{version}{architecture}")
}
