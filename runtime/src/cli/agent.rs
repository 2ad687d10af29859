//! `bolide agent run NAME`: one agent in this process, connected to the daemon.

use clap::Subcommand;

use super::Context;
use super::exit::{Exit, Failure};
use crate::{host, logging};

/// `bolide agent`
#[derive(Debug, Subcommand)]
pub(super) enum Agent {
    /// Run one agent until the daemon goes away
    Run {
        /// Which
        name: String,
    },
}

impl Agent {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Self::Run { name } = self;
        if !host::is_known_agent(&name) {
            let known = host::known_agents().collect::<Vec<_>>().join(", ");
            let text = format!("there is no agent `{name}` (hint: there are {known})");
            return Err(Failure::wrong_use(anyhow::anyhow!(text)));
        }
        let config = context.load([])?;
        logging::start(&config.settings);
        host::run(&name, &config.settings)?;
        Ok(Exit::Done)
    }
}
