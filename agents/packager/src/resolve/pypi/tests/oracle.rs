//! The solver against brute force on universes small enough for it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{PLAIN, Release, Universe, run};
use crate::resolve::ResolveError;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SPECIFIERS: [&str; 7] = ["", ">=2", "<2", "==1", "==3", "!=2", ">=2,<3"];

fn matches(specifier: usize, version: u32) -> bool {
    match specifier {
        0 => true,
        1 => version >= 2,
        2 => version < 2,
        3 => version == 1,
        4 => version == 3,
        5 => version != 2,
        _ => version == 2,
    }
}

/// What one version needs: a package, a specifier, whether with its extra `x`.
#[derive(Clone, Debug)]
struct Need {
    name: usize,
    specifier: usize,
    with_extra: bool,
    /// Whether only the extra `x` of the needing package needs it.
    only_extra: bool,
}

fn need() -> impl Strategy<Value = Need> {
    (0..NAMES.len(), 0..SPECIFIERS.len(), any::<bool>(), proptest::bool::weighted(0.3)).prop_map(
        |(name, specifier, with_extra, only_extra)| Need {
            name,
            specifier,
            with_extra,
            only_extra,
        },
    )
}

/// For each package up to three versions (1, 2, 3), each with what it needs and whether it is usable.
type World = Vec<Vec<(Vec<Need>, bool)>>;

fn world() -> impl Strategy<Value = World> {
    let version = (prop::collection::vec(need(), 0..3), proptest::bool::weighted(0.9));
    prop::collection::vec(prop::collection::vec(version, 0..4), NAMES.len())
}

fn universe(world: &World) -> Universe {
    let mut universe = Universe::default();
    for (name, versions) in world.iter().enumerate() {
        for (position, (needs, is_usable)) in versions.iter().enumerate() {
            let needs: Vec<_> = needs.iter().map(text).collect();
            let needs: Vec<_> = needs.iter().map(String::as_str).collect();
            let release = Release { is_source: !is_usable, extras: &["x"], ..PLAIN };
            let version = (position + 1).to_string();
            universe = universe.release(NAMES[name], &version, &needs, release);
        }
    }
    universe
}

fn text(need: &Need) -> String {
    let extra = if need.with_extra { "[x]" } else { "" };
    let marker = if need.only_extra { "; extra == 'x'" } else { "" };
    format!("{}{extra}{}{marker}", NAMES[need.name], SPECIFIERS[need.specifier])
}

/// Whether an assignment (0 for absent) meets everything that is reached from the roots.
fn holds(world: &World, roots: &[Need], assignment: &[u32]) -> bool {
    let mut reached: BTreeMap<(usize, bool), ()> = BTreeMap::new();
    let mut queue: Vec<&Need> = roots.iter().collect();
    while let Some(need) = queue.pop() {
        let version = assignment[need.name];
        if version == 0 || !matches(need.specifier, version) {
            return false;
        }
        let (needs, is_usable) = &world[need.name][version as usize - 1];
        if !is_usable {
            return false;
        }
        for with_extra in [false, true] {
            if with_extra && !need.with_extra {
                continue;
            }
            if reached.insert((need.name, with_extra), ()).is_none() {
                queue.extend(needs.iter().filter(|need| need.only_extra == with_extra));
            }
        }
    }
    true
}

fn has_solution(world: &World, roots: &[Need]) -> bool {
    let counts: Vec<u32> = world.iter().map(|versions| versions.len() as u32 + 1).collect();
    let all: u32 = counts.iter().product();
    (0..all).any(|mut number| {
        let assignment: Vec<u32> = counts
            .iter()
            .map(|count| {
                let version = number % count;
                number /= count;
                version
            })
            .collect();
        holds(world, roots, &assignment)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn solver_and_brute_force_agree(world in world(), roots in prop::collection::vec(need(), 1..3)) {
        let roots: Vec<_> =
            roots.into_iter().map(|need| Need { only_extra: false, ..need }).collect();
        let texts: Vec<_> = roots.iter().map(text).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let universe = universe(&world);
        let outcome = run(&universe, &texts, &[]);
        let expected = has_solution(&world, &roots);
        match &outcome {
            Ok(resolution) => {
                let mut assignment = vec![0; NAMES.len()];
                for package in &resolution.packages {
                    let name = NAMES.iter().position(|name| *name == package.name).expect("known");
                    assignment[name] = package.version.parse().expect("a number");
                }
                prop_assert!(holds(&world, &roots, &assignment), "{:?}", resolution.packages);
            }
            Err(ResolveError::Conflict(conflict)) => {
                prop_assert!(!expected, "{}", conflict.explanation);
                prop_assert!(conflict.explanation.ends_with("the requirements cannot be met."));
            }
            Err(ResolveError::Other(error)) => {
                // A direct requirement on a package without any version.
                prop_assert_eq!(&error.code, "unknown-package");
                prop_assert!(!expected);
            }
        }
        // The same question has the same answer.
        prop_assert_eq!(run(&universe, &texts, &[]), outcome);
    }
}
