//! Projects that were copied or moved with what is installed in them: an environment of Python knows the path that it was made for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::world::{Outcome, World, bolide_program};

const ALL: [&str; 4] = ["add", "npm:tree@1", "pypi:wall", "--yes"];

/// Runs `bolide` elsewhere.
fn bolide_in(world: &World, directory: &Path, arguments: &[&str]) -> Outcome {
    Outcome::of(world.command(bolide_program()).args(arguments).current_dir(directory))
}

/// Runs the command that was installed at a project.
fn wall(world: &World, project: &Path) -> Outcome {
    Outcome::of(world.command(project.join(".venv/bin/wall")).current_dir(project))
}

fn first_line(project: &Path) -> String {
    let script = fs::read_to_string(project.join(".venv/bin/wall")).unwrap();
    script.lines().next().unwrap().to_owned()
}

/// That everything in the environment is about the place where it is.
fn is_right(world: &World, project: &Path, old: &Path) {
    wall(world, project).succeeds();
    assert!(first_line(project).contains(project.to_str().unwrap()));
    for file in ["bin/wall", "bin/activate", "pyvenv.cfg"] {
        let text = fs::read_to_string(project.join(".venv").join(file)).unwrap();
        assert!(!text.contains(&format!("{}/.venv", old.display())), "{file}: {text}");
    }
    bolide_in(world, project, &["verify"]).succeeds();
    let again = bolide_in(world, project, &["install", "--json"]).succeeds().json();
    assert!(again["transaction"].is_null(), "nothing is left to do: {again}");
}

fn moved() -> (World, PathBuf, PathBuf) {
    let world = World::new();
    world.bolide(&ALL).succeeds();
    let (old, new) = (world.project(), world.place("moved"));
    fs::rename(&old, &new).unwrap();
    // The world's own commands begin there.
    fs::create_dir(&old).unwrap();
    (world, old, new)
}

#[test]
fn a_moved_environment_is_told_of_and_made_anew_by_install() {
    let (world, old, new) = moved();
    let told = bolide_in(&world, &new, &["verify"]);
    told.fails(6, &[]);
    assert!(told.stdout.contains("made for another path"), "{told:#?}");
    assert!(told.stdout.contains(&format!("{}/.venv", old.display())), "{told:#?}");
    let done = bolide_in(&world, &new, &["install", "--json"]).succeeds().json();
    assert!(done["transaction"].is_string(), "{done}");
    is_right(&world, &new, &old);
    bolide_in(&world, &new, &["rollback"]).succeeds();
    assert!(first_line(&new).contains(old.to_str().unwrap()), "what was there is back");
    bolide_in(&world, &new, &["verify"]).fails(6, &[]);
}

#[test]
fn a_moved_environment_is_made_anew_by_a_repair_and_by_a_change() {
    let (world, old, new) = moved();
    let answer = bolide_in(&world, &new, &["verify", "--repair"]).succeeds();
    assert!(answer.stdout.contains("made for another path  .venv, repaired"), "{answer:#?}");
    is_right(&world, &new, &old);
    let newer = world.place("newer");
    fs::rename(&new, &newer).unwrap();
    bolide_in(&world, &newer, &["add", "pypi:stone<2", "--yes"]).succeeds();
    is_right(&world, &newer, &new);
    assert!(newer.join(".venv/bin/stone").exists());
}

#[test]
fn a_moved_environment_that_was_edited_is_only_made_anew_by_force() {
    let (world, old, new) = moved();
    fs::write(new.join(".venv/mine"), "mine").unwrap();
    bolide_in(&world, &new, &["install"]).fails(6, &[".venv/mine", "--force"]);
    let refused = bolide_in(&world, &new, &["verify", "--repair"]);
    refused.fails(6, &[]);
    assert!(refused.stdout.contains("--repair --force"), "{refused:#?}");
    assert_eq!(fs::read(new.join(".venv/mine")).unwrap(), b"mine");
    let forced = bolide_in(&world, &new, &["verify", "--repair", "--force", "--json"]);
    let forced = forced.succeeds().json();
    let kept = Path::new(forced["kept"].as_str().unwrap());
    assert_eq!(fs::read(kept.join(".venv/mine")).unwrap(), b"mine");
    is_right(&world, &new, &old);
}

/// A project with its environments, and a copy of both.
fn copied() -> (World, PathBuf, PathBuf) {
    let world = World::new();
    world.bolide(&ALL).succeeds();
    let (old, copy) = (world.project(), world.place("copy"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    world.run("cp", &["-a", &text(&old), &text(&copy)]).succeeds();
    (world, old, copy)
}

#[test]
fn a_copy_has_its_own_environment_after_an_install_and_the_first_one_stays() {
    let (world, old, copy) = copied();
    bolide_in(&world, &copy, &["install"]).succeeds();
    is_right(&world, &copy, &old);
    is_right(&world, &old, &copy);
}

#[test]
fn what_others_put_into_a_copied_environment_is_not_lost_without_a_word() {
    let (world, old, copy) = copied();
    let library = fs::read_dir(copy.join(".venv/lib")).unwrap().flatten().next().unwrap();
    let information = library.path().join("site-packages/other-1.0.dist-info");
    fs::create_dir(&information).unwrap();
    fs::write(information.join("METADATA"), "Name: other\nVersion: 1.0\n").unwrap();
    bolide_in(&world, &copy, &["install"]).fails(6, &["`other`", "--force"]);
    assert!(information.exists());
    bolide_in(&world, &copy, &["install", "--force"]).succeeds();
    is_right(&world, &copy, &old);
    bolide_in(&world, &copy, &["rollback"]).succeeds();
    assert!(information.exists());
}

#[test]
fn a_repair_without_force_does_not_lose_what_others_put_there_before() {
    let world = World::new();
    world.run("python3", &["-m", "venv", "--without-pip", ".venv"]).succeeds();
    let library =
        fs::read_dir(world.project().join(".venv/lib")).unwrap().flatten().next().unwrap();
    let information = library.path().join("site-packages/other-1.0.dist-info");
    fs::create_dir(&information).unwrap();
    fs::write(information.join("METADATA"), "Name: other\nVersion: 1.0\n").unwrap();
    world.bolide(&ALL).succeeds();
    let moved = world.place("moved");
    fs::rename(world.project(), &moved).unwrap();
    let before = fs::read_to_string(moved.join(".venv/pyvenv.cfg")).unwrap();
    // The rest is mended all the same.
    let manifest = moved.join("node_modules/tree/package.json");
    fs::remove_file(&manifest).unwrap();
    let refused = bolide_in(&world, &moved, &["verify", "--repair"]);
    refused.fails(6, &[]);
    let told = ["`other`", "bolide verify --repair --force"];
    assert!(told.iter().all(|part| refused.stdout.contains(part)), "{refused:#?}");
    assert!(manifest.is_file());
    assert_eq!(fs::read_to_string(moved.join(".venv/pyvenv.cfg")).unwrap(), before);
    fs::rename(&moved, world.project()).unwrap();
}

#[test]
fn another_way_to_the_same_directory_is_no_other_path() {
    let world = World::new();
    let (real, link) = (world.place("real"), world.place("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    bolide_in(&world, &link, &ALL).succeeds();
    bolide_in(&world, &link, &["verify"]).succeeds();
    is_right(&world, &real, Path::new("/nowhere"));
    // What was made for a path that leads here still works.
    let moved = world.place("moved");
    fs::rename(&real, &moved).unwrap();
    symlink(&moved, &real).unwrap();
    bolide_in(&world, &moved, &["verify"]).succeeds();
    let none = bolide_in(&world, &moved, &["install", "--json"]).succeeds().json();
    assert!(none["transaction"].is_null(), "{none}");
}

#[test]
fn a_rollback_without_what_it_needs_names_the_ways_on_and_changes_nothing() {
    let world = World::new();
    world.bolide(&["add", "npm:leaf@1", "--yes"]).succeeds();
    world.bolide(&["add", "npm:tree@1", "--yes"]).succeeds();
    fs::remove_dir_all(world.project().join(".bolide")).unwrap();
    let before = world.tree();
    for more in [&["rollback"][..], &["rollback", "--force"]] {
        world.bolide(more).fails(6, &["bolide install", "git checkout COMMIT -- ", "--force"]);
        assert_eq!(world.tree(), before);
    }
    world.bolide(&["install"]).succeeds();
}

#[test]
fn a_deleted_directory_is_named_as_such() {
    let world = World::new();
    let gone = world.place("gone");
    for command in ["list", "verify", "history", "install"] {
        fs::create_dir(&gone).unwrap();
        let script = format!("rmdir ../gone && exec \"$0\" {command}");
        let bolide = bolide_program();
        let mut shell = world.command("sh");
        shell.args(["-c", &script]).arg(bolide).current_dir(&gone);
        let outcome = Outcome::of(&mut shell);
        outcome.fails(2, &["was deleted"]);
        assert!(!outcome.stderr.contains("(deleted)"), "{outcome:#?}");
    }
}
