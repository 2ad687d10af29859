//! The daemon: owns the bus, hosts agents, serves metrics and health, and stops in good order.
//!
//! Parts, from pure to effect: [`router`] decides, [`hub`] carries out, [`connections`] speaks with
//! clients, [`supervisor`] keeps hosted agents alive, [`http`] shows. They share two things only:
//! the hub's bounded inbox, and the table of [`hosted`] agents.

mod board;
mod connections;
mod figures;
mod governor;
mod health;
mod hosted;
mod http;
mod hub;
mod metrics;
mod quota;
mod reload;
mod router;
mod snapshot;
mod supervisor;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use ipc::directory::RouterEntry;
use ipc::fault;
use ipc::socket::{BindError, Listener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use self::board::Board;
use self::connections::{Admission, Reception};
use self::governor::{GovernorThread, Rules};
use self::hosted::HostedTable;
use self::hub::{Facts, Hub, ToHub};
pub(crate) use self::quota::LimitTable;
use self::reload::Reloading;
use self::router::Event;
pub(crate) use self::router::rate::Budget;
pub(crate) use self::router::subject::check_pattern;
use self::supervisor::{Stopping, Supervisor};
use crate::config::{Config, Flags};
use crate::limits::{CHILD_STOP_TIMEOUT, HUB_EVENTS_MAX};
use crate::paths::{self, SOCKET_NAME};

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Everything that can be set.
    pub(crate) config: Config,
    /// What it was made of, to read it again.
    pub(crate) flags: Flags,
    /// Hosted agents are threads of the daemon.
    pub(crate) in_process: bool,
    /// What hosted agents' processes run.
    pub(crate) program: PathBuf,
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All work in flight was finished.
    Drained,
    /// Some was not.
    Cut,
}

/// Runs the daemon until it is told to stop.
pub(crate) fn serve(options: Options) -> anyhow::Result<Ended> {
    let started = Instant::now();
    let directory = &options.config.settings.runtime_dir;
    paths::make_runtime_directory(directory)?;
    let listener = Listener::bind(directory, SOCKET_NAME).map_err(explained)?;
    fault::point("daemon.bound");
    raise_descriptor_limit();
    if !options.in_process {
        close_to_others();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("daemon")
        .enable_all()
        .build()
        .context("cannot start the daemon's threads")?;
    let ended = runtime.block_on(run(options, listener, started));
    // Threads of in-process agents that did not finish are left to the end of the process.
    runtime.shutdown_background();
    ended
}

/// The daemon moves control packets and answers scrapes; two threads keep one slow step from
/// delaying the rest.
const WORKERS: usize = 2;

async fn run(options: Options, listener: Listener, started: Instant) -> anyhow::Result<Ended> {
    let settings = options.config.settings.clone();
    let mut signals = Signals::new()?;
    let (hub_inbox, inbox) = mpsc::channel(HUB_EVENTS_MAX);
    let metrics_addr = match settings.metrics_addr {
        None => None,
        Some(address) => {
            let http = http::bind(address).await?;
            let address = http.local_addr().context("the metrics endpoint has no address")?;
            tokio::spawn(http::serve(http, hub_inbox.clone()));
            Some(address.to_string())
        }
    };
    let hosted = Arc::new(HostedTable::new(&settings.hosted, options.in_process));
    let instance = random_number()?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let router = RouterEntry {
        instance,
        pid: std::process::id(),
        started_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
    };
    let random = || random_number().map_err(std::io::Error::other);
    let board = Board::create(router, &settings.runtime_dir, random)?;
    let facts = Facts {
        instance,
        runtime_dir: settings.runtime_dir.display().to_string(),
        metrics_addr: metrics_addr.clone(),
        hosted: Arc::clone(&hosted),
        started,
    };
    let hub = Hub::new(facts, settings.hosted.clone(), board)
        .with_routed(settings.routed.clone())
        .with_policy(settings.classes, settings.limits.clone());
    let hub = tokio::spawn(hub.run(inbox));
    let governor = GovernorThread::start(
        settings.root(),
        Rules::of(&settings),
        hub_inbox.clone(),
        Arc::clone(&hosted),
    );
    let reception = Arc::new(Reception::new(
        hub_inbox.clone(),
        Arc::clone(&hosted),
        Admission {
            handshake: settings.handshake,
            handshake_bytes: settings.handshake_bytes,
            limits: settings.limits.clone(),
        },
    ));
    let mut accepting = tokio::spawn(reception.accept(listener));
    let (stop, stopping) = watch::channel(Stopping::No);
    let Options { config, flags, in_process, program } = options;
    let mut reloading = Reloading::new(config.settings.clone(), flags);
    let supervisor = Supervisor::new(config, hosted, stopping, program, in_process);
    let supervision = tokio::spawn(supervisor.run());
    let socket = settings.runtime_dir.join(SOCKET_NAME);
    info!(socket = %socket.display(), metrics = metrics_addr, "the daemon serves");
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop => break,
                Told::Reload => reloading.again(&governor),
            },
            ended = &mut accepting => {
                ended.context("the accepting task ended")?.context("cannot accept clients")?;
                break;
            }
        }
    }
    let ended = drain(&settings, &hub_inbox, &stop, supervision, &mut signals).await;
    fault::point("daemon.drained");
    drop(governor);
    // The listener goes with its task, and the socket with the listener.
    accepting.abort();
    let _ = accepting.await;
    fault::point("daemon.socket-removed");
    // And the named mirror of the directory with the hub.
    hub.abort();
    let _ = hub.await;
    info!(?ended, "the daemon stops");
    Ok(ended)
}

/// Tells everybody, lets work in flight finish for a bounded time, and ends who still runs.
async fn drain(
    settings: &crate::config::Settings,
    hub: &mpsc::Sender<ToHub>,
    stop: &watch::Sender<Stopping>,
    mut supervision: JoinHandle<()>,
    signals: &mut Signals,
) -> Ended {
    info!(patience = ?settings.drain, "stopping: finishing work in flight");
    stop.send_replace(Stopping::Drain);
    if hub.send(ToHub::Event(Box::new(Event::Drain))).await.is_err() {
        warn!("the router is gone; nobody can be told that the daemon stops");
    }
    fault::point("daemon.drain-told");
    let why = tokio::select! {
        _ = &mut supervision => return Ended::Drained,
        () = tokio::time::sleep(settings.drain) => "patience is over",
        () = signals.stop() => "told again",
    };
    warn!(why, "stopping at once; work in flight is cut off and recovered at the next start");
    stop.send_replace(Stopping::Now);
    // Each child is given CHILD_STOP_TIMEOUT to end, then killed, then its last lines are read.
    if tokio::time::timeout(CHILD_STOP_TIMEOUT * 3, supervision).await.is_err() {
        warn!("a hosted agent did not end");
    }
    Ended::Cut
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Stop,
    Reload,
}

/// SIGTERM and SIGINT, which mean the same, and SIGHUP, which asks to read the configuration again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let terminate = listen(SignalKind::terminate())?;
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt, hangup: listen(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Those that ask to read the configuration again mean nothing any more.
    async fn stop(&mut self) {
        while self.next().await != Told::Stop {}
    }
}

fn explained(error: BindError) -> anyhow::Error {
    match error {
        error @ BindError::InUse { .. } => anyhow::Error::new(error).context(
            "another daemon serves this runtime directory \
             (hint: `bolide status` shows it; `--runtime-dir` chooses another directory)",
        ),
        error => error.into(),
    }
}

/// Every link holds a few descriptors here; the usual soft limit of 1,024 is for programs that use
/// select(2).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        debug!(%error, "the limit of open descriptors stays as it is");
    }
}

/// Other processes of this user may not read the daemon's memory or take its descriptors.
fn close_to_others() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        debug!(%error, "other processes of this user may look into this one");
    }
}

/// Sixty-four bits from the kernel.
fn random_number() -> anyhow::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    let mut source = std::fs::File::open("/dev/urandom").context("cannot open `/dev/urandom`")?;
    source.read_exact(&mut bytes).context("cannot read `/dev/urandom`")?;
    Ok(u64::from_le_bytes(bytes))
}
