//! What can go wrong in an operation of the Packager, as callers branch on it and people read it.

use agents_contract::Cancellation;
use serde::{Deserialize, Serialize};

/// The class of a failure; decides the exit code of the command line and whether a retry makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The operation failed for a reason of the machine (disk full, permission, damaged state). Exit 1.
    Failed,
    /// The caller asked for something that cannot be meant (bad spec, unknown ecosystem). Exit 2.
    Usage,
    /// A policy forbids it. Exit 3.
    Refused,
    /// An approval is needed, or the plan's preconditions no longer hold. Exit 4.
    Stale,
    /// No set of versions satisfies all requirements. Exit 5.
    Conflict,
    /// A hash does not match, or a person's change is in the way. Exit 6.
    Verification,
    /// A registry could not be reached or answered nonsense. Exit 7.
    Network,
}

impl Kind {
    /// The exit code that CONTRACT names for this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Refused => 3,
            Kind::Stale => 4,
            Kind::Conflict => 5,
            Kind::Verification => 6,
            Kind::Network => 7,
        }
    }
}

/// One failure: what happened, to what, and what to do next. Never contains a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The class, for programs.
    pub kind: Kind,
    /// A stable name for programs, in kebab-case: `unknown-package`, `hash-mismatch`, `disk-full`.
    pub code: String,
    /// One sentence for people: lower case, no final period, names in backticks.
    pub message: String,
    /// What to do next, where there is something to do.
    pub hint: Option<String>,
    /// Whether the same call may succeed later without a change by the caller.
    pub retry: bool,
}

impl Error {
    /// A failure without advice that will not go away by itself.
    pub fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self { kind, code: code.to_owned(), message: message.into(), hint: None, retry: false }
    }

    /// The same with advice on what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, marked as worth another try.
    pub fn retryable(mut self) -> Self {
        self.retry = true;
        self
    }

    /// The end of a request whose answer nobody wants any more, as long as it has changed nothing.
    ///
    /// # Errors
    /// `cancelled` once the cancellation says so.
    pub fn if_cancelled(cancellation: &Cancellation) -> Result<()> {
        if cancellation.is_cancelled() { Err(Self::cancelled()) } else { Ok(()) }
    }

    /// Nobody wants it any more.
    pub fn cancelled() -> Self {
        let message = "the request was cancelled before anything was changed";
        Self::new(Kind::Failed, "cancelled", message)
    }

    /// The host stops, and the request had only waited.
    pub fn draining() -> Self {
        let message = "the daemon is stopping: the request had only waited, nothing was begun";
        Self::new(Kind::Failed, "draining", message)
            .hint("run the command again when a daemon is back, or with `--standalone`")
            .retryable()
    }

    /// An error of the file system, with the operation and the path that it happened to.
    ///
    /// Maps `ENOSPC` and `EDQUOT` to `disk-full`, `EACCES`, `EPERM` and `EROFS` to `permission-denied`, the rest
    /// to `io`; each with the advice that fits.
    pub fn io(doing: &str, path: &std::path::Path, source: &std::io::Error) -> Self {
        let message = format!("cannot {doing} `{}`: {source}", path.display());
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::new(Kind::Failed, "disk-full", message)
                    .hint("free some space on that file system, then run the command again; nothing was changed")
                    .retryable()
            }
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::new(Kind::Failed, "permission-denied", message)
                    .hint("use a directory that you may write, or ask its owner for access; nothing was changed")
            }
            _ => Self::new(Kind::Failed, "io", message),
        }
    }
}

/// What a disk that was waited for did not take.
const SYNC_FAILED: &str = "sync-failed";

impl Error {
    /// Who waited for the device was told that something is not on it: what was written since it was asked last cannot be relied
    /// on, though it can be read for as long as its pages are in memory.
    pub(crate) fn sync_failed(path: &std::path::Path, source: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let message =
            format!("the disk did not take what was written to `{}`: {source}", path.display());
        let is_full = matches!(source.kind(), StorageFull | QuotaExceeded);
        let hint = match is_full {
            true => "free some space on that file system, then run the command again",
            false => "look at the disk that it is on (`dmesg`), then run the command again",
        };
        Self::new(Kind::Failed, SYNC_FAILED, message).hint(hint).retryable()
    }

    /// Whether it is that.
    pub(crate) fn is_sync_failed(&self) -> bool {
        self.code == SYNC_FAILED
    }
}

/// The result of everything in this crate that can fail towards a caller.
pub type Result<T, E = Error> = std::result::Result<T, E>;
