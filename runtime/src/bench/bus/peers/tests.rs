//! The caller's side, with programs of a few lines in place of the real ones.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::super::Part;
use super::Peers;

/// A warming round and these.
fn run(directory: &Path, rounds: usize) -> Value {
    let mut peers = Peers::start(directory, None);
    for _ in 0..=rounds {
        peers.round(1000).unwrap();
    }
    let mut report = Value::Null;
    peers.describe(&mut report);
    report["peers"].take()
}

/// Three rounds of a directory in which `bolide-peer-iceoryx2` is this script.
fn report_of(script: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("bin")).unwrap();
    let program = directory.path().join("bin/bolide-peer-iceoryx2");
    std::fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    run(directory.path(), 3)
}

#[test]
fn what_is_not_installed_is_null_and_says_why() {
    let report = run(Path::new("/nonexistent"), 1);
    for measure in ["iceoryx2", "nats", "redis_always"] {
        assert_eq!(report[format!("{measure}_p50_ns")], Value::Null);
        assert!(report["why"][measure].as_str().unwrap().contains("make peers"));
    }
}

#[test]
fn the_median_round_counts_and_the_warm_up_does_not() {
    let report = report_of(
        r#"
echo '{"measures": ["iceoryx2"], "versions": {"iceoryx2": "1.2.3"}}'
for time in 9000 300 100 200; do
    read -r measure messages || exit
    echo "{\"p50_ns\": $time, \"p99_ns\": $messages}"
done
cat"#,
    );
    assert_eq!(report["iceoryx2_p50_ns"], json!(200.0));
    assert_eq!(report["iceoryx2_p99_ns"], json!(1000.0));
    assert_eq!(report["spread"]["iceoryx2_p50_ns"], json!([100.0, 300.0]));
    assert_eq!(report["versions"]["iceoryx2"], "1.2.3");
    assert_eq!(report["why"]["iceoryx2"], Value::Null);
    assert!(report["why"]["iceoryx2_throughput"].is_string());
}

#[test]
fn a_program_that_ends_early_leaves_a_reason() {
    let report = report_of("echo '{\"measures\": [\"iceoryx2\"]}'\nread -r line");
    assert_eq!(report["iceoryx2_p50_ns"], Value::Null);
    assert!(report["why"]["iceoryx2"].as_str().unwrap().contains("ended early"));
}

#[test]
fn a_measure_that_fails_does_not_take_the_others_along() {
    let report = report_of(
        r#"
echo '{"measures": ["iceoryx2", "iceoryx2_throughput"], "versions": {}}'
while read -r measure messages; do
    case $measure in
        iceoryx2) echo '{"why": "no memory"}' ;;
        *) echo '{"messages_per_s": 5}' ;;
    esac
done"#,
    );
    assert_eq!(report["why"]["iceoryx2"], "no memory");
    assert_eq!(report["iceoryx2_throughput_messages_per_s"], json!(5.0));
}
