//! The exchange: what needs a third party on the way. Links that policy does not allow to be direct pass through it, and
//! work queues and logs live in it.
//!
//! It is an agent of the bus like others, a hosted process of its own: the daemon, which owns the bus, stays out of the way
//! of messages, and a mistake here ends one process that is started again. It knows its callers as the router introduced
//! them. One thread does everything but wait for the
//! disk; it spins while there is something to do and sleeps when there is not.

mod callers;
mod forward;
#[allow(dead_code, unused_imports, reason = "the journals of queues need more of it than logs do")]
pub(crate) mod log;
mod logs;
#[allow(dead_code, unused_imports, reason = "durable queues will replay what they write down")]
mod queue;
mod server;
mod work;

use anyhow::Context;
use ipc::client::Client;
use ipc::manifest::AgentManifest;
use tracing::info;

use crate::config::Settings;
use crate::paths::SOCKET_NAME;
use crate::priority;

/// Its name on the bus, which only the daemon's own process may bear.
pub(crate) use ipc::exchange::NAME;

/// The directory of all logs in the state directory.
const LOGS_NAME: &str = "logs";

/// Runs until the daemon goes away or has drained it.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    let manifest = AgentManifest {
        name: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        category: "bus".to_owned(),
        priority: 5,
        ..AgentManifest::default()
    };
    let socket = settings.runtime_dir.join(SOCKET_NAME);
    let client = Client::connect(&socket, &manifest, &[])
        .with_context(|| format!("`{NAME}` cannot come to the bus"))?;
    info!(id = client.agent().0, "ready");
    let logs = settings.state_dir.join(LOGS_NAME);
    let ended = server::Server::new(client, settings.limits.clone(), logs)?.run()?;
    info!(?ended, "ends");
    Ok(())
}
