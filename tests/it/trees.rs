//! Directories of Python source that a project names by their path: built of a copy, locked by the digest of what is source in them,
//! and followed where the lock says so, whatever becomes of the directory.

use std::os::unix::fs::symlink;

use super::kiln::{Clay, DYNAMIC, by_pip, frozen, installed, listed};
use super::world::World;

const BUILD: [&str; 3] = ["install", "--build", "clay"];

/// A world whose project names a directory of source.
fn world_of(clay: &Clay) -> World {
    let world = World::quick();
    clay.lay(&world.project().join("libs/clay"));
    world.file("requirements.txt", "./libs/clay\n");
    world
}

fn edit(world: &World, code: &str) {
    std::fs::write(world.project().join("libs/clay/clay/more.py"), code).unwrap();
}

#[test]
fn a_directory_is_built_when_asked_and_installed_as_pip_does() {
    let world = world_of(&Clay::default());
    let before = world.tree();
    world.bolide(&["install"]).fails(3, &["`pkg:pypi/clay@1.0`", "`--build clay`"]);
    let plan = world.bolide(&["plan", "--install", "--build", "clay"]).succeeds();
    for word in ["+ pkg:pypi/clay@1.0", "built from file://", "/libs/clay"] {
        assert!(plan.stdout.contains(word), "{word}: {plan:#?}");
    }
    assert_eq!(world.tree(), before, "nothing is written into the tree");
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    assert_eq!(world.run(".venv/bin/clay", &[]).succeeds().stdout, "1.0\n");
    world.run(".venv/bin/python", &["-m", "pip", "check"]).succeeds();
    let (own, pip) = (world.project().join(".venv"), by_pip(&world, &["./libs/clay"]));
    assert_eq!(installed(&own), installed(&pip));
    assert_eq!(frozen(&world, &own), frozen(&world, &pip));
    let lock = world.read("bolide.lock");
    assert!(lock.contains("clay @ project:///libs/clay\""), "{lock}");
    assert!(!lock.contains(&world.project().display().to_string()), "{lock}");
    for command in [&["install", "--json"][..], &["install", "--frozen", "--offline", "--json"]] {
        let again = world.bolide(command).succeeds().json();
        assert!(again["transaction"].is_null(), "{again}");
    }
    world.bolide(&["verify"]).succeeds();
    std::fs::remove_dir_all(&own).unwrap();
    world.bolide(&["install", "--frozen", "--offline"]).succeeds();
    world.bolide(&["remove", "pypi:clay", "--yes"]).succeeds();
    assert_eq!(world.read("requirements.txt"), "");
    assert!(listed(&world).is_empty());
}

#[test]
fn a_directory_that_changes_is_followed_when_an_update_says_so() {
    let world = world_of(&Clay::default());
    let plan = world.bolide(&["plan", "--install", "--build", "clay", "--json"]).succeeds().json();
    let apply = ["apply", plan["digest"].as_str().unwrap(), "--yes"];
    edit(&world, "A = 1\n");
    world.bolide(&apply).fails(4, &["libs/clay", "was changed"]);
    std::fs::remove_file(world.project().join("libs/clay/clay/more.py")).unwrap();
    world.bolide(&apply).succeeds();
    let locked = world.read("bolide.lock");
    // What tools leave there is no change.
    for by_the_way in [".git/HEAD", "clay/__pycache__/x.pyc", "clay.egg-info/PKG-INFO"] {
        let path = world.project().join("libs/clay").join(by_the_way);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    world.bolide(&["install", "--frozen"]).succeeds();
    edit(&world, "A = 1\n");
    world.bolide(&["install", "--frozen"]).fails(4, &["`./libs/clay` was changed"]);
    let told = world.bolide(&["install"]).succeeds();
    assert!(told.stdout.contains("bolide update pypi:clay"), "{told:#?}");
    assert_eq!(world.read("bolide.lock"), locked);
    world.bolide(&["add", "pypi:wall", "--yes"]).fails(6, &["not the directory that is locked"]);
    world.bolide(&["update", "pypi:clay", "--yes"]).fails(3, &["`--build clay`"]);
    world.bolide(&["update", "pypi:clay", "--build", "clay", "--yes"]).succeeds();
    let more = "import clay.more; print(clay.more.A)";
    assert_eq!(world.run(".venv/bin/python", &["-c", more]).succeeds().stdout, "1\n");
    world.bolide(&["install", "--frozen"]).succeeds();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.read("bolide.lock"), locked);
    assert_ne!(world.run(".venv/bin/python", &["-c", more]).code, 0);
}

#[test]
fn a_clone_builds_the_directory_that_was_locked_and_no_other() {
    let author = world_of(&Clay::default());
    author.bolide(&BUILD).succeeds();
    let clone = world_of(&Clay::default());
    clone.file("bolide.lock", &author.read("bolide.lock"));
    clone.bolide(&["install", "--frozen"]).fails(3, &["`--build clay`"]);
    clone.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
    assert_eq!(clone.read("bolide.lock"), author.read("bolide.lock"));
    assert_eq!(listed(&clone), listed(&author));
    let late = world_of(&Clay::default());
    late.file("bolide.lock", &author.read("bolide.lock"));
    edit(&late, "A = 1\n");
    late.bolide(&BUILD).fails(6, &["not the directory that is locked"]);
    assert!(!late.project().join(".venv").exists());
}

#[test]
fn directories_are_named_in_all_the_ways_of_pip_and_uv() {
    const UNKNOWN: &str = "[tool.x]\n";
    let project = |line: &str, more: &str| {
        format!("[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"{line}\"]\n{more}")
    };
    let sources = "[tool.uv.sources]\nclay = { path = \"libs/clay\" }\n";
    for by_uv in [false, true] {
        let world = world_of(&Clay { project: DYNAMIC, version: "2.0", ..Clay::default() });
        let place = format!("clay @ file://{}/libs/clay", world.project().display());
        let text = if by_uv { project("clay", sources) } else { project(&place, "") };
        world.file("pyproject.toml", &text);
        world.bolide(&["install"]).fails(3, &["`--build clay`"]);
        world.bolide(&BUILD).succeeds();
        assert_eq!(listed(&world), ["pkg:pypi/clay@2.0", "pkg:pypi/stone@1.5"], "{by_uv}");
    }
    let world = world_of(&Clay { project: UNKNOWN, ..Clay::default() });
    world.bolide(&BUILD).fails(1, &["#egg=NAME"]);
    world.file("requirements.txt", "./libs/clay#egg=clay  # here\n");
    world.bolide(&BUILD).succeeds();
    let pip = by_pip(&world, &["./libs/clay"]);
    assert_eq!(installed(&world.project().join(".venv")), installed(&pip));
    world.bolide(&["add", "pypi:wall", "pypi:clay", "--yes"]).succeeds();
    assert!(world.read("requirements.txt").starts_with("./libs/clay#egg=clay  # here\nwall"));
    // Beside the project, and with a space in its name.
    let world = World::quick();
    Clay::default().lay(&world.place("other libs/clay"));
    world.file("requirements.txt", "../other libs/clay/ ; python_version >= '3'\n");
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
}

#[test]
fn what_cannot_be_source_is_refused_before_anything_is_built() {
    let world = world_of(&Clay::default());
    let tree = world.project().join("libs/clay");
    std::fs::write(world.place("secret"), "hush").unwrap();
    for target in ["/etc/passwd", "../../../secret"] {
        symlink(target, tree.join("link")).unwrap();
        world.bolide(&BUILD).fails(3, &["libs/clay/link", "a link that may lead out of it"]);
        std::fs::remove_file(tree.join("link")).unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    world.bolide(&BUILD).fails(3, &["libs/clay/pipe"]);
    std::fs::remove_file(tree.join("pipe")).unwrap();
    let large = std::fs::File::create(tree.join("deep")).unwrap();
    drop(large);
    let mut deep = tree.join("d");
    (0..200).for_each(|_| deep.push("d"));
    std::fs::create_dir_all(&deep).unwrap();
    world.bolide(&BUILD).fails(3, &["lies too deep"]);
    std::fs::remove_dir_all(tree.join("d")).unwrap();
    for (line, code, word) in [
        ("./libs", 1, "#egg=NAME"),
        ("./libs/gone", 1, "no directory"),
        ("./requirements.txt", 1, "no directory"),
        ("mud @ ./libs/clay", 6, "it is about `clay`"),
        (&format!("./libs/clay#sha256={}", "0".repeat(64)), 2, "no digest"),
        ("./libs/clay --hash=sha256:00", 6, "hash"),
        ("-e ./libs/gone#egg=clay", 1, "no directory"),
        ("-e ./dist/clay-1.0.tar.gz", 1, "only those can be editable"),
        ("-e git+https://h.invalid/clay#egg=clay", 1, "only those can be editable"),
    ] {
        world.file("requirements.txt", &format!("{line}\n"));
        world.bolide(&["install", "--build", "clay", "--build", "mud"]).fails(code, &[word]);
    }
    let made = |name: &str| world.project().join(name).exists();
    assert!(!made(".venv") && !made("bolide.lock"));
    let left = std::fs::read_dir(world.place("home/cache/bolide/incoming"));
    assert_eq!(left.map_or(0, |entries| entries.count()), 0);
}
