//! `bolide bench resolve`: time to an exact set of versions, beside the ecosystems' own resolvers.
//!
//! Every tool answers the same question in its own fresh directory, in each round first with empty caches, then with the
//! full ones (a peer's offline mode where it has one). Rounds of all tools are interleaved, the median counts.
//! `daemon_warm_ms` is a request over the bus to a running daemon, with a constraint that changes every round so that no
//! answer can be remembered. The answers are compared in the run.

mod daemon;
mod sets;
mod tools;
mod universe;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use self::daemon::Daemon;
use self::sets::Set;
use self::universe::Universe;
use super::{median, wanted};

/// `bolide bench resolve`
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
    /// Where `make peers` put the tools to compare with.
    #[arg(long, default_value = ".peers", value_name = "DIRECTORY")]
    peers: PathBuf,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What one tool needed.
#[derive(Default)]
struct Measured {
    cold: Vec<f64>,
    warm: Vec<f64>,
    peak_rss_bytes: u64,
    packages: Option<BTreeSet<String>>,
    why: Option<String>,
}

/// Of every set, what all of them are judged by.
#[derive(Default)]
struct Totals {
    cold: Vec<f64>,
    warm: Vec<f64>,
    daemon_warm: Vec<f64>,
    peak_rss_bytes: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let all = sets::all();
    let wanted = wanted(&arguments.only, &all, |set| (set.ecosystem.as_str(), set.name))?;
    let peers = std::path::absolute(&arguments.peers)?;
    let rounds = arguments.rounds.max(1);
    let mut totals = Totals::default();
    let mut sets = Vec::new();
    for set in wanted {
        let measured = measure(set, rounds, &peers, &arguments.without, &mut totals)?;
        // The whole takes many minutes, and what is known already is worth seeing.
        eprint!("{}", set_text(&measured));
        sets.push(measured);
    }
    Ok(json!({
        "schema": "bolide.bench.resolve/1",
        "rounds": rounds,
        "sets": sets,
        "p95_cold_ms": p95(totals.cold),
        "p95_warm_ms": p95(totals.warm),
        "p95_daemon_warm_ms": p95(totals.daemon_warm),
        "peak_rss_bytes": totals.peak_rss_bytes,
    }))
}

/// The value that at most one of twenty exceeds.
fn p95(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * 95).div_ceil(100);
    values.get(rank.checked_sub(1)?).copied()
}

fn measure(
    set: &Set,
    rounds: usize,
    peers: &Path,
    without: &[String],
    totals: &mut Totals,
) -> anyhow::Result<Value> {
    let scratch = scratch()?;
    let universe = if set.is_generated { Some(Universe::start()?) } else { None };
    let registry = universe.as_ref().map(Universe::url);
    let mut tools = tools::tools(set, &scratch, peers, registry.as_deref());
    tools.retain(|tool| !without.iter().any(|name| name == tool.name));
    let mut measured: Vec<Measured> = tools.iter().map(|_| Measured::default()).collect();
    let mut daemon = Daemon::start(&scratch.join("daemon"), registry.as_deref())?;
    let mut daemon_warm = Vec::new();
    daemon.ask(set, 0)?;
    for round in 1..=rounds {
        // By turns: who asks first asks a network that has rested, and others find near what that one made a registry fetch.
        for at in 0..tools.len() {
            let at = (at + round) % tools.len();
            let (tool, measured) = (&tools[at], &mut measured[at]);
            if measured.why.is_none()
                && let Err(error) = one_round(tool, measured)
            {
                measured.why = Some(format!("{error:#}"));
            }
        }
        daemon_warm.push(daemon.ask(set, round)?);
    }
    let rss = daemon.peak_rss_bytes();
    drop(daemon);
    let ours = measured.remove(0);
    if let Some(why) = &ours.why {
        bail!("`{}`: {why}", set.name);
    }
    let mut by_peer = Map::new();
    let mut same_answer = Value::Null;
    let mut differences = Vec::new();
    for (tool, measured) in tools.iter().skip(1).zip(measured) {
        if let (true, Some(theirs), Some(own)) = (tool.is_judge, &measured.packages, &ours.packages)
        {
            same_answer = json!(theirs == own);
            differences.extend(own.difference(theirs).map(|one| format!("+ {one}")));
            differences.extend(theirs.difference(own).map(|one| format!("- {one}")));
        }
        by_peer.insert(
            tool.name.to_owned(),
            json!({
                "cold_ms": median(measured.cold),
                "warm_ms": median(measured.warm),
                "rss_bytes": measured.peak_rss_bytes,
                "why": measured.why,
            }),
        );
    }
    std::fs::remove_dir_all(&scratch)?;
    let peak = ours.peak_rss_bytes.max(rss.unwrap_or(0));
    totals.peak_rss_bytes = totals.peak_rss_bytes.max(peak);
    totals.cold.extend_from_slice(&ours.cold);
    totals.warm.extend_from_slice(&ours.warm);
    totals.daemon_warm.extend_from_slice(&daemon_warm);
    Ok(json!({
        "name": set.name,
        "ecosystem": set.ecosystem,
        "packages": ours.packages.as_ref().map(BTreeSet::len),
        "cold_ms": median(ours.cold),
        "warm_ms": median(ours.warm),
        "daemon_warm_ms": median(daemon_warm),
        "rss_bytes": peak,
        "same_answer": same_answer,
        "differences": differences,
        "peers": by_peer,
    }))
}

fn one_round(tool: &tools::Tool, measured: &mut Measured) -> anyhow::Result<()> {
    let cold = tool.run(true)?;
    measured.cold.push(cold.elapsed_ms);
    measured.packages = tool.packages();
    let warm = tool.run(false)?;
    measured.warm.push(warm.elapsed_ms);
    let peak = cold.peak_rss_bytes.max(warm.peak_rss_bytes);
    measured.peak_rss_bytes = measured.peak_rss_bytes.max(peak);
    Ok(())
}

fn scratch() -> anyhow::Result<PathBuf> {
    let name =
        format!("bolide-bench-{}-{:x}", std::process::id(), Instant::now().elapsed().as_nanos());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
    Ok(path)
}

/// The report for people.
pub(crate) fn text(report: &Value) -> String {
    let mut text =
        format!("{:<14} {:<8} {:>10} {:>10} {:>10}  ms\n", "set", "tool", "cold", "warm", "daemon");
    for set in report["sets"].as_array().into_iter().flatten() {
        text += &set_text(set);
    }
    let rss = report["peak_rss_bytes"].as_u64().unwrap_or(0) >> 20;
    text += &format!(
        "p95 over all runs: cold {}, warm {}, daemon {} ms; peak {rss} MiB\n",
        ms(&report["p95_cold_ms"]),
        ms(&report["p95_warm_ms"]),
        ms(&report["p95_daemon_warm_ms"])
    );
    text
}

/// One set and its peers, a line each.
fn set_text(set: &Value) -> String {
    let mut lines = vec![format!(
        "{:<14} {:<8} {:>10} {:>10} {:>10}  {} packages, same answer: {}",
        set["name"].as_str().unwrap_or_default(),
        "bolide",
        ms(&set["cold_ms"]),
        ms(&set["warm_ms"]),
        ms(&set["daemon_warm_ms"]),
        set["packages"],
        set["same_answer"]
    )];
    let differences = set["differences"].as_array().into_iter().flatten();
    lines.extend(differences.map(|one| format!("{:<14} {}", "", one.as_str().unwrap_or(""))));
    for (peer, measured) in set["peers"].as_object().into_iter().flatten() {
        let why = measured["why"].as_str().unwrap_or_default();
        let (cold, warm) = (ms(&measured["cold_ms"]), ms(&measured["warm_ms"]));
        lines.push(format!("{:<14} {peer:<8} {cold:>10} {warm:>10} {:>10}  {why}", "", ""));
    }
    lines.join("\n") + "\n"
}

fn ms(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |ms| format!("{ms:.1}"))
}
