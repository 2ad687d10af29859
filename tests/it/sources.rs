//! Python source archives that a project names by path or address: built in the sandbox when that is asked for, installed as pip does,
//! locked by their digest, undone, and never believed. What lies in them builds itself, without an index.

use super::kiln::{Clay, DYNAMIC, by_pip, frozen, installed, listed};
use super::registry::{Registry, hex};
use super::world::{Outcome, World, bolide_program};
use sha2::{Digest, Sha256};

const FILE: &str = "clay-1.0.tar.gz";
const BUILD: [&str; 3] = ["install", "--build", "clay"];
const BINARY: &str = "application/octet-stream";

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn put(world: &World, name: &str, bytes: &[u8]) {
    let place = world.project().join("dist");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join(name), bytes).unwrap();
}

/// A world whose project names a source archive beside its requirements file.
fn world_of(clay: &Clay) -> World {
    let world = World::quick();
    put(&world, FILE, &clay.tarball());
    world.file("requirements.txt", &format!("./dist/{FILE}\n"));
    world
}

fn is_nothing_made(world: &World) -> bool {
    let made = |name: &str| world.project().join(name).exists();
    let left = std::fs::read_dir(world.place("home/cache/bolide/incoming"));
    let left = left.map_or(0, |entries| entries.count());
    !made(".venv") && !made("bolide.lock") && left == 0
}

#[test]
fn an_archive_beside_the_project_is_built_when_asked_and_installed_as_pip_does() {
    let clay = Clay::default();
    let world = world_of(&clay);
    let before = world.tree();
    let refused = ["`pkg:pypi/clay@1.0`", FILE, "`--build clay`"];
    world.bolide(&["install"]).fails(3, &refused);
    world.bolide(&["plan", "--install", "--build", "stone"]).fails(3, &refused);
    assert!(is_nothing_made(&world));
    let plan = world.bolide(&["plan", "--install", "--build", "clay"]).succeeds();
    for word in ["+ pkg:pypi/clay@1.0", "built from file://", FILE, "run in a sandbox"] {
        assert!(plan.stdout.contains(word), "{word}: {plan:#?}");
    }
    assert_eq!(world.tree(), before, "a plan changes nothing here");
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    assert_eq!(world.run(".venv/bin/clay", &[]).succeeds().stdout, "1.0\n");
    world.run(".venv/bin/python", &["-m", "pip", "check"]).succeeds();
    let pip = by_pip(&world, &[&format!("./dist/{FILE}")]);
    let own = world.project().join(".venv");
    assert_eq!(installed(&own), installed(&pip));
    assert_eq!(frozen(&world, &own), frozen(&world, &pip));
    assert!(frozen(&world, &own).starts_with("clay @ file:///"));
    let lock = world.read("bolide.lock");
    let sha256 = format!("sha256:{}", digest(&clay.tarball()));
    for word in [&format!("clay @ project:///dist/{FILE}"), &sha256, "built = true"] {
        assert!(lock.contains(word), "{word}: {lock}");
    }
    let place = world.project().display().to_string();
    assert!(!lock.contains(&place) && !lock.contains("file:"), "a lock is for any place: {lock}");
    for command in [&["install", "--json"][..], &["install", "--frozen", "--offline", "--json"]] {
        let again = world.bolide(command).succeeds().json();
        assert!(again["transaction"].is_null(), "{again}");
    }
    world.bolide(&["verify"]).succeeds();
    // What is chosen anew beside it builds nothing again, and needs no index for it.
    world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
    assert_eq!(listed(&world).len(), 3);
    world.bolide(&["remove", "pypi:clay", "pypi:wall", "--yes"]).succeeds();
    assert_eq!(world.read("requirements.txt"), "");
    for _ in 0..3 {
        world.bolide(&["rollback"]).succeeds();
    }
    assert_eq!(world.tree(), before);
}

#[test]
fn what_was_built_is_installed_offline_and_by_the_daemon() {
    let world = world_of(&Clay::default());
    world.bolide(&BUILD).succeeds();
    std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    world.bolide(&["install", "--offline", "--frozen"]).succeeds();
    assert_eq!(world.run(".venv/bin/clay", &[]).succeeds().stdout, "1.0\n");
    let world = world_of(&Clay::default());
    let _daemon = world.daemon();
    world.bolide(&["install"]).fails(3, &["`--build clay`"]);
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
}

#[test]
fn a_zip_whose_version_only_a_build_tells_is_named_by_its_address() {
    let clay = Clay { project: DYNAMIC, version: "2.5", ..Clay::default() };
    let world = World::quick();
    put(&world, "main.zip", &clay.zip());
    let address = format!("file://{}/dist/main.zip", world.project().display());
    let project = format!(
        "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"clay @ {address}\"]\n"
    );
    world.file("pyproject.toml", &project);
    world.bolide(&["install"]).fails(3, &["`clay`", "main.zip", "`--build clay`"]);
    assert!(is_nothing_made(&world));
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@2.5", "pkg:pypi/stone@1.5"]);
    let pip = by_pip(&world, &[&address]);
    assert_eq!(installed(&world.project().join(".venv")), installed(&pip));
    let again = world.bolide(&["install", "--frozen", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "{again}");
    world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
    assert_eq!(world.read("pyproject.toml").matches("clay @ file").count(), 1);
    // The same by `tool.uv.sources`, from the project.
    let world = World::quick();
    put(&world, "clay-2.5.zip", &clay.zip());
    let sources = "[tool.uv.sources]\nclay = { path = \"dist/clay-2.5.zip\" }\n";
    let project = "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"clay\"]\n\n";
    world.file("pyproject.toml", &format!("{project}{sources}"));
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@2.5", "pkg:pypi/stone@1.5"]);
}

#[test]
fn an_archive_on_a_server_is_built_of_the_bytes_that_were_looked_at() {
    let world = World::quick();
    let (archive, path) = (Clay::default().tarball(), format!("/elsewhere/{FILE}"));
    world.registry.page(&format!("{path}?token=hush"), BINARY, archive.clone());
    let line = format!("clay @ {}{path}?token=hush", world.registry.base());
    world.file("requirements.txt", &format!("{line}\n"));
    let refused = world.bolide(&["install"]);
    refused.fails(3, &["`--build clay`"]);
    assert!(!format!("{refused:?}").contains("hush"), "{refused:?}");
    let told = world.bolide(&BUILD).succeeds();
    assert_eq!(world.registry.asked(&format!("{path}?token=hush")), 2, "once for each command");
    let lock = world.read("bolide.lock");
    let all = format!("{told:?}{lock}{:?}", installed(&world.project().join(".venv")));
    assert!(!all.contains("hush") && lock.contains(&digest(&archive)), "{all}");
    // What is known of a digest is asked of nobody again.
    world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
    assert_eq!(world.registry.asked(&format!("{path}?token=hush")), 2);
    let clone = |spoilt: bool| {
        let clone = World::quick();
        for file in ["requirements.txt", "bolide.lock"] {
            clone.file(file, &world.read(file));
        }
        if spoilt {
            let other = Clay { hostile: "pass".to_owned(), ..Clay::default() }.tarball();
            world.registry.spoil(&format!("{path}?token=hush"), |page| page.body = other);
        }
        clone
    };
    let same = clone(false);
    same.bolide(&["install", "--frozen"]).fails(3, &["`--build clay`"]);
    same.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
    assert_eq!(listed(&same), listed(&world));
    assert_eq!(same.read("bolide.lock"), world.read("bolide.lock"));
    let late = clone(true);
    late.bolide(&["install", "--frozen", "--build", "clay"]).fails(6, &["hash"]);
    assert!(!late.project().join(".venv").exists());
}

#[test]
fn a_login_stays_with_the_host_that_it_was_configured_for() {
    let (world, other) = (World::quick(), Registry::start());
    let (archive, path) = (Clay::default().tarball(), format!("/elsewhere/{FILE}"));
    other.page(&path, BINARY, archive);
    let elsewhere = format!("{}{path}", other.base());
    world.registry.page(&path, BINARY, elsewhere.into_bytes());
    world.registry.spoil(&path, |page| page.status = 302);
    let host = world.registry.address.split(':').next().unwrap().to_owned();
    let netrc = format!("machine {host} login me password hush\n");
    std::fs::write(world.place("home/.netrc"), netrc).unwrap();
    world.file("requirements.txt", &format!("clay @ {}{path}\n", world.registry.base()));
    let outcome = world.bolide(&BUILD).succeeds();
    assert!(!format!("{outcome:?}").contains("hush"), "{outcome:?}");
    assert!(world.registry.authorizations().iter().any(Option::is_some));
    assert_eq!(other.authorizations(), [None], "{outcome:?}");
}

#[test]
fn what_changes_after_planning_or_locking_is_refused() {
    let world = world_of(&Clay::default());
    let before = world.tree();
    let plan = world.bolide(&["plan", "--install", "--build", "clay", "--json"]).succeeds().json();
    let apply = ["apply", plan["digest"].as_str().unwrap(), "--yes"];
    let again = Clay { version: "1.0", hostile: "pass".to_owned(), ..Clay::default() };
    put(&world, FILE, &again.tarball());
    world.bolide(&apply).fails(4, &[FILE, "was changed"]);
    std::fs::remove_file(world.project().join("dist").join(FILE)).unwrap();
    world.bolide(&apply).fails(4, &[FILE, "is gone"]);
    put(&world, FILE, &Clay::default().tarball());
    assert_eq!(world.tree(), before);
    world.bolide(&apply).succeeds();
    put(&world, FILE, &again.tarball());
    let locked = world.read("bolide.lock");
    let told = world.bolide(&["install"]).succeeds();
    assert!(told.stdout.contains("bolide update pypi:clay"), "{told:#?}");
    assert_eq!(world.read("bolide.lock"), locked, "an installation follows the lock");
    world.bolide(&["add", "pypi:wall", "--yes"]).fails(6, &[FILE, "bolide update pypi:clay"]);
    world.bolide(&["update", "pypi:clay", "--yes"]).fails(3, &["`--build clay`"]);
    world.bolide(&["update", "pypi:clay", "--build", "clay", "--yes"]).succeeds();
    assert!(world.read("bolide.lock").contains(&digest(&again.tarball())));
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.read("bolide.lock"), locked);
    // A clone with the newer file has nothing to build that was locked.
    let clone = world_of(&again);
    clone.file("bolide.lock", &locked);
    clone.bolide(&["install", "--frozen", "--build", "clay"]).fails(6, &[FILE, "not the file"]);
    assert!(!clone.project().join(".venv").exists());
}

#[test]
fn what_an_archive_says_has_to_be_of_the_package_that_is_asked_for() {
    const OTHER: &str = "[project]\nname = \"mud\"\nversion = \"1.0\"\n";
    const NONE: &str = "[project]\nname = \"clay\"\nversion = \"1.0\"\ndependencies = []\n";
    const LATER: &str = "Metadata-Version: 2.2\nName: clay\nVersion: 3.0\nRequires-Dist: stone<2\n";
    const OLD: &str = "Metadata-Version: 2.1\nName: mud\nVersion: 1.0\n";
    let answer = |text: &str| format!("answer = {text}");
    for (clay, words) in [
        (Clay { project: OTHER, ..Clay::default() }, &["it is about `mud`"][..]),
        (Clay { project: "", info: OLD, ..Clay::default() }, &["it is about `mud`"]),
        (Clay { info: LATER, ..Clay::default() }, &[FILE, "3.0"]),
        (Clay { version: "1.1", ..Clay::default() }, &["is not a wheel of `pkg:pypi/clay@1.0`"]),
        (Clay { project: NONE, ..Clay::default() }, &["something else than", "promises"]),
        (Clay { hostile: answer("'/etc/passwd'"), ..Clay::default() }, &["`/etc/passwd` is not"]),
        (Clay { hostile: answer("'clay-1.0.tar.gz'"), ..Clay::default() }, &["is not a wheel"]),
        (
            Clay { hostile: answer("'clay-1.0-py3-none-any.whl'"), ..Clay::default() },
            &["there is no file"],
        ),
    ] {
        let world = world_of(&clay);
        world.bolide(&BUILD).fails(6, words);
        assert!(is_nothing_made(&world), "{words:?}");
    }
    // The backend may write its own directory only.
    let world = world_of(&Clay::default());
    let outside = world.place("outside");
    let hostile = format!("open({:?}, 'w')", outside.display().to_string());
    put(&world, FILE, &Clay { hostile, ..Clay::default() }.tarball());
    world.bolide(&BUILD).fails(1, &[FILE, "outside"]);
    assert!(!outside.exists() && is_nothing_made(&world));
}

#[test]
fn what_is_no_source_archive_is_refused_by_the_one_reader() {
    let world = world_of(&Clay::default());
    let bomb = |name: &str| {
        let mut bytes = super::packages::tarball(&[("clay-1.0/a", &vec![0; 64 << 20])]);
        bytes.truncate(bytes.len() - 8);
        put(&world, name, &bytes);
    };
    bomb("clay-2.0.tar.gz");
    put(&world, "clay-3.0.tar.gz", b"no archive");
    put(&world, "clay-4.0.zip", &Clay::default().tarball());
    put(&world, "clay-5.0.zip", &{
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file("../../escaped", options).unwrap();
        archive.finish().unwrap().into_inner()
    });
    std::fs::create_dir(world.project().join("dist/clay-6.0.tar.gz")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", world.project().join("dist/clay-7.0.zip")).unwrap();
    for (line, code, word) in [
        ("./dist/clay-2.0.tar.gz", 6, "clay-2.0.tar.gz"),
        ("./dist/clay-3.0.tar.gz", 6, "clay-3.0.tar.gz"),
        ("./dist/clay-4.0.zip", 6, "clay-4.0.zip"),
        ("./dist/clay-5.0.zip", 6, "clay-5.0.zip"),
        ("./dist/clay-6.0.tar.gz", 3, "not a file"),
        ("./dist/clay-7.0.zip", 3, "not a file"),
        ("./dist/clay-8.0.tar.gz", 1, "there is no file"),
        ("./dist/clay-8.0.tar.xz", 1, "not built"),
        ("./dist/clay-1.0.tar.gz#sha256=00", 1, "sha256"),
        ("./dist/clay-1.0.tar.gz --hash=sha256:00", 6, "hash"),
        ("mud @ ./dist/clay-1.0.tar.gz", 6, "it is about `clay`"),
        ("https://me:hush@h.invalid/clay-1.0.tar.gz", 1, "netrc"),
    ] {
        world.file("requirements.txt", &format!("{line}\n"));
        let outcome = world.bolide(&["install", "--build", "clay", "--build", "mud"]);
        outcome.fails(code, &[word]);
        assert!(!format!("{outcome:?}").contains("hush"), "{outcome:?}");
        assert!(is_nothing_made(&world), "{line}");
    }
    let mut command = world.command(bolide_program());
    world.file("requirements.txt", "./dist/clay-1.0.tar.gz#sha256=");
    Outcome::of(command.args(BUILD)).fails(1, &["sha256"]);
}
