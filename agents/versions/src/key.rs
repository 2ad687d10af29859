//! Keys: bytes whose order is the order of the versions that they stand for, and which are equal when those are equal.
//!
//! A version is read once into its key; from there on comparing, sorting and hashing look at bytes and allocate nothing.
//! Each family says which tokens it writes. Every token is self-delimiting, so that no key is cut by accident where
//! another one goes on: numbers begin with their length, texts end in a zero byte that no text contains.

/// Numbers of more digits than this are written out digit by digit. All of 19 digits fit into 64 bits.
const SMALL_DIGITS_MAX: usize = 19;

/// Stands before a number that is written out, above every length of a small one (0 to 8 bytes).
const LARGE: u8 = 9;

/// A version's place in the order of its family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<[u8]>);

impl Key {
    /// The bytes; only their order means something.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Writes a key, token by token.
#[derive(Debug, Default)]
pub(crate) struct KeyWriter(Vec<u8>);

impl KeyWriter {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A mark that decides before everything after it.
    pub(crate) fn mark(&mut self, mark: u8) -> &mut Self {
        self.0.push(mark);
        self
    }

    /// A number of any length, by its value. What is no digit must not be in it; none at all is zero.
    pub(crate) fn number(&mut self, digits: &str) -> &mut Self {
        let digits = digits.trim_start_matches('0');
        match digits.parse::<u64>() {
            Ok(number) if digits.len() <= SMALL_DIGITS_MAX => self.integer(number),
            _ if digits.is_empty() => self.integer(0),
            _ => {
                self.0.push(LARGE);
                self.0.extend_from_slice(&count(digits.len()).to_be_bytes());
                self.0.extend_from_slice(digits.as_bytes());
                self
            }
        }
    }

    /// A number, as [`KeyWriter::number`] writes it.
    pub(crate) fn integer(&mut self, number: u64) -> &mut Self {
        let bytes = number.to_be_bytes();
        let from = number.leading_zeros() as usize / 8;
        // At most eight.
        self.0.push((bytes.len() - from) as u8);
        self.0.extend_from_slice(&bytes[from..]);
        self
    }

    /// A count that is written in the same number of bytes always, the higher the earlier.
    pub(crate) fn descending(&mut self, number: usize) -> &mut Self {
        self.0.extend_from_slice(&(!count(number)).to_be_bytes());
        self
    }

    /// A count that is written in the same number of bytes always.
    pub(crate) fn ascending(&mut self, number: usize) -> &mut Self {
        self.0.extend_from_slice(&count(number).to_be_bytes());
        self
    }

    /// A text by its bytes; a shorter one is before those that begin with it.
    pub(crate) fn text(&mut self, bytes: impl IntoIterator<Item = u8>) -> &mut Self {
        let from = self.0.len();
        self.0.extend(bytes);
        debug_assert!(!self.0[from..].contains(&0), "texts with zero bytes are refused before");
        self.0.push(0);
        self
    }

    /// Bytes written so far: where a part ends.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn finish(self) -> Key {
        Key(self.0.into_boxed_slice())
    }
}

/// Lengths are bounded by [`crate::limits::VERSION_BYTES_MAX`], so nothing is lost.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(digits: &str) -> Key {
        let mut key = KeyWriter::default();
        key.number(digits);
        key.finish()
    }

    #[test]
    fn numbers_are_in_the_order_of_their_values() {
        let ascending = [
            "0",
            "1",
            "255",
            "256",
            "65536",
            "9999999999999999999",
            "10000000000000000000",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999",
            "100000000000000000000",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn zeros_in_front_do_not_count() {
        assert_eq!(number("007"), number("7"));
        assert_eq!(number("000"), number(""));
        assert_eq!(number("00018446744073709551616"), number("18446744073709551616"));
    }
}
