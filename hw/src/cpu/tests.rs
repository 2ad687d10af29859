//! Generated trees: the numberings of one processor that were seen in the field, and the traps around them.

use std::path::Path;

use super::{Classes, online};
use crate::cpu_set::CpuSet;
use crate::root::Root;

struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn file(self, path: &str, content: &str) -> Self {
        let path = self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn with_l3(mut self, cpus: &str) -> Self {
        for cpu in CpuSet::parse(cpus).unwrap().iter() {
            self = self.file(&format!("sys/devices/system/cpu/cpu{cpu}/cache/index3/level"), "3\n");
        }
        self
    }

    fn check(&self, allowed: &str, performance: &str, efficient: &str, low_power: &str) {
        let root = Root::at(self.directory.path());
        let classes = Classes::read(&root, &CpuSet::parse(allowed).unwrap());
        let seen = [&classes.performance, &classes.efficient, &classes.low_power];
        assert_eq!(
            seen.map(ToString::to_string),
            [performance, efficient, low_power],
            "{classes:?}"
        );
    }
}

fn meteor_lake(core: &str, atom: &str, with_l3: &str) -> Tree {
    Tree::new()
        .file("sys/devices/cpu_core/cpus", core)
        .file("sys/devices/cpu_atom/cpus", atom)
        .with_l3(with_l3)
}

#[test]
fn meteor_lake_is_recognised_in_every_numbering() {
    let performance_first = meteor_lake("0-11\n", "12-21\n", "0-19");
    performance_first.check("0-21", "0-11", "12-19", "20-21");
    let efficient_in_the_middle = meteor_lake("0-1,10-19", "2-9,20-21", "0-19");
    efficient_in_the_middle.check("0-21", "0-1,10-19", "2-9", "20-21");
}

#[test]
fn a_restricted_set_restricts_every_class() {
    meteor_lake("0-11", "12-21", "0-19").check("4-13,21", "4-11", "12-13", "21");
}

#[test]
fn atoms_without_any_level_3_cache_are_efficient_cores() {
    meteor_lake("0-3", "4-7", "0-3").check("0-7", "0-3", "4-7", "");
}

#[test]
fn capacities_decide_where_there_is_no_pmu_list() {
    let mut tree = Tree::new();
    for cpu in 0..8 {
        let capacity = if cpu < 4 { "400" } else { "1024" };
        tree = tree.file(&format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity"), capacity);
    }
    tree.check("0-7", "4-7", "0-3", "");
}

#[test]
fn favoured_cores_of_one_kind_are_not_two_kinds() {
    let mut tree = Tree::new();
    for cpu in 0..4 {
        let frequency = if cpu == 0 { "5200000" } else { "5000000" };
        let path = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq");
        tree = tree.file(&path, frequency);
    }
    tree.check("0-3", "0-3", "", "");
}

#[test]
fn an_empty_tree_is_homogeneous_and_has_nothing_online() {
    let tree = Tree::new();
    tree.check("0-1", "0-1", "", "");
    assert!(online(&Root::at(tree.directory.path())).is_empty());
}
