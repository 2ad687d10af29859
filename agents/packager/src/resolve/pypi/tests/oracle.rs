//! The solver against brute force on universes small enough for it: whatever it answers satisfies every rule, and where it says
//! that there is no answer there is none. The rules are stated here a second time, version by version.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::policy::Policy;
use super::{PLAIN, Release, Requirement, Universe, run_with};
use crate::options::Prerelease;
use crate::resolve::ResolveError;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SPECIFIERS: [&str; 9] = ["", ">=2", "<2", "==1", "==3", "!=2", ">=2,<3", ">=2rc1", "<3.dev0"];
const MARKERS: [&str; 3] = ["", "sys_platform == 'linux'", "sys_platform == 'win32'"];

/// Whether a version, or the release candidate before it, is what a specifier means.
fn matches(specifier: usize, version: u32, is_candidate: bool) -> bool {
    match (specifier, is_candidate) {
        (0, _) => true,
        (1, false) => version >= 2,
        // 3rc1 is above 2, and 2rc1 is below it.
        (1, true) => version >= 3,
        // 2rc1 is below 2, and still nothing that `<2` means.
        (2, _) => version < 2,
        (3, false) => version == 1,
        (4, false) => version == 3,
        (3 | 4, true) => false,
        (5, false) => version != 2,
        (5, true) => true,
        (6, false) => version == 2,
        (6, true) => false,
        (7, _) => version >= 2,
        // 3.dev0 is before 3rc1.
        _ => version < 3,
    }
}

fn pins(specifier: usize, version: u32, is_candidate: bool) -> bool {
    matches!(specifier, 3 | 4) && matches(specifier, version, is_candidate)
}

/// An upper bound does not ask for pre-releases.
fn asks_for_candidates(specifier: usize) -> bool {
    specifier == 7
}

/// What one version needs.
#[derive(Clone, Debug)]
struct Need {
    name: usize,
    specifier: usize,
    with_extra: bool,
    /// Whether only the extra `x` of the needing package needs it.
    only_extra: bool,
    marker: usize,
}

impl Need {
    fn applies(&self) -> bool {
        self.marker != 2
    }

    fn text(&self) -> String {
        let extra = if self.with_extra { "[x]" } else { "" };
        let only = if self.only_extra { "extra == 'x'" } else { "" };
        let markers: Vec<_> =
            [MARKERS[self.marker], only].into_iter().filter(|text| !text.is_empty()).collect();
        let marker = match markers.is_empty() {
            true => String::new(),
            false => format!("; {}", markers.join(" and ")),
        };
        format!("{}{extra}{}{marker}", NAMES[self.name], SPECIFIERS[self.specifier])
    }

    fn parsed(&self) -> Requirement {
        self.text().parse().expect("a requirement")
    }
}

fn need() -> impl Strategy<Value = Need> {
    let marker = prop_oneof![6 => Just(0_usize), 1 => Just(1), 1 => Just(2)];
    let extra = (any::<bool>(), proptest::bool::weighted(0.3));
    (0..NAMES.len(), 0..SPECIFIERS.len(), extra, marker).prop_map(
        |(name, specifier, (with_extra, only_extra), marker)| Need {
            name,
            specifier,
            with_extra,
            only_extra,
            marker,
        },
    )
}

/// One version: 1, 2 or 3 by its place in the list, or the candidate before it.
#[derive(Clone, Debug)]
struct Released {
    needs: Vec<Need>,
    is_usable: bool,
    is_candidate: bool,
    is_yanked: bool,
}

impl Released {
    fn text(&self, number: usize) -> String {
        format!("{}{}", number + 1, if self.is_candidate { "rc1" } else { "" })
    }
}

/// For each package up to three versions.
type World = Vec<Vec<Released>>;

fn world() -> impl Strategy<Value = World> {
    let flags = (
        proptest::bool::weighted(0.9),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.15),
    );
    let version = (prop::collection::vec(need(), 0..3), flags).prop_map(
        |(needs, (is_usable, is_candidate, is_yanked))| Released {
            needs,
            is_usable,
            is_candidate,
            is_yanked,
        },
    );
    prop::collection::vec(prop::collection::vec(version, 0..4), NAMES.len())
}

fn universe(world: &World) -> Universe {
    let mut universe = Universe::default();
    for (name, versions) in world.iter().enumerate() {
        for (number, version) in versions.iter().enumerate() {
            let needs: Vec<_> = version.needs.iter().map(Need::text).collect();
            let needs: Vec<_> = needs.iter().map(String::as_str).collect();
            let release = Release {
                is_source: !version.is_usable,
                yanked: version.is_yanked,
                extras: &["x"],
                ..PLAIN
            };
            universe = universe.release(NAMES[name], &version.text(number), &needs, release);
        }
    }
    universe
}

/// The question, as brute force sees it.
struct Question<'a> {
    world: &'a World,
    roots: &'a [Need],
    constraints: &'a [Need],
    overrides: &'a [Need],
    prerelease: Option<Prerelease>,
}

impl Question<'_> {
    /// What a person said about a package beside one requirement.
    fn said(&self, name: usize) -> impl Iterator<Item = usize> + '_ {
        let constraints = self.constraints.iter().filter(|need| need.applies());
        let overrides = self.overrides.iter().filter(|need| need.applies());
        // A root counts even where its marker does not hold: it is still what a person wrote.
        let said = self.roots.iter().chain(constraints).chain(overrides);
        said.filter(move |need| need.name == name).map(|need| need.specifier)
    }

    /// Whether a requirement admits a version of its package, given what constrains the package.
    fn admits(&self, need: &Need, number: usize) -> bool {
        let constraints = self.constraints.iter().filter(|it| it.applies() && it.name == need.name);
        let specifiers: Vec<usize> =
            constraints.map(|it| it.specifier).chain([need.specifier]).collect();
        let versions = &self.world[need.name];
        let version = |number: usize| number as u32 + 1;
        let is_match = |number: usize| {
            let is_candidate = versions[number].is_candidate;
            let all = specifiers.iter().all(|it| matches(*it, version(number), is_candidate));
            let is_pinned = specifiers
                .iter()
                .copied()
                .chain(self.said(need.name))
                .any(|it| pins(it, version(number), is_candidate));
            all && (!versions[number].is_yanked || is_pinned)
        };
        let has_final = (0..versions.len()).any(|number| {
            let released = &versions[number];
            is_match(number) && !released.is_candidate && !released.is_yanked && released.is_usable
        });
        let is_asked_for =
            specifiers.iter().copied().chain(self.said(need.name)).any(asks_for_candidates);
        let takes_candidates = match self.prerelease {
            None => is_asked_for || !has_final,
            Some(Prerelease::IfNecessary) => !has_final,
            Some(Prerelease::Allow) => true,
            Some(Prerelease::Disallow) => false,
        };
        // A yanked candidate counts as yanked.
        let is_candidate = versions[number].is_candidate && !versions[number].is_yanked;
        is_match(number) && (takes_candidates || !is_candidate)
    }

    /// What stands for a requirement.
    fn in_place_of<'n>(&'n self, need: &'n Need) -> Vec<&'n Need> {
        let of_name: Vec<&Need> = self.overrides.iter().filter(|it| it.name == need.name).collect();
        match of_name.is_empty() {
            true => vec![need],
            false => of_name.into_iter().filter(|it| it.applies()).collect(),
        }
    }

    /// Whether an assignment (0: not chosen) satisfies every rule; what it needs of it.
    fn holds(&self, assignment: &[usize]) -> Option<BTreeSet<usize>> {
        let mut reached = BTreeSet::new();
        let mut names = BTreeSet::new();
        let direct = self.roots.iter().filter(|need| need.applies());
        let mut queue: Vec<&Need> = direct.flat_map(|need| self.in_place_of(need)).collect();
        while let Some(need) = queue.pop() {
            let number = assignment[need.name].checked_sub(1)?;
            let version = &self.world[need.name][number];
            if !version.is_usable || !self.admits(need, number) {
                return None;
            }
            names.insert(need.name);
            for with_extra in [false, true] {
                if (with_extra && !need.with_extra) || !reached.insert((need.name, with_extra)) {
                    continue;
                }
                let needs = version.needs.iter();
                let needs = needs.filter(|it| it.only_extra == with_extra && it.applies());
                queue.extend(needs.flat_map(|it| self.in_place_of(it)));
            }
        }
        Some(names)
    }

    fn has_solution(&self) -> bool {
        let counts: Vec<usize> = self.world.iter().map(|versions| versions.len() + 1).collect();
        (0..counts.iter().product()).any(|mut number| {
            let digit = |count: &usize| {
                let version = number % count;
                number /= count;
                version
            };
            let assignment: Vec<usize> = counts.iter().map(digit).collect();
            self.holds(&assignment).is_some()
        })
    }
}

fn prerelease() -> impl Strategy<Value = Option<Prerelease>> {
    prop_oneof![
        5 => Just(None),
        1 => Just(Some(Prerelease::Allow)),
        1 => Just(Some(Prerelease::Disallow)),
        1 => Just(Some(Prerelease::IfNecessary)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn solver_and_brute_force_agree(
        world in world(),
        roots in prop::collection::vec(need(), 1..3),
        constraints in prop::collection::vec(need(), 0..2),
        overrides in prop::collection::vec(need(), 0..2),
        prerelease in prerelease(),
    ) {
        // These belong to no package, so no extra can be theirs.
        let plain = |needs: Vec<Need>| -> Vec<Need> {
            needs.into_iter().map(|need| Need { only_extra: false, ..need }).collect()
        };
        let (roots, constraints) = (plain(roots), plain(constraints));
        let overrides = plain(overrides);
        let universe = universe(&world);
        let policy = Policy {
            constraints: constraints.iter().map(Need::parsed).collect(),
            overrides: overrides.iter().map(Need::parsed).collect(),
            prerelease,
            ..Policy::default()
        };
        let texts: Vec<_> = roots.iter().map(Need::text).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let outcome = run_with(&universe, &texts, &[], &policy);
        let question = Question {
            world: &world,
            roots: &roots,
            constraints: &constraints,
            overrides: &overrides,
            prerelease,
        };
        match &outcome {
            Ok(resolution) => {
                let mut assignment = vec![0; NAMES.len()];
                let mut chosen = BTreeMap::new();
                for package in &resolution.packages {
                    let name = NAMES.iter().position(|name| *name == package.name).expect("known");
                    let number = world[name].iter().enumerate().position(|(number, version)| {
                        version.text(number) == package.version
                    });
                    assignment[name] = number.expect("known") + 1;
                    chosen.insert(name, package.version.clone());
                }
                let needed = question.holds(&assignment);
                prop_assert_eq!(needed, Some(chosen.keys().copied().collect()), "{:?}", chosen);
            }
            Err(ResolveError::Conflict(conflict)) => {
                prop_assert!(!question.has_solution(), "{}", conflict.explanation);
                prop_assert!(conflict.explanation.ends_with("the requirements cannot be met."));
            }
            Err(ResolveError::Other(error)) => {
                // A direct requirement on a package without any version.
                prop_assert_eq!(&error.code, "unknown-package");
                prop_assert!(!question.has_solution());
            }
        }
        // The same question has the same answer.
        prop_assert_eq!(run_with(&universe, &texts, &[], &policy), outcome);
    }
}
