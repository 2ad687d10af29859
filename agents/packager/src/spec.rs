//! What a caller asks for: one package and the versions that would do.
//!
//! Written as a purl (`pkg:npm/express@4.19.2`) or short (`npm:express@^4`, `pypi:requests[socks]>=2.31`,
//! `cargo:serde@1`). The requirement stays the ecosystem's own text; its resolver gives it meaning.

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;

/// One wanted package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spec {
    /// Where the package lives.
    pub ecosystem: Ecosystem,
    /// Its name, normalised as the ecosystem does (PEP 503 for PyPI; npm with its scope, `@scope/name`).
    pub name: String,
    /// PyPI extras or cargo features, sorted and without repetition.
    pub extras: Vec<String>,
    /// npm range, PEP 440 specifiers or cargo requirement; empty means any version.
    pub requirement: String,
}

/// The package URL of one exact version. The scope of an npm package is the purl's namespace, `@` percent-encoded.
pub fn purl(ecosystem: Ecosystem, name: &str, version: &str) -> String {
    let name = name.replace('@', "%40");
    let version = version.replace('+', "%2B").replace('!', "%21");
    format!("pkg:{}/{name}@{version}", ecosystem.as_str())
}
