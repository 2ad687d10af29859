//! What dpkg itself finds wrong with its packages: new faults undo a change, and `bolide verify` shows those that are there.

use super::super::machine::{Deb, Machine};
use super::{machine, states};

/// Takes a part of dpkg's record of `lib` away, which no version and no state shows.
const VANDAL: Deb = Deb {
    name: "vandal",
    version: "1",
    fields: "Depends: lib (>= 1.5)",
    scripts: &[("postinst", "rm -f /var/lib/dpkg/info/lib.list")],
    configuration: "",
};

fn damage(machine: &Machine, package: &str) {
    let list = machine.root().join(format!("var/lib/dpkg/info/{package}.list"));
    std::fs::remove_file(list).unwrap();
}

#[test]
fn a_change_with_which_dpkg_finds_fault_is_taken_back() {
    let Some(machine) = machine(&[VANDAL]) else { return };
    let (before, tree) = (machine.state(), machine.world.tree());
    let outcome = machine.bolide(&["add", "deb:vandal", "npm:leaf", "--yes"]);
    outcome.fails(1, &["dpkg finds fault", "`lib` (missing the list control file"]);
    assert_eq!(machine.state(), before, "the state has dpkg's audit, too");
    assert_eq!(machine.world.tree(), tree);
    assert_eq!(states(&machine), ["failed"]);
}

#[test]
fn a_fault_of_before_is_in_nobodys_way_but_its_own_packages() {
    let Some(machine) = machine(&[]) else { return };
    damage(&machine, "old");
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    assert_eq!(machine.version("web").as_deref(), Some("2.0"));
    machine.bolide(&["rollback"]).succeeds();
    assert_eq!(machine.version("web"), None);
    machine.bolide(&["add", "deb:rival", "--yes"]).fails(1, &["`old` (missing", "--reinstall"]);
    assert_eq!(machine.version("old").as_deref(), Some("1"));
}

#[test]
fn a_fault_is_a_finding_of_a_verification() {
    let Some(machine) = machine(&[]) else { return };
    machine.bolide(&["verify"]).succeeds();
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    let sound = machine.bolide(&["verify"]).succeeds().stdout;
    assert!(sound.contains("no fault"), "{sound}");
    damage(&machine, "old");
    machine.bolide(&["verify"]).fails(6, &["`old` (missing the list control file"]);
    let answer = machine.bolide(&["verify", "--json"]).json();
    assert_eq!(answer["clean"], false);
    assert_eq!(answer["systems"][0]["root"], machine.root().display().to_string());
    assert_eq!(answer["systems"][0]["faults"][0]["package"], "old");
    machine.apt(&["install", "--reinstall", "old"]);
    machine.bolide(&["verify"]).succeeds();
    let aside = machine.world.place("aside");
    std::fs::rename(machine.root(), &aside).unwrap();
    let unseen = machine.bolide(&["verify"]).succeeds();
    assert!(unseen.stdout.contains("was not asked"), "{unseen:#?}");
    std::fs::rename(aside, machine.root()).unwrap();
    // A project without packages of the system asks nobody.
    damage(&machine, "old");
    machine.bolide(&["rollback"]).succeeds();
    let nothing = machine.bolide(&["verify", "--json"]).succeeds().json();
    assert_eq!(nothing["systems"], serde_json::json!([]));
}
