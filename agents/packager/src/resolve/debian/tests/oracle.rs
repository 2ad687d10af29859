//! The solver against brute force on machines small enough for it: every answer leaves nothing broken, and every "impossible" is.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Machine, Wish};
use crate::resolve::ResolveError;
use crate::resolve::debian::{Request, Resolved, resolve};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Names that are provided and belong to no package.
const VIRTUAL: &str = "v";

/// A relation: a name, and the version that it asks for exactly.
#[derive(Clone, Debug)]
struct Want {
    name: &'static str,
    version: Option<u8>,
}

/// One version of a package.
#[derive(Clone, Debug)]
struct Release {
    /// Groups of alternatives.
    needs: Vec<Vec<Want>>,
    excludes: Vec<Want>,
    provides: bool,
}

/// What there is of one name: an installed version 1 and a listed version 2, whether it is held.
#[derive(Clone, Debug)]
struct Family {
    installed: Option<Release>,
    listed: Option<Release>,
    is_held: bool,
}

type World = Vec<Family>;

/// Of each name: away, the installed or the listed version.
type State = Vec<Option<u8>>;

fn want() -> impl Strategy<Value = Want> {
    let names = prop::sample::select(&["a", "b", "c", "d", VIRTUAL][..]);
    (names, prop::option::weighted(0.4, 1..3u8)).prop_map(|(name, version)| Want { name, version })
}

fn release() -> impl Strategy<Value = Release> {
    let needs = prop::collection::vec(prop::collection::vec(want(), 1..3), 0..3);
    let excludes = prop::collection::vec(want(), 0..2);
    (needs, excludes, prop::bool::weighted(0.3)).prop_map(|(needs, excludes, provides)| Release {
        needs,
        excludes,
        provides,
    })
}

fn world() -> impl Strategy<Value = World> {
    let family = (
        prop::option::weighted(0.5, release()),
        prop::option::weighted(0.7, release()),
        prop::bool::weighted(0.15),
    );
    let family =
        family.prop_map(|(installed, listed, is_held)| Family { installed, listed, is_held });
    prop::collection::vec(family, NAMES.len())
}

fn text(want: &Want) -> String {
    match want.version {
        Some(version) => format!("{} (= {version})", want.name),
        None => want.name.to_owned(),
    }
}

fn fields(release: &Release) -> String {
    let group = |group: &Vec<Want>| group.iter().map(text).collect::<Vec<_>>().join(" | ");
    let needs = release.needs.iter().map(group).collect::<Vec<_>>().join(", ");
    let excludes = release.excludes.iter().map(text).collect::<Vec<_>>().join(", ");
    let provides = if release.provides { "; Provides: v" } else { "" };
    format!("Depends: {needs}; Conflicts: {excludes}{provides}")
}

fn machine(world: &World) -> Machine {
    let mut machine = Machine::default();
    for (name, family) in NAMES.iter().zip(world) {
        if let Some(release) = &family.installed {
            let want = if family.is_held { "hold" } else { "install" };
            machine = machine.has_as(want, name, "1", &fields(release));
        }
        if let Some(release) = &family.listed {
            machine = machine.lists(name, "2", &fields(release));
        }
    }
    machine
}

struct Oracle<'a>(&'a World);

impl Oracle<'_> {
    fn release(&self, name: usize, version: u8) -> &Release {
        let family = &self.0[name];
        let found = if version == 1 { &family.installed } else { &family.listed };
        found.as_ref().expect("only versions that there are")
    }

    fn before(&self) -> State {
        self.0.iter().map(|family| family.installed.as_ref().map(|_| 1)).collect()
    }

    /// Whether a version of a package is what a relation means.
    fn is_meant(&self, want: &Want, name: usize, version: u8) -> bool {
        if want.name == NAMES[name] {
            return want.version.is_none_or(|wanted| wanted == version);
        }
        want.name == VIRTUAL && want.version.is_none() && self.release(name, version).provides
    }

    fn is_met(&self, group: &[Want], state: &State) -> bool {
        state.iter().enumerate().any(|(name, version)| {
            version
                .is_some_and(|version| group.iter().any(|want| self.is_meant(want, name, version)))
        })
    }

    /// Whether nothing is broken that was whole before.
    fn holds(&self, state: &State) -> bool {
        let before = self.before();
        for (name, version) in state.iter().enumerate() {
            let family = &self.0[name];
            if family.is_held && family.installed.is_some() && *version != Some(1) {
                return false;
            }
            let Some(version) = *version else { continue };
            let release = self.release(name, version);
            let is_change = before[name] != Some(version);
            for group in &release.needs {
                let is_excused = !is_change && !self.is_met(group, &before);
                if !is_excused && !self.is_met(group, state) {
                    return false;
                }
            }
            for (other, there) in state.iter().enumerate().filter(|(other, _)| *other != name) {
                let Some(there) = *there else { continue };
                let was_beside = !is_change && before[other] == Some(there);
                let is_excluded =
                    release.excludes.iter().any(|want| self.is_meant(want, other, there));
                if is_excluded && !was_beside {
                    return false;
                }
            }
        }
        true
    }

    fn has_solution(&self, wishes: &[(usize, bool)]) -> bool {
        let options: Vec<Vec<Option<u8>>> = self
            .0
            .iter()
            .map(|family| {
                let installed = family.installed.as_ref().map(|_| Some(1));
                let listed = family.listed.as_ref().map(|_| Some(2));
                [Some(None), installed, listed].into_iter().flatten().collect()
            })
            .collect();
        let count: usize = options.iter().map(Vec::len).product();
        (0..count).any(|mut number| {
            let state: State = options
                .iter()
                .map(|options| {
                    let chosen = options[number % options.len()];
                    number /= options.len();
                    chosen
                })
                .collect();
            let is_wished =
                wishes.iter().all(|(name, is_removal)| state[*name].is_none() == *is_removal);
            is_wished && self.holds(&state)
        })
    }
}

fn after(before: &State, resolved: &Resolved) -> State {
    let mut state = before.clone();
    let position = |name: &str| NAMES.iter().position(|known| *known == name).expect("known");
    for package in &resolved.resolution.packages {
        state[position(&package.name)] = Some(package.version.parse().expect("a number"));
    }
    for name in &resolved.removed {
        state[position(name)] = None;
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]
    #[test]
    fn solver_and_brute_force_agree(
        world in world(),
        wishes in prop::collection::btree_map(0..NAMES.len(), prop::bool::weighted(0.25), 1..3),
    ) {
        let is_possible = |(name, is_removal): (&usize, &bool)| match is_removal {
            true => world[*name].installed.is_some(),
            false => world[*name].installed.is_some() || world[*name].listed.is_some(),
        };
        prop_assume!(wishes.iter().all(is_possible));
        let wishes: BTreeMap<usize, bool> = wishes;
        let asked: Vec<Wish> = wishes
            .iter()
            .map(|(name, is_removal)| {
                Wish { name: NAMES[*name].to_owned(), bound: None, is_removal: *is_removal }
            })
            .collect();
        let lists = machine(&world).read();
        let outcome = resolve(&Request { wishes: &asked, keep_on: &|| Ok(()) }, &lists);
        let oracle = Oracle(&world);
        let wishes: Vec<(usize, bool)> = wishes.into_iter().collect();
        match &outcome {
            Ok(resolved) => {
                let state = after(&oracle.before(), resolved);
                prop_assert!(oracle.holds(&state), "{state:?}");
                for (name, is_removal) in &wishes {
                    prop_assert_eq!(state[*name].is_none(), *is_removal);
                }
            }
            Err(ResolveError::Conflict(conflict)) => {
                prop_assert!(!oracle.has_solution(&wishes), "{}", conflict.explanation);
            }
            Err(ResolveError::Other(error)) => prop_assert!(false, "{error}"),
        }
    }
}
