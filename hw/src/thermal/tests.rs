//! Sensor trees with the traps that were seen in the field: none gives a wrong number.

use std::time::Duration;

use super::{CoreReading, HottestCore, Thermometer, Unusable, survey};
use crate::root::ReadError;
use crate::trees::Tree;

fn tree() -> (tempfile::TempDir, Tree) {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    (directory, tree)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn read(thermometer: &mut Thermometer, tree: &Tree, second: u64) -> Result<f64, Unusable> {
    thermometer.read(&tree.root(), at(second))
}

/// The board's sensors of real machines, each of which is wrong about the processor.
fn board(tree: &Tree) {
    tree.zone(0, "acpitz\n", "16000\n").zone(1, "INT3400 Thermal\n", "20000\n");
    tree.zone(2, "acpitz\n", "-44000\n").zone(3, "iwlwifi_1\n", "38000\n");
    tree.zone(4, "SEN1\n", "33000\n").zone(5, "TMEM\n", "41000\n").zone(
        6,
        "pch_cannonlake\n",
        "50000\n",
    );
    tree.monitor(0, "nvme\n", &[("Composite\n", "39850\n")]).monitor(1, "acpitz\n", &[]);
    tree.file("sys/class/hwmon/hwmon0/temp1_crit", "65261800\n");
}

#[test]
fn the_best_kind_of_sensor_is_taken_and_the_board_never() {
    let (_directory, tree) = tree();
    board(&tree);
    let expect = |source: Option<&str>, celsius: Result<f64, Unusable>| {
        let mut thermometer = Thermometer::new(&tree.root(), at(0));
        assert_eq!(thermometer.source(), source);
        assert_eq!(read(&mut thermometer, &tree, 1), celsius);
        assert_eq!(thermometer.is_absent(), source.is_none());
    };
    expect(None, Err(Unusable::NoSensor));
    tree.zone(9, "B0D4\n", "62000\n");
    expect(Some("processor thermal device"), Ok(62.0));
    let cores = [("Core 0\n", "99000\n"), ("Core 4\n", "98000\n"), ("Package id 0\n", "63000\n")];
    tree.monitor(4, "coretemp\n", &cores);
    expect(Some("coretemp package sensor"), Ok(63.0));
    tree.zone(10, "x86_pkg_temp\n", "64000\n");
    expect(Some("thermal zone x86_pkg_temp"), Ok(64.0));
    let survey = survey(&tree.root());
    let why = |place: &str| {
        let found = survey.rejected.iter().find(|rejected| rejected.place.starts_with(place));
        found.map(|rejected| rejected.reason.as_str())
    };
    assert_eq!(
        why("sys/class/thermal/thermal_zone0"),
        Some("does not measure a processor package")
    );
    assert_eq!(why("sys/class/thermal/thermal_zone9"), Some("another kind is better"));
    assert_eq!(why("sys/class/hwmon/hwmon4"), Some("another kind is better"));
    assert_eq!(why("sys/class/thermal/thermal_zone10"), None);
}

#[test]
fn old_labels_and_other_makers_serve_too() {
    let (_directory, tree) = tree();
    tree.monitor(1, "coretemp\n", &[("Physical id 0\n", "84000\n")]);
    assert_eq!(survey(&tree.root()).chosen[0].celsius(&tree.root()), Ok(84.0));
    let (_directory, tree) = self::tree();
    tree.monitor(2, "k10temp\n", &[("Tctl\n", "71125\n"), ("Tccd1\n", "60000\n")]);
    let sensor = &survey(&tree.root()).chosen[0];
    assert_eq!(
        (sensor.source, sensor.celsius(&tree.root())),
        ("k10temp control sensor", Ok(71.125))
    );
}

#[test]
fn a_better_sensor_that_does_not_answer_gives_way() {
    let (_directory, tree) = tree();
    tree.zone(0, "x86_pkg_temp\n", "\n").monitor(3, "coretemp\n", &[("Package id 0\n", "55000\n")]);
    tree.refuse("sys/class/thermal/thermal_zone0/temp", ReadError::NoData);
    let found = survey(&tree.root());
    assert_eq!(found.chosen[0].source, "coretemp package sensor");
    assert_eq!(found.rejected[0].reason, "no data available, and another answers");
    tree.refuse("sys/class/hwmon/hwmon3/temp1_input", ReadError::Io);
    let mut thermometer = Thermometer::new(&tree.root(), at(0));
    assert!(!thermometer.is_absent(), "a sensor that fails is not an absent one");
    let unreadable = Err(Unusable::Unreadable(ReadError::NoData));
    assert_eq!(read(&mut thermometer, &tree, 1), unreadable);
    assert!(!thermometer.has_answered(), "but it has never said anything");
}

#[test]
fn no_trap_becomes_a_number_and_each_is_counted() {
    let (_directory, tree) = tree();
    let file = "sys/class/thermal/thermal_zone3/temp";
    tree.zone(3, "x86_pkg_temp\n", "61000\n");
    let mut thermometer = Thermometer::new(&tree.root(), at(0));
    assert_eq!(read(&mut thermometer, &tree, 1), Ok(61.0));
    let mut second = 1;
    for text in ["", "\n", "0\n", "-274000\n", "-32768000\n", "65261800\n", "garbage\n", "61.0\n"] {
        tree.file(file, text);
        second += 1;
        assert!(read(&mut thermometer, &tree, second).is_err(), "{text:?}");
    }
    let errors =
        [ReadError::Again, ReadError::NoData, ReadError::Io, ReadError::Invalid, ReadError::Denied];
    for error in errors {
        tree.refuse(file, error);
        second += 1;
        let unreadable = Err(Unusable::Unreadable(error));
        assert_eq!(read(&mut thermometer, &tree, second), unreadable);
    }
    tree.remove(file).zone(3, "x86_pkg_temp\n", "62000\n");
    assert_eq!(read(&mut thermometer, &tree, second + 1), Ok(62.0));
    let counts = thermometer.counts();
    assert_eq!(counts.reads, 15);
    let failures = |name| counts.failures[name];
    assert_eq!([failures("empty"), failures("out-of-range"), failures("garbage")], [2, 4, 2]);
    assert_eq!([failures("again"), failures("io")], [1, 1]);
    assert_eq!(counts.failures.values().sum::<u64>(), 13);
    assert_eq!(
        counts.failures.len(),
        Unusable::all().count(),
        "each cause is there from the start"
    );
}

#[test]
fn a_directory_or_a_pipe_in_its_place_is_no_reading() {
    let (directory, tree) = tree();
    let file = "sys/class/thermal/thermal_zone0/temp";
    tree.zone(0, "x86_pkg_temp\n", "61000\n");
    let mut thermometer = Thermometer::new(&tree.root(), at(0));
    tree.remove(file).file(&format!("{file}/x"), "");
    let unreadable = |error| Err(Unusable::Unreadable(error));
    assert_eq!(read(&mut thermometer, &tree, 1), unreadable(ReadError::NotAFile));
    tree.remove(file);
    let pipe = directory.path().join(file);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let held = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    assert_eq!(read(&mut thermometer, &tree, 2), unreadable(ReadError::Again));
    drop(held);
}

#[test]
fn several_packages_are_as_hot_as_the_hottest_and_none_may_fall_silent() {
    let (_directory, tree) = tree();
    tree.zone(0, "x86_pkg_temp\n", "50000\n").zone(1, "x86_pkg_temp\n", "70000\n");
    tree.zone(2, "x86_pkg_temp\n", "\n");
    let mut thermometer = Thermometer::new(&tree.root(), at(0));
    assert_eq!(
        read(&mut thermometer, &tree, 1),
        Ok(70.0),
        "one that never answered does not count"
    );
    tree.zone(1, "x86_pkg_temp\n", "\n");
    let silent = Err(Unusable::Unreadable(ReadError::Empty));
    assert_eq!(read(&mut thermometer, &tree, 2), silent, "the hot one is silent: not 50");
    assert_eq!(thermometer.latest(at(4)), Ok(70.0));
    assert_eq!(thermometer.latest(at(5)), Err(Unusable::Stale));
    tree.zone(1, "x86_pkg_temp\n", "45000\n");
    assert_eq!(read(&mut thermometer, &tree, 3), Ok(50.0));
}

#[test]
fn devices_that_change_numbers_are_found_again_at_once() {
    let (_directory, tree) = tree();
    let package = [("Package id 0\n", "66000\n")];
    tree.monitor(2, "coretemp\n", &package).monitor(5, "nvme\n", &[("Composite\n", "35000\n")]);
    let mut thermometer = Thermometer::new(&tree.root(), at(0));
    assert_eq!(read(&mut thermometer, &tree, 1), Ok(66.0));
    tree.remove("sys/class/hwmon/hwmon2").remove("sys/class/hwmon/hwmon5");
    tree.monitor(2, "nvme\n", &[("Composite\n", "35000\n")]).monitor(5, "coretemp\n", &package);
    assert_eq!(read(&mut thermometer, &tree, 2), Ok(66.0), "not the disk's 35");
    assert_eq!(thermometer.counts().searches, 1);
}

#[test]
fn a_zone_that_vanishes_is_lost_and_found_when_it_comes_back() {
    let (_directory, tree) = tree();
    tree.zone(7, "x86_pkg_temp\n", "66000\n");
    let mut thermometer = Thermometer::new(&tree.root(), at(0));
    assert_eq!(read(&mut thermometer, &tree, 1), Ok(66.0));
    tree.remove("sys/class/thermal/thermal_zone7");
    for second in 2..60 {
        assert!(read(&mut thermometer, &tree, second).is_err());
    }
    assert!(!thermometer.is_absent() && thermometer.has_answered(), "lost, not absent");
    let searches = thermometer.counts().searches;
    assert!((2..=6).contains(&searches), "{searches} searches: not on every reading");
    tree.zone(1, "x86_pkg_temp\n", "68000\n");
    let found = (60..72).find_map(|second| read(&mut thermometer, &tree, second).ok());
    assert_eq!(found, Some(68.0));
}

#[test]
fn a_sensor_that_appears_later_is_found() {
    let (_directory, tree) = tree();
    let mut thermometer = Thermometer::new(&tree.root(), at(0));
    assert_eq!(read(&mut thermometer, &tree, 1), Err(Unusable::NoSensor));
    assert!(thermometer.is_absent());
    tree.monitor(0, "coretemp\n", &[("Package id 0\n", "51000\n")]);
    assert_eq!(read(&mut thermometer, &tree, 2), Err(Unusable::NoSensor), "not searched each time");
    assert_eq!(read(&mut thermometer, &tree, 10), Ok(51.0));
    assert!(!thermometer.is_absent());
}

#[test]
fn a_critical_temperature_is_believed_within_reason() {
    let (_directory, tree) = tree();
    let file = "sys/class/hwmon/hwmon3/temp1_crit";
    tree.monitor(3, "coretemp\n", &[("Package id 0\n", "55000\n")]);
    let critical = || survey(&tree.root()).critical.map(|critical| critical.celsius);
    assert_eq!(critical(), None);
    for (text, expected) in [
        ("110000\n", Some(110.0)),
        ("70000\n", Some(70.0)),
        ("130000\n", Some(130.0)),
        ("-274000\n", None),
        ("20800\n", None),
        ("60000\n", None),
        ("69999\n", None),
        ("65261800\n", None),
        ("\n", None),
        ("hot\n", None),
    ] {
        tree.file(file, text);
        assert_eq!(critical(), expected, "{text}");
        let rejected = survey(&tree.root()).rejected;
        let reason = rejected.iter().find(|it| it.place == file).map(|it| it.reason.as_str());
        assert_eq!(reason, expected.is_none().then_some("not between 70 and 130 degrees"));
    }
    tree.file(file, "110000\n").monitor(4, "coretemp\n", &[("Package id 1\n", "55000\n")]);
    tree.file("sys/class/hwmon/hwmon4/temp1_crit", "100000\n");
    assert_eq!(critical(), Some(100.0), "the lowest");
    tree.zone(0, "acpitz\n", "20000\n")
        .file("sys/class/thermal/thermal_zone0/trip_point_0_temp", "-274000\n");
    assert_eq!(critical(), Some(100.0), "the board is not asked");
}

#[test]
fn this_machine_has_a_plausible_temperature_or_none() {
    let root = crate::root::Root::machine();
    let mut thermometer = Thermometer::new(&root, at(0));
    match thermometer.read(&root, at(1)) {
        Ok(celsius) => assert!((5.0..=127.0).contains(&celsius)),
        Err(Unusable::NoSensor) => assert!(thermometer.is_absent()),
        Err(_) => assert!(!thermometer.is_absent()),
    }
}

#[test]
fn private_names_of_devices_are_neither_shown_nor_recorded() {
    let (_directory, tree) = tree();
    tree.zone(0, "hid-c8:3f:26:aa:bb:cc-battery\n", "30000\n").zone(1, "TCPU\n", "61000\n");
    tree.monitor(0, "hid_c8:3f:26:aa:bb:cc_battery\n", &[]).monitor(1, "00:11:22\n", &[]);
    tree.monitor(2, "coretemp\n", &[("Package id 0\n", "62000\n")]).monitor(3, "nvme\n", &[]);
    tree.monitor(4, "coretemp:secret\n", &[("Package id 0\n", "99000\n")]);
    let root = tree.root().recording();
    let found = survey(&root);
    assert_eq!(found.chosen[0].celsius(&root), Ok(62.0));
    let names: Vec<&str> = found.rejected.iter().map(|it| it.name.as_str()).collect();
    for (kind, count) in [("hid", 2), ("other", 1), ("nvme", 1)] {
        assert_eq!(names.iter().filter(|name| **name == kind).count(), count, "{names:?}");
    }
    let (directory, replayed) = self::tree();
    for (path, bytes) in &root.recorded().files {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(!["3f", "22", "secret"].iter().any(|part| text.contains(part)), "{path}: {text}");
        replayed.file(path, text);
    }
    assert_eq!(survey(&replayed.root()), found);
    drop(directory);
}

#[test]
fn the_hottest_core_is_asked_by_its_label_whatever_numbers_there_are() {
    let (_directory, tree) = tree();
    let mut cores = HottestCore::default();
    assert_eq!(cores.read(&tree.root()), CoreReading::Absent, "no sensors");
    let label = |label, reading| (label, reading);
    tree.monitor(
        4,
        "coretemp",
        &[
            label("Package id 0", "99000"),
            label("Core 0", "61000"),
            label("Core 24", "74000"),
            label("Core 33", "0"),
        ],
    );
    tree.monitor(5, "nvme", &[label("Core 1", "90000")]);
    assert_eq!(cores.read(&tree.root()), CoreReading::Hottest(74.0), "found when it is there");
    tree.refuse("sys/class/hwmon/hwmon4/temp3_input", ReadError::Io);
    assert_eq!(cores.read(&tree.root()), CoreReading::Hottest(61.0));
    // The numbers of the devices change: what is there now is asked.
    tree.remove("sys/class/hwmon/hwmon4").remove("sys/class/hwmon/hwmon5");
    tree.monitor(4, "nvme", &[label("Composite", "40000"), label("Core 0", "41000")]);
    tree.monitor(1, "coretemp", &[label("Core 0", "66000")]);
    assert_eq!(cores.read(&tree.root()), CoreReading::Hottest(66.0));
}

#[test]
fn cores_that_answered_and_do_not_are_silent_and_those_that_went_or_never_did_are_absent() {
    let (_directory, tree) = tree();
    let core = "sys/class/hwmon/hwmon4/temp1_input";
    let silences = |thermometer: &Thermometer| thermometer.counts().failures["cores-silent"];
    tree.monitor(4, "coretemp", &[("Core 0", "61000")]).refuse(core, ReadError::Again);
    let mut thermometer = Thermometer::new(&tree.root(), at(0));
    assert_eq!(thermometer.read_cores(&tree.root()), CoreReading::Absent, "never heard");
    tree.remove("sys/class/hwmon/hwmon4").monitor(4, "coretemp", &[("Core 0", "61000")]);
    assert_eq!(thermometer.read_cores(&tree.root()), CoreReading::Hottest(61.0));
    for (index, error) in [ReadError::Again, ReadError::Io].into_iter().enumerate() {
        tree.refuse(core, error);
        assert_eq!(thermometer.read_cores(&tree.root()), CoreReading::Silent);
        assert_eq!(silences(&thermometer), index as u64 + 1);
    }
    tree.remove("sys/class/hwmon/hwmon4");
    assert_eq!(thermometer.read_cores(&tree.root()), CoreReading::Absent, "its driver went");
    tree.monitor(2, "coretemp", &[("Core 0", "nothing")]);
    assert_eq!(thermometer.read_cores(&tree.root()), CoreReading::Absent, "another one");
    assert_eq!((silences(&thermometer), thermometer.counts().reads), (2, 0));
}
