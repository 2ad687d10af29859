//! Entries of a cargo sparse index, reduced to what resolution needs.
//!
//! A crate has hundreds of versions, of which a resolution takes one. So all of them stay in a flat form ([`packed`]): the order of
//! the versions and what was withdrawn are known at once, dependencies and features are read where they lie when somebody looks at them.

mod pack;
mod packed;
mod patched;
pub mod scope;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ipc::archive::ArchiveError;
use semver::{Version as SemVersion, VersionReq};

pub use self::packed::{Listed, Need, Texts};
pub use self::patched::Patched;
pub use self::scope::{Registry, Scope};

pub(crate) use self::pack::{Head, NeedParts, Writer};
use self::packed::Packed;
use super::Hashes;
use crate::error::Error;

/// All versions of one crate, as the index lists them.
#[derive(Clone, Debug)]
pub struct Crate {
    packed: Packed,
    /// Positions of the versions that count, where not all do.
    kept: Option<Arc<[u32]>>,
}

impl Crate {
    /// Packs a crate of a registry: dev-dependencies, which nobody follows there, are left out.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`].
    pub fn new<'v>(
        name: &str,
        versions: impl IntoIterator<Item = &'v Version>,
    ) -> Result<Self, ArchiveError> {
        Self::with(name, versions, |dependency| dependency.kind != DependencyKind::Dev)
    }

    /// A crate of one version whose dev-dependencies count too.
    pub(crate) fn member(name: &str, version: &Version) -> Result<Self, ArchiveError> {
        Self::with(name, [version], |_| true)
    }

    fn with<'v>(
        name: &str,
        versions: impl IntoIterator<Item = &'v Version>,
        counts: impl Fn(&Dependency) -> bool,
    ) -> Result<Self, ArchiveError> {
        let mut writer = Writer::default();
        for version in versions {
            write(&mut writer, version, false, &counts);
        }
        Self::open(&writer.finish(name)?)
    }

    /// Opens what was packed, checked from end to end.
    ///
    /// # Errors
    /// Where the archive is damaged, of another form, or contradicts itself.
    pub fn open(bytes: &Bytes) -> Result<Self, ArchiveError> {
        Ok(Self { packed: Packed::open(bytes)?, kept: None })
    }

    /// The archive, with all versions.
    pub fn archive(&self) -> &Bytes {
        self.packed.whole()
    }

    /// The name as the index spells it.
    pub fn name(&self) -> &str {
        self.packed.name()
    }

    /// The same crate as one of a registry among several.
    #[must_use]
    pub fn within(&self, scope: Arc<Scope>) -> Self {
        Self { kept: self.kept.clone(), packed: self.packed.within(scope) }
    }

    /// What a resolver calls it; see [`scope`].
    pub fn key(&self) -> Cow<'_, str> {
        self.packed.key()
    }

    /// All versions, ascending.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = Listed<'_>> + DoubleEndedIterator {
        let kept = self.kept.as_deref();
        let count = kept.map_or(self.packed.len(), <[u32]>::len);
        (0..count).map(move |at| self.packed.listed(kept.map_or(at, |kept| kept[at] as usize)))
    }

    /// The version at a position that [`Listed::position`] told.
    pub fn listed(&self, position: usize) -> Listed<'_> {
        self.packed.listed(position)
    }

    /// The same crate with some of its versions.
    #[must_use]
    pub fn only(&self, mut is_kept: impl FnMut(Listed<'_>) -> bool) -> Self {
        let kept = self.versions().filter(|one| is_kept(*one)).map(|one| one.position() as u32);
        Self { kept: Some(kept.collect()), packed: self.packed.clone() }
    }

    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }
}

/// Writes down a version with the dependencies that count.
fn write(
    writer: &mut Writer,
    version: &Version,
    is_local: bool,
    counts: impl Fn(&Dependency) -> bool,
) {
    for dependency in version.dependencies.iter().filter(|it| counts(it)) {
        writer.need(dependency);
    }
    for (feature, values) in &version.features {
        writer.feature(feature, values.iter().map(String::as_str));
    }
    writer.version(Head {
        version: version.version.clone(),
        is_yanked: version.yanked,
        is_local,
        links: version.links.as_deref(),
        rust_version: version.rust_version.as_deref(),
        published: version.published.as_deref(),
        sha256: version.hashes.sha256.as_deref(),
    });
}

/// One published version, as it is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The index URL of another registry, where it is not the one of the depending crate; in a manifest also its name.
    pub registry: Option<String>,
}

/// The index file of one crate as it was served; cargo's own cache is written from it.
#[derive(Clone, Debug, Default)]
pub struct IndexFile {
    /// The crate's name.
    pub name: String,
    /// The file.
    pub raw: Vec<u8>,
    /// The `ETag` or `Last-Modified` line that came with it, in cargo's form, where there was one.
    pub revision: Option<String>,
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
