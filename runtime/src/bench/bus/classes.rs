//! `bolide bench classes`: HIGH and NORMAL between two processes, each beside a bare loop over the same mechanism.
//!
//! As `bolide bench bus`: a second process of this program, both pinned, half of a round trip is one way, every measure in turn
//! in each of several rounds, and the median round counts. Polled: both spin and never sleep. Blocked: both sleep in the
//! kernel for each message. Not here: CRITICAL and its floor (`bus`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use hw::affinity;
use hw::root::Root;
use ipc::class::high::{self, Mailbox};
use ipc::class::{Class, ReceivingHalf, SendingHalf, normal};
use ipc::floor::FloorLine;
use ipc::header::AgentId;
use ipc::lane::{self, LaneOptions, WhenFull};
use ipc::ring::Meta;
use ipc::segment::ControlWriter;
use ipc::socket::Connection;
use ipc::uring::{Inbox, Outbox, RingNumber};
use ipc::wait::Spin;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::{PeerProcess, Percentiles, Watch, exactly};
use crate::bench::median;

/// `bolide bench classes`
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Messages in each round of each polled measurement; a tenth of them where both sleep
    #[arg(long, default_value_t = 50_000)]
    messages: u64,
    /// Rounds; the median one counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `bolide bench class-peer`, the second process: answers on the socket that is its standard input.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Peer {
    messages: u64,
    rounds: usize,
    cpu: Option<usize>,
}

const DONE: &[u8] = b"done";
const YES: &[u8] = b"yes";
/// Before the reason of a side that cannot have the class.
const NO: &[u8] = b"no ";
const PAYLOAD_BYTES: usize = 48;
/// Of the bare loop over the socket: as many as a packet of NORMAL with this payload.
const PACKET_BYTES: usize = 64;
/// Messages of each measure before the first round that are not counted.
const WARM_UP_MESSAGES: u64 = 5_000;
/// A message for which both sleep takes at least ten times as long.
const BLOCKED_DIVISOR: u64 = 10;

/// What is measured: a class or the bare loop over its mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measure {
    class: Class,
    is_bare: bool,
    is_blocked: bool,
}

/// In this order in every round, each beside its limit.
const MEASURES: [Measure; 8] = {
    const fn measure(class: Class, is_bare: bool, is_blocked: bool) -> Measure {
        Measure { class, is_bare, is_blocked }
    }
    [
        measure(Class::High, true, false),
        measure(Class::High, false, false),
        measure(Class::Normal, true, false),
        measure(Class::Normal, false, false),
        measure(Class::High, true, true),
        measure(Class::High, false, true),
        measure(Class::Normal, true, true),
        measure(Class::Normal, false, true),
    ]
};

/// One side's ends of everything.
struct Ends {
    bare: OwnedFd,
    normal: (normal::Sender, normal::Receiver),
    /// Or why this machine has none.
    high: Result<High, String>,
}

struct High {
    own: FloorLine,
    other: FloorLine,
    inbox: Inbox,
    outbox: Outbox,
    sender: high::Sender,
    receiver: high::Receiver,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let allowed: Vec<usize> = affinity::allowed(&Root::machine()).iter().collect();
    let cpus = (allowed.len() > 1).then(|| (allowed[0], allowed[allowed.len() - 1]));
    let (ours, theirs) = Connection::pair()?;
    let second = theirs.as_fd().try_clone_to_owned()?;
    let mut peer = start_peer(arguments, second, cpus.map(|cpus| cpus.1))?;
    // Ours must go, or the end of the second process would not be seen.
    drop(theirs);
    let watch = Watch::start(&ours)?;
    let control = ControlWriter::create()?;
    let pid = i32::try_from(peer.0.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut ends = Ends::offer(&ours, &control, process.as_fd())?;
    pin(cpus.map(|cpus| cpus.0))?;
    let mut rounds: Vec<Vec<Percentiles>> = vec![Vec::new(); MEASURES.len()];
    for round in 0..=arguments.rounds.max(1) {
        for (measure, rounds) in MEASURES.iter().zip(&mut rounds) {
            let found = ends.ask(*measure, messages(*measure, round, arguments.messages))?;
            if round > 0 {
                rounds.extend(found);
            }
        }
    }
    watch.expect_the_end();
    ours.send(DONE, &[])?;
    let status = peer.0.wait()?;
    ensure!(status.success(), "the second process failed: {status}");
    Ok(report(&rounds, &ends, cpus, arguments))
}

fn start_peer(
    arguments: &Arguments,
    socket: OwnedFd,
    cpu: Option<usize>,
) -> anyhow::Result<PeerProcess> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "class-peer"]);
    command.args([arguments.messages.to_string(), arguments.rounds.max(1).to_string()]);
    command.args(cpu.map(|cpu| cpu.to_string()));
    let child = command.stdin(Stdio::from(socket)).spawn();
    Ok(PeerProcess(child.context("cannot start the second process")?))
}

/// The second process.
pub(crate) fn answer(peer: &Peer) -> anyhow::Result<()> {
    let socket = Connection::from(io::stdin().as_fd().try_clone_to_owned()?);
    let watch = Watch::start(&socket)?;
    // The pair of sockets was made by the first process.
    let process = socket.peer_process()?;
    let mut ends = Ends::take(&socket, process.as_fd())?;
    pin(peer.cpu)?;
    for round in 0..=peer.rounds {
        for measure in MEASURES {
            ends.answer(measure, messages(measure, round, peer.messages))?;
        }
    }
    ensure!(socket.receive()?.bytes == DONE, "the first process did not say that it is done");
    watch.expect_the_end();
    Ok(())
}

fn pin(cpu: Option<usize>) -> anyhow::Result<()> {
    if let Some(cpu) = cpu {
        ensure!(affinity::pin_polling_thread(cpu), "cannot pin to CPU {cpu}");
    }
    Ok(())
}

fn messages(measure: Measure, round: usize, messages: u64) -> u64 {
    let messages = if round == 0 { WARM_UP_MESSAGES } else { messages };
    if measure.is_blocked { messages.div_ceil(BLOCKED_DIVISOR) } else { messages }
}

impl Ends {
    fn offer(
        socket: &Connection,
        control: &ControlWriter,
        process: BorrowedFd<'_>,
    ) -> anyhow::Result<Self> {
        let (own, other) = (FloorLine::create()?, FloorLine::create()?);
        let ((bare, their_bare), (normal, their_normal)) = (normal::pair()?, normal::pair()?);
        let given = [&their_bare, &their_normal].map(AsFd::as_fd);
        let given = [given[0], given[1], own.as_fd(), other.as_fd(), control.as_fd()];
        socket.send(b"offer", &given)?;
        let page = control.as_fd().try_clone_to_owned()?;
        let high = High::agree(socket, process, page, (own, other))?;
        Ok(Self { bare, normal: halves(normal)?, high })
    }

    /// The other side of [`Ends::offer`].
    fn take(socket: &Connection, process: BorrowedFd<'_>) -> anyhow::Result<Self> {
        let taken: [OwnedFd; 5] = exactly(socket.receive()?.descriptors)?;
        let [bare, normal, other, own, page] = taken;
        let lines = (FloorLine::open(own)?, FloorLine::open(other)?);
        let high = High::agree(socket, process, page, lines)?;
        Ok(Self { bare, normal: halves(normal)?, high })
    }

    /// Sends messages and waits for the answer of each; one way is half of the time. Nothing where there is no such class.
    fn ask(&mut self, measure: Measure, messages: u64) -> anyhow::Result<Option<Percentiles>> {
        if !self.prepare(measure) {
            return Ok(None);
        }
        let mut times = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3)?;
        for number in 0..messages {
            let began = Instant::now();
            self.send(measure, number as u8)?;
            ensure!(self.receive(measure)? == number as u8, "message {number} came back changed");
            times.saturating_record(began.elapsed().as_nanos() as u64);
        }
        let one_way = |quantile| times.value_at_quantile(quantile) as f64 / 2.0;
        Ok(Some(Percentiles { p50: one_way(0.5), p99: one_way(0.99), p999: one_way(0.999) }))
    }

    fn answer(&mut self, measure: Measure, messages: u64) -> anyhow::Result<()> {
        if self.prepare(measure) {
            for _ in 0..messages {
                let byte = self.receive(measure)?;
                self.send(measure, byte)?;
            }
        }
        Ok(())
    }

    /// Whether there is such a class; its halves wait as the measure says.
    fn prepare(&mut self, measure: Measure) -> bool {
        let spin = if measure.is_blocked { Spin::None } else { Spin::Forever };
        self.normal.1.set_spin(spin);
        if let Ok(high) = &mut self.high {
            high.receiver.set_spin(spin);
        }
        measure.class != Class::High || self.high.is_ok()
    }

    fn send(&mut self, measure: Measure, byte: u8) -> anyhow::Result<()> {
        let payload = [byte; PAYLOAD_BYTES];
        match (measure.class, measure.is_bare, &mut self.high) {
            (Class::Normal, true, _) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&self.bare, &[byte; PACKET_BYTES], flags)?;
            }
            (Class::Normal, false, _) => {
                self.normal.0.send(Meta::default(), &payload, WhenFull::Reject)?;
            }
            (Class::High, true, Ok(high)) => {
                high.own.store(byte.into());
                high.outbox.signal();
            }
            (Class::High, false, Ok(high)) => {
                high.sender.send(Meta::default(), &payload, WhenFull::Reject)?;
            }
            _ => bail!("no such measure"),
        }
        Ok(())
    }

    /// The whole payload is looked at; all its bytes are alike.
    fn receive(&mut self, measure: Measure) -> anyhow::Result<u8> {
        match (measure.class, measure.is_bare, &mut self.high) {
            (Class::Normal, true, _) => receive_bare(&self.bare, measure.is_blocked),
            (Class::Normal, false, _) => alike(self.normal.1.receive(None)?.payload),
            (Class::High, true, Ok(high)) => {
                while !high.inbox.take() {
                    if measure.is_blocked {
                        high.inbox.wait();
                    } else {
                        std::hint::spin_loop();
                    }
                }
                Ok(high.other.load() as u8)
            }
            (Class::High, false, Ok(high)) => alike(high.receiver.receive(None)?.payload),
            _ => bail!("no such measure"),
        }
    }
}

impl High {
    /// Makes this side's rings and lane and connects them with the other side's, which does the same at the same time. The
    /// inner error is what the class lacks here or there.
    fn agree(
        socket: &Connection,
        process: BorrowedFd<'_>,
        page: OwnedFd,
        (own, other): (FloorLine, FloorLine),
    ) -> anyhow::Result<Result<Self, String>> {
        let made = Inbox::new()
            .map_err(|why| why.to_string())
            .and_then(|inbox| Ok((inbox, Mailbox::new().map_err(|why| why.to_string())?)));
        let mut lane = lane::Sender::for_link(LaneOptions::default())?;
        lane.set_control(page.try_clone()?)?;
        lane.set_spin(Spin::Forever);
        let (inbox, mailbox) = match made {
            Ok(made) => made,
            Err(why) => {
                socket.send(&[NO, why.as_bytes()].concat(), &[])?;
                let _theirs = socket.receive()?;
                return Ok(Err(why));
            }
        };
        let numbers = [inbox.number().0, mailbox.number().0].map(u32::to_le_bytes);
        let given = [lane.slots_fd(), lane.region_fd(), mailbox.cursor_fd()];
        socket.send(numbers.as_flattened(), &given)?;
        let theirs = socket.receive()?;
        if let Some(why) = theirs.bytes.strip_prefix(NO) {
            return Ok(Err(String::from_utf8_lossy(why).into_owned()));
        }
        let [slots, region, cursor] = exactly(theirs.descriptors)?;
        let (numbers, _) = theirs.bytes.as_chunks::<4>();
        let &[bare, number] = numbers else { bail!("expected two numbers") };
        let [bare, number] = [bare, number].map(|bytes| RingNumber(u32::from_le_bytes(bytes)));
        let connected =
            Outbox::connect(process, bare).map_err(high::AttachError::from).and_then(|outbox| {
                Ok((outbox, high::Sender::new(lane, AgentId(1), cursor, process, number)?))
            });
        let (word, connected) = match connected {
            Ok(connected) => (YES.to_vec(), Ok(connected)),
            Err(why) => ([NO, why.to_string().as_bytes()].concat(), Err(why.to_string())),
        };
        socket.send(&word, &[])?;
        let theirs = socket.receive()?.bytes;
        let theirs = theirs.strip_prefix(NO).map(|why| String::from_utf8_lossy(why).into_owned());
        let (outbox, sender) = match (connected, theirs) {
            (Ok(connected), None) => connected,
            (Err(why), _) | (_, Some(why)) => return Ok(Err(why)),
        };
        let receiver = high::Receiver::new(AgentId(1), slots, region, page, mailbox)?;
        let mut high = Self { own, other, inbox, outbox, sender, receiver };
        // The other side tried the way with one message. It is taken before the first one that counts can come: the bare
        // loop knows messages by their completions alone.
        high.inbox.take();
        socket.send(YES, &[])?;
        ensure!(socket.receive()?.bytes == YES, "the other process is out of step");
        Ok(Ok(high))
    }
}

fn halves(socket: OwnedFd) -> anyhow::Result<(normal::Sender, normal::Receiver)> {
    let sender = normal::Sender::new(socket.try_clone()?)?;
    Ok((sender, normal::Receiver::new(AgentId(1), socket)?))
}

fn receive_bare(socket: &OwnedFd, is_blocked: bool) -> anyhow::Result<u8> {
    let flags = if is_blocked { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    let mut bytes = [0u8; PACKET_BYTES];
    loop {
        match rustix::net::recv(socket, &mut bytes, flags) {
            Ok(_) => return alike(&bytes),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn alike(payload: &[u8]) -> anyhow::Result<u8> {
    let first = *payload.first().context("an empty message")?;
    ensure!(payload.iter().all(|byte| *byte == first), "a torn message");
    Ok(first)
}

fn report(
    rounds: &[Vec<Percentiles>],
    ends: &Ends,
    cpus: Option<(usize, usize)>,
    arguments: &Arguments,
) -> Value {
    let of = |class, is_bare, is_blocked, value: fn(&Percentiles) -> f64| {
        let measure = Measure { class, is_bare, is_blocked };
        let index = MEASURES.iter().position(|known| *known == measure)?;
        median(rounds[index].iter().map(value).collect())
    };
    let figures = |class, mechanism: &str| {
        json!({
            "p50_ns": of(class, false, false, |p| p.p50),
            "p99_ns": of(class, false, false, |p| p.p99),
            "p999_ns": of(class, false, false, |p| p.p999),
            "mechanism": mechanism,
            "limit_p50_ns": of(class, true, false, |p| p.p50),
            "blocked": {
                "p50_ns": of(class, false, true, |p| p.p50),
                "p99_ns": of(class, false, true, |p| p.p99),
                "p999_ns": of(class, false, true, |p| p.p999),
                "limit_p50_ns": of(class, true, true, |p| p.p50),
            },
        })
    };
    let high = match &ends.high {
        Ok(_) => figures(Class::High, "io_uring message between rings, stamped slots"),
        Err(why) => json!({"p50_ns": null, "why": why, "next_down": Class::Normal.name()}),
    };
    json!({
        "schema": "bolide.bench.classes/1",
        "cpus": cpus.map(|(first, second)| [first, second]),
        "messages": arguments.messages,
        "rounds": arguments.rounds.max(1),
        "payload_bytes": PAYLOAD_BYTES,
        "classes": {
            "high": high,
            "normal": figures(Class::Normal, "SOCK_SEQPACKET pair of sockets"),
        },
    })
}

/// The report for people.
pub(crate) fn text(report: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let mut text = format!(
        "one way between two processes, {} B, median of {} rounds, CPUs {}\n{:<16} {:>8} {:>8} {:>8} {:>10} {:>8}\n",
        report["payload_bytes"],
        report["rounds"],
        report["cpus"],
        "",
        "p50 ns",
        "p99 ns",
        "p99.9",
        "bare p50",
        "x bare"
    );
    for class in [Class::High, Class::Normal] {
        let polled = &report["classes"][class.name()];
        if let Some(why) = polled["why"].as_str() {
            text += &format!("{class:<16} not here: {why}\n");
            continue;
        }
        for (name, figures) in [("polled", polled), ("blocked", &polled["blocked"])] {
            let (p50, limit) = (number(&figures["p50_ns"]), number(&figures["limit_p50_ns"]));
            let (p99, p999) = (number(&figures["p99_ns"]), number(&figures["p999_ns"]));
            let name = format!("{class} {name}");
            text += &format!(
                "{name:<16} {p50:>8.0} {p99:>8.0} {p999:>8.0} {limit:>10.0} {:>8.2}\n",
                p50 / limit
            );
        }
    }
    text
}
