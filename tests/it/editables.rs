//! Directories of Python source whose code is used where it lies (`-e`): built in the sandbox as if the backend stood there, with nothing
//! written into them.

use super::kiln::{Clay, DYNAMIC, by_pip, frozen, installed, listed};
use super::world::World;

const BUILD: [&str; 3] = ["install", "--build", "clay"];

fn world_of(clay: &Clay) -> World {
    let world = World::quick();
    clay.lay(&world.project().join("libs/clay"));
    world.file("requirements.txt", "-e ./libs/clay\n");
    world
}

fn edit(world: &World, path: &str, text: &str) {
    std::fs::write(world.project().join("libs/clay").join(path), text).unwrap();
}

#[test]
fn an_editable_directory_is_installed_as_pip_does_and_its_edits_are_seen() {
    let world = world_of(&Clay::default());
    let before = world.tree();
    world.bolide(&["install"]).fails(3, &["`pkg:pypi/clay@1.0`", "`--build clay`"]);
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    assert_eq!(world.run(".venv/bin/clay", &[]).succeeds().stdout, "1.0\n");
    world.run(".venv/bin/python", &["-m", "pip", "check"]).succeeds();
    let (own, pip) = (world.project().join(".venv"), by_pip(&world, &["-e", "./libs/clay"]));
    assert_eq!(installed(&own), installed(&pip));
    assert_eq!(frozen(&world, &own), frozen(&world, &pip));
    let listing = ["-m", "pip", "list", "--editable", "--format", "freeze"];
    let shown = world.run(".venv/bin/python", &listing).succeeds().stdout;
    assert!(shown.contains("clay==1.0"), "{shown}");
    let lock = world.read("bolide.lock");
    assert!(lock.contains("clay @ project:///libs/clay#editable"), "{lock}");
    assert!(!lock.contains(&world.project().display().to_string()), "{lock}");
    // Code is no part of what is locked; how it is built is.
    edit(&world, "clay/version.py", "VERSION = \"edited\"\n");
    assert_eq!(world.run(".venv/bin/clay", &[]).succeeds().stdout, "edited\n");
    for command in [&["install", "--json"][..], &["install", "--frozen", "--offline", "--json"]] {
        let again = world.bolide(command).succeeds().json();
        assert!(again["transaction"].is_null(), "{again}");
    }
    world.bolide(&["verify"]).succeeds();
    let project = world.read("libs/clay/pyproject.toml");
    edit(&world, "pyproject.toml", &format!("{project}\n[tool.x]\n"));
    world.bolide(&["install", "--frozen"]).fails(4, &["`-e ./libs/clay` was changed"]);
    edit(&world, "pyproject.toml", &project);
    edit(&world, "clay/version.py", "VERSION = \"1.0\"\n");
    world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
    assert_eq!(world.read("requirements.txt"), "-e ./libs/clay\nwall>=1.0\n");
    world.bolide(&["rollback"]).succeeds();
    world.bolide(&["remove", "pypi:clay", "--yes"]).succeeds();
    assert_eq!(world.read("requirements.txt"), "");
    assert!(listed(&world).is_empty());
    for _ in 0..2 {
        world.bolide(&["rollback"]).succeeds();
    }
    // What the interpreter left there when it ran the code, and pip when it built where the source lies.
    for folder in ["clay", "tools"] {
        let place = world.project().join("libs/clay").join(folder).join("__pycache__");
        std::fs::remove_dir_all(place).unwrap();
    }
    assert_eq!(world.tree(), before);
}

#[test]
fn an_editable_directory_of_uv_and_one_whose_version_only_a_build_tells() {
    let world = world_of(&Clay { project: DYNAMIC, version: "2.0", ..Clay::default() });
    let project = "[project]\nname = \"p\"\nversion = \"1\"\ndependencies = [\"clay\"]\n\n";
    let sources = "[tool.uv.sources]\nclay = { path = \"libs/clay\", editable = true }\n";
    world.file("pyproject.toml", &format!("{project}{sources}"));
    world.bolide(&["install"]).fails(3, &["`--build clay`"]);
    world.bolide(&BUILD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@2.0", "pkg:pypi/stone@1.5"]);
    // A clone at another place has other paths in what is installed.
    let clone = world_of(&Clay { project: DYNAMIC, version: "2.0", ..Clay::default() });
    for file in ["pyproject.toml", "bolide.lock"] {
        clone.file(file, &world.read(file));
    }
    clone.bolide(&["install", "--frozen"]).fails(3, &["`--build clay`"]);
    clone.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
    let place = installed(&clone.project().join(".venv"));
    let path = format!("{}\n", clone.project().join("libs/clay").display());
    assert_eq!(place["__editable__clay.pth"], path);
    // From one way to the other, as the line says.
    let world = world_of(&Clay::default());
    world.bolide(&BUILD).succeeds();
    world.file("requirements.txt", "./libs/clay\n");
    world.bolide(&["install", "--frozen"]).fails(4, &["clay"]);
    world.bolide(&["update", "--build", "clay", "--yes"]).succeeds();
    let pip = by_pip(&world, &["./libs/clay"]);
    assert_eq!(installed(&world.project().join(".venv")), installed(&pip));
}

#[test]
fn an_editable_build_writes_nothing_into_the_directory_and_leaves_nothing_there() {
    let tools = "import os\nassert os.getcwd().endswith('/project/libs/clay'), os.getcwd()\n\
                 open('written', 'w').close()\nos.remove('told.json')\n";
    let world = world_of(&Clay::default());
    let backend = world.read("libs/clay/tools/kiln.py");
    let place = "def build_editable(into, settings=None, metadata=None):\n";
    let with = |more: &str| {
        let indented: String = more.lines().map(|line| format!("    {line}\n")).collect();
        edit(&world, "tools/kiln.py", &backend.replace(place, &format!("{place}{indented}")));
    };
    let tree = || super::world::tree(&world.project().join("libs"));
    with(tools);
    let before = tree();
    world.bolide(&BUILD).succeeds();
    assert_eq!(tree(), before);
    // What would have to be compiled into it, and a backend that cannot.
    with("open('clay/fast.so', 'w').close()");
    world.bolide(&["update", "--build", "clay", "--yes"]).fails(3, &["`clay/fast.so`", "`-e`"]);
    edit(&world, "tools/kiln.py", &backend.replace("def build_editable", "def build_other"));
    let before = tree();
    world.bolide(&["update", "--build", "clay", "--yes"]).fails(1, &["nothing editable"]);
    assert_eq!(tree(), before);
    assert_eq!(world.run(".venv/bin/clay", &[]).succeeds().stdout, "1.0\n");
}
