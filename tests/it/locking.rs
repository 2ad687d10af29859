//! `bolide.lock`: written with every change, followed by an installation, kept minimal by an update, and never believed.

use std::path::Path;

use serde_json::Value;

use super::packages::Npm;
use super::world::{Outcome, World};

const ALL: [&str; 3] = ["npm:tree@^1", "pypi:wall", "cargo:bread@1"];

fn add_all(world: &World) {
    let arguments: Vec<&str> =
        ["add"].iter().chain(&ALL).chain(["--yes"].iter()).copied().collect();
    world.bolide(&arguments).succeeds();
}

fn purls(list: &Value) -> Vec<String> {
    let packages = list["packages"].as_array().unwrap();
    packages.iter().map(|package| package["purl"].as_str().unwrap().to_owned()).collect()
}

fn listed(world: &World) -> Vec<String> {
    purls(&world.bolide(&["list", "--json"]).succeeds().json())
}

/// What is kept under version control.
const LOCKED_FILES: [&str; 6] =
    ["package.json", "requirements.txt", "Cargo.toml", "Cargo.lock", "bolide.lock", "src/lib.rs"];

/// What a colleague has after cloning: nothing else, on another machine.
fn clone_into(world: &World, other: &World) {
    for file in LOCKED_FILES {
        if world.project().join(file).exists() {
            other.file(file, &world.read(file));
        }
    }
}

fn judged(world: &World) {
    world.run("npm", &["ls", "--all"]).succeeds();
    world.run(".venv/bin/python", &["-m", "pip", "check"]).succeeds();
    let target = world.place("target").display().to_string();
    world
        .run("cargo", &["build", "--quiet", "--offline", "--locked", "--target-dir", &target])
        .succeeds();
}

#[test]
fn a_lock_is_written_with_the_change_and_goes_with_it() {
    let world = World::new();
    let before = world.tree();
    add_all(&world);
    let lock = world.read("bolide.lock");
    for word in
        ["pkg:npm/tree@1.0.0", "pkg:npm/leaf@1.1.0", "pkg:pypi/stone@1.5", "pkg:cargo/grain@0.1.5"]
    {
        assert!(lock.contains(word), "{word}: {lock}");
    }
    assert!(!lock.contains("127.0.0.1") && !lock.contains("http"), "no address is locked: {lock}");
    let again = world.bolide(&["add", "npm:tree@^1", "--yes", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "the same again changes nothing: {again}");
    world.bolide(&["remove", "pypi:wall", "--yes"]).succeeds();
    assert!(!world.read("bolide.lock").contains("pypi"));
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.read("bolide.lock"), lock);
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_clone_gets_what_was_locked_and_not_what_is_newest() {
    let author = World::new();
    author.file("src/lib.rs", "");
    add_all(&author);
    let world = World::new();
    clone_into(&author, &world);
    // Newer versions that the manifests would allow.
    let leaf = |version| Npm { name: "leaf", version, dependencies: &[] };
    world.registry.npm(&[leaf("1.1.0"), leaf("1.2.0")]);
    world.bolide(&["install", "--frozen"]).succeeds();
    assert_eq!(listed(&world), listed(&author));
    assert_eq!(world.read("bolide.lock"), author.read("bolide.lock"));
    judged(&world);
    let again = world.bolide(&["install", "--frozen", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "{again}");
}

#[test]
fn what_is_in_the_store_is_installed_without_any_registry() {
    let world = World::new();
    world.file("src/lib.rs", "");
    add_all(&world);
    let clone = world.place("clone");
    std::fs::create_dir_all(clone.join("src")).unwrap();
    for file in LOCKED_FILES {
        std::fs::copy(world.project().join(file), clone.join(file)).unwrap();
    }
    world.registry.fall_silent("/");
    let directory = clone.display().to_string();
    world.bolide(&["install", "--frozen", "--offline", "--dir", &directory]).succeeds();
    let list = world.bolide(&["list", "--json", "--dir", &directory]).succeeds().json();
    assert_eq!(purls(&list), listed(&world));
    for installed in ["node_modules/leaf/index.js", ".venv/bin/wall"] {
        assert!(clone.join(installed).exists(), "{installed}");
    }
    for file in LOCKED_FILES {
        let read = |directory: &Path| std::fs::read(directory.join(file)).unwrap();
        assert_eq!(read(&clone), read(&world.project()), "{file}");
    }
}

#[test]
fn frozen_fails_where_there_is_no_lock_or_another_wish() {
    let world = World::new();
    world.file("package.json", "{\"dependencies\": {\"leaf\": \"^1\"}}\n");
    let before = world.tree();
    world.bolide(&["install", "--frozen"]).fails(4, &["npm", "bolide.lock", "--frozen"]);
    assert_eq!(world.tree(), before);
    world.bolide(&["install"]).succeeds();
    world.bolide(&["install", "--frozen"]).succeeds();
    world.file("package.json", "{\"dependencies\": {\"leaf\": \"^2\"}}\n");
    world.bolide(&["install", "--frozen"]).fails(4, &["leaf@^2", "leaf@^1"]);
    world.bolide(&["install"]).succeeds();
    assert_eq!(listed(&world), ["pkg:npm/leaf@2.0.0"]);
    world.bolide(&["add", "npm:tree", "--frozen", "--yes"]).fails(2, &["--frozen"]);
    world.bolide(&["update", "--frozen", "--yes"]).fails(2, &["--frozen"]);
}

#[test]
fn frozen_holds_for_cargo_and_python_too() {
    let world = World::new();
    world.file("src/lib.rs", "");
    world.bolide(&["add", "pypi:stone<2", "cargo:grain@0.1", "--yes"]).succeeds();
    world.bolide(&["install", "--frozen"]).succeeds();
    let requirements = world.read("requirements.txt");
    world.file("requirements.txt", "stone>=2\n");
    world.bolide(&["install", "--frozen"]).fails(4, &["pypi", "stone>=2"]);
    world.file("requirements.txt", &requirements);
    let manifest = world.read("Cargo.toml").replace("0.1", "0.2");
    world.file("Cargo.toml", &manifest);
    world.bolide(&["install", "--frozen"]).fails(4, &["cargo"]);
}

#[test]
fn a_second_package_changes_nothing_that_is_locked_and_an_update_does() {
    let world = World::new();
    world
        .bolide(&["add", "npm:leaf@1.0.0", "pypi:stone==1.0", "cargo:grain@=0.1.0", "--yes"])
        .succeeds();
    for (file, from, to) in [
        ("package.json", "\"1.0.0\"", "\"^1.0.0\""),
        ("requirements.txt", "==1.0", ">=1.0"),
        ("Cargo.toml", "=0.1.0", "0.1"),
    ] {
        let text = world.read(file);
        assert!(text.contains(from), "{text}");
        world.file(file, &text.replace(from, to));
    }
    world.bolide(&["install"]).succeeds();
    let old = ["pkg:npm/leaf@1.0.0", "pkg:pypi/stone@1.0", "pkg:cargo/grain@0.1.0"];
    let check = |expected: &[&str], without: &[&str]| {
        let listed = listed(&world);
        assert!(expected.iter().all(|purl| listed.iter().any(|one| one == purl)), "{listed:?}");
        assert!(!without.iter().any(|purl| listed.iter().any(|one| one == purl)), "{listed:?}");
    };
    check(&old, &[]);
    add_all(&world);
    check(&old, &[]);
    let manifests = ["package.json", "requirements.txt", "Cargo.toml"].map(|file| world.read(file));
    world.bolide(&["update", "npm:leaf", "--yes"]).succeeds();
    check(&["pkg:npm/leaf@1.1.0", "pkg:pypi/stone@1.0", "pkg:cargo/grain@0.1.0"], &[]);
    world.bolide(&["update"]).fails(4, &["--yes"]);
    world.bolide(&["update", "--yes"]).succeeds();
    check(&["pkg:npm/leaf@1.1.0", "pkg:pypi/stone@1.5", "pkg:cargo/grain@0.1.5"], &old);
    let after = ["package.json", "requirements.txt", "Cargo.toml"].map(|file| world.read(file));
    assert_eq!(after, manifests, "an update stays within the manifests");
    world.bolide(&["update", "npm:nobody", "--yes"]).fails(2, &["nobody"]);
    world.bolide(&["update", "npm:leaf@2", "--yes"]).fails(2, &["bolide add"]);
}

/// An author's lock of one npm package, in another world.
fn cloned_leaf() -> World {
    let (author, world) = (World::new(), World::new());
    author.bolide(&["add", "npm:leaf@1.1", "--yes"]).succeeds();
    clone_into(&author, &world);
    world
}

#[test]
fn a_locked_npm_package_is_fetched_without_asking_what_versions_there_are() {
    let world = cloned_leaf();
    world.registry.spoil("/npm/leaf", |page| page.status = 500);
    world.bolide(&["install", "--frozen"]).succeeds();
    assert!(world.project().join("node_modules/leaf/index.js").exists());
}

#[test]
fn a_registry_is_asked_where_it_has_an_archive_that_is_not_where_others_have_it() {
    const USUAL: &str = "/npm/leaf/-/leaf-1.1.0.tgz";
    let spoiled: [fn(&World); 2] = [
        |world| world.registry.spoil(USUAL, |page| page.status = 404),
        |world| world.registry.spoil(USUAL, |page| page.body = b"something else".to_vec()),
    ];
    for spoil in spoiled {
        let world = cloned_leaf();
        let archive = world.registry.pages_under(USUAL).remove(0);
        world.registry.page("/npm/files/17", "application/octet-stream", archive);
        world.registry.spoil("/npm/leaf", |page| {
            let text = String::from_utf8(page.body.clone()).unwrap();
            page.body = text.replace(USUAL, "/npm/files/17").into_bytes();
        });
        spoil(&world);
        world.bolide(&["install", "--frozen"]).succeeds();
        assert!(world.project().join("node_modules/leaf/index.js").exists());
    }
    // Where it is nowhere, the registry's word on it is told.
    let world = cloned_leaf();
    world.registry.spoil(USUAL, |page| page.status = 404);
    let leaf = |version| Npm { name: "leaf", version, dependencies: &[] };
    world.registry.npm(&[leaf("1.2.0")]);
    world.bolide(&["install", "--frozen"]).fails(1, &["registry does not have it"]);
}

#[test]
fn a_locked_package_with_other_bytes_is_refused() {
    for (file, other) in
        [("/npm/leaf/-/leaf-1.1.0.tgz", "npm:leaf@1.1"), ("/files/stone-1.5", "pypi:stone<2")]
    {
        let author = World::new();
        author.bolide(&["add", other, "--yes"]).succeeds();
        let world = World::new();
        clone_into(&author, &world);
        let path = world.registry.paths(file).into_iter().find(|path| !path.ends_with(".metadata"));
        world.registry.spoil(&path.unwrap(), |page| page.body.push(0));
        let before = world.tree();
        world.bolide(&["install", "--frozen"]).fails(6, &["hash"]);
        assert_eq!(world.tree(), before);
        // A registry that says itself that it has other bytes is not even asked for them.
        let world = World::new();
        clone_into(&author, &world);
        let lock = world.read("bolide.lock");
        let at = lock.find("hashes = [\"sha").unwrap() + "hashes = [\"sha512:".len();
        let (digit, next) = if &lock[at..=at] == "0" { ("0", "1") } else { (&lock[at..=at], "0") };
        let changed = format!("{}{}{}", &lock[..at], next, &lock[at + digit.len()..]);
        world.file("bolide.lock", &changed);
        world.bolide(&["install", "--frozen"]).fails(6, &["other bytes"]);
    }
}

#[test]
fn a_damaged_lock_changes_nothing_and_says_where() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1", "--yes"]).succeeds();
    let lock = world.read("bolide.lock");
    for (from, to) in [
        ("node_modules/leaf", "node_modules/../../leaf"),
        ("version = 1", "version = 1\nurl = \"http://127.0.0.1:9\""),
        ("sha512:", "sha1:"),
    ] {
        world.file("bolide.lock", &lock.replace(from, to));
        let before = world.tree();
        world.bolide(&["install"]).fails(6, &["bolide.lock"]);
        world.bolide(&["add", "npm:tree", "--yes"]).fails(6, &["bolide.lock"]);
        assert_eq!(world.tree(), before);
    }
    world.file("bolide.lock", &lock.replace("version = 1", "version = 7"));
    world.bolide(&["install"]).fails(1, &["version 7"]);
}

#[test]
fn a_plan_is_stale_once_the_lock_was_edited() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1", "--yes"]).succeeds();
    let plan = world.bolide(&["plan", "npm:tree@1", "--json"]).succeeds().json();
    world.file("bolide.lock", &format!("{}\n", world.read("bolide.lock")));
    let digest = plan["digest"].as_str().unwrap();
    world.bolide(&["apply", digest, "--yes"]).fails(4, &["bolide.lock"]);
}

/// Locks the world's project with npm itself and takes its `node_modules` away.
fn npm_locks(world: &World) {
    world.run("npm", &["install", "--ignore-scripts", "--no-audit", "--no-fund"]).succeeds();
    std::fs::remove_dir_all(world.project().join("node_modules")).unwrap();
}

#[test]
fn what_npm_locked_is_taken_over_and_its_addresses_are_not() {
    let world = World::new();
    let all = [Npm { name: "leaf", version: "1.0.0", dependencies: &[] }];
    world.registry.npm(&all);
    world.file("package.json", "{\"dependencies\": {\"tree\": \"^1\"}}\n");
    npm_locks(&world);
    let foreign = world.read("package-lock.json");
    let fresh = World::new();
    fresh.file("package.json", &world.read("package.json"));
    // As somebody would write it who wants to be asked for the bytes.
    let trojan = foreign.replace(&world.registry.address, "127.0.0.1:9");
    fresh.file("package-lock.json", &trojan);
    fresh.bolide(&["install"]).succeeds();
    let leaf = listed(&fresh).into_iter().find(|purl| purl.contains("leaf"));
    assert_eq!(leaf.as_deref(), Some("pkg:npm/leaf@1.0.0"), "locked, not newest");
    assert_eq!(fresh.read("package-lock.json"), trojan);
    // Other bytes under the same name: one of the two lies.
    let other = World::new();
    other.file("package.json", &world.read("package.json"));
    let at = trojan.find("sha512-").unwrap() + 7;
    let evil = format!(
        "{}{}{}",
        &trojan[..at],
        if &trojan[at..=at] == "A" { "B" } else { "A" },
        &trojan[at + 1..]
    );
    other.file("package-lock.json", &evil);
    other.bolide(&["install"]).fails(6, &["package-lock.json", "hash"]);
}

#[test]
fn a_cargo_lock_is_followed_and_its_digests_hold() {
    let world = World::new();
    world.file("src/lib.rs", "");
    world.bolide(&["add", "cargo:grain@=0.1.0", "--yes"]).succeeds();
    let other = World::new();
    other.file("src/lib.rs", "");
    other.file("Cargo.toml", &world.read("Cargo.toml").replace("=0.1.0", "0.1"));
    other.file("Cargo.lock", &world.read("Cargo.lock"));
    other.bolide(&["install"]).succeeds();
    assert_eq!(listed(&other), ["pkg:cargo/grain@0.1.0"]);
    let lock = other.read("Cargo.lock");
    let at = lock.find("checksum = \"").unwrap() + 12;
    let evil = format!(
        "{}{}{}",
        &lock[..at],
        if &lock[at..=at] == "0" { "1" } else { "0" },
        &lock[at + 1..]
    );
    other.file("Cargo.lock", &evil);
    other.bolide(&["install"]).fails(6, &["Cargo.lock", "hash"]);
}

#[test]
fn what_uv_and_pip_locked_is_preferred() {
    let world = World::new();
    let project = "[project]\nname = \"demo\"\nversion = \"0.1.0\"\ndependencies = [\"stone\"]\n";
    world.file("pyproject.toml", project);
    world.file("requirements.txt", "stone==1.0\n");
    world.bolide(&["install"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/stone@1.0"]);
    let world = World::new();
    world.file("pyproject.toml", project);
    world.file("uv.lock", "version = 1\n\n[[package]]\nname = \"stone\"\nversion = \"1.5\"\nsource = { registry = \"http://127.0.0.1:9/\" }\nwheels = [{ url = \"http://127.0.0.1:9/stone-1.5-py3-none-any.whl\" }]\n");
    world.bolide(&["install"]).fails(3, &["uv.lock", "--take-over"]);
    world.bolide(&["install", "--take-over"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/stone@1.5"]);
    // Taken over once, it is ours.
    world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
}

#[test]
fn over_the_bus_an_installation_and_an_update_are_the_same() {
    let world = World::new();
    let _daemon = world.daemon();
    world.bolide(&["add", "npm:leaf@1.0.0", "--yes"]).succeeds();
    world.file("package.json", &world.read("package.json").replace("1.0.0", "^1"));
    world.bolide(&["install"]).succeeds();
    assert_eq!(listed(&world), ["pkg:npm/leaf@1.0.0"]);
    world.bolide(&["update", "--yes"]).succeeds();
    assert_eq!(listed(&world), ["pkg:npm/leaf@1.1.0"]);
    let operations = operations(&world.bolide(&["history", "--json"]).succeeds());
    assert_eq!(operations, ["update", "install", "add"]);
}

fn operations(history: &Outcome) -> Vec<String> {
    let history = history.json();
    let entries = history["transactions"].as_array().unwrap();
    entries.iter().map(|entry| entry["operation"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_empty_directory_has_nothing_to_install() {
    let world = World::new();
    world.bolide(&["install"]).fails(2, &["package.json"]);
    world.bolide(&["update", "--yes"]).fails(2, &["package.json"]);
    assert!(!Path::new(&world.project().join("bolide.lock")).exists());
}
