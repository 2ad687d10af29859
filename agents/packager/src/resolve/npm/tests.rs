//! Trees of small universes: the shapes that npm builds, conflicts, and laws that hold for every tree.

mod ahead;
mod archives;
mod laws;
mod own;
mod recorded;
mod replaced;
mod torn;
mod universe;

use universe::{Universe, request, request_with, root};

use crate::error::Kind;
use crate::metadata::aged::{Aged, Limit};
use crate::metadata::npm::Metadata;
use crate::options::Moment;
use crate::resolve::ResolveError;
use crate::resolve::npm::{Order, Preferred, is_of, resolve};

/// Resolves and compares the places, one `place name@version` a line, in the order of places.
#[track_caller]
fn check(universe: &str, wanted: &str, expected: &[&str]) {
    let universe = Universe::parse(universe);
    let resolution = resolve(&request(root(wanted)), &universe).expect("a tree");
    assert_eq!(universe::places(&resolution), expected, "{wanted}");
}

/// Resolves a project with packages of its own, `place name@version: dependencies` a line; places, and links as `place -> target`.
#[track_caller]
fn check_own(universe: &str, wanted: &str, locals: &str, expected: &[&str]) {
    let universe = Universe::parse(universe);
    let mut request = request(root(wanted));
    request.locals = universe::locals(locals);
    let resolution = resolve(&request, &universe).expect("a tree");
    let mut lines = universe::places(&resolution);
    let links = resolution
        .links
        .iter()
        .map(|link| format!("{} -> {}", link.place.replace("node_modules/", ""), link.target));
    lines.extend(links);
    assert_eq!(lines, expected, "{wanted} with {locals}");
    assert!(is_of(&request.root, &request.locals, &resolution), "what is locked is followed");
}

#[track_caller]
fn conflict(universe: &str, wanted: &str) -> crate::resolve::Conflict {
    match resolve(&request(root(wanted)), &Universe::parse(universe)) {
        Err(ResolveError::Conflict(conflict)) => conflict,
        other => panic!("expected a conflict, got {other:?}"),
    }
}

#[track_caller]
fn error(universe: &str, wanted: &str) -> crate::error::Error {
    match resolve(&request(root(wanted)), &Universe::parse(universe)) {
        Err(ResolveError::Other(error)) => error,
        other => panic!("expected an error, got {other:?}"),
    }
}

#[test]
fn what_does_not_conflict_is_hoisted() {
    check("a@1.0.0: b@1\nb@1.2.0: c@1\nc@1.0.0", "a@1", &["a a@1.0.0", "b b@1.2.0", "c c@1.0.0"]);
}

#[test]
fn several_versions_stand_side_by_side() {
    check(
        "a@1.0.0: x@1\nb@1.0.0: x@2\nc@1.0.0: x@2\nx@1.0.0\nx@2.0.0",
        "a@1 b@1 c@1",
        &["a a@1.0.0", "b b@1.0.0", "b/x x@2.0.0", "c c@1.0.0", "c/x x@2.0.0", "x x@1.0.0"],
    );
}

#[test]
fn a_direct_dependency_keeps_the_top() {
    check("a@1.0.0: x@1\nx@1.0.0\nx@2.0.0", "a@1 x@2", &["a a@1.0.0", "a/x x@1.0.0", "x x@2.0.0"]);
}

#[test]
fn cycles_end() {
    check("a@1.0.0: b@1\nb@1.0.0: a@1", "a@1", &["a a@1.0.0", "b b@1.0.0"]);
}

#[test]
fn latest_is_preferred_over_higher_and_prereleases_are_not_taken() {
    let universe =
        "a@1.0.0\na@1.1.0\na@1.2.0\na@2.0.0-rc.1\ntag a latest 1.1.0\ntag a next 2.0.0-rc.1";
    check(universe, "a@^1", &["a a@1.1.0"]);
    check(universe, "a@^1.2", &["a a@1.2.0"]);
    check(universe, "a@*", &["a a@1.1.0"]);
    check(universe, "a@next", &["a a@2.0.0-rc.1"]);
    check(universe, "a@>=2.0.0-0", &["a a@2.0.0-rc.1"]);
    check(universe, "a@1.0.0", &["a a@1.0.0"]);
}

#[test]
fn sound_versions_are_preferred() {
    check("a@1.0.0\na@1.1.0 deprecated\ntag a latest 1.1.0", "a@1", &["a a@1.0.0"]);
    check("a@1.0.0\na@1.1.0 node=>=99", "a@1", &["a a@1.0.0"]);
    check("a@1.0.0 deprecated\na@1.1.0 deprecated", "a@1", &["a a@1.1.0"]);
}

#[test]
fn an_alias_is_the_real_package_under_another_name() {
    let universe = Universe::parse("real@1.0.0\nreal@2.0.0\nb@1.0.0: x@npm:real@1");
    let resolution = resolve(&request(root("b@1 x@npm:real@2")), &universe).expect("a tree");
    assert_eq!(universe::places(&resolution), ["b b@1.0.0", "b/x real@1.0.0", "x real@2.0.0"]);
}

#[test]
fn peers_come_along_and_stand_beside() {
    check("a@1.0.0: peer p@1\np@1.0.0\np@2.0.0", "a@1", &["a a@1.0.0", "p p@1.0.0"]);
    // The project's wider wish bends to the peer.
    check("a@1.0.0: peer p@1\np@1.0.0\np@2.0.0", "a@1 p@*", &["a a@1.0.0", "p p@1.0.0"]);
    // Somebody else's set goes where it has its own peer.
    check(
        "m@1.0.0: a@1 p@1\na@1.0.0: peer p@1\np@1.0.0\np@2.0.0",
        "m@1 p@2",
        &["m m@1.0.0", "m/a a@1.0.0", "m/p p@1.0.0", "p p@2.0.0"],
    );
}

#[test]
fn optional_peers_are_only_used_if_present() {
    let universe = "a@1.0.0: optpeer p@1\np@1.0.0\np@2.0.0";
    check(universe, "a@1", &["a a@1.0.0"]);
    check(universe, "a@1 p@1", &["a a@1.0.0", "p p@1.0.0"]);
}

#[test]
fn a_peer_conflict_of_the_project_is_explained_with_repairs_that_work() {
    let universe = "a@1.0.0: peer p@1\na@2.0.0: peer p@2\np@1.0.0\np@2.0.0";
    let conflict = conflict(universe, "a@1 p@2");
    assert!(conflict.explanation.contains("`a@1.0.0`"), "{}", conflict.explanation);
    assert!(conflict.explanation.contains("`p@1`"), "{}", conflict.explanation);
    let changes: Vec<String> =
        conflict.repairs.iter().map(|repair| repair.changes[0].to.clone().unwrap()).collect();
    assert_eq!(changes, ["p@1", "a@^2.0.0"]);
    for change in changes {
        let (name, want) = change.split_once('@').expect("range");
        let wanted = match name {
            "a" => format!("a@{want} p@2"),
            _ => format!("a@1 p@{want}"),
        };
        resolve(&request(root(&wanted)), &Universe::parse(universe)).expect("the repair works");
    }
}

#[test]
fn an_impossible_range_is_a_conflict_that_names_the_newest() {
    let conflict = conflict("a@1.0.0\na@5.1.0\ntag a latest 5.1.0", "a@^99");
    assert!(conflict.explanation.contains("`^99`") && conflict.explanation.contains("`5.1.0`"));
    assert_eq!(conflict.repairs[0].changes[0].to.as_deref(), Some("a@^5.1.0"));
    let conflict = self::conflict("a@1.0.0: b@^99\nb@1.0.0", "a@1");
    assert!(conflict.explanation.contains("`a@1.0.0`"), "{}", conflict.explanation);
}

#[test]
fn optional_failures_are_left_out_with_what_only_they_need() {
    check("a@1.0.0: opt b@^99 opt gone@1\nb@1.0.0", "a@1", &["a a@1.0.0"]);
    check(
        "a@1.0.0: opt b@1 c@1\nb@1.0.0 os=darwin: c@1 d@1\nc@1.0.0\nd@1.0.0",
        "a@1",
        &["a a@1.0.0", "c c@1.0.0"],
    );
    check("a@1.0.0: opt b@1\nb@1.0.0: c@1\nc@1.0.0 cpu=arm64", "a@1", &["a a@1.0.0"]);
    check("a@1.0.0: opt b@1\nb@1.0.0 libc=musl", "a@1", &["a a@1.0.0"]);
    check("a@1.0.0: opt b@1\nb@1.0.0 os=!darwin", "a@1", &["a a@1.0.0", "b b@1.0.0"]);
    check("a@1.0.0: opt b@1\nb@1.0.0 node=>=99", "a@1", &["a a@1.0.0"]);
}

#[test]
fn a_failing_network_is_an_error_also_for_optional_packages() {
    let text = "a@1.0.0: opt b@1 opt gone@1\nb@1.0.0\nc@1.0.0: opt d@1\nd@1.0.0: b@1";
    for wanted in ["a@1", "c@1", "b@1"] {
        let universe = Universe { unreachable: vec!["b".to_owned()], ..Universe::parse(text) };
        match resolve(&request(root(wanted)), &universe) {
            Err(ResolveError::Other(error)) => {
                assert_eq!((error.kind, error.code.as_str()), (Kind::Network, "connection-lost"));
                assert!(error.message.contains("`b`"), "{}", error.message);
            }
            other => panic!("expected an error, got {other:?}"),
        }
    }
    check(text, "a@1", &["a a@1.0.0", "b b@1.0.0"]);
}

#[test]
fn a_required_package_for_another_platform_is_an_error() {
    let error = error("a@1.0.0: b@1\nb@1.0.0 os=darwin", "a@1");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Conflict, "unsupported-platform"));
    assert!(error.message.contains("`b@1.0.0`") && error.message.contains("`a@1.0.0`"));
}

#[test]
fn dependencies_outside_of_registries_are_refused_by_dependent() {
    for address in [
        "git+ssh://git@example.invalid/x.git",
        "user/repo",
        "file:../x",
        "file:../x.tgz",
        "https://me@example.invalid/x.tgz",
    ] {
        let error = error(&format!("a@1.0.0: x@{address}"), "a@1");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Usage, "unsupported-dependency"));
        assert!(error.message.contains("`a@1.0.0`"), "{}", error.message);
    }
    check("a@1.0.0: opt x@user/repo", "a@1", &["a a@1.0.0"]);
    let secret = error("a@1.0.0: x@https://name:secret@example.invalid/x.tgz", "a@1");
    assert!(!secret.message.contains("secret"), "{}", secret.message);
}

#[test]
fn an_unknown_package_is_told_with_its_dependent() {
    let error = error("a@1.0.0: nope@1", "a@1");
    assert_eq!(error.code, "unknown-package");
    assert!(error.message.contains("`a@1.0.0`"), "{}", error.message);
}

#[test]
fn bundled_packages_are_not_fetched_and_hide_what_is_above() {
    check(
        "a@1.0.0: x@1 y@1 bundle=x\nx@1.0.0\ny@1.0.0: x@1",
        "a@1",
        &["a a@1.0.0", "x x@1.0.0", "y y@1.0.0"],
    );
    // `y` has to stand inside `a`, where the bundled `x` would be found: it gets its own.
    check(
        "a@1.0.0: x@1 y@1 bundle=x\nx@1.0.0\ny@1.0.0: x@1\ny@2.0.0",
        "a@1 y@2",
        &["a a@1.0.0", "a/y y@1.0.0", "a/y/x x@1.0.0", "y y@2.0.0"],
    );
}

#[test]
fn overrides_replace_versions_everywhere_or_below() {
    let universe = Universe::parse("a@1.0.0: x@1\nb@1.0.0: x@1\nx@1.0.0\nx@1.5.0\nx@2.0.0");
    let tree = |overrides: &str| {
        let mut root = root("a@1 b@1");
        let text = format!("{{\"overrides\": {overrides}}}");
        root.overrides = crate::manifest::package_json::read("package.json", &text)
            .expect("overrides")
            .overrides;
        resolve(&request(root), &universe).map(|tree| universe::places(&tree))
    };
    assert_eq!(tree("{\"x\": \"2\"}").expect("flat"), ["a a@1.0.0", "b b@1.0.0", "x x@2.0.0"]);
    assert_eq!(
        tree("{\"b\": {\"x\": \"2\"}}").expect("nested"),
        ["a a@1.0.0", "b b@1.0.0", "b/x x@2.0.0", "x x@1.5.0"]
    );
    assert_eq!(
        tree("{\"x@1\": \"1.0.0\"}").expect("by range"),
        ["a a@1.0.0", "b b@1.0.0", "x x@1.0.0"]
    );
    assert!(
        matches!(tree("{\"a\": \"2\"}"), Err(ResolveError::Other(error)) if error.code == "override-conflict")
    );
}

#[test]
fn what_is_locked_stays_unless_asked_for_by_name() {
    let universe = Universe::parse("a@1.0.0: x@1\na@1.1.0: x@1\nx@1.0.0\nx@1.5.0\ny@1.0.0");
    let mut request = request(root("a@1"));
    for (place, name, version) in [
        ("node_modules/a", "a", "1.0.0"),
        ("node_modules/x", "x", "1.0.0"),
        ("node_modules/y", "y", "1.0.0"),
    ] {
        let one = Preferred { name: name.to_owned(), version: version.to_owned(), archive: None };
        request.preferred.insert(place.to_owned(), one);
    }
    let tree = resolve(&request, &universe).expect("kept");
    assert_eq!(universe::places(&tree), ["a a@1.0.0", "x x@1.0.0"]);
    request.explicit.insert("a".to_owned());
    let tree = resolve(&request, &universe).expect("updated");
    assert_eq!(universe::places(&tree), ["a a@1.1.0", "x x@1.0.0"]);
    request.root = root("a@1.1");
    request.explicit.clear();
    let tree = resolve(&request, &universe).expect("bent");
    assert_eq!(universe::places(&tree), ["a a@1.1.0", "x x@1.0.0"]);
}

#[test]
fn what_would_be_nested_without_end_is_a_link_up() {
    let universe = "a@1.0.0: b@1\na@2.0.0: b@2\nb@1.0.0: a@2\nb@2.0.0: a@1";
    check_own(
        universe,
        "a@1",
        "",
        &[
            "a a@1.0.0",
            "b b@1.0.0",
            "b/a a@2.0.0",
            "b/b b@2.0.0",
            "b/b/a a@1.0.0",
            "b/b/b -> node_modules/b",
        ],
    );
}

#[test]
fn workspaces_are_linked_and_share_what_they_need() {
    check_own(
        "x@1.0.0\nx@2.0.0\ny@1.0.0: x@1",
        "x@2",
        "packages/a a@1.0.0: b@^1 x@2\npackages/b b@1.2.0: x@1 y@1",
        &[
            "packages/b/x x@1.0.0",
            "x x@2.0.0",
            "y y@1.0.0",
            "y/x x@1.0.0",
            "a -> packages/a",
            "b -> packages/b",
        ],
    );
}

#[test]
fn a_workspace_that_the_root_leaves_without_something_comes_first() {
    check_own(
        "e@7.0.0\ne@8.0.0\nw@4.0.0\nw@5.0.0",
        "e@8",
        "packages/new new@1.0.0: w@5\npackages/old old@1.0.0: e@7 w@4",
        &[
            "e e@8.0.0",
            "packages/new/w w@5.0.0",
            "packages/old/e e@7.0.0",
            "w w@4.0.0",
            "new -> packages/new",
            "old -> packages/old",
        ],
    );
}

#[test]
fn a_workspace_does_where_its_version_does_and_only_there() {
    let universe = "b@1.0.0\nb@2.0.0\nu@1.0.0: b@1\nv@1.0.0: b@2\nw@1.0.0: peer b@1";
    check_own(universe, "u@1 w@1", "b b@1.5.0:", &["u u@1.0.0", "w w@1.0.0", "b -> b"]);
    check_own(universe, "v@1", "b b@1.5.0:", &["v v@1.0.0", "v/b b@2.0.0", "b -> b"]);
}

#[test]
fn peers_of_workspaces_are_the_projects_own_business() {
    let universe = "p@1.0.0\np@2.0.0";
    check_own(universe, "p@1", "w w@1.0.0: peer p@1", &["p p@1.0.0", "w -> w"]);
    let mut request = request(root("p@2"));
    request.locals = universe::locals("w w@1.0.0: peer p@1");
    match resolve(&request, &Universe::parse(universe)) {
        Err(ResolveError::Conflict(conflict)) => {
            assert!(
                conflict.explanation.contains("the project's own `w`"),
                "{}",
                conflict.explanation
            );
        }
        other => panic!("expected a conflict, got {other:?}"),
    }
}

#[test]
fn directories_that_are_named_are_linked_and_what_lies_outside_is_left_alone() {
    check_own(
        "x@1.0.0\nx@2.0.0",
        "lib@file:libs/one out@file:../out x@2",
        "file libs/one one@0.1.0: two@file:libs/one/two x@1\nfile libs/one/two two@0.1.0: x@1\n\
         file ../out out@1.0.0: gone@1\nfile libs/unused unused@1.0.0: gone@1",
        &[
            "libs/one/x x@1.0.0",
            "x x@2.0.0",
            "lib -> libs/one",
            "out -> ../out",
            "two -> libs/one/two",
        ],
    );
    let refused = error("a@1.0.0: x@file:libs/one", "a@1");
    assert_eq!(refused.code, "unsupported-dependency");
}

#[test]
fn an_alias_is_only_met_by_the_package_that_it_names() {
    let universe = "x@1.0.0\nreal@1.0.0\na@1.0.0: x@npm:real@1\nb@1.0.0: x@1";
    check(universe, "x@1 a@1", &["a a@1.0.0", "a/x real@1.0.0", "x x@1.0.0"]);
    // Who asks for the name takes what the project put there under that name.
    check(universe, "x@npm:real@1 b@1", &["b b@1.0.0", "x real@1.0.0"]);
}

#[test]
fn a_long_chain_needs_no_stack() {
    let length = 5_000;
    let text: String = (0..length).map(|at| format!("p{at}@1.0.0: p{}@1\n", at + 1)).collect();
    let universe = Universe::parse(&format!("{text}p{length}@1.0.0"));
    let tree = resolve(&request(root("p0@1")), &universe).expect("a tree");
    assert_eq!(tree.packages.len(), length + 1);
}

#[test]
fn a_long_chain_of_peers_ends_at_its_bound() {
    let text: String = (0..1_000).map(|at| format!("p{at}@1.0.0: peer p{}@1\n", at + 1)).collect();
    let conflict = conflict(&format!("{text}p1000@1.0.0"), "p0@1");
    assert!(conflict.explanation.contains("chain of peers"), "{}", conflict.explanation);
}

#[test]
fn a_dense_peer_set_is_checked_in_reasonable_time() {
    let names: Vec<String> = (0..40).map(|at| format!("p{at}")).collect();
    let peers: String = names.iter().map(|name| format!(" peer {name}@1")).collect();
    let text: String = names.iter().map(|name| format!("{name}@1.0.0:{peers}\n")).collect();
    let tree = resolve(&request(root("p0@1")), &Universe::parse(&text)).expect("a tree");
    assert_eq!(tree.packages.len(), 40);
}

#[test]
fn the_deadline_ends_a_resolution() {
    let request = request_with(root("a@1"), &|| Err(crate::resolve::deadline_exceeded()));
    let universe = Universe::parse("a@1.0.0");
    assert!(
        matches!(resolve(&request, &universe), Err(ResolveError::Other(error)) if error.code == "deadline")
    );
}

#[test]
fn all_dependencies_of_a_choice_are_announced_before_any_is_asked_for() {
    let universe =
        Universe::parse("a@1.0.0: x@1 y@1 peer z@1 opt w@1\nx@1.0.0\ny@1.0.0\nz@1.0.0\nw@1.0.0");
    resolve(&request(root("a@1")), &universe).expect("a tree");
    let log = universe.log.lock().expect("log").clone();
    let asked = log.iter().position(|line| line == "ask a").expect("asked");
    let next =
        log[asked + 1..].iter().position(|line| line.starts_with("ask")).expect("next") + asked + 1;
    let mut announced = log[asked + 1..next].to_vec();
    announced.sort();
    assert_eq!(announced, ["announce w", "announce x", "announce y", "announce z"]);
}

#[test]
fn other_versions_are_taken_where_the_first_ones_do_not_agree() {
    let universe = Universe::parse("a@1.0.0: peer p@2\na@2.0.0: peer p@1\np@1.0.0\np@2.0.0");
    let tree = resolve(&request(root("a@* p@2")), &universe).expect("a tree");
    assert_eq!(universe::places(&tree), ["a a@1.0.0", "p p@2.0.0"]);
    assert!(tree.warnings.iter().any(|one| one.contains("`a` is `1.0.0` and not `2.0.0`")));
    check("b@1.0.0\nb@2.0.0: peer b@1", "b@*", &["b b@1.0.0"]);
    // The version that both sides accept is neither's first choice.
    check(
        "a@1.0.0: peer p@1.5||3\nb@1.0.0: peer p@1.5||2\np@1.5.0\np@2.0.0\np@3.0.0",
        "a@1 b@1",
        &["a a@1.0.0", "b b@1.0.0", "p p@1.5.0"],
    );
}

#[test]
fn a_version_that_needs_what_does_not_exist_is_passed_over() {
    check("a@1.0.0\na@1.1.0: gone@^9\ngone@1.0.0", "a@1", &["a a@1.0.0"]);
    let conflict = conflict("a@1.0.0: gone@^8\na@1.1.0: gone@^9\ngone@1.0.0", "a@1");
    assert!(conflict.explanation.contains("`gone`"), "{}", conflict.explanation);
}

#[test]
fn peers_that_can_never_agree_end_soon() {
    let peers = |name: &str, want: &str| -> String {
        (0..300).map(|at| format!("{name}@1.{at}.0: peer p@{want}\n")).collect()
    };
    let ps: String = (0..300).map(|at| format!("p@1.{at}.0\np@2.{at}.0\n")).collect();
    let text = format!("{}{}{}{ps}", peers("a", "1"), peers("b", "*"), peers("c", "2"));
    let conflict = conflict(&text, "a@* b@* c@*");
    assert!(conflict.explanation.contains("has the peer dependency"), "{}", conflict.explanation);
}

#[test]
fn the_lowest_versions_are_taken_where_they_are_asked_for() {
    let universe = Universe::parse(
        "a@1.0.0: x@1\na@1.1.0: x@1\nx@1.0.0 deprecated\nx@1.1.0\nx@1.2.0\ntag a latest 1.1.0",
    );
    let tree = |order| {
        let mut request = request(root("a@1"));
        request.order = order;
        universe::places(&resolve(&request, &universe).expect("a tree"))
    };
    assert_eq!(tree(Order::Highest), ["a a@1.1.0", "x x@1.2.0"]);
    assert_eq!(tree(Order::Lowest), ["a a@1.0.0", "x x@1.1.0"]);
    assert_eq!(tree(Order::LowestDirect), ["a a@1.0.0", "x x@1.2.0"]);
}

#[test]
fn nothing_younger_than_the_moment_is_taken() {
    let universe = Universe::parse(
        "a@1.0.0 time=2024-01-01T00:00:00.000Z\na@1.1.0 time=2024-02-01T00:00:00Z\n\
         a@1.2.0 time=2024-03-01T00:00:00+00:00\na@1.3.0\ntag a latest 1.2.0",
    );
    let tree = |wanted: &str, until: &str| {
        let before = Some(Moment::end_of(until).expect("a moment"));
        let aged = Aged::new(&universe as &dyn Metadata, Limit { before, ..Limit::default() });
        resolve(&request(root(wanted)), &aged).map(|tree| universe::places(&tree))
    };
    assert_eq!(tree("a@1", "2024-02-01T00:00:01Z").expect("old"), ["a a@1.1.0"]);
    assert_eq!(tree("a@1", "2024-02-01T00:00:00Z").expect("not that moment"), ["a a@1.0.0"]);
    assert_eq!(tree("a@latest", "2024-02-15").expect("a tag"), ["a a@1.1.0"]);
    assert_eq!(tree("a@*", "2024-01-31").expect("older"), ["a a@1.0.0"]);
    assert_eq!(tree("a@1", "2025-01-01").expect("all that say when"), ["a a@1.2.0"]);
    assert!(tree("a@1", "2023-01-01").is_err());
    let (before, names) = (Moment::end_of("2024-01-31"), ["a".to_owned()].into());
    let limit = Limit { before, names, ..Limit::default() };
    let aged = Aged::new(&universe as &dyn Metadata, limit);
    let tree = resolve(&request(root("a@1")), &aged).expect("the exception");
    assert_eq!(universe::places(&tree), ["a a@1.2.0"]);
}

#[test]
fn a_peer_of_the_projects_own_that_cannot_be_had_is_not_given_up_for_what_others_bring() {
    // `a@1.0.0` can be had nowhere; `b@1.1.0` brings `a@1.1.0` to where it would stand.
    let text = "a@1.0.0: peer a@2\na@1.1.0\na@2.0.0\nb@1.1.0: a@1\nb@2.0.0\nd@2.0.0: peer b@1";
    let universe = Universe::parse(text);
    let mut request = request(root(""));
    request.locals = universe::locals("own/w w@1.0.0: b@*\nv v@1.0.0: d@2 peer a@1.0.0");
    assert!(matches!(resolve(&request, &universe), Err(ResolveError::Conflict(_))));
}
