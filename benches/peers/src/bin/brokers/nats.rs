//! NATS' text protocol, as much as is needed: publish and subscribe, and JetStream's acknowledged publishing, which is a
//! request whose answer comes on a subject of our own.

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::wire::Wire;
use crate::{Keep, Talk};

/// The stream that JetStream keeps, and the subject that leads into it.
const STREAM: &str = "KEPT";
const KEPT_SUBJECT: &str = "kept.message";
/// Where JetStream's answers come.
const ANSWERS: &str = "_INBOX.bolide.answers";
/// Messages that the stream holds; the oldest go.
const KEPT_MESSAGES_MAX: u64 = 1_000_000;

/// One connection with one subscription.
pub(crate) struct Nats {
    wire: Wire,
    own: String,
    version: String,
    out: Vec<u8>,
}

impl Nats {
    pub(crate) fn open(address: &str, [own, other]: &[String; 2]) -> anyhow::Result<Self> {
        let mut wire = Wire::connect(address)?;
        let greeting = wire.line()?.strip_prefix("INFO ").context("no greeting of NATS")?;
        let greeting: Value = serde_json::from_str(greeting)?;
        let version = greeting["version"].as_str().context("a greeting without version")?;
        let options = json!({"verbose": false, "pedantic": false, "tls_required": false});
        wire.write(format!("CONNECT {options}\r\nSUB {other} 1\r\nPING\r\n").as_bytes())?;
        // The answer says that the subscription before it is in force.
        let answer = wire.line()?;
        ensure!(answer == "PONG", "NATS answered `{answer}`");
        Ok(Self { wire, own: own.clone(), version: version.to_owned(), out: Vec::new() })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// One write for the whole message.
    fn send(&mut self, reply_to: &str, payload: &[u8]) -> anyhow::Result<()> {
        self.out.clear();
        for part in ["PUB ", &self.own, " ", reply_to] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.out.extend_from_slice(format!(" {}\r\n", payload.len()).as_bytes());
        self.out.extend_from_slice(payload);
        self.out.extend_from_slice(b"\r\n");
        self.wire.write(&self.out)
    }
}

impl Talk for Nats {
    fn publish(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.send("", payload)
    }

    fn receive(&mut self, payload: &mut Vec<u8>) -> anyhow::Result<()> {
        loop {
            let line = self.wire.line()?;
            if line == "PING" {
                self.wire.write(b"PONG\r\n")?;
                continue;
            }
            // MSG subject subscription [reply-to] bytes
            let Some(message) = line.strip_prefix("MSG ") else { bail!("NATS said `{line}`") };
            let count = message.rsplit(' ').next().context("a message without size")?.parse()?;
            return self.wire.counted(count, payload);
        }
    }
}

/// A stream in JetStream's files, with one replica.
pub(crate) struct JetStream {
    nats: Nats,
    answer: Vec<u8>,
}

impl JetStream {
    pub(crate) fn open(address: &str) -> anyhow::Result<Self> {
        let create = format!("$JS.API.STREAM.CREATE.{STREAM}");
        let nats = Nats::open(address, &[create, ANSWERS.to_owned()])?;
        let mut stream = Self { nats, answer: Vec::new() };
        let wanted = json!({
            "name": STREAM,
            "subjects": [KEPT_SUBJECT],
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "max_msgs": KEPT_MESSAGES_MAX,
            "num_replicas": 1,
        });
        stream.publish_and_wait(wanted.to_string().as_bytes())?;
        stream.nats.own = KEPT_SUBJECT.to_owned();
        Ok(stream)
    }
}

impl Keep for JetStream {
    fn publish_and_wait(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.nats.send(ANSWERS, payload)?;
        self.nats.receive(&mut self.answer)?;
        let answer = String::from_utf8_lossy(&self.answer);
        ensure!(!answer.contains("\"error\""), "JetStream answered `{answer}`");
        Ok(())
    }
}
