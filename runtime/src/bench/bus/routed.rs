//! Messages through the exchange: two agents that may not have a direct link, and the daemon's own process between them.
//!
//! Both ends are in one thread, so that this thread and the exchange's are the only busy ones: on a machine with two processors a
//! third would only wait for its turn.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use hw::affinity;
use ipc::class::SendingHalf;
use ipc::client::{Client, Event, Offer};
use ipc::lane::WhenFull;
use ipc::link::Link;
use ipc::ring::Meta;

use super::super::deadline;
use super::super::figures::Figure;
use super::super::scratch::ScratchDaemon;
use super::{Context, Part};

/// Bytes of payload.
const PAYLOAD_BYTES: usize = 32;
/// Messages that are on their way at most: a reader tells four times per lap of 1,024 slots how far it is.
const ON_THE_WAY_MAX: u64 = 640;
/// Messages that are sent before the lane is looked at again.
const BATCH: u64 = 64;

/// For one message there and back between two spinning processes so many go through.
const FACTOR: u64 = 10;

/// Two agents, their link, and the daemon whose exchange it passes.
pub(super) struct Routed {
    from: Link,
    to: Link,
    cpu: Option<usize>,
    _clients: (Client, Client),
    // Dropped last.
    _daemon: ScratchDaemon,
}

impl Routed {
    pub(super) fn start(context: &Context) -> anyhow::Result<Self> {
        let daemon = ScratchDaemon::start(&["exchange"], &[("BOLIDE_BUS_ROUTED", "bench.>")])?;
        let (mut one, mut two) = (daemon.client("bench.one")?, daemon.client("bench.two")?);
        let (from, to) = link(&mut one, &mut two)?;
        let cpu = context.cpus.map(|cpus| cpus.0);
        Ok(Self { from, to, cpu, _clients: (one, two), _daemon: daemon })
    }
}

impl Part for Routed {
    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>> {
        let (from, to, cpu) = (&mut self.from, &mut self.to, self.cpu);
        // A thread of its own, whose pin goes with it.
        let rate = std::thread::scope(|scope| {
            let measured = scope.spawn(move || {
                if let Some(cpu) = cpu {
                    ensure!(affinity::pin_polling_thread(cpu), "cannot pin to CPU {cpu}");
                }
                pass(from, to, messages * FACTOR)
            });
            measured.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })?;
        Ok(vec![("throughput.routed_per_s".to_owned(), rate)])
    }
}

fn link(one: &mut Client, two: &mut Client) -> anyhow::Result<(Link, Link)> {
    std::thread::scope(|scope| {
        let accepted = scope.spawn(move || -> anyhow::Result<Link> {
            let offer = offered(two)?;
            Ok(two.accept(offer)?)
        });
        let opened = one.open("bench.two")?;
        let accepted = accepted.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        Ok((opened, accepted))
    })
}

fn offered(client: &mut Client) -> anyhow::Result<Offer> {
    loop {
        let event = client.next_event(deadline())?.context("no link was offered")?;
        if let Event::LinkOffered(offer) = event {
            return Ok(offer);
        }
    }
}

/// Sends and receives so many messages; per second.
fn pass(from: &mut Link, to: &mut Link, messages: u64) -> anyhow::Result<f64> {
    let (from, to) = (from.sender().raw(), to.receiver().raw());
    let (mut sent, mut received, mut wrong) = (0u64, 0u64, 0u64);
    let mut payload = [0u8; PAYLOAD_BYTES];
    let began = Instant::now();
    while received < messages {
        let room = (ON_THE_WAY_MAX - (sent - received)).min(messages - sent).min(BATCH);
        for _ in 0..room {
            payload[..8].copy_from_slice(&sent.to_le_bytes());
            from.push(Meta::default(), &payload, WhenFull::Reject)?;
            sent += 1;
        }
        from.flush();
        to.receive_batch(BATCH as usize, |message| {
            let expected = received.to_le_bytes();
            wrong += u64::from(message.payload.get(..8) != Some(&expected[..]));
            received += 1;
        })?;
    }
    let rate = messages as f64 / began.elapsed().as_secs_f64();
    ensure!(wrong == 0, "{wrong} messages were changed or came out of order");
    Ok(rate)
}
