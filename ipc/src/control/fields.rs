//! Reading and writing the fields of one packet: bounded, little-endian, without panics.
//!
//! Not here: which fields a message has; that is the codec's.

use super::codec::{DecodeError, EncodeError};
use crate::limits::{LIST_ENTRIES_MAX, PACKET_BYTES_MAX, WORD_BYTES_MAX};

/// Appends fields to one packet.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// Whether a text has control characters: those that are refused in what ends in logs and on terminals. Most texts are plain ASCII,
/// and a look at their bytes is enough.
#[inline]
pub(crate) fn has_control(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    !is_plain && text.chars().any(char::is_control)
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::over(Vec::with_capacity(256))
    }

    /// Writes into memory that is at hand, over what it holds.
    pub(crate) fn over(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes }
    }

    #[inline]
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    #[inline]
    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes with a u16 length before them.
    #[inline]
    pub(crate) fn block(
        &mut self,
        field: &'static str,
        bytes: &[u8],
        max: usize,
    ) -> Result<(), EncodeError> {
        let length = u16::try_from(bytes.len())
            .ok()
            .filter(|_| bytes.len() <= max)
            .ok_or(EncodeError::TooLong { field, got: bytes.len(), max })?;
        self.u16(length);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn word(&mut self, field: &'static str, word: &str) -> Result<(), EncodeError> {
        self.block(field, word.as_bytes(), WORD_BYTES_MAX)
    }

    pub(crate) fn list(
        &mut self,
        field: &'static str,
        words: &[String],
    ) -> Result<(), EncodeError> {
        if words.len() > LIST_ENTRIES_MAX {
            return Err(EncodeError::TooLong { field, got: words.len(), max: LIST_ENTRIES_MAX });
        }
        self.u16(words.len() as u16);
        words.iter().try_for_each(|word| self.word(field, word))
    }

    /// Fields that a later minor version may extend: a u16 length, then what `write` appends.
    pub(crate) fn extensible(
        &mut self,
        field: &'static str,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut inner = Self::new();
        write(&mut inner)?;
        self.block(field, &inner.bytes, usize::from(u16::MAX))
    }

    /// Everything that was appended, of whatever length.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes as they are; the last field.
    #[inline]
    pub(crate) fn rest(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn into_packet(self) -> Result<Vec<u8>, EncodeError> {
        let got = self.bytes.len();
        if got > PACKET_BYTES_MAX {
            return Err(EncodeError::TooLong { field: "packet", got, max: PACKET_BYTES_MAX });
        }
        Ok(self.bytes)
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn set_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Takes fields from foreign bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    #[inline]
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    #[inline]
    fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn block(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<&'a [u8], DecodeError> {
        let length = usize::from(self.u16(field)?);
        if length > max {
            return Err(DecodeError::TooLong { field, got: length, max });
        }
        self.take(field, length)
    }

    /// Text with a u16 length before it. Control characters are refused: these texts end in logs and on terminals.
    pub(crate) fn text(&mut self, field: &'static str, max: usize) -> Result<String, DecodeError> {
        self.text_here(field, max).map(str::to_owned)
    }

    /// The same where it lies.
    #[inline]
    fn text_here(&mut self, field: &'static str, max: usize) -> Result<&'a str, DecodeError> {
        let bytes = self.block(field, max)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Text { field })?;
        if has_control(text) {
            return Err(DecodeError::Text { field });
        }
        Ok(text)
    }

    pub(crate) fn word(&mut self, field: &'static str) -> Result<String, DecodeError> {
        self.text(field, WORD_BYTES_MAX)
    }

    /// A word where it lies.
    #[inline]
    pub(crate) fn word_here(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        self.text_here(field, WORD_BYTES_MAX)
    }

    pub(crate) fn list(&mut self, field: &'static str) -> Result<Vec<String>, DecodeError> {
        let count = usize::from(self.u16(field)?);
        if count > LIST_ENTRIES_MAX {
            return Err(DecodeError::TooLong { field, got: count, max: LIST_ENTRIES_MAX });
        }
        (0..count).map(|_| self.word(field)).collect()
    }

    /// The inside of what [`Writer::extensible`] wrote; what its reader leaves over is skipped.
    pub(crate) fn extensible(&mut self, field: &'static str) -> Result<Reader<'a>, DecodeError> {
        self.block(field, usize::from(u16::MAX)).map(Reader::new)
    }
}
