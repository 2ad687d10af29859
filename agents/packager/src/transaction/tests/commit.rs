//! Committing: what is there afterwards, and what is refused.

use super::*;

#[test]
fn a_commit_replaces_creates_and_removes_at_once() {
    let world = World::new();
    let mut session = world.session();
    let committed = install(&mut session, "1.0.0", false).unwrap();
    assert!(committed.unfinished.is_none() && committed.kept.is_none());
    assert!(world.read("node_modules/a/index.js").contains("1.0.0"));
    assert!(world.read("package.json").contains("1.0.0"));
    assert_eq!(world.read("src/deep/lib.rs"), "1.0.0");
    assert!(!world.has("old.txt"));
    assert_eq!(world.read(".bolide/.gitignore"), "*\n");
    world.assert_clean();
}

#[test]
fn a_replaced_file_keeps_its_mode() {
    let world = World::new();
    let mut session = world.session();
    let mut open = session.begin(purpose("add")).unwrap();
    let change = open.stage_file(path("run.sh"), b"#!/bin/true\n", Expected::Anything).unwrap();
    open.commit(&[change], CommitOptions::default()).unwrap();
    let mode = fs::metadata(world.project.join("run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn an_aborted_transaction_leaves_no_trace_in_the_project() {
    let world = World::new();
    let before = world.everything();
    let mut session = world.session();
    let open = session.begin(purpose("add")).unwrap();
    fs::write(open.staging().join("file"), "1").unwrap();
    open.abort("changed my mind").unwrap();
    drop(session.begin(purpose("add")).unwrap());
    assert_eq!(world.everything(), before);
    world.assert_clean();
    let history = world.open().history(None, 10).unwrap();
    assert!(history.iter().all(|entry| entry.state == State::Aborted));
    assert_eq!(history[1].error.as_deref(), Some("changed my mind"));
}

#[test]
fn a_file_that_is_not_what_the_plan_saw_is_stale() {
    let world = World::new();
    let before = world.everything();
    let mut session = world.session();
    for expected in [Expected::Absent, Expected::File(Content::of(b"something else"))] {
        let mut open = session.begin(purpose("add")).unwrap();
        let change = open.stage_file(path("package.json"), b"new", expected).unwrap();
        let error = open.commit(&[change], CommitOptions::default()).unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (Kind::Stale, "plan-stale"));
    }
    let mut open = session.begin(purpose("add")).unwrap();
    let gone = Expected::File(Content::of(b""));
    let change = open.stage_file(path("missing.json"), b"new", gone).unwrap();
    assert_eq!(open.commit(&[change], CommitOptions::default()).unwrap_err().kind, Kind::Stale);
    assert_eq!(world.everything(), before);
}

#[test]
fn changes_inside_each_other_are_refused() {
    let world = World::new();
    let mut session = world.session();
    let open = session.begin(purpose("add")).unwrap();
    fs::create_dir(open.staging().join("a")).unwrap();
    fs::create_dir(open.staging().join("b")).unwrap();
    let changes = [
        environment("node_modules", "a", Ecosystem::Npm),
        environment("node_modules/x", "b", Ecosystem::Npm),
    ];
    let error = open.commit(&changes, CommitOptions::default()).unwrap_err();
    assert_eq!(error.code, "overlapping-changes");
}

#[test]
fn generations_of_an_environment_are_counted() {
    let world = World::new();
    let mut session = world.session();
    let place = path("node_modules");
    let state = |session: &Session| world.open().environment(session.project(), &place).unwrap();
    assert_eq!(state(&session), EnvironmentState::default());
    install(&mut session, "1.0.0", false).unwrap();
    let first = state(&session);
    assert_eq!(first.generation, 1);
    install(&mut session, "2.0.0", false).unwrap();
    let second = state(&session);
    assert_eq!(second.generation, 2);
    assert_ne!(first.fingerprint, second.fingerprint);
    session.rollback(None, "uid 0", false).unwrap();
    let third = state(&session);
    assert_eq!(third.generation, 3);
    assert_eq!(third.fingerprint, first.fingerprint);
}

#[test]
fn a_second_session_waits_and_then_names_the_holder() {
    let world = World::new();
    let transactions = world.open();
    let session = world.lock(&transactions).unwrap();
    let project = Project::open(&world.project).unwrap();
    let error = transactions
        .lock(project, Duration::from_millis(50), agents_contract::Cancellation::NEVER)
        .err()
        .unwrap();
    assert_eq!(error.code, "locked");
    assert!(error.retry && error.message.contains(&std::process::id().to_string()));
    // The lock belongs to the directory, not to its name.
    let moved = world.project.with_file_name("y");
    fs::rename(&world.project, &moved).unwrap();
    let again = transactions.lock(
        Project::open(&moved).unwrap(),
        Duration::ZERO,
        agents_contract::Cancellation::NEVER,
    );
    assert_eq!(again.err().unwrap().code, "locked");
    // Another state directory does not help.
    let other = Transactions::open(&world.state.with_file_name("other"), clock()).unwrap();
    let again = other.lock(
        Project::open(&moved).unwrap(),
        Duration::ZERO,
        agents_contract::Cancellation::NEVER,
    );
    assert_eq!(again.err().unwrap().code, "locked");
    drop(session);
    transactions
        .lock(
            Project::open(&moved).unwrap(),
            Duration::from_secs(20),
            agents_contract::Cancellation::NEVER,
        )
        .unwrap();
}

#[test]
fn history_tells_commits_and_rollbacks() {
    let world = World::new();
    let mut session = world.session();
    let first = install(&mut session, "1.0.0", false).unwrap().transaction;
    let second = install(&mut session, "2.0.0", false).unwrap().transaction;
    let undone = session.rollback(Some(&first), "agent x", false).unwrap();
    assert_eq!(undone.taken, [second.clone(), first.clone()]);
    let history = world.open().history(Some(session.project()), 10).unwrap();
    let ids: Vec<_> = history.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, [undone.transaction.as_str(), &second, &first]);
    assert_eq!(history[0].undid, [second, first]);
    assert_eq!(history[0].actor, "agent x");
    assert_eq!(history[1].state, State::RolledBack);
    assert_eq!(history[1].undone_by.as_deref(), Some(undone.transaction.as_str()));
    assert_eq!(history[1].summary["packages"][0], "pkg:npm/left-pad@1.0.0");
    assert!(serde_json::to_value(&history).is_ok());
}

#[test]
fn a_project_can_be_named_by_a_descriptor() {
    use rustix::fs::{Mode, OFlags};
    let world = World::quick();
    let open = |path: &Path, flags| rustix::fs::open(path, flags, Mode::empty()).unwrap();
    let fd = open(&world.project, OFlags::PATH | OFlags::DIRECTORY);
    let project = Project::from_fd(fd).unwrap();
    assert_eq!(project.path(), world.project);
    assert_eq!(project.identity(), Project::open(&world.project).unwrap().identity());
    assert!(project.read_file(&path("package.json")).unwrap().is_some());
    assert!(project.read_file(&path("no/such/file")).unwrap().is_none());
    assert!(Project::from_fd(open(&world.project.join("run.sh"), OFlags::RDONLY)).is_err());
}
