//! The bus: wire structures, sealed segments, rings, lanes, and the client library.
//!
//! `ipc/PROTOCOL.md` gives the bytes and who writes what. Reading order: [`limits`], [`header`], [`manifest`],
//! [`control`], [`socket`], [`peer`].
#![deny(unsafe_code)]

#[cfg(not(all(
    target_os = "linux",
    target_endian = "little",
    target_pointer_width = "64",
    target_has_atomic = "64"
)))]
compile_error!("the bus needs 64-bit little-endian Linux with 64-bit atomics (x86-64 or aarch64)");

pub mod limits;

pub mod header;
pub mod manifest;

#[cfg(not(loom))]
pub mod control;
#[cfg(not(loom))]
pub mod peer;
#[cfg(not(loom))]
pub mod socket;
