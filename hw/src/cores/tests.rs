//! Cores and caches of generated machines, and of files that contradict each other.

use super::{Cores, bytes};
use crate::cpu_set::CpuSet;
use crate::trees::{Machine, Tree};

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

fn cores(machine: &Machine, allowed: &str) -> (tempfile::TempDir, Tree, Cores) {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    machine.write(&tree);
    let cores = Cores::read(&tree.root(), &set(allowed));
    (directory, tree, cores)
}

#[test]
fn threads_of_a_core_need_not_be_neighbours() {
    let (_directory, _tree, cores) = cores(&Machine::meteor_lake_c(), "0-21");
    assert_eq!(cores.siblings(0), set("5"));
    assert_eq!(cores.siblings(1), set("2"));
    assert_eq!(cores.siblings(20), set(""));
    assert_eq!(cores.count(&set("0-11")), 6);
    assert_eq!(cores.count(&set("0,5")), 1);
    assert_eq!(cores.count(&set("12-21")), 10);
    assert_eq!(cores.one_each(&set("0-11")), set("0-1,3,6,8,10"));
    assert_eq!(cores.one_each(&set("5,12")), set("5,12"));
}

#[test]
fn the_tuned_machine_has_sixteen_cores_in_every_numbering() {
    let a = Machine::meteor_lake_a();
    let b = Machine::meteor_lake_b();
    for machine in [a, b, Machine::meteor_lake_c(), Machine::meteor_lake_d()] {
        let all = machine.cpus();
        let (_directory, _tree, cores) = cores(&machine, &all.to_string());
        assert_eq!(cores.count(&all), 16);
        let l3: Vec<_> = cores.caches(3).collect();
        assert_eq!((l3.len(), l3[0].cpus.len()), (1, all.len() - 2));
        assert_eq!(l3[0].size_bytes, Some(24 << 20));
        assert_eq!(cores.caches(2).count(), 6 + 2 + 1);
        assert_eq!(cores.caches(1).count(), 16, "data caches only");
    }
}

#[test]
fn what_may_not_be_used_does_not_count() {
    let (_directory, _tree, cores) = cores(&Machine::meteor_lake_a(), "1-2,20");
    assert_eq!(cores.all(), [set("1"), set("2"), set("20")]);
    assert_eq!(cores.caches(3).map(|cache| cache.cpus.clone()).collect::<Vec<_>>(), [[1, 2]]);
    assert_eq!(cores.count(&set("0-21")), 3);
}

#[test]
fn a_cpu_that_claims_strangers_stays_alone() {
    let (_directory, tree, _) = cores(&Machine::meteor_lake_a(), "0-21");
    tree.each("2", "topology/thread_siblings_list", "0-21\n");
    tree.each("4", "topology/thread_siblings_list", "6\n");
    tree.each("8", "topology/thread_siblings_list", "garbage\n");
    let cores = Cores::read(&tree.root(), &set("0-21"));
    assert_eq!(cores.siblings(0), set("1"));
    assert_eq!(cores.siblings(2), set("3"));
    assert_eq!((cores.siblings(4), cores.siblings(5)), (set(""), set("")));
    assert_eq!((cores.siblings(8), cores.siblings(9)), (set(""), set("")));
    assert_eq!(cores.unknown(), &set("4,8"));
    assert_eq!(cores.count(&set("0-21")), 18);
}

#[test]
fn another_fills_in_only_what_is_not_known() {
    let (_directory, tree, _) = cores(&Machine::meteor_lake_a(), "0-21");
    tree.remove("sys/devices/system/cpu/cpu0/topology")
        .remove("sys/devices/system/cpu/cpu1/topology");
    let cores = Cores::read(&tree.root(), &set("0-21"));
    assert_eq!(cores.count(&set("0-1")), 2);
    let completed = cores.completed_by(&[set("0-1"), set("2,4"), set("12")]);
    assert_eq!(completed.siblings(0), set("1"));
    assert_eq!(completed.siblings(2), set("3"));
    assert_eq!(completed.count(&set("0-21")), 16);
    assert!(completed.unknown().is_empty());
}

#[test]
fn l3_caches_of_several_clusters_are_several() {
    let (_directory, _tree, cores) = cores(&Machine::gb10(), "0-19");
    let l3: Vec<CpuSet> = cores.caches(3).map(|it| it.cpus.iter().copied().collect()).collect();
    assert_eq!(l3, [set("0-9"), set("10-19")]);
}

#[test]
fn sizes_have_units() {
    let sizes =
        ["24576K", "2M", "1G", "512", "K", "-1K", "99999999999999999999K", "18446744073709551615K"];
    let expected =
        [Some(24 << 20), Some(2 << 20), Some(1 << 30), Some(512), None, None, None, None];
    assert_eq!(sizes.map(bytes), expected);
}
