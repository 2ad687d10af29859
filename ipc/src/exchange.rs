//! What the exchange offers beside routes, as its clients see it: work queues and logs.
//!
//! Requests to it are ordinary requests over a link to the agent [`NAME`]; their arguments and answers are the fixed
//! little-endian structures of [`queue`] and [`log`], and its errors are CBOR maps like those of every tool. Not here: what a
//! queue or a log does (`runtime::exchange`).

use std::time::Instant;

use crate::link::{CallError, Link, Outcome};

pub mod log;
pub mod queue;

/// The exchange's name on the bus.
pub const NAME: &str = "exchange";

/// Calls a tool that has one answer; its bytes, or what `refused` makes of the exchange's error.
fn call<E: From<CallError>>(
    link: &mut Link,
    (tool, arguments): (&str, &[u8]),
    deadline: Instant,
    refused: fn(Vec<u8>) -> E,
) -> Result<Vec<u8>, E> {
    match link.call(tool, arguments, &[], deadline, |_| {})? {
        Outcome::Done(bytes) => Ok(bytes),
        Outcome::Failed(error) => Err(refused(error)),
    }
}
