//! Whatever changes on a machine is noticed, and what did not is not looked for.

use std::cell::Cell;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::super::{Overrides, learn::Learner, npmrc};
use super::*;

/// A machine with npm, and how often its configuration was looked for.
struct Machine {
    directory: tempfile::TempDir,
    environment: Environment,
    overrides: Overrides,
    learner: Learner,
    seen: NpmSeen,
    searches: Cell<usize>,
}

const DEFINITION: &str =
    "  registry: new Definition('registry', {\n    default: 'https://r.example.invalid/',\n";
const DEFINITIONS: &str =
    "lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js";
const CLI: &str = "lib/node_modules/npm/bin/npm-cli.js";

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("an absolute place");
        let mut environment = Environment {
            project: root.join("project"),
            home: root.join("home"),
            ..Environment::default()
        };
        let path = format!("{0}/shims:{0}/links:{0}/bin", root.display());
        environment.variables.insert("PATH".to_owned(), path);
        let learner = Learner::new(&root.join("state"));
        let overrides = Overrides::default();
        let (seen, searches) = (NpmSeen::default(), Cell::new(0));
        let machine = Self { directory, environment, overrides, learner, seen, searches };
        for place in ["shims", "links", "home", "project"] {
            std::fs::create_dir(machine.at(place)).expect("a directory");
        }
        machine.write("bin/node", b"\x7fELF...");
        machine.write(CLI, b"#!/usr/bin/env node\n");
        machine.write(DEFINITIONS, DEFINITION.as_bytes());
        symlink("../lib/node_modules/npm/bin/npm-cli.js", machine.at("bin/npm")).expect("a link");
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().canonicalize().expect("an absolute place").join(path)
    }

    /// Puts a new file in the place of what is there.
    fn write(&self, path: &str, content: &[u8]) {
        let (path, new) = (self.at(path), self.at("new"));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&new, content).expect("a file");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        std::fs::rename(&new, &path).expect("moved");
    }

    fn finder(&self) -> Finder<'_> {
        Finder {
            environment: &self.environment,
            overrides: &self.overrides,
            learner: &self.learner,
            cancellation: agents_contract::Cancellation::NEVER,
        }
    }

    fn find_at(&self, now: SystemTime) -> Result<NpmEndpoint> {
        self.seen.find(&self.finder(), now, |looks| {
            self.searches.set(self.searches.get() + 1);
            npmrc::find(&self.finder(), looks)
        })
    }

    /// Long after whatever was written.
    fn find(&self) -> Result<NpmEndpoint> {
        self.find_at(SystemTime::now() + 2 * LOOKS_QUIET)
    }

    /// The default registry, and whether it was looked for.
    fn default(&self) -> (String, bool) {
        let before = self.searches.get();
        let found = self.find().expect("an endpoint").default.to_string();
        (found, self.searches.get() > before)
    }
}

fn example(host: &str, is_searched: bool) -> (String, bool) {
    (format!("https://{host}.example.invalid/"), is_searched)
}

#[test]
fn what_did_not_change_is_not_looked_for() {
    let machine = Machine::new();
    assert_eq!(machine.default(), example("r", true));
    assert_eq!(machine.default(), example("r", false));
}

#[test]
fn what_changed_is_noticed() {
    let machine = Machine::new();
    let expect = |host: &str| {
        assert_eq!(machine.default(), example(host, true));
        assert_eq!(machine.default(), example(host, false), "and remembered");
    };
    expect("r");
    machine.write("home/.npmrc", b"registry=https://a.example.invalid\n");
    expect("a");
    machine.write("home/.npmrc", b"registry=https://b.example.invalid\n");
    expect("b");
    machine.write("project/.npmrc", b"registry=https://c.example.invalid\n");
    expect("c");
    std::fs::remove_file(machine.at("project/.npmrc")).expect("removed");
    expect("b");
    std::fs::remove_file(machine.at("home/.npmrc")).expect("removed");
    machine.write("lib/node_modules/npm/npmrc", b"registry=https://d.example.invalid\n");
    expect("d");
    machine.write("etc/npmrc", b"registry=https://e.example.invalid\n");
    expect("e");
    std::fs::remove_file(machine.at("etc/npmrc")).expect("removed");
    std::fs::remove_file(machine.at("lib/node_modules/npm/npmrc")).expect("removed");
    machine.write(DEFINITIONS, DEFINITION.replace("//r.", "//s.").as_bytes());
    expect("s");
}

#[test]
fn a_program_that_comes_before_counts_at_once() {
    let machine = Machine::new();
    assert_eq!(machine.default(), example("r", true));
    // The same file under another name, which belongs to another package.
    machine.write("other/npm/npmrc", b"registry=https://o.example.invalid\n");
    std::fs::create_dir(machine.at("other/npm/bin")).expect("a directory");
    std::fs::hard_link(machine.at(CLI), machine.at("other/npm/bin/npm-cli.js")).expect("a name");
    assert_eq!(machine.default(), example("r", true), "it has one name more");
    assert_eq!(machine.default(), example("r", false));
    symlink("../other/npm/bin/npm-cli.js", machine.at("links/npm")).expect("a link");
    assert_eq!(machine.default(), example("o", true));
    assert_eq!(machine.default(), example("o", false));
    std::fs::remove_file(machine.at("links/npm")).expect("removed");
    symlink("../bin/npm", machine.at("links/npm")).expect("a link");
    assert_eq!(machine.default(), example("r", true), "over two links");
    assert_eq!(machine.default(), example("r", false));
    std::fs::remove_file(machine.at("bin/npm")).expect("removed");
    symlink("../other/npm/bin/npm-cli.js", machine.at("bin/npm")).expect("a link");
    assert_eq!(machine.default(), example("o", true), "the second of them leads elsewhere");
}

#[test]
fn what_was_just_changed_or_holds_a_secret_is_not_remembered() {
    let machine = Machine::new();
    for _ in 0..2 {
        machine.find_at(SystemTime::now()).expect("an endpoint");
    }
    assert_eq!(machine.searches.get(), 2, "it is too new");
    machine.write("home/.npmrc", b"//r.example.invalid/:_authToken=x\n");
    for _ in 0..2 {
        machine.find().expect("an endpoint");
    }
    assert_eq!(machine.searches.get(), 4, "it has a token");
    machine.write("home/.npmrc", b"proxy=http://me:secret@p.example.invalid/\n");
    for _ in 0..2 {
        machine.find().expect("an endpoint");
    }
    assert_eq!(machine.searches.get(), 6, "it has a password");
}

#[test]
fn other_surroundings_are_looked_at_anew() {
    let mut machine = Machine::new();
    machine.find().expect("an endpoint");
    machine.environment.variables.insert("PREFIX".to_owned(), "/elsewhere".to_owned());
    assert_eq!(machine.default(), example("r", true));
    machine.environment.variables.remove("PREFIX");
    assert_eq!(machine.default(), example("r", false), "both are remembered");
    let one = digest(&machine.finder());
    machine.environment.variables.insert("A".to_owned(), "B=C".to_owned());
    let two = digest(&machine.finder());
    machine.environment.references = std::mem::take(&mut machine.environment.variables);
    assert!(one != two && two != digest(&machine.finder()));
}

#[test]
fn as_many_surroundings_as_there_is_room_for() {
    let mut machine = Machine::new();
    for number in 0..=SURROUNDINGS_MAX {
        machine.environment.variables.insert("X".to_owned(), number.to_string());
        machine.find().expect("an endpoint");
    }
    assert_eq!(machine.seen.seen().len(), SURROUNDINGS_MAX);
}

#[test]
fn a_directory_that_leads_elsewhere_is_noticed_though_its_files_are_the_same() {
    let mut machine = Machine::new();
    // Two copies that share their files, as of one package in two stores.
    let cli = "v1/lib/node_modules/npm/bin/npm-cli.js";
    machine.write(cli, b"#!/usr/bin/env node\n");
    machine.write("v1/lib/node_modules/npm/npmrc", b"registry=https://one.example.invalid\n");
    machine.write("v1/bin/node", b"\x7fELF...");
    for directory in ["v2/lib/node_modules/npm/bin", "v2/bin"] {
        std::fs::create_dir_all(machine.at(directory)).expect("a directory");
    }
    symlink("../lib/node_modules/npm/bin/npm-cli.js", machine.at("v1/bin/npm")).expect("a link");
    for name in ["lib/node_modules/npm/bin/npm-cli.js", "bin/node", "bin/npm"] {
        let (one, two) = (machine.at(&format!("v1/{name}")), machine.at(&format!("v2/{name}")));
        std::fs::hard_link(one, two).expect("a name");
    }
    machine.write("v2/lib/node_modules/npm/npmrc", b"registry=https://two.example.invalid\n");
    symlink("v1", machine.at("current")).expect("a link");
    let path = machine.at("current/bin").display().to_string();
    machine.environment.variables.insert("PATH".to_owned(), path);
    assert_eq!(machine.default(), example("one", true));
    assert_eq!(machine.default(), example("one", false));
    std::fs::remove_file(machine.at("current")).expect("removed");
    symlink("v2", machine.at("current")).expect("a link");
    assert_eq!(machine.default(), example("two", true));
    assert_eq!(machine.default(), example("two", false));
    // A directory that becomes a link, with all that is in it.
    std::fs::rename(machine.at("v2/lib"), machine.at("moved")).expect("moved");
    symlink("../moved", machine.at("v2/lib")).expect("a link");
    assert_eq!(machine.default(), example("two", true));
}

#[test]
fn a_path_is_followed_as_the_system_does() {
    let machine = Machine::new();
    symlink("bin/../bin/./npm", machine.at("dotted")).expect("a link");
    symlink(machine.at("dotted"), machine.at("whole")).expect("a link");
    for name in ["bin/npm", "bin/node", "dotted", "whole", "links/../whole", "bin/node/x", "none"] {
        let looks = Looks::default();
        let expected = machine.at(name).canonicalize().ok();
        assert_eq!(looks.real(&machine.at(name)), expected, "{name}");
        assert!(!looks.is_lost.get(), "{name}");
    }
}

#[test]
fn what_could_not_be_looked_at_is_not_remembered_as_absent() {
    let machine = Machine::new();
    symlink("circle", machine.at("circle")).expect("a link");
    for name in ["circle", &"x".repeat(300)] {
        let looks = Looks::default();
        assert_eq!(looks.real(&machine.at(name)), None);
        assert!(looks.into_seen(SystemTime::now() + 2 * LOOKS_QUIET).is_none(), "{name}");
    }
}

#[test]
fn an_address_with_a_query_is_not_remembered_and_takes_the_place_of_what_was() {
    let machine = Machine::new();
    for text in [
        "registry=https://a.example.invalid/?token=x\n",
        "@s:registry=https://a.example.invalid/?token=x\n",
        "proxy=http://p.example.invalid/?token=x\n",
    ] {
        std::fs::remove_file(machine.at("home/.npmrc")).ok();
        machine.find().expect("an endpoint");
        assert_eq!(machine.seen.seen().len(), 1);
        machine.write("home/.npmrc", text.as_bytes());
        machine.find().expect("an endpoint");
        assert_eq!(machine.seen.seen().len(), 0, "{text}");
    }
}

#[test]
fn a_configuration_takes_no_more_room_than_it_is_worth() {
    let machine = Machine::new();
    let scopes = |count: usize, length: usize| -> String {
        let path = "x".repeat(length);
        let line = |number| format!("@s{number}:registry=https://a.example.invalid/{path}\n");
        (0..count).map(line).collect()
    };
    for (count, length, is_kept) in [
        (SEEN_ENTRIES_MAX, 0, true),
        (SEEN_ENTRIES_MAX + 1, 0, false),
        (1, SEEN_BYTES_MAX, false),
        (1, SEEN_BYTES_MAX / 2, true),
    ] {
        machine.write("project/.npmrc", scopes(count, length).as_bytes());
        assert_eq!(machine.find().expect("an endpoint").scopes.len(), count);
        assert_eq!(machine.seen.seen().len(), usize::from(is_kept), "{count} of {length}");
    }
    let remarks = "//a/:cert=x\n//a/:key=x\n".repeat(1_000);
    machine.write("project/.npmrc", remarks.as_bytes());
    assert_eq!(machine.find().expect("an endpoint").not_followed.len(), 2);
}
