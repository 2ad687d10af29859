//! Projects that others made or changed: what is there is kept, or the refusal says why.

use super::world::{World, bolide_program};

#[test]
fn a_declared_python_package_keeps_its_bound_extras_and_marker() {
    let world = World::new();
    world.file("requirements.txt", "stone>=1.0,<1.6  # tested\n");
    world.bolide(&["add", "pypi:stone", "--yes"]).succeeds();
    assert_eq!(world.read("requirements.txt"), "stone>=1.0,<1.6  # tested\n");
    let list = world.bolide(&["list", "--json"]).succeeds();
    assert!(list.stdout.contains("pkg:pypi/stone@1.5"), "{list:#?}");
    world.bolide(&["add", "pypi:stone>=2", "--yes"]).succeeds();
    assert_eq!(world.read("requirements.txt"), "stone>=2  # tested\n");
}

#[test]
fn an_index_named_in_a_requirements_file_is_not_silently_ignored() {
    let world = World::new();
    world.file("requirements.txt", "--index-url http://127.0.0.1:9/simple\nstone\n");
    let before = world.tree();
    world.bolide(&["add", "pypi:wall", "--yes"]).fails(1, &["requirements.txt", "--index-url"]);
    assert_eq!(world.tree(), before);
}

#[test]
fn a_directory_that_is_no_environment_is_never_replaced() {
    let world = World::new();
    world.file("src/main.py", "print('mine')\n");
    let mut command = world.command(bolide_program());
    command.env("VIRTUAL_ENV", world.project().join("src"));
    let status = command.args(["add", "pypi:stone", "--yes"]).output().unwrap().status;
    assert!(status.success());
    assert_eq!(world.read("src/main.py"), "print('mine')\n");
    assert!(world.project().join(".venv/bin/stone").exists());
    world.bolide(&["rollback"]).succeeds();
    std::fs::create_dir(world.project().join(".venv")).unwrap();
    world.file(".venv/notes", "mine\n");
    world.bolide(&["add", "pypi:stone", "--yes"]).fails(3, &[".venv"]);
    assert_eq!(world.read(".venv/notes"), "mine\n");
}

#[test]
fn an_environment_that_pip_made_keeps_what_pip_put_there() {
    let world = World::new();
    world.run("python3", &["-m", "venv", ".venv"]).succeeds();
    let wheel = world.project().join("wall-1.0-py3-none-any.whl");
    let files = world.registry.pages_under("/files/wall");
    std::fs::write(&wheel, &files[0]).unwrap();
    let wheel = wheel.display().to_string();
    let pip = [".venv/bin/python", "-m", "pip", "install", "--no-deps", "--no-index", &wheel];
    world.run(pip[0], &pip[1..]).succeeds();
    let before = world.tree();
    world.bolide(&["add", "pypi:stone<2", "--yes"]).succeeds();
    world.run(".venv/bin/python", &["-c", "import wall, stone"]).succeeds();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn the_project_of_another_tool_is_only_changed_when_asked() {
    for (lock, package) in [("pnpm-lock.yaml", "npm:leaf"), ("uv.lock", "pypi:stone")] {
        let world = World::new();
        world.file(lock, "");
        let before = world.tree();
        world.bolide(&["add", package, "--yes"]).fails(3, &[lock, "--take-over"]);
        assert_eq!(world.tree(), before);
        world.bolide(&["add", package, "--yes", "--take-over"]).succeeds();
        assert_eq!(world.read(lock), "");
    }
}

#[test]
fn what_was_deleted_from_an_environment_is_noticed_and_can_be_put_back() {
    let world = World::new();
    world.bolide(&["add", "npm:tree@1", "--yes"]).succeeds();
    let file = world.project().join("node_modules/leaf/index.js");
    std::fs::remove_file(&file).unwrap();
    world.bolide(&["add", "npm:tree@1", "--yes"]).fails(6, &["node_modules/leaf/index.js"]);
    world.bolide(&["add", "npm:tree@1", "--yes", "--force"]).succeeds();
    assert!(file.exists());
    let again = world.bolide(&["add", "npm:tree@1", "--yes", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "nothing is left to do: {again}");
}

#[test]
fn several_adds_at_once_all_succeed() {
    let world = World::new();
    let packages = ["npm:leaf@1", "npm:tree@1", "pypi:stone<2", "pypi:wall"];
    let children: Vec<_> = packages
        .iter()
        .map(|package| {
            let mut command = world.command(bolide_program());
            let stderr = std::process::Stdio::piped();
            command.args(["add", package, "--yes", "--json"]).stderr(stderr);
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    let list = world.bolide(&["list"]).succeeds();
    for name in ["leaf", "tree", "stone", "wall"] {
        assert!(list.stdout.contains(name), "{list:#?}");
    }
    world.run("npm", &["ls", "--all"]).succeeds();
}

#[test]
fn rolling_back_an_unknown_transaction_is_wrong_use() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf", "--yes"]).succeeds();
    world.bolide(&["rollback", "tx-nope"]).fails(2, &["tx-nope"]);
}

#[test]
fn a_rollback_over_later_transactions_is_asked_for() {
    let world = World::new();
    let before = world.tree();
    let first = world.bolide(&["add", "npm:leaf", "--yes", "--json"]).succeeds().json();
    world.bolide(&["add", "pypi:stone", "--yes"]).succeeds();
    let first = first["transaction"].as_str().unwrap();
    world.bolide(&["rollback", first]).fails(4, &["pypi:stone", "--yes"]);
    world.bolide(&["rollback", first, "--yes"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn the_workspaces_of_an_npm_project_are_linked_and_have_their_own_versions() {
    let world = World::new();
    world
        .file("package.json", r#"{"name": "demo", "private": true, "workspaces": ["packages/*"]}"#);
    world.file(
        "packages/a/package.json",
        r#"{"name": "a", "version": "1.0.0", "bin": "a.js", "dependencies": {"b": "^2.0.0", "leaf": "1.0.0"}}"#,
    );
    world.file(
        "packages/a/a.js",
        "#!/usr/bin/env node\nmodule.exports = require('leaf') + ' ' + require('b')\n",
    );
    world.file(
        "packages/b/package.json",
        r#"{"name": "b", "version": "2.1.0", "dependencies": {"tree": "*"}}"#,
    );
    world.file("packages/b/index.js", "module.exports = require('leaf') + ' ' + require('tree')\n");
    let before = world.tree();
    world.bolide(&["add", "npm:leaf@1.1.0", "--yes"]).succeeds();
    let node = world.run("node", &["-p", "require('leaf') + ' ' + require('a/a.js')"]).succeeds();
    assert_eq!(node.stdout.trim(), "1.1.0 1.0.0 1.1.0 2.0.0");
    assert!(world.project().join("node_modules/.bin/a").exists());
    world.run("npm", &["ls", "--all"]).succeeds();
    // The last of its packages goes, and its folder with it.
    world.file("packages/a/package.json", r#"{"name": "a", "version": "1.0.0"}"#);
    world.bolide(&["add", "npm:tree", "--yes"]).succeeds();
    assert!(!world.project().join("packages/a/node_modules").exists());
    world.bolide(&["rollback"]).succeeds();
    assert!(world.project().join("packages/a/node_modules/leaf").exists());
    let manifest = r#"{"name": "a", "version": "1.0.0", "bin": "a.js", "dependencies": {"b": "^2.0.0", "leaf": "1.0.0"}}"#;
    world.file("packages/a/package.json", manifest);
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}
