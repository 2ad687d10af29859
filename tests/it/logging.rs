//! The log: who did what with whose consent, and what each name held before and after.

use serde_json::Value;

use super::registry::hex;
use super::world::World;

fn entries(world: &World) -> Vec<Value> {
    let history = world.bolide(&["history", "--json"]).succeeds().json();
    assert_eq!(history["schema"], "bolide.history/1");
    history["transactions"].as_array().unwrap().clone()
}

fn change<'e>(entry: &'e Value, path: &str) -> &'e Value {
    let changes = entry["details"]["changes"].as_array().unwrap();
    changes.iter().find(|change| change["path"] == path).unwrap_or_else(|| panic!("{entry:#}"))
}

fn sha256(world: &World, file: &str) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(std::fs::read(world.project().join(file)).unwrap()))
}

#[test]
fn the_log_has_who_what_with_whose_consent_and_before_and_after() {
    let world = World::new();
    world.file("package.json", "{}\n");
    let old = sha256(&world, "package.json");
    let plan = world.bolide(&["plan", "npm:leaf@1", "pypi:wall", "--json"]).succeeds().json();
    let digest = plan["digest"].as_str().unwrap();
    world.bolide(&["apply", digest, "--yes"]).succeeds();
    let new = sha256(&world, "package.json");
    world.bolide(&["rollback"]).succeeds();
    let log = entries(&world);
    let [undo, add] = log.as_slice() else { panic!("{log:#?}") };
    assert_eq!((&add["state"], &add["digest"]), (&"rolled-back".into(), &digest.into()));
    assert!(add["actor"].as_str().unwrap().contains("uid"), "{add:#}");
    assert!(add["finished_at"].as_u64() >= add["started_at"].as_u64());
    assert_eq!(add["undone_by"], undo["transaction"]);
    assert_eq!(undo["undid"][0], add["transaction"]);
    let approvals = add["details"]["approvals"].as_array().unwrap();
    assert_eq!(approvals.len(), 1, "{add:#}");
    assert!(approvals[0]["who"].as_str().unwrap().contains("uid"));
    let packages = &add["details"]["packages"];
    assert_eq!(packages["added"][0], "pkg:npm/leaf@1.1.0", "{packages:#}");
    assert_eq!(packages["removed"], Value::Array(Vec::new()));
    let manifest = change(add, "package.json");
    assert_eq!(
        (&manifest["before"]["digest"], &manifest["after"]["digest"]),
        (&old.into(), &new.into())
    );
    let modules = change(add, "node_modules");
    assert_eq!(modules["before"], Value::Null);
    assert_eq!(
        (&modules["after"]["kind"], &modules["environment"]),
        (&"directory".into(), &"npm".into())
    );
    assert!(modules["after"]["digest"].as_str().unwrap().starts_with("sha256:"));
    // What a rollback did is the same, the other way round.
    let back = change(undo, "package.json");
    assert_eq!((&back["before"], &back["after"]), (&manifest["after"], &manifest["before"]));
    let back = change(undo, "node_modules");
    assert_eq!((&back["before"], &back["after"]), (&modules["after"], &modules["before"]));
}

#[test]
fn a_failure_is_in_the_log_with_its_reason() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1", "--yes"]).succeeds();
    std::fs::write(world.project().join("node_modules/leaf/index.js"), "mine\n").unwrap();
    world.bolide(&["add", "npm:leaf@2", "--yes"]).fails(6, &["leaf/index.js"]);
    let log = entries(&world);
    assert_eq!(
        (&log[0]["state"], &log[0]["details"]["changes"]),
        (&"failed".into(), &Value::Array(Vec::new()))
    );
    assert!(log[0]["error"].as_str().unwrap().contains("edited"), "{:#}", log[0]);
}

#[test]
fn the_whole_log_is_exported_with_and_without_a_daemon() {
    let world = World::new();
    for version in ["npm:leaf@1.0.0", "npm:leaf@1.1.0", "npm:leaf@2.0.0"] {
        world.bolide(&["add", version, "--yes"]).succeeds();
    }
    let export = |name: &str| -> Vec<Value> {
        let file = world.place(name);
        world.bolide(&["history", "--export", &file.display().to_string()]).succeeds();
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let alone = export("alone.jsonl");
    let mut shown = entries(&world);
    for entry in &mut shown {
        entry["schema"] = "bolide.history-entry/1".into();
    }
    assert_eq!(alone, shown);
    let _daemon = world.daemon();
    assert_eq!(export("asked.jsonl"), alone);
    let nowhere = world.place("nowhere/log").display().to_string();
    world.bolide(&["history", "--export", &nowhere]).fails(1, &["nowhere"]);
}
