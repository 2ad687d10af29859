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
    helper.args(["git-helper", "-", "-", "1000000"]).arg(&place).args(["400000", "sh", "-c"]);
    helper.arg(script).arg(&place).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut helper = helper.stderr(Stdio::piped()).spawn().unwrap();
    let held = helper.stdin.take();
    let output = helper.wait_with_output().unwrap();
    drop(held);
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
}

/// Overwrites a few bytes of an object of the repository that is kept.
pub(super) fn damage(world: &World, object: &str) {
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
    // Behind what says its kind and size, and how it is compressed.
    pack.write_all_at(&[0xff; 6], offset + 4).unwrap();
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
