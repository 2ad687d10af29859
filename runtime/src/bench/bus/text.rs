//! The report of `bolide bench bus` for people: tables of medians, with the least and the greatest of the rounds where that says
//! something. What was not measured says why; a table with nothing in it is left out.

use std::fmt::Write as _;

use serde_json::Value;

/// Peers whose latency stands in the table, with what is timed.
const PEERS: [(&str, &str); 7] = [
    ("iceoryx2", "one way, polled"),
    ("nats", "one way, blocked"),
    ("nats_one_cpu", "the same on one CPU"),
    ("redis_unix", "one way, blocked"),
    ("redis_unix_one_cpu", "the same on one CPU"),
    ("jetstream", "until stored"),
    ("redis_always", "until synced"),
];

/// The whole report.
pub(crate) fn text(report: &Value) -> String {
    let mut text = format!(
        "medians of {} rounds (least to greatest), CPUs {}\n",
        report["rounds"], report["cpus"]
    );
    let absent = |part: &str| report["absent"][part].is_string();
    if !absent("pair") {
        latency(&mut text, report);
        throughput(&mut text, &report["throughput"]);
    }
    if !absent("requests") {
        requests(&mut text, &report["request_reply"]);
    }
    others(&mut text, report);
    if !absent("peers") {
        peers(&mut text, report);
    }
    if let Some(absent) = report["absent"].as_object() {
        text += "\nnot measured\n";
        for (part, why) in absent {
            let _ = writeln!(text, "{part:<24} {}", why.as_str().unwrap_or_default());
        }
    }
    text
}

fn latency(text: &mut String, report: &Value) {
    let _ = writeln!(
        text,
        "\n{:<24} {:>8} {:>8} {:>8} {:>8} {:>7}  p50 of the rounds",
        format!("one way, {} B", report["payload_bytes"]),
        "p50 ns",
        "p99 ns",
        "p99.9",
        "limit",
        "x"
    );
    let classes = &report["classes"];
    let two = &classes["critical_two_lines"];
    let rows = [
        ("one cache line", &report["floor"]),
        ("critical", &classes["critical"]),
        ("critical, two lines", two),
        ("  bare loops", &two["bare"]),
        ("  without a time", &two["untimed"]),
        ("high", &classes["high"]),
        ("  blocked", &classes["high"]["blocked"]),
        ("normal", &classes["normal"]),
        ("  blocked", &classes["normal"]["blocked"]),
        ("low", &classes["low"]),
    ];
    for (name, row) in rows {
        let Some(p50) = row["p50_ns"].as_f64() else {
            let _ = writeln!(text, "{name:<24} {}", why(row, "p50_ns"));
            continue;
        };
        let limit = row["limit_p50_ns"].as_f64().or(report["floor"]["p50_ns"].as_f64());
        let limit = limit.unwrap_or(f64::NAN);
        let ratio = row["floor_ratio"].as_f64().unwrap_or(p50 / limit);
        let (p99, p999) = (number(&row["p99_ns"]), number(&row["p999_ns"]));
        let spread = spread(row, "p50_ns", 1.0);
        let _ = writeln!(
            text,
            "{name:<24} {p50:>8.0} {p99:>8.0} {p999:>8.0} {limit:>8.0} {ratio:>7.2}  {spread}"
        );
    }
    let _ = writeln!(text, "{:<24} {:>8.0}", "a look at the clock", number(&report["clock_ns"]));
}

fn throughput(text: &mut String, report: &Value) {
    let _ = writeln!(
        text,
        "\n{:<24} {:>8} {:>8} {:>7}",
        format!("one way, {} B", report["message_bytes"]),
        "M/s",
        "bare",
        "x"
    );
    for (name, field, bare) in [
        ("message by message", "lane_per_s", "bare_per_s"),
        ("in batches", "lane_batched_per_s", "bare_batched_per_s"),
        ("1,024 slots", "lane_1024_per_s", "bare_1024_per_s"),
        ("1,024 in batches", "lane_1024_batched_per_s", "bare_1024_batched_per_s"),
        ("through the exchange", "routed_per_s", "bare_batched_per_s"),
    ] {
        let Some(rate) = report[field].as_f64().map(|rate| rate / 1e6) else {
            let _ = writeln!(text, "{name:<24} {}", why(report, field));
            continue;
        };
        let bare = number(&report[bare]) / 1e6;
        let (ratio, spread) = (rate / bare, spread(report, field, 1e6));
        let _ = writeln!(text, "{name:<24} {rate:>8.1} {bare:>8.1} {ratio:>7.2}  {spread}");
    }
}

fn requests(text: &mut String, report: &Value) {
    let _ =
        writeln!(text, "\n{:<24} {:>8} {:>8} {:>8}", "there and back", "p50 us", "p99 us", "p99.9");
    let tool = report["tool"].as_str().unwrap_or_default();
    for (name, at) in [(tool, report), ("echo", &report["echo"])] {
        for way in ["polled", "blocked"] {
            let of = |figure: &str| number(&at[format!("{way}_{figure}_ns")]) / 1e3;
            let (p50, p99, p999) = (of("p50"), of("p99"), of("p999"));
            let spread = spread(at, &format!("{way}_p50_ns"), 1e3);
            let name = format!("{name}, {way}");
            let _ = writeln!(text, "{name:<24} {p50:>8.2} {p99:>8.2} {p999:>8.2}  {spread}");
        }
    }
}

fn others(text: &mut String, report: &Value) {
    text.push('\n');
    let (batch, rest, languages) = (&report["batch"], &report["rest"], &report["languages"]);
    let fanout = &report["fanout"];
    for (name, at, field, scale, unit) in [
        ("C to C, one way", &languages["c"], "p50_ns", 1e3, "us"),
        ("Python to Python, one way", &languages["python"], "p50_ns", 1e3, "us"),
        ("lent, 1 KiB", batch, "lent_1kib_ns", 1e3, "us"),
        ("lent, 1 GiB", batch, "lent_1gib_ns", 1e3, "us"),
        ("frozen", batch, "frozen_ns_per_mib", 1e3, "us/MiB"),
        ("publish to 1", fanout, "readers_1_ns", 1.0, "ns"),
        ("publish to 200", fanout, "readers_200_ns", 1.0, "ns"),
        ("publish to 200 asleep", fanout, "parked_200_ns", 1e3, "us"),
        ("record, synced", &report["low"], "synced_p50_ns", 1e3, "us"),
        ("death to next worker", &report["recovery"], "lease_ms", 1.0, "ms"),
        ("at rest, memory", rest, "rss_bytes", 1e6, "MB"),
        ("at rest, processor", rest, "cpu_ratio", 1e-2, "%"),
    ] {
        let Some(value) = at[field].as_f64().map(|value| value / scale) else {
            let _ = writeln!(text, "{name:<24} {}", why(at, field));
            continue;
        };
        let spread = spread(at, field, scale);
        let _ = writeln!(text, "{name:<24} {value:>8.2} {unit:<7} {spread}");
    }
}

fn peers(text: &mut String, report: &Value) {
    let critical_ns = number(&report["classes"]["critical"]["p50_ns"]);
    let peers = &report["peers"];
    let _ = writeln!(
        text,
        "\n{:<24} {:>8} {:>8} {:>8}  critical beside it",
        "other buses", "p50 ns", "p99 ns", "p99.9"
    );
    for (name, what) in PEERS {
        let field = |figure: &str| number(&peers[format!("{name}_{figure}_ns")]);
        if field("p50").is_nan() {
            let _ = writeln!(text, "{name:<24} {}", why(peers, name));
            continue;
        }
        let (p50, p99, p999) = (field("p50"), field("p99"), field("p999"));
        let ratio = critical_ns / p50;
        let _ = writeln!(text, "{name:<24} {p50:>8.0} {p99:>8.0} {p999:>8.0}  {ratio:.3}; {what}");
    }
    if let Some(rate) = peers["iceoryx2_throughput_messages_per_s"].as_f64() {
        let _ = writeln!(text, "{:<24} {:>8.1} M/s", "iceoryx2, one way", rate / 1e6);
    }
}

/// Why there is no such figure.
fn why<'a>(parent: &'a Value, field: &str) -> &'a str {
    parent["why"][field].as_str().unwrap_or("not measured")
}

fn spread(parent: &Value, field: &str, scale: f64) -> String {
    let spread = &parent["spread"][field];
    let (least, greatest) = (number(&spread[0]) / scale, number(&spread[1]) / scale);
    if least.is_nan() {
        return String::new();
    }
    let digits = if greatest < 100.0 { 2 } else { 0 };
    format!("{least:.digits$} to {greatest:.digits$}")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_measured_is_shown_and_the_rest_says_why() {
        let report = json!({
            "rounds": 5,
            "cpus": [0, 1],
            "recovery": {"lease_ms": 0.4, "spread": {"lease_ms": [0.3, 0.5]}},
            "rest": {"why": {"rss_bytes": "no daemon"}},
            "absent": {"pair": "left out", "requests": "left out", "peers": "left out"},
        });
        let text = text(&report);
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or("");
        assert!(line("death to next worker").ends_with("0.40 ms      0.30 to 0.50"), "{text}");
        assert!(line("at rest, memory").ends_with("no daemon"), "{text}");
        assert!(line("publish to 200 ").ends_with("not measured"), "{text}");
        assert!(line("pair").ends_with("left out"), "{text}");
        assert!(!text.contains("p50 ns") && !text.contains("NaN"), "{text}");
    }
}
