//! What a repository and its server may not do whatever they say: send git to another server, fill the disk, or stay damaged; and what
//! of the person's own settings of git counts.

use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use super::super::kiln::Clay;
use super::super::server::GitServer;
use super::super::world::{Outcome, World, bolide_program};
use super::{ADDRESS, BUILD, Origin, asks_for, cached, configure, more};

/// Adds to the person's configuration of git.
fn configure_more(world: &World, text: &str) {
    let path = world.place("home/.gitconfig");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{before}{text}")).unwrap();
}

/// The only repository that is kept.
pub(super) fn kept(world: &World) -> PathBuf {
    let all = std::fs::read_dir(world.place("home/cache/bolide/repositories")).unwrap();
    let all: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    let [kept] = &all[..] else { panic!("{all:?}") };
    kept.clone()
}

#[test]
fn a_server_that_gives_its_files_one_by_one_is_refused() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let commit = origin.git(&["rev-parse", "HEAD"]);
    let bare = world.place("files/clay.git").display().to_string();
    origin.git(&["clone", "--quiet", "--bare", ".", &bare]);
    origin.git(&["--git-dir", &bare, "update-server-info"]);
    let server = GitServer::of_files(&world, "files");
    configure(&world, &format!("{}/", server.base()));
    for revision in ["@main", &format!("@{commit}"), &format!("@{}", &commit[..10])] {
        asks_for(&world, revision);
        let words = ["`https://git.invalid/clay.git` is given file by file", "name a mirror"];
        world.bolide(&BUILD).fails(3, &words);
        assert_eq!((cached(&world, "repositories"), cached(&world, "incoming")), (0, 0));
    }
    let asked = std::fs::read_to_string(world.place("asked")).unwrap();
    assert!(asked.contains("/clay.git/info/refs") && !asked.contains("/objects/"), "{asked}");
}

#[test]
fn a_server_that_seems_to_speak_gits_protocol_gives_no_files_either() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let commit = origin.git(&["rev-parse", "HEAD"]);
    let bare = world.place("files/clay.git").display().to_string();
    origin.git(&["clone", "--quiet", "--bare", ".", &bare]);
    origin.git(&["--git-dir", &bare, "update-server-info"]);
    let server = GitServer::that_pretends(&world, "files", &commit);
    configure(&world, &format!("{}/", server.base()));
    asks_for(&world, &format!("@{commit}"));
    world.bolide(&BUILD).fails(3, &["`https://git.invalid/clay.git` knows no depth", "by ssh"]);
    let asked = std::fs::read_to_string(world.place("asked")).unwrap();
    assert!(asked.contains("/clay.git/info/refs") && asked.lines().count() == 1, "{asked}");
    assert_eq!((cached(&world, "repositories"), cached(&world, "incoming")), (0, 0));
}

#[test]
fn no_server_sends_git_on_to_one_without_encryption() {
    let world = World::quick();
    let _origin = Origin::of(&world, &Clay::default());
    let other = GitServer::of_files(&world, "srv");
    let server = GitServer::that_sends_on(&world, &other.base());
    // What the person has in the place of an address may be without encryption.
    configure(&world, &format!("{}/", server.base()));
    configure_more(&world, "[protocol \"http\"]\n allow = always\n");
    asks_for(&world, "");
    world.bolide(&BUILD).fails(7, &["git cannot read `https://git.invalid/clay.git`"]);
    let asked = std::fs::read_to_string(world.place("asked")).unwrap();
    let base = server.base();
    assert!(asked.lines().all(|line| base.ends_with(line.split(' ').next().unwrap())), "{asked}");
}

#[test]
fn what_fills_the_disk_is_ended() {
    let world = World::quick();
    let place = world.place("fetched");
    std::fs::create_dir(&place).unwrap();
    let script =
        r#"while :; do at=$((at + 1)); head -c 20000 /dev/zero > "$0/$at" || exit 3; done"#;
    let mut helper = world.command(bolide_program());
    helper.args(["git-helper", "-", "-", "1000000", "1000000000"]).arg(&place);
    helper
        .args(["400000", "sh", "-c"])
        .arg(script)
        .arg(&place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut helper = helper.stderr(Stdio::piped()).spawn().unwrap();
    let held = helper.stdin.take();
    let output = helper.wait_with_output().unwrap();
    drop(held);
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
}

#[test]
fn the_memory_of_each_process_has_a_bound_and_only_a_missing_program_is_missing() {
    let world = World::quick();
    let run = |input: &str, program: &[&str]| {
        let mut helper = world.command(bolide_program());
        helper.args(["git-helper", input, "-", "1000000", "104857600", "-", "1"]).args(program);
        helper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut helper = helper.spawn().unwrap();
        let held = helper.stdin.take();
        let output = helper.wait_with_output().unwrap();
        drop(held);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run("-", &["sh", "-c", "ulimit -d"]), (Some(0), "102400\n".to_owned()));
    assert_eq!(run("-", &["no-such-program"]).0, Some(122));
    assert_eq!(run("/no/such/file", &["sh", "-c", "exit 0"]).0, Some(121));
}

/// Overwrites a few bytes of an object of the repository that is kept, behind what says its kind and size, and how it is compressed.
pub(super) fn damage(world: &World, object: &str) {
    overwrite(world, object, 4, &[0xff; 6]);
}

fn overwrite(world: &World, object: &str, behind: u64, bytes: &[u8]) {
    let packs = kept(world).join("objects/pack");
    let packs = std::fs::read_dir(packs).unwrap().map(|entry| entry.unwrap().path());
    let index = packs.into_iter().find(|path| path.extension().unwrap() == "idx").unwrap();
    let mut git = world.command("git");
    git.args(["show-index", "--object-format=sha1"]).stdin(std::fs::File::open(&index).unwrap());
    let list = String::from_utf8(git.output().unwrap().stdout).unwrap();
    let line = list.lines().find(|line| line.contains(object)).unwrap();
    let offset: u64 = line.split(' ').next().unwrap().parse().unwrap();
    let pack = index.with_extension("pack");
    std::fs::set_permissions(&pack, PermissionsExt::from_mode(0o600)).unwrap();
    let pack = std::fs::OpenOptions::new().write(true).open(pack).unwrap();
    pack.write_all_at(bytes, offset + behind).unwrap();
}

#[test]
fn a_file_that_git_lists_and_cannot_read_is_damage() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    asks_for(&world, "");
    world.bolide(&BUILD).succeeds();
    // There is no such kind of object.
    overwrite(&world, &origin.git(&["rev-parse", "HEAD:pyproject.toml"]), 0, &[0]);
    std::fs::remove_dir_all(world.place("home/cache/bolide/builds")).unwrap();
    std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    let offline = ["install", "--frozen", "--build", "clay", "--offline"];
    world.bolide(&offline).fails(1, &["`pyproject.toml`", "cache collect --all"]);
    world.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
    std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    world.bolide(&offline).succeeds();
}

#[test]
fn what_is_no_file_is_no_damage_and_nothing_damaged_is_kept() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let tree = origin.git(&["rev-parse", "HEAD:clay"]);
    let blob = origin.git(&["rev-parse", "HEAD:pyproject.toml"]);
    origin.forge(&[("100644", "odd", &tree), ("100644", "pyproject.toml", &blob)]);
    asks_for(&world, "@main");
    world.bolide(&BUILD).fails(3, &["`odd`", "said to be a file and is none", "another revision"]);
    // Kept, so that nobody fetches it again to find the same.
    assert_eq!((cached(&world, "repositories"), cached(&world, "incoming")), (1, 0));
    origin.forge(&[("40000", "odd", &blob), ("100644", "pyproject.toml", &blob)]);
    let outcome = world.bolide(&BUILD);
    assert_ne!(outcome.code, 0, "{outcome:?}");
    assert_eq!((cached(&world, "repositories"), cached(&world, "incoming")), (1, 0));
}

#[test]
fn names_of_many_branches_are_one_file() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let commit = origin.git(&["rev-parse", "HEAD"]);
    for at in 0..5 {
        origin.git(&["branch", &format!("more/{at}")]);
    }
    asks_for(&world, &format!("@{}", &commit[..10]));
    world.bolide(&BUILD).succeeds();
    let found =
        world.run("find", &[&kept(&world).join("refs").display().to_string(), "-type", "f"]);
    assert_eq!(found.succeeds().stdout, "");
}

#[test]
fn a_locked_commit_is_found_behind_what_the_manifest_names() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    origin.git(&["checkout", "--quiet", "-b", "request"]);
    origin.edit("A = 1\n");
    let place = |origin: &Origin<'_>| {
        let last = origin.git(&["rev-parse", "HEAD"]);
        origin.git(&["update-ref", "refs/pull/1/head", &last]);
        last
    };
    let locked = place(&origin);
    // It speaks the old protocol and gives no commit by its name.
    let server = GitServer::start(&world, "me", "hush-1");
    let base = server.base().replace("http://", "http://me:hush-1@");
    configure(&world, &format!("{base}/"));
    asks_for(&world, "@refs/pull/1/head");
    world.bolide(&BUILD).succeeds();
    assert!(world.read("bolide.lock").contains(&locked));
    origin.edit("A = 2\n");
    place(&origin);
    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["branch", "-D", "request"]);
    std::fs::remove_dir_all(world.place("home/cache/bolide")).unwrap();
    std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    let frozen = ["install", "--frozen", "--build", "clay"];
    world.bolide(&frozen).succeeds();
    assert_eq!(more(&world), "1");
    // Gone, and the commit behind a branch by then.
    origin.git(&["branch", "kept", "refs/pull/1/head"]);
    origin.git(&["update-ref", "-d", "refs/pull/1/head"]);
    std::fs::remove_dir_all(world.place("home/cache/bolide")).unwrap();
    std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
    world.bolide(&frozen).succeeds();
    assert_eq!(more(&world), "1");
}

#[test]
fn a_kept_repository_that_was_damaged_is_fetched_again_in_the_same_run() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    Clay::default().lay(&origin.place.join("libs/clay"));
    std::fs::write(origin.place.join("libs/clay/long.txt"), "a line\nand another\n").unwrap();
    origin.commit("moved");
    asks_for(&world, "#subdirectory=libs/clay");
    world.bolide(&BUILD).succeeds();
    for damaged in ["libs/clay/long.txt", "libs/clay/clay", "libs/clay", "libs"] {
        damage(&world, &origin.git(&["rev-parse", &format!("HEAD:{damaged}")]));
        std::fs::remove_dir_all(world.place("home/cache/bolide/builds")).unwrap();
        std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
        let offline = ["install", "--frozen", "--build", "clay", "--offline"];
        world.bolide(&offline).fails(1, &["cache collect --all"]);
        world.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
        std::fs::remove_dir_all(world.project().join(".venv")).unwrap();
        world.bolide(&offline).succeeds();
        assert_eq!((cached(&world, "repositories"), cached(&world, "incoming")), (1, 0));
    }
}

#[test]
fn names_that_look_like_a_commits_are_those_of_branches_and_tags_first() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let tagged = origin.edit("A = 1\n");
    origin.git(&["tag", "20240101B"]);
    let branched = origin.edit("A = 2\n");
    origin.git(&["branch", "DEADBEEF"]);
    let last = origin.edit("A = 3\n");
    let plans = |revision: &str, commit: &str| {
        let plan = world.bolide(&["plan", "--install", "--build", "clay"]).succeeds();
        let source = format!("{ADDRESS}@{revision}#commit={commit}");
        assert!(plan.stdout.contains(&source), "{source}: {plan:#?}");
    };
    let (short, whole) = (last[..12].to_uppercase(), last.to_uppercase());
    for (revision, written, commit) in [
        ("20240101B", "20240101B", &tagged),
        ("DEADBEEF", "DEADBEEF", &branched),
        (&short, &short, &last),
        (&whole, &last, &last),
    ] {
        asks_for(&world, &format!("@{revision}"));
        plans(written, commit);
    }
    std::fs::remove_file(world.project().join("requirements.txt")).unwrap();
    let project = "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"clay\"]\n";
    let source = "git = \"https://git.invalid/clay.git\", rev = \"20240101B\"";
    let project = format!("{project}[tool.uv.sources]\nclay = {{ {source} }}\n");
    world.file("pyproject.toml", &project);
    plans("20240101B", &tagged);
}

#[test]
fn everything_is_one_pack_and_the_persons_own_checks_of_it_count() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    let blob = origin.git(&["hash-object", "-w", "pyproject.toml"]);
    let checks = "[fetch]\n unpackLimit = 100000\n[transfer]\n fsckObjects = true\n";
    configure_more(&world, checks);
    asks_for(&world, "@main");
    world.bolide(&BUILD).succeeds();
    let objects = std::fs::read_dir(kept(&world).join("objects")).unwrap();
    let objects = objects.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let loose: Vec<String> = objects.filter(|name| name.len() == 2).collect();
    assert!(loose.is_empty(), "{loose:?}");
    origin.forge(&[("100644", ".git", &blob)]);
    world.bolide(&["update", "--build", "clay", "--yes"]).fails(7, &["git cannot read"]);
}

#[test]
fn settings_of_git_in_variables_reach_a_server_and_are_kept_nowhere() {
    let world = World::quick();
    let origin = Origin::of(&world, &Clay::default());
    origin.edit("A = 1\n");
    let server = GitServer::start(&world, "me", "hush-1");
    std::fs::write(world.place("home/.gitconfig"), "").unwrap();
    asks_for(&world, "@main");
    let marker = world.place("marker");
    let run = |arguments: &[&str]| {
        let mut bolide = world.command(bolide_program());
        bolide.args(arguments).envs([
            ("GIT_CONFIG_COUNT", "3"),
            ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
            ("GIT_CONFIG_VALUE_0", &format!("touch {}", marker.display())),
            ("GIT_CONFIG_KEY_1", &format!("url.{}/.insteadOf", server.base())),
            ("GIT_CONFIG_VALUE_1", "https://git.invalid/"),
            ("GIT_CONFIG_KEY_2", "http.extraHeader"),
            ("GIT_CONFIG_VALUE_2", "Authorization: Basic bWU6aHVzaC0x"),
        ]);
        Outcome::of(&mut bolide).succeeds();
    };
    run(&BUILD);
    assert_eq!(more(&world), "1");
    origin.edit("A = 2\n");
    let daemon = world.daemon();
    run(&["update", "--build", "clay", "--yes"]);
    assert_eq!(more(&world), "2");
    drop(daemon);
    assert!(!marker.exists());
    let places = [world.place("home/state"), world.place("home/cache"), world.project()];
    let kept = Outcome::of(world.command("grep").args(["-r", "bWU6aHVzaC0x"]).args(places));
    assert_eq!(kept.stdout, "", "a secret is kept");
}
