//! Maven's versions and ranges: the order of `ComparableVersion`, the brackets of `VersionRange`.
//!
//! Maven builds a list in which each hyphen, and each change between digits and letters, opens a list that goes on to the
//! end. So a version is a row of tokens, each with the number of lists that open before it, and that row is the key. What
//! equals nothing (zeros, `ga`, `final`, `release`) is dropped at the end of each list. Maven's own comparison goes round
//! in circles for a qualifier that no hyphen opened, behind a dot or at the very beginning, where more follows it
//! (`1.ga.5` < `1.0.alpha.1` < `1` < `1.ga.5`). An order cannot, so there it goes its own way: such a qualifier compares
//! as after a hyphen, and zeros before it do not count.

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::limits::RANGE_COMPARATORS_MAX;
use crate::text::{digits, not_a_range, not_a_version, shorten};

/// Qualifiers in their order; those of the release are below.
const QUALIFIERS: [(&str, u8); 6] =
    [("alpha", 1), ("beta", 2), ("milestone", 3), ("rc", 4), ("snapshot", 5), ("sp", 10)];
/// Qualifiers that mean the release itself.
const RELEASES: [&str; 3] = ["ga", "final", "release"];
/// A release qualifier that something follows by which the whole is below the end.
const RELEASE_BELOW: u8 = 6;
const END: u8 = 7;
/// A release qualifier that something follows by which the whole is above the end.
const RELEASE_ABOVE: u8 = 8;
/// Any other qualifier, by its text.
const UNKNOWN: u8 = 11;
const NUMBER: u8 = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Number(&'a str),
    Qualifier(&'a str),
}

impl Kind<'_> {
    fn is_nothing(self) -> bool {
        match self {
            Kind::Number(digits) => digits.is_empty(),
            Kind::Qualifier(name) => name.is_empty(),
        }
    }
}

#[derive(Clone, Copy)]
struct Token<'a> {
    /// Lists that open directly before it.
    opened: usize,
    kind: Kind<'a>,
}

/// Reads a version. Every text is one; spaces in it are refused here.
pub(crate) fn parse(text: &str) -> Result<Key, ParseError> {
    if text.bytes().any(|byte| byte == b' ' || byte == b'\t') {
        return Err(not_a_version(text, "a space in it"));
    }
    Ok(key_of(text))
}

fn key_of(text: &str) -> Key {
    let text = text.to_lowercase();
    let mut key = KeyWriter::with_capacity(text.len() * 2 + 16);
    write(&mut key, &normalise(read(&text)));
    key.finish()
}

/// Cuts the text into tokens as Maven's parser does.
fn read(text: &str) -> Vec<Token<'_>> {
    let mut reader = Reader { tokens: Vec::new(), opened: 0, list_is_empty: true };
    let mut rest = text;
    loop {
        let (number, after) = digits(rest);
        let len = rest.find(|c: char| matches!(c, '.' | '-') || c.is_ascii_digit());
        let (word, after) = match number.is_empty() {
            true => rest.split_at(len.unwrap_or(rest.len())),
            false => (number, after),
        };
        let next = after.bytes().next();
        let separated = matches!(next, None | Some(b'.' | b'-'));
        if word.is_empty() {
            // Nothing before a separator is a zero; nothing at the end is nothing.
            if next.is_some() {
                reader.push(Kind::Number(""));
            }
        } else if number.is_empty() {
            // A word at the end, or before a digit, gets a list of its own.
            if (next.is_none() || !separated) && !reader.list_is_empty {
                reader.open();
            }
            reader.push(Kind::Qualifier(qualifier(word, !separated)));
        } else {
            reader.push(Kind::Number(number.trim_start_matches('0')));
        }
        match next {
            None => return reader.tokens,
            Some(b'.') => rest = &after[1..],
            Some(b'-') => {
                reader.open();
                rest = &after[1..];
            }
            Some(_) => {
                reader.open();
                rest = after;
            }
        }
    }
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    opened: usize,
    list_is_empty: bool,
}

impl<'a> Reader<'a> {
    fn push(&mut self, kind: Kind<'a>) {
        self.tokens.push(Token { opened: self.opened, kind });
        self.opened = 0;
        self.list_is_empty = false;
    }

    fn open(&mut self) {
        self.opened += 1;
        self.list_is_empty = true;
    }
}

/// The name under which a qualifier is compared; empty for those of the release.
fn qualifier(word: &str, before_digit: bool) -> &str {
    match word {
        "a" if before_digit => "alpha",
        "b" if before_digit => "beta",
        "m" if before_digit => "milestone",
        "cr" => "rc",
        word if RELEASES.contains(&word) => "",
        word => word,
    }
}

/// Drops what equals nothing before each list and at the end, and zeros before a qualifier. The lists that opened before
/// what is dropped stay open.
fn normalise(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let mut kept: Vec<Token<'_>> = Vec::with_capacity(tokens.len());
    // From the end, because what follows decides.
    for token in tokens.into_iter().rev() {
        let is_number = matches!(token.kind, Kind::Number(_));
        match kept.last_mut() {
            _ if !token.kind.is_nothing() => kept.push(token),
            None => {}
            Some(next)
                if next.opened > 0 || (is_number && matches!(next.kind, Kind::Qualifier(_))) =>
            {
                next.opened += token.opened;
            }
            Some(_) => kept.push(token),
        }
    }
    kept.reverse();
    kept
}

fn write(key: &mut KeyWriter, tokens: &[Token<'_>]) {
    let mut zeros = 0;
    let mut opened = 0;
    for (at, token) in tokens.iter().enumerate() {
        if zeros == 0 {
            opened = token.opened;
        }
        match token.kind {
            // A run of zeros and the number after it are one token: more zeros are nearer to the end.
            Kind::Number("") => zeros += 1,
            Kind::Number(digits) => {
                key.mark(NUMBER).descending(opened).descending(zeros).number(digits);
                zeros = 0;
            }
            Kind::Qualifier(name) => {
                match QUALIFIERS.iter().find(|(known, _)| *known == name) {
                    Some((_, place)) => key.mark(*place),
                    None if name.is_empty() => key.mark(release(&tokens[at + 1..])),
                    None => key.mark(UNKNOWN).text(name.bytes()),
                };
                key.ascending(opened);
                zeros = 0;
            }
        }
    }
    key.mark(END);
}

/// On which side of the end a release qualifier is, by the first token after it that says so.
fn release(after: &[Token<'_>]) -> u8 {
    let telling = after.iter().find(|token| !token.kind.is_nothing());
    match telling.map(|token| token.kind) {
        Some(Kind::Qualifier(name)) => {
            let is_below =
                QUALIFIERS.iter().any(|(known, place)| *known == name && *place < RELEASE_BELOW);
            if is_below { RELEASE_BELOW } else { RELEASE_ABOVE }
        }
        _ => RELEASE_ABOVE,
    }
}

#[derive(Clone, Debug)]
struct Bound {
    key: Key,
    is_inclusive: bool,
}

/// A requirement: intervals in brackets of which one has to hold, or a version alone, which is a wish and excludes nothing.
#[derive(Clone, Debug)]
pub struct Intervals(Vec<(Option<Bound>, Option<Bound>)>);

impl Intervals {
    /// Reads `[1.0,2.0)`, `(,1.0],[1.2,)`, `[1.0]`, `1.0`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let mut intervals: Vec<(Option<Bound>, Option<Bound>)> = Vec::new();
        let mut rest = text;
        while rest.starts_with(['[', '(']) {
            let end = rest.find([')', ']']).ok_or_else(|| not_a_range(text))?;
            let interval = interval(&rest[..=end], text)?;
            if let Some((_, Some(upper))) = intervals.last() {
                let is_after = interval.0.as_ref().is_some_and(|lower| lower.key >= upper.key);
                if !is_after {
                    return Err(senseless(text, "intervals overlap"));
                }
            }
            intervals.push(interval);
            if intervals.len() > RANGE_COMPARATORS_MAX {
                return Err(not_a_range(text));
            }
            rest = rest[end + 1..].trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        match (rest.is_empty(), intervals.is_empty()) {
            (true, false) => Ok(Self(intervals)),
            (true, true) => Err(ParseError::Empty),
            (false, false) => Err(senseless(text, "a version beside intervals")),
            (false, true) => parse(rest).map(|_| Self(vec![(None, None)])),
        }
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.0.iter().any(|(lower, upper)| {
            let above =
                |bound: &Bound| *key > bound.key || (bound.is_inclusive && *key == bound.key);
            let below =
                |bound: &Bound| *key < bound.key || (bound.is_inclusive && *key == bound.key);
            lower.as_ref().is_none_or(above) && upper.as_ref().is_none_or(below)
        })
    }
}

fn senseless(text: &str, reason: &'static str) -> ParseError {
    ParseError::Senseless { text: shorten(text), reason }
}

fn interval(bracketed: &str, text: &str) -> Result<(Option<Bound>, Option<Bound>), ParseError> {
    let (from_inclusive, to_inclusive) = (bracketed.starts_with('['), bracketed.ends_with(']'));
    let inner = bracketed[1..bracketed.len() - 1].trim();
    let bound = |text: &str, is_inclusive| match text.trim() {
        "" => Ok(None),
        text => parse(text).map(|key| Some(Bound { key, is_inclusive })),
    };
    let Some((lower, upper)) = inner.split_once(',') else {
        if !from_inclusive || !to_inclusive {
            return Err(senseless(text, "a single version stands in square brackets"));
        }
        // `[]` is the version without a token, which is zero.
        let empty = || Bound { key: key_of(""), is_inclusive: true };
        let only = bound(inner, true)?.unwrap_or_else(empty);
        return Ok((Some(only.clone()), Some(only)));
    };
    let (lower, upper) = (bound(lower, from_inclusive)?, bound(upper, to_inclusive)?);
    if let (Some(lower), Some(upper)) = (&lower, &upper) {
        let is_one = lower.key == upper.key && from_inclusive && to_inclusive;
        if lower.key >= upper.key && !is_one {
            return Err(senseless(text, "the interval is empty"));
        }
    }
    Ok((lower, upper))
}
