//! Python's versions, as PEP 440 and the `packaging` library read them. Specifiers are in `specifier`.
//!
//! Not by `pep440_rs`: that one holds numbers in 64 bits, while Python's have any length and some projects use dates with
//! times as numbers. The tests hold the two against each other where both read.

mod specifier;

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::text::{digits, not_a_version};

pub use specifier::Specifiers;

/// The release ends, or has one more number.
const RELEASE_END: u8 = 1;
const RELEASE_NUMBER: u8 = 2;
/// Pre-releases in their order: a bare development release is below them, what has none is above.
const PRE_BELOW: u8 = 0;
const PRE_LETTERS: [u8; 3] = [b'a', b'b', b'c'];
const PRE_ABOVE: u8 = b'z';
const WITHOUT_POST: u8 = 0;
const WITH_POST: u8 = 1;
const WITH_DEV: u8 = 0;
const WITHOUT_DEV: u8 = 1;
/// Local parts: none, then the end, words, numbers.
const WITHOUT_LOCAL: u8 = 0;
const WITH_LOCAL: u8 = 1;
const LOCAL_END: u8 = 0;
const LOCAL_WORD: u8 = 1;
const LOCAL_NUMBER: u8 = 2;

/// What specifiers look at.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    /// Bytes of the key up to the end of the release.
    release_end: usize,
    /// Bytes of the key up to the end of the pre-release.
    pre_end: usize,
    /// Bytes of the key up to where the local part begins.
    public_end: usize,
    is_prerelease: bool,
    is_postrelease: bool,
    is_development: bool,
    has_local: bool,
    /// The version as it was written.
    text: Box<str>,
}

/// A version cut into its parts; numbers as text, possibly empty where they may be left out.
#[derive(Debug, Default)]
struct Parts<'a> {
    epoch: &'a str,
    /// `1.2.3`
    release: &'a str,
    /// Its place in [`PRE_LETTERS`], and its number.
    pre: Option<(usize, &'a str)>,
    post: Option<&'a str>,
    dev: Option<&'a str>,
    /// `ubuntu-1.2`
    local: Option<&'a str>,
}

/// Reads a version in any of the spellings that the standard allows.
pub(crate) fn parse(text: &str) -> Result<(Key, Details), ParseError> {
    let parts = Parts::read(text).ok_or_else(|| not_a_version(text, "as PEP 440 has them"))?;
    Ok(parts.write(text))
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (parts, rest) = Self::read_public(text)?;
        let Some(local) = rest.strip_prefix('+') else {
            return rest.is_empty().then_some(parts);
        };
        let is_part =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        local.split(['.', '-', '_']).all(is_part).then_some(Self { local: Some(local), ..parts })
    }

    /// Reads all but the local part; gives what is left.
    fn read_public(text: &'a str) -> Option<(Self, &'a str)> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (number, after) = digits(text);
        let (epoch, text) = match after.strip_prefix('!') {
            Some(rest) if !number.is_empty() => (number, rest),
            _ => ("", text),
        };
        let release = release_len(text);
        let (release, rest) = (release > 0).then(|| text.split_at(release))?;
        let mut parts = Self { epoch, release, ..Self::default() };
        let mut rest = rest;
        const PRE: [(&str, usize); 8] = [
            ("alpha", 0),
            ("a", 0),
            ("beta", 1),
            ("b", 1),
            ("preview", 2),
            ("pre", 2),
            ("c", 2),
            ("rc", 2),
        ];
        if let Some((letter, number, after)) = suffix(rest, &PRE) {
            parts.pre = Some((letter, number));
            rest = after;
        }
        let implicit = rest.strip_prefix('-').map(digits).filter(|(number, _)| !number.is_empty());
        if let Some((number, after)) = implicit {
            parts.post = Some(number);
            rest = after;
        } else if let Some(((), number, after)) =
            suffix(rest, &[("post", ()), ("rev", ()), ("r", ())])
        {
            parts.post = Some(number);
            rest = after;
        }
        if let Some(((), number, after)) = suffix(rest, &[("dev", ())]) {
            parts.dev = Some(number);
            rest = after;
        }
        Some((parts, rest))
    }

    /// Whether there is nothing but an epoch and a release.
    fn is_release(&self) -> bool {
        self.pre.is_none() && self.post.is_none() && self.dev.is_none() && self.local.is_none()
    }

    fn write(&self, text: &str) -> (Key, Details) {
        let mut key = KeyWriter::with_capacity(text.len() + 24);
        key.number(self.epoch);
        let numbers = self.release.split('.');
        let last = numbers.clone().collect::<Vec<_>>();
        let kept = last.iter().rposition(|number| number.bytes().any(|digit| digit != b'0'));
        for number in numbers.take(kept.map_or(0, |at| at + 1)) {
            key.mark(RELEASE_NUMBER).number(number);
        }
        key.mark(RELEASE_END);
        let release_end = key.len();
        match self.pre {
            Some((letter, number)) => key.mark(PRE_LETTERS[letter]).number(number),
            None if self.post.is_none() && self.dev.is_some() => key.mark(PRE_BELOW),
            None => key.mark(PRE_ABOVE),
        };
        let pre_end = key.len();
        match self.post {
            Some(number) => key.mark(WITH_POST).number(number),
            None => key.mark(WITHOUT_POST),
        };
        match self.dev {
            Some(number) => key.mark(WITH_DEV).number(number),
            None => key.mark(WITHOUT_DEV),
        };
        let public_end = key.len();
        self.write_local(&mut key);
        let details = Details {
            release_end,
            pre_end,
            public_end,
            is_prerelease: self.pre.is_some() || self.dev.is_some(),
            is_postrelease: self.post.is_some(),
            is_development: self.dev.is_some(),
            has_local: self.local.is_some(),
            text: text.into(),
        };
        (key.finish(), details)
    }

    fn write_local(&self, key: &mut KeyWriter) {
        let Some(local) = self.local else {
            key.mark(WITHOUT_LOCAL);
            return;
        };
        key.mark(WITH_LOCAL);
        for part in local.split(['.', '-', '_']) {
            if crate::text::is_digits(part) {
                key.mark(LOCAL_NUMBER).number(part);
            } else {
                key.mark(LOCAL_WORD).text(part.bytes().map(|byte| byte.to_ascii_lowercase()));
            }
        }
        key.mark(LOCAL_END);
    }

    /// The spelling that the standard calls normal.
    fn normal(&self) -> String {
        let number = |digits: &str| match digits.trim_start_matches('0') {
            "" => "0".to_owned(),
            digits => digits.to_owned(),
        };
        let mut text = match number(self.epoch).as_str() {
            "0" => String::new(),
            epoch => format!("{epoch}!"),
        };
        let release: Vec<String> = self.release.split('.').map(number).collect();
        text += &release.join(".");
        if let Some((letter, digits)) = self.pre {
            text += ["a", "b", "rc"][letter];
            text += &number(digits);
        }
        if let Some(digits) = self.post {
            text += &format!(".post{}", number(digits));
        }
        if let Some(digits) = self.dev {
            text += &format!(".dev{}", number(digits));
        }
        if let Some(local) = self.local {
            let part = |part: &str| match crate::text::is_digits(part) {
                true => number(part),
                false => part.to_ascii_lowercase(),
            };
            let parts: Vec<String> = local.split(['.', '-', '_']).map(part).collect();
            text += &format!("+{}", parts.join("."));
        }
        text
    }
}

/// Bytes of `1.2.3` at the beginning.
fn release_len(text: &str) -> usize {
    let mut len = digits(text).0.len();
    while len > 0 && text[len..].starts_with('.') {
        match digits(&text[len + 1..]).0.len() {
            0 => break,
            more => len += 1 + more,
        }
    }
    len
}

/// `[._-]?name[._-]?[0-9]*` at the beginning: which name, the number, what follows.
fn suffix<'a, T: Copy>(text: &'a str, names: &[(&str, T)]) -> Option<(T, &'a str, &'a str)> {
    const SEPARATORS: [char; 3] = ['.', '_', '-'];
    let body = text.strip_prefix(SEPARATORS).unwrap_or(text);
    let (name, which) = names.iter().find(|(name, _)| {
        body.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    })?;
    let after = &body[name.len()..];
    // A separator belongs to the suffix even where no number follows it.
    let (number, rest) = digits(after.strip_prefix(SEPARATORS).unwrap_or(after));
    Some((*which, number, rest))
}
