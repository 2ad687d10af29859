//! Versions and constraints of Composer, as `composer/semver` reads them.
//!
//! A version is first normalised to `1.2.3.4-beta5`, a date, or a branch (`dev-name`), and then compared as PHP's
//! `version_compare` does. Branches have no order in Composer; here they are below all versions, in that of their names.

mod constraint;
mod normalise;

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::text::{digits, not_a_version};

pub use constraint::Constraints;

/// Branches are below everything.
const BRANCH: u8 = 0;
const VERSION: u8 = 1;
/// Words in the order of `version_compare`; what it does not know is before `dev`.
const UNKNOWN: u8 = 1;
const WORDS: [(&str, u8); 9] = [
    ("dev", 2),
    ("alpha", 3),
    ("a", 3),
    ("beta", 4),
    ("b", 4),
    ("RC", 5),
    ("rc", 5),
    ("pl", 8),
    ("p", 8),
];
const END: u8 = 6;
const NUMBER: u8 = 7;
/// PHP holds numbers in 64 bits with a sign, and larger ones as the largest.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// What constraints look at.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    pub(crate) is_branch: bool,
}

/// Reads a version.
pub(crate) fn parse(text: &str) -> Result<(Key, Details), ParseError> {
    let normal = normalise::version(text)
        .ok_or_else(|| not_a_version(text, "up to four numbers and a stability, or `dev-name`"))?;
    Ok(write(&normal))
}

/// The key of a normalised version.
fn write(normal: &str) -> (Key, Details) {
    let mut key = KeyWriter::with_capacity(normal.len() + 16);
    if let Some(name) = normal.strip_prefix("dev-") {
        key.mark(BRANCH).text(name.bytes());
        return (key.finish(), Details { is_branch: true });
    }
    key.mark(VERSION);
    let mut rest = normal;
    while !rest.is_empty() {
        let (number, after) = digits(rest);
        if !number.is_empty() {
            let value = number.trim_start_matches('0').parse().unwrap_or(match number {
                zeros if zeros.bytes().all(|digit| digit == b'0') => 0,
                _ => NUMBER_MAX,
            });
            key.mark(NUMBER).integer(value.min(NUMBER_MAX));
            rest = after;
            continue;
        }
        let len = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (word, after) = rest.split_at(len);
        if word.is_empty() {
            // A separator.
            let mut characters = rest.chars();
            characters.next();
            rest = characters.as_str();
            continue;
        }
        let known = WORDS.iter().find(|(known, _)| word.starts_with(known));
        key.mark(known.map_or(UNKNOWN, |(_, place)| *place));
        rest = after;
    }
    key.mark(END);
    (key.finish(), Details { is_branch: false })
}
