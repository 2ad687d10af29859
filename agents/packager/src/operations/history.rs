//! `pkg.history`: the log of transactions, as much of it as fits into one answer.

use crate::api::{
    HistoryAnswer, HistoryApproval, HistoryChange, HistoryDetails, HistoryEntry, HistoryHeld,
    HistoryRequest,
};
use crate::error::Result;
use crate::limits::{HISTORY_ANSWER_BYTES_MAX, HISTORY_ENTRIES_MAX};
use crate::transaction::{Contents, Details, HistoryEntry as Entry, Project, State, Transactions};

/// Transactions of one project or of all, the latest first.
pub(super) fn history(
    log: &Transactions,
    project: Option<&Project>,
    request: &HistoryRequest,
) -> Result<HistoryAnswer> {
    let entries = match &request.before {
        Some(before) => log.history_before(project, before, HISTORY_ENTRIES_MAX)?,
        None => log.history(project, HISTORY_ENTRIES_MAX)?,
    };
    let mut transactions = Vec::new();
    let mut bytes = 0;
    let mut has_more = entries.len() == HISTORY_ENTRIES_MAX as usize;
    for entry in entries {
        let mut told = told(entry);
        if request.details {
            told.details = Some(detailed(log.details(&told.transaction)?));
        }
        bytes += serde_json::to_vec(&told).map_or(0, |text| text.len());
        // One at least: whoever asks for what comes before it gets on.
        if bytes > HISTORY_ANSWER_BYTES_MAX && !transactions.is_empty() {
            has_more = true;
            break;
        }
        transactions.push(told);
    }
    Ok(HistoryAnswer { schema: "bolide.history/1".to_owned(), transactions, has_more })
}

fn told(entry: Entry) -> HistoryEntry {
    HistoryEntry {
        state: match entry.state {
            State::Preparing => "running",
            State::Committed => "committed",
            State::Aborted => "failed",
            State::RolledBack => "rolled-back",
        }
        .to_owned(),
        summary: summary(&entry.summary, &entry.undid, entry.error.as_deref()),
        transaction: entry.id,
        operation: entry.operation,
        project: entry.project,
        started_at: entry.started_at_ms / 1000,
        finished_at: entry.finished_at_ms.map(|time| time / 1000),
        actor: entry.actor,
        digest: entry.digest,
        undone_by: entry.undone_by,
        undid: entry.undid,
        error: entry.error,
        details: None,
    }
}

fn detailed(details: Details) -> HistoryDetails {
    let held = |held: Contents| HistoryHeld {
        kind: if held.is_directory { "directory" } else { "file" }.to_owned(),
        digest: held.digest,
    };
    let approvals = details.approvals.into_iter().map(|approval| HistoryApproval {
        who: approval.who,
        how: approval.how,
        granted_at: approval.granted_at_ms / 1000,
        withdrawn_at: approval.withdrawn_at_ms.map(|time| time / 1000),
    });
    let changes = details.changes.into_iter().map(|change| HistoryChange {
        path: change.path,
        environment: change.environment,
        before: change.before.map(held),
        after: change.after.map(held),
    });
    HistoryDetails {
        approvals: approvals.collect(),
        packages: details.packages,
        changes: changes.collect(),
    }
}

/// One line for people.
fn summary(summary: &serde_json::Value, undid: &[String], error: Option<&str>) -> String {
    if let Some(error) = error {
        return format!("failed: {error}");
    }
    if !undid.is_empty() {
        return format!("undid {}", undid.join(", "));
    }
    let texts = |what: &str| -> Vec<&str> {
        let texts = summary[what].as_array().into_iter().flatten();
        texts.filter_map(serde_json::Value::as_str).collect()
    };
    for (what, words) in [("held", "held"), ("let_go", "no longer held:")] {
        if !texts(what).is_empty() {
            return format!("{words} {}", texts(what).join(", "));
        }
    }
    if let Some(mended) = summary["mended"].as_u64() {
        return format!("mended {mended} differences in {}", texts("places").join(", "));
    }
    let mut requested = texts("requested");
    if requested.is_empty() {
        requested.push("everything");
    }
    let count = |what: &str| summary[what].as_u64().unwrap_or(0);
    format!(
        "{} ({} installed, {} removed)",
        requested.join(" "),
        count("installed"),
        count("removed")
    )
}
