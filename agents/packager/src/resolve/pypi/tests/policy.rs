//! What a caller wants beside its requirements.

use super::super::policy::Policy;
use crate::options::{Mode, Names, Prerelease};

use super::{PLAIN, Release, Requirement, ResolveError, Universe, run_with, versions};

fn parsed(texts: &[&str]) -> Vec<Requirement> {
    texts.iter().map(|text| text.parse().expect("a requirement")).collect()
}

#[track_caller]
fn check(universe: &Universe, policy: &Policy, requirements: &[&str], expected: &str) {
    match run_with(universe, requirements, &[], policy) {
        Ok(resolution) => assert_eq!(versions(&resolution), expected),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn impossible(universe: &Universe, policy: &Policy, requirements: &[&str], expected: &str) {
    match run_with(universe, requirements, &[], policy) {
        Err(ResolveError::Conflict(conflict)) => assert_eq!(conflict.explanation, expected),
        other => panic!("{other:?}"),
    }
}

fn two_each() -> Universe {
    Universe::default()
        .add("a", "1", &["b"])
        .add("a", "2", &["b>=1"])
        .add("b", "1", &[])
        .add("b", "2", &[])
        .add("c", "1", &[])
}

#[test]
fn constraints_narrow_what_is_needed_and_add_nothing() {
    let constrained = |texts: &[&str]| Policy { constraints: parsed(texts), ..Policy::default() };
    check(&two_each(), &constrained(&["b<2", "c==1"]), &["a"], "a 2, b 1");
    check(&two_each(), &constrained(&["a==1", "b>1"]), &["a"], "a 1, b 2");
    let elsewhere = constrained(&["b<2; sys_platform == 'win32'"]);
    check(&two_each(), &elsewhere, &["a"], "a 2, b 2");
    impossible(
        &two_each(),
        &constrained(&["b>2"]),
        &["a==2"],
        "Because `a` 2 needs `b` >=1 (constrained to >2), but there is no such version and the \
         project needs `a` ==2, the requirements cannot be met.",
    );
}

#[test]
fn a_constraint_lets_through_what_it_names() {
    let yanked = Release { yanked: true, ..PLAIN };
    let universe =
        Universe::default().add("a", "1", &[]).add("a", "2rc1", &[]).release("a", "3", &[], yanked);
    let constrained = |texts: &[&str]| Policy { constraints: parsed(texts), ..Policy::default() };
    check(&universe, &constrained(&[]), &["a"], "a 1");
    check(&universe, &constrained(&["a>=2rc1"]), &["a"], "a 2rc1");
    check(&universe, &constrained(&["a==3"]), &["a"], "a 3");
}

#[test]
fn overrides_stand_for_what_anybody_says() {
    let overridden = |texts: &[&str]| Policy { overrides: parsed(texts), ..Policy::default() };
    let universe = two_each().add("d", "1", &["b<2", "c"]);
    check(&universe, &overridden(&["b==2"]), &["d"], "b 2, c 1, d 1");
    check(&universe, &overridden(&["b==1"]), &["d", "b>1"], "b 1, c 1, d 1");
    // One whose marker does not hold takes the requirement away.
    let gone = overridden(&["c; sys_platform == 'win32'"]);
    check(&universe, &gone, &["d"], "b 1, d 1");
    // What nobody needs is not added.
    check(&universe, &overridden(&["a==1"]), &["c"], "c 1");
}

#[test]
fn the_oldest_versions_can_be_wanted_of_all_or_of_what_is_direct() {
    let ordered = |mode| Policy { mode, ..Policy::default() };
    check(&two_each(), &ordered(Mode::Lowest), &["a"], "a 1, b 1");
    check(&two_each(), &ordered(Mode::Lowest), &["a>1"], "a 2, b 1");
    check(&two_each(), &ordered(Mode::LowestDirect), &["a"], "a 1, b 2");
    let universe = two_each().add("a", "0.9rc1", &[]);
    check(&universe, &ordered(Mode::Lowest), &["a"], "a 1, b 1");
    // Where the oldest leads nowhere, the next is tried.
    let universe = two_each().add("a", "0", &["b>2"]);
    check(&universe, &ordered(Mode::Lowest), &["a"], "a 1, b 1");
}

#[test]
fn prereleases_can_be_allowed_refused_or_left_to_necessity() {
    let policy = |which| Policy { prerelease: Some(which), ..Policy::default() };
    let universe = Universe::default()
        .add("a", "1", &[])
        .add("a", "2rc1", &[])
        .add("b", "1a1", &[])
        .add("c", "1", &["a"]);
    check(&universe, &policy(Prerelease::Allow), &["c"], "a 2rc1, c 1");
    check(&universe, &policy(Prerelease::IfNecessary), &["b", "a>=1rc1"], "a 1, b 1a1");
    check(&universe, &policy(Prerelease::Disallow), &["a>=1rc1"], "a 1");
    impossible(
        &universe,
        &policy(Prerelease::Disallow),
        &["b"],
        "Because the project needs `b`, but `b` 1a1 is a pre-release, and nothing asks for one, \
         the requirements cannot be met.",
    );
}

#[test]
fn a_file_with_a_digest_that_is_wanted_comes_before_a_better_one() {
    let best = Release { tags: &["cp311-cp311-linux_x86_64"], ..PLAIN };
    let universe = Universe::default().release("a", "1", &[], best).add("a", "1", &[]);
    let wanted = |digest: &str| Policy {
        digests: [("a".parse().expect("a name"), [digest.to_owned()].into())].into(),
        ..Policy::default()
    };
    let file = |policy: &Policy| {
        let resolution = run_with(&universe, &["a"], &[], policy).expect("solvable");
        resolution.packages[0].artifact.file_name.clone()
    };
    assert_eq!(file(&Policy::default()), "a-1-cp311-cp311-linux_x86_64.whl");
    assert_eq!(file(&wanted(&super::digest("a-1-py3-none-any.whl"))), "a-1-py3-none-any.whl");
    // One that is refused later, by name, where there is no other.
    assert_eq!(file(&wanted("none")), "a-1-cp311-cp311-linux_x86_64.whl");
}

#[test]
fn source_archives_count_where_they_may_and_say_what_they_need() {
    let source = Release { is_source: true, ..PLAIN };
    let universe =
        Universe::default().release("a", "2", &["b"], source).add("a", "1", &[]).add("b", "1", &[]);
    let sources = Policy { sources: Names { all: true, ..Names::default() }, ..Policy::default() };
    check(&universe, &Policy::default(), &["a"], "a 1");
    check(&universe, &sources, &["a"], "a 2, b 1");
    let mut universe = universe;
    universe.dynamic.insert("a-2.tar.gz".to_owned());
    check(&universe, &sources, &["a"], "a 1");
    impossible(
        &universe,
        &sources,
        &["a>1"],
        "Because `a` 2 cannot be used: it is source that tells what it needs only when it is \
         built and the project needs `a` >1, the requirements cannot be met.",
    );
}

#[test]
fn a_wheel_named_by_its_address_stands_for_its_project() {
    let universe = two_each();
    let digest = super::digest("b-1-py3-none-any.whl");
    let at = |file: &str, digest: &str| {
        format!("b @ https://elsewhere.example.invalid/x/{file}#sha256={digest}")
    };
    let named = at("b-1-py3-none-any.whl", &digest);
    let found = run_with(&universe, &["a", &named], &[], &Policy::default()).expect("solvable");
    assert_eq!(versions(&found), "a 2, b 1");
    let artifact = &found.packages[1].artifact;
    assert_eq!(artifact.url, "https://elsewhere.example.invalid/x/b-1-py3-none-any.whl");
    assert_eq!(artifact.hashes.sha256.as_deref(), Some(&*digest));
    // Others may want it too, if they want what it is.
    impossible(
        &universe,
        &Policy::default(),
        &[&named, "b>1"],
        "Because the project needs `b` >1, but the newest version of it is 1, the requirements \
         cannot be met.",
    );
    let constrained = Policy { constraints: parsed(&[&named]), ..Policy::default() };
    check(&universe, &constrained, &["a"], "a 2, b 1");
    for (requirement, why) in [
        (at("b-1-py3-none-any.whl", "").replace("#sha256=", ""), "without a digest"),
        (at("c-1-py3-none-any.whl", &digest), "does not end in a wheel of it"),
        (at("b-1.tar.gz", &digest), "does not end in a wheel of it"),
        (
            format!("b @ https://me:hush@example.invalid/b-1-py3-none-any.whl#sha256={digest}"),
            "with a password",
        ),
    ] {
        let error = run_with(&universe, &[&requirement], &[], &Policy::default());
        let Err(ResolveError::Other(error)) = error else { panic!("{error:?}") };
        assert_eq!(error.code, "url-requirement");
        assert!(error.message.contains(why), "{}", error.message);
        assert!(!error.to_string().contains("hush"));
    }
    for damaged in [at("b-1-py3-none-any.whl", "00"), format!("{named}&md5=00")] {
        let error = run_with(&universe, &[&damaged], &[], &Policy::default());
        let Err(ResolveError::Other(error)) = error else { panic!("{error:?}") };
        assert_eq!(error.code, "unsupported-hash");
    }
}

#[test]
fn repairs_neither_tell_what_an_address_asks_with_nor_take_another_for_it() {
    let universe = two_each().add("c", "1", &[]).add("c", "2", &[]).add("b", "0.5", &["c<2"]);
    let repairs = |version: &str, other: &str| {
        let digest = super::digest(&format!("b-{version}-py3-none-any.whl"));
        let named =
            format!("b @ https://h.invalid/b-{version}-py3-none-any.whl?t=hush#sha256={digest}");
        let failed = run_with(&universe, &[&named, other], &[], &Policy::default());
        let Err(ResolveError::Conflict(conflict)) = failed else { panic!("{failed:?}") };
        assert!(!format!("{conflict:?}").contains("hush"), "{conflict:?}");
        conflict.repairs.into_iter().map(|it| it.description).collect::<Vec<_>>()
    };
    // The index has a `b` as well, which may be a stranger's.
    assert_eq!(repairs("1", "b>1"), ["change `b>1` to `b>=1`"]);
    let found = repairs("0.5", "c>1");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].starts_with("drop `b @ https://h.invalid/b-0.5-"), "{found:?}");
}

#[test]
fn an_address_that_a_package_names_is_not_followed_unless_the_project_names_it() {
    let digest = super::digest("b-1-py3-none-any.whl");
    let named = format!("b @ https://example.invalid/b-1-py3-none-any.whl#sha256={digest}");
    let universe = two_each().add("d", "1", &[&named]);
    impossible(
        &universe,
        &Policy::default(),
        &["d"],
        "Because `d` 1 cannot be used: it needs `b` from a URL, not from an index and the project \
         needs `d`, the requirements cannot be met.",
    );
    check(&universe, &Policy::default(), &["d", &named], "b 1, d 1");
}
