//! Python packages out of a directory, as machines without an index have them: planned, installed, locked, and not believed.

use super::packages::{self, Python};
use super::world::World;

const LOCAL: Python = Python { name: "local", version: "1.0", requires: &["base<2"] };
const BASE: Python = Python { name: "base", version: "1.5", requires: &[] };

fn put(world: &World, wheel: &Python) -> std::path::PathBuf {
    let directory = world.place("wheels");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(format!("{}-{}-py3-none-any.whl", wheel.name, wheel.version));
    std::fs::write(&path, packages::wheel(wheel)).unwrap();
    path
}

/// A world whose project takes everything from a directory beside it.
fn world() -> World {
    let world = World::quick();
    put(&world, &LOCAL);
    put(&world, &BASE);
    world.file("requirements.txt", "--no-index\n--find-links ../wheels\nlocal\n");
    world
}

/// As on another machine: nothing is in the store.
fn forget(world: &World) {
    std::fs::remove_dir_all(world.place("home/cache")).unwrap();
}

#[test]
fn a_directory_is_planned_installed_locked_and_installed_again_elsewhere() {
    let world = world();
    let before = world.tree();
    let plan = world.bolide(&["plan", "--install"]).succeeds();
    for word in ["+ pkg:pypi/local@1.0", "+ pkg:pypi/base@1.5"] {
        assert!(plan.stdout.contains(word), "{word}: {plan:#?}");
    }
    world.bolide(&["install"]).succeeds();
    world.run(".venv/bin/python", &["-m", "pip", "check"]).succeeds();
    assert_eq!(world.run(".venv/bin/local", &[]).succeeds().stdout, "1.0\n");
    let lock = world.read("bolide.lock");
    assert!(!lock.contains("file:") && !lock.contains("wheels"), "no addresses: {lock}");
    world.bolide(&["verify"]).succeeds();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
    // Somebody else has the lock and nothing in the store, and reaches no network.
    world.file("bolide.lock", &lock);
    forget(&world);
    world.bolide(&["install", "--frozen", "--offline"]).succeeds();
    assert_eq!(world.run(".venv/bin/local", &[]).succeeds().stdout, "1.0\n");
}

#[test]
fn other_bytes_under_the_name_that_is_locked_are_refused() {
    let world = world();
    world.bolide(&["install"]).succeeds();
    let lock = world.read("bolide.lock");
    world.bolide(&["rollback"]).succeeds();
    world.file("bolide.lock", &lock);
    forget(&world);
    let before = world.tree();
    put(&world, &Python { requires: &[], ..LOCAL });
    world
        .bolide(&["install", "--frozen"])
        .fails(6, &["local-1.0-py3-none-any.whl", "not the file that was planned"]);
    assert_eq!(world.tree(), before, "nothing was changed");
    world.bolide(&["update", "pypi:local", "--yes"]).succeeds();
    assert_ne!(world.read("bolide.lock"), lock);
}

#[test]
fn what_is_in_no_directory_is_told_with_the_reason() {
    let world = world();
    std::fs::remove_file(put(&world, &BASE)).unwrap();
    world.bolide(&["plan", "--install"]).fails(5, &["base"]);
    std::fs::remove_dir_all(world.place("wheels")).unwrap();
    world.bolide(&["plan", "--install"]).fails(1, &["there is no directory", "find-links"]);
}
