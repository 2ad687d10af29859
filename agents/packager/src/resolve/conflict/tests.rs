//! Texts of proofs built by hand, and proofs too deep for recursion.

use std::sync::Arc;

use pubgrub::{DerivationTree, Derived, External, Map, Term, VersionSet};

use super::{Vocabulary, explain};
use crate::limits::EXPLANATION_LINES_MAX;
use crate::resolve::indexed::{Id, Set, Tree};

/// Package 0 is the project, the others are `p1`, `p2`, ...; every package has the versions 0 to 9.
struct Plain;

impl Vocabulary for Plain {
    fn name(&self, id: Id) -> String {
        if id.0 == 0 { "the project".to_owned() } else { format!("`p{}`", id.0) }
    }
    fn is_project(&self, id: Id) -> bool {
        id.0 == 0
    }
    fn base(&self, id: Id) -> Option<Id> {
        // Packages from 100 on are extras of those below.
        id.0.checked_sub(100).map(Id)
    }
    fn versions(&self, _: Id, set: &Set) -> Option<String> {
        let versions: Vec<_> =
            (0..10).map(|at| (at.to_string(), set.contains(&(at as u32)))).collect();
        crate::resolve::indexed::describe(&versions)
    }
    fn requirement(&self, _: Id, _: &Set, to: Id, wanted: &Set) -> String {
        self.versions(to, wanted).unwrap_or_default()
    }
    fn why_nothing(&self, _: Id, _: &Set, _: Id) -> Option<String> {
        Some("the newest version of it is 9".to_owned())
    }
    fn why_unusable(&self, id: Id, set: &Set) -> Option<String> {
        (set.size(10) > 0).then(|| format!("`p{}` needs another Python", id.0))
    }
}

fn set(first: usize, end: usize) -> Set {
    Set::of_runs([(first, end)])
}

fn needs(from: u32, versions: Set, to: u32, wanted: Set) -> Arc<Tree> {
    Arc::new(DerivationTree::External(External::FromDependencyOf(
        Id(from),
        versions,
        Id(to),
        wanted,
    )))
}

fn derived(terms: &[(u32, Term<Set>)], causes: [Arc<Tree>; 2]) -> Tree {
    let mut map: Map<Id, Term<Set>> = Map::default();
    map.extend(terms.iter().map(|(id, term)| (Id(*id), term.clone())));
    let [cause1, cause2] = causes;
    DerivationTree::Derived(Derived { terms: map, shared_id: None, cause1, cause2 })
}

#[track_caller]
fn check(tree: Tree, expected: &str) {
    assert_eq!(explain(tree, &Plain).text, expected);
}

#[test]
fn two_requirements_that_exclude_each_other() {
    let project = needs(0, Set::singleton(0), 1, set(5, 10));
    let other = needs(2, set(0, 10), 1, set(0, 5));
    let root = needs(0, Set::singleton(0), 2, set(0, 10));
    let inner = derived(
        &[(0, Term::Positive(Set::singleton(0))), (2, Term::Positive(set(0, 10)))],
        [project, other],
    );
    check(
        derived(&[(0, Term::Positive(Set::singleton(0)))], [Arc::new(inner), root]),
        "Because the project needs `p1` >=5 and every version of `p2` needs `p1` <=4, \
         every version of `p2` cannot be used.\n\
         And because the project needs `p2`, the requirements cannot be met.",
    );
}

#[test]
fn a_requirement_that_nothing_meets_is_one_sentence() {
    check(
        derived(
            &[(0, Term::Positive(Set::singleton(0)))],
            [
                Arc::new(DerivationTree::External(External::NotRoot(Id(0), 0))),
                needs(0, Set::singleton(0), 1, Set::empty()),
            ],
        ),
        "Because the project needs `p1` (no version), but the newest version of it is 9, \
         the requirements cannot be met.",
    );
}

#[test]
fn what_an_extra_is_goes_without_saying() {
    let extra = needs(101, Set::singleton(3), 1, Set::singleton(3));
    let root = needs(0, Set::singleton(0), 101, Set::singleton(3));
    let inner = derived(
        &[(0, Term::Positive(Set::singleton(0))), (1, Term::Negative(Set::singleton(3)))],
        [extra, root],
    );
    let reason =
        DerivationTree::External(External::Custom(Id(1), Set::singleton(3), "it is broken".into()));
    check(
        derived(&[(0, Term::Positive(Set::singleton(0)))], [Arc::new(inner), Arc::new(reason)]),
        "Because the project needs `p101` 3 and `p1` 3 cannot be used: it is broken, \
         the requirements cannot be met.",
    );
}

#[test]
fn versions_that_fail_one_by_one_are_summed_up() {
    let broken = |at: u32| {
        let reason = format!("version {at} is broken").into();
        Arc::new(DerivationTree::External(External::Custom(Id(1), Set::singleton(at), reason)))
    };
    let mut tree = broken(9);
    for at in (0..9).rev() {
        let terms = [(1, Term::Positive(set(at as usize, 10)))];
        tree = Arc::new(derived(&terms, [tree, broken(at)]));
    }
    let root = needs(0, Set::singleton(0), 1, set(0, 10));
    check(
        derived(&[(0, Term::Positive(Set::singleton(0)))], [tree, root]),
        "Because every version of `p1` cannot be used (`p1` 9 cannot be used: version 9 is broken; \
         `p1` 8 cannot be used: version 8 is broken; `p1` 7 cannot be used: version 7 is broken) and \
         the project needs `p1`, the requirements cannot be met.",
    );
}

#[test]
fn a_step_used_twice_is_told_once_and_referred_to_by_number() {
    let shared = Arc::new(derived(
        &[(1, Term::Positive(set(0, 5))), (3, Term::Positive(set(0, 5)))],
        [needs(1, set(0, 5), 2, set(0, 5)), needs(3, set(0, 5), 2, set(5, 10))],
    ));
    let left = derived(
        &[(0, Term::Positive(Set::singleton(0))), (1, Term::Positive(set(0, 5)))],
        [Arc::clone(&shared), needs(0, Set::singleton(0), 3, set(0, 5))],
    );
    let right = derived(
        &[(0, Term::Positive(Set::singleton(0))), (3, Term::Positive(set(0, 5)))],
        [shared, needs(0, Set::singleton(0), 1, set(0, 5))],
    );
    let text = explain(
        derived(&[(0, Term::Positive(Set::singleton(0)))], [Arc::new(left), Arc::new(right)]),
        &Plain,
    )
    .text;
    assert_eq!(text.matches("`p1` <=4 excludes `p3` <=4. (1)").count(), 1, "{text}");
    assert!(text.contains("`p1` <=4 excludes `p3` <=4 (1)"), "{text}");
}

/// A proof of 100,000 steps on a stack that holds a few hundred frames.
#[test]
fn a_proof_may_be_deeper_than_the_stack() {
    let work = || {
        let mut tree = needs(0, Set::singleton(0), 1, set(0, 5));
        for step in 1..100_000u32 {
            let terms = [(step % 50 + 1, Term::Positive(set(0, 5)))];
            let fact = needs(step % 50 + 1, set(0, 5), step % 50 + 2, set(5, 10));
            tree = Arc::new(derived(&terms, [tree, fact]));
        }
        let root = needs(0, Set::singleton(0), 2, set(0, 10));
        let tree = derived(&[(0, Term::Positive(Set::singleton(0)))], [tree, root]);
        let text = explain(tree, &Plain).text;
        assert_eq!(text.lines().count(), EXPLANATION_LINES_MAX + 1);
        assert!(text.contains("more steps)"), "{text}");
        assert!(text.ends_with("the requirements cannot be met."), "{text}");
    };
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(work);
    thread.expect("a thread starts").join().expect("the stack is enough");
}
