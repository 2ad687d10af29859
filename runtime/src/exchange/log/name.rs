//! Names on disk: of a queue's directory, of its segment files, of what was cut off.
//!
//! A subject may hold any printable text, `/` and `..` included; a file system may fold case. So
//! lower-case letters, digits, `-`, `_` and inner dots stand for themselves and every other byte is
//! `%xx`. Where that would be longer than a file name may be, the bytes stand in base 32 after
//! `%%`, which no other name begins with. Both are one to one, so two queues never share a
//! directory.

use crate::limits::LOG_POSITIONS_MAX;

/// What Linux file systems let a name have, in bytes.
const NAME_BYTES_MAX: usize = 255;
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const SEGMENT_SUFFIX: &str = ".log";
const ASIDE_INFIX: &str = ".cut-";
/// Digits of the largest position: names sort as positions do.
const POSITION_DIGITS: usize = 20;

const _: () = assert!(2 + (crate::limits::SUBJECT_BYTES_MAX * 8).div_ceil(5) <= NAME_BYTES_MAX);

/// The name of the directory of a queue with this subject.
pub(crate) fn directory_name(subject: &str) -> String {
    let mut name = String::with_capacity(subject.len());
    let last = subject.len().saturating_sub(1);
    for (index, byte) in subject.bytes().enumerate() {
        let is_plain = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => true,
            b'.' => index != 0 && index != last,
            _ => false,
        };
        if is_plain {
            name.push(char::from(byte));
        } else {
            name.push('%');
            name.push(char::from(DIGITS[usize::from(byte >> 4)]));
            name.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    if name.is_empty() {
        "%".to_owned()
    } else if name.len() <= NAME_BYTES_MAX {
        name
    } else {
        base_32(subject)
    }
}

/// The subject whose directory has this name; `None` where no subject's has.
pub(crate) fn subject_of(name: &str) -> Option<String> {
    let value = |digit: u8| DIGITS.iter().position(|known| *known == digit);
    let mut bytes = Vec::with_capacity(name.len());
    if let Some(digits) = name.strip_prefix("%%") {
        let (mut held, mut held_bits) = (0, 0);
        for digit in digits.bytes() {
            held = held << 5 | value(digit)?;
            held_bits += 5;
            if held_bits >= 8 {
                held_bits -= 8;
                bytes.push((held >> held_bits) as u8);
                held &= (1 << held_bits) - 1;
            }
        }
    } else {
        let mut rest = name.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                bytes.push(byte);
            } else if name.len() > 1 {
                let (high, low) = (value(rest.next()?)?, value(rest.next()?)?);
                bytes.push(u8::try_from(high << 4 | low).ok()?);
            }
        }
    }
    let subject = String::from_utf8(bytes).ok()?;
    // Whatever else could be read like this is the name of none.
    (directory_name(&subject) == name).then_some(subject)
}

fn base_32(subject: &str) -> String {
    let mut name = "%%".to_owned();
    let (mut held, mut held_bits) = (0u32, 0);
    for byte in subject.bytes() {
        held = held << 8 | u32::from(byte);
        held_bits += 8;
        while held_bits >= 5 {
            held_bits -= 5;
            name.push(char::from(DIGITS[(held >> held_bits & 31) as usize]));
        }
        held &= (1 << held_bits) - 1;
    }
    if held_bits > 0 {
        name.push(char::from(DIGITS[(held << (5 - held_bits) & 31) as usize]));
    }
    name
}

/// The name of the segment whose first position this is.
pub(super) fn segment_name(first: u64) -> String {
    format!("{first:0POSITION_DIGITS$}{SEGMENT_SUFFIX}")
}

/// The first position of the segment with this name; `None` of any other file.
pub(super) fn segment_first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let is_number =
        digits.len() == POSITION_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|first| is_number && *first < LOG_POSITIONS_MAX)
}

/// The name under which the bytes of a segment from this offset on are kept aside.
pub(super) fn aside_name(first: u64, offset: u64) -> String {
    format!("{first:0POSITION_DIGITS$}{ASIDE_INFIX}{offset}")
}

/// The first position of the segment that these bytes were cut from; `None` of any other file.
pub(super) fn aside_first(name: &str) -> Option<u64> {
    name.split_once(ASIDE_INFIX).and_then(|(first, _)| first.parse().ok())
}
