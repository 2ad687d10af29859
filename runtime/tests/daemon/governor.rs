//! The daemon governs: what it makes of a sensor is seen in metrics, status and `top`, and follows the sensor while it runs.

use hw::trees::{Machine, Tree};

use crate::world::{Daemon, Options, eventually};

const NOBODY: Options = Options { hosted: "", dev: false, drain_seconds: 0, routed: "" };

/// A daemon that takes `tree` for its machine.
fn on(tree: &Tree) -> Daemon {
    let root = tree.directory().to_str().unwrap();
    let daemon = Daemon::start_with(&NOBODY, &[("BOLIDE_SYSFS_ROOT", root)]);
    eventually("the machine is looked at", || !daemon.status()["machine"].is_null());
    daemon
}

fn state(daemon: &Daemon) -> String {
    daemon.status()["machine"]["thermal"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn state_and_slots_follow_the_sensor_while_the_daemon_runs() {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    Machine::meteor_lake_a().write(&tree);
    tree.zone(0, "acpitz", "16000").zone(1, "x86_pkg_temp", "61000");
    let daemon = on(&tree);
    eventually("it is cool", || state(&daemon) == "optimal");
    assert_eq!(daemon.metric("bolide_thermal_package_celsius"), 61.0);
    assert_eq!(daemon.metric("bolide_thermal_state{state=\"optimal\"}"), 1.0);
    let cpus = ["performance", "efficient", "low_power"]
        .map(|class| daemon.metric(&format!("bolide_cpu_class_cpus{{class=\"{class}\"}}")));
    assert_eq!(cpus, [12.0, 8.0, 2.0]);
    let slots = || {
        let slots = daemon.status()["machine"]["slots"].clone();
        let numbers = ["performance", "efficient", "low_power"].map(|class| slots[class].as_u64());
        numbers.into_iter().flatten().sum::<u64>()
    };
    let cool = slots();
    assert_eq!(cool, 8, "as many as are good for work per watt");

    tree.file("sys/class/thermal/thermal_zone1/temp", "97000");
    eventually("it is hot, and less may run", || state(&daemon) == "caution" && slots() < cool);
    assert_eq!(daemon.status()["machine"]["heavy"], false);
    assert_eq!(daemon.metric("bolide_thermal_package_celsius"), 97.0);
    let (_, top, _) = daemon.run(&["top", "--once"]);
    assert!(top.contains("caution") && top.contains("97.0 C"), "{top}");
    let (_, status, _) = daemon.run(&["status"]);
    assert!(status.contains("caution") && status.contains("97.0 C"), "{status}");

    tree.file("sys/class/thermal/thermal_zone1/temp", "rubbish");
    eventually("nothing is known", || state(&daemon) == "blind");
    let (_, metrics) = daemon.get("/metrics");
    assert!(!metrics.contains("bolide_thermal_package_celsius "), "{metrics}");
    assert_eq!(daemon.metric("bolide_thermal_state{state=\"blind\"}"), 1.0);
    assert!(slots() >= 1);
    assert!(daemon.metric("bolide_thermal_sensor_reads_total") >= 3.0);
}

#[test]
fn a_machine_without_a_sensor_has_all_its_slots_and_no_temperature() {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    Machine::virtual_machine().write(&tree);
    let daemon = on(&tree);
    assert_eq!(state(&daemon), "off");
    assert!(daemon.status()["machine"]["thermal"]["celsius"].is_null());
    assert_eq!(daemon.status()["machine"]["heavy"], true);
    assert!(daemon.metric("bolide_governor_slots{class=\"performance\"}") >= 1.0);
}

#[test]
fn this_machine_is_governed_too() {
    let daemon = Daemon::start(&NOBODY);
    eventually("the machine is looked at", || !daemon.status()["machine"].is_null());
    let allowed = hw::affinity::allowed(&hw::root::Root::machine());
    assert_eq!(daemon.status()["machine"]["allowed"], allowed.to_string());
    let slots = daemon.metric("bolide_governor_slots{class=\"performance\"}");
    assert!((1.0..=16.0).contains(&slots), "{slots}");
}
