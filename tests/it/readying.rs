//! Packages that a daemon makes ready while nobody waits: what is installed of them is what is installed without them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::world::{World, tree, wait_until};

/// A project in which one package stands inside of another one.
fn nested() -> World {
    let world = World::new();
    world.bolide(&["add", "npm:tree@1", "npm:leaf@2", "--yes"]).succeeds();
    assert!(world.project().join("node_modules/tree/node_modules/leaf").is_dir());
    world
}

/// What the daemon says that stands ready.
fn prepared(world: &World) -> Value {
    world.bolide(&["cache", "show", "--json"]).succeeds().json()["prepared"].clone()
}

fn wait_for(world: &World, packages: u64) {
    wait_until("packages stand ready", || {
        let prepared = prepared(world);
        prepared["packages"] == packages && prepared["waiting"] == 0
    });
}

/// Removes what is installed, and has it installed again.
fn again(world: &World) {
    fs::remove_dir_all(world.project().join("node_modules")).unwrap();
    world.bolide(&["install", "--frozen", "--offline"]).succeeds();
}

/// Where the daemon has them.
fn places(world: &World) -> Vec<PathBuf> {
    let below = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    let own = below(&world.place("home/cache/bolide/prepared"));
    own.iter().flat_map(|own| below(own)).collect()
}

#[test]
fn what_stood_ready_is_installed_as_it_would_be_without() {
    let world = nested();
    let modules = world.project().join("node_modules");
    let before = tree(&modules);
    let _daemon = world.daemon();
    again(&world);
    assert_eq!(tree(&modules), before);
    wait_for(&world, 3);
    assert_eq!(prepared(&world)["given"], 0);
    for round in 1..3 {
        again(&world);
        assert_eq!(tree(&modules), before);
        wait_for(&world, 3);
        assert_eq!(prepared(&world)["given"], 3 * round);
        world.bolide(&["verify"]).succeeds();
        world.bolide(&["verify", "--standalone"]).succeeds();
    }
    let ran = world.run("node", &["-e", "require('tree'); require('leaf')"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let file = modules.join("tree/node_modules/leaf/index.js");
    fs::write(&file, "edited").unwrap();
    world.bolide(&["verify"]).fails(6, &["node_modules/tree/node_modules/leaf/index.js"]);
    world.bolide(&["verify", "--repair", "--force"]).succeeds();
    assert_eq!(tree(&modules), before);
    world.bolide(&["rollback", "--force"]).succeeds();
    assert_eq!(fs::read(&file).unwrap(), b"edited");
}

#[test]
fn what_was_touched_while_it_stood_ready_is_not_installed() {
    let world = nested();
    let modules = world.project().join("node_modules");
    let before = tree(&modules);
    let _daemon = world.daemon();
    again(&world);
    wait_for(&world, 3);
    let places = places(&world);
    assert_eq!(places.len(), 3);
    fs::write(places[0].join("index.js"), "touched").unwrap();
    fs::write(places[1].join("more.js"), "touched").unwrap();
    fs::remove_file(places[2].join("package.json")).unwrap();
    again(&world);
    assert_eq!(tree(&modules), before);
    wait_for(&world, 3);
    assert_eq!(prepared(&world)["given"], 0);
    world.bolide(&["verify"]).succeeds();
}

#[test]
fn what_a_daemon_left_goes_with_the_next_one_and_all_of_it_when_asked() {
    let world = nested();
    let mut daemon = world.daemon();
    again(&world);
    wait_for(&world, 3);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let left = places(&world);
    assert_eq!(left.len(), 3);
    let _daemon = world.daemon();
    again(&world);
    wait_for(&world, 3);
    wait_until("what was left is gone", || left.iter().all(|place| !place.exists()));
    world.bolide(&["cache", "collect", "--all"]).succeeds();
    assert_eq!(prepared(&world)["packages"], 0);
    wait_until("nothing takes place any more", || places(&world).is_empty());
    again(&world);
    world.bolide(&["verify"]).succeeds();
}

#[test]
fn nothing_stands_ready_where_times_do_not_tell_of_every_write() {
    // A file system in memory, where there is one.
    let world = World::quick();
    if !world.project().starts_with("/dev/shm") {
        return;
    }
    let _daemon = world.daemon();
    world.bolide(&["add", "npm:tree@1", "--yes"]).succeeds();
    again(&world);
    assert_eq!(prepared(&world), Value::Null);
    assert!(places(&world).is_empty());
}
