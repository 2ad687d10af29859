//! The line that names a loan: 32 bytes, which fit into one slot of a lane.
//!
//! Not here: whether what it says holds (`borrower`).

use super::TakeError;
use crate::limits::LOAN_LINE_BYTES;

/// Starts a line, so that another message is not taken for one.
const MAGIC: u32 = u32::from_le_bytes(*b"BLLN");

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoanLine {
    /// The loan's number.
    pub number: u64,
    /// Where it starts, in bytes after the pool's header.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
    /// The pool's number.
    pub pool: u32,
}

impl LoanLine {
    /// The bytes of this line (PROTOCOL.md gives the map).
    pub fn encode(&self) -> [u8; LOAN_LINE_BYTES] {
        let mut bytes = [0; LOAN_LINE_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.pool.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Reads a line; any bytes give a value or an error. Bytes after the known ones are skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, TakeError> {
        let line: &[u8; LOAN_LINE_BYTES] = bytes.first_chunk().ok_or(TakeError::NoLine)?;
        let half =
            |at: usize| u32::from_le_bytes([line[at], line[at + 1], line[at + 2], line[at + 3]]);
        let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 4)) << 32;
        if half(0) != MAGIC {
            return Err(TakeError::NoLine);
        }
        Ok(Self { pool: half(4), number: word(8), offset: word(16), length: word(24) })
    }
}
