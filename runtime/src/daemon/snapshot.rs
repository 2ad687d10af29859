//! What the daemon says of itself: one picture, taken by the hub, that status, metrics and health
//! are all made of.

use std::collections::BTreeMap;

use ipc::control::{WORK_LANES, WORK_REASONS, WorkReport};
use ipc::histogram::Histogram;
use serde::Serialize;

use super::figures::Figures;

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
    /// The same and more, by class.
    pub(crate) classes: BTreeMap<&'static str, ClassStatus>,
    /// Refusals since the start, by code.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// What was refused or slowed down since the start, by the limit that was reached.
    pub(crate) limited: BTreeMap<&'static str, u64>,
    /// Classes that links may have.
    pub(crate) allowed: Vec<&'static str>,
    /// Links since the start that have another class than was wanted.
    pub(crate) fallbacks: Vec<Fallback>,
    /// Links and topics that ended since the start, by the reason that both sides were told.
    pub(crate) ended: BTreeMap<&'static str, u64>,
    /// What the machine is like and allows; absent until somebody has looked.
    pub(crate) machine: Option<Machine>,
    /// Whether what it allows was decided just now.
    pub(crate) governor: Governor,
    /// What the pools of all hosted agents do.
    pub(crate) work: WorkStatus,
}

/// What the machine is like and allows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Machine {
    /// Its temperature.
    pub(crate) thermal: Thermal,
    /// Pieces of work that may run at once, by class of cores.
    pub(crate) slots: BTreeMap<&'static str, usize>,
    /// Why so many.
    pub(crate) why: &'static str,
    /// How the slots changed since the start.
    pub(crate) changes: Vec<Change>,
    /// Whether heavy work may begin.
    pub(crate) heavy: bool,
    /// Where background work may begin.
    pub(crate) background: &'static str,
    /// Processors by class.
    pub(crate) cpus: BTreeMap<&'static str, usize>,
    /// The processors that may be used, as a list.
    pub(crate) allowed: String,
    /// How workers are held to classes of cores.
    pub(crate) pinning: &'static str,
    /// Degrees Celsius at which states begin and below which they end, as they hold: cut to the temperature at which the processor
    /// protects itself.
    pub(crate) thresholds: BTreeMap<&'static str, String>,
    /// Those of them that are configured otherwise.
    pub(crate) thresholds_configured: BTreeMap<&'static str, String>,
}

/// How the governor is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Governor {
    /// How old its last decision is; since the start where there was none.
    pub(crate) decision_age_seconds: f64,
    /// Why no decision holds any more; absent while one does.
    pub(crate) silent: Option<String>,
}

/// The temperature and what is known of its sensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Thermal {
    /// The thermal state.
    pub(crate) state: &'static str,
    /// Of the package; absent while it is not known.
    pub(crate) celsius: Option<f64>,
    /// Which sensor.
    pub(crate) source: Option<&'static str>,
    /// How often it was read.
    pub(crate) reads: u64,
    /// Readings that gave no temperature, by reason.
    pub(crate) failures: BTreeMap<&'static str, u64>,
}

/// How often the slots changed in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// `up` or `down`.
    pub(crate) direction: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
    /// How often.
    pub(crate) count: u64,
}

/// What pools of workers do; by lane (performance, efficient, low-power, background) and by reason to wait (slots, heat, blind, paused).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct WorkStatus {
    /// Pieces that run.
    pub(crate) running: [u32; WORK_LANES],
    /// Requests that wait to begin.
    pub(crate) waiting: [u32; WORK_REASONS],
    /// Requests that had to wait, over all lives.
    pub(crate) deferred: [u64; WORK_REASONS],
    /// How long they waited together.
    pub(crate) deferred_ns: [u64; WORK_REASONS],
    /// Files that are fetched and wait to be.
    pub(crate) files: Files,
    /// Changes in watched projects that wait: because of heat, because nobody knows how hot it is, for their turn.
    pub(crate) watch_deferred: [u32; 3],
}

/// Files from networks, which have no slots and are not among what is deferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Files {
    /// Those that are being fetched.
    pub(crate) under_way: u32,
    /// Those that wait to be: because others are, because of heat, because nobody knows how hot it is.
    pub(crate) waiting: [u32; 3],
}

impl WorkStatus {
    /// With what is among what agents measure.
    pub(crate) fn measured(self, figures: &Figures) -> Self {
        let count = |name, label| u32::try_from(figures.get(name, label)).unwrap_or(u32::MAX);
        let files = Files {
            under_way: count("downloads", ""),
            waiting: ["busy", "heat", "blind"].map(|why| count("downloads-waiting", why)),
        };
        let watch_deferred = ["heat", "blind", "turn"].map(|why| count("watch-deferred", why));
        Self { files, watch_deferred, ..self }
    }

    /// With what another one does.
    pub(crate) fn plus(self, other: Self) -> Self {
        fn sum<T: Copy, const N: usize>(one: [T; N], other: [T; N], add: fn(T, T) -> T) -> [T; N] {
            std::array::from_fn(|index| add(one[index], other[index]))
        }
        Self {
            running: sum(self.running, other.running, u32::saturating_add),
            waiting: sum(self.waiting, other.waiting, u32::saturating_add),
            deferred: sum(self.deferred, other.deferred, u64::saturating_add),
            deferred_ns: sum(self.deferred_ns, other.deferred_ns, u64::saturating_add),
            files: Files {
                under_way: self.files.under_way.saturating_add(other.files.under_way),
                waiting: sum(self.files.waiting, other.files.waiting, u32::saturating_add),
            },
            watch_deferred: sum(self.watch_deferred, other.watch_deferred, u32::saturating_add),
        }
    }
}

impl From<&WorkReport> for WorkStatus {
    fn from(report: &WorkReport) -> Self {
        let &WorkReport { running, waiting, deferred, deferred_ns, cpus: _ } = report;
        // The rest is among what agents measure.
        Self { running, waiting, deferred, deferred_ns, ..Self::default() }
    }
}

/// Links that fell from one class to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fallback {
    /// The class that their opener wanted.
    pub(crate) wanted: &'static str,
    /// The class that they have.
    pub(crate) got: &'static str,
    /// How many.
    pub(crate) links: u64,
    /// Why the last of them did.
    pub(crate) reason: String,
}

/// What one class of lanes has carried since the start, ended lanes included.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ClassStatus {
    /// Lanes now.
    pub(crate) lanes: u32,
    /// Lines between writers and readers now.
    pub(crate) depth: u64,
    /// Messages.
    pub(crate) messages: u64,
    /// Messages that a full lane did not take.
    pub(crate) rejected: u64,
    /// Positions that slow readers of topics lost.
    pub(crate) lost: u64,
    /// Bytes lent.
    pub(crate) bytes_lent: u64,
    /// How often a writer waited for room.
    pub(crate) waits: u64,
    /// How often one side of a lane broke the protocol and the other gave it up.
    pub(crate) quarantined: u64,
    /// One-way times of messages that said when they were sent.
    pub(crate) latency: LatencyStatus,
    /// The same in full, for metrics.
    #[serde(skip)]
    pub(crate) histogram: Histogram,
}

/// One-way times in short; those of nothing are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LatencyStatus {
    /// How many messages said when they were sent.
    pub(crate) count: u64,
    /// Their times together.
    pub(crate) sum_ns: u64,
    /// The median.
    pub(crate) p50_ns: Option<u64>,
    /// What 99 of a hundred stay within.
    pub(crate) p99_ns: Option<u64>,
    /// What 999 of a thousand stay within.
    pub(crate) p999_ns: Option<u64>,
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
    /// What it may have, by the names of `bus.limits`; `passed` 0 is any number.
    pub(crate) limits: BTreeMap<&'static str, LimitStatus>,
}

/// One limit of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LimitStatus {
    /// How much.
    pub(crate) value: u64,
    /// Who said so, for people.
    pub(crate) set_by: String,
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
    /// What it says of how it works in this life.
    pub(crate) facts: BTreeMap<String, String>,
    /// What it measures, as metrics name it.
    pub(crate) figures: Figures,
    /// What its workers do.
    pub(crate) work: WorkStatus,
    /// The processors that the workers of each lane are held to; nothing where it had no work yet.
    pub(crate) worker_cpus: [String; WORK_LANES],
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
