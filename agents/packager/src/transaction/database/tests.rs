//! What is written together, and what waits for the disk.

use super::*;
use crate::plan::Json;
use crate::transaction::directory::{Identity, ObjectKind};

fn database() -> (tempfile::TempDir, Database) {
    let place = tempfile::tempdir().expect("a directory");
    let database = open(&place);
    (place, database)
}

fn open(place: &tempfile::TempDir) -> Database {
    Database::new(place.path(), Disk::default())
}

fn approval(digest: &str) -> Approval {
    let [digest, who, how] = [digest, "uid 1", "--yes"].map(str::to_owned);
    Approval { digest, who, how, granted_at_ms: 1 }
}

/// A table that has another name cannot be written to.
fn rename(database: &Database, from: &str, to: &str) {
    let change = format!("ALTER TABLE {from} RENAME TO {to}");
    database.write(|connection| connection.execute_batch(&change)).expect("renamed");
}

fn note(database: &Database, digest: &str) {
    let (digest, json) = (digest.to_owned(), Json::of("{}"));
    let far = i64::MAX as u64;
    let plan = Storable { digest, json, created_at_ms: far, expires_at_ms: far };
    database.note_plan(plan).expect("noted");
}

#[test]
fn an_approval_takes_its_plan_along_and_both_or_none_are_written() {
    let (place, database) = database();
    for digest in ["a", "b"] {
        note(&database, digest);
    }
    rename(&database, "approvals", "away");
    assert!(database.approve(&approval("a"), false).is_err());
    rename(&database, "away", "approvals");
    let other = open(&place);
    assert!(!other.has_plan("a").expect("an answer"), "half of it was written");
    assert!(database.has_plan("a").expect("an answer"), "it does not wait any more");
    database.approve(&approval("a"), false).expect("approved");
    assert!(other.has_plan("a").expect("an answer"));
    assert_eq!(other.approvals("a").expect("an answer"), [approval("a")]);
    assert!(!other.has_plan("b").expect("an answer") && database.has_unwritten_plans());
    database.write_plans();
    assert!(other.has_plan("b").expect("an answer") && !database.has_unwritten_plans());
    assert_eq!(other.plan("a").expect("an answer").as_deref(), Some("{}"));
}

#[test]
fn an_approval_is_written_with_the_transaction_that_carries_its_plan_out() {
    let (place, database) = database();
    let other = open(&place);
    for digest in ["a", "b"] {
        note(&database, digest);
        database.note_approval(approval(digest));
        assert_eq!(database.approvals(digest).expect("an answer"), [approval(digest)]);
        assert!(other.approvals(digest).expect("an answer").is_empty(), "nobody waited for that");
    }
    let carried = Begin { digest: Some("a".to_owned()), ..begin() };
    database.begin(&carried).expect("begun");
    assert!(other.has_plan("a").expect("an answer"));
    assert_eq!(other.approvals("a").expect("an answer"), [approval("a")]);
    assert_eq!(database.approvals("a").expect("an answer"), [approval("a")], "it waits no more");
    assert!(other.approvals("b").expect("an answer").is_empty(), "that is another plan");
    // No transaction came of it.
    database.write_approvals(Some("b")).expect("written");
    database.write_approvals(None).expect("written");
    assert!(other.has_plan("b").expect("an answer"));
    assert_eq!(other.approvals("b").expect("an answer"), [approval("b")], "it is written once");
}

#[test]
fn an_approval_that_cannot_be_written_with_its_transaction_goes_on_waiting() {
    let (place, database) = database();
    note(&database, "a");
    database.note_approval(approval("a"));
    rename(&database, "transactions", "away");
    let carried = Begin { digest: Some("a".to_owned()), ..begin() };
    assert!(database.begin(&carried).is_err());
    rename(&database, "away", "transactions");
    let other = open(&place);
    assert!(!other.has_plan("a").expect("an answer"), "half of it was written");
    assert_eq!(database.approvals("a").expect("an answer"), [approval("a")]);
    database.begin(&carried).expect("begun");
    assert_eq!(other.approvals("a").expect("an answer"), [approval("a")]);
}

#[test]
fn an_approval_that_waits_is_withdrawn_as_one_that_is_written_and_outlives_its_database() {
    let (place, database) = database();
    for digest in ["a", "b"] {
        note(&database, digest);
        database.note_approval(approval(digest));
    }
    assert_eq!(database.withdraw("a", 2).expect("withdrawn"), 1);
    assert!(database.approvals("a").expect("an answer").is_empty());
    drop(database);
    let other = open(&place);
    assert!(other.approvals("a").expect("an answer").is_empty());
    assert_eq!(other.approvals("b").expect("an answer"), [approval("b")]);
}

#[test]
fn the_database_waits_for_the_disk_where_it_is_to_and_only_there() {
    let (_place, database) = database();
    let level = || {
        let level = database.read(|connection| {
            connection.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))
        });
        level.expect("a level")
    };
    let (normal, full) = (1, 2);
    assert_eq!(level(), full);
    for is_waited_for in [false, false, true, true, false, true] {
        database.approve(&approval("a"), is_waited_for).expect("approved");
        assert_eq!(level(), if is_waited_for { full } else { normal });
    }
}

fn begin() -> Begin {
    Begin {
        id: "tx-1".to_owned(),
        project: "/x".to_owned(),
        identity: Identity { device: 1, inode: 2, born_ns: None, kind: ObjectKind::Directory },
        had_workshop: false,
        operation: "add".to_owned(),
        digest: None,
        actor: "uid 0".to_owned(),
        summary: serde_json::Value::Null,
        started_at_ms: 1,
        holds: Vec::new(),
    }
}

#[test]
fn a_name_that_another_transaction_has_is_refused_and_changes_nothing_of_the_other_one() {
    let (_place, database) = database();
    let state = || {
        let state = database.read(|connection| {
            let mut query =
                connection.prepare("SELECT state FROM transactions WHERE id = 'tx-1'")?;
            query.query_row([], |row| row.get::<_, String>(0)).optional()
        });
        state.expect("a state")
    };
    let first = begin();
    let others = [
        Begin { started_at_ms: 2, ..first.clone() },
        Begin { operation: "remove".to_owned(), ..first.clone() },
        Begin { project: "/y".to_owned(), ..first.clone() },
    ];
    let intent = Intent {
        directories: Vec::new(),
        items: Vec::new(),
        finish: Finish::Keep,
        system: None,
        start: None,
    };
    let all_are_refused = |expected: &str| {
        for other in &others {
            assert_eq!(database.begin(other).expect_err("refused").code, NAME_TAKEN);
            assert_eq!(database.commit(other, &intent, 3).expect_err("refused").code, NAME_TAKEN);
            database.abort(other, "of no use", None, 3).expect("written");
            assert_eq!(state().as_deref(), Some(expected));
        }
        // Not twice either.
        assert_eq!(database.begin(&first).expect_err("refused").code, NAME_TAKEN);
        assert_eq!(state().as_deref(), Some(expected));
    };
    assert_eq!(state(), None);
    database.begin(&first).expect("written");
    all_are_refused("preparing");
    // Its journal is the truth: what it says is done again by whoever comes after a crash, whatever is said here.
    database.abandon(&first.key(), 4).expect("written");
    all_are_refused("aborted");
    for _ in 0..2 {
        database.commit(&first, &intent, 5).expect("written");
        all_are_refused("committed");
    }
}

#[test]
fn an_approval_that_could_not_be_written_counts_for_nothing() {
    let (_place, database) = database();
    note(&database, "a");
    database.note_approval(approval("a"));
    rename(&database, "approvals", "away");
    assert!(database.write_approvals(Some("a")).is_err());
    rename(&database, "away", "approvals");
    assert_eq!(database.approvals("a").expect("a table").len(), 1, "it waits");
    database.forget_approvals("a");
    assert_eq!(database.approvals("a").expect("a table").len(), 0);
}
