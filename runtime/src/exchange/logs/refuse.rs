//! Why a request about a log is refused, and what to do about it, in the words of every tool's errors.

use std::io;
use std::path::Path;

use agents_contract::ToolError;

use crate::exchange::log::{AppendError, OpenError, ReadError, SyncError};
use crate::limits::{LOGS_MAX, LOGS_OPEN_MAX, LOGS_OPEN_PER_AGENT_MAX};

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenFailure {
    /// There is none of this name.
    #[error("there is no log of this name")]
    NoSuchLog,
    /// As many as may be.
    #[error("there are {LOGS_MAX} logs, no more are possible")]
    TooMany,
    /// Its file of options cannot be used.
    #[error("the options of the log cannot be read")]
    Options,
    /// Its segments cannot be used.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
}

fn refusal(code: &str, message: String, hint: &str, retry: bool) -> ToolError {
    let (code, hint) = (code.to_owned(), Some(hint.to_owned()).filter(|hint| !hint.is_empty()));
    ToolError { exit_code: 1, code, message, hint, retry }
}

/// What the system says below what we say.
fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_cause(source)),
        None => error.to_string(),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(super) fn no_such_tool(tool: &str) -> ToolError {
    refusal("no-such-tool", format!("the exchange has no tool `{tool}`"), "", false)
}

pub(super) fn unreadable(error: &dyn std::error::Error) -> ToolError {
    bad(format!("the request cannot be read: {error}"))
}

pub(super) fn bad(message: String) -> ToolError {
    refusal("bad-request", message, "", false)
}

pub(super) fn no_name() -> ToolError {
    bad("a log's name has at least one character".to_owned())
}

pub(super) fn no_threads(error: &io::Error) -> ToolError {
    let message = format!("the threads for logs cannot be started: {error}");
    refusal("log-failed", message, "free memory or raise the limit of threads", true)
}

pub(super) fn thread_ended() -> ToolError {
    let message = "a thread for logs ended unexpectedly".to_owned();
    refusal("log-failed", message, "try again; what was acknowledged is there", true)
}

pub(super) fn busy() -> ToolError {
    refusal("busy", "too much waits for the disk".to_owned(), "try again", true)
}

pub(super) fn too_many_waiting(what: &str, max: usize) -> ToolError {
    refusal("busy", format!("this caller has {max} {what} already"), "wait for some of them", true)
}

pub(super) fn too_many_open() -> ToolError {
    let message = format!("{LOGS_OPEN_MAX} logs are open and in use");
    refusal("busy", message, "end a follower of another log", true)
}

pub(super) fn too_many_of_agent() -> ToolError {
    let max = LOGS_OPEN_PER_AGENT_MAX;
    let message = format!("limit `logs_open_per_agent`: {max} logs are in use for this agent");
    refusal("limit", message, "end a follower of another log, or wait for an answer", true)
}

/// To whoever does not wait for the disk any more.
pub(super) fn not_waited_for() -> ToolError {
    let message = "it is stored, but was cancelled before it was known to survive power loss";
    refusal("cancelled", message.to_owned(), "`log.sync`", false)
}

pub(super) fn differs() -> ToolError {
    let message = "the log was made with other options".to_owned();
    refusal("log-differs", message, "open it without options, or replace them", false)
}

pub(super) fn ahead(asked: u64, next: u64) -> ToolError {
    let message = format!("position {asked} does not exist; the next record gets {next}");
    let hint = "records that were stored and not synced go with a power loss; start at the end";
    refusal("ahead", message, hint, false)
}

pub(super) fn not_opened(name: &str, directory: &Path, failure: &OpenFailure) -> ToolError {
    let (code, hint, retry) = match failure {
        OpenFailure::NoSuchLog => ("no-such-log", "make it with `log.open`".to_owned(), false),
        OpenFailure::TooMany => (
            "limit",
            format!("stop the daemon and delete logs in `{}`", directory.display()),
            false,
        ),
        OpenFailure::Options => {
            ("log-damaged", "open it with options that replace them".into(), false)
        }
        OpenFailure::Log(OpenError::Held) => {
            ("log-held", "end the other exchange of this state directory".to_owned(), true)
        }
        OpenFailure::Log(OpenError::System(error)) | OpenFailure::System(error)
            if is_full(error) =>
        {
            ("disk-full", format!("free space for `{}`", directory.display()), true)
        }
        _ => ("log-failed", format!("look at `{}`", directory.display()), false),
    };
    refusal(code, format!("log `{name}`: {}", with_cause(failure)), &hint, retry)
}

pub(super) fn not_appended(error: &AppendError, stored: u32) -> ToolError {
    let message = format!("{}; {stored} of its records were stored", with_cause(error));
    refusal("log-failed", message, "look at the disk", false)
}

pub(super) fn torn(stored: u32) -> ToolError {
    let message = format!("the log was opened again; {stored} of its records were stored");
    refusal("log-failed", message, "look at the disk", false)
}

pub(super) fn not_synced(error: SyncError) -> ToolError {
    let message = format!("it is stored, but may not survive power loss: {error}");
    let hint = "look at the disk, then `log.sync`, which writes it once more";
    refusal("sync-failed", message, hint, error == SyncError::Busy)
}

pub(super) fn not_read(error: &ReadError) -> ToolError {
    refusal("log-failed", with_cause(error), "look at the disk", false)
}

pub(super) fn not_removed(error: &io::Error) -> ToolError {
    let message = format!("old segments cannot be deleted: {error}");
    refusal("log-failed", message, "look at the disk; they go with the next trim", true)
}

pub(super) fn not_kept(error: &io::Error) -> ToolError {
    let message = format!("the options cannot be written: {error}");
    refusal("log-failed", message, "look at the disk", is_full(error))
}
