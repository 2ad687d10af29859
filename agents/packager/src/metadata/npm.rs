//! npm packuments, reduced to what resolution and planning need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

mod packed;
mod versions;

pub(crate) use self::packed::{Digest, Line, Packer};
pub(crate) use self::versions::notes_bytes_max;
pub use self::versions::{Listed, Versions};

use super::Hashes;
use crate::error::Error;

/// All versions of one npm package.
#[derive(Clone, Debug, Default)]
pub struct Packument {
    /// The package's name as the registry spells it.
    pub name: String,
    /// `latest`, `next`, ... to the version text that each points to.
    pub dist_tags: BTreeMap<String, String>,
    /// Every published version by its text.
    pub versions: Versions,
}

/// A dependency table: the name in the tree to the range (or alias, tag, URL) as written.
pub type Dependencies = BTreeMap<String, String>;

/// One published version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The version text.
    pub version: String,
    /// `dependencies`, without those that also stand in `optional_dependencies`.
    pub dependencies: Dependencies,
    /// `optionalDependencies`: a failure to satisfy one is not a failure.
    pub optional_dependencies: Dependencies,
    /// `peerDependencies`.
    pub peer_dependencies: Dependencies,
    /// Names in `peerDependenciesMeta` with `optional: true`.
    pub optional_peers: Vec<String>,
    /// `bundleDependencies`: names that come inside the tarball (`true` in the registry means all).
    pub bundled: Vec<String>,
    /// `bin`: command name to path inside the package.
    pub bin: BTreeMap<String, String>,
    /// `engines.node`, where given.
    pub engines_node: Option<String>,
    /// `os`, `cpu`, `libc` lists as written (entries may start with `!`).
    pub os: Vec<String>,
    /// See `os`.
    pub cpu: Vec<String>,
    /// See `os`.
    pub libc: Vec<String>,
    /// The deprecation text, where the version is deprecated.
    pub deprecated: Option<String>,
    /// Whether `preinstall`, `install` or `postinstall` would run (or a `binding.gyp` was published).
    pub install_scripts: Vec<String>,
    /// `license`, where it is a plain text.
    pub license: Option<String>,
    /// Publication time as the registry writes it (RFC 3339), where `time` was served.
    pub published: Option<String>,
    /// `dist.tarball`.
    pub tarball: String,
    /// From `dist.integrity`.
    pub hashes: Hashes,
    /// `dist.unpackedSize`, in bytes.
    pub unpacked_size: Option<u64>,
}

/// All that a source has at hand at some moment: where two are equal, nothing of it has become another object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition(pub [u8; 32]);

/// A packument that nobody has to wait for.
#[derive(Clone, Debug)]
pub struct AtHand {
    /// It.
    pub packument: Arc<Packument>,
    /// Until when it may be given again, as long as it is there.
    pub until: SystemTime,
}

/// Where a resolver gets packuments from.
pub trait Metadata: Send + Sync {
    /// The packument of `name`; `unknown-package` where the registry has none. Blocks.
    fn packument(&self, name: &str) -> Result<Arc<Packument>, Error>;
    /// The packument of `name` where nothing has to be waited for, and perhaps not even then.
    fn at_hand(&self, _name: &str) -> Option<AtHand> {
        None
    }
    /// What it has at hand now, and what time it is; `None` where that is not known.
    fn edition(&self) -> Option<(Edition, SystemTime)> {
        None
    }
    /// Announces that `name` will probably be asked for. Returns at once; whether it can be given without waiting.
    fn prefetch(&self, name: &str) -> bool;
    /// Asks `ahead` about every packument that arrives from now on, as long as it lives.
    fn follow(&self, _ahead: &Arc<dyn Ahead>) {}
}

/// What a resolution will probably ask for next. Called where answers arrive, so that the way to the next question does
/// not lead through the resolver, which waits for another answer.
pub trait Ahead: Send + Sync {
    /// The packages to announce after this one; none twice.
    fn after(&self, packument: &Arc<Packument>) -> Vec<String>;
}
