//! Alpine's versions and constraints, as apk reads them: `1.2.3b_rc1~hash-r4`.
//!
//! The order of tokens at one place follows from apk's algorithm: suffixes that stand for something before the release, the
//! end, a revision, a commit, a suffix's number, the other suffixes, a letter, a further number. A further number that
//! begins with a zero is compared as text, and so is what it is compared with; the others are numbers, of any length here.

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::limits::RANGE_COMPARATORS_MAX;
use crate::operator::{self, Operator};
use crate::text::{digits, not_a_range, not_a_version};

/// Suffixes in their order; those before [`END`] are before the release.
const SUFFIXES: [(&str, u8); 9] = [
    ("alpha", 1),
    ("beta", 2),
    ("pre", 3),
    ("rc", 4),
    ("cvs", 9),
    ("svn", 10),
    ("git", 11),
    ("hg", 12),
    ("p", 13),
];
const END: u8 = 5;
const REVISION: u8 = 6;
const COMMIT: u8 = 7;
const SUFFIX_NUMBER: u8 = 8;
const LETTER: u8 = 14;
/// A further number that begins with a zero: below all that do not.
const NUMBER_AS_TEXT: u8 = 15;
const NUMBER: u8 = 16;

/// What the token before was; decides what may follow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Number,
    Letter,
    Suffix,
    SuffixNumber,
    Commit,
    Revision,
}

/// Reads a version.
pub(crate) fn parse(text: &str) -> Result<Key, ParseError> {
    const SHAPE: &str = "`1.2.3b_rc1~hash-r4`";
    let mut key = KeyWriter::with_capacity(text.len() * 2 + 8);
    write(&mut key, text).ok_or_else(|| not_a_version(text, SHAPE))?;
    Ok(key.finish())
}

fn write(key: &mut KeyWriter, text: &str) -> Option<()> {
    let (first, mut rest) = digits(text);
    if first.is_empty() {
        return None;
    }
    key.number(first);
    let mut stage = Stage::Number;
    while let Some(byte) = rest.bytes().next() {
        (stage, rest) = token(key, stage, byte, rest)?;
    }
    key.mark(END);
    Some(())
}

/// Writes the next token; gives what it was and what follows it.
fn token<'a>(
    key: &mut KeyWriter,
    stage: Stage,
    byte: u8,
    rest: &'a str,
) -> Option<(Stage, &'a str)> {
    match byte {
        b'a'..=b'z' if stage == Stage::Number => {
            key.mark(LETTER).mark(byte);
            Some((Stage::Letter, &rest[1..]))
        }
        b'.' if stage == Stage::Number => {
            let (number, after) = digits(&rest[1..]);
            match number.bytes().next()? {
                b'0' => key.mark(NUMBER_AS_TEXT).text(number.bytes()),
                _ => key.mark(NUMBER).number(number),
            };
            Some((Stage::Number, after))
        }
        b'0'..=b'9' if stage == Stage::Suffix => {
            let (number, after) = digits(rest);
            key.mark(SUFFIX_NUMBER).number(number);
            Some((Stage::SuffixNumber, after))
        }
        b'_' if stage <= Stage::SuffixNumber => {
            let len = rest[1..].bytes().take_while(u8::is_ascii_lowercase).count();
            let (name, after) = rest[1..].split_at(len);
            key.mark(SUFFIXES.iter().find(|(known, _)| *known == name)?.1);
            Some((Stage::Suffix, after))
        }
        b'~' if stage < Stage::Commit => {
            let len = rest[1..].bytes().take_while(u8::is_ascii_hexdigit).count();
            let (hash, after) = rest[1..].split_at(len);
            if hash.is_empty() {
                return None;
            }
            key.mark(COMMIT).text(hash.bytes());
            Some((Stage::Commit, after))
        }
        b'-' if stage < Stage::Revision => {
            let (number, after) = digits(rest.strip_prefix("-r")?);
            if number.is_empty() {
                return None;
            }
            key.mark(REVISION).number(number);
            Some((Stage::Revision, after))
        }
        _ => None,
    }
}

/// One comparison; a fuzzy one also holds for every version that goes on where its own ends.
#[derive(Clone, Debug)]
struct Constraint {
    operator: Operator,
    is_fuzzy: bool,
    bound: Key,
}

/// Constraints as they stand in `depends`, without the name; all of them, apart by spaces or commas, have to hold.
#[derive(Clone, Debug)]
pub struct Constraints(Vec<Constraint>);

impl Constraints {
    /// Reads `>=1.2 <2`, `~1.2`, `=1.2.3-r0`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        const OPERATORS: [(&str, (Operator, bool)); 12] = [
            (">=~", (Operator::GreaterOrEqual, true)),
            ("<=~", (Operator::LessOrEqual, true)),
            (">~", (Operator::GreaterOrEqual, true)),
            ("<~", (Operator::LessOrEqual, true)),
            ("=~", (Operator::Equal, true)),
            ("~=", (Operator::Equal, true)),
            ("~", (Operator::Equal, true)),
            (">=", (Operator::GreaterOrEqual, false)),
            ("<=", (Operator::LessOrEqual, false)),
            ("=", (Operator::Equal, false)),
            (">", (Operator::Greater, false)),
            ("<", (Operator::Less, false)),
        ];
        let mut constraints = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let ((operator, is_fuzzy), after) =
                operator::split(rest, &OPERATORS).ok_or_else(|| not_a_range(text))?;
            let end = after.find([' ', '\t', ',']).unwrap_or(after.len());
            let bound = parse(&after[..end])?;
            constraints.push(Constraint { operator, is_fuzzy, bound });
            rest = after[end..].trim_start_matches([' ', '\t']);
            // A comma needs something after it.
            if let Some(more) = rest.strip_prefix(',') {
                rest = more.trim_start_matches([' ', '\t']);
                if rest.is_empty() {
                    return Err(not_a_range(text));
                }
            }
        }
        if constraints.is_empty() || constraints.len() > RANGE_COMPARATORS_MAX {
            return Err(not_a_range(text));
        }
        Ok(Self(constraints))
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.0.iter().all(|constraint| {
            let bound = constraint.bound.as_bytes();
            // The last byte is the end; what is before it are whole tokens.
            let begins =
                constraint.is_fuzzy && key.as_bytes().starts_with(&bound[..bound.len() - 1]);
            begins || constraint.operator.holds(key.cmp(&constraint.bound))
        })
    }
}
