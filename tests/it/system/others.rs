//! Transactions that meet each other at one system, and projects that go away while apt works.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::super::machine::{Halted, Machine};
use super::super::world::wait_until;
use super::{GATE, machine, states};

/// A project beside the machine's own.
fn other_project(machine: &Machine, name: &str) -> (PathBuf, String) {
    let path = machine.world.place(name);
    std::fs::create_dir(&path).unwrap();
    let text = path.display().to_string();
    (path, text)
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A live transaction of the machine's own project that has changed the system and stands still there, and another one, of
/// another project, that waits for it. Answers both, and the file that holds the first one.
fn meet(machine: &Machine) -> (Child, Child, PathBuf) {
    let hold = machine.world.place("hold");
    std::fs::write(&hold, "").unwrap();
    let mut command = machine.command(&["add", "deb:rival", "--yes"]);
    let held = format!("system.forward:{}", hold.display());
    let first = start(command.env("BOLIDE_FAULT_HOLD", held));
    let sign = hold.with_added_extension("held");
    wait_until("the first one has changed the system", || sign.exists());
    let (_, other) = other_project(machine, "other");
    let second = start(&mut machine.command(&["add", "deb:web", "--yes", "--dir", &other]));
    let lock = machine.world.place("home/state/bolide/locks/system.lock");
    let open = format!("/proc/{}/fd", second.id());
    wait_until("the second one waits for the system", || {
        let files = std::fs::read_dir(&open).into_iter().flatten().flatten();
        files.filter_map(|file| file.path().read_link().ok()).any(|file| file == lock)
    });
    (first, second, hold)
}

#[test]
fn a_live_transaction_is_waited_for() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let (mut first, mut second, hold) = meet(&machine);
    std::fs::remove_file(hold).unwrap();
    assert!(first.wait().unwrap().success(), "nobody ends what lives");
    assert!(second.wait().unwrap().success());
    assert_eq!(machine.version("rival").as_deref(), Some("1"));
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
    let other = machine.world.place("other").display().to_string();
    machine.bolide(&["rollback", "--dir", &other]).succeeds();
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
}

#[test]
fn a_transaction_that_dies_while_it_is_waited_for_is_ended_by_who_waited() {
    let Some(machine) = machine(&[]) else { return };
    let (mut first, mut second, _) = meet(&machine);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(machine.version("rival"), None, "the first one is taken back");
    assert_eq!(machine.version("old").as_deref(), Some("1"));
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
    assert_eq!(states(&machine), ["failed"]);
}

#[test]
fn a_project_that_is_deleted_amid_apt_takes_the_system_back_at_once() {
    let Some(machine) = machine(&[GATE]) else { return };
    let before = machine.state();
    let (project, path) = other_project(&machine, "other");
    // One that was there cannot be settled back when it is gone.
    std::fs::write(project.join("package.json"), "{}\n").unwrap();
    let packages = ["add", "deb:gated", "deb:rival", "npm:leaf", "--yes", "--dir", &path];
    let mut halted = Halted::at_the_gate(&machine, &packages);
    std::fs::remove_dir_all(project).unwrap();
    halted.open();
    assert!(!halted.child.wait().unwrap().success());
    for file in ["reached", "gate"] {
        std::fs::remove_file(machine.root().join(file)).unwrap();
    }
    assert_eq!(machine.state(), before, "before any other command");
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
}

#[test]
fn what_is_in_the_way_of_a_projects_names_holds_up_no_system() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let (project, path) = other_project(&machine, "other");
    let manifest = project.join("package.json");
    std::fs::write(&manifest, "{}\n").unwrap();
    let packages = ["add", "deb:rival", "npm:leaf", "--yes", "--dir", &path];
    let death = ("commit.names-changed", 0, super::deaths::Left::Touched);
    super::deaths::strike(&machine, &packages, death);
    // An editor saves its file over the new one, so the old one cannot take its place.
    std::fs::write(project.join("package.json.new"), "mine").unwrap();
    std::fs::rename(project.join("package.json.new"), &manifest).unwrap();
    machine.bolide(&["history", "--dir", &path]).fails(6, &["package.json"]);
    assert_eq!(machine.state(), before, "the system is back all the same");
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    machine.bolide(&["rollback"]).succeeds();
    std::fs::rename(&manifest, machine.world.place("mine.json")).unwrap();
    let history = machine.bolide(&["history", "--json", "--dir", &path]).succeeds().json();
    assert_eq!(history["transactions"][0]["state"], "failed", "{history:#?}");
    assert_eq!(std::fs::read_to_string(manifest).unwrap(), "{}\n");
    assert_eq!(std::fs::read_dir(project).unwrap().count(), 1);
    assert_eq!(machine.state(), before);
}

#[test]
fn the_system_of_a_dead_transaction_whose_project_moved_is_ended_alone_and_once() {
    let Some(machine) = machine(&[GATE]) else { return };
    let before = machine.state();
    let (project, path) = other_project(&machine, "other");
    let tree = super::super::world::tree(&project);
    let packages = ["add", "deb:gated", "deb:rival", "npm:leaf", "--yes", "--dir", &path];
    Halted::at_the_gate(&machine, &packages).kill(false);
    for file in ["reached", "gate"] {
        std::fs::remove_file(machine.root().join(file)).unwrap();
    }
    assert_eq!(machine.version("rival").as_deref(), Some("1"), "apt went on");
    let moved = machine.world.place("moved");
    std::fs::rename(project, &moved).unwrap();
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
    // Who finds the project settles its names; what was installed by hand since is not its transaction's.
    machine.apt(&["install", "rival"]);
    let theirs = machine.state();
    let moved = moved.display().to_string();
    let history = machine.bolide(&["history", "--json", "--dir", &moved]).succeeds().json();
    assert_eq!(history["transactions"][0]["state"], "failed", "{history:#?}");
    assert_eq!(super::super::world::tree(moved.as_ref()), tree);
    assert_eq!(machine.state(), theirs);
}
