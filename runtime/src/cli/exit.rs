//! How commands end: the exit codes that scripts rely on, and a failure with its words.

use std::process::ExitCode;

use agents_contract::ToolError;

/// CONTRACT.md's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong use.
    WrongUse = 2,
    /// A policy forbids it.
    Refused = 3,
    /// An approval is needed, or the plan no longer holds.
    ApprovalNeeded = 4,
    /// No set of versions works.
    Conflict = 5,
    /// A hash does not match, or a person's change is in the way.
    Verification = 6,
    /// A registry could not be reached.
    Network = 7,
    /// No daemon.
    NoDaemon = 8,
}

impl Exit {
    /// The exit that a tool's error asks for; one that is not in the list is a plain failure.
    pub(crate) fn of_code(code: u8) -> Self {
        match code {
            2 => Self::WrongUse,
            3 => Self::Refused,
            4 => Self::ApprovalNeeded,
            5 => Self::Conflict,
            6 => Self::Verification,
            7 => Self::Network,
            8 => Self::NoDaemon,
            _ => Self::Failed,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What to exit with.
    pub(crate) exit: Exit,
    /// What to say.
    pub(crate) error: anyhow::Error,
    /// What to do next.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure with its code.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hint: None }
    }

    /// The caller's mistake.
    pub(crate) fn wrong_use(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::WrongUse, error)
    }
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        let hint = error.hint.clone();
        Self { exit: Exit::of_code(error.exit_code), error: error.into(), hint }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
