//! What all readers share: checks that every family makes, and texts made fit for messages.

use crate::error::ParseError;
use crate::limits::{RANGE_BYTES_MAX, SHOWN_CHARS_MAX, VERSION_BYTES_MAX};

/// A text for a message: the beginning only and no control characters, so that a hostile text can fill no log.
pub fn shorten(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS_MAX)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The text of a version without spaces around it; refused where no family could read it.
pub(crate) fn version(text: &str) -> Result<&str, ParseError> {
    checked(text, VERSION_BYTES_MAX).and_then(|text| match text.is_empty() {
        true => Err(ParseError::Empty),
        false => Ok(text),
    })
}

/// The text of a range without spaces around it. An empty one has a meaning in some families.
pub(crate) fn range(text: &str) -> Result<&str, ParseError> {
    checked(text, RANGE_BYTES_MAX)
}

fn checked(text: &str, limit: usize) -> Result<&str, ParseError> {
    if text.len() > limit {
        return Err(ParseError::TooLong { limit });
    }
    if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(ParseError::ControlCharacter { text: shorten(text) });
    }
    Ok(text.trim_matches([' ', '\t']))
}

/// Splits off the digits at the beginning.
pub(crate) fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Whether the text is digits and nothing else, at least one.
pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The next number, of any length. The text has to be digits.
pub(crate) fn next_number(digits: &str) -> String {
    let mut next: Vec<u8> = digits.bytes().collect();
    for digit in next.iter_mut().rev() {
        if *digit != b'9' {
            *digit += 1;
            return String::from_utf8_lossy(&next).into_owned();
        }
        *digit = b'0';
    }
    format!("1{}", String::from_utf8_lossy(&next))
}

/// An error about a version.
pub(crate) fn not_a_version(text: &str, expected: &'static str) -> ParseError {
    ParseError::NotAVersion { text: shorten(text), expected }
}

/// An error about a range.
pub(crate) fn not_a_range(text: &str) -> ParseError {
    ParseError::NotARange { text: shorten(text) }
}
