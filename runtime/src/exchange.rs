//! The data plane's decisions: work queues and fair priorities. Pure state machines; links, threads
//! and files are elsewhere.

pub(crate) mod priority;
pub(crate) mod queue;
