//! Who may run how much, and where: pure decisions about placement and slots, and the admission that enforces them.
//!
//! Knows kinds of work and classes of cores, never packages or messages. Reading order: [`limits`], [`placement`], [`decision`],
//! [`admission`].
#![forbid(unsafe_code)]

pub mod admission;
pub mod decision;
pub mod limits;
pub mod placement;
