//! The package ecosystems by name, and how each one spells a package's name.

use serde::{Deserialize, Serialize};

/// A family of packages with one registry protocol, one version order and one way of installing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// Packages of Node.js.
    Npm,
    /// Packages of Python.
    Pypi,
    /// Crates of Rust.
    Cargo,
    /// Packages of Debian and its kin: planned here, carried out by apt.
    #[serde(rename = "deb")]
    Debian,
    /// Packages of Fedora, RHEL and their kin: planned and carried out by dnf.
    Rpm,
    /// Packages of Arch and its kin: planned and carried out by pacman.
    Pacman,
}

impl Ecosystem {
    /// All ecosystems that the Packager can resolve.
    pub const ALL: [Ecosystem; 6] = [
        Ecosystem::Npm,
        Ecosystem::Pypi,
        Ecosystem::Cargo,
        Ecosystem::Debian,
        Ecosystem::Rpm,
        Ecosystem::Pacman,
    ];

    /// Those with registries of their own that a caller can name another address for.
    pub const WITH_REGISTRY: [Ecosystem; 3] = [Ecosystem::Npm, Ecosystem::Pypi, Ecosystem::Cargo];

    /// The name in short specs (`npm:express`), in purls (`pkg:npm/express`) and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Ecosystem::Npm => "npm",
            Ecosystem::Pypi => "pypi",
            Ecosystem::Cargo => "cargo",
            Ecosystem::Debian => "deb",
            Ecosystem::Rpm => "rpm",
            Ecosystem::Pacman => "pacman",
        }
    }

    /// Whether its packages are the system's: there is one set of them on a machine, which the distribution's tool changes.
    pub fn is_of_system(self) -> bool {
        matches!(self, Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman)
    }
}

impl std::fmt::Display for Ecosystem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
