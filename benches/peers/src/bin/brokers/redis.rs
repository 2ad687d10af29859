//! Redis' protocol (RESP2), as much as is needed: publish and subscribe, and a stream in the append-only file.

use anyhow::{Context, bail, ensure};

use super::wire::Wire;
use crate::{Keep, Talk};

/// The stream that messages are appended to.
const STREAM: &str = "kept";

/// When the append-only file is made safe against loss of power. In both cases Redis writes to the file before it
/// answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sync {
    EverySecond,
    Always,
}

/// Two connections, because a subscribed one can do nothing else.
pub(crate) struct PublishSubscribe {
    /// Told not to answer, as one who only publishes wants it.
    publisher: Wire,
    subscriber: Wire,
    own: String,
    out: Vec<u8>,
}

impl PublishSubscribe {
    pub(crate) fn open(address: &str, [own, other]: &[String; 2]) -> anyhow::Result<Self> {
        let (mut publisher, mut subscriber) = (Wire::connect(address)?, Wire::connect(address)?);
        publisher.write(&command(&[b"CLIENT", b"REPLY", b"OFF"]))?;
        subscriber.write(&command(&[b"SUBSCRIBE", other.as_bytes()]))?;
        // subscribe, the channel, and the count of channels
        let mut name = Vec::new();
        expect(&mut subscriber, "*3")?;
        bulk(&mut subscriber, &mut name)?;
        bulk(&mut subscriber, &mut name)?;
        expect(&mut subscriber, ":1")?;
        Ok(Self { publisher, subscriber, own: own.clone(), out: Vec::new() })
    }
}

impl Talk for PublishSubscribe {
    fn publish(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.out.clear();
        write_command(&mut self.out, &[b"PUBLISH", self.own.as_bytes(), payload]);
        self.publisher.write(&self.out)
    }

    fn receive(&mut self, payload: &mut Vec<u8>) -> anyhow::Result<()> {
        expect(&mut self.subscriber, "*3")?;
        // message, the channel, the payload
        for _ in 0..3 {
            bulk(&mut self.subscriber, payload)?;
        }
        Ok(())
    }
}

/// A connection that appends.
pub(crate) struct Stream {
    wire: Wire,
    out: Vec<u8>,
    id: Vec<u8>,
}

impl Stream {
    pub(crate) fn open(address: &str) -> anyhow::Result<Self> {
        Ok(Self { wire: Wire::connect(address)?, out: Vec::new(), id: Vec::new() })
    }

    /// Empties the stream and sets what an answer promises.
    pub(crate) fn restart(&mut self, sync: Sync) -> anyhow::Result<()> {
        let sync: &[u8] = match sync {
            Sync::EverySecond => b"everysec",
            Sync::Always => b"always",
        };
        self.wire.write(&command(&[b"DEL", STREAM.as_bytes()]))?;
        let deleted = self.wire.line()?;
        ensure!(deleted.starts_with(':'), "Redis answered `{deleted}`");
        self.wire.write(&command(&[b"CONFIG", b"SET", b"appendfsync", sync]))?;
        expect(&mut self.wire, "+OK")
    }
}

impl Keep for Stream {
    fn publish_and_wait(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.out.clear();
        write_command(&mut self.out, &[b"XADD", STREAM.as_bytes(), b"*", b"p", payload]);
        self.wire.write(&self.out)?;
        bulk(&mut self.wire, &mut self.id)
    }
}

/// The version that the server says of itself.
pub(crate) fn version(address: &str) -> anyhow::Result<String> {
    let mut wire = Wire::connect(address)?;
    wire.write(&command(&[b"INFO", b"server"]))?;
    let mut text = Vec::new();
    bulk(&mut wire, &mut text)?;
    let text = String::from_utf8(text)?;
    let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
    Ok(version.context("Redis tells no version")?.trim().to_owned())
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write_command(&mut out, words);
    out
}

fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn expect(wire: &mut Wire, wanted: &str) -> anyhow::Result<()> {
    let line = wire.line()?;
    ensure!(line == wanted, "Redis answered `{line}`, not `{wanted}`");
    Ok(())
}

/// A counted string.
fn bulk(wire: &mut Wire, text: &mut Vec<u8>) -> anyhow::Result<()> {
    let line = wire.line()?;
    let Some(count) = line.strip_prefix('$') else { bail!("Redis answered `{line}`") };
    let count = count.parse()?;
    wire.counted(count, text)
}
