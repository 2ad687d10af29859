//! `bolide doctor` as a program, on generated machines: it explains what it decided, and what it saves of a machine
//! stands for that machine.

#![allow(clippy::unwrap_used, reason = "a test that does not get what it needs has failed")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use hw::root::ReadError;
use hw::trees::{Machine, Tree};
use serde_json::{Value, json};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bolide")).arg("doctor").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn doctor(root: &Path, more: &[&str]) -> Value {
    let root = root.to_str().unwrap();
    let (code, stdout, stderr) = run(&[&["--json", "--sysfs-root", root], more].concat());
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// A laptop with a bad better sensor, a control group, counters, and files that nobody asked for.
fn laptop() -> (tempfile::TempDir, Tree) {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    Machine::meteor_lake_b().write(&tree);
    tree.offline("11");
    let groups = "1:name=systemd:/secret\n0::/app.slice/bolide.service\n";
    tree.file("proc/self/cgroup", groups);
    tree.file("sys/fs/cgroup/app.slice/cpuset.cpus.effective", "0-15,20-21\n");
    tree.file("sys/fs/cgroup/app.slice/cpu.max", "600000 100000\n");
    tree.file("proc/pressure/cpu", "some avg10=1.50 avg60=0.90 avg300=3.45 total=35\n");
    tree.file("proc/sys/kernel/osrelease", "6.18.5-test\n");
    tree.zone(0, "acpitz\n", "16000\n").zone(1, "x86_pkg_temp\n", "61000\n");
    tree.refuse("sys/class/thermal/thermal_zone1/temp", ReadError::NoData);
    tree.monitor(4, "coretemp\n", &[("Package id 0\n", "88000\n"), ("Core 0\n", "91000\n")]);
    tree.file("sys/class/hwmon/hwmon4/temp1_crit", "110000\n");
    tree.monitor(5, "hid_c8:3f:26:secret_battery\n", &[]);
    tree.each("0-10,12-21", "thermal_throttle/core_throttle_count", "3\n");
    tree.each("0-10,12-21", "thermal_throttle/package_throttle_count", "7\n");
    tree.file("home/somebody/secret", "secret").file("proc/self/environ", "TOKEN=secret");
    tree.file("etc/hostname", "secret").file("proc/self/mountinfo", "secret");
    (directory, tree)
}

fn unpack(archive: &Path, into: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
        assert_eq!(owner, (0, 0, 0));
        assert_eq!(header.username().unwrap().unwrap_or_default(), "");
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let place = into.join(&path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, &bytes).unwrap();
        files.insert(path, bytes);
    }
    files
}

#[test]
fn every_decision_is_told_with_its_reason() {
    let (directory, _tree) = laptop();
    let report = doctor(directory.path(), &[]);
    let cpu = &report["cpu"];
    assert_eq!(cpu["p"], json!([0, 1, 10, 12, 13, 14, 15]));
    assert_eq!(cpu["e"], json!([2, 3, 4, 5, 6, 7, 8, 9]));
    assert_eq!(cpu["lpe"], json!([20, 21]));
    assert_eq!(cpu["cores"], json!({"p": 4, "e": 8, "lpe": 2, "all": 14, "unknown_siblings": ""}));
    let cpuset = json!({
        "cpus": "0-15,20-21",
        "file": "sys/fs/cgroup/app.slice/cpuset.cpus.effective",
    });
    assert_eq!(cpu["limits"]["cpuset"], cpuset);
    assert_eq!(cpu["limits"]["quota"]["cpus"], 6.0);
    assert_eq!(cpu["limits"]["parallelism"], 6);
    assert_eq!(cpu["limits"]["affinity"], Value::Null);
    let thermal = &report["thermal"];
    assert_eq!(thermal["celsius"], 88.0);
    assert_eq!(thermal["state"], "normal");
    assert_eq!(thermal["critical"]["celsius"], 110.0);
    assert_eq!(thermal["throttles"], json!({"core": 3, "package": 7}));
    let (_, text, _) = run(&["--sysfs-root", directory.path().to_str().unwrap()]);
    for line in [
        "7 P, 8 E, 2 LP-E of 0-10,12-15,20-21 on 14 cores",
        "+ level-3 cache: 20-21 are outside, 2-9 inside",
        "+ sys/class/hwmon/hwmon4/temp1_input: 88.0 C",
        "thermal_zone1/temp (thermal zone x86_pkg_temp): no data available, and another answers",
        "thermal_zone0 (acpitz): does not measure a processor package",
        "critical at 110 C",
        "quota: the time of 6.0 CPUs",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn what_was_captured_stands_for_the_machine() {
    let (directory, _tree) = laptop();
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("laptop.tar.gz");
    let mut report = doctor(directory.path(), &["--capture", archive.to_str().unwrap()]);
    let captured = report.as_object_mut().unwrap().remove("captured").unwrap();
    assert_eq!(captured["refused"], 1);
    let replayed = tempfile::tempdir().unwrap();
    let files = unpack(&archive, replayed.path());
    assert_eq!(captured["files"].as_u64().unwrap() as usize + 1, files.len());
    assert_eq!(doctor(replayed.path(), &[]), report);
    // Nothing but what was read, as it was.
    for (path, bytes) in &files {
        assert!(!String::from_utf8_lossy(bytes).contains("secret"), "{path}");
        assert!(path.starts_with("sys/") || path.starts_with("proc/") || path == "bolide-refused");
        if path == "proc/self/cgroup" {
            assert_eq!(bytes, b"0::/app.slice/bolide.service\n");
        } else if path == "sys/class/hwmon/hwmon5/name" {
            assert_eq!(bytes, b"hid\n");
        } else if path != "bolide-refused" {
            assert_eq!(&std::fs::read(directory.path().join(path)).unwrap(), bytes, "{path}");
        }
    }
    let refused = &files["bolide-refused"];
    assert_eq!(refused, b"sys/class/thermal/thermal_zone1/temp no-data\n");
}

#[test]
fn a_capture_never_overwrites_and_a_bad_place_is_told() {
    let (directory, _tree) = laptop();
    let root = directory.path().to_str().unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("precious");
    std::fs::write(&file, "precious").unwrap();
    let (code, _, stderr) = run(&["--sysfs-root", root, "--capture", file.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("cannot make"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn this_machine_can_be_captured_and_replayed() {
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("here.tar.gz");
    let report = doctor(Path::new("/"), &["--capture", archive.to_str().unwrap()]);
    let replayed = tempfile::tempdir().unwrap();
    let files = unpack(&archive, replayed.path());
    assert!(files.contains_key("sys/devices/system/cpu/online"), "{:?}", files.keys());
    let again = doctor(replayed.path(), &[]);
    assert_eq!(report["kernel"]["features"]["memfd_seals"], true);
    for field in ["/cpu/source", "/thermal/source", "/kernel", "/cpu/limits/quota"] {
        assert_eq!(again.pointer(field), report.pointer(field), "{field}");
    }
    assert_eq!(again["simd"], Value::Null, "of another machine nothing is known");
}

#[test]
fn hwloc_says_its_word_on_this_machine_and_not_on_trees() {
    let here = doctor(Path::new("/"), &[]);
    let topics: Vec<&Value> =
        here["hwloc"]["compared"].as_array().unwrap().iter().map(|row| &row["topic"]).collect();
    if cfg!(feature = "hwloc") {
        assert_eq!(topics, ["threads of one core", "level-3 caches", "kinds of cores"]);
    }
    let (directory, _tree) = laptop();
    assert_eq!(doctor(directory.path(), &[])["hwloc"]["version"], Value::Null);
}

/// Which of the two it is, the machine decides.
#[test]
fn whether_archives_of_sources_can_be_built_is_tried_here_and_not_known_of_trees() {
    let builds = doctor(Path::new("/"), &[])["builds"].clone();
    let can = builds["sandbox"].as_bool().unwrap();
    assert_eq!(builds["why"].is_null(), can, "{builds}");
    let (directory, _tree) = laptop();
    assert_eq!(doctor(directory.path(), &[])["builds"], Value::Null);
}

#[test]
fn a_machine_without_anything_is_answered_too() {
    let empty = tempfile::tempdir().unwrap();
    let report = doctor(empty.path(), &[]);
    assert_eq!(report["cpu"]["p"], json!([0]));
    assert_eq!(report["thermal"]["celsius"], Value::Null);
    assert_eq!(report["thermal"]["state"], "off");
}

#[test]
fn what_a_tree_does_not_say_of_the_kernel_is_not_known() {
    let (directory, tree) = laptop();
    let seals = || {
        let kernel = &doctor(directory.path(), &[])["kernel"];
        let missing = kernel["missing"].as_array().unwrap();
        let is_missing = missing.iter().any(|it| it["feature"] == "memfd_seals");
        (kernel["features"]["memfd_seals"].clone(), is_missing)
    };
    assert_eq!(seals(), (Value::Null, false));
    let (_, text, _) = run(&["--sysfs-root", directory.path().to_str().unwrap()]);
    assert!(text.contains("memfd_seals: not known from this tree"), "{text}");
    assert!(!text.contains("the daemon does not start"), "{text}");
    tree.file("bolide-tried", "memfd_seals no\n");
    assert_eq!(seals(), (json!(false), true));
}

#[test]
fn the_configuration_says_where_the_machine_is_and_what_is_hot() {
    let (directory, tree) = laptop();
    tree.file("sys/class/hwmon/hwmon4/temp1_input", "72000\n");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("bolide.toml");
    let root = directory.path().to_str().unwrap();
    let thermal = "normal = \"70/65\"\n";
    std::fs::write(&file, format!("sysfs_root = \"{root}\"\n[thermal]\n{thermal}")).unwrap();
    let report = |more: &[&str]| -> Value {
        let named = ["--json", "--config", file.to_str().unwrap()];
        let (code, stdout, stderr) = run(&[&named, more].concat());
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&stdout).unwrap()
    };
    assert_eq!(report(&[])["kernel"]["release"], "6.18.5-test");
    assert_eq!(report(&[])["thermal"]["state"], "normal");
    assert_eq!(doctor(directory.path(), &[])["thermal"]["state"], "optimal");
    let empty = tempfile::tempdir().unwrap();
    let flag = report(&["--sysfs-root", empty.path().to_str().unwrap()]);
    assert_eq!(flag["kernel"]["release"], Value::Null, "the flag is stronger");
    std::fs::write(&file, "nonsense").unwrap();
    let (code, stdout, stderr) = run(&["--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("is not TOML") && stdout.contains("kernel"), "{stderr}");
}

#[test]
fn the_state_is_the_one_that_the_governor_would_enter() {
    let (directory, tree) = laptop();
    for (celsius, critical, state) in [
        ("80000", "90000", "normal"),
        ("58000", "60000", "optimal"),
        ("97000", "100000", "throttle"),
    ] {
        tree.file("sys/class/hwmon/hwmon4/temp1_input", celsius);
        tree.file("sys/class/hwmon/hwmon4/temp1_crit", critical);
        let thermal = doctor(directory.path(), &[])["thermal"].clone();
        assert_eq!(thermal["state"], state, "{celsius} of {critical}");
    }
}
