//! The bus: wire structures, sealed segments, rings, lanes, and the client library.
//!
//! `ipc/PROTOCOL.md` gives the bytes and who writes what. Reading order: [`limits`], [`header`], [`manifest`],
//! [`control`], [`socket`], [`peer`], [`closer`] for the control plane; [`ring`], [`wait`], [`segment`], [`lane`] for the
//! data plane; [`class`], [`uring`], [`batch`] for the other ways to carry messages; [`histogram`], [`directory`] for who
//! looks on; [`link`], [`topic`], [`client`] for programs.
#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, reason = "a model uses part of what it checks"))]

#[cfg(not(all(
    target_os = "linux",
    target_endian = "little",
    target_pointer_width = "64",
    target_has_atomic = "64"
)))]
compile_error!("the bus needs 64-bit little-endian Linux with 64-bit atomics (x86-64 or aarch64)");

pub mod limits;

pub mod archive;
#[cfg(not(loom))]
pub mod clock;
pub mod fault;
pub mod header;
pub mod histogram;
pub mod manifest;

mod prefetch;
mod sync;

pub mod ring;
pub mod wait;

#[cfg(test)]
#[cfg(loom)]
mod models;

// A model checker replaces the atomics, and those cannot be laid over mapped memory; so models are of the modules above, and of
// what `models` takes from those below.
#[cfg(not(loom))]
pub mod batch;
#[cfg(not(loom))]
pub mod class;
#[cfg(not(loom))]
pub mod client;
#[cfg(not(loom))]
pub mod closer;
#[cfg(not(loom))]
pub mod confined;
#[cfg(not(loom))]
pub mod control;
#[cfg(not(loom))]
pub mod directory;
#[cfg(not(loom))]
pub mod doorbell;
#[cfg(not(loom))]
pub mod exchange;
#[cfg(not(loom))]
pub mod floor;
#[cfg(not(loom))]
mod futex;
#[cfg(test)]
#[cfg(not(loom))]
mod fuzz;
#[cfg(not(loom))]
pub mod lane;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
pub mod link;
#[cfg(not(loom))]
pub mod mapped;
#[cfg(not(loom))]
pub mod peer;
#[cfg(not(loom))]
pub mod segment;
#[cfg(not(loom))]
pub mod socket;
#[cfg(not(loom))]
pub mod topic;
#[cfg(not(loom))]
pub mod uring;
#[cfg(not(loom))]
pub mod wait_set;
