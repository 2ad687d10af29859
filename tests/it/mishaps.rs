//! What goes wrong in the world: each mishap says what and what next, with its exit code, and leaves the project alone.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha512};

use super::world::{World, bolide_program, wait_until};

/// Runs `bolide add` with these packages, expects the exit code and words, and an unchanged project.
#[track_caller]
fn refuses(world: &World, packages: &[&str], code: i32, words: &[&str]) {
    let before = world.tree();
    let arguments: Vec<&str> = ["add"].iter().chain(packages).chain(&["--yes"]).copied().collect();
    world.bolide(&arguments).fails(code, words);
    assert_eq!(world.tree(), before, "the project changed");
}

#[test]
fn an_unknown_package_is_named() {
    let world = World::new();
    for package in ["npm:no-such", "pypi:no-such", "cargo:no-such"] {
        refuses(&world, &["npm:leaf", package], 1, &["no-such"]);
    }
}

/// A command that works alone asks the registry while it opens its state; the state is told all the same, without waiting for an answer.
#[test]
fn a_state_that_cannot_be_used_is_told_whatever_the_registry_does() {
    let world = World::new();
    let state = world.place("home/state/bolide");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("state.sqlite3"), [7; 8192]).unwrap();
    world.registry.fall_silent("/npm/");
    // This one needs no registry.
    let expected = world.bolide(&["list", "--standalone"]);
    expected.fails(1, &["state.sqlite3", "move it away"]);
    for command in [&["plan", "npm:leaf"][..], &["add", "npm:leaf", "--yes"]] {
        let told = world.bolide(&[command, &["--standalone"]].concat());
        assert_eq!((told.code, &told.stderr), (expected.code, &expected.stderr));
    }
}

#[test]
fn an_impossible_range_is_a_conflict() {
    let world = World::new();
    refuses(&world, &["npm:leaf@^9"], 5, &["leaf", "^9"]);
    refuses(&world, &["pypi:stone>=9"], 5, &["stone", "9"]);
    refuses(&world, &["cargo:grain@9"], 5, &["grain", "9"]);
    refuses(&world, &["pypi:wall", "pypi:tower"], 5, &["wall", "tower", "stone"]);
}

/// An installation is one request, whose error says no more than why; what would help is asked for then.
#[test]
fn an_installation_that_cannot_be_says_what_would_help() {
    let world = World::new();
    let manifest = r#"{"name":"mine","version":"1.0.0","dependencies":{"leaf":"^9"}}"#;
    world.file("package.json", manifest);
    let before = world.tree();
    let check = |arguments: &[&str]| {
        let refused = world.bolide(arguments);
        refused.fails(5, &[]);
        let told = refused.json();
        assert_eq!(told["schema"], "bolide.plan/1", "{told}");
        let explanation = told["conflict"]["explanation"].as_str().unwrap();
        assert!(explanation.contains("leaf") && explanation.contains("^9"), "{explanation}");
        assert!(told["conflict"]["repairs"].is_array(), "{told}");
        assert_eq!(world.tree(), before, "the project changed");
    };
    check(&["install", "--json", "--standalone"]);
    let _daemon = world.daemon();
    check(&["install", "--json"]);
    world.file("package.json", &manifest.replace("^9", "^1"));
    let told = world.bolide(&["install", "--json"]).succeeds().json();
    assert_eq!(told["schema"], "bolide.apply/1");
    let steps = ["resolve", "fetch", "stage", "commit"];
    assert!(steps.iter().all(|step| told["times_ms"][step].is_number()), "{told}");
    assert!(world.place("project").join("node_modules/leaf").is_dir(), "{told}");
    let again = world.bolide(&["install", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "there was nothing to do: {again}");
}

#[test]
fn a_hash_that_does_not_match_stops_everything() {
    for prefix in ["/npm/leaf/-/", "/files/stone-2.0", "/crates/grain/0.2.0"] {
        let world = World::new();
        let paths = world.registry.paths(prefix);
        for path in paths.iter().filter(|path| !path.ends_with(".metadata")) {
            world.registry.spoil(path, |page| page.body.push(0));
        }
        refuses(&world, &["npm:leaf", "pypi:stone", "cargo:grain"], 6, &["hash"]);
    }
}

/// Where one archive is refused, nobody waits for the others.
#[test]
fn an_archive_that_is_refused_is_told_although_another_one_does_not_come() {
    let world = World::new();
    let (file, other) = ("/npm/leaf/-/leaf-1.1.0.tgz", b"no archive at all".to_vec());
    let digest = |bytes: &[u8]| STANDARD.encode(Sha512::digest(bytes));
    let right = digest(&world.registry.pages_under(file)[0]);
    let listed = digest(&other);
    world.registry.spoil(file, |page| page.body = other);
    world.registry.spoil("/npm/leaf", |page| {
        let text = String::from_utf8(page.body.clone()).unwrap();
        assert!(text.contains(&right));
        page.body = text.replace(&right, &listed).into_bytes();
    });
    world.registry.fall_silent("/npm/tree/-/");
    refuses(&world, &["npm:tree@1"], 6, &["leaf-1.1.0.tgz"]);
}

#[test]
fn what_has_come_is_in_the_store_while_another_file_does_not_come() {
    let world = World::new();
    world.registry.fall_silent("/npm/tree/-/");
    let mut add = world.command(bolide_program());
    add.args(["add", "npm:tree@1", "--yes"]).stdin(Stdio::null());
    let mut add = add.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let index = world.place("home/cache/bolide/store/index");
    let names = |place: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(place).into_iter().flatten().flatten().map(|it| it.path()).collect()
    };
    wait_until("one of two is in the store", || {
        names(&index).iter().flat_map(|place| names(place)).count() > 0
    });
    assert!(world.registry.unanswered() > 0 && add.try_wait().unwrap().is_none());
    world.registry.speak();
    wait_until("the command ends", || add.try_wait().unwrap().is_some());
    assert!(add.wait().unwrap().success());
    assert!(world.project().join("node_modules/leaf/index.js").exists());
}

#[test]
fn a_registry_that_is_down_is_a_network_error() {
    let world = World::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let before = world.tree();
    for (package, ecosystem) in
        [("npm:leaf", "npm"), ("pypi:stone", "pypi"), ("cargo:grain", "cargo")]
    {
        let scheme = if ecosystem == "cargo" { "sparse+" } else { "" };
        let registry = format!("{ecosystem}={scheme}http://{closed}/");
        let outcome = world.bolide(&["add", package, "--yes", "--registry", &registry]);
        outcome.fails(7, &["hint"]);
    }
    assert_eq!(world.tree(), before);
}

#[test]
fn a_registry_that_fails_is_a_network_error() {
    let world = World::new();
    world.registry.spoil("/npm/leaf", |page| page.body.truncate(40));
    refuses(&world, &["npm:leaf"], 7, &["leaf"]);
}

#[test]
fn a_manifest_with_a_syntax_error_is_shown_where() {
    let world = World::new();
    world.file("package.json", "{\n  \"name\": ,\n}\n");
    refuses(&world, &["npm:leaf"], 1, &["package.json", "2"]);
    world.file("Cargo.toml", "[package\nname = 1\n");
    refuses(&world, &["cargo:grain"], 1, &["Cargo.toml", "1"]);
    world.file("pyproject.toml", "[project]\nname = \n");
    refuses(&world, &["pypi:stone"], 1, &["pyproject.toml", "2"]);
}

#[test]
fn a_wrong_spec_is_wrong_use() {
    let world = World::new();
    refuses(&world, &["leaf"], 2, &["npm:"]);
    refuses(&world, &["npm:../evil"], 2, &["evil"]);
    refuses(&world, &["gem:rails"], 2, &["gem"]);
}

#[test]
fn a_file_that_was_edited_since_is_not_destroyed() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf", "pypi:stone", "--yes"]).succeeds();
    let installed = world.project().join("node_modules/leaf/index.js");
    std::fs::write(&installed, "module.exports = 'mine';\n").unwrap();
    let edited = world.tree();
    world.bolide(&["rollback"]).fails(6, &["node_modules/leaf/index.js", "--force"]);
    assert_eq!(world.tree(), edited);
    let forced = world.bolide(&["rollback", "--force", "--json"]).succeeds().json();
    let kept = forced["kept"].as_str().unwrap();
    let kept = std::path::Path::new(kept).join("node_modules/leaf/index.js");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "module.exports = 'mine';\n");
    assert_eq!(std::fs::read_dir(world.project()).unwrap().count(), 0);
}

#[test]
fn a_full_disk_leaves_the_project_alone() {
    let world = World::new();
    let mount = world.place("small");
    std::fs::create_dir(&mount).unwrap();
    let place = mount.display().to_string();
    let mounted = world.run("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", &place]);
    if mounted.code != 0 {
        println!("not shown here: mounting a small file system needs rights: {}", mounted.stderr);
        return;
    }
    let outcome = world.bolide(&["add", "npm:tree", "pypi:wall", "--yes", "--dir", &place]);
    let left = std::fs::read_dir(&mount).unwrap().count();
    world.run("umount", &[&place]).succeeds();
    outcome.fails(1, &["space", "hint"]);
    assert_eq!(left, 0, "something was left behind");
}

#[test]
fn a_directory_without_permission_is_named() {
    let world = World::new();
    let mut command = world.command(bolide_program());
    let sealed = world.place("sealed");
    std::fs::create_dir(&sealed).unwrap();
    if rustix::process::getuid().is_root() {
        // Root may write anywhere: somebody else tries.
        let all = std::fs::Permissions::from_mode(0o777);
        let program = world.place("bolide");
        std::fs::copy(bolide_program(), &program).unwrap();
        command = world.command(&program);
        command.uid(65534).gid(65534);
        for place in ["", "home", "run"] {
            std::fs::set_permissions(world.place(place), all.clone()).unwrap();
        }
    } else {
        let none = std::fs::Permissions::from_mode(0o555);
        std::fs::set_permissions(&sealed, none).unwrap();
    }
    command.current_dir("/").args(["add", "npm:leaf", "--yes", "--dir"]).arg(&sealed);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("ermission") && stderr.contains("hint"), "{stderr}");
    assert_eq!(std::fs::read_dir(&sealed).unwrap().count(), 0);
}

#[test]
fn a_daemon_killed_in_the_middle_leaves_the_old_tree_or_the_new_one() {
    let reference = World::new();
    reference.bolide(&["add", "npm:tree@1", "pypi:wall", "cargo:bread", "--yes"]).succeeds();
    // Later and later in the same work: whatever it is doing then, the outcome is one of two.
    for delay_ms in [0, 5, 15, 30, 60, 120, 240, 480] {
        let world = World::new();
        let before = world.tree();
        let mut daemon = world.daemon();
        let mut adding = world
            .command(bolide_program())
            .args(["add", "npm:tree@1", "pypi:wall", "cargo:bread", "--yes"])
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        wait_until("the command ends", || adding.try_wait().unwrap().is_some());
        let _again = world.daemon();
        let history = world.bolide(&["history", "--json"]).succeeds().json();
        let committed = history["transactions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["state"] == "committed");
        if committed {
            world.run("node", &["-p", "require('tree')"]).succeeds();
            world.run(".venv/bin/wall", &[]).succeeds();
            world.bolide(&["rollback"]).succeeds();
        }
        assert_eq!(world.tree(), before, "after {delay_ms} ms, committed: {committed}");
    }
}
