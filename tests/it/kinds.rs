//! `--no-binary` and `--only-binary`, on the command line, in a requirements file and in pip's own settings: which files of an index count,
//! and that nothing of source is run that nobody named.

use super::kiln::{Clay, by_pip, installed, listed};
use super::packages::{self, Python};
use super::world::{Outcome, World, bolide_program};

const WHEEL: Python = Python { name: "clay", version: "1.0", requires: &["stone<2"] };

/// A world whose index has `clay` 1.0 as a wheel and as source, and everything else as wheels.
fn world() -> World {
    let world = World::quick();
    let (wheel, archive) = (packages::wheel(&WHEEL), Clay::default().tarball());
    let files = [(&*packages::wheel_name(&WHEEL), wheel), ("clay-1.0.tar.gz", archive)];
    world.registry.pypi_files("clay", &files);
    world.file("requirements.txt", "clay\n");
    world
}

/// Whether what is locked was built here.
fn is_built(world: &World) -> bool {
    world.read("bolide.lock").contains("built = true")
}

#[test]
fn an_option_decides_which_file_of_an_index_is_taken() {
    let plain = world();
    plain.bolide(&["install"]).succeeds();
    assert!(!is_built(&plain));
    // Who names it there says that it may be built.
    let world = world();
    let before = world.tree();
    world.bolide(&["install", "--no-binary", "clay"]).succeeds();
    assert!(is_built(&world));
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    let index = format!("{}/simple/", world.registry.base());
    let pip = by_pip(&world, &["--no-binary", "clay", "--index-url", &index, "clay"]);
    assert_eq!(installed(&world.project().join(".venv")), installed(&pip));
    assert!(world.bolide(&["install", "--json"]).succeeds().json()["transaction"].is_null());
    // The wheel of the index again, and back.
    world.bolide(&["update", "--only-binary", "clay", "--yes"]).succeeds();
    assert!(!is_built(&world));
    let pip = by_pip(&world, &["--index-url", &index, "clay"]);
    assert_eq!(installed(&world.project().join(".venv")), installed(&pip));
    world.bolide(&["rollback"]).succeeds();
    assert!(is_built(&world));
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn all_and_none_mean_what_they_mean_to_pip() {
    let world = world();
    let all = world.bolide(&["install", "--no-binary", ":all:"]);
    all.fails(5, &["`--no-binary`", "`--build clay`"]);
    let only_stone = ["install", "--no-binary", ":all:", "--only-binary", "stone"];
    world.bolide(&only_stone).fails(5, &["`--build clay`"]);
    world.bolide(&["install", "--no-binary", ":all:", "--build", "clay"]).fails(5, &["stone"]);
    world.bolide(&[&only_stone[..], &["--build", "clay"]].concat()).succeeds();
    assert!(is_built(&world));
    world.bolide(&["update", "--no-binary", "clay,:none:", "--yes"]).succeeds();
    assert!(!is_built(&world));
    world.bolide(&["update", "--only-binary", ":all:", "--no-binary", "clay", "--yes"]).succeeds();
    assert!(is_built(&world));
    for (one, other) in [("clay", "clay"), (":all:", ":all:"), ("a,clay", "CLAY")] {
        let both = ["install", "--no-binary", one, "--only-binary", other];
        world.bolide(&both).fails(2, &["`--no-binary`", "`--only-binary`"]);
    }
    world.bolide(&["install", "--no-binary", "!"]).fails(2, &["--no-binary"]);
}

#[test]
fn a_requirements_file_says_it_for_everybody_who_has_it() {
    let world = world();
    world.file("requirements.txt", "--no-binary=clay --only-binary stone\nclay\n");
    world.bolide(&["install"]).fails(5, &["`--no-binary`", "`--build clay`"]);
    world.bolide(&["install", "--build", "clay"]).succeeds();
    assert!(is_built(&world));
    assert!(
        world.bolide(&["install", "--frozen", "--json"]).succeeds().json()["transaction"].is_null()
    );
    world.file("requirements.txt", "clay\n");
    world.bolide(&["install", "--frozen"]).fails(4, &["--no-binary clay"]);
    world.file("requirements.txt", "--only-binary :all:\nclay\n");
    world.bolide(&["update", "--yes"]).succeeds();
    assert!(!is_built(&world));
    world.bolide(&["install", "--frozen"]).succeeds();
    world.bolide(&["update", "--build", "clay", "--yes"]).succeeds();
    assert!(!is_built(&world), "a leave to build is none to take source");
    world.file("requirements.txt", "--no-binary\nclay\n");
    world.bolide(&["install"]).fails(1, &["`--no-binary`"]);
    world.file("requirements.txt", "--only-binary !\nclay\n");
    world.bolide(&["install"]).fails(2, &["--only-binary"]);
}

#[test]
fn what_pip_is_configured_with_holds_and_lets_nothing_run() {
    let world = world();
    world.bolide(&["install"]).succeeds();
    std::fs::create_dir_all(world.place("home/config/pip")).unwrap();
    let settings = world.place("home/config/pip/pip.conf");
    std::fs::write(&settings, "[install]\nno-binary = clay\n").unwrap();
    world.bolide(&["install"]).fails(3, &["locked as a wheel", "`--no-binary`"]);
    world.bolide(&["update", "--yes"]).fails(5, &["`--build clay`"]);
    world.bolide(&["update", "--build", "clay", "--yes"]).succeeds();
    assert!(is_built(&world));
    world.bolide(&["install", "--frozen"]).succeeds();
    // The command line is stronger, and a variable is stronger than a file.
    world.bolide(&["update", "--only-binary", "clay", "--yes"]).succeeds();
    assert!(!is_built(&world));
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = world.command(bolide_program());
        Outcome::of(command.args(arguments).env(name, value))
    };
    with("PIP_NO_BINARY", "mud", &["install"]).succeeds();
    with("PIP_NO_BINARY", ":all:", &["install"]).fails(3, &["locked as a wheel"]);
    std::fs::remove_file(&settings).unwrap();
    with("PIP_ONLY_BINARY", ":all:", &["update", "--build", "clay", "--yes"]).succeeds();
    assert!(!is_built(&world));
}
