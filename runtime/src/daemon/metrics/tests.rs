//! The exposition: right values, and nothing that a linter of metrics complains about.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::daemon::snapshot::{
    Change, Governor, HostedStatus, Machine, Phase, SCHEMA, Tasks, Thermal, WorkStatus,
};
use crate::exchange;

fn class() -> ClassStatus {
    let mut histogram = Histogram::default();
    for time_ns in [20, 100, 100, 1_000, 20_000_000_000] {
        histogram.record(time_ns);
    }
    ClassStatus { messages: 42, lost: 3, depth: 7, histogram, ..ClassStatus::default() }
}

fn machine(celsius: Option<f64>) -> Machine {
    Machine {
        thermal: Thermal {
            state: "normal",
            celsius,
            source: Some("test"),
            reads: 9,
            failures: BTreeMap::from([("empty", 1)]),
        },
        slots: BTreeMap::from([("performance", 2), ("efficient", 8), ("low_power", 0)]),
        why: "cool",
        changes: vec![Change { direction: "up", reason: "cool", count: 3 }],
        heavy: true,
        background: "efficient",
        cpus: BTreeMap::from([("performance", 12), ("efficient", 8), ("low_power", 2)]),
        pinning: "auto",
        thresholds: BTreeMap::new(),
        thresholds_configured: BTreeMap::new(),
        allowed: "0-21".to_owned(),
    }
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
        hosted: vec![
            hosted("echo", 3, &[("bad \"kind\"\n", 4), ("limit-passed", 7)]),
            hosted(exchange::NAME, 0, &[("limit-passed", 2)]),
        ],
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
        machine: Some(machine(Some(61.5))),
        governor: Governor { decision_age_seconds: 0.5, silent: None },
        work: WorkStatus {
            running: [1, 3, 0, 0],
            waiting: [0, 2, 0, 0],
            deferred: [5, 2, 0, 0],
            deferred_ns: [1_500_000_000, 0, 0, 0],
            ..WorkStatus::default()
        },
    }
}

fn hosted(name: &str, restarts: u64, errors: &[(&str, u64)]) -> HostedStatus {
    let figure = |(name, value): (&str, u64)| {
        let (name, label) = (name.to_owned(), String::new());
        ipc::control::Figure { name, label, value }
    };
    let times = [("tasks", 5), ("task-ns", 2_500_000_000)].map(figure);
    HostedStatus {
        name: name.to_owned(),
        state: HostedState::Up,
        pid: Some(2),
        restarts,
        last_end: None,
        tasks: Tasks { running: 1, done: 5, died: 2, ..Tasks::default() },
        errors: errors.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
        facts: BTreeMap::new(),
        figures: Figures::default().plus(&times),
        work: WorkStatus::default(),
        worker_cpus: Default::default(),
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
    check("bolide_agents{state=\"up\"} 2");
    check("bolide_agents{state=\"failed\"} 0");
    check("bolide_agent_restarts_total{agent=\"echo\"} 3");
    check("bolide_tasks_total{agent=\"echo\",outcome=\"died\"} 2");
    check("bolide_tasks_total{agent=\"echo\",outcome=\"panicked\"} 0");
    check("bolide_tasks_running{agent=\"echo\"} 1");
    check("bolide_task_seconds_count{agent=\"echo\"} 5");
    check("bolide_task_seconds_sum{agent=\"echo\"} 2.5");
    check("bolide_errors_total{agent=\"router\",kind=\"limit\"} 1");
    check("bolide_errors_total{agent=\"echo\",kind=\"bad \\\"kind\\\"\\n\"} 4");
    check("process_open_fds 9");
}

#[test]
fn the_machine_and_its_slots_are_there() {
    check("bolide_thermal_package_celsius 61.5");
    check("bolide_thermal_state{state=\"normal\"} 1");
    check("bolide_thermal_state{state=\"blind\"} 0");
    check("bolide_thermal_sensor_reads_total 9");
    check("bolide_thermal_sensor_read_failures_total{reason=\"empty\"} 1");
    check("bolide_governor_decision_age_seconds 0.5");
    check("bolide_governor_slots{class=\"efficient\"} 8");
    check("bolide_governor_inflight{class=\"efficient\"} 3");
    check("bolide_governor_changes_total{direction=\"up\",reason=\"cool\"} 3");
    check("bolide_tasks_deferred{reason=\"heat\"} 2");
    check("bolide_task_deferrals_total{reason=\"slots\"} 5");
    check("bolide_task_defer_seconds_total{reason=\"slots\"} 1.5");
    check("bolide_cpu_class_cpus{class=\"low_power\"} 2");
}

#[test]
fn an_unknown_temperature_is_absent() {
    let unknown = Snapshot { machine: Some(machine(None)), ..snapshot() };
    let text = encode(unknown, ProcessUse::default()).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("bolide_thermal_package_celsius"), "{text}");
    assert!(text.contains("bolide_thermal_state"), "{text}");
}

#[test]
fn how_long_nobody_has_decided_is_there_even_where_nobody_ever_did() {
    let governor = Governor { decision_age_seconds: 7.0, silent: Some("it hangs".to_owned()) };
    let never = Snapshot { machine: None, governor, ..snapshot() };
    let text = encode(never, ProcessUse::default()).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\nbolide_governor_decision_age_seconds 7\n"), "{text}");
    assert!(!text.contains("bolide_governor_slots"), "{text}");
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
                let of_many = ["_bucket", "_sum", "_count"].iter().any(|part| {
                    let family = name.strip_suffix(part).and_then(|name| kinds.get(name));
                    let is_summed = |kind: &str| kind == "summary" && *part != "_bucket";
                    family.is_some_and(|kind| kind == "histogram" || is_summed(kind))
                });
                assert!(of_many || kinds.contains_key(name), "{name} has no type");
                let series_name = line.rsplit_once(' ').unwrap().0.to_owned();
                assert!(series.insert(series_name), "twice: {line}");
            }
        }
    }
    assert!(kinds.len() > 8);
}

#[test]
fn limits_of_the_exchange_stand_with_the_others_and_nobody_elses_words_do() {
    check("bolide_bus_limits_total{limit=\"passed\"} 2");
    check("bolide_bus_limits_total{limit=\"routed_bytes\"} 0");
    check("bolide_bus_limits_total{limit=\"routed_message_patience\"} 0");
}
