//! Python interpreters: finding one, having it describe itself once, and what that means for packages.
//!
//! [`PythonTarget`] is all that resolution needs, and can be built by hand; [`Interpreter`] adds what installation
//! needs. A project is untrusted: its virtual environment names an interpreter, but no program inside the
//! project is ever run unless a person named it.

mod find;
mod inspect;
mod remembered;
mod tags;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use pep440_rs::Version;
use pep508_rs::MarkerEnvironment;

pub use find::find;
pub use tags::{Abi, Libc, Platform, compatible_tags};

/// What packages are resolved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonTarget {
    /// The values that environment markers are compared with.
    pub markers: MarkerEnvironment,
    /// Compatibility tags (`cp312-cp312-manylinux_2_17_x86_64`), best first.
    pub tags: Vec<String>,
    /// The full version of the interpreter.
    pub python: Version,
}

/// One interpreter, as it described itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The program that was asked.
    pub executable: PathBuf,
    /// The interpreter behind a virtual environment; the same as `executable` outside of one.
    pub base_executable: PathBuf,
    /// `sys.prefix`.
    pub prefix: PathBuf,
    /// `sys.base_prefix`.
    pub base_prefix: PathBuf,
    /// Major, minor, micro.
    pub version: (u64, u64, u64),
    /// `sys.implementation.name`: `cpython`, `pypy`.
    pub implementation: String,
    /// `sysconfig.get_platform()`.
    pub platform: String,
    /// `sysconfig.get_paths()`: `stdlib`, `platstdlib`, `purelib`, `scripts`, ...
    pub paths: BTreeMap<String, PathBuf>,
    /// The C library.
    pub libc: Option<Libc>,
    /// What decides its compatibility tags beside its version.
    pub native: Platform,
    /// What packages can be resolved for it.
    pub target: PythonTarget,
}

impl Interpreter {
    /// Whether it runs inside a virtual environment.
    pub fn is_virtual(&self) -> bool {
        self.prefix != self.base_prefix
    }
}
