//! Versions and relations of RPM packages: `[epoch:]version[-release]`, compared as `rpmvercmp` does.
//!
//! Separators only separate; a tilde is before the end, the end before a caret, a caret before letters, letters before
//! numbers. In an order a missing release is below any; in a relation it matches any, as RPM's own dependencies do.

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::limits::RANGE_COMPARATORS_MAX;
use crate::operator::{self, Operator};
use crate::text::{digits, not_a_range, not_a_version};

const TILDE: u8 = 1;
const END: u8 = 2;
const CARET: u8 = 3;
const LETTERS: u8 = 4;
const NUMBER: u8 = 5;

/// Stand at the end of a key.
const WITHOUT_RELEASE: u8 = 0;
const WITH_RELEASE: u8 = 1;

/// Where the parts of a key end.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    /// Bytes of the key up to the end of the version.
    version_end: usize,
    has_release: bool,
}

/// Reads a version. RPM has no characters that it refuses when it compares; spaces are refused here.
pub(crate) fn parse(text: &str) -> Result<(Key, Details), ParseError> {
    if text.bytes().any(|byte| byte == b' ' || byte == b'\t') {
        return Err(not_a_version(text, "a space in it"));
    }
    let (number, after) = digits(text);
    let (epoch, rest) = match after.strip_prefix(':') {
        Some(rest) => (number, rest),
        None => ("", text),
    };
    let (version, release) = match rest.rsplit_once('-') {
        Some((version, release)) => (version, Some(release)),
        None => (rest, None),
    };
    if version.is_empty() || release == Some("") {
        return Err(not_a_version(text, "`[epoch:]version[-release]`"));
    }
    let mut key = KeyWriter::with_capacity(text.len() * 2 + 8);
    key.number(epoch);
    write(&mut key, version);
    let version_end = key.len();
    match release {
        None => key.mark(WITHOUT_RELEASE),
        Some(release) => {
            key.mark(WITH_RELEASE);
            write(&mut key, release);
            &mut key
        }
    };
    Ok((key.finish(), Details { version_end, has_release: release.is_some() }))
}

fn write(key: &mut KeyWriter, text: &str) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let run = |is: fn(&u8) -> bool| bytes[at..].iter().take_while(|byte| is(byte)).count();
        match byte {
            b'~' => {
                key.mark(TILDE);
                at += 1;
            }
            b'^' => {
                key.mark(CARET);
                at += 1;
            }
            byte if byte.is_ascii_digit() => {
                let len = run(u8::is_ascii_digit);
                key.mark(NUMBER).number(&text[at..at + len]);
                at += len;
            }
            byte if byte.is_ascii_alphabetic() => {
                let len = run(u8::is_ascii_alphabetic);
                key.mark(LETTERS).text(bytes[at..at + len].iter().copied());
                at += len;
            }
            _ => at += 1,
        }
    }
    key.mark(END);
}

/// Relations as they stand in `Requires`, without the name; all of a list (`,`) have to hold.
#[derive(Clone, Debug)]
pub struct Relations(Vec<(Operator, Key, Details)>);

impl Relations {
    /// Reads `>= 1.0, < 2.0-3`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        const OPERATORS: [(&str, Operator); 8] = [
            ("<=", Operator::LessOrEqual),
            ("=<", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=>", Operator::GreaterOrEqual),
            ("==", Operator::Equal),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let relation = |part: &str| {
            let (operator, version) =
                operator::split(part.trim(), &OPERATORS).ok_or_else(|| not_a_range(text))?;
            parse(version).map(|(key, details)| (operator, key, details))
        };
        let relations: Vec<_> = text.split(',').map(relation).collect::<Result<_, _>>()?;
        if relations.len() > RANGE_COMPARATORS_MAX {
            return Err(not_a_range(text));
        }
        Ok(Self(relations))
    }

    pub(crate) fn contains(&self, key: &Key, details: &Details) -> bool {
        self.0.iter().all(|(operator, bound, of_bound)| {
            let (own, other) = (key.as_bytes(), bound.as_bytes());
            let order = own[..details.version_end].cmp(&other[..of_bound.version_end]);
            match (details.has_release, of_bound.has_release) {
                (true, true) | (false, false) => operator.holds(own.cmp(other)),
                // Without a release a version stands for all of its releases.
                (false, true) => order.is_eq() || operator.holds(order),
                (true, false) => operator.holds(order),
            }
        })
    }
}
