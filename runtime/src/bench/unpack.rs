//! What it costs to have archives read by a process of its own: the same archive into a fresh store, by this process and by the
//! other one, in turns.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use agents_packager::metadata::Hashes;
use agents_packager::store::{Object, Store};
use agents_packager::unpack::unpacker::{Program, Unpacker};
use agents_packager::unpack::{ArchiveKind, Contents, Entry, Refusal, Source};
use anyhow::Context as _;
use serde_json::{Value, json};

/// `bolide bench unpack`
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How often each archive is unpacked each way
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The shapes: name, files, bytes of each.
const SHAPES: [(&str, usize, usize); 4] = [
    ("npm-small", 12, 2 << 10),
    ("npm-2000-files", 2_000, 4 << 10),
    ("npm-large", 20, 4 << 20),
    ("crate-large", 200, 400 << 10),
];

/// Measures all shapes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let scratch = Scratch::new()?;
    let sets: anyhow::Result<Vec<Value>> =
        SHAPES.iter().map(|shape| measure(&scratch.0, *shape, arguments.rounds.max(1))).collect();
    Ok(json!({"schema": "bolide.bench.unpack/1", "rounds": arguments.rounds, "sets": sets?}))
}

/// A directory that goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("bolide-bench-unpack-{}", std::process::id()));
        // What an earlier process of the same number left is of no use to anybody.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).context("cannot make a directory to measure in")?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn measure(
    scratch: &Path,
    (name, files, bytes): (&str, usize, usize),
    rounds: usize,
) -> anyhow::Result<Value> {
    let is_crate = name.starts_with("crate");
    let archive = archive(files, bytes, is_crate)?;
    let path = scratch.join("archive");
    std::fs::write(&path, &archive)?;
    let file = std::fs::File::open(&path)?;
    let hashes = Hashes { sha256: Some(Object::of(&archive).hex()), ..Hashes::default() };
    let helped = Arc::new(Unpacker::with(Program::own()));
    let ways = [("in_process", Arc::new(Unpacker::here())), ("helper", Arc::clone(&helped))];
    let mut values = [const { (Vec::new(), Vec::new(), Vec::new()) }; 2];
    let session = helped.session();
    for _ in 0..rounds {
        for ((_, unpacker), (read, stored, _)) in ways.iter().zip(&mut values) {
            read.push(timed(|| read_all(unpacker, &file, is_crate))?);
            let place = scratch.join("store");
            let store = Store::open(&place)?.unpacked_by(Arc::clone(unpacker));
            stored.push(timed(|| add(&store, &file, &hashes, is_crate))?);
            drop(store);
            std::fs::remove_dir_all(&place)?;
        }
    }
    drop(session);
    // Without a session each archive starts a process of its own.
    for ((_, unpacker), (.., first)) in ways.iter().zip(&mut values) {
        for _ in 0..rounds {
            first.push(timed(|| read_all(unpacker, &file, is_crate))?);
        }
    }
    let mut report = json!({
        "name": name,
        "files": files,
        "packed_bytes": archive.len(),
        "unpacked_bytes": files * bytes,
    });
    for ((way, _), (read, stored, first)) in ways.iter().zip(values) {
        report[*way] = json!({
            "read": spread(read),
            "stored": spread(stored),
            "read_with_start": spread(first),
        });
    }
    Ok(report)
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// Every byte is read and thrown away; of a crate the names, as the store asks for them.
fn read_all(unpacker: &Unpacker, file: &std::fs::File, is_crate: bool) -> anyhow::Result<()> {
    let (kind, contents) = match is_crate {
        true => (ArchiveKind::Crate { folder: "demo-1.0.0" }, Contents::Names),
        false => (ArchiveKind::Npm, Contents::All),
    };
    let mut buffer = vec![0; 64 << 10];
    let take = |_: Entry, content: &mut dyn std::io::Read| -> Result<(), Refusal> {
        while !is_crate && content.read(&mut buffer).map_err(Refusal::from_read)? > 0 {}
        Ok(())
    };
    unpacker.read(Source::File(file), kind, contents, take)?;
    Ok(())
}

fn add(store: &Store, file: &std::fs::File, hashes: &Hashes, is_crate: bool) -> anyhow::Result<()> {
    let source = Source::File(file);
    match is_crate {
        true => store.add_crate(source, hashes, "demo-1.0.0")?,
        false => store.add_tarball(source, hashes, "demo.tgz")?,
    };
    Ok(())
}

/// A tarball whose files compress about four to one, as sources do.
fn archive(files: usize, bytes: usize, is_crate: bool) -> anyhow::Result<Vec<u8>> {
    let folder = if is_crate { "demo-1.0.0" } else { "package" };
    let mut builder = tar::Builder::new(Vec::new());
    let mut append = |name: String, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content)
    };
    append(format!("{folder}/package.json"), b"{\"name\":\"demo\",\"version\":\"1.0.0\"}")?;
    append(format!("{folder}/Cargo.toml"), b"[package]\n")?;
    for index in 0..files {
        append(
            format!("{folder}/directory-{}/file-{index}.js", index / 50),
            &source(index, bytes),
        )?;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&builder.into_inner()?)?;
    Ok(encoder.finish()?)
}

/// Words in no order, the same for the same seed.
fn source(seed: usize, bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "function ",
        "return ",
        "const ",
        "value",
        "index",
        "(",
        ")",
        " = ",
        ";\n",
        "export ",
        "if (",
        ") {\n",
        "}\n",
        "this.",
        "length",
        "0x",
    ];
    let mut state = seed as u64 * 2 + 1;
    let mut text = Vec::with_capacity(bytes + 16);
    while text.len() < bytes {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(WORDS[(state >> 60) as usize].as_bytes());
        text.push(b'a' + (state >> 40) as u8 % 26);
    }
    text.truncate(bytes);
    text
}

/// Milliseconds: the middle, and what one in ten is above.
fn spread(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values.get(values.len() * part / 100).copied();
    json!({"p50_ms": at(50), "p90_ms": at(90), "max_ms": values.last()})
}

/// The report as people read it.
pub(crate) fn text(report: &Value) -> String {
    let mut text = String::new();
    for set in report["sets"].as_array().into_iter().flatten() {
        let name = set["name"].as_str().unwrap_or_default();
        text += &format!("{name}: {} files, {} bytes packed\n", set["files"], set["packed_bytes"]);
        for step in ["read", "stored", "read_with_start"] {
            let at = |way: &str, part: &str| set[way][step][part].as_f64().unwrap_or_default();
            text += &format!(
                "  {step:<16} in process {:>8.2} ms (p90 {:.2}), helper {:>8.2} ms (p90 {:.2})\n",
                at("in_process", "p50_ms"),
                at("in_process", "p90_ms"),
                at("helper", "p50_ms"),
                at("helper", "p90_ms"),
            );
        }
    }
    text
}
