//! Questions about the packages of a project and of registries: who wants one, what is newer, what there is.

use serde::{Deserialize, Serialize};

use super::Setting;
use crate::ecosystem::Ecosystem;
use crate::store::Standing;
use crate::system::Fault;
use crate::transaction::Difference;

/// `pkg.why`: who wants a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyRequest {
    /// A purl or short spec; without a version every version of it is meant.
    pub package: String,
    /// The caller's configuration.
    #[serde(default)]
    pub setting: Setting,
}

/// The answer to `pkg.why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyAnswer {
    /// `bolide.why/1`.
    pub schema: String,
    /// The project's directory.
    pub project: String,
    /// One for each place where the package stands; empty where nobody wants it.
    pub packages: Vec<WhyPackage>,
}

/// Why one package is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyPackage {
    /// The package URL.
    pub purl: String,
    /// Whether the project itself asks for it.
    pub direct: bool,
    /// Where it is, for npm.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub place: String,
    /// The shortest way from each of the project's own dependencies that leads here, as purls, this package last.
    pub paths: Vec<Vec<String>>,
    /// Ways that were left out, because there are too many.
    pub more: usize,
}

/// `pkg.outdated`: what the project asks for, and what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutdatedRequest {
    /// Those that are as new as they can be, too.
    pub all: bool,
    /// The caller's configuration.
    pub setting: Setting,
}

/// The answer to `pkg.outdated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutdatedAnswer {
    /// `bolide.outdated/1`.
    pub schema: String,
    /// The project's directory.
    pub project: String,
    /// The direct dependencies, sorted.
    pub packages: Vec<OutdatedPackage>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// One direct dependency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutdatedPackage {
    /// The package URL, without a version.
    pub purl: String,
    /// What the manifest asks for.
    pub requirement: String,
    /// The version that is installed or locked.
    pub current: Option<String>,
    /// The newest version that the manifest allows.
    pub allowed: Option<String>,
    /// The newest version.
    pub newest: String,
    /// Whether it is held.
    #[serde(default)]
    pub held: bool,
}

/// `pkg.search`: packages by words of their name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchRequest {
    /// The words.
    pub query: String,
    /// Only these ecosystems; all where none is named.
    pub ecosystems: Vec<Ecosystem>,
    /// The caller's configuration.
    pub setting: Setting,
}

/// The answer to `pkg.search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchAnswer {
    /// `bolide.search/1`.
    pub schema: String,
    /// What was found: installed first, then what this machine knows, then what registries say, in their order.
    pub results: Vec<SearchResult>,
    /// Where was not looked, and why.
    pub notes: Vec<String>,
}

/// One package that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchResult {
    /// The package URL; with a version where one is known.
    pub purl: String,
    /// `installed`, `cached` or `registry`.
    pub origin: String,
    /// What its author says about it.
    pub description: Option<String>,
}

/// What is to be done with the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheAction {
    /// Say what is there; garbage is removed.
    #[default]
    Show,
    /// Remove what is too much, of what nothing needs.
    Collect,
    /// Compare every file with its digest, and forget what is damaged.
    Verify,
}

/// `pkg.cache`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheRequest {
    /// What.
    pub action: CacheAction,
    /// Remove everything that nothing needs, however small the store is.
    pub all: bool,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheAnswer {
    /// `bolide.cache/1`.
    pub schema: String,
    /// Where the store is.
    pub path: String,
    /// How files come out of it into directories of its own file system.
    pub mode: String,
    /// What it may take on the disk.
    pub bytes_max: u64,
    /// What it takes.
    pub bytes: u64,
    /// Artefacts in it.
    pub artefacts: u64,
    /// Those that plans which stand, or wait for an approval, or transactions under way need.
    pub artefacts_needed: u64,
    /// Artefacts that were removed.
    pub removed: u64,
    /// Artefacts that were damaged and are fetched again when they are needed; `null` where nobody looked.
    pub damaged: Option<u64>,
    /// Bytes that are free now.
    pub freed_bytes: u64,
    /// Packages that stand ready for the next installation, where a daemon makes some ready; not counted to the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Standing>,
}

/// `pkg.lock`, which holds packages at the versions that they have, and `pkg.unlock`, which lets go of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldRequest {
    /// The packages, `npm:express`. Where none is named nothing changes, and the answer has what the machine's own package
    /// manager holds, too.
    pub packages: Vec<String>,
    /// The caller's configuration.
    pub setting: Setting,
}

/// The answer to both: what is held now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAnswer {
    /// `bolide.hold/1`.
    pub schema: String,
    /// The project's directory.
    pub project: String,
    /// The transaction that changed something; `None` where nothing was to be changed.
    pub transaction: Option<String>,
    /// What is held.
    pub holds: Vec<HeldPackage>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// One package that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPackage {
    /// `npm:express`.
    pub package: String,
    /// Whose it is.
    pub ecosystem: Ecosystem,
    /// Its name there.
    pub name: String,
    /// The versions that it is held at: all that it had then.
    pub versions: Vec<String>,
    /// Who holds it: `bolide`, or `apt` for packages of the system.
    pub by: String,
}

/// `pkg.verify`: compares every environment of a project with what its generation says, and brings back what differs where
/// that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyRequest {
    /// Paths of environments or in them, relative to the project; everything where none is named.
    pub paths: Vec<String>,
    /// Bring back what is missing or has other permissions.
    pub repair: bool,
    /// With `repair`: bring back what somebody changed, too, and take away what somebody added; both are kept aside first.
    pub force: bool,
    /// The caller's configuration.
    pub setting: Setting,
}

/// The answer to `pkg.verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyAnswer {
    /// `bolide.verify/1`.
    pub schema: String,
    /// The project's directory.
    pub project: String,
    /// Whether everything is as it should be now.
    pub clean: bool,
    /// What was looked at, by place.
    pub environments: Vec<VerifiedEnvironment>,
    /// The crates in cargo's own cache; `None` where the project has none, there is no cargo, or paths were named.
    #[serde(default)]
    pub crates: Option<VerifiedCrates>,
    /// The systems that the project's transactions changed, as their own tool judges them; none where paths were named.
    #[serde(default)]
    pub systems: Vec<VerifiedSystem>,
    /// Artefacts of what is installed that were damaged in the store, as purls. They are out of use, and fetched again when they
    /// are needed; a repair fetches them at once.
    pub damaged: Vec<String>,
    /// Those of them that are whole in the store again.
    pub fetched: u64,
    /// The transaction that brought something back.
    pub transaction: Option<String>,
    /// Where files that somebody changed or added were kept, where any were taken away.
    pub kept: Option<String>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// One environment that was compared with its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedEnvironment {
    /// Where it is, relative to the project.
    pub place: String,
    /// Whose packages it holds.
    pub ecosystem: Ecosystem,
    /// The generation that it was compared with.
    pub generation: u64,
    /// The transaction that made it.
    pub transaction: Option<String>,
    /// Paths that were looked at.
    pub looked_at: u64,
    /// What is not as it was installed, in the order of the tree.
    pub differences: Vec<PathDifference>,
    /// Differences that are not named, because there are too many.
    pub left_out: u64,
}

/// The crates that a project needs and their entries in cargo's copy of the index, without which cargo does not find them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedCrates {
    /// The directory of cargo's registries, which is of no project.
    pub place: String,
    /// Files that were looked at.
    pub looked_at: u64,
    /// Those that are not as they should be, by their whole paths.
    pub differences: Vec<PathDifference>,
}

/// A system of which packages were changed, and what its own tool finds wrong there, whoever did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedSystem {
    /// Its root directory.
    pub root: String,
    /// What is wrong, by package. No repair mends it.
    pub faults: Vec<Fault>,
    /// Faults that are not named, because there are too many.
    pub left_out: u64,
}

/// One path that is not as it was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathDifference {
    /// Relative to the project, of crates the whole path. What is no UTF-8 is written with replacement characters.
    pub path: String,
    /// `missing`, `additional`, `kind`, `content`, `target`, `mode`, `unreadable` or `unsteady`.
    pub difference: Difference,
    /// How many installed paths it stands for: a directory that is gone stands for everything that was in it.
    pub entries: u64,
    /// Whether it was brought back, or taken away where it was additional.
    pub repaired: bool,
}
