//! The least age of versions: what is younger does not count, unless it is there already or let through by name.

use serde_json::{Value, json};

use super::world::World;

const OLD: &str = "2020-01-01T00:00:00.000Z";
/// After every clock that runs these tests.
const NEW: &str = "2999-01-01T00:00:00.000Z";

/// Says when the versions of `leaf` were published.
fn date(world: &World, times: &[(&str, &str)]) {
    world.registry.spoil("/npm/leaf", |page| {
        let mut packument: Value = serde_json::from_slice(&page.body).unwrap();
        let times = times.iter().map(|(version, time)| ((*version).to_owned(), json!(time)));
        packument["time"] = Value::Object(times.collect());
        page.body = packument.to_string().into_bytes();
    });
}

fn leaf(world: &World) -> String {
    let list = world.bolide(&["list", "--json"]).succeeds().json();
    let packages = list["packages"].as_array().unwrap();
    let leaf = packages.iter().find(|one| one["purl"].as_str().unwrap().contains("leaf"));
    leaf.unwrap()["purl"].as_str().unwrap().to_owned()
}

#[test]
fn versions_that_are_too_young_do_not_count() {
    let world = World::new();
    date(&world, &[("1.0.0", OLD), ("1.1.0", NEW), ("2.0.0", NEW)]);
    let plan = world.bolide(&["plan", "npm:leaf", "--minimum-age", "3d"]).succeeds();
    assert!(plan.stdout.contains("leaf@1.0.0") && plan.stdout.contains("too young"), "{plan:#?}");
    let plan = world.bolide(&["plan", "npm:leaf", "--exclude-newer", "2020-01-01"]).succeeds();
    assert!(plan.stdout.contains("leaf@1.0.0"), "the whole day counts: {plan:#?}");
    let newer = ["plan", "npm:leaf", "--exclude-newer", "2020-01-01T00:00:00Z"];
    world.bolide(&newer).fails(5, &["leaf", "too young"]);
    world.bolide(&["plan", "npm:leaf@2", "--minimum-age", "3d"]).fails(5, &["leaf", "too young"]);
    world.bolide(&["plan", "npm:leaf", "--minimum-age", "soon"]).fails(2, &["3d"]);
    world.bolide(&["plan", "npm:leaf", "--exclude-newer", "soon"]).fails(2, &["--exclude-newer"]);
}

#[test]
fn a_version_of_which_nobody_tells_the_age_is_too_young() {
    let world = World::new();
    let packages = ["npm:leaf", "pypi:stone", "cargo:grain"];
    for package in packages {
        world.bolide(&["plan", package, "--minimum-age", "1h"]).fails(5, &["nobody tells"]);
    }
}

#[test]
fn what_is_let_through_by_name_is_recorded_and_stays() {
    let world = World::new();
    date(&world, &[("1.0.0", OLD), ("1.1.0", NEW), ("2.0.0", NEW)]);
    let plan = ["plan", "npm:leaf@1", "--minimum-age", "3d", "--allow-new", "npm:leaf", "--json"];
    let plan = world.bolide(&plan).succeeds().json();
    let expected = json!([{"purl": "pkg:npm/leaf@1.1.0", "published": NEW, "reason": "named"}]);
    assert_eq!(plan["exemptions"], expected);
    world.bolide(&["apply", plan["digest"].as_str().unwrap(), "--yes"]).succeeds();
    assert_eq!(leaf(&world), "pkg:npm/leaf@1.1.0");
    // What is there already is no reason to go back.
    world.file("package.json", &world.read("package.json").replace("\"1\"", "\"^1\""));
    let plan = ["plan", "--install", "--minimum-age", "3d", "--json"];
    let plan = world.bolide(&plan).succeeds().json();
    assert_eq!(plan["packages"][0]["purl"], "pkg:npm/leaf@1.1.0");
    assert_eq!(plan["exemptions"][0]["reason"], "locked", "{plan}");
    let plan = ["plan", "--update", "npm:leaf", "--minimum-age", "3d", "--json"];
    let plan = world.bolide(&plan).succeeds().json();
    assert_eq!(plan["packages"][0]["purl"], "pkg:npm/leaf@1.0.0", "chosen anew: {plan}");
    assert_eq!(plan["exemptions"], json!([]));
}

#[test]
fn the_configured_age_holds_for_the_daemon_too() {
    let world = World::new();
    date(&world, &[("1.0.0", OLD), ("1.1.0", NEW), ("2.0.0", NEW)]);
    let directory = world.place("home/config/bolide");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), "[packages]\nminimum_age = \"3d\"\n").unwrap();
    world.bolide(&["add", "npm:leaf", "--yes", "--standalone"]).succeeds();
    assert_eq!(leaf(&world), "pkg:npm/leaf@1.0.0");
    let _daemon = world.daemon();
    world.bolide(&["plan", "npm:leaf@^1.1"]).fails(5, &["too young"]);
    world.bolide(&["plan", "npm:leaf@^1.1", "--minimum-age", "0"]).fails(5, &["too young"]);
}
