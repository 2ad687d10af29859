//! The daemon.
mod router;
