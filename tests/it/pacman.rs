//! Packages of a system of Arch's kind, changed for real: by pacman in a directory of its own, in one transaction with packages
//! of languages, and back.

mod machine;

use std::process::Stdio;

use self::machine::{PacmanMachine, Pkg};
use super::keys::Signer;
use super::machine::{children, family, is_alive, kill};
use super::world::wait_until;

const LIB_1: Pkg = Pkg { name: "lib", version: "1.0-1", fields: "", script: "", configuration: "" };
const LIB_2: Pkg = Pkg { version: "1.5-1", ..LIB_1 };
const WEB: Pkg = Pkg {
    name: "web",
    version: "1:2.0-1",
    fields: "depend = lib>=1.5",
    script: "",
    configuration: "port = 80\n",
};
const OLD: Pkg = Pkg { name: "old", version: "1-1", configuration: "old = yes\n", ..LIB_1 };
const RIVAL: Pkg = Pkg { name: "rival", version: "1-1", fields: "conflict = old", ..LIB_1 };
/// Halts in its script, which is run when it is unpacked.
const GATE: Pkg = Pkg {
    name: "gated",
    version: "1-1",
    fields: "depend = lib>=1.5",
    script: "post_install() {\n: > /reached\nread word < /gate\n}\n",
    configuration: "gated = yes\n",
};

/// A system with an older `lib` and `old`, and newer things in its repository.
fn machine(more: &[Pkg]) -> Option<PacmanMachine> {
    let machine = PacmanMachine::new(&[LIB_1, OLD])?;
    machine.pacman(&["-S", "lib", "old"]);
    machine.pacman(&["-D", "--asdeps", "lib"]);
    let newer: Vec<Pkg> = [LIB_2, WEB, OLD, RIVAL].iter().chain(more).copied().collect();
    machine.publish(&newer);
    Some(machine)
}

fn states(machine: &PacmanMachine) -> Vec<String> {
    let history = machine.bolide(&["history", "--json"]).succeeds().json();
    let entries = history["transactions"].as_array().unwrap();
    entries.iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn packages_of_pacman_change_as_planned_and_come_back_as_they_were() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    let plan = machine.bolide(&["plan", "system:web", "pacman:rival", "--json"]).succeeds().json();
    let purls: Vec<_> = plan["packages"].as_array().unwrap().iter().map(|it| &it["purl"]).collect();
    let purl = |text: &str| format!("pkg:alpm/arch/{text}");
    assert_eq!(purls, [&purl("lib@1.5-1"), &purl("rival@1-1"), &purl("web@1:2.0-1")]);
    assert_eq!(plan["removed"], serde_json::json!([purl("lib@1.0-1"), purl("old@1-1")]));
    assert_eq!(plan["warnings"], serde_json::json!(["`old` is taken away"]));
    assert_eq!(machine.state(), before, "a plan changes nothing");
    let digest = plan["digest"].as_str().unwrap();
    machine.bolide(&["apply", digest]).fails(4, &["approved"]);
    let applied = machine.bolide(&["apply", digest, "--yes", "--json"]).succeeds().json();
    assert_eq!(applied["installed"].as_array().unwrap().len(), 3, "{applied}");
    let after = machine.state();
    for line in ["lib 1.5-1", "web 1:2.0-1", "rival 1-1", "automatic: lib"] {
        assert!(after.iter().any(|it| it == line), "{line}: {after:?}");
    }
    assert!(!after.iter().any(|it| it.starts_with("old ") || it == "automatic: web"), "{after:?}");
    let list = machine.bolide(&["list", "--json"]).succeeds().stdout;
    assert!(list.contains("web@1:2.0-1") && list.contains("lib@1.5-1"), "{list}");
    // Nothing is left to do, and what is done comes back without a repository or a cache to ask.
    let again = machine.bolide(&["add", "pacman:web", "--yes", "--json"]).succeeds().json();
    assert_eq!(again["installed"], serde_json::json!([]));
    std::fs::remove_dir_all(machine.archive()).unwrap();
    std::fs::remove_dir_all(machine.root().join("var/cache")).unwrap();
    machine.bolide(&["rollback"]).succeeds();
    std::fs::create_dir_all(machine.root().join("var/cache/pacman/pkg")).unwrap();
    assert_eq!(machine.state(), before);
    assert_eq!(states(&machine), ["committed", "rolled-back"]);
}

#[test]
fn one_transaction_spans_pacman_and_languages() {
    let Some(machine) = machine(&[]) else { return };
    let (before, tree) = (machine.state(), machine.world.tree());
    machine.bolide(&["add", "pacman:web", "npm:leaf", "pypi:stone", "--yes"]).succeeds();
    assert_eq!(machine.version("web").as_deref(), Some("1:2.0-1"));
    machine.world.run("node", &["-p", "require('leaf')"]).succeeds();
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), before);
    assert_eq!(machine.world.tree(), tree);
}

#[test]
fn transactions_of_pacman_go_back_one_by_one_or_together() {
    let Some(machine) = machine(&[]) else { return };
    let first = machine.state();
    machine.bolide(&["update", "pacman:lib", "--yes"]).succeeds();
    assert_eq!(machine.version("lib").as_deref(), Some("1.5-1"));
    let second = machine.state();
    machine.bolide(&["add", "pkg:alpm/arch/web@1:2.0-1?arch=any", "--yes"]).succeeds();
    let third = machine.state();
    machine.bolide(&["remove", "pacman:web", "--yes"]).succeeds();
    assert_eq!(machine.version("web"), None);
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), third);
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.state(), second);
    machine.bolide(&["add", "pacman:rival", "--yes"]).succeeds();
    let history = machine.bolide(&["history", "--json"]).succeeds().json();
    let all = history["transactions"].as_array().unwrap();
    let update = all.iter().find(|entry| entry["operation"] == "update").unwrap();
    let update = update["transaction"].as_str().unwrap();
    machine.bolide(&["rollback", update, "--yes"]).succeeds();
    assert_eq!(machine.state(), first);
    machine.bolide(&["update", "pacman:web", "--yes"]).fails(2, &["not installed"]);
}

#[test]
fn a_file_in_the_way_of_pacman_takes_everything_back_and_stays() {
    let clash = Pkg { name: "clash", ..LIB_1 };
    let Some(machine) = machine(&[clash]) else { return };
    let theirs = machine.root().join("usr/share/clash/version");
    std::fs::create_dir(theirs.parent().unwrap()).unwrap();
    std::fs::write(&theirs, "mine").unwrap();
    let (before, tree) = (machine.state(), machine.world.tree());
    // `old` has gone when pacman finds the file.
    let packages = ["add", "pacman:clash", "pacman:rival", "npm:leaf", "--yes"];
    machine.bolide(&packages).fails(1, &["conflicting files", "as they were before"]);
    assert_eq!(machine.state(), before);
    assert_eq!(machine.world.tree(), tree);
    assert_eq!(states(&machine), ["failed"]);
    assert_eq!(std::fs::read_to_string(theirs).unwrap(), "mine");
}

#[test]
fn a_project_that_fails_later_takes_pacman_back() {
    // Its script edits a file of the project in the moment between what the plan saw and the commit.
    let meddler = Pkg {
        name: "meddler",
        fields: "depend = lib>=1.5",
        script: "post_install() {\necho '{\"name\":\"mine\"}' > /srv/package.json\n}\n",
        ..LIB_1
    };
    let Some(machine) = machine(&[meddler]) else { return };
    let project = machine.root().join("srv");
    std::fs::write(project.join("package.json"), "{}\n").unwrap();
    let (before, place) = (machine.state(), project.display().to_string());
    let plan = ["plan", "pacman:meddler", "npm:leaf", "--json", "--dir", &place];
    let plan = machine.bolide(&plan).succeeds().json();
    let digest = plan["digest"].as_str().unwrap();
    let applied = machine.bolide(&["apply", digest, "--yes", "--dir", &place]);
    applied.fails(4, &["package.json", "edited at the same moment"]);
    assert_eq!(machine.state(), before);
    let edited = std::fs::read_to_string(project.join("package.json")).unwrap();
    assert_eq!(edited, "{\"name\":\"mine\"}\n");
}

#[test]
fn what_somebody_elses_package_needs_pacman_does_not_take_from_it() {
    let guest = Pkg { name: "guest", fields: "depend = web", ..LIB_1 };
    let Some(machine) = machine(&[guest]) else { return };
    machine.bolide(&["add", "pacman:web", "--yes"]).succeeds();
    machine.pacman(&["-S", "guest"]);
    let before = machine.state();
    machine.bolide(&["rollback"]).fails(4, &["guest"]);
    machine.bolide(&["rollback", "--force"]).fails(4, &["guest"]);
    machine.bolide(&["remove", "pacman:web", "--yes"]).fails(5, &["guest"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn a_kill_amid_pacman_is_made_whole_by_the_next_command() {
    for all in [false, true] {
        let Some(machine) = machine(&[GATE]) else { return };
        let (before, tree) = (machine.state(), machine.world.tree());
        let (root, gate) = (machine.root(), machine.root().join("gate"));
        machine.world.run("mkfifo", &[&gate.display().to_string()]).succeeds();
        let packages = ["add", "pacman:gated", "pacman:rival", "npm:leaf", "--yes"];
        let mut command = machine.command(&packages);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait_until("a script is reached", || root.join("reached").exists());
        let tool = *children(child.id(), "pacman").first().unwrap();
        let tools = family(tool);
        child.kill().unwrap();
        child.wait().unwrap();
        match all {
            true => tools.into_iter().for_each(kill),
            // pacman goes on by itself and ends its work.
            false => std::fs::write(&gate, "go\n").unwrap(),
        }
        wait_until("nobody is at work", || !is_alive(tool));
        for file in ["reached", "gate"] {
            std::fs::remove_file(root.join(file)).unwrap();
        }
        let _ = std::fs::remove_dir_all(root.join("tmp"));
        std::fs::create_dir(root.join("tmp")).unwrap();
        assert_eq!(states(&machine), ["failed"]);
        assert_eq!(machine.state(), before, "everybody killed: {all}");
        assert_eq!(machine.world.tree(), tree);
        machine.bolide(&["add", "pacman:web", "--yes"]).succeeds();
    }
}

#[test]
fn what_pacman_was_unpacking_when_it_died_is_taken_back() {
    let halts = Pkg { script: "pre_install() {\n: > /reached\nread word < /gate\n}\n", ..GATE };
    let Some(machine) = machine(&[halts]) else { return };
    let (before, root) = (machine.state(), machine.root());
    machine.world.run("mkfifo", &[&root.join("gate").display().to_string()]).succeeds();
    let mut command = machine.command(&["add", "pacman:gated", "--yes"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_until("a script is reached", || root.join("reached").exists());
    let tool = *children(child.id(), "pacman").first().unwrap();
    family(child.id()).into_iter().for_each(kill);
    child.wait().unwrap();
    wait_until("nobody is at work", || !is_alive(tool));
    for file in ["reached", "gate"] {
        std::fs::remove_file(root.join(file)).unwrap();
    }
    assert!(root.join("var/lib/pacman/db.lck").exists(), "pacman's lock outlives it");
    // A moment later pacman had had an entry without content and a file; and the old `lib` away, the new one not there.
    let local = root.join("var/lib/pacman/local");
    std::fs::create_dir_all(local.join("gated-1-1")).unwrap();
    std::fs::create_dir(root.join("usr/share/gated")).unwrap();
    std::fs::write(root.join("usr/share/gated/version"), "1-1").unwrap();
    for entry in ["lib-1.0-1", "lib-1.5-1"] {
        let _ = std::fs::remove_dir_all(local.join(entry));
    }
    std::fs::create_dir(local.join("lib-1.5-1")).unwrap();
    let _ = std::fs::remove_dir_all(root.join("tmp"));
    std::fs::create_dir(root.join("tmp")).unwrap();
    assert_eq!(states(&machine), ["failed"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn whenever_everybody_is_killed_pacman_has_the_old_system_or_the_new_one() {
    let Some(reference) = machine(&[]) else { return };
    reference.bolide(&["add", "pacman:web", "pacman:rival", "--yes"]).succeeds();
    let new = reference.state();
    let mut seen = [0, 0];
    for delay_ms in [200, 350, 450, 550, 650, 750, 900, 1_100] {
        let Some(machine) = machine(&[]) else { return };
        let old = machine.state();
        let mut command = machine.command(&["add", "pacman:web", "pacman:rival", "--yes"]);
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
fn a_plan_of_pacman_that_the_system_has_left_behind_is_stale() {
    let Some(machine) = machine(&[]) else { return };
    let plan = |packages: &[&str]| {
        let arguments: Vec<&str> = ["plan", "--json"].iter().chain(packages).copied().collect();
        machine.bolide(&arguments).succeeds().json()["digest"].as_str().unwrap().to_owned()
    };
    let digest = plan(&["pacman:web"]);
    machine.pacman(&["-S", "lib"]);
    let before = machine.state();
    machine.bolide(&["apply", &digest, "--yes"]).fails(4, &["lib", "1.5-1", "1.0-1"]);
    assert_eq!(machine.state(), before);
    // The same version from the repository is another file than the plan saw.
    let digest = plan(&["pacman:web"]);
    machine.publish(&[LIB_2, Pkg { fields: "depend = lib>=1.4", ..WEB }, OLD]);
    machine.bolide(&["apply", &digest, "--yes"]).fails(4, &["web", "another archive"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn what_pacman_cannot_undo_is_said_before_anything_begins() {
    let Some(machine) = machine(&[]) else { return };
    for entry in std::fs::read_dir(machine.root().join("var/cache/pacman/pkg")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let before = machine.state();
    let plan = machine.bolide(&["plan", "pacman:web", "--json"]).succeeds().json();
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("`lib` 1.0-1 could not be brought back"), "{warnings}");
    let digest = plan["digest"].as_str().unwrap();
    machine.bolide(&["apply", digest, "--yes"]).fails(3, &["lib", "--force"]);
    assert_eq!(machine.state(), before);
    machine.bolide(&["apply", digest, "--yes", "--force"]).succeeds();
    machine.bolide(&["rollback"]).fails(6, &["`lib` stays 1.5-1", "--force"]);
    machine.bolide(&["rollback", "--force"]).succeeds();
    assert_eq!((machine.version("lib").as_deref(), machine.version("web")), (Some("1.5-1"), None));
}

#[test]
fn an_archive_without_the_signature_that_pacman_demands_is_refused() {
    let Some(machine) = machine(&[]) else { return };
    machine.configure("PackageRequired DatabaseNever");
    // That pacman has it in its cache says nothing: it looks at signatures only after that, so it is fetched anew.
    let cache = machine.root().join("var/cache/pacman/pkg");
    for entry in std::fs::read_dir(machine.archive()).unwrap().flatten() {
        if entry.file_name().to_str().unwrap().contains(".pkg.tar") {
            std::fs::copy(entry.path(), cache.join(entry.file_name())).unwrap();
        }
    }
    let before = machine.state();
    machine
        .bolide(&["add", "pacman:web", "--yes"])
        .fails(6, &["not signed", "nothing was changed"]);
    assert_eq!(machine.state(), before);
}

#[test]
fn a_signature_counts_where_it_is_of_a_key_that_is_trusted_and_of_this_archive() {
    let Some(machine) = machine(&[]) else { return };
    let Some(ours) = Signer::new(&machine.world, "ours", &[]) else { return };
    let Some(theirs) = Signer::new(&machine.world, "theirs", &[]) else { return };
    let keyring = machine.root().join("etc/pacman.d/gnupg");
    ours.trusted_in(&keyring);
    theirs.known_in(&keyring);
    machine.configure("PackageRequired DatabaseNever");
    let all = [LIB_2, WEB, OLD, RIVAL];
    let refused = || {
        let before = machine.state();
        let said = machine.bolide(&["add", "pacman:web", "--yes"]);
        said.fails(6, &["signed", "nothing was changed"]);
        assert_eq!(machine.state(), before);
    };
    all.iter().for_each(|pkg| theirs.sign(&machine.archived(pkg)));
    machine.list(&all);
    refused();
    all.iter().for_each(|pkg| ours.sign(&machine.archived(pkg)));
    // The right key, for another archive.
    let signature = |pkg| format!("{}.sig", machine.archived(pkg).display());
    std::fs::copy(signature(&LIB_2), signature(&WEB)).unwrap();
    machine.list(&all);
    refused();
    ours.sign(&machine.archived(&WEB));
    machine.list(&all);
    machine.bolide(&["add", "pacman:web", "--yes"]).succeeds();
    assert_eq!(machine.version("web").as_deref(), Some("1:2.0-1"));
}

#[test]
fn a_configuration_file_of_a_person_outlives_pacman() {
    let Some(machine) = machine(&[]) else { return };
    let newer = Pkg { version: "2-1", configuration: "old = no\n", ..OLD };
    machine.publish(&[newer]);
    let configuration = machine.root().join("etc/old.conf");
    std::fs::write(&configuration, "old = mine\n").unwrap();
    let said = machine.bolide(&["update", "pacman:old", "--yes"]).succeeds();
    assert!(said.stdout.contains("/etc/old.conf.pacnew"), "{said:#?}");
    assert_eq!(machine.version("old").as_deref(), Some("2-1"));
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "old = mine\n");
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.version("old").as_deref(), Some("1-1"));
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "old = mine\n");
}

#[test]
fn what_pacman_cannot_have_together_is_a_conflict() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    machine.bolide(&["add", "pacman:lib=9-1", "--yes"]).fails(2, &["in version 9-1"]);
    machine.bolide(&["add", "pacman:nobody", "--yes"]).fails(2, &["no repository has `nobody`"]);
    machine.bolide(&["add", "rpm:web", "--yes"]).fails(2, &["of the kind `pacman`"]);
    let refused = machine.bolide(&["plan", "pacman:rival", "pacman:old=1-1", "--json"]);
    assert_eq!(refused.code, 5, "{refused:#?}");
    let info = machine.bolide(&["info", "pacman:web", "--json"]).succeeds().json();
    assert_eq!((&info["version"], &info["requires"][0]), (&"1:2.0-1".into(), &"lib>=1.5".into()));
    for name in ["pacman:--help", "pacman:-y", "system:--root=/", "pacman:../lib", "pacman:l*b"] {
        assert_ne!(machine.bolide(&["add", name, "--yes"]).code, 0, "{name}");
    }
    assert_eq!(machine.state(), before);
}
