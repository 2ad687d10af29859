//! Death of a worker until its item is with another one.
//!
//! The dying worker is a process of this program that takes an item and is killed while it holds it; this process waits for the
//! item. Between them are the daemon, which learns of the death from the kernel, and the exchange, which has the queue. The time runs
//! from just before the signal until the item is here.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use ipc::client::Client;
use ipc::exchange::queue::{Delivery, Options, Queues, Taken};

use super::super::figures::Figure;
use super::super::scratch::{ScratchDaemon, client};
use super::super::{deadline, median};
use super::Part;

/// Deaths in one round.
const DEATHS: usize = 3;
/// The queue's name.
const QUEUE: &str = "bench";
/// Longer than any measurement, so that no lease ends by time.
const HOUR_NS: u64 = 3_600_000_000_000;
/// What the worker says when it has the item.
const HELD: &str = "held";

/// `bolide bench worker`: takes one item and keeps it until it is killed.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Worker {
    socket: PathBuf,
}

/// The part.
pub(super) struct Recovery {
    heir: Queues,
    _client: Client,
    // Dropped last.
    daemon: ScratchDaemon,
}

/// A worker's process; killed when this goes.
struct Victim(Child);

impl Recovery {
    pub(super) fn start() -> anyhow::Result<Self> {
        let daemon = ScratchDaemon::start(&["exchange"], &[])?;
        let mut client = daemon.client("bench.heir")?;
        let mut heir = Queues::open(&mut client)?;
        heir.declare(QUEUE, Options { lease_ns: HOUR_NS, ..Options::default() }, deadline())?;
        Ok(Self { heir, _client: client, daemon })
    }

    /// Milliseconds of one death.
    fn die(&mut self, number: usize) -> anyhow::Result<f64> {
        let payload = number.to_le_bytes();
        self.heir.put(QUEUE, &payload, deadline())?;
        let mut victim = Victim::start(&self.daemon.socket())?;
        let take = self.heir.take(QUEUE, 1, HOUR_NS, deadline())?;
        let began = Instant::now();
        victim.0.kill()?;
        let Taken::Item(delivery) = self.heir.next(take, deadline())? else {
            bail!("the item did not come");
        };
        let lasted = began.elapsed();
        ensure!(delivery.payload == payload, "another item came");
        ensure!(delivery.lease.delivery == 2, "the worker never had it");
        let end = self.heir.next(take, deadline())?;
        ensure!(matches!(end, Taken::End { .. }), "one item became two");
        self.heir.ack(QUEUE, delivery.lease, deadline())?;
        Ok(lasted.as_secs_f64() * 1e3)
    }
}

impl Part for Recovery {
    fn round(&mut self, _messages: u64) -> anyhow::Result<Vec<Figure>> {
        let times = (0..DEATHS).map(|number| self.die(number)).collect::<Result<Vec<_>, _>>()?;
        let found = median(times).map(|ms| ("recovery.lease_ms".to_owned(), ms));
        Ok(found.into_iter().collect())
    }
}

impl Victim {
    /// Starts a worker and waits until it holds an item.
    fn start(socket: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "worker"]).arg(socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut victim = Self(command.spawn().context("cannot start a worker")?);
        let output = victim.0.stdout.take().context("the worker has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim_end() == HELD, "the worker holds nothing");
        Ok(victim)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // The first fails where it was killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The worker.
pub(crate) fn work(worker: &Worker) -> anyhow::Result<()> {
    let mut client = client(&worker.socket, "bench.victim")?;
    let mut queues = Queues::open(&mut client)?;
    let held = take_one(&mut queues)?;
    let mut output = std::io::stdout();
    writeln!(output, "{HELD}")?;
    output.flush()?;
    // Should nobody kill it, it ends with whoever started it.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}

fn take_one(queues: &mut Queues) -> anyhow::Result<Delivery> {
    let take = queues.take(QUEUE, 1, HOUR_NS, deadline())?;
    match queues.next(take, deadline())? {
        Taken::Item(delivery) => Ok(delivery),
        Taken::End { end, .. } => bail!("no item came: {end:?}"),
    }
}
