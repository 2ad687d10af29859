//! Hosted agents: started, watched, started again, stopped. One task each; what it decides is in
//! [`backoff`].
//!
//! A hosted agent is a child process, `bolide agent run NAME`, in a process group of its own, so
//! that a Ctrl-C in a terminal reaches the daemon only and work in flight can be finished. It ends
//! by itself when its connection to the daemon does, however the daemon ended. In development mode
//! it is a thread of the daemon that uses the very same socket.

pub(crate) mod backoff;
mod child;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use self::backoff::{Record, Verdict, judge};
use super::hosted::HostedTable;
use super::snapshot::HostedState;
use crate::config::Config;

/// How far the daemon is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stopping {
    /// Not at all.
    No,
    /// Agents have been told to finish; none is started again.
    Drain,
    /// Time is up: whoever still runs is ended.
    Now,
}

/// What every hosted agent's task needs.
#[derive(Debug)]
pub(crate) struct Supervisor {
    config: Config,
    table: Arc<HostedTable>,
    stopping: watch::Receiver<Stopping>,
    program: PathBuf,
    in_process: bool,
}

/// How a life ended.
struct End {
    how: String,
    /// Told to, or finished while the daemon stops.
    orderly: bool,
}

impl Supervisor {
    /// For the agents that `config` names. `program` is what children run.
    pub(crate) fn new(
        config: Config,
        table: Arc<HostedTable>,
        stopping: watch::Receiver<Stopping>,
        program: PathBuf,
        in_process: bool,
    ) -> Self {
        Self { config, table, stopping, program, in_process }
    }

    /// Runs every hosted agent; returns when all have ended for good.
    pub(crate) async fn run(self) {
        let supervisor = Arc::new(self);
        let mut tasks = JoinSet::new();
        for name in &supervisor.config.settings.hosted {
            tasks.spawn(Arc::clone(&supervisor).keep_alive(name.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                error!(%error, "the supervision of an agent ended");
            }
        }
    }

    async fn keep_alive(self: Arc<Self>, name: String) {
        let mut stopping = self.stopping.clone();
        let mut record = Record::default();
        while *stopping.borrow() == Stopping::No {
            let born = Instant::now();
            let end = self.live(&name, &mut stopping.clone()).await;
            if end.orderly {
                info!(agent = name, how = end.how, "hosted agent ended");
                return self.table.ended(&name, HostedState::Stopped, end.how);
            }
            let (next, verdict) = judge(record, born.elapsed());
            record = next;
            let Verdict::RestartAfter(delay) = verdict else {
                error!(agent = name, how = end.how, "hosted agent ended too often; left alone");
                return self.table.ended(&name, HostedState::Failed, end.how);
            };
            warn!(agent = name, how = end.how, ?delay, "hosted agent ended; it is started again");
            self.table.ended(&name, HostedState::Waiting, end.how);
            ipc::fault::point("daemon.child-ended");
            if stops_within(&mut stopping, delay).await {
                break;
            }
            self.table.restarted(&name);
        }
        self.table.ended(&name, HostedState::Stopped, "the daemon stops".to_owned());
    }

    /// One life, from start to end.
    async fn live(&self, name: &str, stopping: &mut watch::Receiver<Stopping>) -> End {
        let started = if self.in_process {
            return self.live_as_thread(name, stopping).await;
        } else {
            self.table.start(name, || child::spawn(&self.program, &self.config, name))
        };
        match started {
            Ok(child) => child::watch(child, name, stopping).await,
            Err(error) => End { how: format!("cannot be started: {error}"), orderly: false },
        }
    }

    async fn live_as_thread(&self, name: &str, stopping: &mut watch::Receiver<Stopping>) -> End {
        let started = self.table.start(name, || Ok((Some(std::process::id()), ())));
        debug_assert!(started.is_ok(), "nothing is spawned here");
        let (settings, agent) = (self.config.settings.clone(), name.to_owned());
        let thread = tokio::task::spawn_blocking(move || crate::host::run(&agent, &settings));
        let ended = tokio::select! {
            ended = thread => ended,
            () = stops_now(stopping) => {
                return End { how: "it did not finish in time".to_owned(), orderly: true };
            }
        };
        let draining = *stopping.borrow() != Stopping::No;
        match ended {
            Ok(Ok(())) => End { how: "it finished".to_owned(), orderly: draining },
            Ok(Err(error)) => End { how: format!("{error:#}"), orderly: draining },
            Err(error) => End { how: error.to_string(), orderly: draining },
        }
    }
}

/// Waits for `delay`; says whether the daemon began to stop meanwhile.
async fn stops_within(stopping: &mut watch::Receiver<Stopping>, delay: Duration) -> bool {
    let begun = stopping.wait_for(|stopping| *stopping != Stopping::No);
    tokio::time::timeout(delay, begun).await.is_ok()
}

/// Returns when time is up.
async fn stops_now(stopping: &mut watch::Receiver<Stopping>) {
    // A sender that is gone means that the daemon itself is.
    let _ = stopping.wait_for(|stopping| *stopping == Stopping::Now).await;
}
