//! Readers of the shapes that versions and comparators are made of, without a regular-expression engine.
//!
//! Each function consumes its whole input or answers `None`; all are linear but for the loose patch number, whose
//! backtracking is bounded by the length limit of a version. No meaning is given here.

/// Whitespace as JavaScript's `trim` and `\s` see it.
pub(super) fn is_space(character: char) -> bool {
    (character.is_whitespace() && character != '\u{85}') || character == '\u{feff}'
}

/// Without whitespace at both ends.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// The parts of a full version.
pub(super) struct VersionParts<'a> {
    pub(super) major: &'a str,
    pub(super) minor: &'a str,
    pub(super) patch: &'a str,
    pub(super) pre: Option<&'a str>,
}

/// The parts of `1`, `1.x`, `1.2.*`, `1.2.3-pre`; a missing part is `None`.
pub(super) struct PartialParts<'a> {
    pub(super) major: &'a str,
    pub(super) minor: Option<&'a str>,
    pub(super) patch: Option<&'a str>,
    pub(super) pre: Option<&'a str>,
}

/// Reads a full version with the prefixes that the mode allows (`v`, or any of `v`, `=` and space when loose).
pub(super) fn version(text: &str, loose: bool) -> Option<VersionParts<'_>> {
    let text = if loose { skip_prefix(text) } else { text.strip_prefix('v').unwrap_or(text) };
    let (major, rest) = number(text, loose)?;
    let (minor, rest) = number(rest.strip_prefix('.')?, loose)?;
    let (patch, pre) = patch_and_end(rest.strip_prefix('.')?, loose)?;
    Some(VersionParts { major, minor, patch, pre })
}

/// Reads a version of which parts may be missing or `x`; the prefix is any of `v`, `=` and space in both modes.
pub(super) fn partial(text: &str, loose: bool) -> Option<PartialParts<'_>> {
    let text = skip_prefix(text);
    let (major, rest) = wildcard_or_number(text, loose)?;
    let Some(rest) = rest.strip_prefix('.') else {
        return rest.is_empty().then_some(PartialParts {
            major,
            minor: None,
            patch: None,
            pre: None,
        });
    };
    let (minor, rest) = wildcard_or_number(rest, loose)?;
    let minor = Some(minor);
    let Some(rest) = rest.strip_prefix('.') else {
        return rest.is_empty().then_some(PartialParts { major, minor, patch: None, pre: None });
    };
    let (patch, pre) = match wildcard(rest) {
        Some((patch, rest)) => (patch, end(rest, loose)?),
        None => patch_and_end(rest, loose)?,
    };
    Some(PartialParts { major, minor, patch: Some(patch), pre })
}

fn skip_prefix(text: &str) -> &str {
    text.trim_start_matches(|character| matches!(character, 'v' | '=') || is_space(character))
}

fn wildcard(text: &str) -> Option<(&str, &str)> {
    text.starts_with(['x', 'X', '*']).then(|| text.split_at(1))
}

fn wildcard_or_number(text: &str, loose: bool) -> Option<(&str, &str)> {
    wildcard(text).or_else(|| number(text, loose))
}

fn digits_len(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn number(text: &str, loose: bool) -> Option<(&str, &str)> {
    let len = digits_len(text);
    let (digits, rest) = text.split_at(len);
    (len > 0 && (loose || is_strict_number(digits))).then_some((digits, rest))
}

fn is_strict_number(digits: &str) -> bool {
    digits == "0" || !digits.starts_with('0')
}

/// The patch number, the pre-release and the build. A loose pre-release needs no hyphen, so `1.2.34.5` gives
/// digits of the patch back until the rest reads as one; npm's library does the same.
fn patch_and_end(text: &str, loose: bool) -> Option<(&str, Option<&str>)> {
    let (digits, rest) = number(text, loose)?;
    if let Some(pre) = end(rest, loose) {
        return Some((digits, pre));
    }
    if !loose {
        return None;
    }
    (1..digits.len()).rev().find_map(|len| {
        let (patch, rest) = text.split_at(len);
        end(rest, loose).map(|pre| (patch, pre))
    })
}

/// What follows a patch number: `[-pre][+build]` and nothing else. The outer option is failure.
#[expect(
    clippy::option_option,
    reason = "outer: does it read at all; inner: is there a pre-release"
)]
fn end(text: &str, loose: bool) -> Option<Option<&str>> {
    let (body, build) = match text.split_once('+') {
        Some((body, build)) => (body, Some(build)),
        None => (text, None),
    };
    if build.is_some_and(|build| !identifiers(build, true)) {
        return None;
    }
    if body.is_empty() {
        return Some(None);
    }
    if let Some(pre) = body.strip_prefix('-')
        && identifiers(pre, loose)
    {
        return Some(Some(pre));
    }
    (loose && identifiers(body, loose)).then_some(Some(body))
}

/// Dot-separated, non-empty runs of letters, digits and hyphens; strict numbers have no leading zero.
fn identifiers(text: &str, loose: bool) -> bool {
    text.split('.').all(|identifier| {
        !identifier.is_empty()
            && identifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && (loose || digits_len(identifier) < identifier.len() || is_strict_number(identifier))
    })
}
