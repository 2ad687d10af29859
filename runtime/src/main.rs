//! The `bolide` program: one binary for the daemon, the hosted agents and the command line.
#![forbid(unsafe_code)]

mod daemon;
mod limits;

fn main() {}
