//! What the machine may refuse: directories without permission, full disks, mount points, overlays.
//!
//! As root a directory refuses nothing, so such a test runs itself again as uid 65534.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;

const AGAIN: &str = "BOLIDE_TEST_AS_NOBODY";
const NOBODY: u32 = 65534;

/// Whether the test goes on in this process; as root it is done by another one.
fn as_nobody(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    if std::env::var_os(AGAIN).is_some() {
        panic!("still root");
    }
    // The program may lie where nobody else can reach it.
    let program = std::env::temp_dir().join(format!("bolide-test-{}-{test}", std::process::id()));
    fs::copy("/proc/self/exe", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&program)
        .args(["--exact", &format!("transaction::tests::machine::{test}"), "--nocapture"])
        .env(AGAIN, "1")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    fs::remove_file(&program).unwrap();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn a_project_without_permission_is_refused_and_unchanged() {
    if !as_nobody("a_project_without_permission_is_refused_and_unchanged") {
        return;
    }
    let world = World::new();
    let before = world.everything();
    let mut session = world.session();
    fs::set_permissions(&world.project, fs::Permissions::from_mode(0o555)).unwrap();
    let error = install(&mut session, "1.0.0", false).unwrap_err();
    fs::set_permissions(&world.project, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(error.code, "permission-denied");
    assert!(error.message.contains(".bolide"), "{}", error.message);
    assert_eq!(world.everything(), before);
    world.assert_clean();
    assert_eq!(world.open().history(None, 1).unwrap()[0].state, State::Aborted);
}

#[test]
fn a_parent_directory_without_permission_is_undone() {
    if !as_nobody("a_parent_directory_without_permission_is_undone") {
        return;
    }
    let world = World::new();
    world.write("member/package.json", "{}");
    let member = world.project.join("member");
    let before = world.everything();
    let mut session = world.session();
    fs::set_permissions(&member, fs::Permissions::from_mode(0o555)).unwrap();
    let mut open = session.begin(purpose("add")).unwrap();
    let first = open.stage_file(path("package.json"), b"new", Expected::Anything).unwrap();
    let second = open.stage_file(path("member/package.json"), b"new", Expected::Anything).unwrap();
    let error = open.commit(&[first, second], CommitOptions::default()).unwrap_err();
    fs::set_permissions(&member, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(error.code, "permission-denied");
    assert_eq!(world.everything(), before);
    world.assert_clean();
}

#[test]
fn a_state_directory_without_permission_is_refused() {
    if !as_nobody("a_state_directory_without_permission_is_refused") {
        return;
    }
    let world = World::new();
    let parent = world.state.parent().unwrap().to_owned();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o555)).unwrap();
    let error = world.open_on(Disk::default()).err().unwrap();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(error.code, "permission-denied");
}

#[test]
fn what_nobody_may_read_is_told_of_and_not_guessed() {
    if !as_nobody("what_nobody_may_read_is_told_of_and_not_guessed") {
        return;
    }
    let world = World::new();
    let mut session = world.session();
    install(&mut session, "1.0.0", false).unwrap();
    let sealed =
        ["a/index.js", "only-in-1.0.0"].map(|path| world.project.join("node_modules").join(path));
    let set = |mode| {
        for path in &sealed {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o000);
    let found = session.inspect(&path("node_modules"), &[], None, &|| Ok(())).unwrap().findings;
    set(0o755);
    let found: Vec<_> =
        found.iter().map(|it| (it.path.to_str().unwrap(), it.difference, it.entries)).collect();
    use Difference::Unreadable;
    assert_eq!(found, [("a/index.js", Unreadable, 1), ("only-in-1.0.0", Unreadable, 2)]);
}

/// A mount that is gone with the value.
struct Mount(PathBuf);

impl Mount {
    /// `None`, with the reason printed, where this process may not mount.
    fn new(at: &Path, kind: &str, options: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root may mount");
            return None;
        }
        fs::create_dir_all(at).unwrap();
        let output =
            Command::new("mount").args(["-t", kind, "-o", options, "none"]).arg(at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            other => {
                println!("skipped: cannot mount {kind}: {other:?}");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_the_project_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(&scratch.path().join("small"), "tmpfs", "size=256k") else {
        return;
    };
    let world = World {
        project: scratch.path().join("small/x"),
        state: scratch.path().join("state"),
        start: None,
        _scratch: None,
    };
    fs::create_dir(&world.project).unwrap();
    world.furnish();
    let before = world.everything();
    let transactions = world.open();
    let mut session = world.lock(&transactions).unwrap();
    let mut open = session.begin(purpose("add")).unwrap();
    let big = vec![0_u8; 1024 * 1024];
    let error = open.stage_file(path("package.json"), &big, Expected::Anything).unwrap_err();
    assert_eq!(error.code, "disk-full");
    drop(open);
    assert_eq!(world.everything(), before);
    // Filled to the last byte: not even `.bolide` can be made.
    let fill = fs::File::create(world.project.join("fill")).unwrap();
    let block = [0_u8; 4096];
    while std::io::Write::write(&mut &fill, &block).is_ok() {}
    let mut number = 0;
    while fs::write(world.project.join(format!("fill-{number}")), "").is_ok() && number < 100_000 {
        number += 1;
    }
    let before = world.everything();
    let result = session.begin(purpose("add")).map(drop);
    assert!(result.is_err() || world.everything() == before);
    if let Err(error) = result {
        assert_eq!(error.code, "disk-full", "{error:?}");
    }
    assert_eq!(world.everything(), before);
    world.assert_clean();
}

#[test]
fn a_full_state_directory_leaves_the_project_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(&scratch.path().join("small"), "tmpfs", "size=400k") else {
        return;
    };
    let world = World {
        project: scratch.path().join("x"),
        state: scratch.path().join("small/state"),
        start: None,
        _scratch: None,
    };
    fs::create_dir(&world.project).unwrap();
    world.furnish();
    let before = world.everything();
    let transactions = world.open();
    let mut session = world.lock(&transactions).unwrap();
    let fill = fs::File::create(scratch.path().join("small/fill")).unwrap();
    let block = [0_u8; 1024];
    while std::io::Write::write(&mut &fill, &block).is_ok() {}
    let error = install(&mut session, "1.0.0", false).unwrap_err();
    assert_eq!(error.code, "disk-full", "{error:?}");
    drop(session);
    drop(transactions);
    fs::remove_file(scratch.path().join("small/fill")).unwrap();
    assert!(world.session().recovered().len() <= 1);
    assert_eq!(world.everything(), before);
    world.assert_clean();
}

#[test]
fn an_environment_that_is_a_mount_point_is_said_and_left_alone() {
    let world = World::new();
    let Some(_mount) = Mount::new(&world.project.join("node_modules"), "tmpfs", "size=1m") else {
        return;
    };
    world.write("node_modules/theirs.js", "1");
    let before = world.everything();
    let mut session = world.session();
    let error = install(&mut session, "1.0.0", false).unwrap_err();
    assert_eq!(error.code, "cannot-move", "{error:?}");
    assert_eq!(world.everything(), before);
    world.assert_clean();
}

/// A project whose files all lie in the lower layer of an overlay, as in an image of a container.
pub(super) struct Overlay {
    pub(super) world: World,
    _mounts: [Mount; 2],
    _scratch: tempfile::TempDir,
}

pub(super) fn overlay() -> Option<Overlay> {
    let scratch = tempfile::tempdir().unwrap();
    // An overlay cannot lie on an overlay, so the layers are in memory.
    let memory = scratch.path().join("memory");
    let first = Mount::new(&memory, "tmpfs", "size=64m")?;
    for part in ["lower/x", "upper", "work", "merged"] {
        fs::create_dir_all(memory.join(part)).unwrap();
    }
    let lower = World { _scratch: None, ..World::at(&memory.join("lower")) };
    lower.furnish();
    lower.write("node_modules/a/index.js", "lower");
    lower.write("node_modules/deep/er/x.js", "x");
    std::os::unix::fs::symlink("a", lower.project.join("node_modules/link")).unwrap();
    let read_only = fs::Permissions::from_mode(0o555);
    fs::set_permissions(lower.project.join("node_modules/deep"), read_only).unwrap();
    let at = |part: &str| memory.join(part).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off",
        at("lower"),
        at("upper"),
        at("work")
    );
    let second = Mount::new(&memory.join("merged"), "overlay", &options)?;
    let world = World { project: memory.join("merged/x"), ..World::at(&memory) };
    // Dropped in this order: the overlay first.
    Some(Overlay { world, _mounts: [second, first], _scratch: scratch })
}

#[test]
fn an_environment_in_a_lower_layer_of_an_overlay_is_replaced_and_restored() {
    let Some(overlay) = overlay() else { return };
    let world = &overlay.world;
    let before = world.everything();
    let time = |world: &World| {
        fs::metadata(world.project.join("node_modules/deep/er")).unwrap().modified().unwrap()
    };
    let modified = time(world);
    let mut session = world.session();
    let committed = install(&mut session, "1.0.0", false).unwrap();
    assert!(committed.unfinished.is_none(), "{committed:?}");
    assert!(world.read("node_modules/a/index.js").contains("1.0.0"));
    assert!(!world.has("node_modules/deep"));
    install(&mut session, "2.0.0", false).unwrap();
    session.rollback(Some(&committed.transaction), "uid 0", false).unwrap();
    assert_eq!(world.everything(), before);
    assert_eq!(time(world), modified);
    world.assert_clean();
}
