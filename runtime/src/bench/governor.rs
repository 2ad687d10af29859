//! `bolide bench governor`: the thermal governor and its rivals on a simulated laptop, many seeds of each scenario.
//!
//! Nothing is measured of this machine: the figures are of the physics in `scheduler::simulation`, whose constants are
//! estimates, and the same on every machine. The hottest run of ours is kept second by second, for a plot and a table. Not
//! here: what the scenarios are, and which figures must hold (a test in `scheduler`).

use std::path::PathBuf;

use anyhow::Context as _;
use scheduler::simulation::control::Kind;
use scheduler::simulation::run::{Sample, run as simulate};
use scheduler::simulation::scenario::{LETTERS, OTHERS, SECONDS, Scenario, WARM_UP_SECONDS};
use scheduler::simulation::summary::{CACHES_SECONDS, Figure, Summary, compare};
use serde_json::{Value, json};

mod csv;
mod plot;
mod text;

pub(crate) use self::text::text;

/// `bolide bench governor`
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Seeds of each scenario, each with two kinds of sensor
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// Only these scenarios, with commas between them
    #[arg(long, value_name = "SCENARIOS", value_delimiter = ',')]
    only: Vec<String>,
    /// Draw temperature and slots of the hottest run
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Write the hottest run, second by second
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// One run of which every second is kept, under one governor.
struct Track {
    kind: Kind,
    samples: Vec<Sample>,
}

/// The run that is drawn.
struct Hottest {
    scenario: &'static Scenario,
    seed: u64,
    cache_seconds: f64,
}

/// Simulates everything that was asked for.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let known = || LETTERS.iter().chain(&OTHERS);
    if let Some(unknown) = arguments.only.iter().find(|name| !known().any(|it| it.name == **name)) {
        anyhow::bail!("there is no scenario `{unknown}`");
    }
    let is_asked = |scenario: &&Scenario| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == scenario.name)
    };
    let mut rows = Vec::new();
    let mut hottest: Option<(f64, Hottest)> = None;
    for scenario in known().filter(is_asked) {
        for summary in compare(scenario, &Kind::ALL, arguments.seeds) {
            let peak = summary.peak_celsius.worst;
            let is_hotter = hottest.as_ref().is_none_or(|(highest, _)| peak > *highest);
            if summary.kind == Kind::Bolide && is_hotter {
                let (seed, cache_seconds) = summary.hottest;
                hottest = Some((peak, Hottest { scenario, seed, cache_seconds }));
            }
            rows.push(row(scenario, &summary));
        }
    }
    let hottest = hottest.map(|(_, hottest)| hottest);
    if let Some(hottest) = &hottest {
        write_files(arguments, hottest)?;
    }
    Ok(json!({
        "schema": "bolide.bench.governor/1",
        "simulated": true,
        "seeds": arguments.seeds,
        "cache_seconds": CACHES_SECONDS,
        "seconds": SECONDS,
        "warm_up_seconds": WARM_UP_SECONDS,
        "hottest": hottest.map(|it| json!({
            "scenario": it.scenario.name,
            "seed": it.seed,
            "cache_seconds": it.cache_seconds,
        })),
        "scenarios": rows,
    }))
}

/// The figures of one scenario under one governor: the worst of all runs, and the means beside them.
fn row(scenario: &Scenario, summary: &Summary) -> Value {
    let figures = [
        ("peak_celsius", summary.peak_celsius),
        ("seconds_at_95", summary.seconds_at_95),
        ("seconds_at_100", summary.seconds_at_100),
        ("reversals_per_min", summary.reversals_per_min),
        ("state_changes_per_min", summary.state_changes_per_min),
        ("work_ratio", summary.work_ratio),
        ("oracle_ratio", summary.oracle_ratio),
        ("clock_ratio", summary.clock),
        ("seconds_blind", summary.seconds_blind),
    ];
    let mut row = json!({
        "name": scenario.name,
        "about": scenario.about,
        "governor": summary.kind.name(),
        "slots_min": summary.slots_min,
        "recovery_seconds": summary.recovery_seconds,
        "blind_after_seconds": summary.blind_after_seconds,
    });
    for (name, Figure { worst, mean }) in figures {
        row[name] = json!(tidy(worst));
        row["mean"][name] = json!(tidy(mean));
    }
    row
}

/// Three digits after the point: the rest is the last bit of a sum.
fn tidy(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn write_files(arguments: &Arguments, hottest: &Hottest) -> anyhow::Result<()> {
    if arguments.plot.is_none() && arguments.csv.is_none() {
        return Ok(());
    }
    let tracks = Kind::ALL.map(|kind| {
        let mut samples = Vec::new();
        let Hottest { scenario, seed, cache_seconds } = hottest;
        simulate(scenario, kind, *seed, *cache_seconds, |sample| samples.push(*sample));
        Track { kind, samples }
    });
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
    };
    if let Some(path) = &arguments.plot {
        write(path, plot::svg(hottest, &tracks))?;
    }
    if let Some(path) = &arguments.csv {
        write(path, csv::table(hottest, &tracks))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Arguments, run, text};

    fn arguments(directory: &std::path::Path) -> Arguments {
        Arguments {
            seeds: 1,
            only: vec!["B".to_owned(), "all-bad".to_owned()],
            plot: Some(directory.join("plot.svg")),
            csv: Some(directory.join("table.csv")),
            json: true,
        }
    }

    #[test]
    fn the_report_has_each_governor_and_the_same_files_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let files = || {
            let report = run(&arguments(directory.path())).unwrap();
            let read = |name| std::fs::read_to_string(directory.path().join(name)).unwrap();
            (report, read("plot.svg"), read("table.csv"))
        };
        let (report, plot, table) = files();
        assert_eq!(files(), (report.clone(), plot.clone(), table.clone()));
        let rows = report["scenarios"].as_array().unwrap();
        assert_eq!(rows.len(), 10);
        for row in rows {
            for field in ["peak_celsius", "seconds_at_95", "reversals_per_min", "work_ratio"] {
                assert!(row[field].is_f64(), "{row}");
            }
        }
        assert_eq!(rows[1]["governor"], "naive");
        assert_eq!(rows[1]["work_ratio"], 1.0);
        // 600 seconds under five governors, and a heading.
        assert_eq!(table.lines().count(), 3_001);
        assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"));
        assert_eq!(plot.matches("<polyline").count(), 10);
        assert!(text(&report).contains("all-bad"));
    }

    #[test]
    fn an_unknown_scenario_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let unknown = Arguments { only: vec!["Z".to_owned()], ..arguments(directory.path()) };
        assert_eq!(run(&unknown).unwrap_err().to_string(), "there is no scenario `Z`");
    }
}
