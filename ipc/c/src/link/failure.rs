//! A tool's error as the bus carries it: a CBOR map `exit_code code message hint retry`.

/// How a tool refuses or fails.
pub(super) struct Failure<'a> {
    pub(super) exit_code: u8,
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) hint: Option<&'a str>,
    pub(super) retry: bool,
}

/// Major types of CBOR (RFC 8949, section 3), and the simple values that are used here.
const UNSIGNED: u8 = 0;
const TEXT: u8 = 3;
const MAP: u8 = 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

impl Failure<'_> {
    pub(super) fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        head(&mut bytes, MAP, 5);
        text(&mut bytes, "exit_code");
        head(&mut bytes, UNSIGNED, self.exit_code.into());
        text(&mut bytes, "code");
        text(&mut bytes, self.code);
        text(&mut bytes, "message");
        text(&mut bytes, self.message);
        text(&mut bytes, "hint");
        match self.hint {
            Some(hint) => text(&mut bytes, hint),
            None => bytes.push(NULL),
        }
        text(&mut bytes, "retry");
        bytes.push(if self.retry { TRUE } else { FALSE });
        bytes
    }
}

/// A major type and its number, which is a length for texts and maps. What is said here is under 64 KiB.
fn head(bytes: &mut Vec<u8>, major: u8, number: u16) {
    let major = major << 5;
    match number {
        0..24 => bytes.push(major | number as u8),
        24..256 => bytes.extend([major | 24, number as u8]),
        _ => {
            bytes.push(major | 25);
            bytes.extend(number.to_be_bytes());
        }
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    head(bytes, TEXT, u16::try_from(text.len()).unwrap_or(u16::MAX));
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_a_map_of_five() {
        let failure = Failure {
            exit_code: 200,
            code: "bad",
            message: &"m".repeat(300),
            hint: None,
            retry: true,
        };
        let mut expected =
            b"\xa5\x69exit_code\x18\xc8\x64code\x63bad\x67message\x79\x01\x2c".to_vec();
        expected.extend([b'm'; 300]);
        expected.extend(b"\x64hint\xf6\x65retry\xf5");
        assert_eq!(failure.to_cbor(), expected);
    }
}
