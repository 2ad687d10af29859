//! Several transactions at the same time: on one project, on two, from several processes, with a daemon, without, and half and half.
//! Each is carried out as a whole, one after the other, or refused with a word that says why.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use super::world::{Outcome, World, bolide_program};

/// Runs all of them at once.
fn at_once(commands: Vec<Command>) -> Vec<Outcome> {
    let started: Vec<_> = commands
        .into_iter()
        .map(|mut command| {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let end = |child: std::process::Child| {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or(-1);
        Outcome { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    // Each child has a thread, so that none waits for somebody to read what it says.
    let waiting: Vec<_> =
        started.into_iter().map(|child| std::thread::spawn(move || end(child))).collect();
    waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn command(world: &World, project: &Path, arguments: &[&str]) -> Command {
    let mut command = world.command(bolide_program());
    command.args(arguments).current_dir(project);
    command
}

/// What is installed in a project is what `bolide list` says, no more and no less.
#[track_caller]
fn check_whole(world: &World, project: &Path) {
    let list = Outcome::of(&mut command(world, project, &["list", "--json"])).succeeds().json();
    let packages = list["packages"].as_array().unwrap();
    let named = |start: &str| -> BTreeSet<String> {
        let purls = packages.iter().map(|package| package["purl"].as_str().unwrap());
        purls.filter_map(|purl| Some(purl.strip_prefix(start)?.to_owned())).collect()
    };
    let names = |place: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let modules = project.join("node_modules");
    let there = names(&modules).into_iter().filter(|name| !name.starts_with('.')).map(|name| {
        let text = std::fs::read_to_string(modules.join(&name).join("package.json")).unwrap();
        let about: serde_json::Value = serde_json::from_str(&text).unwrap();
        format!("{name}@{}", about["version"].as_str().unwrap())
    });
    assert_eq!(there.collect::<BTreeSet<_>>(), named("pkg:npm/"), "{list}");
    let library = project.join(".venv/lib");
    let there: BTreeSet<String> = names(&library)
        .into_iter()
        .flat_map(|python| names(&library.join(python).join("site-packages")))
        .filter_map(|name| Some(name.strip_suffix(".dist-info")?.replacen('-', "@", 1)))
        .filter(|name| !name.starts_with("pip@") && !name.starts_with("setuptools@"))
        .collect();
    assert_eq!(there, named("pkg:pypi/"), "{list}");
    let history = ["history", "--json"];
    let history = Outcome::of(&mut command(world, project, &history)).succeeds().json();
    let entries = history["transactions"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["state"] != "running"), "{history}");
}

/// Whoever is not served is told why.
#[track_caller]
fn check_words(outcomes: &[Outcome]) {
    let words = [
        "changed since the plan was made",
        "is locked by",
        "not a direct dependency",
        "nothing of Bolide stands",
        "project changed",
        "no manifest",
    ];
    for outcome in outcomes.iter().filter(|outcome| outcome.code != 0) {
        assert!(words.iter().any(|word| outcome.stderr.contains(word)), "{outcome:#?}");
    }
    assert!(outcomes.iter().any(|outcome| outcome.code == 0), "nobody was served: {outcomes:#?}");
}

const CHANGES: [&[&str]; 5] = [
    &["add", "npm:tree@1", "pypi:wall", "--yes"],
    &["add", "npm:leaf@1.0.0", "pypi:stone==1.0", "--yes"],
    &["remove", "npm:leaf", "--yes"],
    &["rollback"],
    &["update", "--yes"],
];

/// All changes at once on one project, some of them perhaps without the daemon.
fn on_one_project(alone: impl Fn(usize) -> bool, world: &World) {
    let project = world.project();
    world.file("mine.txt", "mine\n");
    let before = world.tree();
    world.bolide(&["add", "npm:leaf@1", "pypi:stone<2", "--yes"]).succeeds();
    for round in 0..3 {
        let commands = CHANGES.iter().enumerate().map(|(index, arguments)| {
            let mut one = command(world, &project, arguments);
            if alone(index + round) {
                one.arg("--standalone");
            }
            one
        });
        check_words(&at_once(commands.collect()));
        check_whole(world, &project);
    }
    let history = world.bolide(&["history", "--json"]).succeeds().json();
    let entries = history["transactions"].as_array().unwrap();
    let stands = |entry: &&serde_json::Value| {
        entry["state"] == "committed" && entry["operation"] != "rollback"
    };
    if let Some(first) = entries.iter().rfind(stands) {
        world.bolide(&["rollback", first["transaction"].as_str().unwrap(), "--yes"]).succeeds();
    }
    // What the daemon has still to delete, whoever takes the lock deletes.
    world.bolide(&["history"]).succeeds();
    assert_eq!(world.tree(), before);
}

#[test]
fn changes_of_one_project_at_once_are_one_after_the_other() {
    let world = World::quick();
    on_one_project(|_| false, &world);
}

#[test]
fn changes_of_one_project_through_the_daemon_and_beside_it_are_one_after_the_other() {
    let world = World::new();
    let daemon = world.daemon();
    on_one_project(|_| false, &world);
    on_one_project(|index| index % 2 == 0, &world);
    drop(daemon);
}

#[test]
fn two_state_directories_do_not_mix_their_changes_of_one_project() {
    let world = World::new();
    let project = world.project();
    let other = world.place("other-state").display().to_string();
    for _ in 0..3 {
        let commands = (0..4).map(|index| {
            let arguments = CHANGES[index % 2];
            let mut one = command(&world, &project, arguments);
            if index >= 2 {
                one.args(["--state-dir", &other]);
            }
            one
        });
        let outcomes = at_once(commands.collect());
        assert!(outcomes.iter().any(|outcome| outcome.code == 0), "{outcomes:#?}");
        // Which of them was the last is not known, but one of them was, in both ecosystems.
        let version = |file: &str| std::fs::read_to_string(project.join(file)).unwrap();
        let leaf: serde_json::Value =
            serde_json::from_str(&version("node_modules/leaf/package.json")).unwrap();
        world.run("node", &["-e", "require('leaf')"]).succeeds();
        assert!(leaf["version"].is_string());
        assert!(!project.join(".bolide/staging").exists());
        world.run(".venv/bin/python", &["-c", "import stone"]).succeeds();
    }
}

#[test]
fn changes_of_two_projects_at_once_do_not_meet() {
    for has_daemon in [false, true] {
        let world = World::new();
        let _daemon = has_daemon.then(|| world.daemon());
        let places: Vec<_> = ["one", "two", "three"].map(|name| world.place(name)).into();
        for place in &places {
            std::fs::create_dir(place).unwrap();
        }
        let specs = [
            ["npm:tree@1", "pypi:wall"],
            ["npm:tree@2", "pypi:tower"],
            ["npm:leaf@1.0.0", "pypi:stone==1.0"],
        ];
        let commands = places
            .iter()
            .zip(specs)
            .map(|(place, [npm, pypi])| command(&world, place, &["add", npm, pypi, "--yes"]));
        for outcome in at_once(commands.collect()) {
            outcome.succeeds();
        }
        for place in &places {
            check_whole(&world, place);
        }
        let commands = places.iter().map(|place| command(&world, place, &["rollback"]));
        for outcome in at_once(commands.collect()) {
            outcome.succeeds();
        }
        for place in &places {
            assert_eq!(std::fs::read_dir(place).unwrap().count(), 0, "{}", place.display());
        }
    }
}
