//! One operation on three ecosystems, struck once at each of its points. After each strike: the next start, and then everything
//! that must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::look::{self, Tree};
use super::packages::{self, Python};
use super::tracer::{Ended, Kind, Point, Strike, Traced, output, stopped_first};
use super::world::{Outcome, World, bolide_program, machine_at, wait_until};

/// How long a run may take; only a hang reaches it.
const RUN_TIME_MAX: Duration = Duration::from_secs(90);
/// The same for a daemon, which lives as long as its stage.
const DAEMON_TIME_MAX: Duration = Duration::from_secs(3600);
/// Of the machine that a daemon sees: nothing waits for a cooler one.
const COOL_MILLICELSIUS: &str = "41000";
/// How long a daemon may take to tidy up.
const TIDY_TIME_MAX: Duration = Duration::from_secs(20);

/// What is done, from what state, and how that state comes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    prepare: &'static [&'static [&'static str]],
    command: &'static [&'static str],
    back: &'static [&'static str],
    /// Whether it succeeds where it was done before.
    is_repeatable: bool,
    /// Whether everything has to be fetched.
    is_cold: bool,
}

const OLD: &[&str] =
    &["add", "npm:tree", "pypi:stone", "cargo:bread", "--resolution", "lowest", "--yes"];

pub(crate) const OPERATIONS: [Operation; 5] = [
    Operation {
        name: "install",
        prepare: &[],
        command: &["add", "npm:tree@1", "pypi:wall", "cargo:bread", "--yes"],
        back: &["rollback"],
        is_repeatable: true,
        is_cold: true,
    },
    Operation {
        name: "update",
        prepare: &[OLD],
        command: &["update", "--yes"],
        back: &["rollback"],
        is_repeatable: true,
        is_cold: true,
    },
    Operation {
        name: "remove",
        prepare: &[OLD],
        command: &["remove", "npm:tree", "pypi:stone", "cargo:bread", "--yes"],
        back: &["rollback"],
        is_repeatable: false,
        is_cold: false,
    },
    Operation {
        name: "rollback",
        prepare: &[OLD, &["update", "--yes"]],
        command: &["rollback"],
        back: &["update", "--yes"],
        is_repeatable: false,
        is_cold: false,
    },
    // What was fetched before, and nothing outside of the project: it is answered before the disk has it.
    Operation {
        name: "again",
        prepare: &[&["add", "npm:tree@1", "--yes"], &["rollback"]],
        command: &["add", "npm:tree@1", "--yes"],
        back: &["rollback"],
        is_repeatable: true,
        is_cold: false,
    },
];

/// A world in which an operation is about to happen, and what it looks like before and after.
pub(crate) struct Stage {
    world: World,
    operation: Operation,
    old: Tree,
    new: Tree,
    crates: Tree,
    classes: BTreeSet<String>,
    rest_before: [Vec<String>; 2],
    path: String,
    outputs: tempfile::TempDir,
    _python: tempfile::TempDir,
    /// Who does the work, where it is not the command itself.
    daemon: Option<Traced>,
}

/// What came of one strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Result {
    Undone,
    Done,
    /// The run did not come to that point.
    Unreached,
}

impl Stage {
    /// Prepares one: the old state, the new one from an undisturbed run, and the old one again.
    pub(crate) fn new(operation: Operation, has_daemon: bool) -> Self {
        let world = World::quick();
        let outputs = tempfile::tempdir().unwrap();
        // Not in memory: no program of a device directory is run unasked.
        let python = tempfile::tempdir().unwrap();
        let programs = interpreter(&world, python.path());
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", programs.display());
        let mut stage = Self {
            world,
            operation,
            old: Tree::new(),
            new: Tree::new(),
            crates: Tree::new(),
            classes: BTreeSet::new(),
            rest_before: Default::default(),
            path,
            outputs,
            _python: python,
            daemon: None,
        };
        if has_daemon {
            stage.start_daemon();
        }
        for command in operation.prepare {
            stage.bolide(command).succeeds();
        }
        let before = look::tree(&stage.world.project(), false);
        stage.cool();
        stage.bolide(operation.command).succeeds();
        stage.new = look::tree(&stage.world.project(), false);
        stage.crates = look::files(&stage.crate_cache());
        stage.bolide(&["history"]).succeeds();
        stage.classes = look::classes(&stage.root());
        stage.bolide(operation.back).succeeds();
        assert_eq!(look::tree(&stage.world.project(), false), before, "{}", operation.name);
        assert_ne!(stage.new, before, "{}", operation.name);
        stage.classes.extend(look::classes(&stage.root()));
        // What a daemon may not have tidied up yet is not there for good.
        let passing = ["/incoming/", "/store/tmp/", "/leases/", "/partial/", "/.bolide-#"];
        stage.classes.retain(|class| !passing.iter().any(|part| class.contains(part)));
        stage.note_old();
        stage
    }

    fn root(&self) -> PathBuf {
        self.world.place("").components().collect()
    }

    fn crate_cache(&self) -> PathBuf {
        self.world.place("cargo/registry/cache")
    }

    fn note_old(&mut self) {
        if self.daemon.is_some() {
            // Whoever takes the lock finishes what the daemon has put off.
            self.bolide(&["history"]).succeeds();
        }
        self.old = look::tree(&self.world.project(), true);
        self.rest_before = self.rest();
    }

    /// What stands beside the tree: fingerprints and generations.
    fn rest(&self) -> [Vec<String>; 2] {
        let prints = self.world.place("home/state/bolide/fingerprints");
        [look::names(&prints), look::names(&self.world.project().join(".bolide/generations"))]
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.world.command(program);
        command.env("PATH", &self.path).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn bolide(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(bolide_program()).args(arguments))
    }

    /// Takes away what was fetched, where the operation has to fetch.
    fn cool(&self) {
        if !self.operation.is_cold {
            return;
        }
        if self.daemon.is_some() {
            // It has the directories open.
            for part in ["files", "lent", "index"] {
                let part = self.world.place("home/cache/bolide/store").join(part);
                for name in look::names(&part) {
                    std::fs::remove_dir_all(part.join(name)).unwrap();
                }
            }
            let _ = std::fs::remove_dir_all(self.world.place("cargo/registry"));
        } else {
            for place in ["home/cache", "cargo/registry"] {
                let _ = std::fs::remove_dir_all(self.world.place(place));
            }
        }
    }

    fn start_daemon(&mut self) {
        let mut shell = self.command("/bin/sh");
        shell.stdin(std::fs::File::open("/dev/null").unwrap());
        let place = |name: &str| output(&self.outputs.path().join(name));
        shell.stdout(place("daemon-out")).stderr(place("daemon-err"));
        // Not this machine: how warm that is would decide what the daemon does.
        let machine = machine_at(self.outputs.path().join("machine"), COOL_MILLICELSIUS);
        let machine = machine.directory().display().to_string();
        // It says which start this is, so that installations are answered before the disk has them.
        let start = PathBuf::from(&machine).join("proc/sys/kernel/random/boot_id");
        std::fs::create_dir_all(start.parent().unwrap()).unwrap();
        std::fs::write(&start, std::fs::read("/proc/sys/kernel/random/boot_id").unwrap()).unwrap();
        let arguments = ["serve", "--metrics-addr", "127.0.0.1:0", "--sysfs-root", &machine];
        let command = stopped_first(shell, &bolide_program(), &arguments);
        let root = self.root();
        let class = move |path: &Path| Some(look::class(&root, path));
        self.daemon = Some(Traced::start(command, DAEMON_TIME_MAX, None, class));
        wait_until("the daemon hosts the packager", || {
            let agents = self.bolide(&["agents", "--json"]);
            agents.code == 0 && agents.stdout.contains("\"packager\"")
        });
    }

    /// Runs the operation with a table of so many descriptors.
    pub(crate) fn with_descriptors(&mut self, count: usize) -> std::result::Result<Result, String> {
        self.cool();
        let mut shell = self.command("/bin/sh");
        shell.args(["-c", &format!("ulimit -n {count}; exec \"$@\""), "sh"]);
        let said = Outcome::of(shell.arg(bolide_program()).args(self.operation.command));
        let ended = Ended { code: Some(said.code), ..Ended::default() };
        let done = self.after(&ended).map_err(|what| format!("{what}\n{said:?}"))?;
        Ok(if done { Result::Done } else { Result::Undone })
    }

    /// Runs the operation under the tracer.
    fn traced(&self, strike: Option<(Point, Strike)>) -> (Ended, BTreeMap<String, Kind>, bool) {
        self.cool();
        if let Some(daemon) = &self.daemon {
            daemon.order(strike);
            let said = self.bolide(self.operation.command);
            let (kinds, struck) = daemon.so_far();
            daemon.order(None);
            std::fs::write(self.outputs.path().join("out"), format!("{said:?}")).unwrap();
            let ours = kinds.into_iter().filter(|(name, _)| !name.starts_with("bolide "));
            let ended = Ended { code: Some(said.code), ..Ended::default() };
            return (ended, ours.collect(), struck);
        }
        let mut shell = self.command("/bin/sh");
        let place = |name: &str| output(&self.outputs.path().join(name));
        shell.stdin(std::fs::File::open("/dev/null").unwrap());
        shell.stdout(place("out")).stderr(place("err"));
        let command = stopped_first(shell, &bolide_program(), self.operation.command);
        let root = self.root();
        let class = move |path: &Path| Some(look::class(&root, path));
        Traced::start(command, RUN_TIME_MAX, strike, class).end()
    }

    /// All points of an undisturbed run.
    pub(crate) fn survey(&mut self) -> BTreeMap<String, Kind> {
        let (ended, kinds, _) = self.traced(None);
        assert_eq!(ended.code, Some(0), "{}", self.said());
        assert!(!ended.has_orphans, "{}: something lives on", self.operation.name);
        self.bolide(self.operation.back).succeeds();
        self.note_old();
        kinds
    }

    fn said(&self) -> String {
        let read = |name| std::fs::read_to_string(self.outputs.path().join(name));
        format!("{} {}", read("out").unwrap_or_default(), read("err").unwrap_or_default())
    }

    /// Strikes once and looks at everything afterwards; the old state is there again when it returns. The error says what does not
    /// hold; the stage is of no use then.
    pub(crate) fn strike(
        &mut self,
        point: &Point,
        strike: Strike,
    ) -> std::result::Result<Result, String> {
        let (ended, _, struck) = self.traced(Some((point.clone(), strike)));
        let said = self.said();
        let with = |what: String| format!("{what}\nthe struck run said: {ended:?} {said}");
        if struck && strike == Strike::Short && ended.code != Some(0) {
            return Err(with("a write that did half of it is no failure".to_owned()));
        }
        let done = self.after(&ended).map_err(with)?;
        Ok(match (struck, done) {
            (false, _) => Result::Unreached,
            (true, true) => Result::Done,
            (true, false) => Result::Undone,
        })
    }

    fn after(&mut self, ended: &Ended) -> std::result::Result<bool, String> {
        if ended.has_hung || ended.has_orphans {
            return Err("it hangs, or something that it started lives on".to_owned());
        }
        let history = self.bolide(&["history", "--json"]);
        if history.code != 0 {
            return Err(format!("the next start fails: {history:?}"));
        }
        let project = self.world.project();
        let (now, content) = (look::tree(&project, true), look::tree(&project, false));
        let is_done = content == self.new;
        if !is_done && now != self.old {
            let difference = look::difference(&now, &self.old);
            return Err(format!("neither the old nor the new tree: {difference}"));
        }
        // Whoever asked a daemon that died cannot know, and is told so.
        let is_unanswered = self.daemon.is_some() && self.said().contains("no answer from");
        let is_taken_back = self.daemon.is_some() && !is_done && was_taken_back(&history);
        if let Some(code) = ended.code
            && !is_unanswered
            && (code == 0) != is_done
            && !is_taken_back
        {
            return Err(format!("its exit code is {code}; the new tree stands: {is_done}"));
        }
        self.check_history(&history, is_done)?;
        self.check_leaks(Some(&history))?;
        self.check_again(is_done)?;
        Ok(is_done)
    }

    /// The newest entry tells of this operation if and only if the new tree stands.
    fn check_history(&self, history: &Outcome, is_done: bool) -> std::result::Result<(), String> {
        let answer = history.json();
        let entries = answer["transactions"].as_array().unwrap();
        if entries.iter().any(|entry| entry["state"] == "running") {
            return Err(format!("the log tells of something under way: {answer}"));
        }
        let name = self.operation.command[0];
        let newest = entries.iter().find(|entry| entry["state"] != "failed");
        // The old state came from a transaction, or from taking one back.
        let is_told = newest.is_some_and(|entry| entry["operation"] == name);
        let was_told = match self.operation.name {
            "install" => newest.is_some_and(|entry| entry["operation"] == "rollback"),
            _ => newest.is_some_and(|entry| entry["operation"] != name),
        };
        match (is_done, is_told, was_told) {
            (true, true, _) | (false, _, true) => Ok(()),
            _ => Err(format!("the log does not agree, done: {is_done}: {answer}")),
        }
    }

    /// Nothing is there that is not there after undisturbed runs.
    fn check_leaks(&self, history: Option<&Outcome>) -> std::result::Result<(), String> {
        let began = Instant::now();
        loop {
            let found = self.leaks(history);
            // A daemon tidies up when it has time.
            if found.is_ok() || self.daemon.is_none() || began.elapsed() > TIDY_TIME_MAX {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// With the log, as it is right after the strike; without it, when all is done, and nothing may wait to be gone on with.
    fn leaks(&self, history: Option<&Outcome>) -> std::result::Result<(), String> {
        let state = self.world.place("home/state/bolide");
        let bolide = self.world.project().join(".bolide");
        let mut odd: Vec<String> = look::names(&bolide)
            .into_iter()
            .filter(|name| !matches!(name.as_str(), "generations" | ".gitignore"))
            .collect();
        odd.extend(look::names(&state.join("journal")));
        if let Some(history) = history {
            let answer = history.json();
            let entries = answer["transactions"].as_array().unwrap();
            let stands = |name: &str| {
                let mut named = entries.iter().filter(|entry| entry["transaction"] == name);
                named.any(|entry| entry["state"] == "committed")
            };
            let owner = |name: &str| name.split_once('.').map_or(name, |it| it.0).to_owned();
            let [prints, generations] = self.rest();
            odd.extend(generations.into_iter().filter(|name| !stands(name)));
            odd.extend(prints.into_iter().filter(|name| !stands(&owner(name))));
        }
        let classes = look::classes(&self.root());
        let fresh = classes.difference(&self.classes).cloned();
        // When the store was looked over last, which happens beside everything else.
        let fresh = fresh.filter(|class| !class.ends_with("/store/looked"));
        // What broke off is gone on with, and its number and size are bounded. What is cargo's is looked at by whoever writes there.
        let waits = |class: &str| class.contains("/partial/") || class.contains("/.bolide-#");
        odd.extend(fresh.filter(|class| history.is_none() || !waits(class)));
        for (path, digest) in look::files(&self.crate_cache()) {
            if self.crates.get(&path).is_some_and(|known| *known != digest) {
                odd.push(format!("{path} is damaged"));
            }
        }
        match odd.is_empty() {
            true => Ok(()),
            false => Err(format!("left behind: {odd:?}")),
        }
    }

    /// The same command succeeds, and the old state can be had again.
    fn check_again(&mut self, is_done: bool) -> std::result::Result<(), String> {
        let project = self.world.project();
        if !is_done || self.operation.is_repeatable {
            let again = self.bolide(self.operation.command);
            let content = look::tree(&project, false);
            if again.code != 0 || content != self.new {
                let difference = look::difference(&content, &self.new);
                return Err(format!("not done when asked again: {again:?} {difference}"));
            }
        }
        let back = self.bolide(self.operation.back);
        let is_undo = self.operation.back[0] == "rollback";
        let before: Tree = match is_undo {
            true => self.old.clone(),
            false => without_times(&self.old),
        };
        let now = look::tree(&project, is_undo);
        if back.code != 0 || now != before {
            let difference = look::difference(&now, &before);
            return Err(format!("the old state does not come back: {back:?} {difference}"));
        }
        if self.daemon.is_some() {
            // Whoever takes the lock finishes what the daemon has put off.
            self.bolide(&["history"]).succeeds();
        }
        if !is_undo {
            self.old = look::tree(&project, true);
        }
        let rest = self.rest();
        if rest.map(|names| names.len()) != self.rest_before.each_ref().map(Vec::len) {
            let before = &self.rest_before;
            return Err(format!("left in the end: {:?}, not {before:?}", self.rest()));
        }
        self.check_leaks(None).map_err(|odd| format!("in the end: {odd}"))?;
        Ok(())
    }
}

/// Makes an interpreter that brings a small pip along: each environment gets it, and the real one would be nine tenths of all points.
/// It is the real interpreter otherwise. Answers the directory with the program.
fn interpreter(world: &World, place: &Path) -> PathBuf {
    let ask = "import os, sys, sysconfig; print(os.path.realpath(sys.executable)); \
               print(sysconfig.get_path('stdlib')); print(os.path.basename(sysconfig.get_path('stdlib')))";
    let said = world.run("python3", &["-c", ask]).succeeds().stdout;
    let [program, library, name] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    let programs = place.join("bin");
    let own = place.join("lib").join(name);
    std::fs::create_dir_all(&programs).unwrap();
    std::fs::create_dir_all(own.join("ensurepip/_bundled")).unwrap();
    std::fs::copy(program, programs.join(name)).unwrap();
    std::os::unix::fs::symlink(name, programs.join("python3")).unwrap();
    for part in look::names(Path::new(library)).into_iter().filter(|part| part != "ensurepip") {
        std::os::unix::fs::symlink(Path::new(library).join(&part), own.join(part)).unwrap();
    }
    for (name, version) in [("pip", "24.0"), ("setuptools", "65.5.0")] {
        let seed = Python { name, version, requires: &[] };
        let file = own.join("ensurepip/_bundled").join(packages::wheel_name(&seed));
        std::fs::write(file, packages::wheel(&seed)).unwrap();
    }
    programs
}

fn without_times(tree: &Tree) -> Tree {
    // The time is the last word.
    let cut = |text: &str| text.rsplit_once(' ').map_or(text, |(rest, _)| rest).to_owned();
    tree.iter().map(|(name, text)| (name.clone(), cut(text))).collect()
}

impl Drop for Stage {
    fn drop(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        let ended = daemon.stop();
        if !std::thread::panicking() {
            assert!(!ended.has_hung && !ended.has_orphans, "the daemon leaves something");
        }
    }
}

/// The strikes that a kind of change can take.
pub(crate) fn strikes(kind: &Kind) -> Vec<Strike> {
    let mut strikes = vec![Strike::Kill];
    if kind.call.count.is_some() {
        strikes.extend([Strike::Tear, Strike::Short]);
    }
    strikes.extend(kind.call.errors.iter().map(|number| Strike::Fail(*number)));
    strikes
}

/// Whether the log says that the disk refused the last one after its answer, and that it was taken back.
fn was_taken_back(history: &Outcome) -> bool {
    let answer = history.json();
    let newest = &answer["transactions"][0];
    let why = newest["error"].as_str().unwrap_or_default();
    newest["state"] == "failed" && why.contains("the disk did not take")
}
