//! The bus for other languages: `libbolide`, a C library over the client of `ipc`. `include/bolide.h` is generated from
//! this crate and says for each function what it does and who owns what.
//!
//! Here is only the border: arguments are checked, results are turned into codes and plain structures, panics stop at
//! [`fault::enter`]. The protocol is `ipc`'s. Reading order: [`codes`], [`shapes`], [`border`], [`fault`], [`family`],
//! then what C calls: [`client`], [`link`], [`topic`].
#![deny(unsafe_code)]

mod limits;

pub mod codes;
pub mod shapes;

mod border;
mod fault;

mod agents;
mod events;
mod family;

pub mod client;
pub mod link;
pub mod topic;
