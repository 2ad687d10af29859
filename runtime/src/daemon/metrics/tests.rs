//! The exposition: right values, and nothing that a linter of metrics complains about.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::daemon::snapshot::{HostedStatus, Phase, SCHEMA, Tasks};

fn class() -> ClassStatus {
    let mut histogram = Histogram::default();
    for time_ns in [20, 100, 100, 1_000, 20_000_000_000] {
        histogram.record(time_ns);
    }
    ClassStatus { messages: 42, lost: 3, depth: 7, histogram, ..ClassStatus::default() }
}

pub(crate) fn snapshot() -> Snapshot {
    Snapshot {
        schema: SCHEMA,
        version: "1.2.3",
        pid: 1,
        instance: "00".to_owned(),
        uptime_seconds: 1.0,
        phase: Phase::Ready,
        runtime_dir: "/run/x".to_owned(),
        metrics_addr: None,
        agents: Vec::new(),
        hosted: vec![HostedStatus {
            name: "echo".to_owned(),
            state: HostedState::Up,
            pid: Some(2),
            restarts: 3,
            last_end: None,
            tasks: Tasks { running: 1, done: 5, died: 2, ..Tasks::default() },
            errors: BTreeMap::from([("bad \"kind\"\n".to_owned(), 4)]),
            facts: BTreeMap::new(),
        }],
        lanes: 6,
        messages: BTreeMap::from([("critical", 42)]),
        rejected: BTreeMap::from([("critical", 0)]),
        classes: BTreeMap::from([("critical", class())]),
        refused: BTreeMap::from([("limit", 1)]),
        limited: BTreeMap::from([("bytes", 1)]),
        allowed: vec!["critical"],
        ended: BTreeMap::from([("quarantined", 1)]),
        fallbacks: vec![Fallback {
            wanted: "high",
            got: "normal",
            links: 2,
            reason: String::new(),
        }],
    }
}

fn text() -> String {
    let process = ProcessUse { descriptors: Some(9), resident_bytes: None };
    String::from_utf8(encode(snapshot(), process).unwrap()).unwrap()
}

#[track_caller]
fn check(line: &str) {
    assert!(text().lines().any(|found| found == line), "no `{line}` in\n{}", text());
}

#[test]
fn values_stand_under_their_names_and_labels() {
    check("bolide_bus_messages_total{class=\"critical\"} 42");
    check("bolide_bus_dropped_total{class=\"critical\",reason=\"full\"} 0");
    check("bolide_bus_dropped_total{class=\"critical\",reason=\"lapped\"} 3");
    check("bolide_bus_depth_lines{class=\"critical\"} 7");
    check("bolide_bus_lanes 6");
    check("bolide_bus_ended_total{code=\"quarantined\"} 1");
    check("bolide_bus_class_fallbacks_total{wanted=\"high\",got=\"normal\"} 2");
    check("bolide_bus_class_fallbacks_total{wanted=\"critical\",got=\"high\"} 0");
    check("bolide_bus_limits_total{limit=\"bytes\"} 1");
    check("bolide_bus_limits_total{limit=\"links\"} 0");
    check("bolide_agents{state=\"up\"} 1");
    check("bolide_agents{state=\"failed\"} 0");
    check("bolide_agent_restarts_total{agent=\"echo\"} 3");
    check("bolide_tasks_total{agent=\"echo\",outcome=\"died\"} 2");
    check("bolide_tasks_total{agent=\"echo\",outcome=\"panicked\"} 0");
    check("bolide_tasks_running{agent=\"echo\"} 1");
    check("bolide_errors_total{agent=\"router\",kind=\"limit\"} 1");
    check("bolide_errors_total{agent=\"echo\",kind=\"bad \\\"kind\\\"\\n\"} 4");
    check("process_open_fds 9");
}

#[test]
fn latencies_are_a_histogram() {
    let bucket = |edge: &str, count: u64| {
        check(&format!(
            "bolide_bus_latency_seconds_bucket{{class=\"critical\",le=\"{edge}\"}} {count}"
        ));
    };
    bucket("0.000000064", 1);
    bucket("0.000000128", 3);
    bucket("0.000001024", 4);
    bucket("17.179869184", 4);
    bucket("+Inf", 5);
    check("bolide_bus_latency_seconds_count{class=\"critical\"} 5");
    check("bolide_bus_latency_seconds_sum{class=\"critical\"} 20.00000122");
}

#[test]
fn what_is_unknown_is_absent() {
    assert!(!text().contains("process_resident_memory_bytes"));
}

#[test]
fn linters_find_nothing() {
    let text = text();
    let mut series = BTreeSet::new();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] => assert!(help.ends_with('.'), "{name}: {help}"),
            ["#", "TYPE", name, kind] => {
                assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                assert!(name.bytes().all(plain), "{name}");
                for wrong in ["_count", "_sum", "_bucket", "_gauge", "_milliseconds"] {
                    assert!(!name.ends_with(wrong), "{name}");
                }
                assert!(kinds.insert((*name).to_owned(), (*kind).to_owned()).is_none());
            }
            _ => {
                let name = line.split(['{', ' ']).next().unwrap();
                let of_histogram = ["_bucket", "_sum", "_count"].iter().any(|part| {
                    let family = name.strip_suffix(part).and_then(|name| kinds.get(name));
                    family.is_some_and(|kind| kind == "histogram")
                });
                assert!(of_histogram || kinds.contains_key(name), "{name} has no type");
                let series_name = line.rsplit_once(' ').unwrap().0.to_owned();
                assert!(series.insert(series_name), "twice: {line}");
            }
        }
    }
    assert!(kinds.len() > 8);
}
