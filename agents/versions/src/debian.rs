//! Debian's versions and relations, as dpkg reads them: `[epoch:]upstream[-revision]`.
//!
//! The key alternates between text and numbers as the algorithm of Debian policy does. In a text a tilde is before the end,
//! the end before letters, and letters before everything else; numbers have any length.

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::limits::{DEBIAN_EPOCH_MAX, RANGE_COMPARATORS_MAX};
use crate::operator::{self, Operator};
use crate::text::{is_digits, not_a_range, not_a_version, shorten};

/// A tilde, which is before everything, the end of a text included.
const TILDE: u8 = 1;
/// The end of a text.
const END: u8 = 2;
/// What is added to characters that are no letters, so that they are after all of those.
const OTHERS: u8 = 0x80;

/// Reads a version. What policy only recommends (a digit at the beginning) is not asked for, as dpkg compares without it.
pub(crate) fn parse(text: &str) -> Result<Key, ParseError> {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) => (read_epoch(text, epoch)?, rest),
        None => (0, text),
    };
    let (upstream, revision) = match rest.rsplit_once('-') {
        Some((_, "")) => return Err(not_a_version(text, "the revision is empty")),
        Some((upstream, revision)) => (upstream, revision),
        None => (rest, ""),
    };
    if upstream.is_empty() {
        return Err(not_a_version(text, "the upstream version is empty"));
    }
    let allowed = |text: &str, others: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    if !allowed(upstream, b".-+~:") || !allowed(revision, b".+~") {
        return Err(not_a_version(text, "letters, digits and `.+~` only, `-` and `:` upstream"));
    }
    let mut key = KeyWriter::with_capacity(text.len() * 2 + 8);
    key.integer(epoch);
    write(&mut key, upstream);
    write(&mut key, revision);
    Ok(key.finish())
}

fn read_epoch(text: &str, epoch: &str) -> Result<u64, ParseError> {
    if !is_digits(epoch) {
        return Err(not_a_version(text, "the epoch is not a number"));
    }
    match epoch.trim_start_matches('0') {
        "" => Ok(0),
        digits => digits.parse().ok().filter(|epoch| *epoch <= DEBIAN_EPOCH_MAX).ok_or_else(|| {
            ParseError::NumberTooLarge { text: shorten(text), limit: DEBIAN_EPOCH_MAX }
        }),
    }
}

/// Text, number, text, number: the first text may be empty, a missing number is zero.
fn write(key: &mut KeyWriter, text: &str) {
    let mut rest = text;
    loop {
        let text = rest.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        for byte in rest.as_bytes()[..text].iter().copied() {
            key.mark(match byte {
                b'~' => TILDE,
                byte if byte.is_ascii_alphabetic() => byte,
                byte => byte | OTHERS,
            });
        }
        key.mark(END);
        let (digits, after) = crate::text::digits(&rest[text..]);
        key.number(digits);
        rest = after;
        if rest.is_empty() {
            key.mark(END);
            return;
        }
    }
}

/// Relations as they stand in `Depends`, without the name: alternatives (`|`) of which one has to hold, in a list (`,`) of
/// which all have to. Each may stand in parentheses.
#[derive(Clone, Debug)]
pub struct Relations(Vec<Vec<(Operator, Key)>>);

impl Relations {
    /// Reads `>= 1.0, << 2.0`. `<` and `>` have meant "or equal" from the beginning and still do.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let groups: Result<Vec<Vec<_>>, ParseError> =
            text.split(',').map(|group| group.split('|').map(relation).collect()).collect();
        let groups = groups?;
        if groups.iter().map(Vec::len).sum::<usize>() > RANGE_COMPARATORS_MAX {
            return Err(not_a_range(text));
        }
        Ok(Self(groups))
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.0
            .iter()
            .all(|group| group.iter().any(|(operator, bound)| operator.holds(key.cmp(bound))))
    }
}

fn relation(text: &str) -> Result<(Operator, Key), ParseError> {
    const OPERATORS: [(&str, Operator); 7] = [
        ("<<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        (">>", Operator::Greater),
        (">=", Operator::GreaterOrEqual),
        ("=", Operator::Equal),
        ("<", Operator::LessOrEqual),
        (">", Operator::GreaterOrEqual),
    ];
    let bare = text.trim();
    let bare = match bare.strip_prefix('(') {
        Some(inner) => inner.strip_suffix(')').ok_or_else(|| not_a_range(text))?.trim(),
        None => bare,
    };
    let (operator, version) = operator::split(bare, &OPERATORS).ok_or_else(|| not_a_range(text))?;
    Ok((operator, parse(version)?))
}
