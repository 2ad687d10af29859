//! A generated registry of 100,000 npm packages, served over the loopback: every name exists, each has several versions,
//! and what a version needs follows from its number. So nothing is stored, and every tool sees the same.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

/// Names in it.
const PACKAGES: u64 = 100_000;
/// Minor versions of each; a major one changes in the middle.
const VERSIONS: u64 = 24;
/// Packages that are asked for directly.
const DIRECT: u64 = 40;
/// Connections served at once: more than any client opens.
const CONNECTIONS_MAX: usize = 512;

/// What is asked for.
pub(super) fn wanted() -> Vec<(String, String)> {
    (0..DIRECT).map(|index| (name(index * 17), "^1".to_owned())).collect()
}

fn name(index: u64) -> String {
    format!("bolide-universe-{index}")
}

/// A number that looks random and is the same everywhere (SplitMix64).
fn mixed(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn version(minor: u64) -> String {
    format!("{}.{}.0", 1 + minor / (VERSIONS / 2), minor % (VERSIONS / 2))
}

/// What a version needs: packages with higher numbers, so that there are no circles, and nearer ones the further down.
fn dependencies(index: u64, minor: u64) -> Value {
    let mut needs = serde_json::Map::new();
    // One of three packages needs nothing, the others up to four.
    let random = mixed(index);
    let count = if random.is_multiple_of(3) { 0 } else { 1 + (random >> 8) % 4 };
    for which in 0..count {
        let random = mixed(index * 31 + which);
        let target = index + 1 + random % (PACKAGES / 3);
        if target < PACKAGES {
            let lowest = (random >> 20) % (VERSIONS / 2) * minor / VERSIONS;
            needs.insert(name(target), json!(format!("^1.{lowest}.0")));
        }
    }
    Value::Object(needs)
}

fn packument(index: u64, base: &str) -> Vec<u8> {
    let name = name(index);
    let mut versions = serde_json::Map::new();
    for minor in 0..VERSIONS {
        let text = version(minor);
        let mut digest = String::new();
        for _ in 0..86 {
            digest.push('A');
        }
        let _ = write!(digest, "==");
        versions.insert(
            text.clone(),
            json!({
                "name": name,
                "version": text,
                "dependencies": dependencies(index, minor),
                "dist": {
                    "tarball": format!("{base}/{name}/-/{name}-{text}.tgz"),
                    "integrity": format!("sha512-{digest}"),
                },
            }),
        );
    }
    let document = json!({
        "name": name,
        "dist-tags": {"latest": version(VERSIONS / 2 - 1)},
        "versions": versions,
    });
    document.to_string().into_bytes()
}

/// The registry; ends with its owner.
pub(super) struct Universe {
    address: String,
    ended: Arc<AtomicBool>,
}

impl Universe {
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let ended = Arc::new(AtomicBool::new(false));
        let (end, base) = (Arc::clone(&ended), format!("http://{address}"));
        std::thread::spawn(move || {
            let open = Arc::new(AtomicUsize::new(0));
            for stream in listener.incoming() {
                // Acquire pairs with the release in `drop`, which connects to wake this thread.
                if end.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                    open.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (open, base) = (Arc::clone(&open), base.clone());
                std::thread::spawn(move || {
                    let _ = serve(&stream, &base);
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Self { address, ended })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Universe {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let _ = TcpStream::connect(&self.address);
    }
}

/// Answers requests of one connection until it ends.
fn serve(stream: &TcpStream, base: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        let index = path.strip_prefix("/bolide-universe-").and_then(|text| text.parse().ok());
        let (status, body) = match index.filter(|index| *index < PACKAGES) {
            Some(index) => ("200 OK", packument(index, base)),
            None => ("404 Not Found", b"{}".to_vec()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(&[head.as_bytes(), &body].concat())?;
    }
}
