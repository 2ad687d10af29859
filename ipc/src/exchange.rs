//! What the exchange offers beside routes, as its clients see it: work queues and logs.
//!
//! Requests to it are ordinary requests over a link to the agent [`NAME`]; their arguments and answers are the fixed
//! little-endian structures of [`queue`] and [`log`], and its errors are CBOR maps like those of every tool. Not here: what a
//! queue or a log does (`runtime::exchange`).

use std::time::Instant;

use crate::link::{CallError, Link, RequestId};

pub mod log;
pub mod queue;

/// The exchange's name on the bus.
pub const NAME: &str = "exchange";

/// Calls a tool that has one answer: what `read` makes of its bytes, or `refused` of the exchange's error.
fn call<T, E: From<CallError>>(
    link: &mut Link,
    (tool, arguments): (&str, &[u8]),
    deadline: Instant,
    read: impl FnOnce(&[u8]) -> Result<T, E>,
    refused: fn(Vec<u8>) -> E,
) -> Result<T, E> {
    let request = link.request(tool, arguments, &[], deadline)?;
    answered(link, request, deadline, read, refused)
}

/// The rest of [`call`], once the request is sent.
#[inline]
fn answered<T, E: From<CallError>>(
    link: &mut Link,
    request: RequestId,
    deadline: Instant,
    read: impl FnOnce(&[u8]) -> Result<T, E>,
    refused: fn(Vec<u8>) -> E,
) -> Result<T, E> {
    let last = |last: Result<&[u8], &[u8]>| match last {
        Ok(bytes) => read(bytes),
        Err(error) => Err(refused(error.to_vec())),
    };
    link.answer_viewed(request, deadline, |_| {}, last)?
}
