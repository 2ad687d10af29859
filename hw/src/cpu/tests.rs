//! Generated machines, classified CPU by CPU: every numbering that was seen in the field, and the traps around them.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{ProptestConfig, proptest};

use super::{Classes, Classification, Evidence, online};
use crate::cpu_set::CpuSet;
use crate::root::ReadError;
use crate::trees::{Machine, Module, Tree};

struct World {
    _directory: tempfile::TempDir,
    tree: Tree,
}

fn world(machine: &Machine) -> World {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    machine.write(&tree);
    World { _directory: directory, tree }
}

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

impl World {
    fn classify(&self, allowed: &str) -> Classification {
        Classification::read(&self.tree.root(), &set(allowed))
    }

    /// Each CPU that may be used is in the class that is told, and in no other.
    fn check(&self, allowed: &str, expected: [&str; 3]) -> Classification {
        let found = self.classify(allowed);
        let Classes { performance, efficient, low_power, .. } = &found.classes;
        let seen = [performance, efficient, low_power];
        for cpu in 0..32 {
            for (class, expected) in seen.iter().zip(expected) {
                assert_eq!(
                    class.contains(cpu),
                    set(expected).contains(cpu),
                    "CPU {cpu}: {found:?}"
                );
            }
        }
        assert_eq!(seen.map(ToString::to_string), expected);
        assert_eq!(performance.union(efficient).union(low_power), set(allowed));
        assert_eq!(performance.len() + efficient.len() + low_power.len(), set(allowed).len());
        assert!(found.steps.iter().any(|step| step.decided), "{found:?}");
        found
    }
}

#[test]
fn meteor_lake_is_recognised_in_every_numbering() {
    let lists_and_caches = "kernel PMU lists and level-3 caches";
    let machines = [
        (Machine::meteor_lake_a(), "0-21", ["0-11", "12-19", "20-21"]),
        (Machine::meteor_lake_b(), "0-21", ["0-1,10-19", "2-9", "20-21"]),
        (Machine::meteor_lake_c(), "0-21", ["0-11", "12-19", "20-21"]),
        (Machine::meteor_lake_d(), "0-20", ["0-10", "11-18", "19-20"]),
        (Machine::ultra_u(), "0-13", ["0-1,10-11", "2-9", "12-13"]),
    ];
    for (machine, all, expected) in machines {
        let found = world(&machine).check(all, expected);
        assert_eq!(found.classes.source, lists_and_caches);
    }
}

#[test]
fn low_power_cores_with_a_list_of_their_own_are_those() {
    let world = world(&Machine::arrow_lake_h());
    let found = world.check("0-15", ["0-5", "6-13", "14-15"]);
    assert_eq!(found.classes.source, "kernel PMU lists, low-power cores among them");
    world.tree.each("6-13", "cache/index3/level", "2\n");
    world.check("0-15", ["0-5", "6-13", "14-15"]);
}

#[test]
fn atoms_without_any_level_3_cache_are_efficient_cores() {
    let world = world(&Machine::lunar_lake());
    world.check("0-7", ["0-3", "4-7", ""]);
    world.check("5-7", ["", "5-7", ""]);
    // Also while some are off, although that could be another machine.
    world.tree.offline("3,6");
    let found = world.check("0-2,4-5,7", ["0-2", "4-5,7", ""]);
    let cache = found.steps.iter().find(|step| step.rule == "level-3 cache").unwrap();
    assert!(!cache.decided && cache.finding.contains("3,6 are offline"), "{cache}");
}

#[test]
fn a_restricted_set_restricts_every_class_and_changes_none() {
    let world = world(&Machine::meteor_lake_a());
    world.check("4-13,21", ["4-11", "12-13", "21"]);
    // The cores in the cache are not allowed: the others are outside it all the same.
    world.check("20-21", ["", "", "20-21"]);
    world.check("0,20", ["0", "", "20"]);
    let without_lists = self::world(&Machine::meteor_lake_a().without_lists());
    without_lists.check("12-14,20", ["", "12-14", "20"]);
}

#[test]
fn an_offline_cpu_is_in_no_class_and_confuses_none() {
    let world = world(&Machine::meteor_lake_b());
    world.tree.offline("2,11,20");
    let allowed = online(&world.tree.root()).to_string();
    assert_eq!(allowed, "0-1,3-10,12-19,21");
    world.check(&allowed, ["0-1,10,12-19", "3-9", "21"]);
}

#[test]
fn what_was_seen_of_a_core_is_remembered_while_it_is_off() {
    let world = world(&Machine::meteor_lake_a());
    let root = world.tree.root();
    let mut evidence = Evidence::default();
    evidence.look(&root, &set("0-21"));
    world.tree.offline("12-19");
    // Without memory the two that are left cannot be told from those of a machine without such a cache.
    world.check("0-11,20-21", ["0-11", "20-21", ""]);
    let left = set("0-11,20-21");
    evidence.look(&root, &left);
    let classes = Classification::from_evidence(&evidence, &root, &left).classes;
    assert_eq!(
        (classes.efficient.to_string(), classes.low_power.to_string()),
        (String::new(), "20-21".into())
    );
}

#[test]
fn capacities_decide_where_there_is_no_list() {
    let found = world(&Machine::big_little()).check("0-7", ["4-7", "0-3", ""]);
    assert_eq!(found.classes.source, "scheduler capacity");
}

#[test]
fn cores_of_one_kind_that_run_a_little_faster_are_one_kind() {
    let found = world(&Machine::gb10()).check("0-19", ["5-9,15-19", "0-4,10-14", ""]);
    let step = found.steps.iter().find(|step| step.rule == "capacity").unwrap();
    assert_eq!(step.finding, "997 to 1024 on 5-9,15-19; 718 to 731 on 0-4,10-14");
}

#[test]
fn a_container_without_the_kernels_lists_finds_the_same_classes() {
    // Written down, not taken from the other way to find them.
    let machines = [
        (Machine::meteor_lake_a(), "0-21", ["0-11", "12-19", "20-21"]),
        (Machine::meteor_lake_b(), "0-21", ["0-1,10-19", "2-9", "20-21"]),
        (Machine::meteor_lake_c(), "0-21", ["0-11", "12-19", "20-21"]),
        (Machine::meteor_lake_d(), "0-20", ["0-10", "11-18", "19-20"]),
        (Machine::ultra_u(), "0-13", ["0-1,10-11", "2-9", "12-13"]),
    ];
    for (machine, all, expected) in machines {
        let world = world(&machine.without_lists());
        let found = world.check(all, expected);
        assert_eq!(found.classes.source, "guaranteed frequency");
        // By the highest frequency too, where the better value is hidden.
        for cpu in set(all).iter() {
            world.tree.remove(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/base_frequency"));
        }
        assert_eq!(world.check(all, expected).classes.source, "maximum frequency");
        // Without any of them nothing shows different cores, and nothing is made up.
        for cpu in set(all).iter() {
            world.tree.remove(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq"));
        }
        let found = world.check(all, [all, "", ""]);
        assert!(found.classes.source.starts_with("homogeneous"), "{found:?}");
    }
}

#[test]
fn equal_values_lead_to_the_next_and_an_incomplete_one_is_none() {
    let world = world(&Machine::big_little());
    world.tree.each("0-7", "acpi_cppc/highest_perf", "100\n");
    world.tree.each("0-6", "cpufreq/base_frequency", "1000000\n");
    world.tree.each("0", "cpufreq/base_frequency", "9000000\n");
    let found = world.check("0-7", ["4-7", "0-3", ""]);
    let findings: Vec<_> = found.steps.iter().map(ToString::to_string).collect();
    assert_eq!(findings[1], "guaranteed frequency: no: not every CPU has it: 7 has none");
    assert_eq!(findings[2], "CPPC: no: 100 on every CPU");
}

#[test]
fn ranked_and_favoured_cores_of_one_kind_are_not_two_kinds() {
    let favoured = world(&Machine::virtual_machine());
    favoured.tree.each("0", "cpufreq/cpuinfo_max_freq", "5200000\n");
    favoured.tree.each("1", "cpufreq/cpuinfo_max_freq", "5000000\n");
    favoured.check("0-1", ["0-1", "", ""]);
    // Sixteen cores, each with its rank: 166 to 241 in steps of 5.
    let ranked = world(&Machine { modules: vec![Module::single("", "0-15")], has_lists: false });
    for cpu in 0..16 {
        let rank = (166 + 5 * cpu).to_string();
        ranked.tree.each(&cpu.to_string(), "acpi_cppc/highest_perf", &rank);
    }
    let found = ranked.check("0-15", ["0-15", "", ""]);
    assert!(found.steps[2].finding.contains("one kind, ranked"), "{found:?}");
}

#[test]
fn a_homogeneous_machine_says_so() {
    let found = world(&Machine::virtual_machine()).check("0-1", ["0-1", "", ""]);
    assert!(found.classes.source.starts_with("homogeneous"));
    let empty = Machine::default();
    world(&empty).check("0-1", ["0-1", "", ""]);
    assert!(online(&world(&empty).tree.root()).is_empty());
}

#[test]
fn a_hybrid_processor_with_one_kind_switched_off_is_homogeneous() {
    let mut machine = Machine::meteor_lake_a();
    machine.modules.retain(|module| module.list == "cpu_core");
    let found = world(&machine).check("0-11", ["0-11", "", ""]);
    assert_eq!(found.steps[0].finding, "cpu_core has 0-11, and there are no others");
}

#[test]
fn lists_that_lie_leave_every_cpu_in_one_class() {
    let core = "sys/devices/cpu_core/cpus";
    let atom = "sys/devices/cpu_atom/cpus";
    let world = world(&Machine::meteor_lake_a());
    world.tree.file(atom, "10-21\n");
    world.check("0-21", ["0-11", "12-19", "20-21"]);
    world.tree.file(atom, "12-21\n").file(core, "0-9\n");
    let found = world.check("0-21", ["0-11", "12-19", "20-21"]);
    assert!(found.steps.iter().any(|step| step.finding.starts_with("10-11: not among")));
    world.tree.file(core, "0-99999\n");
    world.check("0-21", ["0-11", "12-19", "20-21"]);
    world.tree.file(atom, &"0-8191,".repeat(600)).file(core, "garbage");
    let found = world.check("0-21", ["0-11", "12-19", "20-21"]);
    assert_eq!(found.classes.source, "guaranteed frequency");
    let malformed = "not lists of CPUs: sys/devices/cpu_core/cpus, sys/devices/cpu_atom/cpus";
    assert_eq!(found.steps[0].finding, malformed);
}

#[test]
fn caches_that_cannot_be_read_are_not_absent_caches() {
    let world = world(&Machine::meteor_lake_a());
    for cpu in 12..16 {
        world.tree.remove(&format!("sys/devices/system/cpu/cpu{cpu}/cache"));
    }
    world.check("0-21", ["0-11", "12-19", "20-21"]);
    for cpu in 16..22 {
        world.tree.remove(&format!("sys/devices/system/cpu/cpu{cpu}/cache"));
    }
    world.check("0-21", ["0-11", "12-21", ""]);
    for cpu in 12..22 {
        world
            .tree
            .refuse(&format!("sys/devices/system/cpu/cpu{cpu}/cache/index3/level"), ReadError::Io);
    }
    world.check("0-21", ["0-11", "12-21", ""]);
}

#[test]
fn large_and_sparse_numbers_are_numbers_like_others() {
    let core = Module::core("cpu_core", "3,1300");
    let efficient = Module::single("cpu_atom", "1024-1027");
    let low_power = Module::single("cpu_atom", "8191").outside();
    let machine = Machine { modules: vec![core, efficient, low_power], has_lists: true };
    let world = world(&machine);
    let found = world.check("3,1024-1027,1300,8191", ["3,1300", "1024-1027", "8191"]);
    assert_eq!(found.classes.performance.len(), 2);
}

/// What this machine's kernel says of its CPUs, read and taken apart without anything of this crate.
struct Said {
    allowed: BTreeSet<usize>,
    online: BTreeSet<usize>,
    lists: [BTreeSet<usize>; 3],
}

impl Said {
    fn numbers(text: &str) -> BTreeSet<usize> {
        let number = |text: &str| text.parse::<usize>().unwrap();
        let ranges = text.trim().split(',').filter(|range| !range.is_empty());
        let range = |range: &str| match range.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(range)..=number(range),
        };
        ranges.flat_map(range).collect()
    }

    fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let status = file("/proc/thread-self/status");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let devices = |path: &str| Self::numbers(&file(&format!("/sys/devices/{path}")));
        Self {
            allowed: Self::numbers(allowed.unwrap()),
            online: devices("system/cpu/online"),
            lists: ["cpu_core", "cpu_atom", "cpu_lowpower"]
                .map(|kind| devices(&format!("{kind}/cpus"))),
        }
    }

    fn has_level_3(cpu: usize) -> bool {
        (0..8).any(|index| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/cache/index{index}/level");
            std::fs::read_to_string(path).is_ok_and(|level| level.trim() == "3")
        })
    }

    /// Whether all CPUs have the same of each value by which kinds of cores can differ, or none has it.
    fn is_homogeneous(&self) -> bool {
        let files = ["cpufreq/base_frequency", "acpi_cppc/highest_perf", "cpu_capacity"];
        files.iter().chain(&["cpufreq/cpuinfo_max_freq"]).all(|file| {
            let path = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/{file}");
            let values = self.online.iter().map(|cpu| std::fs::read_to_string(path(cpu)).ok());
            values.collect::<BTreeSet<_>>().len() <= 1
        })
    }

    /// The place among performance, efficient and low-power cores; nothing for a CPU that may not be used.
    fn class(&self, cpu: usize) -> Option<usize> {
        let [core, atom, low_power] = &self.lists;
        let atoms: Vec<usize> = atom.difference(core).copied().collect();
        let some_inside = atoms.iter().any(|atom| Self::has_level_3(*atom));
        let is_used = self.allowed.contains(&cpu) && self.online.contains(&cpu);
        is_used.then(|| match cpu {
            cpu if core.contains(&cpu) => 0,
            cpu if low_power.contains(&cpu) => 2,
            cpu if atoms.contains(&cpu) && some_inside && !Self::has_level_3(cpu) => 2,
            cpu if atoms.contains(&cpu) => 1,
            _ => 0,
        })
    }
}

#[test]
fn this_machine_has_each_of_its_cpus_in_the_class_that_its_kernel_says() {
    let root = crate::root::Root::machine();
    let found = Classes::read(&root, &crate::affinity::allowed(&root));
    let classes = [&found.performance, &found.efficient, &found.low_power];
    let of = |cpu: usize| -> Vec<usize> {
        (0..classes.len()).filter(|place| classes[*place].contains(cpu)).collect()
    };
    let said = Said::read();
    let last = said.online.iter().chain(&said.allowed).max().copied().unwrap();
    // Those beyond the last one, too, of which there are none.
    let cpus = 0..last + 64;
    if said.lists.iter().all(BTreeSet::is_empty) && !said.is_homogeneous() {
        // Which values differ by how much is told elsewhere; here only that each is in one class, and no other in any.
        for cpu in cpus {
            let is_used = said.allowed.contains(&cpu) && said.online.contains(&cpu);
            assert_eq!(of(cpu).len(), usize::from(is_used), "CPU {cpu}: {found:?}");
        }
        return;
    }
    for cpu in cpus {
        assert_eq!(of(cpu), Vec::from_iter(said.class(cpu)), "CPU {cpu}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the files say, each CPU that may be used is in exactly one class, and no other CPU in any.
    #[test]
    fn each_cpu_is_in_one_class_whatever_the_files_say(
        lists in vec(option::of("[0-9]{1,2}(-[0-9]{1,2})?(,[0-9]{1,2}(-[0-9]{1,2})?){0,3}|x|"), 5),
        capacities in vec(option::of(0_u64..2000), 8),
        levels in vec(option::of(0_u8..5), 8),
        allowed in vec(0_usize..8, 1..8),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::at(directory.path());
        let files = ["cpu_core/cpus", "cpu_atom/cpus", "cpu_lowpower/cpus", "system/cpu/online", "system/cpu/present"];
        for (file, list) in files.iter().zip(&lists) {
            if let Some(list) = list {
                tree.file(&format!("sys/devices/{file}"), list);
            }
        }
        for (cpu, (capacity, level)) in capacities.iter().zip(&levels).enumerate() {
            let cpu = cpu.to_string();
            if let Some(capacity) = capacity {
                tree.each(&cpu, "cpu_capacity", &capacity.to_string());
            }
            if let Some(level) = level {
                tree.each(&cpu, "cache/index0/level", &level.to_string());
            }
        }
        let allowed: CpuSet = allowed.into_iter().collect();
        let Classes { performance, efficient, low_power, .. } = Classes::read(&tree.root(), &allowed);
        assert_eq!(performance.union(&efficient).union(&low_power), allowed);
        assert_eq!(performance.len() + efficient.len() + low_power.len(), allowed.len());
    }
}
