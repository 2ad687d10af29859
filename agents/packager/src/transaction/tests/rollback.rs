//! Rolling back: the old state, exactly.

use std::os::unix::fs::MetadataExt;

use super::*;

#[test]
fn a_rollback_restores_every_byte_and_removes_what_was_ours() {
    let world = World::new();
    let before = world.everything();
    let manifest = fs::metadata(world.project.join("package.json")).unwrap();
    let mut session = world.session();
    let first = install(&mut session, "1.0.0", false).unwrap();
    let undone = session.rollback(Some(&first.transaction), "uid 0", false).unwrap();
    assert_eq!(undone.taken, [first.transaction]);
    assert!(undone.unfinished.is_none());
    assert_eq!(world.everything(), before);
    assert!(!world.has(".bolide") && !world.has("src"));
    let after = fs::metadata(world.project.join("package.json")).unwrap();
    assert_eq!((after.ino(), after.mtime_nsec()), (manifest.ino(), manifest.mtime_nsec()));
    world.assert_clean();
    assert_eq!(fs::read_dir(world.state.join("fingerprints")).unwrap().count(), 0);
}

#[test]
fn a_rollback_of_an_earlier_transaction_takes_the_later_ones_along() {
    let world = World::new();
    let mut session = world.session();
    let states: Vec<_> = ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
        .map(|version| {
            let before = world.visible();
            (before, install(&mut session, version, false).unwrap().transaction)
        })
        .into();
    let preview = session.preview_rollback(Some(&states[2].1)).unwrap();
    assert_eq!(preview.taken, [states[3].1.clone(), states[2].1.clone()]);
    let last = world.visible();
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(world.visible(), states[3].0);
    assert_ne!(world.visible(), last);
    session.rollback(Some(&states[1].1), "uid 0", false).unwrap();
    assert_eq!(world.visible(), states[1].0);
    // What stands again can be built upon, and taken back to the beginning.
    install(&mut session, "5.0.0", false).unwrap();
    session.rollback(Some(&states[0].1), "uid 0", false).unwrap();
    assert_eq!(world.everything(), states[0].0);
    world.assert_clean();
}

#[test]
fn what_does_not_stand_cannot_be_rolled_back() {
    let world = World::new();
    let mut session = world.session();
    let error = session.rollback(None, "uid 0", false).unwrap_err();
    assert_eq!(error.code, "nothing-to-roll-back");
    let first = install(&mut session, "1.0.0", false).unwrap().transaction;
    session.rollback(None, "uid 0", false).unwrap();
    let error = session.rollback(Some(&first), "uid 0", false).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Usage, "unknown-transaction"));
    assert!(session.rollback(Some("tx-\u{1b}[2J"), "uid 0", false).is_err());
}

#[test]
fn a_removed_workshop_is_said_and_nothing_is_changed() {
    let world = World::new();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    fs::remove_dir_all(world.project.join(".bolide")).unwrap();
    let before = world.everything();
    let error = session.rollback(None, "uid 0", false).unwrap_err();
    assert_eq!(error.code, "generation-damaged");
    assert_eq!(world.everything(), before);
}

#[test]
fn a_directory_that_a_person_filled_stays() {
    let world = World::new();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    world.write("src/mine.rs", "mine");
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(world.read("src/mine.rs"), "mine");
    assert!(!world.has("src/deep"));
}

#[test]
fn directories_that_forbid_writing_are_removed_too() {
    let world = World::new();
    let before = world.everything();
    let mut session = world.session();
    let open = session.begin(purpose("add")).unwrap();
    let inner = open.staging().join("modules/a/b");
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("file"), "1").unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    let change = environment("node_modules", "modules", Ecosystem::Npm);
    open.commit(&[change], CommitOptions::default()).unwrap();
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(world.everything(), before);
}

#[test]
fn a_person_s_own_workshop_directory_stays() {
    let world = World::new();
    world.write(".bolide/notes", "mine");
    let before = world.everything();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(world.read(".bolide/notes"), "mine");
    fs::remove_file(world.project.join(".bolide/.gitignore")).ok();
    fs::remove_dir(world.project.join(".bolide/generations")).ok();
    assert_eq!(world.everything(), before);
}

#[test]
fn an_undo_of_ten_thousand_files_is_seen_before_they_are_deleted() {
    let world = World::new();
    let before = world.everything();
    let mut session = world.session();
    let open = session.begin(purpose("add")).unwrap();
    for directory in 0..100 {
        let directory = open.staging().join(format!("modules/{directory}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..100 {
            fs::write(directory.join(format!("{file}.js")), "x").unwrap();
        }
    }
    let change = environment("node_modules", "modules", Ecosystem::Npm);
    let committed = open.commit(&[change], CommitOptions::default()).unwrap();
    let undone = session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(world.everything(), before);
    println!(
        "10,000 files: committed and seen after {} us, undone and seen after {} us",
        committed.visible_us, undone.visible_us
    );
}

#[test]
fn a_large_environment_is_taken_back_before_it_is_deleted() {
    let world = World::quick();
    let before = world.everything();
    let mut session = world.session();
    let open = session.begin(purpose("install")).unwrap();
    for file in 0..4_000 {
        let path = open.staging().join(format!("tree/{}/{file}.js", file / 50));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let change = environment("node_modules", "tree", Ecosystem::Npm);
    open.commit(&[change], CommitOptions::default()).unwrap();
    let crew = agents_contract::Threads(2);
    let undone = session.rollback_and_leave(None, "uid 0", false, &crew).unwrap();
    assert!(undone.is_left && undone.unfinished.is_none());
    assert!(!world.has("node_modules") && world.has(".bolide/trash"));
    assert_eq!(world.open().history(None, 1).unwrap()[0].state, State::Committed);
    drop(session);
    assert_eq!(world.session().recovered().len(), 1);
    assert_eq!(world.everything(), before);
    world.assert_clean();
    // A small one is not worth it.
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    assert!(!session.rollback_and_leave(None, "uid 0", false, &crew).unwrap().is_left);
    assert_eq!(world.everything(), before);
}
