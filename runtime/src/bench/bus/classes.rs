//! HIGH and NORMAL between two processes, each beside a bare loop over the same mechanism.
//!
//! Half of a round trip is one way. Polled: both spin and never sleep. Blocked: both sleep in the
//! kernel for each message. What a ring of io_uring costs depends on where the kernel's memory for it lies, up to a third and
//! for as long as the ring lives; so HIGH has several, one after the other, and its bare loop posts into the same ones, each from a
//! ring of its own. Not here: the two processes (`pair`), CRITICAL and its floor (`latency`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use ipc::class::high::{self, Mailbox};
use ipc::class::{Class, ReceivingHalf, SendingHalf, normal};
use ipc::floor::FloorLine;
use ipc::header::AgentId;
use ipc::lane::{self, LaneOptions, WhenFull};
use ipc::ring::Meta;
use ipc::segment::ControlWriter;
use ipc::socket::Connection;
use ipc::uring::{Outbox, RingNumber};
use ipc::wait::Spin;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde_json::{Value, json};

use super::super::figures::{Figure, at};
use super::pair::{Percentiles, exactly, times};
use super::places::{PLACES, apart, turn};

const YES: &[u8] = b"yes";
/// Before the reason of a side that cannot have the class.
const NO: &[u8] = b"no ";
const PAYLOAD_BYTES: usize = 48;
/// Of the bare loop over the socket: as many as a packet of NORMAL with this payload.
const PACKET_BYTES: usize = 64;
/// A message through the kernel takes five times as long as one that does not enter it.
const KERNEL_DIVISOR: u64 = 5;
/// A message for which both sleep takes at least ten times as long again.
const BLOCKED_DIVISOR: u64 = 50;

/// What is measured: a class or the bare loop over its mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    class: Class,
    is_bare: bool,
    is_blocked: bool,
}

/// In this order in every round, each beside its limit.
pub(super) const MEASURES: [Measure; 8] = {
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
pub(super) struct Ends {
    bare: OwnedFd,
    normal: (normal::Sender, normal::Receiver),
    /// In each place; or why this machine has none.
    high: Result<Vec<High>, String>,
    /// Which of them is in use.
    ring: usize,
}

struct High {
    own: FloorLine,
    other: FloorLine,
    /// Of the bare loop, into the ring of the other side's receiver.
    outbox: Outbox,
    sender: high::Sender,
    receiver: high::Receiver,
}

impl Measure {
    /// How many of them take about as long as `messages` that do not enter the kernel.
    pub(super) fn messages(self, messages: u64) -> u64 {
        messages.div_ceil(if self.is_blocked { BLOCKED_DIVISOR } else { KERNEL_DIVISOR })
    }

    /// Adds what it found; of a bare loop the median.
    pub(super) fn write(self, percentiles: &Percentiles, found: &mut Vec<Figure>) {
        let blocked = if self.is_blocked { ".blocked" } else { "" };
        let path = format!("classes.{}{blocked}", self.class.name());
        if self.is_bare {
            found.push((format!("{path}.limit_p50_ns"), percentiles.p50));
        } else {
            percentiles.write(&path, found);
        }
    }
}

impl Ends {
    pub(super) fn offer(
        socket: &Connection,
        control: &ControlWriter,
        process: BorrowedFd<'_>,
    ) -> anyhow::Result<Self> {
        let ((bare, their_bare), (normal, their_normal)) = (normal::pair()?, normal::pair()?);
        socket.send(b"offer", &[their_bare.as_fd(), their_normal.as_fd(), control.as_fd()])?;
        let page = control.as_fd().try_clone_to_owned()?;
        let high = several(|| {
            let lines = (FloorLine::create()?, FloorLine::create()?);
            socket.send(b"lines", &[lines.0.as_fd(), lines.1.as_fd()])?;
            High::agree(socket, process, page.try_clone()?, lines)
        })?;
        Ok(Self { bare, normal: halves(normal)?, high, ring: 0 })
    }

    /// The other side of [`Ends::offer`].
    pub(super) fn take(socket: &Connection, process: BorrowedFd<'_>) -> anyhow::Result<Self> {
        let [bare, normal, page] = exactly(socket.receive()?.descriptors)?;
        let high = several(|| {
            let [other, own] = exactly(socket.receive()?.descriptors)?;
            let lines = (FloorLine::open(own)?, FloorLine::open(other)?);
            High::agree(socket, process, page.try_clone()?, lines)
        })?;
        Ok(Self { bare, normal: halves(normal)?, high, ring: 0 })
    }

    /// Sends messages and waits for the answer of each; one way is half of the time. Nothing where there is no such class.
    pub(super) fn ask(
        &mut self,
        measure: Measure,
        messages: u64,
    ) -> anyhow::Result<Option<Percentiles>> {
        self.prepare(measure);
        if !self.has(measure) {
            return Ok(None);
        }
        let mut times = times()?;
        for number in 0..messages {
            self.ring = turn(number, messages, PLACES);
            let began = Instant::now();
            self.send(measure, number as u8)?;
            ensure!(self.receive(measure)? == number as u8, "message {number} came back changed");
            times.saturating_record(began.elapsed().as_nanos() as u64);
        }
        Ok(Some(Percentiles::one_way(&times)))
    }

    pub(super) fn answer(&mut self, measure: Measure, messages: u64) -> anyhow::Result<()> {
        if self.has(measure) {
            for number in 0..messages {
                self.ring = turn(number, messages, PLACES);
                let byte = self.receive(measure)?;
                self.send(measure, byte)?;
            }
        }
        Ok(())
    }

    /// Why this machine has no HIGH, where it has none.
    pub(super) fn why_no_high(&self) -> Option<String> {
        self.high.as_ref().err().cloned()
    }

    /// The halves wait as the measure says. Only while the other side sends nothing: a reader of HIGH may have found its last
    /// message before it was told of it, and the bare loop must not take that for one of its own.
    pub(super) fn prepare(&mut self, measure: Measure) {
        let spin = if measure.is_blocked { Spin::None } else { Spin::Forever };
        self.normal.1.set_spin(spin);
        for high in self.high.iter_mut().flatten() {
            high.receiver.set_spin(spin);
            high.receiver.inbox().take();
        }
    }

    fn has(&self, measure: Measure) -> bool {
        measure.class != Class::High || self.high.is_ok()
    }

    fn send(&mut self, measure: Measure, byte: u8) -> anyhow::Result<()> {
        let payload = [byte; PAYLOAD_BYTES];
        let high = self.high.as_mut().ok().and_then(|rings| rings.get_mut(self.ring));
        match (measure.class, measure.is_bare, high) {
            (Class::Normal, true, _) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&self.bare, &[byte; PACKET_BYTES], flags)?;
            }
            (Class::Normal, false, _) => {
                self.normal.0.send(Meta::default(), &payload, WhenFull::Reject)?;
            }
            (Class::High, true, Some(high)) => {
                high.own.store(byte.into());
                high.outbox.signal();
            }
            (Class::High, false, Some(high)) => {
                high.sender.send(Meta::default(), &payload, WhenFull::Reject)?;
            }
            _ => bail!("no such measure"),
        }
        Ok(())
    }

    /// The whole payload is looked at; all its bytes are alike.
    fn receive(&mut self, measure: Measure) -> anyhow::Result<u8> {
        let high = self.high.as_mut().ok().and_then(|rings| rings.get_mut(self.ring));
        match (measure.class, measure.is_bare, high) {
            (Class::Normal, true, _) => receive_bare(&self.bare, measure.is_blocked),
            (Class::Normal, false, _) => alike(self.normal.1.receive(None)?.payload),
            (Class::High, true, Some(high)) => {
                while !high.receiver.inbox().take() {
                    if measure.is_blocked {
                        high.receiver.inbox().wait();
                    } else {
                        std::hint::spin_loop();
                    }
                }
                Ok(high.other.load() as u8)
            }
            (Class::High, false, Some(high)) => alike(high.receiver.receive(None)?.payload),
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
        let mut lane = lane::Sender::for_link(LaneOptions::default())?;
        lane.set_control(page.try_clone()?)?;
        lane.set_spin(Spin::Forever);
        let mailbox = match Mailbox::new() {
            Ok(mailbox) => mailbox,
            Err(why) => {
                let why = why.to_string();
                socket.send(&[NO, why.as_bytes()].concat(), &[])?;
                let _theirs = socket.receive()?;
                return Ok(Err(why));
            }
        };
        let given = [lane.slots_fd(), lane.region_fd(), mailbox.cursor_fd()];
        socket.send(&mailbox.number().0.to_le_bytes(), &given)?;
        let theirs = socket.receive()?;
        if let Some(why) = theirs.bytes.strip_prefix(NO) {
            return Ok(Err(String::from_utf8_lossy(why).into_owned()));
        }
        let [slots, region, cursor] = exactly(theirs.descriptors)?;
        let number = theirs.bytes.try_into().ok().context("expected a number")?;
        let number = RingNumber(u32::from_le_bytes(number));
        let connected =
            Outbox::connect(process, number).map_err(high::AttachError::from).and_then(|outbox| {
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
        Ok(Ok(Self { own, other, outbox, sender, receiver }))
    }
}

/// Makes as many as are measured, or none, with the reason of the first that there is not.
fn several(
    make: impl FnMut() -> anyhow::Result<Result<High, String>>,
) -> anyhow::Result<Result<Vec<High>, String>> {
    Ok(apart(make)?.into_iter().collect())
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

/// Names the mechanisms.
pub(super) fn describe(report: &mut Value) {
    let mechanisms = [
        (Class::High, "io_uring message between rings, stamped slots"),
        (Class::Normal, "SOCK_SEQPACKET pair of sockets"),
    ];
    for (class, mechanism) in mechanisms {
        at(report, &format!("classes.{}", class.name()))["mechanism"] = json!(mechanism);
    }
}
