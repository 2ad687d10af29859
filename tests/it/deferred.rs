//! Watched projects whose changes wait for a cooler machine: they hold up nobody else's, and what they wait with is not what was wanted before.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::heat::{DEFERRED, MANY, SENSOR, is_too_hot, machine, publish_many};
use super::packages::Npm;
use super::sibling::metric;
use super::watching::{comes_to, last, manifest};
use super::world::{World, wait_until};

/// A project of its own beside others, watched with this policy.
fn watched(world: &World, name: &str, content: &str) -> PathBuf {
    let project = world.project().join(name);
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("package.json"), content).unwrap();
    watch(world, &project, "apply");
    project
}

fn watch(world: &World, project: &Path, policy: &str) {
    world.bolide(&["watch", "add", text(project), "--policy", policy]).succeeds();
}

fn text(project: &Path) -> &str {
    project.to_str().unwrap()
}

/// Of as many packages as make a change a large one.
fn large_manifest(world: &World) -> String {
    let wanted = publish_many(world);
    let names = wanted.iter().filter_map(|name| name.strip_prefix("npm:"));
    let lines: Vec<String> = names.map(|name| format!(r#""{name}": "^1.0.0""#)).collect();
    format!(r#"{{"name": "here", "version": "1.0.0", "dependencies": {{{}}}}}"#, lines.join(", "))
}

fn is_installed(project: &Path, package: &str) -> bool {
    project.join("node_modules").join(package).exists()
}

#[test]
fn changes_that_wait_for_a_cooler_machine_leave_the_watch_to_others() {
    let world = World::new();
    let large = large_manifest(&world);
    let tree = machine(&world, "97000");
    let _daemon = world.daemon_on(tree.directory());
    is_too_hot(&world);
    // As many as are answered at once.
    let [stays, changes, is_left, is_planned] =
        ["stays", "changes", "is-left", "is-planned"].map(|name| watched(&world, name, &large));
    for project in [&stays, &changes, &is_left, &is_planned] {
        let deferred = comes_to(&world, text(project), "deferred");
        let said = deferred["message"].as_str().unwrap();
        assert_eq!(said, "waits until the machine is cooler, at most 600 s");
    }
    let waiting = || metric(&world, DEFERRED);
    wait_until("all of them wait", || waiting() == 4.0);

    let small = watched(&world, "small", &manifest("^1.0.0"));
    comes_to(&world, text(&small), "applied");
    assert!(is_installed(&small, "tree"));
    assert_eq!(waiting(), 4.0);

    // What is wanted otherwise by now is not waited with.
    std::fs::write(changes.join("package.json"), manifest("^2.0.0")).unwrap();
    comes_to(&world, text(&changes), "applied");
    assert!(is_installed(&changes, "tree") && !is_installed(&changes, "many0"));
    world.bolide(&["watch", "remove", text(&is_left)]).succeeds();
    watch(&world, &is_planned, "plan");
    comes_to(&world, text(&is_planned), "planned");
    wait_until("one waits on", || waiting() == 1.0);
    assert_eq!(last(&world, text(&stays))["outcome"], "deferred");

    // Neither is what is saved as it was: who waits has waited as long as before.
    let before = last(&world, text(&stays));
    std::fs::write(stays.join("package.json"), &large).unwrap();
    for version in ["2.0.0", "1.0.0", "2.0.0"] {
        std::fs::write(small.join("package.json"), manifest(&format!("^{version}"))).unwrap();
        wait_until("the change beside it is answered", || {
            std::fs::read_to_string(small.join("node_modules/tree/package.json"))
                .is_ok_and(|text| text.contains(&format!("\"{version}\"")))
        });
        // With the time at which it was written down.
        assert_eq!(last(&world, text(&stays)), before, "nothing began to wait anew");
    }
    assert_eq!((before["outcome"].as_str(), waiting()), (Some("deferred"), 1.0));

    tree.file(SENSOR, "61000");
    comes_to(&world, text(&stays), "applied");
    assert!((0..MANY).all(|number| is_installed(&stays, &format!("many{number}"))));
    assert!(!is_left.join("node_modules").exists() && !is_planned.join("node_modules").exists());
}

#[test]
fn what_waited_when_the_daemon_stopped_is_not_shown_as_if_it_still_did() {
    let world = World::new();
    let large = large_manifest(&world);
    let tree = machine(&world, "97000");
    let mut daemon = world.daemon_on(tree.directory());
    is_too_hot(&world);
    let project = watched(&world, "waits", &large);
    comes_to(&world, text(&project), "deferred");
    let pid = Pid::from_raw(i32::try_from(daemon.child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    let left = last(&world, text(&project));
    assert_eq!((&left["outcome"], &left["exists"]), (&Value::Null, &Value::Bool(true)), "{left}");
    drop(daemon);
    let _daemon = world.daemon_on(tree.directory());
    comes_to(&world, text(&project), "deferred");
}

#[test]
fn what_waited_when_everything_was_killed_is_not_shown_as_if_it_still_did() {
    let world = World::new();
    let large = large_manifest(&world);
    let tree = machine(&world, "97000");
    let daemon = world.daemon_on(tree.directory());
    is_too_hot(&world);
    let project = watched(&world, "waits", &manifest("^1.0.0"));
    comes_to(&world, text(&project), "applied");
    std::fs::write(project.join("package.json"), &large).unwrap();
    comes_to(&world, text(&project), "deferred");
    let status = world.bolide(&["status", "--json"]).succeeds().json();
    let packager = status["hosted"][0]["pid"].as_i64().unwrap();
    drop(daemon);
    // It may have ended with the daemon.
    let packager = Pid::from_raw(i32::try_from(packager).unwrap()).unwrap();
    let _ = kill_process(packager, Signal::KILL);
    assert_eq!(last(&world, text(&project))["outcome"], "deferred", "nobody wrote anything down");
    // What is there now was answered before, so there is nothing to answer.
    std::fs::write(project.join("package.json"), manifest("^1.0.0")).unwrap();
    let _daemon = world.daemon_on(tree.directory());
    wait_until("nothing is shown", || last(&world, text(&project))["outcome"].is_null());
    assert!(is_installed(&project, "tree"));
}

/// What waits for its turn asks for leave again when it comes: meanwhile others may have made the machine hot.
#[test]
fn who_had_to_wait_for_its_turn_does_not_begin_where_it_is_hot_again() {
    const LARGE: usize = 6;
    let world = World::new();
    let large = large_manifest(&world);
    let tree = machine(&world, "97000");
    let _daemon = world.daemon_on(tree.directory());
    is_too_hot(&world);
    let projects: Vec<PathBuf> =
        (0..LARGE).map(|number| watched(&world, &format!("large{number}"), &large)).collect();
    projects.iter().for_each(|project| {
        comes_to(&world, text(project), "deferred");
    });
    world.registry.fall_silent("/npm/many");
    tree.file(SENSOR, "61000");
    let is = |project: &PathBuf, outcome: &str, message: &str| {
        let last = last(&world, text(project));
        let said = last["message"].as_str().unwrap_or_default();
        last["outcome"] == outcome && said.starts_with(message)
    };
    let count = |outcome, message| projects.iter().filter(|it| is(it, outcome, message)).count();
    wait_until("four of them are being applied", || count("applying", "") == 4);
    let for_others = "waits until other changes";
    wait_until("two wait for them", || count("deferred", for_others) == 2);

    tree.file(SENSOR, "97000");
    is_too_hot(&world);
    world.registry.speak();
    wait_until("those four end", || count("applied", "") == 4);
    let for_heat = "waits until the machine is cooler, at most ";
    wait_until("the others wait for heat", || count("deferred", for_heat) == 2);
    let waits = |project: &&PathBuf| is(project, "deferred", for_heat);
    for project in projects.iter().filter(waits) {
        assert!(!project.join("node_modules").exists());
    }
    tree.file(SENSOR, "61000");
    wait_until("all of them are applied", || count("applied", "") == LARGE);
}

#[test]
fn when_it_cools_few_go_on_at_once_and_hold_up_no_other_project() {
    const LARGE: usize = 6;
    let world = World::new();
    let large = large_manifest(&world);
    world.registry.npm(&[Npm { name: "quick", version: "1.0.0", dependencies: &[] }]);
    let tree = machine(&world, "97000");
    let _daemon = world.daemon_on(tree.directory());
    is_too_hot(&world);
    let projects: Vec<PathBuf> =
        (0..LARGE).map(|number| watched(&world, &format!("large{number}"), &large)).collect();
    projects.iter().for_each(|project| {
        comes_to(&world, text(project), "deferred");
    });
    // From now on nobody gets any of their packages.
    world.registry.fall_silent("/npm/many");
    tree.file(SENSOR, "61000");
    let outcomes = || -> Vec<String> {
        let outcome = |project: &PathBuf| last(&world, text(project))["outcome"].clone();
        projects.iter().map(|it| outcome(it).as_str().unwrap_or_default().to_owned()).collect()
    };
    let count = |outcome: &str| outcomes().iter().filter(|it| *it == outcome).count();
    wait_until("four of them are being applied", || count("applying") == 4);
    wait_until("the others are told why they wait", || {
        let others = projects.iter().map(|project| last(&world, text(project)));
        let waits = "waits until other changes that have waited, too, are applied";
        others.filter(|it| it["outcome"] == "deferred" && it["message"] == waits).count() == 2
    });
    let waiting =
        |why: &str| metric(&world, &format!("bolide_pkg_watch_deferred{{reason=\"{why}\"}}"));
    wait_until("so it is measured", || waiting("turn") == 2.0 && waiting("heat") == 0.0);
    for command in [&["status"][..], &["top", "--once"]] {
        wait_until("everybody can see that they wait for others", || {
            let said = world.bolide(command).succeeds().stdout;
            said.contains("watched changes 2 wait (others that have waited, too, are applied)\n")
        });
    }
    wait_until("they fetch", || world.registry.unanswered() > 0);
    for command in [&["status"][..], &["top", "--once"]] {
        wait_until("everybody can see that files wait, and why", || {
            let said = world.bolide(command).succeeds().stdout;
            let line = said.lines().find(|line| line.starts_with("files "));
            line.is_some_and(|it| it.contains(" under way, ") && it.contains("(others are"))
        });
    }
    let files = world.bolide(&["status", "--json"]).succeeds().json()["work"]["files"].clone();
    assert!(files["under_way"].as_u64().unwrap() >= 16, "{files}");

    // All the places of those that waited, and all permits to fetch beside the first of each, are taken.
    let quick = r#"{"name": "here", "version": "1.0.0", "dependencies": {"quick": "^1.0.0"}}"#;
    for name in ["one", "two"] {
        let project = watched(&world, name, quick);
        comes_to(&world, text(&project), "applied");
        assert!(is_installed(&project, "quick"));
    }
    assert_eq!((count("applying"), count("deferred")), (4, 2));

    // One that waited for others gives way to what is wanted instead of it, too.
    let waits = outcomes().iter().position(|outcome| outcome == "deferred").unwrap();
    std::fs::write(projects[waits].join("package.json"), quick).unwrap();
    comes_to(&world, text(&projects[waits]), "applied");
    assert!(is_installed(&projects[waits], "quick"));
}
