//! `bolide bench ...`: measures and prints.

use clap::Subcommand;

use super::exit::{Exit, Failure};
use super::output;
use crate::bench::bus::{self, log, pair, recovery};
use crate::bench::{governor, install, resolve, undo, unpack, workers};

/// `bolide bench`
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// What is promised of the bus, beside the least that this machine can do and beside other buses
    Bus(bus::Arguments),
    /// An append to a log until it is stored and until it is synced, beside the least that the same way can cost
    Log(log::Arguments),
    /// Time to an exact set of versions, beside the ecosystems' own resolvers
    Resolve(resolve::Arguments),
    /// An environment from a lock, with empty and with full caches, beside the ecosystems' own installers
    Install(install::Arguments),
    /// Heat and work under the thermal governor, beside others, on a simulated laptop
    Governor(governor::Arguments),
    /// A large environment taken back: until the old state is visible, and what comes after that
    Undo(undo::Arguments),
    /// Archives into the store: read by the process that has no rights, beside this process reading them itself
    Unpack(unpack::Arguments),
    /// Pieces of work on pools that are pinned and not pinned
    Workers(workers::Arguments),
    /// The second process of `bus`
    #[command(hide = true)]
    Peer(pair::Peer),
    /// The process that `bus` kills
    #[command(hide = true)]
    Worker(recovery::Worker),
}

impl Bench {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let (report, text, json) = match self {
            Self::Bus(arguments) => {
                let report = bus::run(&arguments)?;
                (report, bus::text as fn(&_) -> String, arguments.json)
            }
            Self::Log(arguments) => {
                let report = log::run(&arguments)?;
                (report, log::text as fn(&_) -> String, arguments.json)
            }
            Self::Resolve(arguments) => {
                let report = resolve::run(&arguments)?;
                (report, resolve::text as fn(&_) -> String, arguments.json)
            }
            Self::Install(arguments) => {
                let report = install::run(&arguments)?;
                (report, install::text as fn(&_) -> String, arguments.json)
            }
            Self::Governor(arguments) => {
                let report = governor::run(&arguments)?;
                (report, governor::text as fn(&_) -> String, arguments.json)
            }
            Self::Undo(arguments) => {
                let report = undo::run(&arguments)?;
                (report, undo::text as fn(&_) -> String, arguments.json)
            }
            Self::Unpack(arguments) => {
                let report = unpack::run(&arguments)?;
                (report, unpack::text as fn(&_) -> String, arguments.json)
            }
            Self::Workers(arguments) => {
                let report = workers::run(&arguments)?;
                (report, workers::text as fn(&_) -> String, arguments.json)
            }
            Self::Peer(peer) => {
                pair::answer(&peer)?;
                return Ok(Exit::Done);
            }
            Self::Worker(worker) => {
                recovery::work(&worker)?;
                return Ok(Exit::Done);
            }
        };
        if json {
            output::print_json(&report)?;
        } else {
            output::print(&text(&report))?;
        }
        Ok(Exit::Done)
    }
}
