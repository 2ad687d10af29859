//! Generated machines for tests: trees in the place of `/`, made of files as the kernel has them. No program but tests
//! has this module.
#![allow(clippy::unwrap_used, reason = "test support: a tree that cannot be made is a failed test")]

mod machines;

use std::path::{Path, PathBuf};

pub use machines::{Machine, Module};

use crate::cpu_set::CpuSet;
use crate::root::{REFUSED, ReadError, Root};

/// A tree in a directory of the test's own.
#[derive(Clone, Debug)]
pub struct Tree {
    directory: PathBuf,
}

impl Tree {
    /// The tree in `directory`, which exists.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The tree as a root.
    pub fn root(&self) -> Root {
        Root::at(&self.directory)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes one file.
    pub fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Removes a file or a directory with all below, and what was to be refused there.
    pub fn remove(&self, path: &str) -> &Self {
        let place = self.directory.join(path);
        let removed = if place.is_dir() {
            std::fs::remove_dir_all(&place)
        } else {
            std::fs::remove_file(&place)
        };
        assert!(removed.is_ok() || !place.exists(), "{path}: {removed:?}");
        let refused = self.refused();
        let kept = refused.lines().filter(|line| !line.starts_with(path));
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        std::fs::write(self.directory.join(REFUSED), kept).unwrap();
        self
    }

    /// Lets a file be there and refuse to be read.
    pub fn refuse(&self, path: &str, error: ReadError) -> &Self {
        self.remove(path);
        let line = format!("{path} {}\n", error.name());
        std::fs::write(self.directory.join(REFUSED), self.refused() + &line).unwrap();
        self
    }

    /// Writes a thermal zone.
    pub fn zone(&self, number: usize, kind: &str, temperature: &str) -> &Self {
        let zone = format!("sys/class/thermal/thermal_zone{number}");
        self.file(&format!("{zone}/type"), kind).file(&format!("{zone}/temp"), temperature)
    }

    /// Writes a hardware monitor: its name, and label and reading of each sensor from 1.
    pub fn monitor(&self, number: usize, name: &str, sensors: &[(&str, &str)]) -> &Self {
        let monitor = format!("sys/class/hwmon/hwmon{number}");
        self.file(&format!("{monitor}/name"), name);
        for (index, (label, reading)) in sensors.iter().enumerate() {
            self.file(&format!("{monitor}/temp{}_label", index + 1), label);
            self.file(&format!("{monitor}/temp{}_input", index + 1), reading);
        }
        self
    }

    /// Writes one file of each CPU of `cpus`.
    pub fn each(&self, cpus: &str, file: &str, content: &str) -> &Self {
        for cpu in CpuSet::parse(cpus).unwrap().iter() {
            self.file(&format!("sys/devices/system/cpu/cpu{cpu}/{file}"), content);
        }
        self
    }

    /// Switches CPUs off, as the kernel then shows them: no caches, no siblings, no frequency, in no list.
    pub fn offline(&self, cpus: &str) -> &Self {
        let off = CpuSet::parse(cpus).unwrap();
        for cpu in off.iter() {
            for gone in ["cache", "topology", "cpufreq", "acpi_cppc"] {
                self.remove(&format!("sys/devices/system/cpu/cpu{cpu}/{gone}"));
            }
        }
        let lists = ["system/cpu/online", "cpu_core/cpus", "cpu_atom/cpus", "cpu_lowpower/cpus"];
        for list in lists.map(|list| format!("sys/devices/{list}")) {
            if let Some(set) = self.root().read(&list).and_then(|text| CpuSet::parse(&text)) {
                self.file(&list, &format!("{}\n", set.difference(&off)));
            }
        }
        self
    }

    fn refused(&self) -> String {
        std::fs::read_to_string(self.directory.join(REFUSED)).unwrap_or_default()
    }
}
