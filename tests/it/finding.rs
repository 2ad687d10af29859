//! Which project a command is about: from a directory below it, from a member of a workspace, and where nothing may be found.

use super::world::{Outcome, World, bolide_program};

/// Runs `bolide` in a directory of the project.
fn in_directory(world: &World, place: &str, arguments: &[&str]) -> Outcome {
    let mut command = world.command(bolide_program());
    Outcome::of(command.current_dir(world.project().join(place)).args(arguments))
}

/// An npm workspace of `a`, which wants the workspace's own `leaf` and a tree of the registry, and of that `leaf`: the registry
/// has a stranger's of the same name.
fn workspace(world: &World) {
    world
        .file("package.json", r#"{"name": "root", "private": true, "workspaces": ["packages/*"]}"#);
    let a = "{\n  \"name\": \"a\",\n  \"version\": \"1.0.0\",\n  \"dependencies\": {\n    \"leaf\": \"*\"\n  }\n}\n";
    world.file("packages/a/package.json", a);
    world.file("packages/a/src/index.js", "module.exports = require('leaf')\n");
    world.file("packages/leaf/package.json", r#"{"name": "leaf", "version": "1.0.0"}"#);
    world.file("packages/leaf/index.js", "module.exports = 'our own'\n");
}

#[test]
fn a_project_is_found_from_the_directories_below_it() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1.0.0", "--yes"]).succeeds();
    world.file("sub/deep/notes", "");
    let deep = |arguments: &[&str]| in_directory(&world, "sub/deep", arguments);
    let root = world.project().canonicalize().unwrap();
    let told = format!("project: {}\n", root.display());
    let list = deep(&["list"]).succeeds();
    assert!(list.stdout.contains("leaf"), "{list:#?}");
    assert_eq!(list.stderr.matches(&told).count(), 1, "{list:#?}");
    let list = deep(&["list", "--json"]).succeeds();
    assert_eq!(list.stderr, "", "{list:#?}");
    deep(&["why", "npm:leaf"]).succeeds();
    deep(&["verify"]).succeeds();
    deep(&["outdated"]).succeeds();
    deep(&["install"]).succeeds();
    deep(&["hold", "npm:leaf"]).succeeds();
    deep(&["unhold", "npm:leaf"]).succeeds();
    let before = world.tree();
    deep(&["add", "npm:tree@1", "--yes"]).succeeds();
    assert!(world.read("package.json").contains("tree"));
    assert!(!world.project().join("sub/deep/package.json").exists());
    assert!(world.bolide(&["history"]).succeeds().stdout.contains("tree"));
    deep(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
    deep(&["add", "npm:x@file:./x-1.0.0.tgz", "--yes"]).fails(2, &["counts from the project"]);
    // A directory that is named is a beginning, too.
    let list = world.bolide(&["list", "--dir", "sub/deep"]).succeeds();
    assert!(list.stdout.contains("leaf") && list.stderr.contains(&told), "{list:#?}");
    assert_eq!(world.bolide(&["list"]).succeeds().stderr, "");
}

#[test]
fn a_member_of_an_npm_workspace_gets_the_workspaces_own_packages() {
    let world = World::new();
    workspace(&world);
    let before = world.tree();
    let member = |arguments: &[&str]| in_directory(&world, "packages/a", arguments);
    let plan = member(&["plan", "--install"]).succeeds();
    assert!(!plan.stdout.contains("pkg:npm/leaf"), "the stranger's package: {plan:#?}");
    member(&["add", "npm:tree@^1", "--yes"]).succeeds();
    let manifest = world.read("packages/a/package.json");
    assert!(
        manifest.contains("\"tree\": \"^1\"") && manifest.contains("\"leaf\": \"*\""),
        "{manifest}"
    );
    assert!(!world.read("package.json").contains("tree"));
    assert!(!world.project().join("packages/a/bolide.lock").exists());
    let own = in_directory(&world, "packages/a/src", &["list"]).succeeds();
    assert!(own.stdout.contains("tree"), "{own:#?}");
    let node = world.run("node", &["-p", "require('./packages/a/src')"]).succeeds();
    assert_eq!(node.stdout.trim(), "our own");
    world.run("npm", &["ls", "--all"]).succeeds();
    member(&["why", "npm:tree"]).succeeds();
    member(&["remove", "npm:tree", "--yes"]).succeeds();
    assert!(!world.read("packages/a/package.json").contains("tree"));
    member(&["remove", "npm:tree", "--yes"]).fails(2, &["packages/a/package.json"]);
    member(&["rollback"]).succeeds();
    member(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
    member(&["add", "npm:tree", "pypi:stone", "--yes"]).fails(2, &["member", "of its own"]);
    // Whoever names no version gets the caret range of the one that was taken, as at the root.
    member(&["add", "npm:tree", "--yes"]).succeeds();
    let manifest = world.read("packages/a/package.json");
    assert!(manifest.contains("\"tree\": \"^2.0.0\""), "{manifest}");
}

#[test]
fn a_member_of_a_cargo_workspace_knows_what_was_done_at_its_root() {
    let world = World::new();
    world.file("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"parts/*\"]\n");
    let manifest = "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    world.file("parts/one/Cargo.toml", manifest);
    world.file("parts/one/src/lib.rs", "");
    let before = world.tree();
    let source = |arguments: &[&str]| in_directory(&world, "parts/one/src", arguments);
    source(&["add", "cargo:grain", "--yes"]).succeeds();
    assert!(world.read("parts/one/Cargo.toml").contains("grain"));
    assert!(!world.project().join("parts/one/src/Cargo.toml").exists());
    let list = source(&["list"]).succeeds();
    assert!(list.stdout.contains("grain"), "{list:#?}");
    source(&["why", "cargo:grain"]).succeeds();
    source(&["install"]).succeeds();
    source(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_plan_is_applied_where_it_was_made_and_once() {
    let world = World::new();
    workspace(&world);
    // Python packages of an npm member are the member's own.
    let member = |arguments: &[&str]| in_directory(&world, "packages/a", arguments);
    let plan = member(&["plan", "pypi:wall", "--json"]).succeeds().json();
    let digest = plan["digest"].as_str().unwrap();
    member(&["apply", digest, "--yes"]).succeeds();
    assert!(world.project().join("packages/a/.venv").exists());
    let list = member(&["list"]).succeeds();
    assert!(list.stdout.contains("wall"), "{list:#?}");
    let history = member(&["history", "--json"]).succeeds().json();
    let transaction = history["transactions"][0]["transaction"].as_str().unwrap();
    let again = member(&["apply", digest, "--yes"]);
    again.fails(4, &[&format!("was applied as {transaction}")]);
    member(&["rollback"]).succeeds();
    assert!(!member(&["apply", digest, "--yes"]).stderr.contains("was applied as"));
}

#[test]
fn a_rollback_without_a_name_never_goes_on_in_another_project() {
    let world = World::new();
    workspace(&world);
    let member = |arguments: &[&str]| in_directory(&world, "packages/a", arguments);
    world.bolide(&["add", "npm:tree", "--yes"]).succeeds();
    member(&["add", "pypi:wall", "--yes"]).succeeds();
    let at_root = world.read("package.json");
    member(&["rollback"]).succeeds();
    member(&["rollback"]).fails(2, &["not clear", "packages/a"]);
    assert_eq!(world.read("package.json"), at_root);
    // What was done last was done at the root.
    member(&["add", "pypi:wall", "--yes"]).succeeds();
    world.bolide(&["add", "npm:leaf", "--yes"]).succeeds();
    member(&["rollback"]).fails(2, &["not clear"]);
    let history = member(&["history", "--json"]).succeeds().json();
    let wall = history["transactions"][0]["transaction"].as_str().unwrap();
    member(&["rollback", wall, "--yes"]).succeeds();
    assert!(!world.project().join("packages/a/.venv").exists());
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.read("package.json"), at_root);
}

#[test]
fn python_packages_of_a_member_are_installed_there() {
    let world = World::new();
    workspace(&world);
    let member = |arguments: &[&str]| in_directory(&world, "packages/a", arguments);
    member(&["add", "pypi:wall", "--yes"]).succeeds();
    std::fs::remove_dir_all(world.project().join("packages/a/.venv")).unwrap();
    let installed = member(&["install"]).succeeds();
    assert!(installed.stdout.contains("workspace"), "{installed:#?}");
    assert!(world.project().join("packages/a/.venv").exists());
    assert!(!world.project().join("packages/a/node_modules").exists());
}

#[test]
fn a_member_is_refused_also_where_others_may_write_above_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    workspace(&world);
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(world.project(), everybody).unwrap();
    let member = |arguments: &[&str]| in_directory(&world, "packages/a", arguments);
    member(&["plan", "--install"]).fails(2, &["member of the npm workspace"]);
    member(&["add", "npm:tree", "--yes"]).fails(2, &["member of the npm workspace"]);
}

#[test]
fn a_crate_has_one_spelling() {
    let world = World::new();
    world.bolide(&["plan", "cargo:Grain@0.1"]).fails(1, &["did you mean `grain`?"]);
    world.bolide(&["add", "cargo:GRAIN", "--yes"]).fails(1, &["did you mean `grain`?"]);
}

#[test]
fn a_change_that_cannot_be_told_on_stdout_is_told_on_stderr() {
    let world = World::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = world.command(bolide_program());
    let child = command
        .args(["add", "npm:leaf", "--yes"])
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let history = world.bolide(&["history", "--json"]).succeeds().json();
    let transaction = history["transactions"][0]["transaction"].as_str().unwrap();
    assert!(said.contains(&format!("{transaction} was carried out")), "{said}");
}
