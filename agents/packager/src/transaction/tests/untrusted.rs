//! A project that a stranger wrote.

use super::*;

fn outside(world: &World) -> PathBuf {
    let outside = world.project.with_file_name("outside");
    fs::create_dir_all(outside.join("staging")).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    outside
}

#[test]
fn a_link_in_place_of_the_workshop_is_refused() {
    let world = World::new();
    let outside = outside(&world);
    std::os::unix::fs::symlink(&outside, world.project.join(".bolide")).unwrap();
    let before = (world.everything(), tree_hash(&outside).unwrap());
    let mut session = world.session();
    let error = install(&mut session, "1.0.0", false).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "untrusted-workshop"));
    assert_eq!((world.everything(), tree_hash(&outside).unwrap()), before);
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a directory away");
        return;
    }
    let world = World::new();
    std::os::unix::fs::chown(&world.project, Some(12_345), None).unwrap();
    let before = world.everything();
    let mut session = world.session();
    let error = install(&mut session, "1.0.0", false).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "other-owner"));
    assert!(error.message.contains("uid 12345") && error.hint.is_some(), "{error}");
    assert_eq!(world.everything(), before);
    world.assert_clean();
    std::os::unix::fs::chown(&world.project, Some(0), None).unwrap();
    install(&mut session, "1.0.0", false).unwrap();
}

#[test]
fn links_inside_the_workshop_are_refused() {
    for part in ["staging", "generations"] {
        let world = World::new();
        let outside = outside(&world);
        fs::create_dir(world.project.join(".bolide")).unwrap();
        std::os::unix::fs::symlink(&outside, world.project.join(".bolide").join(part)).unwrap();
        let before = (world.visible(), tree_hash(&outside).unwrap());
        let mut session = world.session();
        let result = install(&mut session, "1.0.0", false);
        assert_eq!(tree_hash(&outside).unwrap(), before.1);
        match result {
            Err(_) => assert_eq!(world.visible(), before.0),
            // The commit came first; what could not be finished is said.
            Ok(committed) => assert!(committed.unfinished.is_some()),
        }
    }
}

#[test]
fn a_live_name_that_is_a_link_is_neither_followed_nor_replaced() {
    let world = World::new();
    let outside = outside(&world);
    std::os::unix::fs::symlink(&outside, world.project.join("node_modules")).unwrap();
    let before = (world.everything(), tree_hash(&outside).unwrap());
    let mut session = world.session();
    let error = install(&mut session, "1.0.0", false).unwrap_err();
    assert_eq!(error.code, "symbolic-link");
    assert_eq!((world.everything(), tree_hash(&outside).unwrap()), before);
    // The same for a link on the way.
    let mut open = session.begin(purpose("add")).unwrap();
    let change =
        open.stage_file(path("node_modules/precious"), b"new", Expected::Anything).unwrap();
    let error = open.commit(&[change], CommitOptions::default()).unwrap_err();
    assert_eq!(error.code, "symbolic-link");
    assert_eq!((world.everything(), tree_hash(&outside).unwrap()), before);
    assert!(session.project().read_file(&path("node_modules/precious")).is_err());
}

#[test]
fn paths_that_leave_the_project_do_not_exist() {
    for bad in [
        "",
        "/etc",
        "..",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        ".bolide",
        ".bolide/x",
        "a\0b",
        "a\u{1b}[2J",
    ] {
        assert!(RelativePath::new(bad).is_err(), "{bad:?}");
    }
    assert_eq!(path("a/b").parent(), Some(path("a")));
    assert!(path("a").overlaps(&path("a/b")) && !path("a").overlaps(&path("ab")));
}

#[test]
fn a_replaced_generation_is_not_restored() {
    let world = World::new();
    let mut session = world.session();
    let id = install(&mut session, "1.0.0", false).unwrap().transaction;
    let slot = world.project.join(".bolide/generations").join(id).join("file-0");
    let text = fs::read(&slot).unwrap();
    fs::write(&slot, "evil").unwrap();
    assert_eq!(session.rollback(None, "uid 0", false).unwrap_err().code, "generation-damaged");
    fs::remove_file(&slot).unwrap();
    fs::write(&slot, text).unwrap();
    let before = world.everything();
    assert_eq!(session.rollback(None, "uid 0", false).unwrap_err().code, "generation-damaged");
    assert_eq!(world.everything(), before);
}

#[test]
fn a_pipe_as_a_manifest_does_not_block() {
    let world = World::new();
    let pipe = world.project.join("pipe.json");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let project = Project::open(&world.project).unwrap();
    assert!(project.read_file(&path("pipe.json")).is_err());
}
