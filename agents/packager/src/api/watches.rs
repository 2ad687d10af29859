//! What the tools about watched projects take and answer.

use serde::{Deserialize, Serialize};

use super::Setting;

/// What is done when a watched project's manifests change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchPolicy {
    /// A plan is made and told of.
    #[default]
    Plan,
    /// A plan is made and put up for somebody to approve.
    Approve,
    /// A plan is made and applied: whoever may write the manifests decides what is installed.
    Apply,
}

impl WatchPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plan, Self::Approve, Self::Apply];

    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Approve => "approve",
            Self::Apply => "apply",
        }
    }

    /// The policy of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// `pkg.watch`: answers changes of the granted directory's manifests from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchRequest {
    /// What is done.
    pub policy: WatchPolicy,
    /// The configuration that it is done with.
    pub setting: Setting,
}

/// `pkg.unwatch`: the end of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnwatchRequest {
    /// The project's path as `pkg.watches` gives it; the directory may be gone.
    pub path: String,
}

/// `pkg.watches`: what is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchesRequest {}

/// The answer to all three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchesAnswer {
    /// `bolide.watches/1`.
    pub schema: String,
    /// By path.
    pub watched: Vec<Watched>,
}

/// One watched project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Its directory.
    pub path: String,
    /// Whether the directory is there; one that is not is answered when it comes.
    pub exists: bool,
    /// What is done when it changes.
    pub policy: WatchPolicy,
    /// Since when (seconds since the Unix epoch).
    pub since: u64,
    /// What came of the last change: `in-line`, `planned`, `approval`, `applied`, `conflict` or `failed`; `deferred` while it only waits, as
    /// for a cooler machine, and nothing was begun, `applying` once it has waited; `None` where there was none.
    pub outcome: Option<String>,
    /// The digest of the plan that was made.
    pub digest: Option<String>,
    /// For people.
    pub message: String,
    /// When that was (seconds since the Unix epoch).
    pub at: Option<u64>,
    /// Why changes are not heard of at the moment; `None` where they are. It is tried again by itself.
    #[serde(default)]
    pub unwatched: Option<String>,
}
