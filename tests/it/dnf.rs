//! Packages of a system of Fedora's kind, changed for real: by dnf and rpm in a directory of its own, in one transaction with
//! packages of languages, and back.

mod machine;

use std::process::Stdio;

use self::machine::{Rpm, RpmMachine};
use super::keys::Signer;
use super::machine::{children, family, is_alive, kill};
use super::world::wait_until;

const LIB_1: Rpm = Rpm { name: "lib", version: "1.0", fields: "", scripts: &[], configuration: "" };
const LIB_2: Rpm = Rpm { version: "1.5", ..LIB_1 };
const WEB: Rpm = Rpm {
    name: "web",
    version: "2.0",
    fields: "Epoch: 1\nRequires: lib >= 1.5",
    scripts: &[],
    configuration: "port = 80",
};
const OLD: Rpm = Rpm { name: "old", version: "1", configuration: "old = yes", ..LIB_1 };
const RIVAL: Rpm = Rpm { name: "rival", version: "1", fields: "Conflicts: old", ..LIB_1 };
/// Halts in its script, which is run when it is unpacked.
const GATE: Rpm = Rpm {
    name: "gated",
    version: "1",
    fields: "Requires: lib >= 1.5",
    scripts: &[("post", ": > /reached\nread word < /gate")],
    configuration: "gated = yes",
};

/// A system with an older `lib` and `old`, and newer things in its repository.
fn machine(more: &[Rpm]) -> Option<RpmMachine> {
    let archive: Vec<Rpm> = [LIB_1, LIB_2, WEB, OLD, RIVAL].iter().chain(more).copied().collect();
    let machine = RpmMachine::new(&archive)?;
    machine.dnf(&["install", "lib-1.0", "old"]);
    machine.dnf(&["mark", "remove", "lib"]);
    Some(machine)
}

fn states(machine: &RpmMachine) -> Vec<String> {
    let history = machine.bolide(&["history", "--json"]).succeeds().json();
    let entries = history["transactions"].as_array().unwrap();
    entries.iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn packages_of_dnf_change_as_planned_and_come_back_as_they_were() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let plan = machine.bolide(&["plan", "system:web", "rpm:rival", "--json"]).succeeds().json();
    let purls: Vec<_> = plan["packages"].as_array().unwrap().iter().map(|it| &it["purl"]).collect();
    let purl = |text: &str| format!("pkg:rpm/{text}");
    assert_eq!(purls, [&purl("lib@1.5-1"), &purl("rival@1-1"), &purl("web@2.0-1?epoch=1")]);
    assert_eq!(plan["removed"], serde_json::json!([purl("lib@1.0-1"), purl("old@1-1")]));
    assert_eq!(machine.state(), before, "a plan changes nothing");
    let digest = plan["digest"].as_str().unwrap();
    machine.bolide(&["apply", digest]).fails(4, &["approved"]);
    let applied = machine.bolide(&["apply", digest, "--yes", "--json"]).succeeds().json();
    assert_eq!(applied["installed"].as_array().unwrap().len(), 3, "{applied}");
    let after = machine.state();
    for line in ["lib 0:1.5-1", "web 1:2.0-1", "rival 0:1-1", "lib: dependency", "web: user"] {
        assert!(after.iter().any(|it| it == line), "{line}: {after:?}");
    }
    assert!(!after.iter().any(|it| it.starts_with("old")), "{after:?}");
    let list = machine.bolide(&["list", "--json"]).succeeds().stdout;
    assert!(list.contains("web@2.0-1") && list.contains("lib@1.5-1"), "{list}");
    // Nothing is left to do, and what is done comes back without a repository to ask.
    let again = machine.bolide(&["add", "rpm:web", "--yes", "--json"]).succeeds().json();
    assert_eq!(again["installed"], serde_json::json!([]));
    std::fs::remove_dir_all(machine.archive()).unwrap();
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
    assert_eq!(states(&machine), ["committed", "rolled-back"]);
}

#[test]
fn one_transaction_spans_dnf_and_languages() {
    let Some(machine) = machine(&[]) else { return };
    let (before, tree) = (machine.state(), machine.world.tree());
    machine.bolide(&["add", "rpm:web", "npm:leaf", "pypi:stone", "--yes"]).succeeds();
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
    machine.world.run("node", &["-p", "require('leaf')"]).succeeds();
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
    assert_eq!(machine.world.tree(), tree);
}

#[test]
fn transactions_of_dnf_go_back_one_by_one_or_together() {
    let Some(machine) = machine(&[]) else { return };
    let first = machine.state();
    machine.bolide(&["update", "rpm:lib", "--yes"]).succeeds();
    assert_eq!(machine.version("lib").as_deref(), Some("1.5"));
    let second = machine.state();
    machine.bolide(&["add", "pkg:rpm/fedora/web@2.0-1?epoch=1&arch=noarch", "--yes"]).succeeds();
    let third = machine.state();
    machine.bolide(&["remove", "rpm:web", "--yes"]).succeeds();
    assert_eq!(machine.version("web"), None);
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), third);
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), second);
    machine.bolide(&["add", "rpm:rival", "--yes"]).succeeds();
    let history = machine.bolide(&["history", "--json"]).succeeds().json();
    let all = history["transactions"].as_array().unwrap();
    let update = all.iter().find(|entry| entry["operation"] == "update").unwrap();
    let update = update["transaction"].as_str().unwrap();
    machine.bolide(&["rollback", update, "--yes"]).succeeds();
    assert_eq!(machine.state(), first);
    machine.bolide(&["update", "rpm:web", "--yes"]).fails(2, &["not installed"]);
}

#[test]
fn a_script_of_rpm_that_fails_takes_everything_back() {
    let bad = Rpm {
        name: "bad",
        version: "1",
        fields: "Requires: lib >= 1.5",
        scripts: &[("pre", "exit 7")],
        configuration: "bad = yes",
    };
    let Some(machine) = machine(&[bad]) else { return };
    let (before, tree) = (machine.state(), machine.world.tree());
    let packages = ["add", "rpm:bad", "rpm:rival", "npm:leaf", "--yes"];
    machine.bolide(&packages).fails(1, &["bad", "as they were before"]);
    assert_eq!(machine.state(), before);
    assert_eq!(machine.world.tree(), tree);
    assert_eq!(states(&machine), ["failed"]);
}

#[test]
fn a_project_that_fails_later_takes_dnf_back() {
    // Its script edits a file of the project in the moment between what the plan saw and the commit.
    let meddler = Rpm {
        name: "meddler",
        version: "1",
        fields: "Requires: lib >= 1.5",
        scripts: &[("post", "echo '{\"name\":\"mine\"}' > /srv/package.json")],
        configuration: "",
    };
    let Some(machine) = machine(&[meddler]) else { return };
    let project = machine.root().join("srv");
    std::fs::write(project.join("package.json"), "{}\n").unwrap();
    let (before, place) = (machine.state(), project.display().to_string());
    let plan = ["plan", "rpm:meddler", "npm:leaf", "--json", "--dir", &place];
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
fn what_somebody_elses_package_needs_dnf_does_not_take_from_it() {
    let guest = Rpm { name: "guest", version: "1", fields: "Requires: web", ..LIB_1 };
    let Some(machine) = machine(&[guest]) else { return };
    machine.bolide(&["add", "rpm:web", "--yes"]).succeeds();
    machine.dnf(&["install", "guest"]);
    let before = machine.state();
    machine.bolide(&["rollback"]).fails(4, &["guest"]);
    machine.bolide(&["rollback", "--force"]).fails(4, &["guest"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn a_kill_amid_dnf_is_made_whole_by_the_next_command() {
    for all in [false, true] {
        let Some(machine) = machine(&[GATE]) else { return };
        let (before, tree) = (machine.state(), machine.world.tree());
        let (root, gate) = (machine.root(), machine.root().join("gate"));
        machine.world.run("mkfifo", &[&gate.display().to_string()]).succeeds();
        let mut command = machine.command(&["add", "rpm:gated", "rpm:rival", "npm:leaf", "--yes"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait_until("a script is reached", || root.join("reached").exists());
        let tool = *children(child.id(), "python3").first().unwrap();
        let tools = family(tool);
        child.kill().unwrap();
        child.wait().unwrap();
        match all {
            true => tools.into_iter().for_each(kill),
            // dnf goes on by itself and ends its work.
            false => std::fs::write(&gate, "go\n").unwrap(),
        }
        wait_until("nobody is at work", || !is_alive(tool));
        for file in ["reached", "gate"] {
            std::fs::remove_file(root.join(file)).unwrap();
        }
        assert_eq!(states(&machine), ["failed"]);
        assert_eq!(machine.state(), before, "everybody killed: {all}");
        assert_eq!(machine.world.tree(), tree);
        machine.bolide(&["add", "rpm:web", "--yes"]).succeeds();
    }
}

#[test]
fn what_rpm_was_unpacking_when_it_died_is_taken_back() {
    let halts = Rpm { scripts: &[("pre", ": > /reached\nread word < /gate")], ..GATE };
    let Some(machine) = machine(&[halts]) else { return };
    let (before, root) = (machine.state(), machine.root());
    machine.world.run("mkfifo", &[&root.join("gate").display().to_string()]).succeeds();
    let mut command = machine.command(&["add", "rpm:gated", "--yes"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_until("a script is reached", || root.join("reached").exists());
    let tool = *children(child.id(), "python3").first().unwrap();
    family(child.id()).into_iter().for_each(kill);
    child.wait().unwrap();
    wait_until("nobody is at work", || !is_alive(tool));
    for file in ["reached", "gate"] {
        std::fs::remove_file(root.join(file)).unwrap();
    }
    // A moment later rpm had had a file in its place, which no package has yet, and another one not.
    std::fs::create_dir(root.join("usr/share/gated")).unwrap();
    std::fs::write(root.join("usr/share/gated/version"), "1").unwrap();
    std::fs::write(root.join("usr/share/gated/version;6580abcd"), "1").unwrap();
    assert_eq!(states(&machine), ["failed"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn whenever_everybody_is_killed_rpm_has_the_old_system_or_the_new_one() {
    let Some(reference) = machine(&[]) else { return };
    reference.bolide(&["add", "rpm:web", "rpm:rival", "--yes"]).succeeds();
    let new = reference.state();
    let mut seen = [0, 0];
    for delay_ms in [300, 600, 900, 1_200, 1_500, 1_800, 2_100] {
        let Some(machine) = machine(&[]) else { return };
        let old = machine.state();
        let mut command = machine.command(&["add", "rpm:web", "rpm:rival", "--yes"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        let everybody = family(child.id());
        everybody.into_iter().for_each(kill);
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
fn a_plan_of_dnf_that_the_system_has_left_behind_is_stale() {
    let Some(machine) = machine(&[]) else { return };
    let plan = |packages: &[&str]| {
        let arguments: Vec<&str> = ["plan", "--json"].iter().chain(packages).copied().collect();
        machine.bolide(&arguments).succeeds().json()["digest"].as_str().unwrap().to_owned()
    };
    let digest = plan(&["rpm:web"]);
    machine.dnf(&["install", "lib-1.5"]);
    let before = machine.state();
    machine.bolide(&["apply", &digest, "--yes"]).fails(4, &["lib", "1.5-1", "1.0-1"]);
    assert_eq!(machine.state(), before);
    // The same version from the repository is another file than the plan saw.
    let digest = plan(&["rpm:web"]);
    let other = Rpm { fields: "Epoch: 1\nRequires: lib >= 1.4", ..WEB };
    machine.publish(&[LIB_1, LIB_2, other, OLD]);
    machine.bolide(&["apply", &digest, "--yes"]).fails(4, &["web", "another archive"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn what_dnf_cannot_undo_is_said_before_anything_begins() {
    let Some(machine) = machine(&[]) else { return };
    machine.publish(&[LIB_2, WEB]);
    let before = machine.state();
    let plan = machine.bolide(&["plan", "rpm:web", "--json"]).succeeds().json();
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("`lib` 1.0-1 could not be brought back"), "{warnings}");
    let digest = plan["digest"].as_str().unwrap();
    machine.bolide(&["apply", digest, "--yes"]).fails(3, &["lib", "--force"]);
    assert_eq!(machine.state(), before);
    machine.bolide(&["apply", digest, "--yes", "--force"]).succeeds();
    machine.bolide(&["rollback"]).fails(6, &["`lib` stays 1.5-1", "--force"]);
    machine.bolide(&["rollback", "--force"]).succeeds();
    assert_eq!((machine.version("lib").as_deref(), machine.version("web")), (Some("1.5"), None));
}

#[test]
fn an_archive_without_the_signature_that_its_repository_demands_is_refused() {
    let Some(machine) = machine(&[]) else { return };
    machine.configure("gpgcheck=1");
    let before = machine.state();
    machine.bolide(&["add", "rpm:web", "--yes"]).fails(6, &["not signed", "nothing was changed"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn a_signature_counts_where_it_is_of_a_key_that_is_known_and_of_this_archive() {
    let Some(machine) = machine(&[]) else { return };
    let Some(ours) = Signer::new(&machine.world, "ours", &["rpmsign"]) else { return };
    let Some(theirs) = Signer::new(&machine.world, "theirs", &["rpmsign"]) else { return };
    machine.trust(&ours);
    machine.configure("gpgcheck=1");
    machine.sign(&theirs);
    let before = machine.state();
    machine.bolide(&["add", "rpm:web", "--yes"]).fails(6, &["signed", "nothing was changed"]);
    assert_eq!(machine.state(), before);
    machine.sign(&ours);
    machine.bolide(&["add", "rpm:web", "--yes"]).succeeds();
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
}

#[test]
fn a_configuration_file_of_a_person_outlives_rpm() {
    let Some(machine) = machine(&[]) else { return };
    let newer = Rpm { version: "2", configuration: "old = no", ..OLD };
    machine.publish(&[OLD, newer]);
    let configuration = machine.root().join("etc/old.conf");
    std::fs::write(&configuration, "old = mine\n").unwrap();
    machine.bolide(&["update", "rpm:old", "--yes"]).succeeds();
    assert_eq!(machine.version("old").as_deref(), Some("2"));
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "old = mine\n");
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.version("old").as_deref(), Some("1"));
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "old = mine\n");
    // One that goes leaves the edited file beside, and says so.
    let said = machine.bolide(&["remove", "rpm:old", "--yes"]).succeeds();
    assert!(said.stdout.contains("/etc/old.conf.rpmsave"), "{said:#?}");
    let kept = machine.root().join("etc/old.conf.rpmsave");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "old = mine\n");
}

#[test]
fn another_dnf_at_work_is_waited_for() {
    let Some(machine) = machine(&[]) else { return };
    // dnf's lock is a file with the number of a process that lives.
    let lock = machine.root().join("var/lib/dnf/rpmdb_lock.pid");
    std::fs::write(&lock, std::process::id().to_string()).unwrap();
    let mut command = machine.command(&["add", "rpm:web", "--yes"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let is_waiting = || {
        let tools = children(child.id(), "python3");
        let read = |id: &u32| std::fs::read_to_string(format!("/proc/{id}/cmdline"));
        tools.iter().filter_map(|id| read(id).ok()).any(|line| line.contains("\0wait\0"))
    };
    wait_until("it waits", is_waiting);
    assert_eq!(machine.version("web"), None);
    std::fs::remove_file(&lock).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
}

#[test]
fn a_daemon_does_the_same_with_dnf() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let _daemon = machine.world.daemon();
    machine.bolide(&["add", "rpm:web", "npm:leaf", "--yes"]).succeeds();
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
}

#[test]
fn what_dnf_cannot_have_together_is_a_conflict() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let refused = machine.bolide(&["plan", "rpm:web", "rpm:lib=1.0", "--json"]);
    assert_eq!(refused.code, 5, "{refused:#?}");
    let explanation = refused.json()["conflict"]["explanation"].to_string();
    assert!(explanation.contains("web") && explanation.contains("lib"), "{explanation}");
    machine.bolide(&["add", "rpm:nobody", "--yes"]).fails(2, &["no repository has `nobody`"]);
    machine.bolide(&["add", "deb:web", "--yes"]).fails(2, &["dpkg"]);
    let info = machine.bolide(&["info", "rpm:web", "--json"]).succeeds().json();
    assert_eq!(info["version"], "1:2.0-1");
    for name in ["rpm:--help", "rpm:-y", "system:--root=/", "rpm:../lib", "rpm:l*b", "rpm:lib=-1"] {
        assert_ne!(machine.bolide(&["add", name, "--yes"]).code, 0, "{name}");
    }
    assert_eq!(machine.state(), before);
}
