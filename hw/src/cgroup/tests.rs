//! Groups of both versions, their quotas, and paths that lead nowhere.

use super::{Groups, levels};
use crate::allowed::Allowed;
use crate::trees::{Machine, Tree};

fn tree(groups: &str) -> (tempfile::TempDir, Tree) {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    Machine::meteor_lake_a().write(&tree);
    tree.file("proc/self/cgroup", groups);
    (directory, tree)
}

fn check(tree: &Tree, cpus: &str, quota: Option<f64>, parallelism: usize) {
    let allowed = Allowed::read(&tree.root());
    assert_eq!(allowed.cpus.to_string(), cpus, "{allowed:?}");
    assert_eq!(allowed.quota.as_ref().map(super::Quota::cpus), quota);
    assert_eq!(allowed.parallelism(), parallelism);
    assert!(allowed.affinity.is_none(), "a tree has no affinity");
}

#[test]
fn version_2_cuts_numbers_and_time() {
    let (_directory, tree) = tree("0::/user.slice/bolide.service\n");
    check(&tree, "0-21", None, 22);
    tree.file("sys/fs/cgroup/cpuset.cpus.effective", "0-21\n");
    tree.file("sys/fs/cgroup/user.slice/cpuset.cpus.effective", "4-13,40\n");
    tree.file("sys/fs/cgroup/user.slice/bolide.service/cpu.max", "max 100000\n");
    check(&tree, "4-13", None, 10);
    tree.file("sys/fs/cgroup/user.slice/cpu.max", "350000 100000\n");
    check(&tree, "4-13", Some(3.5), 3);
    tree.file("sys/fs/cgroup/user.slice/bolide.service/cpu.max", "50000 100000\n");
    check(&tree, "4-13", Some(0.5), 1);
}

#[test]
fn version_1_cuts_numbers_and_time() {
    let (_directory, tree) = tree("5:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n2:memory:/x\n");
    tree.file("sys/fs/cgroup/cpuset/docker/abc/cpuset.cpus", "20-21\n");
    tree.file("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
    tree.file("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
    check(&tree, "20-21", None, 2);
    tree.file("sys/fs/cgroup/cpuset/docker/abc/cpuset.effective_cpus", "21\n");
    tree.file("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "150000\n");
    check(&tree, "21", Some(1.5), 1);
}

#[test]
fn a_container_finds_its_own_group_at_the_top() {
    for group in ["/docker/abc", "/../../outside", "/", "/a/../../.."] {
        let (_directory, tree) = tree(&format!("4:cpuset:{group}\n3:cpu:{group}\n"));
        tree.file("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "9-11\n");
        tree.file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
        tree.file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
        check(&tree, "9-11", Some(2.0), 2);
    }
}

#[test]
fn garbage_limits_nothing() {
    let (_directory, tree) = tree("0::/a\nx\n1:cpuset\n:::\n");
    for text in ["", "max", "100000", "0 100000", "1 0", "-1 100000", "1e9 100000", "1 2 3"] {
        tree.file("sys/fs/cgroup/a/cpu.max", text)
            .file("sys/fs/cgroup/a/cpuset.cpus.effective", text);
        check(&tree, "0-21", None, 22);
    }
    tree.file("sys/fs/cgroup/a/cpuset.cpus.effective", "garbage\n");
    check(&tree, "0-21", None, 22);
}

#[test]
fn sets_without_anything_in_common_leave_what_is_online() {
    let (_directory, tree) = tree("0::/a\n");
    tree.file("sys/fs/cgroup/a/cpuset.cpus.effective", "30-31\n");
    let allowed = Allowed::read(&tree.root());
    assert!(allowed.is_contradictory);
    assert_eq!(allowed.cpus.to_string(), "0-21");
    tree.remove("sys/devices/system/cpu/online").remove("sys/fs/cgroup/a");
    assert_eq!(Allowed::read(&tree.root()).cpus.to_string(), "0", "nothing says anything");
}

#[test]
fn levels_are_bounded_and_go_up() {
    assert_eq!(levels(Some("/a/b"), &["x"]), ["x/a/b", "x/a", "x"]);
    assert_eq!(levels(Some("/"), &["x"]), ["x"]);
    assert!(levels(None, &["x"]).is_empty());
    let deep = "/d".repeat(1000);
    assert!(levels(Some(&deep), &["x"]).len() <= crate::limits::CGROUP_LEVELS_MAX);
    assert_eq!(levels(Some(&deep), &["x"]).last().unwrap(), "x");
}

#[test]
fn this_machine_allows_what_the_kernel_says() {
    let allowed = Allowed::read(&crate::root::Root::machine());
    assert!(!allowed.is_contradictory, "{allowed:?}");
    assert_eq!(Some(&allowed.cpus), allowed.affinity.as_ref());
    let _ = Groups::read(&crate::root::Root::machine());
}

#[test]
fn only_the_lines_that_are_used_are_recorded_and_they_say_the_same() {
    let (_directory, tree) = tree(
        "12:devices:/private/secret\n5:cpuset:/a\n4:cpu,cpuacct:/b\n1:name=systemd:/secret\n\
         nonsense secret\n0::/c\n",
    );
    let root = tree.root().recording();
    let groups = Groups::read(&root);
    assert_eq!(groups.unified.as_deref(), Some("/c"));
    let recorded = &root.recorded().files["proc/self/cgroup"];
    let recorded = std::str::from_utf8(recorded).unwrap();
    assert_eq!(recorded, "5:cpuset:/a\n4:cpu,cpuacct:/b\n0::/c\n");
    tree.file("proc/self/cgroup", recorded);
    assert_eq!(Groups::read(&tree.root()), groups);
    tree.file("proc/self/cgroup", "1:name=systemd:/secret\n");
    let root = tree.root().recording();
    assert_eq!(Groups::read(&root), Groups::default());
    assert_eq!(root.recorded().files["proc/self/cgroup"], b"\n");
}
