//! Why something with a pool did not work; one type for each operation.

use thiserror::Error;

use crate::header::AgentId;
use crate::lane::SendError;
use crate::limits::{LOANS_MAX, POOL_READERS_MAX};
use crate::segment::SegmentError;

/// Why there is no loan. `Copy`, because it happens on the hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoanError {
    /// No range is long enough, and the caller did not want to wait, or not longer.
    #[error("the pool is full: expected {wanted} bytes in one piece, got at most {longest}")]
    PoolFull {
        /// What the loan needs, aligned.
        wanted: usize,
        /// The longest range that is free.
        longest: usize,
    },
    /// As many loans are out as have a number.
    #[error("the pool is full: {LOANS_MAX} loans are out")]
    NumbersOut,
    /// Nothing, or more than the pool ever has.
    #[error("impossible length of a loan: expected 1 to {max} bytes, got {got}")]
    Length {
        /// The length.
        got: usize,
        /// The bound.
        max: usize,
    },
}

/// Why a loan was not lent. `Copy`, because it happens on the hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LendError {
    /// A loan of another pool.
    #[error("the loan is of another pool")]
    OtherPool,
    /// Nobody would ever return it.
    #[error("a loan must be lent to somebody")]
    Nobody,
    /// A reader that is not attached, or whose link has ended.
    #[error("agent {} is no reader of the pool", reader.0)]
    NoReader {
        /// Which one.
        reader: AgentId,
    },
    /// The lane did not take the line.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Why a reader was not attached to a pool.
#[derive(Debug, Error)]
pub enum AttachError {
    /// A pool has a bounded number.
    #[error("too many readers: at most {POOL_READERS_MAX}")]
    TooManyReaders,
    /// It is attached.
    #[error("agent {} already reads the pool", reader.0)]
    Attached {
        /// Which one.
        reader: AgentId,
    },
    /// Its returns, or the page of the router, were refused.
    #[error("a segment of the reader was refused")]
    Segment(#[from] SegmentError),
}

/// Why a line names no loan. `Copy`, because it happens on the hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TakeError {
    /// The message is something else.
    #[error("the message names no loan")]
    NoLine,
    /// A loan of a pool that this is not.
    #[error("the loan is of another pool: expected {expected}, got {got}")]
    OtherPool {
        /// This pool.
        expected: u32,
        /// That of the line.
        got: u32,
    },
    /// The range is not inside the pool.
    #[error("the loan is outside of the pool: {length} bytes at {offset} of {bytes}")]
    Outside {
        /// Where it would start.
        offset: u64,
        /// How long it would be.
        length: u64,
        /// How long the pool is.
        bytes: usize,
    },
    /// A number that came before, or is older than one that did.
    #[error("loan {number} came again")]
    Stale {
        /// The loan.
        number: u64,
    },
}

/// A range that is not inside what was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("outside of the loan: {count} bytes at {offset} of {length}")]
pub struct OutOfRange {
    /// Where it would start.
    pub offset: usize,
    /// How long it would be.
    pub count: usize,
    /// How long the loan is.
    pub length: usize,
}
