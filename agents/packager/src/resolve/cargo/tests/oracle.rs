//! The solver against brute force on registries small enough for it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use semver::VersionReq;

use super::{Root, Universe, root, run_all};
use crate::resolve::ResolveError;

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Two versions in one range of compatible ones and one in another.
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
const REQUIREMENTS: [&str; 6] = ["1", "=1.0.0", "1.1", "2", ">=1", "3"];

#[derive(Clone, Debug)]
struct Need {
    name: usize,
    requirement: usize,
    with_feature: bool,
    /// Whether only the feature `f` of the needing version switches it on.
    is_optional: bool,
    /// How that feature mentions it.
    mention: Mention,
    /// Whether it is for another target only; a lock is for all of them.
    is_for_target: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mention {
    /// `dep:n0`, where it is optional.
    Plain,
    /// `n0/f`.
    Feature,
    /// `n0?/f`, which for a lock is the same.
    Weak,
}

#[derive(Clone, Debug)]
struct Release {
    needs: Vec<Need>,
    has_feature: bool,
    /// Which of two native libraries it links.
    links: Option<usize>,
    is_yanked: bool,
}

/// For each crate and version a release, if there is one.
type World = Vec<Vec<Option<Release>>>;

fn need() -> impl Strategy<Value = Need> {
    let mention = prop::sample::select(
        &[Mention::Plain, Mention::Plain, Mention::Feature, Mention::Weak][..],
    );
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (0..NAMES.len(), 0..REQUIREMENTS.len(), mention, flags).prop_map(
        |(name, requirement, mention, (with_feature, is_optional, is_for_target))| Need {
            name,
            requirement,
            with_feature,
            is_optional,
            mention,
            is_for_target,
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    use proptest::bool::weighted;
    let links = prop::option::weighted(0.25, 0..2usize);
    let release = (prop::collection::vec(need(), 0..3), weighted(0.7), links, weighted(0.1));
    let release = release.prop_map(|(needs, has_feature, links, is_yanked)| Release {
        needs,
        has_feature,
        links,
        is_yanked,
    });
    let versions = prop::collection::vec(prop::option::weighted(0.8, release), VERSIONS.len());
    prop::collection::vec(versions, NAMES.len())
}

/// The name by which the needing version calls a dependency: each is its own.
fn text(position: usize, need: &Need) -> String {
    let feature = if need.with_feature { " +f" } else { "" };
    let optional = if need.is_optional { " ?" } else { "" };
    let (name, requirement) = (NAMES[need.name], REQUIREMENTS[need.requirement]);
    format!("n{position}={name} {requirement}{feature}{optional}")
}

fn texts(needs: &[Need]) -> Vec<String> {
    needs.iter().enumerate().map(|(position, need)| text(position, need)).collect()
}

fn universe(world: &World) -> Universe {
    let mut universe = Universe::default();
    for (name, versions) in world.iter().enumerate() {
        universe.crates.entry(NAMES[name].to_owned()).or_default();
        for (version, release) in versions.iter().enumerate() {
            let Some(release) = release else { continue };
            let needs = texts(&release.needs);
            let needs: Vec<_> = needs.iter().map(String::as_str).collect();
            let listed: Vec<_> = release
                .needs
                .iter()
                .enumerate()
                .filter_map(|(position, need)| match need.mention {
                    Mention::Plain => need.is_optional.then(|| format!("dep:n{position}")),
                    Mention::Feature => Some(format!("n{position}/f")),
                    Mention::Weak if need.is_optional => Some(format!("n{position}?/f")),
                    Mention::Weak => None,
                })
                .collect();
            let listed: Vec<_> = listed.iter().map(String::as_str).collect();
            let features: &[(&str, &[&str])] =
                if release.has_feature { &[("f", &listed)] } else { &[] };
            universe = universe.with(NAMES[name], VERSIONS[version], &needs, features, |it| {
                it.yanked = release.is_yanked;
                it.links = release.links.map(|links| ["y", "z"][links].to_owned());
                for (need, dependency) in release.needs.iter().zip(&mut it.dependencies) {
                    dependency.target = need.is_for_target.then(|| "cfg(windows)".to_owned());
                }
            });
        }
    }
    universe
}

/// Up to one version in each of the two ranges of each crate.
type Assignment = Vec<[Option<usize>; 2]>;

struct Oracle<'a> {
    world: &'a World,
    requirements: Vec<VersionReq>,
}

/// A crate in a range, or the root.
type Asker = Option<(usize, usize)>;

/// What was reached so far: versions with whether their feature is on, and where requirements that span both ranges
/// of a crate are met, by who asks.
#[derive(Clone, Default)]
struct Reached {
    features: BTreeMap<(usize, usize), bool>,
    /// Keyed by the asking crate and range (`None` for the root), the crate and the requirement.
    choices: BTreeMap<(Asker, usize, usize), usize>,
}

impl Oracle<'_> {
    fn holds(&self, roots: &[Need], assignment: &Assignment) -> bool {
        let queue: Vec<_> = roots.iter().map(|need| (None, need.clone())).collect();
        self.walk(queue, Reached::default(), assignment)
    }

    fn walk(
        &self,
        mut queue: Vec<(Asker, Need)>,
        reached: Reached,
        assignment: &Assignment,
    ) -> bool {
        let Some((asker, need)) = queue.pop() else { return self.has_one_linker(&reached) };
        let fitting = assignment[need.name].iter().flatten().filter(|&&version| {
            let version = VERSIONS[version].parse().expect("a version");
            self.requirements[need.requirement].matches(&version)
        });
        fitting.into_iter().any(|&version| {
            let mut reached = reached.clone();
            let mut queue = queue.clone();
            let choice =
                reached.choices.entry((asker, need.name, need.requirement)).or_insert(version);
            *choice == version
                && self.enter(&need, version, &mut reached, &mut queue)
                && self.walk(queue, reached, assignment)
        })
    }

    fn enter(
        &self,
        need: &Need,
        version: usize,
        reached: &mut Reached,
        queue: &mut Vec<(Asker, Need)>,
    ) -> bool {
        let Some(release) = &self.world[need.name][version] else { return false };
        if release.is_yanked || (need.with_feature && !release.has_feature) {
            return false;
        }
        let asker = Some((need.name, version / 2));
        let known = reached.features.get(&(need.name, version)).copied();
        if known.is_none() {
            let needed = release.needs.iter().filter(|need| !need.is_optional);
            queue.extend(needed.map(|need| (asker, need.clone())));
        }
        if need.with_feature && known != Some(true) {
            // What the feature lists: the dependencies that it switches on, and features of dependencies.
            for need in &release.needs {
                let asks = match need.mention {
                    Mention::Plain => false,
                    Mention::Feature => true,
                    Mention::Weak => need.is_optional,
                };
                if need.is_optional || asks {
                    let with_feature = need.with_feature || asks;
                    queue.push((asker, Need { with_feature, ..need.clone() }));
                }
            }
        }
        reached.features.insert((need.name, version), need.with_feature || known == Some(true));
        true
    }

    fn has_one_linker(&self, reached: &Reached) -> bool {
        let links = |(name, version): &(usize, usize)| {
            self.world[*name][*version].as_ref().and_then(|release| release.links)
        };
        let mut seen = BTreeSet::new();
        reached.features.keys().filter_map(links).all(|library| seen.insert(library))
    }

    fn has_solution(&self, roots: &[Need]) -> bool {
        let ranges = [[None, Some(0), Some(1)].as_slice(), [None, Some(2)].as_slice()];
        let count = 6usize.pow(NAMES.len() as u32);
        (0..count).any(|mut number| {
            let assignment: Assignment = (0..NAMES.len())
                .map(|_| {
                    let pair = [ranges[0][number % 3], ranges[1][number / 3 % 2]];
                    number /= 6;
                    pair
                })
                .collect();
            self.holds(roots, &assignment)
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn solver_and_brute_force_agree(world in world(), needs in prop::collection::vec(need(), 1..3)) {
        let universe = universe(&world);
        let needs: Vec<_> =
            needs.into_iter().map(|need| Need { is_optional: false, mention: Mention::Plain, ..need }).collect();
        let texts = texts(&needs);
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let roots: [Root; 1] = [root("app", &texts, &[])];
        let requirements = REQUIREMENTS.map(|it| it.parse().expect("a requirement")).to_vec();
        let oracle = Oracle { world: &world, requirements };
        let outcome = run_all(&universe, &roots, &[], &[]);
        match &outcome {
            Ok(resolved) => {
                let mut assignment: Assignment = vec![[None, None]; NAMES.len()];
                let mut seen = BTreeSet::new();
                for package in &resolved.resolution.packages {
                    let name = NAMES.iter().position(|it| *it == package.name).expect("known");
                    let version = VERSIONS.iter().position(|it| *it == package.version).expect("known");
                    prop_assert!(seen.insert((name, version / 2)), "{:?}", resolved.resolution.packages);
                    assignment[name][version / 2] = Some(version);
                }
                prop_assert!(oracle.holds(&needs, &assignment), "{:?}", resolved.resolution.packages);
            }
            Err(ResolveError::Conflict(conflict)) => {
                prop_assert!(!oracle.has_solution(&needs), "{}", conflict.explanation);
            }
            Err(ResolveError::Other(error)) => prop_assert!(false, "{error}"),
        }
        prop_assert_eq!(run_all(&universe, &roots, &[], &[]), outcome);
    }
}
