//! Why something with the router did not work.

use std::io;

use thiserror::Error;

use crate::control::{DecodeError, EncodeError};
use crate::header::{GrantId, LaneId};
use crate::lane::{AttachError, SendError};
use crate::segment::SegmentError;
use crate::socket::{ConnectError, ReceiveError};

/// Why something with the router did not work.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no router, or not ours.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The router said no.
    #[error("the router refused: {message} ({code})")]
    Refused {
        /// A stable code, as in `FromRouter::Refused`.
        code: String,
        /// For people.
        message: String,
    },
    /// The router closed the connection or died. Links that are open go on until their control pages say otherwise.
    #[error("the router is gone")]
    RouterGone,
    /// The router did not answer in time.
    #[error("the router did not answer within {} ms", crate::limits::ROUTER_ANSWER_MS)]
    NoAnswer,
    /// Nothing came in time.
    #[error("nothing came until the deadline")]
    Deadline,
    /// A request named a descriptor that never came.
    #[error("descriptor {} of link {} was named but not granted", grant.0, lane.0)]
    NoGrant {
        /// The link.
        lane: LaneId,
        /// The grant.
        grant: GrantId,
    },
    /// The router broke the protocol.
    #[error("the router broke the protocol: {0}")]
    Protocol(&'static str),
    /// This process has no descriptors left for what came. The other side was told.
    #[error("this process has no descriptors left")]
    NoDescriptorsLeft,
    /// A packet of the router is no message.
    #[error("the router sent no message")]
    Decode(#[from] DecodeError),
    /// Something that was to be said is too long.
    #[error("cannot say this to the router")]
    Encode(#[from] EncodeError),
    /// A segment could not be made, or the peer's was refused.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The router's directory was refused.
    #[error(transparent)]
    Directory(#[from] crate::directory::DirectoryError),
    /// There is no way into the peer's ring.
    #[error(transparent)]
    Unavailable(#[from] crate::uring::Unavailable),
    /// Neither the wanted class nor one further down can be had.
    #[error("no link of class {wanted}: {reason}")]
    NoClass {
        /// What was wanted.
        wanted: crate::class::Class,
        /// Why not, class by class.
        reason: String,
    },
    /// The peer's cursor or bell was refused.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A borrower's returns were refused.
    #[error(transparent)]
    Returns(#[from] crate::batch::AttachError),
    /// The message was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The socket failed.
    #[error("the connection to the router failed")]
    Receive(#[from] ReceiveError),
    /// The system refused something.
    #[error("the connection to the router failed")]
    Io(#[from] io::Error),
}
