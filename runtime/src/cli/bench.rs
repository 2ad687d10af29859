//! `bolide bench ...`: measures and prints.

use clap::Subcommand;

use super::exit::{Exit, Failure};
use super::output;
use crate::bench::bus::{classes, log};
use crate::bench::{bus, resolve};

/// `bolide bench`
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Latency of the bus between two processes, beside the least that two cores can do
    Bus(bus::Arguments),
    /// Latency of the classes beside the lane, polled and blocked, beside the bare mechanism of each
    Classes(classes::Arguments),
    /// An append to a log until it is stored and until it is synced, beside the least that the same way can cost
    Log(log::Arguments),
    /// Time to an exact set of versions, beside the ecosystems' own resolvers
    Resolve(resolve::Arguments),
    /// The second process of `bus`
    #[command(hide = true)]
    Peer(bus::Peer),
    /// The second process of `classes`
    #[command(hide = true)]
    ClassPeer(classes::Peer),
}

impl Bench {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let (report, text, json) = match self {
            Self::Bus(arguments) => {
                let report = bus::run(&arguments)?;
                (report, bus::text as fn(&_) -> String, arguments.json)
            }
            Self::Classes(arguments) => {
                let report = classes::run(&arguments)?;
                (report, classes::text as fn(&_) -> String, arguments.json)
            }
            Self::Log(arguments) => {
                let report = log::run(&arguments)?;
                (report, log::text as fn(&_) -> String, arguments.json)
            }
            Self::Resolve(arguments) => {
                let report = resolve::run(&arguments)?;
                (report, resolve::text as fn(&_) -> String, arguments.json)
            }
            Self::Peer(peer) => {
                bus::answer(&peer)?;
                return Ok(Exit::Done);
            }
            Self::ClassPeer(peer) => {
                classes::answer(&peer)?;
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
