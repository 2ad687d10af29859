//! Laws for projects with packages of their own: what each of them finds is what it asks for.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::universe::{self, Universe, request, root};
use crate::resolution::Resolution;
use crate::resolve::ResolveError;
use crate::resolve::npm::{Local, is_of, resolve};
use agents_versions::npm::{Range, Version};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "w"];
const WANTS: [&str; 5] = ["*", "1", "2", "^1.1.0", "1.0.0"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
const ROLES: [&str; 6] = ["", "", "", "", "peer ", "opt "];

/// Name and version of what stands at a place.
type Tree = BTreeMap<String, (String, String)>;

fn wishes() -> impl Strategy<Value = String> {
    let wish = (0..ROLES.len(), 0..NAMES.len(), 0..WANTS.len())
        .prop_map(|(role, name, want)| format!(" {}{}@{}", ROLES[role], NAMES[name], WANTS[want]));
    proptest::collection::vec(wish, 0..4).prop_map(|all| all.concat())
}

fn found<'t>(tree: &'t Tree, place: &str, name: &str) -> Option<&'t (String, String)> {
    let mut at = place;
    loop {
        let slash = if at.is_empty() { "" } else { "/" };
        let found = tree.get(&format!("{at}{slash}node_modules/{name}"));
        if found.is_some() || at.is_empty() {
            return found;
        }
        at = at.rfind("/node_modules/").map_or("", |end| &at[..end]);
    }
}

fn tree(resolution: &Resolution, locals: &[Local]) -> Tree {
    let packages = resolution.packages.iter();
    let packages = packages.map(|one| (one.place.clone(), (one.name.clone(), one.version.clone())));
    let mut tree: Tree = packages.collect();
    for link in &resolution.links {
        let local = locals.iter().find(|local| local.place == link.target);
        let target = local
            .map(|local| (local.name.clone(), local.manifest.version.clone().expect("a version")));
        let target = target.or_else(|| tree.get(&link.target).cloned()).expect("a target");
        tree.insert(link.place.clone(), target);
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn each_own_package_finds_what_it_asks_for(
        packages in proptest::collection::vec(wishes(), 4 * VERSIONS.len()),
        of_project in proptest::collection::btree_map(0..4usize, 0..WANTS.len(), 0..3),
        of_w in wishes(),
        of_v in wishes(),
    ) {
        let line = |(at, wishes): (usize, &String)| {
            format!("{}@{}:{wishes}\n", NAMES[at / VERSIONS.len()], VERSIONS[at % VERSIONS.len()])
        };
        let text: String = packages.iter().enumerate().map(line).collect();
        let text = format!("{text}w@1.0.0\nw@2.0.0: a@*\n");
        let universe = Universe::parse(&text);
        let wanted: Vec<String> = of_project
            .iter()
            .map(|(name, want)| format!("{}@{}", NAMES[*name], WANTS[*want]))
            .collect();
        let mut request = request(root(&wanted.join(" ")));
        request.locals = universe::locals(&format!("own/w w@1.0.0:{of_w}\nv v@1.0.0:{of_v}"));
        let resolution = match resolve(&request, &universe) {
            Ok(resolution) => resolution,
            Err(ResolveError::Conflict(_)) => return Ok(()),
            Err(ResolveError::Other(error)) => return Err(TestCaseError::fail(error.message)),
        };
        // Where something optional is left out, what stands there instead is nobody's wish.
        let is_whole = resolution.warnings.iter().all(|one| !one.contains("left out"));
        // Nor does a lock tell that a package needs another `w` beside it than the workspace.
        let hides = |place: &str| matches!(place, "v/node_modules/w" | "own/w/node_modules/w");
        let is_whole = is_whole && !resolution.packages.iter().any(|one| hides(&one.place));
        let is_followed = is_of(&request.root, &request.locals, &resolution);
        prop_assert!(is_followed || !is_whole, "what is locked is not followed: {:?}", resolution.warnings);
        // Nor where a registry's package stands for the workspace that would do.
        let of_w = request.locals[1].manifest.declared("w");
        if of_w.is_some_and(|it| matches!(it, "*" | "1" | "1.0.0"))
            && let Some(mut stranger) = resolution.packages.first().cloned()
        {
            let mut evil = resolution.clone();
            (stranger.name, stranger.version) = ("w".to_owned(), "1.0.0".to_owned());
            stranger.place = "v/node_modules/w".to_owned();
            evil.packages.push(stranger);
            prop_assert!(!is_of(&request.root, &request.locals, &evil), "a stranger's `w` is followed");
        }
        let mut lame = resolution.clone();
        lame.links.retain(|link| link.target != "own/w");
        prop_assert!(!is_of(&request.root, &request.locals, &lame), "a workspace is not linked");
        let tree = tree(&resolution, &request.locals);
        let fits = |place: &str, name: &str, want: &str| {
            found(&tree, place, name).is_some_and(|(_, version)| {
                let version = Version::parse(version).expect("version");
                want == "*" || Range::parse(want).expect("range").satisfies(&version)
            })
        };
        for (name, want) in &request.root.dependencies {
            prop_assert!(fits("", name, want), "the project's {name}@{want}");
        }
        for local in &request.locals {
            let link = resolution.links.iter().find(|link| link.place == format!("node_modules/{}", local.name));
            prop_assert!(link.is_some_and(|link| link.target == local.place), "{} is not linked", local.name);
            let manifest = &local.manifest;
            for (name, want) in &manifest.dependencies {
                if !manifest.optional_dependencies.contains_key(name) {
                    prop_assert!(fits(&local.place, name, want), "{}: {name}@{want}", local.place);
                }
            }
            for (name, want) in &manifest.peer_dependencies {
                let again = manifest.dependencies.contains_key(name) || manifest.optional_dependencies.contains_key(name);
                prop_assert!(again || fits(&local.place, name, want), "{}: peer {name}@{want}", local.place);
            }
        }
        for package in &resolution.packages {
            let entry = &universe.packages[&package.name].versions.get(&package.version).expect("there");
            for (name, want) in &entry.dependencies {
                prop_assert!(fits(&package.place, name, want), "{}: {name}@{want}", package.place);
            }
        }
    }
}
