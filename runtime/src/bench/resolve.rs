//! `bolide bench resolve`: time to an exact set of versions, beside the ecosystems' own resolvers.
//!
//! Every tool answers the same question in its own fresh directory: cold with empty caches, warm with full ones (a
//! peer's offline mode where it has one). Rounds of all tools are interleaved, the median counts. `daemon_warm_ms` is
//! a request over the bus to a running daemon, with a constraint that changes every round so that no answer can be
//! remembered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agents_packager::api::{PlanAnswer, PlanRequest, Setting};
use agents_packager::ecosystem::Ecosystem;
use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};

use super::median;
use crate::cli::backend::Backend;

/// `bolide bench resolve`
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Rounds of each measurement; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only sets whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Where `make peers` put the tools to compare with.
    #[arg(long, default_value = ".peers", value_name = "DIRECTORY")]
    peers: PathBuf,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Longest time that one run of one tool may take before the benchmark gives up on it.
const RUN_TIME_MAX: Duration = Duration::from_secs(300);

struct Set {
    name: &'static str,
    ecosystem: Ecosystem,
    packages: &'static [(&'static str, &'static str)],
}

const SETS: [Set; 6] = [
    Set { name: "flask", ecosystem: Ecosystem::Pypi, packages: &[("flask", "")] },
    Set { name: "jupyter", ecosystem: Ecosystem::Pypi, packages: &[("jupyter", "")] },
    Set { name: "express", ecosystem: Ecosystem::Npm, packages: &[("express", "^4")] },
    Set {
        name: "web",
        ecosystem: Ecosystem::Npm,
        packages: &[
            ("express", "^4"),
            ("webpack", "^5"),
            ("eslint", "^9"),
            ("react", "^19"),
            ("typescript", "^5"),
            ("jest", "^29"),
        ],
    },
    Set { name: "serde", ecosystem: Ecosystem::Cargo, packages: &[("serde", "1")] },
    Set {
        name: "service",
        ecosystem: Ecosystem::Cargo,
        packages: &[
            ("tokio", "1"),
            ("clap", "4"),
            ("hyper", "1"),
            ("regex", "1"),
            ("serde_json", "1"),
        ],
    },
];

/// What one tool needed.
#[derive(Default)]
struct Measured {
    cold: Option<f64>,
    warm: Vec<f64>,
    packages: Option<BTreeSet<String>>,
    why: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let wanted =
        |set: &&Set| arguments.only.as_ref().is_none_or(|only| set.name.contains(only.as_str()));
    let peers = std::path::absolute(&arguments.peers)?;
    let mut sets = Vec::new();
    for set in SETS.iter().filter(wanted) {
        sets.push(measure(set, arguments.rounds.max(1), &peers)?);
    }
    Ok(json!({
        "schema": "bolide.bench.resolve/1",
        "rounds": arguments.rounds.max(1),
        "sets": sets,
    }))
}

fn measure(set: &Set, rounds: usize, peers: &Path) -> anyhow::Result<Value> {
    let scratch = scratch()?;
    let tools = tools(set, &scratch, peers);
    let mut measured: Vec<Measured> = tools.iter().map(|_| Measured::default()).collect();
    let mut daemon = Daemon::start(&scratch.join("daemon"))?;
    let mut daemon_warm = Vec::new();
    daemon.ask(set, 0)?;
    for round in 0..=rounds {
        for (tool, measured) in tools.iter().zip(&mut measured) {
            if measured.why.is_some() {
                continue;
            }
            match tool.run(round == 0) {
                Ok(elapsed_ms) if round == 0 => {
                    measured.cold = Some(elapsed_ms);
                    measured.packages = tool.packages();
                }
                Ok(elapsed_ms) => measured.warm.push(elapsed_ms),
                Err(error) => measured.why = Some(format!("{error:#}")),
            }
        }
        if round > 0 {
            daemon_warm.push(daemon.ask(set, round)?);
        }
    }
    let rss = daemon.peak_rss_bytes();
    drop(daemon);
    let ours = measured.remove(0);
    if let Some(why) = &ours.why {
        bail!("`{}`: {why}", set.name);
    }
    let mut by_peer = Map::new();
    let mut same_answer = Value::Null;
    for (tool, measured) in tools.iter().skip(1).zip(measured) {
        if tool.is_judge && measured.packages.is_some() {
            same_answer = json!(measured.packages == ours.packages);
        }
        by_peer.insert(
            tool.name.to_owned(),
            json!({"cold_ms": measured.cold, "warm_ms": median(measured.warm), "why": measured.why}),
        );
    }
    std::fs::remove_dir_all(&scratch)?;
    Ok(json!({
        "name": set.name,
        "ecosystem": set.ecosystem,
        "packages": ours.packages.as_ref().map(BTreeSet::len),
        "cold_ms": ours.cold,
        "warm_ms": median(ours.warm),
        "daemon_warm_ms": median(daemon_warm),
        "rss_bytes": rss,
        "same_answer": same_answer,
        "peers": by_peer,
    }))
}

fn scratch() -> anyhow::Result<PathBuf> {
    let name =
        format!("bolide-bench-{}-{:x}", std::process::id(), Instant::now().elapsed().as_nanos());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
    Ok(path)
}

/// One tool's way to answer the question of a set, in a directory of its own.
struct Tool {
    name: &'static str,
    directory: PathBuf,
    cold: Repeatable,
    warm: Repeatable,
    /// Removed before every run, so that the question is asked anew.
    answer: Option<&'static str>,
    read: fn(&Path, &str) -> Option<BTreeSet<String>>,
    is_judge: bool,
}

/// A command that can be run more than once.
struct Repeatable {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, PathBuf)>,
}

impl Repeatable {
    fn new(program: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { program: program.into(), arguments, variables: Vec::new() }
    }

    fn with(&self, more: &[&str]) -> Self {
        let arguments = self.arguments.iter().cloned().chain(more.iter().map(|a| (*a).to_owned()));
        let (program, variables) = (self.program.clone(), self.variables.clone());
        Self { program, arguments: arguments.collect(), variables }
    }

    fn variable(mut self, name: &'static str, value: PathBuf) -> Self {
        self.variables.push((name, value));
        self
    }
}

impl Tool {
    fn run(&self, cold: bool) -> anyhow::Result<f64> {
        if let Some(answer) = self.answer {
            let _ = std::fs::remove_file(self.directory.join(answer));
        }
        let command = if cold { &self.cold } else { &self.warm };
        let output = std::fs::File::create(self.directory.join("output"))?;
        let errors = std::fs::File::create(self.directory.join("errors"))?;
        let began = Instant::now();
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .envs(command.variables.iter().map(|(name, value)| (name, value)))
            .env("UV_PYTHON_DOWNLOADS", "never")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start `{}`", command.program.display()))?;
        let status = wait(&mut child)?;
        let elapsed_ms = began.elapsed().as_secs_f64() * 1000.0;
        if !status.success() {
            let errors = std::fs::read_to_string(self.directory.join("errors")).unwrap_or_default();
            bail!("{status}: {}", errors.lines().last().unwrap_or("no message"));
        }
        Ok(elapsed_ms)
    }

    fn packages(&self) -> Option<BTreeSet<String>> {
        let file = self.answer.unwrap_or("output");
        (self.read)(&self.directory, &std::fs::read_to_string(self.directory.join(file)).ok()?)
    }
}

/// Waits for a child without keeping a core busy, and ends it after [`RUN_TIME_MAX`].
fn wait(child: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if began.elapsed() > RUN_TIME_MAX {
            child.kill()?;
            child.wait()?;
            bail!("not finished within {RUN_TIME_MAX:?}");
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Bolide first, then the peers of the set's ecosystem.
fn tools(set: &Set, scratch: &Path, peers: &Path) -> Vec<Tool> {
    let mut tools = vec![bolide(set, scratch)];
    match set.ecosystem {
        Ecosystem::Pypi => tools.extend(python_peers(set, scratch, peers)),
        Ecosystem::Npm => tools.extend(npm_peers(set, scratch, peers)),
        Ecosystem::Cargo => tools.push(cargo_peer(set, scratch)),
        // apt reads the same lists from the same disk; there is nothing to fetch or to cache.
        Ecosystem::Debian => {}
    }
    tools
}

fn place(scratch: &Path, name: &str) -> PathBuf {
    let directory = scratch.join(name);
    let _ = std::fs::create_dir_all(&directory);
    directory
}

fn spec(set: &Set, name: &str, range: &str) -> String {
    let separator = if range.is_empty() || set.ecosystem == Ecosystem::Pypi { "" } else { "@" };
    format!("{}:{name}{separator}{range}", set.ecosystem)
}

fn bolide(set: &Set, scratch: &Path) -> Tool {
    let directory = place(scratch, "bolide");
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("bolide"));
    let mut cold = Repeatable::new(own, &["plan", "--json", "--standalone"])
        .variable("XDG_CACHE_HOME", directory.join("cache"))
        .variable("BOLIDE_STATE_DIR", directory.join("state"));
    cold.arguments.extend(set.packages.iter().map(|(name, range)| spec(set, name, range)));
    Tool {
        name: "bolide",
        warm: cold.with(&["--offline"]),
        cold,
        directory,
        answer: None,
        read: |_, output| {
            let plan: PlanAnswer = serde_json::from_str(output).ok()?;
            Some(
                plan.packages
                    .iter()
                    .filter_map(|package| name_and_version(&package.purl))
                    .collect(),
            )
        },
        is_judge: false,
    }
}

/// `pkg:npm/%40scope/name@1.0.0` as `@scope/name 1.0.0`.
fn name_and_version(purl: &str) -> Option<String> {
    let path = purl.strip_prefix("pkg:")?.split_once('/')?.1.replace("%40", "@");
    let path = path.replace("%2B", "+").replace("%2b", "+").replace("%21", "!");
    let (name, version) = path.rsplit_once('@')?;
    Some(format!("{name} {version}"))
}

fn python_peers(set: &Set, scratch: &Path, peers: &Path) -> Vec<Tool> {
    let lines: String =
        set.packages.iter().map(|(name, range)| format!("{name}{range}\n")).collect();
    let directory = place(scratch, "uv");
    let _ = std::fs::write(directory.join("requirements.in"), &lines);
    let uv = peers.join("bin/uv");
    let arguments =
        ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "requirements.in"];
    let cold = Repeatable::new(uv, &arguments).variable("UV_CACHE_DIR", directory.join("cache"));
    let warm = cold.with(&["--offline"]);
    let read: fn(&Path, &str) -> Option<BTreeSet<String>> =
        |_, output| Some(output.lines().map(|line| line.replace("==", " ")).collect());
    vec![Tool { name: "uv", directory, cold, warm, answer: None, read, is_judge: true }]
}

fn npm_peers(set: &Set, scratch: &Path, peers: &Path) -> Vec<Tool> {
    let dependencies: Map<String, Value> =
        set.packages.iter().map(|(name, range)| ((*name).to_owned(), json!(range))).collect();
    let manifest =
        json!({"name": "bench", "private": true, "dependencies": dependencies}).to_string();
    let make = |name| {
        let directory = place(scratch, name);
        let _ = std::fs::write(directory.join("package.json"), &manifest);
        directory
    };
    let (npm, pnpm, bun) = (make("npm"), make("pnpm"), make("bun"));
    let lock = ["install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"];
    let npm_cold = Repeatable::new("npm", &lock).variable("npm_config_cache", npm.join("cache"));
    let pnpm_cold = Repeatable::new(
        peers.join("bin/pnpm"),
        &["install", "--lockfile-only", "--ignore-scripts"],
    )
    .variable("XDG_CACHE_HOME", pnpm.join("cache"))
    .variable("XDG_DATA_HOME", pnpm.join("data"));
    let bun_cold =
        Repeatable::new(peers.join("bin/bun"), &["install", "--lockfile-only", "--ignore-scripts"])
            .variable("BUN_INSTALL_CACHE_DIR", bun.join("cache"));
    let unread: fn(&Path, &str) -> Option<BTreeSet<String>> = |_, _| None;
    vec![
        Tool {
            name: "npm",
            directory: npm,
            warm: npm_cold.with(&["--offline"]),
            cold: npm_cold,
            answer: Some("package-lock.json"),
            read: |_, text| npm_lock(text),
            is_judge: true,
        },
        Tool {
            name: "pnpm",
            directory: pnpm,
            warm: pnpm_cold.with(&["--offline"]),
            cold: pnpm_cold,
            answer: Some("pnpm-lock.yaml"),
            read: unread,
            is_judge: false,
        },
        Tool {
            name: "bun",
            directory: bun,
            warm: bun_cold.with(&["--prefer-offline"]),
            cold: bun_cold,
            answer: Some("bun.lock"),
            read: unread,
            is_judge: false,
        },
    ]
}

/// The installed packages of a package-lock.json, without optional ones that do not fit this platform.
fn npm_lock(text: &str) -> Option<BTreeSet<String>> {
    let lock: Value = serde_json::from_str(text).ok()?;
    let packages = lock["packages"].as_object()?.iter().filter(|(place, _)| !place.is_empty());
    let fits = |entry: &Value| {
        entry["os"].as_array().is_none_or(|os| os.contains(&json!("linux")))
            && entry["cpu"].as_array().is_none_or(|cpu| cpu.contains(&json!("x64")))
            && entry["libc"].as_array().is_none_or(|libc| libc.contains(&json!("glibc")))
    };
    let named = packages.filter(|(_, entry)| fits(entry) && entry["inBundle"] != json!(true));
    Some(
        named
            .filter_map(|(place, entry)| {
                let folder = place.rsplit_once("node_modules/")?.1;
                let name = entry["name"].as_str().unwrap_or(folder);
                Some(format!("{name} {}", entry["version"].as_str()?))
            })
            .collect(),
    )
}

fn cargo_peer(set: &Set, scratch: &Path) -> Tool {
    let directory = place(scratch, "cargo");
    let mut manifest =
        "[package]\nname = \"bench\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n"
            .to_owned();
    for (name, range) in set.packages {
        manifest += &format!("{name} = \"{range}\"\n");
    }
    let _ = std::fs::create_dir_all(directory.join("src"));
    let _ = std::fs::write(directory.join("src/lib.rs"), "");
    let _ = std::fs::write(directory.join("Cargo.toml"), manifest);
    let cold = Repeatable::new("cargo", &["generate-lockfile"])
        .variable("CARGO_HOME", directory.join("home"));
    let read: fn(&Path, &str) -> Option<BTreeSet<String>> = |_, text| {
        let lock: toml::Table = text.parse().ok()?;
        let entries =
            lock["package"].as_array()?.iter().filter(|entry| entry.get("source").is_some());
        Some(
            entries
                .filter_map(|e| Some(format!("{} {}", e["name"].as_str()?, e["version"].as_str()?)))
                .collect(),
        )
    };
    let warm = cold.with(&["--offline"]);
    Tool { name: "cargo", directory, cold, warm, answer: Some("Cargo.lock"), read, is_judge: true }
}

/// A daemon with caches of its own, asked over the bus.
struct Daemon {
    child: Child,
    backend: Backend,
    pid: Option<u32>,
}

impl Daemon {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory.join("project"))?;
        let runtime_dir = directory.join("run");
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--metrics-addr", "127.0.0.1:0", "--runtime-dir"])
            .arg(&runtime_dir)
            .arg("--state-dir")
            .arg(directory.join("state"))
            .env("XDG_CACHE_HOME", directory.join("cache"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let began = Instant::now();
        loop {
            if let Ok(Some(backend)) = Backend::connect(&runtime_dir, &directory.join("project")) {
                let pid = backend.peer_pid();
                return Ok(Self { child, backend, pid });
            }
            ensure!(began.elapsed() < Duration::from_secs(20), "the daemon did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Milliseconds for one plan whose first constraint differs from that of any other round.
    fn ask(&mut self, set: &Set, round: usize) -> anyhow::Result<f64> {
        let mut add: Vec<String> =
            set.packages.iter().map(|(name, range)| spec(set, name, range)).collect();
        if round > 0 {
            let (name, range) = set.packages[0];
            let bound = 9_000 + round;
            let changed = match set.ecosystem {
                Ecosystem::Pypi => format!("<{bound}"),
                Ecosystem::Npm => format!("{range} <{bound}.0.0"),
                Ecosystem::Cargo => format!("{range}, <{bound}"),
                Ecosystem::Debian => format!("<<{bound}:0"),
            };
            add[0] = spec(set, name, &changed);
        }
        let request = PlanRequest {
            add,
            remove: Vec::new(),
            member: String::new(),
            setting: Setting::of_this_process(),
        };
        let mut payload = Vec::new();
        ciborium::into_writer(&request, &mut payload)?;
        let began = Instant::now();
        let answer = self.backend.call("pkg.plan", &payload);
        let elapsed_ms = began.elapsed().as_secs_f64() * 1000.0;
        let answer: PlanAnswer = ciborium::from_reader(answer?.as_slice())?;
        ensure!(answer.digest.is_some(), "the daemon found no solution");
        Ok(elapsed_ms)
    }

    fn peak_rss_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The report for people.
pub(crate) fn text(report: &Value) -> String {
    let ms = |value: &Value| value.as_f64().map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    let mut lines = vec![format!(
        "{:<10} {:<8} {:>10} {:>10} {:>10}  ms",
        "set", "tool", "cold", "warm", "daemon"
    )];
    for set in report["sets"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{:<10} {:<8} {:>10} {:>10} {:>10}  {} packages, same answer: {}",
            set["name"].as_str().unwrap_or_default(),
            "bolide",
            ms(&set["cold_ms"]),
            ms(&set["warm_ms"]),
            ms(&set["daemon_warm_ms"]),
            set["packages"],
            set["same_answer"]
        ));
        for (peer, measured) in set["peers"].as_object().into_iter().flatten() {
            let why = measured["why"].as_str().unwrap_or_default();
            let (cold, warm) = (ms(&measured["cold_ms"]), ms(&measured["warm_ms"]));
            lines.push(format!("{:<10} {peer:<8} {cold:>10} {warm:>10} {:>10}  {why}", "", ""));
        }
    }
    lines.join("\n") + "\n"
}
