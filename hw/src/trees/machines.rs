//! The machines: which CPUs are threads of one core, which cores share caches, and what their kernel says of them.
//! The numberings of the 155H are those that four kinds of firmware were seen to give it.

use super::Tree;
use crate::cpu_set::CpuSet;

/// A machine as modules of cores.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// All modules.
    pub modules: Vec<Module>,
    /// Whether the kernel has lists per kind of core, named after [`Module::list`].
    pub has_lists: bool,
}

/// Cores that share a level-2 cache.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// The CPUs of each core.
    pub cores: Vec<CpuSet>,
    /// The list of the kernel that has these CPUs: `cpu_core`, `cpu_atom`, `cpu_lowpower`.
    pub list: &'static str,
    /// Which level-3 cache they are in.
    pub l3: Option<u8>,
    /// Files of each CPU with their content, as `cpu_capacity`.
    pub files: Vec<(&'static str, String)>,
}

impl Module {
    /// Cores of one thread, `cpus`, in level-3 cache 0.
    pub fn single(list: &'static str, cpus: &str) -> Self {
        let cpus = CpuSet::parse(cpus).expect("a list of CPUs");
        let cores = cpus.iter().map(|cpu| CpuSet::from_iter([cpu])).collect();
        Self { cores, list, l3: Some(0), files: Vec::new() }
    }

    /// One core with these threads, in level-3 cache 0.
    pub fn core(list: &'static str, threads: &str) -> Self {
        let core = CpuSet::parse(threads).expect("a list of CPUs");
        Self { cores: vec![core], list, l3: Some(0), files: Vec::new() }
    }

    /// The same outside every level-3 cache.
    pub fn outside(self) -> Self {
        Self { l3: None, ..self }
    }

    /// The same with a file of each CPU.
    pub fn with(mut self, file: &'static str, content: u64) -> Self {
        self.files.push((file, format!("{content}\n")));
        self
    }

    fn cpus(&self) -> CpuSet {
        self.cores.iter().flat_map(|core| core.iter()).collect()
    }
}

impl Machine {
    /// Core Ultra 7 155H, performance cores first: P 0-11, E 12-19, LP-E 20-21.
    pub fn meteor_lake_a() -> Self {
        let cores = ["0-1", "2-3", "4-5", "6-7", "8-9", "10-11"];
        Self::hybrid(&cores, &["12-15", "16-19"], "20-21")
    }

    /// The same with the efficient cores in the middle: P 0-1 and 10-19, E 2-9, LP-E 20-21.
    pub fn meteor_lake_b() -> Self {
        let cores = ["0-1", "10-11", "12-13", "14-15", "16-17", "18-19"];
        Self::hybrid(&cores, &["2-5", "6-9"], "20-21")
    }

    /// The same with the first core's threads apart: 0 and 5 are one core.
    pub fn meteor_lake_c() -> Self {
        let cores = ["0,5", "1-2", "3-4", "6-7", "8-9", "10-11"];
        Self::hybrid(&cores, &["12-15", "16-19"], "20-21")
    }

    /// The same where the firmware shows 21 of 22 CPUs: one core has one thread.
    pub fn meteor_lake_d() -> Self {
        let cores = ["0", "1-2", "3-4", "5-6", "7-8", "9-10"];
        Self::hybrid(&cores, &["11-14", "15-18"], "19-20")
    }

    /// As a Core Ultra 5 125U: P 0-1 and 10-11, E 2-9, LP-E 12-13.
    pub fn ultra_u() -> Self {
        Self::hybrid(&["0-1", "10-11"], &["2-5", "6-9"], "12-13")
    }

    /// Arrow Lake-H, whose low-power cores have a list of their own.
    pub fn arrow_lake_h() -> Self {
        let mut machine = Self::hybrid(&["0", "1", "2", "3", "4", "5"], &["6-9", "10-13"], "14-15");
        for module in machine.modules.iter_mut().filter(|module| module.l3.is_none()) {
            module.list = "cpu_lowpower";
        }
        machine
    }

    /// As Lunar Lake: P 0-3, E 4-7, no efficient core in the level-3 cache.
    pub fn lunar_lake() -> Self {
        let cores = ["0", "1", "2", "3"].map(|core| Module::core("cpu_core", core));
        let modules = cores.into_iter().chain([Module::single("cpu_atom", "4-7").outside()]);
        Self { modules: modules.collect(), has_lists: true }
    }

    /// Arm big.LITTLE: small 0-3, large 4-7.
    pub fn big_little() -> Self {
        let small = Module::single("", "0-3").outside().with("cpu_capacity", 446);
        let large = Module::single("", "4-7").outside().with("cpu_capacity", 1024);
        Self { modules: vec![small, large], has_lists: false }
    }

    /// As DGX GB10: ten small and ten large cores in two clusters, some of which run a little faster than their like.
    pub fn gb10() -> Self {
        let rows = [
            ("0-4", 718, 0),
            ("5-9", 997, 0),
            ("10-14", 731, 1),
            ("15-18", 1017, 1),
            ("19", 1024, 1),
        ];
        let module = |(cpus, capacity, l3)| {
            let module = Module::single("", cpus).with("cpu_capacity", capacity);
            Module { l3: Some(l3), ..module }
        };
        Self { modules: rows.map(module).into(), has_lists: false }
    }

    /// A virtual machine with two equal CPUs.
    pub fn virtual_machine() -> Self {
        let modules = ["0", "1"].map(|core| Module::core("", core).with("cpu_capacity", 1024));
        Self { modules: modules.into(), has_lists: false }
    }

    fn hybrid(cores: &[&str], modules: &[&str], low_power: &str) -> Self {
        let frequencies = [
            ("cpu_core", 1_400_000, 4_800_000),
            ("cpu_atom", 900_000, 3_800_000),
            ("cpu_atom", 700_000, 2_500_000),
        ];
        let with = |module: Module, row: usize| {
            let (_, base, most) = frequencies[row];
            module.with("cpufreq/base_frequency", base).with("cpufreq/cpuinfo_max_freq", most)
        };
        let cores = cores.iter().map(|core| with(Module::core("cpu_core", core), 0));
        let atoms = modules.iter().map(|cpus| with(Module::single("cpu_atom", cpus), 1));
        let low_power = with(Module::single("cpu_atom", low_power).outside(), 2);
        Self { modules: cores.chain(atoms).chain([low_power]).collect(), has_lists: true }
    }

    /// The same as a container sees it that does not show the kernel's lists.
    pub fn without_lists(self) -> Self {
        Self { has_lists: false, ..self }
    }

    /// All CPUs.
    pub fn cpus(&self) -> CpuSet {
        self.modules.iter().flat_map(|module| module.cpus().iter().collect::<Vec<_>>()).collect()
    }

    /// Writes the machine into a tree.
    pub fn write(&self, tree: &Tree) {
        let all = format!("{}\n", self.cpus());
        for file in ["online", "present", "possible"] {
            tree.file(&format!("sys/devices/system/cpu/{file}"), &all);
        }
        for list in ["cpu_core", "cpu_atom", "cpu_lowpower"] {
            let modules =
                self.modules.iter().filter(|module| self.has_lists && module.list == list);
            let cpus: CpuSet =
                modules.flat_map(|module| module.cpus().iter().collect::<Vec<_>>()).collect();
            if !cpus.is_empty() {
                tree.file(&format!("sys/devices/{list}/cpus"), &format!("{cpus}\n"));
            }
        }
        for module in &self.modules {
            for core in &module.cores {
                self.write_core(tree, module, core);
            }
        }
    }

    fn write_core(&self, tree: &Tree, module: &Module, core: &CpuSet) {
        let core_text = format!("{core}\n");
        let module_text = format!("{}\n", module.cpus());
        let in_same_l3 = self.modules.iter().filter(|other| other.l3 == module.l3);
        let l3_cpus: CpuSet =
            in_same_l3.flat_map(|other| other.cpus().iter().collect::<Vec<_>>()).collect();
        let mut caches = vec![
            ("1", "Data", "32K", core_text.clone()),
            ("1", "Instruction", "64K", core_text.clone()),
            ("2", "Unified", "2048K", module_text),
        ];
        if module.l3.is_some() {
            caches.push(("3", "Unified", "24576K", format!("{l3_cpus}\n")));
        }
        let cpus = core.to_string();
        tree.each(&cpus, "topology/thread_siblings_list", &core_text);
        // Sparse, as on real machines, and shared among clusters on some: nothing may rest on it.
        tree.each(&cpus, "topology/core_id", "4\n").each(
            &cpus,
            "topology/physical_package_id",
            "0\n",
        );
        for (index, (level, kind, size, shared)) in caches.into_iter().enumerate() {
            let files =
                [("level", level), ("type", kind), ("size", size), ("shared_cpu_list", &shared)];
            for (file, content) in files {
                tree.each(&cpus, &format!("cache/index{index}/{file}"), content);
            }
        }
        for (file, content) in &module.files {
            tree.each(&cpus, file, content);
        }
    }
}
