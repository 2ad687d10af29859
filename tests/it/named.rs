//! Python packages that a project names by path or address: installed with a digest, locked, undone, and never believed.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::packages::{self, Python};
use super::registry::{Registry, hex};
use super::world::{Outcome, World, bolide_program};

const LOCAL: Python = Python { name: "local", version: "1.0", requires: &["stone<2"] };
const FILE: &str = "local-1.0-py3-none-any.whl";

/// The same version with other code, as a wheel has it that was built once more.
fn built_again() -> Vec<u8> {
    packages::wheel(&Python { requires: &["stone<1.5"], ..LOCAL })
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A world whose project names a wheel beside its requirements file.
fn world() -> World {
    let world = World::quick();
    put(&world.project(), &packages::wheel(&LOCAL));
    world.file("requirements.txt", &format!("./dist/{FILE}\n"));
    world
}

fn put(project: &Path, wheel: &[u8]) {
    std::fs::create_dir_all(project.join("dist")).unwrap();
    std::fs::write(project.join("dist").join(FILE), wheel).unwrap();
}

fn listed(world: &World) -> Vec<String> {
    let list = world.bolide(&["list", "--json"]).succeeds().json();
    let packages = list["packages"].as_array().unwrap();
    packages.iter().map(|package| package["purl"].as_str().unwrap().to_owned()).collect()
}

fn described(world: &World, name: &str) -> Option<String> {
    let library = std::fs::read_dir(world.project().join(".venv/lib")).unwrap().next()?.unwrap();
    let info = library.path().join("site-packages/local-1.0.dist-info").join(name);
    std::fs::read_to_string(info).ok()
}

#[test]
fn a_wheel_beside_the_project_is_planned_installed_locked_and_undone() {
    let world = world();
    let before = world.tree();
    let plan = world.bolide(&["plan", "--install"]).succeeds();
    for word in ["+ pkg:pypi/local@1.0", "from file://", "+ pkg:pypi/stone@1.5"] {
        assert!(plan.stdout.contains(word), "{word}: {plan:#?}");
    }
    world.bolide(&["install"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/local@1.0", "pkg:pypi/stone@1.5"]);
    assert_eq!(world.run(".venv/bin/local", &[]).succeeds().stdout, "1.0\n");
    world.run(".venv/bin/python", &["-m", "pip", "check"]).succeeds();
    let direct: Value =
        serde_json::from_str(&described(&world, "direct_url.json").unwrap()).unwrap();
    let sha256 = digest(&packages::wheel(&LOCAL));
    assert_eq!(direct["archive_info"]["hashes"]["sha256"], sha256);
    let frozen = world.run(".venv/bin/python", &["-m", "pip", "freeze"]).succeeds().stdout;
    assert!(frozen.contains(&format!("local @ file://{}", world.project().display())), "{frozen}");
    let lock = world.read("bolide.lock");
    assert!(lock.contains(&format!("local @ project:///dist/{FILE}")), "{lock}");
    assert!(lock.contains(&sha256), "{lock}");
    let place = world.project().display().to_string();
    assert!(!lock.contains(&place) && !lock.contains("file:"), "a lock is for any place: {lock}");
    let again = world.bolide(&["install", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "{again}");
    world.bolide(&["verify"]).succeeds();
    world.bolide(&["rollback"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn a_file_that_changes_after_planning_is_refused() {
    let world = world();
    let before = world.tree();
    let plan = world.bolide(&["plan", "--install", "--json"]).succeeds().json();
    let wanted = plan["digest"].as_str().unwrap();
    put(&world.project(), &built_again());
    let apply = ["apply", wanted, "--yes"];
    world.bolide(&apply).fails(4, &[FILE, "was changed"]);
    std::fs::remove_file(world.project().join("dist").join(FILE)).unwrap();
    world.bolide(&apply).fails(4, &[FILE, "is gone"]);
    put(&world.project(), &packages::wheel(&LOCAL));
    assert_eq!(world.tree(), before, "nothing was changed");
    world.bolide(&apply).succeeds();
    assert_eq!(listed(&world).len(), 2);
}

#[test]
fn a_file_that_was_built_again_is_taken_when_an_update_says_so() {
    let world = world();
    world.bolide(&["install"]).succeeds();
    let locked = world.read("bolide.lock");
    put(&world.project(), &built_again());
    world.bolide(&["install"]).succeeds();
    assert_eq!(world.read("bolide.lock"), locked, "an installation follows the lock");
    let told = world.bolide(&["install"]).succeeds();
    assert!(told.stdout.contains("bolide update pypi:local"), "{told:#?}");
    // What has to be decided anew does not take it silently either.
    world.bolide(&["add", "pypi:wall", "--yes"]).fails(6, &[FILE, "bolide update pypi:local"]);
    let plan = world.bolide(&["plan", "--update", "pypi:local"]).succeeds();
    assert!(plan.stdout.contains("~ pkg:pypi/local@1.0"), "{plan:#?}");
    world.bolide(&["update", "pypi:local", "--yes"]).succeeds();
    assert!(world.read("bolide.lock").contains(&digest(&built_again())));
    assert_eq!(listed(&world), ["pkg:pypi/local@1.0", "pkg:pypi/stone@1.0"]);
    assert!(described(&world, "METADATA").unwrap().contains("stone<1.5"), "its files are there");
    world.bolide(&["rollback"]).succeeds();
    assert!(described(&world, "METADATA").unwrap().contains("stone<2"));
    assert_eq!(world.read("bolide.lock"), locked);
}

#[test]
fn a_clone_installs_what_was_locked_and_nothing_else() {
    let author = world();
    author.bolide(&["install"]).succeeds();
    let world = world();
    world.file("bolide.lock", &author.read("bolide.lock"));
    world.bolide(&["install", "--frozen"]).succeeds();
    assert_eq!(listed(&world), listed(&author));
    let other = self::world();
    other.file("bolide.lock", &author.read("bolide.lock"));
    put(&other.project(), &built_again());
    other.bolide(&["install", "--frozen"]).fails(6, &[FILE, "not the file"]);
    std::fs::remove_dir_all(other.project().join("dist")).unwrap();
    other.bolide(&["install", "--frozen"]).fails(1, &[FILE, "there is no file"]);
}

#[test]
fn a_wheel_on_a_server_is_fetched_once_to_learn_its_digest() {
    let world = World::quick();
    let (wheel, path) = (packages::wheel(&LOCAL), format!("/elsewhere/{FILE}"));
    world.registry.page(&path, "application/octet-stream", wheel.clone());
    let address = format!("{}{path}", world.registry.base());
    world.file("requirements.txt", &format!("local @ {address}?token=hush\nhttps==0\n"));
    world.registry.page(&format!("{path}?token=hush"), "application/octet-stream", wheel.clone());
    // A name that an address begins with is another package's.
    world.bolide(&["install"]).fails(1, &["https"]);
    world.file("requirements.txt", &format!("local @ {address}?token=hush\n"));
    let told = world.bolide(&["install"]).succeeds();
    let lock = world.read("bolide.lock");
    let all = format!("{told:?}{lock}{}", described(&world, "direct_url.json").unwrap());
    assert!(!all.contains("hush"), "{all}");
    assert!(lock.contains(&digest(&wheel)), "{lock}");
    // The index knows nothing of it, and what is locked is fetched from where the project says.
    let clone = World::quick();
    for file in ["requirements.txt", "bolide.lock"] {
        clone.file(file, &world.read(file));
    }
    clone.bolide(&["install", "--frozen"]).succeeds();
    assert_eq!(listed(&clone), ["pkg:pypi/local@1.0", "pkg:pypi/stone@1.5"]);
    let late = World::quick();
    for file in ["requirements.txt", "bolide.lock"] {
        late.file(file, &world.read(file));
    }
    world.registry.spoil(&format!("{path}?token=hush"), |page| page.body = built_again());
    late.bolide(&["install", "--frozen"]).fails(6, &["hash"]);
    assert!(!late.project().join(".venv").exists());
}

#[test]
fn what_an_address_or_a_line_says_it_hashes_to_has_to_be_right() {
    let world = world();
    let wheel = packages::wheel(&LOCAL);
    let (right, wrong) = (digest(&wheel), "0".repeat(64));
    world.registry.page(&format!("/e/{FILE}"), "application/octet-stream", wheel);
    let web = format!("{}/e/{FILE}", world.registry.base());
    let here = format!("./dist/{FILE}");
    for line in [
        format!("{here}#sha256={wrong}"),
        format!("{here} --hash=sha256:{wrong}"),
        format!("local @ {web}#sha256={wrong}"),
        format!("{web} --hash=sha256:{wrong}"),
    ] {
        world.file("requirements.txt", &format!("{line}\n"));
        let outcome = world.bolide(&["install"]);
        assert_eq!(outcome.code, 6, "{line}: {outcome:#?}");
        assert!(
            !world.project().join(".venv").exists()
                && !world.project().join("bolide.lock").exists()
        );
    }
    for (digest, word) in [
        (format!("sha256={}", &right[1..]), "has a `sha256` that is none"),
        ("md5=00".to_owned(), "has `md5` behind its `#`"),
    ] {
        for line in [format!("{here}#{digest}"), format!("local @ {web}#{digest}")] {
            world.file("requirements.txt", &format!("{line}\n"));
            world.bolide(&["install"]).fails(1, &[word, FILE]);
            assert!(!world.project().join("bolide.lock").exists());
        }
    }
    for line in [format!("{here}#sha256={right}"), format!("{web} --hash=sha256:{right}")] {
        world.file("requirements.txt", &format!("{line}\n"));
        world.bolide(&["install"]).succeeds();
    }
}

#[test]
fn what_is_no_wheel_of_the_package_is_refused() {
    let world = world();
    let project = world.project();
    let place = |name: &str| project.join("dist").join(name);
    std::fs::create_dir(place("folder-1.0-py3-none-any.whl")).unwrap();
    std::fs::write(place("other-1.0-py3-none-any.whl"), packages::wheel(&LOCAL)).unwrap();
    std::fs::write(place("local-2.0-py3-none-any.whl"), packages::wheel(&LOCAL)).unwrap();
    std::fs::write(place("text-1.0-py3-none-any.whl"), "not an archive").unwrap();
    std::os::unix::fs::symlink("/dev/zero", place("zero-1.0-py3-none-any.whl")).unwrap();
    let pipe = place("pipe-1.0-py3-none-any.whl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (line, code, word) in [
        ("./dist/folder-1.0-py3-none-any.whl", 3, "not a file"),
        ("./dist/zero-1.0-py3-none-any.whl", 3, "not a file"),
        ("./dist/pipe-1.0-py3-none-any.whl", 3, "not a file"),
        ("./dist/gone-1.0-py3-none-any.whl", 1, "there is no file"),
        ("./dist/other-1.0-py3-none-any.whl", 6, "other"),
        ("./dist/local-2.0-py3-none-any.whl", 6, "local"),
        ("./dist/text-1.0-py3-none-any.whl", 6, "text"),
        ("stone @ ./dist/local-1.0-py3-none-any.whl", 2, "not a wheel of `stone`"),
        ("./dist", 1, "which package"),
        ("./dist/a-1.0.tar.xz", 1, "not built"),
        ("-e .", 1, "#egg=NAME"),
        ("x @ git+https://me:hush@h.invalid/x", 1, "a login"),
        ("x @ https://me:hush@h.invalid/x-1-py3-none-any.whl", 1, "netrc"),
    ] {
        world.file("requirements.txt", &format!("{line}\n"));
        let outcome = world.bolide(&["install"]);
        outcome.fails(code, &[word]);
        assert!(!format!("{outcome:?}").contains("hush"), "{outcome:?}");
    }
    for made in [".venv", "bolide.lock"] {
        assert!(!project.join(made).exists(), "{made}");
    }
}

#[test]
fn an_edited_manifest_keeps_its_files() {
    let world = world();
    let text = format!("./dist/{FILE}  # built here\n");
    world.file("requirements.txt", &text);
    world.bolide(&["add", "pypi:tower", "pypi:local", "--yes"]).fails(5, &["stone"]);
    world.bolide(&["add", "pypi:wall", "pypi:local", "--yes"]).succeeds();
    assert_eq!(world.read("requirements.txt"), format!("{text}wall>=1.0\n"));
    world.bolide(&["remove", "pypi:local", "--yes"]).succeeds();
    assert_eq!(world.read("requirements.txt"), "wall>=1.0\n");
    assert_eq!(listed(&world), ["pkg:pypi/stone@1.5", "pkg:pypi/wall@1.0"]);
}

const INDEXES: &str = "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"stone\"]\n\n\
    [[tool.uv.index]]\nname = \"mine\"\nurl = \"URL/simple\"\nexplicit = true\n";

#[test]
fn a_package_comes_from_the_index_that_the_project_says_and_from_no_other() {
    let (world, other) = (World::quick(), Registry::start());
    other.pypi(&[Python { name: "stone", version: "1.2", requires: &["wall"] }]);
    other.pypi(&[Python { name: "wall", version: "9.0", requires: &[] }]);
    let indexes = INDEXES.replace("URL", &other.base());
    world.file("pyproject.toml", &indexes);
    world.bolide(&["install"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/stone@2.0"], "an explicit index is asked for nothing");
    let pinned = format!("{indexes}\n[tool.uv.sources]\nstone = {{ index = \"mine\" }}\n");
    world.file("pyproject.toml", &pinned);
    world.bolide(&["install", "--frozen"]).fails(4, &["index stone mine"]);
    // Whatever configuration of uv somebody does without, this is the project's own.
    let mut update = world.command(bolide_program());
    update.args(["update", "--yes"]).env("UV_NO_CONFIG", "1");
    Outcome::of(&mut update).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/stone@1.2", "pkg:pypi/wall@1.0"]);
    // A clone without anything in its store asks the same index.
    let clone = World::quick();
    for file in ["pyproject.toml", "bolide.lock"] {
        clone.file(file, &world.read(file));
    }
    clone.bolide(&["install", "--frozen"]).succeeds();
    assert_eq!(listed(&clone), listed(&world));
    // Where it has the package no more, nobody else's is taken for it.
    other.spoil("/simple/stone/", |page| page.status = 404);
    let late = World::quick();
    late.file("pyproject.toml", &pinned);
    late.bolide(&["install"]).fails(1, &["stone", &other.address]);
    late.file("pyproject.toml", &pinned.replace("\"mine\"\nurl", "\"others\"\nurl"));
    late.bolide(&["install"]).fails(2, &["stone", "mine", "nobody defines"]);
    late.file("pyproject.toml", &pinned.replace("index = \"mine\"", "git = \"http://h/x\""));
    late.bolide(&["install"]).fails(1, &["stone", "by `http`"]);
    assert!(!late.project().join(".venv").exists());
    // Not an explicit one: it is asked first, for everything.
    let first = World::quick();
    first.file("pyproject.toml", &indexes.replace("explicit = true\n", ""));
    first.file("pyproject.toml", &first.read("pyproject.toml").replace("\"stone\"", "\"wall\""));
    first.bolide(&["install"]).succeeds();
    assert_eq!(listed(&first), ["pkg:pypi/wall@9.0"]);
}

#[test]
fn a_source_of_the_project_is_a_wheel_beside_it() {
    let world = world();
    let project = format!(
        "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"local>=1\"]\n\n\
         [tool.uv.sources]\nlocal = {{ path = \"dist/{FILE}\" }}\n"
    );
    world.file("pyproject.toml", &project);
    world.bolide(&["install"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/local@1.0", "pkg:pypi/stone@1.5"]);
    world.bolide(&["add", "pypi:local", "pypi:wall", "--yes"]).succeeds();
    let added = project.replace("\"local>=1\"", "\"local>=1\", \"wall>=1.0\"");
    assert_eq!(world.read("pyproject.toml"), added);
    // An index may have one of the same name.
    world.bolide(&["add", "pypi:local<1", "--yes"]).fails(2, &["local", "tool.uv.sources"]);
    world.bolide(&["remove", "pypi:local", "pypi:wall", "--yes"]).succeeds();
    assert!(!world.read("pyproject.toml").contains("local>=1"));
    assert!(listed(&world).is_empty());
}
