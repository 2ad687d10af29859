//! Lanes: one direction, one writer, with the segments that each side owns.
//!
//! A lane is a ring of slots, a region for larger payloads, one cursor per reader, and the router's control page. The
//! [`Sender`] owns slots and region, each [`Receiver`] its cursor. Nothing here talks to the router; `client` does.
//!
//! ```
//! use std::os::fd::AsFd;
//! use ipc::header::AgentId;
//! use ipc::lane::{LaneOptions, Receiver, Sender, WhenFull};
//! use ipc::{ring::Meta, segment::ControlWriter, wait::Spin};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In life the descriptors go through the router; here both ends are in one process.
//! let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
//! let control = ControlWriter::create()?;
//! let mut sender = Sender::for_link(LaneOptions::default())?;
//! let cursor = Receiver::new_cursor(Spin::Adaptive)?;
//! sender.attach(AgentId(2), copy(cursor.as_fd())?, None)?;
//! let (slots, region) = (copy(sender.slots_fd())?, copy(sender.region_fd())?);
//! let mut receiver =
//!     Receiver::for_link(AgentId(1), slots, region, copy(control.as_fd())?, cursor)?;
//!
//! sender.send(Meta::default(), b"hello", WhenFull::Reject)?;
//! assert_eq!(receiver.receive(None)?.payload, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! After the start nothing allocates (a receiver's buffer for large messages grows to the largest one seen), no lock is
//! taken, and no system call is made unless somebody sleeps.

use std::time::Instant;

use thiserror::Error;

use crate::header::Header;
use crate::ring::{Line, Meta, Timing, Violation};
use crate::segment::LaneState;

mod fanout;
mod history;
mod lender;
mod parts;
mod receiver;
mod sender;
mod taken;
#[cfg(test)]
mod tests;

pub use fanout::{AttachError, DetachCause, DetachedReader};
pub use parts::PARTS_MAX;
pub(crate) use parts::{PARTS_AT_ONCE, Parts};
pub(crate) use receiver::Taken;
pub use receiver::{Receiver, Start};
pub use sender::{Large, Sender};
pub use taken::TakenMessage;

/// What happens when a lane is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The message is refused at once.
    Reject,
    /// The writer waits for room until then.
    WaitUntil(Instant),
}

/// Sizes of a lane's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// How many slots; a power of two.
    pub slots: usize,
    /// How many bytes of region; a power of two.
    pub region_bytes: usize,
}

impl Default for LaneOptions {
    fn default() -> Self {
        let (slots, region_bytes) =
            (crate::limits::SLOTS_DEFAULT, crate::limits::REGION_BYTES_DEFAULT);
        Self { slots, region_bytes }
    }
}

/// Why a message was not sent. `Copy`, because it happens on the hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// No room, and the caller did not want to wait, or not longer.
    #[error("the lane is full")]
    Full,
    /// More than the lane can carry.
    #[error("message is too long: got {got} bytes, at most {max}")]
    TooLong {
        /// Its length.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// The lane has ended.
    #[error("the lane has ended: {0}")]
    Ended(Ended),
    /// The reader broke the protocol.
    #[error("the lane is quarantined: {0}")]
    Quarantined(Violation),
}

/// Why nothing was received. `Copy`, because it happens on the hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReceiveError {
    /// So many positions of a topic were overwritten before they were read; the next call goes on with what is there.
    #[error("lapped: {0} positions were lost")]
    Lost(u64),
    /// Nothing came in time.
    #[error("nothing came until the deadline")]
    Deadline,
    /// Everything was read, and nothing more will come.
    #[error("the lane has ended: {0}")]
    Ended(Ended),
    /// The writer broke the protocol; nothing more is read from it.
    #[error("the lane is quarantined: {0}")]
    Quarantined(Violation),
}

/// Why a lane has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Ended {
    /// The process at the other end has died.
    #[error("the peer is gone")]
    PeerGone,
    /// The router took the permission back.
    #[error("the permission was revoked")]
    Revoked,
    /// The peer closed it.
    #[error("the peer closed it")]
    Closed,
    /// One side closed it because the other one broke the protocol.
    #[error("it was quarantined: one side broke the protocol")]
    Quarantined,
    /// The router is gone, and with it the word on whether the peer lives.
    #[error("the router is gone")]
    RouterGone,
}

impl Ended {
    /// What a state means for a lane; nothing while messages pass.
    pub fn from_state(state: LaneState) -> Option<Self> {
        match state {
            LaneState::Open | LaneState::Draining => None,
            LaneState::PeerGone => Some(Self::PeerGone),
            LaneState::Revoked => Some(Self::Revoked),
            LaneState::Closed => Some(Self::Closed),
            LaneState::Quarantined => Some(Self::Quarantined),
        }
    }
}

/// One received message; the payload lies in the receiver's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The first word of its slot.
    pub meta: Meta,
    /// The second line, where there was one.
    pub timing: Option<&'a Timing>,
    /// The header, where there was one; `source` is the lane's writer, whatever the bytes said.
    pub header: Option<&'a Header>,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// A message of one line, whose first word was checked.
    #[inline]
    fn inline(meta: Meta, line: &'a Line) -> Self {
        let payload = &line.payload[..usize::from(meta.length)];
        Self { meta, timing: None, header: None, payload }
    }
}
