//! Packages of the system, changed for real: by apt and dpkg in a directory of its own, in one transaction with packages of
//! languages, and back.

mod deaths;
mod faults;
mod others;
mod remembered;

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use super::machine::{Deb, Halted, Machine, children, kill_group};
use super::world::{Outcome, bolide_program, not_shown, wait_until};

const LIB_1: Deb = Deb { name: "lib", version: "1.0", fields: "", scripts: &[], configuration: "" };
const LIB_2: Deb = Deb { version: "1.5", ..LIB_1 };
const WEB: Deb = Deb {
    name: "web",
    version: "2.0",
    fields: "Depends: lib (>= 1.5)",
    scripts: &[],
    configuration: "port = 80\n",
};
const OLD: Deb = Deb { name: "old", version: "1", configuration: "old = yes\n", ..LIB_1 };
const RIVAL: Deb = Deb { name: "rival", version: "1", fields: "Conflicts: old", ..LIB_1 };
/// Halts in its script, which is run when everything is unpacked.
const GATE: Deb = Deb {
    name: "gated",
    version: "1",
    fields: "Depends: lib (>= 1.5)",
    scripts: &[("postinst", ": > /reached\nread word < /gate")],
    configuration: "gated = yes\n",
};

/// A system with an older `lib` and `old`, and newer things in its archive.
fn machine(more: &[Deb]) -> Option<Machine> {
    let archive: Vec<Deb> = [LIB_1, LIB_2, WEB, OLD, RIVAL].iter().chain(more).copied().collect();
    let machine = Machine::new(&archive)?;
    machine.apt(&["install", "lib=1.0", "old"]);
    Outcome::of(machine.tool("apt-mark").args(["auto", "lib"])).succeeds();
    Some(machine)
}

fn states(machine: &Machine) -> Vec<String> {
    let history = machine.bolide(&["history", "--json"]).succeeds().json();
    let entries = history["transactions"].as_array().unwrap();
    entries.iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn packages_of_the_system_change_as_planned_and_come_back_as_they_were() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let plan = machine.bolide(&["plan", "system:web", "deb:rival", "--json"]).succeeds().json();
    let purls: Vec<_> = plan["packages"].as_array().unwrap().iter().map(|it| &it["purl"]).collect();
    let purl = |text: &str| format!("pkg:deb/debian/{text}");
    assert_eq!(purls, [&purl("lib@1.5"), &purl("rival@1"), &purl("web@2.0")]);
    assert_eq!(plan["removed"], serde_json::json!([purl("lib@1.0"), purl("old@1")]));
    assert_eq!(machine.state(), before, "a plan changes nothing");
    let digest = plan["digest"].as_str().unwrap();
    machine.bolide(&["apply", digest]).fails(4, &["approved"]);
    let applied = machine.bolide(&["apply", digest, "--yes", "--json"]).succeeds().json();
    assert_eq!(applied["installed"].as_array().unwrap().len(), 3);
    assert_eq!(applied["removed"], serde_json::json!([purl("lib@1.0"), purl("old@1")]));
    let after = machine.state();
    let found = |line: &str| after.iter().any(|it| it.starts_with(line));
    assert!(found("lib 1.5 ii") && found("web 2.0 ii") && found("rival 1 ii"), "{after:?}");
    assert!(found("old 1 rc"), "configuration files stay: {after:?}");
    assert!(found("automatic: lib") && !found("automatic: web"), "{after:?}");
    let list = machine.bolide(&["list", "--json"]).succeeds().stdout;
    assert!(list.contains("web@2.0") && list.contains("lib@1.5"), "{list}");
    // Nothing is left to do, and what is done comes back without an archive to ask.
    assert_eq!(
        machine.bolide(&["add", "deb:web", "--yes", "--json"]).succeeds().json()["installed"],
        serde_json::json!([])
    );
    std::fs::remove_dir_all(machine.archive()).unwrap();
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
    assert_eq!(states(&machine), ["committed", "rolled-back"]);
}

#[test]
fn one_transaction_spans_the_system_and_languages() {
    let Some(machine) = machine(&[]) else { return };
    let (before, tree) = (machine.state(), machine.world.tree());
    machine.bolide(&["add", "deb:web", "npm:leaf", "pypi:stone", "--yes"]).succeeds();
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
    machine.world.run("node", &["-p", "require('leaf')"]).succeeds();
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
    assert_eq!(machine.world.tree(), tree);
}

#[test]
fn transactions_go_back_one_by_one_or_together() {
    let Some(machine) = machine(&[]) else { return };
    let first = machine.state();
    machine.bolide(&["update", "deb:lib", "--yes"]).succeeds();
    assert_eq!(machine.version("lib").as_deref(), Some("1.5"));
    let second = machine.state();
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    let third = machine.state();
    machine.bolide(&["remove", "deb:web", "--yes"]).succeeds();
    assert_eq!(machine.version("web"), None);
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), third);
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), second);
    machine.bolide(&["add", "deb:rival", "--yes"]).succeeds();
    let history = machine.bolide(&["history", "--json"]).succeeds().json();
    let all = history["transactions"].as_array().unwrap();
    let update = all.iter().find(|entry| entry["operation"] == "update").unwrap();
    let update = update["transaction"].as_str().unwrap();
    machine.bolide(&["rollback", update, "--yes"]).succeeds();
    assert_eq!(machine.state(), first);
    machine.bolide(&["update", "deb:web", "--yes"]).fails(2, &["not installed"]);
}

#[test]
fn a_script_that_fails_takes_everything_back() {
    let bad = Deb {
        name: "bad",
        version: "1",
        fields: "Depends: lib (>= 1.5)",
        scripts: &[("postinst", "exit 7")],
        configuration: "bad = yes\n",
    };
    let Some(machine) = machine(&[bad]) else { return };
    let (before, tree) = (machine.state(), machine.world.tree());
    let packages = ["add", "deb:bad", "deb:rival", "npm:leaf", "--yes"];
    machine.bolide(&packages).fails(1, &["bad", "as they were before"]);
    assert_eq!(machine.state(), before);
    assert_eq!(machine.world.tree(), tree);
    assert_eq!(states(&machine), ["failed"]);
}

#[test]
fn a_file_that_was_there_before_its_package_outlives_the_failure() {
    let bad = Deb {
        name: "bad",
        version: "1",
        scripts: &[("postinst", "exit 7")],
        configuration: "bad = yes\n",
        ..LIB_1
    };
    let Some(machine) = machine(&[bad]) else { return };
    let configuration = machine.root().join("etc/bad.conf");
    std::fs::write(&configuration, "bad = mine\n").unwrap();
    machine.bolide(&["add", "deb:bad", "--yes"]).fails(1, &["bad"]);
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "bad = mine\n");
    assert_eq!(machine.version("bad"), None);
}

#[test]
fn what_somebody_elses_package_needs_is_not_taken_from_it() {
    let guest = Deb { name: "guest", version: "1", fields: "Depends: web", ..LIB_1 };
    let Some(machine) = machine(&[guest]) else { return };
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    machine.apt(&["install", "guest"]);
    let before = machine.state();
    machine.bolide(&["rollback"]).fails(4, &["guest"]);
    machine.bolide(&["rollback", "--force"]).fails(4, &["guest"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn a_project_that_fails_later_takes_the_system_back() {
    // Its script edits a file of the project in the moment between what the plan saw and the commit.
    let meddler = Deb {
        name: "meddler",
        version: "1",
        fields: "Depends: lib (>= 1.5)",
        scripts: &[("postinst", "echo '{\"name\":\"mine\"}' > /srv/package.json")],
        configuration: "",
    };
    let Some(machine) = machine(&[meddler]) else { return };
    let project = machine.root().join("srv");
    std::fs::write(project.join("package.json"), "{}\n").unwrap();
    let (before, place) = (machine.state(), project.display().to_string());
    let plan = ["plan", "deb:meddler", "npm:leaf", "--json", "--dir", &place];
    let plan = machine.bolide(&plan).succeeds().json();
    let digest = plan["digest"].as_str().unwrap();
    let applied = machine.bolide(&["apply", digest, "--yes", "--dir", &place]);
    applied.fails(4, &["package.json", "edited at the same moment"]);
    assert_eq!(machine.state(), before);
    let edited = std::fs::read_to_string(project.join("package.json")).unwrap();
    assert_eq!(edited, "{\"name\":\"mine\"}\n");
    assert_eq!(std::fs::read_dir(&project).unwrap().count(), 1);
}

#[test]
fn a_kill_in_the_middle_is_made_whole_by_the_next_command() {
    for all in [false, true] {
        let Some(machine) = machine(&[GATE]) else { return };
        let (before, tree) = (machine.state(), machine.world.tree());
        let packages = ["add", "deb:gated", "deb:rival", "npm:leaf", "--yes"];
        // Without `all` apt goes on by itself and ends its work; with it everybody is gone in the same moment.
        Halted::at_the_gate(&machine, &packages).kill(all);
        for file in ["reached", "gate"] {
            std::fs::remove_file(machine.root().join(file)).unwrap();
        }
        assert_eq!(states(&machine), ["failed"]);
        assert_eq!(machine.state(), before, "everybody killed: {all}");
        assert_eq!(machine.world.tree(), tree);
        machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    }
}

#[test]
fn what_somebody_installs_before_a_transaction_begins_stays() {
    let Some(machine) = machine(&[]) else { return };
    machine.bolide(&["history"]).succeeds();
    let tree = machine.world.tree();
    let path = machine.world.place("home/state/bolide/locks/system.lock");
    let lock = std::fs::File::create(&path).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let plan = machine.bolide(&["plan", "deb:web", "npm:leaf", "--json"]).succeeds().json();
    let mut command = machine.command(&["apply", plan["digest"].as_str().unwrap(), "--yes"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let open = format!("/proc/{}/fd", child.id());
    let has_looked = || {
        let files = std::fs::read_dir(&open).into_iter().flatten().flatten();
        files.filter_map(|file| file.path().read_link().ok()).any(|file| file == path)
    };
    wait_until("it waits for the system", has_looked);
    machine.apt(&["install", "web", "lib=1.5"]);
    let theirs = machine.state();
    drop(lock);
    assert_eq!(child.wait().unwrap().code(), Some(4), "the plan is stale");
    assert_eq!(
        machine.state(),
        theirs,
        "what is there is a person's, though the plan had the same"
    );
    assert_eq!(machine.world.tree(), tree);
    assert_eq!(states(&machine), ["failed"]);
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
}

#[test]
fn whenever_everybody_is_killed_the_old_system_stands_or_the_new_one() {
    let reference = match machine(&[]) {
        Some(machine) => machine,
        None => return,
    };
    reference.bolide(&["add", "deb:web", "deb:rival", "--yes"]).succeeds();
    let new = reference.state();
    let mut seen = [0, 0];
    for delay_ms in [150, 300, 450, 600, 750, 900, 1_100, 1_300] {
        let Some(machine) = machine(&[]) else { return };
        let old = machine.state();
        let mut command = machine.command(&["add", "deb:web", "deb:rival", "--yes"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        let tools = ["apt-get", "apt-mark", "dpkg"].map(|name| children(child.id(), name));
        child.kill().unwrap();
        tools.into_iter().flatten().for_each(kill_group);
        child.wait().unwrap();
        let states = states(&machine);
        let is_committed = states.first().is_some_and(|state| state == "committed");
        let expected = if is_committed { &new } else { &old };
        assert_eq!(&machine.state(), expected, "after {delay_ms} ms: {states:?}");
        seen[usize::from(is_committed)] += 1;
    }
    eprintln!("undone {}, committed {}", seen[0], seen[1]);
}

#[test]
fn a_plan_that_the_system_has_left_behind_is_stale() {
    let Some(machine) = machine(&[]) else { return };
    let plan = |packages: &[&str]| {
        let arguments: Vec<&str> = ["plan", "--json"].iter().chain(packages).copied().collect();
        machine.bolide(&arguments).succeeds().json()["digest"].as_str().unwrap().to_owned()
    };
    let digest = plan(&["deb:web"]);
    machine.apt(&["install", "lib=1.5"]);
    let before = machine.state();
    machine.bolide(&["apply", &digest, "--yes"]).fails(4, &["lib", "1.5", "1.0"]);
    assert_eq!(machine.state(), before);
    // The same version from the archive is another file than the plan saw.
    let digest = plan(&["deb:web"]);
    machine.publish(&[LIB_1, LIB_2, Deb { fields: "Depends: lib (>= 1.4)", ..WEB }, OLD]);
    machine.bolide(&["apply", &digest, "--yes"]).fails(4, &["web", "another archive"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn what_cannot_be_undone_is_said_before_anything_begins() {
    let Some(machine) = machine(&[]) else { return };
    machine.publish(&[LIB_2, WEB]);
    let before = machine.state();
    let plan = machine.bolide(&["plan", "deb:web", "--json"]).succeeds().json();
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("`lib` 1.0 could not be brought back"), "{warnings}");
    let digest = plan["digest"].as_str().unwrap();
    machine.bolide(&["apply", digest, "--yes"]).fails(3, &["lib", "--force"]);
    assert_eq!(machine.state(), before);
    machine.bolide(&["apply", digest, "--yes", "--force"]).succeeds();
    machine.bolide(&["rollback"]).fails(6, &["`lib` stays 1.5", "--force"]);
    let said = machine.bolide(&["rollback", "--force"]).succeeds().stdout;
    assert_eq!(
        (machine.version("lib").as_deref(), machine.version("web")),
        (Some("1.5"), None),
        "{said}"
    );
}

#[test]
fn what_somebody_changed_since_stays_theirs() {
    let Some(machine) = machine(&[]) else { return };
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    let configuration = machine.root().join("etc/web.conf");
    std::fs::write(&configuration, "port = 8080\n").unwrap();
    machine.publish(&[LIB_1, LIB_2, Deb { version: "1.6", ..LIB_1 }, WEB, OLD]);
    machine.apt(&["install", "lib=1.6"]);
    let before = machine.state();
    machine.bolide(&["rollback"]).fails(6, &["`lib` is 1.6", "--force"]);
    assert_eq!(machine.state(), before);
    let said = machine.bolide(&["rollback", "--force"]).succeeds().stdout;
    assert!(said.contains("apt-get purge web"), "{said}");
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "port = 8080\n");
    assert_eq!((machine.version("lib").as_deref(), machine.version("web")), (Some("1.0"), None));
}

#[test]
fn a_configuration_file_of_a_person_outlives_an_upgrade_and_its_undoing() {
    let Some(machine) = machine(&[]) else { return };
    let newer = Deb { version: "2", configuration: "old = no\n", ..OLD };
    machine.publish(&[OLD, newer]);
    let configuration = machine.root().join("etc/old.conf");
    std::fs::write(&configuration, "old = mine\n").unwrap();
    machine.bolide(&["update", "deb:old", "--yes"]).succeeds();
    assert_eq!(machine.version("old").as_deref(), Some("2"));
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "old = mine\n");
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.version("old").as_deref(), Some("1"));
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "old = mine\n");
}

#[test]
fn who_is_not_root_is_told_and_nothing_is_tried() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let all = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    for place in ["", "home", "run", "project"] {
        std::fs::set_permissions(machine.world.place(place), all.clone()).unwrap();
    }
    let program = machine.world.place("bolide");
    std::fs::copy(bolide_program(), &program).unwrap();
    let mut command = machine.world.command(&program);
    command.env("DPKG_ROOT", machine.root()).uid(65534).gid(65534);
    let outcome = Outcome::of(command.args(["add", "deb:web", "--yes"]));
    outcome.fails(3, &["only be changed by root", "never calls `sudo`"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn another_package_manager_at_work_is_waited_for() {
    let Some(machine) = machine(&[]) else { return };
    let path = machine.root().join("var/lib/dpkg/lock-frontend");
    let options = &mut std::fs::File::options();
    let lock = options.read(true).write(true).create(true).truncate(false).open(path).unwrap();
    rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut command = machine.command(&["add", "deb:web", "--yes"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let is_waiting = || {
        let tools = children(child.id(), "apt-get");
        let read = |id: &u32| std::fs::read_to_string(format!("/proc/{id}/cmdline"));
        tools.iter().filter_map(|id| read(id).ok()).any(|line| line.contains("Timeout=300"))
    };
    wait_until("it waits", is_waiting);
    assert_eq!(machine.version("web"), None);
    drop(lock);
    assert!(child.wait().unwrap().success());
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
}

#[test]
fn a_daemon_does_the_same() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let _daemon = machine.world.daemon();
    machine.bolide(&["add", "deb:web", "npm:leaf", "--yes"]).succeeds();
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
}

#[test]
fn names_are_never_options() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    for name in ["deb:--help", "deb:-oDir=/", "system:-y", "deb:../lib", "deb:lib=1.5", "deb:lib-"]
    {
        let outcome = machine.bolide(&["add", name, "--yes"]);
        assert_ne!(outcome.code, 0, "{name}: {outcome:#?}");
    }
    assert_eq!(machine.state(), before);
}

#[test]
fn a_system_that_was_left_half_changed_is_not_touched() {
    let Some(machine) = machine(&[]) else { return };
    let root = format!("--root={}", machine.root().display());
    let deb = machine.archive().join("rival_1_all.deb");
    machine.apt(&["remove", "old"]);
    Outcome::of(machine.tool("dpkg").args([&root, "--unpack"]).arg(deb)).succeeds();
    machine
        .bolide(&["add", "deb:web", "--yes"])
        .fails(3, &["left half changed", "`rival` is unpacked"]);
    assert_eq!(machine.version("web"), None);
}

/// With `BOLIDE_TEST_SYSTEM=1`, as root, and with a network: a small package of this very machine, installed and undone.
#[test]
fn a_small_package_of_this_machine_is_installed_and_undone() {
    if std::env::var_os("BOLIDE_TEST_SYSTEM").is_none_or(|value| value != "1") {
        not_shown("a package of this machine itself: set BOLIDE_TEST_SYSTEM=1 as root");
        return;
    }
    let world = super::world::World::new();
    let packages = || {
        world.run(
            "dpkg-query",
            &["--show", "--showformat", "${Package} ${Version} ${db:Status-Abbrev}\n"],
        )
    };
    let before = packages().succeeds().stdout;
    assert!(!before.contains("\nhello "), "`hello` is installed here");
    world.bolide(&["add", "system:hello", "npm:leaf", "--yes"]).succeeds();
    world.run("/usr/bin/hello", &[]).succeeds();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(packages().succeeds().stdout, before);
    world.run("dpkg", &["--audit"]).succeeds();
}
