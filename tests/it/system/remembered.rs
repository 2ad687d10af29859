//! What transactions remember of packages: marks, digests of archives, and what stays after a failure.

use super::super::machine::{Deb, Machine};
use super::{LIB_1, LIB_2, OLD, Outcome, RIVAL, WEB, machine, states};

/// Has no archive but ours hold any version of `lib` any more, but those that are named.
fn publish_library(machine: &Machine, versions: &[Deb]) {
    machine.publish(&[&[WEB, OLD, RIVAL], versions].concat());
    let cache = machine.root().join("var/cache/apt/archives");
    let files = std::fs::read_dir(cache).unwrap().flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|it| it == "deb"));
    files.for_each(|file| std::fs::remove_file(file.path()).unwrap());
}

fn transactions(machine: &Machine) -> Vec<String> {
    let history = machine.bolide(&["history", "--json"]).succeeds().json();
    let entries = history["transactions"].as_array().unwrap();
    entries.iter().map(|entry| entry["transaction"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_mark_of_before_an_archive_was_known_goes_back_with_the_archive_of_after() {
    let Some(machine) = machine(&[]) else { return };
    publish_library(&machine, &[LIB_1]);
    let before = machine.state();
    // A mark alone: no archive of 1.0 is known to it.
    machine.bolide(&["add", "deb:lib", "--yes"]).succeeds();
    let marks = Outcome::of(machine.tool("apt-mark").arg("showauto")).succeeds().stdout;
    assert_eq!(marks, "", "it was asked for");
    publish_library(&machine, &[LIB_1, LIB_2]);
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    publish_library(&machine, &[]);
    let first = transactions(&machine).last().unwrap().clone();
    machine.bolide(&["rollback", &first, "--yes"]).succeeds();
    assert_eq!(machine.state(), before);
}

#[test]
fn a_rollback_over_a_mark_that_dies_brings_back_what_an_earlier_transaction_has_the_archive_of() {
    let Some(machine) = machine(&[]) else { return };
    let before = machine.state();
    machine.bolide(&["add", "deb:web", "--yes"]).succeeds();
    publish_library(&machine, &[LIB_2]);
    machine.bolide(&["add", "deb:lib", "--yes"]).succeeds();
    publish_library(&machine, &[]);
    let stands = machine.state();
    let first = transactions(&machine).last().unwrap().clone();
    let death = ("system.tool-ended", 0, super::deaths::Left::Touched);
    super::deaths::strike(&machine, &["rollback", &first, "--yes"], death);
    assert_eq!(machine.version("lib").as_deref(), Some("1.0"), "apt had gone back");
    assert_eq!(states(&machine), ["failed", "committed", "committed"]);
    assert_eq!(machine.state(), stands);
    machine.bolide(&["rollback", &first, "--yes"]).succeeds();
    assert_eq!(machine.state(), before);
}

#[test]
fn a_mark_of_a_package_that_somebody_is_about_to_remove_is_only_a_mark() {
    let Some(machine) = machine(&[]) else { return };
    let root = format!("--root={}", machine.root().display());
    let select = |what: &str| {
        let script = format!("echo lib {what} | dpkg {root} --set-selections");
        Outcome::of(machine.tool("sh").args(["-c", &script])).succeeds();
    };
    publish_library(&machine, &[LIB_1]);
    for what in ["hold", "deinstall"] {
        select(what);
        let before = machine.state();
        machine.bolide(&["add", "deb:lib", "--yes"]).succeeds();
        assert_ne!(machine.state(), before, "{what}");
        machine.bolide(&["rollback"]).succeeds();
        assert_eq!(machine.state(), before, "{what}");
    }
}

#[test]
fn what_stays_after_a_failure_is_a_hint_and_not_the_error() {
    // Edits its own configuration file, then fails: whose words these are nobody knows.
    let bad = Deb {
        name: "bad",
        version: "1",
        scripts: &[("postinst", "echo mine > /etc/bad.conf\nexit 7")],
        configuration: "bad = yes\n",
        ..LIB_1
    };
    let Some(machine) = machine(&[bad]) else { return };
    let failed = machine.bolide(&["add", "deb:bad", "--yes"]);
    failed.fails(1, &["error: apt-get failed", "hint: what `bad` keeps", "apt-get purge bad"]);
    assert!(!failed.stderr.contains("as they were before"), "not everything: {failed:#?}");
    assert_eq!(std::fs::read_to_string(machine.root().join("etc/bad.conf")).unwrap(), "mine\n");
    // Of a failure before anything began nothing stays, and nothing is said of an earlier one.
    let gone = machine.bolide(&["add", "deb:web", "--yes", "--json"]).succeeds();
    assert!(!gone.stdout.contains("purge"), "{gone:#?}");
}
