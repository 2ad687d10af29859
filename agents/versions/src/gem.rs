//! Versions and requirements of RubyGems, as `Gem::Version` and `Gem::Requirement` read them.
//!
//! A version is a row of numbers and words; a word is before a number, zeros equal nothing. A hyphen stands for `.pre.`.

use std::cmp::Ordering;

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::limits::RANGE_COMPARATORS_MAX;
use crate::operator::{self, Operator};
use crate::text::{digits, next_number, not_a_range, not_a_version};

/// So many zeros, then a word: before the end.
const WORD: u8 = 1;
const END: u8 = 2;
/// So many zeros, then a number that is not zero: after the end.
const NUMBER: u8 = 3;

/// What a pessimistic requirement looks at.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    /// The key of the version without its words and all after the first of them.
    release: Key,
}

/// Reads a version.
pub(crate) fn parse(text: &str) -> Result<(Key, Details), ParseError> {
    if !is_version(text) {
        return Err(not_a_version(text, "numbers and words apart by dots"));
    }
    let segments = segments(text);
    let release = numbers(&segments);
    Ok((write(&segments), Details { release: write(release) }))
}

/// `[0-9]+(\.[0-9a-zA-Z]+)*(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?`
fn is_version(text: &str) -> bool {
    let (release, rest) = match text.split_once('-') {
        Some((release, rest)) => (release, Some(rest)),
        None => (text, None),
    };
    let mut parts = release.split('.');
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_rest = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    parts.next().is_some_and(crate::text::is_digits)
        && parts.all(is_word)
        && rest.is_none_or(|rest| rest.split('.').all(is_rest))
}

/// Runs of digits, without zeros in front, and runs of letters; a hyphen gives `pre`.
fn segments(text: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some(byte) = rest.bytes().next() {
        let len = match byte {
            b'-' => {
                segments.push("pre");
                rest = &rest[1..];
                continue;
            }
            byte if byte.is_ascii_digit() => digits(rest).0.len(),
            byte if byte.is_ascii_alphabetic() => {
                rest.bytes().take_while(u8::is_ascii_alphabetic).count()
            }
            _ => {
                rest = &rest[1..];
                continue;
            }
        };
        let (segment, after) = rest.split_at(len);
        // A zero is the empty text.
        segments.push(segment.trim_start_matches('0'));
        rest = after;
    }
    segments
}

fn is_word(segment: &str) -> bool {
    segment.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// The numbers before the first word.
fn numbers<'a, 'b>(segments: &'b [&'a str]) -> &'b [&'a str] {
    let end = segments.iter().position(|segment| is_word(segment));
    &segments[..end.unwrap_or(segments.len())]
}

fn write(segments: &[&str]) -> Key {
    let mut key = KeyWriter::with_capacity(segments.len() * 8 + 2);
    let mut zeros = 0;
    // Zeros directly before the first word are dropped, as they are at the end.
    let first_word = numbers(segments).len();
    for (at, segment) in segments.iter().enumerate() {
        if segment.is_empty() {
            zeros += 1;
            continue;
        }
        if is_word(segment) {
            let zeros = if at == first_word { 0 } else { zeros };
            key.mark(WORD).ascending(zeros).text(segment.bytes());
        } else {
            key.mark(NUMBER).descending(zeros).number(segment);
        }
        zeros = 0;
    }
    key.mark(END);
    key.finish()
}

#[derive(Clone, Debug)]
enum Rule {
    Compare(Operator, Key),
    /// `~>`: at least this, and the release below that.
    Pessimistic(Key, Key),
}

/// A requirement: all of a list have to hold.
#[derive(Clone, Debug)]
pub struct Requirement(Vec<Rule>);

impl Requirement {
    /// Reads `~> 1.2, >= 1.2.3`. Nothing is `>= 0`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let text = if text.is_empty() { ">= 0" } else { text };
        let rules: Vec<Rule> =
            text.split(',').map(|part| rule(part.trim(), text)).collect::<Result<_, _>>()?;
        if rules.len() > RANGE_COMPARATORS_MAX {
            return Err(not_a_range(text));
        }
        Ok(Self(rules))
    }

    pub(crate) fn contains(&self, key: &Key, details: &Details) -> bool {
        self.0.iter().all(|rule| match rule {
            Rule::Compare(operator, bound) => operator.holds(key.cmp(bound)),
            Rule::Pessimistic(lower, upper) => {
                key.cmp(lower) != Ordering::Less && details.release < *upper
            }
        })
    }
}

fn rule(part: &str, text: &str) -> Result<Rule, ParseError> {
    const OPERATORS: [(&str, Option<Operator>); 8] = [
        ("~>", None),
        ("!=", Some(Operator::NotEqual)),
        (">=", Some(Operator::GreaterOrEqual)),
        ("<=", Some(Operator::LessOrEqual)),
        ("=", Some(Operator::Equal)),
        (">", Some(Operator::Greater)),
        ("<", Some(Operator::Less)),
        ("", Some(Operator::Equal)),
    ];
    let (operator, version) = operator::split(part, &OPERATORS).ok_or_else(|| not_a_range(text))?;
    if version.is_empty() {
        return Err(not_a_range(text));
    }
    let (key, _) = parse(version)?;
    Ok(match operator {
        Some(operator) => Rule::Compare(operator, key),
        None => {
            let segments = segments(version);
            Rule::Pessimistic(key, bumped(numbers(&segments)))
        }
    })
}

/// The key of the next version at the last number but one, or at the only one.
fn bumped(numbers: &[&str]) -> Key {
    let kept = &numbers[..numbers.len().saturating_sub(1).max(1).min(numbers.len())];
    let (last, before) = kept.split_last().unwrap_or((&"", &[]));
    let next = if last.is_empty() { "1".to_owned() } else { next_number(last) };
    let mut segments = before.to_vec();
    segments.push(&next);
    write(&segments)
}
