//! What is on the disk: the journal, the database, the tree hash, the names.

use super::super::database::{Database, Storable};
use super::super::directory::Directory;
use super::super::disk::{Hook, Verdict};
use super::super::journal::{self, Begin, Finish, Found, Intent, Journal, Record, Unfinished};
use super::*;

fn begin(world: &World) -> Begin {
    Begin {
        id: "tx-1".to_owned(),
        project: "/x".to_owned(),
        identity: Project::open(&world.project).unwrap().identity(),
        had_workshop: false,
        operation: "add".to_owned(),
        digest: None,
        actor: "uid 0".to_owned(),
        summary: serde_json::Value::Null,
        started_at_ms: 1,
        holds: Vec::new(),
    }
}

fn storable(digest: &str, created_at_ms: u64) -> Storable {
    let (digest, json) = (digest.to_owned(), crate::plan::Json::of("{}"));
    Storable { digest, json, created_at_ms, expires_at_ms: created_at_ms + 1 }
}

#[test]
fn a_plan_that_is_not_written_yet_is_found_and_survives_its_database() {
    let world = World::quick();
    let first = world.open();
    for digest in ["sha256:asked", "sha256:waiting"] {
        first.inner.database.note_plan(storable(digest, 1)).unwrap();
    }
    let second = world.open();
    let found = |database: &Database, digest: &str| database.plan(digest).unwrap().is_some();
    assert!(!found(&second.inner.database, "sha256:asked"));
    // Asking writes it, so that whatever refers to it from now on is no later on the disk.
    assert!(found(&first.inner.database, "sha256:asked"));
    assert!(found(&second.inner.database, "sha256:asked"));
    assert!(!found(&second.inner.database, "sha256:waiting"));
    drop(first);
    assert!(found(&second.inner.database, "sha256:waiting"));
}

#[test]
fn plans_for_which_there_is_no_room_are_written_at_once() {
    let world = World::quick();
    let (first, second) = (world.open(), world.open());
    for at in 0..=crate::limits::PLANS_UNWRITTEN_MAX {
        first.inner.database.note_plan(storable(&format!("sha256:{at}"), 1)).unwrap();
    }
    let is_written =
        |at: usize| second.inner.database.plan(&format!("sha256:{at}")).unwrap().is_some();
    assert!(!is_written(0) && is_written(crate::limits::PLANS_UNWRITTEN_MAX));
    first.write_plans();
    assert!((0..=crate::limits::PLANS_UNWRITTEN_MAX).all(is_written));
}

#[test]
fn a_plan_that_could_not_be_written_is_tried_again_before_anybody_is_told() {
    use std::sync::atomic::{AtomicBool, Ordering};
    struct Full(AtomicBool);
    impl Hook for Full {
        fn reach(&self, name: &'static str) -> Verdict {
            let is_full = name == "database" && self.0.load(Ordering::SeqCst);
            if is_full { Verdict::Fail(rustix::io::Errno::NOSPC) } else { Verdict::Proceed }
        }
    }
    let world = World::quick();
    let full = std::sync::Arc::new(Full(AtomicBool::new(false)));
    let transactions = world.open_on(Disk { hook: Some(full.clone()) }).unwrap();
    let database = &transactions.inner.database;
    let now_ms = transactions.now_ms();
    full.0.store(true, Ordering::SeqCst);
    database.note_plan(storable("sha256:a", now_ms)).unwrap();
    transactions.write_plans();
    assert_eq!(transactions.check_plans().unwrap_err().code, "disk-full", "it still is");
    transactions.write_plans();
    full.0.store(false, Ordering::SeqCst);
    transactions.check_plans().unwrap();
    // Written, and not only remembered.
    assert!(world.open().inner.database.plan("sha256:a").unwrap().is_some());
}

#[test]
fn plans_are_needed_before_they_are_written_and_until_they_expire() {
    let world = World::quick();
    let transactions = world.open();
    let now_ms = transactions.now_ms();
    for (digest, created_at_ms) in [("sha256:waiting", now_ms + 1_000), ("sha256:old", 1)] {
        transactions.inner.database.note_plan(storable(digest, created_at_ms)).unwrap();
    }
    assert_eq!(transactions.needed_plans().unwrap(), ["sha256:waiting"]);
    transactions.write_plans();
    assert_eq!(transactions.needed_plans().unwrap(), ["sha256:waiting"]);
}

#[test]
fn expired_plans_of_standing_transactions_are_kept() {
    let world = World::quick();
    let transactions = world.open();
    let database = &transactions.inner.database;
    for digest in ["sha256:committed", "sha256:preparing", "sha256:aborted", "sha256:unused"] {
        database.store_plan(&storable(digest, 1)).unwrap();
    }
    let mut session = world.lock(&transactions).unwrap();
    let purpose = |digest: &str| Purpose { digest: Some(digest.to_owned()), ..purpose("add") };
    let mut open = session.begin(purpose("sha256:committed")).unwrap();
    let change = open.stage_file(path("new.txt"), b"new", Expected::Anything).unwrap();
    open.commit(&[change], CommitOptions::default()).unwrap();
    drop(session.begin(purpose("sha256:aborted")).unwrap());
    let _open = session.begin(purpose("sha256:preparing")).unwrap();
    let now_ms = transactions.now_ms();
    database.store_plan(&storable("sha256:new", now_ms)).unwrap();
    let kept = |digest: &str| database.plan(digest).unwrap().is_some();
    assert!(kept("sha256:committed") && kept("sha256:preparing") && kept("sha256:new"));
    assert!(!kept("sha256:aborted") && !kept("sha256:unused"));
}

#[test]
fn of_each_name_only_the_last_plan_is_needed_for_what_stands() {
    let world = World::quick();
    let transactions = world.open();
    let mut session = world.lock(&transactions).unwrap();
    let mut change = |digest: &str, name: &str| {
        let purpose = Purpose { digest: Some(digest.to_owned()), ..purpose("add") };
        let mut open = session.begin(purpose).unwrap();
        let change = open.stage_file(path(name), digest.as_bytes(), Expected::Anything).unwrap();
        open.commit(&[change], CommitOptions::default()).unwrap();
    };
    change("sha256:other", "other.txt");
    for version in 1..=6 {
        change(&format!("sha256:{version}"), "new.txt");
    }
    assert_eq!(transactions.needed_plans().unwrap(), ["sha256:6", "sha256:other"]);
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(transactions.needed_plans().unwrap(), ["sha256:5", "sha256:other"]);
    let open = session.begin(Purpose { digest: Some("sha256:7".to_owned()), ..purpose("add") });
    let needed = transactions.needed_plans().unwrap();
    assert_eq!(needed, ["sha256:5", "sha256:7", "sha256:other"], "it is under way");
    drop(open);
}

#[test]
fn a_plan_is_needed_after_what_it_describes_was_mended_without_one() {
    let world = World::quick();
    let transactions = world.open();
    let mut session = world.lock(&transactions).unwrap();
    let mut change = |digest: Option<&str>| {
        let purpose = Purpose { digest: digest.map(str::to_owned), ..purpose("repair") };
        let mut open = session.begin(purpose).unwrap();
        let change = open.stage_file(path("new.txt"), b"new", Expected::Anything).unwrap();
        open.commit(&[change], CommitOptions::default()).unwrap();
    };
    change(Some("sha256:first"));
    change(Some("sha256:second"));
    change(None);
    assert_eq!(transactions.needed_plans().unwrap(), ["sha256:second"]);
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(transactions.needed_plans().unwrap(), ["sha256:second"]);
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(transactions.needed_plans().unwrap(), ["sha256:first"]);
}

#[test]
fn a_journal_that_is_torn_anywhere_tells_what_came_before() {
    let world = World::quick();
    let _ = world.open();
    let directory = Directory::open(&world.state.join("journal")).unwrap();
    let disk = Disk::default();
    let mut journal = Journal::create(&disk, &directory, begin(&world), true).unwrap();
    let intent = Intent {
        directories: vec![path("src")],
        items: Vec::new(),
        finish: Finish::Keep,
        system: None,
        start: None,
    };
    journal.append(&disk, &Record::Intent(intent)).unwrap();
    let mark = journal.mark();
    journal.append(&disk, &Record::Commit).unwrap();
    let which = journal::unfinished(&directory).unwrap().remove(0);
    let file = journal::path_of(&directory, &which);
    let bytes = fs::read(&file).unwrap();
    let mut seen = Vec::new();
    for end in 0..=bytes.len() {
        fs::write(&file, &bytes[..end]).unwrap();
        let stage = match journal::find(&directory, &which).unwrap() {
            Found::Gone => panic!("the journal is there"),
            Found::Torn => 0,
            Found::Told(story) => {
                1 + usize::from(story.intent.is_some()) + usize::from(story.committed)
            }
        };
        seen.push(stage);
    }
    assert!(seen.is_sorted() && seen.first() == Some(&0) && seen.contains(&1));
    assert_eq!(seen.last(), Some(&3));
    // Pages that were not written are zeroes.
    let intended = mark.1 as usize;
    for torn in [vec![0; intended], [&bytes[..32], &vec![0; intended]].concat()] {
        fs::write(&file, torn).unwrap();
        assert_eq!(journal::find(&directory, &which).unwrap(), Found::Torn);
    }
    // What can be no beginning of a journal was one, and there may be nothing else that tells where old contents are.
    let mut longer = bytes[..intended].to_vec();
    longer[8..12].copy_from_slice(&100_000_u32.to_le_bytes());
    let damaged = [
        [&[0; 32], &bytes[32..intended]].concat(),
        vec![7; 100],
        [&bytes[..100], b"?", &bytes[101..intended]].concat(),
        longer,
    ];
    for (index, bytes) in damaged.into_iter().enumerate() {
        fs::write(&file, bytes).unwrap();
        let error = journal::find(&directory, &which).unwrap_err();
        assert_eq!(error.code, "journal-damaged", "{index}");
    }
    let other = Unfinished { id: "tx-9".to_owned(), ..which.clone() };
    fs::write(journal::path_of(&directory, &other), &bytes).unwrap();
    let error = journal::find(&directory, &other).unwrap_err();
    assert_eq!(error.code, "journal-damaged", "it is another one's");
    fs::write(&file, [&[0; 32], &bytes[32..]].concat()).unwrap();
    let error = journal::find(&directory, &which).unwrap_err();
    assert_eq!(error.code, "journal-damaged", "it was whole when its end was written");
    // A damaged byte anywhere never makes a commit out of none, nor another story.
    for index in 8..bytes.len() {
        let mut other = bytes.clone();
        other[index] ^= 0x10;
        fs::write(&file, &other).unwrap();
        assert!(!matches!(journal::read(&directory, &which), Ok(Some(story)) if story.committed));
    }
    fs::write(&file, &bytes).unwrap();
    journal.take_back(&disk, mark).unwrap();
    assert!(!journal::read(&directory, &which).unwrap().unwrap().committed);
}

#[test]
fn a_journal_goes_on_without_a_system_that_was_restored() {
    let world = World::quick();
    let _ = world.open();
    let directory = Directory::open(&world.state.join("journal")).unwrap();
    let disk = Disk::default();
    let mut journal = Journal::create(&disk, &directory, begin(&world), true).unwrap();
    let which = journal::unfinished(&directory).unwrap().remove(0);
    let system = Some(crate::system::Change {
        irreversible: Vec::new(),
        manager: crate::system::Manager::Apt,
        root: "/".to_owned(),
        steps: Vec::new(),
    });
    let intent = Intent {
        directories: vec![path("src")],
        items: Vec::new(),
        finish: Finish::Keep,
        system,
        start: None,
    };
    journal.append(&disk, &Record::Intent(intent.clone())).unwrap();
    let alive = Journal::resume(&Disk::default(), &directory, &which).err().unwrap();
    assert_eq!(alive.code, "locked", "its writer lives");
    drop(journal);
    let file = journal::path_of(&directory, &which);
    let torn = [fs::read(&file).unwrap(), b"torn by a crash".to_vec()].concat();
    fs::write(&file, torn).unwrap();
    let mut journal = Journal::resume(&Disk::default(), &directory, &which).unwrap().unwrap();
    assert_eq!(journal::read(&directory, &which).unwrap().unwrap().intent.as_ref(), Some(&intent));
    journal.append(&disk, &Record::Restored).unwrap();
    let story = journal::read(&directory, &which).unwrap().unwrap();
    assert_eq!(story.intent, Some(Intent { system: None, ..intent }));
    assert!(!story.committed);
    fs::remove_file(&file).unwrap();
    assert!(Journal::resume(&Disk::default(), &directory, &which).unwrap().is_none());
}

#[test]
fn a_journal_that_cannot_be_read_is_named_to_who_wants_a_system() {
    let world = World::quick();
    let transactions = world.open();
    let file = world.state.join("journal/tx-1@1-1.journal");
    fs::write(&file, "").unwrap();
    drop(transactions.lock_after_others("tx-2").unwrap());
    // Of one that had begun.
    let directory = Directory::open(&world.state.join("journal")).unwrap();
    let disk = Disk::default();
    let mut journal = Journal::create(&disk, &directory, begin(&world), false).unwrap();
    journal.append(&disk, &Record::Turn(0)).unwrap();
    let which = Unfinished::of(&begin(&world));
    let mut bytes = fs::read(journal::path_of(&directory, &which)).unwrap();
    journal::remove(&disk, &directory, &begin(&world)).unwrap();
    bytes[20] ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = transactions.lock_after_others("tx-2").err().unwrap();
    assert_eq!(error.code, "journal-damaged");
    assert!(error.hint.unwrap().contains(file.to_str().unwrap()));
    drop(transactions.lock_after_others("tx-1").unwrap());
}

#[test]
fn a_torn_beginning_is_removed_and_one_in_use_is_not() {
    let world = World::quick();
    let _ = world.open();
    let journals = world.state.join("journal");
    let directory = Directory::open(&journals).unwrap();
    fs::write(journals.join("tx-2@k.journal-new"), "torn").unwrap();
    let used = fs::File::create(journals.join("tx-3@k.journal-new")).unwrap();
    rustix::fs::flock(&used, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(journal::unfinished(&directory).unwrap().is_empty());
    assert_eq!(fs::read_dir(&journals).unwrap().count(), 1);
}

#[test]
fn who_looks_for_torn_beginnings_takes_none_from_who_is_just_beginning() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let world = World::quick();
    let _ = world.open();
    let directory = Directory::open(&world.state.join("journal")).unwrap();
    let disk = Disk::default();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                journal::unfinished(&directory).unwrap();
            }
        });
        let begun = (0..500).map(|_| {
            let journal = Journal::create(&disk, &directory, begin(&world), true);
            drop(journal?);
            journal::remove(&disk, &directory, &begin(&world))
        });
        let all: Result<Vec<()>, _> = begun.collect();
        is_over.store(true, Ordering::Relaxed);
        all.unwrap();
    });
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    // What can come between the making of a beginning and its lock.
    let place = directory.path().join("tx-4@k.0.journal-new");
    let make = || fs::File::create(&place).unwrap();
    assert!(journal::lock_beginning(&make()).unwrap());
    let (mine, theirs) = (make(), make());
    rustix::fs::flock(&theirs, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(!journal::lock_beginning(&mine).unwrap(), "somebody looks at it");
    drop(theirs);
    assert!(journal::unfinished(&directory).unwrap().is_empty());
    assert!(!journal::lock_beginning(&mine).unwrap(), "somebody has taken it away");
}

#[test]
fn a_damaged_database_says_what_to_do() {
    let world = World::quick();
    drop(world.open());
    let database = world.state.join("state.sqlite3");
    fs::write(&database, vec![7_u8; 8192]).unwrap();
    let error = world.open_on(Disk::default()).err().unwrap();
    assert_eq!(error.code, "state-damaged");
    assert!(error.hint.unwrap().contains("move it away"));
}

#[test]
fn a_database_of_a_newer_program_is_refused() {
    let world = World::quick();
    drop(world.open());
    let connection = rusqlite::Connection::open(world.state.join("state.sqlite3")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert_eq!(world.open_on(Disk::default()).err().unwrap().code, "state-newer");
}

#[test]
fn a_lost_database_is_written_anew_by_recovery() {
    let world = World::quick();
    let mut session = world.session();
    std::mem::forget(session.begin(purpose("add")).unwrap());
    drop(session);
    for name in ["state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm"] {
        let _ = fs::remove_file(world.state.join(name));
    }
    let session = world.session();
    assert_eq!(session.recovered().len(), 1);
    assert_eq!(world.open().history(None, 10).unwrap()[0].state, State::Aborted);
    world.assert_clean();
}

#[test]
fn the_tree_hash_sees_modes_links_and_names() {
    let world = World::quick();
    let mut seen = vec![world.everything()];
    let mut changed = |what: &str| {
        let now = world.everything();
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    fs::set_permissions(world.project.join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    changed("mode");
    fs::remove_file(world.project.join("link")).unwrap();
    changed("removed");
    std::os::unix::fs::symlink("old.txt", world.project.join("link")).unwrap();
    changed("link");
    fs::rename(world.project.join("old.txt"), world.project.join("older.txt")).unwrap();
    changed("name");
    fs::create_dir(world.project.join("empty")).unwrap();
    changed("empty directory");
}

#[test]
fn names_of_transactions_are_dates() {
    assert_eq!(civil_date(0), (1970, 1, 1));
    assert_eq!(civil_date(11_016), (2000, 2, 29));
    assert_eq!(civil_date(20_778), (2026, 11, 21));
    assert_eq!(civil_date(47_541), (2100, 3, 1));
}
