//! `bolide verify` as people and scripts see it: what it says, with which exit code, and what a repair brings back.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::world::{World, tree};

/// A project of three ecosystems.
fn furnished() -> World {
    let world = World::new();
    world.bolide(&["add", "npm:tree@1", "pypi:wall", "cargo:bread@1", "--yes"]).succeeds();
    world
}

#[test]
fn what_differs_ends_with_six_and_a_repair_brings_it_back() {
    let world = furnished();
    let sound = world.bolide(&["verify"]).succeeds();
    assert!(
        sound.stdout.contains("node_modules: ") && sound.stdout.contains(".venv: "),
        "{sound:#?}"
    );
    let before = [".venv", "node_modules"].map(|place| tree(&world.project().join(place)));
    fs::remove_dir_all(world.project().join("node_modules/leaf")).unwrap();
    fs::remove_file(world.project().join(".venv/pyvenv.cfg")).unwrap();
    world.bolide(&["verify"]).fails(6, &[]);
    let answer = world.bolide(&["verify", "--json"]);
    assert!(answer.stdout.contains("\"bolide.verify/1\""), "{answer:#?}");
    assert!(answer.stdout.contains("node_modules/leaf"), "{answer:#?}");
    let mended = world.bolide(&["verify", "--repair"]).succeeds();
    assert!(mended.stdout.contains("repaired"), "{mended:#?}");
    let after = [".venv", "node_modules"].map(|place| tree(&world.project().join(place)));
    assert_eq!(after, before);
    world.bolide(&["verify"]).succeeds();
    assert!(world.bolide(&["history"]).succeeds().stdout.contains("repair"));
    world.bolide(&["rollback"]).succeeds();
    world.bolide(&["verify", "node_modules"]).fails(6, &[]);
}

#[test]
fn an_edit_stays_until_it_is_forced_with_and_without_a_daemon() {
    let world = furnished();
    let _daemon = world.daemon();
    let manifest = world.project().join("node_modules/leaf/package.json");
    let right = fs::read(&manifest).unwrap();
    fs::write(&manifest, "{}").unwrap();
    fs::write(world.project().join("node_modules/leaf/mine"), "mine").unwrap();
    for more in [&[][..], &["--standalone"]] {
        let arguments = [&["verify", "--repair"], more].concat();
        world.bolide(&arguments).fails(6, &[]);
        assert_eq!(fs::read(&manifest).unwrap(), b"{}");
    }
    world.bolide(&["verify", "--force"]).fails(2, &["--repair"]);
    let forced = world.bolide(&["verify", "--repair", "--force", "--json"]).succeeds().json();
    assert_eq!(fs::read(&manifest).unwrap(), right);
    assert!(!world.project().join("node_modules/leaf/mine").exists());
    let kept = std::path::Path::new(forced["kept"].as_str().unwrap()).join("node_modules/leaf");
    assert_eq!(fs::read(kept.join("package.json")).unwrap(), b"{}");
    assert_eq!(fs::read(kept.join("mine")).unwrap(), b"mine");
}

/// What a look finds, as path and way; of crates the name of the file.
fn found(world: &World) -> Vec<(String, String)> {
    let outcome = world.bolide(&["verify", "--json"]);
    let answer = outcome.json();
    let environments = answer["environments"].as_array().unwrap().iter();
    let differences = environments.flat_map(|it| it["differences"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found: Vec<(String, String)> =
        differences.map(|it| (text(&it["path"]), text(&it["difference"]))).collect();
    let crates = answer["crates"]["differences"].as_array().into_iter().flatten();
    let name = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    found.extend(crates.map(|it| (name(it["path"].as_str().unwrap()), text(&it["difference"]))));
    assert_eq!(
        (answer["clean"] == true, outcome.code),
        (found.is_empty(), if found.is_empty() { 0 } else { 6 })
    );
    found
}

/// The directory of an environment's Python packages, relative to the project.
fn site(world: &World) -> String {
    let library = fs::read_dir(world.project().join(".venv/lib")).unwrap();
    let python = library.flatten().next().unwrap().file_name();
    format!(".venv/lib/{}/site-packages", python.to_string_lossy())
}

/// The directory with this name below cargo's `registry/PART`.
fn cargo_place(world: &World, part: &str) -> PathBuf {
    let places = fs::read_dir(world.place("cargo/registry").join(part)).unwrap();
    places.flatten().next().unwrap().path()
}

/// Replaces a file, as editors do: what is written in place may be the store's, too, and is then fetched again.
fn edit(at: &Path, text: &str) {
    fs::remove_file(at).unwrap();
    fs::write(at, text).unwrap();
}

/// Replaces a link, a file or a directory by a link.
fn link(at: &Path, target: &str) {
    match at.symlink_metadata().unwrap().is_dir() {
        true => fs::remove_dir_all(at).unwrap(),
        false => fs::remove_file(at).unwrap(),
    }
    symlink(target, at).unwrap();
}

#[test]
fn each_way_to_differ_is_named_in_each_environment_and_mended_without_a_network() {
    let world = furnished();
    let places = || ["node_modules", ".venv"].map(|place| tree(&world.project().join(place)));
    let (before, cache) = (places(), tree(&cargo_place(&world, "cache")));
    let at = |path: &str| world.project().join(path);
    let site = site(&world);
    edit(&at("node_modules/leaf/index.js"), "module.exports = 'x';\n");
    fs::remove_file(at("node_modules/leaf/cli.js")).unwrap();
    fs::create_dir(at("node_modules/stranger")).unwrap();
    fs::write(at("node_modules/stranger/index.js"), "x").unwrap();
    link(&at("node_modules/.bin/tree"), "/bin/true");
    fs::set_permissions(at("node_modules/tree/index.js"), Permissions::from_mode(0o666)).unwrap();
    link(&at(&format!("{site}/wall")), "/tmp");
    edit(&at(".venv/bin/wall"), "#!/bin/sh\n");
    fs::remove_dir_all(at(&format!("{site}/stone-1.5.dist-info"))).unwrap();
    edit(&cargo_place(&world, "cache").join("bread-1.0.0.crate"), "none");
    fs::remove_file(cargo_place(&world, "cache").join("grain-0.1.5.crate")).unwrap();
    fs::write(cargo_place(&world, "index").join(".cache/br/ea/bread"), "").unwrap();
    let is = |path: &str, way: &str| (path.to_owned(), way.to_owned());
    let expected = [
        is(".venv/bin/wall", "content"),
        is(&format!("{site}/stone-1.5.dist-info"), "missing"),
        is(&format!("{site}/wall"), "kind"),
        is("node_modules/.bin/tree", "target"),
        is("node_modules/leaf/cli.js", "missing"),
        is("node_modules/leaf/index.js", "content"),
        is("node_modules/stranger", "additional"),
        is("node_modules/tree/index.js", "mode"),
        is("bread", "content"),
        is("bread-1.0.0.crate", "content"),
        is("grain-0.1.5.crate", "missing"),
    ];
    assert_eq!(found(&world), expected);
    let some = world.bolide(&["verify", "--repair", "--offline"]);
    some.fails(6, &["node_modules/leaf/cli.js, repaired", "grain-0.1.5.crate, repaired"]);
    let left: Vec<String> = found(&world).into_iter().map(|it| it.1).collect();
    assert_eq!(left, ["content", "kind", "target", "content", "additional"]);
    world.bolide(&["verify", "--repair", "--force", "--offline"]).succeeds();
    assert_eq!(found(&world), []);
    assert_eq!(places(), before);
    assert_eq!(tree(&cargo_place(&world, "cache")), cache);
    for (program, says) in [("node_modules/.bin/tree", "1.0.0"), (".venv/bin/wall", "1.0")] {
        assert_eq!(world.run(program, &[]).succeeds().stdout.trim_end(), says);
    }
}

#[test]
fn what_the_store_lost_as_well_is_fetched_again() {
    let world = furnished();
    let module = world.project().join("node_modules/leaf/index.js");
    let right = fs::read(&module).unwrap();
    fs::remove_dir_all(world.project().join("node_modules/leaf")).unwrap();
    let mut spoiled = 0;
    for file in files(&world.place("home/cache")) {
        if fs::read(&file).unwrap() == right {
            // As a disk does it: neither size nor time tell.
            let before = fs::metadata(&file).unwrap();
            let mode = before.permissions();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let mut spoilt = right.clone();
            spoilt[0] ^= 1;
            fs::write(&file, spoilt).unwrap();
            let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
            fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
            fs::set_permissions(&file, mode).unwrap();
            spoiled += 1;
        }
    }
    assert_eq!(spoiled, 1, "one object in the store");
    let offline = world.bolide(&["verify", "--repair", "--offline"]);
    offline.fails(7, &["pkg:npm/leaf@1.1.0"]);
    let repaired = world.bolide(&["verify", "--repair", "--json"]).succeeds().json();
    assert_eq!(repaired["clean"], true, "{repaired}");
    assert_eq!(fs::read(&module).unwrap(), right);
    assert_eq!(found(&world), []);
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let below = |path: PathBuf| match path.symlink_metadata().unwrap() {
        about if about.is_dir() => files(&path),
        about if about.is_file() => vec![path],
        _ => Vec::new(),
    };
    entries.flat_map(|entry| below(entry.path())).collect()
}

#[test]
fn paths_narrow_a_look_and_what_is_nowhere_is_wrong_use() {
    let world = furnished();
    fs::write(world.project().join("node_modules/leaf/index.js"), "1").unwrap();
    world.bolide(&["verify", "node_modules/leaf"]).fails(6, &["node_modules/leaf/index.js"]);
    world.bolide(&["verify", "node_modules/tree", ".venv"]).succeeds();
    world.bolide(&["verify", "src"]).fails(2, &["src"]);
    world.bolide(&["verify", "node_modules/nothing"]).fails(2, &["node_modules/nothing"]);
    let empty = World::new();
    let said = empty.bolide(&["verify"]).succeeds();
    assert!(said.stdout.contains("nothing of Bolide is installed"), "{said:#?}");
}

#[test]
fn the_modules_of_a_workspace_member_are_an_environment_too() {
    let world = World::new();
    let root = "{\"name\": \"root\", \"private\": true, \"workspaces\": [\"parts/*\"],\
                \"dependencies\": {\"leaf\": \"^2.0.0\"}}\n";
    world.file("package.json", root);
    let one =
        "{\"name\": \"one\", \"version\": \"1.0.0\", \"dependencies\": {\"leaf\": \"^1.0.0\"}}\n";
    world.file("parts/one/package.json", one);
    world.bolide(&["install"]).succeeds();
    let place = "parts/one/node_modules";
    edit(&world.project().join(place).join("leaf/index.js"), "1\n");
    fs::remove_file(world.project().join(place).join("leaf/cli.js")).unwrap();
    fs::remove_dir_all(world.project().join("node_modules/leaf")).unwrap();
    let paths: Vec<String> = found(&world).into_iter().map(|it| it.0).collect();
    let inner = ["cli.js", "index.js"].map(|name| format!("{place}/leaf/{name}"));
    assert_eq!(paths, ["node_modules/leaf", &inner[0], &inner[1]]);
    world.bolide(&["verify", "--repair", "--force", "--offline", place]).succeeds();
    assert_eq!(found(&world), [("node_modules/leaf".to_owned(), "missing".to_owned())]);
    world.bolide(&["verify", "--repair", "--offline"]).succeeds();
    assert_eq!(found(&world), []);
    for _ in 0..2 {
        world.bolide(&["rollback"]).succeeds();
    }
    assert_eq!(found(&world).len(), 3, "both repairs are undone");
    world.bolide(&["verify", "--repair", "--force", "--offline"]).succeeds();
    assert_eq!(found(&world), []);
}
