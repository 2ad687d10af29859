//! Heat, seen from outside: a large change waits for a cool machine, and everybody can see why. And what threads there are, and where.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use hw::trees::Tree;
use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::packages::Npm;
use super::sibling::metric;
use super::world::{World, bolide_program, machine_at, not_shown, wait_until};

/// As many packages as make a change a large one.
pub(crate) const MANY: usize = 64;
pub(crate) const SENSOR: &str = "sys/class/thermal/thermal_zone0/temp";
/// What waits for a cooler machine.
pub(crate) const DEFERRED: &str = "bolide_tasks_deferred{reason=\"heat\"}";

/// A tree of two cores, a performance core 0 and an efficient core 1, that is so warm.
pub(crate) fn machine(world: &World, millicelsius: &str) -> Tree {
    machine_at(world.place("machine"), millicelsius)
}

/// Publishes so many packages that need nothing; gives what to ask for.
pub(crate) fn publish_many(world: &World) -> Vec<String> {
    let names = (0..MANY).map(|index| format!("many{index}"));
    names
        .map(|name| {
            let leaked: &'static str = name.clone().leak();
            world.registry.npm(&[Npm { name: leaked, version: "1.0.0", dependencies: &[] }]);
            format!("npm:{name}")
        })
        .collect()
}

/// Waits until the daemon of this world puts large changes off.
#[track_caller]
pub(crate) fn is_too_hot(world: &World) {
    wait_until("it is too hot", || {
        world.bolide(&["status", "--json"]).succeeds().json()["machine"]["heavy"] == false
    });
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
    is_too_hot(&world);

    let mut add = world.command(bolide_program());
    add.arg("add").args(&wanted).arg("--yes").stdin(Stdio::null());
    let mut add = Running(add.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let heat = "{reason=\"heat\"}";
    let deferred = || metric(&world, DEFERRED);
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
        return not_shown(&format!("it takes the processors 0 and 1, there are {allowed}"));
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
fn a_change_that_only_waits_holds_up_no_stop_and_its_caller_hears_that_nothing_was_begun() {
    let world = World::new();
    let wanted = publish_many(&world);
    let tree = machine(&world, "97000");
    // Nobody's patience: whoever is not let go hangs.
    std::fs::create_dir_all(world.place("home/config/bolide")).unwrap();
    std::fs::write(world.place("home/config/bolide/config.toml"), "drain_seconds = 3600").unwrap();
    let mut daemon = world.daemon_on(tree.directory());
    is_too_hot(&world);
    let before = world.tree();

    let mut add = world.command(bolide_program());
    let said = File::create(world.place("said")).unwrap();
    add.arg("add").args(&wanted).arg("--yes").stdin(Stdio::null()).stdout(Stdio::null());
    let mut add = Running(add.stderr(said).spawn().unwrap());
    wait_until("it waits for a cooler machine", || metric(&world, DEFERRED) == 1.0);
    let pid = Pid::from_raw(i32::try_from(daemon.child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended = add.0.wait().unwrap();
    let said = std::fs::read_to_string(world.place("said")).unwrap();
    assert_eq!(ended.code(), Some(1), "{said}");
    for words in ["the daemon is stopping", "nothing was begun", "hint: run the command again"] {
        assert!(said.contains(words), "{said}");
    }
    // Nothing was cut off.
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    assert_eq!(world.tree(), before);
}

/// Runs a command that the kernel ends as soon as one of its processes makes a thread.
fn without_threads(mut command: Command) -> ExitStatus {
    let set = |call, rules, action| {
        let machine = std::env::consts::ARCH.try_into().unwrap();
        let rules = BTreeMap::from([(call, rules)]);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, machine).unwrap();
        seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    };
    let run = move || {
        // Its flags lie in memory, where no filter looks. Where a kernel lacks it, libraries take the call before it.
        set(libc::SYS_clone3, Vec::new(), SeccompAction::Errno(libc::ENOSYS as u32));
        let flag = libc::CLONE_THREAD as u64;
        let has_flag = SeccompCmpOp::MaskedEq(flag);
        let thread = SeccompCondition::new(0, SeccompCmpArgLen::Qword, has_flag, flag).unwrap();
        let rule = SeccompRule::new(vec![thread]).unwrap();
        set(libc::SYS_clone, vec![rule], SeccompAction::KillProcess);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
fn what_only_reads_starts_no_thread() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1.0.0", "--yes"]).succeeds();
    let ended = |arguments: &[&str]| {
        let mut command = world.command(bolide_program());
        command.args(arguments).arg("--standalone");
        without_threads(command)
    };
    for command in ["list", "history"] {
        assert!(ended(&[command]).success(), "{command}");
    }
    let resolves = ended(&["plan", "npm:tree"]);
    assert_eq!(resolves.signal(), Some(libc::SIGSYS), "what does start one is found out");
}
