//! The first trigger from outside: manifests change, and the daemon answers as each project's policy says.

use std::path::PathBuf;

use serde_json::Value;

use super::sibling::metric;
use super::world::{World, wait_until};

/// What came of the last change in `project`; empty where nothing has.
pub(crate) fn last(world: &World, project: &str) -> Value {
    let list = world.bolide(&["watch", "list", project, "--json"]).succeeds().json();
    let watched = list["watched"].as_array().unwrap().first().cloned();
    watched.unwrap_or_default()
}

/// Waits until a change in `project` came to `outcome`; what was noted of it.
#[track_caller]
pub(crate) fn comes_to(world: &World, project: &str, outcome: &str) -> Value {
    let mut seen = Value::Null;
    wait_until(outcome, || {
        seen = last(world, project);
        seen["outcome"] == outcome
    });
    seen
}

pub(crate) fn manifest(dependency: &str) -> String {
    format!(r#"{{"name": "here", "version": "1.0.0", "dependencies": {{"tree": "{dependency}"}}}}"#)
}

/// As editors save: beside, then in its place.
fn save(world: &World, content: &str) {
    world.file(".package.json.swp", content);
    let from = world.project().join(".package.json.swp");
    std::fs::rename(from, world.project().join("package.json")).unwrap();
}

fn installed(world: &World) -> Option<String> {
    let path = world.project().join("node_modules/tree/package.json");
    let text = std::fs::read_to_string(path).ok()?;
    let json: Value = serde_json::from_str(&text).unwrap();
    Some(json["version"].as_str().unwrap().to_owned())
}

#[test]
fn a_saved_manifest_is_applied_where_the_policy_says_so_and_mistakes_are_told() {
    let world = World::new();
    let _daemon = world.daemon();
    world.bolide(&["watch", "add", ".", "--policy", "apply"]).succeeds();
    comes_to(&world, ".", "in-line");
    save(&world, &manifest("^1.0.0"));
    comes_to(&world, ".", "applied");
    assert_eq!(installed(&world).as_deref(), Some("1.0.0"));
    save(&world, &manifest("^2.0.0"));
    wait_until("the other version", || installed(&world).as_deref() == Some("2.0.0"));
    save(&world, "{ no json");
    let failed = comes_to(&world, ".", "failed");
    assert!(failed["message"].as_str().unwrap().contains("package.json"), "{failed}");
    assert_eq!(installed(&world).as_deref(), Some("2.0.0"));
    save(&world, &manifest("^9.0.0"));
    let conflict = comes_to(&world, ".", "conflict");
    assert!(conflict["message"].as_str().unwrap().contains("tree"), "{conflict}");
    assert!(metric(&world, "bolide_pkg_triggers_total{outcome=\"applied\"}") >= 2.0);
    assert_eq!(metric(&world, "bolide_pkg_watched_projects").to_string(), "1");
    // Everything that was done can be undone.
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(installed(&world).as_deref(), Some("1.0.0"));
}

#[test]
fn by_default_a_plan_is_made_and_nothing_is_touched() {
    let world = World::new();
    world.file("package.json", &manifest("^1.0.0"));
    let _daemon = world.daemon();
    world.bolide(&["watch", "add"]).succeeds();
    let planned = comes_to(&world, ".", "planned");
    assert_eq!(installed(&world), None);
    let digest = planned["digest"].as_str().unwrap();
    world.bolide(&["apply", digest]).fails(4, &["nobody has approved"]);
    world.bolide(&["apply", digest, "--yes"]).succeeds();
    assert_eq!(installed(&world).as_deref(), Some("1.0.0"));
    world.bolide(&["watch", "remove"]).succeeds();
    assert_eq!(last(&world, "."), Value::Null);
    world.bolide(&["watch", "remove"]).fails(2, &["not watched"]);
}

#[test]
fn many_projects_that_changed_while_nobody_watched_are_answered_at_the_next_start() {
    let world = World::new();
    let projects: Vec<PathBuf> =
        (0..6).map(|index| world.project().join(format!("member-{index}"))).collect();
    for project in &projects {
        std::fs::create_dir(project).unwrap();
        let project = project.to_str().unwrap();
        let said = world.bolide(&["watch", "add", project, "--policy", "approve"]).succeeds();
        assert!(said.stderr.contains("no daemon"), "{said:?}");
    }
    for project in &projects {
        std::fs::write(project.join("package.json"), manifest("^1.0.0")).unwrap();
    }
    let daemon = world.daemon();
    for project in &projects {
        let asked = comes_to(&world, project.to_str().unwrap(), "approval");
        assert!(asked["digest"].as_str().unwrap().starts_with("sha256:"), "{asked}");
        assert!(!project.join("node_modules").exists());
    }
    // A directory that goes and comes back, as a checkout does it, is the same project.
    let (project, away) = (&projects[0], world.place("away"));
    std::fs::rename(project, &away).unwrap();
    wait_until("it is missing", || last(&world, project.to_str().unwrap())["exists"] == false);
    std::fs::write(away.join("package.json"), manifest("^9.0.0")).unwrap();
    std::fs::rename(&away, project).unwrap();
    comes_to(&world, project.to_str().unwrap(), "conflict");
    drop(daemon);
}

/// A manifest beside the root that is watched with it, and what its change comes to.
#[test]
fn members_of_workspaces_and_included_files_are_watched_with_the_root() {
    let world = World::new();
    let root = r#"{"name": "root", "private": true, "workspaces": ["packages/*"]}"#;
    let member = |name: &str, tree: &str| {
        let text = manifest(tree).replace("here", name);
        world.file(&format!("packages/{name}/package.json"), &text);
    };
    let has = |path: &str, word: &str| {
        let text = std::fs::read_to_string(world.project().join(path));
        text.is_ok_and(|text| text.contains(word))
    };
    world.file("package.json", root);
    member("one", "^1.0.0");
    let daemon = world.daemon();
    world.bolide(&["watch", "add", ".", "--policy", "apply"]).succeeds();
    comes_to(&world, ".", "applied");
    let tree = "node_modules/tree/package.json";
    assert!(has(tree, "1.0.0"));
    // A member that was there, and one that comes.
    member("one", "^2.0.0");
    wait_until("what the member wants now", || has(tree, "2.0.0"));
    member("two", "^1.0.0");
    wait_until("the new member's own", || has(&format!("packages/two/{tree}"), "1.0.0"));
    // The daemon knows after its next start what it watches, and what changed meanwhile.
    drop(daemon);
    member("two", "^2.0.0");
    let _daemon = world.daemon();
    wait_until("one for both", || !world.project().join(format!("packages/two/{tree}")).exists());
    // One that could not be read is watched as well.
    world.file("packages/two/package.json", "{ no json");
    let failed = comes_to(&world, ".", "failed");
    assert!(failed["message"].as_str().unwrap().contains("packages/two"), "{failed}");
    member("two", "^1.0.0");
    wait_until("the member's own once more", || has(&format!("packages/two/{tree}"), "1.0.0"));
}

#[test]
fn files_that_requirements_include_are_watched_and_awaited() {
    let world = World::new();
    world.file("requirements.txt", "-r more/base.txt\n");
    let _daemon = world.daemon();
    world.bolide(&["watch", "add", ".", "--policy", "plan"]).succeeds();
    let failed = comes_to(&world, ".", "failed");
    assert!(failed["message"].as_str().unwrap().contains("not there"), "{failed}");
    world.file("more/base.txt", "stone\n");
    let planned = comes_to(&world, ".", "planned");
    world.file("more/base.txt", "stone\nwall\n");
    wait_until("another plan", || {
        let now = last(&world, ".");
        now["outcome"] == "planned" && now["digest"] != planned["digest"]
    });
}

#[test]
fn a_member_of_a_cargo_workspace_is_watched_with_its_root() {
    let world = World::new();
    world.file("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"parts/*\"]\n");
    let member = |grain: &str| {
        let text = format!(
            "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\ngrain = \"{grain}\"\n"
        );
        world.file("parts/one/Cargo.toml", &text);
        world.file("parts/one/src/lib.rs", "");
    };
    member("0.1");
    let _daemon = world.daemon();
    world.bolide(&["watch", "add", ".", "--policy", "approve"]).succeeds();
    let asked = comes_to(&world, ".", "approval");
    member("0.2");
    wait_until("another approval", || {
        let now = last(&world, ".");
        now["outcome"] == "approval" && now["digest"] != asked["digest"]
    });
}
