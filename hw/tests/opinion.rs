//! Our classes beside those of hwloc, on topologies of real processors.
#![cfg(feature = "hwloc")]
#![allow(clippy::unwrap_used, reason = "a test that does not get what it needs has failed")]

use hw::cores::Cores;
use hw::cpu::Classes;
use hw::cpu_set::CpuSet;
use hw::hwloc::Hwloc;
use hw::opinion::{Comparison, Observer, Opinion, compare};
use hw::trees::{Machine, Module, Tree};

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

fn observe(file: &str) -> Opinion {
    let path = format!("{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
    Hwloc::Xml(std::fs::read_to_string(path).unwrap()).observe().unwrap()
}

/// The machine that a topology describes, as its kernel would show it.
fn machine(opinion: &Opinion) -> Machine {
    let list = |core: &CpuSet| {
        let kind = opinion.kinds.iter().find(|kind| kind.cpus.covers(core));
        match kind.and_then(|kind| kind.name.as_deref()) {
            Some("IntelCore") => "cpu_core",
            Some("IntelAtom") => "cpu_atom",
            other => panic!("{core}: {other:?}"),
        }
    };
    let module = |core: &CpuSet| {
        let l3 = opinion.l3.iter().position(|l3| l3.covers(core));
        let module = Module::core(list(core), &core.to_string());
        Module { l3: l3.and_then(|index| u8::try_from(index).ok()), ..module }
    };
    Machine { modules: opinion.cores.iter().map(module).collect(), has_lists: true }
}

fn check(file: &str, expected: [&str; 3], merged: Option<&str>) {
    let opinion = observe(file);
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    let machine = machine(&opinion);
    machine.write(&tree);
    let all = machine.cpus();
    let classes = Classes::read(&tree.root(), &all);
    let seen = [&classes.performance, &classes.efficient, &classes.low_power];
    for (class, expected) in seen.iter().zip(expected) {
        for cpu in all.iter() {
            assert_eq!(class.contains(cpu), set(expected).contains(cpu), "{file}: CPU {cpu}");
        }
    }
    let cores = Cores::read(&tree.root(), &all);
    let compared = compare(&classes, &cores, &opinion);
    assert!(compared.iter().all(|it| it.agrees), "{file}: {compared:?}");
    assert_eq!(compared[2].note, merged, "{file}");
}

#[test]
fn hwloc_agrees_as_far_as_it_knows() {
    let less = Some("it does not tell all of them apart");
    let files = [
        ("155h", "7", ["0-1,10-19", "2-9", "20-21"], less),
        ("125h", "5", ["0-1,10-15", "2-9", "16-17"], less),
        ("265u", "7", ["0-1,10-11", "2-9", "12-13"], less),
        ("288v", "9", ["0-3", "4-7", ""], None),
    ];
    for (model, tier, expected, note) in files {
        check(&format!("hwloc2-intel-core-ultra-{tier}-{model}.xml"), expected, note);
    }
}

#[test]
fn a_difference_is_shown() {
    let opinion = observe("hwloc2-intel-core-ultra-7-155h.xml");
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::at(directory.path());
    let mut other = machine(&opinion);
    other.modules[0].list = "cpu_atom";
    other.write(&tree);
    tree.each("11", "topology/thread_siblings_list", "11\n");
    let all = other.cpus();
    let classes = Classes::read(&tree.root(), &all);
    let compared = compare(&classes, &Cores::read(&tree.root(), &all), &opinion);
    let differing: Vec<&str> =
        compared.iter().filter(|it| !it.agrees).map(|Comparison { topic, .. }| *topic).collect();
    assert_eq!(differing, ["threads of one core", "kinds of cores"], "{compared:?}");
}

#[test]
fn this_machine_can_be_observed() {
    let opinion = Hwloc::Machine.observe().unwrap();
    assert!(opinion.who.starts_with("hwloc interface 2."), "{}", opinion.who);
    assert!(!opinion.cores.is_empty());
    assert!(Hwloc::Xml("<topology".to_owned()).observe().is_err());
}
