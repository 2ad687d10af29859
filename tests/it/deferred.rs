//! Watched projects whose changes wait for a cooler machine: they hold up nobody else's, and what they wait with is not what was wanted before.

use std::path::{Path, PathBuf};

use super::heat::{DEFERRED, MANY, SENSOR, is_too_hot, machine, publish_many};
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

    tree.file(SENSOR, "61000");
    comes_to(&world, text(&stays), "applied");
    assert!((0..MANY).all(|number| is_installed(&stays, &format!("many{number}"))));
    assert!(!is_left.join("node_modules").exists() && !is_planned.join("node_modules").exists());
}
