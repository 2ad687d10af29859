//! From requirements to exact packages: one solver per ecosystem, and how a failure is explained.
//!
//! Nothing here talks to a network or a disk: a solver blocks on the traits of [`crate::metadata`].
//! Equal input gives equal output, down to the order.

mod ahead;
pub mod cargo;
pub mod conflict;
pub mod debian;
mod indexed;
pub mod npm;
pub mod pypi;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};

/// Why there is no resolution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No set of versions satisfies all requirements.
    #[error("{0}")]
    Conflict(Conflict),
    /// The question could not be answered at all.
    #[error(transparent)]
    Other(#[from] Error),
}

/// A proof that the requirements exclude each other, and ways out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The proof, one step per line, for people.
    pub explanation: String,
    /// Changes of the direct requirements that make them solvable, the least invasive first; each one was checked.
    pub repairs: Vec<Repair>,
}

/// One way out of a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// What to do, for people.
    pub description: String,
    /// The same for programs.
    pub changes: Vec<Change>,
}

/// One direct requirement replaced or dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The requirement as it stands now.
    pub from: String,
    /// What to put in its place; `None` drops it.
    pub to: Option<String>,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.explanation)
    }
}

impl ResolveError {
    /// The same as one failure of the crate; a conflict's repairs become the hint.
    pub fn into_error(self) -> Error {
        match self {
            ResolveError::Other(error) => error,
            ResolveError::Conflict(conflict) => {
                let error = Error::new(Kind::Conflict, "conflict", conflict.explanation);
                match conflict.repairs.first() {
                    Some(repair) => error.hint(repair.description.clone()),
                    None => error.hint("loosen one of the requirements that the explanation names"),
                }
            }
        }
    }
}

/// What a resolution that took too long ends with.
pub fn deadline_exceeded() -> Error {
    Error::new(
        Kind::Failed,
        "deadline",
        "no answer was found within the time allowed for resolving",
    )
    .hint("pin the packages that have many versions more tightly, or allow more time")
    .retryable()
}

/// Asked between the steps of a solver; its error ends the resolution. The outcome never depends on it otherwise.
pub type KeepOn<'a> = &'a (dyn Fn() -> Result<(), Error> + Sync);
