//! `bolide hold` and `bolide unhold`: what is held stays through updates and installations, says so, and is given back by a rollback.

use serde_json::Value;

use super::world::{Outcome, World};

/// A project of three ecosystems, each with an older version of a package than its manifest allows.
fn furnished() -> World {
    let world = World::new();
    world.file("package.json", "{\"dependencies\": {\"leaf\": \"^1.0.0\"}}\n");
    world.file("requirements.txt", "stone>=1\n");
    world.file("src/lib.rs", "");
    let manifest = "[package]\nname = \"demo\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n\
                    [dependencies]\ngrain = \"0.1\"\n";
    world.file("Cargo.toml", manifest);
    world.bolide(&["install", "--resolution", "lowest"]).succeeds();
    assert_eq!(listed(&world), ["cargo/grain@0.1.0", "npm/leaf@1.0.0", "pypi/stone@1.0"]);
    world
}

/// What is installed, sorted.
fn listed(world: &World) -> Vec<String> {
    let list = world.bolide(&["list", "--json"]).succeeds().json();
    let packages = list["packages"].as_array().unwrap();
    let text = |package: &Value| package["purl"].as_str().unwrap()["pkg:".len()..].to_owned();
    let mut purls: Vec<String> = packages.iter().map(text).collect();
    purls.sort();
    purls
}

fn update(world: &World) -> Outcome {
    world.bolide(&["update", "--yes"])
}

const ALL: [&str; 3] = ["npm:leaf", "pypi:stone", "cargo:grain"];

fn with<'a>(verb: &'a str, packages: &[&'a str]) -> Vec<&'a str> {
    [&[verb], packages].concat()
}

#[test]
fn an_update_leaves_what_is_held_until_it_is_let_go() {
    let world = furnished();
    let before = world.tree();
    let held = world.bolide(&with("hold", &ALL)).succeeds();
    for words in ["npm:leaf is held at 1.0.0", "pypi:stone is held at 1.0", "cargo:grain is held"] {
        assert!(held.stdout.contains(words), "{held:#?}");
    }
    let again = world.bolide(&["hold", "npm:leaf", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "the same again changes nothing: {again}");
    update(&world).succeeds();
    assert_eq!(listed(&world), ["cargo/grain@0.1.0", "npm/leaf@1.0.0", "pypi/stone@1.0"]);
    let list = world.bolide(&["list"]).succeeds().stdout;
    assert_eq!(list.matches("(held)").count(), 3, "{list}");
    let outdated = world.bolide(&["outdated", "--json"]).succeeds().json();
    let packages = outdated["packages"].as_array().unwrap();
    assert!(packages.len() == 3 && packages.iter().all(|it| it["held"] == true), "{outdated}");
    world.bolide(&with("unhold", &["npm:leaf"])).succeeds();
    update(&world).succeeds();
    assert_eq!(listed(&world), ["cargo/grain@0.1.0", "npm/leaf@1.1.0", "pypi/stone@1.0"]);
    let history = world.bolide(&["history"]).succeeds().stdout;
    for words in ["held npm:leaf at 1.0.0, pypi:stone at 1.0", "no longer held: npm:leaf"] {
        assert!(history.contains(words), "{history}");
    }
    // All of it is taken back: the update, the end of one hold, and the holds.
    for _ in 0..3 {
        world.bolide(&["rollback"]).succeeds();
    }
    assert_eq!(world.tree(), before);
    assert!(world.bolide(&["hold"]).succeeds().stdout.contains("nothing is held"));
    update(&world).succeeds();
    assert_eq!(listed(&world), ["cargo/grain@0.1.5", "npm/leaf@1.1.0", "pypi/stone@2.0"]);
}

#[test]
fn who_names_what_is_held_is_told_so_and_nothing_changes() {
    let world = furnished();
    let _daemon = world.daemon();
    world.bolide(&with("hold", &ALL)).succeeds();
    let before = world.tree();
    for package in ALL {
        let hint = format!("bolide unhold {package}");
        let words = [package, "is held at", &hint];
        world.bolide(&["update", package, "--yes"]).fails(5, &words);
        world.bolide(&["remove", package, "--yes"]).fails(5, &words);
    }
    for (wanted, package) in [("npm:leaf@2", "npm:leaf"), ("pypi:tower", "pypi:stone")] {
        let hint = format!("bolide unhold {package}");
        let add = ["add", wanted, "--yes"];
        world.bolide(&add).fails(5, &[package, "is held at 1.0", "2.0", &hint]);
        let plan = world.bolide(&["plan", wanted, "--json"]);
        plan.fails(5, &[]);
        let conflict = &plan.json()["conflict"];
        assert!(conflict["explanation"].as_str().unwrap().contains("held at"), "{conflict}");
        assert!(conflict["repairs"][0]["description"].as_str().unwrap().contains(&hint));
    }
    assert_eq!(world.tree(), before);
    // With the bus and without it the same is held.
    let over =
        |more: &[&str]| world.bolide(&[&["hold", "--json"], more].concat()).json()["holds"].clone();
    assert_eq!(over(&[]), over(&["--standalone"]));
}

#[test]
fn another_major_version_may_stand_beside_what_is_held() {
    let world = furnished();
    world.bolide(&with("hold", &["npm:leaf"])).succeeds();
    world.bolide(&["add", "npm:tree@2", "--yes"]).succeeds();
    let node = world.run("node", &["-p", "require('leaf') + ' ' + require('tree')"]).succeeds();
    assert_eq!(node.stdout.trim(), "1.0.0 2.0.0");
    let beside = world.read("node_modules/tree/node_modules/leaf/package.json");
    assert!(beside.contains("2.0.0"), "{beside}");
    world.run("npm", &["ls", "--all"]).succeeds();
}

#[test]
fn what_is_held_here_does_not_follow_a_lock_that_says_otherwise() {
    let world = furnished();
    world.bolide(&with("hold", &["npm:leaf"])).succeeds();
    let author = World::new();
    for file in ["package.json", "requirements.txt", "Cargo.toml", "src/lib.rs"] {
        author.file(file, &world.read(file));
    }
    author.bolide(&["install"]).succeeds();
    world.file("bolide.lock", &author.read("bolide.lock"));
    world.bolide(&["install", "--frozen"]).fails(5, &["npm:leaf", "held at 1.0.0", "unhold"]);
    let said = world.bolide(&["install"]).succeeds();
    assert!(
        said.stdout.contains("is held at 1.0.0, so `bolide.lock` is not followed"),
        "{said:#?}"
    );
    assert!(listed(&world).contains(&"npm/leaf@1.0.0".to_owned()));
    assert!(listed(&world).contains(&"pypi/stone@2.0".to_owned()), "the rest follows the lock");
}

#[test]
fn a_plan_from_before_the_hold_is_not_carried_out() {
    let world = furnished();
    let plan = world.bolide(&["plan", "--update", "--json"]).succeeds().json();
    world.bolide(&with("hold", &["pypi:stone"])).succeeds();
    let before = world.tree();
    let digest = plan["digest"].as_str().unwrap();
    world.bolide(&["apply", digest, "--yes"]).fails(4, &["pypi:stone", "held at 1.0"]);
    assert_eq!(world.tree(), before);
}

#[test]
fn what_is_no_package_here_or_not_ours_to_hold_is_said() {
    let world = furnished();
    world.bolide(&["hold", "npm:tree"]).fails(2, &["npm:tree", "not used here"]);
    world.bolide(&["hold", "npm:leaf@1"]).fails(2, &["more than a package"]);
    world.bolide(&["unhold", "npm:leaf"]).fails(2, &["not held"]);
    world.bolide(&["hold", "deb:curl"]).fails(2, &["apt-mark hold curl"]);
    let package = |name: &str, want: &str| {
        format!(
            "Package: {name}\nStatus: {want} ok installed\nArchitecture: amd64\nVersion: 1.0-1\n\n"
        )
    };
    let status = package("dpkg", "install") + &package("curl", "hold");
    world.file("debian/var/lib/dpkg/status", &status);
    let mut command = world.command(super::world::bolide_program());
    command.env("DPKG_ROOT", world.project().join("debian")).args(["hold", "--json"]);
    let holds = Outcome::of(&mut command).succeeds().json()["holds"].clone();
    let held = &holds[0];
    assert_eq!((&held["package"], &held["by"]), (&"deb:curl".into(), &"apt".into()), "{holds}");
    assert_eq!((&held["versions"][0], holds.as_array().unwrap().len()), (&"1.0-1".into(), 1));
}

#[test]
fn of_several_versions_that_are_held_the_project_keeps_its_own() {
    let world = World::new();
    world.file("package.json", "{\"dependencies\": {\"leaf\": \"1.0.0\"}}\n");
    world.bolide(&["install"]).succeeds();
    world.bolide(&["add", "npm:tree@2", "--yes"]).succeeds();
    assert_eq!(listed(&world), ["npm/leaf@1.0.0", "npm/leaf@2.0.0", "npm/tree@2.0.0"]);
    world.bolide(&["hold", "npm:leaf"]).succeeds();
    let before = world.tree();
    let hint = "bolide unhold npm:leaf";
    let words = ["held at 1.0.0 and 2.0.0", "the project itself at 1.0.0", hint];
    world.bolide(&["add", "npm:leaf@2.0.0", "--yes"]).fails(5, &words);
    assert_eq!(world.tree(), before);
    world.bolide(&["update", "--yes"]).succeeds();
    assert_eq!(listed(&world), ["npm/leaf@1.0.0", "npm/leaf@2.0.0", "npm/tree@2.0.0"]);
    world.bolide(&["unhold", "npm:leaf"]).succeeds();
    world.bolide(&["add", "npm:leaf@2.0.0", "--yes"]).succeeds();
    assert_eq!(listed(&world), ["npm/leaf@2.0.0", "npm/tree@2.0.0"]);
}
