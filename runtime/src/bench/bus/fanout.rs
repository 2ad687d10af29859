//! What publishing costs when one reads, and when two hundred do.
//!
//! One writer of a lossless topic, 1,024 slots, 32 bytes, through the lanes' public interface with every check; the readers are
//! [`Receiver`]s with segments and cursors of their own, in this process, because two processors are all that there may be.
//! A message counts only if every reader proves by number and checksum that it received it in its place.
//! - *polled*: readers that never sleep, all polled by one thread. *awake*: the same, but they may sleep, so the writer has
//!   to find out that they do not. The writer sends bursts of half the ring, and only the sending is timed, the looking at
//!   cursors included: reading a message two hundred times is not the cost of publishing it.
//! - *parked*: one thread for each reader, asleep when the message is sent. What is timed is the call that sends and wakes, and
//!   apart from that the time until the last one has it.
//!
//! Not here: how the rounds of `bolide bench bus` come together.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hw::affinity;
use ipc::control::TopicPolicy;
use ipc::header::AgentId;
use ipc::lane::{LaneOptions, Receiver, Sender, Start, WhenFull};
use ipc::ring::Meta;
use ipc::wait::Spin;
use serde_json::{Value, json};

use super::super::figures::{Figure, at};
use super::{Context, Part};

/// Slots of the topic, the default of the bus.
const SLOTS: usize = 1_024;
/// Messages that are sent in a row: half of the ring, so that nobody holds the writer up.
const BURST: u64 = SLOTS as u64 / 2;
/// Looks at every reader after it has everything, until its cursor says so.
const IDLE_PASSES: usize = 64;
/// How long readers get to fall asleep.
const FALL_ASLEEP: Duration = Duration::from_millis(10);
/// Only a mistake takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
const WORDS: usize = 4;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct FanoutOptions {
    /// Readers of the larger topic.
    pub(super) readers: usize,
    /// Rounds in which one and many take turns; the median counts.
    pub(super) rounds: usize,
    /// Bursts of each round.
    pub(super) bursts: u64,
    /// Messages to sleeping readers in each round.
    pub(super) parked_messages: u64,
}

/// Messages between two spinning processes for one burst.
const BURST_DIVISOR: u64 = 5_000;
/// And for one message to sleeping readers.
const PARKED_DIVISOR: u64 = 10_000;
/// What the report has of this part.
pub(super) const FIELDS: &[&str] =
    &["fanout.readers_1_ns", "fanout.readers_200_ns", "fanout.parked_200_ns", "fanout.received"];

/// The part.
pub(super) struct Fanout {
    cpus: Option<(usize, usize)>,
    readers: usize,
}

impl Fanout {
    pub(super) fn start(context: &Context) -> Self {
        Self { cpus: context.cpus, readers: FanoutOptions::default().readers }
    }
}

impl Part for Fanout {
    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>> {
        let options = FanoutOptions {
            readers: self.readers,
            rounds: 1,
            bursts: messages.div_ceil(BURST_DIVISOR),
            parked_messages: messages.div_ceil(PARKED_DIVISOR),
        };
        let cpus = self.cpus;
        let pin = move |side| {
            let Some((first, second)) = cpus else { return };
            let cpu = if side == Side::Writer { first } else { second };
            // Where the kernel refuses, the figures are those of threads that it places.
            affinity::pin_polling_thread(cpu);
        };
        // A thread of its own, whose pin goes with it.
        let measured = std::thread::scope(|scope| {
            let measured = scope.spawn(|| measure(options, &pin));
            measured.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })?;
        ensure!(measured.received == measured.expected, "readers did not receive everything");
        let figure = |name: &str, value: f64| (format!("fanout.{name}"), value);
        Ok(vec![
            figure("readers_1_ns", measured.polled_one_ns),
            figure("readers_200_ns", measured.polled_all_ns),
            figure("awake_1_ns", measured.awake_one_ns),
            figure("awake_200_ns", measured.awake_all_ns),
            figure("parked_1_ns", measured.parked_one_ns),
            figure("parked_200_ns", measured.parked_all_ns),
            figure("parked_200_received_ns", measured.parked_all_received_ns),
            figure("received", measured.received as f64),
        ])
    }

    fn describe(&self, report: &mut Value) {
        at(report, "fanout")["readers"] = json!(self.readers);
    }
}

/// Which thread is to be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The calling thread, which writes.
    Writer,
    /// A thread of readers: the one that polls all, or one that sleeps for one.
    Readers,
}

/// Nanoseconds for one message, by the writer's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct FanoutReport {
    /// One reader that polls.
    pub(super) polled_one_ns: f64,
    /// All of them poll.
    pub(super) polled_all_ns: f64,
    /// One reader that may sleep and does not.
    pub(super) awake_one_ns: f64,
    /// All of them may sleep and do not.
    pub(super) awake_all_ns: f64,
    /// One reader that sleeps: the call that sends and wakes.
    pub(super) parked_one_ns: f64,
    /// All of them sleep: the call that sends and wakes.
    pub(super) parked_all_ns: f64,
    /// All of them slept: until the last one has the message.
    pub(super) parked_all_received_ns: f64,
    /// Messages that were sent to the many, times their number.
    pub(super) expected: u64,
    /// Messages that they proved to have received.
    pub(super) received: u64,
}

impl Default for FanoutOptions {
    fn default() -> Self {
        Self { readers: 200, rounds: 5, bursts: 40, parked_messages: 20 }
    }
}

/// What polling readers and their writer tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// Messages that every reader has, its cursor told.
    everybody_has: AtomicU64,
    stop: AtomicBool,
}

/// What a reader has, by its own account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Proof {
    received: u64,
    checksum: u64,
}

/// Measures all of it. `pin` is called in the thread that it is about.
pub(super) fn measure(
    options: FanoutOptions,
    pin: &(dyn Fn(Side) + Sync),
) -> anyhow::Result<FanoutReport> {
    pin(Side::Writer);
    let counts = [1, options.readers];
    let mut times: [Vec<f64>; 7] = Default::default();
    let (mut expected, mut received) = (0, 0);
    for _ in 0..options.rounds.max(1) {
        for (which, readers) in counts.into_iter().enumerate() {
            for (kind, spin) in [(0, Spin::Forever), (2, Spin::Adaptive)] {
                let (taken, proven) = bursts(readers, spin, options.bursts, pin)?;
                times[kind + which].push(taken);
                expected += options.bursts * BURST * readers as u64;
                received += proven;
            }
            let (sent, all, proven) = parked(readers, options.parked_messages, pin)?;
            times[4 + which].push(sent);
            times[6].extend((which == 1).then_some(all));
            expected += options.parked_messages * readers as u64;
            received += proven;
        }
    }
    let [
        polled_one_ns,
        polled_all_ns,
        awake_one_ns,
        awake_all_ns,
        parked_one_ns,
        parked_all_ns,
        all,
    ] = times.map(median);
    Ok(FanoutReport {
        polled_one_ns,
        polled_all_ns,
        awake_one_ns,
        awake_all_ns,
        parked_one_ns,
        parked_all_ns,
        parked_all_received_ns: all,
        expected,
        received,
    })
}

/// Sends bursts to readers that are all polled by one thread; nanoseconds for one message, and what was received.
fn bursts(
    readers: usize,
    spin: Spin,
    bursts: u64,
    pin: &(dyn Fn(Side) + Sync),
) -> anyhow::Result<(f64, u64)> {
    let (mut sender, receivers) = topic(readers, spin)?;
    let shared = Shared::default();
    let shared = &shared;
    let (taken, proofs) = thread::scope(|scope| {
        let polling = scope.spawn(move || {
            pin(Side::Readers);
            poll(receivers, shared)
        });
        let taken = send_bursts(&mut sender, bursts, shared);
        shared.stop.store(true, Ordering::Release);
        (taken, polling.join())
    });
    let proofs = proofs.map_err(|_| anyhow::anyhow!("the readers' thread panicked"))??;
    Ok((taken? / (bursts * BURST) as f64, proven(&proofs, bursts * BURST)?))
}

fn send_bursts(sender: &mut Sender, bursts: u64, shared: &Shared) -> anyhow::Result<f64> {
    let mut taken = Duration::ZERO;
    for burst in 0..bursts {
        let began = Instant::now();
        for number in burst * BURST..(burst + 1) * BURST {
            sender.send(Meta::default(), &payload(number), WhenFull::Reject)?;
        }
        taken += began.elapsed();
        let until = Instant::now() + PATIENCE;
        while shared.everybody_has.load(Ordering::Acquire) < (burst + 1) * BURST {
            ensure!(Instant::now() < until, "the readers do not read");
            std::hint::spin_loop();
        }
    }
    Ok(taken.as_nanos() as f64)
}

/// Takes whatever there is, reader by reader, until it is told to stop.
fn poll(mut receivers: Vec<Receiver>, shared: &Shared) -> anyhow::Result<Vec<Proof>> {
    let mut proofs = vec![Proof::default(); receivers.len()];
    let mut idle = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let mut found = false;
        for (receiver, proof) in receivers.iter_mut().zip(&mut proofs) {
            while let Some(message) = receiver.try_receive()? {
                proof.add(message.payload);
                found = true;
            }
        }
        idle = if found { 0 } else { idle + 1 };
        if idle == IDLE_PASSES {
            let least = proofs.iter().map(|proof| proof.received).min().unwrap_or(0);
            shared.everybody_has.store(least, Ordering::Release);
        }
    }
    Ok(proofs)
}

/// Sends to readers that sleep: the median of the calls, that of the times until everybody had it, and what was received.
fn parked(
    readers: usize,
    messages: u64,
    pin: &(dyn Fn(Side) + Sync),
) -> anyhow::Result<(f64, f64, u64)> {
    let (mut sender, receivers) = topic(readers, Spin::None)?;
    let arrived = AtomicU64::new(0);
    let arrived = &arrived;
    let (mut calls, mut until_all) = (Vec::new(), Vec::new());
    let proofs = thread::scope(|scope| {
        let sleeping: Vec<_> = receivers
            .into_iter()
            .map(|receiver| {
                scope.spawn(move || {
                    pin(Side::Readers);
                    sleep_and_take(receiver, messages, arrived)
                })
            })
            .collect();
        for number in 0..messages {
            thread::sleep(FALL_ASLEEP);
            let began = Instant::now();
            // A reader that did not hear of it would wait in vain, and so would this.
            sender.send(Meta::default(), &payload(number), WhenFull::Reject)?;
            calls.push(began.elapsed().as_nanos() as f64);
            while arrived.load(Ordering::Acquire) < (number + 1) * readers as u64 {
                ensure!(began.elapsed() < PATIENCE, "a sleeping reader was not woken");
                thread::yield_now();
            }
            until_all.push(began.elapsed().as_nanos() as f64);
        }
        let joined = sleeping
            .into_iter()
            .map(|one| one.join().map_err(|_| anyhow::anyhow!("a reader's thread panicked"))?);
        joined.collect::<anyhow::Result<Vec<Proof>>>()
    })?;
    Ok((median(calls), median(until_all), proven(&proofs, messages)?))
}

fn sleep_and_take(
    mut receiver: Receiver,
    messages: u64,
    arrived: &AtomicU64,
) -> anyhow::Result<Proof> {
    let mut proof = Proof::default();
    for _ in 0..messages {
        proof.add(receiver.receive(Some(Instant::now() + PATIENCE))?.payload);
        arrived.fetch_add(1, Ordering::AcqRel);
    }
    Ok(proof)
}

/// A topic whose readers are all attached.
fn topic(readers: usize, spin: Spin) -> anyhow::Result<(Sender, Vec<Receiver>)> {
    let options = LaneOptions { slots: SLOTS, region_bytes: ipc::limits::REGION_BYTES_MIN };
    let mut sender = Sender::for_topic(options, TopicPolicy::Lossless)?;
    let mut receivers = Vec::with_capacity(readers);
    for index in 0..readers {
        let copy = |fd: &dyn AsFd| -> std::io::Result<OwnedFd> { fd.as_fd().try_clone_to_owned() };
        let (slots, region) = (copy(&sender.slots_fd())?, copy(&sender.region_fd())?);
        let receiver = Receiver::for_topic(AgentId(1), slots, region, None, Start::Live, spin)?;
        sender.attach(AgentId(2 + index as u32), copy(&receiver.cursor_fd())?, None)?;
        receivers.push(receiver);
    }
    Ok((sender, receivers))
}

impl Proof {
    /// Takes every byte in, and its place.
    fn add(&mut self, payload: &[u8]) {
        self.received += 1;
        for word in payload.as_chunks::<8>().0 {
            self.checksum = self.checksum.rotate_left(5) ^ u64::from_le_bytes(*word);
        }
    }
}

/// How much was received, when every reader has exactly what was sent.
fn proven(proofs: &[Proof], messages: u64) -> anyhow::Result<u64> {
    let mut expected = Proof::default();
    (0..messages).for_each(|number| expected.add(&payload(number)));
    for (reader, proof) in proofs.iter().enumerate() {
        ensure!(*proof == expected, "reader {reader} has {proof:?}, sent was {expected:?}");
    }
    Ok(proofs.iter().map(|proof| proof.received).sum())
}

fn payload(number: u64) -> [u8; WORDS * 8] {
    let mut bytes = [0; WORDS * 8];
    let words = [number, !number, number.wrapping_mul(3), number ^ 0x55];
    for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    bytes
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_proves_that_it_has_everything() {
        let options = FanoutOptions { readers: 9, rounds: 1, bursts: 3, parked_messages: 3 };
        let report = measure(options, &|_| {}).unwrap();
        assert_eq!(report.received, report.expected);
        assert_eq!(report.expected, (1 + 9) * (2 * 3 * BURST + 3));
        assert!(report.polled_all_ns > 0.0 && report.parked_all_received_ns > 0.0);
    }
}
