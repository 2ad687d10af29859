//! The exchange: the classes of the bus that need the daemon. So far the durable log.
#![allow(dead_code, unused_imports, reason = "the exchange uses all of the log")]

pub(crate) mod log;
