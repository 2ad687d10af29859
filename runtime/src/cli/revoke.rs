//! `bolide revoke`: takes links and topics of an agent away from it.

use clap::Args;
use ipc::client::{Client, ClientError};
use ipc::header::LaneId;
use ipc::manifest::AgentManifest;
use ipc::socket::ConnectError;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::paths::SOCKET_NAME;

/// `bolide revoke`
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The agent's name
    agent: String,
    /// Only this lane, by its number in `bolide top`; all of them when not given
    #[arg(long)]
    lane: Option<u32>,
    /// What both sides are told
    #[arg(long, default_value = "by command")]
    reason: String,
}

impl Revoke {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.load([])?;
        let manifest = AgentManifest {
            name: format!("cli.{}", std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            category: "cli".to_owned(),
            priority: 1,
            ..AgentManifest::default()
        };
        let socket = config.settings.runtime_dir.join(SOCKET_NAME);
        let failed = |error: ClientError| match error {
            ClientError::Connect(error @ ConnectError::Nobody { .. }) => {
                let text = format!("no daemon is running: {error}");
                Failure::new(Exit::NoDaemon, anyhow::anyhow!(text))
            }
            error => anyhow::Error::new(error).into(),
        };
        let mut client = Client::connect(&socket, &manifest, &[]).map_err(failed)?;
        let lane = self.lane.map(LaneId);
        let count = client.revoke(&self.agent, lane, &self.reason).map_err(failed)?;
        client.bye().map_err(failed)?;
        output::print(&format!("{count} links and topics of `{}` were revoked\n", self.agent))?;
        Ok(Exit::Done)
    }
}
