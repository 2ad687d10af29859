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
    world.bolide(&["add", "pypi:wall", "--yes"]).fails(7, &["127.0.0.1:9"]);
    assert_eq!(world.tree(), before);
    // The caller's own word is stronger.
    let here = format!("pypi={}/simple", world.registry.base());
    world.bolide(&["add", "pypi:wall", "--yes", "--registry", &here]).succeeds();
    world.file("requirements.txt", "--unheard-of\nstone\n");
    world.bolide(&["plan", "--install"]).fails(1, &["requirements.txt", "--unheard-of"]);
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

#[test]
fn a_member_of_a_workspace_is_changed_from_its_own_directory() {
    let world = World::new();
    let member = |name: &str| {
        world.file(
            &format!("parts/{name}/Cargo.toml"),
            &format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
        );
        world.file(&format!("parts/{name}/src/lib.rs"), "");
    };
    world.file(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"parts/*\"]\n\n[workspace.dependencies]\ngrain = \"0.1\"\n",
    );
    member("one");
    member("two");
    let other = world.read("parts/two/Cargo.toml");
    let add = ["add", "cargo:bread", "cargo:grain", "--dir", "parts/one", "--yes"];
    world.bolide(&add).succeeds();
    let manifest = world.read("parts/one/Cargo.toml");
    assert!(manifest.contains("bread = \"1.0.0\""), "{manifest}");
    assert!(manifest.contains("grain.workspace = true"), "{manifest}");
    assert_eq!(world.read("parts/two/Cargo.toml"), other);
    assert!(!world.project().join("parts/one/Cargo.lock").exists());
    // The lock is what cargo itself would write.
    world.run("cargo", &["metadata", "--offline", "--locked", "--format-version", "1"]).succeeds();
    let remove = ["remove", "cargo:bread", "--dir", "parts/one", "--yes"];
    world.bolide(&remove).succeeds();
    assert!(!world.read("parts/one/Cargo.toml").contains("bread"));
    world
        .bolide(&["add", "cargo:grain", "npm:leaf", "--dir", "parts/one"])
        .fails(2, &["parts/one"]);
}

/// A machine of Debian with one package installed and two in its list.
fn debian(world: &World) {
    let digest = "0".repeat(64);
    world.file(
        "debian/var/lib/dpkg/status",
        "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n",
    );
    world.file(
        "debian/var/lib/apt/lists/h_dists_s_main_binary-amd64_Packages",
        &format!(
            "Package: web\nVersion: 2\nArchitecture: amd64\nDepends: lib (>= 1)\nSize: 5\n\
             Filename: pool/web.deb\nSHA256: {digest}\n\nPackage: lib\nVersion: 1.5\nSize: 5\n\
             Architecture: amd64\nFilename: pool/lib.deb\nSHA256: {digest}\n\nPackage: bad\n\
             Version: 1\nArchitecture: amd64\nDepends: lib (>= 2)\nFilename: pool/bad.deb\n\
             SHA256: {digest}\n"
        ),
    );
}

#[test]
fn packages_of_debian_are_planned_where_apt_cannot_carry_them_out() {
    let world = World::new();
    debian(&world);
    let bolide = |arguments: &[&str]| {
        let mut command = world.command(bolide_program());
        command.env("DPKG_ROOT", world.project().join("debian")).args(arguments);
        crate::world::Outcome::of(&mut command)
    };
    let plan = bolide(&["plan", "deb:web", "--json"]).succeeds().json();
    let purls: Vec<_> = plan["packages"].as_array().unwrap().iter().map(|it| &it["purl"]).collect();
    assert_eq!(purls, ["pkg:deb/debian/lib@1.5", "pkg:deb/debian/web@2"]);
    assert_eq!(plan["packages"][0]["hash"], format!("sha256:{}", "0".repeat(64)));
    let digest = plan["digest"].as_str().unwrap();
    bolide(&["apply", digest, "--yes"]).fails(3, &["apt-get install web=2"]);
    bolide(&["plan", "deb:bad"]).fails(5, &["lib (>= 2)", "1.5"]);
    bolide(&["plan", "deb:no-such"]).fails(2, &["no-such"]);
}

#[test]
fn a_neighbour_that_is_no_member_is_refused_by_name() {
    let world = World::new();
    world.file(
        "Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\n[dependencies]\nnear = { path = \"near\" }\n",
    );
    world.file("near/Cargo.toml", "[package]\nname = \"near\"\nversion = \"0.1.0\"\n");
    let before = world.tree();
    world.bolide(&["add", "cargo:grain", "--yes"]).fails(2, &["`near`", "[workspace]"]);
    assert_eq!(world.tree(), before);
}
