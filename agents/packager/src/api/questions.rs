//! Questions about the packages of a project and of registries: who wants one, what is newer, what there is.

use serde::{Deserialize, Serialize};

use super::Setting;
use crate::ecosystem::Ecosystem;

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
