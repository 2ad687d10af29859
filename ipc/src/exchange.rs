//! What the exchange offers beside routes, as its clients see it: work queues.
//!
//! Requests to it are ordinary requests over a link to the agent [`NAME`]; their arguments and answers are the fixed
//! little-endian structures of [`queue`], and its errors are CBOR maps like those of every tool. Not here: what a queue does
//! (`runtime::exchange`).

pub mod queue;

/// The exchange's name on the bus.
pub const NAME: &str = "exchange";
