//! A machine that changes under a running program.

use super::{Changes, Watcher};
use crate::trees::{Machine, Tree};

fn start(machine: &Machine) -> (tempfile::TempDir, Tree, Watcher) {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    machine.write(&tree);
    tree.file("proc/self/cgroup", "0::/a\n");
    let watcher = Watcher::new(tree.root());
    (directory, tree, watcher)
}

fn classes(watcher: &Watcher) -> [String; 3] {
    let classes = watcher.classes();
    [&classes.performance, &classes.efficient, &classes.low_power].map(ToString::to_string)
}

#[test]
fn nothing_new_is_nothing() {
    let (_directory, _tree, mut watcher) = start(&Machine::meteor_lake_a());
    assert!(watcher.tick().is_empty());
    assert!(watcher.tick().is_empty());
}

#[test]
fn a_set_that_shrinks_and_grows_is_followed() {
    let (_directory, tree, mut watcher) = start(&Machine::meteor_lake_a());
    tree.file("sys/fs/cgroup/a/cpuset.cpus.effective", "10-21\n");
    let changes = watcher.tick();
    assert_eq!((changes.gained.to_string(), changes.lost.to_string()), ("".into(), "0-9".into()));
    assert_eq!(changes.classes.as_ref(), Some(watcher.classes()));
    assert_eq!(classes(&watcher), ["10-11", "12-19", "20-21"]);
    tree.file("sys/fs/cgroup/a/cpuset.cpus.effective", "0-21\n");
    let changes = watcher.tick();
    assert_eq!((changes.gained.to_string(), changes.lost.to_string()), ("0-9".into(), "".into()));
    assert_eq!(classes(&watcher), ["0-11", "12-19", "20-21"]);
    assert!(watcher.tick().is_empty());
}

#[test]
fn a_quota_that_comes_and_goes_is_told() {
    let (_directory, tree, mut watcher) = start(&Machine::virtual_machine());
    tree.file("sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    let Changes { quota, classes, .. } = watcher.tick();
    assert_eq!(quota.unwrap().unwrap().cpus(), 0.5);
    assert_eq!(classes, None);
    tree.file("sys/fs/cgroup/a/cpu.max", "max 100000\n");
    assert_eq!(watcher.tick().quota, Some(None));
}

#[test]
fn cores_that_go_and_come_back_keep_the_kinds_of_the_others() {
    let (_directory, tree, mut watcher) = start(&Machine::meteor_lake_b());
    tree.offline("2-9");
    let changes = watcher.tick();
    assert_eq!(changes.lost.to_string(), "2-9");
    assert_eq!(classes(&watcher), ["0-1,10-19", "", "20-21"], "still low-power cores");
    Machine::meteor_lake_b().write(&tree);
    assert_eq!(watcher.tick().gained.to_string(), "2-9");
    assert_eq!(classes(&watcher), ["0-1,10-19", "2-9", "20-21"]);
}

#[test]
fn cores_first_seen_later_correct_what_could_not_be_known() {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    Machine::meteor_lake_a().write(&tree);
    tree.offline("12-19");
    let mut watcher = Watcher::new(tree.root());
    assert_eq!(classes(&watcher), ["0-11", "20-21", ""], "nothing proves that they are outside");
    Machine::meteor_lake_a().write(&tree);
    assert!(watcher.tick().classes.is_some());
    assert_eq!(classes(&watcher), ["0-11", "12-19", "20-21"]);
}
