//! From wishes to exact packages: one resolver per ecosystem, each over prefetched metadata.
//!
//! A resolver is pure but for the metadata trait that it asks; it knows no network, no disk and no clock.

pub mod npm;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::spec::Spec;

/// Why no set of versions satisfies all requirements, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// For people: which requirements exclude each other, and who has them.
    pub explanation: String,
    /// Changes that were tried and lead to a solution; the smallest first. May be empty.
    pub repairs: Vec<Repair>,
}

/// One way out of a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// One sentence for people.
    pub description: String,
    /// What to ask for instead (or in addition); the rest of the project stays as it is.
    pub changes: Vec<Spec>,
}

/// What ends a resolution without a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The requirements exclude each other.
    #[error("{}", .0.explanation)]
    Conflict(Conflict),
    /// Anything else: an unknown package, a registry that does not answer, a bound that was reached.
    #[error(transparent)]
    Other(#[from] Error),
}
