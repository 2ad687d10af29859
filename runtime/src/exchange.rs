//! The exchange: what needs a third party on the way. Links that policy does not allow to be direct pass through it, and
//! work queues and logs live in it.
//!
//! It is an agent of the bus like others, a hosted process of its own: the daemon, which owns the bus, stays out of the way
//! of messages, and a mistake here ends one process that is started again. It knows its callers as the router introduced
//! them. One thread does everything; it spins while there is something to do and sleeps when there is not. It does not wait
//! for the disk: what does is other threads' (`hand`, `log::commit`).

mod callers;
mod counted;
mod forward;
mod hand;
mod journal;
mod keeper;
pub(crate) mod log;
mod logs;
mod names;
mod pace;
mod queue;
mod rates;
mod routes;
mod server;
mod work;

use anyhow::Context;
use ipc::client::{Client, ClientError};
use ipc::closer::Closer;
use ipc::doorbell::Bell;
use ipc::manifest::AgentManifest;
use tracing::info;

use crate::config::Settings;
use crate::paths::SOCKET_NAME;
use crate::priority;

use self::callers::Callers;
pub(crate) use self::counted::LIMITS;
pub(crate) use self::log::mechanism_here;
use self::logs::Logs;
use self::work::Work;

/// Where durable queues live, below the state directory.
const QUEUES_PLACE: &str = "exchange/queues";

/// Its name on the bus, which only the daemon's own process may bear.
pub(crate) use ipc::exchange::NAME;

/// How logs and durable queues are synced, in what the exchange reports and `status` shows.
pub(crate) const LOG_SYNC: &str = "log-sync";

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
    // What an earlier life left is whole before anybody can ask for it.
    let mut callers = Callers::default();
    let mut work = Work::open(settings.state_dir.join(QUEUES_PLACE), &mut callers);
    let socket = settings.runtime_dir.join(SOCKET_NAME);
    let mut client = Client::connect(&socket, &manifest, &[])
        .with_context(|| format!("`{NAME}` cannot come to the bus"))?;
    // What callers grant and nobody takes may take as long to close as they like.
    client.set_closer(Closer::new());
    info!(id = client.agent().0, "ready");
    let bell = || Bell::from_peer(client.doorbell().ringer().try_clone_to_owned()?);
    work.set_bell(bell()?);
    let logs = Logs::new(settings.state_dir.join(LOGS_NAME), bell()?);
    let server = server::Server::new(client, callers, work, logs, settings.limits.clone());
    let ended = server.run()?;
    info!(?ended, "ends");
    Ok(())
}

/// Whether the daemon has gone.
fn is_hangup(error: &ClientError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    match error {
        ClientError::RouterGone => true,
        ClientError::Io(error) => [BrokenPipe, ConnectionReset].contains(&error.kind()),
        _ => false,
    }
}
