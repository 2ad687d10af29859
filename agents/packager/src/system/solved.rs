//! What follows from a wish where the distribution's own tool decides it, as data.

use std::collections::BTreeSet;

/// One package that a caller names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) kind: WantKind,
    /// Its name, with the architecture where that is a foreign one.
    pub(crate) name: String,
    /// The one version that would do; `None`: whichever the tool takes.
    pub(crate) version: Option<String>,
}

/// What is to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WantKind {
    Add,
    Remove,
    Update,
}

/// What the tool says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Solved {
    /// There is no way, and why.
    Conflict(String),
    /// What comes and what goes, each once; what changes its version is in both.
    Change(Vec<Coming>, Vec<Going>),
}

/// A package that is installed or replaces another version of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coming {
    pub(crate) name: String,
    pub(crate) architecture: String,
    pub(crate) version: String,
    /// The digest that its repository names.
    pub(crate) sha256: Option<String>,
    /// The repository.
    pub(crate) origin: String,
    pub(crate) size: Option<u64>,
    pub(crate) license: Option<String>,
    pub(crate) file: String,
    /// Names of those that come along and that it uses.
    pub(crate) uses: BTreeSet<String>,
}

/// A package that is taken away, or whose version is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Going {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The digest of its archive, where one can be had.
    pub(crate) sha256: Option<String>,
}

/// What a repository says of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) version: String,
    pub(crate) latest: String,
    pub(crate) count: usize,
    pub(crate) license: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) requires: Vec<String>,
}
