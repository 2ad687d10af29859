//! Message brokers on loopback, doing the work of `bolide bench bus`: a message of 48 bytes there and back between two
//! processes, through the broker; and one message until its durable acknowledgement.
//!
//! Brokers do not poll, and a client that polled would take a CPU from them, so clients block here. Each client
//! process stays on its CPU and the broker runs where the kernel puts it; where both CPUs are the same one, the broker
//! stays there too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use peers::protocol::{Lines, answer_rounds};
use peers::scratch::remove_directory;
use peers::times::Times;
use peers::workers::{HOLD, READY, Second, Seconds, become_held, pin, two_cpus};
use serde_json::{Map, Value, json};

use brokers::nats::{self, Nats};
use brokers::redis::{self, PublishSubscribe, Stream, Sync};
use brokers::server::Server;

mod brokers {
    pub(crate) mod nats;
    pub(crate) mod redis;
    pub(crate) mod server;
    pub(crate) mod wire;
}

/// Bytes of payload, as in the bench.
const PAYLOAD_BYTES: usize = 48;

/// Who speaks: the two sides of one measurement have a subject each.
#[derive(Clone, Copy, Debug)]
enum Side {
    First,
    Second,
}

/// A client that can say something on one subject and listens to another.
trait Talk {
    fn publish(&mut self, payload: &[u8]) -> anyhow::Result<()>;
    /// The next message replaces what is in `payload`.
    fn receive(&mut self, payload: &mut Vec<u8>) -> anyhow::Result<()>;
}

/// A client that can wait until a message is kept.
trait Keep {
    fn publish_and_wait(&mut self, payload: &[u8]) -> anyhow::Result<()>;
}

/// Everything of one broker that was started.
#[derive(Default)]
struct Measures {
    talks: Vec<(&'static str, Box<dyn Talk>)>,
    jetstream: Option<nats::JetStream>,
    redis_stream: Option<Stream>,
    versions: Map<String, Value>,
    absent: Map<String, Value>,
}

/// The processes that end with this one, shared with the thread that ends them.
#[derive(Clone, Default)]
struct Processes {
    servers: Arc<Mutex<Vec<Server>>>,
    seconds: Seconds,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [hold, rest @ ..] = &arguments[..]
        && hold == HOLD
    {
        return become_held(rest);
    }
    let arguments: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    match arguments[..] {
        ["serve", scratch] => serve(Path::new(scratch), None),
        ["serve", scratch, cpus] => serve(Path::new(scratch), Some(two_cpus(cpus)?)),
        ["second", kind, address] => second(kind, address, None),
        ["second", kind, address, cpu] => second(kind, address, Some(cpu.parse()?)),
        _ => bail!("usage: bolide-peer-brokers serve SCRATCH [CPU,CPU]"),
    }
}

/// The first process: owns the brokers.
fn serve(scratch: &Path, cpus: Option<(usize, usize)>) -> anyhow::Result<()> {
    let processes = Processes::default();
    let (ended, left) = (processes.clone(), PathBuf::from(scratch));
    let lines = Lines::of_input(move || {
        // First, because they write into the directory.
        ended.end();
        remove_directory(&left);
    })?;
    let mut measures = Measures::default();
    if let Some((cpu, _)) = cpus.filter(|(first, second)| first == second) {
        pin(cpu)?;
    }
    // Servers and second processes inherit the CPUs of this thread, so it is pinned after them.
    if let Err(error) = measures.start_nats(scratch, &processes, cpus) {
        measures.are_absent(&["nats", "jetstream"], &error);
    }
    if let Err(error) = measures.start_redis(scratch, &processes, cpus) {
        let names = ["redis", "redis_unix", "redis_everysec", "redis_always"];
        measures.are_absent(&names, &error);
    }
    if let Some((cpu, _)) = cpus {
        pin(cpu)?;
    }
    let hello = measures.hello();
    answer_rounds(&lines, &hello, |measure, messages| measures.round(measure, messages))
}

/// The second process: sends back what comes, until the first one ends.
fn second(kind: &str, address: &str, cpu: Option<usize>) -> anyhow::Result<()> {
    let _lines = Lines::of_input(|| {})?;
    if let Some(cpu) = cpu {
        pin(cpu)?;
    }
    let mut talk: Box<dyn Talk> = match kind {
        "nats" => Box::new(Nats::open(address, &Side::Second.subjects(kind))?),
        _ => Box::new(PublishSubscribe::open(address, &Side::Second.subjects(kind))?),
    };
    println!("{READY}");
    let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
    loop {
        talk.receive(&mut payload)?;
        talk.publish(&payload)?;
    }
}

impl Side {
    /// What this side publishes on and what it listens to. Of one measurement only: a server's subjects are the same
    /// for all its connections.
    fn subjects(self, measure: &str) -> [String; 2] {
        let (there, back) = (format!("{measure}.there"), format!("{measure}.back"));
        match self {
            Self::First => [there, back],
            Self::Second => [back, there],
        }
    }
}

impl Processes {
    fn own(&self, server: Server) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push(server);
    }

    fn start_second(
        &self,
        kind: &str,
        address: &str,
        cpus: Option<(usize, usize)>,
    ) -> anyhow::Result<()> {
        let mut arguments = vec!["second".to_owned(), kind.to_owned(), address.to_owned()];
        arguments.extend(cpus.map(|(_, cpu)| cpu.to_string()));
        let second = Second::start(&arguments);
        self.seconds.add(second.with_context(|| format!("the second process of `{kind}`"))?);
        Ok(())
    }

    /// Ends all of them and waits for that.
    fn end(&self) {
        self.seconds.end();
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Measures {
    fn start_nats(
        &mut self,
        scratch: &Path,
        processes: &Processes,
        cpus: Option<(usize, usize)>,
    ) -> anyhow::Result<()> {
        let (server, address) = Server::nats(scratch)?;
        processes.own(server);
        processes.start_second("nats", &address, cpus)?;
        let first = Nats::open(&address, &Side::First.subjects("nats"))?;
        self.versions.insert("nats".to_owned(), json!(first.version()));
        self.jetstream = Some(nats::JetStream::open(&address)?);
        self.talks.push(("nats", Box::new(first)));
        Ok(())
    }

    fn start_redis(
        &mut self,
        scratch: &Path,
        processes: &Processes,
        cpus: Option<(usize, usize)>,
    ) -> anyhow::Result<()> {
        let (server, addresses) = Server::redis(scratch)?;
        processes.own(server);
        for (name, address) in ["redis", "redis_unix"].into_iter().zip(&addresses) {
            processes.start_second(name, address, cpus)?;
            let first = PublishSubscribe::open(address, &Side::First.subjects(name))?;
            self.talks.push((name, Box::new(first)));
        }
        self.redis_stream = Some(Stream::open(&addresses[1])?);
        self.versions.insert("redis".to_owned(), json!(redis::version(&addresses[1])?));
        Ok(())
    }

    fn are_absent(&mut self, names: &[&str], error: &anyhow::Error) {
        for name in names {
            self.absent.insert((*name).to_owned(), json!(format!("{error:#}")));
        }
        self.talks.retain(|(name, _)| !names.contains(name));
    }

    fn hello(&self) -> Value {
        let mut names: Vec<&str> = self.talks.iter().map(|(name, _)| *name).collect();
        names.extend(self.jetstream.iter().map(|_| "jetstream"));
        names.extend(self.redis_stream.iter().flat_map(|_| ["redis_everysec", "redis_always"]));
        json!({"measures": names, "versions": self.versions, "absent": self.absent})
    }

    fn round(&mut self, measure: &str, messages: u64) -> anyhow::Result<Value> {
        if let Some((_, talk)) = self.talks.iter_mut().find(|(name, _)| *name == measure) {
            return there_and_back(talk.as_mut(), messages);
        }
        match (measure, &mut self.jetstream, &mut self.redis_stream) {
            ("jetstream", Some(jetstream), _) => kept(jetstream, messages),
            ("redis_everysec", _, Some(stream)) => {
                stream.restart(Sync::EverySecond)?;
                kept(stream, messages)
            }
            ("redis_always", _, Some(stream)) => {
                stream.restart(Sync::Always)?;
                kept(stream, messages)
            }
            _ => bail!("no such measure: `{measure}`"),
        }
    }
}

/// Sends messages and waits for the answer of each; one way is half of the time.
fn there_and_back(talk: &mut dyn Talk, messages: u64) -> anyhow::Result<Value> {
    let mut times = Times::new()?;
    let mut payload = [0; PAYLOAD_BYTES];
    let mut answer = Vec::with_capacity(PAYLOAD_BYTES);
    for number in 0..messages {
        let began = Instant::now();
        payload.fill(number as u8);
        talk.publish(&payload)?;
        talk.receive(&mut answer)?;
        ensure!(answer == payload, "message {number} came back changed");
        times.record(began.elapsed());
    }
    Ok(times.one_way())
}

/// Sends messages and waits for the broker's word that it has kept each.
fn kept(keep: &mut dyn Keep, messages: u64) -> anyhow::Result<Value> {
    let mut times = Times::new()?;
    let mut payload = [0; PAYLOAD_BYTES];
    for number in 0..messages {
        let began = Instant::now();
        payload.fill(number as u8);
        keep.publish_and_wait(&payload)?;
        times.record(began.elapsed());
    }
    Ok(times.whole())
}
