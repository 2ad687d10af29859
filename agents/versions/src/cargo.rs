//! Cargo's versions, read by the `semver` crate that cargo itself is built on; here is only their key.
//!
//! The order is the crate's: total, so that build metadata takes part in it, as the last thing.

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::text::{is_digits, not_a_range, not_a_version};

/// Stands before the parts of a pre-release; a release has none and is above.
const PRERELEASE: u8 = 1;
const RELEASE: u8 = 2;
/// Nothing follows; below every part.
const END: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;

/// Reads a version strictly: three numbers of 64 bits, a pre-release, a build.
pub(crate) fn parse(text: &str) -> Result<(Key, semver::Version), ParseError> {
    let version = semver::Version::parse(text)
        .map_err(|_| not_a_version(text, "`major.minor.patch`, numbers of at most 64 bits"))?;
    let mut key = KeyWriter::with_capacity(32);
    key.integer(version.major).integer(version.minor).integer(version.patch);
    if version.pre.is_empty() {
        key.mark(RELEASE);
    } else {
        key.mark(PRERELEASE);
        for part in version.pre.split('.') {
            match is_digits(part) {
                true => key.mark(NUMBER).number(part),
                false => key.mark(TEXT).text(part.bytes()),
            };
        }
        key.mark(END);
    }
    for part in version.build.split('.').filter(|part| !part.is_empty()) {
        match is_digits(part) {
            // Zeros in front are allowed here, and more of them are above fewer.
            true => key.mark(NUMBER).number(part).ascending(part.len()),
            false => key.mark(TEXT).text(part.bytes()),
        };
    }
    key.mark(END);
    Ok((key.finish(), version))
}

/// Reads a requirement as it stands in a dependency table.
pub(crate) fn parse_requirement(text: &str) -> Result<semver::VersionReq, ParseError> {
    semver::VersionReq::parse(text).map_err(|_| not_a_range(text))
}
