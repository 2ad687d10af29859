//! The log of transactions, as it is asked for.

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;

/// `pkg.history`: the transactions of a project, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryRequest {
    /// All projects instead of the given directory.
    pub all: bool,
    /// With all that the log has: approvals, packages, what each name held before and after.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub details: bool,
    /// Only what came before this transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// The answer to `pkg.history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryAnswer {
    /// `bolide.history/1`.
    pub schema: String,
    /// Newest first.
    pub transactions: Vec<HistoryEntry>,
    /// Whether there are older ones: an answer is bounded. They are had with [`HistoryRequest::before`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_more: bool,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its id.
    pub transaction: String,
    /// `committed`, `rolled-back`, `failed` or `running`.
    pub state: String,
    /// `add`, `remove`, `change`, `install`, `update`, `repair`, `hold`, `unhold`, `rollback`.
    pub operation: String,
    /// The project's directory.
    pub project: String,
    /// When it began, seconds since the Unix epoch.
    pub started_at: u64,
    /// Who asked.
    pub actor: String,
    /// The plan's digest, where there was a plan.
    pub digest: Option<String>,
    /// What it did, in one line.
    pub summary: String,
    /// When it ended, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<u64>,
    /// The rollback that undid it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<String>,
    /// What it undid, where it is a rollback, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undid: Vec<String>,
    /// Why it gave up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What else the log has, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<HistoryDetails>,
}

/// What the log has of a transaction beside what people see first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryDetails {
    /// Who agreed to its plan, the first one first.
    pub approvals: Vec<HistoryApproval>,
    /// `added` and `removed`: the packages, as package URLs; nothing where it had no plan.
    pub packages: Option<serde_json::Value>,
    /// The names that it changed, sorted.
    pub changes: Vec<HistoryChange>,
}

/// An approval of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryApproval {
    /// Who.
    pub who: String,
    /// By which means.
    pub how: String,
    /// Seconds since the Unix epoch.
    pub granted_at: u64,
    /// The same, where it was taken back.
    pub withdrawn_at: Option<u64>,
}

/// One name in a project, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryChange {
    /// The name.
    pub path: String,
    /// The ecosystem, where it is an environment.
    pub environment: Option<Ecosystem>,
    /// What was there; nothing where there was nothing.
    pub before: Option<HistoryHeld>,
    /// What was there afterwards.
    pub after: Option<HistoryHeld>,
}

/// What a name held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryHeld {
    /// `file` or `directory`.
    pub kind: String,
    /// SHA-256 of a file; of a directory the digest of the fingerprint with which it was installed, where we installed it.
    pub digest: Option<String>,
}
