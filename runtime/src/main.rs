//! The `bolide` program: one binary for the daemon, the hosted agents and the command line.
#![forbid(unsafe_code)]

mod bench;
mod cli;
mod config;
mod daemon;
mod echo;
mod exchange;
mod host;
mod limits;
mod logging;
mod machine;
mod paths;
mod priority;

fn main() -> std::process::ExitCode {
    cli::run()
}
