//! Behaviour of the whole program, seen from outside: the real binary against registries on loopback.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]

mod adding;
mod aging;
mod archives;
mod at_once;
mod building;
mod deferred;
mod dnf;
mod editables;
mod elsewhere;
mod far;
mod heat;
mod holding;
mod keys;
mod kiln;
mod kinds;
mod languages;
mod locking;
mod logging;
mod looking;
mod machine;
mod mishaps;
mod named;
mod packages;
mod pacman;
mod projects;
mod readying;
mod registries;
mod registry;
mod sibling;
mod sources;
mod system;
mod trees;
mod verifying;
mod watching;
mod world;
