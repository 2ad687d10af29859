//! The `bolide` program: one binary for the daemon, the hosted agents and the command line.
#![forbid(unsafe_code)]

mod bench;
mod cli;
mod config;
mod daemon;
mod echo;
#[allow(dead_code, unused_imports, reason = "not wired to the data plane yet")]
mod exchange;
mod host;
mod limits;
mod logging;
mod paths;

fn main() -> std::process::ExitCode {
    cli::run()
}
