//! Why a repository cannot be had, told for what it is: what this machine lacks is no damage, a submodule is no directory, and words of a
//! server are none of git's.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::super::kiln::Clay;
use super::super::world::{Outcome, World, bolide_program, not_shown};
use super::bounds::{damage, kept};
use super::{BUILD, Origin, asks_for, cached};

const FROZEN: [&str; 4] = ["install", "--frozen", "--build", "clay"];

/// Runs `bolide` with a git that does this instead in some cases of a shell's, and writes down what it is asked for.
fn with_git(world: &World, cases: &str, arguments: &[&str]) -> Outcome {
    let (directory, asked) = (world.place("instead"), world.place("asked"));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(&asked, "").unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> '{}'\ncase \"$*\" in\n{cases}\nesac\nPATH=\"${{PATH#*:}}\"\nexec git \"$@\"\n",
        asked.display()
    );
    let git = directory.join("git");
    std::fs::write(&git, script).unwrap();
    std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    Outcome::of(world.command(bolide_program()).args(arguments).env("PATH", path))
}

/// How often that git was told to do something.
fn asked_for(world: &World, word: &str) -> usize {
    let asked = std::fs::read_to_string(world.place("asked")).unwrap();
    asked.lines().filter(|line| line.contains(&format!(" {word} "))).count()
}

/// Has the repository be read again by the next run.
fn forget(world: &World) {
    for place in [world.place("home/cache/bolide/builds"), world.project().join(".venv")] {
        let _ = std::fs::remove_dir_all(place);
    }
}

fn inode(world: &World) -> u64 {
    kept(world).metadata().unwrap().ino()
}

#[test]
fn what_this_machine_lacks_is_no_damage() {
    let world = World::quick();
    let _origin = Origin::of(&world, &Clay::default());
    asks_for(&world, "");
    world.bolide(&BUILD).succeeds();
    let before = inode(&world);
    for (case, word) in [
        // As a bound of the kernel ends it.
        (r#"*" cat-file "*) kill -25 $$;;"#, "signal 25 ended it"),
        (
            r#"*" cat-file "*) echo "fatal: Out of memory, malloc failed" >&2; exit 128;;"#,
            "Out of memory",
        ),
        (
            r#"*" ls-tree "*) echo "fatal: cannot open: Too many open files" >&2; exit 128;;"#,
            "Too many open files",
        ),
        // A program in the place of git that cannot start it.
        (r#"*" ls-tree "*) echo "error: no version of git is set" >&2; exit 126;;"#, "no version"),
    ] {
        forget(&world);
        with_git(&world, case, &FROZEN).fails(1, &["cannot be read", word, "has room left"]);
        assert_eq!((asked_for(&world, "fetch"), inode(&world)), (0, before), "{word}");
        assert_eq!(cached(&world, "incoming"), 0);
    }
}

#[test]
fn a_full_disk_is_no_damage() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    std::fs::write(origin.place.join("long.txt"), "a line\n".repeat(300_000)).unwrap();
    origin.commit("long");
    asks_for(&world, "");
    world.bolide(&BUILD).succeeds();
    let before = inode(&world);
    forget(&world);
    let place = world.place("home/cache/bolide/incoming");
    std::fs::create_dir_all(&place).unwrap();
    let place = place.display().to_string();
    let mounted = world.run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", &place]);
    if mounted.code != 0 {
        not_shown("mounting a small file system needs rights");
        return;
    }
    let refused = with_git(&world, "", &FROZEN);
    world.run("umount", &[&place]).succeeds();
    refused.fails(1, &["cannot write", "free some space"]);
    assert_eq!((asked_for(&world, "fetch"), inode(&world)), (0, before));
    world.bolide(&FROZEN).succeeds();
}

#[test]
fn a_submodule_is_no_directory() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let commit = origin.git(&["rev-parse", "HEAD"]);
    let submodule = format!("160000,{commit},libs/sub");
    origin.git(&["update-index", "--add", "--cacheinfo", &submodule]);
    origin.git(&["commit", "--quiet", "-m", "submodule"]);
    for (directory, word) in [
        ("libs/sub", ": what is called so is a submodule"),
        ("libs/sub/inner", "has no directory `libs/sub/inner`"),
    ] {
        asks_for(&world, &format!("@main#subdirectory={directory}"));
        let no_directory = format!("has no directory `{directory}`");
        world.bolide(&BUILD).fails(1, &[&no_directory, word, "correct the subdirectory"]);
        let before = inode(&world);
        with_git(&world, "", &BUILD).fails(1, &[&no_directory]);
        assert_eq!((asked_for(&world, "fetch"), inode(&world)), (0, before));
        assert_eq!(cached(&world, "incoming"), 0);
    }
}

#[test]
fn what_is_damaged_and_read_by_others_is_fetched_for_this_run() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    asks_for(&world, "");
    world.bolide(&BUILD).succeeds();
    damage(&world, &origin.git(&["rev-parse", "HEAD:clay"]));
    let before = inode(&world);
    let other = std::fs::File::open(kept(&world)).unwrap();
    other.lock_shared().unwrap();
    forget(&world);
    world.bolide(&FROZEN).succeeds();
    assert_eq!((inode(&world), cached(&world, "incoming")), (before, 0));
    // It is not as before: whoever comes when nobody reads it mends it.
    drop(other);
    forget(&world);
    world.bolide(&FROZEN).succeeds();
    assert_ne!(inode(&world), before);
    forget(&world);
    with_git(&world, "", &FROZEN).succeeds();
    assert_eq!((asked_for(&world, "fetch"), cached(&world, "incoming")), (0, 0));
}

#[test]
fn a_servers_words_are_not_taken_for_gits() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let commit = origin.git(&["rev-parse", "HEAD"]);
    asks_for(&world, &format!("@{commit}"));
    for word in [
        "error: Server does not allow request for unadvertised object",
        "fatal: Server does not support shallow clients",
        "fatal: dumb http transport does not support shallow capabilities",
        "signal 25",
    ] {
        let says = format!("echo 'remote: {word}' >&2; echo 'fatal: the end' >&2; exit 128");
        let case = format!("*' fetch '*) {says};;");
        with_git(&world, &case, &BUILD).fails(7, &["git cannot read", "fatal: the end"]);
        assert_eq!(asked_for(&world, "fetch"), 1, "{word}");
    }
}

#[test]
fn a_server_that_refuses_a_commit_in_words_of_its_own_is_asked_for_all_branches() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let commit = origin.git(&["rev-parse", "HEAD"]);
    asks_for(&world, &format!("@{commit}"));
    let says = format!("echo 'fatal: remote error: want {commit} not valid' >&2; exit 128");
    let case = format!("*':refs/bolide/wanted') {says};;");
    with_git(&world, &case, &BUILD).succeeds();
    assert_eq!(asked_for(&world, "fetch"), 2);
    forget(&world);
    std::fs::remove_dir_all(world.place("home/cache/bolide/repositories")).unwrap();
    // What forbids something for a reason of its own is no way that git does not take.
    let says = "echo 'fatal: remote error: access is not allowed' >&2; exit 128";
    let case = format!(
        "*':refs/bolide/wanted') echo 'fatal: Server does not support shallow clients' >&2; exit 128;;\n*' fetch '*) {says};;"
    );
    with_git(&world, &case, &FROZEN).fails(7, &["git cannot read", "access is not allowed"]);
}

#[test]
fn what_was_too_large_is_told_whatever_a_server_says() {
    let world = World::quick();
    let _origin = Origin::of(&world, &Clay::default());
    asks_for(&world, "@main");
    // More than anybody reads of it, then more than there is room for, without a byte on the disk.
    let many = r#"*" fetch "*) head -c 3000000 /dev/zero | tr '\0' x >&2
        for at in 1 2 3; do truncate -s 2G "$GIT_DIR/objects/$at"; done; exec sleep 600;;"#;
    let one = r#"*" fetch "*) truncate -s 3G "$GIT_DIR/objects/pack/x"; kill -25 $$;;"#;
    for case in [many, one] {
        with_git(&world, case, &BUILD).fails(3, &["is too large to be fetched", "an archive"]);
        assert_eq!(asked_for(&world, "fetch"), 1, "nobody asks once more");
        assert_eq!((cached(&world, "repositories"), cached(&world, "incoming")), (0, 0));
    }
}
