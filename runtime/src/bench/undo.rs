//! Taking back a large environment: until the old state is visible, until the answer is there, and until what is not needed any more
//! is deleted, beside what one wait for the disk costs. Not a transaction's other parts: nothing is resolved or fetched.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agents_contract::{Cancellation, Threads};
use agents_packager::ecosystem::Ecosystem;
use agents_packager::transaction::{
    Change, CommitOptions, Expected, Project, Purpose, RelativePath, Session, Transactions,
};
use anyhow::Context as _;
use serde_json::{Value, json};

/// `bolide bench undo`
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files in the environment
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// How often it is replaced and taken back
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Where; a directory is made there, and removed
    #[arg(long, value_name = "DIR")]
    at: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Files of one directory, as packages have.
const DIRECTORY_FILES: usize = 40;
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A directory that goes with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Measures.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let place = arguments.at.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch(place.join(format!("bolide-bench-undo-{}", std::process::id())));
    let project = scratch.0.join("project");
    std::fs::create_dir_all(&project)
        .with_context(|| format!("cannot make `{}`", project.display()))?;
    let clock = Arc::new(|| {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    });
    let transactions = Transactions::open(&scratch.0.join("state"), clock)?;
    let lock = || transactions.lock(Project::open(&project)?, LOCK_WAIT, Cancellation::NEVER);
    let crew = Threads(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    install(&mut lock()?, arguments.files, 0)?;
    let (mut visible, mut answered, mut cleared) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=arguments.rounds.max(1) {
        install(&mut lock()?, arguments.files, round)?;
        let mut session = lock()?;
        let began = Instant::now();
        let undone = session.rollback_and_leave(None, "bench", false, &crew)?;
        answered.push(milliseconds(began.elapsed()));
        visible.push(undone.visible_us as f64 / 1000.0);
        drop(session);
        let began = Instant::now();
        drop(lock()?);
        cleared.push(milliseconds(began.elapsed()));
        anyhow::ensure!(says(&project, 0), "the environment is not what it was");
    }
    Ok(json!({
        "schema": "bolide.bench.undo/1",
        "files": arguments.files,
        "rounds": arguments.rounds,
        "visible_ms": figures(visible),
        "answered_ms": figures(answered),
        "cleared_ms": figures(cleared),
        "sync_ms": figures(waits(&scratch.0)?),
    }))
}

/// For people.
pub(crate) fn text(report: &Value) -> String {
    let mut text = format!("{} files, {} rounds; ms\n", report["files"], report["rounds"]);
    let rows = [
        ("visible_ms", "until the old state is visible"),
        ("answered_ms", "until the answer is there"),
        ("cleared_ms", "deleting what is not needed any more, which nobody waits for"),
        ("sync_ms", "one wait for the disk"),
    ];
    for (name, what) in rows {
        let figures = &report[name];
        text += &format!("p50 {:>8}  max {:>8}  {what}\n", figures["p50"], figures["max"]);
    }
    text
}

/// A new environment in the place of the one that is there.
fn install(session: &mut Session, files: usize, round: usize) -> anyhow::Result<()> {
    let open = session.begin(Purpose {
        operation: "install".to_owned(),
        digest: None,
        actor: "bench".to_owned(),
        summary: Value::Null,
    })?;
    let root = open.staging().join("tree");
    for directory in 0..files.div_ceil(DIRECTORY_FILES) {
        let path = root.join(format!("package-{directory}"));
        std::fs::create_dir_all(&path)?;
        let first = directory * DIRECTORY_FILES;
        for file in first..files.min(first + DIRECTORY_FILES) {
            std::fs::write(path.join(format!("{file}.js")), format!("{round} {file}\n"))?;
        }
    }
    let change = Change {
        live: RelativePath::new("node_modules")?,
        staged: Some("tree".to_owned()),
        environment: Some(Ecosystem::Npm),
        expected: Expected::Anything,
    };
    open.commit(&[change], CommitOptions::default())?;
    Ok(())
}

fn says(project: &Path, round: usize) -> bool {
    let text = std::fs::read_to_string(project.join("node_modules/package-0/0.js"));
    text.is_ok_and(|text| text == format!("{round} 0\n"))
}

/// What appending some bytes until they are on the disk costs here.
fn waits(place: &Path) -> anyhow::Result<Vec<f64>> {
    let mut file = File::create(place.join("waits"))?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        file.write_all(&[0; 200])?;
        file.sync_all()?;
        times.push(milliseconds(began.elapsed()));
    }
    Ok(times)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Median and worst, to a hundredth.
fn figures(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    let round = |time: f64| (time * 100.0).round() / 100.0;
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    json!({"p50": round(middle), "max": round(times.last().copied().unwrap_or_default())})
}
