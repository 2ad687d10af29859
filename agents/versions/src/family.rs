//! The families of versions, by name.

/// A set of packages with one order of versions and one way of writing ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Packages of Node.js: `node-semver`.
    Npm,
    /// Packages of Python: PEP 440.
    Pypi,
    /// Crates of Rust: the `semver` crate.
    Cargo,
    /// Debian's packages: `deb-version`.
    Debian,
    /// RPM packages: `rpm-version`.
    Rpm,
    /// Alpine's packages: `apk`.
    Alpine,
    /// Packages of Maven repositories: `ComparableVersion`.
    Maven,
    /// Packages of .NET: `NuGet.Versioning`.
    Nuget,
    /// Packages of Ruby: `Gem::Version`.
    Gem,
    /// Packages of PHP: `composer/semver`.
    Composer,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 10] = [
        Family::Npm,
        Family::Pypi,
        Family::Cargo,
        Family::Debian,
        Family::Rpm,
        Family::Alpine,
        Family::Maven,
        Family::Nuget,
        Family::Gem,
        Family::Composer,
    ];

    /// The name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Npm => "npm",
            Family::Pypi => "pypi",
            Family::Cargo => "cargo",
            Family::Debian => "debian",
            Family::Rpm => "rpm",
            Family::Alpine => "alpine",
            Family::Maven => "maven",
            Family::Nuget => "nuget",
            Family::Gem => "gem",
            Family::Composer => "composer",
        }
    }

    /// The family of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.as_str() == name)
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
