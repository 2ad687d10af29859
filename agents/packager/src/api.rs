//! What the tools of the Packager take and answer: CBOR on the bus, the same structures as JSON on the command line.
//!
//! A request about a project comes with an open descriptor of its directory. Every answer names its schema;
//! fields may be added within a version of it, never renamed or removed.

mod history;
mod questions;
mod watches;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::error::Error;
use crate::options::Options;
use crate::resolution::BuildRequirement;

pub use history::{
    HistoryAnswer, HistoryApproval, HistoryChange, HistoryDetails, HistoryEntry, HistoryHeld,
    HistoryRequest,
};
pub use questions::{
    CacheAction, CacheAnswer, CacheRequest, HeldPackage, HoldAnswer, HoldRequest, OutdatedAnswer,
    OutdatedPackage, OutdatedRequest, PathDifference, SearchAnswer, SearchRequest, SearchResult,
    VerifiedCrates, VerifiedEnvironment, VerifiedSystem, VerifyAnswer, VerifyRequest, WhyAnswer,
    WhyPackage, WhyRequest,
};
pub use watches::{
    UnwatchRequest, WatchPolicy, WatchRequest, Watched, WatchesAnswer, WatchesRequest,
};

/// How the caller's machine is configured, and what it overrides; part of every request that may use a registry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Setting {
    /// Registry per ecosystem in the place of the configured one; further addresses behind it, separated by spaces, are its mirrors.
    pub registry: BTreeMap<Ecosystem, String>,
    /// Use only what is cached.
    pub offline: bool,
    /// The Python interpreter to make an environment for.
    pub python: Option<String>,
    /// Change the project even where the lock of another tool shows that it is that tool's.
    pub take_over: bool,
    /// What is wanted of a resolution beside its packages.
    pub options: Options,
    /// Variables of the caller that configure registry clients; see [`Setting::is_known`]. Others are ignored.
    pub variables: BTreeMap<String, String>,
    /// The variables that the caller's own npmrc names as `${NAME}`. They are put there and used for nothing else.
    pub references: BTreeMap<String, String>,
}

impl std::fmt::Debug for Setting {
    /// Of variables the names only, and of registries the ecosystems: both may hold secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Setting")
            .field("registry", &self.registry.keys())
            .field("offline", &self.offline)
            .field("python", &self.python)
            .field("take_over", &self.take_over)
            .field("options", &self.options)
            .field("variables", &self.variables.keys())
            .field("references", &self.references.keys())
            .finish()
    }
}

impl Setting {
    /// The variables that a caller may hand over, besides those of [`Self::VARIABLE_BEGINNINGS`] and git's: what the ecosystems' own
    /// clients read, and what leads to the programs that they ask.
    const VARIABLES: [&'static str; 36] = [
        "ALL_PROXY",
        "BOLIDE_SYSTEM_ROOT",
        "CARGO_HOME",
        "CARGO_REGISTRY_GLOBAL_CREDENTIAL_PROVIDERS",
        "CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS",
        "CURL_CA_BUNDLE",
        "DBUS_SESSION_BUS_ADDRESS",
        "DESTDIR",
        "DPKG_ROOT",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NETRC",
        "NODE_EXTRA_CA_CERTS",
        "NODE_TLS_REJECT_UNAUTHORIZED",
        "NO_PROXY",
        "NVM_DIR",
        "PATH",
        "PREFIX",
        "PYENV_ROOT",
        "PYENV_VERSION",
        "REQUESTS_CA_BUNDLE",
        "REQUEST_METHOD",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "VIRTUAL_ENV",
        "VOLTA_HOME",
        "XDG_CONFIG_DIRS",
        "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR",
        "all_proxy",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ];
    /// What the names of the clients' own settings begin with; npm's in any case.
    const VARIABLE_BEGINNINGS: [&'static str; 6] = [
        "npm_config_",
        "PIP_",
        "UV_",
        "CARGO_REGISTRIES_",
        "CARGO_HTTP_",
        "CARGO_CREDENTIAL_ALIAS_",
    ];
    /// What is for publishing is nobody's business here.
    const NOT_WANTED: &'static str = "UV_PUBLISH_";

    /// Whether a variable is one of those that count.
    pub fn is_known(name: &str) -> bool {
        let begins = |beginning: &&str| {
            let start = name.get(..beginning.len()).unwrap_or_default();
            start == *beginning
                || (beginning.starts_with("npm") && start.eq_ignore_ascii_case(beginning))
        };
        Self::VARIABLES.contains(&name)
            || crate::git::VARIABLES.contains(&name)
            || crate::git::SETTINGS.iter().any(begins)
            || (Self::VARIABLE_BEGINNINGS.iter().any(begins) && !name.starts_with(Self::NOT_WANTED))
    }

    /// The setting of the calling process: its variables, no overrides.
    pub fn of_this_process() -> Self {
        let all: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let references = crate::io::environment::npm_references(&all);
        let mut variables = all;
        variables.retain(|name, _| Self::is_known(name));
        Self { variables, references, ..Self::default() }
    }
}

/// `pkg.plan`: what would have to change. Changes nothing.
///
/// Packages are added and removed, or the environments are brought in line with manifests and lock, or locked versions are
/// renewed: one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Packages to add, as purls or short specs.
    #[serde(default)]
    pub add: Vec<String>,
    /// Packages to remove, as short specs or purls without versions.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Bring the environments in line with the manifests and `bolide.lock`, keeping what is locked.
    #[serde(default)]
    pub install: bool,
    /// Packages whose versions may change within what the manifests allow, as short specs or purls without versions; an empty
    /// list means all of them.
    #[serde(default)]
    pub update: Option<Vec<String>>,
    /// The member of a cargo or npm workspace that is changed, as a directory relative to the project, which is the workspace's
    /// root; empty for the package of the root itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// The caller's configuration.
    #[serde(default)]
    pub setting: Setting,
}

/// The answer to `pkg.plan`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// `bolide.plan/1`.
    pub schema: String,
    /// What an approval names; `None` where there is a conflict.
    pub digest: Option<String>,
    /// The project's directory.
    pub project: String,
    /// Every package of the affected environments after the change.
    pub packages: Vec<PlannedPackage>,
    /// Packages that the change takes away, as purls.
    pub removed: Vec<String>,
    /// Files of the project that will be written, relative.
    pub files: Vec<String>,
    /// Packages that are younger than the age that is asked for, and why they are let through.
    #[serde(default)]
    pub exemptions: Vec<crate::plan::Exemption>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// Until when the plan may be applied (seconds since the Unix epoch); `None` where there is a conflict.
    pub expires_at: Option<u64>,
    /// Why there is no plan.
    pub conflict: Option<Conflict>,
    /// Milliseconds that resolution took.
    pub resolve_ms: f64,
}

/// What a plan does with one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was not there in any version.
    Add,
    /// It was there in another version.
    Change,
    /// It stays as it is.
    Keep,
}

/// One package of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPackage {
    /// The package URL with the exact version.
    pub purl: Arc<str>,
    /// What happens to it.
    pub action: Action,
    /// Whether the project itself asks for it.
    pub direct: bool,
    /// `sha512:...` or `sha256:...` of its artefact.
    pub hash: String,
    /// The logical name of the registry it comes from; the index of one of several registries of crates, or the address where the
    /// project names one.
    pub source: Cow<'static, str>,
    /// Bytes to download, where known.
    pub size: Option<u64>,
    /// The licence as the registry says.
    pub license: Option<String>,
    /// Publication time as the registry says.
    pub published: Option<String>,
    /// Install scripts that the ecosystem's own client would run; Bolide does not.
    pub scripts: Vec<String>,
    /// What it was built of, on this machine and in a sandbox, where no registry has it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub built: Option<BuiltFrom>,
    /// Where it goes, for npm.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub place: String,
    /// Whether it is held at this version.
    #[serde(default)]
    pub held: bool,
    /// The packages it uses, as purls.
    pub dependencies: Vec<Arc<str>>,
}

/// What a wheel was built of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltFrom {
    /// The source archive.
    pub file: String,
    /// `sha512:...` or `sha256:...` of it.
    pub hash: String,
    /// Every package that was there for the build, with the digest of its artefact.
    pub requirements: Vec<BuildRequirement>,
}

/// Why no set of versions works, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// For people: who wants what, why it cannot be.
    pub explanation: String,
    /// Changes that were checked to resolve, the smallest first.
    pub repairs: Vec<Repair>,
}

/// One change that makes a conflict go away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// For people.
    pub description: String,
    /// The specs to ask for instead.
    pub specs: Vec<String>,
}

/// `pkg.apply`: carries out a plan that was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The plan's digest.
    pub digest: String,
    /// The caller approves the plan itself, if it was not approved before.
    #[serde(default)]
    pub approve: bool,
    /// Go on over environments that a person edited; what was edited is kept aside first.
    #[serde(default)]
    pub force: bool,
    /// The caller's configuration.
    #[serde(default)]
    pub setting: Setting,
}

/// `pkg.install`, `pkg.remove` and `pkg.update`: plan, approve and apply in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// The packages to add, to remove or to update. `pkg.install` without any brings the environments in line with manifests
    /// and lock, `pkg.update` without any renews everything that is locked.
    #[serde(default)]
    pub packages: Vec<String>,
    /// The caller approves whatever the plan will be. Without it the answer is `approval-needed` with the digest.
    #[serde(default)]
    pub approve: bool,
    /// Go on over environments that a person edited; what was edited is kept aside first.
    #[serde(default)]
    pub force: bool,
    /// The caller's configuration.
    #[serde(default)]
    pub setting: Setting,
}

/// The answer to `pkg.apply`, `pkg.install`, `pkg.remove` and `pkg.update`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyAnswer {
    /// `bolide.apply/1`.
    pub schema: String,
    /// The transaction that was committed; `None` where there was nothing to do.
    pub transaction: Option<String>,
    /// The plan that was carried out.
    pub digest: Option<String>,
    /// The project's directory.
    pub project: String,
    /// Packages that are new or changed, as purls.
    pub installed: Vec<String>,
    /// Packages that are gone, as purls.
    pub removed: Vec<String>,
    /// Files of the project that were written.
    pub files: Vec<String>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// Where edited files were kept, where there were any and `force` was given.
    pub kept: Option<String>,
    /// Milliseconds by step: `resolve`, `fetch`, `stage`, `commit`.
    pub times_ms: BTreeMap<String, f64>,
    /// Bytes that were downloaded.
    pub downloaded_bytes: u64,
    /// Whether all of it is on the disk. Otherwise that is waited for at once, the next command in the project finds it done, and what a
    /// loss of power interrupts is taken back.
    #[serde(default = "is_stored")]
    pub stored: bool,
}

/// An older program waits before it answers.
fn is_stored() -> bool {
    true
}

/// `pkg.list`: what is installed in the environments that the Packager keeps in a project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListRequest {
    /// The caller's configuration.
    pub setting: Setting,
}

/// The answer to `pkg.list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAnswer {
    /// `bolide.list/1`.
    pub schema: String,
    /// The project's directory.
    pub project: String,
    /// Everything installed.
    pub packages: Vec<InstalledPackage>,
}

/// One installed package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledPackage {
    /// The package URL.
    pub purl: String,
    /// Whether the project itself asks for it.
    pub direct: bool,
    /// Where it is, for npm.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub place: String,
    /// The licence as the registry said.
    pub license: Option<String>,
    /// Whether it is held at this version.
    #[serde(default)]
    pub held: bool,
    /// The packages it uses, as purls.
    pub dependencies: Vec<String>,
}

/// `pkg.info`: what the registry says about one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfoRequest {
    /// A purl or short spec; with a version or range, the best version in it is described.
    pub package: String,
    /// The caller's configuration.
    #[serde(default)]
    pub setting: Setting,
}

/// The answer to `pkg.info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoAnswer {
    /// `bolide.info/1`.
    pub schema: String,
    /// The package URL of the described version.
    pub purl: String,
    /// The described version.
    pub version: String,
    /// The newest version, where it is another one.
    pub latest: String,
    /// How many versions the registry has.
    pub versions_count: usize,
    /// The licence as the registry says.
    pub license: Option<String>,
    /// Publication time as the registry says.
    pub published: Option<String>,
    /// Digest of the artefact.
    pub hash: String,
    /// Direct requirements as written by its author.
    pub requires: Vec<String>,
    /// Why it should not be used: deprecated, yanked.
    pub withdrawn: Option<String>,
    /// Install scripts that the ecosystem's own client would run.
    pub scripts: Vec<String>,
}

/// `pkg.rollback`: brings back the state before a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// The transaction to undo, with all later ones of the project; the newest committed one where it is absent.
    pub transaction: Option<String>,
    /// Go on over files that a person edited; they are kept aside first.
    pub force: bool,
}

/// The answer to `pkg.rollback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RollbackAnswer {
    /// `bolide.rollback/1`.
    pub schema: String,
    /// The transaction that this rollback is in the history.
    pub transaction: String,
    /// The transactions that were undone, newest first.
    pub undone: Vec<String>,
    /// The project's directory.
    pub project: String,
    /// Where edited files were kept, where there were any and `force` was given.
    pub kept: Option<String>,
    /// What people should know: what could not be taken away, or was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Milliseconds until the old state was visible.
    pub visible_ms: f64,
}

/// An intermediate answer: what the Packager is doing now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// `resolve`, `wait` (for a cooler machine), `fetch`, `unpack`, `stage`, `commit`.
    pub step: String,
    /// What it is about, for people.
    pub message: String,
    /// How much of it is done, where that is known.
    pub done: u64,
    /// How much there is in all; 0 where unknown.
    pub total: u64,
}

impl From<Error> for agents_contract::ToolError {
    fn from(error: Error) -> Self {
        Self {
            exit_code: error.kind.exit_code(),
            code: error.code,
            message: error.message,
            hint: error.hint,
            retry: error.retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_the_clients_count_and_those_for_publishing_do_not() {
        for name in ["PIP_PROXY", "UV_INDEX", "npm_config_cafile", "SSH_AUTH_SOCK", "NO_PROXY"] {
            assert!(Setting::is_known(name), "{name}");
        }
        for name in [
            "CARGO_REGISTRY_TOKEN",
            "UV_PUBLISH_TOKEN",
            "GIT_DIR",
            "LD_PRELOAD",
            "npm",
            "pip_x",
            "",
        ] {
            assert!(!Setting::is_known(name), "{name}");
        }
    }

    #[test]
    fn a_setting_is_printed_without_its_values() {
        let mut setting = Setting::default();
        setting.variables.insert("PIP_INDEX_URL".to_owned(), "https://me:hush@x/".to_owned());
        setting.references.insert("TOKEN".to_owned(), "hush".to_owned());
        setting.registry.insert(Ecosystem::Npm, "https://me:hush@x/".to_owned());
        assert!(!format!("{setting:?}").contains("hush"));
    }
}
