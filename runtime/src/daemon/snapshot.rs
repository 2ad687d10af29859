//! What the daemon says of itself: one picture, taken by the hub, that status, metrics and health
//! are all made of.

use std::collections::BTreeMap;

use serde::Serialize;

/// The name and version of this form.
pub(crate) const SCHEMA: &str = "bolide-status/1";

/// The whole picture.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Snapshot {
    /// [`SCHEMA`].
    pub(crate) schema: &'static str,
    /// Of the program.
    pub(crate) version: &'static str,
    /// The daemon's process.
    pub(crate) pid: u32,
    /// Random per start, in hexadecimal.
    pub(crate) instance: String,
    /// Since the start.
    pub(crate) uptime_seconds: f64,
    /// What it is doing.
    pub(crate) phase: Phase,
    /// Where its socket is.
    pub(crate) runtime_dir: String,
    /// Where metrics and health are served, if anywhere.
    pub(crate) metrics_addr: Option<String>,
    /// Everybody on the bus.
    pub(crate) agents: Vec<AgentStatus>,
    /// The agents that it hosts, on the bus or not.
    pub(crate) hosted: Vec<HostedStatus>,
    /// Lanes that carry messages.
    pub(crate) lanes: usize,
    /// Messages by class since the start, ended lanes included.
    pub(crate) messages: BTreeMap<&'static str, u64>,
    /// Messages that a full lane did not take, by class; their sender was told.
    pub(crate) rejected: BTreeMap<&'static str, u64>,
    /// Refusals since the start, by code.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

/// What the daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// A hosted agent has not come up yet for the first time.
    Starting,
    /// It serves.
    Ready,
    /// It finishes what is in flight and takes nothing new.
    Draining,
}

/// One agent on the bus.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AgentStatus {
    /// Its id on this router.
    pub(crate) id: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its own version.
    pub(crate) version: String,
    /// Its group.
    pub(crate) category: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Its user.
    pub(crate) uid: u32,
    /// Whether the daemon started it.
    pub(crate) hosted: bool,
    /// What it answers.
    pub(crate) tools: Vec<String>,
    /// What it can do.
    pub(crate) capabilities: Vec<String>,
    /// Its tags.
    pub(crate) tags: Vec<String>,
    /// Its links.
    pub(crate) links: usize,
    /// Topics that it writes.
    pub(crate) topics: usize,
    /// Patterns that it wants.
    pub(crate) subscriptions: usize,
}

/// One hosted agent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HostedStatus {
    /// Its name.
    pub(crate) name: String,
    /// How it is.
    pub(crate) state: HostedState,
    /// Its process, while it has one.
    pub(crate) pid: Option<u32>,
    /// How often it was started again.
    pub(crate) restarts: u64,
    /// How its last process ended.
    pub(crate) last_end: Option<String>,
    /// Its tasks.
    pub(crate) tasks: Tasks,
    /// Its errors by kind.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// How a hosted agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HostedState {
    /// Its process runs and has not come to the bus yet.
    Starting,
    /// It is on the bus.
    Up,
    /// It ended and is started again after a while.
    Waiting,
    /// It ended too often and is left alone.
    Failed,
    /// It ended because the daemon stops.
    Stopped,
}

/// A hosted agent's tasks over all its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tasks {
    /// Under way now.
    pub(crate) running: u64,
    /// Ended with a result.
    pub(crate) done: u64,
    /// Ended with an error.
    pub(crate) failed: u64,
    /// Their caller went away.
    pub(crate) cancelled: u64,
    /// Ended in a panic.
    pub(crate) panicked: u64,
    /// Under way when the agent's process died.
    pub(crate) died: u64,
}

impl Tasks {
    /// Ended tasks by outcome.
    pub(crate) fn outcomes(&self) -> [(&'static str, u64); 5] {
        [
            ("done", self.done),
            ("failed", self.failed),
            ("cancelled", self.cancelled),
            ("panicked", self.panicked),
            ("died", self.died),
        ]
    }
}

impl HostedState {
    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}
