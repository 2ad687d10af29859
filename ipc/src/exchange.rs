//! What the exchange offers beside routes, as its clients see it: work queues and logs.
//!
//! Requests to it are ordinary requests over a link to the agent [`NAME`]; their arguments and answers are the fixed
//! little-endian structures of [`queue`] and [`log`], and its errors are CBOR maps like those of every tool. Not here: what a
//! queue or a log does (`runtime::exchange`).

pub mod log;
pub mod queue;

/// The exchange's name on the bus.
pub const NAME: &str = "exchange";
