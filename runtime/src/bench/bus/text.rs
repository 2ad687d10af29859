//! The report of `bolide bench bus` for people: one table, the median of each figure, with the least and the greatest where that
//! says something. What was not measured says why.

use std::fmt::Write as _;

use serde_json::Value;

/// Peers whose latency stands in the table, with what each has to do.
const PEERS: [(&str, &str); 7] = [
    ("iceoryx2", "there and back, polled"),
    ("nats", "there and back, blocked"),
    ("nats_one_cpu", "the same on one CPU"),
    ("redis_unix", "there and back, blocked"),
    ("redis_unix_one_cpu", "the same on one CPU"),
    ("jetstream", "until stored"),
    ("redis_always", "until synced"),
];

/// The whole report.
pub(crate) fn text(report: &Value) -> String {
    let mut text = format!(
        "median of {} rounds (least to greatest), CPUs {}; one look at the clock: {}\n",
        report["rounds"],
        report["cpus"],
        nanoseconds(&report["clock_ns"]),
    );
    latency(&mut text, report);
    throughput(&mut text, &report["throughput"]);
    others(&mut text, report);
    peers(&mut text, &report["peers"]);
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
        ("  without a time", &two["untimed"]),
        ("high", &classes["high"]),
        ("  blocked", &classes["high"]["blocked"]),
        ("normal", &classes["normal"]),
        ("  blocked", &classes["normal"]["blocked"]),
        ("low", &classes["low"]),
    ];
    for (name, row) in rows {
        let Some(p50) = row["p50_ns"].as_f64() else {
            let why = row["why"]["p50_ns"].as_str().unwrap_or("not measured");
            let _ = writeln!(text, "{name:<24} {why}");
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
        ("1,024 slots", "lane_1024_per_s", "bare_per_s"),
        ("1,024 in batches", "lane_1024_batched_per_s", "bare_batched_per_s"),
        ("through the exchange", "routed_per_s", "bare_batched_per_s"),
    ] {
        let (rate, bare) = (number(&report[field]) / 1e6, number(&report[bare]) / 1e6);
        let (ratio, spread) = (rate / bare, spread(report, field, 1e6));
        let _ = writeln!(text, "{name:<24} {rate:>8.1} {bare:>8.1} {ratio:>7.2}  {spread}");
    }
}

fn others(text: &mut String, report: &Value) {
    let mut row = |name: &str, at: &Value, field: &str, scale: f64, unit: &str| {
        let value = number(&at[field]) / scale;
        let spread = spread(at, field, scale);
        let _ = writeln!(text, "{name:<24} {value:>8.2} {unit:<9} {spread}");
    };
    let requests = &report["request_reply"];
    row("\nrequest, polled         ", requests, "polled_p50_ns", 1e3, "us");
    row("request, blocked", requests, "blocked_p50_ns", 1e3, "us");
    row("echo, polled", &requests["echo"], "polled_p50_ns", 1e3, "us");
    row("echo, blocked", &requests["echo"], "blocked_p50_ns", 1e3, "us");
    let languages = &report["languages"];
    row("C to C, polled", &languages["c"], "p50_ns", 1e3, "us");
    row("Python to Python, polled", &languages["python"], "p50_ns", 1e3, "us");
    let batch = &report["batch"];
    row("lent, 1 KiB", batch, "lent_1kib_ns", 1e3, "us");
    row("lent, 1 GiB", batch, "lent_1gib_ns", 1e3, "us");
    row("frozen", batch, "frozen_ns_per_mib", 1e3, "us/MiB");
    row("fan-out to 200", &report["fanout"], "readers_200_ns", 1e3, "us");
    row("synced record", &report["low"], "synced_p50_ns", 1e3, "us");
    row("death to next worker", &report["recovery"], "lease_ms", 1.0, "ms");
    let rest = &report["rest"];
    row("at rest, memory", rest, "rss_bytes", 1e6, "MB");
    row("at rest, processor", rest, "cpu_ratio", 1e-2, "%");
}

fn peers(text: &mut String, report: &Value) {
    let _ = writeln!(text, "\n{:<24} {:>8} {:>8} {:>8}", "others", "p50 ns", "p99 ns", "p99.9");
    for (name, what) in PEERS {
        let field = |figure: &str| number(&report[format!("{name}_{figure}_ns")]);
        if field("p50").is_nan() {
            let why = report["why"][name].as_str().unwrap_or("not measured");
            let _ = writeln!(text, "{name:<24} {why}");
            continue;
        }
        let (p50, p99, p999) = (field("p50"), field("p99"), field("p999"));
        let _ = writeln!(text, "{name:<24} {p50:>8.0} {p99:>8.0} {p999:>8.0}  {what}");
    }
    let rate = number(&report["iceoryx2_throughput_messages_per_s"]) / 1e6;
    let _ = writeln!(text, "{:<24} {rate:>8.1} M/s", "iceoryx2, one way");
}

fn spread(parent: &Value, field: &str, scale: f64) -> String {
    let spread = &parent["spread"][field];
    let (least, greatest) = (number(&spread[0]) / scale, number(&spread[1]) / scale);
    if least.is_nan() {
        return String::new();
    }
    // As many digits as the value's size leaves room for.
    let digits = if greatest < 100.0 { 2 } else { 0 };
    format!("{least:.digits$} to {greatest:.digits$}")
}

fn nanoseconds(value: &Value) -> String {
    value.as_f64().map_or_else(|| "not measured".to_owned(), |value| format!("{value:.0} ns"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}
