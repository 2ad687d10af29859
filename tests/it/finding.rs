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
    for path in ["file:./x.tgz", "./x.tgz", "../x.tgz", "x.tgz"] {
        deep(&["add", &format!("npm:x@{path}"), "--yes"]).fails(2, &["counts from the project"]);
    }
    let address = "npm:x@https://127.0.0.1:1/file:x.tgz";
    let refused = deep(&["add", address, "--yes"]);
    assert!(!refused.stderr.contains("counts from"), "{refused:#?}");
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
fn a_plan_of_a_member_of_two_workspaces_finds_its_own() {
    let world = World::new();
    workspace(&world);
    world.file("packages/Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"a\"]\n");
    let manifest = "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    world.file("packages/a/Cargo.toml", manifest);
    world.file("packages/a/src/lib.rs", "");
    let member = |arguments: &[&str]| in_directory(&world, "packages/a", arguments);
    for (package, root, made) in [
        ("npm:tree", "", "node_modules/tree"),
        ("cargo:grain", "packages", "Cargo.lock"),
        ("pypi:wall", "packages/a", ".venv"),
    ] {
        let plan = member(&["plan", package, "--json"]).succeeds().json();
        let applied = member(&["apply", plan["digest"].as_str().unwrap(), "--yes"]).succeeds();
        let root = world.project().join(root).canonicalize().unwrap();
        let told = applied.stderr.contains(&format!("project: {}\n", root.display()));
        assert_eq!(told, !root.ends_with("packages/a"), "{package}: {applied:#?}");
        assert!(root.join(made).exists(), "{package}: {applied:#?}");
    }
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
fn what_stands_decides_what_a_rollback_without_a_name_is_about() {
    let world = World::new();
    workspace(&world);
    let member = |arguments: &[&str]| in_directory(&world, "packages/a", arguments);
    let newest = |at: &str| {
        let history = in_directory(&world, at, &["history", "--json"]).succeeds().json();
        history["transactions"][0]["transaction"].as_str().unwrap().to_owned()
    };
    member(&["add", "pypi:wall", "--yes"]).succeeds();
    let wall = newest("packages/a");
    member(&["add", "npm:tree", "--yes"]).succeeds();
    let tree = newest("");
    member(&["add", "pypi:stone", "--yes"]).succeeds();
    member(&["rollback"]).succeeds();
    // The rollback is the newest of all, and what was done at the root is the next.
    let unclear = member(&["rollback"]);
    let hints = [&*format!("bolide rollback {tree}"), &*format!("bolide rollback {wall}")];
    unclear.fails(2, &["not clear", hints[0], hints[1]]);
    // The hint leads on, from where it was given.
    let undone = member(&["rollback", &tree]).succeeds();
    assert!(undone.stderr.contains("project: "), "{undone:#?}");
    // Nothing stands at the root any more. Without a lock, the record is looked for where it is.
    std::fs::remove_file(world.project().join("packages/a/bolide.lock")).unwrap();
    let refused = member(&["rollback", &wall]);
    assert!(!refused.stderr.contains("not a transaction"), "{refused:#?}");
    member(&["rollback", "--force"]).succeeds();
    assert!(!world.project().join("packages/a/.venv").exists());
    let all = member(&["history", "--all"]).succeeds();
    assert!(all.stdout.contains("packages/a  "), "{all:#?}");
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
    // What only configures tools asks for nothing.
    world.file("packages/leaf/pyproject.toml", "[tool.ruff]\nline-length = 100\n");
    in_directory(&world, "packages/leaf", &["install"]).succeeds();
    assert!(world.project().join("node_modules/leaf").exists());
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
    // Whoever has the place may have put the workspace there.
    if rustix::process::geteuid().is_root() {
        let root = world.project();
        for path in [root.clone(), root.join("package.json"), root.join("packages/a")] {
            std::os::unix::fs::chown(path, Some(1), None).unwrap();
        }
        member(&["plan", "--install"]).fails(2, &["member of the npm workspace"]);
        std::os::unix::fs::chown(root.join("package.json"), Some(2), None).unwrap();
        let alone = member(&["plan", "--install"]);
        assert!(!alone.stderr.contains("member of"), "a stranger's says nothing: {alone:#?}");
        // Where not everybody may write, whoever may is believed.
        let shared = std::fs::Permissions::from_mode(0o775);
        std::fs::set_permissions(&root, shared).unwrap();
        member(&["plan", "--install"]).fails(2, &["member of the npm workspace"]);
    }
}

#[test]
fn a_project_that_others_could_have_made_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.file("package.json", "{}");
    world.file("new/notes", "");
    let everybody = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(world.project(), everybody).unwrap();
    let added = in_directory(&world, "new", &["add", "npm:leaf", "--yes"]).succeeds();
    assert!(added.stderr.contains("left alone"), "{added:#?}");
    assert_eq!(world.read("package.json"), "{}");
    assert!(world.project().join("new/package.json").is_file());
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
