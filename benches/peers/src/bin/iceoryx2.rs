//! iceoryx2's publish-subscribe, doing the work of the CRITICAL class in `bolide bench bus`: a message of 48 bytes there
//! and back between two processes, each pinned to its CPU and polling without end. Both sides write the payload into
//! a loaned sample and read that of the received one, and the first compares what came back.
//!
//! The services are as small as iceoryx2 allows (one publisher, one subscriber, no history), as in its own benchmark.
//! Its files are in the scratch directory and, because that place is fixed, in `/dev/shm` under a prefix of this run.

use std::path::{Path as StdPath, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use iceoryx2::config::Config;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::sample::Sample;
use peers::protocol::{Lines, answer_rounds};
use peers::scratch::{remove_directory, remove_files_with_prefix};
use peers::times::Times;
use peers::workers::{READY, Second, Seconds, pin, two_cpus};
use serde_json::{Value, json};

/// Bytes of payload, as in the bench.
const PAYLOAD_BYTES: usize = 48;
/// Bytes of payload where messages are counted instead of timed.
const SMALL_BYTES: usize = 32;
/// Messages that a subscriber holds when one at a time travels, as in iceoryx2's own benchmark.
const LATENCY_BUFFER: usize = 1;
/// Messages that a subscriber holds when many travel: the slots of a lane.
const THROUGHPUT_BUFFER: usize = 1024;
/// Where Linux has named shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// A message there and back.
const LATENCY: &str = "iceoryx2";
/// Messages one way, as many as go.
const THROUGHPUT: &str = "iceoryx2_throughput";

type Payload = [u8; PAYLOAD_BYTES];
type Small = [u8; SMALL_BYTES];

/// One side's ports.
struct Ends {
    sender: Publisher<ipc::Service, Payload, ()>,
    receiver: Subscriber<ipc::Service, Payload, ()>,
    many_sender: Option<Publisher<ipc::Service, Small, ()>>,
    many_receiver: Option<Subscriber<ipc::Service, Small, ()>>,
    // Dropped last: the ports are its.
    _node: Node<ipc::Service>,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    set_log_level(LogLevel::Error);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", scratch, cpus] => serve(scratch, Some(cpus)),
        ["serve", scratch] => serve(scratch, None),
        ["second", scratch, prefix, cpu] => second(scratch, prefix, Some(cpu)),
        ["second", scratch, prefix] => second(scratch, prefix, None),
        _ => bail!("usage: bolide-peer-iceoryx2 serve SCRATCH [CPU,CPU]"),
    }
}

/// The first process.
fn serve(scratch: &str, cpus: Option<&str>) -> anyhow::Result<()> {
    let cpus = cpus.map(two_cpus).transpose()?;
    let prefix = format!("bolide_{}_", std::process::id());
    let left = (PathBuf::from(scratch), prefix.clone());
    let seconds = Seconds::default();
    let ended = seconds.clone();
    let lines = Lines::of_input(move || {
        ended.end();
        remove_files_with_prefix(StdPath::new(SHARED_MEMORY), &left.1);
        remove_directory(&left.0);
    })?;
    let mut ends = Ends::open(scratch, &prefix, ("there", "back"), true)?;
    let mut arguments = vec!["second".to_owned(), scratch.to_owned(), prefix];
    arguments.extend(cpus.map(|(_, cpu)| cpu.to_string()));
    seconds.add(Second::start(&arguments)?);
    if let Some((cpu, _)) = cpus {
        pin(cpu)?;
    }
    let hello = json!({
        "measures": [LATENCY, THROUGHPUT],
        "versions": {"iceoryx2": version()?},
    });
    answer_rounds(&lines, &hello, |measure, messages| {
        ensure!([LATENCY, THROUGHPUT].contains(&measure), "no such measure: `{measure}`");
        seconds.tell(&format!("{measure} {messages}"))?;
        let found = match measure {
            LATENCY => ends.ask(messages),
            _ => ends.send_many(messages),
        };
        if found.is_err() {
            // It would poll for the rest of the round, beside all that is measured after this.
            seconds.end();
        }
        found
    })
}

/// The second process: answers until its input ends, which is when the first one does.
fn second(scratch: &str, prefix: &str, cpu: Option<&str>) -> anyhow::Result<()> {
    let lines = Lines::of_input(|| {})?;
    let mut ends = Ends::open(scratch, prefix, ("back", "there"), false)?;
    if let Some(cpu) = cpu {
        pin(cpu.parse()?)?;
    }
    println!("{READY}");
    loop {
        let line = lines.next_line();
        let (measure, messages) = line.split_once(' ').context("expected `MEASURE MESSAGES`")?;
        match measure {
            LATENCY => ends.answer(messages.parse()?)?,
            _ => ends.receive_many(messages.parse()?)?,
        }
    }
}

impl Ends {
    fn open(
        scratch: &str,
        prefix: &str,
        (own, other): (&str, &str),
        is_first: bool,
    ) -> anyhow::Result<Self> {
        let node = NodeBuilder::new()
            .config(&config(scratch, prefix)?)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(failed("create the node"))?;
        let latency = |name: &str| {
            node.service_builder(&name.try_into().map_err(failed("name a service"))?)
                .publish_subscribe::<Payload>()
                .max_publishers(1)
                .max_subscribers(1)
                .history_size(0)
                .subscriber_max_buffer_size(LATENCY_BUFFER)
                .enable_safe_overflow(true)
                .open_or_create()
                .map_err(failed("open a service"))
        };
        let many = node
            .service_builder(&"many".try_into().map_err(failed("name a service"))?)
            .publish_subscribe::<Small>()
            .max_publishers(1)
            .max_subscribers(1)
            .history_size(0)
            .subscriber_max_buffer_size(THROUGHPUT_BUFFER)
            .enable_safe_overflow(false)
            .open_or_create()
            .map_err(failed("open a service"))?;
        let sender = latency(own)?.publisher_builder().create();
        let receiver = latency(other)?.subscriber_builder().create();
        let many_sender = is_first.then(|| {
            let publisher = many.publisher_builder();
            publisher.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()
        });
        let many_receiver = (!is_first).then(|| many.subscriber_builder().create());
        Ok(Self {
            sender: sender.map_err(failed("create a publisher"))?,
            receiver: receiver.map_err(failed("create a subscriber"))?,
            many_sender: many_sender.transpose().map_err(failed("create a publisher"))?,
            many_receiver: many_receiver.transpose().map_err(failed("create a subscriber"))?,
            _node: node,
        })
    }

    /// Sends messages and waits for the answer of each; one way is half of the time.
    fn ask(&mut self, messages: u64) -> anyhow::Result<Value> {
        let mut times = Times::new()?;
        let mut payload = [0; PAYLOAD_BYTES];
        for number in 0..messages {
            let began = Instant::now();
            payload.fill(number as u8);
            self.send(payload)?;
            let answer = self.receive()?;
            ensure!(*answer == payload, "message {number} came back changed");
            times.record(began.elapsed());
        }
        Ok(times.one_way())
    }

    fn answer(&mut self, messages: u64) -> anyhow::Result<()> {
        for _ in 0..messages {
            let message = self.receive()?;
            self.send(*message)?;
        }
        Ok(())
    }

    fn send(&self, payload: Payload) -> anyhow::Result<()> {
        let sample = self.sender.loan_uninit().map_err(failed("loan a sample"))?;
        let reached = sample.write_payload(payload).send().map_err(failed("send"))?;
        ensure!(reached == 1, "nobody receives");
        Ok(())
    }

    /// Polls without a pause, as iceoryx2's own benchmark does. The sample goes back to its owner when it is dropped,
    /// here after the answer or after the clock: giving it back is work that need not delay the message. Inlined, so
    /// that the sample is not moved about more than in iceoryx2's own loop.
    #[inline(always)]
    fn receive(&self) -> anyhow::Result<Sample<ipc::Service, Payload, ()>> {
        loop {
            if let Some(sample) = self.receiver.receive().map_err(failed("receive"))? {
                return Ok(sample);
            }
        }
    }

    /// Sends as fast as the other side takes; over when it has said that it has all.
    fn send_many(&mut self, messages: u64) -> anyhow::Result<Value> {
        let sender = self.many_sender.as_ref().context("only the first process sends many")?;
        let mut payload = [0; SMALL_BYTES];
        let began = Instant::now();
        for number in 0..messages {
            payload.fill(number as u8);
            let reached = sender.send_copy(payload).map_err(failed("send"))?;
            ensure!(reached == 1, "nobody receives");
        }
        self.receive()?;
        Ok(per_second(messages, began.elapsed()))
    }

    fn receive_many(&mut self, messages: u64) -> anyhow::Result<()> {
        let receiver = self.many_receiver.as_ref().context("only the second process takes many")?;
        let mut number = 0;
        while number < messages {
            let Some(sample) = receiver.receive().map_err(failed("receive"))? else { continue };
            let payload = *sample.payload();
            ensure!(payload == [number as u8; SMALL_BYTES], "message {number} is another");
            number += 1;
        }
        self.send([0; PAYLOAD_BYTES])
    }
}

/// The files of this run, and no others: no other configuration of the machine is read.
fn config(scratch: &str, prefix: &str) -> anyhow::Result<Config> {
    let mut config = Config::default();
    let root = Path::new(scratch.as_bytes()).map_err(failed("use the scratch directory"))?;
    config.global.set_root_path(&root);
    config.global.prefix = FileName::new(prefix.as_bytes()).map_err(failed("use the prefix"))?;
    Ok(config)
}

fn per_second(messages: u64, time: Duration) -> Value {
    json!({"messages": messages, "messages_per_s": messages as f64 / time.as_secs_f64()})
}

/// The version that this program was locked to.
fn version() -> anyhow::Result<&'static str> {
    let lock = include_str!("../../Cargo.lock");
    let after = lock.split_once("name = \"iceoryx2\"\nversion = \"").context("not locked")?.1;
    Ok(after.split_once('"').context("not locked")?.0)
}

fn failed<E: std::fmt::Debug>(what: &str) -> impl Fn(E) -> anyhow::Error {
    move |error| anyhow!("iceoryx2 cannot {what}: {error:?}")
}
