//! Hosted agents, seen from inside: which there are, and what runs one, as a process of its own or
//! as a thread of the daemon. An agent sees neither bus nor process; [`server`] does.

mod answering;
mod callers;
mod calls;
mod counters;
mod events;
mod immediate;
mod scheduled;
mod server;
mod station;
mod threads;
mod wakefulness;

use std::sync::Arc;

use agents_contract::{Agent, Host};
use agents_packager::service::{Packager, Places, Policy, StoreRules};
use agents_packager::unpack::Unpacker;
use agents_packager::unpack::unpacker::Program;
use anyhow::{Context, anyhow};
use ipc::client::Client;
use ipc::closer::Closer;
use ipc::lane::LaneOptions;
use tracing::info;

use self::scheduled::ScheduledHost;
use self::server::Server;
use crate::config::Settings;
use crate::echo::Echo;
use crate::limits::ANSWER_REGION_BYTES;
use crate::mirror::Mirror;
use crate::paths::SOCKET_NAME;

/// What an agent is made from.
pub(crate) struct Dependencies<'a> {
    /// Everything that can be set.
    pub(crate) settings: &'a Settings,
    /// Permits, places, time.
    pub(crate) host: Arc<dyn Host>,
    /// Whether it is for one command, which recovers when it has said what it asks for.
    pub(crate) is_for_one: bool,
}

/// One agent that this program contains.
struct Known {
    name: &'static str,
    /// Whether the daemon hosts it unless told otherwise.
    by_default: bool,
    make: Make,
}

/// How one runs.
enum Make {
    /// Its tools are called.
    Agent(fn(&Dependencies<'_>) -> anyhow::Result<Arc<dyn Agent>>),
    /// It serves the bus itself.
    Own(fn(&Settings) -> anyhow::Result<()>),
}

/// All of them. A new agent is one more row.
const KNOWN: &[Known] = &[
    Known {
        name: "packager",
        by_default: true,
        make: Make::Agent(|dependencies| {
            let Dependencies { settings, host, is_for_one } = dependencies;
            let (state, cache) = (settings.state_dir.clone(), settings.cache_dir.clone());
            let minimum_age_s = settings.minimum_age.as_secs();
            // What others may ask for has to be there as it came.
            let archives = settings.store.archives || settings.mirror_addr.is_some();
            let store = StoreRules { archives, ..settings.store };
            let mirrors = settings.mirrors.clone();
            let machine = Some(settings.sysfs_root.clone());
            let durability = settings.durability;
            let policy = Policy { minimum_age_s, store, mirrors, durability, machine };
            let (places, unpacker) = (Places { state, cache }, Unpacker::with(Program::own()));
            let make = if *is_for_one { Packager::for_one_request } else { Packager::new };
            Ok(Arc::new(make(&places, policy, unpacker, Arc::clone(host))?))
        }),
    },
    Known { name: crate::exchange::NAME, by_default: true, make: Make::Own(crate::exchange::run) },
    Known {
        name: crate::mirror::NAME,
        by_default: false,
        make: Make::Agent(|dependencies| Ok(Arc::new(Mirror::new(dependencies.settings)?))),
    },
    Known {
        name: "echo",
        by_default: false,
        make: Make::Agent(|dependencies| Ok(Arc::new(Echo::new(Arc::clone(&dependencies.host))))),
    },
];

/// Whether there is such an agent.
pub(crate) fn is_known_agent(name: &str) -> bool {
    known_agents().any(|known| known == name)
}

/// The names of all agents.
pub(crate) fn known_agents() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

/// The agents that the daemon hosts unless told otherwise.
pub(crate) fn default_agents() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().filter(|known| known.by_default).map(|known| known.name)
}

/// Makes an agent.
pub(crate) fn agent_by_name(
    name: &str,
    dependencies: &Dependencies<'_>,
) -> anyhow::Result<Arc<dyn Agent>> {
    match known(name)?.make {
        Make::Agent(make) => {
            make(dependencies).with_context(|| format!("cannot make the agent `{name}`"))
        }
        Make::Own(_) => Err(anyhow!("`{name}` exists on the bus only")),
    }
}

fn known(name: &str) -> anyhow::Result<&'static Known> {
    let known = KNOWN.iter().find(|known| known.name == name);
    known.ok_or_else(|| anyhow!("there is no agent `{name}`"))
}

/// An agent for this very process, without a bus. What it cannot open it may tell only when it recovers.
pub(crate) fn standalone(name: &str, settings: &Settings) -> anyhow::Result<Arc<dyn Agent>> {
    let host = Arc::new(ScheduledHost::new(settings));
    agent_by_name(name, &Dependencies { settings, host, is_for_one: true })
}

/// Runs one agent until the daemon goes away or has drained it. What an earlier life left
/// unfinished is made whole before anybody can reach it.
pub(crate) fn run(name: &str, settings: &Settings) -> anyhow::Result<()> {
    if let Make::Own(run) = known(name)?.make {
        return run(settings);
    }
    let host = Arc::new(ScheduledHost::new(settings));
    let agent =
        agent_by_name(name, &Dependencies { settings, host: host.clone(), is_for_one: false })?;
    agent.recover().with_context(|| format!("`{name}` cannot recover from its earlier life"))?;
    let socket = settings.runtime_dir.join(SOCKET_NAME);
    let mut client = Client::connect(&socket, &agent.manifest(), &[])
        .with_context(|| format!("`{name}` cannot come to the bus"))?;
    host.set_directory(client.directory().context("asking for the bus directory")?);
    let closer = Closer::new();
    client.set_closer(closer.clone());
    client
        .set_lane_options(LaneOptions { region_bytes: ANSWER_REGION_BYTES, ..Default::default() });
    info!(id = client.agent().0, "ready");
    let server = Server::new(Arc::clone(&agent), client, closer, host)?;
    agent.settle(server.station());
    let ended = server.run()?;
    info!(?ended, "ends");
    Ok(())
}
