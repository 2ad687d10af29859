//! `bolide bench bus`: latency and throughput of the bus between two processes, beside the least that two cores can do.
//!
//! A second process is started from this same program and answers every message; half of a round trip is one way. Both sides
//! touch the whole payload. Both spin without end, so a thread beside each watches the socket and ends a process whose
//! partner is gone. The floor (one cache line there and back, nothing else) and every class are measured in
//! turn in the same run, several rounds, and the median round counts: machines drift, ratios less so.
//!
//! Not here: throughput (`throughput`), which follows on the same two processes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use hw::affinity;
use hw::root::Root;
use ipc::floor::FloorLine;
use ipc::header::AgentId;
use ipc::lane::{LaneOptions, Receiver, Sender, WhenFull};
use ipc::ring::{Meta, Timing};
use ipc::segment::ControlWriter;
use ipc::socket::Connection;
use ipc::wait::Spin;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

mod batch;
pub(crate) mod classes;
mod routed;
mod throughput;

use super::median;
use throughput::Lanes;

pub(crate) mod log;

#[cfg_attr(not(test), allow(dead_code, reason = "for `run` to call with `--peers`"))]
pub(crate) mod peers;

/// `bolide bench bus`
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Messages in each round of each measurement
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Rounds; the median one counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Measure large payloads too; takes 1.2 GB of memory
    #[arg(long)]
    batch: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `bolide bench peer`, the second process: answers on the socket that is its standard input.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Peer {
    messages: u64,
    rounds: usize,
    cpu: Option<usize>,
}

/// Said when every answer has arrived.
const DONE: &[u8] = b"done";
/// Bytes of payload in a message of one line.
const PAYLOAD_BYTES: usize = 48;
/// Messages before the first round that are not counted: caches, branch predictors, frequency.
const WARM_UP_MESSAGES: u64 = 20_000;
/// Slots of each lane, the default of the bus.
const SLOTS: usize = 1024;
/// Bytes of each lane's region; the measured messages do not use it.
const REGION_BYTES: usize = 256 * 1024;

/// What is measured, in this order in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Floor,
    OneLine,
    TwoLines,
}

const MEASURES: [Measure; 3] = [Measure::Floor, Measure::OneLine, Measure::TwoLines];

/// The second process; killed where the first one gives up.
struct PeerProcess(Child);

/// Watches for the partner's end until it is expected.
struct Watch {
    is_over: Arc<AtomicBool>,
}

/// One side's ends of everything.
struct Ends {
    /// Written by this side.
    own: FloorLine,
    /// Written by the other.
    other: FloorLine,
    /// The last value that both lines had: one pair of lines serves all rounds.
    floor: u64,
    sender: Sender,
    receiver: Receiver,
}

/// Percentiles of one round, one way, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Percentiles {
    p50: f64,
    p99: f64,
    p999: f64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    // First, while this thread may still use every processor.
    let batch = arguments.batch.then(batch::run).transpose()?;
    let allowed: Vec<usize> = affinity::allowed(&Root::machine()).iter().collect();
    let cpus = (allowed.len() > 1).then(|| (allowed[0], allowed[allowed.len() - 1]));
    // First of all: what is started after this thread was pinned is pinned with it.
    let routed = routed::run(arguments.messages * 10, arguments.rounds, cpus.map(|cpus| cpus.0))?;
    let (ours, theirs) = Connection::pair()?;
    let second = theirs.as_fd().try_clone_to_owned()?;
    let mut peer = PeerProcess(start_peer(arguments, second, cpus.map(|cpus| cpus.1))?);
    // Ours must go, or the end of the second process would not be seen.
    drop(theirs);
    let watch = Watch::start(&ours)?;
    let control = ControlWriter::create()?;
    let mut ends = Ends::offer(&ours, &control)?;
    if let Some((cpu, _)) = cpus {
        ensure!(affinity::pin_polling_thread(cpu), "cannot pin to CPU {cpu}");
    }
    let mut rounds: Vec<Vec<Percentiles>> = vec![Vec::new(); MEASURES.len()];
    for round in 0..=arguments.rounds.max(1) {
        let messages = if round == 0 { WARM_UP_MESSAGES } else { arguments.messages };
        for (measure, rounds) in MEASURES.iter().zip(&mut rounds) {
            let found = ends.ask(*measure, messages)?;
            if round > 0 {
                rounds.push(found);
            }
        }
    }
    let throughput = match cpus {
        Some(_) => Lanes::offer(&ours, &control)?.measure(&ours, arguments.rounds.max(1))?,
        None => json!({"lane_per_s": null, "why": "needs two processors"}),
    };
    watch.expect_the_end();
    ours.send(DONE, &[])?;
    // The socket stays open until then, or the second process would take this one for dead.
    let status = peer.0.wait()?;
    drop(ours);
    ensure!(status.success(), "the second process failed: {status}");
    let mut report = report(&rounds, cpus, arguments);
    report["throughput"] = throughput;
    report["throughput"]["routed_per_s"] = routed;
    if let Some(batch) = batch {
        report["batch"] = batch;
    }
    Ok(report)
}

fn start_peer(arguments: &Arguments, socket: OwnedFd, cpu: Option<usize>) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "peer"]);
    command.args([arguments.messages.to_string(), arguments.rounds.max(1).to_string()]);
    command.args(cpu.map(|cpu| cpu.to_string()));
    command.stdin(Stdio::from(socket)).spawn().context("cannot start the second process")
}

/// The second process.
pub(crate) fn answer(peer: &Peer) -> anyhow::Result<()> {
    let socket = Connection::from(io::stdin().as_fd().try_clone_to_owned()?);
    let watch = Watch::start(&socket)?;
    let mut ends = Ends::take(&socket)?;
    if let Some(cpu) = peer.cpu {
        ensure!(affinity::pin_polling_thread(cpu), "cannot pin to CPU {cpu}");
    }
    for round in 0..=peer.rounds {
        let messages = if round == 0 { WARM_UP_MESSAGES } else { peer.messages };
        for measure in MEASURES {
            ends.answer(measure, messages)?;
        }
    }
    if peer.cpu.is_some() {
        Lanes::take(&socket)?.answer(&socket, peer.rounds)?;
    }
    // Whoever left before the other side has all its answers would look dead.
    ensure!(socket.receive()?.bytes == DONE, "the first process did not say that it is done");
    watch.expect_the_end();
    Ok(())
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        // Both fail where it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Watch {
    /// Ends this process when the other side hangs up before [`Watch::expect_the_end`].
    fn start(socket: &Connection) -> anyhow::Result<Self> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        std::thread::Builder::new().name("partner".to_owned()).spawn(move || {
            let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
            while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
            if !seen.load(Ordering::Acquire) {
                eprintln!("bolide: the other process of the benchmark ended early");
                std::process::exit(1);
            }
        })?;
        Ok(Self { is_over })
    }

    fn expect_the_end(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

impl Ends {
    /// Makes this side's segments, hands them over, and takes the other side's.
    fn offer(socket: &Connection, control: &ControlWriter) -> anyhow::Result<Self> {
        let (own, other) = (FloorLine::create()?, FloorLine::create()?);
        let mut sender = Sender::for_link(options())?;
        let cursor = Receiver::new_cursor(Spin::Forever)?;
        let given = [
            own.as_fd(),
            other.as_fd(),
            sender.slots_fd(),
            sender.region_fd(),
            cursor.as_fd(),
            control.as_fd(),
        ];
        socket.send(b"offer", &given)?;
        let taken: [OwnedFd; 3] = exactly(socket.receive()?.descriptors)?;
        let [slots, region, their_cursor] = taken;
        let page = control.as_fd().try_clone_to_owned()?;
        sender.set_control(page.try_clone()?)?;
        sender.set_spin(Spin::Forever);
        sender.attach(AgentId(1), their_cursor, None)?;
        let receiver = Receiver::for_link(AgentId(1), slots, region, page, cursor)?;
        Ok(Self { own, other, floor: 0, sender, receiver })
    }

    /// The other side of [`Ends::offer`].
    fn take(socket: &Connection) -> anyhow::Result<Self> {
        let taken: [OwnedFd; 6] = exactly(socket.receive()?.descriptors)?;
        let [other, own, slots, region, their_cursor, page] = taken;
        let mut sender = Sender::for_link(options())?;
        let cursor = Receiver::new_cursor(Spin::Forever)?;
        socket.send(b"taken", &[sender.slots_fd(), sender.region_fd(), cursor.as_fd()])?;
        sender.set_control(page.try_clone()?)?;
        sender.set_spin(Spin::Forever);
        sender.attach(AgentId(2), their_cursor, None)?;
        let receiver = Receiver::for_link(AgentId(2), slots, region, page, cursor)?;
        let (own, other) = (FloorLine::open(own)?, FloorLine::open(other)?);
        Ok(Self { own, other, floor: 0, sender, receiver })
    }

    /// Sends messages and waits for the answer of each; one way is half of the time.
    fn ask(&mut self, measure: Measure, messages: u64) -> anyhow::Result<Percentiles> {
        let mut times = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3)?;
        let mut payload = [0; PAYLOAD_BYTES];
        for number in 0..messages {
            let began = Instant::now();
            if measure == Measure::Floor {
                self.floor += 1;
                self.own.store(self.floor);
                self.other.wait_for(self.floor);
            } else {
                payload.fill(number as u8);
                send(&mut self.sender, measure, &payload)?;
                let answer = self.receiver.receive(None)?;
                ensure!(answer.payload == payload, "message {number} came back changed");
            }
            times.saturating_record(began.elapsed().as_nanos() as u64);
        }
        let one_way = |quantile| times.value_at_quantile(quantile) as f64 / 2.0;
        Ok(Percentiles { p50: one_way(0.5), p99: one_way(0.99), p999: one_way(0.999) })
    }

    fn answer(&mut self, measure: Measure, messages: u64) -> anyhow::Result<()> {
        let mut payload = [0; PAYLOAD_BYTES];
        for _ in 0..messages {
            if measure == Measure::Floor {
                self.floor += 1;
                self.other.wait_for(self.floor);
                self.own.store(self.floor);
            } else {
                payload.copy_from_slice(self.receiver.receive(None)?.payload);
                send(&mut self.sender, measure, &payload)?;
            }
        }
        Ok(())
    }
}

fn options() -> LaneOptions {
    LaneOptions { slots: SLOTS, region_bytes: REGION_BYTES }
}

fn send(sender: &mut Sender, measure: Measure, payload: &[u8]) -> anyhow::Result<()> {
    match measure {
        Measure::TwoLines => {
            sender.send_timed(Meta::default(), payload, Timing::default(), WhenFull::Reject)?;
        }
        _ => sender.send(Meta::default(), payload, WhenFull::Reject)?,
    }
    Ok(())
}

fn exactly<const COUNT: usize>(descriptors: Vec<OwnedFd>) -> anyhow::Result<[OwnedFd; COUNT]> {
    let got = descriptors.len();
    descriptors.try_into().map_err(|_| anyhow::anyhow!("expected {COUNT} descriptors, got {got}"))
}

fn report(
    rounds: &[Vec<Percentiles>],
    cpus: Option<(usize, usize)>,
    arguments: &Arguments,
) -> Value {
    let of = |measure: Measure, value: fn(&Percentiles) -> f64| {
        median(rounds[measure as usize].iter().map(value).collect())
    };
    let floor = of(Measure::Floor, |p| p.p50);
    let class = |measure| {
        json!({
            "p50_ns": of(measure, |p| p.p50),
            "p99_ns": of(measure, |p| p.p99),
            "p999_ns": of(measure, |p| p.p999),
            "mechanism": "stamped slots in shared memory",
            "limit_p50_ns": floor,
        })
    };
    let absent = |why: &str| json!({"p50_ns": null, "why": why});
    let later = "not part of this version";
    json!({
        "schema": "bolide.bench.bus/1",
        "cpus": cpus.map(|(first, second)| [first, second]),
        "messages": arguments.messages,
        "rounds": arguments.rounds.max(1),
        "payload_bytes": PAYLOAD_BYTES,
        "floor": {"p50_ns": floor, "p99_ns": of(Measure::Floor, |p| p.p99)},
        "classes": {
            "critical": class(Measure::OneLine),
            "critical_two_lines": class(Measure::TwoLines),
            "high": absent(later),
            "normal": absent(later),
            "low": absent(later),
        },
    })
}

/// The report for people.
pub(crate) fn text(report: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let floor = number(&report["floor"]["p50_ns"]);
    let mut text = format!(
        "one way between two processes, {} B, median of {} rounds, CPUs {}\n{:<20} {:>8} {:>8} {:>8} {:>8}\n",
        report["payload_bytes"],
        report["rounds"],
        report["cpus"],
        "",
        "p50 ns",
        "p99 ns",
        "p99.9",
        "x floor"
    );
    text += &format!("{:<20} {floor:>8.0} {:>8.0}\n", "floor", number(&report["floor"]["p99_ns"]));
    for name in ["critical", "critical_two_lines"] {
        let class = &report["classes"][name];
        let (p50, p99, p999) =
            (number(&class["p50_ns"]), number(&class["p99_ns"]), number(&class["p999_ns"]));
        text += &format!("{name:<20} {p50:>8.0} {p99:>8.0} {p999:>8.0} {:>8.2}\n", p50 / floor);
    }
    text += &throughput::text(&report["throughput"]);
    let batch = &report["batch"];
    if batch.is_object() {
        let ns = |name: &str| number(&batch[name]);
        text += &format!(
            "batch, lent: {:.0} ns for 1 KiB, {:.0} ns for 1 GiB; frozen: {:.0} ns per MiB\n",
            ns("lent_1kib_ns"),
            ns("lent_1gib_ns"),
            ns("frozen_ns_per_mib")
        );
    }
    text
}
