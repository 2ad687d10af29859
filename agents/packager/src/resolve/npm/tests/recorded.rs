//! Real projects in small: universes made of recordings by `tests/differential/npm/minimise.mjs`, with the edges from package
//! to version that npm itself has for them.

use std::collections::{BTreeMap, BTreeSet};

use super::universe::{Universe, request};
use crate::manifest::package_json;
use crate::metadata::npm::Dependencies;
use crate::resolution::{Package, Resolution};
use crate::resolve::ResolveError;
use crate::resolve::npm::{is_of, resolve};

/// What node finds for a name from inside a package.
fn found<'a>(tree: &BTreeMap<&str, &'a Package>, place: &str, name: &str) -> Option<&'a Package> {
    let mut at = place;
    loop {
        let slash = if at.is_empty() { "" } else { "/" };
        let found = tree.get(format!("{at}{slash}node_modules/{name}").as_str());
        if found.is_some() || at.is_empty() {
            return found.copied();
        }
        at = at.rfind("/node_modules/").map_or("", |end| &at[..end]);
    }
}

/// `from > name: to`, wherever they stand; a missing one only where it is not optional.
fn edges(
    universe: &Universe,
    root: &package_json::RootManifest,
    resolution: &Resolution,
) -> BTreeSet<String> {
    let packages = resolution.packages.iter();
    let tree: BTreeMap<&str, &Package> = packages.map(|one| (one.place.as_str(), one)).collect();
    let mut edges = BTreeSet::new();
    let mut add = |from: &str,
                   place: &str,
                   tables: [(&Dependencies, bool); 4],
                   optional_peers: &[String],
                   bundled: &[String]| {
        let mut wanted: BTreeMap<&String, bool> = BTreeMap::new();
        for (at, (table, is_optional)) in tables.into_iter().enumerate() {
            for name in table.keys() {
                wanted.insert(name, is_optional || (at == 0 && optional_peers.contains(name)));
            }
        }
        for (name, is_optional) in wanted {
            let to = found(&tree, place, name).map(|to| format!("{}@{}", to.name, to.version));
            if !bundled.contains(name) && (to.is_some() || !is_optional) {
                edges.insert(format!("{from} > {name}: {}", to.unwrap_or("nothing".to_owned())));
            }
        }
    };
    let tables = [
        (&root.peer_dependencies, false),
        (&root.dependencies, false),
        (&root.optional_dependencies, true),
        (&root.dev_dependencies, false),
    ];
    add("the project", "", tables, &root.optional_peers, &[]);
    for one in &resolution.packages {
        let entry = &universe.packages[&one.name].versions.get(&one.version).expect("there");
        let tables = [
            (&entry.peer_dependencies, false),
            (&entry.dependencies, false),
            (&entry.optional_dependencies, true),
            (&Dependencies::new(), false),
        ];
        let from = format!("{}@{}", one.name, one.version);
        add(&from, &one.place, tables, &entry.optional_peers, &entry.bundled);
    }
    edges
}

#[test]
fn recorded_projects_have_the_edges_that_npm_gives_them() {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/src/resolve/npm/tests/recorded");
    let mut count = 0;
    for entry in std::fs::read_dir(place).expect("recorded projects") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("text");
        let parts: Vec<&str> = text.split("\n---\n").collect();
        let [manifest, node, universe, expected] = parts.as_slice() else {
            panic!("{name} has {} parts", parts.len());
        };
        let universe = Universe::parse(universe);
        let mut request =
            request(package_json::read("package.json", manifest).expect("a manifest"));
        request.node_version = Some((*node).to_owned());
        let expected: BTreeSet<String> = expected.lines().map(str::to_owned).collect();
        count += 1;
        match resolve(&request, &universe) {
            Ok(resolution) => {
                let edges = edges(&universe, &request.root, &resolution);
                assert!(
                    is_of(&request.root, &[], &resolution),
                    "{name}: what is locked is followed"
                );
                let lacks: Vec<&String> = expected.difference(&edges).collect();
                let more: Vec<&String> = edges.difference(&expected).collect();
                assert!(
                    lacks.is_empty() && more.is_empty(),
                    "{name}: lacks {lacks:?}, has {more:?}"
                );
            }
            Err(ResolveError::Conflict(conflict)) => {
                assert!(expected.contains("conflict"), "{name}: {}", conflict.explanation);
            }
            Err(ResolveError::Other(error)) => panic!("{name}: {}", error.message),
        }
    }
    assert!(count >= 12, "{count} recorded projects");
}
