//! What is written together, and what waits for the disk.

use super::*;

fn database() -> (tempfile::TempDir, Database) {
    let place = tempfile::tempdir().expect("a directory");
    let database = open(&place);
    (place, database)
}

fn open(place: &tempfile::TempDir) -> Database {
    Database::open(place.path(), Disk::default()).expect("a database")
}

fn approval(digest: &str) -> Approval {
    let [digest, who, how] = [digest, "uid 1", "--yes"].map(str::to_owned);
    Approval { digest, who, how, granted_at_ms: 1 }
}

fn note(database: &Database, digest: &str) {
    let (digest, body) = (digest.to_owned(), b"{}".to_vec());
    let far = i64::MAX as u64;
    let plan = Storable { digest, body, created_at_ms: far, expires_at_ms: far };
    database.note_plan(plan).expect("noted");
}

#[test]
fn an_approval_takes_its_plan_along_and_both_or_none_are_written() {
    let (place, database) = database();
    let rename = |from: &str, to: &str| {
        let change = format!("ALTER TABLE {from} RENAME TO {to}");
        database.write(|connection| connection.execute_batch(&change)).expect("renamed");
    };
    for digest in ["a", "b"] {
        note(&database, digest);
    }
    rename("approvals", "away");
    assert!(database.approve(&approval("a"), false).is_err());
    rename("away", "approvals");
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
