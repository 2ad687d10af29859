//! `bolide verify` as people and scripts see it: what it says, with which exit code, and what a repair brings back.

use std::fs;

use super::world::{World, tree};

/// A project of two ecosystems.
fn furnished() -> World {
    let world = World::new();
    world.bolide(&["add", "npm:tree@1", "pypi:wall", "--yes"]).succeeds();
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
