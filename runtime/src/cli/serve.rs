//! `bolide serve`: the daemon in the foreground.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::Context;
use super::exit::{Exit, Failure};
use crate::config::Config;
use crate::daemon::{self, Ended, Options};
use crate::logging;
use crate::paths::process_environment;

/// `bolide serve`
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Run hosted agents as threads of the daemon, for debugging
    #[arg(long)]
    dev: bool,
    /// Where to serve /metrics and /health, or `off`
    #[arg(long, value_name = "ADDRESS")]
    metrics_addr: Option<String>,
    /// Let other hosts fetch artefacts that this one has, by their digests; anybody who reaches the address may
    #[arg(long, value_name = "ADDRESS")]
    mirror: Option<String>,
    /// Read a recorded or generated tree in the place of `/` for everything about the machine
    #[arg(long, value_name = "DIRECTORY")]
    sysfs_root: Option<PathBuf>,
}

impl Serve {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let address = self.metrics_addr.map(|address| ("metrics_addr", address));
        let root = self.sysfs_root.map(|root| ("sysfs_root", root.to_string_lossy().into_owned()));
        let mut flags = context.flags.clone();
        let mirror = self.mirror.map(|address| ("mirror_addr", address));
        flags.values.extend(address.into_iter().chain(root).chain(mirror));
        let config = Config::load(&flags, &process_environment).map_err(Failure::wrong_use)?;
        logging::start(&config.settings);
        let program = std::env::current_exe().context("cannot find the program itself")?;
        let options = Options { config, flags, in_process: self.dev, program };
        match daemon::serve(options)? {
            Ended::Drained => Ok(Exit::Done),
            Ended::Cut => Ok(Exit::Failed),
        }
    }
}
