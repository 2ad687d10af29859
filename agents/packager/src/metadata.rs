//! What registries say about packages, parsed and bounded, and the traits through which resolvers ask.
//!
//! A resolver never talks to a network: it blocks on one of these traits, and announces early what it will
//! probably ask next. `crate::io` implements them over HTTP; tests implement them over a small universe.

pub mod aged;
pub mod cargo;
pub mod debian;
mod flat;
pub mod held;
pub mod npm;
pub mod pypi;

use std::fmt;

/// One or several digests of one artefact; only the strong ones count.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Hashes {
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: Option<String>,
    /// SHA-512 in lower-case hexadecimal.
    pub sha512: Option<String>,
}

impl Hashes {
    /// Whether there is a digest that an artefact can be verified with.
    pub fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none()
    }

    /// The digest as it is shown, in a text that has just that length.
    pub fn text(&self) -> String {
        match (&self.sha512, &self.sha256) {
            (Some(digest), _) => ["sha512:", digest].concat(),
            (None, Some(digest)) => ["sha256:", digest].concat(),
            (None, None) => "none".to_owned(),
        }
    }
}

impl fmt::Display for Hashes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}
