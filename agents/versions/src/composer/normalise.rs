//! Versions of Composer in their normal form, step by step in the order of its own parser, because what is ill formed has a
//! meaning only through that order.

use crate::limits::COMPOSER_MAJOR_DIGITS_MAX;
use crate::text::{digits, is_digits};

/// Stabilities that may stand behind an `@`.
pub(super) const STABILITIES: [&str; 5] = ["stable", "RC", "beta", "alpha", "dev"];

/// `[._-]?(stability numbers?)?([.-]?dev)?`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Modifier<'a> {
    /// As written; empty where there is none.
    pub(super) stability: &'a str,
    /// `.1`, `2.3`
    pub(super) numbers: &'a str,
    pub(super) is_dev: bool,
}

impl<'a> Modifier<'a> {
    /// Reads the whole text as a modifier, which may be empty.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let separated = text.strip_prefix(['.', '_', '-']);
        separated.and_then(Self::read_body).or_else(|| Self::read_body(text))
    }

    fn read_body(text: &'a str) -> Option<Self> {
        const NAMES: [&str; 9] = ["stable", "beta", "b", "RC", "alpha", "a", "patch", "pl", "p"];
        for name in NAMES {
            let Some((stability, after)) = split_prefix(text, name) else { continue };
            let numbers = numbers_len(after);
            let (numbers, rest) = after.split_at(numbers);
            if let Some(is_dev) = dev(rest) {
                return Some(Self { stability, numbers, is_dev });
            }
        }
        dev(text).map(|is_dev| Self { is_dev, ..Self::default() })
    }
}

/// Splits off `name` in any case.
pub(super) fn split_prefix<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let start = text.get(..name.len())?;
    start.eq_ignore_ascii_case(name).then(|| text.split_at(name.len()))
}

/// Bytes of `([.-]?[0-9]+)*` at the beginning.
fn numbers_len(text: &str) -> usize {
    let mut len = 0;
    loop {
        let rest = &text[len..];
        let body = rest.strip_prefix(['.', '-']).unwrap_or(rest);
        match digits(body).0.len() {
            0 => return len,
            more => len += rest.len() - body.len() + more,
        }
    }
}

/// Whether the text is `[.-]?dev`; nothing where it is something else than that or empty.
fn dev(text: &str) -> Option<bool> {
    let body = text.strip_prefix(['.', '-']).unwrap_or(text);
    match body.eq_ignore_ascii_case("dev") {
        true => Some(true),
        false => text.is_empty().then_some(false),
    }
}

/// The part before ` as `, where the text is an alias.
pub(super) fn without_alias(text: &str) -> &str {
    let Some((version, rest)) = text.split_once(' ') else { return text };
    let alias =
        rest.trim_start_matches(' ').strip_prefix("as ").map(|rest| rest.trim_start_matches(' '));
    let is_word = |word: &str| !word.is_empty() && !word.contains([',', ' ', '\t']);
    match alias {
        Some(alias) if is_word(version) && is_word(alias) => version,
        _ => text,
    }
}

/// The normal form of a version; none where it is not one.
pub(super) fn version(text: &str) -> Option<String> {
    let mut text = without_alias(text.trim());
    for stability in STABILITIES {
        let at = text.len().wrapping_sub(stability.len() + 1);
        let is_flag = text.get(at..).and_then(|end| end.strip_prefix('@'));
        if is_flag.is_some_and(|end| end.eq_ignore_ascii_case(stability)) {
            text = &text[..at];
            break;
        }
    }
    if matches!(text, "master" | "trunk" | "default") {
        return Some(format!("dev-{text}"));
    }
    if let Some((_, name)) = split_prefix(text, "dev-") {
        return Some(format!("dev-{name}"));
    }
    if let Some((before, build)) = text.split_once('+')
        && !build.is_empty()
        && !before.is_empty()
        && !before.contains([',', ' ', '\t'])
        && !build.contains([' ', '\t'])
    {
        text = before;
    }
    classical(text).or_else(|| dated(text)).or_else(|| numeric_branch(text))
}

fn without_v(text: &str) -> &str {
    text.strip_prefix(['v', 'V']).unwrap_or(text)
}

/// `1.2.3.4` with up to three numbers missing, and a modifier.
fn classical(text: &str) -> Option<String> {
    let (numbers, rest) = numbers(without_v(text))?;
    if numbers[0].len() > COMPOSER_MAJOR_DIGITS_MAX {
        return None;
    }
    let modifier = Modifier::read(rest)?;
    let parts: Vec<&str> =
        numbers.iter().map(|part| if part.is_empty() { "0" } else { part }).collect();
    Some(with_modifier(parts.join("."), &modifier))
}

/// One to four numbers apart by dots; missing ones are empty.
pub(super) fn numbers(text: &str) -> Option<([&str; 4], &str)> {
    let (first, mut rest) = digits(text);
    if first.is_empty() {
        return None;
    }
    let mut numbers = [first, "", "", ""];
    for number in &mut numbers[1..] {
        let Some((next, after)) = rest.strip_prefix('.').map(digits) else { break };
        if next.is_empty() {
            break;
        }
        *number = next;
        rest = after;
    }
    Some((numbers, rest))
}

fn with_modifier(mut version: String, modifier: &Modifier<'_>) -> String {
    if !modifier.stability.is_empty() {
        // Only in lower case does it end here.
        if modifier.stability == "stable" {
            return version;
        }
        version.push('-');
        version += &match modifier.stability.to_ascii_lowercase().as_str() {
            "a" => "alpha".to_owned(),
            "b" => "beta".to_owned(),
            "p" | "pl" => "patch".to_owned(),
            "rc" => "RC".to_owned(),
            other => other.to_owned(),
        };
        version += modifier.numbers.trim_start_matches(['.', '-']);
    }
    if modifier.is_dev {
        version += "-dev";
    }
    version
}

/// `2023-05-01`, `20230501123456`: a year, then pairs of digits, then a short number.
fn dated(text: &str) -> Option<String> {
    let text = without_v(text);
    let is_body = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b':' | b'-');
    let len = text.bytes().take_while(|byte| is_body(*byte)).count();
    let body = text[..len].trim_end_matches(['.', ':', '-']);
    let modifier = Modifier::read(&text[body.len()..])?;
    // A year, six pairs and a number of three, each with a separator.
    const BODY_BYTES_MAX: usize = 4 + 6 * 3 + 4;
    if body.len() > BODY_BYTES_MAX || !is_digits(body.get(..4)?) {
        return None;
    }
    if !pairs(&body[4..], 0) {
        return None;
    }
    let version = body.replace([':', '-'], ".");
    Some(with_modifier(version, &modifier))
}

/// Whether the text is `([.:-]?[0-9]{2}){1,6}([.:-]?[0-9]{1,3})?`, after so many pairs.
fn pairs(text: &str, before: usize) -> bool {
    const PAIRS_MAX: usize = 6;
    const SHORT_DIGITS_MAX: usize = 3;
    let body = text.strip_prefix(['.', ':', '-']).unwrap_or(text);
    let is_last = text.is_empty() || (is_digits(body) && body.len() <= SHORT_DIGITS_MAX);
    if before > 0 && is_last {
        return true;
    }
    before < PAIRS_MAX && body.get(..2).is_some_and(is_digits) && pairs(&body[2..], before + 1)
}

/// `1.x-dev`, `2.1-dev`: a branch that has a place among the versions.
fn numeric_branch(text: &str) -> Option<String> {
    let at = text.len().checked_sub(3)?;
    let name = text.get(..at).filter(|_| text[at..].eq_ignore_ascii_case("dev"))?;
    // The separator before `dev` belongs to it.
    let name = name.strip_suffix(['.', '-']).unwrap_or(name);
    let mut parts = without_v(name.trim()).split('.');
    let first = parts.next().filter(|first| is_digits(first))?;
    let mut version = first.to_owned();
    for _ in 1..4 {
        let part = match parts.next() {
            Some("x" | "X" | "*") | None => "9999999",
            Some(part) if is_digits(part) => part,
            Some(_) => return None,
        };
        version.push('.');
        version += part;
    }
    parts.next().is_none().then(|| version + "-dev")
}
