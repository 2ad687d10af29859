//! Heat, seen from outside: a large change waits for a cool machine, and everybody can see why. And what threads there are, and where.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use hw::trees::{Machine, Tree};

use super::packages::Npm;
use super::world::{World, bolide_program, wait_until};

/// As many packages as make a change a large one.
const MANY: usize = 64;
const SENSOR: &str = "sys/class/thermal/thermal_zone0/temp";

/// A tree of two cores, a performance core 0 and an efficient core 1, that is so warm.
fn machine(world: &World, millicelsius: &str) -> Tree {
    let place = world.place("machine");
    std::fs::create_dir(&place).unwrap();
    let tree = Tree::at(place);
    Machine::virtual_machine().write(&tree);
    tree.file("sys/devices/cpu_core/cpus", "0").file("sys/devices/cpu_atom/cpus", "1");
    tree.zone(0, "x86_pkg_temp", millicelsius);
    tree
}

/// Publishes so many packages that need nothing; gives what to ask for.
fn publish_many(world: &World) -> Vec<String> {
    let names = (0..MANY).map(|index| format!("many{index}"));
    names
        .map(|name| {
            let leaked: &'static str = name.clone().leak();
            world.registry.npm(&[Npm { name: leaked, version: "1.0.0", dependencies: &[] }]);
            format!("npm:{name}")
        })
        .collect()
}

/// One sample of `/metrics` of the daemon of this world.
fn metric(world: &World, series: &str) -> f64 {
    let status = world.bolide(&["status", "--json"]).succeeds().json();
    let mut stream = TcpStream::connect(status["metrics_addr"].as_str().unwrap()).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{series}` in\n{answer}")).parse().unwrap()
}

/// A command that is waited for later; killed where the test fails before.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_large_change_waits_while_it_is_hot_and_goes_on_when_it_cools() {
    let world = World::new();
    let wanted = publish_many(&world);
    let tree = machine(&world, "97000");
    let _daemon = world.daemon_on(tree.directory());
    let status = || world.bolide(&["status", "--json"]).succeeds().json();
    wait_until("it is too hot", || status()["machine"]["heavy"] == false);

    let mut add = world.command(bolide_program());
    add.arg("add").args(&wanted).arg("--yes").stdin(Stdio::null());
    let mut add = Running(add.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let heat = "{reason=\"heat\"}";
    let deferred = || metric(&world, &format!("bolide_tasks_deferred{heat}"));
    wait_until("it waits for a cooler machine", || deferred() == 1.0);
    let said = world.bolide(&["status"]).succeeds().stdout;
    for words in ["waiting 1 for heat", "large changes wait until it is cooler, at most 600 s each"]
    {
        assert!(said.contains(words), "{said}");
    }
    let until = "large changes wait until it is cooler, at most 600 s";
    wait_until("the next picture shows it, too", || {
        let top = world.bolide(&["top", "--once"]).succeeds().stdout;
        top.contains("waiting 1 for heat") && top.contains(until)
    });
    assert!(!world.project().join("node_modules").exists());
    // Small ones and questions do not wait.
    world.bolide(&["plan", "npm:leaf"]).succeeds();
    assert!(add.0.try_wait().unwrap().is_none(), "it still waits");

    tree.file(SENSOR, "61000");
    wait_until("it goes on when it is cooler", || add.0.try_wait().unwrap().is_some());
    assert!(add.0.wait().unwrap().success());
    assert!(world.project().join("node_modules/many63/index.js").exists());
    wait_until("nobody waits any more", || deferred() == 0.0);
    assert!(metric(&world, &format!("bolide_task_deferrals_total{heat}")) >= 1.0);
    wait_until("how long it waited is counted", || {
        metric(&world, &format!("bolide_task_defer_seconds_total{heat}")) > 0.0
    });
    check_places(&world);
}

/// The threads of the Packager that talked to the registry are on the cores of what they did.
fn check_places(world: &World) {
    let allowed = hw::affinity::allowed(&hw::root::Root::machine()).to_string();
    if !allowed.starts_with("0-") {
        return eprintln!(
            "not shown here: it takes the processors 0 and 1, and there are {allowed}"
        );
    }
    let agents = world.bolide(&["agents", "packager", "--json"]).succeeds().json();
    let pid = agents["agents"][0]["pid"].as_u64().unwrap();
    let mut seen = [0, 0];
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let place = match read("comm").trim() {
            "download" => 1,
            "registry-io" => 0,
            _ => continue,
        };
        let status = read("status");
        let held = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        // One that has just ended has none.
        if let Some(held) = held {
            assert_eq!(held.trim(), place.to_string());
            seen[place] += 1;
        }
    }
    assert!(seen[0] >= 2 && seen[1] >= 2, "{seen:?}");
}

#[test]
fn what_only_reads_starts_no_thread() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1.0.0", "--yes"]).succeeds();
    let trace = world.place("trace");
    for arguments in [&["list", "--standalone"][..], &["history", "--standalone"]] {
        let mut command: Command = world.command("strace");
        command.args(["-f", "-qq", "-e", "trace=clone,clone3", "-o"]).arg(&trace);
        command.arg(bolide_program()).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        match command.status() {
            Ok(ended) if ended.success() => {}
            other => return eprintln!("not shown here: strace does not run: {other:?}"),
        }
        let traced = std::fs::read_to_string(&trace).unwrap();
        assert_eq!(traced, "", "{arguments:?}");
    }
}
