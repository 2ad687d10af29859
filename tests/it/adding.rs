//! Adding packages, using them with the ecosystems' own tools, and going back.

use super::world::World;

const ALL: [&str; 3] = ["npm:tree@^1", "pypi:wall", "cargo:bread@1"];

fn add_all(world: &World, extra: &[&str]) {
    let arguments: Vec<&str> =
        ["add"].iter().chain(&ALL).chain(["--yes"].iter()).chain(extra).copied().collect();
    world.bolide(&arguments).succeeds();
}

fn all_tools_agree(world: &World) {
    let node = world.run("node", &["-p", "require('tree') + ' ' + require('leaf')"]).succeeds();
    assert_eq!(node.stdout.trim(), "1.0.0 1.1.0");
    world.run("node_modules/.bin/tree", &[]).succeeds();
    world.run("npm", &["ls", "--all"]).succeeds();
    world.run(".venv/bin/python", &["-m", "pip", "check"]).succeeds();
    let script = world.run(".venv/bin/wall", &[]).succeeds();
    assert_eq!(script.stdout.trim(), "1.0");
    world.file("src/main.rs", "fn main() { print!(\"{}\", bread::VERSION); }\n");
    let target = world.place("target").display().to_string();
    let cargo = world
        .run("cargo", &["run", "--quiet", "--offline", "--locked", "--target-dir", &target])
        .succeeds();
    assert_eq!(cargo.stdout, "1.0.0");
    std::fs::remove_file(world.project().join("src/main.rs")).unwrap();
}

#[test]
fn three_ecosystems_are_one_transaction_and_a_rollback_restores_every_byte() {
    let world = World::new();
    world.file("package.json", "{\n    \"name\": \"demo\",\n    \"private\": true\n}\n");
    world.file("requirements.txt", "# tools\n");
    let before = world.tree();
    add_all(&world, &[]);
    all_tools_agree(&world);
    assert!(world.read("package.json").starts_with("{\n    \"name\": \"demo\",\n"));
    assert!(world.read("requirements.txt").starts_with("# tools\n"));
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
    let history = world.bolide(&["history", "--json"]).succeeds().json();
    let operations: Vec<&str> = history["transactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["operation"].as_str().unwrap())
        .collect();
    assert_eq!(operations, ["rollback", "add"]);
}

#[test]
fn an_empty_directory_becomes_a_project_and_empty_again() {
    let world = World::new();
    let before = world.tree();
    add_all(&world, &[]);
    all_tools_agree(&world);
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn the_daemon_gives_the_same_answers_and_survives_its_own_restart() {
    let world = World::new();
    let plan = |extra: &[&str]| {
        let arguments: Vec<&str> =
            ["plan", "--json"].iter().chain(&ALL).chain(extra).copied().collect();
        let mut plan = world.bolide(&arguments).succeeds().json();
        for varying in ["digest", "expires_at", "resolve_ms"] {
            plan[varying].take();
        }
        plan
    };
    let before = world.tree();
    let alone = plan(&["--standalone"]);
    let daemon = world.daemon();
    assert_eq!(plan(&[]), alone);
    add_all(&world, &[]);
    drop(daemon);
    all_tools_agree(&world);
    let _daemon = world.daemon();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn removing_a_package_removes_what_only_it_needed() {
    let world = World::new();
    add_all(&world, &[]);
    world.bolide(&["remove", "npm:tree", "--yes"]).succeeds();
    assert!(!world.project().join("node_modules/leaf").exists());
    assert!(!world.read("package.json").contains("tree"));
    let list = world.bolide(&["list", "--json"]).succeeds().json();
    let purls: Vec<&str> =
        list["packages"].as_array().unwrap().iter().map(|p| p["purl"].as_str().unwrap()).collect();
    assert!(purls.contains(&"pkg:pypi/wall@1.0") && !purls.iter().any(|purl| purl.contains("npm")));
}

#[test]
fn a_second_change_keeps_what_was_installed() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1.0.0", "pypi:stone==1.0", "--yes"]).succeeds();
    let first = world.tree();
    world.bolide(&["add", "npm:tree@1", "pypi:wall", "--yes"]).succeeds();
    let node = world.run("node", &["-p", "require('leaf')"]).succeeds();
    assert_eq!(node.stdout.trim(), "1.0.0");
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), first);
}

#[test]
fn a_plan_is_applied_only_with_approval_and_only_while_it_fits() {
    let world = World::new();
    let before = world.tree();
    let plan = world.bolide(&["plan", "npm:leaf", "--json"]).succeeds().json();
    assert_eq!(world.tree(), before, "planning changes nothing");
    let digest = plan["digest"].as_str().unwrap().to_owned();
    world.bolide(&["apply", &digest]).fails(4, &["approv"]);
    world.bolide(&["add", "npm:leaf"]).fails(4, &["bolide apply", "--yes"]);
    assert_eq!(world.tree(), before);
    world.file("package.json", "{}\n");
    world.bolide(&["apply", &digest, "--yes"]).fails(4, &["package.json"]);
    let digest = world.bolide(&["plan", "npm:leaf", "--json"]).succeeds().json()["digest"].take();
    world.bolide(&["apply", digest.as_str().unwrap(), "--yes"]).succeeds();
    assert!(world.project().join("node_modules/leaf/index.js").exists());
}
