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
mod mirror;
mod paths;
mod priority;

/// Of this program alone: programs of others that link the library keep theirs.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    // Before anything is opened or started here: such a process gives all of it up.
    if agents_packager::unpack::helper::is_asked_for() {
        return agents_packager::unpack::helper::run();
    }
    if agents_packager::build::helper::is_asked_for() {
        return agents_packager::build::helper::run();
    }
    if agents_packager::git::helper::is_asked_for() {
        return agents_packager::git::helper::run();
    }
    cli::run()
}
