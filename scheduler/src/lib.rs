//! Who may run how much, and where: pure decisions about placement and slots, the admission that enforces them, and the
//! pools of pinned workers that carry it out.
//!
//! Knows kinds of work and classes of cores, never packages or messages. Reading order: [`limits`], [`placement`], [`decision`],
//! [`governor`], [`simulation`] (what the governor is tried on), [`admission`], [`pool`].
#![forbid(unsafe_code)]

pub mod admission;
pub mod decision;
pub mod governor;
pub mod limits;
pub mod placement;
pub mod pool;
pub mod simulation;
