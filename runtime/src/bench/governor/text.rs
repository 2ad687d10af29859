//! The report of `bolide bench governor` for people.

use std::fmt::Write as _;

use serde_json::Value;

/// One table for each scenario: the worst of all runs, and the mean where that says something.
pub(crate) fn text(report: &Value) -> String {
    let mut text = format!(
        "simulated laptop, constants are estimates; {} seeds with two sensors, {} s each, after {} s\n\
         worst of all runs; seconds are of 10 minutes; work beside all 16 slots always\n",
        report["seeds"], report["seconds"], report["warm_up_seconds"]
    );
    let mut scenario = "";
    for row in report["scenarios"].as_array().into_iter().flatten() {
        let name = row["name"].as_str().unwrap_or_default();
        if name != scenario {
            scenario = name;
            heading(&mut text, name, row["about"].as_str().unwrap_or_default());
        }
        line(&mut text, row);
    }
    if let Some(hottest) = report["hottest"].as_object() {
        let _ = writeln!(
            text,
            "\nhottest run of bolide: scenario {}, seed {}, sensor cache {} s",
            hottest["scenario"].as_str().unwrap_or_default(),
            hottest["seed"],
            hottest["cache_seconds"]
        );
    }
    text
}

fn heading(text: &mut String, name: &str, about: &str) {
    let _ = writeln!(
        text,
        "\n{:<34} {:>7} {:>7} {:>7} {:>13} {:>14} {:>7} {:>7}",
        format!("{name}: {about}"),
        "peak C",
        "s >=95",
        "s >=100",
        "rev/min mean",
        "work % mean",
        "clock",
        "states",
    );
}

fn line(text: &mut String, row: &Value) {
    let worst = |field: &str| row[field].as_f64().unwrap_or(f64::NAN);
    let mean = |field: &str| row["mean"][field].as_f64().unwrap_or(f64::NAN);
    let _ = write!(
        text,
        "  {:<32} {:>7.1} {:>7.1} {:>7.1} {:>6.1} {:>6.2} {:>7.1} {:>6.1} {:>7.2} {:>7.1}",
        row["governor"].as_str().unwrap_or_default(),
        worst("peak_celsius"),
        worst("seconds_at_95"),
        worst("seconds_at_100"),
        worst("reversals_per_min"),
        mean("reversals_per_min"),
        worst("work_ratio") * 100.0,
        mean("work_ratio") * 100.0,
        mean("clock_ratio"),
        worst("state_changes_per_min"),
    );
    let is_ours = row["governor"] == "bolide";
    if let Some(seconds) = row["blind_after_seconds"].as_f64().filter(|_| is_ours) {
        let _ = write!(text, "  blind after {seconds} s");
    }
    if let Some(seconds) = row["recovery_seconds"].as_f64().filter(|_| is_ours) {
        let _ = write!(text, "  all slots {seconds} s after it was cool");
    }
    text.push('\n');
}
