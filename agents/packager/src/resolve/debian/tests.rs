//! Small machines with small lists, read as real ones are; [`oracle`] compares with brute force.

mod oracle;

use std::fmt::Write as _;

use super::{Request, Resolved, Wish, resolve};
use crate::io::debian::Lists;
use crate::metadata::debian::Bound;
use crate::resolve::{Conflict, ResolveError};

/// dpkg itself, by which a machine's architecture is known.
const DPKG: &str =
    "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n";

/// A machine: what is installed, and what a list has.
#[derive(Default)]
struct Machine {
    status: String,
    list: String,
}

impl Machine {
    /// A version that a list has; fields are `Depends: b (>= 2); Conflicts: c`.
    fn lists(mut self, name: &str, version: &str, fields: &str) -> Self {
        let _ = write!(
            self.list,
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\n{}\
             Filename: pool/{name}_{version}.deb\nSize: 1\nSHA256: {}\n\n",
            lines(fields),
            "0".repeat(64)
        );
        self
    }

    /// A version that is installed.
    fn has(self, name: &str, version: &str, fields: &str) -> Self {
        self.has_as("install", name, version, fields)
    }

    fn has_as(mut self, want: &str, name: &str, version: &str, fields: &str) -> Self {
        let _ = write!(
            self.status,
            "Package: {name}\nStatus: {want} ok installed\nVersion: {version}\n\
             Architecture: amd64\n{}\n",
            lines(fields)
        );
        self
    }

    fn read(&self) -> Lists {
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("written");
            std::fs::write(path, text).expect("written");
        };
        write("var/lib/dpkg/status", &format!("{DPKG}{}", self.status));
        write("var/lib/apt/lists/h_dists_s_main_binary-amd64_Packages", &self.list);
        Lists::read(root.path()).expect("readable lists")
    }

    fn ask(&self, wishes: &[&str]) -> Result<Resolved, ResolveError> {
        let wish = |text: &&str| {
            let (is_removal, text) = match text.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, *text),
            };
            let (name, bound) = text.split_once('@').unwrap_or((text, ""));
            Wish { name: name.to_owned(), bound: Bound::parse(bound), is_removal }
        };
        let wishes: Vec<Wish> = wishes.iter().map(wish).collect();
        resolve(&Request { wishes: &wishes, keep_on: &|| Ok(()) }, &self.read())
    }

    /// `+name version` for what comes, `-name` for what goes.
    #[track_caller]
    fn check(&self, wishes: &[&str], expected: &str) {
        match self.ask(wishes) {
            Ok(resolved) => assert_eq!(shown(&resolved), expected),
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn conflict(&self, wishes: &[&str]) -> Conflict {
        match self.ask(wishes) {
            Err(ResolveError::Conflict(conflict)) => conflict,
            other => panic!("{other:?}"),
        }
    }
}

fn lines(fields: &str) -> String {
    let fields = fields.split(';').map(str::trim).filter(|field| !field.is_empty());
    fields.map(|field| format!("{field}\n")).collect()
}

fn shown(resolved: &Resolved) -> String {
    let comes =
        resolved.resolution.packages.iter().map(|it| format!("+{} {}", it.name, it.version));
    let goes = resolved.removed.iter().map(|name| format!("-{name}"));
    comes.chain(goes).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_needed_comes_along_in_its_candidate_version() {
    let machine = Machine::default()
        .lists("a", "1", "Depends: b (>= 2), c; Pre-Depends: d")
        .lists("b", "1", "")
        .lists("b", "3", "")
        .lists("c", "1", "")
        .lists("d", "1", "")
        .lists("unrelated", "1", "");
    machine.check(&["a"], "+a 1, +b 3, +c 1, +d 1");
    machine.check(&["b@1"], "+b 1");
}

#[test]
fn what_is_there_already_is_shown_as_it_was() {
    let machine = Machine::default().has("a", "1", "").lists("a", "1", "");
    let resolved = machine.ask(&["a"]).expect("an answer");
    assert_eq!(resolved.before.packages, resolved.resolution.packages);
    assert_eq!(resolved.resolution.packages.len(), 1);
}

#[test]
fn what_is_installed_stays_unless_it_does_not_do() {
    let machine = Machine::default()
        .has("b", "1", "")
        .lists("b", "2", "")
        .lists("a", "1", "Depends: b")
        .lists("new", "1", "Depends: b (>= 2)");
    machine.check(&["a"], "+a 1");
    machine.check(&["new"], "+b 2, +new 1");
    machine.check(&["b"], "+b 2");
}

#[test]
fn the_first_alternative_is_taken_and_one_that_is_there_before_it() {
    let machine = Machine::default()
        .lists("a", "1", "Depends: b | c")
        .lists("b", "1", "")
        .lists("c", "1", "")
        .lists("e", "1", "Depends: a, c");
    machine.check(&["a"], "+a 1, +b 1");
    machine.check(&["e"], "+a 1, +c 1, +e 1");
    let machine = Machine { status: String::new(), ..machine }.has("c", "1", "");
    machine.check(&["a"], "+a 1");
}

#[test]
fn names_are_provided_and_a_bound_wants_a_provided_version() {
    let machine = Machine::default()
        .lists("a", "1", "Depends: mta")
        .lists("b", "1", "Depends: mta (>= 2)")
        .lists("postfix", "3", "Provides: mta; Priority: optional")
        .lists("exim", "4", "Provides: mta (= 2); Priority: standard");
    machine.check(&["a"], "+a 1, +exim 4");
    machine.check(&["b"], "+b 1, +exim 4");
    machine.check(&["a", "postfix"], "+a 1, +postfix 3");
    match machine.ask(&["mta"]) {
        Err(ResolveError::Other(error)) => {
            assert_eq!(error.code, "virtual-package");
            assert!(error.hint.is_some_and(|hint| hint.contains("postfix")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_excludes_the_wish_is_replaced_or_taken_away() {
    let machine = Machine::default()
        .has("postfix", "3", "Provides: mta; Conflicts: mta")
        .has("mutt", "1", "Depends: mta")
        .has("helper", "1", "Depends: postfix")
        .lists("exim", "4", "Provides: mta; Conflicts: mta");
    machine.check(&["exim"], "+exim 4, -helper, -postfix");
    machine.check(&["-postfix"], "+exim 4, -helper, -postfix");
}

#[test]
fn a_break_is_mended_by_an_upgrade() {
    let machine = Machine::default().has("b", "1", "").has("c", "1", "").lists("b", "2", "").lists(
        "a",
        "1",
        "Breaks: b (<< 2), c (<< 2)",
    );
    machine.check(&["a"], "+a 1, +b 2, -c");
}

#[test]
fn an_upgrade_looks_at_who_needs_the_old_version() {
    let machine = Machine::default()
        .has("lib", "1", "")
        .has("user", "1", "Depends: lib (= 1)")
        .has("other", "1", "Depends: lib (<< 2)")
        .lists("lib", "2", "")
        .lists("user", "2", "Depends: lib (= 2)");
    machine.check(&["lib"], "+lib 2, +user 2, -other");
}

#[test]
fn what_is_recommended_comes_along_where_it_can() {
    let machine = Machine::default()
        .lists("a", "1", "Recommends: b, c, gone | d")
        .lists("b", "1", "")
        .lists("c", "1", "Depends: missing")
        .lists("d", "1", "");
    machine.check(&["a"], "+a 1, +b 1, +d 1");
    let machine = Machine::default()
        .has("a", "1", "Recommends: b")
        .lists("a", "2", "Recommends: b, c")
        .lists("b", "1", "")
        .lists("c", "1", "");
    machine.check(&["a"], "+a 2, +c 1");
}

#[test]
fn what_is_broken_already_is_left_alone() {
    let machine = Machine::default()
        .has("broken", "1", "Depends: gone")
        .has("b", "1", "")
        .lists("b", "2", "")
        .lists("a", "1", "Depends: b (>= 2), broken");
    machine.check(&["a"], "+a 1, +b 2");
}

#[test]
fn a_hold_and_an_essential_package_stand_in_the_way() {
    let machine = Machine::default()
        .has_as("hold", "b", "1", "")
        .has("base", "1", "Essential: yes")
        .lists("b", "2", "")
        .lists("a", "1", "Depends: b (>= 2)")
        .lists("c", "1", "Conflicts: base");
    let conflict = machine.conflict(&["a"]);
    assert!(conflict.explanation.contains("`b` is held at 1"), "{}", conflict.explanation);
    let conflict = machine.conflict(&["c"]);
    assert!(conflict.explanation.contains("`base` is essential"), "{}", conflict.explanation);
}

#[test]
fn a_conflict_is_explained_and_its_repairs_were_tried() {
    let machine = Machine::default()
        .lists("a", "1", "Depends: c (>= 2)")
        .lists("b", "1", "Depends: d (>= 5) | e")
        .lists("c", "1", "")
        .lists("d", "1", "");
    let conflict = machine.conflict(&["a"]);
    let said = "`a` 1 needs `c (>= 2)`, but what apt would take of `c` is 1";
    assert!(conflict.explanation.contains(said), "{}", conflict.explanation);
    assert!(conflict.repairs.is_empty());
    let conflict = machine.conflict(&["b", "c@2"]);
    assert!(
        conflict.explanation.contains("apt has no `e` to take")
            || conflict.explanation.contains("`c`")
    );
    let conflict = machine.conflict(&["c@2"]);
    assert_eq!(conflict.repairs[0].description, "ask for `c` instead of `c@=2`");
}

#[test]
fn other_architectures_serve_where_they_may() {
    let machine = Machine::default()
        .lists("a", "1", "Depends: tool, python3:any, lib")
        .lists("tool", "1", "Multi-Arch: foreign")
        .lists("python3", "3", "Multi-Arch: allowed")
        .lists("lib", "1", "Multi-Arch: same");
    machine.check(&["a"], "+a 1, +lib 1, +python3 3, +tool 1");
}

#[test]
fn a_name_that_no_list_has_is_said() {
    match Machine::default().lists("a", "1", "").ask(&["b"]) {
        Err(ResolveError::Other(error)) => assert_eq!(error.code, "unknown-package"),
        other => panic!("{other:?}"),
    }
    match Machine::default().lists("a", "1", "").ask(&["-a"]) {
        Err(ResolveError::Other(error)) => assert_eq!(error.code, "not-installed"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chain_of_a_thousand_packages_is_walked_without_recursion() {
    let mut machine = Machine::default();
    for at in 0..1_000 {
        let needs = if at == 999 { "gone".to_owned() } else { format!("p{}", at + 1) };
        machine = machine.lists(&format!("p{at}"), "1", &format!("Depends: {needs}"));
    }
    let conflict = machine.conflict(&["p0"]);
    assert!(conflict.explanation.contains("more steps"), "{}", conflict.explanation);
}
