//! The bus: wire structures, sealed segments, rings, lanes, and the client library.
//!
//! `ipc/PROTOCOL.md` gives the bytes and who writes what. Reading order: [`limits`], [`header`], [`manifest`],
//! [`control`].

pub mod control;
pub mod header;
pub mod limits;
pub mod manifest;
