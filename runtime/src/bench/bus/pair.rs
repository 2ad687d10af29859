//! Two processes, each pinned to its processor: latency of CRITICAL, HIGH and NORMAL, and throughput of a lane.
//!
//! The second process is started from this same program and does what the first one tells it over a socket: an order before
//! each measurement, so that it sleeps while anything else is measured. Both sides touch the whole payload. Both spin
//! without end while they measure, so a thread beside each watches the socket for the partner's end.
//! The first side is a thread of its own, which is pinned; it lives as long as the part.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use hw::affinity;
use ipc::segment::ControlWriter;
use ipc::socket::Connection;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::super::figures::{Figure, at, write_absent};
use super::{Context, Part, classes, latency, throughput};

/// `bolide bench peer`, the second process: answers on the socket that is its standard input.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Peer {
    cpu: Option<usize>,
}

/// What the report has of this part.
pub(super) const FIELDS: &[&str] = &[
    "floor.p50_ns",
    "floor.p99_ns",
    "classes.critical.p50_ns",
    "classes.critical.p99_ns",
    "classes.critical.p999_ns",
    "classes.critical_two_lines.p50_ns",
    "classes.critical_two_lines.p99_ns",
    "classes.critical_two_lines.p999_ns",
    "classes.high.p50_ns",
    "classes.high.p99_ns",
    "classes.high.p999_ns",
    "classes.normal.p50_ns",
    "classes.normal.p99_ns",
    "classes.normal.p999_ns",
    "throughput.bare_per_s",
    "throughput.bare_batched_per_s",
    "throughput.lane_per_s",
    "throughput.lane_batched_per_s",
    "throughput.bare_1024_per_s",
    "throughput.bare_1024_batched_per_s",
    "throughput.lane_1024_per_s",
    "throughput.lane_1024_batched_per_s",
];

/// What the first process tells the second one to take part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    part: u8,
    measure: u8,
    messages: u64,
}

const LATENCY: u8 = 1;
const CLASSES: u8 = 2;
const THROUGHPUT: u8 = 3;
/// Instead of an order: all was measured.
const DONE: &[u8] = b"done";
/// The second process takes part from now on.
const READY: &[u8] = b"ready";

/// Percentiles of one round, one way, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    p99: f64,
    p999: f64,
}

/// The part.
pub(super) struct Pair {
    /// Dropped to end it.
    orders: Option<SyncSender<u64>>,
    answers: Receiver<anyhow::Result<Vec<Figure>>>,
    cpus: Option<(usize, usize)>,
    /// Why there is no HIGH.
    no_high: Option<String>,
    thread: Option<JoinHandle<()>>,
    /// Then the first side may spin for ever.
    has_failed: bool,
}

/// One side's ends of everything.
struct Ends {
    latency: latency::Ends,
    classes: classes::Ends,
    lanes: throughput::Lanes,
}

/// The second process; killed where the first one gives up.
struct PeerProcess(Child);

/// Watches for the partner's end until it is expected.
struct Watch {
    is_over: Arc<AtomicBool>,
}

impl Pair {
    pub(super) fn start(context: &Context) -> anyhow::Result<Self> {
        let (give_orders, orders) = sync_channel(1);
        // Room for a round, for the watch's word, and for the last one.
        let (give_answers, answers) = sync_channel(3);
        let (tell, told) = sync_channel(1);
        let cpus = context.cpus;
        let builder = std::thread::Builder::new().name("first side".to_owned());
        let thread = builder.spawn(move || {
            let first = First::start(cpus, &give_answers);
            let first = match first {
                Ok(first) => first,
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            // Whoever started this is there until it heard.
            let _ = tell.send(Ok(first.ends.classes.why_no_high()));
            let ended = first.serve(&orders, &give_answers);
            if let Err(error) = ended {
                let _ = give_answers.send(Err(error));
            }
        })?;
        let no_high = told.recv().context("the first side panicked")??;
        let (orders, thread) = (Some(give_orders), Some(thread));
        Ok(Self { orders, answers, cpus, no_high, thread, has_failed: false })
    }
}

impl Part for Pair {
    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>> {
        let orders = self.orders.as_ref().context("it has ended")?;
        orders.send(messages).context("the first side has ended")?;
        let answer = self.answers.recv().context("the first side panicked").and_then(|round| round);
        self.has_failed |= answer.is_err();
        answer
    }

    fn describe(&self, report: &mut Value) {
        let floor = at(report, "floor")["p50_ns"].clone();
        let bare = at(report, "classes.critical_two_lines.bare")["p50_ns"].clone();
        for (class, limit) in [("critical", floor), ("critical_two_lines", bare)] {
            let class = at(report, &format!("classes.{class}"));
            class["mechanism"] = json!("stamped slots in shared memory");
            class["limit_p50_ns"] = limit;
        }
        classes::describe(report);
        if let Some(why) = &self.no_high {
            let paths = ["classes.high.p50_ns", "classes.high.p99_ns", "classes.high.p999_ns"];
            write_absent(report, &paths, why);
        }
        report["payload_bytes"] = json!(latency::PAYLOAD_BYTES);
        throughput::describe(at(report, "throughput"));
        if self.cpus.is_none() {
            write_absent(report, FIELDS, "needs two processors");
        }
    }
}

impl Drop for Pair {
    /// The second process is told that all was measured before this one can end.
    fn drop(&mut self) {
        self.orders = None;
        if !self.has_failed
            && let Some(thread) = self.thread.take()
        {
            // One that panicked has nobody to tell.
            let _ = thread.join();
        }
    }
}

/// The first side, on its thread.
struct First {
    socket: Connection,
    peer: PeerProcess,
    watch: Watch,
    ends: Ends,
    /// With a second processor only.
    measures_throughput: bool,
    _control: ControlWriter,
}

impl First {
    fn start(
        cpus: Option<(usize, usize)>,
        answers: &SyncSender<anyhow::Result<Vec<Figure>>>,
    ) -> anyhow::Result<Self> {
        let (socket, theirs) = Connection::pair()?;
        let second = theirs.as_fd().try_clone_to_owned()?;
        let peer = PeerProcess(start_peer(second, cpus.map(|cpus| cpus.1))?);
        // Ours must go, or the end of the second process would not be seen.
        drop(theirs);
        let answers = answers.clone();
        let watch = Watch::start(&socket, move || {
            // This side may spin for ever now; it is left behind.
            let _ = answers.send(Err(anyhow::anyhow!("the second process ended early")));
        })?;
        let control = ControlWriter::create()?;
        let pid = i32::try_from(peer.0.id()).ok().and_then(Pid::from_raw);
        let process = pidfd_open(pid.context("no process id")?, PidfdFlags::empty())?;
        let ends = Ends {
            latency: latency::Ends::offer(&socket, &control)?,
            classes: classes::Ends::offer(&socket, &control, process.as_fd())?,
            lanes: throughput::Lanes::offer(&socket, &control)?,
        };
        pin(cpus.map(|cpus| cpus.0))?;
        let measures_throughput = cpus.is_some();
        Ok(Self { socket, peer, watch, ends, measures_throughput, _control: control })
    }

    /// Measures rounds until nobody wants more.
    fn serve(
        mut self,
        orders: &Receiver<u64>,
        answers: &SyncSender<anyhow::Result<Vec<Figure>>>,
    ) -> anyhow::Result<()> {
        while let Ok(messages) = orders.recv() {
            let round = self.round(messages)?;
            if answers.send(Ok(round)).is_err() {
                break;
            }
        }
        self.watch.expect_the_end();
        self.socket.send(DONE, &[])?;
        // The socket stays open until then, or the second process would take this one for dead.
        let status = self.peer.0.wait()?;
        ensure!(status.success(), "the second process failed: {status}");
        Ok(())
    }

    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>> {
        let socket = &self.socket;
        let mut found = Vec::new();
        let mut floor_ns = f64::NAN;
        for (index, measure) in latency::MEASURES.into_iter().enumerate() {
            order(socket, Order { part: LATENCY, measure: index as u8, messages })?;
            let percentiles = self.ends.latency.ask(measure, messages)?;
            if measure == latency::Measure::Floor {
                floor_ns = percentiles.p50;
            }
            percentiles.write(measure.path(), &mut found);
            found.push((format!("{}.floor_ratio", measure.path()), percentiles.p50 / floor_ns));
        }
        found.push(("clock_ns".to_owned(), latency::clock_ns()));
        for (index, measure) in classes::MEASURES.into_iter().enumerate() {
            let messages = measure.messages(messages);
            order(socket, Order { part: CLASSES, measure: index as u8, messages })?;
            if let Some(percentiles) = self.ends.classes.ask(measure, messages)? {
                measure.write(&percentiles, &mut found);
            }
        }
        if self.measures_throughput {
            for (index, measure) in throughput::MEASURES.into_iter().enumerate() {
                let messages = throughput::messages(messages);
                order(socket, Order { part: THROUGHPUT, measure: index as u8, messages })?;
                let rate = self.ends.lanes.rate(socket, measure, messages)?;
                found.push((measure.path().to_owned(), rate));
            }
        }
        Ok(found)
    }
}

/// The second process.
pub(crate) fn answer(peer: &Peer) -> anyhow::Result<()> {
    let socket = Connection::from(io::stdin().as_fd().try_clone_to_owned()?);
    let watch = Watch::start(&socket, || {
        eprintln!("bolide: the other process of the benchmark ended early");
        std::process::exit(1);
    })?;
    // The pair of sockets was made by the first process.
    let process = socket.peer_process()?;
    let mut latency = latency::Ends::take(&socket)?;
    let mut classes = classes::Ends::take(&socket, process.as_fd())?;
    let mut lanes = throughput::Lanes::take(&socket)?;
    pin(peer.cpu)?;
    loop {
        let bytes = socket.receive()?.bytes;
        if bytes == DONE {
            watch.expect_the_end();
            return Ok(());
        }
        let Order { part, measure, messages } = Order::decode(&bytes).context("no order")?;
        let index = usize::from(measure);
        if part == CLASSES {
            classes.prepare(*at_index(&classes::MEASURES, index)?);
        }
        socket.send(READY, &[])?;
        match part {
            LATENCY => latency.answer(*at_index(&latency::MEASURES, index)?, messages)?,
            CLASSES => classes.answer(*at_index(&classes::MEASURES, index)?, messages)?,
            THROUGHPUT => {
                lanes.answer(&socket, *at_index(&throughput::MEASURES, index)?, messages)?;
            }
            other => bail!("there is no part {other}"),
        }
    }
}

fn at_index<T>(values: &[T], index: usize) -> anyhow::Result<&T> {
    values.get(index).context("no such measure")
}

/// Tells the second process what comes, and waits until it takes part.
fn order(socket: &Connection, order: Order) -> anyhow::Result<()> {
    socket.send(&order.encode(), &[])?;
    ensure!(socket.receive()?.bytes == READY, "the second process is out of step");
    Ok(())
}

fn start_peer(socket: OwnedFd, cpu: Option<usize>) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "peer"]).args(cpu.map(|cpu| cpu.to_string()));
    command.stdin(Stdio::from(socket)).spawn().context("cannot start the second process")
}

fn pin(cpu: Option<usize>) -> anyhow::Result<()> {
    if let Some(cpu) = cpu {
        ensure!(affinity::pin_polling_thread(cpu), "cannot pin to CPU {cpu}");
    }
    Ok(())
}

pub(super) fn exactly<const COUNT: usize>(
    descriptors: Vec<OwnedFd>,
) -> anyhow::Result<[OwnedFd; COUNT]> {
    let got = descriptors.len();
    descriptors.try_into().map_err(|_| anyhow::anyhow!("expected {COUNT} descriptors, got {got}"))
}

impl Order {
    fn encode(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        (bytes[0], bytes[1]) = (self.part, self.measure);
        bytes[2..].copy_from_slice(&self.messages.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[part, measure], rest) = bytes.split_first_chunk::<2>()?;
        let messages = u64::from_le_bytes(rest.try_into().ok()?);
        Some(Self { part, measure, messages })
    }
}

impl Percentiles {
    /// Half of the times of round trips.
    pub(super) fn one_way(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 2.0;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }

    /// Whole round trips.
    pub(super) fn there_and_back(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile) as f64;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }

    /// Adds them as figures of the object at `path`.
    pub(super) fn write(&self, path: &str, found: &mut Vec<Figure>) {
        self.write_with(path, '.', found);
    }

    /// Adds them as figures whose names begin with `path`.
    pub(super) fn write_flat(&self, path: &str, found: &mut Vec<Figure>) {
        self.write_with(path, '_', found);
    }

    fn write_with(&self, path: &str, between: char, found: &mut Vec<Figure>) {
        for (name, value) in [("p50", self.p50), ("p99", self.p99), ("p999", self.p999)] {
            found.push((format!("{path}{between}{name}_ns"), value));
        }
    }
}

/// A histogram of times in nanoseconds.
pub(super) fn times() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 10_000_000_000, 3)?)
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        // Both fail where it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watch {
    /// Calls `ended` when the other side hangs up before [`Watch::expect_the_end`].
    fn start(socket: &Connection, ended: impl FnOnce() + Send + 'static) -> anyhow::Result<Self> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        std::thread::Builder::new().name("partner".to_owned()).spawn(move || {
            let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
            while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
            if !seen.load(Ordering::Acquire) {
                ended();
            }
        })?;
        Ok(Self { is_over })
    }

    fn expect_the_end(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let order = Order { part: CLASSES, measure: 7, messages: 200_000 };
        assert_eq!(Order::decode(&order.encode()), Some(order));
        assert_eq!(Order::decode(DONE), None);
    }
}
