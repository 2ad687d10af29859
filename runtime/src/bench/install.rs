//! `bolide bench install`: an environment from a lock, beside the ecosystems' own installers.
//!
//! Every tool installs the same packages of the same versions from the same registry: a mirror on the loopback that serves what
//! `make installed` recorded, so that no network is measured. In each round every tool starts in a directory where nothing was
//! ever installed: with empty caches (cold); with full ones, after what it had installed was removed (warm); and once more while
//! that stands (second), which is another matter for whoever links files. A peer's own offline mode is used where it has one.
//! Rounds of all tools are interleaved, the median counts and the least and the greatest value stand beside it. What each tool
//! made is compared with what Bolide made, file by file (`trees`).
//!
//! Bolide is there twice: with a daemon, as it is meant to be used (`bolide`), and as a command that does everything itself
//! (`alone`). The daemon of a cold run was started with empty caches and has served nothing. It makes packages ready for the next
//! installation while nobody waits; that is not measured, and nothing else is while it does.
//!
//! Three things would be measured that are nobody's work, so they are kept out: what one tool left for the disk to write is
//! written before the next one starts; nothing is removed while a round runs, and nothing starts until the file system uses the
//! inodes again that were freed; memory is looked at in a round of its own.

mod day;
mod mirror;
mod resident;
mod tools;
mod trees;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agents_packager::ecosystem::Ecosystem;
use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};

use self::mirror::{Mirror, PLACEHOLDER};
use self::tools::{Ran, Tool};
use self::trees::Tree;
use super::step::Memory;
use super::{median, wanted};

/// What is installed: projects of `tests/installed/sets.toml`, small and large, of many files and of large ones.
const SETS: [(Ecosystem, &str); 6] = [
    (Ecosystem::Npm, "express"),
    (Ecosystem::Npm, "webpack"),
    (Ecosystem::Npm, "eslint-airbnb"),
    (Ecosystem::Pypi, "flask"),
    (Ecosystem::Pypi, "notebook"),
    (Ecosystem::Pypi, "science"),
];

/// ext4 takes no inode that was freed less than five seconds ago, and looks for another one instead: whoever makes files then pays
/// for whoever removed some.
const INODES_REST: Duration = Duration::from_secs(6);

/// `bolide bench install`
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Rounds of each measurement; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only sets whose name contains this, of one ecosystem (`npm:next`) or all of one (`npm:`); can be given more than once.
    #[arg(long)]
    only: Vec<String>,
    /// Leaves out a tool to compare with; can be given more than once.
    #[arg(long, value_name = "TOOL")]
    without: Vec<String>,
    /// Leaves out the day of work.
    #[arg(long)]
    no_day: bool,
    /// Where `make peers` put the tools to compare with.
    #[arg(long, default_value = ".peers", value_name = "DIRECTORY")]
    peers: PathBuf,
    /// Where `make installed` keeps what registries answered.
    #[arg(long, default_value = ".recordings/installed", value_name = "DIRECTORY")]
    recordings: PathBuf,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a run begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Cold,
    Warm,
    Second,
}

/// What one tool needed.
#[derive(Default)]
struct Measured {
    cold: Vec<f64>,
    warm: Vec<f64>,
    second: Vec<f64>,
    undo: Vec<f64>,
    rates: Vec<f64>,
    peak_rss_bytes: u64,
    tree: Option<Tree>,
    why: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let wanted =
        wanted(&arguments.only, SETS.iter(), |(ecosystem, name)| (ecosystem.as_str(), name))?;
    let peers = std::path::absolute(&arguments.peers)?;
    let recordings = std::path::absolute(&arguments.recordings)?;
    let scratch = Scratch::new()?;
    let mut sets = Vec::new();
    for set in wanted {
        let place = scratch.0.join(format!("{}-{}", set.0, set.1));
        let measured = measure(*set, arguments, &peers, &recordings, &place)?;
        // The whole takes many minutes, and what is known already is worth seeing.
        eprint!("{}", set_text(&measured));
        sets.push(measured);
    }
    let peak = sets.iter().filter_map(|set| set["rss_bytes"].as_u64()).max();
    let day = match arguments.no_day {
        true => Value::Null,
        false => day::live(&recordings, &scratch.0.join("day"))?,
    };
    Ok(json!({
        "schema": "bolide.bench.install/1",
        "rounds": arguments.rounds.max(1),
        "sets": sets,
        "peak_rss_bytes": peak,
        "day": day,
    }))
}

fn measure(
    (ecosystem, name): (Ecosystem, &str),
    arguments: &Arguments,
    peers: &Path,
    recordings: &Path,
    scratch: &Path,
) -> anyhow::Result<Value> {
    std::fs::create_dir_all(scratch)?;
    let mirror = Mirror::start(ecosystem, recordings.join(ecosystem.as_str()))?;
    let template = scratch.join("template");
    lay_out(&recordings.join(ecosystem.as_str()).join(".projects").join(name), &template, &mirror)
        .with_context(|| format!("`make installed ECOSYSTEM={ecosystem}` records `{name}`"))?;
    let mut tools = tools::tools(ecosystem, scratch, &template, peers, &mirror.url());
    tools.retain(|tool| !arguments.without.iter().any(|name| name == tool.name));
    let mut measured: Vec<Measured> = tools.iter().map(|_| Measured::default()).collect();
    for (tool, measured) in tools.iter_mut().zip(&mut measured) {
        measured.why = tool.prepare().err().map(|error| format!("{error:#}"));
    }
    // The last round is for memory only.
    let rounds = arguments.rounds.max(1);
    for round in 0..=rounds {
        let memory = if round == rounds { Memory::Family } else { Memory::Not };
        for phase in [Phase::Cold, Phase::Warm, Phase::Second] {
            for (tool, measured) in tools.iter_mut().zip(&mut measured) {
                if measured.why.is_some() {
                    continue;
                }
                let ran = one_run(tool, measured, &mirror, phase, memory);
                // Nobody else is measured while it does what it does when nobody waits.
                let rested = ran.and_then(|()| tool.rest());
                measured.why = rested.err().map(|error| format!("{error:#}"));
            }
            if phase != Phase::Warm {
                for tool in &mut tools {
                    tool.tidy()?;
                }
                std::thread::sleep(INODES_REST);
            }
        }
    }
    let limit = mirror.rate_limit()?;
    let unrecorded = mirror.unrecorded();
    let report = report(name, ecosystem, &tools, measured, limit, unrecorded)?;
    drop(mirror);
    std::fs::remove_dir_all(scratch)?;
    Ok(report)
}

fn one_run(
    tool: &mut Tool,
    measured: &mut Measured,
    mirror: &Mirror,
    phase: Phase,
    memory: Memory,
) -> anyhow::Result<()> {
    let is_cold = phase == Phase::Cold;
    let project = tool.fresh(is_cold)?;
    mirror.forget();
    // What others left to write would be written by whoever syncs first.
    rustix::fs::sync();
    let Ran { elapsed_ms, peak_rss_bytes } = tool.install(&project, is_cold, memory)?;
    if memory != Memory::Not {
        measured.peak_rss_bytes = measured.peak_rss_bytes.max(peak_rss_bytes);
        return Ok(());
    }
    match phase {
        Phase::Cold => measured.cold.push(elapsed_ms),
        Phase::Warm => measured.warm.push(elapsed_ms),
        Phase::Second => measured.second.push(elapsed_ms),
    }
    if is_cold {
        measured.rates.extend(mirror.archive_rate());
    }
    if measured.second.len() < 2 && (!is_cold || measured.tree.is_none()) {
        let tree = Tree::read(tool.ecosystem, &project.join(tool.tree))?;
        let same = measured.tree.as_ref().is_none_or(|cold| cold.contents == tree.contents);
        ensure!(same, "with full caches it makes another tree than with empty ones");
        measured.tree = Some(tree);
    }
    if phase == Phase::Second
        && let Some(undone) = tool.undo(&project)?
    {
        measured.undo.push(undone);
    }
    Ok(())
}

fn report(
    name: &str,
    ecosystem: Ecosystem,
    tools: &[Tool],
    mut measured: Vec<Measured>,
    limit: f64,
    unrecorded: Vec<String>,
) -> anyhow::Result<Value> {
    let ours = measured.remove(0);
    if let Some(why) = &ours.why {
        bail!("`{name}`: {why}");
    }
    let tree = ours.tree.as_ref().context("nothing was installed")?;
    let mut by_peer = Map::new();
    for (tool, peer) in tools.iter().skip(1).zip(&measured) {
        let (mut only_ours, mut only_theirs) = (Vec::new(), Vec::new());
        if let Some(theirs) = &peer.tree {
            only_ours = tree.beyond(theirs);
            only_theirs = theirs.beyond(tree);
        }
        let mut told = times(peer);
        told["same_tree"] = match peer.tree {
            Some(_) => json!(only_ours.is_empty() && only_theirs.is_empty()),
            None => Value::Null,
        };
        told["only_ours"] = json!(only_ours);
        told["only_theirs"] = json!(only_theirs);
        told["why"] = json!(peer.why);
        by_peer.insert(tool.name.to_owned(), told);
    }
    let mut told = times(&ours);
    told["name"] = json!(name);
    told["ecosystem"] = json!(ecosystem);
    told["tree"] = json!(tree.digest());
    told["undo_ms"] = json!(median(ours.undo.clone()));
    told["download_bytes_per_s"] = json!(median(ours.rates.clone()));
    told["mirror_bytes_per_s"] = json!(limit);
    told["unrecorded"] = json!(unrecorded);
    told["peers"] = Value::Object(by_peer);
    Ok(told)
}

/// The figures that every tool has.
fn times(measured: &Measured) -> Value {
    let spread = |values: &[f64]| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if values.is_empty() { Value::Null } else { json!([least, greatest]) }
    };
    json!({
        "files": measured.tree.as_ref().map(|tree| tree.files),
        "bytes": measured.tree.as_ref().map(|tree| tree.bytes),
        "cold_ms": median(measured.cold.clone()),
        "warm_ms": median(measured.warm.clone()),
        "second_ms": median(measured.second.clone()),
        "spread": {
            "cold_ms": spread(&measured.cold),
            "warm_ms": spread(&measured.warm),
            "second_ms": spread(&measured.second),
        },
        "rss_bytes": measured.peak_rss_bytes,
    })
}

/// Copies what was recorded of a project, with this mirror in the place of the registry.
fn lay_out(from: &Path, to: &Path, mirror: &Mirror) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    let listed = std::fs::read_dir(from);
    for entry in listed.with_context(|| format!("cannot read `{}`", from.display()))? {
        let entry = entry?;
        let text = std::fs::read_to_string(entry.path())?.replace(PLACEHOLDER, &mirror.url());
        std::fs::write(to.join(entry.file_name()), text)?;
    }
    Ok(())
}

/// A directory that goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let name = format!("bolide-bench-install-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What an earlier process of the same number left is of no use to anybody.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Milliseconds since.
fn since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

/// The report for people.
pub(crate) fn text(report: &Value) -> String {
    let sets = report["sets"].as_array().into_iter().flatten();
    let mut text = format!(
        "{:<14} {:<8} {:>22} {:>20} {:>20} {:>8}  ms: median (least..greatest)\n",
        "set", "tool", "cold", "warm", "second", "memory"
    );
    text.extend(sets.map(set_text));
    let peak = report["peak_rss_bytes"].as_u64().unwrap_or(0) >> 20;
    text += &format!("most memory {peak} MiB\n");
    for (name, which) in [("the first day of work", "first"), ("an ordinary day", "ordinary")] {
        let day = &report["day"][which];
        if let Some(rate) = day["hit_rate"].as_f64() {
            let (needed, fetched) = (&day["needed"], &day["fetched"]);
            text += &format!(
                "{name}: {needed} artefacts needed, {fetched} fetched, {:.1} % from the store\n",
                rate * 100.0
            );
        }
    }
    text
}

/// One set and its peers, a line each.
fn set_text(set: &Value) -> String {
    let mut text = format!(
        "{:<14} {:<8} {:>22} {:>20} {:>20} {:>8}  {} files, {} MB, undone in {} ms\n",
        set["name"].as_str().unwrap_or_default(),
        "bolide",
        spread_text(set, "cold_ms"),
        spread_text(set, "warm_ms"),
        spread_text(set, "second_ms"),
        mib(set),
        set["files"],
        set["bytes"].as_u64().unwrap_or(0) / 1_000_000,
        ms(&set["undo_ms"]),
    );
    for (peer, told) in set["peers"].as_object().into_iter().flatten() {
        let differences =
            ["only_ours", "only_theirs"].map(|key| told[key].as_array().map_or(0, Vec::len));
        let verdict = match (told["why"].as_str(), told["same_tree"].as_bool()) {
            (Some(why), _) => why.to_owned(),
            (None, Some(true)) => format!("{} files, same tree", told["files"]),
            _ => format!(
                "{} files, {} only ours, {} only theirs",
                told["files"], differences[0], differences[1]
            ),
        };
        text += &format!(
            "{:<14} {peer:<8} {:>22} {:>20} {:>20} {:>8}  {verdict}\n",
            "",
            spread_text(told, "cold_ms"),
            spread_text(told, "warm_ms"),
            spread_text(told, "second_ms"),
            mib(told),
        );
    }
    let rate = |key: &str| set[key].as_f64().unwrap_or(0.0) / 1e6;
    text += &format!(
        "{:<14} downloads at {:.0} MB/s; the mirror gives {:.0} MB/s\n",
        "",
        rate("download_bytes_per_s"),
        rate("mirror_bytes_per_s")
    );
    text
}

fn mib(told: &Value) -> String {
    format!("{} MiB", told["rss_bytes"].as_u64().unwrap_or(0) >> 20)
}

/// The median, and the least and the greatest.
fn spread_text(told: &Value, key: &str) -> String {
    let spread = &told["spread"][key];
    format!("{} ({}..{})", ms(&told[key]), ms(&spread[0]), ms(&spread[1]))
}

fn ms(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |ms| format!("{ms:.0}"))
}
