//! Request and answer to a hosted agent: `pkg.info` of a package whose answer the Packager has in memory, and `echo.echo`, which
//! has nothing to look up.
//!
//! The agents run where the daemon hosts them, in processes of their own, placed by the kernel; the caller is pinned. Polled: the caller
//! asks again at once and spins, so the serving thread is awake. Blocked: the caller sleeps as soon as it has asked, and
//! before it asks it waits for longer than the serving thread spins. The package is one that a registry in this process
//! has; it is asked once and again after each time that an answer in memory became too old.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use agents_packager::api::{InfoRequest, Setting};
use agents_packager::ecosystem::Ecosystem;
use anyhow::{Context as _, bail, ensure};
use hw::affinity;
use ipc::client::Client;
use ipc::link::{Answer, Link, Outcome};
use serde_json::{Value, json};

use super::super::deadline;
use super::super::figures::{Figure, at};
use super::super::scratch::ScratchDaemon;
use super::pair::{Percentiles, times};
use super::{Context, Part};

/// For so many messages between two spinning processes one request.
const POLLED_DIVISOR: u64 = 20;
/// For so many one whose both sides sleep.
const BLOCKED_DIVISOR: u64 = 500;
/// How long the caller rests before a blocked request: several times as long as anybody spins.
const REST: Duration = Duration::from_micros(200);
const _: () = assert!(REST.as_nanos() as u64 > 4 * ipc::limits::SPIN_NS);
/// Bytes that are echoed.
const ECHO_BYTES: usize = 48;
/// What the report has of this part.
pub(super) const FIELDS: &[&str] = &[
    "request_reply.polled_p50_ns",
    "request_reply.polled_p99_ns",
    "request_reply.polled_p999_ns",
    "request_reply.blocked_p50_ns",
    "request_reply.blocked_p99_ns",
    "request_reply.blocked_p999_ns",
];

/// The part.
pub(super) struct Requests {
    client: Client,
    info: Asked,
    echo: Asked,
    cpu: Option<usize>,
    // Dropped last.
    _daemon: ScratchDaemon,
}

/// One question to one agent.
struct Asked {
    link: Link,
    tool: &'static str,
    payload: Vec<u8>,
    /// What it must be answered, once that is known.
    answer: Vec<u8>,
}

impl Requests {
    pub(super) fn start(context: &Context) -> anyhow::Result<Self> {
        let daemon = ScratchDaemon::start(&["packager", "echo"], &[])?;
        let mut client = daemon.client("bench.caller")?;
        let payload = info_request(serve_registry()?)?;
        let info = Asked::new(&mut client, "packager", "pkg.info", payload)?;
        let echo = Asked::new(&mut client, "echo", "echo.echo", vec![7; ECHO_BYTES])?;
        let cpu = context.cpus.map(|cpus| cpus.0);
        Ok(Self { client, info, echo, cpu, _daemon: daemon })
    }
}

impl Part for Requests {
    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>> {
        let (client, asked, cpu) =
            (&mut self.client, [("", &mut self.info), (".echo", &mut self.echo)], self.cpu);
        // A thread of its own, whose pin goes with it.
        std::thread::scope(|scope| {
            let measured = scope.spawn(move || {
                if let Some(cpu) = cpu {
                    ensure!(affinity::pin_polling_thread(cpu), "cannot pin to CPU {cpu}");
                }
                let mut found = Vec::new();
                for (place, asked) in asked {
                    let polled = asked.polled(client, messages.div_ceil(POLLED_DIVISOR))?;
                    let blocked = asked.blocked(client, messages.div_ceil(BLOCKED_DIVISOR))?;
                    for (name, percentiles) in [("polled", polled), ("blocked", blocked)] {
                        let path = format!("request_reply{place}.{name}");
                        percentiles.write_flat(&path, &mut found);
                    }
                }
                Ok(found)
            });
            measured.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })
    }

    fn describe(&self, report: &mut Value) {
        let place = at(report, "request_reply");
        place["tool"] = json!(self.info.tool);
        place["answer_bytes"] = json!(self.info.answer.len());
    }
}

impl Asked {
    /// Opens the link and asks for the first time.
    fn new(
        client: &mut Client,
        agent: &str,
        tool: &'static str,
        payload: Vec<u8>,
    ) -> anyhow::Result<Self> {
        let link = client.open(agent)?;
        let mut asked = Self { link, tool, payload, answer: Vec::new() };
        asked.answer = asked.call(client)?;
        Ok(asked)
    }

    fn call(&mut self, client: &mut Client) -> anyhow::Result<Vec<u8>> {
        match client.call(&mut self.link, self.tool, &self.payload, &[], deadline(), |_| {})? {
            Outcome::Done(answer) => Ok(answer),
            Outcome::Failed(error) => bail!("`{}` failed: {}", self.tool, readable(&error)),
        }
    }

    fn polled(&mut self, client: &mut Client, requests: u64) -> anyhow::Result<Percentiles> {
        let mut times = times()?;
        for _ in 0..requests {
            let began = Instant::now();
            let answer = self.call(client)?;
            times.saturating_record(began.elapsed().as_nanos() as u64);
            ensure!(answer == self.answer, "another answer came");
        }
        Ok(Percentiles::there_and_back(&times))
    }

    fn blocked(&mut self, client: &mut Client, requests: u64) -> anyhow::Result<Percentiles> {
        let mut times = times()?;
        for _ in 0..requests {
            std::thread::sleep(REST);
            let began = Instant::now();
            let request = self.link.request(self.tool, &self.payload, &[], deadline())?;
            let answer = loop {
                client.wait(&mut [self.link.receiver().raw()], Some(deadline()))?;
                if let Some(answer) = self.link.try_answer(request)? {
                    break answer;
                }
                ensure!(Instant::now() < began + HANG, "no answer came");
            };
            times.saturating_record(began.elapsed().as_nanos() as u64);
            ensure!(answer == Answer::Done(self.answer.clone()), "another answer came");
        }
        Ok(Percentiles::there_and_back(&times))
    }
}

/// When a blocked request counts as lost.
const HANG: Duration = Duration::from_secs(20);

fn readable(error: &[u8]) -> String {
    match ciborium::from_reader::<agents_contract::ToolError, _>(error) {
        Ok(error) => error.message,
        Err(_) => "an error that cannot be read".to_owned(),
    }
}

/// The question for the package at this registry; nobody's configuration counts.
fn info_request(registry: String) -> anyhow::Result<Vec<u8>> {
    let variables = [("HOME", "/nonexistent"), ("NO_PROXY", "127.0.0.1")];
    let setting = Setting {
        registry: [(Ecosystem::Npm, registry)].into(),
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Setting::default()
    };
    let request = InfoRequest { package: "npm:measured".to_owned(), setting };
    let mut payload = Vec::new();
    ciborium::into_writer(&request, &mut payload).context("the request has no CBOR form")?;
    Ok(payload)
}

/// A registry on loopback with one package, for as long as this process lives; gives its address.
fn serve_registry() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/", listener.local_addr()?);
    let body = packument(&address).to_string();
    std::thread::Builder::new().name("registry".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // One that hangs up early has no answer, which it will say.
            let _ = answer_http(&stream, &body);
        }
    })?;
    Ok(address)
}

fn answer_http(mut stream: &TcpStream, body: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A package like others: some versions with some dependencies.
fn packument(address: &str) -> Value {
    let version = |number: usize| {
        let version = format!("1.{number}.0");
        // Nobody asks for the file.
        let integrity = format!("sha512-{}==", "A".repeat(86));
        let entry = json!({
            "name": "measured",
            "version": version,
            "license": "MIT",
            "dependencies": {"accepts": "~1.3.8", "body-parser": "1.20.3", "cookie": "0.7.1"},
            "dist": {"tarball": format!("{address}measured.tgz"), "integrity": integrity},
        });
        (version, entry)
    };
    let versions: serde_json::Map<String, Value> = (0..20).map(version).collect();
    json!({"name": "measured", "dist-tags": {"latest": "1.19.0"}, "versions": versions})
}
