//! A person's edits: seen, refused, and copied aside when forced.

use super::super::directory::Directory;
use super::super::fingerprint::Fingerprint;
use super::*;
use crate::store::Written;
use std::ffi::OsStr;

#[test]
fn an_edited_file_refuses_the_rollback_until_forced() {
    let world = World::new();
    let before = world.everything();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    world.write("node_modules/a/index.js", "patched\n");
    world.write("node_modules/mine/new.js", "mine\n");
    fs::remove_file(world.project.join(".venv/lib/site.py")).unwrap();
    world.write("package.json", "{\"mine\":1}\n");
    let edited = world.everything();
    let error = session.rollback(None, "uid 0", false).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, "edited-since"));
    for path in [
        "modified `node_modules/a/index.js`",
        "added `node_modules/mine/new.js`",
        "removed `.venv/lib/site.py`",
        "modified `package.json`",
    ] {
        assert!(error.message.contains(path), "{}", error.message);
    }
    assert!(error.hint.unwrap().contains("--force"));
    assert_eq!(world.everything(), edited);
    let undone = session.rollback(None, "uid 0", true).unwrap();
    assert_eq!(world.everything(), before);
    let kept = undone.kept.unwrap();
    let read = |path: &str| fs::read_to_string(kept.join(path)).unwrap();
    assert_eq!(read("node_modules/a/index.js"), "patched\n");
    assert_eq!(read("node_modules/mine/new.js"), "mine\n");
    assert_eq!(read("package.json"), "{\"mine\":1}\n");
}

#[test]
fn an_edited_environment_refuses_the_next_change_but_an_edited_manifest_does_not() {
    let world = World::new();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    world.write("package.json", "{\"mine\":1}\n");
    install(&mut session, "2.0.0", false).unwrap();
    world.write("node_modules/a/index.js", "patched\n");
    let error = install(&mut session, "3.0.0", false).unwrap_err();
    assert_eq!(error.code, "edited-since");
    assert!(world.read("node_modules/a/index.js").contains("patched"));
    let committed = install(&mut session, "3.0.0", true).unwrap();
    let kept = committed.kept.unwrap().join("node_modules/a/index.js");
    assert_eq!(fs::read_to_string(kept).unwrap(), "patched\n");
    // The edited manifest comes back with the generation that replaced it.
    session.rollback(None, "uid 0", true).unwrap();
    session.rollback(None, "uid 0", true).unwrap();
    assert_eq!(world.read("package.json"), "{\"mine\":1}\n");
}

#[test]
fn caches_and_touched_times_are_not_edits() {
    let world = World::new();
    let before = world.everything();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    world.write(".venv/lib/__pycache__/site.pyc", "bytecode");
    world.write("node_modules/.cache/babel/x", "cache");
    world.write("node_modules/.package-lock.json", "{}");
    let same = world.read("node_modules/a/index.js");
    world.write("node_modules/a/index.js", &same);
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(world.everything(), before);
}

#[test]
fn a_vanished_or_foreign_environment_is_an_edit() {
    let world = World::new();
    let before = world.everything();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    fs::remove_dir_all(world.project.join("node_modules")).unwrap();
    assert_eq!(session.rollback(None, "uid 0", false).unwrap_err().code, "edited-since");
    world.write("node_modules/by/another/tool.js", "1");
    world.write("old.txt", "mine again");
    let error = session.rollback(None, "uid 0", false).unwrap_err();
    assert!(error.message.contains("added `old.txt`"), "{}", error.message);
    let undone = session.rollback(None, "uid 0", true).unwrap();
    assert_eq!(world.everything(), before);
    let kept = undone.kept.unwrap();
    assert_eq!(fs::read_to_string(kept.join("old.txt")).unwrap(), "mine again");
    assert!(kept.join("node_modules/by/another/tool.js").is_file());
}

#[test]
fn a_damaged_record_refuses_instead_of_guessing() {
    let world = World::new();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    for entry in fs::read_dir(world.state.join("fingerprints")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let before = world.everything();
    let error = session.rollback(None, "uid 0", false).unwrap_err();
    assert_eq!(error.code, "fingerprint-damaged");
    assert_eq!(world.everything(), before);
}

#[test]
fn many_edits_are_counted_and_not_all_listed() {
    let world = World::quick();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    for index in 0..25 {
        world.write(&format!("node_modules/mine-{index:02}"), "1");
    }
    let error = session.rollback(None, "uid 0", false).unwrap_err();
    assert!(error.message.ends_with("and 5 more"), "{}", error.message);
}

#[test]
fn a_fingerprint_survives_being_stored() {
    let world = World::quick();
    let parent = Directory::open(world.project.parent().unwrap()).unwrap();
    let name = OsStr::new("x");
    let print = Fingerprint::record(&parent, name, name, &Written::default()).unwrap();
    let bytes = print.encode();
    assert_eq!(Fingerprint::decode(&bytes, Path::new("f")).unwrap(), print);
    for end in 0..bytes.len() {
        assert!(Fingerprint::decode(&bytes[..end], Path::new("f")).is_err());
    }
    assert!(print.compare(&parent, name, name).unwrap().is_empty());
}

#[test]
fn checking_ten_thousand_files_costs_a_status_each() {
    let world = World::empty(&std::env::temp_dir());
    for directory in 0..100 {
        for file in 0..100 {
            world.write(&format!("{directory}/{file}"), "x");
        }
    }
    let parent = Directory::open(world.project.parent().unwrap()).unwrap();
    let name = OsStr::new("x");
    let print = Fingerprint::record(&parent, name, name, &Written::default()).unwrap();
    let encoded = print.encode();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let print = Fingerprint::decode(&encoded, Path::new("f")).unwrap();
        assert!(print.compare(&parent, name, name).unwrap().is_empty());
        best = best.min(start.elapsed());
    }
    println!("10,000 files compared in {best:?} ({} bytes of record)", encoded.len());
}

#[test]
fn a_crew_finds_the_same_changes_as_one_alone() {
    let world = World::empty(&std::env::temp_dir());
    let file = |directory: usize, file: usize| format!("node_modules/p{directory}/lib/{file}.js");
    for directory in 0..40 {
        for number in 0..30 {
            world.write(&file(directory, number), "x");
        }
    }
    let parent = Directory::open(&world.project).unwrap();
    let name = OsStr::new("node_modules");
    let print = Fingerprint::record(&parent, name, name, &Written::default()).unwrap();
    assert!(print.count() >= crate::limits::COMPARE_PIECES_ENTRIES_MIN);
    let both = || {
        let alone = print.compare(&parent, name, name).unwrap();
        let crew = agents_contract::Threads(4);
        assert_eq!(print.compare_by(&crew, (&parent, name), name).unwrap(), alone);
        alone
    };
    assert!(both().is_empty());
    world.write(&file(3, 3), "y!");
    world.write("node_modules/p3/added/deep.js", "x");
    world.write("node_modules/added.js", "x");
    world.write("node_modules/a-before-all/index.js", "x");
    world.write("node_modules/.cache/of-a-tool", "x");
    world.write("node_modules/p4/__pycache__/x.pyc", "x");
    fs::remove_dir_all(world.project.join("node_modules/p7")).unwrap();
    fs::remove_file(world.project.join(file(8, 29))).unwrap();
    fs::remove_dir_all(world.project.join("node_modules/p9")).unwrap();
    world.write("node_modules/p9", "a file now");
    let drift = both();
    let kind = |path: &str| drift.iter().find(|(one, _)| one == Path::new(path)).map(|it| it.1);
    assert_eq!(kind("p3/lib/3.js"), Some(DriftKind::Modified));
    assert_eq!(kind("p3/added/deep.js"), Some(DriftKind::Added));
    assert_eq!(kind("p7/lib/0.js"), Some(DriftKind::Removed));
    assert_eq!(kind("p9"), Some(DriftKind::Modified));
    assert_eq!((kind(".cache"), kind("p4/__pycache__")), (None, None));
    fs::remove_dir_all(world.project.join("node_modules")).unwrap();
    assert_eq!(both().len(), print.count());
}

#[test]
fn a_crew_records_what_one_alone_does() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("node_modules");
    for directory in ["a/b/c", "a-b", "a.b/x", ".cache/deep", "empty"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for file in ["a/b/c/1", "a/b-1", "a-b/2", "a.b/x/3", "top", ".cache/left-out", "a/x.pyc"] {
        fs::write(root.join(file), file).unwrap();
    }
    std::os::unix::fs::symlink("../a/b", root.join("a.b/link")).unwrap();
    let (parent, name) = (Directory::open(place.path()).unwrap(), OsStr::new("node_modules"));
    let written = Written::default();
    let alone = Fingerprint::record(&parent, name, name, &written).unwrap();
    let by = |crew: &dyn agents_contract::Crew| {
        Fingerprint::record_by(crew, (&parent, name), name, &written).unwrap()
    };
    assert!(alone.count() > 10);
    assert_eq!(by(&agents_contract::Threads(3)), alone);
    assert_eq!(by(&agents_contract::Threads(1)), alone);
}

#[test]
fn what_was_given_as_a_whole_is_described_as_if_it_had_been_walked() {
    use std::os::fd::AsFd as _;

    use crate::store::{Piece, Prepared, Room, Store};

    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let store = Store::open(&at("store")).unwrap();
    let contents = ["a", "a/b/c", "a/b-1", "a-b/2", "a.b/x/3", "top"];
    let contents = contents.map(|path| path.replace("a/", "d/"));
    let bytes = crate::install::tests::npm_artifact(
        "demo",
        "1.0.0",
        &contents.each_ref().map(|path| (path.as_str(), path.as_str())),
    );
    let package = crate::install::tests::package(&store, Ecosystem::Npm, "demo", "1.0.0", &bytes);
    let entry = store.package(&package).unwrap();
    let pieces: Vec<Piece<'_>> = entry
        .files
        .iter()
        .map(|file| Piece { path: &file.path, object: file.object, executable: false })
        .collect();
    fs::create_dir_all(at("prepared")).unwrap();
    fs::create_dir_all(at("node_modules/@scope")).unwrap();
    let prepared =
        Prepared::new(&at("prepared"), Room { bytes_max: 1 << 30, free_min: 0 }).unwrap();
    assert!(prepared.claim(prepared.begin(), &pieces).is_none());
    while prepared.make_next(&store, agents_contract::Cancellation::NEVER) {}
    let tree = prepared.claim(prepared.begin(), &pieces).unwrap();
    let scope = Directory::open(&at("node_modules/@scope")).unwrap();
    let given = prepared.give(tree, (scope.as_fd(), "demo")).unwrap();
    let (parent, name) = (Directory::open(place.path()).unwrap(), OsStr::new("node_modules"));
    let record = |written: &Written| {
        let alone = Fingerprint::record(&parent, name, name, written).unwrap();
        let crew = &agents_contract::Threads(2);
        assert_eq!(Fingerprint::record_by(crew, (&parent, name), name, written).unwrap(), alone);
        alone
    };
    let (walked, written) = (record(&Written::default()), Written::default());
    written.note_given(given);
    // It is not looked at: what is changed in it now is not seen, as it would be by a walk.
    assert_eq!(record(&written), walked);
    fs::write(at("node_modules/@scope/demo/top"), "changed").unwrap();
    assert_eq!(record(&written), walked);
    assert_ne!(record(&Written::default()), walked);
    // A name more in it is seen.
    fs::create_dir(at("node_modules/@scope/demo/node_modules")).unwrap();
    assert_ne!(record(&written), walked);
}

#[test]
fn a_file_whose_status_is_known_is_not_looked_at() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("tree");
    fs::create_dir_all(root.join("inner")).unwrap();
    for file in ["inner/known", "inner/other", "top"] {
        fs::write(root.join(file), "12345").unwrap();
    }
    let known = rustix::fs::lstat(root.join("inner/known")).unwrap();
    let mut told = known;
    told.st_size = 77;
    let is_known =
        |device, inode| ((device, inode) == (known.st_dev, known.st_ino)).then_some(told);
    let parent = Directory::open(place.path()).unwrap();
    let mut sizes = Vec::new();
    let tree = (&parent, OsStr::new("tree"));
    super::super::tree::walk_knowing(tree, &is_known, &|_| false, &mut |visit| {
        if visit.kind() == super::super::directory::ObjectKind::File {
            sizes.push((String::from_utf8(visit.path.to_vec()).unwrap(), visit.status.st_size));
        }
        Ok(())
    })
    .unwrap();
    let expected = [("inner/known", 77), ("inner/other", 5), ("top", 5)];
    assert_eq!(sizes, expected.map(|(path, size)| (path.to_owned(), size)));
}
