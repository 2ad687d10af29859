//! The daemon governs: what it makes of a sensor is seen in metrics, status and `top`, and follows the sensor while it runs.

use hw::trees::{Machine, Tree};
use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::affinity::tasks;
use crate::world::{Daemon, Options, eventually, not_shown, signal};

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
    let reads = || daemon.metric("bolide_thermal_sensor_reads_total");
    let before = reads();
    assert!(before >= 3.0);
    eventually("it is read on", || reads() >= before + 3.0);
    let log = daemon.log();
    let told = log.lines().filter(|line| line.contains("the temperature is not known any more"));
    assert_eq!(told.count(), 1, "each change is told once, not each reading: {log}");
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
    let those = tasks(pid).into_iter().filter(|task| task.name.starts_with(name));
    those.map(|task| (task.id, task.cpus)).collect()
}

#[test]
fn workers_of_a_hosted_agent_follow_what_is_allowed_while_they_live() {
    let allowed = hw::affinity::allowed(&hw::root::Root::machine()).to_string();
    if !allowed.starts_with("0-") {
        let why = format!("it takes the processors 0 and 1, this process has {allowed}");
        return not_shown(&why);
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path().join("machine"));
    Machine::virtual_machine().write(&tree);
    tree.file("sys/devices/cpu_core/cpus", "0").file("sys/devices/cpu_atom/cpus", "1");
    let options = Options { hosted: "packager", ..NOBODY };
    let config = directory.path().join("config");
    let places = [("BOLIDE_SYSFS_ROOT", tree.directory()), ("XDG_CONFIG_HOME", config.as_path())];
    let daemon =
        Daemon::start_with(&options, &places.map(|(name, path)| (name, path.to_str().unwrap())));
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
    // The threads that talk to registries are where the worker is.
    let moved = threads(pid, "registry-io");
    assert!(!moved.is_empty() && moved.iter().all(|(_, cpus)| cpus == "1"), "{moved:?}");
    // And where nobody is to be held, nobody is.
    let mut both = CpuSet::new();
    [0, 1].iter().for_each(|cpu| both.set(*cpu));
    sched_setaffinity(Some(keeper), &both).unwrap();
    std::fs::create_dir_all(directory.path().join("config/bolide")).unwrap();
    std::fs::write(directory.path().join("config/bolide/config.toml"), "pinning = \"off\"")
        .unwrap();
    signal(daemon.pid(), Signal::HUP);
    eventually("it is taken over", || daemon.status()["machine"]["pinning"] == "off");
    resolve();
    eventually("the worker is free", || held_to().eq(["0-1"]));
    assert_eq!(daemon.agent_pid("packager"), pid, "the same process");
}

#[test]
fn a_changed_configuration_is_taken_over_and_a_bad_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path().join("machine"));
    Machine::meteor_lake_a().write(&tree);
    tree.zone(0, "x86_pkg_temp", "61000");
    let place = directory.path().join("config/bolide");
    std::fs::create_dir_all(&place).unwrap();
    let configure = |text: &str| std::fs::write(place.join("config.toml"), text).unwrap();
    configure("pinning = \"strict\"\n");
    let variables = [
        ("BOLIDE_SYSFS_ROOT", tree.directory().to_str().unwrap()),
        ("XDG_CONFIG_HOME", directory.path().join("config").to_str().unwrap()),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let daemon = Daemon::start_with(&NOBODY, &variables);
    eventually("the machine is looked at", || !daemon.status()["machine"].is_null());
    let machine = || daemon.status()["machine"].clone();
    assert_eq!((&machine()["pinning"], state(&daemon)), (&"strict".into(), "optimal".to_owned()));
    let again = || signal(daemon.pid(), Signal::HUP);

    let cooler = "pinning = \"off\"\nbus.handshake_ms = 1000\n[thermal]\nnormal = \"50/45\"\n\
                  caution = \"56/52\"\nthrottle = \"70/65\"\nheavy = \"55/50\"\n";
    configure(cooler);
    again();
    eventually("it is hot by the new measure", || state(&daemon) == "caution");
    assert_eq!(machine()["pinning"], "off");
    assert_eq!(machine()["thresholds"]["caution"], "56/52");
    assert_eq!(machine()["heavy"], false);
    eventually("what takes a restart is told", || {
        daemon.log().contains("bus.handshake_ms") && daemon.log().contains("read at the start only")
    });

    for (bad, told) in [
        ("pinning = \"maybe\"\n", "`maybe` cannot be `pinning`"),
        ("[thermal]\ncaution = \"86/84\"\n", "cannot be `thermal.caution`"),
        ("= nonsense", "is not TOML"),
    ] {
        configure(bad);
        again();
        let refusal = "the configuration is refused, the one before holds on";
        eventually("it is refused", || {
            let log = daemon.log();
            log.lines().any(|line| line.contains(refusal) && line.contains(told))
        });
        assert_eq!(machine()["thresholds"]["caution"], "56/52");
    }
    assert_eq!(machine()["thresholds_configured"], serde_json::json!({}), "nothing cuts them");
    configure("");
    again();
    eventually("it is as at first", || machine()["thresholds"]["caution"] == "95/90");
    assert_eq!(machine()["pinning"], "auto");
}

#[test]
fn status_shows_the_temperatures_that_hold_where_the_processor_protects_itself_earlier() {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    Machine::meteor_lake_a().write(&tree);
    tree.zone(0, "x86_pkg_temp", "61000").monitor(1, "coretemp", &[("Package id 0", "61000")]);
    tree.file("sys/class/hwmon/hwmon1/temp1_crit", "101000");
    let daemon = on(&tree);
    let machine = daemon.status()["machine"].clone();
    let held = serde_json::json!({
        "normal": "85/80", "caution": "93/88", "throttle": "98/93", "heavy": "90/86"
    });
    assert_eq!(machine["thresholds"], held);
    let configured = serde_json::json!({ "caution": "95/90", "throttle": "100/95" });
    assert_eq!(machine["thresholds_configured"], configured);
    // They are what is gone by.
    tree.zone(0, "x86_pkg_temp", "98500");
    eventually("it throttles", || state(&daemon) == "throttle");
}

#[test]
fn a_machine_that_throttles_or_is_not_known_is_ready_and_degraded() {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    Machine::meteor_lake_a().write(&tree);
    tree.zone(0, "x86_pkg_temp", "61000");
    let daemon = on(&tree);
    let ready = || {
        let (status, body) = daemon.get("/health/ready");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    eventually("it is cool", || ready()["parts"]["thermal"]["ready"] == true);
    assert_eq!(ready()["degraded"], serde_json::json!([]));
    for (text, word) in [("101000", "throttle: "), ("rubbish", "blind: ")] {
        tree.file("sys/class/thermal/thermal_zone0/temp", text);
        eventually("it is degraded", || {
            let thermal = ready()["parts"]["thermal"].clone();
            thermal["reason"].as_str().is_some_and(|reason| reason.starts_with(word))
        });
        assert_eq!(ready()["degraded"], serde_json::json!(["thermal"]));
    }
}
