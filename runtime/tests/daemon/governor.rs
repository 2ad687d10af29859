//! The daemon governs: what it makes of a sensor is seen in metrics, status and `top`, and follows the sensor while it runs.

use hw::trees::{Machine, Tree};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

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

/// The threads of a process whose names begin so, each with what the kernel says that it may run on.
fn threads(pid: u32, name: &str) -> Vec<(Pid, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |path: &std::path::Path, file: &str| std::fs::read_to_string(path.join(file)).ok();
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            read(&path, "comm")?.starts_with(name).then_some(())?;
            let status = read(&path, "status")?;
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            let number = path.file_name()?.to_str()?.parse().ok()?;
            Some((Pid::from_raw(number)?, line.trim().to_owned()))
        })
        .collect()
}

#[test]
fn workers_of_a_hosted_agent_follow_what_is_allowed_while_they_live() {
    let allowed = hw::affinity::allowed(&hw::root::Root::machine()).to_string();
    if !allowed.starts_with("0-") {
        eprintln!("not shown here: it takes the processors 0 and 1, this process has {allowed}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path().join("machine"));
    Machine::virtual_machine().write(&tree);
    tree.file("sys/devices/cpu_core/cpus", "0").file("sys/devices/cpu_atom/cpus", "1");
    let options = Options { hosted: "packager", ..NOBODY };
    let daemon =
        Daemon::start_with(&options, &[("BOLIDE_SYSFS_ROOT", tree.directory().to_str().unwrap())]);
    let project = directory.path().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("package.json"), "{}").unwrap();
    // Nobody listens there: the resolution ends in an error, after it has been a worker's.
    let resolve = || {
        let project = project.to_str().unwrap();
        let nowhere = ["--registry", "npm=http://127.0.0.1:9/"];
        let (code, _, stderr) =
            daemon.run(&[&["plan", "npm:a", "--dir", project], &nowhere[..]].concat());
        assert_eq!(code, Some(7), "{stderr}");
    };
    resolve();
    let pid = daemon.agent_pid("packager");
    let held_to = || threads(pid, "worker-p").into_iter().map(|(_, cpus)| cpus);
    assert_eq!(held_to().collect::<Vec<_>>(), ["0"], "resolution is for performance cores");
    // Whoever looks may be on the other one only: what the kernel does to every thread that was not pinned since.
    let [(keeper, _)] = threads(pid, "keeper")[..] else { panic!("one looks at the machine") };
    let mut left = CpuSet::new();
    left.set(1);
    sched_setaffinity(Some(keeper), &left).unwrap();
    resolve();
    eventually("the worker is where it may be", || held_to().eq(["1"]));
    assert_eq!(daemon.agent_pid("packager"), pid, "the same process");
}
