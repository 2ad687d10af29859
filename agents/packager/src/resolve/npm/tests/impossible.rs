//! What is said to be impossible is impossible, and what is possible is found: judged by trying everything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::universe::{Universe, request, root};
use crate::metadata::npm::Version as Entry;
use crate::resolve::ResolveError;
use crate::resolve::npm::resolve;
use agents_versions::npm::{Range, Version};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const WANTS: [&str; 7] = ["*", "1", "2", "^1.1.0", ">=1.1.0", "1.0.0", "3"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
const ROLES: [&str; 6] = ["", "", "peer ", "peer ", "optpeer ", "opt "];

type Id = (String, String);

fn fits(version: &str, want: &str) -> bool {
    let range = Range::parse(want).expect("range");
    want == "*" || range.satisfies(&Version::parse(version).expect("version"))
}

/// The peers that a version does not bring along itself, and whether each must be there.
fn peers(entry: &Entry) -> impl Iterator<Item = (&String, &String, bool)> {
    let brings = |name: &str| {
        entry.dependencies.contains_key(name) || entry.optional_dependencies.contains_key(name)
    };
    let peers = entry.peer_dependencies.iter().filter(move |(name, _)| !brings(name));
    peers.map(|(name, want)| (name, want, !entry.optional_peers.contains(name)))
}

/// The versions for which there is something for each thing that they need.
fn viable(universe: &Universe) -> BTreeSet<Id> {
    let versions = |name: &String| universe.packages[name].versions.keys().map(str::to_owned);
    let mut left: BTreeSet<Id> = universe
        .packages
        .keys()
        .flat_map(|name| versions(name).map(|version| (name.clone(), version)))
        .collect();
    loop {
        let exists = |name: &str, want: &str| {
            left.iter().any(|(one, version)| one == name && fits(version, want))
        };
        let stays = |(name, version): &&Id| {
            let entry = &universe.packages[name].versions[version];
            let needed = entry.dependencies.iter().map(|(name, want)| (name, want, true));
            // Who has a peer of its own name finds itself.
            let suits_itself =
                |(peer, want, _): (&String, &String, bool)| peer != name || fits(version, want);
            peers(entry).all(suits_itself)
                && needed.chain(peers(entry)).all(|(name, want, must)| !must || exists(name, want))
        };
        let next: BTreeSet<Id> = left.iter().filter(stays).cloned().collect();
        if next.len() == left.len() {
            return left;
        }
        left = next;
    }
}

/// Whether there are versions for the project's dependencies and all their peers that agree.
fn possible(
    universe: &Universe,
    viable: &BTreeSet<Id>,
    wanted: &BTreeMap<String, String>,
    decided: &mut BTreeMap<String, String>,
) -> bool {
    let entry = |name: &String, version: &String| &universe.packages[name].versions[version];
    let all_agree = decided.iter().all(|(name, version)| {
        wanted.get(name).is_none_or(|want| fits(version, want))
            && peers(entry(name, version))
                .all(|(peer, want, _)| decided.get(peer).is_none_or(|found| fits(found, want)))
    });
    if !all_agree {
        return false;
    }
    let of_peers = decided.iter().flat_map(|(name, version)| {
        peers(entry(name, version)).filter(|(_, _, must)| *must).map(|(name, _, _)| name)
    });
    let next = wanted.keys().chain(of_peers).find(|name| !decided.contains_key(*name)).cloned();
    let Some(next) = next else { return true };
    for (_, version) in viable.iter().filter(|(name, _)| *name == next) {
        decided.insert(next.clone(), version.clone());
        if possible(universe, viable, wanted, decided) {
            return true;
        }
        decided.remove(&next);
    }
    false
}

fn universe() -> impl Strategy<Value = String> {
    let wish = (0..ROLES.len(), 0..NAMES.len(), 0..WANTS.len())
        .prop_map(|(role, name, want)| format!(" {}{}@{}", ROLES[role], NAMES[name], WANTS[want]));
    let wishes = proptest::collection::vec(wish, 0..3);
    proptest::collection::vec(wishes, NAMES.len() * VERSIONS.len()).prop_map(|all| {
        let line = |(at, wishes): (usize, &Vec<String>)| {
            let (name, version) = (NAMES[at / VERSIONS.len()], VERSIONS[at % VERSIONS.len()]);
            format!("{name}@{version}:{}\n", wishes.concat())
        };
        all.iter().enumerate().map(line).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, ..ProptestConfig::default() })]

    #[test]
    fn there_is_a_tree_exactly_where_there_can_be_one(
        text in universe(),
        wishes in proptest::collection::btree_map(0..NAMES.len(), 0..WANTS.len(), 1..4),
    ) {
        let universe = Universe::parse(&text);
        let wanted: Vec<String> =
            wishes.iter().map(|(name, want)| format!("{}@{}", NAMES[*name], WANTS[*want])).collect();
        let root = root(&wanted.join(" "));
        let viable = viable(&universe);
        let expected = possible(&universe, &viable, &root.dependencies, &mut BTreeMap::new());
        match resolve(&request(root), &universe) {
            // Peers that cannot be had are overruled in a few places, as npm does, and then it is said.
            Ok(resolution) => prop_assert!(
                expected || resolution.warnings.iter().any(|one| one.contains("wants the peer")),
                "an answer to what is impossible: {}",
                wanted.join(" ")
            ),
            Err(ResolveError::Conflict(conflict)) => {
                prop_assert!(!expected, "{}: {}", wanted.join(" "), conflict.explanation);
            }
            Err(ResolveError::Other(error)) => prop_assert!(false, "{}", error.message),
        }
    }
}
