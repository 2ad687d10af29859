//! Entries of a cargo sparse index, reduced to what resolution needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use semver::{Version as SemVersion, VersionReq};

use super::Hashes;
use crate::error::Error;

/// All versions of one crate, as the index lists them.
#[derive(Clone, Debug, Default)]
pub struct Crate {
    /// The name as the index spells it.
    pub name: String,
    /// Every version that could be parsed, in the order of the index.
    pub versions: Vec<Arc<Version>>,
    /// The index file as it was received; cargo's own cache is written from it.
    pub raw: Arc<[u8]>,
    /// The `ETag` or `Last-Modified` line that came with it, in cargo's form, where there was one.
    pub index_version: Option<String>,
}

/// One published version.
#[derive(Clone, Debug)]
pub struct Version {
    /// The version.
    pub version: SemVersion,
    /// Its dependencies.
    pub dependencies: Vec<Dependency>,
    /// `features` and `features2` merged.
    pub features: BTreeMap<String, Vec<String>>,
    /// Whether it was withdrawn.
    pub yanked: bool,
    /// `links`.
    pub links: Option<String>,
    /// `rust_version`, as written.
    pub rust_version: Option<String>,
    /// The digest of the `.crate` file.
    pub hashes: Hashes,
    /// Publication time, where the index has `pubtime`.
    pub published: Option<String>,
}

/// The table in which a dependency stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DependencyKind {
    /// `[dependencies]`.
    Normal,
    /// `[build-dependencies]`.
    Build,
    /// `[dev-dependencies]`; never followed for a package from a registry.
    Dev,
}

/// One dependency of one version.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// The name under which features and code refer to it.
    pub alias: String,
    /// The crate's name in the registry.
    pub package: String,
    /// The wanted versions.
    pub requirement: VersionReq,
    /// The features asked for.
    pub features: Vec<String>,
    /// Whether `default` is asked for too.
    pub default_features: bool,
    /// Whether a feature has to switch it on.
    pub optional: bool,
    /// `cfg(...)` or a triple, where it is for some targets only.
    pub target: Option<String>,
    /// The table it stands in.
    pub kind: DependencyKind,
    /// The index URL of another registry, where it is not the one of the depending crate.
    pub registry: Option<String>,
}

/// Where a resolver gets crates from.
pub trait Metadata: Send + Sync {
    /// The versions of `name`; `unknown-package` where the index has none. Blocks.
    fn krate(&self, name: &str) -> Result<Arc<Crate>, Error>;
    /// Announces that `name` will probably be asked for. Returns at once; whether it can be given without waiting.
    fn prefetch(&self, name: &str) -> bool;
    /// Asks `ahead` about every crate that arrives from now on, as long as it lives.
    fn follow(&self, _ahead: &Arc<dyn Ahead>) {}
}

/// What a resolution will probably ask for next; see [`super::npm::Ahead`].
pub trait Ahead: Send + Sync {
    /// The crates to announce after this one; none twice.
    fn after(&self, krate: &Arc<Crate>) -> Vec<String>;
}
